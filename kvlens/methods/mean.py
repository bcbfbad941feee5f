"""Mean: the mean of the raw text's final hidden states."""

from dataclasses import dataclass

from kvlens.methods.base import Method


@dataclass(frozen=True)
class Mean(Method):
    """The plainest baseline: no prompt, the mean over all real tokens."""

    name = "mean"
    paper = "common baseline; see arXiv:2601.01046, section 4.1"
    pooling: str = "mean"
