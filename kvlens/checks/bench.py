"""Bench: speed as ratios, measured side by side in one run (the machine may be shared and noisy)."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

from kvlens.dimension.profile import IDProfile
from kvlens.embedding.encoder import Encoder
from kvlens.layers.layer_set import LayerSet
from kvlens.methods.base import get_method
from kvlens.models.language_model import LanguageModel
from kvlens.texts.prompts import get_prompt
from kvlens.texts.texts import Texts
from kvlens.texts.tokens import batches, tokenize
from kvlens.tracing.recording import BUSY_TOKENS, record


def interleaved(
    actions: dict[str, Callable[[], Any]], repeats: int
) -> dict[str, list[tuple[float, float]]]:
    """(wall, CPU) seconds of each action, after one warm-up, in turn, so that a noisy moment hits all alike."""
    for action in actions.values():
        action()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            start = time.perf_counter(), time.process_time()
            action()
            seconds[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return seconds


def ratios(seconds: dict[str, list[tuple[float, float]]], name: str, base: str) -> dict[str, str]:
    """Median and extremes of the per-round ratios of two interleaved actions, in wall and in CPU seconds.

    The CPU ratio is the one to trust while other programs run: waiting for a core does not count.
    """
    result = {}
    for at, kind in enumerate(("wall", "cpu")):
        rounds = sorted(a[at] / b[at] for a, b in zip(seconds[name], seconds[base], strict=True))
        result[kind] = f"{statistics.median(rounds):.2f} ({rounds[0]:.2f} to {rounds[-1]:.2f})"
    return result


def recording(
    lm: LanguageModel, texts: Texts, prompt: str, batch_tokens: int, repeats: int
) -> dict[str, Any]:
    """Recording K, V and hidden states of every layer, against the raw transformers base model on the same batches.

    Both sides run from texts on: tokenizing, batching and the forward pass.
    """

    def raw() -> None:
        tokenized = tokenize(lm.tokenizer, texts.items, get_prompt(prompt), lm.info.max_positions)
        with torch.inference_mode():
            pad_id = lm.tokenizer.pad_token_id
            for batch in batches(
                tokenized, pad_id, batch_tokens, device=lm.device, busy_tokens=BUSY_TOKENS
            ):
                lm.base(
                    batch.ids,
                    attention_mask=batch.mask,
                    position_ids=batch.positions,
                    use_cache=False,
                )

    actions = {"record": lambda: record(lm, texts, prompt, batch_tokens=batch_tokens), "raw": raw}
    seconds = interleaved(actions, repeats)
    return {
        "measured": "record / raw base-model forward",
        "model": lm.info.name,
        "texts": len(texts),
        "rounds": repeats,
        "threads": torch.get_num_threads(),
        **ratios(seconds, "record", "raw"),
    }


def encoding(
    lm: LanguageModel,
    texts: Texts,
    names: Sequence[str],
    layers: Any,
    batch_tokens: int,
    repeats: int,
) -> list[dict[str, Any]]:
    """Each method, from texts to vectors, against the plain base-model forward of kv_embedding's prompted batches.

    layers: a layer-set file or block indices, for kv_embedding.
    """
    encoders = {
        name: Encoder(
            lm, name, layers if name == "kv_embedding" else None, batch_tokens=batch_tokens
        )
        for name in names
    }
    document = get_method("kv_embedding").document
    plain = Encoder(lm, "last_token", document=document, batch_tokens=batch_tokens)
    actions: dict[str, Callable[[], Any]] = {
        name: partial(encoder.encode, texts.items)
        for name, encoder in {"plain": plain, **encoders}.items()
    }
    seconds = interleaved(actions, repeats)
    pairs = [(name, "plain") for name in names]
    if {"echo", "kv_embedding"} <= set(names):
        pairs.append(("echo", "kv_embedding"))
    shared = {
        "model": lm.info.name,
        "texts": len(texts),
        "rounds": repeats,
        "threads": torch.get_num_threads(),
    }
    return [{"measured": f"{a} / {b}", **shared, **ratios(seconds, a, b)} for a, b in pairs]


def memory(
    lm: LanguageModel,
    texts: Texts,
    prompt: str,
    batch_tokens: int,
    draw: Callable[[IDProfile, LayerSet, Path], object],
) -> dict[str, Any]:
    """Peak resident memory of record -> estimate -> select -> plots, above the same process with the model idle.

    draw: writes the plots of a profile and its layer set into a folder.
    """
    import tempfile

    from kvlens.dimension.estimation import estimate
    from kvlens.layers.selection import select

    process = psutil.Process()
    lm(
        torch.zeros((1, 1), dtype=torch.long, device=lm.device)
    )  # the weights file is read page by page: read it all
    idle = process.memory_info().rss
    with tempfile.TemporaryDirectory() as folder, _Peak(process) as peak:
        profile = estimate(record(lm, texts, prompt, keep=("hidden",), batch_tokens=batch_tokens))
        draw(profile, select(profile), Path(folder))
    above = (peak.bytes - idle) / 2**20
    return {
        "measured": "peak memory above idle",
        "model": lm.info.name,
        "texts": len(texts),
        "MiB": round(above),
    }


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
