import numpy as np
import pytest
from conftest import tiny

import kvlens
from kvlens.analysis.attention import attention_patterns, attention_shift
from kvlens.plots.attention_html import beta_html, patterns_html


def test_interactive_pictures_hold_the_same_numbers_and_escape_tokens():
    lm = tiny("llama")
    shift, patterns = (
        attention_shift(lm, ["one text", "<b>two</b> texts"], (0, 3)),
        attention_patterns(lm, "a<b>&", (0, 3)),
    )
    (image,) = beta_html(shift).data
    np.testing.assert_array_equal(image.z, shift.arrays["beta.local.mean"].mean(1))
    top = shift.arrays["beta.local.mean"][1, :, 0]
    assert f"most in head {top.argmax()}: {top.max():.3f}" in image.text[1][0]
    before, after = patterns_html(patterns, 3, head=1).data
    n = len(patterns.tokens)
    for shown, kind, column in ((before, "before", 0), (after, "after", 1)):
        weights = patterns.arrays[kind][1, 1]
        assert shown.z.shape == (n, n + column)
        np.testing.assert_allclose(np.nan_to_num(shown.z) ** 2, weights, atol=1e-6)
        assert np.isnan(shown.z).sum() == n * (n - 1) / 2  # the future
    assert patterns_html(patterns, 0).layout.xaxis2.ticktext[0] == "prefix"
    assert "&lt;" in patterns_html(patterns, 0).layout.xaxis.ticktext
    with pytest.raises(kvlens.InputError, match="no pattern of layer 1"):
        patterns_html(patterns, 1)
