"""KV-Embedding, derived again from the states of brute force."""

import pytest
import torch
from brute_force import brute_force
from method_cases import ARCHITECTURES, AWKWARD, build, close, embed, ids_of, model, raw
from torch.nn.functional import normalize

from kvlens import InputError
from kvlens.methods.registry import get_method
from kvlens.texts.prompts import PROMPTS


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kv_embedding_is_hybrid_pooling_of_the_brute_force_states(architecture):
    lm = model(architecture)
    layers = (0, 2)
    bias = 1.0
    for side, position in (("right", "keep"), ("left", "none")):
        method = build("kv_embedding", lm, layers=layers, bias=bias, position=position)
        for word in ("Context", "Query"):
            expected = []
            for text in AWKWARD:
                row = torch.tensor(ids_of(lm, f"{word}: {text} Compress the {word} in one word:"))
                hidden, _ = brute_force(architecture, row, dict.fromkeys(layers, bias), position)
                expected.append(normalize((hidden[-1] + hidden.mean(0)) / 2, dim=0))
            prompt = PROMPTS["kv-document" if word == "Context" else "kv-query"]
            close(embed(method, lm, AWKWARD, prompt, side), expected)


def test_kv_embedding_with_no_layers_is_the_plain_prompted_model():
    lm = model("qwen3")
    method = build("kv_embedding", lm, layers=(), pooling="last")
    prompt = PROMPTS["kv-document"]
    expected = [raw(lm, prompt.render(text))[-1] for text in AWKWARD]
    close(embed(method, lm, AWKWARD, prompt), expected)


def test_kv_embedding_never_embeds_without_its_layers():
    lm = model("llama")
    with pytest.raises(InputError, match="needs layers"):
        embed(get_method("kv_embedding"), lm, ["a"])
