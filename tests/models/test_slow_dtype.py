"""A dtype for which a CPU has no instructions: said where somebody asks for it."""

import warnings

import pytest
import torch

from kvlens.models import slow_dtype
from kvlens.models.slow_dtype import slowdown, tell_of_slow_dtype
from kvlens.store.notices import Notice

CPU = torch.device("cpu")


def test_float32_takes_as_long_as_itself():
    assert 0.2 < slowdown(torch.float32) < 5


def test_a_slow_dtype_is_told_by_how_much(monkeypatch):
    monkeypatch.setattr(slow_dtype, "slowdown", lambda dtype: 58.4)
    with pytest.warns(Notice, match="^bfloat16 is 58 times slower than float32 on this CPU: give "):
        tell_of_slow_dtype(torch.bfloat16, CPU)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_one_that_is_not_slow_is_used_in_silence(monkeypatch, dtype):
    monkeypatch.setattr(slow_dtype, "slowdown", lambda dtype: 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        tell_of_slow_dtype(dtype, CPU)


@pytest.mark.parametrize(
    ("dtype", "device"), [(None, "cpu"), (torch.float32, "cpu"), (torch.float16, "meta")]
)
def test_nothing_is_measured_for_others(monkeypatch, dtype, device):
    monkeypatch.setattr(slow_dtype, "slowdown", lambda dtype: pytest.fail("it was measured"))
    tell_of_slow_dtype(dtype, torch.device(device))
