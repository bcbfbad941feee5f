"""The families: tiny random models of transformers' decoder-only architectures, from configs alone.

One entry a family, named as transformers names it (``model_type``), with every kind of layer that
the family has. What kind a layer is stands in its config and nowhere else. dbrx is missing, since
transformers 5.23 cannot build it, and so are what needs a package of its own (gemma3n's pictures)
and byte patches (blt).
"""

import dataclasses
import functools
from typing import Any

import torch
import transformers as tf
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from zoo import CONFIGS, SHAPE, byte_tokenizer

import kvlens

WINDOW = 7
INITIALIZER_RANGE = 0.2  # so that attention is far from uniform
KINDS = {
    "f": "full_attention",
    "s": "sliding_attention",
    "c": "chunked_attention",
    "l": "linear_attention",
    "v": "conv",
    "h": "hybrid",
    "w": "hybrid_sliding",
    "i": "indexed_attention",
}


def kinds(letters: str) -> list[str]:
    """One kind of layer a letter."""
    return [KINDS[letter] for letter in letters]


def windows(letters: str = "sfss") -> dict[str, Any]:
    return {"sliding_window": WINDOW, "layer_types": kinds(letters)}


def experts(count: str = "num_experts", **more: Any) -> dict[str, Any]:
    return {count: 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, **more}


