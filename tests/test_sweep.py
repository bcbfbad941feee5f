import numpy as np
import pytest
import torch
from conftest import TEXTS, tiny
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from profile_cases import make_profile
from scipy.stats import spearmanr

from kvlens import Encoder, InputError, reroute
from kvlens.evaluation.pair_score import score_pairs
from kvlens.evaluation.significance import draws, spearman
from kvlens.layers.route import Route
from kvlens.methods.base import final_hidden
from kvlens.rerouting.partial_pass import final_states
from kvlens.store.provenance import made_by
from kvlens.studies.layer_sweep import Sweep, sweep
from kvlens.studies.regret import LayerStudy, choices, study
from kvlens.studies.windows import Window, windows
from kvlens.texts.pairs import read_pairs
from kvlens.texts.prompts import DEFAULT_DOCUMENT
from kvlens.texts.tokens import pad, tokenize

SETS = [((0,), 1.0), ((0, 1, 2, 3), 0.0), ((1, 2), 3.0), ((3,), 1.0), ((1, 3), -1.0), ((), 1.0)]
N = 300


def batch_of(lm, side="right"):
    return pad(tokenize(lm.tokenizer, TEXTS, DEFAULT_DOCUMENT, 256), range(len(TEXTS)), 0, side)


def routes(lm, sets):
    return [Route.of(lm.info, layers, bias) for layers, bias in sets]


@pytest.mark.parametrize("side", ["right", "left"])
def test_equals_a_whole_rerouted_pass(lm, side):
    batch = batch_of(lm, side)
    real = batch.mask.bool()
    with torch.inference_mode():
        found = list(final_states(lm, batch, routes(lm, SETS)))
        assert len(found) == 1 + len(SETS)
        for (layers, bias), states in zip([((), 1.0), *SETS], found, strict=True):
            with reroute(lm, layers, bias) as routing:
                routing.last = batch.last
                whole = final_hidden(lm, batch)
            torch.testing.assert_close(states[real], whole[real], rtol=0, atol=1e-5)
    assert not torch.allclose(found[0][real], found[1][real], atol=1e-2), (
        "re-routing has to change something"
    )


def test_blocks_below_the_window_do_not_run(lm):
    counts = [0] * lm.info.n_layers
    handles = [
        lm.attention_modules(i)[0].register_forward_hook(
            lambda *_, i=i: counts.__setitem__(i, counts[i] + 1)
        )
        for i in range(lm.info.n_layers)
    ]
    with torch.inference_mode():
        list(final_states(lm, batch_of(lm), routes(lm, [((2, 3), 1.0), ((3,), 1.0)])))
    for handle in handles:
        handle.remove()
    assert counts == [1, 1, 2, 3]


def test_leaves_nothing_behind():
    lm = tiny("gemma3")
    batch = batch_of(lm)
    before = lm(batch.ids, batch.mask)
    own = lm.blocks[0].forward
    lm.blocks[0].forward = own  # as a library that wraps blocks would do
    results = final_states(lm, batch, routes(lm, [((2,), 1.0), ((3,), 1.0)]))
    next(results), next(results)
    results.close()
    handle = lm.blocks[3].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(final_states(lm, batch, routes(lm, [((3,), 1.0)])))
    handle.remove()
    attention = lm.attention_modules(3)[0]
    calls = []
    handle = attention.register_forward_pre_hook(
        lambda *_: calls.append(1) or (1 / 0 if len(calls) == 2 else None)
    )
    with pytest.raises(ZeroDivisionError):
        list(final_states(lm, batch, routes(lm, [((3,), 1.0)])))
    handle.remove()
    assert vars(lm.blocks[0])["forward"] is own
    assert not any("forward" in vars(block) for block in lm.blocks[1:])
    hooks = [
        h
        for m in lm.base.modules()
        for h in (*m._forward_pre_hooks.values(), *m._forward_hooks.values())
    ]
    assert not [h for h in hooks if type(h).__module__.startswith("kvlens")]
    assert torch.equal(lm(batch.ids, batch.mask), before)


