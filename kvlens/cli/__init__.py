"""The terminal: flags in, one call, one answer out."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

INTERRUPTED = 130  # as shells count: 128 and the number of the signal


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, see `kvlens.cli.app.main`; Ctrl-C is one line from the start.

    Args:
        argv: the arguments; default: those of the process.

    Returns:
        The exit code.
    """
    try:
        from kvlens.cli import app  # a third of a second: long enough to think better of it
    except KeyboardInterrupt:
        print("kvlens: interrupted; nothing was begun", file=sys.stderr)
        return INTERRUPTED
    return app.main(argv)
