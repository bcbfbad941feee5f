"""Ids in a chat are those of transformers, and texts stay plain text inside it."""

import pytest
import transformers as tf
from chat_models import CONTROLS, DATED, GOOD, PLAIN, WORDS, chat_tokenizer, truth
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from kvlens import PROMPTS, InputError
from kvlens.texts.batches import pad
from kvlens.texts.chat_template import chat_of
from kvlens.texts.encoding import encode
from kvlens.texts.prompts import Prompt
from kvlens.texts.tokens import tokenize

TOKENIZERS = {name: chat_tokenizer(template) for name, template in GOOD.items()}
PIECES = [
    "{{ x }}",
    '"',
    "\n",
    "{% if %}",
    "<|im_end|>",
    "<|im_start|>system\n",
    "<eos>",
    "日本",
    " ",
]
TALK = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=8).map("".join)
PLAIN_TALK = TALK.filter(lambda text: not any(mark in text for mark in (*CONTROLS, "<eos>")))
PROMPT = PROMPTS["kv-document-inner"]


def in_chat(tokenizer, prompt=PROMPT, system=None):
    return prompt.in_chat(chat_of(tokenizer, "m", system))


def text_of(tokenizer, ids):
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("name", [name for name in GOOD if name != "dated"])
@given(text=PLAIN_TALK)
def test_ids_are_those_of_transformers(name, text):
    tokenizer = TOKENIZERS[name]
    (encoding,) = encode(tokenizer, [text], in_chat(tokenizer))
    assert encoding.ids == truth(tokenizer, PROMPT.render(text))


@pytest.mark.parametrize("name", GOOD)
@given(text=TALK)
def test_a_text_has_no_control_tokens(name, text):
    """With bytes as tokens, transformers' own guard against them says the same."""
    tokenizer = TOKENIZERS[name]
    prompt = in_chat(tokenizer)
    (tokenized,) = tokenize(tokenizer, [text], prompt, 10_000)
    start, end = tokenized.span
    special = set(tokenizer.all_special_ids)
    assert not special & set(tokenized.ids[start:end])
    assert text_of(tokenizer, tokenized.ids) == prompt.render(text)
    assert text_of(tokenizer, tokenized.ids[start:end]) == text
    if name not in ("dated", "words"):
        guarded = truth(tokenizer, PROMPT.render(text), sanitize_control_tokens=True)
        assert list(tokenized.ids) == guarded
    closing = truth(tokenizer, "")[-1]
    assert tokenized.ids[-1] == closing


@given(text=TALK, limit=st.integers(130, 180), side=st.sampled_from(["left", "right"]))
def test_truncation_cuts_the_text_alone(text, limit, side):
    tokenizer = TOKENIZERS["with system"]
    prompt = in_chat(tokenizer)
    (tokenized,) = tokenize(tokenizer, [text], prompt, limit)
    (whole,) = tokenize(tokenizer, [text], prompt, 10_000)
    start, end = tokenized.span
    if text:
        rest = len(whole.ids) - whole.span[1]
        assert (start, tokenized.ids[:start]) == (whole.span[0], whole.ids[:start])
        assert end == start or tokenized.ids[end:] == whole.ids[-rest:]
    assert len(tokenized.ids) <= limit
    assert tokenized.truncated == (len(whole.ids) > limit)
    assert text.startswith(text_of(tokenizer, tokenized.ids[start:end]))
    batch = pad([tokenized, whole], [0, 1], 0, side)
    for row, each in enumerate((tokenized, whole)):
        assert batch.ids[row, batch.last[row]] == truth(tokenizer, "")[-1]
        assert batch.ids[row][batch.text_mask[row]].tolist() == list(each.ids[slice(*each.span)])


def test_no_bos_is_doubled():
    tokenizer = TOKENIZERS["trimming"]
    (encoding,) = encode(tokenizer, ["a cat"], in_chat(tokenizer))
    assert encoding.ids.count(tokenizer.bos_token_id) == 1


def test_a_prompt_with_a_control_token_is_plain_text_too():
    tokenizer = TOKENIZERS["plain"]
    prompt = in_chat(tokenizer, Prompt(name="x", prefix="<|im_end|>", suffix="<|im_start|>"))
    (encoding,) = encode(tokenizer, ["a"], prompt)
    assert text_of(tokenizer, encoding.ids) == prompt.render("a")
    assert len(encoding.ids) == len(truth(tokenizer, "a")) + len("<|im_end|><|im_start|>")


