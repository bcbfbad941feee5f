"""`kvlens attend`: how re-routing changes attention, on one text or over many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from kvlens.cli.answers import Answer, folder_answer
from kvlens.cli.folders import output_folder, run_folder
from kvlens.cli.options import (
    TEXTS,
    ChatOptions,
    LengthOptions,
    ModelName,
    ModelOptions,
    RequiredRoute,
    TextOptions,
)
from kvlens.cli.progress import progress
from kvlens.cli.values import Dashed, WholeNumber, layers_or_file
from kvlens.store.errors import InputError

WRITES = ("patterns.safetensors", "shift.safetensors", "patterns_layer*", "beta_*")

if TYPE_CHECKING:
    from kvlens.analysis.attention import AttentionPatterns, AttentionShift
    from kvlens.models.language_model import LanguageModel
    from kvlens.texts.prompts import Prompt
    from kvlens.texts.texts import Texts


@Parameter(name="*", group=TEXTS)
@dataclass(frozen=True, kw_only=True)
class OneOrMany(TextOptions):
    """The one text, or the many.

    Attributes:
        text: one text, in full
        texts: .txt, .jsonl, .csv, .tsv, .parquet, -, or wikipedia for its passages
        n: how many of --texts
    """

    text: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    texts: Dashed | None = None
    n: WholeNumber = 600


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Reading:
    """How attention is read.

    Attributes:
        prompt: a named prompt, or a template with {text} [default: the layer set's]
        bins: bins of relative position
        span: tokens that positions count
    """

    prompt: Dashed | None = None
    bins: WholeNumber = 10
    span: Literal["prompted", "text"] = "prompted"


@Parameter(name="*", group=TEXTS)
@dataclass(frozen=True, kw_only=True)
class AttentionLimits(LengthOptions):
    """How long a text may be; batches are small, since attention grows with the length squared."""

    batch_tokens: WholeNumber = 1024


def attend(
    name: ModelName,
    /,
    *,
    route: RequiredRoute,
    reading: Reading = Reading(),
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    overwrite: bool = False,
    texts: OneOrMany = OneOrMany(),
    chat: ChatOptions = ChatOptions(),
    limits: AttentionLimits = AttentionLimits(),
    model: ModelOptions = ModelOptions(),
) -> Answer:
    """How re-routing changes attention, on one text or over many.

    Args:
        name: named model, hub id, directory or .gguf file
        route: the layers that are re-routed
        reading: how attention is read
        output: folder to write [default: runs/MODEL-attend]
        overwrite: replace what it wrote before; other files stay
        texts: the one text, or the many
        chat: the chat that the prompt is put into
        limits: how long a text may be
        model: how the model is loaded
    """
    from kvlens.analysis.uptake import document_prompt

    if (texts.text is None) == (texts.texts is None):
        raise InputError("give either `text` or `texts`")
    folder = output or run_folder(name, suffix="-attend")
    layers = layers_or_file(route.layers)
    options: dict[str, Any] = {"max_length": limits.max_length}
    with output_folder(folder, overwrite, WRITES) as scratch:
        many = texts.read(texts.n) if texts.texts else None
        lm = model.load(name)
        with progress("reading attention") as bar:
            if many is not None:
                options["bins"] = reading.bins
                options["span"] = reading.span
                options["batch_tokens"] = limits.batch_tokens
                options["progress"] = bar
            result = write_attention(
                lm,
                layers,
                scratch,
                texts.text,
                many,
                chat.around(lm, reading.prompt or document_prompt(layers)),
                route.force,
                **options,
            )
        files = sorted(path.name for path in scratch.iterdir())
    return folder_answer(folder, files, _summary(result))


def _summary(result: AttentionShift | AttentionPatterns) -> str:
    from kvlens.analysis.attention import AttentionPatterns

    if isinstance(result, AttentionPatterns):
        return f"{len(result.tokens)} tokens, with the prompt"
    return str(result)


def write_attention(
    lm: LanguageModel,
    layers: Any,
    folder: str | Path,
    text: str | None = None,
    texts: Texts | None = None,
    prompt: str | Prompt | None = None,
    force: bool = False,
    **options: Any,
) -> AttentionShift | AttentionPatterns:
    """Read attention and write it as .safetensors, PNG and PDF.

    Args:
        lm: the model.
        layers: a LayerSet or its file (bias, position and document prompt come along), or block
            indices.
        folder: to write into.
        text: one text, in full; or
        texts: a corpus.
        prompt: default: the document prompt of `layers`.
        force: use a layer set of another model.
        **options: of `attention_patterns` or `attention_shift`.

    Returns:
        What was written.

    Raises:
        InputError: as they.
    """
    from kvlens.analysis.uptake import attention_patterns, attention_shift
    from kvlens.plots.saving import save_attention_plots

    if (text is None) == (texts is None):
        raise InputError("give either one text or a file of texts")
    folder = Path(folder)
    result: AttentionShift | AttentionPatterns
    if text is not None:
        result = attention_patterns(lm, text, layers, prompt=prompt, force=force, **options)
        result.save(folder / "patterns.safetensors")
    else:
        result = attention_shift(lm, texts or (), layers, prompt=prompt, force=force, **options)
        result.save(folder / "shift.safetensors")
    save_attention_plots(result, folder)
    return result
