"""Bar: the progress bar that users of sentence-transformers know, in notebooks and on terminals."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from kvlens.store.progress import Progress

MANY_TEXTS = 256  # fewer are done before a bar is read


@contextlib.contextmanager
def text_bar(show: bool | None, total: int, progress: Progress | None) -> Iterator[Progress]:
    """A progress bar over texts, or the caller's own progress in its place.

    Args:
        show: whether a bar is drawn; None: on a terminal, when there are many texts.
        total: how many texts there are.
        progress: told instead of any bar.

    Yields:
        What the job calls with (done, total).
    """
    if progress is not None:
        yield progress
        return
    from tqdm.auto import tqdm  # looks for notebook widgets, and warns where it finds none

    if show is None:
        show = total > MANY_TEXTS and sys.stderr.isatty()
    with tqdm(total=total, unit="text", disable=not show) as bar:

        def tell(done: int, total: int) -> None:
            bar.update(done - bar.n)

        yield tell
