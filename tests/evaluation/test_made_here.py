"""Tasks made here: by name, in order, of what the user gives; the terminal reads the table."""

import subprocess
import sys

import pytest

from kvlens.cli import main
from kvlens.evaluation import made_here
from kvlens.evaluation.made_here import MADE_HERE, Material, make_tasks
from kvlens.evaluation.retrieval import Collection, retrieval_task
from kvlens.evaluation.scores import Scores

pytest.importorskip("mteb")


def colours(material):
    """A task as a newcomer makes one."""
    queries = {"r": "red", "b": "blue"}
    documents = {"r": ("", "red apples"), "b": ("", "blue sky"), "x": ("", "nothing")}
    relevant = {key: {key: 1} for key in queries}
    name = f"Colours@{material.lengths[0]}"
    return [retrieval_task(name, Collection(queries, documents, relevant), "made up")]


@pytest.fixture
def _colours(monkeypatch):
    monkeypatch.setitem(MADE_HERE, "Colours", colours)


@pytest.mark.usefixtures("_colours")
def test_a_task_is_a_function_and_an_entry():
    material = Material(None, (8,))
    names = [task.metadata.name for task in make_tasks(["STS12", "Colours"], material)]
    assert names == ["Colours@8"]
    assert make_tasks(["STS12"], material) == []


@pytest.mark.slow
@pytest.mark.usefixtures("_colours")
def test_the_terminal_runs_it_beside_others(saved_model, data, tmp_path):
    run = tmp_path / "run"
    command = f"evaluate {saved_model} --tasks Cranfield,Colours --data-dir {data}"
    assert main(f"{command} --lengths 8 --methods mean -o {run}".split()) == 0
    scores = Scores.load(run / "scores.json").scores
    assert [(score.task, score.n) for score in scores] == [("Cranfield", 12), ("Colours@8", 2)]


def test_the_help_names_every_task_made_here(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"or {', '.join(MADE_HERE)}" in words


def test_their_names_need_no_torch():
    heavy = "{'torch', 'transformers', 'mteb'} & sys.modules.keys()"
    code = f"import sys, {made_here.__name__}; assert not {heavy}"
    subprocess.run([sys.executable, "-c", code], check=True)
