"""Control: what is taken, what is refused, and what it says of heads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo import tiny

from kvlens import InputError, Route, calibration, record
from kvlens.layers.control import PAPER, Control

TEXTS = ["a", "b b", "c c c"]


@pytest.fixture(scope="module")
def lm():
    return tiny("llama")


@pytest.fixture(scope="module")
def others(lm):
    return calibration(record(lm, TEXTS, keep=("k_pre", "v")))


def test_the_paper_is_the_default(lm):
    route = Route.of(lm.info, [1, 2])
    assert route.control == PAPER
    assert route.control.changes == {}
    assert route.calibration is None


def test_every_form_of_an_option(lm, others):
    route = Route.of(
        lm.info,
        [2, 1],
        heads=[3, 0, 3],
        queries="shielded",
        source=-2,
        key={"1": "zero", 2: ["own", "mean"]},
        value="other",
        seed=4,
        calibration=others,
    )
    control = route.control
    assert control.heads == {1: (0, 3), 2: (0, 3)}
    assert (control.queries, control.source, control.seed) == ("shielded", -2, 4)
    assert control.carried("key", 1, 2) == ("zero", "zero")
    assert control.carried("key", 2, 2) == ("own", "mean")
    assert control.carried("value", 1, 2) == ("other", "other")
    assert control.calibration == others.sha256
    assert route.calibration is others


def test_an_option_goes_before_that_of_a_route(lm):
    route = Route.of(lm.info, [1], queries="text", source="mean")
    again = Route.of(lm.info, route, queries="all")
    assert again.control == Control(source="mean")
    assert Route.of(lm.info, route) == route


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": "0"}, "`heads` is '0' (str), not a list of query heads"),
        ({"heads": [-1]}, "`heads` is -1; it must be at least 0"),
        ({"heads": {3: [0]}}, "`heads` names layer 3, which is not re-routed"),
        ({"heads": {"x": [0]}}, "`heads` is {'x': [0]}: its keys have to be block indices"),
        ({"queries": "none"}, "`queries` is 'none'; it must be one of all, text, prompt, shielded"),
        ({"source": "first"}, "`source` is 'first'; it must be one of final, text, mean, probe"),
        ({"source": 1.5}, "`source` is 1.5 (float), not the index of a token, or one of final"),
        ({"key": "none"}, "`key` is 'none'; it must be one of own, zero, mean, other"),
        ({"value": {1: ["own", "none"]}}, "`value` is 'none'; it must be one of own, zero, mean"),
        ({"seed": -1}, "`seed` is -1; it must be at least 0"),
        ({"columns": 0, "source": "probe"}, "`columns` is 0; it must be"),
        ({"columns": 65, "source": "probe"}, "`columns` is 65; it must be"),
        ({"columns": 2}, "`columns` are for source 'probe': any other source is one column"),
        ({"value": "mean"}, "need `calibration`: a trace with k_pre and v, or its file"),
        ({"value": "mean", "calibration": 3}, "`calibration` is 3 (int), not what"),
    ],
)
def test_what_is_no_option_is_refused_in_one_line(lm, options, message):
    with pytest.raises(InputError) as refusal:
        Route.of(lm.info, [1, 2], **options)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_another_calibration_than_that_of_the_route_is_refused(lm, others):
    route = Route.of(lm.info, [1], value="mean", calibration=others)
    another = calibration(record(lm, TEXTS[:2], keep=("k_pre", "v")))
    with pytest.raises(InputError, match=f"sha256 {others.sha256[:16]}: give that file"):
        Route.of(lm.info, route, calibration=another)
    # What carries nothing of other texts needs none.
    assert Route.of(lm.info, route, value="own", calibration=another).calibration is None


@given(
    names=st.lists(st.sampled_from(["own", "zero", "mean", "other"]), min_size=1, max_size=4),
    layer=st.integers(0, 3),
)
def test_heads_that_are_not_named_carry_their_own(names, layer):
    control = Control(key={layer: tuple(names)}, calibration="x")
    assert control.carried("key", layer, len(names)) == tuple(names)
    assert control.carried("key", layer + 1, 3) == ("own",) * 3
    assert control.carried("value", layer, 3) == ("own",) * 3
    assert control.needs_calibration == bool({"mean", "other"} & set(names))


def test_columns_are_recorded_where_there_are_several(lm):
    several = Route.of(lm.info, [1], source="probe", columns=3)
    assert several.control.changes == {"source": "probe", "columns": 3}
    assert "columns" not in PAPER.model_dump(mode="json")
    assert "columns" not in Route.of(lm.info, several, columns=1).control.model_dump(mode="json")
    assert Control(**several.control.model_dump()) == several.control
