"""datatrove: documents through its local executor; what is run again does nothing twice."""

import json

import numpy as np
import pytest
from engine_cases import LAYERS, save_texts

import kvlens
from kvlens.embedding.file_options import FileRun
from kvlens.engines.recipe import EncoderRecipe
from kvlens.store.errors import InputError

pytestmark = pytest.mark.engines
pytest.importorskip("datatrove")

RUN = FileRun(chunk=16, window=40)


@pytest.fixture(scope="module")
def corpus(folder):
    """Four files of texts."""
    place = folder / "corpus"
    place.mkdir()
    for number in range(4):
        save_texts(place / f"{number}.jsonl", 50 + number)
    return place


def execute(corpus, target, logs, recipe, tasks=2):
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader

    from kvlens.engines.datatrove_steps import EmbedDocuments, SealVectors

    steps = [JsonlReader(str(corpus)), EmbedDocuments(recipe, target, RUN)]
    embed = LocalPipelineExecutor(steps, tasks=tasks, workers=1, logging_dir=str(logs))
    embed.run()
    seal = [SealVectors(target)]
    LocalPipelineExecutor(seal, tasks=1, workers=1, logging_dir=f"{logs}-seal").run()


def test_documents_become_vectors_and_a_rerun_does_nothing(folder, corpus, tmp_path, monkeypatch):
    recipe = EncoderRecipe(f"{folder}/llama", layers=LAYERS)
    target = tmp_path / "vectors.parquet"
    execute(corpus, target, tmp_path / "logs", recipe)
    vectors = kvlens.open(target)
    rows = [json.loads(line) for name in "0213" for line in lines(corpus, name)]
    assert len(vectors.ids) == len(rows) == 206
    assert sorted(vectors.ids) == sorted(row["id"] for row in rows)
    by_id = {}
    for name, vector in zip(vectors.ids, vectors.vectors, strict=True):
        by_id.setdefault(name, []).append(vector)
    expected = recipe.encoder().encode([row["text"] for row in rows])
    for row, vector in zip(rows, expected, strict=True):
        closest = min(np.abs(vector - each).max() for each in by_id[row["id"]])
        assert closest <= 1e-5 * np.abs(vector).max()

    before = written(target)
    execute(corpus, target, tmp_path / "logs", recipe)
    assert written(target) == before
    monkeypatch.setattr(EncoderRecipe, "load", never)  # even without the executor's marks
    execute(corpus, target, tmp_path / "other-logs", recipe)
    assert written(target) == before


@pytest.mark.slow
def test_a_task_that_is_missing_and_another_recipe_are_refused(folder, corpus, tmp_path):
    from kvlens.engines.task_parts import seal_parts

    recipe = EncoderRecipe(f"{folder}/llama", layers=LAYERS)
    target = tmp_path / "vectors.parquet"
    execute(corpus, target, tmp_path / "logs", recipe)
    (target / "_task-00001.json").unlink()
    with pytest.raises(InputError, match=r"1 of 2 tasks .* are not done"):
        seal_parts(target)
    other = EncoderRecipe(f"{folder}/llama", layers=(1,))
    with pytest.raises(InputError, match="made in another way"):
        execute(corpus, target, tmp_path / "other-logs", other)


def lines(corpus, name):
    return (corpus / f"{name}.jsonl").read_text().splitlines()


def written(target):
    """Every file but the marks, with its bytes and its time."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in target.glob("*.parquet")
    }


def never(self):
    raise AssertionError("a model was loaded")
