"""Kills: commands that are stopped anywhere, and what they leave; see `laws`.

* At every change of a name: killed, interrupted, or told that the disk is full, right before or
  right after. Names that a user sees get all of it; the rest a sample, drawn by the seed.
* At random times, by SIGINT, SIGTERM and SIGKILL, drawn by the seed.
* Some of those cold: as a process of its own, which may be stopped while it still imports.
"""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from torture import laws
from torture.faults import HOWS, SIDES, Call, Fault, read_calls, strike_at
from torture.stages import Stage, crew, refuse, start_again
from torture.warm import Ended, Shot
from torture.worlds import World

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
# A signal before the command's first line has the interpreter's own effect.
CODES = {signal.SIGINT: (130, -2), signal.SIGTERM: (143, -15), signal.SIGKILL: (-9,)}
CODES_AT_CALLS = {"kill": (-9,), "interrupt": (130,), "full": (0, 2)}
STOPPED = (2, 130, 143)  # codes that go with a line
SAMPLE_SECONDS = 10.0  # so long is worked on changes that nobody sees, of each command
COLD_SHARE = 0.2
COLD_SECONDS = 6.0  # that imports take


@dataclass(frozen=True)
class Case:
    """One stop of one command.

    Attributes:
        stage: the command, and what undisturbed runs make.
        fault: at a call; or
        shot: at a time.
        cold: as a process of its own.
    """

    stage: Stage
    fault: Fault | None = None
    shot: Shot | None = None
    cold: bool = False

    @property
    def name(self) -> str:
        """By which it is run again."""
        return f"{self.stage.command.name}:{self._how}"

    @property
    def _how(self) -> str:
        if self.fault:
            return f"{self.fault.how}-{self.fault.side}-{self.fault.call.number}"
        start = "cold" if self.cold else "warm"
        return f"{start}-{self.shot.signal.name}-{self.shot.after:.3f}"

    @property
    def kind(self) -> str:
        """By which it is counted."""
        if self.fault:
            return f"at a name: {self.fault.how} {self.fault.side}"
        return f"{'cold, ' if self.cold else ''}at random: {self.shot.signal.name}"

    @property
    def codes(self) -> tuple[int, ...]:
        """Exit codes of the stopped run; before a shot it may have been done."""
        if self.fault:
            return CODES_AT_CALLS[self.fault.how]
        return (0, *CODES[self.shot.signal])

    @property
    def can_clean(self) -> bool:
        """Whether the stopped run can have removed its scratch."""
        return bool(self.fault) and self.fault.how != "kill" and not self.fault.call.removes

    def stop(self, world: World) -> Ended:
        """Run the command in a world, and stop it."""
        arguments = self.stage.command.arguments()
        if self.cold:
            return _cold(arguments, world, self.shot)
        arm = strike_at(self.fault) if self.fault else None
        return world.run(arguments, arm, self.shot)

    def problem(self) -> str:
        """Which law is broken; empty where all hold."""
        world = self.stage.world.copy(self.stage.folder / self._how)
        try:
            self._check(world)
        except laws.Broken as broken:
            return str(broken)
        finally:
            world.remove()
        return ""

    def _check(self, world: World) -> None:
        stage = self.stage
        ended = self.stop(world)
        laws.check_words(ended.err)
        if ended.code not in self.codes:
            raise laws.Broken(f"exit code {ended.code}: {ended.err!r}")
        if ended.code in STOPPED:
            laws.check_one_line(ended.err)
        now = world.state()
        aside = laws.check_targets(stage.command.whole, stage.before, stage.after(), now)
        if self.can_clean:
            laws.check_no_scratch(now, world.scratch())
        if ended.code == 0:
            laws.check_told(aside, now, ended.err)
            laws.check_complete(aside, stage.after(), now)
        else:
            start_again(stage, world, now, aside)


def campaign(seed: int, n: int, folder: Path, only: str = "") -> Counter[str]:
    """Stop every command at its changes of names, and `n` times at random.

    Args:
        seed: of what is drawn.
        n: how many stops at random times; below 100, no others are tried than these.
        folder: empty; for the worlds.
        only: a command's name, or a case's: nothing else is tried.

    Returns:
        What was tried -> how often.

    Raises:
        AssertionError: with the seed and the cases where a law does not hold.
    """
    with crew(folder) as forks:
        seconds = forks.stages(only)
        cases = [*_at_names(Random(seed), seconds), *_at_random(Random(seed), n, seconds)]
        if ":" in only:
            cases = [case for case in cases if case.name == only]
        problems = forks.problems(Case.problem, cases)
    names = [case.name for case in cases]
    broken = {name: why for name, why in zip(names, problems, strict=True) if why}
    refuse("kills", seed, broken, len(cases))
    return Counter(case.kind for case in cases)


def _at_names(random: Random, seconds: dict[Stage, float]) -> Iterator[Case]:
    """All faults at names that a user sees; a sample of all faults at all other changes."""
    for stage, length in seconds.items():
        calls = read_calls(stage.log)
        everywhere = [call for call in calls if call.is_seen]
        elsewhere = [call for call in calls if not call.is_seen]
        faults = list(_faults(elsewhere))
        n = min(len(faults), 2 + int(SAMPLE_SECONDS / length))
        for fault in [*_faults(everywhere), *random.sample(faults, n)]:
            yield Case(stage, fault)


def _faults(calls: list[Call]) -> Iterator[Fault]:
    for call, side, how in itertools.product(calls, SIDES, HOWS):
        if how != "full" or not call.removes:  # a full disk lets go
            yield Fault(call, side, how)


def _at_random(random: Random, n: int, seconds: dict[Stage, float]) -> Iterator[Case]:
    """Every command in turn, with every signal in turn."""
    stages = list(seconds)
    for number in range(n):
        stage = stages[number % len(stages)]
        which = SIGNALS[(number + number // len(stages)) % len(SIGNALS)]
        cold = number < COLD_SHARE * n
        longest = seconds[stage] + COLD_SECONDS * cold
        yield Case(stage, shot=Shot(which, random.uniform(0, longest)), cold=cold)


def _cold(arguments: list[str], world: World, shot: Shot) -> Ended:
    """Run the command as a process of its own, and shoot."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kvlens.cli", *arguments],
        cwd=world.work,
        env={**os.environ, **world.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    begin = time.monotonic()
    try:
        out, err = process.communicate(timeout=shot.after)
    except subprocess.TimeoutExpired:
        process.send_signal(shot.signal)
        out, err = process.communicate()
    return Ended(process.returncode, out, err, time.monotonic() - begin)
