"""Fixtures of the room: run folders on a small model, and their page in Chromium."""

import json
import random

import pytest
from browser import BINARY, Browser
from report_pages import EVIL, PROMPT
from zoo import tiny

import kvlens
from kvlens import Texts
from kvlens.cli import main


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with a model, texts, and two runs of it.

    The first text is hostile, and long enough for bins. The run `bare` is what `kvlens profile`
    leaves; `run` is that after `kvlens report` measured the rest.
    """
    folder = tmp_path_factory.mktemp("report")
    wrapped = tiny("llama")
    wrapped.hf.save_pretrained(folder / "model")
    wrapped.tokenizer.save_pretrained(folder / "model")
    lm = kvlens.load(folder / "model")
    texts = [EVIL, "A cat sat.", "Two\nlines <b>&amp;", *_short_texts(57)]
    lines = [json.dumps({"text": text}) for text in texts]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    profile = kvlens.estimate(kvlens.record(lm, Texts(tuple(texts), "<i>source</i>"), PROMPT))
    layers = kvlens.select(profile, "explicit", layers=(1, 3), bias=(0.5, 2.0), document=PROMPT)
    for run in ("bare", "run"):
        profile.save(folder / run / "profile.json")
        layers.save(folder / run / "layers.json")
    assert main(["report", str(folder / "run"), "--texts", str(folder / "texts.jsonl")]) == 0
    return folder


def _short_texts(n):
    rng = random.Random(0)
    words = ["river", "stone", "light", "music", "paper", "engine", "garden"]
    return [f"{i} " + " ".join(rng.choices(words, k=3)) for i in range(n)]


@pytest.fixture(scope="session")
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
