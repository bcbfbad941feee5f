"""Windows: every run of neighbouring layers."""

import pytest

from kvlens import InputError
from kvlens.studies.windows import Quality, Setting, Window, split, windows


def test_windows():
    assert windows(4, (3, 4)) == [(0, 1, 2), (1, 2, 3), (0, 1, 2, 3)]
    assert windows(range(4), (3, 4)) == windows(4, (3, 4))
    for width in (0, 5):
        with pytest.raises(InputError, match=f"a window of {width} layers does not fit into 4"):
            windows(4, (width,))


def test_in_a_hybrid_neighbours_are_those_that_can_be_rerouted():
    assert windows((3, 7, 11), (1, 2)) == [(3,), (7,), (11,), (3, 7), (7, 11)]
    with pytest.raises(InputError, match="fit into 3 layers that can be re-routed"):
        windows((3, 7, 11), (4,))


def test_windows_are_told_from_other_sets():
    sets = [*windows((3, 7, 11), (2,)), (3, 11), (7,), ()]
    measured = [Window.of(Setting(layers, 1.0), Quality(1, 0, 2, ())) for layers in sets]
    every_window, others = split(measured, (3, 7, 11))
    assert [window.layers for window in every_window] == [(3, 7), (7, 11)]
    assert sorted(window.layers for window in others) == [(), (3, 11), (7,)]
