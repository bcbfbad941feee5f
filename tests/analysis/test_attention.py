"""Results of attention: saved, read back equal, and told from other files."""

import math
from dataclasses import replace

import numpy as np
import pytest
from attention_by_hand import LAYERS, PROMPT
from test_old_files import DATA
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


SHIFT = AttentionShift.load(DATA / "shift.safetensors")
PATTERNS = AttentionPatterns.load(DATA / "patterns.safetensors")
MEAN = "beta.local.mean"


@pytest.mark.parametrize(
    ("result", "change", "problem"),
    [
        (SHIFT, {"ends.local": SHIFT.arrays["ends.local"][1:]}, r"ends\.local is \[3, 2, 2, 4\]"),
        (SHIFT, {MEAN: SHIFT.arrays[MEAN][:, :3]}, r"not \[n_rerouted, n_heads, bins\]"),
        (SHIFT, {MEAN: SHIFT.arrays[MEAN] * math.inf}, r"beta\.local\.mean has infinity"),
        (SHIFT, {MEAN: SHIFT.arrays[MEAN].astype(np.float16)}, "float16, not float32 or float64"),
        (SHIFT, {"beta.local.n": np.zeros(4)}, r"beta\.local\.n is float64, not int64"),
        (SHIFT, {"gamma": np.zeros(4)}, "unknown array 'gamma'"),
        (PATTERNS, {"beta": PATTERNS.arrays["beta"][..., 1:]}, r"not \[n_rerouted, n_heads, T\]"),
        (PATTERNS, {"after": PATTERNS.arrays["before"]}, r"not \[n_rerouted, n_heads, T, 1\+T\]"),
        (PATTERNS, {"before": PATTERNS.arrays["before"] * np.nan}, "before has NaN"),
    ],
)
def test_arrays_that_are_not_of_this_result_are_refused(result, change, problem):
    with np.errstate(invalid="ignore"), pytest.raises(InputError, match=problem):
        replace(result, arrays=result.arrays | change)


@pytest.mark.parametrize(
    ("result", "change", "problem"),
    [
        (SHIFT, {"layers": (1, 4)}, "layer 4 is outside the model"),
        (SHIFT, {"layers": ()}, "no layers"),
        (SHIFT, {"bias": (1.0,)}, "1 biases for 2 layers"),
        (SHIFT, {"bias": (1.0, 1e308)}, "at most 10000 in size"),
        (SHIFT, {"position": "left"}, "unknown position coding 'left'"),
        (SHIFT, {"span": "all"}, "unknown span 'all'"),
        (SHIFT, {"n_tokens": (1, 2)}, "lengths of 2"),
        (SHIFT, {"arrays": {}}, r"the array ends\.local is missing"),
        (PATTERNS, {"text_span": (3, 2)}, "tokens 3 to 2"),
        (PATTERNS, {"text_span": (0, 7)}, "not in 0 to 6"),
    ],
)
def test_facts_that_do_not_go_together_are_refused(result, change, problem):
    with pytest.raises(InputError, match=problem):
        replace(result, **change)


def test_the_ends_of_texts_without_tokens_are_unknown_without_a_warning():
    nothing = {"ends.local": SHIFT.arrays["ends.local"] * np.nan}
    ends = replace(SHIFT, arrays=SHIFT.arrays | nothing).ends()
    assert ends.n_texts == 0
    assert np.isnan(ends.mean).all()
