"""Shape: known profiles, invariances, and persistence as an oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from profile_cases import GEMMA, RISING, SMOLLM2, U

from kvlens.layers.shape import shape
from kvlens.store.errors import InputError


@pytest.mark.parametrize(
    ("values", "stderr", "name", "minima", "edges"),
    [
        (U, 0.4, "U", [11], []),
        (U, 5.0, "flat", [], []),
        (RISING, 0.4, "rising", [0], [0]),
        (RISING[::-1], 0.4, "falling", [29], [29]),
        (SMOLLM2, 0.5, "peak", [0, 29], [0, 29]),
        (GEMMA, 0.5, "several minima", [1, 12], [12]),
        (GEMMA, 1.2, "peak", [1, 12], [1, 12]),
        (GEMMA, 1.3, "rising", [1], [1]),
        ([12.0] * 30, 0.4, "flat", [], []),
        ([9, 12, 9, 12], 0.1, "several minima", [0, 2], [0]),
        ([12, 9, 12, 8, 12], 0.1, "several minima", [1, 3], []),
        ([9, 12, 10, 13, 9], 0.1, "several minima", [0, 2, 4], [0, 4]),
        ([5.0], 0.1, "flat", [], []),
        ([5.0, 6.0], 0.1, "rising", [0], [0]),
        # Only the dip's own error hides it.
        ([9, 12, 9.5, 12], [0.1, 0.1, 3, 0.1], "rising", [0], [0]),
    ],
)
def test_shape_of_known_profiles(values, stderr, name, minima, edges):
    named = shape(values, np.broadcast_to(stderr, len(values)), z=2.0)
    assert (named.name, list(named.minima), list(named.edge_minima)) == (name, minima, edges)


def test_shape_names_the_layers_given():
    assert shape([12, 9, 12], [0.1] * 3, layers=[0, 10, 20]).minima == (10,)


# Equal values occur, with different errors.
profiles_of_errors = st.lists(
    st.tuples(st.integers(0, 60) | st.integers(0, 6), st.integers(1, 12)),
    min_size=1,
    max_size=24,
    unique=True,
)


@given(profiles_of_errors, st.integers(-40, 40), st.integers(-6, 6))
def test_shape_is_invariant_to_shift_and_scale(pairs, shift, power):
    v, e = np.array(pairs, dtype=float).T
    assert shape(v, e) == shape((v + shift) * 2.0**power, e * 2.0**power)


@given(profiles_of_errors)
def test_shape_of_the_mirrored_profile_is_mirrored(pairs):
    v, e = np.array(pairs, dtype=float).T
    there = shape(v, e)
    back = shape(v[::-1], e[::-1])
    assert back.name == {"rising": "falling", "falling": "rising"}.get(there.name, there.name)
    assert back.minima == tuple(len(v) - 1 - i for i in reversed(there.minima))
    assert back.edge_minima == tuple(len(v) - 1 - i for i in reversed(there.edge_minima))


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.floats(1.45, 4))
def test_noise_below_the_errors_leaves_a_flat_profile_flat(noise, z):
    # |difference| <= 2 se < z sqrt(2) se
    assert shape(12 + 0.4 * np.array(noise), [0.4] * len(noise), z=z).name == "flat"


def persistent_minima(v: np.ndarray, threshold: float) -> list[int]:
    """Minima that live longer than `threshold` when the values are flooded from below."""
    basin: dict[int, int] = {}
    dead = set()
    for i in np.argsort(v):
        near = sorted({basin[j] for j in (i - 1, i + 1) if j in basin}, key=lambda low: v[low])
        basin[i] = near[0] if near else i
        if len(near) == 2:
            dead |= {near[1]} if v[i] - v[near[1]] <= threshold else set()
            basin = {j: near[0] if low == near[1] else low for j, low in basin.items()}
    return sorted(
        int(i)
        for i in set(basin) - dead
        if all(v[j] > v[i] for j in (i - 1, i + 1) if 0 <= j < len(v))
    )


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30, unique=True), st.integers(1, 30))
def test_with_equal_errors_minima_are_those_of_persistence(values, threshold):
    v = np.array(values, dtype=float)
    named = shape(v, np.full(len(v), (threshold + 0.5) / np.sqrt(8)), z=2.0)
    expected = persistent_minima(v, threshold + 0.5)
    assert list(named.minima) == (expected if named.name != "flat" else [])
    if named.name == "flat":
        assert v.max() - v.min() <= threshold + 0.5


@pytest.mark.parametrize(
    "bad", [([], []), ([1, 2], [1]), ([1, np.nan], [1, 1]), ([1, 2], [1, -1]), ([[1]], [[1]])]
)
def test_shape_refuses(bad):
    with pytest.raises(InputError):
        shape(*bad)
    with pytest.raises(InputError, match="2 values, but 1 layers"):
        shape([1, 2], [1, 1], layers=[7])
    for z in (0, -1, np.nan, np.inf):
        with pytest.raises(InputError):
            shape([1, 2], [1, 1], z=z)
