"""The lowest and the newest transformers and TransformerLens that kvlens says it works with.

`make test-matrix` runs it in `.venv`. It makes an environment for each pair in `.matrix`, on top of
`.venv` so that torch is not installed again, runs the tests of `ROOMS` there and prints a table.
torch and everything else stay at `constraints.txt`, except what transformers itself pins.
"""

import os
import re
import subprocess
import sys
import sysconfig
import time
import tomllib
import venv
from datetime import date
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".matrix"
ROOMS = ("models", "tracing", "rerouting", "methods", "embedding")
CHOSEN = "not torture and not zoo"  # the zoo has families that are younger than the lowest
VARIED = ("transformers", "transformer-lens")
FREED = (*VARIED, "huggingface_hub", "safetensors", "tokenizers")  # transformers pins them
COUNTS = re.compile(r"(\d+) (passed|failed|error)")


def requirements() -> dict[str, Requirement]:
    """What pyproject.toml says of the two."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    all_of_them = (Requirement(line) for line in project["dependencies"])
    return {found.name: found for found in all_of_them if found.name in VARIED}


def pins(pair: str) -> list[str]:
    """What is installed: the lower bounds themselves, or the newest that these allow."""
    if pair == "newest":
        return [str(wanted) for wanted in requirements().values()]
    bounds = [
        (name, bound.version)
        for name, wanted in requirements().items()
        for bound in wanted.specifier
        if bound.operator == ">="
    ]
    return [f"{name}=={version}" for name, version in bounds]


def environment(pair: str) -> Path:
    """The Python of a new environment that has this pair, and all else from `.venv`."""
    folder = CACHE / pair
    venv.create(folder, clear=True, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    below = sysconfig.get_path("purelib")
    own = Path(below.replace(sys.prefix, str(folder), 1))
    (own / "below.pth").write_text(f"{below}\n")
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(line for line in lines if line.split("==")[0] not in FREED))
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--upgrade", "-c", constraints, *pins(pair)], check=True)
    subprocess.run([*install, "--no-deps", "--editable", ROOT], check=True)
    subprocess.run([python, "-m", "pip", "check"], check=True)
    return python


def versions(python: Path) -> list[str]:
    """The versions that are imported there."""
    code = f"from importlib.metadata import version as v; print(*map(v, {(*VARIED, 'torch')}))"
    run = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return run.stdout.split()


def tested(python: Path, processes: str) -> tuple[dict[str, int], float]:
    """How many tests of the rooms passed, failed and broke, and the seconds it took."""
    folders = [f"tests/{room}" for room in ROOMS]
    command = [python, "-m", "pytest", "-q", "-n", processes, "-m", CHOSEN, *folders]
    one_thread = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    began = time.monotonic()
    run = subprocess.run(
        command, cwd=ROOT, env=os.environ | one_thread, stdout=subprocess.PIPE, text=True
    )
    lines = run.stdout.splitlines()
    print(*(line for line in lines if line.startswith(("FAILED", "ERROR"))), sep="\n")
    counts = {kind: int(n) for n, kind in COUNTS.findall(lines[-1] if lines else "")}
    if run.returncode and not counts.get("failed"):  # it did not get as far as a test
        counts["error"] = max(counts.get("error", 0), 1)
    return counts, time.monotonic() - began


def main(processes: str) -> int:
    """Test both pairs; 1 when anything failed."""
    rows = ["| pair | transformers | TransformerLens | torch | passed | failed | seconds |"]
    rows.append("| --- " * 7 + "|")
    is_bad = False
    for pair in ("lowest", "newest"):
        python = environment(pair)
        counts, seconds = tested(python, processes)
        failed = counts.get("failed", 0) + counts.get("error", 0)
        is_bad |= failed > 0 or not counts.get("passed")
        cells = [pair, *versions(python), counts.get("passed", 0), failed, round(seconds)]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    print(f"\n{date.today()}", *rows, sep="\n")
    return int(is_bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "auto"))
