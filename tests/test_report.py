"""The report on a small model, opened in headless Chromium; and how results show themselves in Jupyter."""

import io
import json
import random
import shutil
from dataclasses import replace
from html import escape

import matplotlib.image
import numpy as np
import pytest
from browser import BINARY, Browser
from conftest import tiny
from matplotlib import colormaps

import kvlens
from kvlens import InputError, Prompt, Texts
from kvlens.analysis.attention import AttentionPatterns, AttentionShift, attention_shift
from kvlens.cli import main
from kvlens.reporting.attention_browser import LIMIT
from kvlens.reporting.page import render, report
from kvlens.reporting.run_folder import Run

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
PROMPT = Prompt(name="test", prefix="In: ", suffix=" Out:")
SELECTORS = ("text", "layer", "head", "effect")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, texts (the first one hostile, and long enough for bins) and the two runs: `bare`, what
    `kvlens profile` leaves, and `run`, after `kvlens report` measured the rest."""
    folder = tmp_path_factory.mktemp("report")
    wrapped = tiny("llama")
    wrapped.hf.save_pretrained(folder / "model")
    wrapped.tokenizer.save_pretrained(folder / "model")
    lm, rng = kvlens.load(folder / "model"), random.Random(0)
    words = ["river", "stone", "light", "music", "paper", "engine", "garden"]
    texts = [EVIL, "A cat sat.", "Two\nlines <b>&amp;"] + [
        f"{i} " + " ".join(rng.choices(words, k=3)) for i in range(57)
    ]
    (folder / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    profile = kvlens.estimate(kvlens.record(lm, Texts(tuple(texts), "<i>source</i>"), PROMPT))
    layers = kvlens.select(profile, "explicit", layers=(1, 3), bias=(0.5, 2.0), document=PROMPT)
    for run in ("bare", "run"):
        profile.save(folder / run / "profile.json")
        layers.save(folder / run / "layers.json")
    assert main(["report", str(folder / "run"), "--texts", str(folder / "texts.jsonl")]) == 0
    return folder


@pytest.fixture(scope="module")
def browser():
    if BINARY is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def page(browser, place):
    browser.open(place / "run" / "report.html")
    return browser


def choose(page, **values):
    for name, value in values.items():
        page.run(f"{{const s = document.getElementById('{name}'); s.value = '{value}';"
                 "s.dispatchEvent(new Event('change'))}")  # fmt: skip


def picture(page, canvas):
    return page.run(f"document.getElementById('{canvas}').toDataURL()")


def hover(page, canvas, row, column):
    """Move the mouse to the middle of a cell (column -1: the prefix); the lines that appear."""
    page.run(f"document.getElementById('{canvas}').scrollIntoView({{block: 'center'}})")
    box = page.run(f"{{const c = document.getElementById('{canvas}'), b = c.getBoundingClientRect();"
                   "({x: b.x, y: b.y, ...c.dataset})}")  # fmt: skip
    left, size = float(box["left"]), float(box["size"])
    x = left + (0.6 * size if column < 0 else float(box.get("gap", 0)) + (column + 0.5) * size)
    page.mouse(box["x"] + x, box["y"] + float(box.get("top", 20)) + (row + 0.5) * size)
    return page.run("[...document.querySelectorAll('#tip div')].map(d => d.textContent)")


def loaded(place, text):
    return AttentionPatterns.load(place / "run" / "attention" / f"patterns-{text + 1}.safetensors")


def wanted(patterns, layer, head, effect):
    """Weights before, after and of the prefix, [T, T], [T, T], [T]: straight from the arrays."""
    before, after, beta = (
        patterns.arrays[name][layer].astype(float) for name in ("before", "after", "beta")
    )
    prefix, after = after[..., 0], after[..., 1:]
    if effect == "local":
        prefix, after = beta, (1 - beta[..., None]) * before
    heads = range(len(before)) if head == "mean" else [head]
    return tuple(np.mean([values[h] for h in heads], axis=0) for values in (before, after, prefix))


def test_what_is_missing_is_measured_once_and_kept(place, capsys):
    run = Run.read(place / "run")
    assert [p.tokens[-1] for p in run.patterns] == [":"] * 3
    assert "".join(run.patterns[0].tokens) == PROMPT.render(EVIL)
    assert (run.shift.layers, run.shift.bias, run.shift.span, run.shift.texts.n) == (
        (1, 3),
        (0.5, 2.0),
        "text",
        60,
    )
    assert run.geometry.n == 60
    assert {what for what, _ in run.missing} == {"an evaluation table", "a sweep over the layers"}
    page = (place / "run" / "report.html").read_bytes()
    assert len(page) < LIMIT
    assert kvlens.report is report  # the function, not the module of that name

    def never():
        raise AssertionError("the model was asked for")

    assert report(place / "run", place / "again.html", lm=never).read_bytes() == page
    assert main(["report", str(place / "run"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bytes"] == len(page)
    assert [one["what"] for one in answer["missing"]] == [
        "an evaluation table",
        "a sweep over the layers",
    ]


def test_verdict_has_the_numbers_of_the_arrays(place):
    run, page = Run.read(place / "run"), (place / "run" / "report.html").read_text()
    for kind in ("local", "propagated"):
        ends = run.shift.arrays[f"ends.{kind}"].astype(float)
        early, late = (100 * ends[:, i].mean() for i in (0, 1))
        half = 196 * (ends[:, 1] - ends[:, 0]).mean((1, 2)).std(ddof=1) / 60**0.5
        told = f"{early:.1f} % against {late:.1f} % (difference {late - early:+.1f} points, 95 % interval ± {half:.1f})"
        assert told.replace(" %", "\u00a0%") in page
    cosines = [
        row.mean_cosine for row in run.geometry.methods if row.label.startswith("kv_embedding")
    ]
    assert f"mean cosine of {cosines[1]:.3f} with re-routing and {cosines[0]:.3f} with" in page


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
    assert EVIL in page.run("document.getElementById('shown').textContent")
    assert page.run(
        "[document.scripts.length, document.querySelectorAll('img[onerror]').length]"
    ) == [2, 0]
    assert "<i>source</i>" in page.run("document.getElementById('provenance').textContent")
    assert page.run("document.querySelectorAll('i').length") == 0


def test_selectors_change_the_pictures_and_have_labels(page):
    for name in SELECTORS:
        assert (
            page.run(f"document.getElementById('{name}').labels[0].textContent")
            .lower()
            .startswith(name)
        )
    changes = {"text": "1", "layer": "1", "head": "2", "effect": "propagated"}
    for name, value in changes.items():
        seen = {canvas: picture(page, canvas) for canvas in ("before", "after", "strip")}
        now = page.run("document.getElementById('now').textContent")
        choose(page, **{name: value})
        same = {canvas for canvas in seen if picture(page, canvas) == seen[canvas]}
        assert same == ({"before", "strip"} if name == "effect" else set()), name
        assert page.run("document.getElementById('now').textContent") != now


def test_everything_is_reached_by_keyboard(page):
    reached = []
    for _ in range(20):
        page.key("Tab", 9)
        reached.append(page.run("document.activeElement.id"))
    assert [name for name in dict.fromkeys(reached) if name] == [
        *SELECTORS,
        "before",
        "after",
        "strip",
    ]
    page.run("document.getElementById('head').focus()")
    page.key("ArrowDown", 40)
    assert page.run("document.getElementById('head').value") == "0"
    page.run("document.getElementById('after').focus()")
    for key in ("ArrowDown", "ArrowDown", "ArrowLeft"):
        page.key(key, {"ArrowDown": 40, "ArrowLeft": 37}[key])
    assert "→ PREFIX" in page.run("document.getElementById('tip').textContent")


@pytest.mark.parametrize(
    ("layer", "head", "effect"), [(0, "mean", "local"), (1, 3, "local"), (1, 0, "propagated")]
)
def test_hover_tells_tokens_and_the_weights_of_the_arrays(page, place, layer, head, effect):
    choose(page, text=1, layer=layer, head=head, effect=effect)
    patterns, rng = loaded(place, 1), random.Random(f"{layer}{head}{effect}")
    before, after, prefix = wanted(patterns, layer, head, effect)
    n = len(patterns.tokens)
    for _ in range(4):
        i = rng.randrange(n)
        j = rng.randrange(i + 1)
        lines = hover(page, rng.choice(["before", "after"]), i, j)
        assert lines[0] == f"query {i} “{patterns.tokens[i]}” → key {j} “{patterns.tokens[j]}”"
        told = [float(line.split()[at]) for line, at in zip(lines[1:], (1, 1, 4), strict=True)]
        np.testing.assert_allclose(told, [before[i, j], after[i, j], prefix[i]], atol=1.2e-4)
        change = float(lines[2].split("(")[1].rstrip(")").replace("−", "-"))
        assert change == pytest.approx(after[i, j] - before[i, j], abs=1.5e-4)
        lines = hover(page, "after", i, -1)
        assert "PREFIX" in lines[0]
        assert float(lines[2].split()[1]) == pytest.approx(prefix[i], abs=1.2e-4)
        lines = hover(page, "strip", 0, i)
        both = [wanted(patterns, layer, head, kind)[2][i] for kind in ("local", "propagated")]
        np.testing.assert_allclose(
            [float(line.split()[2]) for line in lines[1:]], both, atol=1.2e-4
        )
    assert hover(page, "after", 0, n - 1) == []  # a key that the query cannot see


def test_bins_of_a_long_text_average_exactly(page, place):
    patterns = loaded(place, 0)
    n, m = len(patterns.tokens), 64
    assert n > m
    choose(page, text=0, layer=1, head=2, effect="local")
    before, after, _ = wanted(patterns, 1, 2, "local")
    places = [hover(page, "after", i, i)[0].split()[1] for i in range(m)]
    spans = [range(int(p.split("-")[0]), int(p.split("-")[-1]) + 1) for p in places]
    assert [i for span in spans for i in span] == list(range(n))
    i, j = m - 2, next(at for at, span in enumerate(spans) if len(span) > 1)
    lines = hover(page, "after", i, j)
    for line, weights in zip(lines[1:3], (before, after), strict=True):
        expected = np.mean([sum(weights[q, k] for k in spans[j]) for q in spans[i]])
        assert float(line.split()[1]) == pytest.approx(expected, abs=1.2e-4)
    assert "bins" in page.run("document.getElementById('binned').textContent")


def test_colours_are_square_roots_on_the_map(page, place):
    choose(page, text=1, layer=1, head=1, effect="propagated")
    before, after, prefix = wanted(loaded(place, 1), 1, 1, "propagated")
    for canvas, weights, row, column in [
        ("before", before, 9, 4),
        ("after", after, 5, 5),
        ("after", prefix, 7, -1),
    ]:
        pixel = page.run(f"""{{const c = document.getElementById('{canvas}'), d = c.dataset;
            const x = Number(d.left) + ({column} < 0 ? 0.6 * d.size : Number(d.gap) + {column + 0.5} * d.size);
            [...c.getContext('2d').getImageData(x, Number(d.top) + {row + 0.5} * d.size, 1, 1).data]}}""")
        weight = weights[row] if column < 0 else weights[row, column]
        np.testing.assert_allclose(
            pixel[:3], 255 * np.array(colormaps["cividis"](weight**0.5)[:3]), atol=5
        )


@pytest.mark.parametrize("width", [1280, 380])
def test_page_fits_its_window_and_shows_something(browser, place, width):
    browser.open(place / "run" / "report.html", width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    shown = [browser.screenshot()]
    browser.run("document.getElementById('after').scrollIntoView({block: 'center'})")
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
    assert len(notes) == 5
    assert sum(f"kvlens report {place / 'bare'} makes it" in note for note in notes) == 3
    assert "not in it: embedding geometry" in capsys.readouterr().out


def test_scores_and_sweep_are_shown(place, tmp_path, browser):
    shutil.copytree(place / "run", tmp_path / "run")
    model = Run.read(place / "run").layers.model.model_dump()
    score = {"method": "kv_embedding", "label": "kv_embedding", "post": None, "settings": {}, "task": "STS<b>",
             "split": "test", "metric": "cosine_spearman", "value": 66.12, "low": 60, "high": 70, "n": 99,
             "unit": "pairs", "p": None, "difference": None, "limited": True}  # fmt: skip
    other = {"method": "echo", "label": "echo", "value": 71.26, "p": 0.01, "difference": 5.14}
    scores = {
        "format": "kvlens.scores",
        "version": 1,
        "model": model,
        "max_length": 9,
        "versions": {},
        "command": "",
    }
    scores["scores"] = [
        score,
        score | other,
        score | {"label": "mean", "p": 0.2, "difference": -1.0, "value": 61.5},
    ]
    (tmp_path / "run" / "scores.json").write_text(json.dumps(scores))
    window = {
        "first": 1,
        "width": 2,
        "layers": [1, 2],
        "bias": 1.0,
        "spearman": 43.21,
        "low": 40.0,
        "high": 46.0,
    }
    sweep = {"format": "kvlens.sweep", "version": 1, "model": model, "prompt": PROMPT.model_dump(), "pooling": "last",
             "position": "keep", "data": "a <file>", "n_pairs": 3, "plain": 41.0, "plain_low": 39.0,
             "plain_high": 42.0, "plain_cosines": [0.1, 0.2, 0.3], "human": [1.0, 2.0, 3.0], "versions": {},
             "command": "kvlens sweep",
             "windows": [window | {"cosines": [0.1, 0.3, 0.2]}]}  # fmt: skip
    (tmp_path / "run" / "sweep.json").write_text(json.dumps(sweep))
    browser.open(report(tmp_path / "run"))
    assert browser.problems == []
    rows = browser.run(
        "[...document.querySelectorAll('#evaluation tr')].map(r => r.textContent.trim())"
    )
    rows = [" ".join(row.split()) for row in rows]
    assert rows[0] == "methodSTS<b>"
    assert "kv_embedding 66.1† (60.0 to 70.0)" in rows
    assert "echo 71.3† (60.0 to 70.0) ▲" in rows
    assert "mean 61.5† (60.0 to 70.0)" in rows
    assert "layers 1-21.043.2 (40.0 to 46.0)" in rows
    assert "best of 3 is echo with 71.3" in browser.run(
        "document.getElementById('verdict').textContent"
    )


def damage(path, how, place):
    patterns = loaded(place, 1)
    if how == "garbage":
        path.write_bytes(b"{}" * 50)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    elif how == "shape":
        replace(patterns, arrays=patterns.arrays | {"beta": patterns.arrays["beta"][..., 1:]}).save(
            path
        )
    elif how == "nan":
        replace(
            patterns, arrays=patterns.arrays | {"before": patterns.arrays["before"] * np.nan}
        ).save(path)
    else:
        replace(patterns, model=patterns.model.model_copy(update={"revision": "sha256:0"})).save(
            path
        )


@pytest.mark.parametrize(
    ("how", "said"),
    [("garbage", "is not a valid set of"), ("cut", "is not a valid set of"), ("shape", "damaged"), ("nan", "damaged"),
     ("model", "move it")],
)  # fmt: skip
def test_damaged_files_are_answered_with_one_line(place, tmp_path, capsys, how, said):
    shutil.copytree(place / "run", tmp_path / "run", ignore=shutil.ignore_patterns("*.html"))
    damage(tmp_path / "run" / "attention" / "patterns-2.safetensors", how, place)
    assert main(["report", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run" / "report.html").exists()


def test_what_is_no_run_folder_or_has_lost_its_model(place, tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "kvlens profile MODEL" in capsys.readouterr().err
    assert main(["report", str(place)]) == 2
    assert f"one of each model inside: {place}/bare, {place}/run" in capsys.readouterr().err
    shutil.copytree(place / "bare", tmp_path / "bare")
    text = (
        (tmp_path / "bare" / "layers.json").read_text().replace(f"{place}/model", f"{place}/gone")
    )
    (tmp_path / "bare" / "layers.json").write_text(text)
    assert main(["report", str(tmp_path / "bare")]) == 2
    err = capsys.readouterr().err
    assert "gone" in err
    assert "--no-model" in err
    other = tiny("llama", seed=1)
    with pytest.raises(InputError, match="no longer the model of this run"):
        report(place / "bare", lm=other)


def test_pages_stay_under_8_mb(place):
    run = Run.read(place / "run")
    assert (
        3_000_000
        < len(render(replace(run, patterns=run.patterns[1:2] * 4 + run.patterns[:1] * 100)))
        < LIMIT
    )
    with pytest.raises(InputError, match="do not fit into 8 MB"):
        render(replace(run, patterns=run.patterns[:1] * 3000))


def test_results_show_themselves_in_jupyter_and_escape_their_words(place):
    lm, nasty = tiny("llama"), "<script>alert(1)</script>"
    lm = kvlens.LanguageModel.wrap(lm.hf, lm.tokenizer, name=f"{nasty}\n")
    rng = random.Random(1)
    texts = Texts(tuple(f"{i} {rng.random()}" for i in range(60)), nasty)
    trace = kvlens.record(lm, texts, PROMPT)
    profile = kvlens.estimate(trace)
    layers = kvlens.select(profile)
    shift = attention_shift(lm, texts, (1, 3), prompt=PROMPT)
    for result in (trace, profile, layers, shift):
        shown = result._repr_html_()
        assert "&lt;script&gt;" in shown
        assert "<script" not in shown
        assert len(shown) < 300_000
        assert repr(result) == str(result)
        assert len(repr(result)) < 2000, "to be read: not every number"
    assert "[60, 4, 2, 8]" in trace._repr_html_()
    assert layers.reason in layers._repr_html_()
    assert all(escape(text) in layers._repr_html_() for text in layers.warnings)
    (early, late), _, _ = shift.ends("propagated")
    assert f"propagated {early[1]:.3f} to {late[1]:.3f}" in shift._repr_html_()
    assert "data:image/svg+xml" in profile._repr_html_()
    assert isinstance(shift, AttentionShift)
