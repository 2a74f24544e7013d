"""Shape, axes, layout and dtype: NumPy's signatures over structural primitives.

What is a view in NumPy is remembered as one, so that writes through it reach the array.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._arguments import as_array, normalize_axis
from vjpkit.numpy._creation import is_contiguous, laid_out, strides_of
from vjpkit.numpy._dispatch import implements
from vjpkit.numpy._no_axis import array_of_no_axis, is_array
from vjpkit.numpy._reading import view
from vjpkit.ops import structural
from vjpkit.ops.index import stand_in

__all__: list[str] = []

normalize_axis_index = np.lib.array_utils.normalize_axis_index
normalize_axis_tuple = np.lib.array_utils.normalize_axis_tuple


def integers(shape: Any) -> Shape:
    """A shape as a tuple of Python integers; a single number is one axis."""
    several = isinstance(shape, tuple | list) or (isinstance(shape, np.ndarray) and shape.ndim)
    return tuple(map(operator.index, shape if several else (shape,)))


def whole(a: Value) -> tuple[slice, ...]:
    """The index of all of ``a``, to be changed in some axes."""
    return (slice(None),) * aval_of(a).ndim


# ---- layout ------------------------------------------------------------------------------------


def read_order(name: str, a: Value, order: str) -> str:
    """``C`` or ``F`` for NumPy's orders C, F and A, of which the last asks for the layout."""
    if order is None or order == "C":
        return "C"
    if order == "F":
        return order
    if not isinstance(order, str):
        raise TypeError(f"order must be str, not {type(order).__name__}")
    if order != "A":
        raise ValueError(f"order must be one of 'C', 'F', 'A', or 'K' (got {order!r})")
    c, fortran = is_contiguous(a, "C"), is_contiguous(a, "F")
    if (c is None or fortran is None) and aval_of(a).ndim > 1:
        _refuse_layout(name, order)
    return "F" if fortran and not c else "C"


def _refuse_layout(name: str, order: str) -> None:
    raise UnsupportedError(
        f"np.{name}: order={order!r} asks for the memory layout, which is not known while staging"
        f"{at(calling_position())}\nUse order='C' or order='F'."
    )


def memory_axes(a: Value) -> tuple[int, ...] | None:
    """The axes from the slowest to the fastest in memory; None while unknown."""
    strides = strides_of(a)
    if strides is None:
        return None
    return tuple(sorted(range(len(strides)), key=lambda i: -abs(strides[i])))


def dense(a: Value) -> Value:
    """``a`` contiguous in memory: itself, or a copy."""
    return structural.copy(a, order="C") if is_contiguous(a, "C") is False else a


# ---- shape -------------------------------------------------------------------------------------


