"""Batches that do not fit into memory, in a process whose memory is really short."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from zoo import tiny

import kvlens
from kvlens import InputError
from kvlens.models.short_memory import computed, is_shortage
from kvlens.store.notices import Notice
from kvlens.store.room import Room
from kvlens.texts.batches import batches
from kvlens.texts.prompts import PROMPTS
from kvlens.texts.tokens import tokenize

TEXTS = ["x" * n for n in (40, 39, 38, 37, 20, 3, 2, 1)]
SHORT = """
import resource, sys
import numpy as np, psutil, torch
sys.path.insert(0, {tests!r})
from zoo import tiny
import kvlens
torch.set_num_threads(1)
lm = tiny("llama")
encoder = kvlens.Encoder(lm, "last_token", batch_tokens=10**7)
texts = ["x" * 240] * 1 + ["y" * 239 + str(n) for n in range({n})]
encoder.encode(texts[:2])
most = psutil.Process().memory_info().vms + {room}
resource.setrlimit(resource.RLIMIT_AS, (most, most))
np.save({file!r}, encoder.encode(texts))
"""


def padded(lm, side="right"):
    tokenized = tokenize(lm.tokenizer, TEXTS, PROMPTS["raw"], 256, False)
    return list(batches(tokenized, lm.tokenizer.pad_token_id, 400, side=side))


@pytest.mark.parametrize("side", ["right", "left"])
def test_halves_are_batches_of_their_own(side):
    lm = tiny("llama")
    for batch in padded(lm, side):
        for half in batch.halves() if len(batch.rows) > 1 else ():
            texts = [TEXTS[row] for row in half.rows.tolist()]
            tokenized = tokenize(lm.tokenizer, texts, PROMPTS["raw"], 256, False)
            (expected,) = batches(tokenized, 0, 10**6, side=side, busy_tokens=10**6)
            for name in ("ids", "mask", "last", "text_mask"):
                assert torch.equal(getattr(half, name), getattr(expected, name)), name
            real = half.mask.bool()
            assert torch.equal(half.positions[real], expected.positions[real])


def test_what_does_not_fit_is_halved_and_so_is_what_follows():
    tried = []

    def compute(batch):
        tried.append(batch.ids.numel())
        if batch.ids.numel() > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return batch.rows.tolist()

    room = Room(400)
    with pytest.warns(Notice, match="memory is short for a batch of 280 tokens") as told:
        found = list(computed(padded(tiny("llama")), compute, room))
    assert sorted(row for _, rows in found for row in rows) == list(range(len(TEXTS)))
    assert all(batch.rows.tolist() == rows for batch, rows in found)
    assert len(told) == 1
    assert len([n for n in tried if n > 100]) == 2
    assert room.short == 60
    again = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(computed(padded(tiny("llama")), lambda batch: again.append(batch) or True, room))
    assert max(batch.ids.numel() for batch in again if len(batch.rows) > 1) <= 60
    with pytest.raises(InputError, match="a single text of 40 tokens"), pytest.warns(Notice):
        list(computed(padded(tiny("llama")), lambda batch: torch.empty(1 << 50), Room(400)))


def test_other_errors_are_not_taken_for_it():
    def breaks(batch):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        list(computed(padded(tiny("llama")), breaks, Room(400)))
    assert not is_shortage(RuntimeError("something else"))


@pytest.mark.slow
def test_a_process_whose_memory_is_short(tmp_path, request):
    n = 1000
    file = str(tmp_path / "vectors.npy")
    tests = str(request.config.rootpath / "tests")
    script = SHORT.format(tests=tests, n=n, room=100 << 20, file=file)
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "memory is short for a batch of" in done.stderr
    texts = ["x" * 240] + ["y" * 239 + str(n) for n in range(8)]
    expected = kvlens.Encoder(tiny("llama"), "last_token").encode(texts)
    assert np.allclose(np.load(file)[:9], expected, atol=1e-5)
