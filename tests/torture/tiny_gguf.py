"""A GGUF file of a small Llama, written by hand: there is none to fetch that is so small."""

from pathlib import Path

import gguf
import numpy as np

import kvlens

WHOLE = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
OF_A_BLOCK = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
MERGED = "ab"  # llama.cpp's tokenizers have merges: one, that is never used


def write_gguf(lm: kvlens.LanguageModel, path: Path) -> None:
    """Write a small Llama with a byte tokenizer."""
    writer = gguf.GGUFWriter(str(path), "llama")
    _add_shape(writer, lm.hf.config)
    _add_vocabulary(writer, lm)
    for name, tensor in lm.hf.state_dict().items():
        writer.add_tensor(_gguf_name(name), tensor.numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter, config: object) -> None:
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _add_vocabulary(writer: gguf.GGUFWriter, lm: kvlens.LanguageModel) -> None:
    tokenizer = lm.tokenizer
    tokens = [*tokenizer.convert_ids_to_tokens(range(len(tokenizer))), MERGED]
    tokens += [f"<unused{i}>" for i in range(lm.hf.config.vocab_size - len(tokens))]
    specials = [len(token) > 1 and token != MERGED for token in tokens]
    kinds = [gguf.TokenType.CONTROL if each else gguf.TokenType.NORMAL for each in specials]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(MERGED)])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)


def _gguf_name(name: str) -> str:
    module = name.removesuffix(".weight")
    if module in WHOLE:
        return f"{WHOLE[module]}.weight"
    _, _, block, part = module.split(".", 3)
    return f"blk.{block}.{OF_A_BLOCK[part]}.weight"
