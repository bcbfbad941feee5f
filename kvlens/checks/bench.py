"""Bench: speed as ratios, measured side by side in one run, since machines are shared and noisy."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from kvlens.checks.peak_memory import PeakMemory
from kvlens.dimension.profile import IDProfile
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.together import groups_by_pass, raw_together
from kvlens.layers.layer_set import LayerSet
from kvlens.methods.registry import get_method, takes_layers
from kvlens.models.language_model import LanguageModel
from kvlens.store.progress import silent
from kvlens.texts.batches import batches
from kvlens.texts.limits import Limits
from kvlens.texts.prompts import get_prompt
from kvlens.texts.texts import Texts
from kvlens.texts.tokens import tokenize
from kvlens.tracing.recorder import BUSY_TOKENS
from kvlens.tracing.recording import record

MIB = 2**20

Action = Callable[[], Any]


class Seconds(NamedTuple):
    """How long an action took.

    Attributes:
        wall: by the clock.
        cpu: of this process; waiting for a core does not count.
    """

    wall: float
    cpu: float


def interleaved(actions: Mapping[str, Action], repeats: int) -> dict[str, list[Seconds]]:
    """Time actions in turn, so that a noisy moment hits all alike; each is warmed up once.

    Args:
        actions: by name.
        repeats: rounds.

    Returns:
        Seconds by name and round.
    """
    for action in actions.values():
        action()
    seconds: dict[str, list[Seconds]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            seconds[name].append(_timed(action))
    return seconds


def _timed(action: Action) -> Seconds:
    wall = time.perf_counter()
    cpu = time.process_time()
    action()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def ratios(seconds: Mapping[str, Sequence[Seconds]], name: str, base: str) -> dict[str, str]:
    """Median and extremes of the per-round ratios of two interleaved actions.

    Args:
        seconds: of `interleaved`.
        name: what is measured.
        base: against what.

    Returns:
        ``wall`` and ``cpu``, as text. The CPU ratio is the one to trust while other programs run.
    """
    rounds = list(zip(seconds[name], seconds[base], strict=True))
    return {
        "wall": _median_and_extremes([action.wall / other.wall for action, other in rounds]),
        "cpu": _median_and_extremes([action.cpu / other.cpu for action, other in rounds]),
    }


def _median_and_extremes(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def recording(
    lm: LanguageModel, texts: Texts, prompt: str, limits: Limits, repeats: int
) -> dict[str, Any]:
    """Time the recording of K, V and hidden states of every layer.

    Against the raw transformers base model on the same batches; both sides run from texts on:
    tokenizing, batching and the forward pass.

    Args:
        lm: the model.
        texts: what is recorded.
        prompt: its name, or a template.
        limits: how long a text may be, how much goes into a batch.
        repeats: rounds.

    Returns:
        What was measured, and the ratios.
    """
    actions: dict[str, Action] = {
        "record": partial(record, lm, texts, prompt, **asdict(limits)),
        "raw": partial(_raw_passes, lm, texts, prompt, limits),
    }
    seconds = interleaved(actions, repeats)
    return {
        "measured": "record / raw base-model forward",
        **_setting(lm, texts, repeats),
        **ratios(seconds, "record", "raw"),
    }


def _raw_passes(lm: LanguageModel, texts: Texts, prompt: str, limits: Limits) -> None:
    """The batches of a recording through the raw base model, with their masks."""
    longest = limits.tokens_for(lm.info.max_positions)
    tokenized = tokenize(
        lm.tokenizer, texts.items, get_prompt(prompt), longest, strict=limits.strict
    )
    padded = batches(
        tokenized,
        lm.tokenizer.pad_token_id,
        limits.batch_tokens,
        device=lm.device,
        busy_tokens=BUSY_TOKENS,
    )
    for batch in padded:
        with torch.inference_mode(), lm.turn():
            lm.base(
                batch.ids,
                attention_mask=batch.mask,
                position_ids=batch.positions,
                use_cache=False,
            )


def encoding(
    lm: LanguageModel,
    texts: Texts,
    names: Sequence[str],
    layers: Any,
    limits: Limits,
    repeats: int,
) -> list[dict[str, Any]]:
    """Time each method, from texts to vectors.

    Against the plain base-model forward of kv_embedding's prompted batches.

    Args:
        lm: the model.
        texts: what is embedded.
        names: of methods.
        layers: a layer-set file or block indices, for methods that take layers.
        limits: how long a text may be, how much goes into a batch.
        repeats: rounds.

    Returns:
        What was measured, and the ratios, a row a method; and echo against kv_embedding.
    """
    prompted = get_method("kv_embedding").document
    encoders = {"plain": Encoder(lm, "last_token", document=prompted, **asdict(limits))}
    for name in names:
        own_layers = layers if takes_layers(name) else None
        encoders[name] = Encoder(lm, name, own_layers, **asdict(limits))
    actions = {name: partial(encoder.encode, texts.items) for name, encoder in encoders.items()}
    seconds = interleaved(actions, repeats)
    pairs = [(name, "plain") for name in names]
    if {"echo", "kv_embedding"} <= set(names):
        pairs.append(("echo", "kv_embedding"))
    setting = _setting(lm, texts, repeats)
    return [
        {"measured": f"{name} / {base}", **setting, **ratios(seconds, name, base)}
        for name, base in pairs
    ]


def together(
    lm: LanguageModel,
    texts: Texts,
    names: Sequence[str],
    layers: Any,
    limits: Limits,
    repeats: int,
) -> dict[str, Any]:
    """Time methods with the forward passes that they share run once, as `evaluate` runs them.

    Against one method after another, each from texts to vectors.

    Args:
        lm: the model.
        texts: distinct texts that are embedded.
        names: of methods.
        layers: a layer-set file or block indices, for methods that take layers.
        limits: how long a text may be, how much goes into a batch.
        repeats: rounds.

    Returns:
        What was measured, and the ratios.
    """
    encoders = [
        Encoder(lm, name, layers if takes_layers(name) else None, **asdict(limits))
        for name in names
    ]
    items = list(dict.fromkeys(texts.items))
    groups = groups_by_pass(encoders, "document")

    def shared() -> None:
        for group in groups:
            raw_together(group, items, "document", silent)

    def apart() -> None:
        for encoder in encoders:
            encoder.raw(items)

    seconds = interleaved({"shared": shared, "apart": apart}, repeats)
    return {
        "measured": f"{len(names)} methods in {len(groups)} passes / one after another",
        **_setting(lm, texts, repeats),
        **ratios(seconds, "shared", "apart"),
    }


def _setting(lm: LanguageModel, texts: Texts, repeats: int) -> dict[str, Any]:
    return {
        "model": lm.info.name,
        "texts": len(texts),
        "rounds": repeats,
        "threads": torch.get_num_threads(),
    }


def memory(
    lm: LanguageModel,
    texts: Texts,
    prompt: str,
    limits: Limits,
    draw: Callable[[IDProfile, LayerSet, Path], object],
) -> dict[str, Any]:
    """Peak resident memory of record -> estimate -> select -> plots, above the idle loaded model.

    Args:
        lm: the model.
        texts: what is recorded.
        prompt: its name, or a template.
        limits: how long a text may be, how much goes into a batch.
        draw: writes the plots of a profile and its layer set into a folder.

    Returns:
        What was measured, and the mebibytes.
    """
    from kvlens.dimension.estimation import estimate
    from kvlens.layers.selection import select

    process = psutil.Process()
    # The weights file is read page by page: read it all.
    lm(torch.zeros((1, 1), dtype=torch.long, device=lm.device))
    idle = process.memory_info().rss
    with tempfile.TemporaryDirectory() as folder, PeakMemory(process) as peak:
        trace = record(lm, texts, prompt, keep=("hidden",), **asdict(limits))
        profile = estimate(trace)
        draw(profile, select(profile), Path(folder))
    return {
        "measured": "peak memory above idle",
        "model": lm.info.name,
        "texts": len(texts),
        "MiB": round((peak.bytes - idle) / MIB),
    }
