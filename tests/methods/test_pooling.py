"""Pooling against a loop over rows in float64, with garbage where the padding is."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import TEXTS, byte_tokenizer

from kvlens.methods.pooling import POOLINGS
from kvlens.texts.batches import pad
from kvlens.texts.prompts import get_prompt
from kvlens.texts.tokens import TokenizedText, tokenize


def unit(vector):
    return vector / np.linalg.norm(vector)


# Each sees one text's real rows in float64 and the text's own span.
TRUTH = {
    "last": lambda rows, span: rows[-1],
    "mean": lambda rows, span: rows.mean(0),
    "hybrid": lambda rows, span: unit((rows[-1] + rows.mean(0)) / 2),
    "hybrid_unnormalized": lambda rows, span: (rows[-1] + rows.mean(0)) / 2,
    "text_mean": lambda rows, span: (
        rows[span[0] : span[1]].mean(0) if span[0] < span[1] else rows[-1]
    ),
}


def batch_and_rows(texts, side, garbage, width=16, seed=0):
    """A padded batch, hidden states with `garbage` on its padding, and each text's own rows."""
    batch = pad(texts, range(len(texts)), 0, side)
    rows = [
        np.random.default_rng(seed + i).normal(0, 3, (len(text.ids), width))
        for i, text in enumerate(texts)
    ]
    hidden = torch.full((*batch.ids.shape, width), garbage)
    for i, row in enumerate(rows):
        first = batch.ids.shape[1] - len(row) if side == "left" else 0
        hidden[i, first : first + len(row)] = torch.from_numpy(row).float()
    return batch, hidden, rows


def check(name, texts, side, garbage, seed=0):
    batch, hidden, rows = batch_and_rows(texts, side, garbage, seed=seed)
    found = POOLINGS[name](hidden, batch)
    expected = np.stack(
        [TRUTH[name](row, text.span) for row, text in zip(rows, texts, strict=True)]
    )
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_every_pooling_has_its_truth():
    assert set(TRUTH) == set(POOLINGS)


@pytest.mark.parametrize("garbage", [0.0, 1e30, -math.inf, math.nan])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", sorted(POOLINGS))
def test_prompted_texts(name, side, garbage):
    texts = tokenize(byte_tokenizer(), [*TEXTS, ""], get_prompt("kv-document"), 256)
    assert [text.span[1] - text.span[0] for text in texts] == [*map(len, TEXTS), 0]
    check(name, texts, side, garbage)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    spans=st.lists(
        st.tuples(st.integers(1, 12), st.integers(0, 12), st.integers(0, 12)),
        min_size=1,
        max_size=6,
    ),
    side=st.sampled_from(["left", "right"]),
    seed=st.integers(0, 1000),
)
def test_any_lengths_and_spans(spans, side, seed):
    texts = [TokenizedText((5,) * n, (min(a, b, n), min(max(a, b), n))) for n, a, b in spans]
    for name in POOLINGS:
        check(name, texts, side, math.nan, seed)


def test_the_text_mean_of_an_empty_text_is_its_final_token_and_touches_no_other_row():
    texts = tokenize(byte_tokenizer(), ["", "ab", ""], get_prompt("kv-document-inner"), 256)
    batch, hidden, rows = batch_and_rows(texts, "right", math.nan)
    before = batch.text_mask.clone()
    found = POOLINGS["text_mean"](hidden, batch)
    assert torch.equal(found[::2], hidden[torch.tensor([0, 2]), batch.last[::2]])
    np.testing.assert_allclose(
        found[1].numpy(), rows[1][slice(*texts[1].span)].mean(0), rtol=1e-5, atol=1e-5
    )
    assert torch.equal(batch.text_mask, before)


@pytest.mark.parametrize("name", ["mean", "hybrid", "text_mean"])
def test_half_precision_is_averaged_in_float32(name):
    """4,096 tokens of bfloat16: a running sum in that dtype would stop growing."""
    batch = pad([TokenizedText((5,) * 4096, (0, 4096))], [0], 0)
    generator = torch.Generator().manual_seed(0)
    hidden = (torch.randn((1, 4096, 8), generator=generator) + 4).bfloat16()
    expected = TRUTH[name](hidden[0].double().numpy(), (0, 4096))
    np.testing.assert_allclose(POOLINGS[name](hidden, batch)[0].numpy(), expected, rtol=1e-4)
