"""Calls: the equations of a called program in the place of the call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vjpkit.core.ir import Atom, Equation, Program, Var
from vjpkit.passes.rewriting import Rewriter

__all__ = ["FEW", "inlined", "with_calls_inlined"]

FEW = 32
"""Equations up to which a program may stand in the place of every call of it."""


def with_calls_inlined(program: Program) -> Program:
    """Equations of called programs where they are called, so that passes see across the call.

    Of a program with more than `FEW` equations a single call: the whole grows by a constant factor.
    Law: equal outputs, to the bit.
    """
    calls = [eqn.params["program"] for eqn in program.equations if eqn.primitive.name == "call"]
    if not calls:
        return program
    times = Counter(map(id, calls))
    new = Rewriter(program)
    for old in program.equations:
        eqn = new.read(old)
        if eqn.primitive.name == "call":
            called = with_calls_inlined(eqn.params["program"])
            if times[id(eqn.params["program"])] == 1 or len(called.equations) <= FEW:
                new.replace(eqn, inlined(new, eqn.inputs, called))
                continue
        new.keep(eqn)
    return new.finish() if new.stands_for else program


def inlined(new: Rewriter, operands: Sequence[Atom], program: Program) -> tuple[Atom, ...]:
    """The outputs of a program at some operands, its equations added to ``new``."""
    here: dict[Var, Atom] = dict(zip(program.inputs, operands, strict=True))

    def read(a: Atom) -> Atom:
        return here.get(a, a) if isinstance(a, Var) else a

    for eqn in program.equations:
        outputs = tuple([Var(v.aval) for v in eqn.outputs])
        inputs = tuple(map(read, eqn.inputs))
        new.keep(Equation(eqn.primitive, inputs, eqn.params, outputs, eqn.position))
        here.update(zip(eqn.outputs, outputs, strict=True))
    return tuple(map(read, program.outputs))
