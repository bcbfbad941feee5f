"""Two passes: a batch through the TransformerLens bridge, plain and re-routed.

1. Plain, for the patterns before and the local effect: the prefix column is read and masked again,
   so that the pass stays plain exactly, on every architecture that `reroute` serves.
2. Re-routed, for the propagated effect.

It knows the hooks, and nothing of what is made of the numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kvlens.analysis.attention import KINDS
from kvlens.layers.route import Route
from kvlens.models.language_model import LanguageModel
from kvlens.models.probe_batch import probe_batch
from kvlens.rerouting.door import reroute
from kvlens.rerouting.proof import refusal
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase
from kvlens.texts.batches import TokenBatch
from kvlens.tracing.sourcing import relative_difference, tolerance_of


@dataclass(frozen=True)
class LayerAttention:
    """Attention of one re-routed layer in one of the passes.

    Attributes:
        kind: local (of the plain pass) or propagated.
        layer: block index.
        beta: the prefix's weight.
        weights: local: without the prefix, ``keys`` is seq_len; propagated: 1 + seq_len keys, the
            prefix first.
    """

    kind: str
    layer: int
    beta: Float[Tensor, "batch n_heads seq_len"]
    weights: Float[Tensor, "batch n_heads seq_len keys"]


Scores = Float[Tensor, "batch n_heads seq_len 1+seq_len"]
States = Float[Tensor, "batch seq_len d_model"]
Sink = Float[Tensor, " n_heads"] | None
OnAttention = Callable[[LayerAttention], None]
OnHidden = Callable[[int, States, States], None]
"""Called with a layer and its `resid_post` before and after re-routing."""


def check_shown(lm: LanguageModel, route: Route) -> None:
    """Raise InputError unless the bridge shows a route's scores, and takes what is made of them.

    Some of its attention modules show scores that they have used already: masking the prefix in
    them changes nothing, and the plain pass would be none. That is tried on a few tokens.
    """
    if route.control.columns > 1:
        raise InputError(
            f"the route has {route.control.columns} columns, and attention is read of one: "
            "give `columns=1`"
        )
    with lm.turn("measurement"):
        message = refusal(lm, route, "bridge")
        if message is not None:
            raise InputError(message)
        live = lm.live_hooks
    hidden = [layer for layer in route.layers if _scores_of(layer) not in live]
    if hidden:
        raise InputError(
            f"attention cannot be read: TransformerLens does not show the attention scores of "
            f"{phrase(hidden)} of {lm.info.architecture}"
        )
    if not _stays_plain(lm, route):
        raise InputError(
            "attention cannot be read: TransformerLens does not let the scores of "
            f"{lm.info.architecture} be changed in {phrase(route.layers)}"
        )


def _stays_plain(lm: LanguageModel, route: Route) -> bool:
    """Whether the first of the two passes gives the hidden states of a plain one."""
    batch = probe_batch(lm, "right")
    last = lm.info.n_layers - 1
    before: list[Tensor] = []
    plain: list[Tensor] = []

    def keep_before(layer: int, states: Tensor, rerouted: Tensor) -> None:
        if layer == last:
            before.append(states)

    def keep_plain(states: Tensor, hook: Any) -> None:
        plain.append(states.float())

    run_twice(lm, batch, route, _look_away, keep_before)
    with torch.inference_mode(), lm.turn("measurement") as turn:
        turn.tap(lm.bridge, [(f"blocks.{last}.hook_resid_post", keep_plain)])
        lm.bridge(batch.ids, **_inputs(batch))
    if before[0].shape[:2] != batch.mask.shape:
        return False
    real = batch.mask.bool().to(before[0].device)  # of padding a sliding window may see nothing
    difference = relative_difference(before[0][real], plain[0][real])
    return not difference > tolerance_of(lm)  # NaN is refused by its layer, later


def _scores_of(layer: int) -> str:
    return f"blocks.{layer}.attn.hook_attn_scores"


def run_twice(
    lm: LanguageModel,
    batch: TokenBatch,
    route: Route,
    on_attention: OnAttention,
    on_hidden: OnHidden | None = None,
) -> None:
    """Run a batch plain and re-routed; no pattern outlives its layer.

    Args:
        lm: the model.
        batch: padded on the right.
        route: with at least one layer.
        on_attention: called for each layer of the route, in both passes.
        on_hidden: called for each layer of the route and the last block, in the second pass.

    Raises:
        InputError: as `reroute`, and inside a `with reroute` block.
    """
    sinks = {layer: lm.sink_logits(layer) for layer in route.layers}
    taps = _Taps(on_attention, on_hidden or _ignore, sinks)
    blocks = {*route.layers, lm.info.n_layers - 1} if on_hidden else set()
    with torch.inference_mode(), lm.turn("measurement"):
        bridge = lm.bridge  # has to exist before `reroute` begins
        with reroute(lm, route) as routing:
            routing.follow(batch)
            for kind in KINDS:
                hooks = [*taps.on_scores(kind, route.layers), *taps.on_resid(kind, blocks)]
                with lm.turn() as turn:
                    turn.tap(bridge, hooks)
                    bridge(batch.ids, **_inputs(batch))


def _inputs(batch: TokenBatch) -> dict[str, Any]:
    return {
        "attention_mask": batch.mask,
        "position_ids": batch.positions,
        "return_type": None,
        "use_cache": False,
        "logits_to_keep": 1,
    }


Hook = tuple[str, Callable[..., Any]]


@dataclass
class _Taps:
    """The hooks of both passes.

    Attributes:
        attention: who is told of attention.
        hidden: who is told of hidden states.
        sinks: layer -> a logit of each head that takes weight from all keys, or None.
        plain: layer -> hidden states of the plain pass, until the re-routed ones come.
    """

    attention: OnAttention
    hidden: OnHidden
    sinks: dict[int, Sink]
    plain: dict[int, States] = field(default_factory=dict)

    def on_scores(self, kind: str, layers: tuple[int, ...]) -> list[Hook]:
        """Hooks on the attention scores of some layers."""
        tap = self._read_and_mask if kind == "local" else self._read
        return [(_scores_of(layer), partial(tap, layer=layer)) for layer in layers]

    def on_resid(self, kind: str, layers: set[int]) -> list[Hook]:
        """Hooks on the residual stream after some blocks."""
        tap = self._keep if kind == "local" else self._compare
        return [(f"blocks.{layer}.hook_resid_post", partial(tap, layer=layer)) for layer in layers]

    def _read_and_mask(self, scores: Scores, hook: Any, layer: int) -> Scores:
        """The local effect: what the prefix would take; then it is masked."""
        logits = scores.float()
        beta = _prefix_weight(logits, self.sinks[layer])
        weights = _weights(logits[..., 1:], self.sinks[layer])
        self.attention(LayerAttention("local", layer, beta, weights))
        masked = torch.full_like(scores[..., :1], torch.finfo(scores.dtype).min)
        return torch.cat([masked, scores[..., 1:]], dim=-1)

    def _read(self, scores: Scores, hook: Any, layer: int) -> None:
        """The propagated effect."""
        logits = scores.float()
        beta = _prefix_weight(logits, self.sinks[layer])
        weights = _weights(logits, self.sinks[layer])
        self.attention(LayerAttention("propagated", layer, beta, weights))

    def _keep(self, states: States, hook: Any, layer: int) -> None:
        self.plain[layer] = states.float()

    def _compare(self, states: States, hook: Any, layer: int) -> None:
        self.hidden(layer, self.plain.pop(layer), states.float())


def _ignore(layer: int, before: Tensor, after: Tensor) -> None:
    """An `OnHidden` that looks at nothing."""


def _look_away(seen: LayerAttention) -> None:
    """An `OnAttention` that looks at nothing."""


def _prefix_weight(logits: Scores, sink: Sink) -> Float[Tensor, "batch n_heads seq_len"]:
    """The prefix's share of a softmax, beta, from its logit and the others' log-sum-exp."""
    return torch.sigmoid(logits[..., 0] - _log_mass(logits[..., 1:], sink))


def _weights(
    logits: Float[Tensor, "batch n_heads seq_len keys"], sink: Sink
) -> Float[Tensor, "batch n_heads seq_len keys"]:
    """The keys' shares of a softmax, in which the sink has one, too."""
    return (
        logits.softmax(-1) if sink is None else (logits - _log_mass(logits, sink)[..., None]).exp()
    )


def _log_mass(
    logits: Float[Tensor, "batch n_heads seq_len keys"], sink: Sink
) -> Float[Tensor, "batch n_heads seq_len"]:
    """The log-sum-exp of the keys' logits and the sink's."""
    of_keys = logits.logsumexp(-1)
    if sink is None:
        return of_keys
    return torch.logaddexp(of_keys, sink.to(of_keys)[:, None].expand_as(of_keys[0]))
