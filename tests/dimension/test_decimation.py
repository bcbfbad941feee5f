"""Decimation: the ID of ever fewer texts, each part as if it were alone; the order of layers."""

import json

import numpy as np
import pytest
from manifolds import trace_of_balls
from scipy.stats import spearmanr

from kvlens.dimension import decimation
from kvlens.dimension.decimation import Decimation
from kvlens.dimension.estimation import estimate, estimate_points
from kvlens.dimension.profile import IDProfile
from kvlens.store.errors import InputError


@pytest.fixture(scope="module")
def trace():
    return trace_of_balls(n=410, n_layers=4)


@pytest.fixture(scope="module")
def profile(trace):
    return estimate(trace, draws=0)


def test_a_part_is_what_its_texts_alone_give(trace, profile):
    halves, quarters = profile.decimation
    assert (halves.n, quarters.n) == (205, 102)
    levels = Decimation(410, seed=0)._levels
    for draws, level in zip(profile.decimation, levels, strict=True):
        inside = level.inside
        assert inside.sum(axis=1).tolist() == [draws.n] * len(inside)
        assert inside.sum(axis=0).max() == 1  # no text is in two parts
        for name in ("twonn", "mle"):
            for line, part in zip(draws.values[name], inside, strict=True):
                alone = estimate_points(trace.states(3)[part])[0][name].value
                assert line[3] == pytest.approx(alone, abs=0.0006)
    assert [len(level.inside) for level in levels] == [2, 4]


def test_values_by_number_of_texts(profile):
    sizes, values = profile.decimated("mle")
    assert sizes.tolist() == [102, 205, 410]
    assert np.array_equal(values[-1], profile.values("mle"))
    halves = np.array(profile.decimation[0].values["mle"])
    assert np.allclose(values[1], halves.mean(axis=0))
    order = profile.order("mle")
    assert order.n == 205
    assert order.kept == pytest.approx(spearmanr(values[1], values[2]).statistic)
    assert order.between == pytest.approx(spearmanr(*halves).statistic)
    words = profile.order_of_layers
    assert words.startswith(
        f"Spearman between n/2 and n = {profile.order('twonn').kept:.2f} (twonn)"
    )
    assert "between two halves of 205" in words
    assert f"order of layers {words}" in " ".join(str(profile).split())


def test_few_texts_and_few_layers_have_none(monkeypatch):
    profile = estimate(trace_of_balls(n=120))
    assert profile.decimation is None
    assert profile.order("mle") is None
    assert profile.order_of_layers == ""
    assert "order of layers" not in str(profile)
    assert profile.decimated("mle")[0].tolist() == [120]
    assert "decimation" not in json.loads(profile.model_dump_json())
    monkeypatch.setattr(decimation, "FEWEST", 60)
    two = estimate(trace_of_balls(n=120, n_layers=2), draws=0)
    assert two.decimation
    assert two.order("mle") is None


def test_it_is_saved(profile, tmp_path):
    path = profile.save(tmp_path / "id.json")
    assert IDProfile.load(path) == profile
    content = json.loads(path.read_text())
    content["decimation"] = content["decimation"][::-1]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="have to become smaller"):
        IDProfile.load(path)
