"""Datatrove steps: documents become vectors in a pipeline of datatrove, on one machine or SLURM.

Every task of the executor writes parts of its own, a window of documents each; what it has finished
is not done again. `SealVectors`, run when all tasks are done, makes the folder ordinary vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kvlens.embedding.file_options import FileRun
from kvlens.embedding.windows import windows
from kvlens.engines.recipe import EncoderRecipe
from kvlens.engines.task_parts import TaskParts, seal_parts
from kvlens.store.errors import InputError

try:
    from datatrove.pipeline.base import PipelineStep
except ImportError:  # said when a step is made
    PipelineStep = object


def _check_installed() -> None:
    if PipelineStep is object:
        raise InputError("this needs datatrove: pip install 'kvlens[slurm]'")


class EmbedDocuments(PipelineStep):
    """A step that embeds the documents that pass, and hands them on as they are."""

    name = "kvlens: vectors"
    type = "Embedding"

    def __init__(self, recipe: EncoderRecipe, target: str | Path, run: FileRun | None = None):
        """A step; no model is loaded before it runs.

        Args:
            recipe: what makes the encoder, in every task.
            target: a folder of Parquet parts, where every machine sees it.
            run: which prompt, and how many documents are held and embedded at a time.
        """
        _check_installed()
        super().__init__()
        self.recipe = recipe
        self.target = Path(target).absolute()
        self.options = run or FileRun()

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Embed a task's documents.

        Args:
            data: documents of datatrove; their texts are embedded, their ids kept.
            rank: which task.
            world_size: how many tasks there are.

        Yields:
            The documents.

        Raises:
            InputError: as `Encoder.encode`.
        """
        parts = TaskParts(self.recipe, self.options, self.target, rank)
        n = 0
        for number, window in enumerate(windows(data or (), self.options.window)):
            with self.track_time("window"):
                is_new = parts.write(number, [(document.id, document.text) for document in window])
            self.stat_update("embedded" if is_new else "embedded before", value=len(window))
            n += 1
            yield from window
        parts.finish(n, world_size)


class SealVectors(PipelineStep):
    """The step after: all tasks' parts become vectors that `kvlens.load_vectors` reads."""

    name = "kvlens: seal"
    type = "Embedding"

    def __init__(self, target: str | Path):
        """A step for one task.

        Args:
            target: of `EmbedDocuments`.
        """
        _check_installed()
        super().__init__()
        self.target = Path(target).absolute()

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Sequence[Any]:
        """Seal the folder; raises InputError where a task is not done."""
        if rank == 0:
            info = seal_parts(self.target)
            self.stat_update("vectors", value=info.rows)
        return data or ()
