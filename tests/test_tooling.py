"""ruff and mypy are satisfied with the package, its tests and its notebooks."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import numpy_versions

ROOT = Path(__file__).parents[1]
CHECKED = ("vjpkit", "tests", "benchmarks")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def assert_succeeds(*command: str, cwd: Path = ROOT) -> None:
    """Run a Python tool; show what it printed if it complains."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}{done.stderr}", pytrace=False)


def code_of(notebook: Path) -> str:
    """The code cells as one module, without the lines that only IPython reads."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    lines = "\n\n".join(code).splitlines()
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in lines) + "\n"


def test_ruff_finds_nothing():
    assert_succeeds("ruff", "check")


def test_ruff_would_format_nothing():
    assert_succeeds("ruff", "format", "--check", "--diff")


@pytest.mark.skipif(np.__version__.startswith("2.1."), reason="its annotations are less exact")
def test_mypy_is_satisfied():
    assert_succeeds("mypy", "--strict", *(name for name in CHECKED if (ROOT / name).is_dir()))


@pytest.mark.skipif(not NOTEBOOKS, reason="no notebooks here")
def test_mypy_is_satisfied_with_the_notebooks(tmp_path: Path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for number, notebook in enumerate(NOTEBOOKS):
        (folder / f"notebook_{number}.py").write_text(code_of(notebook), encoding="utf-8")
    configuration = str(ROOT / "pyproject.toml")
    cache = str(ROOT / ".mypy_cache" / "notebooks")
    assert_succeeds(
        "mypy", "--strict", "--config-file", configuration, "--cache-dir", cache, "notebooks",
        cwd=tmp_path,
    )  # fmt: skip


def test_a_path_among_the_versions_of_numpy_is_an_error_that_says_where_it_goes(
    capsys: pytest.CaptureFixture[str],
):
    with pytest.raises(SystemExit):
        numpy_versions.main(["oldest", "tests/numpy"])
    assert "oldest -- PATH" in " ".join(capsys.readouterr().err.split())
