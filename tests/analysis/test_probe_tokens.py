"""Probe tokens, against queries and keys that are made by hand from a raw pass."""

from collections import Counter

import numpy as np
import pytest
import torch
from brute_force import heads
from family_oracle import probed
from zoo import TEXTS, tiny

import kvlens
from kvlens import InputError, ProbeTokens

LAYERS = (0, 2)
COLUMNS = 3
PROMPT = "say {text}!"


@pytest.fixture(scope="module")
def lm():
    return tiny("llama")


@pytest.fixture(scope="module")
def found(lm):
    return kvlens.probe_tokens(lm, TEXTS, LAYERS, COLUMNS, PROMPT, batch_tokens=128)


def choices(lm, text, layer):
    """The tokens of a prompted text, and what each KV head chooses: bytes are tokens."""
    ids = lm.tokenizer(PROMPT.format(text=text))["input_ids"]
    with torch.no_grad():
        states = lm.base(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer]
        block = lm.blocks[layer]
        q, k, _ = heads(block.self_attn, block.input_layernorm(states[0]))
    chosen = probed(q.double(), k.double(), COLUMNS)
    return [lm.tokenizer.decode([token]) for token in ids], [p for head in chosen for p in head]


@pytest.mark.parametrize("layer", LAYERS)
def test_shares_are_those_of_a_count_by_hand(lm, found, layer):
    shares = {"final": [], "text": [], "text_end": [], "punctuation": []}
    chance = {kind: [] for kind in shares}
    counted = Counter()
    for text in TEXTS:
        tokens, chosen = choices(lm, text, layer)
        counted.update(tokens[place] for place in chosen)
        start, stop = len("say "), len("say ") + len(text)
        every = range(len(tokens))
        is_of = {
            "final": [place == len(tokens) - 1 for place in every],
            "text": [start <= place < stop for place in every],
            "text_end": [place == stop - 1 for place in every],
            "punctuation": [not token.isalnum() for token in tokens],
        }
        for kind, is_one in is_of.items():
            shares[kind].append(np.mean([is_one[place] for place in chosen]))
            chance[kind].append(np.mean(is_one[1:]))
    (of_layer,) = [each for each in found.layers if each.layer == layer]
    for kind in shares:
        share = getattr(of_layer, kind)
        assert share.mean == pytest.approx(np.mean(shares[kind])), kind
        assert share.spread == pytest.approx(np.std(shares[kind], ddof=1)), kind
        assert share.chance == pytest.approx(np.mean(chance[kind])), kind
    for token, share in zip(of_layer.common, of_layer.common_share, strict=True):
        assert share == pytest.approx(counted[token] / counted.total())


def test_all_layers_by_default_and_one_text(lm):
    alone = kvlens.probe_tokens(lm, ["a cat"])
    assert [each.layer for each in alone.layers] == [0, 1, 2, 3]
    assert all(each.text.spread == 0 for each in alone.layers)


def test_it_loads_as_it_was_saved_and_prints_a_line_a_layer(found, tmp_path):
    assert kvlens.open(found.save(tmp_path / "probe_tokens.json")) == found
    assert ProbeTokens.load(tmp_path / "probe_tokens.json") == found
    assert len(str(found).splitlines()) == 2 + len(LAYERS)


def test_what_cannot_be_ranked_is_refused(lm):
    with pytest.raises(InputError, match="`layers` holds none"):
        kvlens.probe_tokens(lm, TEXTS, [])
    with pytest.raises(InputError, match="layer 9 is outside"):
        kvlens.probe_tokens(lm, TEXTS, [9])
