"""The table of what NumPy has and what of it differentiates, made by enumerating NumPy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.fft
import numpy.lib.stride_tricks
from numpy.testing.overrides import (
    get_overridable_numpy_array_functions,
    get_overridable_numpy_ufuncs,
)

import vjpkit as vk
from tests.numpy.coverage.call import Call, name_of, parameters_of
from tests.numpy.coverage.calls import CALLS, REFUSALS
from tests.numpy.coverage.calls.transforms import IGNORING
from tests.numpy.coverage.calls.ufuncs import METHODS, NONE
from tests.numpy.coverage.checks import derivatives
from tests.numpy.coverage.reasons import NOT_DIFFERENTIABLE, REASONS

__all__ = ["PATH", "VERSIONS", "Row", "enumerated", "refused", "rows", "text", "unasked"]

VERSIONS = ((2, 4), (2, 5))
"""The NumPys that the table is of; older ones lack some of it, newer ones may have more."""

PATH = Path(vk.__file__).parent / "numpy" / "COVERAGE.md"


_MODULES = {"", "linalg", "fft", "lib.scimath", "lib.stride_tricks"}
"""Modules of numbers; `numpy.strings`, `numpy.char` and `numpy.lib.recfunctions` are of others."""


def enumerated() -> dict[str, Any]:
    """What NumPy dispatches and has a public name, by that name below ``numpy.``."""
    functions = {name_of(f): f for f in get_overridable_numpy_array_functions()}
    functions = {n: f for n, f in functions.items() if n.rpartition(".")[0] in _MODULES}
    # Of a function with ``like=`` there are two objects; the public one is what is called.
    functions |= {name: getattr(np, name) for name in functions if hasattr(np, name)}
    # A ufunc and a function may have one name: np.clip is the function, which calls the ufunc.
    ufuncs = {f.__name__: f for f in get_overridable_numpy_ufuncs()}
    return {name: f for name, f in (ufuncs | functions).items() if not name.startswith("_")}


@dataclass(frozen=True)
class Row:
    """What is known of one function, or of one method of a ufunc."""

    name: str
    kind: str
    smooth: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    calls: int = 0

    def __str__(self) -> str:
        cells = [f"`{self.name}`", self.kind]
        cells += [
            ", ".join(f"`{x}`" for x in xs) for xs in (self.smooth, self.constant, self.refused)
        ]
        return f"| {' | '.join([*cells, str(self.calls or '')])} |"


def called() -> dict[str, list[Call]]:
    """The calls of each name."""
    found: dict[str, list[Call]] = {}
    for c in CALLS:
        found.setdefault(c.name, []).append(c)
    return found


def refused(name: str) -> tuple[str, ...]:
    """The keywords of a function that traced values do not take, in some version of NumPy."""
    ignored = {"out"} if name in map(name_of, IGNORING) else set()
    return tuple(sorted({keyword for keyword, c in REFUSALS if c.name == name} | ignored))


def rows() -> list[Row]:
    """A row for every name; a name that nothing is known of has the kind "unknown"."""
    calls = called()
    methods = [f"{name}.{m}" for name, f in enumerated().items() for m in _methods(f)]
    names = sorted([*enumerated(), *methods], key=lambda name: (name.count("."), name.lower()))
    return [_row(name, calls.get(name, [])) for name in names]


def _methods(f: Any) -> Iterator[str]:
    """The methods of a ufunc of two numbers that gives one."""
    if isinstance(f, np.ufunc) and f.nin == 2 and f.nout == 1 and f.signature is None:
        yield from METHODS


def _row(name: str, calls: list[Call]) -> Row:
    base = name.rpartition(".")[0] if name.rpartition(".")[2] in METHODS else name
    reason = NOT_DIFFERENTIABLE.get(base)
    if reason is not None:
        return Row(name, f"not differentiable: {REASONS[reason]}", calls=len(calls))
    if not calls:
        kind = "refused" if refused(name) else "NumPy has none" if name in NONE else "unknown"
        return Row(name, kind, refused=refused(name))
    found: dict[str, bool] = {}
    for c in calls:
        for argument, moves in derivatives(c).items():
            found[argument] = found.get(argument, False) or moves
    for argument in ("like", *refused(name)):
        found.pop(argument, None)
    smooth = tuple(a for a, moves in found.items() if moves)
    constant = tuple(a for a, moves in found.items() if not moves)
    if smooth:
        kind = "differentiable"
    elif found or any(c.smooth() for c in calls):
        kind = "piecewise constant"
    else:
        kind = f"not differentiable: {REASONS['integer']}"
    return Row(name, kind, smooth, constant, refused(name), len(calls))


def unasked() -> dict[str, set[str]]:
    """Keywords of functions that no call gives and none refuses."""
    found: dict[str, set[str]] = {}
    for name, calls in called().items():
        function = calls[0].function
        if isinstance(function, np.ufunc):
            continue
        left = parameters_of(function) - set().union(*(c.given for c in calls)) - set(refused(name))
        if left:
            found[name] = left
    return found


_HEADER = """# What of NumPy differentiates

Made by `python -m tests.numpy.coverage`, which enumerates what NumPy {versions} dispatches; a
test compares. (`numpy.strings` and `numpy.lib.recfunctions`, for text and records, are left out.)
`vjpkit.numpy.f` is `numpy.f` for all of these, so both spellings are one function.

Each call is checked: the value against NumPy, tangents against finite differences, the pullback
against the tangents (dot test), both to second order, mapped (`vmap`) against a loop, staged
(`make_ir`, `jit`) against eager code, in half, single, double and extended precision.

*Piecewise constant*: the derivative is exactly zero by nature. *Not differentiable*: there is
nothing to differentiate, and a traced value is refused unless integers are what is asked for.
*Refused*: an argument that traced values do not take; the error names it. (`out` of a function of
`fft`: only where NumPy itself does not write to it, as in 2.4.)

| | names |
|---|---|
{totals}

| name | | differentiable in | locally constant in | refused | calls |
|---|---|---|---|---|---|
"""


def text() -> str:
    """The whole file."""
    found = rows()
    kinds = Counter(row.kind for row in found)
    totals = "\n".join(f"| {kind} | {count} |" for kind, count in sorted(kinds.items()))
    totals += f"\n| all | {len(found)} |"
    versions = " and ".join(f"{major}.{minor}" for major, minor in VERSIONS)
    return _HEADER.format(versions=versions, totals=totals) + "\n".join(map(str, found)) + "\n"
