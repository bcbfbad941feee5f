"""The score of sentence pairs, against ranks by hand."""

import numpy as np
import pytest
from scipy.stats import rankdata

from kvlens import Encoder
from kvlens.evaluation.pair_score import score_pairs, score_together
from kvlens.texts.pairs import read_pairs


def test_score_is_the_rank_correlation_of_cosines(lm, pairs_file):
    encoder = Encoder(lm, "mean")
    pairs = read_pairs(pairs_file)
    score = score_pairs(encoder, pairs)
    a = encoder.encode(pairs.first)
    b = encoder.encode(pairs.second)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    expected = np.corrcoef(rankdata(cosines), rankdata(pairs.scores))[0, 1]
    assert score.spearman == pytest.approx(100 * expected, abs=1e-3)
    assert score.low < score.spearman < score.high
    assert score.n == 40
    assert score_pairs(encoder, pairs) == score


def test_those_that_share_a_pass_score_as_alone(lm, pairs_file):
    encoders = [Encoder(lm, name) for name in ("mean", "last_token", "value_aggregation")]
    pairs = read_pairs(pairs_file)
    alone = [score_pairs(encoder, pairs) for encoder in encoders]
    passes = []
    handle = lm.attention(0).register_forward_hook(lambda *ignored: passes.append(1))
    score_pairs(encoders[0], pairs)
    n_passes = len(passes)
    assert score_together(encoders, pairs) == alone
    handle.remove()
    assert len(passes) == 2 * n_passes
