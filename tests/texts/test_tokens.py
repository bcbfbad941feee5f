"""Texts become ids inside a prompt; ids become padded batches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import TEXTS, byte_tokenizer

from kvlens import PROMPTS, InputError
from kvlens.texts.batches import batches, pad
from kvlens.texts.prompts import Prompt
from kvlens.texts.tokens import tokenize

TOKENIZER = byte_tokenizer()
PROMPT = PROMPTS["kv-document"]
NASTY = [
    "{text}",
    "{}",
    '"quoted"',
    PROMPT.suffix * 2,
    "<eos><pad>",
    "",
    " ",
    "日本語\n\ttabs",
    "%s {0!r}",
]


def by_hand(text):
    """The three steps of quoted prompts."""
    text = text if text[-1:] in (".", "?", '"', "'") else text + "."
    text = text.replace('"', "'")
    return text[:-1] + "." if text.endswith("?") else text


def test_a_text_is_prepared_before_it_is_cut():
    prompt = Prompt(name="quoted", prefix='"', suffix='"', prepare=True)
    for limit, kept in ((99, "'a b'."), (8, "'a b'."), (7, "'a b'"), (5, "'a ")):
        (tokenized,) = tokenize(TOKENIZER, ['"a b"?'], prompt, limit)
        (expected,) = tokenize(TOKENIZER, [kept], prompt.prepares(False), 99)
        assert (tokenized.ids, tokenized.span) == (expected.ids, expected.span)
        assert tokenized.truncated == (limit < 8)


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("prompt", list(PROMPTS.values()), ids=list(PROMPTS))
def test_text_is_plain_text_inside_the_prompt(text, prompt):
    (tokenized,) = tokenize(TOKENIZER, [text], prompt, 512)
    if prompt.prepare:
        text = by_hand(text)
    rendered = prompt.prefix + text + prompt.suffix
    decoded = bytearray(len(tokenized.ids))
    alphabet = {v: k for k, v in TOKENIZER.get_vocab().items()}
    assert not {0, 1, 2} & set(tokenized.ids) or rendered == ""
    if rendered:
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        back = {v: k for k, v in bytes_to_unicode().items()}
        decoded = bytes(back[alphabet[i]] for i in tokenized.ids)
        assert decoded.decode() == rendered
        assert decoded[tokenized.span[0] : tokenized.span[1]].decode() == text


@given(st.text(max_size=80), st.integers(60, 120))
@settings(deadline=None, max_examples=150)
def test_truncation_cuts_the_text_and_never_the_prompt(text, limit):
    (tokenized,) = tokenize(TOKENIZER, [text], PROMPT, limit)
    (whole,) = tokenize(TOKENIZER, [text], PROMPT, 10_000)
    prefix, suffix = len(PROMPT.prefix), len(PROMPT.suffix)
    assert len(tokenized.ids) <= limit
    assert tokenized.truncated == (len(whole.ids) > limit)
    assert tokenized.ids[:prefix] == whole.ids[:prefix]
    assert tokenized.ids[-suffix:] == whole.ids[-suffix:]
    # As much text as whole characters allow is kept: a character is at most four bytes here.
    assert not tokenized.truncated or len(tokenized.ids) > limit - 4


def test_strict_and_too_long_prompts_are_refused():
    with pytest.raises(InputError, match="too many for the limit of 60"):
        tokenize(TOKENIZER, ["a", "b" * 100], PROMPT, 60, strict=True)
    with pytest.raises(InputError, match="prompt alone does not fit"):
        tokenize(TOKENIZER, ["abc"], PROMPT, 20)


def test_empty_text_without_prompt_gets_one_token():
    (tokenized,) = tokenize(TOKENIZER, [""], PROMPTS["raw"], 10)
    assert tokenized.ids == (TOKENIZER.bos_token_id,)
    assert tokenized.span[0] == tokenized.span[1]


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=40),
    st.integers(1, 200),
    st.sampled_from(["left", "right"]),
)
@settings(deadline=None)
def test_batches_hold_every_text_once_within_the_budget(lengths, budget, side):
    tokenized = tokenize(TOKENIZER, ["x" * n for n in lengths], PROMPTS["raw"], 1000)
    seen = []
    for batch in batches(tokenized, 0, budget, side=side):
        assert batch.ids.numel() <= budget or len(batch.rows) == 1
        for row, ids, mask, last, positions, inside in zip(
            batch.rows,
            batch.ids,
            batch.mask,
            batch.last,
            batch.positions,
            batch.text_mask,
            strict=True,
        ):
            seen.append(int(row))
            assert tuple(ids[mask.bool()].tolist()) == tokenized[row].ids
            assert int(last) == int(mask.nonzero().max())
            assert positions[mask.bool()].tolist() == list(range(lengths[row]))
            assert int(inside.sum()) == lengths[row]
    assert sorted(seen) == list(range(len(lengths)))


def test_padding_side():
    tokenized = tokenize(TOKENIZER, TEXTS, PROMPTS["raw"], 100)
    left = pad(tokenized, range(len(TEXTS)), 0, "left")
    right = pad(tokenized, range(len(TEXTS)), 0, "right")
    assert torch.equal(left.mask.flip(1), right.mask)
    assert bool((left.last == left.ids.shape[1] - 1).all())
