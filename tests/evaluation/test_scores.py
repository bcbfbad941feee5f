"""The table of scores as Markdown: names of models, tasks and methods are text, never markup."""

import json
from pathlib import Path

import pytest

from kvlens.evaluation.scores import Scores

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
