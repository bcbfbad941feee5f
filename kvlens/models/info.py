"""Info: what identifies a model, and its shapes."""

from __future__ import annotations

from kvlens.store.artifact import Record


class ModelInfo(Record):
    """What identifies a model and its shapes.

    Attributes:
        name: as the user gave it.
        revision: a hub commit, or ``sha256:`` of the content.
        architecture: class of the transformers model.
        n_layers: decoder blocks.
        n_heads: query heads of a layer.
        n_kv_heads: heads of a layer's keys and values.
        d_head: width of a head.
        d_model: width of the residual stream.
        vocab_size: tokens that the model knows.
        max_positions: tokens of its context.
        dtype: of its weights, such as "float32".
        device: where they live, such as "cpu".
        tokenizer: class of the tokenizer and a hash of its content.
    """

    name: str
    revision: str
    architecture: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_model: int
    vocab_size: int
    max_positions: int
    dtype: str
    device: str
    tokenizer: str

    def same_weights(self, other: ModelInfo) -> bool:
        """Whether the two name one checkpoint and one tokenizer (device and dtype may differ)."""
        return (self.revision, self.tokenizer) == (other.revision, other.tokenizer)
