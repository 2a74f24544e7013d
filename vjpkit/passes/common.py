"""Common subexpressions: an equation that was there before."""

from __future__ import annotations

from typing import Any

from vjpkit.core.ir import Program, Var, params_key
from vjpkit.passes.rewriting import Rewriter

__all__ = ["without_repetition"]


def without_repetition(program: Program) -> Program:
    """Equal equations (primitive, operands, parameters) are computed once.

    Law: equal outputs, to the bit: primitives are functions.
    """
    new = Rewriter(program)
    seen: dict[Any, tuple[Var, ...]] = {}
    for old in program.equations:
        eqn = new.read(old)
        if eqn.primitive.effect:
            new.keep(eqn)
            continue
        key = (eqn.primitive, eqn.inputs, params_key(eqn.params))
        try:
            first = seen.setdefault(key, eqn.outputs)
        except TypeError:  # a parameter of the user's that cannot be hashed
            first = eqn.outputs
        if first is eqn.outputs:
            new.keep(eqn)
        else:
            new.replace(eqn, first)
    return new.finish() if new.stands_for else program
