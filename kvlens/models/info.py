"""Info: what identifies a model, and its shapes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from kvlens.store.arguments import shown
from kvlens.store.artifact import Record
from kvlens.store.bounds import BlockCount, Size
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase


class ModelInfo(Record):
    """What identifies a model and its shapes.

    Attributes:
        name: as the user gave it.
        revision: a hub commit, or ``sha256:`` of the content.
        architecture: class of the transformers model.
        n_layers: decoder blocks.
        n_heads: query heads of the first layer that has keys.
        n_kv_heads: heads of its keys and values.
        d_head: width of a head of its keys.
        d_model: width of the residual stream.
        vocab_size: tokens that the model knows.
        max_positions: tokens of its context.
        dtype: of its weights, such as "float32"; of quantized ones "nf4-float32".
        device: where they live, such as "cpu".
        tokenizer: class of the tokenizer and a hash of its content.
        key_layers: blocks that make keys and values; None: all.
        reroutable: blocks that can be re-routed; None: all.
    """

    name: str
    revision: str
    architecture: str
    n_layers: BlockCount
    n_heads: Size
    n_kv_heads: Size
    d_head: Size
    d_model: Size
    vocab_size: Size
    max_positions: Size
    dtype: str
    device: str
    tokenizer: str
    key_layers: tuple[int, ...] | None = None
    reroutable: tuple[int, ...] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ModelInfo:
        self.check_layers(self.layers_with_keys())
        self.check_layers(self.layers_to_reroute())
        if not set(self.layers_to_reroute()) <= set(self.layers_with_keys()):
            raise ValueError("layers without keys cannot be re-routed")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Files of models all of whose blocks are alike look as they always did."""
        fields = write(self)
        return {name: value for name, value in fields.items() if value is not None}

    def layers_with_keys(self) -> tuple[int, ...]:
        """Blocks that make keys and values, ascending."""
        return tuple(range(self.n_layers)) if self.key_layers is None else self.key_layers

    def layers_to_reroute(self) -> tuple[int, ...]:
        """Blocks that can be re-routed, ascending."""
        return tuple(range(self.n_layers)) if self.reroutable is None else self.reroutable

    def same_weights(self, other: ModelInfo) -> bool:
        """Whether the two name one checkpoint and one tokenizer (device and dtype may differ)."""
        return (self.revision, self.tokenizer) == (other.revision, other.tokenizer)

    def check_layers(self, layers: Sequence[int]) -> None:
        """Raise InputError unless block indices ascend inside this model; none are allowed."""
        if any(after <= before for before, after in pairwise(layers)):
            raise InputError(f"layers have to ascend without repetition, not {shown(list(layers))}")
        last = self.n_layers - 1
        outside = [layer for layer in layers if not 0 <= layer <= last]
        if outside:
            raise InputError(
                f"layer {outside[0]} is outside the model, whose layers are 0 to {last}"
            )

    def check_reroutable(self, layers: Sequence[int]) -> None:
        """Raise InputError unless blocks of this model can be re-routed; none are allowed."""
        able = self.layers_to_reroute()
        unable = [layer for layer in layers if layer not in able]
        if not unable:
            return
        layer = unable[0]
        why = "it has no keys and values of its own"
        if layer in self.layers_with_keys():
            why = "others read its keys and values, or its KV cache is of its own kind"
        raise InputError(
            f"layer {layer} of {self.name} cannot be re-routed: {why}; "
            f"those that can: {phrase(able)}"
        )
