"""Shards: a trace as a folder of safetensors files, a stretch of its texts in each.

A shard holds each layer's states in a tensor of their own, so that a layer is read by itself, from
all shards one after another; ``trace.json`` says what the shards are and what they were made with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor

from kvlens.models.info import ModelInfo
from kvlens.store.arrays import check_finite
from kvlens.store.artifact import JsonArtifact
from kvlens.store.bounds import MOST, Count, Size
from kvlens.store.chunk_index import FinishedChunk
from kvlens.store.errors import InputError, one_line
from kvlens.store.reading import UNREADABLE, open_tensors
from kvlens.texts.prompts import Prompt
from kvlens.texts.texts import TextsInfo
from kvlens.tracing.kinds import OF_ANY_TOKEN, POSITION_ZERO, TEXT_INDEX, Points, base_of, kind_of

INDEX = "trace.json"
N_TOKENS = "n_tokens"
TOKEN_HASHES = "token_hashes"
TRUNCATED = "truncated"
COUNT = "count"
HASH_BYTES = 8
OF_TEXTS = {N_TOKENS: "I64", TRUNCATED: "I64", COUNT: "I64", TOKEN_HASHES: "U8"}
"""What a shard says of its texts -> its type in safetensors."""

KNOWN_AT_THE_END = ("version", "n_truncated", "position_zero", "shards")


class TraceIndex(JsonArtifact):
    """What a folder of shards holds; one JSON file in it.

    Attributes:
        model: what was recorded.
        prompt: placed around every text.
        texts: where they come from.
        points: which hidden states.
        keep: the kinds of states.
        layers: the block of each recorded layer.
        tokens: other tokens whose keys and values are kept, besides the final one.
        max_length: most tokens of a text, prompt included.
        batch_tokens: most padded tokens of a batch; it and `shard` group the texts, which decides
            the last bits.
        shard: how many texts a shard has, but for the last one.
        versions: of the libraries that recorded.
        n_truncated: how many texts were cut at their end.
        position_zero: whether the lengths of position 0's states are known.
        shards: the files in the order of the texts, each with its hash.
    """

    what: ClassVar[str] = "an index of a trace"
    again: ClassVar[str] = "record it again"
    format: Literal["kvlens.trace-index"] = "kvlens.trace-index"
    version: Literal[1] = 1
    model: ModelInfo
    prompt: Prompt
    texts: TextsInfo
    points: Points
    keep: tuple[str, ...]
    layers: tuple[int, ...]
    tokens: tuple[str, ...] = ()
    max_length: Size
    batch_tokens: Size
    shard: Size
    versions: dict[str, str]
    n_truncated: Count = 0
    position_zero: bool = False
    shards: tuple[FinishedChunk, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> TraceIndex:
        for shard in self.shards:
            if Path(shard.file).name != shard.file or shard.rows < 1:
                raise ValueError(f"{shard.file!r:.60} with {shard.rows} texts is no shard")
        n = sum(shard.rows for shard in self.shards)
        if self.shards and n != self.texts.n:
            raise ValueError(f"its shards have {n} texts, of {self.texts.n}")
        return self

    @property
    def facts(self) -> dict[str, Any]:
        """What decides the states and is known before they are, as JSON."""
        facts = self.model_dump(mode="json")
        return {name: facts[name] for name in facts if name not in KNOWN_AT_THE_END}


class ShardTensors(Mapping[str, Tensor]):
    """The tensors of a trace in shards: each is read when it is asked for, and not kept.

    Where there is one shard, a tensor is the mapped file itself; of several it is a copy of that
    tensor alone.

    Attributes:
        forms: name -> a tensor without memory that has the type and the shape.
        n_tokens: prompted length of each text.
        token_hashes: of each text.
    """

    def __init__(self, folder: Path, index: TraceIndex):
        """Look at what each shard says it holds.

        Args:
            folder: where the shards are.
            index: what they are.

        Raises:
            InputError: for a shard that is not there or not like the others.
        """
        self._files = [folder / shard.file for shard in index.shards]
        if not self._files:
            raise InputError("it has no shards")
        rows = [shard.rows for shard in index.shards]
        held = [_said(file, n) for file, n in zip(self._files, rows, strict=True)]
        self.forms = {name: _together(name, held) for name in _names(index)}
        self._counts: dict[str, Tensor] = {}
        self.n_tokens = tuple(self._read(N_TOKENS).tolist())
        if not all(0 < n <= MOST for n in self.n_tokens):
            raise InputError("a text of it has no tokens, or more than there can be")
        hashes = self._read(TOKEN_HASHES).numpy()
        self.token_hashes = tuple(bytes(row).hex() for row in hashes)
        if index.points == "all" and "hidden" in index.keep:
            self._index(TEXT_INDEX, N_TOKENS)
        for span in index.tokens:
            self._index(f"{TEXT_INDEX}@{span}", f"{COUNT}@{span}")

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.forms:
            raise KeyError(name)
        if name in self._counts:
            counts = self._counts[name]
            return torch.arange(len(counts)).repeat_interleave(counts)
        tensor = self._read(name)
        check_finite(name, tensor)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.forms)

    def __len__(self) -> int:
        return len(self.forms)

    def _index(self, name: str, counts: str) -> None:
        """Know the text of each row by how many rows a text has."""
        self._counts[name] = self._read(counts)
        if bool((self._counts[name] < 0).any()):
            raise InputError(f"{counts} is negative")
        self.forms[name] = _form([int(self._counts[name].sum())], torch.int64)

    def _read(self, name: str) -> Tensor:
        """A tensor out of all shards."""
        parts = [_tensor(file, name) for file in self._files]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def index_file(path: str | Path) -> Path | None:
    """The index of the trace in shards at a path, which is its folder or its index; else None."""
    path = Path(path)
    if path.is_dir():
        return path / INDEX
    return path if path.suffix.lower() == ".json" else None


def forms_of(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """What has the types and the shapes of tensors, none of which is read."""
    return tensors.forms if isinstance(tensors, ShardTensors) else tensors


def stacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as `record` gives them: the layers of a kind in one tensor, where they are alike."""
    together: dict[str, Tensor] = {}
    forms = forms_of(tensors)
    for kind in dict.fromkeys(map(kind_of, forms)):
        names = [name for name in forms if kind_of(name) == kind]
        if kind in forms or len({forms[name].shape for name in names}) > 1:
            together |= {name: tensors[name] for name in names}
        else:
            together[kind] = torch.stack([tensors[name] for name in names], dim=1)
    return together


