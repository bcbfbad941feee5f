"""Shapes: models of published dimensions and random weights, which are as quick as trained ones.

Nothing is fetched. The vocabulary is that of a small tokenizer, since embeddings cost no product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen3Config

from kvlens.checks import rerouting_cost
from kvlens.checks.tiny_model import SPECIAL, WORDS, made_texts, made_tokenizer
from kvlens.models.language_model import LanguageModel
from kvlens.models.quiet import quietly
from kvlens.store.errors import InputError
from kvlens.texts.limits import Limits
from kvlens.texts.texts import Texts

N_TEXTS = 64  # whose words are strung together
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Shape:
    """The dimensions of a model.

    Attributes:
        config: the class of its config.
        n_layers: blocks.
        d_model: width.
        d_inner: width inside the MLP.
        n_heads: query heads.
        n_kv_heads: key/value heads.
        d_head: width of a head.
        context: most tokens.
        theta: base of the rotation.
    """

    config: type
    n_layers: int
    d_model: int
    d_inner: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    context: int
    theta: float

    def config_of(self, n_layers: int | None) -> Any:
        """Its config, cut to the first `n_layers`."""
        return self.config(
            num_hidden_layers=min(n_layers or self.n_layers, self.n_layers),
            hidden_size=self.d_model,
            intermediate_size=self.d_inner,
            num_attention_heads=self.n_heads,
            num_key_value_heads=self.n_kv_heads,
            head_dim=self.d_head,
            max_position_embeddings=self.context,
            rope_parameters={"rope_type": "default", "rope_theta": self.theta},
            vocab_size=len(SPECIAL) + len(WORDS),
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )


SHAPES = {
    # config.json of Qwen/Qwen3-0.6B, Qwen/Qwen3-4B and Qwen/Qwen3-8B
    "qwen3-0.6b": Shape(Qwen3Config, 28, 1024, 3072, 16, 8, 128, 40_960, 1e6),
    "qwen3-4b": Shape(Qwen3Config, 36, 2560, 9728, 32, 8, 128, 40_960, 1e6),
    "qwen3-8b": Shape(Qwen3Config, 36, 4096, 12_288, 32, 8, 128, 40_960, 1e6),
    # config.json of mistralai/Mistral-7B-v0.3, which has no sliding window
    "mistral-7b": Shape(MistralConfig, 32, 4096, 14_336, 32, 8, 128, 32_768, 1e6),
    # config.json of meta-llama/Llama-3.1-8B; its scaled rotation costs what the plain one does
    "llama-3.1-8b": Shape(LlamaConfig, 32, 4096, 14_336, 32, 8, 128, 131_072, 5e5),
    # to try the command
    "tiny": Shape(LlamaConfig, 4, 32, 48, 4, 2, 8, 1024, 1e4),
}


def of_shape(
    name: str, n_layers: int | None = None, device: str = "cpu", dtype: str = "bfloat16"
) -> LanguageModel:
    """A model of random weights.

    Args:
        name: one of `SHAPES`.
        n_layers: the first so many blocks; None: all.
        device: where it is made.
        dtype: of its weights.

    Raises:
        InputError: for an unknown shape or dtype.
    """
    if name not in SHAPES or dtype not in DTYPES:
        known = f"{', '.join(SHAPES)}, and of dtypes {', '.join(DTYPES)}"
        raise InputError(f"`shapes` knows {known}, not {name} in {dtype}")
    config = SHAPES[name].config_of(n_layers)
    if isinstance(config, MistralConfig):
        config.sliding_window = None
    with torch.random.fork_rng(devices=[]), torch.device(device), quietly():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype]).eval()
    shown = f"{name} ({config.num_hidden_layers} layers, random weights)"
    return LanguageModel.wrap(model, made_tokenizer(), name=shown)


def measured(lm: LanguageModel, lengths: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Re-routing at several lengths, see `rerouting_cost.by_length`.

    Args:
        lm: of `of_shape`.
        lengths: in tokens.
        repeats: rounds.

    Raises:
        InputError: as `by_length`.
    """
    texts = Texts(tuple(made_texts(N_TEXTS)), "made words")
    return rerouting_cost.by_length(lm, texts, lengths, Limits(), repeats)
