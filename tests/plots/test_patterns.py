import numpy as np
import pytest

from kvlens import InputError, attention_patterns
from kvlens.analysis.attention import KINDS
from kvlens.plots.patterns import MOST, plot_patterns


@pytest.fixture(scope="module")
def llama(zoo):
    return zoo("llama")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["a $cat$\n", "x" * 150])
def test_patterns_are_pictured_with_their_mass(llama, text, kind):
    patterns = attention_patterns(llama, text, (0, 2), (0.5, 2.0), prompt="raw")
    left, right = plot_patterns(patterns, 2, head=1, kind=kind)
    (before,) = [np.asarray(image.get_array().data) for image in left.images]
    after, prefix = [np.asarray(image.get_array().data) for image in right.images]
    n = min(len(text), MOST)
    assert (before.shape, after.shape, prefix.shape) == ((n, n), (n, n), (n, 1))
    np.testing.assert_allclose(before.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(after.sum(1) + prefix[:, 0], 1, atol=1e-5)
    if kind == "local":
        beta = patterns.arrays["beta"][1, 1]
    else:
        beta = patterns.arrays["after"][1, 1, :, 0]
    edges = np.unique(np.linspace(0, len(text), n + 1).round().astype(int))
    parts = np.split(beta, edges[1:-1])
    np.testing.assert_allclose(prefix[:, 0], [part.mean() for part in parts], atol=1e-6)
    if len(text) < MOST:
        names = [label.get_text() for label in left.get_yticklabels()]
        assert names == ["a", "␣", "$", "c", "a", "t", "$", "↵"]
    with pytest.raises(InputError, match="no propagated pattern of layer 1"):
        plot_patterns(patterns, 1)
