"""The baselines of one plain pass, derived again from raw transformers, one text at a time."""

import pytest
import torch
from method_cases import ARCHITECTURES, AWKWARD, build, close, embed, ids_of, model, prepared, raw

ESSENCE = (
    "The essence of a sentence is often captured by its main subjects and actions, while "
    "descriptive terms provide additional but less central details. With this in mind , "
)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_single_pass_baselines(architecture):
    lm = model(architecture)
    close(embed(build("last_token", lm), lm, AWKWARD), [raw(lm, text)[-1] for text in AWKWARD])
    close(embed(build("mean", lm), lm, AWKWARD), [raw(lm, text).mean(0) for text in AWKWARD])
    for settings, texts in (({}, map(prepared, AWKWARD)), ({"prepare": False}, AWKWARD)):
        asked = [raw(lm, f'This sentence : "{text}" means in one word:"')[-1] for text in texts]
        close(embed(build("prompt_eol", lm, **settings), lm, AWKWARD), asked)


@pytest.mark.parametrize("architecture", ["gemma3", "llama"])
def test_cot_and_ke(architecture):
    lm = model(architecture)
    for name, begin in (("cot", "After thinking step by step , "), ("ke", ESSENCE)):
        method = build(name, lm)
        expected = []
        for text in AWKWARD[:3]:
            written = f'{begin}this sentence : "{prepared(text)}" means in one word:"'
            with torch.no_grad():
                ids = torch.tensor([ids_of(lm, written)])
                states = lm.base(ids, output_hidden_states=True).hidden_states
            # Of L + 1, the last one after the final norm: after L - 1 blocks is the one before.
            expected.append(states[-2 if name == "ke" else -1][0, -1])
        for prompt in (method.query, method.document):
            (tokenized,) = method.tokenize(lm, [AWKWARD[2]], prompt, 999)
            assert list(tokenized.ids) == ids_of(lm, written)
        close(embed(method, lm, AWKWARD[:3]), expected)
