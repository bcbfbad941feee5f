"""`kvlens attend`: how re-routing changes attention, on one text or over many.

With `--effects`, what each part of the route does to embeddings; with `--probe`, which tokens a
probe query ranks highest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from kvlens.cli.answers import Answer, folder_answer
from kvlens.cli.effects import EFFECT_FILES, N_TEXTS, EffectOptions, write_effects
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
from kvlens.cli.probe import N_PROBED, PROBE_FILES, ProbeOptions, write_probe_tokens
from kvlens.cli.progress import progress
from kvlens.cli.values import Dashed, WholeNumber, layers_or_file
from kvlens.store.errors import InputError

N_ATTENTION = 600  # texts
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
        n: how many of them, or of --pairs [default: 600; 100 with --effects, --probe]
    """

    text: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    texts: Dashed | None = None
    n: WholeNumber | None = None

    def many(self, n: int) -> Texts | None:
        """The many, `n` unless another number was given; None for one text."""
        return self.read(self.n or n) if self.texts else None


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

    def check(self, effects: bool, probe: bool) -> None:
        """Raise InputError for what effects and probe queries do not have."""
        if (effects or probe) and self != Reading(prompt=self.prompt):
            name = "effects" if effects else "probe"
            raise InputError(f"`bins` and `span` are of attention: give them without `{name}`")

    def options(self, limits: LengthOptions, many: Texts | None) -> dict[str, Any]:
        """The keywords of what reads one text, or many."""
        if many is None:
            return {"max_length": limits.max_length}
        return {"bins": self.bins, "span": self.span, **asdict(limits)}


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
    parts: EffectOptions = EffectOptions(),
    source: ProbeOptions = ProbeOptions(),
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    overwrite: bool = False,
    texts: OneOrMany = OneOrMany(),
    chat: ChatOptions = ChatOptions(),
    limits: AttentionLimits = AttentionLimits(),
    model: ModelOptions = ModelOptions(),
) -> Answer:
    """How re-routing changes attention, on one text or over many.

    With --effects: how far embeddings move, and with --pairs their quality, when one layer's, one
    query head's or some tokens' prefix is left out, or its value replaced.
    With --probe: which tokens a probe query ranks highest, those of source probe.

    Args:
        name: named model, hub id, directory or .gguf file
        route: the layers that are re-routed
        reading: how attention is read
        parts: what each part of the route does
        source: whose key and value is re-routed
        output: folder to write [default: runs/MODEL-attend]
        overwrite: replace what it wrote before; other files stay
        texts: the one text, or the many
        chat: the chat that the prompt is put into
        limits: how long a text may be
        model: how the model is loaded
    """
    from kvlens.analysis.uptake import document_prompt
    from kvlens.texts.texts import as_texts

    parts.check(texts.text, texts.texts)
    source.check(parts.effects)
    reading.check(parts.effects, source.probe)
    if not parts.effects and (texts.text is None) == (texts.texts is None):
        raise InputError("give either `text` or `texts`")
    folder = output or run_folder(name, suffix="-attend")
    layers = layers_or_file(route.layers)
    files, n = _files_and_texts(parts.effects, source.probe)
    options: dict[str, Any]
    with output_folder(folder, overwrite, files) as scratch:
        pairs = parts.read(texts.n)
        many = texts.many(n)
        lm = model.load(name)
        prompt = chat.around(lm, reading.prompt or document_prompt(layers))
        measured = pairs or many or as_texts([texts.text or ""], source="the command line")
        if parts.effects:
            options = {"calibration": parts.calibration, "force": route.force, **asdict(limits)}
            options["control"] = source.control
            said = write_effects(lm, measured, layers, prompt, scratch, **options)
        elif source.probe:
            options = {"columns": source.columns, "force": route.force, **asdict(limits)}
            said = write_probe_tokens(lm, measured, layers, prompt, scratch, **options)
        else:
            options = reading.options(limits, many)
            rerouted = (layers, scratch, texts.text, many, prompt, route.force)
            said = _read_attention(lm, *rerouted, **options)
        written = sorted(path.name for path in scratch.iterdir())
    return folder_answer(folder, written, said)


def _files_and_texts(effects: bool, probe: bool) -> tuple[tuple[str, ...], int]:
    """What is written, and of how many texts unless another number was given."""
    if effects:
        return EFFECT_FILES, N_TEXTS
    return (PROBE_FILES, N_PROBED) if probe else (WRITES, N_ATTENTION)


def _read_attention(lm: LanguageModel, *read: Any, **options: Any) -> str:
    """`write_attention`, with a bar over many texts; what was found, for people."""
    with progress("reading attention") as bar:
        if "bins" in options:
            options["progress"] = bar
        return _summary(write_attention(lm, *read, **options))


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
