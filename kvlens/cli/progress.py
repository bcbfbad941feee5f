"""Progress: a bar on the terminal with the rate and the time left."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from kvlens.store.progress import Progress, silent


@contextlib.contextmanager
def progress(what: str, unit: str = "texts") -> Iterator[Progress]:
    """A bar on standard error; nothing where that is no terminal.

    Args:
        what: is being done.
        unit: of what is counted.

    Yields:
        A function that is told how many are done, of how many.
    """
    if not sys.stderr.isatty():
        yield silent
        return
    from rich import progress as rich
    from rich.console import Console

    class Rate(rich.ProgressColumn):
        def render(self, task: rich.Task) -> str:
            return f"{task.speed:.1f} {unit}/s" if task.speed else ""

    columns = (
        rich.TextColumn("{task.description}", markup=False),  # a prompt may hold [/INST]
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        Rate(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
