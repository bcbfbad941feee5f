"""How many tokens a second of one CPU core embeds, with models of several sizes.

``python figures/throughput.py [SHAPE ...]``

A model of random weights is as quick as a trained one of its shape. The shapes are those of their
configs at the hub. `kv_embedding` re-routes a tenth of the layers; texts of 128 tokens, bfloat16,
one thread. Seconds are CPU seconds, the least of three rounds. Writes figures/data/throughput.json.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

import kvlens
from kvlens.checks import shapes
from kvlens.methods.registry import get_method
from kvlens.store.provenance import versions
from kvlens.texts.tokens import fitting

DATA = Path(__file__).parent / "data" / "throughput.json"
TOKENS = 128  # of a text, prompt included
TEXTS = 16
ROUNDS = 3
# What docs/scale.md reckons with -> the shape's name.
SHAPES = {"0.6B": "qwen3-0.6b", "4B": "qwen3-4b", "8B": "qwen3-8b"}


def unmeasured(shape: str) -> dict[str, Any]:
    """What is known of a shape without its weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shapes.SHAPES[SHAPES[shape]].config_of(None))
    return {**_size(model.model.layers), "width": model.config.hidden_size, "tokens_a_second": None}


def _size(blocks: Iterable[torch.nn.Module]) -> dict[str, int]:
    numbers = (parameter.numel() for block in blocks for parameter in block.parameters())
    return {"parameters_in_blocks": sum(numbers)}


def measured(lm: kvlens.LanguageModel) -> dict[str, Any]:
    """Tokens that a CPU second embeds, and what they pass through."""
    n_rerouted = max(1, lm.info.n_layers // 10)
    first = lm.info.n_layers // 2
    encoder = kvlens.Encoder(lm, "kv_embedding", layers=range(first, first + n_rerouted))
    prompt = get_method("kv_embedding").document
    words = "the final token of a text holds what the model knows about it " * TOKENS
    text = fitting(lm.tokenizer, words, prompt, TOKENS)
    texts = [f"{number} {text}" for number in range(TEXTS)]
    n_tokens = sum(
        len(each.ids) for each in encoder.tokenize(texts, encoder.prompt_for("document"))
    )
    encoder.encode(texts[:2])  # the proof of re-routing, once
    seconds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        encoder.encode(texts)
        seconds.append(time.process_time() - start)
    return {
        **_size(lm.blocks),
        "width": lm.hf.config.hidden_size,
        "tokens": n_tokens,
        "tokens_a_second": n_tokens / min(seconds),
    }


def main(names: list[str]) -> None:
    """Measure each, and add it to what was measured before."""
    torch.set_num_threads(1)
    known = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {"rows": {}}
    for shape in SHAPES:
        known["rows"].setdefault(shape, unmeasured(shape))
    for name in names:
        is_shape = name in SHAPES
        lm = shapes.of_shape(SHAPES[name]) if is_shape else kvlens.load(name, dtype="bfloat16")
        known["rows"][name] = measured(lm)
        del lm
        print(name, known["rows"][name])
    known["processor"] = _processor()
    known["versions"] = versions()
    DATA.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main(sys.argv[1:] or ["smollm2-135m", "gemma3-270m", "0.6B", "4B"])
