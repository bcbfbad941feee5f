"""Scan: what a first reading finds out is what reading all at once gives."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlens.store.errors import InputError
from kvlens.texts.readers import read_texts
from kvlens.texts.scan import Repeated, scan, usable
from kvlens.texts.spool import Spool
from kvlens.texts.text_file import TextFile


def file_of(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TextFile.at(path, ids=True, skip_bad=True, empty=True)


@given(ids=st.lists(st.sampled_from(["a", "b", "é", "0", "1"]), min_size=1, max_size=12))
def test_what_reading_all_at_once_gives(tmp_path_factory, ids):
    folder = tmp_path_factory.mktemp("scan")
    rows = [{"id": name, "text": f"text {i}"} for i, name in enumerate(ids)]
    file = file_of(folder / "rows.jsonl", [*rows, {"text": 5}])
    found = scan(file)
    texts = read_texts(folder / "rows.jsonl", ids=True, skip_bad=True)
    assert found.info == texts.info()
    assert found.skipped == 1
    assert found.id_characters == len(json.dumps(texts.ids))
    repeated = len(ids) - len(set(ids))
    most = max(ids, key=ids.count)
    assert found.repeated == (Repeated(repeated, most, ids.count(most)) if repeated else Repeated())


def test_row_numbers_are_never_twice(tmp_path):
    found = scan(file_of(tmp_path / "rows.jsonl", [{"text": "same"}] * 3))
    assert (found.repeated, found.info.n) == (Repeated(), 3)


def test_a_spool_has_the_same_rows(tmp_path):
    rows = [{"id": 4, "text": "é\n\x00"}, {"text": 5}, {"id": "x", "text": ""}]
    file = file_of(tmp_path / "rows.jsonl", rows)
    spool = Spool.of(file, tmp_path / "spool")
    assert scan(spool) == scan(file)
    entries = [[(entry.text, entry.id) for entry in usable(texts)] for texts in (file, spool)]
    assert entries[0] == entries[1] == [("é\n\x00", "4"), ("", "x")]


def test_no_text_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"rows.jsonl has no texts \(1 bad rows skipped\)"):
        scan(file_of(tmp_path / "rows.jsonl", [{}]))
