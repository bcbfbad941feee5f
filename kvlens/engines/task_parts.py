"""Task parts: the parts of one task among many that know nothing of each other.

A part says in its header what it was made with, and of which texts: the same task, run again,
leaves it as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from kvlens.embedding.file_options import FileRun
from kvlens.embedding.parts import part_of, write_parts_index
from kvlens.embedding.vectors import VectorsInfo
from kvlens.engines.embedding_worker import EmbeddingWorker, check_same
from kvlens.engines.part_files import rows_of
from kvlens.engines.recipe import EncoderRecipe
from kvlens.engines.staging import as_table, in_chunks
from kvlens.store.artifact import HEADER
from kvlens.store.errors import InputError
from kvlens.store.files import atomic_path, sha256_texts, write_text
from kvlens.texts.scan import Repeated, Scan
from kvlens.texts.texts import TextsInfo

SOURCE = "documents of datatrove"
ROWS_A_TASK = 2**40  # a row's number is its place after all rows that the tasks before could have
PART = "{rank:05d}-{number:06d}.parquet"
TASK = "_task-{rank:05d}.json"


class TaskParts:
    """What a task writes.

    Attributes:
        target: the folder of all tasks.
        rank: which task.
    """

    def __init__(self, recipe: EncoderRecipe, run: FileRun, target: Path, rank: int):
        self.target = target
        self.rank = rank
        self._recipe = recipe
        self._run = run
        made_by = [{**asdict(recipe), "folder": ""}, asdict(run)]  # a path, and no more than that
        self._made_by = json.loads(json.dumps(made_by, default=str))
        self._worker: EmbeddingWorker | None = None
        self._n = 0

    def write(self, number: int, documents: Sequence[tuple[str, str]]) -> bool:
        """Embed a window into a part, unless that is there.

        Args:
            number: of the window, from 0.
            documents: id and text of each.

        Returns:
            Whether it was not there.

        Raises:
            InputError: for texts that cannot be embedded, and where the part cannot be written.
        """
        path = self.target / PART.format(rank=self.rank, number=number)
        first = self.rank * ROWS_A_TASK + self._n
        self._n += len(documents)
        sha256 = sha256_texts(text for _, text in documents)
        head = {"made_by": self._made_by, "sha256": sha256, "n": len(documents)}
        before = _header(path)
        if before is not None and {name: before.get(name) for name in head} == head:
            return False
        if before is not None:
            raise InputError(
                f"{path} is of other texts, or made in another way: give another `target`"
            )
        info = TextsInfo(source=SOURCE, n=len(documents), sha256=sha256)
        worker = self._loaded(Scan(info, 0, 0, Repeated()))
        made = {"texts": info, "rows": info.n, "window": self._run.window}
        head["info"] = worker.info.model_copy(update=made).model_dump(mode="json")
        rows = [(first + i, name, text) for i, (name, text) in enumerate(documents)]
        _write(path, (worker(as_table(each)) for each in in_chunks(rows, self._run.chunk)), head)
        return True

    def finish(self, parts: int, world_size: int) -> None:
        """Note that the task is done, with how many parts, as one of how many tasks."""
        done = {"parts": parts, "tasks": world_size}
        write_text(self.target / TASK.format(rank=self.rank), json.dumps(done))

    def _loaded(self, texts: Scan) -> EmbeddingWorker:
        """The worker, loaded when something is to be done."""
        if self._worker is None:
            self._worker = EmbeddingWorker(self._recipe, texts, self._run)
        return self._worker


def seal_parts(target: Path) -> VectorsInfo:
    """Make ordinary vectors of the parts of all tasks.

    Args:
        target: their folder.

    Returns:
        The facts; the hash of the texts is that of the parts' hashes of texts.

    Raises:
        InputError: where a task is not done, a part is missing, or parts were made in other ways.
    """
    paths = _paths_of_all_tasks(target)
    heads = [_header(path) for path in paths]
    lost = [path for path, head in zip(paths, heads, strict=True) if head is None]
    if lost:
        raise InputError(
            f"{lost[0]} is missing or torn: remove its task's completion mark, run again"
        )
    infos = [VectorsInfo.model_validate(head["info"]) for head in heads if head]
    for info in infos:
        check_same(_alike(info), _alike(infos[0]))
    found = [rows_of(path) for path in paths]
    texts = TextsInfo(
        source=f"{SOURCE}, in {len(paths)} parts",
        n=sum(info.texts.n for info in infos),
        sha256=sha256_texts(info.texts.sha256 for info in infos),
    )
    known = {
        "texts": texts,
        "rows": texts.n,
        "truncated": sum(int(each.truncated.sum()) for each in found if each),
        "dimension": found[0].dimension if found[0] else 0,
    }
    sealed = infos[0].model_copy(update=known)
    write_parts_index(target, sealed.model_dump(mode="json"), [part_of(path) for path in paths])
    return sealed


def _alike(info: VectorsInfo) -> dict[str, Any]:
    """What all parts have to be made with."""
    return {name: value for name, value in info.facts.items() if name not in ("texts", "rows")}


def _paths_of_all_tasks(target: Path) -> list[Path]:
    """The parts in the order of tasks; raises InputError where a task is not done."""
    done = {
        int(path.stem.rpartition("-")[2]): json.loads(path.read_text(encoding="utf-8"))
        for path in target.glob("_task-*.json")
    }
    n_tasks = max((task["tasks"] for task in done.values()), default=1)
    waiting = sorted(set(range(n_tasks)) - set(done))
    if waiting:
        raise InputError(
            f"{len(waiting)} of {n_tasks} tasks of {target} are not done (task {waiting[0]} is the "
            "first): seal it when they are"
        )
    paths = [
        target / PART.format(rank=rank, number=number)
        for rank in sorted(done)
        for number in range(done[rank]["parts"])
    ]
    if not paths:
        raise InputError(f"{target} has no vectors: there were no documents")
    return paths


def _header(path: Path) -> dict[str, Any] | None:
    """What a part says of itself; None where it is not there, or torn."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        head = json.loads((pq.read_schema(path).metadata or {})[HEADER.encode()])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None
    return head if isinstance(head, dict) else None


def _write(path: Path, tables: Iterator[Any], head: Mapping[str, Any]) -> None:
    """Write a part, a row group a chunk, whole or not at all."""
    import pyarrow.parquet as pq

    first = next(tables)
    schema = first.schema.with_metadata({HEADER: json.dumps(head)})
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table.replace_schema_metadata(schema.metadata))
