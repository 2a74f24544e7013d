"""``import vjpkit``: what it loads, what it loads later, and that one cannot tell by use."""

from __future__ import annotations

import ast
import json
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import vjpkit as vk
from vjpkit.core.primitive import LATER as PRIMITIVES_LATER
from vjpkit.numpy._dispatch import LATER as FUNCTIONS_LATER

ROOT = Path(__file__).parents[1]

LOADED = {"core", "kinds", "numpy", "ops", "pytree", "transforms"}
"""The layers that eager derivatives need; all others are loaded when first used."""

LATER = {
    *PRIMITIVES_LATER,
    *(f"vjpkit.numpy.{name}" for name in FUNCTIONS_LATER),
    *(f"vjpkit.transforms.{name}" for name in ("closures", "jacobians", "mapping", "staged")),
}
"""Modules of those layers that are loaded later all the same."""


def fresh(program: str) -> Any:
    """The JSON that a new interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import json, sys\n{program}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def modules() -> list[str]:
    """Every module of the package but those that run."""
    names = [m.name for m in pkgutil.walk_packages(vk.__path__, "vjpkit.")]
    return [name for name in names if not name.endswith("__main__")]


def test_what_is_loaded():
    loaded = set(
        fresh("import vjpkit; print(json.dumps([m for m in sys.modules if 'vjpkit.' in m]))")
    )
    assert {name.split(".")[1] for name in loaded} == LOADED
    assert not loaded & LATER
    assert set(modules()) >= LATER


def test_what_is_loaded_beside_numpy():
    """Modules of the standard library that NumPy does not load cost time of their own.

    Whether it loads dataclasses, and what these need, depends on its version.
    """
    others = fresh(
        "import dataclasses, numpy; before = set(sys.modules); import vjpkit\n"
        "print(json.dumps([m for m in {*sys.modules} - before if m.partition('.')[0] != 'vjpkit']))"
    )
    known = {"__future__", "base64", "binascii", "cmath", "copy"}
    assert set(others) <= known


def test_names_that_are_loaded_later_are_there():
    seen = fresh(
        "import vjpkit as vk\n"
        "listed = dir(vk)\n"
        "from vjpkit import *\n"
        "print(json.dumps([vk.__all__, listed, [n for n in vk.__all__ if n not in globals()]]))"
    )
    public, listed, missing = seen
    assert not missing
    assert {*public, "test_util"} <= set(listed)
    assert listed == sorted(listed)


@pytest.mark.parametrize("name", sorted({*vk.__all__, "test_util"}))
def test_each_name_comes_first(name: str):
    """The first thing that a program asks for may be any of them."""
    found = getattr(vk, name)
    assert getattr(vk, name) is found
    assert name in dir(vk)


def test_type_checkers_are_told_the_same():
    """What is imported for them, and where from, is what is loaded when asked for."""
    tree = ast.parse(Path(vk.__file__ or "").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    told = {
        alias.asname or alias.name: getattr(import_module(node.module or ""), alias.name)
        for node in block.body if isinstance(node, ast.ImportFrom) and node.module != "vjpkit"
        for alias in node.names
    }  # fmt: skip
    assert told == {name: getattr(vk, name) for name in vk._HOMES}


def test_names_of_jax_that_are_spelt_otherwise():
    with pytest.raises(AttributeError, match=r"no attribute 'make_jaxpr': use vk\.make_ir$"):
        _ = vk.make_jaxpr  # type: ignore[attr-defined]  # what is tested
    with pytest.raises(AttributeError, match=r"numpy\.random\.default_rng"):
        _ = vk.random  # type: ignore[attr-defined]  # what is tested
    assert not [name for name in vk._WAYS if name in vk.__all__ or hasattr(vk, name)]


def test_an_unknown_name():
    with pytest.raises(AttributeError, match=r"^module 'vjpkit' has no attribute 'gard'$"):
        _ = vk.gard  # type: ignore[attr-defined]  # what is tested


def test_the_registry_is_whole():
    """Loading every module of the package registers nothing that was not found before."""
    before, after = fresh(
        "import vjpkit; from importlib import import_module\n"
        "from vjpkit.core.primitive import registered\n"
        "before = sorted(registered())\n"
        f"[import_module(name) for name in {modules()!r}]\n"
        "print(json.dumps([before, sorted(registered())]))"
    )
    assert before == after
    assert {"sin", "scan", "branch", "cholesky", "fft"} <= set(before)


def test_texts_and_pickles_find_primitives_that_are_loaded_later():
    program = "program(a: f64[3], b: f64[3]) { c: f64[3] = scan[program=1] a b return c }"
    said = fresh(
        "import vjpkit as vk; from vjpkit.core.primitive import lookup\n"
        f"try: vk.parse_ir({program!r})\n"
        "except ValueError as error: said = str(error)\n"
        "print(json.dumps([said, repr(lookup('cholesky'))]))"
    )
    assert "no primitive" not in said[0]
    assert said[1] == "<primitive cholesky>"


def test_functions_of_numpy_that_are_loaded_later():
    trace = fresh(
        "import numpy as np, vjpkit as vk\n"
        "f = lambda x: np.linalg.det(x) + np.sum(np.fft.rfft(x).real) + np.median(x)\n"
        "print(json.dumps(vk.grad(f)(np.array([[2.0, 1.0], [0.5, 3.0]])).tolist()))"
    )
    assert trace[0][0] == pytest.approx(3 + 2 + 0.5)
