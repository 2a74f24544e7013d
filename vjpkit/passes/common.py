"""Common subexpressions: an equation that was there before."""

from __future__ import annotations

from typing import Any

from vjpkit.core.ir import Equation, Literal, Program, Var, params_key
from vjpkit.core.primitive import lookup
from vjpkit.passes.rewriting import Rewriter

__all__ = ["with_products_shared", "without_repetition"]


COMMUTATIVE = frozenset({"add", "multiply", "scale"})
"""Primitives of two operands whose order does not matter to the bit."""
PRODUCTS = frozenset({"multiply", "scale"})


def without_repetition(program: Program) -> Program:
    """Equal equations (primitive, operands, parameters) are computed once.

    What is a number times a value is minus its product with the opposite number, which sums and
    differences absorb.

    Law: equal outputs, to the bit: primitives are functions, `COMMUTATIVE` ones of a set.
    """
    new = Rewriter(program)
    seen: dict[Any, tuple[Var, ...]] = {}
    for old in program.equations:
        eqn = new.read(old)
        if (eqn.primitive.effect or eqn.primitive.multi) and eqn.effect:
            new.keep(eqn)
            continue
        swaps = eqn.primitive.name in COMMUTATIVE
        operands = frozenset(eqn.inputs) if swaps else eqn.inputs
        params = params_key(eqn.params) if eqn.params else ()
        key = (eqn.primitive, operands, params)
        try:
            first = seen.setdefault(key, eqn.outputs)
        except TypeError:  # a parameter of the user's that cannot be hashed
            first = eqn.outputs
        minus = seen.get(_opposite(eqn)) if first is eqn.outputs and swaps else None
        if minus is not None:
            new.replace(eqn, (new.emit(lookup("negative"), minus, {}, eqn.position),))
        elif first is eqn.outputs:
            new.keep(eqn)
        else:
            new.replace(eqn, first)
    return new.finish() if new.stands_for else program


def _opposite(eqn: Equation) -> Any:
    """The key of the equation's product with the opposite number; None where it has none."""
    if eqn.primitive.name not in PRODUCTS or eqn.outputs[0].aval.dtype.kind != "f":
        return None
    for number, other in (eqn.inputs, eqn.inputs[::-1]):
        if isinstance(number, Literal) and number.aval.dtype.kind == "f" and number.value:
            return eqn.primitive, frozenset({Literal(-number.value), other}), ()
    return None


def with_products_shared(program: Program) -> Program:
    """A product that is there as ``scale`` and as ``multiply`` is computed once, as ``scale``.

    Law: equal outputs, to the bit, where ``scale`` makes no nan for zero to win over.
    """
    scale = lookup("scale")
    scaled = {frozenset(e.inputs) for e in program.equations if e.primitive is scale}
    made = [
        Equation(scale, eqn.inputs, {}, eqn.outputs, eqn.position)
        if eqn.primitive.name == "multiply" and frozenset(eqn.inputs) in scaled
        else eqn
        for eqn in program.equations
    ]
    if all(new is old for new, old in zip(made, program.equations, strict=True)):
        return program
    return without_repetition(Program(program.inputs, made, program.outputs, program.linear))
