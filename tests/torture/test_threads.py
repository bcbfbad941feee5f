"""A share of the threads campaign; the whole one is behind the marker `torture`."""

import pytest
from torture.threads import ACTIONS, campaign, cases

PAIRS = len(ACTIONS) * (len(ACTIONS) + 1) // 2


def test_some_pairs_side_by_side(tmp_path):
    counts = campaign(seed=13, n=12, folder=tmp_path)
    assert counts["2 threads"] == 12


@pytest.mark.torture
def test_all_pairs_side_by_side(tmp_path):
    counts = campaign(seed=13, n=2 * PAIRS, folder=tmp_path)
    assert all(counts[action] > 2 * len(ACTIONS) for action in ACTIONS)


def test_cases_hold_every_pair_and_larger_ones():
    drawn = [case.actions for case in cases(seed=0, n=PAIRS + PAIRS // 10)]
    assert len({frozenset(actions) for actions in drawn if len(actions) == 2}) == PAIRS
    assert {len(actions) for actions in drawn} == {2, 3, 4}
    assert drawn == [case.actions for case in cases(seed=0, n=PAIRS + PAIRS // 10)]
