"""KV re-routing (arXiv:2601.01046, section 3.2): the final KV as a prefix, in one forward pass.

In each chosen layer, right after its keys and values are computed,

1. the final real token's key and value are put in front of them;
2. the attention mask gets one more column in front, visible to every query, that holds the bias;
3. attention goes on as usual, so the next layer sees the changed residual stream.

Both steps use what every transformers attention module offers, its KV cache and its mask, so the
same code serves the raw model (whose fused kernel stays) and the TransformerLens bridge (whose
``hook_pattern`` then shows the prefix as column 0). It does not know which layers are good.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvlens.layers.route import Route, RouteLike, a_route
from kvlens.models.language_model import LanguageModel, a_model
from kvlens.models.rotary import is_rotary, tables, unrotate
from kvlens.rerouting.final_tokens import FinalTokens
from kvlens.store.checking import arguments, bias, optional, text
from kvlens.store.errors import InputError

# What attention modules call their KV cache argument.
CACHE_NAMES = ("past_key_values", "layer_past")

# Proven against brute force in the tests; others may keep keys or masks in ways that this code
# does not know.
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


@arguments(lm=a_model, layers=a_route, bias=optional(bias), position=optional(text))
@contextlib.contextmanager
def reroute(
    lm: LanguageModel,
    layers: RouteLike,
    bias: float | Sequence[float] | None = None,
    position: str | None = None,
) -> Iterator[Rerouting]:
    """Re-route the final token's key and value, for every forward pass inside the context.

    Serves ``lm(...)``, ``lm.hf``, ``lm.base`` and ``lm.bridge``. The final real token of each row
    comes from the ``attention_mask`` ``[batch, seq_len]`` (either padding side); or set ``.last``
    on the yielded object.

    It serves this thread alone: what others run on the model waits until the block is left (after
    10 seconds a warning says so), or is refused. So do not wait inside for threads that run it.

    Args:
        lm: the model.
        layers: a route, a layer set, its file, or block indices; none leaves the model as it is.
        bias: added to the prefix's logit, after soft-capping: one number, or one a layer in the
            order of `layers`; default: that of the route or layer set, else 1.
        position: ``keep`` the key as rotated at its own place, rotate it to the ``origin``, or
            ``none`` (not rotated); default: that of the route or layer set, else ``keep``.

    Yields:
        What the hooks share; its ``last`` may be set before a pass.

    Raises:
        InputError: for layers, biases and positions that `Route.of` refuses, an architecture that
            is not `SUPPORTED`, a model that is re-routed already or in train mode, and inside the
            context for a filled KV cache, a mask of another shape, and all that measures the plain
            model, such as an encoder.
    """
    check_architecture(lm)
    rerouting = Rerouting(lm, Route.of(lm.info, layers, bias, position))
    if not rerouting.route.layers:
        yield rerouting
        return
    with lm.turn("reroute") as turn:
        for base in lm.trees():
            turn.before(base, rerouting.before_model, with_kwargs=True)
        for layer in rerouting.route.layers:
            before_attention = rerouting.before_attention(layer)
            for attention in lm.attention_modules(layer):
                turn.before(attention, before_attention, with_kwargs=True)
        yield rerouting


def check_architecture(lm: LanguageModel) -> None:
    """Raise InputError unless re-routing is proven on the architecture of `lm`."""
    # The whole model's kind: a multimodal wrapper masks otherwise than its text model.
    if lm.hf.config.model_type not in SUPPORTED:
        raise InputError(
            f"re-routing is not proven on {lm.info.architecture}; "
            f"it works on {', '.join(SUPPORTED)}"
        )


@dataclass
class Rerouting:
    """What the hooks share during one forward pass.

    Attributes:
        lm: the re-routed model.
        route: its layers, their biases and the position coding.
        last: index of each row's final real token, int64 ``[batch]``; None: read off the mask.
        final: where those tokens are in the pass that runs now.
    """

    lm: LanguageModel
    route: Route
    last: Int[Tensor, " batch"] | None = None
    final: FinalTokens = field(init=False, repr=False)

    def before_model(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note each row's final real token."""
        self.final = FinalTokens.of(module, args, kwargs, self.last)

    def before_attention(self, layer: int) -> Callable[..., tuple[Any, dict[str, Any]]]:
        """A hook for an attention module of one layer."""
        bias = self.route.bias_of[layer]

        def hook(
            module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[Any, dict[str, Any]]:
            states = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            cache_name = next((name for name in CACHE_NAMES if name in kwargs), CACHE_NAMES[0])
            prefix = PrefixCache(self, layer, kwargs.get(cache_name), seq_len=states.shape[1])
            mask = _with_prefix_column(kwargs.get("attention_mask"), bias, states)
            return args, {**kwargs, cache_name: prefix, "attention_mask": mask}

        return hook

    def prefix_of(
        self,
        keys: Float[Tensor, "batch n_kv_heads seq_len d_head"],
        values: Float[Tensor, "batch n_kv_heads seq_len d_head"],
        layer: int,
    ) -> tuple[
        Float[Tensor, "batch n_kv_heads 1 d_head"],
        Float[Tensor, "batch n_kv_heads 1 d_head"],
    ]:
        """The final token's key, in the route's position coding, and its value."""
        key = self.final.select(keys)
        if self.route.position != "keep" and is_rotary(self.lm):
            key = self._recoded(key, layer)
        return key[:, :, None], self.final.select(values)[:, :, None]

    def _recoded(
        self, key: Float[Tensor, "batch n_kv_heads d_head"], layer: int
    ) -> Float[Tensor, "batch n_kv_heads d_head"]:
        cos, sin = tables(self.lm, self.final.position, layer)
        unrotated, at_origin = unrotate(key.float(), cos.float(), sin.float())
        recoded = at_origin if self.route.position == "origin" else unrotated
        return recoded.to(key.dtype)


@dataclass
class PrefixCache:
    """Poses as the attention module's KV cache: gives keys and values back with the prefix first.

    Attributes:
        rerouting: what the hooks share.
        layer: whose attention module it serves.
        cache: the KV cache that it stands before, if there is one.
        seq_len: how many tokens the pass has.
    """

    rerouting: Rerouting
    layer: int
    cache: Any
    seq_len: int

    def update(
        self,
        keys: Float[Tensor, "batch n_kv_heads seq_len d_head"],
        values: Float[Tensor, "batch n_kv_heads seq_len d_head"],
        *where: Any,
    ) -> tuple[
        Float[Tensor, "batch n_kv_heads 1+seq_len d_head"],
        Float[Tensor, "batch n_kv_heads 1+seq_len d_head"],
    ]:
        """What transformers calls on a KV cache, and the bridge with it."""
        if self.cache is not None:
            keys, values = self.cache.update(keys, values, *where)
        if keys.shape[2] != self.seq_len:
            raise InputError(
                "re-routing works on whole texts in one forward pass, not on a filled KV cache"
            )
        prefix_key, prefix_value = self.rerouting.prefix_of(keys, values, self.layer)
        return torch.cat([prefix_key, keys], dim=2), torch.cat([prefix_value, values], dim=2)


def _with_prefix_column(
    mask: Float[Tensor, "rows 1 seq_len keys"] | Bool[Tensor, "rows 1 seq_len keys"] | None,
    bias: float,
    states: Float[Tensor, "batch seq_len d_model"],
) -> Float[Tensor, "rows 1 seq_len 1+seq_len"]:
    """An additive mask whose column 0 holds the bias; rows: of the batch, or 1."""
    seq_len = states.shape[1]
    dtype = states.dtype
    lowest = torch.finfo(dtype).min
    if mask is None:
        causal = torch.ones((seq_len, seq_len), dtype=torch.bool, device=states.device).tril()
        mask = causal[None, None]
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, lowest)
    # A finite floor: rows of padding that see nothing must not turn into NaN.
    column = torch.full_like(mask[..., :1], max(bias, lowest))
    return torch.cat([column, mask[..., :seq_len]], dim=-1)
