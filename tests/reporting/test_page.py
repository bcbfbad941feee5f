"""The page of a run folder, opened in headless Chromium."""

import io
import json
import shutil
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
from report_pages import EVIL, PROMPT, part, words

import kvlens
from kvlens import InputError
from kvlens.cli import main
from kvlens.reporting.page import PAGE_LIMIT, render, report
from kvlens.reporting.run_folder import Run
from kvlens.texts.pairs import read_pairs


def test_page_is_quiet_and_fetches_nothing(page, place):
    page.run("new Promise(done => setTimeout(done, 200))")
    assert page.problems == []
    assert page.fetched[0] == (place / "run" / "report.html").as_uri()
    assert all(url.startswith("data:image/svg+xml;base64,") for url in page.fetched[1:])
    refused = page.run("""new Promise(done => {
        document.addEventListener('securitypolicyviolation', e => done(e.effectiveDirective));
        fetch('http://127.0.0.1:9/').catch(() => setTimeout(() => done('not refused'), 500)); })""")
    assert refused == "connect-src"


def test_hostile_text_is_only_text(page):
    assert EVIL in words(page, "words")
    assert page.run(
        "[document.scripts.length, document.querySelectorAll('img[onerror]').length]"
    ) == [2, 0]
    assert "<i>source</i>" in page.run("document.getElementById('provenance').textContent")
    assert page.run("document.querySelectorAll('i').length") == 0


def test_words_are_those_of_the_lens_and_only_text(page, place):
    lens = Run.read(place / "run").words
    assert lens.shown[0] == EVIL
    assert page.run("document.querySelector('#words q').textContent") == EVIL
    rows = page.run("""[...document.querySelectorAll('#words details:first-of-type tr')].map(
        row => [...row.cells].map(cell => cell.textContent.trim().split(/\\s+/)))""")
    assert [row[0] for row in rows] == [["layer"], ["0"], ["1"], ["2"], ["3"], ["embedding"]]
    (share,) = (each for each in lens.shares_of("hidden", centred=True) if each.layer == 2)
    assert rows[3][4] == [f"{share.own:.2f}", f"({share.other:.2f})"]
    (words,) = (each for each in lens.words_of(0, "hidden", centred=True) if each.layer == 2)
    own = page.run("""[...document.querySelectorAll('#words details:first-of-type tr:nth-child(3) '
        + 'td:nth-child(4) bdi')].map(token => token.className == 'own')""")
    assert own == list(words.own[:5])


