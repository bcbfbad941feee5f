"""Ray recording: `record_shards` on many actors, by Ray Data.

Each actor writes the shards that it records itself; what goes through Ray is which are done.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from kvlens.embedding.parts import ROW
from kvlens.engines.part_files import written_in
from kvlens.engines.pool import Pool
from kvlens.engines.ray_pipeline import DONE, Pipeline, in_an_actor
from kvlens.engines.ray_session import import_ray, ray_session, unheard
from kvlens.engines.recipe import RecorderRecipe
from kvlens.engines.recording_worker import KNOWS_ZERO, RecordingWorker, index_here
from kvlens.engines.staging import stage_in_order
from kvlens.store.checking import a, arguments, flag, optional, path, whole
from kvlens.store.chunk_index import FinishedChunk, chunk_file
from kvlens.store.errors import InputError
from kvlens.store.files import scratch_folder, sha256_file
from kvlens.store.part import batch_begun_with, check_part, discard, is_part_of, open_part
from kvlens.texts.texts import Texts
from kvlens.tracing.shard_recording import SHARD, put_shards_in_place
from kvlens.tracing.shards import TraceIndex
from kvlens.tracing.trace import Trace

SHARDS = ".shards"  # in the folder of a run
TRACE = ".trace"  # there, too, when all are done


@dataclass(frozen=True)
class RayRecording:
    """A recording on Ray.

    Attributes:
        recipe: of the recorder.
        texts: which are recorded.
        pool: the actors.
        part: the folder that keeps what is finished.
        shard: how many texts a file holds; as many are finished at a time.
    """

    recipe: RecorderRecipe
    texts: Texts
    pool: Pool
    part: Path
    shard: int = SHARD

    def run(self, ray: ModuleType, target: Path, overwrite: bool) -> None:
        """Record what is missing and put the trace in place."""
        pool = self.pool.on(ray.cluster_resources())
        index = in_an_actor(ray, pool, index_here, self.recipe, self.texts, self.shard)
        facts = {**index.facts, "engine": "ray"}
        if overwrite and self.part.exists() and not is_part_of(self.part, facts):
            discard(self.part)
        with open_part(self.part, facts, {}):
            shards = self.part.resolve() / SHARDS
            shards.mkdir(exist_ok=True)
            if written_in(self.part, self.texts.n).n_missing:
                self._record(ray, pool, index, shards)
            put_shards_in_place(self._known(index, shards), shards, target)

    def _record(self, ray: ModuleType, pool: Pool, index: TraceIndex, shards: Path) -> None:
        one = Texts(self.texts.items[:1], self.texts.source)  # the texts come with the chunks
        with scratch_folder(self.part.resolve()) as scratch:
            chunks = stage_in_order(self.texts, scratch / "texts", self.shard)
            Pipeline(
                worker=RecordingWorker,
                arguments={
                    "recipe": self.recipe,
                    "texts": one,
                    "shard": self.shard,
                    "folder": shards,
                    "index": index,
                },
                chunks=chunks,
                key=ROW,
                folder=self.part.resolve(),
                done=self.part.resolve() / DONE,
                part_rows=self.shard,
            ).run(ray, pool)

    def _known(self, index: TraceIndex, shards: Path) -> TraceIndex:
        """The index with what is known at the end; raises InputError for texts that are missing."""
        n = self.texts.n
        written = written_in(self.part, n)
        if written.n_missing:
            raise InputError(f"{written.n_missing} of {n} texts are in no shard of {self.part}")
        finished = tuple(
            FinishedChunk(
                file=chunk_file(first),
                sha256=sha256_file(shards / chunk_file(first)),
                rows=min(self.shard, n - first),
            )
            for first in range(0, n, self.shard)
        )
        known = {
            "n_truncated": written.truncated,
            "position_zero": all(_knows_zero(self.part / part.file) for part in written.parts),
            "shards": finished,
        }
        return index.model_copy(update=known)


def _knows_zero(part: Path) -> bool:
    import pyarrow.parquet as pq

    with pq.ParquetFile(part) as file:
        return all(file.read(columns=[KNOWS_ZERO])[KNOWS_ZERO].to_pylist())


@arguments(
    recipe=a(RecorderRecipe, "a RecorderRecipe"),
    texts=a(Texts, "Texts"),
    part=path,
    pool=optional(a(Pool, "a Pool")),
    shard=whole(least=1),
    overwrite=flag,
)
def record_with_ray(
    recipe: RecorderRecipe,
    texts: Texts,
    part: Path,
    pool: Pool | None = None,
    shard: int = SHARD,
    overwrite: bool = False,
) -> Trace:
    """Record states of texts on a Ray cluster, or on a Ray of this machine.

    Args:
        recipe: what makes the recorder, in every actor.
        texts: without their prompt.
        part: a folder that every machine sees. It keeps the finished shards of a run that is
            stopped, which goes on with them; it is left when all is done, for the caller to remove.
        pool: how many actors, and what each gets.
        shard: how many texts a file holds.
        overwrite: start again where the folder is of a run with other options.

    Returns:
        The trace, whose tensors stay in the files below `part`.

    Raises:
        InputError: as `record_shards`, where Ray is not installed, and for what it gives up on.
    """
    import_ray()
    check_part(part, wanted=True)
    if recipe.limits.get("batch_tokens") is None:
        recipe = recipe.of_batches(batch_begun_with(part))
    work = RayRecording(recipe, texts, pool or Pool(), part, shard)
    target = part / TRACE
    with ray_session(work.pool) as ray, unheard():
        shutil.rmtree(target, ignore_errors=True)
        work.run(ray, target, overwrite)
    return Trace.load(target)
