"""File run: what is written, where the ids go, and what is refused."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedding_cases import DUPLICATED, ENDINGS, write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from zoo import TEXTS

import kvlens
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.file_run import EmbedResult, embed_file
from kvlens.embedding.vectors import load_vectors
from kvlens.store.errors import InputError
from kvlens.store.notices import Notice

SKIP = {"skip_bad": True}
T_AND_N = {"column": "t", "id_column": "n"}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["document", "query"])
def test_vectors_ids_and_provenance(encoder, rows, tmp_path, ending, kind):
    target = tmp_path / f"out{ending}"
    result = embed_file(encoder, rows, target, kind=kind, chunk=3)
    assert result == EmbedResult(len(DUPLICATED), 0, 0, 32, result.seconds)
    ids = [f"doc-{i}" for i in range(len(DUPLICATED))]
    if ending == ".npy":
        vectors, header = np.load(target), json.loads((tmp_path / "out.npy.json").read_text())
        assert header["ids"] == ids
    elif ending == ".safetensors":
        with safe_open(target, "np") as file:
            vectors, header = file.get_tensor("vectors"), json.loads(file.metadata()["kvlens"])
        assert header["ids"] == ids
    else:
        table = pq.read_table(target)
        assert table.schema.field("vector").type == pa.list_(pa.float32(), 32)
        assert table["id"].to_pylist() == ids
        vectors = np.array(table["vector"].to_pylist(), dtype=np.float32)
        header = {"info": json.loads(table.schema.metadata[b"kvlens"])}
    assert (vectors.dtype, vectors.shape) == (np.float32, (len(DUPLICATED), 32))
    np.testing.assert_allclose(vectors, encoder.encode(DUPLICATED, prompt_name=kind), atol=2e-6)
    assert np.array_equal(vectors[0], vectors[-1])
    assert np.isfinite(vectors).all()
    info = header["info"]
    assert info["format"] == "kvlens.vectors"
    assert (info["kind"], info["rows"], info["dimension"], info["method"]) == (
        kind,
        9,
        32,
        "kv_embedding",
    )
    assert (info["settings"]["layers"], info["encoder"]) == ([1, 2], encoder.signature)
    assert info["texts"] == {
        "source": "rows.jsonl, column text",
        "n": 9,
        "sha256": kvlens.read_texts(rows, empty=True).sha256,
    }
    assert info["model"]["name"] == "tiny-llama"
    loaded = load_vectors(target)
    np.testing.assert_array_equal(loaded.vectors, vectors)
    assert loaded.ids == tuple(ids)
    assert json.loads(loaded.info.model_dump_json()) == info
    expected = {rows, target, *([tmp_path / "out.npy.json"] if ending == ".npy" else [])}
    assert set(tmp_path.iterdir()) == expected


@pytest.mark.parametrize(
    ("name", "content", "options", "ids"),
    [
        ("a.txt", "one\n\n \ntwo\n", {}, ["0", "3"]),
        ("a.jsonl", '{"text": "one"}\n\n{"text": "two"}', {}, ["0", "2"]),
        ("a.jsonl", '{"text": "one", "id": 7}\n{"text": "two", "id": "x"}', {}, ["7", "x"]),
        ("a.jsonl", '{"text": "one", "_id": "q1"}\n{"text": "two", "_id": "q2"}', {}, ["q1", "q2"]),
        ("a.jsonl", '{"t": "one", "n": 5}\n{"t": "two", "n": 6}', T_AND_N, ["5", "6"]),
        ("a.jsonl", '{"text": "one"}\n{\n{"text": 1}\n{"text": "two"}', SKIP, ["0", "3"]),
        ("a.jsonl", '1\n{"text": "one", "id": 4}\n{}\n{"text": "two", "id": 9}', SKIP, ["4", "9"]),
        ("a.csv", "id,text\nx,one\n\ny,two\n", {}, ["x", "y"]),
        ("a.csv", 'text,n\n"one",8\ntwo,9\n', {}, ["0", "1"]),
        ("a.csv", "text,n\none,8\nbad\ntwo,9\n", SKIP, ["0", "2"]),
        ("a.csv", "text,n\none,8\ntwo,9\n", {"id_column": "n"}, ["8", "9"]),
        ("a.tsv", "id\ttext\nx\tone\ny\ttwo\n", {}, ["x", "y"]),
        ("a.csv", "id,n\none,8\ntwo,9\n", {"column": "id"}, ["0", "1"]),
    ],
)  # fmt: skip
def test_ids_stay_with_their_rows(encoder, tmp_path, name, content, options, ids):
    (tmp_path / name).write_text(content)
    result = embed_file(encoder, tmp_path / name, tmp_path / "out.npy", **options)
    loaded = load_vectors(tmp_path / "out.npy")
    assert list(loaded.ids) == ids
    np.testing.assert_allclose(loaded.vectors, encoder.encode(["one", "two"]), atol=2e-6)
    lines = [line for line in content.splitlines() if line.strip()]
    header = name.endswith((".csv", ".tsv"))
    rows = len(lines) - header
    assert result.skipped == loaded.info.skipped == rows - 2


def test_ids_of_parquet(encoder, tmp_path):
    texts = ["one", "two", None, "four"]
    columns = {
        "_id": [5, 6, 7, 8],
        "n": ["a", "b", "c", "d"],
        "x.y": [10, 11, 12, 13],
        "text": texts,
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    for i, (column, ids) in enumerate(
        [(None, ("5", "6", "8")), ("n", ("a", "b", "d")), ("x.y", ("10", "11", "13"))]
    ):
        embed_file(
            encoder,
            tmp_path / "in.parquet",
            tmp_path / f"{i}.parquet",
            id_column=column,
            skip_bad=True,
        )
        assert load_vectors(tmp_path / f"{i}.parquet").ids == ids
    pq.write_table(pa.table({"text": texts}), tmp_path / "in.parquet")
    embed_file(encoder, tmp_path / "in.parquet", tmp_path / "out.npy", skip_bad=True)
    assert load_vectors(tmp_path / "out.npy").ids == ("0", "1", "3")


def test_a_million_character_field_and_truncation_are_counted(encoder, tmp_path):
    long = "0123456789" * 10_000
    rows = [("id", "text"), (1, long), (2, "short"), (3, long), (4, long[::-1])]
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    result = embed_file(encoder, tmp_path / "in.csv", tmp_path / "out.npy", chunk=1)
    assert (result.rows, result.truncated) == (4, 2)
    assert load_vectors(tmp_path / "out.npy").info.truncated == 2
    expected = encoder.encode([text for _, text in rows[1:]])
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=2e-6)
    strict = Encoder(encoder.lm, layers=(1, 2), strict=True)
    with pytest.raises(InputError, match="a text of 100000 characters"):
        embed_file(strict, tmp_path / "in.csv", tmp_path / "strict.npy")
    assert not list(tmp_path.glob("strict*"))


def test_post_processing_truncation_and_norm_are_those_of_encode(encoder, rows, tmp_path):
    fitted = Encoder(encoder.lm, "mean")
    fitted.fit_post("whiten", TEXTS)
    embed_file(fitted, rows, tmp_path / "out.npy", normalize=True, truncate_dim=5)
    expected = fitted.encode(DUPLICATED, normalize_embeddings=True, truncate_dim=5)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-5)
    info = load_vectors(tmp_path / "out.npy").info
    assert (info.post["kind"], info.post["n"], info.post["embedder"]) == (
        "whiten",
        5,
        fitted.signature,
    )
    assert (info.normalize, info.truncate_dim, info.dimension) == (True, 5, 5)


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(DUPLICATED), chunk=st.integers(1, 9))
def test_the_order_of_the_rows_changes_no_bit(encoder, tmp_path_factory, order, chunk):
    tmp_path = tmp_path_factory.mktemp("order")
    for name, texts in (("a", DUPLICATED), ("b", order)):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": text} for text in texts])
        embed_file(encoder, tmp_path / f"{name}.jsonl", tmp_path / f"{name}.npy", chunk=chunk)
    by_text = dict(zip(DUPLICATED, np.load(tmp_path / "a.npy"), strict=True))
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), [by_text[text] for text in order])


@pytest.mark.slow
@pytest.mark.parametrize(("id_column", "ids"), [(None, ("0", "1")), ("n", ("5", "6"))])
def test_standard_input(encoder, tmp_path, id_column, ids):
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"t": "one", "n": 5}, {"t": "two", "n": 6}])
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from zoo import tiny; import kvlens\n"
        "encoder = kvlens.Encoder(tiny('llama'), layers=(1, 2))\n"
        f"kvlens.embed_file(encoder, '-', sys.argv[2], column='t', id_column={id_column!r})"
    )
    command = [
        sys.executable,
        "-c",
        code,
        str(Path(__file__).parents[1]),
        str(tmp_path / "out.npy"),
    ]
    subprocess.run(command, input=rows.read_bytes(), check=True)
    loaded = load_vectors(tmp_path / "out.npy")
    assert (loaded.ids, loaded.info.texts.source) == (ids, "standard input, column t")
    np.testing.assert_allclose(loaded.vectors, encoder.encode(["one", "two"]), atol=2e-6)


@pytest.mark.parametrize(
    ("source", "target", "options", "says"),
    [
        ("rows.jsonl", "out.csv", {}, "is none of .npy, .safetensors, .parquet"),
        ("rows.jsonl", "out", {}, "is none of .npy"),
        ("rows.jsonl", "rows.jsonl/out.npy", {}, "cannot write .*out.npy: .*rows.jsonl is a file"),
        (
            "rows.jsonl",
            "out.npy",
            {"kind": "passage"},
            "`kind` is .*; it must be one of",
        ),
        ("rows.jsonl", "out.npy", {"chunk": 0}, "`chunk` is 0; it must be at least 1"),
        ("rows.jsonl", "out.npy", {"truncate_dim": 0}, "`truncate_dim` is 0"),
        (
            "rows.jsonl",
            "out.npy",
            {"column": "body"},
            "line 1 has no field 'body'; it has: 'id', 'text'",
        ),
        (
            "rows.jsonl",
            "out.npy",
            {"id_column": "key"},
            "line 1 has no field 'key'; it has: 'id', 'text'",
        ),
        ("absent.jsonl", "out.npy", {}, "no such file"),
        ("empty.txt", "out.npy", {}, "has no texts"),
        ("a.txt", "out.npy", {"id_column": "id"}, "one text per line and no column 'id'"),
        ("bad.jsonl", "out.npy", {}, "bad.jsonl: line 2 is not valid JSON"),
        ("no-id.jsonl", "out.npy", {}, "line 2 has no field 'id'"),
        (
            "null-id.jsonl",
            "out.npy",
            {},
            "line 1 has the id None, neither a string nor a whole number",
        ),
        ("float-id.jsonl", "out.npy", {}, "line 1 has the id 1.5"),
        ("half-id.jsonl", "out.npy", {}, "line 1 has an id that has half of a surrogate pair"),
        ("a.csv", "out.npy", {"id_column": "key"}, "no column 'key'; it has: 'text'"),
        ("number.jsonl", "out.npy", {}, r"line 1 is 5 \(int\), not a string"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    encoder, rows, tmp_path, source, target, options, says
):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "a.csv").write_text("text\na")
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": \n')
    (tmp_path / "no-id.jsonl").write_text('{"text": "a", "id": 1}\n{"text": "b"}')
    (tmp_path / "null-id.jsonl").write_text('{"text": "a", "id": null}')
    (tmp_path / "float-id.jsonl").write_text('{"text": "a", "id": 1.5}')
    (tmp_path / "half-id.jsonl").write_text(r'{"text": "a", "id": "\ud800"}')
    (tmp_path / "number.jsonl").write_text('{"text": 5}')
    before = set(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=says) as error:
        embed_file(encoder, tmp_path / source, tmp_path / target, **options)
    assert "\n" not in str(error.value)
    assert set(tmp_path.rglob("*")) == before


def test_repeated_ids_are_said(encoder, tmp_path):
    rows = [{"id": name, "text": f"{name} {i}"} for i, name in enumerate("abcbbd")]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    says = r"rows.jsonl, column text: 2 of 6 rows have the id of an earlier row \(3 are 'b'\)"
    with pytest.warns(Notice, match=says) as told:
        result = embed_file(encoder, source, tmp_path / "out.npy")
    assert len(told) == 1
    assert result.repeated_ids == 2
    assert load_vectors(tmp_path / "out.npy").ids == tuple("abcbbd")
