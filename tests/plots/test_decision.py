"""The picture of a decision shows its numbers, inside the figure."""

import pytest
from zoo import tiny

import kvlens
from kvlens import Texts
from kvlens.plots.decision import plot_decision


@pytest.fixture(scope="module")
def decided():
    texts = Texts(tuple(f"text {i} of {i} and {i % 7} words" for i in range(60)), "here")
    return kvlens.choose(tiny("llama"), texts, biases=(1.0,), posts=(), finalists=6)


def test_a_row_a_way_and_the_proof(decided):
    ax = plot_decision(decided)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert len(labels) == len(decided.shown) + 1
    assert all(
        row.words in " ".join(label.split())
        for row, label in zip(decided.shown, labels, strict=False)
    )
    drawn = sorted(float(x) for container in ax.containers for x in container[0].get_xdata())
    gains = [row.gain.value for row in decided.shown]
    assert drawn == pytest.approx(sorted([*gains, decided.proof.margin.value]))


def test_the_legend_and_the_labels_are_inside(decided):
    ax = plot_decision(decided)
    figure = ax.figure
    figure.draw_without_rendering()
    inside = figure.bbox
    for artist in (ax.get_legend(), *ax.get_yticklabels()):
        box = artist.get_window_extent()
        assert box.x0 >= inside.x0
        assert box.x1 <= inside.x1


def test_a_notebook_shows_it(decided):
    page = decided._repr_html_()
    assert decided.chosen.method in page
    assert "data:image/svg+xml" in page
