"""A share of the campaign on damaged files of other programs; the whole is marked `torture`."""

import pytest

pytest.importorskip("mteb")

from torture.damage_foreign import FORMATS, campaign


@pytest.mark.slow
def test_some_damaged_files_of_other_programs(tmp_path):
    counts = campaign(seed=13, n=5_000, folder=tmp_path)
    assert sum(counts.values()) >= 5_000
    assert {name.rpartition(" ")[0] for name in counts} == {case.name for case in FORMATS}


@pytest.mark.torture
def test_many_damaged_files_of_other_programs(tmp_path):
    counts = campaign(seed=14, n=25_000, folder=tmp_path)
    assert sum(counts.values()) >= 25_000
