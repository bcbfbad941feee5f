"""KV re-routing (arXiv:2601.01046, section 3.2): the final KV as a prefix, in one forward pass.

In each chosen layer, right after its keys and values are computed,

1. the final real token's key and value are put in front of them;
2. the attention mask gets one more column in front, visible to every query, that holds the bias;
3. attention goes on as usual, so the next layer sees the changed residual stream.

Where a probe query chooses the tokens (see `probe_query`), several take a column each.

Both steps use what every transformers attention module offers, its KV cache and its mask, so the
same code serves the raw model and the TransformerLens bridge (whose ``hook_pattern`` then shows the
prefix as column 0). Where the raw model attends causally without a mask, as rows that are padded
on the right allow, the prefix is merged instead (see `merge`): the same numbers at the cost of a
plain pass. It does not know which layers are good.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvlens.layers.route import Route
from kvlens.models.attention_call import AttentionCall
from kvlens.models.cache_argument import StandIn
from kvlens.models.language_model import LanguageModel, Tree
from kvlens.rerouting.content import CacheStates, Content, Prefix
from kvlens.rerouting.merge import Merge, begin, can_merge, end
from kvlens.rerouting.pass_tokens import PassTokens
from kvlens.rerouting.reach import Seen, There, columns_there, seen_by, with_prefix_columns
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch

# What attention modules call a bias of each key's own, which has no entry for a prefix.
DISTANCE_BIASES = ("alibi", "position_bias")

Prefixed = Float[Tensor, "batch _ _ _"]


@contextlib.contextmanager
def rerouted(lm: LanguageModel, route: Route, trees: Sequence[Tree]) -> Iterator[Rerouting]:
    """Re-route every pass inside the context, whether that is exact on this model or not.

    Args:
        lm: the model.
        route: at least one layer.
        trees: the module trees that are re-routed.

    Yields:
        What the hooks share; its ``last`` may be set before a pass.

    Raises:
        InputError: for a model that is re-routed already or in train mode, and inside the context
            for a filled KV cache, a mask of another shape, and all that measures the plain model.
    """
    rerouting = Rerouting(lm, route)
    # By passes of their own, before there are hooks.
    if "raw" in trees:
        rerouting.merging = {each for each in route.layers if lm.attends_as_cached(each)}
    if route.position != "keep":
        lm.origin_tables(route.layers[0])
    with lm.turn("reroute") as turn:
        for tree in trees:
            turn.before(lm.decoder(tree), rerouting.before_model, with_kwargs=True)
            for layer in route.layers:
                before_attention = partial(rerouting.before_attention, layer, tree)
                turn.before(lm.attention(layer, tree), before_attention, with_kwargs=True)
        for layer in rerouting.merging:
            turn.after(lm.attention(layer), after_attention)
            turn.finally_do(partial(end, lm.attention(layer)))  # a pass may break inside
        yield rerouting


@dataclass
class Rerouting:
    """What the hooks share during one forward pass.

    Attributes:
        lm: the re-routed model.
        route: its layers, their biases, the position coding and what is controlled.
        last: index of each row's final real token, int64 ``[batch]``; None: read off the mask.
        text_mask: the text's own tokens, without the prompt, ``[batch, seq_len]``; None: not known.
        tokens: those of the pass that runs now.
        merging: layers of the raw model that may merge.
    """

    lm: LanguageModel
    route: Route
    last: Int[Tensor, " batch"] | None = None
    text_mask: Bool[Tensor, "batch seq_len"] | None = None
    tokens: PassTokens = field(init=False, repr=False)
    merging: set[int] = field(default_factory=set, init=False, repr=False)

    def follow(self, batch: TokenBatch) -> None:
        """Say what the next pass runs on."""
        self.last = batch.last
        self.text_mask = batch.text_mask

    def before_model(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note what stands where in each row; what a broken pass has left is undone."""
        for layer in self.merging:
            end(self.lm.attention(layer))
        self.tokens = PassTokens.of(module, args, kwargs, self.last, self.text_mask)

    def before_attention(
        self, layer: int, tree: Tree, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        """Before a layer's attention module of a tree: its prefix comes in front."""
        # The raw module's arguments have the same names in the bridge.
        call = AttentionCall.of(self.lm.attention(layer), args, kwargs)
        if any(call.arguments.get(name) is not None for name in DISTANCE_BIASES):
            raise InputError("its keys are biased by distance (ALiBi): a prefix has none")
        anatomy = self.lm.anatomy.layers[layer]
        seen = seen_by(self.tokens, self.route, layer, anatomy.n_heads)
        there = columns_there(self.tokens, self.route)
        if tree == "raw" and layer in self.merging and can_merge(call, anatomy):
            self._merge(layer, call, seen, there)
            return None
        return (), self._concatenated(layer, call, seen, there)

    def _merge(
        self, layer: int, call: AttentionCall, seen: Seen | None, there: There | None
    ) -> None:
        """Let the module's attention function join the prefix."""
        prefix = partial(self.prefix_of, layer=layer, call=call)
        begin(call.module, Merge(prefix, self.route.bias_of[layer], seen, there))

    def _concatenated(
        self, layer: int, call: AttentionCall, seen: Seen | None, there: There | None
    ) -> dict[str, Any]:
        """The module's arguments with the prefix before its keys, and its column in the mask."""
        mask = call.arguments.get("attention_mask")
        bias = self.route.bias_of[layer]
        mask = with_prefix_columns(mask, bias, call.states, seen, there)
        prefix = PrefixCache(self, layer, call)
        return {**call.arguments, call.cache_name: prefix, "attention_mask": mask}

    def prefix_of(
        self, keys: CacheStates, values: CacheStates, layer: int, call: AttentionCall
    ) -> tuple[Prefix, Prefix]:
        """The key and value of the prefix, see `Content`."""
        return Content(self.lm, self.route, self.tokens, layer, call, keys, values).prefix()


def after_attention(module: Any, args: Any, output: Any) -> None:
    """Give the module its attention function back."""
    end(module)


@dataclass
class PrefixCache(StandIn):
    """Poses as the attention module's KV cache: gives keys and values back with the prefix first.

    Attributes:
        rerouting: what the hooks share.
        layer: whose attention module it serves.
        call: of that module, which may have a KV cache behind this one.
    """

    rerouting: Rerouting
    layer: int
    call: AttentionCall

    def update(
        self, keys: CacheStates, values: CacheStates, *where: Any, **options: Any
    ) -> tuple[Prefixed, Prefixed]:
        """What transformers calls on a KV cache, and the bridge with it.

        Args:
            keys: ``[batch, heads, seq_len, width]``.
            values: the same.
            *where: what a real cache is told.
            **options: the same, by name.

        Returns:
            Both with the prefix first, ``[batch, heads, columns + seq_len, width]``.
        """
        cache = self.call.arguments.get(self.call.cache_name)
        if cache is not None:
            keys, values = cache.update(keys, values, *where, **options)
        if keys.shape[2] != self.call.states.shape[1]:
            raise InputError(
                "re-routing works on whole texts in one forward pass, not on a filled KV cache"
            )
        prefix_key, prefix_value = self.rerouting.prefix_of(keys, values, self.layer, self.call)
        return torch.cat([prefix_key, keys], dim=2), torch.cat([prefix_value, values], dim=2)
