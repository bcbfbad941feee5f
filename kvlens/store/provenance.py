"""Provenance: what a result was made with, recorded in every file."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

DECIDING = (
    "torch",
    "transformers",
    "transformer-lens",
    "scikit-dimension",
    "scikit-learn",
    "numpy",
)
RECORDING = ("torch", "transformers", "transformer-lens")

_command: ContextVar[str] = ContextVar("command", default="")


def versions(recorded: Mapping[str, str] | None = None) -> dict[str, str]:
    """The versions that a result depends on.

    Args:
        recorded: versions of the recording that the result was computed from, perhaps elsewhere;
            those of the libraries that record are taken from it.

    Returns:
        Package -> version, ``kvlens`` and ``python`` among them.
    """
    from kvlens import __version__

    installed = {name: importlib.metadata.version(name) for name in DECIDING}
    present = {"kvlens": __version__, "python": platform.python_version(), **installed}
    if recorded is None:
        return present
    analysed = {name: value for name, value in present.items() if name not in RECORDING}
    return {**recorded, **analysed}


def installed_version(package: str) -> str:
    """The version of a package that `versions` names; empty where it is not installed."""
    from kvlens import __version__

    own = {"kvlens": __version__, "python": platform.python_version()}
    if package in own:
        return own[package]
    # A ValueError is what no package can be called; the other says that there is none.
    with contextlib.suppress(importlib.metadata.PackageNotFoundError, ValueError):
        return importlib.metadata.version(package)
    return ""


@contextlib.contextmanager
def made_by(command: str) -> Iterator[None]:
    """Results made inside the context record this command line.

    Args:
        command: as the user typed it, to be run again by anyone.
    """
    token = _command.set(command)
    try:
        yield
    finally:
        _command.reset(token)


def current_command() -> str:
    """The command line that results record now (see `made_by`); empty in a notebook."""
    return _command.get()


@dataclass(frozen=True)
class Provenance:
    """What a saved result says of its origin: a view, since the files keep it in flat fields.

    Attributes:
        model: the `ModelInfo`.
        prompt: the `Prompt` around every text, or None.
        texts: the `TextsInfo`, or None.
        versions: package -> version.
        command: the command line; empty where there was none.
    """

    model: Any
    prompt: Any
    texts: Any
    versions: dict[str, str]
    command: str

    @classmethod
    def of(cls, result: Any) -> Provenance:
        """The origin of any result of kvlens that was saved or can be."""
        return cls(
            model=result.model,
            prompt=getattr(result, "prompt", None),
            texts=getattr(result, "texts", None),
            versions=result.versions,
            command=getattr(result, "command", None) or "",
        )

    @property
    def versions_line(self) -> str:
        """The versions in one line: ``kvlens 0.1.0, python 3.11.7, ...``."""
        return ", ".join(f"{name} {version}" for name, version in self.versions.items())
