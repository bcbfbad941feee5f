import numpy as np
import pytest
from zoo import TEXTS

import kvlens
from kvlens import InputError
from kvlens.plots.pair_parts import plot_pair_parts

TEXT, OTHER = "a cat", TEXTS[1]


@pytest.fixture(scope="module")
def pair(zoo):
    """The same two texts, plain and re-routed."""
    lm = zoo("llama")
    encoders = [kvlens.Encoder(lm, "kv_embedding", layers=layers) for layers in ((), (1, 3))]
    return [kvlens.pair_parts(encoder, TEXT, OTHER) for encoder in encoders]


def test_maps_and_bars_add_up_to_the_cosine(pair):
    plain, _ = pair
    tokens, after, heads, blocks = plot_pair_parts(plain)
    (shares,) = [np.asarray(image.get_array()) for image in tokens.images]
    assert shares.shape == tuple(map(len, plain.tokens))
    assert shares.sum() == pytest.approx(plain.cosine, abs=1e-5)
    np.testing.assert_array_equal(after.lines[0].get_ydata(), plain.arrays["after"])
    (by_head,) = [np.asarray(image.get_array()) for image in heads.images]
    bars = sum(bar.get_height() for bar in blocks.patches)
    assert bars + plain.arrays["ends"].sum() == pytest.approx(plain.cosine, abs=1e-5)
    assert by_head.T.sum(1) == pytest.approx(plain.arrays["attention"], abs=1e-5)


def test_tokens_of_short_texts_are_named(zoo):
    parts = kvlens.pair_parts(kvlens.Encoder(zoo("llama"), "mean"), TEXT, "x $y$")
    tokens = plot_pair_parts(parts)[0]
    assert [label.get_text() for label in tokens.get_yticklabels()] == ["a", "␣", "c", "a", "t"]
    assert [label.get_text() for label in tokens.get_xticklabels()] == ["x", "␣", "$", "y", "$"]


def test_what_is_taken_off_is_named_and_re_routed_layers_are_shaded(pair):
    plain, rerouted = pair
    tokens, after, _, blocks = plot_pair_parts(rerouted, plain)
    (shares,) = [np.asarray(image.get_array()) for image in tokens.images]
    assert shares.sum() == pytest.approx(rerouted.cosine - plain.cosine, abs=1e-5)
    legend = [text.get_text() for text in after.get_legend().get_texts()]
    assert legend == ["re-routed: layers 1, 3", "not re-routed"]
    shades = [patch for patch in after.patches if patch.get_x() in (0.5, 2.5)]
    assert len(shades) == 2
    assert len(blocks.patches) == 2 * len(plain.arrays["blocks"]) + 2
    caption = tokens.figure._supxlabel.get_text().replace("\n", " ")
    assert f"{rerouted.cosine:.3f} less {plain.cosine:.3f}" in caption


def test_parts_of_other_tokens_cannot_be_taken_off(zoo, pair):
    other = kvlens.pair_parts(kvlens.Encoder(zoo("llama"), "mean"), TEXT, "x")
    with pytest.raises(InputError, match="`less` is of other tokens"):
        plot_pair_parts(pair[0], other)
    with pytest.raises(InputError, match="`axes` are 1"):
        plot_pair_parts(pair[0], axes=plot_pair_parts(pair[0])[:1])
