"""Every method on every family that is read."""

import numpy as np
import pytest
from families import family
from family_cases import KEPT_OUT, READ, STREAMS, layers_of
from zoo import TEXTS

from kvlens import Encoder, InputError
from kvlens.methods.registry import self_contained, takes_layers

pytestmark = [pytest.mark.zoo, pytest.mark.slow]
# Its attention asks the cache for more than `value_aggregation` reads.
CACHE_UNREAD = ("inkling2_text", "inkling_text", "minimax_m3_vl_text", "qwen4_exp_text", "zaya")
# Values that differ in size between the layers of the default depth are not added up.
SIZES_DIFFER = ("gemma4_unified", "gemma4_unified_text", "mimo_v2_flash")
# Blocks of the upper half read the keys of others.
SHARING = ("gemma3n_text", "gemma4", "gemma4_text")


NOT_THERE = {
    "kv_embedding": KEPT_OUT,
    "value_aggregation": (*SIZES_DIFFER, *CACHE_UNREAD),
    "token_prepending": STREAMS,
    "ke": STREAMS,
    "look_both_ways": (*KEPT_OUT, *SHARING),
}
# Raw transformers, too, gives other states in a batch: near-ties of a sparse choice fall otherwise.
TIES = {"cot": ("dots3_note_text", "hy_v4")}


@pytest.mark.parametrize("name", READ)
def test_methods_give_finite_vectors_whatever_the_batch(name):
    lm = family(name)
    for method in self_contained():
        if name in (*NOT_THERE.get(method, ()), *TIES.get(method, ())):
            continue
        encoder = Encoder(lm, method, layers_of(lm) if takes_layers(method) else None)
        together = encoder.encode(TEXTS)
        alone = encoder.encode(TEXTS[:1])
        assert np.isfinite(together).all(), method
        assert np.abs(together[:1] - alone).max() < 1e-5 * np.abs(together).max(), method


@pytest.mark.parametrize(
    ("name", "method", "reason"),
    [
        *((name, "value_aggregation", "differ in size between layers") for name in SIZES_DIFFER),
        *((name, "value_aggregation", "more than keys and values") for name in CACHE_UNREAD),
        *((name, "token_prepending", "one hidden state a token") for name in STREAMS),
        *((name, "ke", r"gives states \[") for name in STREAMS),
        *((name, "look_both_ways", KEPT_OUT[name]) for name in KEPT_OUT),
        *((name, "look_both_ways", "others read its keys and values") for name in SHARING),
        *((name, "kv_embedding", KEPT_OUT[name]) for name in KEPT_OUT),
    ],
)
def test_what_a_method_cannot_do_is_refused_in_one_line(name, method, reason):
    lm = family(name)
    layers = (layers_of(lm) or [0]) if takes_layers(method) else None
    with pytest.raises(InputError, match=reason) as refusal:
        Encoder(lm, method, layers).encode(TEXTS[:1])
    assert "\n" not in str(refusal.value)
