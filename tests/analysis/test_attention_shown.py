"""Attention is read where TransformerLens shows it, and lets it be changed; else one line."""

import pytest
from families import family

import kvlens
from kvlens.analysis.two_passes import check_shown
from kvlens.layers.route import Route
from kvlens.store.errors import InputError


def test_a_hybrid_is_read():
    lm = family("lfm2")
    patterns = kvlens.attention_patterns(lm, "A cat.", lm.info.layers_to_reroute())
    assert patterns.layers == (1, 3)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("mimo_v2_flash", "TransformerLens has no adapter for MiMoV2FlashForCausalLM"),
        ("gemma4_text", "does not let the scores of Gemma4ForCausalLM be changed in layer 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:A hook on self_attn.hook_attn_scores")
def test_what_is_not_shown_is_refused(name, problem):
    with pytest.raises(InputError, match=problem) as caught:
        kvlens.attention_patterns(family(name), "A cat.", [0])
    assert "\n" not in str(caught.value)


def test_scores_that_never_come_are_refused(monkeypatch):
    lm = family("lfm2")
    hidden = {"blocks.3.attn.hook_attn_scores"}
    monkeypatch.setattr(type(lm), "live_hooks", lm.live_hooks - hidden)
    with pytest.raises(InputError, match="does not show the attention scores of layer 3 of Lfm2"):
        check_shown(lm, Route.of(lm.info, (1, 3)))
