"""Damaged model folders and GGUF files: `kvlens.load` and use of the model hold `damage`'s law.

``PYTHONPATH=tests python -m torture.damage_models SEED N [FORMAT]`` tells what breaks, and why.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gguf
import numpy as np
import torch
from model_folders import in_shards, saved, with_old_tokenizer
from torture.damage import Format, campaign_of, survey
from zoo import tiny

import kvlens


def gguf_file(folder: Path) -> Path:
    """The Llama as a GGUF file; what is converted of it is kept beside, and forgotten each time."""
    lm = tiny("llama")
    config = lm.hf.config
    path = folder / "llama.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(config.head_dim)
    _add_tokenizer(writer, lm.tokenizer, config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in lm.hf.state_dict().items():
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: Any, tokenizer: Any, vocab_size: int) -> None:
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    tokens = [token for token, _ in vocabulary] + ["at"]
    unused = vocab_size - len(tokens)
    types = [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(tokens) - 3)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens + [f"[PAD{i}]" for i in range(unused)])
    writer.add_token_types(types + [gguf.TokenType.UNUSED] * unused)
    writer.add_token_merges(["a t"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)


def load_gguf(path: Path) -> kvlens.LanguageModel:
    cache = path.parent / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    with patch.dict(os.environ, KVLENS_CACHE=str(cache)):
        return load(path)


def load(path: Path) -> kvlens.LanguageModel:
    return kvlens.load(path, device="cpu")


def use(lm: kvlens.LanguageModel, scratch: Path) -> None:
    """A pass, and a text embedded: finite, or refused."""
    lm(torch.tensor([[1, 2, 3]]))
    assert np.isfinite(kvlens.Encoder(lm, "mean").encode(["a cat"])).all()


FORMATS = (
    Format("model folder", saved, load, use, weight=6),
    Format("model in shards", in_shards, load, use, weight=6),
    Format("model with an old tokenizer", with_old_tokenizer, load, use, weight=6),
    Format("GGUF file", gguf_file, load_gguf, use, files="*.gguf"),  # converting takes long
)


def campaign(seed: int, n: int, folder: Path, only: str = "") -> Counter[str]:
    """Try about `n` damaged models; see `damage.campaign_of`."""
    return campaign_of(FORMATS, seed, n, folder, only)


if __name__ == "__main__":
    survey(FORMATS, *sys.argv[1:])
