"""Choosing between values, and the elements that a condition selects: NumPy's signatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import TracerConversionError, UnsupportedError, at, calling_position
from vjpkit.core.tracer import UFUNCS, Tracer
from vjpkit.numpy._arguments import as_array, given, grid, known, one_axis
from vjpkit.numpy._creation import is_contiguous
from vjpkit.numpy._dispatch import implements, method
from vjpkit.numpy._no_axis import array_of_no_axis
from vjpkit.numpy._overlap import require_apart
from vjpkit.numpy._selected import wide
from vjpkit.numpy._views import root_of
from vjpkit.numpy._writing import delivered, delivered_in_turn, delivers
from vjpkit.ops import selection, structural
from vjpkit.ops.cumulative import along
from vjpkit.ops.indexing import read

__all__: list[str] = []

_NO = np._NoValue
_NUMBERS = (int, float, complex)


def _operand(x: Value) -> Value:
    """An array, or a Python number, which does not decide promotion."""
    return x if type(x) in _NUMBERS or isinstance(x, Tracer) else as_array(x)


# ---- one of several values ---------------------------------------------------------------------


@implements(np.where)
def where(condition: Value, x: Value = None, y: Value = None, /) -> Value:
    if x is None and y is None:
        return np.nonzero(condition)
    if x is None or y is None:
        raise ValueError("either both or neither of x and y should be given")
    return array_of_no_axis(selection.where(_operand(condition), _operand(x), _operand(y)))


@implements(np.select)
def select(condlist: Sequence[Value], choicelist: Sequence[Value], default: Value = 0) -> Value:
    if len(condlist) != len(choicelist):
        raise ValueError("list of cases must be same length as list of conditions")
    if len(condlist) == 0:
        raise ValueError("select with an empty condition list is not possible")
    conditions = [as_array(c) for c in condlist]
    for i, condition in enumerate(conditions):
        if condition.dtype != bool:
            raise TypeError(f"invalid entry {i} in condlist: should be boolean ndarray")
    choices = [_operand(c) for c in (*choicelist, default)]
    dtype = np.result_type(*[_example(c) for c in choices])
    result = choices.pop()
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        result = selection.where(condition, choice, result)
    return array_of_no_axis(structural.to_dtype(result, dtype))


def _example(x: Value) -> Any:
    """Something of which NumPy's promotion sees what it would see of the value."""
    aval = aval_of(x)
    return aval.dtype.type(0).item() if aval.weak else aval.dtype


@method("choose")
@implements(np.choose)
def choose(a: Value, choices: Any, out: Any = None, mode: str = "raise") -> Value:
    options = [as_array(choice) for choice in choices]
    number = as_array(a)
    if number.dtype.kind not in "biu":
        raise TypeError(
            f"Cannot cast array data from {number.dtype!r} to dtype('int64') according to the rule "
            "'safe'"
        )
    shape = np.broadcast_shapes(number.shape, *[option.shape for option in options])
    number = np.broadcast_to(number, shape)
    table = np.stack([np.broadcast_to(option, shape) for option in options])
    if mode == "wrap":
        number = number % len(options)
    elif mode == "clip":
        number = np.clip(number, 0, len(options) - 1)
    elif mode == "raise":
        value = known(number)
        if value is not None and np.any((value < 0) | (value >= len(options))):
            raise ValueError("invalid entry in choice array")
    else:
        raise ValueError(f"clipmode must be one of 'clip', 'raise', or 'wrap' (got {mode!r})")
    result = read(table, (number, *grid(shape)))
    if out is None or mode == "raise":  # which copies first
        return result if out is None else delivered("choose", result, out)
    numbers: Any = known(number)
    _require_dense(out)
    require_apart("np.choose", out, [a] if numbers is not None else [a, *options])

    def operation(values: Sequence[Any], into: Any) -> None:
        np.choose(numbers, values, out=into, mode="clip")

    return delivered_in_turn("choose", result, out, options, operation)


def _require_dense(out: Any) -> None:
    """Raise for an ``out`` with gaps, which NumPy writes to as if there were none."""
    dense = is_contiguous(out, "C")
    if isinstance(out, Tracer) and not (root_of(out) is out if dense is None else dense):
        raise UnsupportedError(
            "np.choose: with mode='clip' or 'wrap' NumPy writes to out as if it were contiguous, "
            f"and this one is not.{at(calling_position())}\n"
            "Write out[...] = np.choose(a, choices, mode=mode)."
        )


@implements(np.piecewise)
def piecewise(x: Value, condlist: Any, funclist: Sequence[Any], *args: Any, **kw: Any) -> Value:
    """Each function on the elements its condition selects; while these are not known, on all."""
    x = as_array(x)
    conditions = _conditions(x, condlist)
    count = len(funclist)
    if len(conditions) == count - 1:
        otherwise = conditions[0]
        for condition in conditions[1:]:
            otherwise = np.logical_or(otherwise, condition)
        conditions = [*conditions, np.logical_not(otherwise)]
    elif len(conditions) != count:
        n = len(conditions)
        raise ValueError(f"with {n} condition(s), either {n} or {n + 1} functions are expected")
    masks = [known(condition) for condition in conditions]
    y: Value = np.zeros(x.shape, x.dtype)
    for condition, mask, function in zip(conditions, masks, funclist, strict=True):
        if not callable(function):
            piece = structural.to_dtype(as_array(function), x.dtype)
        elif mask is None:
            piece = structural.to_dtype(as_array(function(x, *args, **kw)), x.dtype)
        else:
            piece = _scattered(x, mask, function, args, kw)
        y = selection.where(condition, piece, y)
    return array_of_no_axis(y)


