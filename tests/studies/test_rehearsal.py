"""Rehearsal: what is told of a choice, against the passes of the choice itself."""

import numpy as np
import pytest
from passed_tokens import counted

import kvlens
from kvlens.checks.forecasts import passes
from kvlens.store.errors import InputError
from kvlens.studies.rehearsal import expected_passes
from kvlens.texts.pairs import Pairs


@pytest.mark.slow
def test_a_choice_takes_what_was_told(zoo):
    lm = zoo("llama")
    texts = [f"sentence {i:03} of equal length" for i in range(120)]  # so that nothing is padded
    pairs = Pairs(tuple(texts[:60]), tuple(texts[60:]), np.arange(60) % 7.0)
    options = {"pairs": pairs, "biases": (1.0,), "posts": (), "finalists": 6}
    told = passes(expected_passes(lm, **options))
    assert told.texts == 120
    with counted(lm) as passed:
        kvlens.choose(lm, **options)
    # Which ways become finalists is not known before, and some have longer prompts.
    assert told.tokens == pytest.approx(sum(passed), rel=0.1)


def test_it_refuses_what_a_choice_refuses(zoo):
    pairs = Pairs(("a", "b") * 10, ("c", "d") * 10, np.arange(20) % 7.0)
    with pytest.raises(InputError, match="at least 40"):
        expected_passes(zoo("llama"), pairs=pairs)
