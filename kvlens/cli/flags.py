"""Flags: the library names parameters, the terminal its flags.

A message of the library says `` `overwrite=True` ``; whoever typed a command reads ``--overwrite``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts.argument import Argument

# The library's names where a command has another: those of `embed_file`.
ALSO_CALLED = {"target": "output", "source": "input"}

QUOTES = "'\""
NAMED = re.compile(r"`(?P<name>[a-z_]+)(?:=(?P<value>[^`]+))?`")


def flags_in(message: str, arguments: Iterable[Argument]) -> str:
    """A message with the flags of the running command in place of parameters.

    Args:
        message: with parameters in backquotes, perhaps with their values.
        arguments: of the running command.

    Returns:
        The message; names that are no option of the command stay as they are.
    """
    flags = {
        argument.field_info.name: min(argument.names, key=len)
        for argument in arguments
        if argument.name.startswith("-")
    }

    def flag(match: re.Match[str]) -> str:
        name = match["name"]
        known = flags.get(name) or flags.get(ALSO_CALLED.get(name, ""))
        if known is None:
            return match[0]
        if match["value"] in (None, "True"):
            return known
        return f"{known} {match['value'].strip(QUOTES)}"

    return NAMED.sub(flag, message)
