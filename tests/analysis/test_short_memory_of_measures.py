"""Measures whose batches do not fit into memory, which shows in the middle of a pass."""

import numpy as np
import pytest
from short_of_memory import short_of_memory
from zoo import tiny

import kvlens
from kvlens.store.notices import Notice

TEXTS = [letter * n for n in (22, 20, 18, 5) for letter in "abcd"]
ROOM = 100  # padded tokens for which there is memory


def shift(lm):
    return kvlens.attention_shift(lm, TEXTS, (1, 2), bins=3).arrays


def probed(lm):
    layers = kvlens.probe_tokens(lm, TEXTS, (1, 2), columns=2).layers
    kinds = ("final", "text", "text_end", "punctuation")
    found = {kind: np.array([getattr(layer, kind).mean for layer in layers]) for kind in kinds}
    return found | {"common": np.array([layer.common_share for layer in layers])}


def cut(lm):
    return {"cosines": np.array([each.cosine for each in kvlens.low_rank(lm, TEXTS, [0.5]).cuts])}


@pytest.mark.parametrize("measure", [shift, probed, cut])
def test_parts_of_a_batch_say_what_the_batch_would_have_said(measure):
    lm = tiny("llama")
    whole = measure(lm)
    block = lm.bridge.blocks[2] if measure is shift else lm.base.layers[2]
    with (
        short_of_memory(block, most=ROOM * lm.info.d_model) as fitting,
        pytest.warns(Notice, match="memory is short") as told,
    ):
        in_parts = measure(lm)
    assert len(fitting) > 1
    assert len(told) == 1
    assert whole.keys() == in_parts.keys()
    for name, values in whole.items():
        np.testing.assert_allclose(in_parts[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
