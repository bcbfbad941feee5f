"""The notebook widget: its traits and its script in headless Chromium, and what a cell stores."""

import base64
import io
import json
import re
import sys

import nbformat
import numpy as np
import pytest
from matplotlib.image import imread
from report_pages import EVIL, choose, hover, loaded, part, picture, tick, wanted, words

import kvlens
from kvlens.reporting.attention_browser import SCRIPT

VIEW = "application/vnd.jupyter.widget-view+json"

# What a notebook does: a module from a blob, a model that holds the traits, a cell's element.
SHOW = """(async () => {{
    const bytes = Uint8Array.from(atob('{script}'), (byte) => byte.charCodeAt(0));
    const file = new Blob([bytes], {{ type: 'text/javascript' }});
    const {{ default: widget }} = await import(URL.createObjectURL(file));
    const traits = {{ data: {data} }};
    const nothing = () => {{}};
    const model = {{ get: (name) => traits[name], on: nothing, off: nothing, set: nothing }};
    const el = document.createElement('div');
    el.style = 'margin: 40px 0 0 90px; transform: translateY(20px)';  // as in JupyterLab
    window.remove = await widget.render({{ model, el }});
    document.body.append(el);
    await new Promise((done) => setTimeout(done, 200));
}})()"""


def show(browser, folder, widget):
    """The widget in an empty page, which is drawn before it has its place."""
    cell = folder / "cell.html"
    cell.write_text("<!doctype html><meta charset='utf-8'><body>")
    browser.open(cell)
    script = base64.b64encode(widget._esm.encode()).decode()
    browser.run(SHOW.format(script=script, data=json.dumps(widget.data)))
    return browser


@pytest.fixture
def cell(browser, place, tmp_path):
    """A cell that shows the second text's and the first text's patterns."""
    patterns = [loaded(place, 1), loaded(place, 0)]
    return show(browser, tmp_path, kvlens.attention_widget(patterns, layer=3, head=2))


def test_it_begins_with_what_was_asked_for(cell, place):
    assert words(cell, "summary").startswith("Layer 3, head 2, propagated effect")
    before, after, prefix = wanted(loaded(place, 1), 1, 2, "propagated")
    lines = hover(cell, "after", 7, 3)
    numbers = [float(line.split()[at]) for line, at in zip(lines[1:], (1, 1, 4), strict=True)]
    np.testing.assert_allclose(numbers, [before[7, 3], after[7, 3], prefix[7]], atol=1.2e-4)
    assert loaded(place, 1).tokens[7] in lines[0]


def test_what_a_cell_tells_stands_beside_the_pointer(cell):
    hover(cell, "after", 7, 3)
    left, top, x, y = cell.run(f"""{{
        const tip = {part("tip")}.getBoundingClientRect();
        const canvas = {part("after")}, corner = canvas.getBoundingClientRect();
        const of = (name) => Number(canvas.dataset[name]);
        [tip.left, tip.top, corner.left + of('left') + of('gap') + 3.5 * of('size'),
         corner.top + of('top') + 7.5 * of('size')] }}""")
    assert (left - x, top - y) == pytest.approx((14, 18), abs=2)


def test_every_control_changes_what_is_drawn(cell):
    seen = [picture(cell, "after")]
    for change in ({"effect": "local"}, {"head": "mean"}, {"layer": 0}, {"text": 1}):
        choose(cell, **change)
        seen.append(picture(cell, "after"))
    tick(cell, "column")
    seen.append(picture(cell, "after"))
    assert len(set(seen)) == len(seen)
    assert EVIL.partition(">")[0] in words(cell, "words")  # as text: no element was made of it
    assert cell.run("document.images.length") == 0
    cell.run("window.remove()")
    assert cell.run("document.querySelectorAll('.attention-browser').length") == 0
    assert cell.problems == []


def test_one_text_needs_no_selector_of_texts(browser, place, tmp_path):
    page = show(browser, tmp_path, kvlens.attention_widget(loaded(place, 1)))
    assert page.run(f"getComputedStyle({part('text')}.parentElement).display") == "none"
    assert words(page, "summary").startswith("Layer 1, mean over 4 heads, propagated effect")
    assert page.problems == []


def test_a_cell_stores_a_picture_beside_the_widget(place):
    patterns = loaded(place, 1)
    widget = kvlens.attention_widget(patterns, layer=3)
    assert widget._esm == SCRIPT.read_text(encoding="utf-8")
    stored, metadata = widget._repr_mimebundle_()
    assert stored.keys() == {VIEW, "image/png", "text/plain"}
    assert (
        stored["text/plain"]
        == f"<attention of {patterns.model.name}, {len(patterns.tokens)} tokens>"
    )
    pixels = imread(io.BytesIO(base64.b64decode(stored["image/png"])))
    assert pixels.shape[1] > 1.5 * metadata["image/png"]["width"]
    assert pixels.std() > 0.05
    again, _ = kvlens.attention_widget(patterns, layer=3)._repr_mimebundle_()
    assert again["image/png"] == stored["image/png"]


def test_where_no_kernel_is_a_notebook_shows_the_picture(place):
    """As code hosts and PDF do: nbconvert has no widget's state."""
    nbconvert = pytest.importorskip("nbconvert", reason="needs kvlens[notebook]")
    stored, metadata = kvlens.attention_widget(loaded(place, 1))._repr_mimebundle_()
    output = nbformat.v4.new_output("execute_result", stored, metadata=metadata, execution_count=1)
    cell = nbformat.v4.new_code_cell("widget", outputs=[output], execution_count=1)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    page, _ = nbconvert.HTMLExporter(template_name="classic").from_notebook_node(notebook)
    (picture,) = re.findall(r"<img[^>]*>", page.partition("<body")[2])
    assert stored["image/png"] in picture
    assert 'alt="attention of ' in picture
    _, files = nbconvert.LatexExporter().from_notebook_node(notebook)
    (content,) = files["outputs"].values()
    assert content == base64.b64decode(stored["image/png"])


def test_what_a_text_does_not_have_is_refused(place):
    with pytest.raises(kvlens.InputError, match="no propagated pattern of layer 2"):
        kvlens.attention_widget(loaded(place, 1), layer=2)
    with pytest.raises(kvlens.InputError, match="`patterns` is empty"):
        kvlens.attention_widget([])


def test_without_anywidget_a_line_says_what_to_install_and_pictures_stay(place, monkeypatch):
    patterns = loaded(place, 1)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "kvlens.reporting.browser_widget", raising=False)
    with pytest.raises(kvlens.InputError) as caught:
        kvlens.attention_widget(patterns)
    assert str(caught.value) == "this needs anywidget: pip install 'kvlens[widget]'"
    assert "<img" in patterns._repr_html_()
