"""Settings: what a command was told, as a file that tells it again.

A file has one table, named after its command; its keys are the flags without dashes, and the names
of what stands without a flag, such as ``MODEL``.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kvlens.store.errors import InputError
from kvlens.store.files import write_text
from kvlens.store.provenance import made_by
from kvlens.texts.addresses import public_word

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.argument import Argument, ArgumentCollection

# They tell how a run treats what an earlier one left, and nothing of the result.
OF_THE_RUN = ("--resume", "--overwrite", "--dry-run")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")

Value = str | bool | tuple[str, ...]

_current: ContextVar[Settings | None] = ContextVar("settings", default=None)


@dataclass(frozen=True)
class Settings:
    """What one command was told.

    Attributes:
        command: its name.
        values: flag without dashes -> its value, or True; name of what stands without a flag ->
            all of it; in the command's own order.
    """

    command: str
    values: Mapping[str, Value] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """As a TOML file."""
        lines = [f"{name} = {_written(value)}" for name, value in self.values.items()]
        return "\n".join([f"[{self.command}]", *lines, ""])

    @property
    def command_line(self) -> str:
        """As one would type it."""
        words = ["kvlens", self.command]
        for name, value in self.values.items():
            if isinstance(value, tuple):
                words += value
            else:
                words.append(f"--{name}" if value is True else f"--{name}={value}")
        return shlex.join(words)


def _written(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_quoted, value))}]"
    return value if NUMBER.fullmatch(value) else _quoted(value)


def _quoted(text: str) -> str:
    """A string of TOML: that of JSON but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_settings(path: str | Path, command: str | None) -> Settings:
    """The settings in a file.

    Args:
        path: a TOML file with a table a command.
        command: whose table is wanted; None: that of the only command.

    Raises:
        InputError: for a file that cannot be read, one without such a table, and values that no
            flag takes.
    """
    import tomllib

    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the settings {path}: {error}") from error
    named = {name: table for name, table in tables.items() if isinstance(table, dict)}
    if not named or len(named) < len(tables):
        raise InputError(f"{path} has to hold nothing but a table a command, such as [profile]")
    if command is None and len(named) > 1:
        raise InputError(f"{path} is of several commands, {', '.join(named)}: name one")
    wanted = command or next(iter(named))
    if wanted not in named:
        raise InputError(f"{path} has no [{wanted}], only {', '.join(named)}")
    read = {name: _read(path, name, value) for name, value in named[wanted].items()}
    return Settings(wanted, read)


def _read(path: str | Path, name: str, value: object) -> Value:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise InputError(f"{path}: {name} has to be a string, a number, true or false")


class Told:
    """Called by cyclopts with what a command line says: adds a file's settings, and keeps all."""

    def __init__(self, given: Settings | None):
        """Begin.

        Args:
            given: of a file, for what the command line does not say.
        """
        self.given = given
        self.settings: Settings | None = None

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Complete the arguments, and keep them.

        Raises:
            InputError: for a setting that the command does not have.
        """
        if not commands:
            return
        by_name = {each.name.removeprefix("--"): each for each in arguments if each.name != "*"}
        if self.given is not None:
            for name, value in self.given.values.items():
                if name not in by_name:
                    raise InputError(f"no setting of {commands[0]} is called {name}")
                _tell(by_name[name], value)
        told = {
            name: _told(argument)
            for name, argument in by_name.items()
            if argument.tokens and argument.name not in OF_THE_RUN
        }
        self.settings = Settings(commands[0], told)


def _tell(argument: Argument, value: Value) -> None:
    """Give an argument a value, unless it has one."""
    from cyclopts import Token

    if argument.tokens or value is False:
        return
    words = value if isinstance(value, tuple) else (str(value),)
    for index, word in enumerate(words):
        argument.append(Token(keyword=argument.name, value=word, source="settings", index=index))


def _told(argument: Argument) -> Value:
    words = [public_word(token.value) for token in argument.tokens]
    if argument.is_positional_only():
        return tuple(words)
    return True if argument.is_flag() else words[-1]


@contextlib.contextmanager
def settings_told(settings: Settings | None, anew: bool) -> Iterator[None]:
    """Results that are written inside have these settings beside them.

    Args:
        settings: of the running command.
        anew: results record the command line of the settings, too: what was typed says where the
            settings were, not what they are.
    """
    token = _current.set(settings)
    try:
        with made_by(settings.command_line) if settings and anew else contextlib.nullcontext():
            yield
    finally:
        _current.reset(token)


def write_settings(folder: Path) -> None:
    """Write the running command's settings into the folder of its results; nothing in a notebook.

    Args:
        folder: gets the file ``COMMAND.toml``.

    Raises:
        InputError: where they cannot be written.
    """
    settings = _current.get()
    if settings is not None:
        write_text(folder / f"{settings.command}.toml", settings.text)


def write_settings_beside(result: Path) -> None:
    """As `write_settings`, beside a result: ``RESULT.toml``."""
    settings = _current.get()
    if settings is not None:
        write_text(result.parent / f"{result.name}.toml", settings.text)
