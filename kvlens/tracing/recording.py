"""Trace: what the final token holds at every layer, recorded through TransformerLens hooks.

1. tokenize every text inside the prompt; 2. run length-sorted batches through the bridge without its LM head and
no further than the last layer asked for; 3. hooks copy, for each text, only the rows that are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from kvlens.models.forward import finite_or_refuse
from kvlens.models.info import ModelInfo
from kvlens.models.language_model import LanguageModel
from kvlens.models.rotary import is_rotary, rotate
from kvlens.store.errors import InputError
from kvlens.store.provenance import versions
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, get_prompt
from kvlens.texts.texts import Texts, as_texts
from kvlens.texts.tokens import TokenBatch, batches, tokenize
from kvlens.tracing.trace import KEEP, Points, Trace

BUSY_TOKENS = (
    1024  # a pass through the bridge costs more than one through the raw model, whatever its size
)


def record(
    lm: LanguageModel,
    texts: Texts | Sequence[str],
    prompt: str | Prompt = DEFAULT_DOCUMENT,
    points: Points = "last",
    keep: Sequence[str] = KEEP,
    layers: Sequence[int] | None = None,
    patterns: bool = False,
    max_length: int | None = None,
    strict: bool = False,
    batch_tokens: int = 2048,
    padding_side: str = "right",
    progress: Callable[[int, int], None] | None = None,
) -> Trace:
    """Record states of `texts` at `layers` (default: all).

    points: which hidden states (``last`` token, ``mean`` over real tokens, ``all`` real tokens); K and V are always
    the final real token's. keep: which of `KEEP` to hold in memory. patterns: attention weights too (n x n each).
    max_length: token limit, default the model's context; longer texts are truncated and counted, or refused with
    `strict`. progress: called with (texts done, texts).
    Raises InputError on bad input and on NaN or infinity in the activations.
    """
    texts = as_texts(texts)
    prompt = get_prompt(prompt) if isinstance(prompt, str) else prompt
    chosen = _check_request(lm.info, points, keep, layers)
    limit = min(max_length or lm.info.max_positions, lm.info.max_positions)
    tokenized = tokenize(lm.tokenizer, texts.items, prompt, limit, strict)
    buffers = _Buffers(lm.info, [len(text.ids) for text in tokenized], chosen, points, keep)
    fires = lm.live_hooks
    hooks = [
        hook
        for at, layer in enumerate(chosen)
        for hook in _hooks(lm, layer, at, buffers, keep, patterns, fires)
    ]
    stop = chosen[-1] + 1
    options: dict[str, Any] = {"return_type": None, "use_cache": False, "logits_to_keep": 1}
    if stop < lm.info.n_layers:
        options["stop_at_layer"] = stop
    done = 0
    with torch.inference_mode(), lm.bridge.hooks(fwd_hooks=hooks):
        pad_id = lm.tokenizer.pad_token_id
        for batch in batches(
            tokenized, pad_id, batch_tokens, None, padding_side, lm.device, BUSY_TOKENS
        ):
            buffers.batch = batch
            lm.bridge(batch.ids, attention_mask=batch.mask, position_ids=batch.positions, **options)
            done += len(batch.rows)
            if progress:
                progress(done, len(texts))
    return Trace(
        model=lm.info,
        prompt=prompt,
        texts=texts.info(),
        points=points,
        layers=chosen,
        n_tokens=tuple(len(text.ids) for text in tokenized),
        n_truncated=sum(text.truncated for text in tokenized),
        tensors=buffers.tensors,
        versions=versions(),
    )


class _Buffers:
    """The kept rows, allocated once; hooks write into them for the current `batch`."""

    batch: TokenBatch

    def __init__(
        self,
        info: ModelInfo,
        lengths: list[int],
        layers: Sequence[int],
        points: str,
        keep: Sequence[str],
    ):
        self.points, self.info = points, info
        self.starts = (
            np.concatenate([[0], np.cumsum(lengths)])
            if points == "all"
            else np.arange(len(lengths) + 1)
        )
        n, depth = len(lengths), len(layers)
        self.depth = depth
        self.tensors: dict[str, torch.Tensor] = {}
        for kind in keep:
            of_text, of_point = (
                (n, depth, info.n_kv_heads, info.d_head),
                (int(self.starts[-1]), depth, info.d_model),
            )
            self.tensors[kind] = torch.empty(of_point if kind == "hidden" else of_text)
        if points == "all" and "hidden" in keep:
            self.tensors["text_index"] = torch.from_numpy(np.repeat(np.arange(n), lengths))

    def final(self, states: torch.Tensor) -> torch.Tensor:
        """Each text's final real token: ``[batch, seq_len, ...]`` -> ``[batch, ...]``."""
        return states[torch.arange(len(states), device=states.device), self.batch.last]

    def store(self, kind: str, at: int, layer: int, rows: torch.Tensor) -> None:
        """Keep one row per text. Raises InputError on NaN or infinity."""
        finite_or_refuse(rows, f"{kind} of layer {layer}", self.info)
        target = self.tensors[kind]
        target[self.batch.rows.cpu(), at] = rows.reshape(len(rows), *target.shape[2:]).float().cpu()

    def store_hidden(self, at: int, layer: int, states: torch.Tensor) -> None:
        """Keep the hidden states ``[batch, seq_len, d_model]`` that `points` asks for."""
        if self.points == "last":
            return self.store("hidden", at, layer, self.final(states))
        mask = self.batch.mask
        if self.points == "mean":
            weights = (mask / mask.sum(1, keepdim=True)).to(torch.float32)
            return self.store(
                "hidden", at, layer, torch.einsum("bt,btd->bd", weights, states.float())
            )
        for row, real, text in zip(self.batch.rows.tolist(), mask.bool(), states, strict=True):
            finite_or_refuse(text[real], f"hidden of layer {layer}", self.info)
            self.tensors["hidden"][self.starts[row] : self.starts[row + 1], at] = (
                text[real].float().cpu()
            )
        return None