# The nine whose configs and names are older than this file.
NINE = {config().model_type: config for config in CONFIGS.values()}
DENSE_FIRST = ["dense", "sparse", "sparse", "sparse"]
# Multi-head latent attention: keys of 12, values of 6.
LATENT = {
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
    "num_key_value_heads": 4,
}
GATED_DELTA = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "num_hidden_layers": 3,
    "layer_types": kinds("flf"),
}
MAMBA = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 2,
    "mamba_expand": 2,
    "mamba_chunk_size": 16,
}
MULTIPLIERS = {
    "embedding_multiplier": 1.5,
    "residual_multiplier": 0.7,
    "attention_multiplier": 0.3,
    "logits_scaling": 2.0,
}
# Sparse attention: eight of the earlier tokens, chosen by an index; many heads, so that no two tie.
INDEXER = {"index_topk": 8, "index_head_dim": 8, "index_n_heads": 8}
PER_LAYER_INPUT = {"vocab_size_per_layer_input": 300, "hidden_size_per_layer_input": 8}
ROPE = {"rope_type": "default", "rope_theta": 1e4}
HALF = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
# Weights on which float32 itself keeps to a part of the tolerance; all others draw by seed 0.
SEEDS = {"gemma4": 3, "gemma4_text": 3, "qwen3_5": 3, "qwen3_next": 4}
# What transformers would choose for itself is left out.
FAMILIES: dict[str, dict[str, Any]] = {
    "afmoe": {**windows("ssfs"), **experts(num_shared_experts=1)},
    "apertus": {},
    "arcee": {},
    "aria_text": {"moe_num_experts": 4, "moe_topk": 2},
    "axk1": {**LATENT, **experts("n_routed_experts"), "n_group": 2, "topk_group": 1},
    "axk2": {**LATENT, **INDEXER, **experts("n_routed_experts")},
    "bailing_hybrid": {
        **LATENT,
        **experts(),
        "head_dim": 8,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "layer_types": kinds("lflf"),
    },
    "bamba": {**MAMBA, "attn_layer_indices": [1, 3]},
    "biogpt": {},
    "bitnet": {},
    "bloom": {},
    "codegen": {"rotary_dim": 4},
    "cohere": {"use_qk_norm": True},
    "cohere2": windows("ssfs"),
    "cohere2_moe": {**windows("ssfs"), "num_experts": 4},
    "cohere_compass_text": {
        **windows("ssfs"),
        "rope_parameters": {"sliding_attention": ROPE, "full_attention": None},
    },
    "cpmant": {"dim_head": 8, "dim_ff": 48},
    "ctrl": {"dff": 48},
    "cwm": windows(),
    "deepseek_v2": {
        **LATENT,
        **experts("n_routed_experts", n_shared_experts=1),
        "first_k_dense_replace": 1,
    },
    "deepseek_v3": {
        **LATENT,
        **experts("n_routed_experts"),
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    },
    "deepseek_v32": {
        **LATENT,
        **INDEXER,
        **experts("n_routed_experts"),
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    },
    "deepseek_v4": {
        **INDEXER,
        **experts("n_routed_experts"),
        "head_dim": 8,
        "num_key_value_heads": 1,
        "q_lora_rank": 24,
        "o_groups": 2,
        "o_lora_rank": 8,
        "sliding_window": WINDOW,
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8},
        "qk_rope_head_dim": 4,
        "hc_mult": 2,
        "layer_types": [
            "sliding_attention",
            "compressed_sparse_attention",
            "heavily_compressed_attention",
            "sliding_attention",
        ],
    },
    "diffllama": {},
    "doge": {},
    "dots1": {
        **windows("sfsf"),
        **experts("n_routed_experts", n_shared_experts=1),
        "first_k_dense_replace": 1,
    },
    "dots3_note_text": {
        **LATENT,
        **INDEXER,
        **experts("n_routed_experts"),
        "sliding_window": WINDOW,
        "shared_experts_intermediate_size": 16,
        "layer_types": kinds("isis"),
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 4,
        "swa_q_lora_rank": 24,
        "swa_kv_lora_rank": 16,
        "swa_head_dim": 16,
        "swa_qk_nope_head_dim": 8,
        "swa_v_head_dim": 6,
    },
    "ernie4_5": {},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16},
    "exaone4": windows("ssfs"),
    "exaone_moe": {**windows("ssfs"), **experts(), "mlp_layer_types": DENSE_FIRST},
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 64},
    "falcon_mamba": {"state_size": 8},
    "flex_olmo": {"num_experts": 4, "num_experts_per_tok": 2},
    "flint": {**windows(), **experts(shared_expert_intermediate_size=16)},
    "gemma": {},
    "gemma3n_text": {
        **windows("ssfsfsf"),
        **PER_LAYER_INPUT,
        "num_hidden_layers": 7,
        "num_kv_shared_layers": 2,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.5] + [0.0] * 6,
    },
    "gemma4_text": {
        **windows("ssfsfsf"),
        **PER_LAYER_INPUT,
        "num_hidden_layers": 7,
        "global_head_dim": 16,
        "num_kv_shared_layers": 2,
    },
    "gemma4_unified_text": {
        **windows("sfsf"),
        "global_head_dim": 16,
        "num_global_key_value_heads": 1,
        "attention_k_eq_v": True,
    },
    "glm": {"rope_parameters": HALF},
    "glm4": {"rope_parameters": HALF},
    "glm4_moe": {
        **experts("n_routed_experts"),
        "first_k_dense_replace": 1,
        "use_qk_norm": True,
        "rope_parameters": HALF,
    },
    "glm4_moe_lite": {**LATENT, **experts("n_routed_experts"), "mlp_layer_types": DENSE_FIRST},
    "glm_moe_dsa": {
        **LATENT,
        **INDEXER,
        **experts("n_routed_experts"),
        "first_k_dense_replace": 1,
        "indexer_types": ["full", "full", "shared", "full"],
    },
    "gpt_bigcode": {},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": WINDOW},
    "gpt_neox_japanese": {},
    "gpt_oss": {**windows("sfsf"), "num_local_experts": 4, "num_experts_per_tok": 2},
    "gptj": {"rotary_dim": 4},
    "granite": MULTIPLIERS,
    "granite_swa": {**MULTIPLIERS, **windows()},
    "granitemoe": {**MULTIPLIERS, "num_local_experts": 4},
    "granitemoe_swa": {**MULTIPLIERS, **windows(), "num_local_experts": 4},
    "granitemoehybrid": {
        **MULTIPLIERS,
        **MAMBA,
        "num_local_experts": 4,
        "shared_intermediate_size": 16,
        "layer_types": kinds("lflf"),
    },
    "granitemoeshared": {**MULTIPLIERS, "num_local_experts": 4, "shared_intermediate_size": 16},
    "helium": {},
    "hrm_text": {},
    "hunyuan_v1_dense": {},
    "hunyuan_v1_moe": {"num_experts": 4, "moe_topk": 2},
    "hy_v3": experts(),
    "hy_v4": {**LATENT, **INDEXER, **experts("n_routed_experts"), "hc_mult": 2},
    "hyperclovax": MULTIPLIERS,
    "inkling2_text": {
        **experts("n_routed_experts"),
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 2,
        "swa_head_dim": 8,
        "sliding_window": WINDOW,
        "d_rel": 4,
        "rel_extent": 16,
        "unpadded_vocab_size": 300,
        "layer_types": kinds("whwh"),
        "n_layers_per_attn_res_block": 2,
    },
    "inkling_text": {
        **experts("n_routed_experts"),
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 2,
        "swa_head_dim": 8,
        "sliding_window": WINDOW,
        "d_rel": 4,
        "rel_extent": 16,
        "layer_types": kinds("whwh"),
        "mlp_layer_types": DENSE_FIRST,
        "n_shared_experts": 1,
    },
    "internlm3": {},
    "iquestcoder": {},
    "jais2": {},
    "jamba": {"mamba_d_state": 8, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 4},
    "jetmoe": {"kv_channels": 8, "num_local_experts": 4},
    "kimi_linear": {
        **{**LATENT, "q_lora_rank": None},
        **experts(),
        "linear_head_dim": 8,
        "linear_num_heads": 4,
        "layer_types": kinds("llfl"),
    },
    "kolibri1": {**windows(), **experts(shared_expert_intermediate_size=16)},
    "laguna": {**windows(), **experts(shared_expert_intermediate_size=16)},
    "lfm2": {"layer_types": kinds("vfvf")},
    "lfm2_moe": {"layer_types": kinds("vfvf"), **experts()},
    "lfm3": windows("vfsf"),
    "llama4_text": {
        "layer_types": kinds("cccf"),
        "attention_chunk_size": WINDOW,
        "no_rope_layers": [1, 1, 1, 0],
        "intermediate_size_mlp": 48,
        "num_local_experts": 4,
        "interleave_moe_layer_step": 2,
        "floor_scale": 4,
    },
    "longcat_flash": {
        **LATENT,
        "num_layers": 2,
        "head_dim": 4,
        "ffn_hidden_size": 48,
        "n_routed_experts": 4,
        "moe_topk": 2,
        "zero_expert_num": 2,
        "expert_ffn_hidden_size": 16,
    },
    "mamba": {"state_size": 8},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 2, "chunk_size": 16},
    "mellum": {**windows(), **experts()},
    "mimo_v2_flash": {
        **windows("fsfs"),
        **experts("n_routed_experts"),
        "head_dim": 12,
        "v_head_dim": 8,
    },
    "minicpm3": LATENT,
    "minimax": {"layer_types": kinds("lflf"), "num_local_experts": 4, "block_size": 16},
    "minimax_m2": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "minimax_m3_vl_text": {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "rotary_dim": 4,
        "dense_intermediate_size": 48,
        "shared_intermediate_size": 16,
        "index_n_heads": 2,
        "index_head_dim": 8,
        "index_block_size": 4,
        "index_topk_blocks": 2,
        "mlp_layer_types": DENSE_FIRST,
        "layer_types": [
            "full_attention",
            "minimax_m3_sparse",
            "full_attention",
            "minimax_m3_sparse",
        ],
    },
    "ministral": windows(),
    "ministral3": {},
    "mistral4": {**LATENT, **experts("n_routed_experts"), "first_k_dense_replace": 1},
    "mixtral": {"num_local_experts": 4, "sliding_window": WINDOW},
    "modernbert-decoder": {"local_attention": 14, "layer_types": kinds("fsfs")},
    "mpt": {},
    "nanochat": {},
    "nemotron": {"rope_parameters": HALF},
    "nemotron_h": {
        "ssm_state_size": 8,
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "n_groups": 2,
        "chunk_size": 16,
        "n_routed_experts": 4,
        "moe_intermediate_size": 16,
        "moe_shared_expert_intermediate_size": 16,
        "layers_block_type": ["linear_attention", "full_attention", "moe", "mlp", "full_attention"],
        "num_hidden_layers": 5,
    },
    "olmo": {"clip_qkv": 1.0},
    "olmo2": {},
    "olmo3": windows("sssf"),
    "olmo_hybrid": GATED_DELTA,
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2, "clip_qkv": 1.0},
    "openai-gpt": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "persimmon": {},
    "phi": {"rope_parameters": HALF, "qk_layernorm": True},
    "phimoe": {"num_local_experts": 4, "sliding_window": WINDOW},
    "qwen2_moe": {
        **experts(shared_expert_intermediate_size=16),
        "decoder_sparse_step": 2,
        **windows(),
        "use_sliding_window": True,
    },
    "qwen3_5_moe_text": {
        **GATED_DELTA,
        **experts(shared_expert_intermediate_size=16),
        "num_hidden_layers": 2,
        "layer_types": kinds("lf"),
    },
    "qwen3_5_text": GATED_DELTA,
    "qwen3_moe": {**experts(), "decoder_sparse_step": 2},
    "qwen3_next": {**GATED_DELTA, **experts(shared_expert_intermediate_size=16)},
    "qwen4_exp_text": {
        **GATED_DELTA,
        **experts(shared_expert_intermediate_size=16),
        "num_hidden_layers": 4,
        "layer_types": kinds("lili"),
        "hc_count": 2,
        "hc_lowrank": 8,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
    },
    "recurrent_gemma": {"attention_window_size": WINDOW, "block_types": ["recurrent", "attention"]},
    "rwkv": {"attention_hidden_size": 32},
    "seed_oss": {"attention_out_bias": True},
    "smollm3": {"no_rope_layers": [1, 0, 1, 1], **windows("ssfs"), "use_sliding_window": True},
    "solar_open": experts("n_routed_experts"),
    "stablelm": {"qk_layernorm": True, "use_qkv_bias": True},
    "starcoder2": {"sliding_window": WINDOW},
    "vaultgemma": {**windows("sfsf"), "query_pre_attn_scalar": 8},
    "xglm": {"ffn_dim": 48},
    "xlstm": {"num_blocks": 4, "num_heads": 4},
    "youtu": LATENT,
    "zamba": {"mamba_d_state": 8, "num_key_value_heads": 4, "layers_block_type": kinds("lhlh")},
    "zamba2": {
        "mamba_d_state": 8,
        "mamba_ngroups": 2,
        "chunk_size": 16,
        "head_dim": 16,
        "use_mem_rope": True,
        "use_shared_attention_adapter": True,
        "adapter_rank": 4,
        "num_key_value_heads": 4,
        "num_mem_blocks": 2,
        "layers_block_type": kinds("lhlh"),
    },
    "zaya": {
        "sliding_window": WINDOW,
        "layer_types": kinds("whwh"),
        "num_experts": 4,
        "moe_intermediate_size": 16,
        "router_hidden_size": 8,
    },
}

VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
# Positions in time, height and width: of text all three are alike.
SECTIONS = {"rope_parameters": {**ROPE, "mrope_section": [1, 1, 2]}}
PATCHES = {"depth": 1, "num_heads": 2, "hidden_size": 16, "intermediate_size": 16}
# Multimodal models, which are read by their text: its kind of config, what it adds, the pictures'.
WRAPPERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "gemma3": ("gemma3_text", windows(), VISION),
    "gemma4": ("gemma4_text", FAMILIES["gemma4_text"], VISION),
    "gemma4_unified": (
        "gemma4_unified_text",
        FAMILIES["gemma4_unified_text"],
        {"mm_embed_dim": 16, "mm_posemb_size": 8, "output_proj_dims": 16},
    ),
    "mistral3": ("ministral3", FAMILIES["ministral3"], VISION),
    "llava": ("llama", {}, VISION),
    "llama4": (
        "llama4_text",
        FAMILIES["llama4_text"],
        {**VISION, "vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16},
    ),
    "qwen2_vl": ("qwen2_vl_text", SECTIONS, {**PATCHES, "embed_dim": 16, "hidden_size": 32}),
    "qwen2_5_vl": ("qwen2_5_vl_text", SECTIONS, {**PATCHES, "out_hidden_size": 32}),
    "qwen3_vl": ("qwen3_vl_text", SECTIONS, {**PATCHES, "out_hidden_size": 32}),
    "qwen3_vl_moe": (
        "qwen3_vl_moe_text",
        {**SECTIONS, **experts()},
        {**PATCHES, "out_hidden_size": 32},
    ),
    "qwen3_5": ("qwen3_5_text", FAMILIES["qwen3_5_text"], {**PATCHES, "out_hidden_size": 32}),
    "glm4v": ("glm4v_text", SECTIONS, {**PATCHES, "out_hidden_size": 32}),
    "internvl": ("qwen2", {}, VISION),
    "lfm2_vl": ("lfm2", FAMILIES["lfm2"], VISION),
    "smolvlm": ("llama", {}, VISION),
    "paligemma": ("gemma", {}, VISION),
    "aya_vision": ("cohere2", FAMILIES["cohere2"], VISION),
    "mllama": ("mllama_text_model", {"cross_attention_layers": [1]}, VISION),
}


