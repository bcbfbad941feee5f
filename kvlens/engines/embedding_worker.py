"""Embedding worker: one encoder, loaded where it works, that makes vectors of chunks of texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kvlens.embedding.chunks import Chunk, longest_first
from kvlens.embedding.file_options import FileRun
from kvlens.embedding.file_run import info_of
from kvlens.embedding.parts import ID, ROW, TRUNCATED, VECTOR
from kvlens.embedding.vectors import VectorsInfo
from kvlens.embedding.windows import embed_chunk
from kvlens.engines.recipe import EncoderRecipe
from kvlens.engines.staging import TEXT
from kvlens.store.errors import InputError
from kvlens.store.progress import silent
from kvlens.texts.scan import Scan


class EmbeddingWorker:
    """What an actor holds: it loads its model when it is made, by name and layer set.

    Attributes:
        info: what its vectors say of themselves, all but what is known at the end.
    """

    def __init__(
        self, recipe: EncoderRecipe, texts: Scan, run: FileRun, info: VectorsInfo | None = None
    ):
        """Load the model.

        Args:
            recipe: of the encoder.
            texts: what a first reading found out.
            run: which prompt, and what is done to vectors last.
            info: what the first machine made of the three; None: this is the first.

        Raises:
            InputError: where the model cannot be loaded, or is not the same.
        """
        self.encoder = recipe.encoder()
        if info is not None and self.encoder.chose_batches:
            self.encoder = self.encoder.of_batches(info.batch_tokens)
        self.run = run
        self.info = info_of(self.encoder, texts, run)
        if info is not None:
            check_same(self.info.facts, info.facts)

    def __call__(self, chunk: Any) -> Any:
        """Vectors of a chunk's rows.

        Args:
            chunk: a table of pyarrow: ``row``, ``id``, ``text``.

        Returns:
            Another: ``row``, ``id``, ``vector`` (float32), and ``truncated``: in the first row how
            many distinct texts of the chunk were cut, 0 in the others.

        Raises:
            InputError: as `Encoder.encode`.
        """
        import pyarrow as pa

        texts = chunk[TEXT].to_pylist()
        distinct = longest_first(texts)
        made = embed_chunk(self.encoder, self.run, Chunk(0, tuple(distinct)), silent)
        place = {text: i for i, text in enumerate(distinct)}
        array = made["vectors"][[place[text] for text in texts]]
        truncated = np.zeros(len(texts), np.int64)
        truncated[0] = made["truncated"][0]
        column = pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
        names = [ROW, ID, VECTOR, TRUNCATED]
        return pa.table([chunk[ROW], chunk[ID], column, pa.array(truncated)], names)


def described(recipe: EncoderRecipe, texts: Scan, run: FileRun) -> VectorsInfo:
    """What vectors of a recipe say of themselves, by loading the model here."""
    return EmbeddingWorker(recipe, texts, run).info


def check_same(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise InputError where this machine makes something else of a recipe than the first one."""
    changed = [name for name in wanted if made[name] != wanted[name]]
    if changed:
        raise InputError(
            f"the machines of the engine differ in {', '.join(changed)}: "
            "give all of them the same model, packages and kind of device"
        )
