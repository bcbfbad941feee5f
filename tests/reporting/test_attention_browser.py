"""The attention browser in headless Chromium: in the page, and loaded as anywidget does it."""

import base64
import json
import random

import numpy as np
import pytest
from matplotlib import colormaps
from report_pages import CANVASES, choose, hover, loaded, part, picture, tick, wanted, words

from kvlens.reporting.attention_browser import SCRIPT, browser_data
from kvlens.reporting.run_folder import Run

SELECTORS = ("text", "layer", "head", "effect")
CONTROLS = (*SELECTORS, "column")

KEYS = {"Tab": 9, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40}


@pytest.mark.slow
def test_selectors_change_the_pictures_and_have_labels(page):
    for name in SELECTORS:
        assert page.run(f"{part(name)}.labels[0].textContent").lower().startswith(name)
    changes = {"text": "1", "layer": "1", "head": "2", "effect": "propagated"}
    for name, value in changes.items():
        seen = {canvas: picture(page, canvas) for canvas in CANVASES}
        summary = words(page, "summary")
        choose(page, **{name: value})
        same = {canvas for canvas in seen if picture(page, canvas) == seen[canvas]}
        assert same == ({"before", "strip"} if name == "effect" else set()), name
        assert words(page, "summary") != summary


def test_everything_is_reached_by_keyboard(page):
    reached = []
    for _ in range(20):
        page.key("Tab", KEYS["Tab"])
        reached.append(page.run("document.activeElement.dataset.part || ''"))
    assert [name for name in dict.fromkeys(reached) if name] == [*CONTROLS, *CANVASES]
    page.run(f"{part('head')}.focus()")
    page.key("ArrowDown", KEYS["ArrowDown"])
    assert page.run(f"{part('head')}.value") == "0"
    page.run(f"{part('after')}.focus()")
    for key in ("ArrowDown", "ArrowDown", "ArrowLeft"):
        page.key(key, KEYS[key])
    assert "→ PREFIX" in words(page, "tip")


def test_the_prefix_column_can_be_hidden(page, place):
    assert page.run(f"{part('column')}.labels[0].textContent").strip() == "Prefix column"
    choose(page, text=1, layer=1, head=2)
    before, after, _ = wanted(loaded(place, 1), 1, 2, "local")
    with_column = {canvas: picture(page, canvas) for canvas in CANVASES}
    caption = words(page, "caption")
    assert hover(page, "after", 5, -1)[0].endswith("PREFIX")
    tick(page, "column")
    assert "1 − β" in words(page, "caption") != caption
    assert {name for name in CANVASES if picture(page, name) != with_column[name]} == {
        "before",
        "after",
    }
    lines = hover(page, "after", 5, 0)  # where the column was
    assert lines[0].startswith("query 5 ")
    assert "key 0" in lines[0]
    numbers = [float(line.split()[1]) for line in lines[1:3]]
    np.testing.assert_allclose(numbers, [before[5, 0], after[5, 0]], atol=1.2e-4)
    page.run(f"{part('after')}.focus()")
    for _ in range(3):
        page.key("ArrowLeft", KEYS["ArrowLeft"])
    assert "key 0" in words(page, "tip")
    tick(page, "column")
    page.run(f"{part('after')}.blur()")
    assert {canvas: picture(page, canvas) for canvas in CANVASES} == with_column


def test_arrow_keys_stay_where_a_query_sees_a_key(page, place):
    choose(page, text=1)
    tokens = loaded(place, 1).tokens
    page.run(f"{part('before')}.focus()")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowLeft"):
        page.key(key, KEYS[key])
        assert f"query 1 “{tokens[1]}” → key" in words(page, "tip")
    assert f"→ key 0 “{tokens[0]}”" in words(page, "tip")


@pytest.mark.parametrize(
    ("layer", "head", "effect"), [(0, "mean", "local"), (1, 3, "local"), (1, 0, "propagated")]
)
def test_hover_tells_tokens_and_the_weights_of_the_arrays(page, place, layer, head, effect):
    choose(page, text=1, layer=layer, head=head, effect=effect)
    patterns = loaded(place, 1)
    rng = random.Random(f"{layer}{head}{effect}")
    before, after, prefix = wanted(patterns, layer, head, effect)
    n = len(patterns.tokens)
    for _ in range(4):
        i = rng.randrange(n)
        j = rng.randrange(i + 1)
        lines = hover(page, rng.choice(["before", "after"]), i, j)
        assert lines[0] == f"query {i} “{patterns.tokens[i]}” → key {j} “{patterns.tokens[j]}”"
        numbers = [float(line.split()[at]) for line, at in zip(lines[1:], (1, 1, 4), strict=True)]
        np.testing.assert_allclose(numbers, [before[i, j], after[i, j], prefix[i]], atol=1.2e-4)
        change = float(lines[2].split("(")[1].rstrip(")").replace("−", "-"))
        assert change == pytest.approx(after[i, j] - before[i, j], abs=1.5e-4)
        lines = hover(page, "after", i, -1)
        assert "PREFIX" in lines[0]
        assert float(lines[2].split()[1]) == pytest.approx(prefix[i], abs=1.2e-4)
        lines = hover(page, "strip", 0, i)
        uptakes = [wanted(patterns, layer, head, kind)[2][i] for kind in ("local", "propagated")]
        np.testing.assert_allclose(
            [float(line.split()[2]) for line in lines[1:]], uptakes, atol=1.2e-4
        )
    assert hover(page, "after", 0, n - 1) == []  # a key that the query cannot see


