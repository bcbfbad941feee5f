"""Static prefix: re-routing with the mean final key and value of calibration texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvlens.methods.kv_embedding import KVEmbedding
from kvlens.rerouting.calibration import PREFIX_FILE


@dataclass(frozen=True)
class StaticPrefixMethod(KVEmbedding):
    """`kv_embedding` whose prefix is the same for every text, so that no text is read for its own.

    calibration: a `StaticPrefix` or a trace; by default the ``prefix.safetensors`` that
    `kvlens profile` writes beside a layer set. The other settings: those of `kv_embedding`.
    """

    name = "static_prefix"
    paper = "kvlens: a control of arXiv:2601.01046"
    needs_calibration = True
    key: str | Mapping[int, str | Sequence[str]] = "mean"
    value: str | Mapping[int, str | Sequence[str]] = "mean"

    @classmethod
    def settings_beside(cls, folder: Path) -> dict[str, Any]:
        """The static prefix in a folder, where there is one."""
        file = folder / PREFIX_FILE
        return {"calibration": file} if file.is_file() else {}
