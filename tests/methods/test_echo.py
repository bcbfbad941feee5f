"""Echo, derived again from raw transformers, one text at a time."""

import pytest
from method_cases import ARCHITECTURES, AWKWARD, build, close, embed, ids_of, model, raw

from kvlens import PROMPTS, InputError

FRAME = "Rewrite the following paragraph: \nThe rewritten paragraph: "


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_echo_is_the_mean_over_the_second_copy(architecture):
    lm = model(architecture)
    method = build("echo", lm)
    texts = [text for text in AWKWARD if text]
    for prompt in (method.query, method.document):
        expected = []
        for text in texts:
            written = f"Rewrite the following paragraph: {text}\nThe rewritten paragraph: {text}"
            hidden = raw(lm, written)
            assert len(hidden) == len(written)
            expected.append(hidden[-len(text) :].mean(0))
        close(embed(method, lm, texts, prompt), expected)


def test_the_other_wording_is_reached_by_its_name():
    lm = model("llama")
    prompt = PROMPTS["echo-sentence"]
    method = build("echo", lm, document=prompt)
    hidden = raw(lm, "Rewrite the sentence: a cat, rewritten sentence: a cat")
    close(embed(method, lm, ["a cat"]), [hidden[-5:].mean(0)])


def test_echo_prepares_both_copies_before_it_cuts_them():
    lm = model("llama")
    method = build("echo", lm, prepare=True)
    for limit, copy in ((256, "say 'x'"), (len(FRAME) + 8, "say ")):
        (text,) = method.tokenize(lm, ['say "x"'], method.document, limit)
        written = f"Rewrite the following paragraph: {copy}\nThe rewritten paragraph: {copy}"
        assert list(text.ids) == ids_of(lm, written)
        assert text.span == (len(written) - len(copy), len(written))


@pytest.mark.parametrize("limit", [80, 81, 256])
def test_echo_cuts_both_copies_alike(limit):
    lm = model("llama")
    text = "0123456789" * 50
    method = build("echo", lm)
    (cut,) = method.tokenize(lm, [text], method.document, limit)
    start, end = cut.span
    frame = len(FRAME)
    kept = (limit - frame) // 2
    assert cut.truncated
    assert (end - start, len(cut.ids)) == (kept, frame + 2 * kept)
    kept_text = text[:kept]
    written = f"Rewrite the following paragraph: {kept_text}\nThe rewritten paragraph: {kept_text}"
    assert list(cut.ids) == ids_of(lm, written)
    assert not method.tokenize(lm, ["short"], method.document, limit)[0].truncated
    with pytest.raises(InputError, match="too many for the limit"):
        method.tokenize(lm, [text], method.document, limit, strict=True)
