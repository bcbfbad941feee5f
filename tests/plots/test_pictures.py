"""What saved results show in a notebook: their numbers, and their picture where they have one."""

from html import unescape
from pathlib import Path

import pytest
from zoo import tiny

import kvlens
from kvlens.plots.pictures import PLOTS
from kvlens.store.facts import PICTURES

DATA = Path(__file__).parents[2] / "figures" / "data"
SHOWN = {
    "study": "regret",
    "readout": "after block 0",
    "scores": "kv_embedding + zscore",
    "lens": "final token",
    "geometry": "mean cosine",
    "decision": "re-routing",
    "effects": "layers 26-29",
    "shift-text": "layer 7",
    "patterns": "beta",
}


@pytest.mark.parametrize("kind", SHOWN)
def test_a_saved_result_shows_its_numbers_and_its_picture(kind):
    (path,) = DATA.glob(f"{kind}_smollm2-135m.*")
    shown = kvlens.open(path)._repr_html_()
    assert "smollm2-135m" in shown
    assert SHOWN[kind] in unescape(shown)
    assert shown.count('src="data:image/svg+xml;base64,') == 1
    assert "<script" not in shown


def test_every_class_with_a_picture_has_a_plot():
    assert set(PICTURES) == set(PLOTS)


def test_a_sweep_shows_its_windows():
    sweep = kvlens.open(DATA / "sweep_smollm2-135m.json")
    shown = unescape(sweep._repr_html_())
    assert all(line in shown for line in str(sweep).splitlines())


def test_an_encoder_shows_its_settings():
    shown = kvlens.Encoder(tiny("llama"), "kv_embedding", layers=(1, 2))._repr_html_()
    for said in ("encoder: kv_embedding", "(1, 2)", "kv-document-inner", "hybrid", ">32<"):
        assert said in shown
