"""Damaged files of other programs: texts, pairs, collections, results of mteb; the law of `damage`.

``PYTHONPATH=tests python -m torture.damage_foreign SEED N [FORMAT]`` tells all that breaks.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import sys
import tempfile
import warnings
from collections import Counter
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torture.damage import Format, campaign_of, survey

import kvlens
from kvlens.evaluation.beir import read_beir
from kvlens.evaluation.results import Prediction, Results
from kvlens.evaluation.task_score import found
from kvlens.store.errors import InputError
from kvlens.texts import wikipedia
from kvlens.texts.pairs import read_pairs

ROWS = [
    {
        "id": f"r{i}",
        "text": f"text {i} of a café, “quoted”",
        "sentence1": f"a {i}",
        "sentence2": f"b, {i}",
        "score": i / 4,
    }
    for i in range(24)
]


def _csv(delimiter: str) -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return file.getvalue().encode()


def _parquet(**options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), file, row_group_size=9, **options)
    return file.getvalue()


def _json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


@cache
def _tables() -> dict[str, bytes]:
    tables = {
        "txt": "\n".join(row["text"] for row in ROWS).encode(),
        "jsonl": _json_lines(ROWS),
        "csv": _csv(","),
        "tsv": _csv("\t"),
        "parquet": _parquet(),
        "plain.parquet": _parquet(compression="none", use_dictionary=False),
        "zstd.parquet": _parquet(compression="zstd", data_page_version="2.0"),
        "delta.parquet": _parquet(
            use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"}, compression="gzip"
        ),
    }
    packed = ("txt", "jsonl", "parquet")
    zst = {f"{name}.zst": pa.compress(tables[name], "zstd", asbytes=True) for name in packed}
    gz = {f"{name}.gz": gzip.compress(tables[name], mtime=0) for name in packed}
    return tables | gz | zst


def _write_table(ending: str, folder: Path) -> Path:
    path = folder / f"table.{ending}"
    path.write_bytes(_tables()[ending])
    return path


def read_either_way(path: Path) -> kvlens.Texts:
    """The texts, without the bad rows where there are any."""
    try:
        return kvlens.read_texts(path, ids=True)
    except InputError:
        return kvlens.read_texts(path, skip_bad=True)


def use_texts(texts: kvlens.Texts, scratch: Path) -> None:
    json.loads(texts.info().model_dump_json())
    assert texts.items
    for text in (*texts, *(texts.ids or ())):
        assert type(text) is str
        text.encode()


def use_pairs(pairs: Any, scratch: Path) -> None:
    assert len(pairs.first) == len(pairs.second) == len(pairs.scores) >= 10
    assert np.isfinite(pairs.scores).all()
    for text in (*pairs.first, *pairs.second):
        text.encode()


def texts_format(ending: str) -> Format:
    return Format(f"texts .{ending}", partial(_write_table, ending), read_either_way, use_texts)


def pairs_format(ending: str) -> Format:
    return Format(f"pairs .{ending}", partial(_write_table, ending), read_pairs, use_pairs)


def _write_beir(folder: Path) -> Path:
    place = folder / "Collection"
    place.mkdir()
    documents = [
        {"_id": f"d{i}", "title": f"title {i}", "text": f"document {i}"} for i in range(12)
    ]
    queries = [{"_id": f"q{i}", "text": f"query {i}"} for i in range(5)]
    judged = ["query-id\tcorpus-id\tscore", *(f"q{i}\td{2 * i}\t{i % 2 + 1}" for i in range(5))]
    (place / "corpus.jsonl").write_bytes(_json_lines(documents))
    (place / "queries.jsonl").write_bytes(_json_lines(queries))
    (place / "qrels.tsv").write_text("\n".join(judged) + "\n")
    use_collection(read_collection(place), folder)  # what is imported now counts as no work
    return place


def read_collection(path: Path) -> Any:
    return read_beir(path.name, path)


def use_collection(task: Any, scratch: Path) -> None:
    task.load_data()
    tables = task.dataset["default"]["test"]
    assert set(tables["relevant_docs"]) == set(tables["queries"]["id"])


def _results(folder: Path) -> Results:
    import mteb
    from mteb.mocks.mock_tasks import MockSTSTask
    from mteb.models import ModelMeta

    meta = ModelMeta.create_empty({"name": "kvlens/a", "revision": "1"})
    return Results(MockSTSTask(), meta, mteb.ResultCache(folder))


@cache
def _good_results() -> tuple[bytes, bytes]:
    """mteb's result of a task of its own and our items, as an evaluation writes them."""
    from mteb.results import TaskResult
    from scipy.stats import spearmanr

    with tempfile.TemporaryDirectory() as folder:
        results = _results(Path(folder))
        task = results.task
        rng = np.random.default_rng(0)
        cosines = rng.normal(size=40)
        human = cosines + rng.normal(size=40)
        main = float(spearmanr(cosines, human).statistic)
        task.dataset = {"test": {"score": human.tolist()}}
        scores = {"test": {"default": {"main_score": main, "cosine_spearman": main}}}
        result = TaskResult.from_task_results(task, scores, evaluation_time=1.5)
        results.file.parent.mkdir(parents=True)
        result.to_disk(results.file)
        predicted = Prediction({"cosine_scores": cosines.tolist()})
        results.save_items({("test", "default"): predicted})
        return results.file.read_bytes(), results.items_file.read_bytes()


def _write_results(folder: Path) -> Path:
    results = _results(folder)
    results.file.parent.mkdir(parents=True)
    result, items = _good_results()
    results.file.write_bytes(result)
    results.items_file.write_bytes(items)
    return folder


def read_results(path: Path) -> Any:
    """The score as it was written, or None and a warning: damaged results are never used."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        score = found(_results(path))
    if score is None:
        assert len(caught) <= 1
    return score


def use_results(score: Any, scratch: Path) -> None:
    if score is not None:
        assert score.n_items == 40
        assert abs(score.value - _main_score()) < 1e-6


@cache
def _main_score() -> float:
    return json.loads(_good_results()[0])["scores"]["test"][0]["main_score"]


ARTICLES = [(f"Title {i}", [[f"A sentence {i}.", None], ["Another é."]]) for i in range(20)]


def _write_articles(folder: Path) -> Path:
    with patch.dict(os.environ, KVLENS_CACHE=str(folder)):
        path = wikipedia._parsed_file()
    path.parent.mkdir(parents=True)
    path.write_text(wikipedia._packed(ARTICLES), encoding="utf-8")
    return path


def read_articles(path: Path) -> Any:
    """The articles; parsed again, which is the same, where what was kept is damaged."""
    place = patch.dict(os.environ, KVLENS_CACHE=str(path.parents[1]))
    with place, patch.object(wikipedia, "_parse_dump", lambda: ARTICLES):
        return wikipedia.parsed_articles()


def use_articles(articles: Any, scratch: Path) -> None:
    assert articles == ARTICLES


FORMATS = (
    *map(texts_format, _tables()),
    *map(pairs_format, ("jsonl", "csv", "plain.parquet")),
    Format("collection", _write_beir, read_collection, use_collection),
    Format("results of mteb", _write_results, read_results, use_results),
    Format("articles", _write_articles, read_articles, use_articles),
)


def campaign(seed: int, n: int, folder: Path) -> Counter[str]:
    """Try about `n` damaged files of all formats; see `campaign_of`."""
    return campaign_of(FORMATS, seed, n, folder)


if __name__ == "__main__":
    survey(FORMATS, *sys.argv[1:])
