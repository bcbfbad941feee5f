"""Tiny model: random weights and made words, for where only the work around a pass counts.

Nothing is fetched for it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kvlens.models.quiet import quietly

WORDS = tuple(f"word{i}" for i in range(1000))
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
FEWEST_WORDS = 3
MOST_WORDS = 12


def save_tiny_model(folder: Path, seed: int = 0) -> None:
    """Write a model of two blocks and 32 coordinates, and its tokenizer, as transformers does.

    Args:
        folder: a new one.
        seed: of the weights.
    """
    config = LlamaConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    with quietly():
        model.save_pretrained(folder)
        made_tokenizer().save_pretrained(folder)


def made_tokenizer() -> PreTrainedTokenizerFast:
    """A token a word of `WORDS`."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    ids = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    backend = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
    )


def made_texts(n: int, seed: int = 0) -> Iterator[str]:
    """`n` short texts of made words, one after another.

    Args:
        n: how many.
        seed: of the words.
    """
    rng = random.Random(seed)
    for _ in range(n):
        yield " ".join(rng.choices(WORDS, k=rng.randint(FEWEST_WORDS, MOST_WORDS)))
