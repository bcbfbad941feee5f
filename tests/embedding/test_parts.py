"""A folder of Parquet parts: ordinary vectors, each row once, held to its hashes."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedding_cases import DUPLICATED

import kvlens
from kvlens.embedding.parts import INDEX, part_of, write_parts_index
from kvlens.embedding.whole_vectors import check_whole
from kvlens.store.errors import InputError

N, D = len(DUPLICATED), 5


@pytest.fixture
def single(encoder, rows, tmp_path):
    """Vectors in one file, whose facts the folder has too."""
    kvlens.embed_file(encoder, rows, tmp_path / "single.parquet", truncate_dim=D)
    return kvlens.load_vectors(tmp_path / "single.parquet")


@pytest.fixture
def folder(single, tmp_path):
    """The same in three parts, out of order, with rows that are there twice."""
    place = tmp_path / "parts.parquet"
    place.mkdir()
    order = [range(4, N), range(2), range(1, 6)]
    for name, picked in zip("bca", order, strict=True):
        write_part(place / f"{name}.parquet", single, list(picked))
    parts = [part_of(path) for path in sorted(place.glob("*.parquet"))]
    write_parts_index(place, single.info.model_dump(mode="json"), parts)
    return place


def write_part(path, vectors, rows):
    array = vectors.vectors[rows]
    column = pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
    ids = [vectors.ids[row] for row in rows]
    pq.write_table(pa.table({"row": rows, "id": ids, "vector": column}), path)


def test_a_folder_is_read_as_its_file_would_be(single, folder):
    read = kvlens.open(folder)
    assert read.ids == single.ids
    np.testing.assert_array_equal(read.vectors, single.vectors)
    assert read.info.facts == single.info.facts


def test_other_readers_of_parquet_see_the_parts_alone(folder):
    assert set(pq.read_table(folder).column_names) == {"row", "id", "vector"}


def test_what_is_not_as_it_was_written_is_refused(single, folder):
    index = json.loads((folder / INDEX).read_text())
    whole = (folder / "a.parquet").read_bytes()
    (folder / "a.parquet").write_bytes(whole[:-9] + b"x" + whole[-8:])
    with pytest.raises(InputError, match=r"a\.parquet is damaged"):
        kvlens.load_vectors(folder)
    with pytest.raises(InputError, match=r"a\.parquet is damaged: its hash is another"):
        check_whole(folder)
    (folder / "a.parquet").unlink()
    with pytest.raises(InputError, match=r"a\.parquet is not there"):
        check_whole(folder)
    (folder / "a.parquet").write_bytes(whole)
    assert check_whole(folder) == kvlens.load_vectors(folder).info
    index["info"]["normalize"] = True
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match="the hash in it is of other content"):
        kvlens.load_vectors(folder)
    index["parts"][0]["file"] = "../single.parquet"
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match="is no name of a part"):
        kvlens.load_vectors(folder)
    (folder / INDEX).unlink()
    with pytest.raises(InputError, match="is not readable as kvlens vectors"):
        kvlens.load_vectors(folder)


def test_rows_that_are_missing_are_noticed(single, folder):
    parts = [part_of(path) for path in sorted(folder.glob("[ab].parquet"))]
    write_parts_index(folder, single.info.model_dump(mode="json"), parts)
    with pytest.raises(InputError, match=rf"where \[{N}, {D}\] was written"):
        kvlens.load_vectors(folder)
