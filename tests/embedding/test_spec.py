"""Specifications: read, shown, written again; and the encoder that each of them means."""

import pytest
from embedding_cases import layer_set

from kvlens.embedding.encoder import Encoder
from kvlens.embedding.spec import NO_REROUTING, REFERENCE, MethodSpec, parse_specs
from kvlens.layers.route import Route
from kvlens.methods.registry import self_contained
from kvlens.store.errors import InputError
from kvlens.texts.limits import Limits
from kvlens.texts.prompts import PROMPTS


@pytest.mark.parametrize(
    ("text", "method", "values", "label"),
    [
        ("mean", "mean", {}, "mean"),
        (NO_REROUTING, "kv_embedding", {"layers": ()}, "kv_embedding (no re-routing)"),
        (
            "kv_embedding:layers=7-10:bias=3",
            "kv_embedding",
            {"layers": (7, 8, 9, 10), "bias": 3},
            "kv_embedding (layers 7-10, bias 3)",
        ),
        (
            "kv_embedding:layers=7+9-10:position=origin",
            "kv_embedding",
            {"layers": (7, 9, 10), "position": "origin"},
            "kv_embedding (layers 7+9-10, position origin)",
        ),
        (
            "mean:document=kv-document",
            "mean",
            {"document": PROMPTS["kv-document"]},
            "mean (document kv-document)",
        ),
        (
            "aligned_wva:depth=[0.25, 0.75]",
            "aligned_wva",
            {"depth": [0.25, 0.75]},
            "aligned_wva (depth [0.25, 0.75])",
        ),
    ],
)
def test_a_specification_is_read_shown_and_written(text, method, values, label):
    spec = MethodSpec.parse(f" {text} ")
    assert spec.method == method
    assert {setting.name: setting.value for setting in spec.settings} == values
    assert (spec.label, spec.method_label, spec.text) == (label, label, text)
    whitened = spec.with_post("whiten")
    assert whitened.label == f"{label} + whiten"
    assert (whitened.method_label, whitened.text) == (label, text)
    assert MethodSpec.parse(spec.text) == spec != whitened


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mean:x", "cannot read 'mean:x': settings are written as in kv_embedding:layers=none"),
        ("kv_embedding:layers=x", "layers=x: give none, or layers such as 7-10"),
        ("kv_embedding:layers=2-1", "layers=2-1: give none"),
        ("mean:document=nope", "unknown prompt 'nope'"),
    ],
)
def test_what_is_no_specification_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        MethodSpec.parse(text)


def test_all_is_every_method_and_no_rerouting_each_once():
    names = [spec.text for spec in parse_specs(["mean", "all", REFERENCE])]
    assert sorted(names) == sorted([*self_contained(), NO_REROUTING])
    assert names[0] == "mean"


def test_layers_of_the_specification_go_before_those_of_the_layer_set(lm):
    chosen = layer_set(lm, (0, 3), bias=2.0, position="origin", pooling="last")
    taken = MethodSpec.parse(REFERENCE).encoder(lm, chosen).method
    assert (taken.layers, taken.bias) == ((0, 3), 2.0)
    typed = MethodSpec.parse("kv_embedding:layers=1-2").encoder(lm, chosen).method
    assert typed == Encoder(lm, layers=(1, 2), bias=2.0, position="origin", pooling="last").method


def test_no_rerouting_after_a_layer_set_with_a_bias_per_layer(lm):
    chosen = layer_set(lm, (0, 3), bias=(2.0, -1.0), pooling="last")
    plain = MethodSpec.parse(NO_REROUTING).encoder(lm, chosen).method
    assert (plain.layers, plain.bias, plain.pooling) == ((), 1.0, "last")
    with pytest.raises(InputError, match="2 biases for 1 layers"):
        MethodSpec.parse("kv_embedding:layers=1").encoder(lm, chosen)


def test_layers_go_to_methods_that_take_layers(lm):
    """A layer set for all methods of a table: the others do not look at it."""
    elsewhere = MethodSpec.parse("mean").encoder(lm, "no-such-file.json")
    assert elsewhere.signature == Encoder(lm, "mean").signature
    with pytest.raises(InputError, match=r"no-such-file\.json"):
        MethodSpec.parse(REFERENCE).encoder(lm, "no-such-file.json")
    with pytest.raises(InputError, match="unknown method 'nope'"):
        MethodSpec.parse("nope").encoder(lm)


def test_limits_reach_the_encoder(lm):
    limits = Limits(max_length=40, strict=True, batch_tokens=64)
    encoder = MethodSpec.parse("mean").encoder(lm, limits=limits)
    assert (encoder.max_length, encoder.strict, encoder.batch_tokens) == (40, True, 64)


def test_a_route_is_recorded_as_block_indices_are(lm):
    """One bias for all layers is one number, so that the signature is that of today's files."""
    by_hand = Encoder(lm, layers=(1, 2), bias=3.0, position="none")
    route = Route.of(lm.info, (2, 1), 3.0, "none")
    assert Encoder(lm, layers=route).signature == by_hand.signature
    each = Route.of(lm.info, (1, 2), (3.0, 1.0))
    assert Encoder(lm, layers=each).method.bias == (3.0, 1.0)
    assert Encoder(lm, layers=Route.of(lm.info, ())).method == Encoder(lm, layers=()).method
