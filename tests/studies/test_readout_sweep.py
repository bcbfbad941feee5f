"""Readout sweeps against encoders that are read after one block each."""

import numpy as np
import pytest

from kvlens import Encoder, InputError, ReadoutSweep, readout_sweep
from kvlens.evaluation.pair_score import score_pairs
from kvlens.texts.pairs import Pairs, read_pairs


@pytest.mark.parametrize(
    ("method", "layers", "settings"),
    [
        ("mean", None, {}),
        ("kv_embedding", (1, 2), {"pooling": "last"}),
        ("token_prepending", None, {}),
    ],
)
def test_each_block_is_an_encoder_of_its_own(zoo, pairs_file, tmp_path, method, layers, settings):
    lm = zoo("qwen3")
    pairs = read_pairs(pairs_file)
    spec = ":".join([method, *(f"{name}={value}" for name, value in settings.items())])
    swept = readout_sweep(lm, pairs, spec, layers, data="made up", batch_tokens=4096)
    assert [each.block for each in swept.curve()] == [0, 1, 2, 3]
    for each in swept.blocks:
        read = {"readout": each.block, "final_norm": each.final_norm}
        expected = score_pairs(Encoder(lm, method, layers, **settings, **read), pairs)
        values = (each.spearman, each.low, each.high)
        truth = (expected.spearman, expected.low, expected.high)
        assert values == pytest.approx(truth, abs=1e-3)
        assert each.difference == pytest.approx(each.spearman - swept.last.spearman)
    assert (swept.last.block, swept.last.final_norm, swept.last.difference) == (3, True, 0)
    assert swept.best.spearman == max(each.spearman for each in swept.blocks)
    assert "readout" not in swept.settings
    assert ReadoutSweep.load(swept.save(tmp_path / "readout.json")) == swept


def test_one_pass_a_batch(zoo, pairs_file):
    lm = zoo("qwen3")
    passes = []
    handle = lm.attention(0).register_forward_hook(lambda *ignored: passes.append(1))
    readout_sweep(lm, read_pairs(pairs_file), batch_tokens=10**6)
    handle.remove()
    # All texts are of similar length, so there are few batches, and not one a block.
    assert len(passes) < 8


def test_what_cannot_be_swept_is_refused(zoo, pairs_file):
    lm = zoo("qwen3")
    pairs = read_pairs(pairs_file)
    with pytest.raises(InputError, match="aligned_wva has no readout"):
        readout_sweep(lm, pairs, "aligned_wva")
    equal = Pairs(pairs.first, pairs.second, np.ones(len(pairs.scores)))
    with pytest.raises(InputError, match="all scores of the pairs are equal"):
        readout_sweep(lm, equal)
    same = Pairs(pairs.first, pairs.first, pairs.scores)
    with pytest.raises(InputError, match="each pair is one text twice"):
        readout_sweep(lm, same)
