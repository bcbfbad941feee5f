"""Values: how the text of an option becomes a number, a list of names, or layers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from kvlens.cli.swap import recover
from kvlens.store.errors import InputError, printable
from kvlens.store.hub_folder import PREFIX
from kvlens.store.layer_ranges import parse_layers

if TYPE_CHECKING:
    from cyclopts import Token

OUTSIDE_BRACKETS = re.compile(r",(?![^(\[]*[)\]])")


def split_names(text: str) -> tuple[str, ...]:
    """Names between commas; a comma in brackets belongs to its name.

    So do those of ``token_prepending:depth=[0.5,1]`` and of a benchmark ``MTEB(eng, v2)``.
    """
    return tuple(name.strip() for name in OUTSIDE_BRACKETS.split(text))


def layers_or_file(text: str | None) -> Any:
    """What the library takes as layers, out of what was typed.

    Returns:
        Block indices where `text` is a list of them; else the path of a layer-set file, fetched
        where `text` names one at the hub.

    Raises:
        InputError: when `text` begins like a list of layers and is neither that nor a file, and
            for what the hub does not give.
    """
    if text is None:
        return None
    if text.startswith(PREFIX):
        from kvlens.layers.folder import local_file

        return local_file(text)
    recover(Path(text).parent)
    if Path(text).exists() or not text[:1].isdigit():
        return text
    try:
        return parse_layers(text)
    except InputError as error:
        raise InputError(f"`layers` {error}, nor a file") from error


def data_name(source: str) -> str:
    """What data are called in results: their file and its folder, or their address."""
    from kvlens.texts.addresses import is_address, public

    if source == "-":
        return "standard input"
    if is_address(source):
        return printable(public(source))
    return printable("/".join(Path(source).absolute().parts[-2:]))


def _whole_number(type_: Any, tokens: Sequence[Token]) -> int:
    """A positive whole number: cyclopts itself takes 0 and rounds 5.5."""
    text = tokens[-1].value
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{text!r} is not a positive whole number")
    return int(text)


def _names(type_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    return split_names(tokens[-1].value)


def _layers(type_: Any, tokens: Sequence[Token]) -> tuple[int, ...]:
    return parse_layers(tokens[-1].value)


def _numbers(type_: Any, tokens: Sequence[Token]) -> tuple[float, ...]:
    text = tokens[-1].value
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not a list of numbers such as 0,1,3") from None


def _no_flag(type_: Any, text: str | None) -> None:
    """Refuse what looks like a flag where ``-`` alone, the standard input, is a value."""
    if text and re.match(r"-[^\s-]|--\S", text):
        raise ValueError("It is a flag, not a value")


def shown_default(value: Any) -> str | None:
    """The default as the help page shows it; None where it goes without saying."""
    if value is None or value is False or value == ():
        return None
    if isinstance(value, tuple):
        return ",".join(shown_default(part) or "" for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


WholeNumber = Annotated[int, Parameter(converter=_whole_number)]
Names = Annotated[tuple[str, ...], Parameter(converter=_names, n_tokens=1, metavar="NAMES")]
Layers = Annotated[tuple[int, ...], Parameter(converter=_layers, n_tokens=1, metavar="LAYERS")]
Numbers = Annotated[tuple[float, ...], Parameter(converter=_numbers, n_tokens=1, metavar="NUMBERS")]
Dashed = Annotated[str, Parameter(allow_leading_hyphen=True, validator=_no_flag)]
"""A value that may begin with a dash: ``-`` for the standard input, or a text."""
