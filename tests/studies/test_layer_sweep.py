"""Sweeps against the encoder and its score, whole and continued."""

import pytest
from zoo import tiny

from kvlens import Encoder, InputError
from kvlens.evaluation.pair_score import score_pairs
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
        ([(1,)], {"biases": [float("inf")]}, "the bias must be"),
        ([(1,)], {"biases": [-float("inf")]}, "a sweep needs finite biases"),
    ):
        with pytest.raises(InputError, match=message):
            sweep(lm, pairs, sets, **options)
