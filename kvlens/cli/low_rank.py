"""`kvlens lens --low-rank`: how far W_K and W_V can be cut, in files and as a table."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from kvlens.cli.progress import progress

if TYPE_CHECKING:
    from kvlens.cli.options import LengthOptions
    from kvlens.models.language_model import LanguageModel
    from kvlens.texts.texts import Texts

LOW_RANK_FILES = ("low_rank.json", "low_rank.png", "low_rank.pdf")


def write_low_rank(
    lm: LanguageModel, texts: Texts, threshold: float, limits: LengthOptions, folder: Path
) -> str:
    """Write the low-rank lens and its picture.

    Returns:
        What was found, for people.
    """
    from kvlens.analysis.low_rank_cuts import low_rank
    from kvlens.plots.saving import save_low_rank_plot

    with progress("cutting weights", "passes") as bar:
        found = low_rank(lm, texts, threshold=threshold, progress=bar, **asdict(limits))
    found.save(folder / "low_rank.json")
    save_low_rank_plot(found, folder)
    return str(found)
