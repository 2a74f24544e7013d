"""Running sums, differences, integrals, interpolation, convolution: NumPy's signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.numpy._arguments import (
    as_array,
    cast_safely,
    given,
    known,
    normalize_axis,
    one_axis,
    plain,
)
from vjpkit.numpy._dispatch import implements, method
from vjpkit.numpy._nan_reductions import without_nan
from vjpkit.numpy._reductions import of_truths
from vjpkit.numpy._writing import delivers
from vjpkit.ops import convolution, cumulative, selection, structural
from vjpkit.ops.cumulative import along
from vjpkit.ops.indexing import read

__all__: list[str] = []

_NO = np._NoValue

# ---- running sums and products -----------------------------------------------------------------


def _running(primitive: Any, a: Value, axis: Any, dtype: Any) -> Value:
    array = as_array(a)
    if dtype is not None:
        array = structural.to_dtype(array, np.dtype(dtype))
    if axis is None or array.ndim == 0:
        if axis is not None:
            one_axis(axis, 1)
        array, axis = np.reshape(array, -1), 0
    out = primitive(array, axis=one_axis(axis, array.ndim), reverse=False)
    return out if dtype is None else of_truths(out, dtype)


@method("cumsum")
@implements(np.cumsum)
@delivers
def cumsum(a: Value, axis: Any = None, dtype: Any = None, out: Any = None) -> Value:
    return _running(cumulative.cumsum, a, axis, dtype)


@method("cumprod")
@implements(np.cumprod)
@delivers
def cumprod(a: Value, axis: Any = None, dtype: Any = None, out: Any = None) -> Value:
    return _running(cumulative.cumprod, a, axis, dtype)


@implements(np.nancumsum)
@delivers
def nancumsum(a: Value, axis: Any = None, dtype: Any = None, out: Any = None) -> Value:
    return _running(cumulative.cumsum, without_nan(a, 0)[0], axis, dtype)


@implements(np.nancumprod)
@delivers
def nancumprod(a: Value, axis: Any = None, dtype: Any = None, out: Any = None) -> Value:
    return _running(cumulative.cumprod, without_nan(a, 1)[0], axis, dtype)


def _with_initial(
    ufunc: np.ufunc, x: Value, axis: Any, dtype: Any, include: bool, initial: int
) -> Value:
    """A running sum or product, optionally beginning with that of nothing."""
    array = as_array(x)
    array = array if array.ndim else np.reshape(array, 1)
    if axis is None:
        if array.ndim > 1:
            raise ValueError(
                "For arrays which have more than one dimension ``axis`` argument is required."
            )
        axis = 0
    result = ufunc.accumulate(array, axis, dtype)
    if not include:
        return result
    (axis,) = axis if isinstance(axis, tuple) else (axis,)
    shape = list(result.shape)
    shape[axis] = 1
    return np.concatenate([np.full(shape, initial, result.dtype), result], axis=axis)


@implements(np.cumulative_sum)
@delivers
def cumulative_sum(
    x: Value, /, *, axis: Any = None, dtype: Any = None, out: Any = None,
    include_initial: bool = False,
) -> Value:  # fmt: skip
    return _with_initial(np.add, x, axis, dtype, include_initial, 0)


@implements(np.cumulative_prod)
@delivers
def cumulative_prod(
    x: Value, /, *, axis: Any = None, dtype: Any = None, out: Any = None,
    include_initial: bool = False,
) -> Value:  # fmt: skip
    return _with_initial(np.multiply, x, axis, dtype, include_initial, 1)


# ---- differences -------------------------------------------------------------------------------


@implements(np.diff)
def diff(a: Value, n: int = 1, axis: Any = -1, prepend: Any = _NO, append: Any = _NO) -> Value:
    if n == 0:
        return a
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n!r}")
    array = as_array(a)
    if array.ndim == 0:
        raise ValueError("diff requires input that is at least one dimensional")
    axis = normalize_axis(axis, array.ndim)
    before = [_end(prepend, array, axis)] if given(prepend) else []
    after = [_end(append, array, axis)] if given(append) else []
    if before or after:
        array = np.concatenate([*before, array, *after], axis)
    later, earlier = along(axis, slice(1, None)), along(axis, slice(None, -1))
    for _ in range(n):
        if array.dtype == bool:
            array = np.not_equal(array[later], array[earlier])
        else:
            array = array[later] - array[earlier]
    return array


def _end(end: Value, array: Value, axis: int) -> Value:
    """What is put before or after an array; a number fills one place along ``axis``."""
    end = as_array(end)
    if end.ndim:
        return end
    return np.broadcast_to(end, (*array.shape[:axis], 1, *array.shape[axis + 1 :]))


@implements(np.ediff1d)
def ediff1d(ary: Value, to_end: Any = None, to_begin: Any = None) -> Value:
    array = np.reshape(as_array(ary), -1)
    parts = [array[1:] - array[:-1]]
    for name, end, place in (("to_begin", to_begin, 0), ("to_end", to_end, len(parts) + 1)):
        if end is None:
            continue
        values = as_array(end)
        if not np.can_cast(values.dtype, array.dtype, casting="same_kind"):
            raise TypeError(
                f"dtype of `{name}` must be compatible with input `ary` under the `same_kind` rule."
            )
        parts.insert(place, np.reshape(structural.to_dtype(values, array.dtype), -1))
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


# ---- derivative and integral of samples --------------------------------------------------------


@implements(np.gradient)
def gradient(f: Value, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Value:
    array = as_array(f)
    if array.dtype.kind not in "fc":
        array = structural.to_dtype(array, np.dtype(float))
    if axis is None:
        axes: tuple[int, ...] = tuple(range(array.ndim))
    else:
        axes = np.lib.array_utils.normalize_axis_tuple(axis, array.ndim)
    if edge_order > 2:
        raise ValueError("'edge_order' greater than 2 not supported")
    steps = _steps(array, varargs, axes)
    for a in axes:
        if array.shape[a] < edge_order + 1:
            raise ValueError(
                "Shape of array too small to calculate a numerical gradient, at least "
                "(edge_order + 1) elements are required."
            )
    slopes = [_slope(array, a, step, edge_order) for a, step in zip(axes, steps, strict=True)]
    return slopes[0] if len(axes) == 1 else tuple(slopes)


def _steps(f: Value, varargs: Sequence[Any], axes: Sequence[int]) -> list[Value]:
    """The spacing along each axis: a number, or a vector of distances."""
    if not varargs:
        return [1.0] * len(axes)
    if len(varargs) == 1 and np.ndim(varargs[0]) == 0:
        return [varargs[0]] * len(axes)
    if len(varargs) != len(axes):
        raise TypeError("invalid number of arguments")
    return [_step(f, x, a) for x, a in zip(varargs, axes, strict=True)]


def _step(f: Value, given_step: Any, axis: int) -> Value:
    if np.ndim(given_step) == 0:
        return given_step
    places = as_array(given_step)
    if places.ndim != 1:
        raise ValueError("distances must be either scalars or 1d")
    if len(places) != f.shape[axis]:
        raise ValueError("when 1d, distances must match the length of the corresponding dimension")
    if places.dtype.kind in "biu":
        places = structural.to_dtype(places, np.dtype(float))
    steps = np.diff(places)
    # Traced distances that happen to be equal may still be moved one by one.
    return steps[0] if plain(steps) and (steps == steps[0]).all() else steps


def _slope(f: Value, axis: int, step: Value, edge_order: int) -> Value:
    """Second-order differences inside, of the given order at the two ends."""
    at = [f[along(axis, entry)] for entry in (slice(None, -2), slice(1, -1), slice(2, None))]
    if np.ndim(step) == 0:
        inner = (at[2] - at[0]) / (2.0 * step)
        before = after = last = first = step
    else:
        column = (-1, *[1] * (f.ndim - axis - 1))
        before, after = np.reshape(step[:-1], column), np.reshape(step[1:], column)
        inner = (
            -after / (before * (before + after)) * at[0]
            + (after - before) / (before * after) * at[1]
            + before / (after * (before + after)) * at[2]
        )
        first, last = step[0], step[-1]

    def near(i: int) -> Value:
        return f[along(axis, slice(i, i + 1 or None))]

    if edge_order == 1:
        start, end = (near(1) - near(0)) / first, (near(-1) - near(-2)) / last
    else:
        second, next_to_last = (step, step) if np.ndim(step) == 0 else (step[1], step[-2])
        start = -_one_sided(first, second, near(0), near(1), near(2))
        end = _one_sided(last, next_to_last, near(-1), near(-2), near(-3))
    dtype = f.dtype
    return np.concatenate([structural.to_dtype(x, dtype) for x in (start, inner, end)], axis)


def _one_sided(near: Value, far: Value, f0: Value, f1: Value, f2: Value) -> Value:
    """The slope at an end from its value and the next two, at distances near and near + far."""
    a = (2.0 * near + far) / (near * (near + far))
    b = (near + far) / (near * far)
    c = near / (far * (near + far))
    return a * f0 - b * f1 + c * f2


@implements(np.trapezoid)
def trapezoid(y: Value, x: Any = None, dx: Value = 1.0, axis: int = -1) -> Value:
    values = as_array(y)
    summed, axis = axis, normalize_axis(axis, values.ndim)
    if x is None:
        width = dx
    else:
        places = as_array(x)
        width = np.diff(places, axis=0 if places.ndim == 1 else axis)
        if places.ndim == 1:
            width = np.reshape(width, (-1, *[1] * (values.ndim - axis - 1)))
    pairs = values[along(axis, slice(1, None))] + values[along(axis, slice(None, -1))]
    return np.sum(width * pairs / 2.0, axis=summed)  # which may have more axes


# ---- interpolation -----------------------------------------------------------------------------


@implements(np.interp)
def interp(
    x: Value, xp: Value, fp: Value, left: Any = None, right: Any = None, period: Any = None
) -> Value:
    """Piecewise linear; at a knot, the slope of the segment after it (before it, at the last)."""
    real = np.dtype(float)
    x, xp, fp = map(as_array, (x, xp, fp))
    convert = cast_safely if period is None else structural.to_dtype  # as NumPy does
    x, xp = convert(x, real), convert(xp, real)
    fp = convert(fp, np.dtype(complex) if fp.dtype.kind == "c" else real)
    if xp.ndim != 1 or fp.ndim != 1:
        raise ValueError("Data points must be 1-D sequences")
    if len(xp) != len(fp):
        raise ValueError("fp and xp are not of the same length.")
    if len(xp) == 0:
        raise ValueError("array of sample points is empty")
    if period is not None:
        x, xp, fp = _periodic(x, xp, fp, period)
        left = right = None
    place = np.searchsorted(xp, x, side="right") - 1
    anchor = np.clip(place, 0, len(xp) - 1)
    y = read(fp, anchor)
    if len(xp) > 1:
        run = np.diff(xp)
        slope = np.diff(fp) / np.where(run == 0, 1.0, run)
        segment = np.clip(place, 0, len(xp) - 2)
        y = _on_segment(x, xp, fp, anchor, segment, read(slope, segment))
    y = selection.where(x < xp[0], fp[0] if left is None else as_array(left), y)
    y = selection.where(x > xp[-1], fp[-1] if right is None else as_array(right), y)
    return y if y.ndim else y[()]


def _on_segment(
    x: Value, xp: Value, fp: Value, anchor: Value, segment: Value, slope: Value
) -> Value:
    """The value on a straight line; where that is nan, NumPy's at infinite data."""
    start = read(fp, anchor)
    y = slope * (x - read(xp, anchor)) + start
    undefined = np.isnan(y)
    if known(np.any(undefined)) is not None and not np.any(undefined):
        return y
    end = read(fp, segment + 1)
    backwards = slope * (x - read(xp, segment + 1)) + end
    at_knot = np.logical_or(read(xp, anchor) == x, anchor == len(xp) - 1)
    level = np.logical_and(np.isnan(backwards), start == end)
    there = selection.where(np.logical_or(at_knot, level), start, backwards)
    return selection.where(np.logical_and(undefined, ~np.isnan(x)), there, y)


