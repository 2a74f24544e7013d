"""Elements read where they have just been written: the value that was written."""

from __future__ import annotations

from typing import Any

from vjpkit.core.ir import Atom, Equation, Program
from vjpkit.passes.rewriting import Rewriter

__all__ = ["with_writes_read"]

MOST_WRITES = 8
"""Writes to other places that are looked through: the pass is linear in the program's length."""


def with_writes_read(program: Program) -> Program:
    """What is read of an array at the place of an earlier write is the value that was written.

    A loop in Python that builds an array element by element reads what it wrote a step before. Law:
    equal outputs, to the bit.
    """
    if not any(eqn.primitive.name == "update" for eqn in program.equations):
        return program
    new = Rewriter(program)
    for old in program.equations:
        eqn = new.read(old)
        value = _written(new, eqn) if eqn.primitive.name == "getitem" else None
        if value is None:
            new.keep(eqn)
        else:
            new.replace(eqn, (value,))
    return new.finish() if new.stands_for else program


def _written(new: Rewriter, eqn: Equation) -> Atom | None:
    """The value at the place that is read, if it is the last that was written there."""
    x = eqn.inputs[-1]
    place = _entries(eqn.params["index"], x)
    for _ in range(MOST_WRITES):
        write = new.made_by(x, "update")
        if place is None or write is None or write.params["steps"]:
            return None
        x, value = write.inputs[-2:]
        other = _entries(write.params["index"], x)
        if other == place:
            return value if value.aval == eqn.outputs[0].aval else None
        if other is None or not _is_elsewhere(place, other):
            return None
    return None


def _entries(index: Any, x: Atom) -> list[Any] | None:
    """An index axis by axis, positions counted from the beginning; None where it has others than
    positions and slices.
    """
    entries = index.expanded(x.aval.ndim)
    if any(type(entry) not in (int, slice) for entry in entries):
        return None
    pairs = zip(entries, x.aval.shape, strict=True)
    return [entry % size if type(entry) is int else entry for entry, size in pairs]


def _is_elsewhere(place: list[Any], other: list[Any]) -> bool:
    """Whether two places have no element in common: along some axis they are different numbers."""
    pairs = zip(place, other, strict=True)
    return any(type(a) is type(b) is int and a != b for a, b in pairs)
