"""Vectors: each container gives back what was written; other files are refused."""

import json
import resource
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedding_cases import DUPLICATED, ENDINGS, write_jsonl
from safetensors.numpy import save_file

import kvlens
from kvlens.embedding.containers import CONTAINERS, Table, files_of
from kvlens.embedding.file_run import embed_file
from kvlens.embedding.table_hash import TableHash
from kvlens.embedding.vectors import load_vectors
from kvlens.embedding.writing import write_vectors, writing
from kvlens.store.errors import InputError


@pytest.fixture(scope="module")
def two_runs(encoder, tmp_path_factory):
    """Vectors of two runs in each container: of other texts, and nothing else."""
    folder = tmp_path_factory.mktemp("two-runs")
    for name, texts in (("a", DUPLICATED), ("b", DUPLICATED[::-1])):
        rows = [{"id": f"doc-{i}", "text": text} for i, text in enumerate(texts)]
        source = write_jsonl(folder / "rows.jsonl", rows)
        for ending in ENDINGS:
            embed_file(encoder, source, folder / f"{name}{ending}")
    return folder


@pytest.fixture
def written(two_runs, tmp_path):
    return Path(shutil.copytree(two_runs, tmp_path / "written"))


def refused(path):
    """The line that refuses a file, by both ways to read it."""
    lines = []
    for read in (load_vectors, kvlens.open):
        with pytest.raises(InputError) as error:
            read(path)
        lines.append(str(error.value))
    assert all("\n" not in line and len(line) < 300 + len(str(path)) for line in lines)
    assert "`overwrite=True`" in lines[0]
    assert path.name in lines[0]
    return lines[0]


@pytest.mark.parametrize("ending", ENDINGS)
def test_other_files_are_not_read_as_vectors(tmp_path, ending):
    path = tmp_path / f"out{ending}"
    with pytest.raises(InputError, match="not readable as kvlens vectors"):
        load_vectors(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not readable as kvlens vectors") as error:
        load_vectors(path)
    assert "\n" not in str(error.value)
    np.save(tmp_path / "bare.npy", np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"bare\.npy\.json"):
        load_vectors(tmp_path / "bare.npy")


def test_the_hash_is_of_rows_ids_and_facts_fed_row_by_row(written):
    for ending in ENDINGS:
        table = CONTAINERS[ending].read(written / f"a{ending}")
        by_rows = TableHash()
        for row in table.vectors:
            by_rows.add(row[None])
        assert by_rows.seal(table.info, table.ids) == table.info["sha256"]
    hashes = {load_vectors(written / f"a{ending}").info.sha256 for ending in ENDINGS}
    assert len(hashes) == 1, "the container decides nothing"


def test_a_mixed_pair_is_refused_and_both_files_are_named(written):
    for array, header in (("a", "b"), ("b", "a")):
        mixed = written / "mixed.npy"
        shutil.copy(written / f"{array}.npy", mixed)
        shutil.copy(written / f"{header}.npy.json", written / "mixed.npy.json")
        line = refused(mixed)
        assert "mixed.npy with mixed.npy.json" in line
        assert "bring back the two that belong together" in line
        assert "hash" in line


def rewrite(path, change):
    """Change what a file holds, its hash left as it was."""
    table = CONTAINERS[path.suffix].read(path)
    content = {"vectors": table.vectors, "ids": table.ids, "info": table.info}
    change(content)
    write_table(Table(**content), path)


def write_table(table, path):
    """What a file of vectors is, by each container's own library."""
    header = json.dumps({"info": table.info, "ids": table.ids})
    if path.suffix == ".npy":
        np.save(path, table.vectors)
        path.with_name(f"{path.name}.json").write_text(header)
    elif path.suffix == ".safetensors":
        save_file({"vectors": table.vectors}, path, {"kvlens": header})
    else:
        flat = pa.array(table.vectors.reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, table.vectors.shape[1])
        columns = pa.table({"id": pa.array(table.ids, pa.string()), "vector": column})
        facts = {"kvlens": json.dumps(table.info)}
        pq.write_table(columns.replace_schema_metadata(facts), path)


def shorter(content):
    content["vectors"] = content["vectors"][:-1]
    content["ids"] = content["ids"][:-1]


def other_number(content):
    content["vectors"] = content["vectors"].copy()
    content["vectors"][1, 1] *= -1


def not_finite(content):
    content["vectors"] = content["vectors"].copy()
    content["vectors"][1, 1] = np.nan


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (shorter, "its array is .8, 32., where .9, 32. was written"),
        (other_number, "hash"),
        (not_finite, "NaN or infinity"),
        (lambda content: content["ids"].reverse(), "hash"),
        (lambda content: content["ids"].__setitem__(0, "other"), "hash"),
        (lambda content: content["info"].update(kind="query"), "hash"),
        (lambda content: content["info"].update(sha256="0" * 64), "hash"),
        (lambda content: content["info"].pop("sha256"), "hash"),
        (lambda content: content["info"].update(version=1), "hash"),
        (lambda content: content["info"].update(version=3), "version: Input should be 1 or 2"),
        (lambda content: content["info"].update(rows=8), "where .8, 32. was written"),
        (lambda content: content["info"].pop("model"), "model: Field required"),
    ],
)
def test_what_does_not_agree_is_refused(written, ending, change, says):
    path = written / f"a{ending}"
    rewrite(path, change)
    with pytest.raises(InputError, match=says):
        load_vectors(path)
    refused(path)


