"""Comparison: each row against the reference of its post-processing, and its method without any."""

from pathlib import Path

import numpy as np
import pytest

from kvlens.evaluation.comparison import Row, compared
from kvlens.evaluation.scores import Scores

OLD = Path(__file__).parents[1] / "data" / "v0.1.0" / "scores.json"
ANY = Scores.load(OLD).scores[0].model_copy(update={"p": None, "difference": None})
METHODS, POSTS, N_DRAWS = ("a", "b", "c"), (None, "zscore", "center"), 199


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    level = {"a": 0.6, "b": 0.68, "c": 0.6, None: 0, "zscore": 0.1, "center": 0}
    found = []
    for method in METHODS:
        for post in POSTS:
            label = f"{method} + {post}" if post else method
            draws = level[method] + level[post] + 0.01 * rng.standard_normal(N_DRAWS)
            score = ANY.model_copy(
                update={"label": label, "post": post, "value": 100 * draws.mean()}
            )
            found.append(Row(score, draws))
    return found


def by_hand(row, other):
    """The difference of two rows with its interval, and p, not adjusted."""
    draws = 100 * (row.draws - other.draws)
    low, high = np.percentile(draws, [2.5, 97.5])
    share = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1, 2 * (1 + share) / (1 + N_DRAWS))
    return pytest.approx((row.score.value - other.score.value, low, high)), p


def test_each_is_compared_with_the_reference_of_its_post_processing(rows):
    scores = {score.label: score for score in compared(rows, "a")}
    by_label = {row.score.label: row for row in rows}
    for post in POSTS:
        end = f" + {post}" if post else ""
        reference = scores[f"a{end}"]
        assert (reference.p, reference.difference, reference.difference_low) == (None,) * 3
        for method in "bc":
            score = scores[method + end]
            expected, p = by_hand(by_label[score.label], by_label[f"a{end}"])
            found = (score.difference, score.difference_low, score.difference_high)
            assert found == expected
            assert p <= score.p <= max(2 * p, scores[f"b{end}"].p)  # Holm, of two
    assert [score.sign for score in scores.values()] == [*[""] * 3, *["+"] * 3, *[""] * 3]


def test_each_is_compared_with_the_same_method_without_post_processing(rows):
    scores = {score.label: score for score in compared(rows, "a")}
    by_label = {row.score.label: row for row in rows}
    for method in METHODS:
        plain = scores[method]
        assert (plain.post_p, plain.post_difference, plain.post_difference_high) == (None,) * 3
        for post in POSTS[1:]:
            score = scores[f"{method} + {post}"]
            expected, p = by_hand(by_label[score.label], by_label[method])
            found = (score.post_difference, score.post_difference_low, score.post_difference_high)
            assert found == expected
            assert p <= score.post_p <= max(2 * p, scores[f"{method} + zscore"].post_p)
    assert [score.post_sign for score in scores.values()] == ["", "+", ""] * 3


def test_without_such_rows_nothing_is_noted(rows):
    fitted = [row for row in rows if row.score.post]
    for score in compared(fitted, "nobody"):
        assert (score.p, score.post_p, score.post_difference, score.sign) == (None, None, None, "")


def test_what_post_processing_adds_is_a_table_of_its_own(rows, tmp_path):
    table = Scores.load(OLD).model_copy(update={"scores": tuple(compared(rows, "a"))})
    assert Scores.load(table.save(tmp_path / "scores.json")) == table
    told = table.markdown().split("| Post-processing adds ")[1]
    zscore = next(score for score in table.scores if score.label == "b + zscore")
    low, high = zscore.post_difference_low, zscore.post_difference_high
    assert f"| {zscore.post_difference:+.1f}+ ({low:.1f} to {high:.1f})" in told
    assert told.count("\n| ") == 1 + 6
    plain = table.model_copy(update={"scores": tuple(compared(rows[::3], "a"))})
    assert "adds" not in plain.markdown()
