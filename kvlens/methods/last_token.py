"""Last token: the raw text's final hidden state."""

from dataclasses import dataclass

from kvlens.methods.base import Method


@dataclass(frozen=True)
class LastToken(Method):
    """The plainest baseline: no prompt, the final real token."""

    name = "last_token"
    paper = "common baseline; see arXiv:2601.01046, section 4.1"
