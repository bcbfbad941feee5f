"""Reading sentence pairs: what is refused."""

import pytest

from kvlens import InputError
from kvlens.texts.pairs import read_pairs


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
