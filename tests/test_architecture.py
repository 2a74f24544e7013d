"""The layer table as code: who may import whom, and how large the core may grow."""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "vjpkit"
CORE_LINES = 1500


class Layer(NamedTuple):
    """Where a top-level module of vjpkit stands: the layers below it, and the packages it uses."""

    below: tuple[str, ...] = ()
    packages: tuple[str, ...] = ("numpy",)


NUMERIC = ("numpy", "typing_extensions", "scipy")

# The house from the ground up: each name stands for its floor and all floors below.
TO_CORE = ("core", "pytree")
TO_KINDS = (*TO_CORE, "kinds", "parsing")
TO_OPS = (*TO_KINDS, "ops")
TO_PASSES = (*TO_OPS, "passes")
TO_BACKENDS = (*TO_PASSES, "backends")
TO_TRANSFORMS = (*TO_BACKENDS, "transforms")
TO_CONTROL = (*TO_TRANSFORMS, "control")
TO_NUMPY = (*TO_CONTROL, "numpy")
TO_NN = (*TO_NUMPY, "lax", "nn")
LIBRARY = (
    *TO_NN, "custom_derivatives", "debug", "flatten_util", "scipy", "tree", "tree_util", "memory",
)  # fmt: skip
PUBLIC = (*LIBRARY, "testing", "test_util")

# Imports go down this table, never up; "" is vjpkit/__init__.py. SciPy is optional, so nothing
# loads it at import time (test_packaging sees to that); llvmlite is for the native backend alone.
LAYERS = {
    "pytree": Layer(packages=()),
    "tree": Layer(("pytree",)),
    "tree_util": Layer(("pytree", "tree")),
    "core": Layer(),
    "parsing": Layer(("core",)),
    "kinds": Layer(("core",)),
    "ops": Layer(TO_KINDS, NUMERIC),
    "passes": Layer(TO_OPS),
    "backends": Layer((*TO_KINDS, "passes"), (*NUMERIC, "llvmlite")),
    "transforms": Layer(TO_BACKENDS, NUMERIC),
    "control": Layer(TO_TRANSFORMS, NUMERIC),
    "numpy": Layer(TO_CONTROL, NUMERIC),
    "scipy": Layer(TO_NN, NUMERIC),
    "lax": Layer(TO_NUMPY, NUMERIC),
    "custom_derivatives": Layer(("control",)),
    "debug": Layer(TO_NUMPY),
    "flatten_util": Layer(TO_CORE),
    "nn": Layer((*TO_NUMPY, "lax"), NUMERIC),
    "testing": Layer(LIBRARY, NUMERIC),
    "test_util": Layer(("testing",)),
    "": Layer(PUBLIC),
    "cli": Layer((*PUBLIC, "", "examples"), NUMERIC),
    "memory": Layer(),
    "examples": Layer(),
    "__main__": Layer(("cli",)),
}


class Import(NamedTuple):
    """One import statement: where it stands and the absolute name it asks for."""

    file: str
    line: int
    target: str


def layer_of(path: Path) -> str:
    """``core`` for vjpkit/core/ir.py, ``cli`` for vjpkit/cli.py, ``""`` for vjpkit/__init__.py."""
    top = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if top == "__init__" else top


def absolute(node: ast.ImportFrom, path: Path) -> str:
    """The absolute name of the module that a ``from`` statement names."""
    if not node.level:
        return node.module or ""
    package = ("vjpkit", *path.relative_to(PACKAGE).parent.parts)
    base = package[: len(package) - node.level + 1]
    return ".".join((*base, node.module) if node.module else base)


def imports_of(path: Path) -> Iterator[Import]:
    """Every import of a file, also those inside functions and under TYPE_CHECKING."""
    file = path.relative_to(PACKAGE.parent).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import():
                for alias in node.names:
                    yield Import(file, node.lineno, alias.name)
            case ast.ImportFrom():
                module = absolute(node, path)
                for alias in node.names:
                    yield Import(file, node.lineno, f"{module}.{alias.name}")
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield Import(file, node.lineno, name)


