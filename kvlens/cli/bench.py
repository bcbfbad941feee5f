"""`kvlens bench`: speed, as ratios measured side by side in one run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from kvlens.cli.answers import Answer
from kvlens.cli.options import TEXTS, LimitOptions, ModelName, ModelOptions, PromptedTexts
from kvlens.cli.values import Layers, Names, WholeNumber, layers_or_file
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from kvlens.dimension.profile import IDProfile
    from kvlens.layers.layer_set import LayerSet
    from kvlens.models.language_model import LanguageModel
    from kvlens.texts.limits import Limits


LENGTHS = (128, 512, 2048, 4096)  # tokens, of models of random weights


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Timed:
    """What is measured.

    Attributes:
        record: recording against the raw base-model forward
        memory: peak memory of a profile above the idle loaded model; without a model, of embedding
            files of made texts by a tiny one
        rows: how many made texts, such as 100000,1000000, for --memory without a model
        methods: embedding methods to time, comma-separated, or all
        together: the methods with shared passes, against one after another
        lengths: tokens, such as 128,512,2048: a whole encode, re-routed, against the bare pass
        shapes: qwen3-4b, mistral-7b, llama-3.1-8b, ...: `lengths`, random weights; no model
        n_layers: so many of the layers of `shapes`
        precision: the intrinsic dimension in bfloat16 against float32
        padding: the share of real tokens in the batches of the texts
        id: the intrinsic dimension of made points, against one product of them; needs no model
        points: how many points, for --id
        width: their coordinates, for --id
        layers: layer-set file of `kvlens profile`, hf://ORG/NAME, or layers such as 7-10
        repeats: rounds; medians and extremes are shown
        threads: CPU threads [default: torch's own choice]
    """

    record: bool = False
    memory: bool = False
    rows: Layers = (100_000, 1_000_000)
    methods: Names | None = None
    together: bool = False
    lengths: Layers | None = None
    shapes: Names | None = None
    n_layers: WholeNumber | None = None
    precision: bool = False
    padding: bool = False
    id: bool = False
    points: WholeNumber = 10_000
    width: WholeNumber = 4096
    layers: str | None = None
    repeats: WholeNumber = 5
    threads: WholeNumber | None = None

    @property
    def of_model(self) -> bool:
        """Whether anything is measured that needs a model."""
        by_length = self.lengths and not self.shapes
        return bool(self.record or self.methods or by_length or self.padding)


@Parameter(name="*", group=TEXTS)
@dataclass(frozen=True, kw_only=True)
class BenchTexts(PromptedTexts):
    """Texts that are worked on again and again: few."""

    n: WholeNumber = 64


def bench(
    name: ModelName | None = None,
    /,
    *,
    timed: Timed = Timed(),
    texts: BenchTexts = BenchTexts(),
    limits: LimitOptions = LimitOptions(),
    model: ModelOptions = ModelOptions(),
) -> Answer:
    """Speed, as ratios measured side by side in one run.

    Args:
        name: named model, hub id, directory or .gguf file; none is needed for --id and --memory
        timed: what is measured
        texts: which texts are worked on
        limits: how long a text may be
        model: how the model is loaded
    """
    if timed.together and not timed.methods:
        raise InputError("`together` times methods: give `methods`")
    if not (timed.of_model or timed.memory or timed.id or timed.shapes or timed.precision):
        raise InputError(
            "nothing to measure: give `record`, `memory`, `lengths`, `shapes`, `precision`, "
            "`padding`, `id` or `methods`"
        )
    if timed.shapes and name is not None:
        raise InputError("`shapes` are models of random weights: name no other, or leave them out")
    if (timed.of_model or timed.precision) and name is None:
        raise InputError("no model given: name one, or measure `id` alone")
    results = _measure_id(timed) if timed.id else []
    if timed.shapes:
        results += _measure_shapes(timed, model)
    if timed.memory and name is None:
        results += _measure_embedding(timed)
    if timed.precision and name:
        results.append(_precision(name, texts, limits, model))
    if (timed.of_model or timed.memory) and name:
        if timed.threads:
            import torch

            torch.set_num_threads(timed.threads)
        layers = layers_or_file(timed.layers)
        lm = model.load(name)
        results += _measure(lm, timed, layers, texts, limits.to_limits(lm))
        if timed.padding:
            results += _padding(lm, texts, limits)
    lines = ["; ".join(f"{key} {value}" for key, value in result.items()) for result in results]
    return Answer(results, "\n".join(lines))


def _measure_id(timed: Timed) -> list[dict[str, Any]]:
    from threadpoolctl import threadpool_limits

    from kvlens.checks.bench_id import intrinsic_dimension
    from kvlens.dimension.copies import MIN_POINTS

    if timed.points < MIN_POINTS:
        raise InputError(f"`points` has to be at least {MIN_POINTS}")
    with threadpool_limits(timed.threads):
        return intrinsic_dimension(timed.points, timed.width, timed.repeats)


def _measure_shapes(timed: Timed, model: ModelOptions) -> list[dict[str, Any]]:
    import torch

    from kvlens.checks.shapes import measured, of_shape

    if timed.threads:
        torch.set_num_threads(timed.threads)
    device = model.device or ("cuda" if torch.cuda.is_available() else "cpu")
    results = []
    for shape in timed.shapes or ():
        lm = of_shape(shape, timed.n_layers, device, model.dtype or "bfloat16")
        results += measured(lm, timed.lengths or LENGTHS, timed.repeats)
        del lm
    return results


def _measure_embedding(timed: Timed) -> list[dict[str, Any]]:
    from kvlens.checks.embedding_memory import embedding_memory

    if min(timed.rows) < 1:
        raise InputError("`rows` are at least 1")
    return embedding_memory(timed.rows)


def _measure(
    lm: LanguageModel, timed: Timed, layers: Any, texts: BenchTexts, limits: Limits
) -> list[dict[str, Any]]:
    """Memory first: later measurements leave more of it resident."""
    from kvlens.checks import bench, rerouting_cost
    from kvlens.methods.registry import self_contained

    read = texts.read(texts.n)
    results = []
    if timed.memory:
        results.append(bench.memory(lm, read, texts.prompt, limits, _draw))
    if timed.record:
        results.append(bench.recording(lm, read, texts.prompt, limits, timed.repeats))
    if timed.lengths:
        results += rerouting_cost.by_length(lm, read, timed.lengths, limits, timed.repeats)
    if timed.methods:
        names = tuple(self_contained()) if timed.methods == ("all",) else timed.methods
        asked = (lm, read, names, layers, limits, timed.repeats)
        results += [bench.together(*asked)] if timed.together else bench.encoding(*asked)
    return results


def _precision(
    name: str, texts: BenchTexts, limits: LimitOptions, model: ModelOptions
) -> dict[str, Any]:
    from kvlens.checks.precision import precision
    from kvlens.dimension.copies import MIN_POINTS
    from kvlens.texts.limits import Limits

    read = texts.read(texts.n, MIN_POINTS)
    own = Limits.of(asdict(limits))  # type: ignore[arg-type]
    return precision(lambda dtype: replace(model, dtype=dtype).load(name), read, texts.prompt, own)


def _padding(lm: LanguageModel, texts: BenchTexts, limits: LimitOptions) -> list[dict[str, Any]]:
    from kvlens.checks.padding import padding

    read = texts.read(texts.n)
    return padding(lm, read, texts.prompt, limits.to_limits(lm), limits.batch_tokens)


def _draw(profile: IDProfile, layer_set: LayerSet, folder: Path) -> None:
    from kvlens.plots.saving import save_profile_plots

    save_profile_plots([profile], [layer_set], folder)
