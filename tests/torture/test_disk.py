"""A share of the small disks; all of them are behind the marker `torture`."""

import pytest
from torture.quick import run_share


@pytest.mark.slow
def test_some_small_disks():
    assert "all held" in run_share("disk", 0.012, "sweep-overwrite,embed-npy-overwrite")


@pytest.mark.torture
def test_all_small_disks():
    assert "limit: work" in run_share("disk", 1)
