"""What TransformerLens does not know."""

import pytest
import torch
import transformers as tf
from zoo import SHAPE, TEXTS, byte_tokenizer

import kvlens
from kvlens import InputError, LanguageModel


def test_an_unknown_architecture_for_the_bridge_is_named():
    torch.manual_seed(0)
    config = tf.HeliumConfig(**SHAPE)
    lm = LanguageModel.wrap(tf.HeliumForCausalLM(config), byte_tokenizer(), "helium")
    with pytest.raises(InputError, match="TransformerLens has no adapter for HeliumForCausalLM"):
        _ = lm.bridge
    assert kvlens.check(lm, TEXTS).passed  # recorded from the raw model
    with pytest.raises(InputError, match="cannot record patterns of HeliumForCausalLM: Transf"):
        kvlens.record(lm, TEXTS, patterns=True)
