"""Sourcing: does TransformerLens show the states of the model at hand, and show them right?

The first recording of a model runs a few tokens through its bridge and through raw transformers.
What the bridge does not show, or shows otherwise, is taken from the attention module's own call;
where its hidden states are others, everything is taken from raw transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from kvlens.models.forward import SeveralStreams
from kvlens.models.language_model import LanguageModel
from kvlens.models.probe_batch import LENGTHS, SIDES, probe_batch
from kvlens.store.errors import InputError, one_line, shortened
from kvlens.store.sharing import PerObject
from kvlens.tracing.buffers import Buffers, OtherStates
from kvlens.tracing.hooks import key_point, record_batch, rotated_key_point
from kvlens.tracing.kinds import KEEP
from kvlens.tracing.request import Request
from kvlens.tracing.source import KEYS_AND_VALUES, Source

FLOAT32_TOLERANCE = 2e-4
HALF_TOLERANCE = 5e-2
SMALLEST_SCALE = 1e-12

_SOURCES: PerObject[list[Source]] = PerObject(list)


def source_of(lm: LanguageModel) -> Source:
    """Where the states of a model are read; tried once.

    Args:
        lm: the model; its bridge is built here, where TransformerLens has one.

    Returns:
        The source.

    Raises:
        InputError: inside a `with reroute` block, and for a model in train mode.
    """
    sources = _SOURCES.of(lm.hf)
    with lm.turn("measurement"):
        if not sources:
            sources.append(replace(_tried(lm), sides=_sides(lm)))
    return sources[0]


def tolerance_of(lm: LanguageModel) -> float:
    """How far two recordings of a state may be apart, relative to its largest magnitude."""
    return FLOAT32_TOLERANCE if lm.info.dtype == "float32" else HALF_TOLERANCE


def relative_difference(states: Tensor, truth: Tensor) -> float:
    """The largest difference of states, relative to the largest magnitude of the true ones."""
    scale = truth.abs().max().clamp(min=SMALLEST_SCALE)
    return float((states - truth).abs().max() / scale)


def _tried(lm: LanguageModel) -> Source:
    try:
        lm.bridge  # noqa: B018
    except InputError as error:
        return Source("raw", KEYS_AND_VALUES, str(error))
    try:
        again = _not_shown(lm)
        wrong = _wrong(lm, Source("bridge", again))
    except OtherStates as error:
        return Source("raw", KEYS_AND_VALUES, str(error))
    except InputError:
        raise
    except Exception as error:  # whatever the bridge of an unknown architecture raises
        return Source("raw", KEYS_AND_VALUES, shortened(one_line(error)))
    if "hidden" in wrong:
        return Source("raw", KEYS_AND_VALUES, "its hidden states are others in TransformerLens")
    again |= wrong
    reason = f"TransformerLens does not show {', '.join(sorted(again))}" if again else ""
    return Source("bridge", again, reason)


RAW = Source("raw", KEYS_AND_VALUES)


def _sides(lm: LanguageModel) -> tuple[str, ...]:
    """Sides of padding: some recurrent layers, and some that count positions, see padding."""
    truth, other = (_states(lm, RAW, side) for side in SIDES)
    return SIDES if _differing(lm, other, truth) == frozenset() else SIDES[:1]


def _not_shown(lm: LanguageModel) -> frozenset[str]:
    """Kinds of keys and values for which a hook point never fires in some layer."""
    live = lm.live_hooks
    missing = set()
    for layer in lm.anatomy.layers:
        if not layer.has_keys:
            continue
        points = {
            "v": f"blocks.{layer.layer}.attn.hook_v",
            "k_pre": key_point(layer, live),
            "k": rotated_key_point(layer, live),
        }
        missing |= {kind for kind, point in points.items() if point not in live}
    return frozenset(missing)


def _wrong(lm: LanguageModel, source: Source) -> frozenset[str]:
    """Kinds of states that differ from those of raw transformers."""
    wrong: frozenset[str] = frozenset()
    for side in SIDES:
        wrong |= _differing(lm, _states(lm, source, side), _states(lm, RAW, side))
    return wrong


def _differing(
    lm: LanguageModel, shown: dict[str, Tensor], truth: dict[str, Tensor]
) -> frozenset[str]:
    """Kinds of states that differ in some layer."""
    return frozenset(
        name.split(".")[0]
        for name, states in shown.items()
        if name not in truth or not relative_difference(states, truth[name]) <= tolerance_of(lm)
    )


def _states(lm: LanguageModel, source: Source, side: str) -> dict[str, Tensor]:
    """Kind and layer -> states of the probe's batch, of the blocks that ran.

    Keys and values alone of a model whose blocks give several streams of hidden states.
    """
    try:
        return _states_of(lm, source, side, KEEP)
    except SeveralStreams:
        return _states_of(lm, source, side, sorted(KEYS_AND_VALUES))


def _states_of(
    lm: LanguageModel, source: Source, side: str, keep: Sequence[str]
) -> dict[str, Tensor]:
    request = Request("last", tuple(keep), tuple(range(lm.info.n_layers)))
    buffers = Buffers(lm.anatomy, lm.info, request, LENGTHS)
    record_batch(lm, probe_batch(lm, side), request, buffers, source)
    return {name: tensor for name, tensor in buffers.by_layer().items() if name in buffers.stored}
