"""Whole vectors: a file that is read block by block is found out as one that is loaded."""

import json
import shutil

import numpy as np
import pytest
from embedding_cases import ENDINGS

import kvlens.embedding.containers as containers
from kvlens import InputError
from kvlens.embedding.file_run import embed_file
from kvlens.embedding.vectors import load_vectors
from kvlens.embedding.whole_vectors import check_whole


@pytest.fixture(params=ENDINGS)
def target(request, encoder, rows, tmp_path, monkeypatch):
    """Vectors, which are read four rows at a time."""
    monkeypatch.setattr(containers, "BLOCK", 4)
    path = tmp_path / f"out{request.param}"
    embed_file(encoder, rows, path)
    return path


def test_it_says_what_loading_says(target):
    assert check_whole(target) == load_vectors(target).info


def test_every_damaged_byte_of_the_rows_is_found(target):
    whole = target.read_bytes()
    vectors = load_vectors(target).vectors
    for row in (0, 4, len(vectors) - 1):
        data = bytearray(whole)
        data[data.rindex(vectors[row].tobytes()) + 5] ^= 1
        target.write_bytes(data)
        for read in (check_whole, load_vectors):
            with pytest.raises(InputError, match="is not readable as kvlens vectors"):
                read(target)


def test_rows_that_are_missing_and_other_ids(encoder, rows, tmp_path):
    target = tmp_path / "out.npy"
    embed_file(encoder, rows, target)
    beside = tmp_path / "out.npy.json"
    kept = beside.read_text()
    header = json.loads(kept)
    header["ids"][3] = "another"
    beside.write_text(json.dumps(header))
    with pytest.raises(InputError, match="the hash in it is of other content"):
        check_whole(target)
    beside.write_text(kept)
    shutil.copy(target, tmp_path / "copy")
    np.save(target, np.load(tmp_path / "copy")[:-1])
    with pytest.raises(InputError, match="it has 8 rows, where 9 were written"):
        check_whole(target)
    np.save(target, np.load(tmp_path / "copy")[:, :-1])
    with pytest.raises(InputError, match=r"where \[9, 32\] was written"):
        check_whole(target)
