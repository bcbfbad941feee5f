"""Look Both Ways, derived again as a loop over the decoder blocks with masks drawn by hand."""

import pytest
import torch
from brute_force import window_of
from method_cases import ARCHITECTURES, AWKWARD, build, close, embed, ids_of, model

from kvlens import InputError

TEXTS = [*AWKWARD[:3], "ab"]


def sees(query, key, window, is_open, is_sinkless):
    """Whether one token sees another."""
    if abs(query - key) >= (window or 1_000):
        return False
    if is_sinkless and key == 0:
        return query == 0
    return is_open or key <= query


def by_hand(architecture, text, opened, sinkless):
    """The mean over all tokens, of one text, block by block."""
    lm = model(architecture)
    base = lm.base
    config = base.config
    ids = torch.tensor([ids_of(lm, text)])
    length = ids.shape[1]
    positions = torch.arange(length)[None]
    hidden = base.get_input_embeddings()(ids)
    if architecture == "gpt2":
        hidden = hidden + base.wpe(positions)
    for layer in range(4):
        extra = {}
        if hasattr(base, "rotary_emb"):
            kind = [config.layer_types[layer]] if architecture == "gemma3" else []
            extra["position_embeddings"] = base.rotary_emb(hidden, positions, *kind)
        rule = (window_of(config, layer), layer >= 4 - opened, layer >= 4 - sinkless)
        mask = torch.tensor(
            [[0.0 if sees(i, j, *rule) else -1e30 for j in range(length)] for i in range(length)]
        )
        hidden = lm.blocks[layer](hidden, attention_mask=mask[None, None], **extra)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    names = ("norm", "ln_f", "final_layer_norm")
    norm = next(getattr(base, name) for name in names if hasattr(base, name))
    return norm(hidden)[0].mean(0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_a_plain_loop_with_other_masks(architecture):
    lm = model(architecture)
    for opened, sinkless in ((2, 1), (4, 4), (3, 0)):
        method = build("look_both_ways", lm, opened=opened, sinkless=sinkless)
        with torch.no_grad():
            expected = [by_hand(architecture, text, opened, sinkless) for text in TEXTS]
        for side in ("right", "left"):
            close(embed(method, lm, TEXTS, side=side), expected)


def test_nothing_opened_is_the_mean(zoo):
    lm = zoo("llama")
    closed = embed(build("look_both_ways", lm, opened=0, sinkless=0), lm, TEXTS)
    assert torch.equal(closed, embed(build("mean", lm), lm, TEXTS))


def test_shares_become_layers(zoo):
    method = build("look_both_ways", zoo("llama"))
    assert (method.opened, method.sinkless) == (2, 2)
    for settings, message in (
        ({"opened": 5}, "sinkless <= opened <= 4 layers, not 2, 5"),
        ({"opened": 1}, "not 2, 1"),
        ({"opened": 1.5}, "`opened` is 1.5; it must be at most 1"),
        ({"sinkless": -1}, "`sinkless` is -1; it must be at least 0"),
        ({"sinkless": "all"}, "`sinkless` is 'all'"),
    ):
        with pytest.raises(InputError, match=message):
            build("look_both_ways", zoo("llama"), **settings)
