"""A trace is saved and loaded equal, and says what it does not hold."""

import pytest
import torch
from zoo import TEXTS, tiny

from kvlens import InputError
from kvlens.tracing.recording import record
from kvlens.tracing.trace import Trace


def test_save_and_load_equal(tmp_path, lm):
    trace = record(lm, TEXTS, patterns=True)
    again = Trace.load(trace.save(tmp_path / "t.safetensors"))
    assert {**vars(again), "tensors": 0} == {**vars(trace), "tensors": 0}
    assert set(again.tensors) == set(trace.tensors)
    assert all(torch.equal(again.tensors[k], trace.tensors[k]) for k in trace.tensors)


def test_a_file_that_is_no_trace_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"not a tensor file")
    with pytest.raises(InputError, match="x is not a valid trace"):
        Trace.load(tmp_path / "x")
    with pytest.raises(InputError, match=r"cannot read the trace .*absent"):
        Trace.load(tmp_path / "absent")


def test_what_was_not_recorded_is_named():
    trace = record(tiny("gpt2"), TEXTS, keep=("v",))
    with pytest.raises(AttributeError, match="holds no 'hidden'"):
        _ = trace.hidden
    with pytest.raises(InputError, match="holds no 'k'"):
        trace.states(0, "kv")
    with pytest.raises(InputError, match="layer 9 was not recorded"):
        trace.states(9, "v")