NAMES = sorted([*NINE, *FAMILIES, *WRAPPERS])


def config_of(kind: str, **more: Any) -> Any:
    """A config of the zoo's shape, in the fields that this kind of config has."""
    config_class = CONFIG_MAPPING[kind]
    known = {field.name for field in dataclasses.fields(config_class)}
    known |= set(config_class.attribute_map)
    shape = {name: value for name, value in SHAPE.items() if name in known}
    return config_class(**{**shape, **more})


def wrapper_config(name: str) -> Any:
    """The config of a multimodal model with a text config of the zoo's shape."""
    kind, more, vision = WRAPPERS[name]
    parts = {"text_config": config_of(kind, **more).to_dict()}
    if vision:
        parts["vision_config"] = dict(vision)
    return CONFIG_MAPPING[name](**parts)


def config_for(name: str) -> Any:
    """The config of a family, whose weights are drawn large."""
    if name in NINE:
        config = NINE[name]()
    elif name in WRAPPERS:
        config = wrapper_config(name)
    else:
        config = config_of(name, **FAMILIES[name])
    for part in (config, config.get_text_config()):
        for spread in ("initializer_range", "init_std"):
            if hasattr(part, spread):
                setattr(part, spread, INITIALIZER_RANGE)
    return config


def auto_class(name: str) -> Any:
    if name in WRAPPERS or name not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return tf.AutoModelForImageTextToText
    return tf.AutoModelForCausalLM


@torch.no_grad()
def roughen(model: Any) -> None:
    """Move norms, biases and sinks off the ones and zeros that they are born with."""
    for name, parameter in model.named_parameters():
        if parameter.ndim <= 1:
            parameter += INITIALIZER_RANGE * torch.randn_like(parameter)
        if name.endswith("A_log"):
            parameter.clamp_(max=0)  # sums of fast decays lose digits in float32


@functools.cache
def family(name: str, dtype: torch.dtype = torch.float32) -> kvlens.LanguageModel:
    """A tiny random model of one family, the same at every call."""
    return kvlens.LanguageModel.wrap(build(name).to(dtype), byte_tokenizer(), name=f"tiny-{name}")


def build(name: str) -> Any:
    """The model of transformers, in float32."""
    torch.manual_seed(SEEDS.get(name, 0))
    model = auto_class(name).from_config(config_for(name), dtype=torch.float32)
    roughen(model)
    return model.eval()
