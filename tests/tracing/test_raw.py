"""What is recorded, against raw transformers."""

from zoo import TEXTS

from kvlens.checks.parity import check


def test_recording_equals_raw_transformers(lm):
    result = check(lm, TEXTS)
    assert set(result.differences) == {"hidden", "k", "k_pre", "v"}
    assert max(result.differences.values()) < 1e-5
