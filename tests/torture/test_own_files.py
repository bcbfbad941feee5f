"""Damaged files: a quick share of every campaign with a fixed seed, and the whole on request."""

import pytest
from torture import own_files

QUICK = 12_500
WHOLE = 60_000


@pytest.mark.slow
def test_damaged_files_of_our_own(tmp_path):
    counts = own_files.campaign(1, QUICK, tmp_path)
    assert counts.total() >= QUICK
    for case in own_files.FORMATS:
        assert counts[f"{case.name} refused"] > counts[f"{case.name} loaded"] > 0


@pytest.mark.torture
def test_many_damaged_files_of_our_own(tmp_path):
    own_files.campaign(2, WHOLE, tmp_path)
