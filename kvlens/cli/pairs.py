"""Sentence pairs: `kvlens evaluate --pairs FILE`, and `kvlens score`, as it was called before."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from kvlens.cli.answers import Answer, say
from kvlens.cli.options import PAIRS, ModelName, ModelOptions
from kvlens.cli.progress import progress
from kvlens.cli.values import Names, WholeNumber, layers_or_file

if TYPE_CHECKING:
    from kvlens.embedding.encoder import Encoder
    from kvlens.models.language_model import LanguageModel


@Parameter(name="*", group=PAIRS)
@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """A quick look at methods and prompts: Spearman x 100 on a file of sentence pairs.

    Attributes:
        pairs: .jsonl with sentence1, sentence2, score, in place of tasks
        n: how many pairs, evenly spread [default: all]
        prompts: document prompts to compare, comma-separated [default: each method's own]
        bias: bias of kv_embedding [default: the layer set's, else 1]
        pooling: last, mean, hybrid or text_mean [default: each method's own]
    """

    pairs: Path | None = None
    n: WholeNumber | None = None
    prompts: Names | None = None
    bias: float | None = None
    pooling: str | None = None

    @property
    def changed(self) -> list[str]:
        """The options that are not as they are by default."""
        return [field.name for field in fields(self) if getattr(self, field.name) != field.default]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RequiredPairs(PairOptions):
    """The same, where there are no tasks."""

    pairs: Path = field()  # no default: required


def score(
    name: ModelName,
    /,
    *,
    pairs: RequiredPairs,
    methods: Names = ("kv_embedding",),
    layers: str | None = None,
    model: ModelOptions = ModelOptions(),
) -> Answer:
    """A quick look at methods and prompts; now `kvlens evaluate MODEL --pairs FILE`.

    Args:
        name: named model, hub id, directory or .gguf file
        pairs: which pairs
        methods: comma-separated, or all
        layers: layer-set file of `kvlens profile`, or layers such as 7-10, for kv_embedding
        model: how the model is loaded
    """
    print("note: kvlens score is now kvlens evaluate --pairs", file=sys.stderr)
    return score_pairs(name, pairs, methods, layers, model, {})


def score_pairs(
    name: str,
    options: PairOptions,
    methods: Sequence[str],
    layers: str | None,
    model: ModelOptions,
    encoder_options: Mapping[str, Any],
) -> Answer:
    """Score every method with every prompt; each row is said as soon as it is known.

    Args:
        name: of the model.
        options: which pairs, and with what settings.
        methods: names, or ``all``.
        layers: layer-set file or layers, for the methods that re-route.
        model: how it is loaded.
        encoder_options: further options of `Encoder`.

    Returns:
        The rows.
    """
    from kvlens.evaluation import pair_score
    from kvlens.methods.base import methods as all_methods
    from kvlens.texts.pairs import read_pairs

    assert options.pairs is not None
    pairs = read_pairs(options.pairs, options.n)
    route = layers_or_file(layers)
    lm = model.load(name, hooked=False)
    rows = []
    for method in all_methods() if tuple(methods) == ("all",) else methods:
        for prompt in options.prompts or (None,):
            encoder = _encoder(lm, method, route, options, prompt, encoder_options)
            with progress(f"{method} {prompt or ''}") as bar:
                scored = pair_score.score_pairs(encoder, pairs, bar)
            shown = encoder.method.document.name
            rows.append({"method": method, "prompt": shown, **asdict(scored)})
            interval = f"({scored.low:.1f} to {scored.high:.1f}, n = {scored.n})"
            say(f"{method:18} {shown:22} {scored.spearman:5.1f}  {interval}")
    return Answer(rows, "")


def _encoder(
    lm: LanguageModel,
    method: str,
    layers: Any,
    options: PairOptions,
    prompt: str | None,
    encoder_options: Mapping[str, Any],
) -> Encoder:
    """An encoder with the settings that were given: None leaves a method its own."""
    from kvlens.embedding.encoder import Encoder
    from kvlens.texts.prompts import get_prompt

    reroutes = method == "kv_embedding"
    settings: dict[str, Any] = {}
    if options.pooling is not None:
        settings["pooling"] = options.pooling
    if reroutes and options.bias is not None:
        settings["bias"] = options.bias
    if prompt is not None:
        settings["document"] = get_prompt(prompt)
    return Encoder(lm, method, layers if reroutes else None, **encoder_options, **settings)
