"""Route: anything that names layers becomes one checked, plain value."""

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_old_files import DATA

from kvlens import InputError, LayerSet
from kvlens.layers.route import Route

LAYER_SET = LayerSet.load(DATA / "layers_explicit.json")
MODEL = LAYER_SET.model


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-9, 9)), unique_by=lambda pair: pair[0]))
def test_each_layer_keeps_its_bias_when_they_are_put_in_order(pairs):
    layers = [layer for layer, _ in pairs]
    route = Route.of(MODEL, layers, [bias for _, bias in pairs])
    assert list(route.layers) == sorted(layers)
    assert route.bias_of == dict(pairs)
    assert Route.of(MODEL, route) == route


def test_a_layer_set_its_file_and_its_indices_name_the_same_route():
    route = Route.of(MODEL, LAYER_SET)
    assert route == Route.of(MODEL, DATA / "layers_explicit.json")
    assert route == Route.of(MODEL, str(DATA / "layers_explicit.json"))
    assert route == Route.of(MODEL, LAYER_SET.layers, LAYER_SET.bias, LAYER_SET.position)
    assert Route.of(MODEL, LAYER_SET, bias=3).bias == (3.0,) * len(route.layers)


def test_no_layers_are_the_plain_model():
    assert Route.of(MODEL, ()) == Route((), (), "keep")


@pytest.mark.parametrize(
    ("layers", "options", "problem"),
    [
        ((4,), {}, "layer 4 is outside tiny-llama, which has layers 0 to 3"),
        ((-1,), {}, "layer -1 is outside"),
        ((1, 1), {}, "repeat one"),
        ((1.5,), {}, "layers are a layer set, its file or block indices"),
        (7, {}, "layers are a layer set, its file or block indices"),
        ((1, 2), {"bias": (1,)}, "1 biases for 2 layers"),
        ((1,), {"bias": "much"}, "the bias must be one number"),
        ((1,), {"bias": math.inf}, "a number or minus infinity"),
        ((1,), {"bias": math.nan}, "a number or minus infinity"),
        ((1,), {"position": "middle"}, "unknown position coding"),
        ((1,), {"bias": 1e308}, "at most 10000 in size, not 1e[+]308"),
        ((1,), {"bias": -10_001}, "at most 10000 in size"),
        ((1,), {"bias": 10**400}, "the bias must be one number"),
        ((10**400,), {}, "is outside tiny-llama"),
        (range(10**12), {}, "layer 4 is outside"),
        ([1] * 10**6, {}, "repeat one"),
    ],
)
def test_what_fits_no_model_is_refused(layers, options, problem):
    with pytest.raises(InputError, match=problem) as refused:
        Route.of(MODEL, layers, **options)
    assert len(str(refused.value)) < 300


def test_a_layer_set_of_another_model_needs_force():
    other = MODEL.model_copy(update={"revision": "sha256:other"})
    with pytest.raises(InputError, match="was made for tiny-llama"):
        Route.of(other, LAYER_SET)
    assert Route.of(other, LAYER_SET, force=True).layers == LAYER_SET.layers


def test_a_route_needs_no_torch():
    code = "import sys, kvlens.layers.route; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