def spaced_tokenizer(template, special=True):
    """As Llama's later ones: a text that begins gets a space, one after a control token does not.

    Its second control token swallows white space that follows, as Phi-3's do.
    """
    letters = [chr(code) for code in range(32, 127)] + ["▁", "\n"]
    vocabulary = {"<s>": 0, "<unk>": 1, **{c: i + 2 for i, c in enumerate(letters)}}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer = tf.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", unk_token="<unk>"
    )
    marks = [AddedToken(mark, rstrip=mark == CONTROLS[0], special=special) for mark in CONTROLS]
    tokenizer.add_tokens(marks, special_tokens=special)
    tokenizer.chat_template = template
    return tokenizer


SWALLOWING = PLAIN.replace("\n{{ m.content }}", "{{ m.content }}")


@pytest.mark.parametrize("template", ["<s>" + WORDS, "<s>" + PLAIN, SWALLOWING])
@pytest.mark.parametrize("text", ["a cat", " a cat ", "x\n\ny"])
def test_tokenizers_that_look_at_what_precedes(template, text):
    tokenizer = spaced_tokenizer(template)
    for prompt in (PROMPT, PROMPTS["raw"]):
        (encoding,) = encode(tokenizer, [text], in_chat(tokenizer, prompt))
        assert encoding.ids == truth(tokenizer, prompt.render(text))
        (tokenized,) = tokenize(tokenizer, [text], in_chat(tokenizer, prompt), 1000)
        inside = tokenizer.convert_ids_to_tokens(tokenized.ids[slice(*tokenized.span)])
        assert "".join(inside).replace("▁", " ").strip(" ") == text.strip(" ")


def test_where_plain_text_cannot_be_had_the_text_is_refused():
    tokenizer = spaced_tokenizer("<s>" + WORDS)
    with pytest.raises(InputError, match=r"a text holds <\|im_end\|>, .* leave the text out"):
        encode(tokenizer, ["a", "a <|im_end|>"], in_chat(tokenizer))
    # Added tokens that are not marked as special are read even where special ones are not.
    tokenizer = spaced_tokenizer(PLAIN, special=False)
    encode(tokenizer, ["a"], in_chat(tokenizer))
    with pytest.raises(InputError, match=r"a text holds <\|im_start\|>"):
        encode(tokenizer, ["<|im_start|>"], in_chat(tokenizer))


def test_a_date_is_the_same_every_day():
    tokenizer = chat_tokenizer(DATED)
    (encoding,) = encode(tokenizer, ["a cat"], in_chat(tokenizer))
    assert text_of(tokenizer, encoding.ids).startswith("Today 26 Jul 2024, 2024.\n")


# Its vocabulary lacks some bytes.
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8)
WESTERN = st.lists(st.one_of(st.sampled_from(PIECES), PRINTABLE), max_size=8).map("".join)


@pytest.mark.real
@given(text=WESTERN, system=st.sampled_from([None, "", "You sum up."]))
def test_real_template(smollm, text, system):
    tokenizer = smollm.tokenizer
    prompt = in_chat(tokenizer, PROMPT, system)
    (tokenized,) = tokenize(tokenizer, [text], prompt, 10_000)
    special = set(tokenizer.all_special_ids)
    expected = truth(tokenizer, PROMPT.render("a"), system)
    assert [i for i in tokenized.ids if i in special] == [i for i in expected if i in special]
    if not any(mark in text for mark in tokenizer.all_special_tokens):
        assert list(tokenized.ids) == truth(tokenizer, PROMPT.render(text), system)
    assert text_of(tokenizer, tokenized.ids) == prompt.render(text)
    assert tokenized.ids[-1] == expected[-1]
    inside = text_of(tokenizer, tokenized.ids[slice(*tokenized.span)])
    assert text in inside


@pytest.mark.real
def test_real_span_is_the_text(smollm):
    tokenizer = smollm.tokenizer
    for name in ("raw", "kv-document"):
        prompt = in_chat(tokenizer, PROMPTS[name])
        (tokenized,) = tokenize(tokenizer, ['Two cats, "a" dog'], prompt, 1000)
        inside = text_of(tokenizer, tokenized.ids[slice(*tokenized.span)])
        assert inside.removeprefix(" ") == 'Two cats, "a" dog'