def _check_request(
    info: ModelInfo, points: str, keep: Sequence[str], layers: Sequence[int] | None
) -> tuple[int, ...]:
    if points not in ("last", "mean", "all"):
        raise InputError(f"unknown points {points!r}: give last, mean or all")
    if unknown := set(keep) - set(KEEP):
        raise InputError(f"cannot record {sorted(unknown)}: give some of {', '.join(KEEP)}")
    chosen = tuple(sorted(set(range(info.n_layers) if layers is None else layers)))
    if not chosen or chosen[0] < 0 or chosen[-1] >= info.n_layers:
        raise InputError(
            f"layers must lie in 0 to {info.n_layers - 1} for {info.name}, got {list(chosen)}"
        )
    return chosen


def _hooks(
    lm: LanguageModel,
    layer: int,
    at: int,
    buffers: _Buffers,
    keep: Sequence[str],
    patterns: bool,
    fires: frozenset[str],
) -> list[tuple[str, Callable[..., None]]]:
    """(hook name, function) pairs for one layer, given which hook names fire on this model."""
    prefix = f"blocks.{layer}.attn."
    normed = f"{prefix}hook_k_normed" in fires
    key_pre = prefix + ("hook_k_normed" if normed else "hook_k")
    latest: dict[str, torch.Tensor] = {}

    def final_key(states: torch.Tensor) -> torch.Tensor:
        """``[batch, n_kv_heads, d_head]``; hook_k_normed alone has heads before positions."""
        if normed and states.ndim == 4:
            states = states.transpose(1, 2)
        return buffers.final(states).reshape(len(states), lm.info.n_kv_heads, lm.info.d_head)

    def on_sin(sin: torch.Tensor, hook: Any) -> None:
        tables = (table.expand(len(buffers.batch.rows), -1, -1) for table in (latest["cos"], sin))
        key = rotate(latest["key"], *(buffers.final(table) for table in tables))
        buffers.store("k", at, layer, key)

    def on_pattern(weights: torch.Tensor, hook: Any) -> None:
        for row, real, pattern in zip(
            buffers.batch.rows.tolist(), buffers.batch.mask.bool(), weights, strict=True
        ):
            n, name = int(real.sum()), f"pattern.{row}"
            if name not in buffers.tensors:
                buffers.tensors[name] = torch.empty((buffers.depth, len(pattern), n, n))
            buffers.tensors[name][at] = pattern[:, real][:, :, real].float().cpu()

    def store(kind: str, pick: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., None]:
        return lambda states, hook: buffers.store(kind, at, layer, pick(states))

    wanted: list[tuple[str, Callable[..., None]]] = []
    if "hidden" in keep:
        resid = f"blocks.{layer}.hook_resid_post"
        wanted.append((resid, lambda states, hook: buffers.store_hidden(at, layer, states)))
    if "v" in keep:
        wanted.append((f"{prefix}hook_v", store("v", buffers.final)))
    if "k_pre" in keep:
        wanted.append((key_pre, store("k_pre", final_key)))
    if "k" in keep:
        if f"{prefix}hook_rot_k" in fires:
            wanted.append((f"{prefix}hook_rot_k", store("k", buffers.final)))
        elif (
            f"{prefix}hook_sin" in fires
        ):  # fused QKV: the tables come after the key and before it is turned
            wanted.append((key_pre, lambda states, hook: latest.update(key=final_key(states))))
            wanted.append((f"{prefix}hook_cos", lambda cos, hook: latest.update(cos=cos)))
            wanted.append((f"{prefix}hook_sin", on_sin))
        else:  # a rotary model that shows no rotated key is refused below
            wanted.append(
                (f"{prefix}hook_rot_k" if is_rotary(lm) else key_pre, store("k", final_key))
            )
    if patterns:
        wanted.append((f"{prefix}hook_pattern", on_pattern))
    if absent := [name for name, _ in wanted if name not in fires]:
        raise InputError(
            f"TransformerLens runs no {absent[0]} for {lm.info.architecture}: cannot record it"
        )
    return wanted