def imported_layer(target: str) -> str | None:
    """The layer of vjpkit that a name belongs to; None for other packages."""
    package, *rest = target.split(".")
    if package != "vjpkit":
        return None
    return rest[0] if rest and rest[0] in LAYERS else ""


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def modules_of(layer: str) -> list[Path]:
    return [path for path in sources() if layer_of(path) == layer]


def lines_of_code(source: str) -> int:
    """Lines that hold code: no docstrings, no comments, no blanks."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        (node.body[0].lineno, node.body[0].col_offset)
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
    }
    silent = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent and token.start not in docstrings:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines)


def test_every_module_has_a_layer():
    homeless = sorted({layer_of(path) for path in sources()} - set(LAYERS))
    assert not homeless, f"name a layer for vjpkit/{homeless} in LAYERS, or move it into one"


def test_the_table_has_no_cycle():
    """A layer listed below another never lists that one below itself."""
    for name, layer in LAYERS.items():
        for lower in layer.below:
            assert name not in LAYERS[lower].below, f"{name} and {lower} stand below each other"


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_down(layer: str):
    allowed = {layer, *LAYERS[layer].below}
    wrong = [
        f"{file}:{line}: {layer or 'vjpkit/__init__.py'} may not import {target}"
        for path in modules_of(layer)
        for file, line, target in imports_of(path)
        if (lower := imported_layer(target)) is not None and lower not in allowed
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("layer", LAYERS)
def test_only_declared_packages_are_used(layer: str):
    allowed = {"vjpkit", *LAYERS[layer].packages, *sys.stdlib_module_names}
    wrong = [
        f"{file}:{line}: {layer or 'vjpkit/__init__.py'} may not use {target}"
        for path in modules_of(layer)
        for file, line, target in imports_of(path)
        if target.split(".")[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_one_file_at_most_touches_ctypes():
    users = {
        file
        for path in sources()
        for file, _, target in imports_of(path)
        if target.split(".")[0] in ("ctypes", "_ctypes")
    }
    assert len(users) <= 1, f"one file may hold all that touches ctypes, not {sorted(users)}"
    assert all(file.startswith("vjpkit/backends/") for file in users), users


def test_the_core_is_read_in_an_hour():
    counts = {
        path.relative_to(PACKAGE).as_posix(): lines_of_code(path.read_text(encoding="utf-8"))
        for path in modules_of("core")
    }
    table = "\n".join(f"{count:6d}  {name}" for name, count in counts.items())
    total = sum(counts.values())
    assert 0 < total < CORE_LINES, f"core: {total} lines of code, not under {CORE_LINES}\n{table}"


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("", 0),
        ('"""Only\na docstring."""\n', 0),
        ("# a comment\n\nx = 1\n", 1),
        ('def f():\n    """Doc."""\n    return 1\n', 2),
        ('x = """two\nlines"""\n', 2),
        ("x = (\n    # why\n    1,\n\n    2,\n)\n", 4),
        ('class C:\n    """Doc."""\n\n    x: int = 0\n    """Said of x."""\n', 3),
    ],
)
def test_lines_of_code(source: str, lines: int):
    assert lines_of_code(source) == lines


@pytest.mark.parametrize(
    ("statement", "targets"),
    [
        ("import vjpkit.ops", ["vjpkit.ops"]),
        ("from vjpkit import grad", ["vjpkit.grad"]),
        ("from . import rows", ["vjpkit.core.rows"]),
        ("from .ir import Var, Program", ["vjpkit.core.ir.Var", "vjpkit.core.ir.Program"]),
        ("from .. import ops", ["vjpkit.ops"]),
        ("from ..ops.basic import sin", ["vjpkit.ops.basic.sin"]),
        ("def f():\n    import scipy.linalg", ["scipy.linalg"]),
        ("importlib.import_module('vjpkit.ops')", ["vjpkit.ops"]),
    ],
)
def test_imports_are_resolved(
    statement: str, targets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    package = tmp_path / "vjpkit"
    (package / "core").mkdir(parents=True)
    path = package / "core" / "probe.py"
    path.write_text(statement, encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", package)
    assert [target for _, _, target in imports_of(path)] == targets
