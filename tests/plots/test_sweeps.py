import numpy as np
import pytest
from figure_data import HOME, MODELS, made_up_sweep, saved_layer_set

from kvlens.plots.sweeps import plot_study, plot_sweep
from kvlens.studies.regret import LayerStudy


def test_a_sweep_is_drawn_over_the_middle_of_its_windows():
    layer_set = saved_layer_set("gemma3-270m")
    sweep = made_up_sweep(layer_set)
    top, bottom = plot_sweep(sweep, layer_set)
    lines = {line.get_label(): line for line in top.lines}
    assert lines["no re-routing"].get_ydata()[0] == sweep.plain
    for width, label in ((1, "1 layer, bias 1"), (4, "4 layers, bias 1")):
        group = [w for w in sweep.windows if w.width == width]
        assert lines[label].get_xdata().tolist() == [np.mean(w.layers) for w in group]
        assert lines[label].get_ydata().tolist() == [w.spearman for w in group]
    np.testing.assert_array_equal(bottom.lines[0].get_ydata(), layer_set.profile.values("twonn"))


def intervals_by_row(bars, name_of_row):
    """Name of a row -> its value with both ends, as drawn."""
    (whiskers,) = bars.lines[2]
    drawn = {}
    for x, ((low, y), (high, _)) in zip(
        bars.lines[0].get_xdata(), whiskers.get_segments(), strict=True
    ):
        drawn[name_of_row(round(y))] = pytest.approx((x, low, high))
    return drawn


def row_name(outcome):
    if outcome.states:
        return f"{outcome.states}, {outcome.points}: {outcome.rule}"
    return {"average": "a window drawn at random"}.get(outcome.rule, outcome.rule)


@pytest.mark.parametrize("model", MODELS)
def test_a_study_is_read_back_from_the_picture(model):
    study = LayerStudy.load(HOME / "data" / f"study_{model}.json")
    left, right = plot_study(study)
    rows = [text.get_text() for text in left.get_yticklabels()]
    kinds = sorted({(o.width, o.bias) for o in study.outcomes})
    assert len(left.containers) == len(right.containers) == len(kinds) > 1
    for kind, chosen, ranked in zip(kinds, left.containers, right.containers, strict=True):
        outcomes = [o for o in study.outcomes if (o.width, o.bias) == kind and o.rule != "best"]
        regrets = {row_name(o): o.regret for o in outcomes}
        expected = {row: (i.value, i.low, i.high) for row, i in regrets.items()}
        assert expected == intervals_by_row(chosen, lambda row: rows[row])
        correlations = [c for c in study.correlations if (c.width, c.bias) == kind]
        rhos = {f"{c.states}, {c.points}": c.rho for c in correlations}
        expected = {source: (i.value, i.low, i.high) for source, i in rhos.items()}
        assert expected == intervals_by_row(ranked, lambda row: rows[row].partition(":")[0])
        width, bias = kind
        label = f"{width} layer{'s' * (width > 1)}, bias {bias:g}"
        assert chosen.get_label() == ranked.get_label() == label
