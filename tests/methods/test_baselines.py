"""Last token, mean and PromptEOL, each derived again from raw transformers, one text at a time."""

import pytest
from method_cases import ARCHITECTURES, AWKWARD, build, close, embed, model, raw


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_single_pass_baselines(architecture):
    lm = model(architecture)
    close(embed(build("last_token", lm), lm, AWKWARD), [raw(lm, text)[-1] for text in AWKWARD])
    close(embed(build("mean", lm), lm, AWKWARD), [raw(lm, text).mean(0) for text in AWKWARD])
    asked = [raw(lm, f'This sentence : "{text}" means in one word:"')[-1] for text in AWKWARD]
    close(embed(build("prompt_eol", lm), lm, AWKWARD), asked)
