"""Artifacts: every container refuses what it is not; `kvlens.open` finds the reader."""

import json
import re

import pytest
from test_old_files import CONTAINERS, DATA, RECORDS

import kvlens
from kvlens.store.opening import format_of


@pytest.mark.parametrize("file", [*RECORDS, *CONTAINERS])
def test_open_gives_what_the_class_loads(file):
    kind = {**RECORDS, **CONTAINERS}[file]
    assert type(kvlens.open(DATA / file)) is kind


@pytest.mark.parametrize("file", ["vectors.npy", "vectors.safetensors", "vectors.parquet"])
def test_open_reads_vectors_of_every_ending(file):
    assert kvlens.open(DATA / file).info.rows == 12


def test_the_table_of_readers_agrees_with_the_classes():
    results = {name: each for name, each in kvlens._LOADERS.items() if each != "load_vectors"}
    for name, public in results.items():
        kind = getattr(kvlens, public)
        fields = getattr(kind, "model_fields", None)
        own = fields["format"].default if fields else kind.format
        assert name in (own, f"{own}-index")  # what leads to several files


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is no file of kvlens"),
        (b"{}", 'has no "format"'),
        (b"[1, 2]", 'has no "format"'),
        (b'{"format": 3}', 'has no "format"'),
        (b'{"format": "kvlens.other"}', "unknown format 'kvlens.other'"),
        (b"\xff\xfe", "is no file of kvlens"),
        (b"[" * 100_000, "is no file of kvlens"),
    ],
)
def test_open_refuses_other_files(content, problem, tmp_path):
    for name in ("x.json", "x"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(kvlens.InputError, match=re.escape(problem)):
            kvlens.open(path)
    with pytest.raises(kvlens.InputError, match=r"cannot read .*absent"):
        kvlens.open(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("file", RECORDS)
def test_another_version_and_another_kind_are_refused(file, tmp_path):
    kind = RECORDS[file]
    content = json.loads((DATA / file).read_text(encoding="utf-8"))
    path = tmp_path / file
    path.write_text(json.dumps({**content, "version": 99}), encoding="utf-8")
    with pytest.raises(kvlens.InputError, match=r"version 99, this kvlens reads 1( and 2)?: "):
        kind.load(path)
    path.write_text(json.dumps({**content, "format": "other"}), encoding="utf-8")
    with pytest.raises(kvlens.InputError, match='lacks "format"'):
        kind.load(path)


@pytest.mark.parametrize("file", CONTAINERS)
def test_tensors_of_another_kind_are_refused(file):
    others = [name for name in CONTAINERS if format_of(DATA / name) != format_of(DATA / file)]
    for other in others:
        with pytest.raises(kvlens.InputError, match='lacks "format"'):
            CONTAINERS[file].load(DATA / other)
