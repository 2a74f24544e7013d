"""How an elementwise equation is computed with native values.

One table: by the primitive's name, a function of the operands in the type that NumPy would compute
in. Single precision borrows the functions of doubles. What is not in the table, or has another
dtype, is left to NumPy.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from vjpkit.backends.native import functions as f
from vjpkit.backends.native.code import (
    BOOL,
    DOUBLE,
    FLOAT,
    INT,
    TYPES,
    Code,
    Value,
    element,
    lanes_of,
    literal,
)
from vjpkit.backends.numpy_calls import POWERS
from vjpkit.core.aval import Aval
from vjpkit.core.ir import Equation, Literal

__all__ = ["CASTS", "computed", "is_cheap", "is_dear", "is_native", "why_not"]

CASTS = frozenset({"convert", "discretize"})
"""Primitives that change the dtype of each element."""

Rule = Callable[..., Value]

DTYPES: dict[str, Any] = {DOUBLE: np.float64, FLOAT: np.float32}


def scaled(x: Value, y: Value) -> Value:
    """The product in which an exact zero wins over inf and nan: a plain one that is not nan is."""
    product = x * y
    if not x.code.exact:
        x.code.suspects.append(product)
        return product
    zero = x.equals(0.0) | y.equals(0.0)
    return (product.unordered(product) & zero).choose(0.0, product)


def largest(x: Value, y: Value) -> Value:
    chosen = (x >= y).choose(x, y)
    return x.unordered(x).choose(x, chosen) if x.floating else chosen


def smallest(x: Value, y: Value) -> Value:
    chosen = (x <= y).choose(x, y)
    return x.unordered(x).choose(x, chosen) if x.floating else chosen


def magnitude(x: Value) -> Value:
    return f.fabs(x) if x.floating else (x < 0).choose(-x, x)


def sign(x: Value) -> Value:
    if not x.floating:
        return (x > 0).to(INT) - (x < 0).to(INT)
    signed = (x > 0.0).choose(1.0, (x < 0.0).choose(-1.0, x))
    return x.equals(0.0).choose(0.0, signed)


def is_same(x: Value, y: Value) -> Value:
    return x.equals(y) | (x.unordered(x) & y.unordered(y)) if x.floating else x.equals(y)


def in_degrees(x: Value) -> Value:
    return x * float(DTYPES[element(x.kind)](180) / DTYPES[element(x.kind)](np.pi))


def in_radians(x: Value) -> Value:
    return x * float(DTYPES[element(x.kind)](np.pi) / DTYPES[element(x.kind)](180))


def step(x: Value, middle: Value) -> Value:
    """0 or 1; ``middle`` at zero."""
    side = (x > 0.0).choose(1.0, (x < 0.0).choose(0.0, x))
    return x.equals(0.0).choose(middle, side)


def rounded(name: str) -> Rule:
    return lambda x: x.code.intrinsic(name, x) if x.floating else x


ELEMENTARY: dict[str, Rule] = {name: getattr(f, name) for name in f.__all__}
"""Functions that are dear, and are computed in doubles."""

ARITHMETIC: dict[str, Rule] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "scale": scaled,
    "negative": lambda x: -x,
    "positive": lambda x: x,
    "reciprocal": lambda x: 1.0 / x,
    "square": lambda x: x * x,
    "sqrt": lambda x: x.code.intrinsic("sqrt", x),
    "absolute": magnitude,
    "fabs": f.fabs,
    "degrees": in_degrees,
    "rad2deg": in_degrees,
    "radians": in_radians,
    "deg2rad": in_radians,
    "heaviside": step,
    "copysign": f.copysign,
    "sign": sign,
    "maximum": largest,
    "minimum": smallest,
    "fmax": lambda x, y: ((x >= y) | y.unordered(y)).choose(x, y),
    "fmin": lambda x, y: ((x <= y) | y.unordered(y)).choose(x, y),
    "floor": rounded("floor"),
    "ceil": rounded("ceil"),
    "trunc": rounded("trunc"),
    "rint": rounded("rint"),
}
"""Functions of operands in the result's type."""

