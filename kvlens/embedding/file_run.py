"""File run: embed a file of texts into a file of vectors, neither of which is held in memory.

The texts are read twice: once to check and to count them, then window by window. Finished chunks
are kept beside the target until it is written whole, so a stopped run resumes.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack, get_args

from kvlens.embedding.encoder import Encoder, an_encoder
from kvlens.embedding.file_options import FileRun, RunOptions
from kvlens.embedding.target import (
    batches_begun_with,
    check_header,
    check_target,
    finished,
    tidy,
)
from kvlens.embedding.vectors import Kind, VectorsInfo
from kvlens.embedding.windows import FORMS, embed_window, windows
from kvlens.embedding.writing import writing
from kvlens.store.arguments import shown
from kvlens.store.checking import (
    arguments,
    choice,
    flag,
    function,
    optional,
    path_text,
    text,
    whole,
)
from kvlens.store.errors import InputError
from kvlens.store.files import TextsHash, scratch_folder
from kvlens.store.notices import notice
from kvlens.store.part import discard, open_part, part_folder
from kvlens.store.progress import Progress, silent
from kvlens.store.provenance import versions
from kvlens.store.room import Room
from kvlens.texts.scan import Scan, scan, usable
from kvlens.texts.spool import Spool
from kvlens.texts.text_file import Entries, Entry, TextFile


@dataclass(frozen=True)
class EmbedResult:
    """What `embed_file` did: counts as in `VectorsInfo`, and how long it took.

    Attributes:
        rows: how many vectors were written.
        truncated: how many distinct texts of a window were cut.
        skipped: how many bad rows were left out.
        dimension: how many numbers a vector has.
        seconds: of wall time.
        repeated_ids: how many rows have the id of an earlier row.
        complete: whether a resumed run found all done already.
    """

    rows: int
    truncated: int
    skipped: int
    dimension: int
    seconds: float
    repeated_ids: int = 0
    complete: bool = False

    @classmethod
    def of(cls, written: VectorsInfo, texts: Scan, start: float, complete: bool) -> EmbedResult:
        """What was done by now.

        Args:
            written: the facts of the target.
            texts: what a first reading found out.
            start: by the monotonic clock.
            complete: whether all was done already.
        """
        return cls(
            rows=written.rows,
            truncated=written.truncated,
            skipped=written.skipped,
            dimension=written.dimension,
            seconds=time.monotonic() - start,
            repeated_ids=texts.repeated.rows,
            complete=complete,
        )


@arguments(
    encoder=an_encoder,
    source=path_text,
    target=path_text,
    column=optional(text),
    id_column=optional(text),
    kind=choice(*get_args(Kind)),
    progress=optional(function),
    normalize=flag,
    truncate_dim=optional(whole(least=1)),
    skip_bad=flag,
    resume=flag,
    overwrite=flag,
    chunk=whole(least=1),
    window=whole(least=1),
)
def embed_file(
    encoder: Encoder,
    source: str | Path,
    target: str | Path,
    column: str | None = None,
    id_column: str | None = None,
    kind: Kind = "document",
    progress: Progress | None = None,
    **options: Unpack[RunOptions],
) -> EmbedResult:
    """Embed the texts of a file.

    Args:
        encoder: what makes the vectors.
        source: see `read_texts`; ``-`` is standard input.
        target: ``.npy`` (float32 ``[n, d]``, with ids and provenance in ``TARGET.json``),
            ``.safetensors`` (the tensor ``vectors``, the rest in its header) or ``.parquet``
            (columns ``id`` and ``vector``); `load_vectors` reads all.
        column: the field or column with the texts.
        id_column: that with the ids; default ``id`` or ``_id`` if there is one, else the row's
            0-based number.
        kind: which prompt, ``query`` or ``document``.
        progress: called with (done, total) distinct texts.
        **options: see `FileRun`.

    Returns:
        What was done.

    Raises:
        InputError: for texts or files that cannot be used, and to resume what another
            configuration began.
    """
    start = time.monotonic()
    run = FileRun(kind=kind, **options)
    target = check_target(target, source, run.resume, run.overwrite)
    file = TextFile.at(source, column, id_column or True, run.skip_bad, empty=True)
    if run.resume and encoder.chose_batches:
        encoder = encoder.of_batches(batches_begun_with(target) or encoder.batch_tokens)
    with read_twice(file, target) as texts:
        first = scan(texts)
        check_header(target, first)
        info = info_of(encoder, first, run)
        say_repeated(first)
        written = finished(target, info, run.overwrite) if run.resume else None
        complete = written is not None
        if written is None:
            written = _write(encoder, texts, info, run, target, progress or silent)
    tidy(target)
    return EmbedResult.of(written, first, start, complete)


@contextlib.contextmanager
def read_twice(file: TextFile, target: Path) -> Iterator[Entries]:
    """The texts as they can be read twice: what comes only once is kept beside the target."""
    if not file.comes_once:
        yield file
        return
    with scratch_folder(target.resolve()) as folder:
        yield Spool.of(file, folder / "texts")


def say_repeated(texts: Scan) -> None:
    """Say where rows have the id of an earlier one."""
    repeated = texts.repeated
    if repeated.rows:
        notice(
            f"{texts.info.source}: {repeated.rows} of {texts.info.n} rows have the id of an "
            f"earlier row ({repeated.n} are {shown(repeated.example)}): give `id_column` another "
            "column where ids must be unique"
        )


def info_of(encoder: Encoder, texts: Scan, run: FileRun) -> VectorsInfo:
    """All but what is known at the end; a stopped run resumes where all of it is the same."""
    return VectorsInfo(
        model=encoder.lm.info,
        method=encoder.method.name,
        settings=json.loads(json.dumps(encoder.method.settings())),
        max_length=encoder.max_length,
        encoder=encoder.signature,
        post=encoder.post.facts() if encoder.post else None,
        kind=run.kind,
        normalize=run.normalize,
        truncate_dim=run.truncate_dim,
        chunk=run.chunk,
        window=run.window if texts.info.n > run.window else None,
        batch_tokens=encoder.batch_tokens,
        texts=texts.info,
        versions=versions(),
        rows=texts.info.n,
        skipped=texts.skipped,
    )


def _write(
    encoder: Encoder,
    texts: Entries,
    info: VectorsInfo,
    run: FileRun,
    target: Path,
    progress: Progress,
) -> VectorsInfo:
    """Embed and write, window by window; the facts of what was written."""
    part = part_folder(target)
    if not run.resume:
        discard(part)
    texts_hash = TextsHash()
    distinct = truncated = dimension = 0
    room = Room(encoder.batch_tokens)  # a run begins anew, however short memory was before it
    encoder = encoder.with_room(room)
    with open_part(part, info.facts, FORMS, room) as index, writing(target, info.rows) as writer:
        for window in windows(usable(texts), run.window):
            items = _fed(texts_hash, window)
            left = info.rows - texts_hash.n
            tell = _until(progress, distinct + len(set(items)) + left)
            made = embed_window(encoder, items, run, index, tell, distinct)
            writer.append([entry.id for entry in window], made.vectors)
            distinct += made.distinct
            truncated += made.truncated
            dimension = made.vectors.shape[1]
        if texts_hash.hexdigest() != info.texts.sha256:
            raise InputError(f"{texts.name} changed while it was read: embed it again")
        known = {"dimension": dimension, "truncated": truncated}
        return writer.finish(info.model_copy(update=known))


def _fed(texts_hash: TextsHash, window: list[Entry]) -> list[str]:
    """The texts of a window, which are hashed."""
    for entry in window:
        texts_hash.add(entry.text)
    return [entry.text for entry in window]


def _until(progress: Progress, total: int) -> Progress:
    """A `Progress` of the whole run, whatever total it is told."""
    return lambda done, _: progress(done, total)
