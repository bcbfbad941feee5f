"""Stages: a command with the world before it, what undisturbed runs make of that, and a next start.

What kills and full disks share: they differ in what stops the command in between.
"""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

from torture import laws
from torture.commands import COMMANDS, Command, make_shared
from torture.faults import count_calls, read_calls
from torture.warm import warm_up
from torture.worlds import State, World, new_world

PROCESSES = 2
FLAGS = ("--resume", "--overwrite")  # in the order in which a user would take a message's advice


@dataclass(frozen=True)
class Stage:
    """One command, with the world before it, and what undisturbed runs make of that.

    Attributes:
        command: which.
        folder: holds the worlds.
    """

    command: Command
    folder: Path

    @property
    def world(self) -> World:
        """The world before the command, never touched."""
        return World(self.folder / "before")

    @property
    def counted(self) -> World:
        """The world after an undisturbed run, whose calls were counted."""
        return World(self.folder / "counted")

    @property
    def log(self) -> Path:
        """The calls of that run."""
        return self.folder / "calls"

    def changes(self, place: str) -> bool:
        """Whether the command makes, renames or removes anything in a folder of its world."""
        folder = self.counted.folder / place
        return any(call.path.is_relative_to(folder) for call in read_calls(self.log))

    @property
    def before(self) -> State:
        """What is there before the command."""
        return _before(self)

    def after(self, *flags: str) -> State:
        """What an undisturbed run makes of it, with further flags."""
        return _undisturbed(self, flags)

    @property
    def written(self) -> list[str]:
        """The first parts of the paths that an undisturbed run changes."""
        return sorted({path.split("/")[0] for path in laws.differences(self.before, self.after())})

    def build(self, shared: Path) -> float:
        """Make the world before, and run the command undisturbed in two copies.

        Returns:
            How many seconds a run takes.
        """
        new_world(self.folder / "before", shared, self.command)
        counted = self.world.copy(self.counted.folder)
        ended = counted.run(self.command.arguments(), count_calls(self.log))
        assert ended.code == 0, f"{self.command.line}: {ended.err}"
        laws.check_complete([], self.after(), counted.state())
        return ended.seconds


@functools.cache
def _before(stage: Stage) -> State:
    return stage.world.state()


@functools.cache
def _undisturbed(stage: Stage, flags: tuple[str, ...]) -> State:
    world = stage.world.copy(stage.folder / f"undisturbed-{os.getpid()}{''.join(flags)}")
    ended = world.run(stage.command.arguments(*flags))
    assert ended.code == 0, f"{stage.command.line} {flags}: {ended.err}"
    state = world.state()
    laws.check_no_scratch(world.hidden() + world.temporary())
    world.remove()
    return state


def start_again(stage: Stage, world: World, stopped: State, aside: list[str]) -> None:
    """The same command again, with what its message says: it completes.

    Args:
        stage: what was stopped.
        world: where.
        stopped: what the stopped run left.
        aside: folders that stand beside their place, see `laws.check_targets`.

    Raises:
        Broken: when it does not, or not with the bytes of an undisturbed run.
    """
    flags: tuple[str, ...] = ()
    ended = world.run(stage.command.arguments())
    said = ended.out + ended.err
    if ended.code == 2:
        laws.check_one_line(ended.err)
        if not laws.differences(stage.after(), stopped):
            return  # it was complete: the refusal to write it again is right
        flags = tuple(flag for flag in FLAGS if flag in ended.err)[:1]
        if not flags:
            raise laws.Broken(f"next start: no advice: {ended.err!r}")
        ended = world.run(stage.command.arguments(*flags))
        said += ended.out + ended.err
    laws.check_words(ended.err)
    if ended.code != 0:
        raise laws.Broken(f"next start: exit code {ended.code}: {said!r}")
    now = world.state()
    laws.check_told(aside, now, said)
    laws.check_complete(aside, stage.after(*flags), now)
    laws.check_no_scratch(world.hidden(), aside)


class Crew:
    """Two forks of one warm process, which build stages and try cases side by side."""

    def __init__(self, pool: Any, shared: Path, folder: Path):
        self._pool = pool
        self._shared = shared
        self._folder = folder

    def stages(self, only: str) -> dict[Stage, float]:
        """The stages of the commands that `only` names, else of all, and their seconds."""
        names = only.partition(":")[0].split(",")
        commands = [command for command in COMMANDS if not only or command.name in names]
        stages = [Stage(command, self._folder / command.name) for command in commands]
        build = functools.partial(Stage.build, shared=self._shared)
        return dict(zip(stages, self._pool.map(build, stages, chunksize=1), strict=True))

    def once(self, ask: Callable[[Path], bool]) -> bool:
        """What one of the forks answers about an empty folder."""
        folder = self._folder / "asked"
        folder.mkdir()
        return self._pool.apply(ask, (folder,))

    def problems(self, problem_of: Callable[[Any], str], cases: list[Any]) -> list[str]:
        """What is wrong with each case, in words, told at once; empty where every law holds."""
        problems = []
        for case, problem in zip(cases, self._pool.imap(problem_of, cases), strict=True):
            problems.append(problem)
            if problem:
                print(f"{case.name}: {problem}", file=sys.stderr, flush=True)
        return problems


@contextmanager
def crew(folder: Path, begin: Callable[[], None] | None = None) -> Iterator[Crew]:
    """Warm up, make what all commands read, and fork.

    Args:
        folder: empty; for the worlds.
        begin: called in each fork.

    Yields:
        The forks.
    """
    warm_up()
    shared = folder / "shared"
    shared.mkdir()
    context = get_context("fork")
    # In a process of its own: this one makes no tensors, and stays fit for forks.
    maker = context.Process(target=make_shared, args=(shared,))
    maker.start()
    maker.join()
    assert maker.exitcode == 0
    with context.Pool(PROCESSES, begin) as pool:
        yield Crew(pool, shared, folder)


def chosen(cases: list[Any], only: str, n: int, seed: int) -> list[Any]:
    """The case that `only` names, if it names one; else `n` of them, in their order."""
    if ":" in only:
        return [case for case in cases if case.name == only]
    if n >= len(cases):
        return cases
    drawn = Random(seed).sample(range(len(cases)), n)
    return [cases[number] for number in sorted(drawn)]


def refuse(campaign: str, seed: int, cases: list[Any], problems: list[str]) -> None:
    """Raise AssertionError with the seed and each broken case."""
    broken = [
        f"  --only {campaign} --case {case.name}\n    {problem}"
        for case, problem in zip(cases, problems, strict=True)
        if problem
    ]
    if broken:
        lines = "\n".join(broken)
        raise AssertionError(f"seed {seed}: {len(broken)} of {len(cases)} cases:\n{lines}")
