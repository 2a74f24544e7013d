"""What the functions of `vjpkit.lax` take: arrays of one shape and dtype, axes, sizes."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from vjpkit.core.aval import Shape, Value, aval_of
from vjpkit.core.errors import at, calling_position, counted
from vjpkit.numpy._arguments import named_array

__all__ = ["array", "axes", "axis_of", "floating", "integers", "operands", "per_axis"]

_NUMBERS = (bool, int, float, complex)


def array(function: str, x: Value, name: str = "operand") -> Value:
    """``x`` as an array of numbers, or an error that names it."""
    return named_array(function, x, name)


def floating(function: str, x: Value, name: str = "x") -> Value:
    """``x`` as an array of floating-point numbers, as JAX wants it: whole ones are refused."""
    x = array(function, x, name)
    if x.dtype.kind not in "fc":
        raise TypeError(
            f"{function}: {name} has dtype {x.dtype}, but {function} takes floating-point numbers"
            f"{at(calling_position())}\nCast it: x.astype(float); NumPy's own functions promote."
        )
    return x


def operands(function: str, *xs: Value) -> list[Value]:
    """Operands of one dtype that have one shape, or no axes; Python's numbers take the dtype."""
    given = [x if type(x) in _NUMBERS else array(function, x, "xyz"[i]) for i, x in enumerate(xs)]
    avals = [aval_of(x) for x in given]
    strong = [a for a, x in zip(avals, given, strict=True) if type(x) not in _NUMBERS]
    kinds = {a.dtype for a in strong}
    if len(kinds) > 1 or not all(_adapts(x, kinds) for x in given):
        raise TypeError(
            f"{function}: the operands have the dtypes {', '.join(str(a.dtype) for a in avals)}, "
            f"which must be equal{at(calling_position())}\n"
            "Cast one with convert_element_type; NumPy's own functions promote."
        )
    shapes = {a.shape for a in strong if a.shape}
    if len(shapes) > 1 and not _aligned(shapes):
        raise TypeError(
            f"{function}: the operands have the shapes {', '.join(str(a.shape) for a in avals)}, "
            f"which must be equal{at(calling_position())}\n"
            "Use broadcast_in_dim first; NumPy's own functions broadcast."
        )
    return given


def _adapts(x: Value, kinds: set[np.dtype[Any]]) -> bool:
    """Whether a Python number can be one of the only dtype there is."""
    if type(x) not in _NUMBERS or not kinds:
        return True
    order = "bifc"
    dtype = next(iter(kinds))
    return order.index(aval_of(x).dtype.kind) <= order.index(dtype.kind.replace("u", "i"))


def _aligned(shapes: set[Shape]) -> bool:
    """Whether shapes of one rank differ in axes of length 1 alone."""
    if len({len(shape) for shape in shapes}) > 1:
        return False
    return all(len(set(sizes) - {1}) <= 1 for sizes in zip(*shapes, strict=True))


def integers(function: str, name: str, numbers: Any) -> tuple[int, ...]:
    """A sequence of ints."""
    try:
        return tuple(map(index, numbers))
    except TypeError:
        raise TypeError(
            f"{function}: {name} must be a sequence of ints, got {numbers!r}"
            f"{at(calling_position())}"
        ) from None


def per_axis(function: str, name: str, numbers: Any, ndim: int) -> tuple[int, ...]:
    """One int per axis."""
    found = integers(function, name, numbers)
    if len(found) != ndim:
        raise TypeError(
            f"{function}: {name} must have one entry for each of "
            f"{counted(ndim, 'axis', 'axes')}, got {numbers!r}"
            f"{at(calling_position())}"
        )
    return found


def axis_of(function: str, name: str, axis: Any, ndim: int) -> int:
    """One axis, non-negative."""
    try:
        number = index(axis)
    except TypeError:
        raise TypeError(
            f"{function}: {name} must be an int, got {axis!r}{at(calling_position())}"
        ) from None
    if not -ndim <= number < ndim:
        raise ValueError(
            f"{function}: {name}={axis} is out of range for an array of "
            f"{counted(ndim, 'axis', 'axes')}"
            f"{at(calling_position())}"
        )
    return number % ndim


def axes(function: str, name: str, numbers: Sequence[int], ndim: int) -> tuple[int, ...]:
    """Different axes, non-negative."""
    found = tuple([axis_of(function, name, a, ndim) for a in integers(function, name, numbers)])
    if len(set(found)) != len(found):
        raise ValueError(
            f"{function}: {name}={tuple(numbers)} names an axis twice{at(calling_position())}"
        )
    return found
