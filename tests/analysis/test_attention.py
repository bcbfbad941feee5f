"""Results of attention: saved, read back equal, and told from other files."""

import math

import numpy as np
import pytest
from attention_by_hand import LAYERS, PROMPT
from zoo import TEXTS

from kvlens import InputError
from kvlens.analysis.attention import AttentionPatterns, AttentionShift
from kvlens.analysis.uptake import attention_patterns, attention_shift


def test_saved_results_are_read_back_equal_and_others_refused(tmp_path, zoo):
    llama = zoo("llama")
    shift = attention_shift(llama, TEXTS, LAYERS, (-math.inf, 2), prompt=PROMPT)
    patterns = attention_patterns(llama, "é <script>", LAYERS, prompt=PROMPT)
    for result in (shift, patterns):
        again = type(result).load(result.save(tmp_path / result.format))
        assert {**vars(again), "arrays": None} == {**vars(result), "arrays": None}
        assert again.arrays.keys() == result.arrays.keys()
        for name, values in result.arrays.items():
            np.testing.assert_array_equal(again.arrays[name], values)
    with pytest.raises(
        InputError,
        match=r"is not an attention shift: it lacks \"format\": \"kvlens\.attention-shift\"",
    ):
        AttentionShift.load(tmp_path / AttentionPatterns.format)
    (tmp_path / "no").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no is not a valid set of attention patterns"):
        AttentionPatterns.load(tmp_path / "no")
    with pytest.raises(InputError, match=r"cannot read the set of attention patterns .*absent"):
        AttentionPatterns.load(tmp_path / "absent")