def _conditions(x: Value, condlist: Any) -> list[Value]:
    """The conditions of `piecewise`, each in the shape of ``x``."""
    single = np.isscalar(condlist) or (isinstance(condlist, Tracer) and condlist.ndim == 0)
    if not single and x.ndim != 0:
        first = condlist[0]
        single = not isinstance(first, list | np.ndarray | Tracer) or np.ndim(first) == 0
    conditions = [condlist] if single else list(condlist)
    bools = [structural.to_dtype(as_array(c), np.dtype(bool)) for c in conditions]
    return [np.broadcast_to(wide(x, c), x.shape) if c.shape != x.shape else c for c in bools]


def _scattered(
    x: Value, mask: Value, function: Callable[..., Value], args: Any, kw: dict[str, Any]
) -> Value:
    """``function`` of the selected elements, in their places in an array like ``x``."""
    selected = x[mask]
    if selected.size == 0:
        return np.zeros((), x.dtype)
    values = structural.to_dtype(as_array(function(selected, *args, **kw)), x.dtype)
    values = np.broadcast_to(values, selected.shape)
    places = np.cumsum(mask).reshape(mask.shape) - 1
    return np.reshape(values, -1)[np.where(mask, places, 0)]


@method("clip")
def _clip_method(
    self: Value, min: Any = None, max: Any = None, out: Any = None, **kwargs: Any
) -> Value:
    return clip(self, min, max, out, **kwargs)


@implements(np.clip)
def clip(
    a: Value,
    a_min: Any = _NO,
    a_max: Any = _NO,
    out: Any = None,
    *,
    min: Any = _NO,
    max: Any = _NO,
    **kwargs: Any,
) -> Value:
    """The smaller of the upper bound and the larger of ``a`` and the lower; at ties they share."""
    if not given(a_min) and not given(a_max):
        a_min, a_max = (None if not given(min) else min), (None if not given(max) else max)
    elif not given(a_min) or not given(a_max):
        missing = "a_max" if given(a_min) else "a_min"
        raise TypeError(f"clip() missing 1 required positional argument: '{missing}'")
    elif given(min) or given(max):
        raise ValueError(
            "Passing `min` or `max` keyword argument when `a_min` and `a_max` are provided is "
            "forbidden."
        )
    if out is not None or kwargs:
        return _clip_by_ufunc(a, a_min, a_max, {"out": out, **kwargs})
    result = as_array(a)
    if a_min is None and a_max is None:
        return np.positive(result)
    if a_min is not None:
        result = np.maximum(result, _operand(a_min))
    return result if a_max is None else np.minimum(result, _operand(a_max))


_CLIP: np.ufunc = np._core.umath.clip  # type: ignore[attr-defined]  # nowhere else in NumPy


def _clip_by_ufunc(a: Value, a_min: Any, a_max: Any, keywords: dict[str, Any]) -> Value:
    """`numpy.clip` with a ufunc's keywords, by the ufunc that NumPy then uses."""
    if a_min is None:
        return np.positive(a, **keywords) if a_max is None else np.minimum(a, a_max, **keywords)
    if a_max is None:
        return np.maximum(a, a_min, **keywords)
    return _CLIP(a, a_min, a_max, **keywords)


UFUNCS[_CLIP] = clip


# ---- places that a condition selects -----------------------------------------------------------


def _known_condition(x: Value, function: str) -> Value:
    """The value of ``x``, of which the places that are not zero are asked."""
    found = known(x)
    if found is None:
        raise TracerConversionError(
            f"np.{function}: how many elements of {x.aval} are not zero is not known"
            f"{at(calling_position())}\nUse np.where(x != 0, y, 0), which does not change the "
            "shape, or index with the mask itself, y[x != 0]: what it selects can be computed "
            "with, reduced and written back."
        )
    return found


@method("nonzero")
@implements(np.nonzero)
def nonzero(a: Value) -> tuple[Value, ...]:
    return np.nonzero(_known_condition(a, "nonzero"))


@implements(np.flatnonzero)
def flatnonzero(a: Value) -> Value:
    return np.flatnonzero(_known_condition(a, "flatnonzero"))


@implements(np.argwhere)
def argwhere(a: Value) -> Value:
    return np.argwhere(_known_condition(a, "argwhere"))


@implements(np.extract)
def extract(condition: Value, arr: Value) -> Value:
    array, condition = as_array(arr), as_array(condition)
    mask = known(condition)
    if mask is None and condition.size == array.size:
        return np.ravel(array)[np.ravel(condition) != 0]
    return np.ravel(array)[np.flatnonzero(_known_condition(condition, "extract"))]


@implements(np.compress)
@delivers
def compress(condition: Value, a: Value, axis: Any = None, out: Any = None) -> Value:
    condition, array = as_array(condition), as_array(a)
    if condition.ndim != 1:
        raise ValueError("condition must be a 1-d array")
    if axis is None:
        array, axis = np.ravel(array), 0
    axis = one_axis(axis, array.ndim)
    mask = known(condition)
    if mask is None and condition.size == array.shape[axis]:
        return array[along(axis, condition != 0)]
    return array[along(axis, np.flatnonzero(_known_condition(condition, "compress")))]


@method("compress")
def _compress_method(self: Value, condition: Value, axis: Any = None, out: Any = None) -> Value:
    return np.compress(condition, self, axis, out)
