"""Re-routing leaves nothing behind, and the fused kernel in place."""

import pytest
import torch
from brute_force import ARCHITECTURES, LAYERS, Stop, bridge_run, padded, raw_hidden, sequences
from torch.utils._python_dispatch import TorchDispatchMode
from zoo import tiny

from kvlens import InputError, reroute


def footprint(lm):
    """Hooks and attributes of every module of both trees."""
    hooks = []
    attributes = []
    for module in (*lm.hf.modules(), *lm.bridge.modules()):
        hooks.append((len(module._forward_hooks), len(module._forward_pre_hooks)))
        values = dict(vars(module))
        values.pop("_pattern", None)  # where some bridges keep their last pattern
        attributes.append({name: id(value) for name, value in values.items()})
    return hooks, attributes


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_after_an_exception_the_model_is_as_before(name):
    lm = tiny(name)
    ids, mask, _, _ = padded(sequences(), "left")

    def both():
        with torch.no_grad():
            return lm(ids, mask), lm.bridge(ids, attention_mask=mask)

    plain = both()
    before = footprint(lm)

    def stop(module, args):
        raise Stop

    def inside():
        with reroute(lm, LAYERS):
            for before_it, changed in zip(plain, both(), strict=True):
                assert not torch.allclose(before_it, changed, atol=1e-2)
            raise Stop

    def mid_forward(module, run):
        handle = module.register_forward_pre_hook(stop)
        try:
            with reroute(lm, LAYERS):
                run()
        finally:
            handle.remove()

    with pytest.raises(Stop):
        inside()
    with pytest.raises(Stop):
        mid_forward(lm.blocks[2], lambda: lm(ids, mask))
    with pytest.raises(Stop):
        mid_forward(lm.bridge.blocks[2], lambda: lm.bridge(ids, attention_mask=mask))
    assert footprint(lm) == before
    assert all(torch.equal(a, b) for a, b in zip(plain, both(), strict=True))


@pytest.mark.parametrize("inner", [[1], [3], [2, 3]])
def test_nesting_is_refused_and_leaves_the_outer_one_alone(inner):
    lm = tiny("llama")
    (row,) = sequences([12])
    plain = lm(row[None])
    with reroute(lm, [1, 2]):
        routed = lm(row[None])
        with pytest.raises(InputError, match="re-routed already"), reroute(lm, inner):
            pass
        assert torch.equal(lm(row[None]), routed)
    assert torch.equal(lm(row[None]), plain)


def test_a_bridge_first_built_inside_the_context_is_refused():
    """It would copy the hooks, and nothing would take them off again."""
    lm = tiny("llama")
    clean = tiny("llama")
    (row,) = sequences([12])
    with reroute(lm, LAYERS):
        routed = lm(row[None])
        with pytest.raises(InputError, match=r"use `lm.bridge` once before"):
            bridge_run(lm, row[None], None)
        assert torch.equal(lm(row[None]), routed)
    assert torch.equal(bridge_run(lm, row[None], None)[0], bridge_run(clean, row[None], None)[0])
    assert footprint(lm)[0] == footprint(clean)[0]


class Watch(TorchDispatchMode):
    """Counts fused attention calls and notes dense attention weights.

    Those have storage for [batch, heads, seq_len, seq_len] floats.
    """

    def __init__(self, batch, n_heads, width):
        super().__init__()
        self.n_weights = batch * n_heads * width * width
        self.width = width
        self.fused = 0
        self.dense = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.fused += "_scaled_dot_product_flash_attention" in func.name()
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and self.holds_weights(tensor):
                self.dense.append((func.name(), tuple(tensor.shape)))
        return result

    def holds_weights(self, tensor):
        if not tensor.is_floating_point() or tensor.ndim != 4:
            return False
        stored = tensor.untyped_storage().nbytes() >= self.n_weights * tensor.itemsize
        queries, keys = tensor.shape[2:]
        return stored and queries == self.width and keys in (self.width, self.width + 1)


@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if n != "gemma2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_fused_kernel_stays_and_no_weights_are_made(name, side):
    lm = tiny(name)
    width = 41
    ids, mask, positions, _ = padded(sequences([width, 30, 9]), side)
    with reroute(lm, LAYERS), Watch(3, 4, width) as watch:
        raw_hidden(lm, ids, mask, positions)
    assert watch.fused == 4  # every layer, re-routed or not
    assert watch.dense == []
    # The same eye sees the weights of eager attention, so it is not blind.
    lm.hf.set_attn_implementation("eager")
    with reroute(lm, LAYERS), Watch(3, 4, width) as watch:
        raw_hidden(lm, ids, mask, positions)
    assert watch.fused == 0
    assert {shape for _, shape in watch.dense} == {(3, 4, width, width), (3, 4, width, width + 1)}
