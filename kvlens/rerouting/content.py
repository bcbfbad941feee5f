"""Content: the key and value that a prefix carries, a KV head at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from kvlens.layers.route import Route
from kvlens.models.attention_call import AttentionCall
from kvlens.models.language_model import LanguageModel
from kvlens.models.rotation import turned
from kvlens.rerouting.calibration import Calibration
from kvlens.rerouting.pass_tokens import PassTokens
from kvlens.rerouting.probe_query import not_probed, ranking
from kvlens.store.errors import InputError

# Heads and widths of keys and values may differ, and so may what a latent cache keeps of them.
CacheStates = Float[Tensor, "batch _ seq_len _"]
Prefix = Float[Tensor, "batch _ columns _"]
InPlace = Float[Tensor, "batch _ _ _"]
"""What stands for a prefix's keys or values: a column for each, or one for all."""


@dataclass(frozen=True)
class Content:
    """What the prefix of one layer carries in one pass.

    Attributes:
        lm: the model.
        route: through it.
        tokens: of the pass.
        layer: which.
        call: of its attention module.
        keys: what the layer puts into a KV cache, ``[batch, heads, seq_len, width]``.
        values: the same; of a latent cache the two are what it keeps.
    """

    lm: LanguageModel
    route: Route
    tokens: PassTokens
    layer: int
    call: AttentionCall
    keys: CacheStates
    values: CacheStates

    def prefix(self) -> tuple[Prefix, Prefix]:
        """Key and value, ``[batch, heads, columns, width]``; one column, but of a probe query.

        Raises:
            InputError: for a source that a text does not have, and keys and values of other texts
                that cannot stand in this layer.
        """
        key, value = self._own
        return self._controlled("key", key, self._key), self._controlled(
            "value", value, self._value
        )

    def _controlled(self, what: str, own: Prefix, made: Callable[[str, Prefix], InPlace]) -> Prefix:
        """The prefix's own key or value, or what stands for it in some heads."""
        names = self.route.control.carried(what, self.layer, own.shape[1])
        for name in sorted(set(names) - {"own"}):
            heads = torch.tensor([each == name for each in names], device=own.device)
            own = torch.where(heads[:, None, None], made(name, own).to(own), own)
        return own

    def _value(self, name: str, own: Prefix) -> InPlace:
        return torch.zeros_like(own) if name == "zero" else self._of_texts("value", name, own)

    def _key(self, name: str, own: Prefix) -> InPlace:
        if name == "zero":
            return torch.zeros_like(own)
        return self._placed(self._of_texts("key", name, own))

    def _of_texts(self, what: str, name: str, own: Prefix) -> InPlace:
        """The mean over calibration texts, or the one that is drawn for each row."""
        if name == "mean":
            chosen = self._calibration.mean(what, self.layer).expand(len(own), -1, -1)
        else:
            chosen = self._calibration.texts(what, self.layer)[self._others]
        if chosen.shape[1:] != (own.shape[1], own.shape[3]):
            raise InputError(
                f"layer {self.layer} keeps keys and values in another form than a trace: "
                "those of other texts cannot stand for them"
            )
        return chosen[:, :, None].to(own)

    @property
    def _calibration(self) -> Calibration:
        return cast(Calibration, self.route.calibration)

    @cached_property
    def _others(self) -> list[int]:
        seed = self.route.control.seed
        return [self._calibration.other(text, seed) for text in self.tokens.hashes()]

    @cached_property
    def _own(self) -> tuple[Prefix, Prefix]:
        """The source's own key, in the route's position coding, and its value."""
        if self.route.control.source == "mean":
            return self._placed(self.tokens.mean(self._unrotated_keys())), self.tokens.mean(
                self.values
            )
        if self.route.control.source == "probe":
            return self._probed()
        place = self.tokens.source(self.route.control.source)
        if self.route.position == "keep" or not self._rotates:
            return self.tokens.select(self.keys, place), self.tokens.select(self.values, place)
        recoded = self._call_at(place)
        cached = recoded.cached()
        if cached is not None and cached[0].shape[1] == self.keys.shape[1]:
            return cached
        # The bridge expands what a latent cache keeps before it comes here.
        attended = recoded.attended()
        if attended is None:
            raise InputError(f"layer {self.layer} of {self.lm.info.name} makes no keys of its own")
        return attended.key, attended.value

    def _probed(self) -> tuple[Prefix, Prefix]:
        """Keys and values of the tokens that a probe query ranks highest, KV head by KV head."""
        places = ranking(self.call, self.tokens.ranked, self.route.control.columns)
        if places is None:
            raise not_probed(self.layer, self.lm.info.name)
        keys = self.keys
        if self.route.position != "keep" and self._rotates:
            keys = self._recoded_keys()
        return self.tokens.select_by_head(keys, places), self.tokens.select_by_head(
            self.values, places
        )

    def _recoded_keys(self) -> CacheStates:
        """The keys of all tokens, in the route's position coding."""
        position = self.route.position
        tables = self.lm.origin_tables(self.layer) if position == "origin" else None
        cached = self.call.at(position, tables).cached()
        if cached is None or cached[0].shape != self.keys.shape:
            raise not_probed(self.layer, self.lm.info.name)
        return cached[0]

    @property
    def _rotates(self) -> bool:
        return self.lm.anatomy.layers[self.layer].rotation != "none"

    def _call_at(self, place: Tensor) -> AttentionCall:
        """The call of one token a row, in the route's position coding."""
        call = self.call.of_tokens(place.to(self.call.states.device))
        position = self.route.position
        # Only then: they may need a pass of their own.
        tables = self.lm.origin_tables(self.layer) if position == "origin" else None
        return call.at(position, tables)

    def _unrotated_keys(self) -> CacheStates:
        if not self._rotates:
            return self.keys
        cached = self.call.at("none", None).cached()
        if cached is None or cached[0].shape != self.keys.shape:
            raise InputError(f"layer {self.layer} keeps its keys in a form that has no mean")
        return cached[0]

    def _placed(self, keys: Prefix) -> Prefix:
        """Keys that are not rotated, in the route's position coding, at the final token's place."""
        if self.route.position == "none":
            return keys
        call = self._call_at(self.tokens.last)
        return turned(keys, call, self.lm.anatomy.layers[self.layer])
