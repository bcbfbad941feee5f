"""Why re-routing some early windows destroys SmolLM2-135M's embeddings.

``python figures/sink.py validation.jsonl [N]``

For each window of layers: STS-B validation as re-routed, and with the prefix hidden from position 0
alone (Spearman x 100 on N = 300 pairs); and, over 40 of the sentences, position 0's norm after
block 11 (median), and the weight that later tokens give it in layers 12 to 29 (least and most over
layers; mean over heads, and over tokens from the third on).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

import kvlens
from kvlens.evaluation.significance import spearman
from kvlens.methods.pooling import hybrid
from kvlens.store.layer_ranges import phrase
from kvlens.texts.batches import TokenBatch, batches, pad
from kvlens.texts.pairs import Pairs, read_pairs
from kvlens.texts.prompts import DEFAULT_DOCUMENT
from kvlens.texts.tokens import TokenizedText, tokenize

WINDOWS = (
    (),
    (0, 1, 2, 3),
    (2, 3, 4, 5),
    (8, 9, 10, 11),
    (10, 11, 12, 13),
    (10,),
    (11,),
    (10, 11),
)
SINK_BLOCK = 11  # after which position 0 has its large norm
N_SENTENCES = 40
MAX_LENGTH = 512
BATCH_TOKENS = 2048
HEADER = ("layers", "re-routed", "hidden from 0", "norm of 0", "weight on 0")


class Sink(NamedTuple):
    """Position 0 as the later layers see it.

    Attributes:
        norm: of its hidden state after `SINK_BLOCK`, median over texts.
        low: the weight that later tokens give it, least over layers.
        high: the same, most over layers.
    """

    norm: float
    low: float
    high: float


def hide_prefix(module: Any, args: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A hook before attention: query 0 does not see column 0, the prefix."""
    mask = options["attention_mask"].clone()
    mask[:, :, 0, 0] = torch.finfo(mask.dtype).min
    return args, {**options, "attention_mask": mask}


@contextlib.contextmanager
def rerouted(lm: kvlens.LanguageModel, layers: Sequence[int], hidden: bool) -> Iterator[Any]:
    """`kvlens.reroute`; hidden: behind its own hooks the one that hides the prefix."""
    with kvlens.reroute(lm, layers) as routing, lm.turn() as turn:
        if hidden:
            for layer in layers:
                for tree in lm.trees:
                    turn.before(lm.attention(layer, tree), hide_prefix, with_kwargs=True)
        yield routing


def tokenized(lm: kvlens.LanguageModel, texts: Sequence[str]) -> list[TokenizedText]:
    return tokenize(lm.tokenizer, texts, DEFAULT_DOCUMENT, MAX_LENGTH)


def quality(lm: kvlens.LanguageModel, pairs: Pairs, layers: Sequence[int], hidden: bool) -> float:
    """Spearman x 100 of the pairs' cosines with their human scores."""
    texts = list(dict.fromkeys([*pairs.first, *pairs.second]))
    vectors = embed(lm, texts, layers, hidden)
    row = {text: i for i, text in enumerate(texts)}
    first = vectors[[row[text] for text in pairs.first]]
    second = vectors[[row[text] for text in pairs.second]]
    cosines = (first * second).sum(1).double().numpy()
    once = np.ones((1, len(pairs.scores)))
    return spearman(cosines[None], pairs.scores, once)[0, 0]


def embed(
    lm: kvlens.LanguageModel, texts: Sequence[str], layers: Sequence[int], hidden: bool
) -> Tensor:
    """Hybrid pooling, of length 1: float32 ``[n, d_model]``."""
    vectors = torch.empty(len(texts), lm.info.d_model)
    pad_id = lm.tokenizer.pad_token_id
    with torch.inference_mode(), rerouted(lm, layers, hidden) as routing:
        for batch in batches(tokenized(lm, texts), pad_id, BATCH_TOKENS):
            routing.last = batch.last
            output = lm.base(batch.ids, attention_mask=batch.mask, use_cache=False)
            pooled = hybrid(output.last_hidden_state, batch)
            vectors[batch.rows] = normalize(pooled, dim=-1)
    return vectors


def sink(lm: kvlens.LanguageModel, texts: Sequence[str], layers: Sequence[int]) -> Sink:
    """Look at position 0 in one pass over all texts."""
    batch = pad(tokenized(lm, texts), range(len(texts)), lm.tokenizer.pad_token_id)
    seq_len = batch.ids.shape[1]
    later = batch.mask.bool().clone()
    later[:, :2] = False
    norms: list[Tensor] = []
    weights: list[Tensor] = []

    def read_norm(states: Tensor, hook: Any) -> None:
        norms.append(states[:, 0].norm(dim=-1).median())

    def read_weight(pattern: Tensor, hook: Any) -> None:
        on_first = pattern[..., -seq_len:][..., 0]  # without the prefix's column
        weights.append(on_first.mean(1)[later].mean())

    taps: list[Any] = [(f"blocks.{SINK_BLOCK}.hook_resid_post", read_norm)]
    for layer in range(SINK_BLOCK + 1, lm.info.n_layers):
        taps.append((f"blocks.{layer}.attn.hook_pattern", read_weight))
    run_bridge(lm, batch, layers, taps)
    return Sink(norms[0].item(), min(weights).item(), max(weights).item())


def run_bridge(
    lm: kvlens.LanguageModel, batch: TokenBatch, layers: Sequence[int], taps: list[Any]
) -> None:
    """One re-routed pass through the TransformerLens bridge, for its taps alone."""
    bridge = lm.bridge  # has to exist before `reroute` begins
    options = {"return_type": None, "use_cache": False, "logits_to_keep": 1}
    with (
        torch.inference_mode(),
        kvlens.reroute(lm, layers) as routing,
        lm.turn() as turn,
    ):
        turn.tap(bridge, taps)
        routing.last = batch.last
        bridge(batch.ids, attention_mask=batch.mask, position_ids=batch.positions, **options)


def main(path: str, n: str = "300") -> None:
    """Print a line a window."""
    lm = kvlens.load("smollm2-135m")
    pairs = read_pairs(path, int(n))
    print("{:14} {:>9} {:>13} {:>9} {:>14}".format(*HEADER), flush=True)
    for layers in WINDOWS:
        seen = sink(lm, pairs.first[:N_SENTENCES], layers)
        shown = quality(lm, pairs, layers, hidden=False)
        hidden = quality(lm, pairs, layers, hidden=True)
        scores = f"{shown:9.1f} {hidden:13.1f}"
        weight = f"{seen.low:6.2f} to {seen.high:.2f}"
        print(f"{phrase(layers):14} {scores} {seen.norm:9.0f} {weight}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
