"""The picture of a low-rank lens: numbers are those of the lens."""

import pytest
from matplotlib.figure import Figure
from zoo import TEXTS, tiny

import kvlens
from kvlens import InputError
from kvlens.plots.saving import save_low_rank_plot


@pytest.fixture(scope="module")
def found():
    return kvlens.low_rank(tiny("llama"), TEXTS[:3], shares=(0.25, 0.5, 0.75))


def test_curves_are_the_shares_needed_and_the_schedules(found):
    needed, schedules = kvlens.plot_low_rank(found)
    for line, kind in zip(needed.lines, "kv", strict=True):
        assert line.get_ydata().tolist() == [found.share_needed(kind, each) for each in range(4)]
    for line, way in zip(schedules.lines, ("progressive", "uniform"), strict=False):
        assert line.get_xdata().tolist() == [each.kept for each in found.schedules_of(way)]
        assert line.get_ydata().tolist() == [each.cosine for each in found.schedules_of(way)]
    assert "3 texts" in " ".join(needed.figure.get_supxlabel().split())


def test_the_callers_axes_and_no_others(found):
    axes = Figure().subplots(1, 2)
    assert kvlens.plot_low_rank(found, axes=axes) == list(axes)
    with pytest.raises(InputError, match="`axes` are 1, a low-rank lens needs 2"):
        kvlens.plot_low_rank(found, axes=axes[:1])


def test_the_same_lens_gives_the_same_bytes(found, tmp_path):
    first, second = (save_low_rank_plot(found, tmp_path / name) for name in "ab")
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
