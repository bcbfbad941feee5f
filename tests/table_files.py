"""Files of texts and pairs as other programs write them."""

import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kvlens.store.errors import InputError


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def write_csv(path, rows, delimiter=",", opener=open):
    with opener(path, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def write_jsonl(path, items, ascii_only=False):
    lines = [
        json.dumps({"id": i, "text": item}, ensure_ascii=ascii_only) for i, item in enumerate(items)
    ]
    path.write_bytes("\n".join(lines).encode())


def write_parquet(path, items, kind=None):
    pq.write_table(pa.table({"id": range(len(items)), "text": pa.array(items, kind)}), path)


def write_table(path, rows):
    if ".parquet" in path.name:
        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="", encoding="utf-8") as file:
        if ".jsonl" in path.name:
            file.write("\n".join(json.dumps(row) for row in rows))
            return
        delimiter = "\t" if ".tsv" in path.name else ","
        writer = csv.DictWriter(file, ["score", "sentence2", "sentence1"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
