"""Studies of made-up sweeps whose good windows are known."""

import numpy as np
import pytest
from profile_cases import make_profile
from scipy.stats import spearmanr

from kvlens import InputError
from kvlens.evaluation.significance import draws
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.regret import LayerStudy, choices, study
from kvlens.studies.windows import Window
from kvlens.texts.prompts import DEFAULT_DOCUMENT

N = 300


def made_up(quality, noise=1.0, seed=0, width=1):
    """A sweep whose windows have cosines with the given true correlation with the human scores."""
    rng = np.random.default_rng(seed)
    human = rng.standard_normal(N)

    def window(first, q):
        cosines = q * human + np.sqrt(1 - q**2) * noise * rng.standard_normal(N)
        value = 100 * spearmanr(cosines, human).statistic
        layers = tuple(range(first, first + width))
        return Window(
            first=first,
            width=width,
            layers=layers,
            bias=1.0,
            spearman=value,
            low=value,
            high=value,
            cosines=tuple(cosines.tolist()),
        )

    plain, *rerouted = [window(i - 1, q) for i, q in enumerate([0.3, *quality])]
    model = make_profile([10.0] * (len(quality) + width - 1)).model
    return Sweep(
        model=model,
        prompt=DEFAULT_DOCUMENT,
        pooling="hybrid",
        position="keep",
        data="made up",
        n_pairs=N,
        plain=plain.spearman,
        plain_low=0,
        plain_high=1,
        plain_cosines=plain.cosines,
        human=tuple(human.tolist()),
        windows=tuple(rerouted),
        versions={},
        command="",
    )


def test_study_of_a_rule_that_is_right_and_one_that_is_wrong(tmp_path):
    quality = np.linspace(0.2, 0.9, 10)
    swept = made_up(quality)
    right = make_profile(20 - quality * 10, 0.01)
    wrong = make_profile(quality * 10 + 5, 0.01, points="mean")
    judged = study(swept, [right, wrong], others=[("summary", (4,)), ("explicit", (2, 3))])
    by_rule = {(outcome.rule, outcome.points): outcome for outcome in judged.outcomes}
    assert by_rule["best", None].layers == by_rule["lowest-k", "last"].layers == (9,)
    assert by_rule["paper", "mean"].layers == (2,), "the lowest past the first 20 %"
    best = by_rule["lowest-k", "last"]
    bad = by_rule["lowest-k", "mean"]
    assert best.regret.value == best.regret.high == best.split_regret.value == 0
    missed = swept.windows[9].spearman - swept.windows[4].spearman
    assert by_rule["summary", None].regret.value == pytest.approx(missed)
    assert ("explicit", None) not in by_rule, "no window of the sweep has its width"
    human = np.array(swept.human)
    best_cosines = np.array(swept.windows[9].cosines)
    bad_cosines = np.array(swept.windows[2].cosines)

    def difference(rows):
        best_score = spearmanr(best_cosines[rows], human[rows]).statistic
        bad_score = spearmanr(bad_cosines[rows], human[rows]).statistic
        return 100 * (best_score - bad_score)

    everything = np.arange(N)
    assert bad.regret.value == pytest.approx(difference(everything))
    assert bad.split_regret.value == pytest.approx(difference(everything), abs=1)
    resampled = [difference(np.repeat(everything, count)) for count in draws(N).astype(int)]
    interval = (bad.regret.low, bad.regret.high)
    assert interval == pytest.approx(np.percentile(resampled, (2.5, 97.5)))
    assert bad.gain.value == pytest.approx(bad.spearman - swept.plain)
    rho = {correlation.points: correlation.rho for correlation in judged.correlations}
    assert rho["last"].value > 0.9
    assert rho["mean"].value < -0.9
    assert rho["last"].low <= rho["last"].value <= rho["last"].high
    assert LayerStudy.load(judged.save(tmp_path / "study.json")) == judged
    assert "lowest-k (hidden, mean), width 1, bias 1" in str(judged)


@pytest.mark.slow
def test_split_regret_is_free_of_the_winners_curse():
    """Windows that are equally good in truth: the best of one draw only seems better."""
    curse = []
    split = []
    for seed in range(6):
        judged = study(made_up([0.5] * 12, seed=seed), [])
        (average,) = [outcome for outcome in judged.outcomes if outcome.rule == "average"]
        curse.append(average.regret.value)
        split.append(average.split_regret.value)
    assert np.mean(curse) > 5
    assert abs(np.mean(split)) < 2


def test_study_refuses_what_does_not_fit():
    swept = made_up([0.5] * 6, width=2)
    other = make_profile([10.0] * 7, name="other")
    other = other.model_copy(update={"model": other.model.model_copy(update={"revision": "x"})})
    with pytest.raises(InputError, match="sweep is of test-model, a profile of other"):
        study(swept, [other])
    same = make_profile([10.0] * 7)
    with pytest.raises(InputError, match="two profiles of hidden, last"):
        study(swept, [same, same])
    apart = make_profile([12, 12, 5, 12, 12, 12, 5])
    assert choices([apart], 2)["paper", "hidden", "last"] == (2, 6)
    with pytest.raises(InputError, match="layers 2, 6 with bias 1 was not measured"):
        study(swept, [apart])


def test_a_sweep_that_was_saved_without_its_cosines_cannot_be_studied():
    swept = made_up(np.linspace(0.2, 0.9, 10))
    windows = tuple(window.model_copy(update={"cosines": ()}) for window in swept.windows)
    small = {"windows": windows, "plain_cosines": (), "human": ()}
    with pytest.raises(InputError, match="without its cosines: sweep again"):
        study(swept.model_copy(update=small), [make_profile(np.arange(10, 0, -1.0))])
