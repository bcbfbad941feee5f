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
from torture.stages import Stage, chosen, crew, refuse, start_again
from torture.warm import Ended, Shot
from torture.worlds import World

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
# A signal before the command's first line has the interpreter's own effect.
CODES = {signal.SIGINT: (130, -2), signal.SIGTERM: (143, -15), signal.SIGKILL: (-9,)}
CODES_AT_CALLS = {"kill": (-9,), "interrupt": (130,), "full": (0, 2)}
STOPPED = (2, 130, 143)  # codes that go with a line
SAMPLE_SECONDS = 6.0  # so long is worked on changes that nobody sees, of each command
TIMES = 7  # random times of each command
COLD_SECONDS = 6.0  # that imports take


@dataclass(frozen=True)
class Case:
    """One stop of one command.

    Attributes:
        stage: the command, and what undisturbed runs make.
        fault: at a call; or
        shot: at a time, which is
        share: of the seconds that an undisturbed run takes.
        cold: as a process of its own.
    """

    stage: Stage
    fault: Fault | None = None
    shot: Shot | None = None
    share: float = 0.0
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
        return f"{start}-{self.shot.signal.name}-{self.share:.3f}"

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
        too_early = self.cold and laws.is_before_the_command(ended.err)
        if not too_early:
            laws.check_words(ended.err)
        if ended.code not in self.codes and not too_early:
            raise laws.Broken(f"exit code {ended.code}: {ended.err!r}")
        if ended.code in STOPPED:
            laws.check_one_line(ended.err)
        now = world.state()
        aside = laws.check_targets(stage.command.whole, stage.before, stage.after(), now)
        if self.can_clean:
            laws.check_no_scratch(world.hidden() + world.temporary())
        if ended.code == 0:
            laws.check_told(aside, now, ended.err)
            laws.check_complete(aside, stage.after(), now)
        else:
            start_again(stage, world, now, aside)


def campaign(seed: int, n: int, folder: Path, only: str = "") -> Counter[str]:
    """Stop every command at its changes of names, and at random times.

    Args:
        seed: of what is drawn.
        n: most stops; of more, so many are drawn.
        folder: empty; for the worlds.
        only: names of commands, with commas between, or a case: nothing else is tried.

    Returns:
        What was tried -> how often.

    Raises:
        AssertionError: with the seed and the cases where a law does not hold.
    """
    with crew(folder) as forks:
        seconds = forks.stages(only)
        cases = [case for stage, length in seconds.items() for case in _cases(seed, stage, length)]
        cases = chosen(cases, only, n, seed)
        problems = forks.problems(Case.problem, cases)
    refuse("kills", seed, cases, problems)
    return Counter(case.kind for case in cases)


def _cases(seed: int, stage: Stage, seconds: float) -> Iterator[Case]:
    random = Random(f"{seed}/{stage.command.name}")
    yield from _at_random(random, stage, seconds)
    yield from _at_names(random, stage, seconds)


def _at_random(random: Random, stage: Stage, seconds: float) -> Iterator[Case]:
    """Every signal in turn, the first time cold."""
    first = random.randrange(len(SIGNALS))
    for number in range(TIMES):
        cold = number == 0
        longest = seconds + COLD_SECONDS * cold
        which = SIGNALS[(first + number) % len(SIGNALS)]
        share = random.random()
        yield Case(stage, shot=Shot(which, share * longest), share=share, cold=cold)


def _at_names(random: Random, stage: Stage, seconds: float) -> Iterator[Case]:
    """All faults at names that a user sees; a sample of all faults at all other changes."""
    calls = read_calls(stage.log)
    elsewhere = list(_faults([call for call in calls if not call.is_seen]))
    n = min(len(elsewhere), 2 + int(SAMPLE_SECONDS / seconds))
    for fault in _faults([call for call in calls if call.is_seen]):
        yield Case(stage, fault)
    for fault in random.sample(elsewhere, n):
        yield Case(stage, fault)


def _faults(calls: list[Call]) -> Iterator[Fault]:
    for call, side, how in itertools.product(calls, SIDES, HOWS):
        if how != "full" or not call.removes:  # a full disk lets go
            yield Fault(call, side, how)


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
