"""Records: frozen pydantic models that are saved as versioned JSON files, and how layers are put into words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from kvlens.store.errors import InputError
from kvlens.store.files import write_text


class Record(BaseModel):
    """A frozen value without unknown fields, without NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileRecord(Record):
    """A record with a file of its own; subclasses have the fields `format` and `version`, with defaults.

    what: its name in messages, with its article; again: how the user gets a new one.
    """

    what: ClassVar[str]
    again: ClassVar[str]

    def __str__(self) -> str:
        return f"{self.what} with {', '.join(type(self).model_fields)}"

    def __repr__(self) -> str:  # not every number
        return str(self)

    def save(self, path: str | Path) -> Path:
        """Write the JSON file atomically. Raises InputError when the place cannot be written."""
        write_text(path, self.model_dump_json(indent=2) + "\n")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote. Raises InputError, which names file and field, for anything else."""
        name = cls.what.split(" ", 1)[1]
        form, version = (cls.model_fields[key].default for key in ("format", "version"))
        try:
            text = Path(path).read_text(encoding="utf-8")
            content = json.loads(text)
        except OSError as error:
            raise InputError(f"cannot read the {name} {path}: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is not {cls.what}: it is not JSON ({error})") from error
        if not isinstance(content, dict) or content.get("format") != form:
            raise InputError(f'{path} is not {cls.what}: it lacks "format": "{form}"')
        if (found := content.get("version")) != version:
            raise InputError(
                f"{path} has {name} version {found}, this kvlens reads {version}: {cls.again}"
            )
        try:
            return cls.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise InputError(f"{path} is not a valid {name}: {first_problem(error)}") from error


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong, with its field, in one line."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return " ".join(
        f"{field}: {first['msg']}".removeprefix(": ").removeprefix("Value error, ").split()
    )
