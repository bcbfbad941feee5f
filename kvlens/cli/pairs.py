"""Sentence pairs: `kvlens evaluate --pairs FILE`, and `kvlens score`, as it was called before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from kvlens.cli.answers import Answer, forecast_answer, note, say
from kvlens.cli.options import PAIRS, ChatOptions, ModelName, ModelOptions
from kvlens.cli.progress import progress
from kvlens.cli.values import Dashed, Names, WholeNumber, layers_or_file

if TYPE_CHECKING:
    from kvlens.embedding.encoder import Encoder
    from kvlens.embedding.spec import MethodSpec
    from kvlens.evaluation.pair_score import PairScore
    from kvlens.models.language_model import LanguageModel
    from kvlens.texts.limits import Limits
    from kvlens.texts.pairs import Pairs


@Parameter(name="*", group=PAIRS)
@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """A quick look at methods and prompts: Spearman x 100 on a file of sentence pairs.

    Attributes:
        pairs: .jsonl, .csv, hf://ORG/NAME, ... with sentence1, sentence2, score, in place of tasks
        n: how many pairs, evenly spread [default: all]
        prompts: document prompts to compare, comma-separated [default: each method's own]
        bias: bias of kv_embedding [default: the layer set's, else 1]
        pooling: last, mean, hybrid, hybrid_unnormalized or text_mean [default: each method's own]
    """

    pairs: Dashed | None = None
    n: WholeNumber | None = None
    prompts: Names | None = None
    bias: float | None = None
    pooling: str | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RequiredPairs(PairOptions):
    """The same, where there are no tasks."""

    pairs: Dashed = field()  # no default: required


def score(
    name: ModelName,
    /,
    *,
    pairs: RequiredPairs,
    methods: Names = ("kv_embedding",),
    layers: str | None = None,
    chat: ChatOptions = ChatOptions(),
    model: ModelOptions = ModelOptions(),
) -> Answer:
    """A quick look at methods and prompts; now `kvlens evaluate MODEL --pairs FILE`.

    Args:
        name: named model, hub id, directory or .gguf file
        pairs: which pairs
        methods: comma-separated, or all
        layers: layer-set file of `kvlens profile`, hf://ORG/NAME, or layers such as 7-10
        chat: the chat that the prompts are put into
        model: how the model is loaded
    """
    from kvlens.texts.pairs import read_pairs

    note("kvlens score is now kvlens evaluate --pairs")
    validation = read_pairs(pairs.pairs, pairs.n)
    chosen = layers_or_file(layers)
    lm = model.load(name, hooked=False)
    return score_pairs(lm, validation, pairs, methods, chosen, chat=chat)


def score_pairs(
    lm: LanguageModel,
    pairs: Pairs,
    options: PairOptions,
    methods: Sequence[str],
    layers: Any,
    limits: Limits | None = None,
    force: bool = False,
    chat: ChatOptions = ChatOptions(),
    dry_run: bool = False,
) -> Answer:
    """Score every method with every prompt; each row is said as soon as it is known.

    Methods that share their forward passes are scored by the same ones.

    Args:
        lm: the model.
        pairs: what is ranked.
        options: prompts and settings that are compared.
        methods: specifications of methods, or ``all``.
        layers: for the methods that take them.
        limits: how long a text may be; default that of `Encoder`.
        force: take a layer set that was made for another model.
        chat: that the prompts are put into.
        dry_run: whether it is only told what that would take.

    Returns:
        The rows.
    """
    from kvlens.methods.registry import self_contained

    encoders = [
        (method, _spec(method, prompt, options).encoder(lm, layers, limits, force, **asdict(chat)))
        for method in (self_contained() if tuple(methods) == ("all",) else methods)
        for prompt in options.prompts or (None,)
    ]
    if dry_run:
        return _forecast([encoder for _, encoder in encoders], pairs)
    rows = []
    for (method, encoder), scored in zip(encoders, _scores(encoders, pairs), strict=True):
        shown = encoder.method.document.name
        rows.append({"method": method, "prompt": shown, **asdict(scored)})
        interval = f"({scored.low:.1f} to {scored.high:.1f}, n = {scored.n})"
        say(f"{method:18} {shown:22} {scored.spearman:5.1f}  {interval}")
    return Answer(rows, "")


def _forecast(encoders: Sequence[Encoder], pairs: Pairs) -> Answer:
    """What it would take: a pass for those that share it."""
    from kvlens.checks.forecasts import passes
    from kvlens.embedding.planned_pass import planned_passes

    return forecast_answer(passes(planned_passes(encoders, "document", pairs.distinct)))


def _scores(encoders: Sequence[tuple[str, Encoder]], pairs: Pairs) -> Iterator[PairScore]:
    """The score of each, in their order; a pass that serves several is run for the first."""
    from kvlens.embedding.together import share_a_pass
    from kvlens.evaluation.pair_score import score_together

    known: dict[str, PairScore] = {}
    for method, encoder in encoders:
        if encoder.signature not in known:
            sharing = [each for _, each in encoders if share_a_pass(encoder, each, "document")]
            along = f" and {len(sharing) - 1} along with it" if len(sharing) > 1 else ""
            with progress(f"{method} {encoder.method.document.name}{along}") as bar:
                scores = score_together(sharing, pairs, bar)
            known |= zip((each.signature for each in sharing), scores, strict=True)
        yield known[encoder.signature]


def _spec(method: str, prompt: str | None, options: PairOptions) -> MethodSpec:
    """The method with the settings that the options name; it keeps its own for the rest."""
    from kvlens.embedding.spec import MethodSpec, Setting
    from kvlens.methods.registry import takes_layers

    spec = MethodSpec.parse(method)
    settings = list(spec.settings)
    if options.pooling is not None:
        settings.append(Setting.parse("pooling", options.pooling))
    if options.bias is not None and takes_layers(spec.method):
        settings.append(Setting.parse("bias", str(options.bias)))
    if prompt is not None:
        settings.append(Setting.parse("document", prompt))
    return replace(spec, settings=tuple(settings))
