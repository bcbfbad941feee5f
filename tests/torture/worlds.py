"""Worlds: a folder in which one command runs, with its own cache and temporary folder."""

import os
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torture.commands import Command, link_shared
from torture.warm import Ended, Shot, run

from kvlens.store.files import cache_dir

State = dict[str, str | bytes]  # path -> content of a file; what else it is, in words
PLACES = ("work", "cache", "hub", "tmp")  # the folders of a world
# mteb writes when and how long it worked: all that two undisturbed runs differ in.
TIMES = re.compile(rb'"(evaluation_time|date|start|end)": [-+.e0-9]+')
SEAL = re.compile(rb'"__metadata__":{[^}]*}')  # has the hash of such a result


@dataclass(frozen=True)
class World:
    """A folder in which one command runs.

    Attributes:
        folder: holds the others.
    """

    folder: Path

    @property
    def work(self) -> Path:
        """Where the command runs and writes."""
        return self.folder / "work"

    @property
    def environment(self) -> dict[str, str]:
        """What makes caches and temporary files stay in this world."""
        return {
            "KVLENS_CACHE": str(self.folder / "cache"),
            "HF_HOME": str(self.folder / "hub"),
            "TMPDIR": str(self.folder / "tmp"),
        }

    def run(
        self,
        arguments: list[str],
        arm: Callable[[], None] | None = None,
        shot: Shot | None = None,
    ) -> Ended:
        """Run a command line in it, see `warm.run`."""
        return run(arguments, self.work, self.environment, arm, shot)

    def copy(self, folder: Path) -> "World":
        """The same world again, at another place."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return World(folder)

    def state(self) -> State:
        """All that stands in the folder where the command writes."""
        return state_of(self.work)

    def hidden(self) -> list[str]:
        """Hidden files where results and the cache are: what is not finished."""
        places = [self.work, self.folder / "cache"]
        found = [path for place in places for path in place.rglob(".*")]
        return sorted(str(path.relative_to(self.folder)) for path in found)

    def temporary(self) -> list[str]:
        """What is in the temporary folder: whoever is killed cannot clean it."""
        return sorted(path.name for path in (self.folder / "tmp").iterdir())

    def sizes(self, place: str) -> list[int]:
        """The sizes of all files in one of its folders."""
        files = (self.folder / place).rglob("*")
        return [path.lstat().st_size for path in files if path.is_file()]

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def new_world(folder: Path, shared: Path, command: Command) -> World:
    """The world as it is before a command."""
    world = World(folder)
    for name in PLACES:
        (folder / name).mkdir(parents=True)
    link_shared(shared, world.work)
    # Wikipedia's passages are read there; nothing is written.
    (folder / "cache" / "texts").symlink_to(cache_dir() / "texts")
    for line in command.before:
        ended = world.run(Command("before", line).arguments())
        assert ended.code == 0, f"{line}: {ended.err}"
    for name in command.files:
        (world.work / name).write_text("the user's")
    return world


def state_of(folder: Path) -> State:
    """Every path below a folder, with its mode and content; times of mteb's set aside."""
    state: State = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent) / name
            state[str(path.relative_to(folder))] = _content(path)
    return state


def _content(path: Path) -> str | bytes:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return f"link to {os.readlink(path)}"
    if not stat.S_ISREG(mode):
        return stat.filemode(mode)
    return stat.filemode(mode).encode() + b" " + _timeless(path)


def _timeless(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".json" and "results" in path.parts:
        return TIMES.sub(rb'"\1": 0', content)
    if path.name.endswith(".items.safetensors"):
        return SEAL.sub(b"", content)
    return content


def differences(one: State, other: State) -> list[str]:
    """The paths at which two states differ."""
    return sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))
