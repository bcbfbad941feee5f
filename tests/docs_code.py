"""Code blocks of the README and the documentation, and what runs them on a tiny model.

A page's blocks run in order, with one namespace and in one folder. The named models stand for a
tiny random one of as many layers; texts are few. So what is tested is that every line works as
written, not what it prints. Of the terminal's lines those of `QUICK` run; the others, minutes in
all, are parsed by the terminal itself, and run where a runner is `thorough`.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from markdown_it import MarkdownIt

from kvlens.cli import main
from kvlens.cli.app import app

ROOT = Path(__file__).parents[1]
LANGUAGES = {"python", "sh", "toml", "json", "text"}  # text: what is printed, or a sketch
NEEDS = re.compile(r"<!-- needs: (?P<packages>.+?) -->")
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+?) -->")
MODEL = re.compile(r"(?<![\w./-])(MODEL|smollm2-135m|gemma3-270m)(?![\w.:/-])")
RUN = re.compile(r"\bruns/(MODEL|gemma3-270m)(?=[/\s-]|$)")
PASSAGES = re.compile(r"calibration_texts\((\d+)\)")
LEAST = 50  # texts that an estimate takes
MANY = 100  # who asks for so many estimates
A_FEW = 4
QUICK = {"embed", "models"}
RUN_OF_DEEP = "runs/smollm2-135m"

# What is added to a command, so that it takes a second: a later flag replaces an earlier one.
FEWER = {
    "attend": "--overwrite --n 10",
    "bench": "--n 2 --repeats 1 --methods mean",
    "check": "--overwrite",
    "embed": "--overwrite",
    "compare": "--overwrite",
    "figures": "--overwrite",
    "choose": (
        "-o decision.json --overwrite --n 40 --widths 1 --biases 1 --finalists 2 --posts none"
    ),
    "evaluate": "--methods mean",
    "lens": "--overwrite --n-words 3 --n-low-rank 2 --n 20 --n-geometry 20 --methods mean",
    "profile": f"--overwrite --n {LEAST} --draws 3",
    "report": "--n 3",
    "sweep": "--overwrite --n 12",
}
FEWER_PAIRS = {"choose": "--n 200", "evaluate": "--n 10"}
FEWER_OTHERS = {"evaluate": "--data-dir data --limit 10"}  # without pairs
COMMENT = re.compile(r"(^|\s)#.*")  # inside a word, # is a sign like others
# What names layers by their index, has them, or is read with what has.
DEEP = ("--layers", RUN_OF_DEEP, "--widths 4", " trace")


class Block(NamedTuple):
    """A fenced block: its page, first line, language and text, and why it is not run, if so.

    Where packages that it needs are missing, it is left to `make test-tools`, which has them.
    """

    page: str
    line: int
    language: str
    source: str
    reason: str
    needs: tuple[str, ...] = ()

    @property
    def is_left_out(self) -> bool:
        """Whether it is not run here."""
        return bool(self.reason) or any(find_spec(name) is None for name in self.needs)


def pages() -> list[str]:
    """The README and every page of docs/, from the repository's root."""
    docs = sorted((ROOT / "docs").rglob("*.md"))
    return ["README.md", *(path.relative_to(ROOT).as_posix() for path in docs)]


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    reason = ""
    needs: tuple[str, ...] = ()
    for token in MarkdownIt("commonmark").parse((ROOT / page).read_text(encoding="utf-8")):
        if token.type == "html_block":
            match = NOT_RUN.search(token.content)
            reason = match["reason"] if match else ""
            match = NEEDS.search(token.content)
            needs = tuple(match["packages"].split()) if match else ()
        elif token.type == "fence":
            line = token.map[0] + 1
            found.append(Block(page, line, token.info, token.content, reason, needs))
            reason, needs = "", ()
    return found


class Runner:
    """Runs blocks, a command line once.

    Args:
        deep: the folder of the model that stands for the named ones.
        shallow: of one with few layers.
        thorough: run every command, not `QUICK` alone.
    """

    def __init__(self, deep: Path, shallow: Path, thorough: bool = False):
        self.thorough = thorough
        self.deep = str(deep)
        self.shallow = str(shallow)
        self.done: set[tuple[str, ...]] = set()

    def make_run(self) -> None:
        """The run that pages refer to, by the line that they make it with."""
        line = ["profile", self.deep, "-o", RUN_OF_DEEP, "--overwrite"]
        assert main([*line, *FEWER["profile"].split(), "--save-trace"]) == 0
        self.done |= {tuple(line), ("profile", self.shallow)}

    def run(self, block: Block, names: dict[str, Any]) -> None:
        """Run a block with these names, and leave there what it defines."""
        if block.language == "python":
            source = PASSAGES.sub(_fewer_passages, RUN.sub(RUN_OF_DEEP, block.source))
            source = re.sub(r'"(smollm2-135m|gemma3-270m)"', f'"{self.deep}"', source)
            exec(compile(source, f"{block.page}:{block.line}", "exec"), names)
        elif block.language == "sh":
            for line in block.source.replace("\\\n", " ").splitlines():
                self._run_line(RUN.sub(RUN_OF_DEEP, line))
        elif block.language == "toml":
            tomllib.loads(block.source)
        elif block.language == "json":
            json.loads(block.source)

    def _run_line(self, line: str) -> None:
        """A command of kvlens in this process; what make would do, without doing it."""
        model = self.deep if any(word in line for word in DEEP) else self.shallow
        words = shlex.split(COMMENT.sub("", MODEL.sub(model, line)))
        program, *arguments = words or [""]
        if program == "make":
            subprocess.run(["make", "-n", *arguments], cwd=ROOT, check=True, capture_output=True)
        elif program:
            assert program == "kvlens", f"no test can run {program}: {line}"
            self._run_command(arguments, line)

    def _run_command(self, arguments: list[str], line: str) -> None:
        if "--config" in arguments:  # of the terminal as a whole, and of a file that a run left
            return
        app.parse_args(arguments)
        if "--engine" in arguments:  # of an extra that `make test` does not install
            return
        if not self.thorough and arguments[0] not in QUICK:
            return
        fewer = FEWER.get(arguments[0], "").split()
        items = FEWER_PAIRS if "--pairs" in arguments else FEWER_OTHERS
        fewer += items.get(arguments[0], "").split()
        if "--text" in arguments:
            fewer = ["--overwrite"]
        if "--resume" in arguments:
            fewer = [flag for flag in fewer if flag != "--overwrite"]
        if tuple(arguments) in self.done:
            return
        self.done.add(tuple(arguments))
        assert main([*arguments, *fewer]) == 0, line


def _fewer_passages(match: re.Match[str]) -> str:
    return f"calibration_texts({LEAST if int(match[1]) >= MANY else A_FEW})"