@pytest.mark.parametrize("ending", [".npy", ".safetensors"])
@pytest.mark.parametrize(
    "array",
    [np.zeros((9, 32)), np.zeros(9, np.float32), np.zeros((9, 32, 1), np.float32), np.zeros(())],
)
def test_another_array_is_refused(written, ending, array):
    path = written / f"a{ending}"
    rewrite(path, lambda content: content.update(vectors=array))
    assert "not float32 in rows" in refused(path)


@pytest.mark.parametrize("ids", [None, "0123456789"[:9], list(range(9)), ["a"] * 8])
def test_ids_that_are_none_are_refused(written, ids):
    rewrite(written / "a.npy", lambda content: content.update(ids=ids))
    assert "ids" in refused(written / "a.npy")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_flipped_bit_is_refused_or_changes_nothing(written, ending):
    whole = load_vectors(written / f"a{ending}")
    rng = np.random.default_rng(0)
    path = written / f"flipped{ending}"
    sources = files_of(written / f"a{ending}")
    for _ in range(60):
        for source, copy in zip(sources, files_of(path), strict=True):
            shutil.copy(source, copy)
        damaged = files_of(path)[rng.integers(len(sources))]
        data = bytearray(damaged.read_bytes())
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        damaged.write_bytes(data)
        try:
            found = load_vectors(path)
        except InputError:
            continue
        assert (found.ids, found.info) == (whole.ids, whole.info)
        np.testing.assert_array_equal(found.vectors, whole.vectors, strict=True)


def test_a_header_that_claims_too_much_allocates_nothing(written):
    path = written / "a.npy"
    rows = 10**12
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, 32)}
    with path.open("r+b") as file:
        np.lib.format.write_array_header_1_0(file, header)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused(path)
    with path.open("wb") as file:
        np.savez(file, vectors=np.zeros((9, 32), np.float32))
    assert "archive" in refused(path)


def test_a_parquet_without_our_columns_is_refused(written):
    path = written / "a.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns("id"), path)
    refused(path)
    pq.write_table(table.replace_schema_metadata(None), path)
    refused(path)
    save_file({"other": np.zeros(1)}, written / "a.safetensors")
    with pytest.raises(InputError, match=r"a\.safetensors"):
        load_vectors(written / "a.safetensors")


def test_a_folder_named_like_a_partition_adds_no_column(written):
    folder = written / "vector=3"
    folder.mkdir()
    shutil.copy(written / "a.parquet", folder)
    moved = load_vectors(folder / "a.parquet")
    np.testing.assert_array_equal(moved.vectors, load_vectors(written / "a.parquet").vectors)


def test_the_settings_may_hold_infinity(encoder, rows, tmp_path):
    bias = kvlens.Encoder(encoder.lm, layers=(1, 2), bias=-float("inf"))
    for ending in ENDINGS:
        embed_file(bias, rows, tmp_path / f"out{ending}")
        info = load_vectors(tmp_path / f"out{ending}").info
        assert info.settings["bias"] in (-float("inf"), [-float("inf")] * 2)
    header = json.loads((tmp_path / "out.npy.json").read_text())
    assert header["info"]["version"] == 2


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_is_what_its_library_writes(written, tmp_path, ending):
    write_table(CONTAINERS[ending].read(written / f"a{ending}"), tmp_path / f"a{ending}")
    for file in files_of(tmp_path / f"a{ending}"):
        assert file.read_bytes() == (written / file.name).read_bytes()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("step", [1, 4, 7])
def test_a_table_written_in_steps_is_the_same(written, tmp_path, ending, step):
    """Rows, ids, facts and hash; but for Parquet, whose row groups are the steps, every byte."""
    whole = load_vectors(written / f"a{ending}")
    with writing(tmp_path / f"a{ending}", len(whole.ids)) as writer:
        for first in range(0, len(whole.ids), step):
            rows = slice(first, first + step)
            writer.append(whole.ids[rows], whole.vectors[rows])
        writer.finish(whole.info.model_copy(update={"sha256": ""}))
    again = load_vectors(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(again.vectors, whole.vectors, strict=True)
    assert (again.ids, again.info) == (whole.ids, whole.info)
    if ending != ".parquet":
        for file in files_of(tmp_path / f"a{ending}"):
            assert file.read_bytes() == (written / file.name).read_bytes()


def test_what_is_not_finished_gets_no_name(written, tmp_path):
    whole = load_vectors(written / "a.npy")
    for ending in ENDINGS:
        with suppress(KeyError), writing(tmp_path / f"a{ending}", 9) as writer:
            writer.append(whole.ids[:4], whole.vectors[:4])
            raise KeyError
    assert not list(tmp_path.glob("a*"))
    assert not list(tmp_path.glob(".a*"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_disk_that_is_full_at_the_last_bytes_is_noticed(written, tmp_path, ending):
    vectors = load_vectors(written / f"a{ending}")
    largest = max(path.stat().st_size for path in files_of(written / f"a{ending}"))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, hard))
    try:
        with pytest.raises(InputError, match="cannot write"):
            write_vectors(vectors, tmp_path / f"new{ending}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert not list(tmp_path.glob("new*"))
