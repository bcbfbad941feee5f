"""The site's parts: links that hold, every command and every public name on a page."""

from datetime import date
from pathlib import Path
from statistics import fmean

import pytest
import yaml
from page_facts import FACTS, fact, without_marks, wrong_facts
from page_inserts import INSERT, INSERTS, insert, with_inserts
from page_links import relinked, site_path
from reference_python import python_pages
from reference_terminal import terminal_page
from saved_results import models_with, result
from score_tables import post_table, score_table
from source_pages import source_page

import kvlens
from kvlens.cli.app import COMMANDS
from kvlens.methods.registry import methods

ROOT = Path(__file__).parents[1]
SETTINGS = yaml.safe_load((ROOT / "docs/site/mkdocs.yml").read_text(encoding="utf-8"))


def entries(nav):
    """The files of a navigation, at any depth."""
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from entries(value) if isinstance(value, list) else [value]


@pytest.mark.parametrize(
    ("page", "link", "expected", "target"),
    [
        ("docs/a.md", "b.md#c", "b.md#c", "docs/b.md"),
        ("docs/a.md", "../README.md", "index.md", "README.md"),
        ("docs/a.md", "../figures/x.png", "figures/x.png", "figures/x.png"),
        ("docs/d/a.md", "../../kvlens/x.py", "../kvlens/x.py.md", "kvlens/x.py"),
        ("docs/a.md", "site/x.py", "site/x.py.md", "docs/site/x.py"),
        ("README.md", "docs/a.md", "a.md", "docs/a.md"),
        ("figures/x.md", "../docs/a.md", "../a.md", "docs/a.md"),
    ],
)
def test_a_link_of_the_repository_becomes_one_of_the_site(page, link, expected, target):
    wanted = []
    assert relinked(f"[x]({link})", page, wanted.append) == f"[x]({expected})"
    assert wanted == [target]


@pytest.mark.parametrize("text", ["[x](https://a.b/c.md)", "[x](#y)", "```\n[x](b.md)\n```\n"])
def test_other_links_and_code_stay(text):
    assert relinked(text, "docs/a.md", pytest.fail) == text


def test_sources_folders_and_notebooks_have_pages():
    assert "def record(" in source_page(ROOT, "kvlens/tracing/recording.py")
    assert "`recording.py`" in source_page(ROOT, "kvlens/tracing")
    notebook = source_page(ROOT, "notebooks/01_profile.ipynb")
    assert "import kvlens" in notebook
    assert "](data:image/png;base64," in notebook
    assert "<math " in notebook
    assert "$" not in notebook.replace("```", "").partition("import kvlens")[0]


def test_every_command_is_on_the_page_of_the_terminal():
    page = terminal_page()
    for commands in COMMANDS.values():
        for command in commands:
            assert f"\n## kvlens {command.__name__}\n" in page
    assert "Table of Contents" not in page


def test_every_public_name_is_on_a_page_of_python():
    text = "\n".join(python_pages().values())
    for name, home in kvlens._HOME.items():
        assert f"::: kvlens.{home}.{name}\n" in text, name


def test_the_navigation_has_every_page_once():
    listed = list(entries(SETTINGS["nav"]))
    written = {site_path(p.relative_to(ROOT).as_posix()) for p in (ROOT / "docs").rglob("*.md")}
    assert sorted(listed) == sorted(written | {"terminal.md"} | python_pages().keys())


def test_nothing_is_fetched_by_a_reader():
    assert SETTINGS["theme"]["font"] is False
    assert "offline" not in SETTINGS["plugins"]


def test_a_number_is_held_against_the_result_that_it_names():
    true = f"{result('sweep', 'gemma3-270m').plain:.1f}"
    mark = "<!--= plain gemma3-270m -->"
    assert wrong_facts(f"Plain: **{true}**{mark}, {true}{mark}.") == []
    assert wrong_facts(f"a\nIt is 1.0{mark}.") == [f"line 2 says 1.0, plain gemma3-270m is {true}"]
    assert without_marks(f"It is {true}{mark}.") == f"It is {true}."


def test_facts_are_those_of_the_scores():
    scores = result("scores", "smollm2-135m").scores
    best = next(entry for entry in scores if entry.label == "echo + zscore")
    assert fact(f'score smollm2-135m {best.task} "echo + zscore"') == f"{best.value:.1f}"
    ends = f"({best.difference_low:.1f} to {best.difference_high:.1f})"
    assert (
        fact(f'ahead smollm2-135m {best.task} "echo + zscore"') == f"{best.difference:+.1f} {ends}"
    )
    whole = next(each for each in result("effects", "gemma3-270m").effects if each.kind == "route")
    mark = '<!--= adds gemma3-270m "all of the route" -->'
    low, high = whole.score.low, whole.score.high
    assert not wrong_facts(f"{whole.score.value:+.1f} ({low:.1f} to {high:.1f}){mark}")
    assert wrong_facts(f"{whole.score.value:+.1f} (1.0 to {high:.1f}){mark}")
    with pytest.raises(LookupError, match="no score of 'nothing'"):
        fact("score smollm2-135m STS16 nothing")


