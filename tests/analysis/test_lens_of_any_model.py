"""Lens, ID and sweep of models whose layers differ: some without keys, or with other sizes."""

import numpy as np
import pytest
from families import family

import kvlens
from kvlens.analysis.geometry import effective_rank
from kvlens.plots.states import plot_ranks, plot_similarities, plot_spectra
from kvlens.store.errors import InputError
from kvlens.studies.windows import windows
from kvlens.texts.pairs import Pairs

N = 60
TEXTS = [f"{7919 * i % 1000:03d} about {chr(33 + i)}{chr(40 + 3 * i % 70)}" for i in range(N)]
SIZES = {
    "lfm2": {1: (2, 8), 3: (2, 8)},
    "gemma4_text": {0: (2, 8), 1: (2, 8), 2: (2, 16), 3: (2, 8), 4: (2, 16)},
    "mimo_v2_flash": {0: (2, 12), 1: (4, 12), 2: (2, 12), 3: (4, 12)},
}
"""Family -> heads and width of the keys of its layers."""


@pytest.fixture(scope="module", params=SIZES)
def case(request):
    """The name, and a trace."""
    keep = ("hidden", "k", "k_pre", "v")
    return request.param, kvlens.record(family(request.param), TEXTS, "{text}", keep=keep)


def test_the_lens_looks_into_the_layers_that_have_keys(case):
    name, trace = case
    sizes = SIZES[name]
    embeddings = np.random.default_rng(0).normal(size=(N, 20))
    lens = kvlens.kv_lens(trace, embeddings)
    assert [each.layer for each in lens.spectra_of("k")] == list(sizes)
    assert [each.layer for each in lens.similarities_of("v", "r2")] == list(sizes)
    assert [each.layer for each in lens.similarities_of("hidden")] == list(trace.layers)
    for layer, (heads, width) in sizes.items():
        keys = trace.states(layer, "k").astype(float)
        assert keys.shape == (N, heads * width)
        of_heads = [each for each in lens.spectra if (each.kind, each.layer) == ("k", layer)][1:]
        assert [(each.head, each.d) for each in of_heads] == [(h, width) for h in range(heads)]
        last = keys[:, -width:]
        assert of_heads[-1].effective_rank == pytest.approx(effective_rank(last))
    for draw in (plot_ranks, plot_spectra, plot_similarities):
        draw(lens)


def test_a_head_outside_its_layer_does_not_load(case):
    _, trace = case
    lens = kvlens.kv_lens(trace)
    *others, last = lens.spectra
    wrong = last.model_copy(update={"head": last.head + 1})
    fields = dict(lens) | {"spectra": (*others, wrong)}
    with pytest.raises(ValueError, match=f"layer {last.layer} has no KV head {wrong.head}"):
        kvlens.analysis.lens.KVLens(**fields)


@pytest.mark.parametrize("states", ["k", "v", "kv"])
def test_a_profile_of_keys_lists_the_layers_that_have_them(case, states):
    name, trace = case
    seen = []
    profile = kvlens.estimate(trace, states, progress=lambda *done: seen.append(done))
    assert profile.layers == tuple(SIZES[name])
    assert seen[-1] == (len(SIZES[name]), len(SIZES[name]))
    layer_set = kvlens.select(profile, "lowest-k", window=0.5)
    assert set(layer_set.layers) <= set(trace.model.layers_to_reroute())


def test_a_trace_says_each_kind_once(case):
    name, trace = case
    assert repr(trace).count("k_pre") == 1
    assert ("a tensor a layer" in repr(trace)) == (name != "lfm2")
    with pytest.raises(InputError, match="it holds hidden, k, k_pre, v"):
        trace.states(1, "q")


def test_some_layers_of_a_model_whose_layers_differ(tmp_path):
    lm = family("gemma4_text")
    trace = kvlens.record(lm, TEXTS[:3], "{text}", keep=("k", "v"), layers=[2, 3])
    trace.save(tmp_path / "trace.safetensors")
    again = kvlens.open(tmp_path / "trace.safetensors")
    assert again.states(2, "kv").shape == (3, 64)
    assert again.states(3, "kv").shape == (3, 32)
    assert again.heads(3, "v") == 2


def test_layers_without_keys_are_said():
    lm = family("lfm2")
    trace = kvlens.record(lm, TEXTS, "{text}", keep=("hidden", "v"), layers=[0, 2])
    with pytest.raises(InputError, match="no recorded layer has keys and values"):
        kvlens.kv_lens(trace)
    with pytest.raises(InputError, match="no recorded layer has keys and values"):
        kvlens.estimate(trace, "v")


def test_a_sweep_goes_over_the_layers_that_can_be_rerouted():
    lm = family("lfm2")
    pairs = Pairs(tuple(TEXTS[:6]), tuple(TEXTS[6:12]), np.arange(6.0))
    able = lm.info.layers_to_reroute()
    swept = kvlens.sweep(lm, pairs, windows(able, (1, 2)))
    assert [window.layers for window in swept.windows] == [(1,), (3,), (1, 3)]
    assert swept.sets == ()
    with pytest.raises(InputError, match="layer 2 of tiny-lfm2 cannot be re-routed"):
        kvlens.sweep(lm, pairs, [(2,)])
