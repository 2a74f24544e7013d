"""What the functions of `vjpkit.nn` take: real or floating arrays, axes, numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from operator import index
from typing import Any, Concatenate, ParamSpec

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import at, calling_position
from vjpkit.numpy._arguments import named_array
from vjpkit.ops import structural

__all__ = ["activation", "axes_of", "floating", "parameter", "real"]

P = ParamSpec("P")


def real(function: str, x: Value, name: str = "x") -> Value:
    """``x`` as an array of real numbers: complex ones have no order."""
    x = named_array(function, x, name)
    if x.dtype.kind == "c":
        raise TypeError(
            f"{function}: {name} is complex ({x.dtype}), but {function} is a function of real "
            f"numbers{at(calling_position())}\nApply it to x.real and x.imag, or to abs(x)."
        )
    return x


def floating(function: str, x: Value, name: str = "x") -> Value:
    """``x`` as an array of real floating-point numbers: whole ones become float64."""
    x = real(function, x, name)
    return x if x.dtype.kind == "f" else structural.to_dtype(x, np.dtype(np.float64))


def parameter(function: str, name: str, x: Value) -> Value:
    """A further argument, a number or an array; numbers stay weak."""
    if type(x) in (int, float):
        return x
    return real(function, x, name)


def axes_of(function: str, x: Value, axis: Any) -> tuple[int, ...] | None:
    """``axis`` as non-negative axes of ``x`` (None for all), or an error that names it."""
    if axis is None:
        return None
    numbers = axis if isinstance(axis, tuple | list) else (axis,)
    try:
        whole = tuple(map(index, numbers))
    except TypeError:
        raise TypeError(
            f"{function}: axis must be an int, a tuple of ints or None, got {axis!r}"
            f"{at(calling_position())}"
        ) from None
    for a in whole:
        if not -x.ndim <= a < x.ndim:
            raise ValueError(
                f"{function}: axis={axis!r} is out of range for x of shape {x.shape}"
                f"{at(calling_position())}"
            )
    return tuple(a % x.ndim for a in whole)


def activation(f: Callable[Concatenate[Value, P], Value]) -> Callable[Concatenate[Value, P], Value]:
    """A function of one real array, element by element, that gets it as an array.

    Of numbers it gives numbers: `numpy.where` alone would make arrays without axes of them.
    """

    @functools.wraps(f)
    def checked(x: Value, /, *args: P.args, **kwargs: P.kwargs) -> Value:
        y = f(real(f.__name__, x), *args, **kwargs)
        return y[()] if type(y) is np.ndarray and not y.ndim else y

    return checked
