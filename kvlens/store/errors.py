"""Errors: what the user gave cannot be used."""

from __future__ import annotations


class InputError(ValueError):
    """What the user gave cannot be used; the message is one line that says why and what to do."""
