"""What identifies a model, and its shapes."""

from __future__ import annotations

from kvlens.store.artifact import Record


class ModelInfo(Record):
    """What identifies a model and its shapes. `revision` is a hub commit, or ``sha256:`` of the content."""

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