def _names(index: TraceIndex) -> list[str]:
    """The tensors of every shard, layers ascending."""
    with_keys = set(index.model.layers_with_keys()).intersection(index.layers)
    names = [POSITION_ZERO] if index.position_zero else []
    for kind in index.keep:
        layers = index.layers if kind == "hidden" else sorted(with_keys)
        spans = index.tokens if kind in OF_ANY_TOKEN else ()
        kinds = [kind, *(f"{kind}@{span}" for span in spans)]
        names += [f"{each}.{layer}" for each in kinds for layer in layers]
    return names


def _said(file: Path, rows: int) -> dict[str, list[int]]:
    """Name -> shape of each tensor of a shard; raises InputError for what no shard holds."""
    shapes: dict[str, list[int]] = {}
    try:
        with open_tensors(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                part = tensors.get_slice(name)
                if part.get_dtype() != OF_TEXTS.get(base_of(name), "F32"):
                    raise InputError(f"{name} of {file.name} is of type {part.get_dtype()}")
                shapes[name] = part.get_shape()
    except (OSError, *UNREADABLE) as error:
        raise _unreadable(file, error) from error
    counts = [name for name in shapes if base_of(name) == COUNT]
    for name in (N_TOKENS, TRUNCATED, TOKEN_HASHES, *counts):
        wanted = [rows, HASH_BYTES] if name == TOKEN_HASHES else [rows]
        if shapes.get(name) != wanted:
            raise InputError(f"{file.name} does not have {name} of {rows} texts")
    return shapes


def _together(name: str, held: Sequence[Mapping[str, list[int]]]) -> Tensor:
    """The form of a tensor out of all shards."""
    shapes = [shard.get(name, []) for shard in held]
    if any(shape[1:] != shapes[0][1:] or not shape for shape in shapes):
        raise InputError(f"{name} is missing, or not alike in all shards")
    return _form([sum(shape[0] for shape in shapes), *shapes[0][1:]], torch.float32)


def _form(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device="meta")


def _tensor(file: Path, name: str) -> Tensor:
    """A tensor of a shard, mapped; raises InputError where the file has changed meanwhile."""
    try:
        with open_tensors(file, "pt") as tensors:
            return tensors.get_tensor(name)
    except (OSError, *UNREADABLE) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: BaseException) -> InputError:
    reason = getattr(error, "strerror", None) or one_line(error)
    return InputError(f"cannot read the shard {file.name}: {reason}")
