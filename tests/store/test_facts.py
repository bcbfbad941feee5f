"""How results show themselves in Jupyter."""

import random
from html import escape

from zoo import tiny

import kvlens
from kvlens import Prompt, Texts
from kvlens.analysis.attention import AttentionShift
from kvlens.analysis.uptake import attention_shift

PROMPT = Prompt(name="test", prefix="In: ", suffix=" Out:")


def test_results_show_themselves_in_jupyter_and_escape_their_words():
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
