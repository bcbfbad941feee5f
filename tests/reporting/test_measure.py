"""What a run lacks is measured once, and kept."""

import errno
import json
import shutil

import pytest
from report_pages import EVIL, PROMPT
from zoo import tiny

import kvlens
from kvlens import InputError
from kvlens.cli import main
from kvlens.reporting.page import PAGE_LIMIT, report
from kvlens.reporting.run_folder import Run
from kvlens.store.files import unwritable


def test_what_is_missing_is_measured_once_and_kept(place, capsys):
    run = Run.read(place / "run")
    assert [p.tokens[-1] for p in run.patterns] == [":"] * 3
    assert "".join(run.patterns[0].tokens) == PROMPT.render(EVIL)
    assert run.shift.layers == (1, 3)
    assert run.shift.bias == (0.5, 2.0)
    assert run.shift.span == "text"
    assert run.shift.texts.n == 60
    assert run.geometry.n == 60
    assert set(run.missing) == {"an evaluation table", "a sweep over the layers"}
    page = (place / "run" / "report.html").read_bytes()
    assert len(page) < PAGE_LIMIT
    assert kvlens.report is report  # the function, not the module of that name
    again = place / "again.html"
    assert main(["report", str(place / "run"), "--json", "-o", str(again)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bytes"] == len(page)
    assert again.read_bytes() == page
    assert [part["what"] for part in answer["missing"]] == [
        "an evaluation table",
        "a sweep over the layers",
    ]


@pytest.mark.slow
def test_a_run_with_everything_needs_no_model(place):
    def never():
        raise AssertionError("the model was asked for")

    first = report(place / "run", place / "first.html").read_bytes()
    assert report(place / "run", place / "second.html", lm=never).read_bytes() == first


def test_another_model_is_refused(place):
    with pytest.raises(InputError, match="no longer the model of this run"):
        report(place / "bare", lm=tiny("llama", seed=1))


def test_a_measurement_that_cannot_be_written_is_no_missing_one(place, tmp_path, monkeypatch):
    """A full disk at the words made a page without them, and said that they could not be read."""
    folder = shutil.copytree(place / "run", tmp_path / "run")
    (folder / "word_lens.json").unlink()

    def full(lens, path):
        raise unwritable(path, OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(kvlens.WordLens, "save", full)
    with pytest.raises(InputError, match=r"word_lens\.json: No space left"):
        report(folder, lm=kvlens.load(place / "model"))
