"""Pictures of effects: numbers are those of the effects, each part has its place."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from zoo import tiny

import kvlens
from kvlens import InputError
from kvlens.plots.effects import head_maps
from kvlens.plots.saving import save_effects_plot
from kvlens.texts.pairs import Pairs

TEXTS = [f"text {number} of {'many ' * (number % 3)}words" for number in range(12)]


@pytest.fixture(scope="module")
def lm():
    return tiny("llama")


@pytest.fixture(scope="module")
def others(lm):
    return kvlens.calibration(kvlens.record(lm, ["a", "b c", "d e f"], keep=("k_pre", "v")))


@pytest.fixture(scope="module")
def of_pairs(lm, others):
    human = np.array([0, 3, 1, 5, 2, 4], dtype=float)
    pairs = Pairs(tuple(TEXTS[:6]), tuple(TEXTS[6:]), human)
    route = kvlens.Route.of(lm.info, [1, 2], bias=2.0)
    return kvlens.effects(lm, pairs, route, calibration=others)


@pytest.fixture(scope="module")
def of_texts(lm):
    route = kvlens.Route.of(lm.info, [1, 2], heads={1: [0, 2]})
    return kvlens.effects(lm, TEXTS[:3], route)


def bars(ax):
    """Centres of all points with bars, by their place: (row, value)."""
    return {
        (round(y, 2), round(x, 9))
        for container in ax.containers
        for x, y in container.lines[0].get_xydata().tolist()
    }


def test_maps_are_the_heads_with_grey_where_there_is_none(of_pairs, of_texts):
    mean, steadiness, *_ = kvlens.plot_effects(of_pairs)
    for each in of_pairs.of("head"):
        row = of_pairs.layers.index(each.layer)
        assert mean.images[0].get_array()[row, each.head] == each.moved
        steady = steadiness.images[0].get_array()[row, each.head]
        assert steady == pytest.approx(each.moved / each.spread)
    values, _ = head_maps(of_texts)
    assert np.isnan(values[0]).tolist() == [False, True, False, True]
    assert kvlens.plot_effects(of_texts)[0].images[0].get_array().mask[0, 1]


def test_every_larger_part_has_a_row_and_every_value_a_mark(of_pairs):
    *_, moved, score = kvlens.plot_effects(of_pairs)
    larger = [each for each in of_pairs.effects if each.kind != "head"]
    assert {x for _, x in bars(moved)} == {round(each.moved, 9) for each in larger}
    assert {x for _, x in bars(score)} == {round(each.score.value, 9) for each in larger}
    names = [label.get_text() for label in moved.get_yticklabels()]
    assert names == [
        *("all layers", "layer 1", "layer 2"),
        *("for position 0", "for the text", "for the prompt"),
        *("all layers: keys", "all layers: keys, values"),
    ]
    legend = [text.get_text() for text in moved.get_legend().get_texts()]
    assert legend == ["prefix left out", "value 0", "mean of texts", "another's"]
    first, second = of_pairs.of("layer")
    assert {(1.0, round(first.moved, 9)), (2.0, round(second.moved, 9))} <= bars(moved)


def test_texts_without_scores_have_three_panels(of_texts, tmp_path):
    assert len(kvlens.plot_effects(of_texts)) == 3
    written = save_effects_plot(of_texts, tmp_path)
    assert [path.name for path in written] == ["effects.png", "effects.pdf"]
    with pytest.raises(InputError, match="`axes` are 1, these effects need 3"):
        kvlens.plot_effects(of_texts, axes=[Figure().subplots()])


def test_effects_show_themselves_in_jupyter(of_pairs):
    shown = of_pairs._repr_html_()
    assert "data:image/svg+xml" in shown
    (route,) = of_pairs.of("route")
    row = f"{route.moved:.4f} ± {route.spread:.4f}; adds {route.score.text('.1f')} to the score"
    assert row in shown
    heads = sorted(of_pairs.of("head"), key=lambda head: head.moved)
    assert f"without {heads[-1].words}<" in shown
    assert f"without {heads[0].words}<" not in shown


def test_one_text_has_no_spread(lm):
    alone = kvlens.effects(lm, TEXTS[:1], [2])
    _, steadiness, _ = kvlens.plot_effects(alone)
    assert steadiness.images[0].get_array().mask.all()
