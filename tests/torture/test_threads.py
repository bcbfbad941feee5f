"""A share of the threads campaign; the whole one is behind the marker `torture`."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from torture.threads import ACTIONS, campaign, cases

import kvlens

PAIRS = len(ACTIONS) * (len(ACTIONS) + 1) // 2


def test_some_pairs_side_by_side(tmp_path):
    counts = campaign(seed=13, n=12, folder=tmp_path)
    assert counts["2 threads"] == 12


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "layers"), [("kv_embedding", [(23, 27), ()]), ("aligned_wva", [None, None])]
)
def test_two_encoders_on_the_real_model(smollm, method, layers):
    texts = [f"{'The heart stops. ' * n}{'x' * n}" for n in range(1, 9)]
    encoders = [kvlens.Encoder(smollm, method, each, batch_tokens=64) for each in layers]
    alone = [encoder.encode(texts) for encoder in encoders]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            together = pool.map(lambda encoder: encoder.encode(texts), encoders)
            np.testing.assert_array_equal(list(together), alone)


@pytest.mark.torture
def test_all_pairs_side_by_side(tmp_path):
    counts = campaign(seed=13, n=2 * PAIRS, folder=tmp_path)
    assert all(counts[action] > 2 * len(ACTIONS) for action in ACTIONS)


def test_cases_hold_every_pair_and_larger_ones():
    drawn = [case.actions for case in cases(seed=0, n=PAIRS + PAIRS // 10)]
    assert len({frozenset(actions) for actions in drawn if len(actions) == 2}) == PAIRS
    assert {len(actions) for actions in drawn} == {2, 3, 4}
    assert drawn == [case.actions for case in cases(seed=0, n=PAIRS + PAIRS // 10)]
