"""What TransformerLens does not know."""

import pytest
import torch
import transformers as tf
from zoo import TEXTS, byte_tokenizer

import kvlens
from kvlens import InputError, LanguageModel


def test_an_unknown_architecture_for_the_bridge_is_named():
    torch.manual_seed(0)
    config = tf.CTRLConfig(vocab_size=300, n_embd=16, dff=16, n_layer=1, n_head=2)
    lm = LanguageModel.wrap(tf.CTRLLMHeadModel(config), byte_tokenizer(), "ctrl")
    with pytest.raises(InputError, match="TransformerLens has no adapter for CTRLLMHeadModel"):
        _ = lm.bridge
    assert kvlens.check(lm, TEXTS).passed  # recorded from the raw model
    with pytest.raises(InputError, match="cannot record patterns of CTRLLMHeadModel: Transf"):
        kvlens.record(lm, TEXTS, patterns=True)
