"""Calibration: how many passages of Wikipedia a post-processing is fitted on."""

from __future__ import annotations

from kvlens.embedding.post import PER_DIMENSION
from kvlens.texts.texts import Texts
from kvlens.texts.wikipedia import calibration_texts, most_calibration_texts


def calibration_for(kind: str, dimension: int, least: int = 1000) -> Texts:
    """Passages for a post-processing; the first are the same for every kind.

    Args:
        kind: ``whiten`` wants four times as many passages as dimensions, as far as there are.
        dimension: of the vectors.
        least: how many the other kinds get.

    Returns:
        The passages.

    Raises:
        InputError: when they cannot be fetched.
    """
    wanted = PER_DIMENSION * dimension if kind == "whiten" else 0
    if wanted <= least:
        return calibration_texts(least)
    return calibration_texts(min(wanted, most_calibration_texts()))
