"""Laws: what holds after a command was stopped, and after its next start.

1. Words: one line says what happened, no traceback.
2. Targets: all that was there, and all that the command writes, is as before or all new. A folder
   that had to step aside is whole beside its place.
3. The next start: it tells what stands aside, and it completes, with the bytes of an undisturbed
   run; no scratch, lock or chunk is left.
"""

import re

from torture.worlds import State, differences

LONGEST_LINE = 399
HIDDEN = re.compile(r"(^|/)\.")
GROWING = "run_settings.jsonl"  # mteb's, a line for each task
CHUNKS = re.compile(r"\.part(/|$)")  # of vectors, left on purpose for a resume


class Broken(AssertionError):
    """A law does not hold: which, and how."""


def is_before_the_command(err: str) -> bool:
    """Whether this is the interpreter's word on Ctrl-C before the command's first line."""
    return err.rstrip().endswith("KeyboardInterrupt") and "in main" not in err


def check_words(err: str) -> None:
    """Standard error has no traceback, and no line that is longer than a screen."""
    if "Traceback" in err or "Exception ignored" in err:
        raise Broken(f"words: {err}")
    for line in err.splitlines():
        if len(line) > LONGEST_LINE:
            raise Broken(f"words: a line of {len(line)} characters: {line}")


def check_one_line(err: str) -> None:
    """Standard error is one line of kvlens, notes aside."""
    lines = [line for line in err.splitlines() if not line.startswith("note:")]
    if len(lines) != 1 or not lines[0].startswith("kvlens: "):
        raise Broken(f"words: not one line of kvlens: {err!r}")


def check_named(names: list[str], err: str) -> None:
    """The line names a file or a folder that could not be written."""
    if not any(name in err for name in names):
        raise Broken(f"words: none of {names} is named: {err!r}")


def check_targets(whole: tuple[str, ...], before: State, after: State, now: State) -> list[str]:
    """Everything is as before or all new.

    Args:
        whole: folders that are swapped as a whole.
        before: what was there.
        after: what an undisturbed run makes of it.
        now: what is there.

    Returns:
        The folders that hold, beside its place, what a swapped folder was before.
    """
    aside = _aside(whole, before, now)
    for folder in whole:
        old, new, present = (below(folder, state) for state in (before, after, now))
        in_place = present in (old, new)
        if not in_place and not (aside and not present):
            raise Broken(f"targets: {folder} is neither old nor new: {sorted(now)}")
    for path in sorted(before.keys() | now.keys()):
        if HIDDEN.search(path) or CHUNKS.search(path) or _is_within(path, (*whole, *aside)):
            continue
        grown = path.endswith(GROWING) and _holds_lines_of(now.get(path), after.get(path))
        if now.get(path) not in (before.get(path), after.get(path)) and not grown:
            raise Broken(f"targets: {path} is neither old nor new")
    return aside


def _holds_lines_of(now: str | bytes | None, after: str | bytes | None) -> bool:
    """Whether a file has whole lines of what it is going to be."""
    if not isinstance(now, bytes) or not isinstance(after, bytes):
        return False
    return set(now.splitlines(keepends=True)) <= set(after.splitlines(keepends=True))


def check_no_scratch(left: list[str], aside: list[str] | tuple[str, ...] = ()) -> None:
    """Nothing unfinished is left, but what tells of folders that stand aside."""
    marks = [mark for folder in aside for mark in _marks(folder)]
    left = [path for path in left if path.removeprefix("work/") not in marks]
    if left:
        raise Broken(f"scratch is left: {left}")


def check_told(aside: list[str], now: State, said: str) -> None:
    """What still stands aside after the next start, that start has told."""
    for folder in aside:
        if below(folder, now) and folder not in said:
            raise Broken(f"next start: {folder} is not told: {said!r}")


def check_complete(aside: list[str], after: State, now: State) -> None:
    """All is there with the bytes of an undisturbed run, and nothing besides."""
    marks = [mark for folder in aside for mark in _marks(folder) if folder in now]
    wrong = [path for path in differences(after, now) if not _is_within(path, aside)]
    wrong = [path for path in wrong if path not in marks]
    if wrong:
        raise Broken(f"next start: not as after an undisturbed run: {wrong}")


def _marks(folder: str) -> list[str]:
    """By what every start knows that `NAME.before` stands aside: an empty file, in a folder."""
    home = f".{folder.partition('.before')[0]}.kvlens"
    return [home, f"{home}/{folder}"]


def below(folder: str, state: State) -> State:
    """The part of a state below a folder, by paths within it."""
    prefix = f"{folder}/"
    return {
        path.removeprefix(prefix): content
        for path, content in state.items()
        if path.startswith(prefix)
    }


def _is_within(path: str, folders: list[str] | tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _aside(whole: tuple[str, ...], before: State, now: State) -> list[str]:
    """Visible folders that hold just what a swapped one was."""
    candidates = [path for path in now if "/" not in path and path not in before]
    return [
        path
        for path in candidates
        for folder in whole
        if below(folder, before) and below(path, now) == below(folder, before)
    ]
