"""Multimodal checkpoints: a text decoder inside a wrapper, a tiny vision tower beside it."""

import torch
import transformers as tf
from zoo import SHAPE, byte_tokenizer

VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
THREE_SLIDING = ["sliding_attention"] * 3 + ["full_attention"]
THREE_LINEAR = ["linear_attention"] * 3 + ["full_attention"]


def gemma3():
    text = {**SHAPE, "sliding_window": 7, "query_pre_attn_scalar": 8}
    return tf.Gemma3Config(
        text_config=text,
        vision_config=VISION,
        image_token_index=299,
        boi_token_index=298,
        eoi_token_index=297,
        mm_tokens_per_image=4,
    )


def gemma4():
    text = {
        **SHAPE,
        "sliding_window": 7,
        "layer_types": THREE_SLIDING,
        "global_head_dim": 16,
        "vocab_size_per_layer_input": 300,
        "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 0,
    }
    vision = {**VISION, "head_dim": 8, "num_key_value_heads": 2, "global_head_dim": 8}
    return tf.Gemma4Config(
        text_config=text,
        vision_config=vision,
        audio_config=None,
        image_token_id=299,
        boi_token_id=298,
        eoi_token_id=297,
        video_token_id=296,
        audio_token_id=295,
        boa_token_id=294,
    )


def mistral3(text="mistral"):
    return tf.Mistral3Config(
        text_config={**SHAPE, "model_type": text},
        vision_config={**VISION, "model_type": "pixtral", "head_dim": 8},
        image_token_index=299,
    )


def ministral3():
    return mistral3("ministral3")


def qwen3_5():
    text = {
        **SHAPE,
        "layer_types": THREE_LINEAR,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "depth": 1,
        "num_heads": 2,
        "patch_size": 4,
        "out_hidden_size": 32,
        "num_position_embeddings": 16,
    }
    return tf.Qwen3_5Config(
        text_config=text,
        vision_config=vision,
        image_token_id=299,
        video_token_id=298,
        vision_start_token_id=297,
        vision_end_token_id=296,
    )


def llama4():
    text = {
        **SHAPE,
        "intermediate_size_mlp": 48,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 2,
        "attention_chunk_size": 8,
        "no_rope_layers": [1, 1, 1, 0],
    }
    widths = dict.fromkeys(("vision_output_dim", "projector_input_dim", "projector_output_dim"), 16)
    return tf.Llama4Config(
        text_config=text,
        vision_config={**VISION, **widths},
        image_token_index=299,
        boi_token_index=298,
        eoi_token_index=297,
    )


WITH_TOWERS = {
    config.__name__: config for config in (gemma3, gemma4, mistral3, ministral3, qwen3_5, llama4)
}


def wrapper(kind):
    """A model of random weights, towers and all."""
    torch.manual_seed(0)
    config = WITH_TOWERS[kind]()
    config.get_text_config().initializer_range = 0.2
    return tf.AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()


def saved_wrapper(parent, kind):
    """The same as a folder, with a tokenizer."""
    folder = parent / kind
    wrapper(kind).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
