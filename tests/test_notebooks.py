"""The notebooks: stored in order with light outputs; they run from top to bottom."""

import getpass
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SECONDS, CORES = 180, 2  # what a notebook may take
WIDGET = "application/vnd.jupyter.widget-view+json"
INSTALLS = re.compile(
    r"# Installs kvlens[^\n]*\n# [^\n]*\n"
    r"from importlib\.util import find_spec\n\n"
    r'if (find_spec\("kvlens"\) is None|not \(find_spec\("kvlens"\) and find_spec\("\w+"\)\)):\n'
    r'    %pip install --quiet "\.\.(\[\w+\])?"'
)
COST = "import time as _; print(_.process_time())"


def execute(path: Path) -> tuple[nbformat.NotebookNode, float]:
    """The notebook with fresh outputs, run in an empty folder, and its CPU seconds."""
    notebook = nbformat.read(path, 4)
    notebook.cells.append(
        nbformat.v4.new_code_cell(COST)
    )  # busy machines stretch wall time, not this
    with tempfile.TemporaryDirectory() as folder:
        options = {"timeout": 10 * SECONDS, "record_timing": False, "coalesce_streams": True}
        client = NotebookClient(notebook, resources={"metadata": {"path": folder}}, **options)
        # Threads that wait in a loop for a busy core would count as work.
        client.execute(env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    *notebook.cells, cost = notebook.cells
    notebook.metadata = nbformat.from_dict(METADATA)  # the kernel adds its own version
    for output in outputs(notebook):  # a widget without its kernel hides the picture beside it
        output.get("data", {}).pop(WIDGET, None)
    return notebook, float(cost.outputs[0].text)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def kinds(cell: nbformat.NotebookNode) -> list[str]:
    """What a cell shows, in order: stdout, text/html, image/png, ..."""
    return [output.get("name") or sorted(output.data)[0] for output in cell.outputs]


def test_all_are_there():
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06", "07"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_with_light_outputs(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert notebook.metadata == METADATA
    assert path.stat().st_size < 1_000_000
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert [cell.execution_count for cell in code_cells(notebook)] == list(
        range(1, len(code_cells(notebook)) + 1)
    )
    assert all(cell.metadata == {} for cell in notebook.cells)
    found = outputs(notebook)
    assert not [o for o in found if o.output_type == "error" or o.get("name") == "stderr"]
    assert sum("image/png" in o.get("data", {}) for o in found) >= 1
    assert any("text/html" in o.get("data", {}) for o in found)
    # A figure that no backend draws shows as its repr alone.
    assert not [
        o
        for o in found
        if o.get("data", {}).keys() == {"text/plain"} and "Figure" in o.data["text/plain"]
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_installs_what_is_missing_and_is_quiet(path):
    first, *others = code_cells(nbformat.read(path, 4))
    assert INSTALLS.fullmatch(first.source)
    assert first.outputs == []
    assert not [cell for cell in others if "pip install" in cell.source]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_trace_of_the_machine(path):
    text = re.sub(r'"image/png": "[^"]*"', "", path.read_text(encoding="utf-8"))
    here = {str(Path.home()), str(FOLDER.parent), tempfile.gettempdir(), sys.prefix}
    for place in here | {"/home/", "/Users/", "file://"}:
        assert place not in text
    if len(user := getpass.getuser()) > 3 and user != "root":
        assert not re.search(rf"\b{re.escape(user)}\b", text)
    assert not re.search(r"/(root|work|tmp|usr|var)/", text)
    assert "<script" not in text  # code hosts remove it; nothing may depend on it


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_between_notebooks_lead_somewhere(path):
    cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", "\n".join(cells))
    assert links
    assert not [link for link in links if not (FOLDER / link).exists()]


@pytest.mark.real
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path):
    fresh, cpu = execute(path)
    assert cpu < CORES * SECONDS
    stored = nbformat.read(path, 4)
    for new, old in zip(code_cells(fresh), code_cells(stored), strict=True):
        assert kinds(new) == kinds(old), new.source


if __name__ == "__main__":  # `make notebooks`: run them again and store what they show
    for path in NOTEBOOKS:
        notebook, cpu = execute(path)
        nbformat.write(notebook, path)
        print(f"{path.name}: {cpu:.0f} CPU seconds, {path.stat().st_size / 1024:.0f} KiB")
