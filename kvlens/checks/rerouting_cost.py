"""Rerouting cost: a whole `encode`, re-routed, against the bare pass of the same batch.

The bare pass is the raw base model told of no padding: its fused causal kernel runs without a mask.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain, cycle, islice
from typing import Any

import psutil
import torch

from kvlens.checks.bench import MIB, Seconds, interleaved, ratios
from kvlens.checks.peak_memory import PeakMemory
from kvlens.embedding.encoder import Encoder
from kvlens.methods.registry import get_method
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch, batches
from kvlens.texts.limits import Limits
from kvlens.texts.texts import Texts
from kvlens.texts.tokens import fitting

TEXTS = 4  # in a batch
SHORTEST = 0.7  # of the longest text in the batch
BARE = "bare pass"


def by_length(
    lm: LanguageModel, texts: Texts, lengths: Sequence[int], limits: Limits, repeats: int
) -> list[dict[str, Any]]:
    """Time `encode` with no, a tenth and all of the layers re-routed, at several lengths.

    Args:
        lm: the model.
        texts: whose words are strung together to four texts of each length.
        lengths: of the longest of them, in tokens.
        limits: of the passes; how long a text may be is the length.
        repeats: rounds.

    Returns:
        A row a length and share of layers: ratios of time, and of the peak memory above the loaded
        model; real tokens a second and mebibytes of both sides.

    Raises:
        InputError: for a length that the model does not take, or that its prompt fills.
    """
    rows: list[dict[str, Any]] = []
    for length in lengths:
        longest = lm.info.max_positions
        if longest is not None and length > longest:
            raise InputError(f"{lm.info.name} takes {longest} tokens at most, not {length}")
        own = replace(limits, max_length=length, batch_tokens=TEXTS * length)
        rows += _at_length(lm, _ragged(lm, texts, length), own, repeats)
    return rows


def _at_length(
    lm: LanguageModel, texts: Sequence[str], limits: Limits, repeats: int
) -> Iterator[dict[str, Any]]:
    encoders = {
        f"{len(layers)} layers": Encoder(lm, "kv_embedding", layers, **asdict(limits))
        for layers in _layer_sets(lm)
    }
    first = next(iter(encoders.values()))
    tokenized = first.tokenize(texts, first.prompt_for("document"))
    padded = list(
        batches(tokenized, lm.tokenizer.pad_token_id, first.batch_tokens, device=lm.device)
    )
    actions: dict[str, Callable[[], Any]] = {BARE: partial(_bare, lm, padded)}
    actions |= {name: partial(each.encode, texts) for name, each in encoders.items()}
    seconds = interleaved(actions, repeats)
    memory = {name: _peak(lm, action) for name, action in actions.items()}
    n_tokens = sum(len(text.ids) for text in tokenized)
    speed = {name: _tokens_a_second(n_tokens, rounds) for name, rounds in seconds.items()}
    for name in encoders:
        yield {
            "measured": f"encode, {name} re-routed / {BARE}",
            "model": lm.info.name,
            "dtype": lm.info.dtype,
            "texts": f"{TEXTS} of {limits.max_length} tokens, {SHORTEST:.0%} to all",
            "batches": len(padded),
            "rounds": repeats,
            "threads": torch.get_num_threads(),
            **ratios(seconds, name, BARE),
            "memory": _memory_ratio(memory[name], memory[BARE]),
            "tokens/s": f"{speed[name]:.0f} / {speed[BARE]:.0f}",
            "MiB": f"{memory[name] / MIB:.0f} / {memory[BARE] / MIB:.0f}",
        }


def _layer_sets(lm: LanguageModel) -> list[tuple[int, ...]]:
    """None, a tenth and all of the layers that can be re-routed."""
    able = lm.info.layers_to_reroute()
    tenth = max(1, len(able) // 10)
    middle = (len(able) - tenth) // 2
    return [(), able[middle : middle + tenth], able]


def _bare(lm: LanguageModel, padded: Sequence[TokenBatch]) -> None:
    with torch.inference_mode(), lm.turn():
        for batch in padded:
            lm.base(batch.ids, use_cache=False)
    if lm.device.type == "cuda":
        torch.cuda.synchronize(lm.device)


def _tokens_a_second(n_tokens: int, rounds: Sequence[Seconds]) -> float:
    """Real tokens, by the clock; the median of the rounds."""
    return n_tokens / statistics.median(each.wall for each in rounds)


def _memory_ratio(peak: int, bare: int) -> str:
    """Of peaks in bytes; none where the bare pass takes so little that it would say nothing."""
    return f"{peak / bare:.2f}" if bare >= MIB else "-"


def _peak(lm: LanguageModel, action: Callable[[], Any]) -> int:
    """Bytes that an action takes at most, above those before it: of the GPU, or resident."""
    if lm.device.type == "cuda":
        return _peak_on_cuda(lm.device, action)
    process = psutil.Process()
    before = process.memory_info().rss
    with PeakMemory(process) as peak:
        action()
    return max(peak.bytes - before, 0)  # what was held before may be given back


def _peak_on_cuda(device: torch.device, action: Callable[[], Any]) -> int:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    action()
    return torch.cuda.max_memory_allocated(device) - before


def _ragged(lm: LanguageModel, texts: Texts, length: int) -> list[str]:
    """Four texts, the longest of which fills the length with its prompt."""
    words = list(chain.from_iterable(text.split() for text in texts.items))
    prompt = get_method("kv_embedding").document
    cut = []
    for place in range(TEXTS):
        n_tokens = round(length * (1 - (1 - SHORTEST) * place / (TEXTS - 1)))
        # A word is a token at least.
        text = " ".join(islice(cycle(words), place, place + n_tokens))
        cut.append(fitting(lm.tokenizer, text, prompt, n_tokens))
    return cut
