"""The score of sentence pairs, against ranks by hand."""

import numpy as np
import pytest
from scipy.stats import rankdata

from kvlens import Encoder
from kvlens.evaluation.pair_score import score_pairs
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
