"""How NumPy is called for an equation: its function, its spelling, constants in their dtype."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from vjpkit.core.ir import Atom, Equation, Literal, Var
from vjpkit.kinds.elementwise import Ufunc
from vjpkit.kinds.linear import SMALL

__all__ = [
    "COMMUTATIVE", "FUNCTIONS", "OPERATORS", "POWERS", "constant", "into", "number", "plain",
    "spelled", "ufunc_call",
]  # fmt: skip

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
    others = [b.aval for b in eqn.inputs if type(b) is Var]
    return bool(others) and all([b.shape and b.dtype == dtype for b in others])


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


# ---- spellings -----------------------------------------------------------------------------------

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add_at": np.add.at,
    "add_reduce": np.add.reduce,
    "maximum_reduce": np.maximum.reduce,
    "minimum_reduce": np.minimum.reduce,
    "matmul": np.matmul,
    "concatenate": np.concatenate,
    "zeros": np.zeros,
    "empty": np.empty,
    "array": np.array,
}
"""What spellings call, by name."""

OPERATORS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
"""What Python calls ufuncs of these names where an operand is an array."""

COMMUTATIVE = frozenset({"+", "*"})
"""Operators of two operands whose order does not matter to the bit."""

_OF_NUMBERS = {**OPERATORS, "scale": "*"}
"""Of primitives."""


def _reduction(name: str) -> Callable[..., str]:
    def spell(x: str, *, axes: Any, keepdims: bool) -> str:
        return f"{name}({x}, {axes}, None, None, {keepdims})"

    return spell


def _getitem(x: str, *arrays: str, index: object) -> str:
    return f"{x}{place(index, *arrays)}"


_SPELLINGS: dict[str, Callable[..., str]] = {
    "sum": _reduction("add_reduce"),
    "max": _reduction("maximum_reduce"),
    "min": _reduction("minimum_reduce"),
    "reshape": lambda x, shape: f"{x}.reshape({shape})",
    "transpose": lambda x, axes: f"{x}.transpose({axes})",
    "matmul": lambda x, y: f"matmul({x}, {y})",
    "scale_matmul": lambda x, y: f"matmul({x}, {y})",
    "take": lambda x, indices, axis: f"{x}.take({indices}, {axis})",
    "concatenate": lambda *xs, axis: f"concatenate([{', '.join(xs)}], {axis})",
    "getitem": _getitem,
}
"""What the functions of primitives forward to where operands are arrays."""


def spelled(
    eqn: Equation, words: list[str], ones: Callable[[int, Any], str], quiet: bool
) -> str | None:
    """NumPy's own call for an equation of arrays, or operator for one of numbers; None for neither.

    ``words`` are the operands, ``ones`` names a vector of ones of a length and a dtype, ``quiet``
    says that NumPy's warnings are no news: those of `numpy.matmul`, which `numpy.ndarray.dot` does
    not give. The same bits as from the primitive's function (as from `quick` of one that has it) at
    arrays in one piece, without what that adds to the call; but for a sum along one axis, which a
    product with ones makes in another order, and for the sign of its zeros.
    """
    name = eqn.primitive.name
    if any([not isinstance(a, Literal) and not a.aval.ndim for a in eqn.inputs]):
        operator = _OF_NUMBERS.get(name)
        numbers = not any([a.aval.ndim for a in eqn.inputs])
        if name == "negative" and numbers:
            return f"-{words[0]}"
        return f" {operator} ".join(words) if operator and numbers else None
    if any([isinstance(a, Literal) for a in eqn.inputs]):
        return None
    if name == "sum" and is_product_with_ones(eqn):
        return _product_with_ones(eqn, words[0], ones, quiet)
    if quiet and _is_small_product(eqn):
        return f"{words[0]}.dot({words[1]})"
    if name == "getitem" and _takes_elements(eqn):
        return f"{words[0]}.take({words[1]})"
    if name == "roll":
        return _rolled(eqn, words[0])
    spell = _SPELLINGS.get(name)
    return None if spell is None else spell(*words, **eqn.params)


LONGEST_ROW = 512
"""Elements up to which a row may be added up by BLAS, which does not do it pairwise."""
MOST_ROWS = 1 << 16
"""Rows up to which as many ones are kept with the program."""


def is_product_with_ones(eqn: Equation) -> bool:
    """Whether a sum is one along the last axis or the one before it, of several rows.

    NumPy's reductions begin anew at each row, or add rows that may be short; a product of matrices
    is from two to twenty times faster.
    """
    aval, axes = eqn.inputs[0].aval, eqn.params["axes"]
    if aval.ndim < 2 or axes is None or len(axes) != 1 or aval.dtype.char not in "fd":
        return False
    last = aval.ndim - 1
    most = {last: LONGEST_ROW, last - 1: MOST_ROWS}
    return bool(aval.shape[axes[0]] <= most.get(axes[0], -1))


def _product_with_ones(eqn: Equation, x: str, ones: Callable[[int, Any], str], quiet: bool) -> str:
    aval, (axis,) = eqn.inputs[0].aval, eqn.params["axes"]
    vector, keepdims = ones(aval.shape[axis], aval.dtype), eqn.params["keepdims"]
    last = axis == aval.ndim - 1
    if quiet and aval.ndim == 2 and not keepdims:
        return f"{x}.dot({vector})" if last else f"{vector}.dot({x})"
    if last:
        return f"matmul({x}, {vector}{'[:, None]' if keepdims else ''})"
    return f"matmul({vector}{'[None]' if keepdims else ''}, {x})"


def _is_small_product(eqn: Equation) -> bool:
    """Whether a product of matrices or vectors comes sooner from `numpy.ndarray.dot`."""
    if eqn.primitive.name not in ("matmul", "scale_matmul"):
        return False
    x, y = (a.aval for a in eqn.inputs)
    plain = x.dtype == y.dtype and x.dtype.char in "fdFD" and x.ndim <= 2 and y.ndim <= 2
    return plain and eqn.outputs[0].aval.size <= SMALL


def _takes_elements(eqn: Equation) -> bool:
    """Whether elements of a vector are read by an array of integers."""
    x, *arrays = eqn.inputs
    integers = len(arrays) == 1 and arrays[0].aval.dtype.kind in "iu"
    return integers and x.aval.ndim == 1 == len(eqn.params["index"].entries)


def _rolled(eqn: Equation, x: str) -> str | None:
    """Two parts of an array the other way round."""
    (aval,), shifts, axes = [a.aval for a in eqn.inputs], eqn.params["shifts"], eqn.params["axes"]
    n = aval.shape[axes[0]] if len(axes) == 1 else 0
    k = shifts[0] % n if n else 0
    if not k:
        return None
    before = ":, " * axes[0]
    return f"concatenate([{x}[{before}{n - k}:], {x}[{before}:{n - k}]], {axes[0]})"


def place(index: object, *arrays: str) -> str:
    """An index with its brackets as it prints, arrays in the places marked by ``@``."""
    text = repr(index)
    for word in arrays:
        text = text.replace("@", word, 1)
    return text.replace("[]", "[()]")


def plain(value: Any) -> bool:
    """Whether the text of a parameter is Python for it."""
    if type(value) is tuple:
        return all(map(plain, value))
    return value is None or type(value) in (bool, int)


def number(value: Any) -> str | None:
    """A Python number as an operand in an expression; None for one that has no such text."""
    if type(value) not in (int, float) or not math.isfinite(value):
        return None
    return repr(value) if math.copysign(1.0, value) > 0 else f"({value!r})"
