"""The NumPy function that computes an equation into a given array, and constants in its dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from vjpkit.core.ir import Atom, Equation, Literal
from vjpkit.kinds.elementwise import Ufunc

__all__ = ["POWERS", "constant", "into", "ufunc_call"]

_ONE_DTYPE = frozenset({"add", "subtract", "multiply", "divide", "maximum", "minimum", "scale"})
"""Primitives that convert both operands to the dtype of the result."""

POWERS = {2: np.square, 0.5: np.sqrt, -1: np.reciprocal}


def ufunc_call(eqn: Equation) -> tuple[np.ufunc, tuple[Atom, ...]] | None:
    """The ufunc and operands that give the equation's bits, or None where its function differs.

    Small powers are what ``x ** 2`` is in NumPy. ``scale`` is the plain product here.
    """
    primitive = eqn.primitive
    if primitive.name == "scale":
        return np.multiply, eqn.inputs
    if not isinstance(primitive, Ufunc) or primitive.ufunc.nout != 1 or eqn.params:
        return None
    if primitive.name == "power":
        x, y = eqn.inputs
        number = y.value if isinstance(y, Literal) else None
        if number in POWERS and x.aval == eqn.outputs[0].aval and x.aval.inexact:
            return POWERS[number], (x,)
        return (np.power, eqn.inputs) if isinstance(number, float | int) else None
    if primitive.operator or primitive.impl is primitive.ufunc:
        return primitive.ufunc, eqn.inputs
    return None


def is_typed(a: Literal, eqn: Equation) -> bool:
    """Whether a literal would be converted to the dtype of the result anyway."""
    (out,) = eqn.outputs
    dtype = out.aval.dtype
    if not a.aval.weak or eqn.primitive.name not in _ONE_DTYPE or dtype.kind not in "fc":
        return False
    if a.aval.dtype.kind == "c" and dtype.kind != "c":
        return False
    others = [b.aval for b in eqn.inputs if b is not a and not isinstance(b, Literal)]
    return bool(others) and all([b.dtype == dtype and b.ndim for b in others])  # noqa: C419


def constant(a: Literal, eqn: Equation) -> Any:
    """The literal as an operand: a 0-d array of the result's dtype where it may be one.

    A ufunc reads that in half the time that a Python number takes.
    """
    return np.array(a.value, eqn.outputs[0].aval.dtype) if is_typed(a, eqn) else a.value


def into(ufunc: np.ufunc, name: str) -> str:
    """The argument by which a ufunc writes into the array called ``name``.

    By position, which is quicker, but for those that may once take more operands.
    """
    return f"out={name}" if ufunc in (np.maximum, np.minimum) else name
