"""The facade imports nothing heavy."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import kvlens

ROOT = Path(__file__).parents[1]


def test_importing_kvlens_is_light():
    code = (
        "import sys, kvlens;"
        "heavy = ('torch', 'numpy', 'matplotlib', 'pydantic');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_wheel_has_every_file_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = ["*.py", *project["tool"]["setuptools"]["package-data"]["*"]]
    files = [path for path in (ROOT / "kvlens").rglob("*.*") if "__pycache__" not in path.parts]
    assert len(files) > 300
    assert not [path for path in files if not any(map(path.match, patterns))]


def test_the_version_is_the_same_wherever_it_stands():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "docs" / "changelog.md").read_text(encoding="utf-8")
    assert project["version"] == kvlens.__version__
    assert re.search(r"^version: (.+)$", citation, re.M)[1] == kvlens.__version__
    assert re.search(r"^## (.+)$", changelog, re.M)[1] == kvlens.__version__