def test_agrees_with_the_encoder_and_score(pairs_file, tmp_path):
    lm, pairs = tiny("qwen3"), read_pairs(pairs_file)
    found = sweep(
        lm, pairs, [*windows(4, (2,)), (3, 0)], (1.0, 3.0), pooling="mean", data="made up"
    )
    assert [(w.first, w.width, w.bias) for w in found.windows] == [
        (i, 2, b) for b in (1.0, 3.0) for i in range(3)
    ]
    assert [(w.layers, w.first, w.width) for w in found.sets] == [((0, 3), 0, 2)] * 2
    for one in (found.windows[1], found.sets[1]):
        settings = {"bias": one.bias, "pooling": "mean"}
        expected = score_pairs(Encoder(lm, "kv_embedding", one.layers, **settings), pairs)
        values = (expected.spearman, expected.low, expected.high)
        assert (one.spearman, one.low, one.high) == pytest.approx(values, abs=1e-3)
    plain = score_pairs(Encoder(lm, "kv_embedding", (), pooling="mean"), pairs)
    assert found.plain == pytest.approx(plain.spearman, abs=1e-3)
    assert found.find((3, 0), 3) == found.sets[1]
    assert found.find((3, 0), 2) is None
    assert Sweep.load(found.save(tmp_path / "sweep.json")) == found
    assert "layers 0, 3, bias 3" in str(found)


@given(
    arrays(float, (3, 12), elements=st.integers(0, 4).map(float)),
    arrays(float, 12, elements=st.integers(0, 3).map(float)),
)
def test_spearman_is_scipys_with_ties(cosines, human):
    cosines[:, :2], human[:2] = (0, 5), (0, 5)
    counts = np.array([[1] * 12, [2] * 6 + [0] * 6, [1, 3, 0, 2, 0, 0, 4, 0, 0, 0, 1, 1]])
    rows = [np.repeat(np.arange(12), count) for count in counts]
    expected = [
        [100 * spearmanr(one[row], human[row]).statistic for row in rows] for one in cosines
    ]
    np.testing.assert_allclose(spearman(cosines, human, counts), expected, atol=1e-9)


def test_goes_on_with_what_is_there(pairs_file):
    lm, pairs = tiny("qwen3"), read_pairs(pairs_file)
    everything = [*windows(4, (1, 2)), (0, 3)]
    with made_by("all"):
        whole = sweep(lm, pairs, everything, (1.0, 3.0))
    with made_by("some"):
        part = sweep(lm, pairs, [*windows(4, (2,)), (0,)], (3.0,))
    assert [w.layers for w in part.sets] == [(0,)], (
        "no window while others of its width are missing"
    )
    forwards = []
    handle = lm.blocks[0].register_forward_pre_hook(lambda *_: forwards.append(1))
    with made_by("less"):
        less = sweep(lm, pairs, windows(4, (2,)), (3.0,), known=part)
    assert less.command == "some && less"
    assert not forwards
    handle.remove()
    with made_by("other"):
        other = sweep(lm, pairs, windows(4, (1,)), (1.0,), known=part)
    assert other.command == "some && other"
    with made_by("all"):
        again = sweep(lm, pairs, everything, (1.0, 3.0), known=other)
    assert again.command == "all"
    for ours, theirs in ((again.windows, whole.windows), (again.sets, whole.sets)):
        assert [(w.layers, w.bias) for w in ours] == [(w.layers, w.bias) for w in theirs]
        assert [w.spearman for w in ours] == pytest.approx([w.spearman for w in theirs], abs=1e-2)
    for model, options in (
        (lm, {"pooling": "mean"}),
        (lm, {"position": "none"}),
        (tiny("llama"), {}),
    ):
        with pytest.raises(InputError, match="the sweep to go on with"):
            sweep(model, pairs, windows(4, (1,)), known=part, **options)


def test_windows():
    assert windows(4, (3, 4)) == [(0, 1, 2), (1, 2, 3), (0, 1, 2, 3)]
    for width in (0, 5):
        with pytest.raises(InputError, match=f"a window of {width} layers does not fit into 4"):
            windows(4, (width,))


