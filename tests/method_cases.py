"""Methods built for small models, and what raw transformers says of one text."""

import functools

import torch
import transformers as tf
from zoo import CONFIGS, TEXTS, tiny

from kvlens import LanguageModel, calibration, record
from kvlens.methods.base import Method
from kvlens.methods.registry import get_method, methods, takes_layers
from kvlens.rerouting.calibration import Calibration
from kvlens.texts.batches import pad

ARCHITECTURES = sorted(CONFIGS)
AWKWARD = [*TEXTS, "", 'braces {text} {first} "quotes" <eos>']


@functools.cache
def model(name: str) -> LanguageModel:
    return tiny(name)


@functools.cache
def calibration_of(lm: LanguageModel) -> Calibration:
    return calibration(record(lm, TEXTS, keep=("k_pre", "v")))


def build(name: str, lm: LanguageModel, **settings) -> Method:
    needed = {"layers": (1, 2)} if takes_layers(name) else {}
    if name in methods() and methods()[name].needs_calibration:
        needed["calibration"] = calibration_of(lm)
    return get_method(name, **{**needed, **settings}).for_model(lm)


def batch_of(method, lm, texts, prompt=None, side="right", limit=256):
    tokenized = method.tokenize(lm, texts, prompt or method.document, limit)
    return pad(tokenized, range(len(texts)), 0, side)


def embed(method, lm, texts, prompt=None, side="right"):
    with torch.no_grad():
        return method.embed(lm, batch_of(method, lm, texts, prompt, side))


def ids_of(lm, text):
    """Bytes as tokens, also what looks like a special token; the tokenizer's BOS for nothing."""
    ids = lm.tokenizer(text, split_special_tokens=True)["input_ids"]
    return ids or [lm.tokenizer.bos_token_id]


def prepared(text):
    """The three steps of quoted prompts, by hand."""
    if text[-1:] not in list(".?\"'"):
        text = text + "."
    text = "".join("'" if character == '"' else character for character in text)
    return text[:-1] + "." if text[-1] == "?" else text


def raw(lm, text):
    """Final hidden states ``[seq_len, d]`` of one text."""
    with torch.no_grad():
        return lm.base(torch.tensor([ids_of(lm, text)])).last_hidden_state[0]


def close(vectors, expected):
    torch.testing.assert_close(vectors, torch.stack(expected), rtol=1e-4, atol=1e-4)


@functools.cache
def eager(architecture):
    lm = tiny(architecture)
    lm.hf.set_attn_implementation("eager")
    return lm


def values_and_patterns(architecture, text):
    """Raw transformers' own cache and attention weights.

    Per layer ``[n_kv_heads, seq_len, d_head]`` and ``[n_heads, seq_len, seq_len]``.
    """
    lm = eager(architecture)
    cache = tf.DynamicCache()
    with torch.no_grad():
        ids = torch.tensor([ids_of(lm, text)])
        out = lm.base(ids, past_key_values=cache, use_cache=True, output_attentions=True)
    values = [layer.values[0] for layer in cache.layers]
    patterns = [pattern[0] for pattern in out.attentions]
    return values, patterns
