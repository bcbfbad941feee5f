"""Attention of single texts from the bridge's own hooks, and every quantity of a shift in numpy."""

import math

import numpy as np
import torch

from kvlens import Prompt
from kvlens.analysis.attention import NEIGHBOURS
from kvlens.rerouting.door import reroute
from kvlens.texts.batches import pad
from kvlens.texts.tokens import tokenize

LAYERS = (0, 2)
BIAS = (0.5, 2.0)
LAST = 3  # the last block, which is not re-routed
PROMPT = Prompt(name="test", prefix="In: ", suffix=" Out:")


def bridge_run(lm, text, layers, names, bias=BIAS, position="keep"):
    """What the bridge's own hooks show of one text.

    By hook name, patterns [H, T, .] or hidden states [T, d_model]; and the text's token span.
    """
    (tokenized,) = tokenize(lm.tokenizer, [text], PROMPT, 256)
    batch = pad([tokenized], [0], 0)
    seen = {}
    hooks = [
        (name, lambda x, hook, name=name: seen.update({name: x[0].double().numpy()}))
        for name in names
    ]
    _ = lm.bridge
    with (
        torch.no_grad(),
        reroute(lm, layers, bias if layers else 1.0, position),
        lm.bridge.hooks(fwd_hooks=hooks),
    ):
        lm.bridge(batch.ids, attention_mask=batch.mask, return_type=None, use_cache=False)
    return seen, tokenized.span


def patterns_at(lm, text, layers, bias=BIAS, position="keep"):
    """Patterns of the blocks in `LAYERS` while `layers` are re-routed."""
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in LAYERS]
    seen, _ = bridge_run(lm, text, layers, names, bias, position)
    return list(seen.values())


def states_at(lm, text, layers):
    """Hidden states [blocks, 1, T, d_model] while `layers` are re-routed, and the token span."""
    names = [f"blocks.{block}.hook_resid_post" for block in (*LAYERS, LAST)]
    seen, span = bridge_run(lm, text, layers, names)
    return np.stack([seen[name] for name in names])[:, None], span


def entropy(weights):
    rows = weights.reshape(-1, weights.shape[-1])
    sums = [-sum(x * math.log(x) for x in row if x > 0) for row in rows]
    return np.array(sums).reshape(weights.shape[:-1])


def cosine(a, b):
    return (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


def quantities(lm, text):
    """Every quantity per token of one text: name -> [layers, heads or 1, T]; and its token span."""
    h, span = states_at(lm, text, [])
    changed, _ = states_at(lm, text, LAYERS)
    return {**weights_by_hand(lm, text, span), **moves_by_hand(h, changed)}, span


def weights_by_hand(lm, text, span):
    before = np.stack(patterns_at(lm, text, []))
    after = np.stack(patterns_at(lm, text, LAYERS))
    each_alone = [
        patterns_at(lm, text, [layer], bias)[i]
        for i, (layer, bias) in enumerate(zip(LAYERS, BIAS, strict=True))
    ]
    alone = np.stack(each_alone)
    tokens = range(before.shape[-1])
    regions = {
        "sink": [[j == 0 for j in tokens] for _ in tokens],
        "neighbours": [[i - NEIGHBOURS <= j < i for j in tokens] for i in tokens],
        "prompt": [[not span[0] <= j < span[1] for j in tokens] for _ in tokens],
    }
    values = {"beta.local": alone[..., 0], "beta.propagated": after[..., 0]}
    for kind, weights in (("before", before), ("local", alone), ("propagated", after)):
        values[f"entropy.{kind}"] = entropy(weights)
        values[f"context.{kind}"] = np.exp(entropy(weights))
        for name, inside in regions.items():
            mass = (before * inside).sum(-1)
            lost = mass - (weights[..., 1:] * inside).sum(-1) if kind != "before" else mass
            values[f"{name}.{kind}"] = lost
    return values


def moves_by_hand(h, changed):
    final = h[..., -1:, :]
    with np.errstate(invalid="ignore"):
        towards = cosine(changed - h, final - h)
    return {
        "moved.relative": np.linalg.norm(changed - h, axis=-1) / np.linalg.norm(h, axis=-1),
        "moved.cosine": cosine(h, changed),
        "final.before": cosine(h, final),
        "final.after": cosine(changed, changed[..., -1:, :]),
        "final.towards": towards,
    }
