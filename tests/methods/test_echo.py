"""Echo, derived again from raw transformers, one text at a time."""

import pytest
from method_cases import ARCHITECTURES, AWKWARD, build, close, embed, ids_of, model, raw

from kvlens import InputError


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_echo_is_the_mean_over_the_second_copy(architecture):
    lm = model(architecture)
    method = build("echo", lm)
    texts = [text for text in AWKWARD if text]
    for prompt in (method.query, method.document):
        expected = []
        for text in texts:
            written = f"Rewrite the sentence: {text}, rewritten sentence: {text}"
            hidden = raw(lm, written)
            assert len(hidden) == len(written)
            expected.append(hidden[-len(text) :].mean(0))
        close(embed(method, lm, texts, prompt), expected)


@pytest.mark.parametrize("limit", [60, 61, 256])
def test_echo_cuts_both_copies_alike(limit):
    lm = model("llama")
    text = "0123456789" * 50
    method = build("echo", lm)
    (cut,) = method.tokenize(lm, [text], method.document, limit)
    start, end = cut.span
    frame = len("Rewrite the sentence: , rewritten sentence: ")
    kept = (limit - frame) // 2
    assert cut.truncated
    assert (end - start, len(cut.ids)) == (kept, frame + 2 * kept)
    written = f"Rewrite the sentence: {text[:kept]}, rewritten sentence: {text[:kept]}"
    assert list(cut.ids) == ids_of(lm, written)
    assert not method.tokenize(lm, ["short"], method.document, limit)[0].truncated
    with pytest.raises(InputError, match="too many for the limit"):
        method.tokenize(lm, [text], method.document, limit, strict=True)
