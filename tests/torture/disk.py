"""Disk: what commands do where there is no space, no permission, or no folder; see `laws`.

The place where they write, their cache, their temporary folder or the hub's cache is a disk of a
few kilobytes, drawn by the seed, or is closed, or a file. Where no disk can be mounted, a limit on
the size of files stands in. A refusal is one line that names the place; what was there is whole;
with space again, the next start completes with the bytes of an undisturbed run.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

from torture import laws
from torture.narrow import (
    can_mount,
    closed,
    no_file_above,
    on_small_disk,
    own_mounts,
    replaced_by_a_file,
    unmount,
)
from torture.stages import Stage, chosen, crew, refuse, start_again
from torture.worlds import PLACES, World

What = Literal["full", "limit", "closed", "file"]
LEAST = 64 << 10  # bytes
SIZES = 3  # of each place, for each command


@dataclass(frozen=True)
class Case:
    """One command where one place is narrow.

    Attributes:
        stage: the command, and what undisturbed runs make.
        what: a disk that is ``full``, a ``limit`` of a file's size, a ``closed`` folder, or a
            ``file`` in its place.
        place: which folder of the world.
        size: bytes that there are.
        disk: whether a disk can be mounted.
    """

    stage: Stage
    what: What
    place: str
    size: int = 0
    disk: bool = True

    @property
    def name(self) -> str:
        """By which it is run again."""
        return f"{self.stage.command.name}:{self._how}"

    @property
    def _how(self) -> str:
        return f"{self.what}-{self.place}-{self.size}"

    @property
    def kind(self) -> str:
        """By which it is counted."""
        return f"{self.what}: {self.place}"

    def problem(self) -> str:
        """Which law is broken; empty where all hold."""
        world = self.stage.world.copy(self.stage.folder / self._how)
        try:
            self._check(world)
        except laws.Broken as broken:
            return str(broken)
        finally:
            if (world.folder / self.place).is_mount():
                unmount(world.folder / self.place)
            world.remove()
        return ""

    def _check(self, world: World) -> None:
        stage = self.stage
        widen, arm = self._narrow(world.folder / self.place)
        ended = world.run(stage.command.arguments(), arm)
        laws.check_words(ended.err)
        if ended.code not in (0, 2):
            raise laws.Broken(f"exit code {ended.code}: {ended.err!r}")
        now = world.state()
        widen()
        laws.check_targets(stage.command.whole, stage.before, stage.after(), now)
        laws.check_no_scratch(world.hidden() + world.temporary())
        if ended.code == 0:
            laws.check_complete([], stage.after(), now)
            return
        laws.check_one_line(ended.err)
        laws.check_named([*stage.written, str(world.folder)], ended.err)
        start_again(stage, world, now, [])

    def _narrow(self, folder: Path) -> tuple[Callable[[], None], Callable[[], None] | None]:
        """Make a place narrow: what widens it, and what the command's process is to call."""
        if self.what == "limit":
            return lambda: None, no_file_above(self.size)
        if self.what == "full":
            return on_small_disk(folder, self.size), None
        if self.what == "closed":
            return closed(folder, self.disk), None
        return replaced_by_a_file(folder), None


def campaign(seed: int, n: int, folder: Path, only: str = "") -> Counter[str]:
    """Run every command where a place is narrow.

    Args:
        seed: of what is drawn.
        n: most cases; of more, so many are drawn.
        folder: empty; for the worlds.
        only: names of commands, with commas between, or a case: nothing else is tried.

    Returns:
        What was tried -> how often.

    Raises:
        AssertionError: with the seed and the cases where a law does not hold.
    """
    with crew(folder, own_mounts) as forks:
        stages = forks.stages(only)
        disk = forks.once(can_mount)
        cases = [case for stage in stages for case in _cases(seed, stage, disk)]
        cases = chosen(cases, only, n, seed)
        problems = forks.problems(Case.problem, cases)
    refuse("disk", seed, cases, problems)
    return Counter(case.kind for case in cases)


def _cases(seed: int, stage: Stage, disk: bool) -> Iterator[Case]:
    random = Random(f"{seed}/{stage.command.name}")
    for place in PLACES:
        if stage.changes(place):
            yield from _at_place(random, stage, place, disk)
    largest = max(stage.counted.sizes("work"))
    for _ in range(SIZES):
        yield Case(stage, "limit", "work", random.randrange(largest))


def _at_place(random: Random, stage: Stage, place: str, disk: bool) -> Iterator[Case]:
    yield Case(stage, "closed", place, disk=disk)
    if place != "work":
        yield Case(stage, "file", place)
    needed = sum(stage.counted.sizes(place)) - sum(stage.world.sizes(place))
    for _ in range(SIZES * disk):
        yield Case(stage, "full", place, random.randrange(max(needed, LEAST)))