@pytest.mark.parametrize("old", [set(), {"STS16"}])
def test_what_was_carried_over_is_marked_in_its_cell_or_by_its_task(old):
    saved = result("scores", "smollm2-135m")
    day = date(2026, 11, 22)
    scores = [
        each.model_copy(update={"measured": day}) if each.task in old else each
        for each in saved.scores
    ]
    table = saved.model_copy(update={"scores": tuple(scores)})
    head, _, *rows = score_table(table, "model").splitlines()
    tasks = {score.task for score in scores}
    assert tasks > old
    for task in tasks:
        assert (f"| {task}† |" if task in old else f"| {task} |") in head
    for label in ("mean", "echo", "ke"):
        row = next(row for row in rows if row.startswith(f"| {label} |"))
        carried = [each for each in scores if each.method_label == label and each.measured]
        assert row.count("†") == len([each for each in carried if each.task not in old])
    assert any(each.measured for each in scores if each.task not in old)
    assert " /  |" in next(row for row in rows if row.startswith("| ke |"))  # not whitened


def test_a_methods_mean_is_that_of_its_best_post_processing():
    entries = result("scores", "gemma3-270m").scores
    means = [
        fmean(each.value for each in entries if each.label == label)
        for label in ("echo", "echo + zscore", "echo + whiten")
    ]
    assert fact("best_mean gemma3-270m echo") == f"{max(means):.1f}"
    with pytest.raises(LookupError, match="a task is missing"):
        fact("best_mean gemma3-270m look_both_ways")


def test_post_processings_are_columns_of_all_tasks():
    scores = result("posts", "gemma3-270m")
    head, _, *rows = post_table(scores, "model").splitlines()
    assert head == "| model | none | center | project_mean | zscore | embed_filter |"
    cells = {row.split("|")[1].strip(): row.strip("|").split("|")[1:] for row in rows}
    for score in scores.scores:
        place = (None, "center", "project_mean", "zscore", "embed_filter").index(score.post)
        assert f"{score.value:.1f}{score.post_sign}" in cells[score.method_label][place].split()
    assert [cell.strip() for cell in cells["prompt_eol"]][3] == "61.9- / 67.5-"
    best = [max(mean_of(cell) for cell in row) for row in cells.values()]
    assert best == sorted(best, reverse=True)


def mean_of(cell):
    return fmean(float(value.strip(" +-")) for value in cell.split("/"))


def test_facts_of_the_layer_study_and_of_attention():
    study = result("study", "smollm2-135m")
    best = next(each for each in study.correlations if each.rho.value > 0.4)
    words = f"{best.states} {best.points} {best.width} {best.bias:g}"
    assert fact(f"rank smollm2-135m {words}").startswith(f"{best.rho.value:+.2f} (")
    by_rule = [each for each in study.outcomes if each.states]
    worst = max(by_rule, key=lambda each: each.regret.value)
    words = f"{worst.rule} {worst.states} {worst.points} {worst.width} {worst.bias:g}"
    assert fact(f"regret smollm2-135m {words}").startswith(f"{worst.regret.value:.1f} (")
    caption = (ROOT / "figures/beta_by_layer.md").read_text(encoding="utf-8")
    assert fact("beta gemma3-270m text 8 first") in caption
    for words in ("rank smollm2-135m k last 9 1", "regret smollm2-135m peak k last 9 1"):
        with pytest.raises(LookupError):
            fact(words)


def test_a_block_is_held_against_the_result_that_prints_it():
    first, second, *_ = str(result("layers", "smollm2-135m")).splitlines()
    block = f"<!--= printed layers smollm2-135m stable -->\n```text\n{first}\n%s\n  stable x\n```\n"
    assert wrong_facts(block % second) == []
    assert wrong_facts(block % "x 1") == ["layers smollm2-135m does not print: x 1"]
    assert "printed" not in without_marks(block)


def test_the_readme_is_short_and_names_every_command_and_method():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    for command in (each for commands in COMMANDS.values() for each in commands):
        assert f"| `{command.__name__}` |" in text
    for name in methods():
        assert f"[`{name}`](kvlens/methods/{name}.py)" in text


@pytest.mark.parametrize("words", ["layers", "shape", "read_last", "read_best", "read_block"])
def test_every_other_fact_is_there(words):
    assert words in FACTS
    assert fact(f"{words} smollm2-135m")


def test_tables_hold_every_model_that_was_measured():
    table = insert("windows")
    for model in models_with("sweep"):
        best = max(result("sweep", model).windows, key=lambda window: window.spearman)
        assert f"{best.spearman:.1f} ({best.low:.1f} to {best.high:.1f})" in table
    for name in ("scores scores", "scores retrieval", "layer_sets", "readouts", "figure depth"):
        assert insert(name).count("|") > 15 or insert(name).startswith("![")
    assert insert("scores nothing") == "*Not measured yet.*"


def test_what_is_inserted_stands_on_a_page():
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")]
    marks = {match["words"].split()[0] for page in pages for match in INSERT.finditer(page)}
    assert marks == INSERTS.keys()
    assert with_inserts("a <!-- insert: decisions --> b").startswith("a *Not") or models_with(
        "decision"
    )
