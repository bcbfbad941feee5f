"""Ray embedding: `embed_file` on many actors, by Ray Data.

1. The texts are staged in the chunks of the local engine, beside the target.
2. Actors load the model, each for itself, and embed chunk by chunk into Parquet parts.
3. The parts are looked through and put in place: nothing lost, nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from kvlens.embedding.file_options import FileRun
from kvlens.embedding.file_run import EmbedResult, read_twice, say_repeated
from kvlens.embedding.parts import ID, ROW
from kvlens.embedding.target import batches_begun_with
from kvlens.embedding.vectors import VectorsInfo, load_info
from kvlens.embedding.whole_vectors import check_whole
from kvlens.engines.embedding_worker import EmbeddingWorker, described
from kvlens.engines.part_files import (
    Written,
    check_parts_target,
    put_in_place,
    refuse_existing,
    tidy,
    written_in,
)
from kvlens.engines.pool import Pool
from kvlens.engines.ray_pipeline import DONE, Pipeline, in_an_actor
from kvlens.engines.ray_session import import_ray, ray_session, unheard
from kvlens.engines.recipe import EncoderRecipe
from kvlens.engines.staging import StagedChunk, stage
from kvlens.store.checking import a, arguments, optional, path_text, text, whole
from kvlens.store.errors import InputError
from kvlens.store.files import scratch_folder
from kvlens.store.part import discard, open_part, part_folder
from kvlens.texts.scan import Scan, scan
from kvlens.texts.text_file import TextFile

PART_ROWS = 10_000


@dataclass(frozen=True)
class RayEmbedding:
    """An embedding on Ray.

    Attributes:
        recipe: of the encoder.
        run: as for `embed_file`.
        pool: the actors.
        part_rows: least rows of a part; as many are finished at a time.
        has_ids: whether a column of ids was named.
    """

    recipe: EncoderRecipe
    run: FileRun
    pool: Pool
    part_rows: int = PART_ROWS
    has_ids: bool = False

    def facts(self, info: VectorsInfo) -> dict[str, Any]:
        """What a stopped run goes on with."""
        return {**info.facts, "engine": "ray"}

    def key(self, texts: Scan) -> str:
        """The column by which rows are known as done: the ids where each is another."""
        return ID if self.has_ids and not texts.repeated.rows else ROW


@arguments(
    recipe=a(EncoderRecipe, "an EncoderRecipe"),
    source=path_text,
    target=path_text,
    column=optional(text),
    id_column=optional(text),
    run=optional(a(FileRun, "a FileRun")),
    pool=optional(a(Pool, "a Pool")),
    part_rows=whole(least=1),
)
def embed_with_ray(
    recipe: EncoderRecipe,
    source: str | Path,
    target: str | Path,
    column: str | None = None,
    id_column: str | None = None,
    run: FileRun | None = None,
    pool: Pool | None = None,
    part_rows: int = PART_ROWS,
) -> EmbedResult:
    """Embed the texts of a file on a Ray cluster, or on a Ray of this machine.

    Args:
        recipe: what makes the encoder, in every actor.
        source: see `read_texts`; ``-`` is standard input. This process alone reads it.
        target: a folder of Parquet parts, its name ending in ``.parquet``, where every machine
            sees it; `load_vectors` reads it.
        column: the field or column with the texts.
        id_column: that with the ids, see `embed_file`.
        run: as for `embed_file`. With the same chunks on the same kind of machine, vectors are
            equal to the last bit.
        pool: how many actors, and what each gets.
        part_rows: least rows of a part; as many are finished at a time.

    Returns:
        What was done.

    Raises:
        InputError: as `embed_file`, where Ray is not installed, and for what it gives up on.
    """
    start = time.monotonic()
    import_ray()
    run = run or FileRun()
    target = check_parts_target(target, run.resume, run.overwrite)
    if run.resume and recipe.limits.get("batch_tokens") is None:
        recipe = recipe.of_batches(batches_begun_with(target))
    work = RayEmbedding(recipe, run, pool or Pool(), part_rows, has_ids=id_column is not None)
    file = TextFile.at(source, column, id_column or True, run.skip_bad, empty=True)
    with read_twice(file, target) as texts, scratch_folder(target.resolve()) as scratch:
        first = scan(texts)
        say_repeated(first)
        chunks = stage(texts, first.info.sha256, scratch / "texts", run)
        info, complete = _finished(work, chunks, first, target)
    tidy(target)
    return EmbedResult.of(info, first, start, complete)


def _finished(
    work: RayEmbedding, chunks: Sequence[StagedChunk], texts: Scan, target: Path
) -> tuple[VectorsInfo, bool]:
    """The facts of the target when it is there, and whether it was there already."""
    with ray_session(work.pool) as ray, unheard():
        pool = work.pool.on(ray.cluster_resources())
        info = in_an_actor(ray, pool, described, work.recipe, texts, work.run)
        if work.run.resume:
            there = _there_already(target, info, work.run.overwrite)
            if there is not None:
                return there, True
        part = part_folder(target)
        if not work.run.resume:
            discard(part)
        with open_part(part, work.facts(info), {}):
            written = _written(work, ray, pool, chunks, texts, info, part)
            return put_in_place(written, info, part, target), False


def _there_already(target: Path, info: VectorsInfo, overwrite: bool) -> VectorsInfo | None:
    """What a resumed run finds done, when it was stopped at its very end."""
    there = load_info(target)
    if there is not None and there.facts == info.facts:
        try:
            return check_whole(target)
        except InputError:
            if not overwrite:
                raise
    if target.exists() and not overwrite:
        refuse_existing(target)
    return None


def _written(
    work: RayEmbedding,
    ray: ModuleType,
    pool: Pool,
    chunks: Sequence[StagedChunk],
    texts: Scan,
    info: VectorsInfo,
    part: Path,
) -> Written:
    """All rows, those that were missing computed now."""
    written = written_in(part, info.rows)
    if not written.n_missing:
        return written
    arguments = {"recipe": work.recipe, "texts": texts, "run": work.run, "info": info}
    pipeline = Pipeline(
        worker=EmbeddingWorker,
        arguments=arguments,
        chunks=chunks,
        key=work.key(texts),
        folder=part.resolve(),
        done=part.resolve() / DONE,
        part_rows=work.part_rows,
    )
    pipeline.run(ray, pool)
    return written_in(part, info.rows)
