"""The attention browser as an anywidget: the very script of the report."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import anywidget
import traitlets

from kvlens.reporting.attention_browser import SCRIPT
from kvlens.store.errors import printable

PICTURE_WIDTH = 720  # CSS pixels, of a picture that has more for dense screens


class BrowserWidget(anywidget.AnyWidget):
    """Attention on texts, to look through; made by `kvlens.attention_widget`.

    Attributes:
        data: what the script draws, as `browser_data` packs it.
    """

    _esm = SCRIPT.read_text(encoding="utf-8")
    data = traitlets.Dict().tag(sync=True)

    def __init__(self, data: dict[str, Any], picture: bytes, words: str) -> None:
        """A widget.

        Args:
            data: see the attribute.
            picture: PNG of the first view, for where widgets do not run.
            words: the same in a line of plain text.
        """
        super().__init__(data=data)
        self._picture = b64encode(picture).decode()
        self._words = printable(words)

    def __repr__(self) -> str:
        return f"<{self._words}>"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a notebook stores of it: the widget, the picture, the words."""
        bundle, metadata = super()._repr_mimebundle_(**options) or ({}, {})
        pictured = {**bundle, "image/png": self._picture}
        looks = {"width": PICTURE_WIDTH, "alt": self._words}
        return pictured, {**metadata, "image/png": looks}
