"""Every notebook runs from top to bottom in a fresh kernel, and its stored outputs are its own."""

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# Warnings are errors, except those that the kernel's own modules cause while it works and ends.
STRICT = """import warnings

warnings.simplefilter("error")
warnings.filterwarnings("ignore", module="ipykernel|jupyter_client|tornado|zmq")
"""
# The notebooks measure times; threads that fight for a busy machine's cores are not what they mean.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> list[Any]:
    """What a cell shows, without the digits: streams by name, other outputs by their MIME types."""
    return [sorted(out.get("data", [])) or out.get("name") for out in cell.outputs]


def executed(path: Path) -> Any:
    """The notebook as a fresh kernel leaves it; errors and warnings raise."""
    notebook = read(path)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(STRICT))
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        coalesce_streams=True,
    )
    client.execute(env={**os.environ, **ONE_THREAD})
    del notebook.cells[0]
    return notebook


def test_there_are_notebooks():
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03"]


@every_notebook
# The messaging library under nbclient leaves its sockets to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_runs_without_errors_or_warnings(path: Path):
    fresh = executed(path)
    for stored, new in zip(code_cells(read(path)), code_cells(fresh), strict=True):
        assert "stderr" not in kinds(new), new.source
        assert kinds(stored) == kinds(new), "execute the notebook again and store it"


@every_notebook
def test_is_stored_executed_and_clean(path: Path):
    notebook = read(path)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum("image/png" in kind for cell in cells for kind in kinds(cell) if kind) >= 4
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    text = path.read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    assert str(Path.home()) not in text
    assert "ipykernel_" not in text
