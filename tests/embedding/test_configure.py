"""Configure: layers and settings from a set, a file or by hand; what does not fit together."""

import numpy as np
import pytest
from embedding_cases import LAYERS, by_hand, layer_set, other
from zoo import TEXTS

from kvlens.embedding.encoder import Encoder
from kvlens.methods.registry import get_method
from kvlens.store.errors import InputError
from kvlens.texts.prompts import Prompt


def test_layers_from_a_set_a_file_and_a_list_agree(lm, encoder, tmp_path):
    chosen = layer_set(lm)
    chosen.save(tmp_path / "layers.json")
    expected = encoder.encode(TEXTS)
    assert np.abs(expected - Encoder(lm, layers=()).encode(TEXTS)).max() > 1e-3
    for layers in (
        chosen,
        tmp_path / "layers.json",
        str(tmp_path / "layers.json"),
        [1, 2],
        np.array([1, 2]),
    ):
        same = Encoder(lm, layers=layers)
        np.testing.assert_array_equal(same.encode(TEXTS), expected)
        assert same.signature == encoder.signature


def test_settings_of_the_layer_set_are_used_unless_given(lm):
    query = Prompt(name="q", prefix="Ask ", suffix="?")
    document = Prompt(name="d", prefix="Tell ", suffix=".")
    brought = {"bias": (2.0, -1.0), "position": "origin", "pooling": "last"}
    encoder = Encoder(lm, layers=layer_set(lm, **brought, query=query, document=document))
    for vector, rendered in (
        (encoder.encode_query("me"), "Ask me?"),
        (encoder.encode_document("me"), "Tell me."),
    ):
        truth = by_hand(lm, rendered, "last", bias=(2.0, -1.0), position="origin")
        np.testing.assert_allclose(vector, truth, atol=1e-5)
        assert np.abs(truth - by_hand(lm, rendered, "last")).max() > 1e-3
    plainer = Encoder(
        lm,
        layers=layer_set(lm, **brought, document=document),
        bias=0.0,
        position="keep",
        pooling="mean",
    )
    np.testing.assert_allclose(
        plainer.encode("me"), by_hand(lm, "Tell me.", "mean", bias=0.0), atol=1e-5
    )


def test_the_readout_of_the_layer_set_is_used_unless_given(lm, tmp_path):
    """Four layers: a share of 0.75 is block 2."""
    layer_set(lm, readout=0.75, final_norm=False).save(tmp_path / "layers.json")
    expected = Encoder(lm, layers=LAYERS, readout=2, final_norm=False)
    encoder = Encoder(lm, layers=tmp_path / "layers.json")
    np.testing.assert_array_equal(encoder.encode(TEXTS), expected.encode(TEXTS))
    assert encoder.signature == expected.signature
    plain = Encoder(lm, layers=LAYERS)
    assert np.abs(plain.encode(TEXTS) - expected.encode(TEXTS)).max() > 1e-3
    given = Encoder(lm, layers=tmp_path / "layers.json", readout=-1, final_norm=True)
    assert given.signature == plain.signature
    last = Encoder(lm, layers=layer_set(lm, readout=1.0))
    assert last.signature == plain.signature


@pytest.mark.parametrize("facts", [{"revision": "sha256:other"}, {"tokenizer": "other"}])
def test_layer_set_of_another_model_is_refused(lm, facts, tmp_path):
    chosen = layer_set(other(lm, name="their-model", **facts))
    chosen.save(tmp_path / "layers.json")
    for layers in (chosen, tmp_path / "layers.json"):
        with pytest.raises(
            InputError, match=r"made for their-model .* not for tiny-llama .*`force=True`"
        ) as error:
            Encoder(lm, layers=layers)
        assert "\n" not in str(error.value)
        forced = Encoder(lm, layers=layers, force=True)
        np.testing.assert_array_equal(forced.encode("a"), Encoder(lm, layers=LAYERS).encode("a"))
    # Device and dtype may differ.
    Encoder(lm, layers=layer_set(other(lm, device="cuda:0", dtype="bfloat16")))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layers": [4]}, "layer 4 is outside tiny-llama, which has layers 0 to 3"),
        ({"layers": [-1]}, "layer -1 is outside"),
        ({"layers": [1, 1]}, "repeat"),
        ({"layers": [1.5]}, "block indices"),
        ({"layers": 3}, "block indices"),
        ({}, "needs layers"),
        ({"layers": [1], "bias": [1.0, 2.0]}, "2 biases for 1 layers"),
        ({"layers": [1], "position": "middle"}, "unknown position coding 'middle'"),
        ({"layers": [1], "pooling": "max"}, "unknown pooling 'max'"),
        ({"layers": "absent.json"}, "cannot read .*absent.json"),
        ({"method": get_method("mean"), "layers": [1]}, "layers go with the name of a method"),
    ],
)
def test_what_does_not_fit_together_is_refused(lm, options, says):
    with pytest.raises(InputError, match=says) as error:
        Encoder(lm, **options)
    assert "\n" not in str(error.value)


def test_layer_set_outside_a_smaller_model_is_refused_even_by_force(lm):
    deep = layer_set(other(lm, n_layers=9, revision="deep"), layers=(2, 8))
    with pytest.raises(InputError, match="layer 8 is outside tiny-llama"):
        Encoder(lm, layers=deep, force=True)
