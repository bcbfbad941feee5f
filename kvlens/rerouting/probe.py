"""Probe: is re-routing exact on the model at hand? A few tokens, every layer, both padding sides.

Every attention module is asked, inside a re-routed pass, for what it should have given. A layer
that is re-routed with its key kept: the same module without a prefix, the final token's own column
made visible to all by its mask (the mask-edit identity). One whose key stands elsewhere: the same
module on one more token, a copy of the final one at that place. A layer that is not: the module as
it is. None of these shares the prefix, the final token's index or the kernel with what is probed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvlens.layers.control import Control
from kvlens.layers.layer_set import Position
from kvlens.layers.route import Route
from kvlens.models.attention_call import (
    POSITIONS,
    TABLES,
    AttentionCall,
    attention_function,
    states_of,
)
from kvlens.models.language_model import LanguageModel, Tree
from kvlens.models.probe_batch import SIDES, probe_batch
from kvlens.models.rotary_tables import join_tables
from kvlens.rerouting.prefix import rerouted
from kvlens.rerouting.reach import additive_mask
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch

WINDOW = 5
"""Tokens that sliding and chunked layers see while they are probed: fewer than there are."""
WINDOWS = ("sliding_window", "attention_chunk_size")
BIASES = (1.0, -0.5, 2.0, 0.5, 1.5)
"""Neighbours differ, so that a layer which is taken for the next one is seen."""
INPUTS = (*((side, True) for side in SIDES), ("right", False))
"""Padding, and whether the model is told of it by a mask: without one, the prefix may be merged."""
ORACLE = "eager"
"""The attention function that every architecture has: fused ones are held against it."""


def probe(
    lm: LanguageModel, position: Position, tree: Tree, by_head: bool = False
) -> dict[int, float]:
    """Re-route every second layer of a tiny batch, and the others, with padding on either side.

    Args:
        lm: the model.
        position: of the re-routed key.
        tree: which module tree is probed.
        by_head: show the prefix to every second head alone; with its key kept.

    Returns:
        Layer -> how far its attention module's output is from what it should be, relative to the
        largest magnitude there.

    Raises:
        InputError: on NaN or infinity.
    """
    layers = lm.info.layers_to_reroute()
    worst = dict.fromkeys(layers, 0.0)
    lm.origin_tables(layers[0])  # by a pass of its own, before there are hooks
    halves = [half for half in (layers[::2], layers[1::2]) if half]
    routes = [_route(lm, half, position, by_head) for half in halves]
    with torch.inference_mode(), _narrow_windows(lm.decoder(tree).config):
        for side, masked in INPUTS:
            batch = probe_batch(lm, side)
            for route in routes:
                examination = _Examination(lm, route, tree, batch, masked)
                examination.run()
                for layer, difference in examination.differences.items():
                    worst[layer] = max(worst[layer], difference)
    return worst


def _route(lm: LanguageModel, layers: tuple[int, ...], position: Position, by_head: bool) -> Route:
    biases = tuple(BIASES[layer % len(BIASES)] for layer in layers)
    every_second = {layer: tuple(range(0, _n_heads(lm, layer), 2)) for layer in layers}
    control = Control(heads=every_second if by_head else {})
    return Route(layers, biases, position, control)


def _n_heads(lm: LanguageModel, layer: int) -> int:
    return lm.anatomy.layers[layer].n_heads


@contextlib.contextmanager
def _narrow_windows(config: Any) -> Iterator[None]:
    """Let layers with a window see fewer tokens than the probe's texts have."""
    before = {name: getattr(config, name, None) for name in WINDOWS}
    windows = {name: value for name, value in before.items() if isinstance(value, int)}
    try:
        for name, window in windows.items():
            setattr(config, name, min(window, WINDOW))
        yield
    finally:
        for name, window in windows.items():
            setattr(config, name, window)


