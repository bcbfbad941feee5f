"""Uptake: how re-routing changes attention, measured over a corpus or on one text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from kvlens.analysis.attention import SPANS, AttentionPatterns, AttentionShift
from kvlens.analysis.shift_tally import ShiftTally
from kvlens.analysis.token_labels import readable_tokens
from kvlens.analysis.two_passes import LayerAttention, check_shown, run_twice
from kvlens.layers.layer_set import LayerSet
from kvlens.layers.route import Route, RouteLike, a_route
from kvlens.models.forward import finite_or_refuse
from kvlens.models.language_model import LanguageModel, a_model
from kvlens.models.short_memory import computed
from kvlens.rerouting.calibration import with_calibration
from kvlens.rerouting.door import check_route
from kvlens.store.checking import arguments, bias, choice, flag, function, optional, text, whole
from kvlens.store.errors import InputError
from kvlens.store.progress import Progress, silent
from kvlens.store.provenance import versions
from kvlens.store.room import Room
from kvlens.texts.batches import TokenBatch, batches, pad
from kvlens.texts.limits import LimitOptions, Limits
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, as_prompt
from kvlens.texts.texts import Texts, as_texts
from kvlens.texts.tokens import TokenizedText, tokenize

BATCH_TOKENS = 1024  # small, since patterns grow with the square of the length


class PatternOptions(LimitOptions, total=False):
    """Further keywords of `attention_patterns`."""

    force: bool


class ShiftOptions(PatternOptions, total=False):
    """Further keywords of `attention_shift`."""

    progress: Progress | None


@dataclass(frozen=True)
class _Request:
    """What is asked of a model.

    Attributes:
        lm: the model.
        route: with at least one layer.
        prompt: around every text.
        limits: how long a text may be, how much goes into a batch.
    """

    lm: LanguageModel
    route: Route
    prompt: Prompt
    limits: Limits

    def tokenized(self, texts: Texts) -> list[TokenizedText]:
        """The prompted texts as ids."""
        most = self.limits.tokens_for(self.lm.info.max_positions)
        strict = self.limits.strict
        return tokenize(self.lm.tokenizer, texts.items, self.prompt, most, strict)

    @property
    def facts(self) -> dict[str, Any]:
        """The fields of an `AttentionResult`, but for arrays."""
        return {
            "model": self.lm.info,
            "prompt": self.prompt,
            "layers": self.route.layers,
            "bias": self.route.bias,
            "position": self.route.position,
            "control": self.route.control,
            "versions": versions(),
        }


@arguments(
    lm=a_model,
    layers=a_route,
    bias=optional(bias),
    position=optional(text),
    bins=whole(least=1),
    span=choice(*SPANS),
    force=flag,
    progress=optional(function),
)
def attention_shift(
    lm: LanguageModel,
    texts: Texts | Sequence[str],
    layers: RouteLike,
    bias: float | Sequence[float] | None = None,
    position: str | None = None,
    prompt: str | Prompt | None = None,
    bins: int = 10,
    span: str = "prompted",
    **options: Unpack[ShiftOptions],
) -> AttentionShift:
    """Measure over a corpus, streaming: no pattern outlives its layer.

    Args:
        lm: the model; each batch runs twice through its TransformerLens bridge.
        texts: the corpus.
        layers: a route, a layer set or its file (bias, position, control and document prompt come
            along), or block indices.
        bias: one number, or one a layer; default: that of `layers`, else 1.
        position: default: that of `layers`, else ``keep``.
        prompt: a prompt, its name or a template; default: the document prompt of a layer set, else
            the default one.
        bins: of relative position.
        span: positions count the tokens of the whole prompted text (``prompted``) or the text's own
            (``text``).
        **options: `max_length`, `strict`, `batch_tokens`: see `Limits`. `force`: take a layer set
            that was made for another model. `progress`: called with (texts done, texts).

    Returns:
        The change of attention.

    Raises:
        InputError: as `reroute`, for no layers, no bins or an unknown span, where TransformerLens
            does not show the attention scores, and on NaN or infinity.
    """
    texts = as_texts(texts)
    progress = options.pop("progress", None) or silent
    request = _request(lm, layers, bias, position, prompt, options)
    tokenized = request.tokenized(texts)
    tally = ShiftTally(lm.info, request.route, bins, len(texts))
    for done in _tallied(request, tokenized, tally, span):
        progress(done, len(texts))
    return AttentionShift(
        **request.facts,
        arrays=tally.arrays(),
        texts=texts.info(),
        bins=bins,
        span=span,
        n_tokens=tuple(len(text.ids) for text in tokenized),
        n_truncated=sum(text.truncated for text in tokenized),
    )


def _tallied(
    request: _Request, tokenized: Sequence[TokenizedText], tally: ShiftTally, span: str
) -> Iterator[int]:
    """Run every batch and count what it says; yields how many texts are done."""
    lm = request.lm
    most = request.limits.batch_tokens
    done = 0

    def run(batch: TokenBatch) -> ShiftTally:
        tally.begin(batch, counted=batch.text_mask if span == "text" else batch.mask.bool())
        run_twice(lm, batch, request.route, tally.on_attention, tally.on_hidden)
        return tally

    padded = batches(tokenized, lm.tokenizer.pad_token_id, most, device=lm.device)
    for batch, counted in computed(padded, run, Room(most)):
        counted.keep()
        done += len(batch.rows)
        yield done


@arguments(
    lm=a_model,
    text=text,
    layers=a_route,
    bias=optional(bias),
    position=optional(text),
    force=flag,
)
def attention_patterns(
    lm: LanguageModel,
    text: str,
    layers: RouteLike,
    bias: float | Sequence[float] | None = None,
    position: str | None = None,
    prompt: str | Prompt | None = None,
    **options: Unpack[PatternOptions],
) -> AttentionPatterns:
    """Measure one text in full.

    Args:
        lm: the model.
        text: not too long: memory grows with the square of its tokens.
        layers: as of `attention_shift`; so are the others.
        bias: one number, or one a layer.
        position: coding of the re-routed key.
        prompt: a prompt, its name or a template.
        **options: `max_length`, `strict`, `force`.

    Returns:
        Its patterns.

    Raises:
        InputError: as `attention_shift`.
    """
    request = _request(lm, layers, bias, position, prompt, options)
    (tokenized,) = request.tokenized(as_texts([text]))
    kept: dict[str, list[Tensor]] = {"before": [], "after": [], "beta": []}

    def keep(seen: LayerAttention) -> None:
        finite_or_refuse(seen.weights, f"attention of layer {seen.layer}", lm.info)
        if seen.kind == "local":
            kept["before"].append(seen.weights[0].cpu())
            kept["beta"].append(seen.beta[0].cpu())
        else:
            kept["after"].append(seen.weights[0].cpu())

    batch = pad([tokenized], [0], lm.tokenizer.pad_token_id, device=lm.device)
    run_twice(lm, batch, request.route, keep)
    return AttentionPatterns(
        **request.facts,
        arrays={name: torch.stack(by_layer).numpy() for name, by_layer in kept.items()},
        tokens=readable_tokens(lm.tokenizer, tokenized.ids),
        text_span=tokenized.span,
    )


def document_prompt(layers: RouteLike) -> Prompt:
    """The document prompt of a layer set or its file; the default one for other layers."""
    if isinstance(layers, str | Path):
        layers = LayerSet.load(layers)
    return layers.prompts.document if isinstance(layers, LayerSet) else DEFAULT_DOCUMENT


def _request(
    lm: LanguageModel,
    layers: RouteLike,
    bias: float | Sequence[float] | None,
    position: str | None,
    prompt: str | Prompt | None,
    options: PatternOptions,
) -> _Request:
    """The request, checked; raises InputError for what cannot be measured."""
    force = options.pop("force", False)
    limits = Limits.of(options, BATCH_TOKENS)
    control = with_calibration(layers, {})
    if isinstance(layers, str | Path):
        layers = LayerSet.load(layers)
    if prompt is None:
        prompt = document_prompt(layers)
    route = Route.of(lm.info, layers, bias, position, force, **control)
    if not route.layers:
        raise InputError("no layers to re-route: give at least one")
    check_route(lm, route)
    check_shown(lm, route)
    return _Request(lm, route, as_prompt(prompt), limits)
