"""Staging: what waits for the end of a pass is what is written at once, in one copy a batch."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from zoo import TEXTS, tiny

import kvlens.tracing.staging as staging_module
from kvlens import InputError
from kvlens.tracing.recording import record
from kvlens.tracing.staging import Staging

EVERYTHING = {
    "last": {"keep": ("hidden", "k", "k_pre", "v"), "patterns": True},
    "mean": {"keep": ("hidden",)},
    "all": {"keep": ("hidden", "v")},
    "spans": {
        "keep": ("hidden", "k", "v", "q", "z", "attn_out"),
        "tokens": ("first", "text", "-2"),
    },
}


class Cats(TorchDispatchMode):
    """Counts what is put together for a copy."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        is_flat = function is torch.ops.aten.cat.default and args[0][0].ndim == 1
        self.n += is_flat and args[0][0].dtype == torch.float32
        return function(*args, **kwargs or {})


@pytest.fixture
def waiting(monkeypatch):
    """Rows of the CPU wait, as those of a device do; there is no other device here."""
    monkeypatch.setattr(Staging.__init__, "__defaults__", (True,))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", EVERYTHING)
def test_what_waits_is_what_is_written_at_once(kind, side, monkeypatch):
    lm = tiny("llama")
    options = {"padding_side": side, "batch_tokens": 150, **EVERYTHING[kind]}
    options["points"] = kind if kind in ("mean", "all") else "last"
    at_once = record(lm, TEXTS, **options)
    monkeypatch.setattr(Staging.__init__, "__defaults__", (True,))
    later = record(lm, TEXTS, **options)
    assert at_once.tensors.keys() == later.tensors.keys()
    for name, tensor in at_once.tensors.items():
        assert torch.equal(tensor, later.tensors[name]), name


def test_there_is_one_copy_a_batch(waiting):
    lm = tiny("llama")
    record(lm, TEXTS)  # where states are read is tried once
    batches = []
    with Cats() as cats:
        record(lm, TEXTS, batch_tokens=150, progress=lambda done, total: batches.append(done))
    assert len(batches) > 1
    assert cats.n == len(batches)


def test_what_is_too_much_to_wait_goes_before(monkeypatch):
    monkeypatch.setattr(staging_module, "MOST", 2 * 3 * 4)
    written = []
    staging = Staging(waits=True)
    for number in range(3):
        staging.add(torch.full((3,), number), lambda each: written.append(int(each[0])))
    assert written == [0, 1, 2]
    staging.add(torch.ones(2), written.append)
    staging.clear()
    staging.flush()
    assert len(written) == 3


def test_nan_is_refused_by_layer_and_kind(waiting):
    lm = tiny("llama")
    with torch.no_grad():
        lm.blocks[2].self_attn.v_proj.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"NaN or infinity in v of layer 2"):
        record(lm, TEXTS)
