"""Token hash: by what a tokenized text is known again, in whatever batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

DIGITS = 16


def token_hash(ids: Sequence[int]) -> str:
    """A hash of a text's ids, its prompt included and padding left out.

    Args:
        ids: of its tokens.

    Returns:
        16 hexadecimal digits.
    """
    content = np.asarray(ids, dtype="<i8").tobytes()
    return hashlib.sha256(content).hexdigest()[:DIGITS]
