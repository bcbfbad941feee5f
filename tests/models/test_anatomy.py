"""Decoder, blocks and attention, found from the modules."""

import pytest
import torch
import transformers as tf
from zoo import SHAPE, TEXTS, byte_tokenizer, tiny

import kvlens
from kvlens import InputError, LanguageModel


def test_the_text_model_of_a_multimodal_wrapper_is_found():
    torch.manual_seed(0)
    text = {**SHAPE, "sliding_window": 7, "query_pre_attn_scalar": 8}
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = tf.Gemma3Config(
        text_config=text, vision_config=vision, image_token_index=299, mm_tokens_per_image=4
    )
    hf = tf.Gemma3ForConditionalGeneration(config).float()
    lm = LanguageModel.wrap(hf, byte_tokenizer(), "wrapper")
    assert lm.base is hf.model.language_model
    assert len(lm.blocks) == lm.info.n_layers
    assert kvlens.check(lm, TEXTS).recording_passed
    with kvlens.reroute(lm, [1]):  # or it is refused
        pass


def test_a_base_without_one_list_of_blocks_is_refused():
    lm = tiny("llama")
    lm.base.towers = torch.nn.ModuleList([torch.nn.Identity() for _ in lm.blocks])
    with pytest.raises(InputError, match="has no single list of decoder blocks"):
        _ = lm.blocks
