"""The table of scores as Markdown: names of models, tasks and methods are text, never markup."""

import json
from datetime import date
from pathlib import Path

import pytest

from kvlens.evaluation.scores import Scores
from kvlens.plots.scores import plot_scores
from kvlens.store.errors import InputError

MarkdownIt = pytest.importorskip("markdown_it").MarkdownIt
OLD = Path(__file__).parents[1] / "data" / "v0.1.0" / "scores.json"
HOSTILE = "<script>alert(1)</script>|`<b>`\n\n<img src=x>"


def test_nothing_of_a_name_becomes_markup():
    content = json.loads(OLD.read_text())
    content["model"]["name"] = f"model{HOSTILE}"
    content["command"] = f"kvlens{HOSTILE}"
    for score in content["scores"]:
        score.update(
            label=f"{score['label']}{HOSTILE}",
            task=f"task{HOSTILE}",
            metric=f"metric{HOSTILE}",
            split=f"split{HOSTILE}",
        )
    table = Scores.model_validate_json(json.dumps(content))
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(table.markdown())
    assert "<script" not in html
    assert "<img" not in html
    assert "<b>" not in html
    labels = {score.label for score in table.scores}
    assert html.count("<tr>") == 1 + len(labels)
    assert html.count("<th>") == 2
    assert html.count("<td>") == 2 * len(labels)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;|" in html


def test_plain_names_stay_as_they_are():
    table = Scores.load(OLD).table()
    assert "kv_embedding" in table
    assert "\\" not in table


def test_what_a_table_lacks_is_carried_over_with_its_day(tmp_path):
    whole = Scores.load(OLD)
    new = whole.model_copy(update={"scores": whole.scores[:1], "command": "kvlens evaluate again"})
    table = new.with_earlier(whole, date(2026, 11, 22))
    assert {score.place for score in table.scores} == {score.place for score in whole.scores}
    assert len(table.scores) == len(whole.scores) > 1
    assert table.scores[0] == whole.scores[0]
    assert all(score.measured == date(2026, 11, 22) for score in table.scores[1:])
    assert (table.command, table.versions) == (new.command, new.versions)
    assert Scores.load(table.save(tmp_path / "scores.json")) == table
    assert table.markdown().count("†") == len(whole.scores)
    assert "†: carried over, measured on 2026-11-22." in table.markdown()
    assert "†" not in new.markdown()
    later = new.with_earlier(table, date(2026, 11, 30))
    assert later == table
    ax = plot_scores(table)[0]
    hollow = [line for line in ax.get_lines() if line.get_markerfacecolor() == "white"]
    assert sum(len(line.get_xdata()) for line in hollow) == len(
        [score for score in table.scores[1:] if score.task == table.scores[0].task]
    )


def test_scores_that_do_not_stand_side_by_side_are_not_carried_over():
    table = Scores.load(OLD)
    for other in (
        {"max_length": table.max_length + 1},
        {"reference": "mean"},
        {"model": table.model.model_copy(update={"revision": "another"})},
    ):
        with pytest.raises(InputError, match="the other table"):
            table.with_earlier(table.model_copy(update=other), date(2026, 11, 22))
