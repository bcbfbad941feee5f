"""Bench: speed as ratios, measured side by side in one run (the machine may be shared and noisy)."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

from kvlens.models import LanguageModel
from kvlens.prompts import get_prompt
from kvlens.texts import Texts
from kvlens.tokens import batches, tokenize
from kvlens.trace import record


def interleaved(actions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Wall seconds of each action, after one warm-up, in turn, so that a noisy moment hits all alike."""
    for action in actions.values():
        action()
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: dict[str, list[float]], name: str, base: str) -> dict[str, float]:
    """Median and extremes of the per-round ratio of two interleaved actions."""
    rounds = sorted(a / b for a, b in zip(seconds[name], seconds[base], strict=True))
    return {"ratio": round(statistics.median(rounds), 3), "low": round(rounds[0], 3), "high": round(rounds[-1], 3)}


def recording(lm: LanguageModel, texts: Texts, prompt: str, batch_tokens: int, repeats: int) -> dict[str, Any]:
    """Recording K, V and hidden states of every layer, against the raw transformers base model on the same batches.

    Both sides run from texts on: tokenizing, batching and the forward pass.
    """

    def raw() -> None:
        tokenized = tokenize(lm.tokenizer, texts.items, get_prompt(prompt), lm.info.max_positions)
        with torch.inference_mode():
            for batch in batches(tokenized, lm.tokenizer.pad_token_id, batch_tokens, device=lm.device):
                lm.base(batch.ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False)

    actions = {"record": lambda: record(lm, texts, prompt, batch_tokens=batch_tokens), "raw": raw}
    seconds = interleaved(actions, repeats)
    return {
        "measured": "record / raw base-model forward",
        "model": lm.info.name,
        "texts": len(texts),
        "repeats": repeats,
        **ratio(seconds, "record", "raw"),
    }


def memory(lm: LanguageModel, texts: Texts, prompt: str, batch_tokens: int) -> dict[str, Any]:
    """Peak resident memory of record -> estimate -> select -> plots, above the same process with the model idle."""
    import tempfile

    from kvlens.dimension import estimate
    from kvlens.layers import select
    from kvlens.plots import save_profile_plots

    process = psutil.Process()
    idle = process.memory_info().rss
    with tempfile.TemporaryDirectory() as folder, _Peak(process) as peak:
        profile = estimate(record(lm, texts, prompt, batch_tokens=batch_tokens))
        save_profile_plots([profile], [select(profile)], folder)
    above = (peak.bytes - idle) / 2**20
    return {"measured": "peak memory above idle", "model": lm.info.name, "texts": len(texts), "MiB": round(above)}


class _Peak:
    """Samples the resident memory of a process in a thread."""

    def __init__(self, process: psutil.Process):
        self.process, self.bytes = process, 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.stop.wait(0.02):
            self.bytes = max(self.bytes, self.process.memory_info().rss)

    def __enter__(self) -> _Peak:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.thread.join()
