"""The terminal: flags in, one call, one answer out."""

from kvlens.cli.app import main

__all__ = ["main"]
