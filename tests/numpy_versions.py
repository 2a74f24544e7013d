"""Run the tests that face NumPy on other versions of it, each in a virtual environment of its own.

``python -m tests.numpy_versions`` takes the oldest supported NumPy and the newest released one;
``python -m tests.numpy_versions 2.2 2.3 -- tests/numpy/test_shape.py -x`` these versions, and these
arguments for pytest.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
OLDEST = "2.1"
NEWEST = "newest"
BESIDE = ["array-api-strict", "hypothesis", "mpmath", "pytest", "scipy", "typing-extensions"]
FACING_NUMPY = ["-q", "tests/numpy", "tests/core", "tests/ops"]


def run_on(version: str, arguments: list[str]) -> int:
    """Pytest's exit status under one version of NumPy."""
    wanted = "numpy" if version == NEWEST else f"numpy=={version}.*"
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "Scripts" if sys.platform == "win32" else "bin", "python"))
        subprocess.run([python, "-m", "pip", "install", "-q", wanted, *BESIDE], check=True)
        subprocess.run(
            [python, "-c", "import numpy; print('NumPy', numpy.__version__)"], check=True
        )
        return subprocess.run([python, "-m", "pytest", *arguments], cwd=ROOT).returncode


def main(words: list[str]) -> int:
    """The highest exit status of all versions."""
    place = words.index("--") if "--" in words else len(words)
    versions = words[:place] or [OLDEST, NEWEST]
    return max([run_on(version, words[place + 1 :] or FACING_NUMPY) for version in versions])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
