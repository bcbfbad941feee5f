"""Tasks by name: of a benchmark, an aggregate, a folder."""

import pytest

from kvlens import InputError
from kvlens.evaluation.kinds import unit
from kvlens.evaluation.tasks import find_tasks

pytest.importorskip("mteb")

FIRST = [str(i) for i in range(4)]
REST = [str(i) for i in range(4, 12)]


@pytest.fixture
def split_data(data):
    """Two folders in BEIR's layout whose judgements are split: MSMARCO's own split is dev."""
    cranfield = data / "Cranfield"
    lines = (cranfield / "qrels.tsv").read_text().splitlines(keepends=True)
    for name in ("Cranfield", "MSMARCO"):
        folder = data / name
        (folder / "qrels").mkdir(parents=True)
        (folder / "qrels" / "test.tsv").write_text("".join(lines[:13]))
        (folder / "qrels" / "dev.tsv").write_text("".join(lines[:1] + lines[13:]))
    for file in cranfield.glob("*.jsonl"):
        (data / "MSMARCO" / file.name).write_text(file.read_text())
    (cranfield / "qrels.tsv").unlink()
    return data


@pytest.mark.parametrize(
    ("name", "split", "expected"),
    [
        ("Cranfield", "dev", ("dev", REST)),
        ("Cranfield", None, ("test", FIRST)),
        ("MSMARCO", "dev", ("dev", REST)),
        ("MSMARCO", None, ("dev", REST)),
    ],
)
def test_a_split_of_a_beir_folder_is_its_own_file(split_data, name, split, expected):
    (task,) = find_tasks([name], split_data, split)
    task.load_data()
    (evaluated,) = task.eval_splits
    queries = sorted(task.dataset["default"][evaluated]["relevant_docs"], key=int)
    assert (evaluated, queries) == expected


@pytest.mark.parametrize("name", ["Cranfield", "MSMARCO"])
def test_a_split_without_its_file_is_refused(split_data, name):
    with pytest.raises(InputError, match=r"has no qrels/other.tsv"):
        find_tasks([name], split_data, "other")


@pytest.mark.slow
def test_benchmark_leaves_out_what_is_not_supported():
    with pytest.warns(UserWarning, match="left out: SummEval"):
        tasks = find_tasks(["MTEB(eng, v1)"])
    names = {task.metadata.name for task in tasks}
    assert {"STS12", "Banking77Classification", "NFCorpus"} <= names


def test_an_aggregate_is_its_parts():
    tasks = find_tasks(["CQADupstackRetrieval"])
    assert len(tasks) == 12
    assert {unit(task) for task in tasks} == {"queries"}
