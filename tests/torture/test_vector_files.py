"""Damaged vectors, stopped runs and caches: a quick share with a fixed seed, all on request."""

import pytest
from torture import vector_files

QUICK = 1_600
WHOLE = 20_000


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_of_vectors(tmp_path):
    counts = vector_files.campaign(1, QUICK, tmp_path)
    assert counts.total() >= QUICK
    assert counts["cache loaded"] > counts["cache refused"]
    assert counts["stopped run loaded"] > counts["stopped run refused"]
    assert counts["vectors.npy refused"] > counts["vectors.npy loaded"]


@pytest.mark.torture
@pytest.mark.filterwarnings("ignore")
def test_many_damaged_files_of_vectors(tmp_path):
    vector_files.campaign(2, WHOLE, tmp_path)
