"""Run the tests that face NumPy on other versions of it, each in a virtual environment of its own.

``python -m tests.numpy_versions`` takes ``oldest`` and ``newest``, the oldest supported NumPy and
the newest released one; ``python -m tests.numpy_versions oldest 2.3 -- tests/numpy/test_shape.py``
these versions, and, after the dashes, these arguments for pytest. ``--python`` lists the
interpreters to choose from, instead of this one and all ``python3.x`` on the path: the newest NumPy
is installed by the newest interpreter, for the newest may need one, and any other by the oldest,
since an older one may lack wheels for more.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
OLDEST = "2.1"
NEWEST = "numpy"
PYTHONS = [f"python3.{minor}" for minor in range(11, 20)]
BESIDE = [
    "array-api-strict", "hypothesis", "mpmath", "pytest", "scipy", "typing-extensions", "xarray",
]  # fmt: skip
FACING_NUMPY = ["-q", "tests/numpy", "tests/core", "tests/ops"]


def minor_version(python: str) -> int | None:
    """The x of Python 3.x, or None of what does not start: a stub of a version manager."""
    run = subprocess.run(
        [python, "-c", "import sys; print(sys.version_info.minor)"], capture_output=True, text=True
    )
    return None if run.returncode else int(run.stdout)


def interpreters(pythons: Iterable[str]) -> list[str]:
    """Those that start, the oldest first."""
    found = {python: minor_version(python) for python in pythons if shutil.which(python)}
    return sorted(
        (p for p, minor in found.items() if minor is not None), key=lambda p: found[p] or 0
    )


def requirement(version: str) -> str:
    """What pip is to install: ``oldest``, ``newest``, ``2.3`` or ``2.3.1``.

    >>> requirement("oldest"), requirement("2.3.1")
    ('numpy==2.1.*', 'numpy==2.3.1')
    """
    if version == "newest":
        return NEWEST
    number = OLDEST if version == "oldest" else version
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?", number):
        raise argparse.ArgumentTypeError(
            f"{version!r} is no version of NumPy. Versions are oldest, newest, 2.3 or 2.3.1; what "
            "is for pytest comes after two dashes: python -m tests.numpy_versions oldest -- PATH"
        )
    return f"numpy=={number}" + (".*" if number.count(".") == 1 else "")


BOTH = [requirement("oldest"), requirement("newest")]


def run_on(wanted: str, python: str, arguments: Sequence[str]) -> int:
    """Pytest's exit status under the NumPy that this requirement names."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        inside = str(Path(folder, "Scripts" if sys.platform == "win32" else "bin", "python"))
        subprocess.run([inside, "-m", "pip", "install", "-q", wanted, *BESIDE], check=True)
        tell = "import sys, numpy; print('NumPy', numpy.__version__, 'on Python', sys.version)"
        subprocess.run([inside, "-c", tell], check=True)
        return subprocess.run([inside, "-m", "pytest", *arguments], cwd=ROOT).returncode


def main(words: list[str]) -> int:
    """The highest exit status of all versions."""
    place = words.index("--") if "--" in words else len(words)
    parse = argparse.ArgumentParser(prog="python -m tests.numpy_versions", description=__doc__)
    parse.add_argument("versions", nargs="*", type=requirement, default=BOTH)
    parse.add_argument("--python", action="append", metavar="COMMAND", dest="pythons")
    options = parse.parse_args(words[:place])
    found = interpreters(options.pythons or [sys.executable, *PYTHONS])
    arguments = words[place + 1 :] or FACING_NUMPY
    return max(
        run_on(wanted, found[-1 if wanted == NEWEST else 0], arguments)
        for wanted in options.versions
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
