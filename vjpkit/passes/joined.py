"""Parts of joined arrays: read where they come from, not from the whole."""

from __future__ import annotations

from typing import Any

from vjpkit.core.ir import Atom, Equation, Program, Var
from vjpkit.ops.index import Index, takes_axis
from vjpkit.passes.rewriting import Rewriter

__all__ = ["with_parts_read"]


def with_parts_read(program: Program) -> Program:
    """What is read of a concatenation or a stack is read of the one array that holds it.

    Law: equal outputs, to the bit. A join of which only parts are read is not made.
    """
    if not any(eqn.primitive.name in ("concatenate", "stack") for eqn in program.equations):
        return program
    new = Rewriter(program)
    for old in program.equations:
        eqn = new.read(old)
        found = _part(new, eqn) if eqn.primitive.name == "getitem" else None
        if found is None:
            new.keep(eqn)
        else:
            new.replace(eqn, (found,))
    return new.finish() if new.stands_for else program


def _part(new: Rewriter, eqn: Equation) -> Atom | None:
    """What stands for a part of a joined array, None where it is not one operand's."""
    x, *arrays = eqn.inputs
    join = new.maker(x)
    if arrays or join is None or join.primitive.name not in ("concatenate", "stack"):
        return None
    entries = list(eqn.params["index"].expanded(x.aval.ndim))
    axes = [i for i, e in enumerate(entries) if takes_axis(e)]
    at = axes[join.params["axis"]]
    total = x.aval.shape[join.params["axis"]]
    if join.primitive.name == "stack":
        if not isinstance(entries[at], int):
            return None
        part = join.inputs[entries.pop(at) % total]
    else:
        found = _within(join, entries[at], total)
        if found is None:
            return None
        part, entries[at] = found
    if not isinstance(part, Var) or part.aval.dtype != eqn.outputs[0].aval.dtype:
        return None
    return new.emit(eqn.primitive, (part,), {"index": Index(tuple(entries))}, eqn.position)


def _within(join: Equation, entry: Any, total: int) -> tuple[Atom, Any] | None:
    """The operand of a concatenation that holds what an entry takes, and the entry for it."""
    if isinstance(entry, slice):
        start, stop, step = entry.indices(total)
        if step != 1 or stop <= start:
            return None
    else:
        start = entry % total
        stop = start + 1
    before = 0
    for part in join.inputs:
        after = before + part.aval.shape[join.params["axis"]]
        if before <= start and stop <= after:
            inner = slice(start - before, stop - before)
            return part, (inner if isinstance(entry, slice) else start - before)
        before = after
    return None