QUESTIONS: dict[str, Rule] = {
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "equal": lambda x, y: x.equals(y),
    "not_equal": lambda x, y: x.differs(y),
    "same": is_same,
    "isnan": lambda x: x.unordered(x) if x.floating else x.differs(x),
    "isinf": lambda x: f.fabs(x).equals(f.INFINITY),
    "isfinite": lambda x: f.fabs(x) < f.INFINITY,
    "logical_and": lambda x, y: x.to(BOOL) & y.to(BOOL),
    "logical_or": lambda x, y: x.to(BOOL) | y.to(BOOL),
    "logical_xor": lambda x, y: x.to(BOOL) ^ y.to(BOOL),
    "logical_not": lambda x: ~x.to(BOOL),
}
"""Functions of operands in their common type, with a truth value."""

_BITS = {DOUBLE: "f64", FLOAT: "f32"}


def truncated(x: Value) -> Value:
    """A whole number, as NumPy casts on this machine where it does not fit."""
    if platform.machine() not in ("x86_64", "AMD64"):
        lanes = lanes_of(x.kind)
        kinds = [f"v{lanes}" * (lanes > 1) + k for k in ("i64", _BITS[element(x.kind)])]
        return x.code.call(f"llvm.fptosi.sat.{'.'.join(kinds)}", x.like(INT), x)
    fits = f.fabs(x) < 2.0**63
    safe = fits.choose(x, 0.0)
    made = x.like(INT)
    return fits.choose(x.code.make(f"fptosi {x.kind} {safe.name} to {made}", made), -(2**63))


def modulo(x: Value, n: int) -> Value:
    """The remainder that has the sign of the divisor; of a power of two it is the lowest bits."""
    if n > 0 and not n & (n - 1):
        return x & (n - 1)
    rest = x.code.make(f"srem {x.kind} {x.name}, {literal(n, x.kind)}", x.kind)
    return (rest < 0 if n > 0 else rest > 0).choose(rest + n, rest)


def rounded_quotient(x: Value, n: int) -> Value:
    """The quotient, rounded down; by a power of two it is a shift."""
    if n > 0 and not n & (n - 1):
        return x >> (n.bit_length() - 1)
    quotient = x.code.make(f"sdiv {x.kind} {x.name}, {literal(n, x.kind)}", x.kind)
    rest = x - quotient * n
    return (rest < 0 if n > 0 else rest > 0).choose(quotient - 1, quotient)


WHOLE: dict[str, Callable[[Value, int], Value]] = {
    "remainder": modulo,
    "floor_divide": rounded_quotient,
}
"""Functions of whole numbers, the second of which is known, and neither 0 nor -1."""

BITS: dict[str, Rule] = {
    "bitwise_and": lambda x, y: x & y,
    "bitwise_or": lambda x, y: x | y,
    "bitwise_xor": lambda x, y: x ^ y,
    "invert": lambda x: ~x,
}
"""Functions of truth values and whole numbers, in the result's type."""

FLOATING_ONLY = frozenset({
    "divide", "scale", "reciprocal", "sqrt", "fabs", "copysign", "fmax", "fmin", "degrees",
    "rad2deg", "radians", "deg2rad", "heaviside",
})  # fmt: skip


def why_not(eqn: Equation) -> str | None:
    """Why an elementwise equation cannot be native, in words; None if it can."""
    name = eqn.primitive.name
    if len(eqn.outputs) != 1 or (eqn.params and name not in CASTS):
        return f"{name} has parameters"
    kinds = tuple([(a.aval.dtype, a.aval.weak) for a in (*eqn.inputs, *eqn.outputs)])
    divisor = eqn.inputs[1].value if name in WHOLE and isinstance(eqn.inputs[1], Literal) else 0
    return _why_not(name, kinds, divisor)


