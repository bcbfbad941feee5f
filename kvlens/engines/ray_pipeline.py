"""Ray pipeline: staged chunks -> actors -> Parquet parts, with a checkpoint of the rows.

Which rows are done, what is tried again when an actor or a machine dies, and how much is on its way
at a time are Ray's. A chunk is read, computed and written as a whole.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from kvlens.engines.pool import Pool
from kvlens.engines.staging import StagedChunk
from kvlens.store.errors import LONGEST_REASON, InputError, shortened

DONE = ".done"  # the checkpoint, in the folder of a run
REFUSAL = re.compile(rf"{InputError.__module__}\.InputError: (.+)")
ACTORS_A_HELPER = 16  # one process that reads chunks keeps so many actors busy


@dataclass(frozen=True)
class Pipeline:
    """What runs.

    Attributes:
        worker: a class; each actor makes one.
        arguments: by which it is made; plain values.
        chunks: what there is to do.
        key: the column by which rows are known as done: unique.
        folder: where parts go; every machine sees it.
        done: the folder of the checkpoint.
        part_rows: least rows of a part, but for the last.
    """

    worker: type
    arguments: Mapping[str, Any]
    chunks: Sequence[StagedChunk]
    key: str
    folder: Path
    done: Path
    part_rows: int

    def run(self, ray: ModuleType, pool: Pool) -> None:
        """Compute the rows that no part has yet.

        Args:
            ray: connected.
            pool: without None.

        Raises:
            InputError: as the worker, and for what Ray gives up on.
        """
        helpers = 1 + (pool.actors or 1) // ACTORS_A_HELPER
        with _context(ray, self.key, self.done), input_errors(ray):
            rows = ray.data.read_datasource(
                _source(self.chunks),
                num_cpus=1,
                concurrency=helpers,
                override_num_blocks=len(self.chunks),  # else each is cut into several
            )
            # The public one wants a number of rows where there is a GPU; a chunk is a whole block.
            each = rows.map_batches_internal if pool.gpus else rows.map_batches
            made = each(
                self.worker,
                fn_constructor_kwargs=dict(self.arguments),
                batch_size=None,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=pool.actors),
                num_cpus=pool.cpus,
                num_gpus=pool.gpus,
            )
            made.write_parquet(
                str(self.folder),
                min_rows_per_file=self.part_rows,
                concurrency=helpers,
                ray_remote_args={"num_cpus": 1},
            )


def _source(chunks: Sequence[StagedChunk]) -> Any:
    """The chunks as a source of Ray: one task each, so that no two are put together."""
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class StagedTexts(Datasource):
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(
            self, parallelism: int, per_task_row_limit: Any = None, data_context: Any = None
        ) -> list[ReadTask]:
            return [ReadTask(partial(_read, chunk), metadata(chunk)) for chunk in chunks]

    def metadata(chunk: StagedChunk) -> BlockMetadata:
        return BlockMetadata(
            num_rows=chunk.rows, size_bytes=None, exec_stats=None, input_files=None
        )

    return StagedTexts()


def _read(chunk: StagedChunk) -> Iterable[Any]:
    return [chunk.read()]


@contextlib.contextmanager
def _context(ray: ModuleType, key: str, done: Path) -> Iterator[None]:
    """Ray Data's settings within, those of the session outside."""
    from ray.data.checkpoint import CheckpointConfig

    context = ray.data.DataContext.get_current()
    names = ("checkpoint_config", "enable_progress_bars")
    before = {name: getattr(context, name) for name in names}
    # Kept to the end of the run: a driver may die when all is written and not yet put in place.
    context.checkpoint_config = CheckpointConfig(
        id_column=key, checkpoint_path=str(done), delete_checkpoint_on_success=False
    )
    context.enable_progress_bars = False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)


@contextlib.contextmanager
def input_errors(ray: ModuleType) -> Iterator[None]:
    """Within it, what an actor refuses is raised as it was there; other failures are one line."""
    try:
        yield
    except ray.exceptions.RayError as error:
        # An actor's exception comes back as text, inside those of Ray.
        refusals = REFUSAL.findall(str(error))
        if refusals:
            raise InputError(refusals[-1]) from None
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = shortened(lines[-1] if lines else type(error).__name__, LONGEST_REASON)
        raise InputError(f"Ray gave up: {reason}") from error


def in_an_actor(ray: ModuleType, pool: Pool, function: Callable[..., Any], *given: Any) -> Any:
    """What a function returns in a process with the resources of an actor."""
    remote = ray.remote(function).options(num_cpus=pool.cpus, num_gpus=pool.gpus)
    with input_errors(ray):
        return ray.get(remote.remote(*given))
