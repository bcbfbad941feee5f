"""The zoo: small models built from configs, with random weights and no network."""

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import kvlens

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS = {
    "llama": lambda: tf.LlamaConfig(**SHAPE),
    "qwen2": lambda: tf.Qwen2Config(**SHAPE),
    "qwen3": lambda: tf.Qwen3Config(**SHAPE),
    "mistral": lambda: tf.MistralConfig(**SHAPE, sliding_window=7),
    "gemma2": lambda: tf.Gemma2Config(**SHAPE, sliding_window=7, query_pre_attn_scalar=8),
    "gemma3": lambda: tf.Gemma3TextConfig(
        **SHAPE,
        sliding_window=7,
        query_pre_attn_scalar=8,
        layer_types=[
            "sliding_attention",
            "sliding_attention",
            "full_attention",
            "sliding_attention",
        ],
    ),
    "phi3": lambda: tf.Phi3Config(**SHAPE),
    "gpt2": lambda: tf.GPT2Config(
        vocab_size=300,
        n_embd=32,
        n_layer=4,
        n_head=4,
        n_positions=256,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "neox": lambda: tf.GPTNeoXConfig(
        **{k: v for k, v in SHAPE.items() if k not in ("num_key_value_heads", "head_dim")},
        rotary_pct=0.25,
    ),
}
TEXTS = [
    "a cat",
    "The quick brown fox jumps over the lazy dog.",
    "x",
    "Two sentences. Here is the second one, longer than a window.",
    "numbers 1 2 3",
]


def byte_tokenizer() -> tf.PreTrainedTokenizerFast:
    """Bytes as tokens, pad and eos distinct from text, no BOS: takes anything, without a file."""
    specials = {"<pad>": 0, "<bos>": 1, "<eos>": 2}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({**specials, **{c: i + 3 for i, c in enumerate(alphabet)}}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )


def tiny(architecture: str, seed: int = 0) -> kvlens.LanguageModel:
    """A new model of the zoo; weights large enough that attention is far from uniform."""
    torch.manual_seed(seed)
    config = CONFIGS[architecture]()
    config.initializer_range = 0.2
    # transformers has no sdpa with soft-capping.
    attention = "eager" if architecture == "gemma2" else "sdpa"
    model = tf.AutoModelForCausalLM.from_config(
        config, attn_implementation=attention, dtype=torch.float32
    )
    return kvlens.LanguageModel.wrap(model, byte_tokenizer(), name=f"tiny-{architecture}")
