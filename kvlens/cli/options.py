"""Options that several commands share: each is named and described once, here.

A group is a frozen dataclass whose fields become flags; its docstring is their help. Annotations
are evaluated here, where their names are known: a command's file inherits the fields.
"""

import contextlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from kvlens.cli.progress import progress
from kvlens.cli.values import Dashed, WholeNumber
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from kvlens.models.language_model import LanguageModel
    from kvlens.texts.limits import Limits
    from kvlens.texts.prompts import Prompt
    from kvlens.texts.texts import Texts

OWN = Group("Options", sort_key=1)
PAIRS = Group("Sentence pairs", sort_key=2)
TEXTS = Group("Texts", sort_key=3)
MODEL = Group("Model", sort_key=4)
EVERY = Group("Every command", sort_key=5)

N_PASSAGES = 600  # of the texts that kvlens brings itself


@Parameter(name="*", group=OWN)
@dataclass(frozen=True, kw_only=True)
class DryRun:
    """Whether anything is done at all.

    Attributes:
        dry_run: tell tokens, minutes at this machine's speed, memory, disk; write nothing
    """

    dry_run: bool = False


ModelName = Annotated[str, Parameter(name="MODEL")]


@Parameter(name="*", group=MODEL)
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model is loaded.

    Attributes:
        device: cpu, cuda, ... [default: cuda when there is one]
        dtype: float32, float16, bfloat16 [default: float32 on the CPU]
        revision: branch, tag or commit of a hub model
        trust_remote_code: run the model repository's own code
        device_map: auto spreads the model over accelerators, memory and disk (accelerate)
        quantize: int8 or nf4: quantize the weights while loading (bitsandbytes)
    """

    device: Annotated[str | None, Parameter(env_var="KVLENS_DEVICE")] = None
    dtype: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    device_map: str | None = None
    quantize: str | None = None

    def load(self, name: str, hooked: bool = True) -> "LanguageModel":
        """Load a model, with a bar.

        Args:
            name: named model, hub id, directory or .gguf file.
            hooked: build TransformerLens's tree of hooks now, within the bar, where it has one;
                else at first use.

        Returns:
            The model.

        Raises:
            InputError: as `kvlens.load`.
        """
        from kvlens.models.catalog import NAMED, is_cached
        from kvlens.models.loading import load

        what = f"loading {name}"
        if name in NAMED and not is_cached(name):
            size = NAMED[name].megabytes
            what += f" (first use: fetching {size} MB and converting, about a minute)"
        with progress(what, "models"):
            lm = load(name, **asdict(self))
            if hooked:
                with contextlib.suppress(InputError):  # said where it is needed
                    _ = lm.bridge
        return lm


@Parameter(name="*", group=TEXTS)
@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Which texts are read.

    Attributes:
        texts: .txt, .jsonl, .csv, .tsv, .parquet, -, s3://..., hf://ORG/NAME, or news [default:
            Wikipedia passages]
        column: field or column that holds the text
    """

    texts: Dashed | None = None
    column: str | None = None

    def read(self, n: int | None, at_least: int = 1) -> "Texts":
        """The texts.

        Args:
            n: take so many; None: all of a file, or `N_PASSAGES`.
            at_least: so many have to be distinct.

        Returns:
            The texts.

        Raises:
            InputError: as `kvlens.read_texts`, or for too few distinct texts.
        """
        from kvlens.texts.news import news_texts
        from kvlens.texts.readers import read_texts
        from kvlens.texts.wikipedia import calibration_texts

        if self.texts in (None, "wikipedia"):
            texts = calibration_texts(n or N_PASSAGES)
        elif self.texts == "news":
            texts = news_texts(n or N_PASSAGES)
        else:
            texts = read_texts(self.texts, self.column, n)
        distinct = len(set(texts.items))
        if distinct < at_least:
            raise InputError(
                f"{texts.source} has {distinct} distinct texts, at least {at_least} are needed: "
                "give more"
            )
        return texts


@Parameter(name="*", group=TEXTS)
@dataclass(frozen=True, kw_only=True)
class PromptedTexts(TextOptions):
    """Texts and the prompt around each.

    Attributes:
        prompt: a named prompt, or a template with {text}
        n: how many texts
    """

    prompt: Dashed = "kv-document-inner"
    n: WholeNumber = 600


@Parameter(name="*", group=TEXTS)
@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """The chat that prompts are put into.

    Attributes:
        chat: put prompts inside the model's chat template
        system: system line of the chat [default: the template's own]
    """

    chat: bool = False
    system: Dashed | None = None

    def around(self, lm: "LanguageModel", prompt: "str | Prompt") -> "Prompt":
        """A prompt, in the chat where one is wanted; raises InputError as `kvlens.chat`."""
        from kvlens.models.chat_prompt import asks_for_chat, chat
        from kvlens.texts.prompts import as_prompt

        if asks_for_chat(self.chat, self.system):
            return chat(lm, prompt, self.system)
        return as_prompt(prompt)


@Parameter(name="*", group=TEXTS)
@dataclass(frozen=True, kw_only=True)
class LengthOptions:
    """How long a text may be, and how much goes into one batch.

    Attributes:
        max_length: token limit with the prompt [default: the model's context]
        batch_tokens: padded tokens in a batch
    """

    max_length: WholeNumber | None = None
    batch_tokens: WholeNumber | None = 2048

    def to_limits(self, lm: "LanguageModel", batch_tokens: int = 2048) -> "Limits":
        """The same, as the library takes it in one value.

        Args:
            lm: the model.
            batch_tokens: on a CPU, where the options say nothing of it.
        """
        from kvlens.models.batch_budget import batch_budget
        from kvlens.texts.limits import Limits

        return Limits.of(asdict(self), batch_budget(lm, batch_tokens))  # type: ignore[arg-type]


@Parameter(name="*", group=TEXTS)
@dataclass(frozen=True, kw_only=True)
class LimitOptions(LengthOptions):
    """How long a text may be, and what happens to a longer one.

    Attributes:
        batch_tokens: padded tokens in a batch [default: 2048; on a GPU as many as fit]
        strict: refuse texts over the limit, do not truncate
    """

    batch_tokens: WholeNumber | None = None
    strict: bool = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RouteOptions:
    """The layers that are re-routed.

    Attributes:
        layers: layer-set file of `kvlens profile`, hf://ORG/NAME, or layers such as 7-10
        force: use a layer set of another model
    """

    layers: str | None = None
    force: bool = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RequiredRoute(RouteOptions):
    """The layers that are re-routed, where nothing can be done without."""

    layers: str = field()  # no default: required
