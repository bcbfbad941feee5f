"""File run: embed a file of texts into a file of vectors.

Finished chunks are kept beside the target until it is written whole, so a stopped run resumes.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict, Unpack, get_args

import numpy as np
from jaxtyping import Float

from kvlens.embedding.chunks import Chunk, longest_first, stored_chunks
from kvlens.embedding.encoder import Encoder, an_encoder
from kvlens.embedding.target import check_header, check_target, finished, tidy
from kvlens.embedding.vectors import Kind, Vectors, VectorsInfo, write_vectors
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
from kvlens.store.chunk_index import Arrays, ChunkIndex, Form
from kvlens.store.errors import InputError
from kvlens.store.notices import notice
from kvlens.store.part import discard, open_part, part_folder
from kvlens.store.progress import Progress, silent
from kvlens.store.provenance import versions
from kvlens.texts.readers import read_texts
from kvlens.texts.texts import Texts

CHUNK = 256
FORMS = {"vectors": Form("float32", 2), "truncated": Form("int64", 1)}


class RunOptions(TypedDict, total=False):
    """The keywords by which `embed_file` takes a `FileRun`."""

    normalize: bool
    truncate_dim: int | None
    skip_bad: bool
    resume: bool
    overwrite: bool
    chunk: int


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
    """

    kind: Kind = "document"
    normalize: bool = False
    truncate_dim: int | None = None
    skip_bad: bool = False
    resume: bool = False
    overwrite: bool = False
    chunk: int = CHUNK

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or self.chunk < 1:
            raise InputError(
                "kind is query or document and chunk at least 1, "
                f"not {self.kind!r} and {self.chunk}"
            )


@dataclass(frozen=True)
class EmbedResult:
    """What `embed_file` did: counts as in `VectorsInfo`, and how long it took.

    Attributes:
        rows: how many vectors were written.
        truncated: how many distinct texts were cut.
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
    texts = read_texts(source, column, skip_bad=run.skip_bad, ids=id_column or True, empty=True)
    check_header(target, texts)
    info = _info(encoder, texts, run)
    repeated_ids = _say_repeated(texts)
    written = finished(target, info, run.overwrite) if run.resume else None
    complete = written is not None
    if written is None:
        written = _write(encoder, texts, info, run, target, progress or silent)
    tidy(target)
    return EmbedResult(
        rows=written.rows,
        truncated=written.truncated,
        skipped=written.skipped,
        dimension=written.dimension,
        seconds=time.monotonic() - start,
        repeated_ids=repeated_ids,
        complete=complete,
    )


def _say_repeated(texts: Texts) -> int:
    """How many rows have the id of an earlier one, which is said."""
    counts = Counter(texts.ids or range(texts.n))
    repeated = texts.n - len(counts)
    if repeated:
        example, n = counts.most_common(1)[0]
        notice(
            f"{texts.source}: {repeated} of {texts.n} rows have the id of an earlier row "
            f"({n} are {shown(example)}): give `id_column` another column where ids must be unique"
        )
    return repeated


def _info(encoder: Encoder, texts: Texts, run: FileRun) -> VectorsInfo:
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
        batch_tokens=encoder.batch_tokens,
        texts=texts.info(),
        versions=versions(),
        rows=texts.n,
        skipped=texts.skipped,
    )


def _write(
    encoder: Encoder,
    texts: Texts,
    info: VectorsInfo,
    run: FileRun,
    target: Path,
    progress: Progress,
) -> VectorsInfo:
    """Embed and write; the facts of what was written."""
    part = part_folder(target)
    if not run.resume:
        discard(part)
    with open_part(part, info.facts, FORMS) as index:
        array, truncated = _embed(encoder, texts.items, run, index, progress)
        info = info.model_copy(update={"dimension": array.shape[1], "truncated": truncated})
        write_vectors(Vectors(array, texts.ids or (), info), target)
    return info


def _embed(
    encoder: Encoder, texts: Sequence[str], run: FileRun, index: ChunkIndex, progress: Progress
) -> tuple[Float[np.ndarray, "n d"], int]:
    """Vectors in the order of `texts`, and how many distinct texts were cut."""
    distinct = longest_first(texts)
    compute = partial(_compute, encoder, run)
    stored = stored_chunks(distinct, run.chunk, index, compute, progress)
    parts = [arrays for _, arrays in stored]
    vectors = np.concatenate([arrays["vectors"] for arrays in parts])
    row_of = {text: row for row, text in enumerate(distinct)}
    truncated = sum(int(arrays["truncated"][0]) for arrays in parts)
    return vectors[[row_of[text] for text in texts]], truncated


def _compute(encoder: Encoder, run: FileRun, chunk: Chunk, progress: Progress) -> Arrays:
    vectors = encoder.encode(
        chunk.texts,
        prompt_name=run.kind,
        progress=progress,
        normalize_embeddings=run.normalize,
        truncate_dim=run.truncate_dim,
    )
    truncated = np.array([encoder.truncated])
    return {"vectors": np.ascontiguousarray(vectors), "truncated": truncated}