@lru_cache(4096)
def _why_not(name: str, kinds: tuple[tuple[np.dtype[Any], bool], ...], divisor: int) -> str | None:
    """Why there is none of operands, and a result, of these dtypes, which may be Python's."""
    (out, weak), (first, _) = kinds[-1], kinds[0]
    if weak or any(w and dtype.kind == "b" for dtype, w in kinds):
        return "Python computes with its own numbers"
    other = next((dtype for dtype, _ in kinds if dtype not in TYPES), None)
    if other is not None:
        return f"kernels have no {other}"
    kind = TYPES[out]
    if name in QUESTIONS:
        questions = name in ("isinf", "isfinite") and first.kind != "f"
        return f"{name} of {first}" if questions else None
    if name == "discretize":
        return None if kind in (INT, BOOL) else f"conversions to {kind}"
    if name in WHOLE:
        fits = kind == INT and first == out and divisor not in (0, -1)
        return None if fits else f"{name} of {kind}"
    if name in ("where", "convert"):
        return None if kind != INT or kinds[-2][0].kind != "f" else "conversions to integers"
    if name in ELEMENTARY or name in FLOATING_ONLY:
        return None if kind in (DOUBLE, FLOAT) else f"{name} of {kind}"
    if name in BITS:
        return None if kind in (BOOL, INT) else f"{name} of {kind}"
    if name in ARITHMETIC:
        return None if kind != BOOL else f"{name} of truth values"
    return f"{name} is not in the kernels' table"


def is_native(eqn: Equation) -> bool:
    return why_not(eqn) is None


def is_dear(eqn: Equation) -> bool:
    """Whether a function is computed that takes long, and many registers."""
    return eqn.primitive.name in ELEMENTARY and small_power(eqn) is None


SLOW = frozenset({"divide", "reciprocal", "sqrt", "discretize"})
"""Functions that take longer than to read their result."""


def is_cheap(eqn: Equation) -> bool:
    """Whether a function is computed in the time of an addition or two."""
    name = small_power(eqn) or eqn.primitive.name
    if name in WHOLE:  # by other numbers, whole numbers are divided one by one
        n = eqn.inputs[1].value if isinstance(eqn.inputs[1], Literal) else 0
        return n > 0 and not n & (n - 1) and is_native(eqn)
    known = name in ARITHMETIC or name in QUESTIONS or name in BITS or name in ("where", "convert")
    return known and name not in SLOW and is_native(eqn)


def small_power(eqn: Equation) -> str | None:
    """The ufunc that NumPy uses for ``x ** y`` with this exponent, if it is one."""
    if eqn.primitive.name != "power":
        return None
    x, y = eqn.inputs
    number = y.value if isinstance(y, Literal) else None
    if number in POWERS and x.aval == eqn.outputs[0].aval and x.aval.dtype.kind == "f":
        return POWERS[number].__name__
    return None


def computed(code: Code, eqn: Equation, xs: list[Value]) -> Value:
    """The result of an equation that `is_native`."""
    name = eqn.primitive.name
    kind = TYPES[eqn.outputs[0].aval.dtype]
    if name == "where":
        mask, x, y = xs
        return mask.to(BOOL).choose(x.to(kind), y.to(kind))
    if name in CASTS:
        return truncated(xs[0]) if kind == INT and xs[0].floating else xs[0].to(kind)
    if name in WHOLE:
        divisor = eqn.inputs[1]
        assert isinstance(divisor, Literal)
        return WHOLE[name](xs[0].to(kind), int(divisor.value))
    if name in QUESTIONS:
        common = TYPES[common_dtype([a.aval for a in eqn.inputs])]
        return QUESTIONS[name](*[x.to(common) for x in xs])
    small = small_power(eqn)
    if small is not None:
        name, xs = small, xs[:1]
    if name in ELEMENTARY:
        return ELEMENTARY[name](*[x.to(kind).to(DOUBLE) for x in xs]).to(kind)
    rule = BITS[name] if name in BITS else ARITHMETIC[name]
    return rule(*[x.to(kind) for x in xs])


def common_dtype(avals: list[Aval]) -> Any:
    """The dtype in which NumPy compares: Python's numbers do not decide it."""
    strong = [a.dtype for a in avals if not a.weak]
    if not strong:
        return np.result_type(*[a.dtype for a in avals])
    found = np.result_type(*strong)
    weak = [a.dtype for a in avals if a.weak]
    ranks = "bif"
    if any(ranks.index(d.kind) > ranks.index(found.kind) for d in weak):
        return np.result_type(found, *weak)
    return found
