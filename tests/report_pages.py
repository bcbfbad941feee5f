"""A hand on the attention browser in Chromium, and the numbers that it has to show."""

import numpy as np

from kvlens import Prompt
from kvlens.analysis.attention import AttentionPatterns

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
CANVASES = ("before", "after", "strip")
PROMPT = Prompt(name="test", prefix="In: ", suffix=" Out:")


def part(name, root="document"):
    """JavaScript for a part of the attention browser inside `root`."""
    return f"{root}.querySelector('[data-part={name}]')"


def words(page, name):
    return page.run(f"{part(name)}.textContent")


def choose(page, root="document", **values):
    for name, value in values.items():
        page.run(
            f"{{const select = {part(name, root)}; select.value = '{value}';"
            "select.dispatchEvent(new Event('change'))}"
        )


def tick(page, name, root="document"):
    page.run(f"{part(name, root)}.click()")


def picture(page, canvas, root="document"):
    return page.run(f"{part(canvas, root)}.toDataURL()")


def hover(page, canvas, row, column):
    """Move the mouse to the middle of a cell (column -1: the prefix); the lines that appear."""
    page.run(f"{part(canvas)}.scrollIntoView({{block: 'center'}})")
    box = page.run(
        f"{{const canvas = {part(canvas)}, corner = canvas.getBoundingClientRect();"
        "({x: corner.x, y: corner.y, ...canvas.dataset})}"
    )
    size = float(box["size"])
    x = 0.6 * size if column < 0 else float(box.get("gap", 0)) + (column + 0.5) * size
    y = float(box.get("top", 20)) + (row + 0.5) * size
    page.mouse(box["x"] + float(box["left"]) + x, box["y"] + y)
    return page.run(f"[...{part('tip')}.children].map(line => line.textContent)")


def loaded(place, text):
    return AttentionPatterns.load(place / "run" / "attention" / f"patterns-{text + 1}.safetensors")


def wanted(patterns, layer, head, effect):
    """Weights before, after and of the prefix, [T, T], [T, T], [T]: straight from the arrays."""
    before, after, beta = (
        patterns.arrays[name][layer].astype(float) for name in ("before", "after", "beta")
    )
    prefix = after[..., 0]
    after = after[..., 1:]
    if effect == "local":
        prefix = beta
        after = (1 - beta[..., None]) * before
    heads = range(len(before)) if head == "mean" else [head]
    return tuple(np.mean([values[h] for h in heads], axis=0) for values in (before, after, prefix))
