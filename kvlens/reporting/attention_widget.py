"""Attention in a notebook: the report's attention browser as a widget, with a picture beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kvlens.analysis.attention import KINDS, AttentionPatterns
from kvlens.plots.patterns import plot_patterns
from kvlens.plots.style import picture_png
from kvlens.reporting.attention_browser import browser_data
from kvlens.store.checking import a, arguments, choice, members, optional, whole
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from kvlens.reporting.browser_widget import BrowserWidget

_patterns = a(AttentionPatterns, "patterns of `kvlens.attention_patterns`")
_several = members(_patterns, "patterns")


def _one_or_several(name: str, value: Any) -> tuple[AttentionPatterns, ...]:
    """The check of patterns of one text, or of a list of them."""
    if isinstance(value, list | tuple):
        several = _several(name, value)
        if not several:
            raise InputError(f"`{name}` is empty: give patterns of at least one text")
        return several
    return (_patterns(name, value),)


@arguments(
    patterns=_one_or_several,
    layer=optional(whole(least=0)),
    head=optional(whole(least=0)),
    kind=choice(*KINDS),
)
def attention_widget(
    patterns: AttentionPatterns | Sequence[AttentionPatterns],
    layer: int | None = None,
    head: int | None = None,
    kind: str = "propagated",
) -> BrowserWidget:
    """Look through attention before and after re-routing, in a notebook.

    The attention browser of the report as an anywidget: selectors of text, layer, head and effect,
    the prefix's column shown or not; a cell that is pointed at tells its tokens and weights. Where
    widgets do not run (a code host, a PDF), the same cell output is a picture of the first view.

    Args:
        patterns: of one text, or of several, each a text to choose.
        layer: the re-routed block that is shown first; default: the first of the first text.
        head: the query head that is shown first; default: the mean over all.
        kind: the effect that is shown first, local or propagated.

    Returns:
        The widget, which a cell shows.

    Raises:
        InputError: for a layer or head that the first text's patterns do not have, for patterns too
            large to be shown, and without the package anywidget (extra ``kvlens[widget]``).
    """
    try:
        # Optional, and brings ipywidgets along.
        from kvlens.reporting.browser_widget import BrowserWidget
    except ImportError as error:
        raise InputError("this needs anywidget: pip install 'kvlens[widget]'") from error
    first, *others = patterns if isinstance(patterns, Sequence) else [patterns]
    if layer is None:
        layer = first.layers[0]
    axes = plot_patterns(first, layer, head, kind)
    start = {
        "layer": first.layers.index(layer),
        "head": "mean" if head is None else head,
        "effect": kind,
    }
    data = browser_data([first, *others]) | {"start": start}
    texts = f"{1 + len(others)} texts" if others else f"{len(first.tokens)} tokens"
    words = f"attention of {first.model.name}, {texts}"
    return BrowserWidget(data, picture_png(axes[0]), words)
