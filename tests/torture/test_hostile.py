"""Hostile folders, several traps at once; each alone is in tests/models/test_hostile_folder.py."""

import pytest
from torture import hostile


@pytest.mark.torture
def test_many_hostile_folders(tmp_path):
    hostile.campaign(2, 1_000, tmp_path)
