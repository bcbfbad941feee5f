"""A second wrapper of a model that was recorded: what is found anew comes before the hooks."""

import torch
from zoo import TEXTS, tiny

import kvlens


def test_a_second_wrapper_records_the_same():
    lm = tiny("neox")
    first = kvlens.record(lm, TEXTS)
    again = kvlens.LanguageModel(lm.hf, lm.tokenizer, lm.info, lm.anatomy)
    second = kvlens.record(again, TEXTS)
    for kind, tensor in first.tensors.items():
        assert torch.equal(second.tensors[kind], tensor)
