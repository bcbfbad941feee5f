"""Artifact: a frozen result that is saved to one versioned file and loads back equal.

A file says what it is by `format` and `version`. Two containers: JSON for numbers that people
read, safetensors for arrays. Neither can run code.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from kvlens.store.arguments import path_argument, shown
from kvlens.store.errors import LONGEST_REASON, InputError, one_line, shortened
from kvlens.store.files import atomic_path
from kvlens.store.reading import HEADER, UNREADABLE, read_json, read_tensors


class Record(BaseModel):
    """A frozen value without unknown fields, without NaN and infinity."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        ser_json_inf_nan="constants",  # a method's settings may hold infinity
    )


def later_field() -> Any:
    """A field that came with a later version: None in files of earlier ones, not written there."""
    return Field(default=None, exclude_if=lambda value: value is None)


class Artifact(ABC):
    """What both containers share: saving whole, loading equal, and the refusals.

    Attributes:
        what: the name in messages, with its article, such as "a layer set".
        again: how the user gets a new one, such as "profile the model again".
    """

    what: ClassVar[str]
    again: ClassVar[str]

    def save(self, path: str | Path) -> Path:
        """Write the file, whole or not at all.

        Args:
            path: its name, by custom ending in .json or .safetensors.

        Returns:
            `path`.

        Raises:
            InputError: when the place cannot be written.
        """
        with atomic_path(path_argument("path", path)) as temporary:
            self._write(temporary)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Args:
            path: the file.

        Returns:
            A value equal to the saved one.

        Raises:
            InputError: for anything else, with the name of the file and the field.
        """
        return cls._read(path_argument("path", path))

    @abstractmethod
    def _write(self, path: Path) -> None:
        """Write the content to a file that has no name of its own yet."""

    @classmethod
    @abstractmethod
    def _read(cls, path: str | Path) -> Self:
        """The value of a file, or a refusal."""

    @classmethod
    def noun(cls) -> str:
        """`what` without its article."""
        return cls.what.split(" ", 1)[1]

    @classmethod
    def unreadable(cls, path: str | Path, error: OSError) -> InputError:
        """The refusal of a file that the system does not give."""
        return InputError(f"cannot read the {cls.noun()} {path}: {error.strerror or error}")

    @classmethod
    def invalid(cls, path: str | Path, problem: str) -> InputError:
        """The refusal of a file whose content is wrong."""
        reason = shortened(problem, LONGEST_REASON)
        return InputError(f"{path} is not a valid {cls.noun()}: {reason}")

    @classmethod
    def check_header(
        cls, path: str | Path, header: Any, format: str, versions: Sequence[int]
    ) -> None:
        """Raise InputError unless `header` names this format in one of the versions."""
        if not isinstance(header, dict) or header.get("format") != format:
            raise InputError(f'{path} is not {cls.what}: it lacks "format": "{format}"')
        actual = header.get("version")
        if actual not in versions:
            readable = " and ".join(map(str, versions))
            raise InputError(
                f"{path} has {cls.noun()} version {shortened(shown(actual), 40)}, "
                f"this kvlens reads {readable}: {cls.again}"
            )


class JsonArtifact(Record, Artifact):
    """A record with a JSON file of its own; subclasses have the fields `format` and `version`."""

    def __str__(self) -> str:
        return f"{self.what} with {', '.join(type(self).model_fields)}"

    def __repr__(self) -> str:  # not every number
        return str(self)

    def _write(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def _read(cls, path: str | Path) -> Self:
        try:
            text, content = read_json(path)
        except OSError as error:
            raise cls.unreadable(path, error) from error
        except UNREADABLE as error:
            reason = one_line(error)
            raise InputError(f"{path} is not {cls.what}: it is not JSON ({reason})") from error
        fields = cls.model_fields
        versions = get_args(fields["version"].annotation)
        cls.check_header(path, content, fields["format"].default, versions)
        try:
            return cls.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise cls.invalid(path, first_problem(error)) from error


class TensorArtifact(Artifact):
    """A frozen dataclass with arrays, saved as safetensors with a JSON header.

    Subclasses check in `__post_init__` what they hold, so that a file's arrays and those that were
    made in Python are held to the same law.

    Attributes:
        format: what the header says that the file is.
        version: of the format.
        array_fields: the fields that hold arrays; every other one is in the header.
        framework: whether the arrays are numpy's or torch's.
    """

    format: ClassVar[str]
    version: ClassVar[int]
    array_fields: ClassVar[tuple[str, ...]] = ("arrays",)
    framework: ClassVar[Literal["np", "pt"]] = "np"

    def _write(self, path: Path) -> None:
        fields, arrays = self.to_parts()
        header = json.dumps({"format": self.format, "version": self.version, **fields})
        _save_arrays(arrays, path, self.framework, header)

    @classmethod
    def _read(cls, path: str | Path) -> Self:
        try:
            header, arrays = read_tensors(path, cls.framework)
        except OSError as error:
            raise cls.unreadable(path, error) from error
        except UNREADABLE as error:
            raise cls.invalid(path, one_line(error)) from error
        cls.check_header(path, header, cls.format, (cls.version,))
        fields = {name: header[name] for name in header if name not in ("format", "version")}
        try:
            return cls.from_parts(fields, arrays)
        except ValidationError as error:
            raise cls.invalid(path, first_problem(error)) from error
        except InputError as error:
            raise cls.invalid(path, str(error)) from error

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The header's fields, as JSON holds them, and the arrays by name."""
        (by_name,) = self.array_fields
        return self.header_fields(), getattr(self, by_name)

    @classmethod
    def from_parts(cls, fields: dict[str, Any], arrays: dict[str, Any]) -> Self:
        """The value of a header's fields and arrays.

        Raises:
            InputError: for arrays that do not fit.
            ValidationError: for fields that cannot be such.
        """
        (by_name,) = cls.array_fields
        return cls(**cls.checked_fields(fields), **{by_name: arrays})

    def header_fields(self) -> dict[str, Any]:
        """All fields but those of arrays, as JSON holds them."""
        kind = _header_type(type(self))
        values = {name: getattr(self, name) for name in kind.model_fields}
        # What came later is left out where it says nothing, so that older files stay as they are.
        said = {
            name: value
            for name, value in values.items()
            if value != kind.model_fields[name].get_default()
        }
        return kind.model_construct(**values).model_dump(mode="json", include=set(said))

    @classmethod
    def checked_fields(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a header, each of its type; raises ValidationError."""
        kind = _header_type(cls)
        header = kind.model_validate_json(json.dumps(fields), strict=True)
        return {name: getattr(header, name) for name in kind.model_fields}


@functools.cache
def _header_type(cls: type[TensorArtifact]) -> type[BaseModel]:
    """What pydantic checks of a header; infinity is allowed, since a bias can be minus infinity."""
    types = get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {
        field.name: (types[field.name], ... if field.default is MISSING else field.default)
        for field in dataclasses.fields(cls)  # type: ignore[arg-type]
        if field.name not in cls.array_fields
    }
    config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")
    return create_model(cls.__name__, __config__=config, **fields)


def _save_arrays(arrays: dict[str, Any], path: Path, framework: str, header: str) -> None:
    metadata = {HEADER: header}
    if framework == "pt":
        from safetensors.torch import save_file as save_tensors

        save_tensors({name: array.contiguous() for name, array in arrays.items()}, path, metadata)
    else:
        from safetensors.numpy import save_file as save_numpy

        packed = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_numpy(packed, path, metadata)


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong, with its field, in one line."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return " ".join(f"{field}: {message}".removeprefix(": ").split())
