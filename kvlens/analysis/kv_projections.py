"""KV projections: the linear modules of a block that make its keys and values, and their cut.

They are found, not known by name: by a pass of a few tokens, the module among whose outputs are the
layer's values (and its keys, as they are before norm and rotation), number for number. So a module
that makes queries, too (GPT-2, Phi-3, GPT-NeoX), is cut in the rows of K or V alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.nn import Module

from kvlens.models.attention_call import AttentionCall
from kvlens.models.forward import run_base
from kvlens.models.language_model import LanguageModel
from kvlens.models.probe_batch import probe_batch
from kvlens.models.turns import Turn
from kvlens.store.errors import InputError

Kind = Literal["k", "v"]
NAMES = {"k": "keys", "v": "values"}
TOLERANCE = 1e-2  # of the largest output, in the coarsest dtype
Seen = tuple[Module, Tensor, Tensor]
"""A module of a block, what it was given, and what it made of it."""


@dataclass(frozen=True, eq=False)
class KVProjection:
    """What makes the keys or the values of one layer.

    Attributes:
        layer: block index.
        kind: ``k`` or ``v``.
        module: linear, perhaps with a bias, perhaps of more than K or V.
        rows: which of its outputs are K or V.
        like: what it was given, for dtype and device.
    """

    layer: int
    kind: Kind
    module: Module
    rows: Int[Tensor, " n"]
    like: Tensor = field(repr=False)

    @property
    def full_rank(self) -> int:
        """The rank that its weight can have."""
        return min(len(self.rows), self.like.shape[-1])

    @cached_property
    def bias(self) -> Float[Tensor, " n"]:
        """What the module makes of zeros, in these rows."""
        return self.module(torch.zeros_like(self.like[:1, :1]))[0, 0, self.rows]

    @cached_property
    def weight(self) -> Float64[Tensor, "n d_model"]:
        """Its weight, on the CPU, in the rows of K or V, whatever form it is stored in."""
        identity = torch.eye(self.like.shape[-1]).to(self.like)[None]
        return (self.module(identity)[0][:, self.rows] - self.bias).T.double().cpu()

    @cached_property
    def _svd(self) -> tuple[Float64[Tensor, "n rank"], Float64[Tensor, " rank"]]:
        left, values, _ = torch.linalg.svd(self.weight, full_matrices=False)
        return left, values

    @property
    def condition(self) -> float:
        """The largest singular value over the smallest that is not 0, but for rounding."""
        values = self._svd[1]
        rounding = values[0] * len(self.rows) * torch.finfo(self.like.dtype).eps
        return float(values[0] / values[values > rounding][-1])

    def cut(self, turn: Turn, rank: int) -> None:
        """Let the module run, for the time of a turn, as if its weight had a lower rank.

        The best one by least squares, ``U U^T W`` with the first `rank` left singular vectors of W.
        No weight is touched: ``U U^T`` is applied to what the module makes, less the bias.

        Args:
            turn: a measurement's.
            rank: from 1 to `full_rank`, where nothing is cut.
        """
        if rank < self.full_rank:
            left = self._svd[0][:, :rank]
            turn.after(self.module, partial(self._project, (left @ left.T).to(self.bias)))

    def _project(
        self, onto: Float[Tensor, "n n"], module: Any, args: Any, output: Tensor
    ) -> Tensor:
        changed = output.clone()
        changed[..., self.rows] = (output[..., self.rows] - self.bias) @ onto + self.bias
        return changed


def kv_projections(lm: LanguageModel) -> list[KVProjection]:
    """The projections of every layer that makes keys and values.

    Args:
        lm: the model.

    Returns:
        K, then V, layers ascending.

    Raises:
        InputError: where the keys or values of a layer are not the outputs of one linear module,
            as where they are expanded from a latent, and where both are the same outputs.
    """
    found: list[KVProjection] = []
    with torch.inference_mode(), lm.turn("measurement"):
        for layer, (call, seen) in _passes(lm).items():
            keys, values = call.at("none", None).key_and_value()
            k = _found(lm, layer, "k", seen, keys)
            v = _found(lm, layer, "v", seen, values)
            if k.module is v.module and bool(torch.isin(k.rows, v.rows).any()):
                raise InputError(
                    f"the keys and values of layer {layer} of {lm.info.name} are made of one "
                    "weight: neither can be cut alone"
                )
            found += [k, v]
    return found


def _passes(lm: LanguageModel) -> dict[int, tuple[AttentionCall, list[Seen]]]:
    """Layer -> the call of its attention module on a few tokens, and what its modules made."""
    noted: dict[int, tuple[AttentionCall, list[Seen]]] = {}

    def begin(module: Any, args: Any, kwargs: Any, layer: int) -> None:
        noted[layer] = AttentionCall.of(module, args, kwargs), []

    def note(module: Any, args: Any, output: Any, layer: int) -> None:
        if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
            noted[layer][1].append((module, args[0], output))

    with lm.turn("measurement") as turn:
        for layer in lm.anatomy.key_layers:
            attention = lm.attention(layer)
            turn.before(attention, partial(begin, layer=layer), with_kwargs=True)
            for module in attention.modules():
                if module is not attention:
                    turn.after(module, partial(note, layer=layer))
        run_base(lm, probe_batch(lm, "right"))
    return noted


def _found(
    lm: LanguageModel, layer: int, kind: Kind, seen: list[Seen], states: Tensor
) -> KVProjection:
    """The projection among the modules of a layer that made these states."""
    batch, _, seq_len, _ = states.shape
    by_token = partial(_by_token, batch=batch, seq_len=seq_len)
    (wanted,) = by_token(states.transpose(1, 2))[:1]
    before_norms = [
        before
        for _, given, output in seen
        for before, after in zip(by_token(given), by_token(output), strict=False)
        if after.shape == wanted.shape and torch.equal(after, wanted.to(after.device))
    ]
    for module, given, output in seen:
        if given.ndim != 3 or output.shape[:2] != (batch, seq_len) or not _is_linear(module, given):
            continue
        for numbers in (wanted, *before_norms):
            rows = _rows(output.flatten(0, 1), numbers.to(output))
            if rows is not None:
                return KVProjection(layer, kind, module, rows, given)
    raise InputError(
        f"the {NAMES[kind]} of layer {layer} of {lm.info.name} are not what one linear module "
        "makes: their weights cannot be cut"
    )


def _by_token(states: Tensor, batch: int, seq_len: int) -> list[Tensor]:
    """States ``[batch * seq_len, width]``, a row a token, in each way that their shape allows."""
    ways = []
    if states.shape[:2] == (batch, seq_len):
        ways.append(states)
    if states.ndim == 4 and states.shape[::2] == (batch, seq_len):
        ways.append(states.transpose(1, 2))
    return [way.flatten(2).flatten(0, 1) if way.ndim > 3 else way.flatten(0, 1) for way in ways]


def _rows(
    made: Float[Tensor, "tokens outputs"], wanted: Float[Tensor, "tokens n"]
) -> Int[Tensor, " n"] | None:
    """Which outputs of a module are the wanted states, in all tokens; None where some are not."""
    places: dict[bytes, list[int]] = {}
    for place, column in enumerate(_columns(made)):
        places.setdefault(column, []).append(place)
    rows = []
    for column in _columns(wanted):
        if not places.get(column):
            return None
        rows.append(places[column].pop(0))
    return torch.tensor(rows, device=made.device)


def _columns(states: Float[Tensor, "tokens n"]) -> list[bytes]:
    """The numbers of each column; float32 holds them exactly."""
    return [column.tobytes() for column in states.T.float().cpu().contiguous().numpy()]


def _is_linear(module: Module, given: Tensor) -> bool:
    """Whether a module, its bias aside, makes twice as much of twice, token by token."""
    token = given[:1, :1]
    try:
        nothing, once, twice = (module(scale * token) for scale in (0, 1, 2))
        second = module(torch.cat([token, token], dim=1))[:, 1:]
    except (TypeError, RuntimeError):  # it asks for more than one tensor, or for another shape
        return False
    if not isinstance(once, Tensor):
        return False
    limit = TOLERANCE * (once - nothing).abs().max()
    distances = (twice - once - (once - nothing), second - once)
    return all(bool(distance.abs().max() <= limit) for distance in distances)
