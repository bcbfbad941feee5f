"""KV re-routing (arXiv:2601.01046, section 3.2): the final token's key and value as a prefix, in one forward pass.

In each chosen layer, right after its keys and values are computed, 1. the final real token's key and value are put in
front of them; 2. the attention mask gets one more column in front, visible to every query, that holds the bias;
3. attention goes on as usual, so the next layer sees the changed residual stream.
Both steps use what every transformers attention module offers, its KV cache and its mask, so the same code serves the
raw model (whose fused kernel stays) and the TransformerLens bridge (whose ``hook_pattern`` then shows the prefix as
column 0).
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from kvlens.models.language_model import LanguageModel
from kvlens.models.rotary import is_rotary, tables, unrotate
from kvlens.store.errors import InputError

POSITIONS = ("keep", "origin", "none")
CACHE_NAMES = (
    "past_key_values",
    "layer_past",
)  # what attention modules call their KV cache argument
# Proven against brute force in the tests; others may keep keys or masks in ways that this code does not know.
SUPPORTED = (
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma2",
    "gemma3_text",
    "phi3",
    "gpt2",
    "gpt_neox",
)


@dataclass
class Rerouting:
    """What the hooks share during one forward pass. last: index of each row's final real token, ``[batch]``."""

    lm: LanguageModel
    bias: dict[int, float]
    position: str
    last: torch.Tensor | None = None
    _pass: dict[str, torch.Tensor] = field(default_factory=dict)

    def before_model(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Find each row's final real token from the mask that the model is given."""
        given = (
            inspect.signature(type(module).forward).bind_partial(module, *args, **kwargs).arguments
        )
        given.update(given.pop("kwargs", {}))
        tokens = next(
            given[name] for name in ("input_ids", "inputs_embeds") if given.get(name) is not None
        )
        mask, (batch, width) = given.get("attention_mask"), tokens.shape[:2]
        if self.last is not None:
            last = self.last
        elif mask is None:
            last = torch.full((batch,), width - 1)
        elif mask.ndim == 2:
            last = width - 1 - mask.flip(1).long().argmax(1)
        else:
            raise InputError("re-routing needs an attention_mask of [batch, seq_len]")
        last = last.to(tokens.device)
        positions = given.get("position_ids")
        rows = torch.arange(batch, device=last.device)
        self._pass = {
            "last": last,
            "rows": rows,
            "positions": last if positions is None else positions.expand(batch, -1)[rows, last],
        }

    def before_attention(self, layer: int) -> Any:
        """A hook for one attention module."""

        def hook(
            module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[Any, dict[str, Any]]:
            states = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            name = next((name for name in CACHE_NAMES if name in kwargs), CACHE_NAMES[0])
            mask = _with_prefix_column(kwargs.get("attention_mask"), self.bias[layer], states)
            prefix = _Prefix(self, layer, kwargs.get(name), states.shape[1])
            return args, {**kwargs, name: prefix, "attention_mask": mask}

        return hook

    def prefix_key(self, keys: torch.Tensor, layer: int) -> torch.Tensor:
        """The final token's key ``[batch, n_kv_heads, 1, d_head]``, in the chosen position coding."""
        key = keys[self._pass["rows"], :, self._pass["last"]]
        if self.position != "keep" and is_rotary(self.lm):
            cos, sin = tables(self.lm, self._pass["positions"], layer)
            before, at_zero = unrotate(key.float(), cos.float(), sin.float())
            key = (at_zero if self.position == "origin" else before).to(key.dtype)
        return key[:, :, None]

    def prefix_value(self, values: torch.Tensor) -> torch.Tensor:
        return values[self._pass["rows"], :, self._pass["last"]][:, :, None]


@dataclass
class _Prefix:
    """Stands where the attention module expects its KV cache: gives back keys and values with the prefix in front."""

    shared: Rerouting
    layer: int
    cache: Any
    seq_len: int

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, *where: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.cache is not None:
            keys, values = self.cache.update(keys, values, *where)
        if keys.shape[2] != self.seq_len:
            raise InputError(
                "re-routing works on whole texts in one forward pass, not on a filled KV cache"
            )
        prefix = self.shared.prefix_key(keys, self.layer), self.shared.prefix_value(values)
        return torch.cat([prefix[0], keys], dim=2), torch.cat([prefix[1], values], dim=2)


def _with_prefix_column(
    mask: torch.Tensor | None, bias: float, states: torch.Tensor
) -> torch.Tensor:
    """An additive mask ``[batch or 1, 1, seq_len, 1 + seq_len]``; column 0 holds the bias."""
    width, dtype = states.shape[1], states.dtype
    lowest = torch.finfo(dtype).min
    if mask is None:
        mask = torch.ones((1, 1, width, width), dtype=torch.bool, device=states.device).tril()
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, lowest)
    # A finite floor: rows of padding that see nothing must not turn into NaN.
    column = torch.full_like(mask[..., :1], max(bias, lowest))
    return torch.cat([column, mask[..., :width]], dim=-1)


@contextlib.contextmanager
def reroute(
    lm: LanguageModel,
    layers: Sequence[int],
    bias: float | Sequence[float] = 1.0,
    position: str = "keep",
) -> Iterator[Rerouting]:
    """Re-route the final token's key and value in `layers`, for every forward pass inside the context.

    Serves ``lm(...)``, ``lm.hf``, ``lm.base`` and ``lm.bridge``. The final real token of each row comes from the
    ``attention_mask`` [batch, seq_len] (either padding side); or set ``.last`` on the yielded object.
    bias: added to the prefix's logit, after soft-capping; one number, or one per layer.
    position: ``keep`` the key as rotated at its own place, rotate it to the ``origin``, or ``none`` (not rotated).
    Raises InputError for layers outside the model, an unsupported architecture, or a model that is re-routed already.
    """
    chosen = dict(zip(layers, check_request(lm, layers, bias, position), strict=True))
    if not chosen:
        yield Rerouting(lm, chosen, position)
        return
    shared = Rerouting(lm, chosen, position)
    handles = []
    try:
        for base in lm.trees():
            if any(isinstance(hook, _Mark) for hook in base._forward_pre_hooks.values()):
                raise InputError(
                    "this model is re-routed already: leave the first `reroute` context before"
                )
            handles.append(
                base.register_forward_pre_hook(_Mark(shared.before_model), with_kwargs=True)
            )
        for layer in chosen:
            for attention in lm.attention_modules(layer):
                hook = _Mark(shared.before_attention(layer))
                handles.append(attention.register_forward_pre_hook(hook, with_kwargs=True))
        yield shared
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class _Mark:
    """A hook that can be told from the hooks of others."""

    hook: Any

    def __call__(self, *args: Any) -> Any:
        return self.hook(*args)

    def __deepcopy__(self, memo: Any) -> Any:
        # `lm.bridge` copies the modules on first use; copied hooks would never be removed.
        raise InputError(
            "this model is re-routed now: use `lm.bridge` once before the `reroute` context"
        )


def check_request(
    lm: LanguageModel, layers: Sequence[int], bias: float | Sequence[float], position: str
) -> list[float]:
    """One bias per layer. Raises InputError for what `reroute` cannot do."""
    if lm.base.config.model_type not in SUPPORTED:
        raise InputError(
            f"re-routing is not proven on {lm.info.architecture}; it works on {', '.join(SUPPORTED)}"
        )
    if position not in POSITIONS:
        raise InputError(f"unknown position coding {position!r}: give {', '.join(POSITIONS)}")
    if outside := [layer for layer in layers if not 0 <= layer < lm.info.n_layers]:
        raise InputError(
            f"layer {outside[0]} is outside {lm.info.name}, which has layers 0 to {lm.info.n_layers - 1}"
        )
    if len(set(layers)) < len(layers):
        raise InputError(f"the layers {list(layers)} repeat one")
    try:
        biases = np.broadcast_to(
            np.asarray(bias, dtype=float), np.shape(bias) or len(layers)
        ).tolist()
    except (TypeError, ValueError) as error:
        raise InputError(f"the bias must be one number, or one per layer, not {bias!r}") from error
    if len(biases) != len(layers):
        raise InputError(
            f"{len(biases)} biases for {len(layers)} layers: give one number, or one per layer"
        )
    if any(not b < float("inf") for b in biases):
        raise InputError(f"the bias must be a number or minus infinity, not {bias}")
    return biases