def test_bad_requests(pairs_file):
    lm, pairs = tiny("llama"), read_pairs(pairs_file)
    for sets, options, message in (
        ([(4,)], {}, "layer 4 is outside"),
        ([(1, 1)], {}, "repeat one"),
        ([], {}, "no layer sets"),
        ([(1,)], {"pooling": "max"}, "unknown pooling 'max'"),
        ([(1,)], {"position": "far"}, "unknown position coding"),
        ([(1,)], {"biases": [float("inf")]}, "the bias must be"),
    ):
        with pytest.raises(InputError, match=message):
            sweep(lm, pairs, sets, **options)


def made_up(quality, noise=1.0, seed=0, width=1):
    """A sweep whose windows have cosines with the given true correlation with the human scores."""
    rng = np.random.default_rng(seed)
    human = rng.standard_normal(N)

    def window(first, q):
        cosines = q * human + np.sqrt(1 - q**2) * noise * rng.standard_normal(N)
        value = 100 * spearmanr(cosines, human).statistic
        layers = tuple(range(first, first + width))
        return Window(first=first, width=width, layers=layers, bias=1.0, spearman=value, low=value, high=value,
                      cosines=tuple(cosines.tolist()))  # fmt: skip

    plain, *found = [window(i - 1, q) for i, q in enumerate([0.3, *quality])]
    model = make_profile([10.0] * (len(quality) + width - 1)).model
    return Sweep(model=model, prompt=DEFAULT_DOCUMENT, pooling="hybrid", position="keep", data="made up", n_pairs=N,
                 plain=plain.spearman, plain_low=0, plain_high=1, plain_cosines=plain.cosines,
                 human=tuple(human.tolist()), windows=tuple(found), versions={}, command="")  # fmt: skip


def test_study_of_a_rule_that_is_right_and_one_that_is_wrong(tmp_path):
    quality = np.linspace(0.2, 0.9, 10)
    swept = made_up(quality)
    right, wrong = (
        make_profile(20 - quality * 10, 0.01),
        make_profile(quality * 10 + 5, 0.01, points="mean"),
    )
    found = study(swept, [right, wrong], others=[("summary", (4,)), ("explicit", (2, 3))])
    by_rule = {(o.rule, o.points): o for o in found.outcomes}
    assert by_rule["best", None].layers == by_rule["lowest-k", "last"].layers == (9,)
    assert by_rule["paper", "mean"].layers == (2,), "the lowest past the first 20 %"
    best, bad = by_rule["lowest-k", "last"], by_rule["lowest-k", "mean"]
    assert best.regret.value == best.regret.high == best.split_regret.value == 0
    assert by_rule["summary", None].regret.value == pytest.approx(
        swept.windows[9].spearman - swept.windows[4].spearman
    )
    assert ("explicit", None) not in by_rule, "no window of the sweep has its width"
    human, chosen = np.array(swept.human), [swept.windows[i].cosines for i in (9, 2)]
    difference = [
        100 * (spearmanr(chosen[0], human).statistic - spearmanr(chosen[1], human).statistic)
    ]
    assert bad.regret.value == pytest.approx(difference[0])
    assert bad.split_regret.value == pytest.approx(difference[0], abs=1)
    resampled = [
        100
        * (
            spearmanr(np.array(chosen[0])[i], human[i]).statistic
            - spearmanr(np.array(chosen[1])[i], human[i])[0]
        )
        for i in (np.repeat(np.arange(N), count) for count in draws(N).astype(int))
    ]
    interval = (bad.regret.low, bad.regret.high)
    assert interval == pytest.approx(np.percentile(resampled, (2.5, 97.5)))
    assert bad.gain.value == pytest.approx(bad.spearman - swept.plain)
    rho = {c.points: c for c in found.correlations}
    assert rho["last"].rho.value > 0.9
    assert rho["mean"].rho.value < -0.9
    assert rho["last"].rho.low <= rho["last"].rho.value <= rho["last"].rho.high
    assert LayerStudy.load(found.save(tmp_path / "study.json")) == found
    assert "lowest-k (hidden, mean), width 1, bias 1" in str(found)


def test_split_regret_is_free_of_the_winners_curse():
    """Windows that are equally good in truth: the best of one draw seems better, its other half does not."""
    curse, split = [], []
    for seed in range(6):
        (average,) = [
            o for o in study(made_up([0.5] * 12, seed=seed), []).outcomes if o.rule == "average"
        ]
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
