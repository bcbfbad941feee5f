"""Training-free embedding methods: one file, one method, found and registered by itself.

It knows what every method has, and none of them by name.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

from jaxtyping import Float
from torch import Tensor

import kvlens.methods
from kvlens.methods.pooling import POOLINGS
from kvlens.models.chat_prompt import chat
from kvlens.models.forward import run_base
from kvlens.models.language_model import LanguageModel
from kvlens.store.arguments import shown, text_argument
from kvlens.store.checking import a
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch
from kvlens.texts.prompts import PROMPTS, Prompt
from kvlens.texts.tokens import TokenizedText, tokenize

Embed = Callable[[Any, LanguageModel, TokenBatch], Tensor]


def _in_turn(embed: Embed) -> Embed:
    """`Method.embed` in a turn on the model."""

    @functools.wraps(embed)
    def embed_in_turn(self: Any, lm: LanguageModel, batch: TokenBatch) -> Tensor:
        with lm.turn("measurement"):
            return embed(self, lm, batch)

    return embed_in_turn


@dataclass(frozen=True)
class Method:
    """A method: prompts, how a text becomes tokens, and how a batch becomes vectors.

    A new one sets `name` and `source` and overrides what differs; its dataclass fields are its
    settings, and they are recorded with every result. Every `embed` runs in a turn on the model:
    no other thread runs it meanwhile, and it is not re-routed from outside.

    Attributes:
        name: by which it is asked for; a class without one is a helper, not a method.
        source: the paper.
        takes_layers: it re-routes, and has the fields layers, bias and position.
        query: the prompt around queries.
        document: the prompt around documents.
        pooling: one of `kvlens.methods.pooling.POOLINGS`.
    """

    name: ClassVar[str] = ""
    source: ClassVar[str] = ""
    takes_layers: ClassVar[bool] = False

    query: Prompt = PROMPTS["raw"]
    document: Prompt = PROMPTS["raw"]
    pooling: str = "last"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "embed" in vars(cls):
            cls.embed = _in_turn(cls.embed)  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        for name in ("query", "document"):
            _a_prompt(name, getattr(self, name))
        check_pooling(text_argument("pooling", self.pooling))

    def for_model(self, lm: LanguageModel) -> Method:
        """The method with every setting that depends on the model filled in.

        Args:
            lm: the model.

        Returns:
            The method for `lm`.

        Raises:
            InputError: where the model cannot serve the settings.
        """
        return self

    def in_chat(self, lm: LanguageModel, system: str | None = None) -> Self:
        """The method with both prompts inside the model's chat template, see `kvlens.chat`."""
        changes: dict[str, Any] = {
            name: chat(lm, getattr(self, name), system) for name in ("query", "document")
        }
        return replace(self, **changes)

    def tokenize(
        self,
        lm: LanguageModel,
        texts: Sequence[str],
        prompt: Prompt,
        max_length: int,
        strict: bool = False,
    ) -> list[TokenizedText]:
        """Texts -> ids.

        Args:
            lm: the model.
            texts: the texts.
            prompt: around each.
            max_length: most tokens, prompt included; what does not fit is cut off the text's end,
                never off the prompt.
            strict: refuse a longer text, where it is cut otherwise.

        Returns:
            One for each text, in their order.

        Raises:
            InputError: for a text that does not fit when `strict`, and a prompt that does not.
        """
        return tokenize(lm.tokenizer, texts, prompt, max_length, strict)

    @_in_turn
    def embed(self, lm: LanguageModel, batch: TokenBatch) -> Float[Tensor, "batch d"]:
        """Vectors of a batch.

        Args:
            lm: the model, the one of `for_model`.
            batch: what `tokenize` gave, padded on either side.

        Returns:
            One row a text, of the model's dtype or float32.

        Raises:
            InputError: inside a `with reroute` block, and for a model in train mode.
        """
        return POOLINGS[self.pooling](final_hidden(lm, batch), batch)

    def settings(self) -> dict[str, Any]:
        """Every setting, as plain values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _plain(value) for name, value in values.items()}


_a_prompt = a(Prompt, "a Prompt")


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, Prompt) else value


def final_hidden(lm: LanguageModel, batch: TokenBatch) -> Float[Tensor, "batch seq_len d_model"]:
    """Hidden states after the final norm, without the LM head."""
    return run_base(lm, batch).last_hidden_state


def check_pooling(name: str) -> None:
    """Raise InputError for an unknown pooling."""
    if name not in POOLINGS:
        raise InputError(f"unknown pooling {name!r}: give one of {', '.join(POOLINGS)}")


def relative(lm: LanguageModel, depth: float) -> int:
    """A layer count given as a share of the depth, rounded to this model's own."""
    return round(depth * lm.info.n_layers)


def layers_between(lm: LanguageModel, depth: tuple[float, float]) -> range:
    """The layers between two shares of the depth, at least one.

    Args:
        lm: the model.
        depth: from and to, 0 to 1; rounded to this model's layers.

    Returns:
        Block indices.

    Raises:
        InputError: where there are none.
    """
    problem = InputError(
        f"`depth` needs two shares of the layers, 0 <= from <= to <= 1, not {shown(depth)}"
    )
    try:
        first, end = (relative(lm, share) for share in depth)
    except (TypeError, ValueError, OverflowError):
        raise problem from None
    if not 0 <= depth[0] <= depth[1] <= 1 or first == lm.info.n_layers:
        raise problem
    return range(first, max(end, first + 1))


def attention_layers(lm: LanguageModel, depth: tuple[float, float]) -> tuple[int, ...]:
    """Those of `layers_between` that have keys and values of their own.

    Args:
        lm: the model.
        depth: from and to, 0 to 1.

    Returns:
        Block indices.

    Raises:
        InputError: where there are none.
    """
    with_keys = set(lm.info.layers_with_keys())
    layers = tuple(layer for layer in layers_between(lm, depth) if layer in with_keys)
    if not layers:
        raise InputError(f"`depth` {shown(depth)} holds no attention layers of {lm.info.name}")
    return layers


def methods() -> dict[str, type[Method]]:
    """Every method by name, alphabetically: each class below `Method` that sets its own name."""
    for module in pkgutil.iter_modules(kvlens.methods.__path__):
        importlib.import_module(f"kvlens.methods.{module.name}")
    named = {cls.name: cls for cls in _subclasses(Method) if "name" in vars(cls)}
    return dict(sorted(named.items()))


def _subclasses(cls: type[Method]) -> Iterator[type[Method]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def takes_layers(name: str) -> bool:
    """Whether the named method re-routes layers that are handed to it; an unknown one does not."""
    known = methods()
    return name in known and known[name].takes_layers


def get_method(name: str, **settings: Any) -> Method:
    """The named method.

    Args:
        name: one of `methods`.
        **settings: its fields; each has a default.

    Returns:
        The method, not yet for a model (see `Method.for_model`).

    Raises:
        InputError: for an unknown name or setting.
    """
    known = methods()
    if name not in known:
        raise InputError(f"unknown method {name!r}: give one of {', '.join(known)}")
    try:
        return known[name](**settings)
    except TypeError as error:
        problem = str(error).split("() ")[-1]
        allowed = ", ".join(field.name for field in fields(known[name]))
        raise InputError(f"{name}: {problem}; its settings are {allowed}") from error
