"""Embed a file of texts: vectors, the ids of their rows and provenance, written whole; a stopped run resumes."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.numpy import load, save, save_file

from kvlens.models.info import ModelInfo
from kvlens.store.errors import InputError
from kvlens.store.files import atomic_path, write_text
from kvlens.store.provenance import versions
from kvlens.texts.readers import read_texts
from kvlens.texts.texts import TextsInfo

if TYPE_CHECKING:
    from kvlens.embedding.encoder import Encoder

Kind = Literal["query", "document"]
ENDINGS = (".npy", ".safetensors", ".parquet")
CHUNK = 256


class VectorsInfo(BaseModel):
    """Where vectors come from. encoder: `Encoder.signature`; post: facts and hash of the post-processing; kind: which
    prompt; chunk, batch_tokens: how texts were grouped, which decides the last bits; truncated: how many distinct
    texts were cut to `max_length` tokens; skipped: how many bad rows were left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    format: Literal["kvlens.vectors"] = "kvlens.vectors"
    version: Literal[1] = 1
    model: ModelInfo
    method: str
    settings: dict[str, Any]
    max_length: int
    encoder: str
    post: dict[str, Any] | None
    kind: Kind
    normalize: bool
    truncate_dim: int | None
    chunk: int
    batch_tokens: int
    texts: TextsInfo
    versions: dict[str, str]
    rows: int
    skipped: int
    truncated: int = 0
    dimension: int = 0


@dataclass(frozen=True)
class Vectors:
    """vectors: float32 ``[rows, dimension]``, in the order of the input; ids: one per row."""

    vectors: np.ndarray = field(repr=False)
    ids: tuple[str, ...] = field(repr=False)
    info: VectorsInfo


@dataclass(frozen=True)
class EmbedResult:
    """What `embed_file` did: counts as in `VectorsInfo`, and how long it took."""

    rows: int
    truncated: int
    skipped: int
    dimension: int
    seconds: float


def embed_file(
    encoder: Encoder,
    source: str | Path,
    target: str | Path,
    column: str | None = None,
    id_column: str | None = None,
    kind: Kind = "document",
    normalize: bool = False,
    truncate_dim: int | None = None,
    skip_bad: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    chunk: int = CHUNK,
    progress: Callable[[int, int], None] | None = None,
) -> EmbedResult:
    """Embed the texts of `source` (see `read_texts`; ``-`` is standard input) into `target`.

    target: ``.npy`` (float32 ``[n, d]``, with ids and provenance in ``TARGET.json``), ``.safetensors`` (the tensor
    ``vectors``, the rest in its header) or ``.parquet`` (columns ``id`` and ``vector``); `load_vectors` reads all.
    id_column: default ``id`` or ``_id`` if there is one, else the row's 0-based number. normalize, truncate_dim: as
    in `Encoder.encode`. skip_bad: leave out rows without a text; an empty text is one. chunk: how many texts are
    finished at a time. progress: called with (done, total) distinct texts.
    Finished chunks are kept in ``TARGET.part`` until the target is written whole; resume continues after them, with
    the same bytes as an uninterrupted run. overwrite: replace an existing target, or start a stopped run again.
    Raises InputError for texts or files that cannot be used, and to resume what another configuration began.
    """
    start = time.monotonic()
    target = check_target(target, source, resume, overwrite)
    if kind not in ("query", "document") or chunk < 1:
        raise InputError(
            f"kind is query or document and chunk at least 1, not {kind!r} and {chunk}"
        )
    texts = read_texts(source, column, skip_bad=skip_bad, ids=id_column or True, empty=True)
    if target.suffix.lower() == ".safetensors" and len(json.dumps(texts.ids)) > 90_000_000:
        raise InputError(
            f"the header of {target} cannot hold {texts.n} ids: give -o a name ending in .parquet"
        )
    # Equal texts get equal vectors, whatever the order of the rows; the longest first wastes no padding.
    distinct = sorted(set(texts.items), key=lambda text: (-len(text), text))
    info = VectorsInfo(
        model=encoder.lm.info,
        method=encoder.method.name,
        settings=json.loads(json.dumps(encoder.method.settings())),
        max_length=encoder.max_length,
        encoder=encoder.signature,
        post=_post_facts(encoder),
        kind=kind,
        normalize=normalize,
        truncate_dim=truncate_dim,
        chunk=chunk,
        batch_tokens=encoder.batch_tokens,
        texts=texts.info(),
        versions=versions(),
        rows=texts.n,
        skipped=texts.skipped,
    )
    part = _open_part(target, info, resume)
    options: dict[str, Any] = {
        "prompt_name": kind,
        "normalize_embeddings": normalize,
        "truncate_dim": truncate_dim,
    }
    report, chunks = progress or (lambda done, total: None), []
    try:
        for first in range(0, len(distinct), chunk):
            some, file = distinct[first : first + chunk], part / f"{first:09d}.safetensors"
            if not file.exists():
                tick = partial(_tick, report, first, len(distinct))
                vectors = encoder.encode(some, show_progress_bar=False, progress=tick, **options)
                arrays = {
                    "vectors": np.ascontiguousarray(vectors),
                    "truncated": np.array([encoder.truncated]),
                }
                with atomic_path(file) as temporary:
                    temporary.write_bytes(save(arrays))
            chunks.append(load(file.read_bytes()))
            report(first + len(some), len(distinct))
        row = {text: i for i, text in enumerate(distinct)}
        table = np.concatenate([arrays["vectors"] for arrays in chunks])[
            [row[text] for text in texts.items]
        ]
        truncated = sum(int(arrays["truncated"][0]) for arrays in chunks)
        info = info.model_copy(update={"dimension": table.shape[1], "truncated": truncated})
        _write(target, table, texts.ids or (), info)
    except BaseException:
        if not _finished(part):
            shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(part, ignore_errors=True)
    return EmbedResult(
        info.rows, info.truncated, info.skipped, info.dimension, time.monotonic() - start
    )


