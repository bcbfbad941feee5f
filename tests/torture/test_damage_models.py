"""Damaged models: a quick share with a fixed seed, and the whole on request."""

import pytest
from torture import damage_models

QUICK = 1_000
WHOLE = 15_000


def test_damaged_models(tmp_path):
    counts = damage_models.campaign(1, QUICK, tmp_path)
    assert counts.total() >= QUICK
    for case in damage_models.FORMATS:
        assert counts[f"{case.name} refused"] > 0
        assert counts[f"{case.name} loaded"] > 0


@pytest.mark.torture
def test_many_damaged_models(tmp_path):
    damage_models.campaign(2, WHOLE, tmp_path)
