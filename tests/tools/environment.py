"""The tools that `make test-tools` tries a saved encoder in, and their environment.

It is made on top of `.venv`, where torch and kvlens are; `constraints.txt` holds their versions.
"""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ("langchain-huggingface", "llama-index-embeddings-huggingface", "chromadb", "bertopic")
PAGE = "docs/recipes.md"


def environment(folder: Path) -> Path:
    """The Python of an environment that has the tools; made once."""
    python = folder / "bin" / "python"
    made = folder / "made"
    if not made.exists():
        venv.create(folder, clear=True, with_pip=True, symlinks=True)
        below = sysconfig.get_path("purelib")
        own = Path(below.replace(sys.prefix, str(folder), 1))
        (own / "below.pth").write_text(f"{below}\n")
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-c", ROOT / "constraints.txt", *TOOLS], check=True)
        subprocess.run([*install, "--no-deps", "--editable", ROOT], check=True)
        made.touch()
    return python


def main(folder: str) -> int:
    """Run the tests of the tools, and the recipes that name them."""
    python = environment(Path(folder).resolve())
    tests = [python, "-m", "pytest", "-p", "no:xdist"]
    tools = subprocess.run([*tests, "-m", "tools", "tests/tools"], cwd=ROOT, check=False)
    recipes = [*tests, "-m", "not torture", "tests/test_docs_code.py", "-k", PAGE]
    return tools.returncode or subprocess.run(recipes, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else str(ROOT / ".tools")))