def _tick(report: Callable[[int, int], None], before: int, total: int, done: int, _: int) -> None:
    report(before + done, total)


def check_target(
    target: str | Path, source: str | Path = "-", resume: bool = False, overwrite: bool = False
) -> Path:
    """`target` as a Path when vectors can be written to it; so cheap that it can come before loading a model.

    Raises InputError for an unknown extension, an existing target, or a stopped run's chunks.
    """
    target = Path(target)
    part = _beside(target, ".part")
    if target.suffix.lower() not in ENDINGS:
        raise InputError(f"{target} is none of {', '.join(ENDINGS)}: give -o one of these endings")
    for path in (
        (target, _beside(target, ".json")) if target.suffix.lower() == ".npy" else (target,)
    ):
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise InputError(f"{path} holds the texts themselves: give another -o")
        if path.exists() and (path.is_dir() or not overwrite):
            raise InputError(f"{path} exists: give another -o, or --overwrite to replace a file")
    if part.is_file() or ([*part.glob("[!.]*")] and not (part / "run.json").is_file()):
        raise InputError(f"{part} is in the way and was not left by a stopped run: move it away")
    if _finished(part) and not (resume or overwrite):
        raise InputError(
            f"{part} has a stopped run: --resume continues it, --overwrite starts again"
        )
    return target


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)


def _finished(part: Path) -> list[Path]:
    return list(part.glob("*.safetensors"))


def _open_part(target: Path, info: VectorsInfo, resume: bool) -> Path:
    part, now = _beside(target, ".part"), json.loads(info.model_dump_json())
    if not resume:
        shutil.rmtree(part, ignore_errors=True)
    if _finished(part):
        before = json.loads((part / "run.json").read_text(encoding="utf-8"))
        if changed := [name for name in now if before.get(name) != now[name]]:
            raise InputError(
                f"{part} has a run with other {', '.join(changed)}: give what it was started with, or --overwrite "
                "without --resume to start again"
            )
    write_text(part / "run.json", json.dumps(now, indent=1))
    return part


def _post_facts(encoder: Encoder) -> dict[str, Any] | None:
    if (post := encoder.post) is None:
        return None
    digest = hashlib.sha256(post.mean.tobytes() + post.matrix.tobytes()).hexdigest()
    return {
        "kind": post.kind,
        "n": post.n,
        "shrinkage": post.shrinkage,
        "embedder": post.embedder,
        "sha256": digest,
    }


def _write(target: Path, vectors: np.ndarray, ids: Sequence[str], info: VectorsInfo) -> None:
    header = json.dumps({"info": info.model_dump(mode="json"), "ids": list(ids)})
    with atomic_path(target) as temporary:
        if target.suffix.lower() == ".safetensors":
            save_file({"vectors": vectors}, temporary, {"kvlens": header})
        elif target.suffix.lower() == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            column = pa.FixedSizeListArray.from_arrays(
                pa.array(vectors.reshape(-1)), vectors.shape[1]
            )
            table = pa.table({"id": pa.array(ids, pa.string()), "vector": column})
            pq.write_table(
                table.replace_schema_metadata({"kvlens": info.model_dump_json()}), temporary
            )
        else:
            with temporary.open("wb") as file:
                np.save(file, vectors)
            # Before the array gets its name: an array is never there without its ids.
            write_text(_beside(target, ".json"), header)


def load_vectors(path: str | Path) -> Vectors:
    """Read what `embed_file` wrote. Raises InputError when the file, or the one beside it, is not that."""
    path = Path(path)
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            table = pq.read_table(path)
            header = {
                "info": json.loads(table.schema.metadata[b"kvlens"]),
                "ids": table["id"].to_pylist(),
            }
            vectors = (
                table["vector"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
            )
        elif path.suffix.lower() == ".safetensors":
            with safe_open(path, framework="np") as file:
                header, vectors = json.loads(file.metadata()["kvlens"]), file.get_tensor("vectors")
        else:
            vectors, header = (
                np.load(path),
                json.loads(_beside(path, ".json").read_text(encoding="utf-8")),
            )
        return Vectors(vectors, tuple(header["ids"]), VectorsInfo.model_validate(header["info"]))
    except Exception as error:  # the readers' errors share no base
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{path} is not readable as kvlens vectors ({reason})") from error
