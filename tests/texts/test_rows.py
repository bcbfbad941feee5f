"""Rows of any table file."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kvlens.store.errors import InputError
from kvlens.texts.rows import read_rows


def test_rows_have_places_and_optional_columns(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"_id": 1, "text": "a", "title": "T"}\n\n{"_id": "2", "text": "b"}\n{"text": "c"}\n'
    )
    rows = list(read_rows(tmp_path / "a.jsonl", ("_id", "text"), optional=("title",)))
    assert [row.place for row in rows] == ["line 1", "line 3", "line 4"]
    assert [row.fields.get("title") for row in rows] == ["T", None, None]
    assert [row.problem for row in rows] == ["", "", "has no field '_id'; it has: 'text'"]
    pq.write_table(pa.table({"text": ["a", "b"], "_id": [1, 2]}), tmp_path / "a.parquet")
    rows = list(read_rows(tmp_path / "a.parquet", ("_id", "text"), optional=("title",)))
    assert [(row.place, row.fields) for row in rows] == [
        ("row 1", {"_id": 1, "text": "a"}),
        ("row 2", {"_id": 2, "text": "b"}),
    ]
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(InputError, match="no column 'text'"):
        list(read_rows(tmp_path / "a.txt", ("text",)))