@pytest.mark.parametrize("width", [1280, 380])
def test_page_fits_its_window_and_shows_something(browser, place, width):
    browser.open(place / "run" / "report.html", width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    shown = [browser.screenshot()]
    browser.run(f"{part('after')}.scrollIntoView({{block: 'center'}})")
    shown.append(browser.screenshot())
    for png in shown:
        image = matplotlib.image.imread(io.BytesIO(png))[..., :3]
        assert image.std() > 0.05
        assert len(np.unique((image * 255).astype(int) @ [65536, 256, 1])) > 50


def test_a_bare_run_makes_a_page_that_says_what_is_missing(browser, place, capsys):
    assert main(["report", str(place / "bare"), "--no-model", "-o", str(place / "bare.html")]) == 0
    assert not (place / "bare" / "attention").exists()
    browser.open(place / "bare.html")
    assert browser.problems == []
    notes = browser.run("[...document.querySelectorAll('.missing')].map(p => p.textContent)")
    assert len(notes) == 6
    assert sum(f"kvlens report {place / 'bare'} makes it" in note for note in notes) == 4
    assert "not in it: embedding geometry" in capsys.readouterr().out


def test_the_page_says_b_star_and_how_stable_the_choice_is(place):
    run = Run.read(place / "bare")
    page = render(run)
    assert "no massive activation at position 0" in page
    assert "<th>stability</th>" not in page  # the user chose
    chosen = render(replace(run, layers=kvlens.select(run.profile)))
    assert "stability" in chosen
    assert "of 50 draws of 30 texts" in chosen
    old = run.profile.model_copy(update={"sink": None, "draws": None})
    unknown = render(replace(run, profile=old, layers=kvlens.select(old)))
    assert "not measured" in unknown
    assert "unknown: the profile has no draws" in unknown


SCORE = {
    "method": "kv_embedding",
    "label": "kv_embedding",
    "post": None,
    "settings": {},
    "task": "STS<b>",
    "split": "test",
    "metric": "cosine_spearman",
    "value": 66.12,
    "low": 60,
    "high": 70,
    "n": 99,
    "unit": "pairs",
    "p": None,
    "difference": None,
    "limited": True,
}
SCORES = {
    "format": "kvlens.scores",
    "version": 1,
    "max_length": 9,
    "versions": {},
    "command": "",
    "scores": [
        SCORE,
        SCORE | {"method": "echo", "label": "echo", "value": 71.26, "p": 0.01, "difference": 5.14},
        SCORE | {"label": "mean", "p": 0.2, "difference": -1.0, "value": 61.5},
    ],
}
WINDOW = {
    "first": 1,
    "width": 2,
    "layers": [1, 2],
    "bias": 1.0,
    "spearman": 43.21,
    "low": 40.0,
    "high": 46.0,
    "cosines": [0.1, 0.3, 0.2],
}
SWEEP = {
    "format": "kvlens.sweep",
    "version": 1,
    "prompt": PROMPT.model_dump(),
    "pooling": "last",
    "position": "keep",
    "data": "a <file>",
    "n_pairs": 3,
    "plain": 41.0,
    "plain_low": 39.0,
    "plain_high": 42.0,
    "plain_cosines": [0.1, 0.2, 0.3],
    "human": [1.0, 2.0, 3.0],
    "versions": {},
    "command": "kvlens sweep",
    "windows": [WINDOW],
}


def test_scores_and_sweep_are_shown(place, tmp_path, browser):
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    model = Run.read(run).layers.model.model_dump()
    (run / "scores.json").write_text(json.dumps(SCORES | {"model": model}))
    (run / "sweep.json").write_text(json.dumps(SWEEP | {"model": model}))
    browser.open(report(run))
    assert browser.problems == []
    cells = browser.run("""[...document.querySelectorAll('#evaluation tr')].map((row) => (
        [...row.cells].map((cell) => cell.textContent.trim())))""")
    rows = [" | ".join(row) for row in cells]
    assert rows[0] == "method | STS<b>"
    assert "kv_embedding | 66.1† (60.0 to 70.0)" in rows
    assert "echo | 71.3† (60.0 to 70.0) ▲" in rows
    assert "mean | 61.5† (60.0 to 70.0)" in rows
    assert "layers 1-2 | 1.0 | 43.2 (40.0 to 46.0)" in rows
    verdict = browser.run("document.getElementById('verdict').textContent")
    assert "best of 3 is echo with 71.3" in verdict


@pytest.mark.slow
def test_pages_stay_under_8_mb(place):
    run = Run.read(place / "run")
    many = replace(run, patterns=run.patterns[1:2] * 4 + run.patterns[:1] * 100)
    assert 3_000_000 < len(render(many)) < PAGE_LIMIT
    with pytest.raises(InputError, match="too large to be shown: take fewer texts"):
        render(replace(run, patterns=run.patterns[:1] * 3000))


def test_a_page_made_in_python_names_commands_without_flags(place):
    page = render(Run.read(place / "bare"))
    assert page.count("<code>kvlens report</code> makes it") == 4
    assert "<code>kvlens evaluate</code> makes it" in page
    assert "<code>kvlens sweep</code> makes it" in page


def test_the_readout_is_a_section_where_it_was_swept(place, tmp_path, browser, pairs_file):
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    lm = kvlens.load(place / "model")
    swept = kvlens.readout_sweep(lm, read_pairs(pairs_file), data="a <file>")
    swept.save(run / "readout.json")
    browser.open(report(run))
    assert browser.problems == []
    cells = browser.run("""[...document.querySelectorAll('#readout tbody tr')].map(row => (
        [...row.cells].map(cell => cell.textContent.trim())))""")
    curves = zip(swept.curve(True), swept.curve(False), strict=True)
    shown = [
        [
            str(after.block),
            *(f"{x.spearman:.1f} ({x.low:.1f} to {x.high:.1f})" for x in (after, bare)),
        ]
        for after, bare in curves
    ]
    assert [row for row in cells if row[0] != "block"] == shown
    said = browser.run("document.getElementById('readout').textContent.replace(/\\s+/g, ' ')")
    assert "40 pairs, a <file>. After the last block" in said
    assert f"{swept.best.difference:+.1f} ({swept.best.difference_low:.1f} to" in said
    assert 'id="readout"' not in render(Run.read(place / "bare"))


def test_the_page_says_who_sees_the_prefix_and_where_it_is_read(place):
    run = Run.read(place / "bare")
    plain = render(run)
    assert "<th>controls</th>" not in plain
    assert "<th>read</th>" not in plain
    layers = kvlens.select(run.profile, queries="shielded", readout=1)
    page = render(replace(run, layers=layers))
    assert "queries shielded" in page
    assert "after block 1 of 4" in page


def test_effects_are_a_section_where_there_are_some(place, tmp_path, browser):
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    lm = kvlens.load(place / "model")
    effects = kvlens.effects(lm, ["a text", "another text", "one more"], [1], prompt=PROMPT)
    effects.save(run / "effects.json")
    browser.open(report(run))
    assert browser.problems == []
    said = browser.run("document.getElementById('effects').textContent.replace(/\\s+/g, ' ')")
    assert "Measured with layer 1, bias 1.0, not as the layer set says" in said
    cells = browser.run("""[...document.querySelectorAll('#effects tbody tr')].map(row => (
        [...row.cells].map(cell => cell.textContent.trim())))""")
    rows = [row for row in cells if row[0] != "left out"]
    wanted = [[each.words, f"{each.moved:.4f}", f"{each.spread:.4f}"] for each in effects.effects]
    assert rows == wanted
    assert not browser.run("document.querySelector('#verdict').textContent").count("nan")
    assert 'id="effects"' not in render(Run.read(place / "bare"))