def _periodic(x: Value, xp: Value, fp: Value, period: Value) -> tuple[Value, Value, Value]:
    """One period of the data, in order, with a neighbour on each side."""
    if known(period) == 0:
        raise ValueError("period must be a non-zero value")
    period = abs(period)
    x, xp = x % period, xp % period
    order = np.argsort(xp)
    xp, fp = read(xp, order), read(fp, order)
    xp = np.concatenate((xp[-1:] - period, xp, xp[0:1] + period))
    return x, xp, np.concatenate((fp[-1:], fp, fp[0:1]))


# ---- convolution -------------------------------------------------------------------------------


def _vectors(a: Value, v: Value) -> tuple[Value, Value]:
    """The operands of a convolution as vectors, numbers as vectors of length 1."""
    arrays = [as_array(x) for x in (a, v)]
    if any(x.ndim > 1 for x in arrays):
        raise ValueError("object too deep for desired array")
    first, second = (np.reshape(x, 1) if x.ndim == 0 else x for x in arrays)
    if first.size == 0:
        raise ValueError("a cannot be empty")
    if second.size == 0:
        raise ValueError("v cannot be empty")
    return first, second


def _mode(mode: Any) -> str:
    """NumPy's mode, by name or by number."""
    name = ("valid", "same", "full")[mode] if mode in (0, 1, 2) else mode
    if name not in ("valid", "same", "full"):
        raise ValueError(f"mode must be one of 'valid', 'same', or 'full' (got {mode!r})")
    return str(name)


@implements(np.convolve)
def convolve(a: Value, v: Value, mode: Any = "full") -> Value:
    mode = _mode(mode)
    first, second = _vectors(a, v)
    if second.size > first.size:
        first, second = second, first
    whole = convolution.convolve(first, second, valid=mode == "valid")
    if mode != "same":
        return whole
    start = (second.size - 1) // 2
    return whole[start : start + first.size]


@implements(np.correlate)
def correlate(a: Value, v: Value, mode: Any = "valid") -> Value:
    mode = _mode(mode)
    first, second = _vectors(a, v)
    turned = np.conj(second)[::-1]
    if mode != "same":
        return np.convolve(first, turned, mode)
    whole = convolution.convolve(first, turned, valid=False)
    size, other = max(first.size, second.size), min(first.size, second.size)
    start = other // 2 if second.size > first.size else (other - 1) // 2
    return whole[start : start + size]
