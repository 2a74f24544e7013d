"""Arguments of NumPy's functions: arrays among them, axes, flags, and values that must be known."""

from __future__ import annotations

import warnings
from operator import index
from typing import Any

import numpy as np

from vjpkit.core.aval import Shape, Value
from vjpkit.core.errors import TracerConversionError, at, calling_position
from vjpkit.core.rows import Eager
from vjpkit.core.tracer import Tracer, operand
from vjpkit.numpy._dispatch import normalize_axes
from vjpkit.ops import structural

__all__ = [
    "as_array", "axis_number", "cast_safely",
    "concrete", "flag", "given", "grid", "known", "named_array", "normalize_axis",
    "one_axis", "places_along", "plain",
    "reduced_axes", "require_along", "scalar", "truths", "warn_where", "yes",
]  # fmt: skip


def as_array(x: Value) -> Value:
    """``x`` as NumPy's functions see it: a tracer that decides promotion, or an array."""
    if type(x) is Eager and not isinstance(x.value, Tracer):
        return x
    if isinstance(x, Tracer):
        return structural.to_dtype(x, x.dtype) if x.aval.weak else x
    x = operand(x)
    return x if isinstance(x, Tracer) or hasattr(x, "shape") else np.asarray(x)


def named_array(function: str, x: Value, name: str = "x") -> Value:
    """``x`` as an array of numbers, or an error that names function and argument."""
    try:
        x = as_array(x)
    except TypeError as error:
        raise TypeError(f"{function}: {name}: {error}") from None
    if x.dtype.kind not in "biufc":
        raise TypeError(
            f"{function}: {name} has dtype {x.dtype}, which is not a number{at(calling_position())}"
            "\nPass an array of numbers, or x.astype(float)."
        )
    return x


def cast_safely(x: Value, dtype: np.dtype[Any]) -> Value:
    """``x`` in another dtype, or NumPy's error where that could lose something."""
    if not np.can_cast(x.dtype, dtype, "safe"):
        raise TypeError(
            f"Cannot cast array data from {x.dtype!r} to {dtype!r} according to the rule 'safe'"
        )
    return structural.to_dtype(x, dtype)


def plain(x: Value) -> bool:
    """Whether nothing of ``x`` is traced, so that NumPy can be asked."""
    return not isinstance(x, Tracer)


def known(x: Value) -> Value | None:
    """The value of ``x`` without its derivative, or None while it is abstract."""
    if not isinstance(x, Tracer):
        return x
    try:
        return x.concrete()
    except TracerConversionError:
        return None


def concrete(x: Value, function: str) -> Value:
    """The value of ``x`` without its derivative; an error that names ``function`` if abstract."""
    if not isinstance(x, Tracer):
        return x
    try:
        return x.concrete()
    except TracerConversionError as error:
        raise TracerConversionError(
            f"np.{function}: what it returns depends on values that must be known. {error}"
        ) from None


def scalar(x: Value) -> Value:
    """A 0-d array as the NumPy scalar that most functions return; others as they are."""
    return x if x.ndim else x[()]


def given(x: Any) -> bool:
    """Whether a keyword was given at all."""
    return x is not np._NoValue


def yes(x: Any) -> bool:
    """A boolean keyword where NumPy takes anything for a truth value; False where not given."""
    return x is not np._NoValue and bool(x)


def flag(x: Any) -> bool:
    """A boolean keyword of NumPy's reductions, which take integers; False where not given."""
    return x is not np._NoValue and bool(index(x))


def truths(where: Any) -> Value:
    """The mask that ``where=`` says: of an array only truth values, as NumPy has it."""
    mask = as_array(where)
    if mask.dtype != bool and mask.ndim and hasattr(where, "dtype"):
        raise TypeError(
            f"Cannot cast array data from {mask.dtype!r} to dtype('bool') according to the rule "
            f"'safe'{at(calling_position())}\nPass a mask: where=x != 0."
        )
    return structural.to_dtype(mask, np.dtype(bool))


def reduced_axes(axis: Any, ndim: int, numbers: bool = True) -> tuple[int, ...] | None:
    """The axes of a reduction, non-negative; ufuncs also reduce axes 0 and -1 of ``numbers``."""
    if axis is None:
        return None
    if type(axis) is int and 0 <= axis < ndim:
        return (axis,)
    axes = tuple(map(axis_number, axis)) if isinstance(axis, tuple) else axis_number(axis)
    if numbers and ndim == 0 and axes in (0, -1):
        return ()
    return normalize_axes(axes, ndim)


def axis_number(axis: Any) -> int:
    """An axis as NumPy's compiled functions take it: no truth value."""
    if isinstance(axis, bool):
        raise TypeError("an integer is required for the axis")
    return index(axis)


def normalize_axis(axis: Any, ndim: int) -> int:
    """One axis, non-negative."""
    return np.lib.array_utils.normalize_axis_index(index(axis), ndim)


def one_axis(axis: Any, ndim: int) -> int:
    """One axis, non-negative, as NumPy's compiled functions take it."""
    return normalize_axis(axis_number(axis), ndim)


def warn_where(condition: Value, message: str) -> None:
    """NumPy's warning, where the condition is known to hold somewhere."""
    found = known(condition)
    if found is not None and np.any(found):
        warnings.warn(message, RuntimeWarning, stacklevel=4)


def grid(shape: Shape) -> list[Value]:
    """Index arrays that together read every element of an array of this shape in its place."""
    return [np.arange(n).reshape(-1, *[1] * (len(shape) - i - 1)) for i, n in enumerate(shape)]


def require_along(arr: Value, indices: Value, axis: int | None) -> None:
    """NumPy's errors of ``take_along_axis`` and ``put_along_axis``."""
    if axis is None and indices.ndim != 1:
        raise ValueError("when axis=None, `indices` must have a single dimension.")
    if axis is not None:
        normalize_axis(axis, arr.ndim)
    if indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    if axis is not None and indices.ndim != arr.ndim:
        raise ValueError("`indices` and `arr` must have the same number of dimensions")


def places_along(shape: tuple[int, ...], indices: Value, axis: int) -> tuple[Value, ...]:
    """The index of arrays that has ``indices`` along one axis."""
    axis = normalize_axis(axis, len(shape))
    grid: list[Value] = list(np.ogrid[tuple([slice(n) for n in shape])])
    grid[axis] = indices
    return tuple(grid)
