"""Parity: a recording that is off is found, and a real model's passes."""

import pytest
from zoo import TEXTS, tiny

from kvlens.checks.parity import check


def test_check_can_fail():
    lm = tiny("llama")
    check(lm, TEXTS)  # what the bridge shows later is believed
    with lm.bridge.hooks(fwd_hooks=[("blocks.1.attn.hook_v", lambda v, hook: v + 1e-2)]):
        result = check(lm, TEXTS)
    assert not result.passed
    assert result.differences["v"] > 1e-3


@pytest.mark.real
def test_real_model_passes_check(smollm):
    assert max(check(smollm).differences.values()) < 2e-4
