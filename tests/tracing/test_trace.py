"""A trace is saved and loaded equal, and says what it does not hold."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from test_old_files import DATA
from torture.damage_to_values import unpacked
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


OLD = Trace.load(DATA / "trace.safetensors")
EVERY = Trace.load(DATA / "trace_all.safetensors")
K = OLD.tensors["k"]


@pytest.mark.parametrize(
    ("trace", "change", "problem"),
    [
        (OLD, {"k": K.half()}, "k is float16, not float32"),
        (
            OLD,
            {"k": K[:2]},
            r"k is \[2, 4, 2, 8\], not \[n_texts, n_with_keys, n_kv_heads, d_head\]",
        ),
        (OLD, {"hidden": OLD.hidden.flatten()}, r"not \[n_points, n_recorded, d_model\]"),
        (OLD, {"k": K.transpose(2, 3)}, r"k is \[3, 4, 8, 2\]"),
        (OLD, {"pattern.3": OLD.tensors["pattern.0"]}, r"unknown tensor 'pattern\.3'"),
        (OLD, {"pattern.1": OLD.tensors["pattern.0"]}, r"pattern\.1 is \[4, 4, 5, 5\]"),
        (OLD, {"states": K}, "unknown tensor 'states'"),
        (OLD, {"text_index": torch.arange(3)}, "text_index goes with hidden states"),
        (EVERY, {"text_index": EVERY.text_index.flip(0)}, "does not count the tokens"),
        (EVERY, {"text_index": EVERY.text_index.int()}, "text_index is int32, not int64"),
    ],
)
def test_tensors_that_are_not_of_this_trace_are_refused(trace, change, problem):
    with pytest.raises(InputError, match=problem):
        replace(trace, tensors=trace.tensors | change)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"layers": (0, 1, 2, 4)}, "layer 4 is outside the model"),
        ({"layers": (0, 2, 1, 3)}, "ascend without repetition"),
        ({"layers": ()}, "0 layers"),
        ({"n_tokens": (5, 8)}, "lengths of 2"),
        ({"n_truncated": 4}, "4 truncated"),
        ({"points": "all"}, "text_index goes with hidden states"),
    ],
)
def test_facts_that_do_not_go_together_are_refused(change, problem):
    with pytest.raises(InputError, match=problem):
        replace(OLD, **change)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_file_with_nan_or_infinity_is_refused(value, tmp_path):
    arrays, metadata = unpacked((DATA / "trace.safetensors").read_bytes())
    v = arrays["v"].copy()
    v[1, 2, 0, 3] = value
    (tmp_path / "t.safetensors").write_bytes(save({**arrays, "v": v}, metadata))
    with pytest.raises(InputError, match=r"t\.safetensors is not a valid trace: v has NaN or"):
        Trace.load(tmp_path / "t.safetensors")
