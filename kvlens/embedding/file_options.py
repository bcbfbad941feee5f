"""File options: how a file of texts is embedded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict, get_args

from kvlens.embedding.vectors import Kind
from kvlens.store.errors import InputError

CHUNK = 256
WINDOW = 50_000


class RunOptions(TypedDict, total=False):
    """The keywords by which `embed_file` takes a `FileRun`."""

    normalize: bool
    truncate_dim: int | None
    skip_bad: bool
    resume: bool
    overwrite: bool
    chunk: int
    window: int


@dataclass(frozen=True)
class FileRun:
    """How a file is embedded.

    Attributes:
        kind: which prompt.
        normalize: as in `Encoder.encode`.
        truncate_dim: as in `Encoder.encode`.
        skip_bad: leave out rows without a text; an empty text is one.
        resume: continue after the finished chunks of a stopped run, with the same bytes as an
            uninterrupted one.
        overwrite: replace an existing target, or start a stopped run again.
        chunk: how many texts are finished at a time.
        window: how many rows are held at a time: among them, equal texts are embedded once, the
            longest first.
    """

    kind: Kind = "document"
    normalize: bool = False
    truncate_dim: int | None = None
    skip_bad: bool = False
    resume: bool = False
    overwrite: bool = False
    chunk: int = CHUNK
    window: int = WINDOW

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or self.chunk < 1:
            raise InputError(
                "kind is query or document and chunk at least 1, "
                f"not {self.kind!r} and {self.chunk}"
            )
