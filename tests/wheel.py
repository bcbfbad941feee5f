"""kvlens as a stranger gets it: sdist and wheel, an empty environment, the README's first screen.

`make test-wheel` builds both in `.wheel`, installs the wheel beside nothing, and runs there, in a
folder of its own, the README's blocks of Python as they stand and its lines for a model and texts
of one's own. What is printed has to be what the README says.
"""

import json
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
FEW = 50  # texts of one's own
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```", re.M | re.S)
LOADED = """
from sentence_transformers import SentenceTransformer
again = SentenceTransformer("my-encoder", trust_remote_code=True)
difference = abs(again.encode_document(texts) - documents).max()
assert difference < 1e-5, difference
"""


def built(folder: Path) -> Path:
    """The wheel, made of the sdist."""
    python = environment(folder / "builder", "build") / "python"
    subprocess.run([python, "-m", "build", "--outdir", folder / "dist", ROOT], check=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    assert len(list((folder / "dist").glob("*.tar.gz"))) == 1
    return wheel


def environment(folder: Path, *packages: str) -> Path:
    """Where a new environment has its programs, after packages were installed one by one."""
    venv.create(folder, clear=True, with_pip=True)
    programs = folder / "bin"
    install = [programs / "python", "-m", "pip", "install", "--quiet", "--no-compile"]
    for package in packages:
        subprocess.run([*install, "-c", CONSTRAINTS, package], check=True)
    return programs


def blocks(language: str) -> list[str]:
    """The README's blocks of a language, in order."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [match["text"] for match in BLOCK.finditer(text) if match["language"] == language]


def try_python(python: Path, place: Path) -> None:
    """Run the README's Python, and what a tool does with the folder that it saves."""
    script = place / "readme.py"
    script.write_text("\n".join([*blocks("python"), LOADED]), encoding="utf-8")
    run = subprocess.run(
        [python, script.name], cwd=place, check=True, stdout=subprocess.PIPE, text=True
    )
    said = "".join(blocks("text")[:2])
    assert run.stdout == said, f"the README says\n{said}\nand it is\n{run.stdout}"


def try_terminal(program: Path, place: Path) -> None:
    """Run the README's lines for texts of one's own, which are few here."""
    rows = [json.dumps({"body": f"Text {i} is about {i * i} things."}) for i in range(FEW)]
    (place / "my.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (lines,) = [block for block in blocks("sh") if "kvlens report" in block]
    for line in lines.replace("MODEL", "smollm2-135m").splitlines():
        subprocess.run([program, *line.split()[1:]], cwd=place, check=True)
    for name in ("layer_id.png", "layers.json", "report.html"):
        assert (place / "runs" / "mine" / name).is_file(), name


def main(folder: Path) -> None:
    """Build, install, try."""
    shutil.rmtree(folder, ignore_errors=True)
    wheel = built(folder)
    programs = environment(folder / "empty", "torch", f"kvlens[st] @ {wheel.as_uri()}")
    place = folder / "place"
    place.mkdir()
    try_terminal(programs / "kvlens", place)
    try_python(programs / "python", place)
    print("The README's first screen works in an empty environment.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".wheel").resolve())
