import numpy as np
import pytest
from conftest import tiny
from scipy.stats import rankdata

from kvlens import Encoder, InputError
from kvlens.evaluation.pair_score import score_pairs
from kvlens.texts.pairs import read_pairs


def test_score_is_the_rank_correlation_of_cosines(pairs_file):
    encoder = Encoder(tiny("llama"), "mean")
    pairs = read_pairs(pairs_file)
    found = score_pairs(encoder, pairs)
    a, b = encoder.encode(pairs.first), encoder.encode(pairs.second)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    expected = np.corrcoef(rankdata(cosines), rankdata(pairs.scores))[0, 1]
    assert found.spearman == pytest.approx(100 * expected, abs=1e-3)
    assert found.low < found.spearman < found.high
    assert found.n == 40
    assert score_pairs(encoder, pairs) == found


def test_bad_pairs(tmp_path, pairs_file):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n{"sentence1": "a"}\n')
    with pytest.raises(InputError, match="line 2: needs sentence1, sentence2 and score"):
        read_pairs(bad)
    for row in (
        '{"sentence1": "a", "sentence2": null, "score": 1}',
        '{"sentence1": "a", "sentence2": "b", "score": NaN}',
    ):
        bad.write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n' + row)
        with pytest.raises(InputError, match="line 2: needs sentence1, sentence2 and score"):
            read_pairs(bad)
    bad.write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n' * 12)
    with pytest.raises(InputError, match="all 12 scores are equal"):
        read_pairs(bad)
    with pytest.raises(InputError, match="has 5 pairs, at least 10"):
        read_pairs(pairs_file, 5)
    with pytest.raises(InputError, match="cannot read"):
        read_pairs(tmp_path / "absent")
