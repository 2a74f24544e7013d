"""Common subexpressions: an equation that was there before."""

from __future__ import annotations

from typing import Any

from vjpkit.core.ir import Program, Var, params_key
from vjpkit.passes.rewriting import Rewriter

__all__ = ["without_repetition"]


COMMUTATIVE = frozenset({"add", "multiply", "scale"})
"""Primitives of two operands whose order does not matter to the bit."""


def without_repetition(program: Program) -> Program:
    """Equal equations (primitive, operands, parameters) are computed once.

    Law: equal outputs, to the bit: primitives are functions, `COMMUTATIVE` ones of a set.
    """
    new = Rewriter(program)
    seen: dict[Any, tuple[Var, ...]] = {}
    for old in program.equations:
        eqn = new.read(old)
        if eqn.primitive.effect:
            new.keep(eqn)
            continue
        swaps = eqn.primitive.name in COMMUTATIVE
        operands = frozenset(eqn.inputs) if swaps else eqn.inputs
        key = (eqn.primitive, operands, params_key(eqn.params))
        try:
            first = seen.setdefault(key, eqn.outputs)
        except TypeError:  # a parameter of the user's that cannot be hashed
            first = eqn.outputs
        if first is eqn.outputs:
            new.keep(eqn)
        else:
            new.replace(eqn, first)
    return new.finish() if new.stands_for else program
