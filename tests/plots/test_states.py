from pathlib import Path

import pytest
from matplotlib.figure import Figure

from kvlens import KVLens
from kvlens.plots.states import plot_ranks, plot_similarities, plot_spectra

DATA = Path(__file__).parents[1] / "data" / "v0.1.0"
KINDS = ("k_pre", "k", "v")


@pytest.fixture(scope="module")
def lens():
    return KVLens.load(DATA / "kv_lens.json")


def test_ranks_are_those_of_all_heads_together(lens):
    ranks, directions = plot_ranks(lens)
    for line, kind in zip(ranks.lines, KINDS, strict=False):
        spectra = lens.spectra_of(kind)
        assert line.get_ydata().tolist() == [spectrum.effective_rank for spectrum in spectra]
        assert line.get_xdata().tolist() == [spectrum.layer for spectrum in spectra]
    shares = [spectrum.directions[0] for spectrum in lens.spectra_of("v")]
    assert directions.lines[2].get_ydata().tolist() == shares


def test_every_layer_has_its_spectrum(lens):
    for ax, kind in zip(plot_spectra(lens), KINDS, strict=True):
        for line, spectrum in zip(ax.lines, lens.spectra_of(kind), strict=False):
            assert tuple(line.get_ydata()) == spectrum.energy


def test_similarities_stand_beside_their_controls(lens):
    cka, r2 = plot_similarities(lens)
    drawn = {line.get_label(): line.get_ydata() for line in (*cka.lines, *r2.lines)}
    assert list(drawn["hidden state"]) == [s.value for s in lens.similarities_of("hidden")]
    probed = lens.similarities_of("v", "r2")
    assert list(drawn["V"]) == [similarity.value for similarity in probed]
    chance = [line.get_ydata() for line in r2.lines if line.get_label() != "V"]
    assert list(chance[0]) == [similarity.control for similarity in probed]


def test_the_users_axes_may_be_an_array_and_keep_their_words(lens):
    figure = Figure()
    axes = figure.subplots(1, 2)
    assert plot_ranks(lens, axes) == list(axes)
    assert figure.get_supxlabel() == ""
