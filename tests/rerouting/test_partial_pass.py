"""A partial pass against whole re-routed passes."""

import pytest
import torch
from zoo import TEXTS, tiny

from kvlens import reroute
from kvlens.layers.route import Route
from kvlens.methods.base import final_hidden
from kvlens.rerouting.partial_pass import final_states
from kvlens.texts.batches import pad
from kvlens.texts.prompts import DEFAULT_DOCUMENT
from kvlens.texts.tokens import tokenize

SETS = [((0,), 1.0), ((0, 1, 2, 3), 0.0), ((1, 2), 3.0), ((3,), 1.0), ((1, 3), -1.0), ((), 1.0)]


def batch_of(lm, side="right"):
    return pad(tokenize(lm.tokenizer, TEXTS, DEFAULT_DOCUMENT, 256), range(len(TEXTS)), 0, side)


def routes(lm, sets):
    return [Route.of(lm.info, layers, bias) for layers, bias in sets]


@pytest.mark.parametrize("side", ["right", "left"])
def test_equals_a_whole_rerouted_pass(lm, side):
    batch = batch_of(lm, side)
    real = batch.mask.bool()
    with torch.inference_mode():
        every_route = list(final_states(lm, batch, routes(lm, SETS)))
        assert len(every_route) == 1 + len(SETS)
        for (layers, bias), states in zip([((), 1.0), *SETS], every_route, strict=True):
            with reroute(lm, layers, bias) as rerouting:
                rerouting.last = batch.last
                whole = final_hidden(lm, batch)
            torch.testing.assert_close(states[real], whole[real], rtol=0, atol=1e-5)
    plain, first = every_route[:2]
    assert not torch.allclose(plain[real], first[real], atol=1e-2), "it has to change something"


def test_blocks_below_the_window_do_not_run(lm):
    two = routes(lm, [((2, 3), 1.0), ((3,), 1.0)])
    list(final_states(lm, batch_of(lm), two))  # the first re-routing of a model proves it
    runs = []
    handles = []
    for layer in range(lm.info.n_layers):
        attention = lm.attention(layer)
        handles.append(attention.register_forward_hook(lambda *_, layer=layer: runs.append(layer)))
    with torch.inference_mode():
        list(final_states(lm, batch_of(lm), two))
    for handle in handles:
        handle.remove()
    assert [runs.count(layer) for layer in range(lm.info.n_layers)] == [1, 1, 2, 3]


def test_leaves_nothing_behind():
    lm = tiny("gemma3")
    batch = batch_of(lm)
    before = lm(batch.ids, batch.mask)
    wrapped = lm.blocks[0].forward
    lm.blocks[0].forward = wrapped  # as a library that wraps blocks would do
    results = final_states(lm, batch, routes(lm, [((2,), 1.0), ((3,), 1.0)]))
    next(results)
    next(results)
    results.close()
    handle = lm.blocks[3].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(final_states(lm, batch, routes(lm, [((3,), 1.0)])))
    handle.remove()
    attention = lm.attention(3)
    calls = []
    handle = attention.register_forward_pre_hook(
        lambda *_: calls.append(1) or (1 / 0 if len(calls) == 2 else None)
    )
    with pytest.raises(ZeroDivisionError):
        list(final_states(lm, batch, routes(lm, [((3,), 1.0)])))
    handle.remove()
    assert vars(lm.blocks[0])["forward"] is wrapped
    assert not any("forward" in vars(block) for block in lm.blocks[1:])
    hooks = []
    for module in lm.base.modules():
        hooks += [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    assert not [hook for hook in hooks if type(hook).__module__.startswith("kvlens")]
    assert torch.equal(lm(batch.ids, batch.mask), before)