@dataclass
class _Examination:
    """One re-routed pass, and what each attention module of it should have given.

    Attributes:
        lm: the model.
        route: through it.
        tree: which module tree runs.
        batch: its input.
        masked: whether it is told of the padding.
        calls: layer -> what its module was called with, before the prefix came.
        differences: layer -> relative difference.
    """

    lm: LanguageModel
    route: Route
    tree: Tree
    batch: TokenBatch
    masked: bool
    calls: dict[int, AttentionCall] = field(default_factory=dict)
    differences: dict[int, float] = field(default_factory=dict)

    def run(self) -> None:
        """Run the pass."""
        with self.lm.turn("measurement") as turn:
            # Before those of the route, so that they see the module's own arguments.
            for layer in self.lm.info.layers_to_reroute():
                attention = self.lm.attention(layer, self.tree)
                turn.before(attention, partial(self._note, layer=layer), with_kwargs=True)
                turn.after(attention, partial(self._examine, layer=layer))
            with rerouted(self.lm, self.route, (self.tree,)) as rerouting:
                if not self.masked:
                    rerouting.follow(self.batch)
                run_tree(self.lm, self.tree, self.batch, self.masked)

    def _note(self, module: Any, args: Any, kwargs: Any, layer: int) -> None:
        self.calls[layer] = AttentionCall.of(self.lm.attention(layer), args, kwargs)

    def _examine(self, module: Any, args: Any, output: Any, layer: int) -> None:
        given = states_of(output)
        with attention_function(self.lm.attention(layer), ORACLE):
            right = self._right_output(self.calls[layer], layer)
        real = self.batch.mask.bool().to(given.device)
        distance = (given[real] - right.to(given.device)[real]).abs().max()
        difference = float(distance / right.abs().max())
        if not math.isfinite(difference):
            raise InputError(f"NaN or infinity in attention of layer {layer}")
        self.differences[layer] = difference

    def _right_output(self, call: AttentionCall, layer: int) -> States:
        mask = additive_mask(call.arguments.get("attention_mask"), call.states)
        if layer not in self.route.layers:
            return call.output(attention_mask=mask)
        last = self.batch.last.to(mask.device)
        bias = self.route.bias_of[layer]
        rotates = self.lm.anatomy.layers[layer].rotation != "none"
        if self.route.position == "keep" or not rotates:
            heads = self.route.control.heads.get(layer)
            if heads is not None:
                mask = mask.expand(-1, _n_heads(self.lm, layer), -1, -1)
            return call.output(attention_mask=edited_mask(mask, last, bias, heads))
        origin = self.lm.origin_tables(layer)
        copy = call.of_tokens(last).at(self.route.position, origin)
        return _output_behind(copy, call, mask, bias)


States = Float[Tensor, "batch seq_len d_model"]


def run_tree(lm: LanguageModel, tree: Tree, batch: TokenBatch, masked: bool = True) -> None:
    """Run one module tree of a model on a batch, in a turn that is taken already."""
    mask = batch.mask if masked else None
    inputs = {"attention_mask": mask, "position_ids": batch.positions, "use_cache": False}
    if tree == "raw":
        lm.base(batch.ids, **inputs)
    else:
        lm.bridge(batch.ids, return_type=None, **inputs)


def edited_mask(
    mask: Float[Tensor, "rows heads seq_len seq_len"],
    last: Int[Tensor, " batch"],
    bias: float,
    heads: Sequence[int] | None = None,
) -> Float[Tensor, "batch heads seq_len seq_len"]:
    """The mask that has the effect of a prefix (mask-edit identity).

    Args:
        mask: additive; rows: of the batch, or 1; heads: all query heads, or 1.
        last: index of each row's final real token.
        bias: of the prefix.
        heads: that see it; None: all.

    Returns:
        The mask with the final token's column visible to all before it by the bias, and to itself
        once more.
    """
    edited = mask.expand(len(last), -1, -1, -1).clone()
    seeing = list(range(edited.shape[1]) if heads is None else heads)
    for row, end in enumerate(last.tolist()):
        edited[row, seeing, :end, end] = bias
        edited[row, seeing, end, end] = math.log1p(math.exp(bias))
    return edited


def _output_behind(
    copy: AttentionCall,
    call: AttentionCall,
    mask: Float[Tensor, "rows 1 seq_len seq_len"],
    bias: float,
) -> States:
    """The output of a call's tokens when one more token stands before them, seen by all."""
    behind = torch.nn.functional.pad(mask, (1, 0, 1, 0), value=torch.finfo(mask.dtype).min)
    behind[:, :, 1:, 0] = bias
    behind[:, :, 0, 0] = 0.0
    changed: dict[str, Any] = {
        "hidden_states": torch.cat([copy.states, call.states], dim=1),
        "attention_mask": behind,
    }
    if copy.tables is not None and call.tables is not None:
        changed[TABLES] = join_tables(copy.tables, call.tables)
    positions = call.arguments.get(POSITIONS)
    if isinstance(positions, Tensor):
        rows = positions.expand(len(call.states), -1)
        changed[POSITIONS] = torch.cat([copy.arguments[POSITIONS], rows], dim=1)
    return call.output(**changed)[:, 1:]