@pytest.mark.slow
def test_bins_of_a_long_text_average_exactly(page, place):
    patterns = loaded(place, 0)
    n = len(patterns.tokens)
    m = 64
    assert n > m
    choose(page, text=0, layer=1, head=2, effect="local")
    before, after, _ = wanted(patterns, 1, 2, "local")
    places = [hover(page, "after", i, i)[0].split()[1] for i in range(m)]
    spans = [range(int(p.split("-")[0]), int(p.split("-")[-1]) + 1) for p in places]
    assert [i for span in spans for i in span] == list(range(n))
    i = m - 2
    j = next(at for at, span in enumerate(spans) if len(span) > 1)
    lines = hover(page, "after", i, j)
    for line, weights in zip(lines[1:3], (before, after), strict=True):
        expected = np.mean([sum(weights[q, k] for k in spans[j]) for q in spans[i]])
        assert float(line.split()[1]) == pytest.approx(expected, abs=1.2e-4)
    assert "bins" in words(page, "note")


def test_colours_are_square_roots_on_the_map(page, place):
    choose(page, text=1, layer=1, head=1, effect="propagated")
    before, after, prefix = wanted(loaded(place, 1), 1, 1, "propagated")
    for canvas, weights, row, column in [
        ("before", before, 9, 4),
        ("after", after, 5, 5),
        ("after", prefix, 7, -1),
    ]:
        pixel = page.run(f"""{{
            const canvas = {part(canvas)};
            const {{ left, top, size, gap }} = canvas.dataset;
            const right = {column} < 0 ? 0.6 * size : Number(gap) + {column + 0.5} * size;
            const context = canvas.getContext('2d');
            const [x, y] = [Number(left) + right, Number(top) + {row + 0.5} * size];
            [...context.getImageData(x, y, 1, 1).data] }}""")
        weight = weights[row] if column < 0 else weights[row, column]
        np.testing.assert_allclose(
            pixel[:3], 255 * np.array(colormaps["cividis"](weight**0.5)[:3]), atol=5
        )


@pytest.fixture
def widgets(browser, place, tmp_path):
    """Two widgets in one document, which has ids of its own, made as anywidget makes them."""
    blank = tmp_path / "notebook.html"
    blank.write_text("<!doctype html><p id='text'>mine</p><div id='first'></div><div id='second'>")
    run = Run.read(place / "run")
    script = base64.b64encode(SCRIPT.read_bytes()).decode()
    browser.open(blank)
    browser.run(f"""(async () => {{
        const source = Uint8Array.from(atob('{script}'), (byte) => byte.charCodeAt(0));
        const file = new Blob([source], {{ type: 'text/javascript' }});
        const module = await import(URL.createObjectURL(file));
        const data = {json.dumps(browser_data(run.patterns, run.layers))};
        const model = {{ get: (name) => ({{ data }})[name] }};
        window.remove = ['first', 'second'].map((id) => (
            module.default.render({{ model, el: document.getElementById(id) }})));
    }})()""")
    return browser


def test_the_script_is_a_module_that_renders_into_any_element(widgets):
    first, second = "document.getElementById('first')", "document.getElementById('second')"
    assert picture(widgets, "after", first) == picture(widgets, "after", second)
    choose(widgets, second, text=1, head=2)
    assert picture(widgets, "after", first) != picture(widgets, "after", second)
    assert "head 2" in widgets.run(f"{part('summary', second)}.textContent")
    assert "mean over 4 heads" in widgets.run(f"{part('summary', first)}.textContent")
    assert widgets.run("document.getElementById('text').textContent") == "mine"
    widgets.run("window.remove[0]()")
    assert widgets.run(f"{first}.children.length") == 0
    assert widgets.run(f"{second}.children.length") == 1
    assert widgets.problems == []
