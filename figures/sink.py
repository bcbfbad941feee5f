"""Why re-routing some early windows destroys SmolLM2-135M's embeddings.

``python figures/sink.py validation.jsonl [N]``. For each window of layers: STS-B validation as re-routed and with the
prefix hidden from position 0 alone (Spearman x 100 on N = 300 pairs); and, over 40 of the sentences, position 0's
norm after block 11 (median), and the weight that later tokens give it in layers 12 to 29 (least and most over layers;
mean over heads, and over tokens from the third on).
"""

import contextlib
import sys

import numpy as np
import torch

import kvlens
from kvlens.evaluation.significance import spearman
from kvlens.methods.pooling import POOLINGS
from kvlens.store.layer_ranges import phrase
from kvlens.texts.pairs import read_pairs
from kvlens.texts.prompts import DEFAULT_DOCUMENT
from kvlens.texts.tokens import batches, pad, tokenize

WINDOWS = ((), (0, 1, 2, 3), (2, 3, 4, 5), (8, 9, 10, 11), (10, 11, 12, 13), (10,), (11,), (10, 11))


def hide(module, args, options):
    mask = options["attention_mask"].clone()
    mask[:, :, 0, 0] = torch.finfo(mask.dtype).min  # query 0, column 0: the prefix
    return args, {**options, "attention_mask": mask}


@contextlib.contextmanager
def rerouted(lm, layers, hidden):
    """`kvlens.reroute`, and behind its own hooks the one that hides the prefix from position 0."""
    with kvlens.reroute(lm, layers) as routing, contextlib.ExitStack() as stack:
        for module in [m for layer in layers if hidden for m in lm.attention_modules(layer)]:
            stack.callback(module.register_forward_pre_hook(hide, with_kwargs=True).remove)
        yield routing


def quality(lm, pairs, layers, hidden):
    texts = list(dict.fromkeys([*pairs.first, *pairs.second]))
    vectors = torch.empty(len(texts), lm.info.d_model)
    with torch.inference_mode(), rerouted(lm, layers, hidden) as routing:
        for batch in batches(
            tokenize(lm.tokenizer, texts, DEFAULT_DOCUMENT, 512), lm.tokenizer.pad_token_id, 2048
        ):
            routing.last = batch.last
            states = lm.base(
                batch.ids, attention_mask=batch.mask, use_cache=False
            ).last_hidden_state
            vectors[batch.rows] = torch.nn.functional.normalize(
                POOLINGS["hybrid"](states, batch), dim=-1
            )
    row = {text: i for i, text in enumerate(texts)}
    a, b = (vectors[[row[text] for text in side]] for side in (pairs.first, pairs.second))
    return spearman(
        (a * b).sum(1).double().numpy()[None], pairs.scores, np.ones((1, len(pairs.scores)))
    )[0, 0]


def sink(lm, texts, layers):
    batch = pad(
        tokenize(lm.tokenizer, texts, DEFAULT_DOCUMENT, 512),
        range(len(texts)),
        lm.tokenizer.pad_token_id,
    )
    norms, weights, real = [], [], batch.mask.bool().clone()
    real[:, :2] = False
    width, bridge = batch.ids.shape[1], lm.bridge

    def read(pattern, hook):
        weights.append(pattern[..., -width:][..., 0].mean(1)[real].mean())

    taps = [
        (
            "blocks.11.hook_resid_post",
            lambda states, hook: norms.append(states[:, 0].norm(dim=-1).median()),
        )
    ]
    for layer in range(12, lm.info.n_layers):
        taps.append((f"blocks.{layer}.attn.hook_pattern", read))
    with (
        torch.inference_mode(),
        kvlens.reroute(lm, layers) as routing,
        bridge.hooks(fwd_hooks=taps),
    ):
        routing.last = batch.last
        options = {
            "position_ids": batch.positions,
            "return_type": None,
            "use_cache": False,
            "logits_to_keep": 1,
        }
        bridge(batch.ids, attention_mask=batch.mask, **options)
    return norms[0].item(), min(weights).item(), max(weights).item()


def main(path, n=300):
    lm, pairs = kvlens.load("smollm2-135m"), read_pairs(path, int(n))
    print(
        f"{'layers':14} {'re-routed':>9} {'hidden from 0':>13} {'norm of 0':>9} {'weight on 0':>14}",
        flush=True,
    )
    for layers in WINDOWS:
        name = phrase(layers)
        norm, low, high = sink(lm, pairs.first[:40], layers)
        scores = [quality(lm, pairs, layers, hidden) for hidden in (False, True)]
        print(
            f"{name:14} {scores[0]:9.1f} {scores[1]:13.1f} {norm:9.0f} {low:6.2f} to {high:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
