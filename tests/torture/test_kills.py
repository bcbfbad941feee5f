"""A share of the kills; all of them are behind the marker `torture`."""

import pytest
from torture.quick import run_share


@pytest.mark.slow
def test_some_kills():
    told = run_share("kills", 0.012, "profile-overwrite,embed-npy-overwrite")
    assert "all held" in told


@pytest.mark.torture
def test_all_kills():
    told = run_share("kills", 1)
    for what in ("at a name: kill before", "at random: SIGTERM", "cold, at random: SIGINT"):
        assert what in told