def complete(shape: Any, a: Value) -> Shape:
    """A new shape for an array, with -1 replaced by what is missing; NumPy's errors."""
    new = integers(shape)
    size = math.prod(a.shape)
    if math.prod(new) == size and min(new, default=0) >= 0:
        return new
    missing = new.count(-1)
    known = math.prod([n for n in new if n != -1])
    if missing != 1 or min(new) < -1 or not known or size % known:
        return stand_in(Aval(a.shape, bool)).reshape(new).shape
    return tuple([size // known if n == -1 else n for n in new])


@implements(np.reshape)
def reshape(a: Value, /, shape: Any, order: str = "C", *, copy: bool | None = None) -> Value:
    a = as_array(a)
    shape = complete(shape, a)
    if not shape and isinstance(a, Tracer) and not is_array(a):
        return a
    if order == "C" and copy is None:
        return view(structural.reshape, a, shape=shape)
    if order == "K":
        raise ValueError("order 'K' is not permitted for reshaping")
    if copy:
        a = laid_out(a, order, True)
    if read_order("reshape", a, order) == "F":
        out = reshape(transpose(a), shape[::-1], copy=False if copy is False else None)
        return transpose(out)
    if copy is False:
        _require_view(a, shape)
    return view(structural.reshape, a, shape=shape)


def _require_view(a: Value, shape: Shape) -> None:
    """NumPy's error where a reshape must copy."""
    strides = strides_of(a)
    if strides is None:
        _refuse_layout("reshape", "copy=False")
    aval = aval_of(a)
    at_place = np.ndarray((), aval.dtype, bytes(aval.dtype.itemsize))
    laid = np.lib.stride_tricks.as_strided(at_place, aval.shape, strides)
    np.reshape(laid, shape, copy=False)


@implements(np.ravel)
def ravel(a: Value, order: str = "C") -> Value:
    a = as_array(a)
    if order == "K":
        axes = memory_axes(a)
        if axes is None:
            axes = tuple(range(aval_of(a).ndim))
            if len(axes) > 1:
                _refuse_layout("ravel", order)
        a = transpose(a, axes)
    elif read_order("ravel", a, order) == "F":
        a = transpose(a)
    return reshape(dense(a), (aval_of(a).size,))


@implements(np.squeeze)
def squeeze(a: Value, axis: Any = None) -> Value:
    a = as_array(a)
    shape = stand_in(Aval(a.shape, bool)).squeeze(axis).shape
    if isinstance(a, Tracer) and not is_array(a):
        return a
    return view(structural.reshape, a, shape=shape)


@implements(np.expand_dims)
def expand_dims(a: Value, axis: Any) -> Value:
    a = as_array(a)
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    axes = normalize_axis_tuple(axes, a.ndim + len(axes))
    rest = iter(a.shape)
    shape = [1 if i in axes else next(rest) for i in range(a.ndim + len(axes))]
    return view(structural.reshape, a, shape=tuple(shape))


def _at_least(ndim: int, arrays: Sequence[Value]) -> Value:
    """Each array with ``ndim`` axes or more; one alone is returned bare."""
    places: dict[tuple[int, int], tuple[int, ...]] = {(1, 3): (0, 2), (2, 3): (2,)}
    out = []
    for a in map(as_array, arrays):
        missing = tuple(range(ndim - a.ndim))
        axes = places.get((a.ndim, ndim), missing)
        out.append(expand_dims(a, axes) if missing else a)
    return out[0] if len(out) == 1 else tuple(out)


@implements(np.atleast_1d)
def atleast_1d(*arys: Value) -> Value:
    return _at_least(1, arys)


@implements(np.atleast_2d)
def atleast_2d(*arys: Value) -> Value:
    return _at_least(2, arys)


@implements(np.atleast_3d)
def atleast_3d(*arys: Value) -> Value:
    return _at_least(3, arys)


@implements(np.broadcast_to)
def broadcast_to(array: Value, shape: Any, subok: bool = False) -> Value:
    array = as_array(array)
    shape = integers(shape)
    if shape == array.shape:
        return view(structural.reshape, array, readonly=True, shape=shape)
    lead = len(shape) - array.ndim
    if lead < 0 or any(n not in (1, m) for n, m in zip(array.shape, shape[lead:], strict=True)):
        np.broadcast_to(stand_in(Aval(array.shape, bool)), shape)
    return view(structural.broadcast_to, array, readonly=True, shape=shape)


@implements(np.broadcast_arrays)
def broadcast_arrays(*args: Value, subok: bool = False) -> tuple[Value, ...]:
    arrays = [as_array(a) for a in args]
    shape = np.broadcast(*[stand_in(Aval(a.shape, bool)) for a in arrays]).shape if arrays else ()
    return tuple([a if a.shape == shape != () else broadcast_to(a, shape) for a in arrays])


@implements(np.resize)
def resize(a: Value, new_shape: Any) -> Value:
    shape = integers(new_shape)
    if min(shape, default=0) < 0:
        raise ValueError("all elements of `new_shape` must be non-negative")
    flat = ravel(a)
    size = math.prod(shape)
    if flat.size == 0 or size == 0:
        return np.zeros_like(flat, shape=shape)
    tiled = np.tile(flat, -(-size // flat.size))
    return array_of_no_axis(structural.reshape(tiled[:size], shape=shape))


# ---- axes --------------------------------------------------------------------------------------


@implements(np.transpose, np.permute_dims)
def transpose(a: Value, axes: Any = None) -> Value:
    a = as_array(a)
    ndim = a.ndim
    if axes is None:
        order = tuple(range(ndim))[::-1]
    else:
        given = integers(axes)
        if len(given) != ndim:
            raise ValueError("axes don't match array")
        order = tuple([normalize_axis_index(i, ndim) for i in given])
        if len(set(order)) != ndim:
            raise ValueError("repeated axis in transpose")
    return view(structural.transpose, a, axes=order)


@implements(np.matrix_transpose)
def matrix_transpose(x: Value, /) -> Value:
    x = as_array(x)
    if x.ndim < 2:
        raise ValueError(f"Input array must be at least 2-dimensional, but it is {x.ndim}")
    return swapaxes(x, -1, -2)


@implements(np.swapaxes)
def swapaxes(a: Value, axis1: int, axis2: int) -> Value:
    a = as_array(a)
    order = list(range(a.ndim))
    i, j = (
        normalize_axis_index(operator.index(axis), a.ndim, name)
        for axis, name in ((axis1, "axis1"), (axis2, "axis2"))
    )
    order[i], order[j] = j, i
    return view(structural.transpose, a, axes=tuple(order))


@implements(np.moveaxis)
def moveaxis(a: Value, source: Any, destination: Any) -> Value:
    a = as_array(a)
    sources = normalize_axis_tuple(source, a.ndim, "source")
    destinations = normalize_axis_tuple(destination, a.ndim, "destination")
    if len(sources) != len(destinations):
        raise ValueError(
            "`source` and `destination` arguments must have the same number of elements"
        )
    order = [i for i in range(a.ndim) if i not in sources]
    for to, axis in sorted(zip(destinations, sources, strict=True)):
        order.insert(to, axis)
    return view(structural.transpose, a, axes=tuple(order))


@implements(np.rollaxis)
def rollaxis(a: Value, axis: int, start: int = 0) -> Value:
    a = as_array(a)
    n = a.ndim
    axis = normalize_axis(axis, n)
    given, start = start, start + n if start < 0 else start
    if not 0 <= start <= n:
        raise np.exceptions.AxisError(
            f"'start' arg requires {-n} <= start < {n + 1}, but {given} was passed in"
        )
    order = [i for i in range(n) if i != axis]
    order.insert(start - 1 if axis < start else start, axis)
    return view(structural.transpose, a, axes=tuple(order))


@implements(np.flip)
def flip(m: Value, axis: Any = None) -> Value:
    m = as_array(m)
    axes = range(m.ndim) if axis is None else normalize_axis_tuple(axis, m.ndim)
    backwards = slice(None, None, -1)
    return m[tuple([backwards if i in axes else slice(None) for i in range(m.ndim)])]


@implements(np.flipud)
def flipud(m: Value) -> Value:
    m = as_array(m)
    if m.ndim < 1:
        raise ValueError("Input must be >= 1-d.")
    return m[::-1, ...]


@implements(np.fliplr)
def fliplr(m: Value) -> Value:
    m = as_array(m)
    if m.ndim < 2:
        raise ValueError("Input must be >= 2-d.")
    return m[:, ::-1]


@implements(np.rot90)
def rot90(m: Value, k: int = 1, axes: Any = (0, 1)) -> Value:
    m = as_array(m)
    axes = tuple(axes)
    if len(axes) != 2:
        raise ValueError("len(axes) must be 2.")
    if axes[0] == axes[1] or abs(axes[0] - axes[1]) == m.ndim:
        raise ValueError("Axes must be different.")
    if not all(-m.ndim <= i < m.ndim for i in axes):
        raise ValueError(f"Axes={axes} out of range for array of ndim={m.ndim}.")
    first, second = (i % m.ndim for i in axes)
    match k % 4:
        case 0:
            return m[...]
        case 1:
            return swapaxes(flip(m, second), first, second)
        case 2:
            return flip(flip(m, first), second)
    return flip(swapaxes(m, first, second), second)


@implements(np.roll)
def roll(a: Value, shift: Any, axis: Any = None) -> Value:
    a = as_array(a)
    if axis is None:
        return reshape(roll(ravel(a), shift, 0), a.shape)
    if isinstance(shift, Tracer):
        return _roll_by(a, shift, axis)
    axes = normalize_axis_tuple(axis, a.ndim, allow_duplicate=True)
    pairs = np.broadcast(shift, axes)
    if pairs.ndim > 1:
        raise ValueError("'shift' and 'axis' should be scalars or 1D sequences")
    shifts, along = zip(*[(int(s), int(i)) for s, i in pairs], strict=True) if axes else ((), ())
    return structural.roll(a, shifts=shifts, axes=along)


def _roll_by(a: Value, shift: Tracer, axis: Any) -> Value:
    """A shift that is not known while tracing: read at shifted places."""
    shifts = np.ravel(np.broadcast_to(shift, np.broadcast_shapes(np.shape(axis), shift.shape)))
    axes = np.broadcast_to(normalize_axis_tuple(axis, a.ndim, allow_duplicate=True), shifts.shape)
    for s, i in zip(shifts, axes.tolist(), strict=True):
        n = a.shape[i]
        a = np.take(a, (np.arange(n) - s) % n, i)
    return a


# ---- dtype -------------------------------------------------------------------------------------


@implements(np.astype)
def astype(x: Value, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Value:
    if device not in (None, "cpu"):
        raise ValueError(f'Device not understood. Only "cpu" is allowed, but received: {device}')
    return cast(x, np.dtype(dtype), "K", copy)


def cast(x: Value, dtype: np.dtype[Any], order: str, copy: bool) -> Value:
    """``x`` in another dtype, as NumPy's ``astype`` has it."""
    x = as_array(x)
    if x.dtype == dtype:
        return laid_out(x, order, True) if copy and is_array(x) else x
    if dtype.kind == "O":
        return np.asarray(x)
    if dtype.kind not in "biufc":
        return x.concrete().astype(dtype)
    kept = array_of_no_axis if not x.shape and is_array(x) else lambda y: y
    if x.dtype.kind == "c" and dtype.kind not in "bc":
        warnings.warn(
            "Casting complex values to real discards the imaginary part",
            np.exceptions.ComplexWarning,
            stacklevel=4,
        )
    return kept(structural.to_dtype(x, dtype))


@implements(np.copy)
def copy(a: Value, order: str = "K", subok: bool = False) -> Value:
    return laid_out(as_array(a), order, True)
