"""Parity: what `record` keeps against raw transformers, one text at a time, on the model at hand."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kvlens.models import LanguageModel
from kvlens.prompts import DEFAULT_DOCUMENT, Prompt, get_prompt
from kvlens.rotary import is_rotary, tables
from kvlens.texts import Texts, as_texts
from kvlens.tokens import tokenize
from kvlens.trace import KEEP, record

CHECK_TEXTS = (
    "a",
    "The cat sat on the mat.",
    "Two sentences are here. The second one is a little longer than the first.",
    "Numbers such as 1,234.5 and symbols (like <b>&amp;</b>) are tokens too; so are naïve words and 日本語.",
    "A river carries stones from the mountains to the sea, and over many years it grinds them into sand. " * 3,
)


@dataclass(frozen=True)
class CheckResult:
    """Largest difference per kind, relative to the largest magnitude of that kind in its layer."""

    differences: dict[str, float]
    tolerance: float
    n_texts: int
    model: str

    @property
    def passed(self) -> bool:
        return all(value <= self.tolerance for value in self.differences.values())


def check(
    lm: LanguageModel,
    texts: Texts | Sequence[str] = CHECK_TEXTS,
    prompt: str | Prompt = DEFAULT_DOCUMENT,
    tolerance: float | None = None,
) -> CheckResult:
    """Compare recorded hidden states, K (before and after RoPE) and V with raw transformers.

    The recording runs in padded batches, both padding sides, through the bridge; the truth runs unpadded, one text
    at a time: hidden states from the decoder blocks' outputs, K and V from the model's own KV cache, and the key
    before RoPE by rotating what was recorded with the model's own tables and function.
    tolerance: default 2e-4 in float32, 5e-2 in half precisions; the difference is relative to the largest magnitude
    of the same kind and layer, since massive activations make absolute differences meaningless.
    """
    texts = as_texts(texts)
    prompt = get_prompt(prompt) if isinstance(prompt, str) else prompt
    if tolerance is None:
        tolerance = 2e-4 if lm.info.dtype == "float32" else 5e-2
    truth = [raw_states(lm, text.ids) for text in tokenize(lm.tokenizer, texts.items, prompt, lm.info.max_positions)]
    expected = {kind: torch.stack([one[kind] for one in truth]) for kind in truth[0]}
    worst: dict[str, float] = {}
    for side in ("right", "left"):
        trace = record(lm, texts, prompt, keep=KEEP, padding_side=side, batch_tokens=10**6)
        found = {kind: trace.tensors[kind] for kind in ("hidden", "k", "v")}
        found["k_pre"] = torch.stack(
            [rotate_raw(lm, trace.k_pre[i], trace.n_tokens[i] - 1) for i in range(len(texts))]
        )
        for kind, states in found.items():
            raw = expected["k" if kind == "k_pre" else kind]
            scale = raw.abs().amax(dim=(0, *range(2, raw.ndim)), keepdim=True).clamp(min=1e-12)
            difference = float(((states - raw).abs() / scale).max())
            worst[kind] = max(worst.get(kind, 0.0), difference)
    return CheckResult(worst, tolerance, len(texts), lm.info.name)


def raw_states(lm: LanguageModel, ids: Sequence[int]) -> dict[str, torch.Tensor]:
    """One unpadded text through raw transformers: the final token's float32 ``hidden`` [L, d_model], ``k``, ``v``
    [L, n_kv_heads, d_head] of every layer."""
    from transformers import DynamicCache

    hidden: list[torch.Tensor] = []

    def keep(module: Any, args: Any, output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output
        hidden.append(states[0, -1].float().cpu())

    cache: Any = DynamicCache()  # without the config it keeps every position, in sliding layers too
    handles = [block.register_forward_hook(keep) for block in lm.blocks]
    try:
        with torch.inference_mode():
            lm.base(torch.tensor([ids], device=lm.device), past_key_values=cache, use_cache=True)
    finally:
        for handle in handles:
            handle.remove()
    keys = torch.stack([layer.keys[0, :, -1].float().cpu() for layer in cache.layers])
    values = torch.stack([layer.values[0, :, -1].float().cpu() for layer in cache.layers])
    return {"hidden": torch.stack(hidden), "k": keys, "v": values}


def rotate_raw(lm: LanguageModel, keys: torch.Tensor, position: int) -> torch.Tensor:
    """Rotate keys [L, n_kv_heads, d_head] to `position` with the model's own rotary module and function."""
    if not is_rotary(lm):
        return keys
    apply = importlib.import_module(type(lm.hf).__module__).apply_rotary_pos_emb
    where = torch.tensor([position], device=lm.device)
    result = []
    for layer, key in enumerate(keys.to(lm.device)):
        cos, sin = (table[:, None] for table in tables(lm, where, layer))
        heads = key[None, :, None]
        result.append(apply(heads, heads, cos, sin)[1][0, :, 0].float().cpu())
    return torch.stack(result)
