"""Sweeps against the encoder and its score, whole and continued."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from embedding_cases import stop_after
from short_of_memory import short_of_memory
from zoo import tiny

from kvlens import Encoder, InputError
from kvlens.evaluation.pair_score import score_pairs
from kvlens.store.notices import Notice
from kvlens.store.provenance import made_by
from kvlens.studies.layer_sweep import Sweep, sweep
from kvlens.studies.windows import windows
from kvlens.texts.pairs import read_pairs


def test_agrees_with_the_encoder_and_score(pairs_file, tmp_path):
    lm = tiny("qwen3")
    pairs = read_pairs(pairs_file)
    sets = [*windows(4, (2,)), (3, 0)]
    swept = sweep(lm, pairs, sets, (1.0, 3.0), pooling="mean", data="made up")
    depths = [(first, 2, bias) for bias in (1.0, 3.0) for first in range(3)]
    assert [(w.first, w.width, w.bias) for w in swept.windows] == depths
    assert [(w.layers, w.first, w.width) for w in swept.sets] == [((0, 3), 0, 2)] * 2
    for window in (swept.windows[1], swept.sets[1]):
        encoder = Encoder(lm, "kv_embedding", window.layers, bias=window.bias, pooling="mean")
        expected = score_pairs(encoder, pairs)
        values = (expected.spearman, expected.low, expected.high)
        assert (window.spearman, window.low, window.high) == pytest.approx(values, abs=1e-3)
    plain = score_pairs(Encoder(lm, "kv_embedding", (), pooling="mean"), pairs)
    assert swept.plain == pytest.approx(plain.spearman, abs=1e-3)
    assert swept.find((3, 0), 3) == swept.sets[1]
    assert swept.find((3, 0), 2) is None
    assert Sweep.load(swept.save(tmp_path / "sweep.json")) == swept
    assert "layers 0, 3, bias 3" in str(swept)


@pytest.mark.slow
def test_goes_on_with_what_is_there(pairs_file):
    lm = tiny("qwen3")
    pairs = read_pairs(pairs_file)
    everything = [*windows(4, (1, 2)), (0, 3)]
    with made_by("all"):
        whole = sweep(lm, pairs, everything, (1.0, 3.0))
    with made_by("some"):
        part = sweep(lm, pairs, [*windows(4, (2,)), (0,)], (3.0,))
    assert [w.layers for w in part.sets] == [(0,)], "no window while others of its width lack"
    forwards = []
    handle = lm.blocks[0].register_forward_pre_hook(lambda *_: forwards.append(1))
    with made_by("less"):
        less = sweep(lm, pairs, windows(4, (2,)), (3.0,), known=part)
    assert less.command == "some && less"
    assert not forwards
    handle.remove()
    with made_by("other"):
        other = sweep(lm, pairs, windows(4, (1,)), (1.0,), known=part)
    assert other.command == "some && other"
    with made_by("all"):
        again = sweep(lm, pairs, everything, (1.0, 3.0), known=other)
    assert again.command == "all"
    for ours, theirs in ((again.windows, whole.windows), (again.sets, whole.sets)):
        assert [(w.layers, w.bias) for w in ours] == [(w.layers, w.bias) for w in theirs]
        assert [w.spearman for w in ours] == pytest.approx([w.spearman for w in theirs], abs=1e-2)
    for model, options in (
        (lm, {"pooling": "mean"}),
        (lm, {"position": "none"}),
        (tiny("llama"), {}),
    ):
        with pytest.raises(InputError, match="the sweep to go on with"):
            sweep(model, pairs, windows(4, (1,)), known=part, **options)


def test_bad_requests(pairs_file):
    lm = tiny("llama")
    pairs = read_pairs(pairs_file)
    for sets, options, message in (
        ([(4,)], {}, "layer 4 is outside"),
        ([(1, 1)], {}, "repeat one"),
        ([], {}, "no layer sets"),
        ([(1,)], {"pooling": "max"}, "unknown pooling 'max'"),
        ([(1,)], {"position": "far"}, "unknown position coding"),
        ([(1,)], {"biases": [float("inf")]}, "`biases` is inf"),
        ([(1,)], {"biases": [-float("inf")]}, "a sweep needs finite biases"),
    ):
        with pytest.raises(InputError, match=message):
            sweep(lm, pairs, sets, **options)


def passes_of(lm, work):
    """How many forward passes `work` takes, and what it gives."""
    passes = []
    handle = lm.blocks[-1].register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        result = work()
    finally:
        handle.remove()
    return len(passes), result


@pytest.fixture
def stopped(pairs_file, tmp_path):
    """A sweep that was stopped after three batches, how to go on, and the whole one."""
    lm = tiny("qwen3")
    lm.attends_as_cached(0)  # whose own pass is not counted
    pairs = read_pairs(pairs_file)
    run = partial(sweep, lm, pairs, [(1,), (0, 3)], batch_tokens=100, data="made up")
    with made_by("once"):
        n_passes, whole = passes_of(lm, run)
    part = tmp_path / "sweep.part"
    with made_by("once"), pytest.raises(KeyboardInterrupt):
        run(part=part, progress=stop_after(3))
    return lm, partial(run, part=part), part, n_passes, whole


def test_a_stopped_sweep_goes_on_where_it_was(stopped):
    lm, resume, part, n_passes, whole = stopped
    chunks = sorted(part.glob("*.safetensors"))
    assert len(chunks) == 3
    with made_by("again"):
        left, swept = passes_of(lm, resume)
    assert swept == whole, "the command that started it, too"
    assert left == n_passes - 3 * 3, "a plain pass and two routes for each batch"
    assert passes_of(lm, resume) == (0, whole), "the folder stays until the sweep is saved"


def test_a_sweep_that_is_short_of_memory_is_the_same(pairs_file):
    lm = tiny("qwen3")
    run = partial(sweep, lm, read_pairs(pairs_file), [(1,), (0, 3)], batch_tokens=2000)
    whole = run()
    with (
        short_of_memory(lm.base, 300) as fitting,
        pytest.warns(Notice, match="memory is short for a batch of") as told,
    ):
        swept = run()
    assert 150 < max(fitting) <= 300
    assert len(told) == 1
    found, expected = (np.array([w.cosines for w in each.measured]) for each in (swept, whole))
    assert np.allclose(found, expected, atol=1e-5)


def test_a_damaged_batch_is_computed_again_and_said(stopped):
    lm, resume, part, n_passes, whole = stopped
    chunk = sorted(part.glob("*.safetensors"))[1]
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 64
    chunk.write_bytes(data)
    with pytest.warns(Notice, match=rf"1 of 3 chunks .*{chunk.name} is damaged"):
        left, swept = passes_of(lm, resume)
    assert swept == whole
    assert left == n_passes - 2 * 3


def test_a_stopped_sweep_of_something_else_is_refused(stopped, pairs_file):
    lm, resume, part, _, _ = stopped
    before = {path: path.read_bytes() for path in part.iterdir()}
    pairs = read_pairs(pairs_file)
    other_pairs = replace(pairs, first=pairs.second, second=pairs.first)
    run = json.loads((part / "run.json").read_text())
    for options, named in (
        ({"biases": (2.0,)}, "routes"),
        ({"position": "none"}, "routes"),
        ({"pooling": "mean"}, "pooling"),
        ({"prompt": "raw"}, "prompt"),
        ({"batch_tokens": 99}, "batch_tokens"),
        ({"max_length": 20}, "max_length"),
    ):
        with pytest.raises(InputError, match=f"has a run with other {named}: give what"):
            resume(**options)
    with pytest.raises(InputError, match="other texts"):
        sweep(lm, other_pairs, [(1,), (0, 3)], batch_tokens=100, data="made up", part=part)
    with pytest.raises(InputError, match="other model"):
        sweep(tiny("llama"), pairs, [(1,), (0, 3)], batch_tokens=100, data="made up", part=part)
    assert {path: path.read_bytes() for path in part.iterdir()} == before
    run["versions"]["torch"] = "0"
    (part / "run.json").write_text(json.dumps(run))
    with pytest.raises(InputError, match="other versions"):
        resume()


def test_what_cannot_be_ranked_is_refused(pairs_file):
    lm = tiny("llama")
    pairs = read_pairs(pairs_file)
    same = replace(pairs, second=pairs.first)
    equal = replace(pairs, scores=np.ones(len(pairs.scores)))
    for unrankable, message in ((same, "one text twice"), (equal, "scores of the pairs are equal")):
        refused = partial(sweep, lm, unrankable, [(1,)])
        with pytest.raises(InputError, match=message):
            passes_of(lm, refused)
    lm.base.norm.weight.data.zero_()
    message = r"all cosines are the same without re-routing: .* give another `pooling`"
    with pytest.raises(InputError, match=message) as error:
        sweep(lm, pairs, [(1,)])
    assert len(str(error.value)) < 300
