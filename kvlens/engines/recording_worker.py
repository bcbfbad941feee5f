"""Recording worker: one model, loaded where it works, that records shards of texts into files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.numpy import save

from kvlens.embedding.parts import ID, ROW, TRUNCATED
from kvlens.engines.embedding_worker import check_same
from kvlens.engines.recipe import RecorderRecipe
from kvlens.engines.staging import TEXT
from kvlens.store.chunk_index import chunk_file
from kvlens.store.files import atomic_path
from kvlens.store.progress import silent
from kvlens.texts.texts import Texts
from kvlens.tracing.kinds import POSITION_ZERO
from kvlens.tracing.shard_recording import index_of, shard_arrays
from kvlens.tracing.shards import TRUNCATED as CUT
from kvlens.tracing.shards import TraceIndex

KNOWS_ZERO = "position_zero"


class RecordingWorker:
    """What an actor holds: it loads its model when it is made, by its name.

    Attributes:
        index: what its shards say of themselves, all but what is known at the end.
    """

    def __init__(
        self,
        recipe: RecorderRecipe,
        texts: Texts,
        shard: int,
        folder: Path,
        index: TraceIndex | None = None,
    ):
        """Load the model.

        Args:
            recipe: of the recorder.
            texts: all of them, or as many as are needed to say what they are.
            shard: how many texts a file holds.
            folder: where the files go.
            index: what the first machine made of these; None: this is the first.

        Raises:
            InputError: where the model cannot be loaded, or is not the same.
        """
        if index is not None:
            recipe = recipe.of_batches(index.batch_tokens)
        self.recorder = recipe.recorder()
        self.folder = folder
        self.index = index_of(self.recorder, texts, shard)
        if index is not None:
            told = self.index.model_copy(update={"texts": index.texts})
            check_same(told.facts, index.facts)

    def __call__(self, chunk: Any) -> Any:
        """Record a shard.

        Args:
            chunk: a table of pyarrow: ``row``, ``id``, ``text``, rows ascending.

        Returns:
            Another: ``row``, ``id`` (the shard's file), ``truncated`` (1 for a text that was cut)
            and ``position_zero`` (whether the length of its state is known).

        Raises:
            InputError: as `record_shards`.
        """
        import pyarrow as pa

        texts = chunk[TEXT].to_pylist()
        arrays = shard_arrays(self.recorder, texts, silent)
        name = chunk_file(chunk[ROW][0].as_py())
        with atomic_path(self.folder / name) as temporary:
            temporary.write_bytes(save(arrays))
        known = POSITION_ZERO in arrays and bool((arrays[POSITION_ZERO] >= 0).all())
        names = [ROW, ID, TRUNCATED, KNOWS_ZERO]
        columns = [chunk[ROW], [name] * len(texts), arrays[CUT], [known] * len(texts)]
        return pa.table(columns, names)


def index_here(recipe: RecorderRecipe, texts: Texts, shard: int) -> TraceIndex:
    """What shards of a recipe say of themselves, by loading the model here."""
    return RecordingWorker(recipe, texts, shard, Path()).index
