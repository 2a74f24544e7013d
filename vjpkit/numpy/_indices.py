"""Reading along axes, diagonals and triangles, grids: NumPy's signatures."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._arguments import (
    as_array,
    concrete,
    normalize_axis,
    one_axis,
    places_along,
    require_along,
)
from vjpkit.numpy._creation import has_traced, laid_out
from vjpkit.numpy._dispatch import implements, refuse
from vjpkit.numpy._joining import as_values
from vjpkit.numpy._reading import view
from vjpkit.numpy._shape import integers, ravel, reshape
from vjpkit.numpy._writing import delivers
from vjpkit.ops import indexing, structural
from vjpkit.ops.index import Index, stand_in
from vjpkit.ops.indexing import read, scatter_sum
from vjpkit.ops.windows import windows

__all__: list[str] = []

# ---- along an axis -----------------------------------------------------------------------------


@implements(np.take)
@delivers
def take(
    a: Value, indices: Any, axis: int | None = None, out: Any = None, mode: Any = "raise"
) -> Value:
    a = as_values(a)
    if axis is None:
        a, axis = ravel(a), 0
    a = a if a.ndim else reshape(a, (1,))
    axis = one_axis(axis, a.ndim)
    n = a.shape[axis]
    if mode not in ("raise", "wrap", "clip"):
        raise ValueError(f"clipmode must be one of 'clip', 'raise', or 'wrap' (got {mode!r})")
    if has_traced(indices):
        indices = as_values(indices)
    elif n == 0 or np.asarray(indices).dtype.kind not in "iu":
        indices = np.take(np.arange(n), indices, mode=mode)  # NumPy's conversion, or its error
    else:
        indices = np.asarray(indices)
    if mode != "raise":
        indices = indices % n if mode == "wrap" else np.clip(indices, 0, n - 1)
    return indexing.take(a, indices, axis=axis)


@implements(np.take_along_axis)
def take_along_axis(arr: Value, indices: Any, axis: int | None = -1) -> Value:
    arr, indices = as_array(arr), as_array(indices)
    require_along(arr, indices, axis)
    if axis is None:
        return read(ravel(arr), (indices,))
    return read(arr, places_along(arr.shape, indices, axis))


@implements(np.apply_along_axis)
def apply_along_axis(
    func1d: Callable[..., Value], axis: int, arr: Value, *args: Any, **kwargs: Any
) -> Value:
    arr = as_values(arr)
    axis = normalize_axis(axis, arr.ndim)
    lines = np.moveaxis(arr, axis, -1)
    outer = lines.shape[:-1]
    if 0 in outer:
        raise ValueError("Cannot apply_along_axis when any iteration dimensions are 0")
    results = [as_values(func1d(lines[(*i, ...)], *args, **kwargs)) for i in np.ndindex(outer)]
    first = results[0]
    parts = [np.broadcast_to(np.astype(r, first.dtype, copy=False), first.shape) for r in results]
    out = reshape(np.stack(parts), (*outer, *first.shape))
    inner = tuple(range(len(outer), out.ndim))
    return np.moveaxis(out, inner, tuple([axis + i for i in range(len(inner))]))


@implements(np.apply_over_axes)
def apply_over_axes(func: Callable[..., Value], a: Value, axes: Any) -> Value:
    out = as_array(a)
    ndim = out.ndim
    for given in np.atleast_1d(axes).tolist():
        axis = given + ndim if given < 0 else given
        result = as_array(func(out, axis))
        if result.ndim != out.ndim:
            result = np.expand_dims(result, axis)
            if result.ndim != out.ndim:
                raise ValueError("function is not returning an array of the correct shape")
        out = result
    return out


@implements(np.trim_zeros)
def trim_zeros(filt: Value, trim: str = "fb", axis: Any = None) -> Value:
    values = concrete(filt, "trim_zeros")
    ends = trim.lower()
    if ends not in ("fb", "bf", "f", "b"):
        raise ValueError(f"unexpected character(s) in `trim`: {ends!r}")
    axes = range(values.ndim) if axis is None else axis
    axes = np.lib.array_utils.normalize_axis_tuple(axes, values.ndim, "axis")
    found = np.argwhere(values)
    starts, stops = (found.min(0), found.max(0) + 1) if found.size else (None, None)
    index = []
    for i in range(values.ndim):
        start = 0 if starts is None else int(starts[i]) if "f" in ends else None
        stop = 0 if stops is None else int(stops[i]) if "b" in ends else None
        index.append(slice(start, stop) if i in axes else slice(None))
    return filt[tuple(index)] if axes else filt


# ---- diagonals and triangles -------------------------------------------------------------------


@implements(np.diagonal)
def diagonal(a: Value, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
    a = as_array(a)
    np.diagonal(stand_in(Aval(a.shape, bool)), offset, axis1, axis2)  # NumPy's errors
    first, second = (normalize_axis(axis, a.ndim) for axis in (axis1, axis2))
    offset = operator.index(offset)
    return view(indexing.diagonal, a, readonly=True, offset=offset, axis1=first, axis2=second)


@implements(np.trace)
@delivers
def trace(
    a: Value, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None
) -> Value:
    return np.sum(diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


@implements(np.diag)
def diag(v: Value, k: int = 0) -> Value:
    v = as_values(v)
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ValueError("Input must be 1- or 2-d.")
    k = operator.index(k)
    n = v.shape[0] + abs(k)
    start = k if k >= 0 else -k * n
    places = (Index((slice(start, start + v.shape[0] * (n + 1), n + 1),)),)
    flat = scatter_sum(v, shape=(n * n,), dtype=v.dtype, indices=places)
    return structural.reshape(flat, shape=(n, n))


@implements(np.diagflat)
def diagflat(v: Value, k: int = 0) -> Value:
    return diag(ravel(as_values(v)), k)


def _triangle(primitive: Any, m: Value, k: int) -> Value:
    m = as_values(m)
    if m.ndim == 0:
        np.tril(np.float64(0))  # NumPy's error
    if m.ndim == 1:
        m = np.broadcast_to(m, (m.shape[0], m.shape[0]))
    return primitive(m, k=operator.index(k))


@implements(np.tril)
def tril(m: Value, k: int = 0) -> Value:
    return _triangle(structural.tril, m, k)


@implements(np.triu)
def triu(m: Value, k: int = 0) -> Value:
    return _triangle(structural.triu, m, k)


def _square(arr: Value) -> Value:
    if arr.ndim != 2:
        raise ValueError("input array must be 2-d")
    return arr


@implements(np.tril_indices_from)
def tril_indices_from(arr: Value, k: int = 0) -> tuple[Value, ...]:
    return np.tril_indices(_square(arr).shape[-2], k, arr.shape[-1])


@implements(np.triu_indices_from)
def triu_indices_from(arr: Value, k: int = 0) -> tuple[Value, ...]:
    return np.triu_indices(_square(arr).shape[-2], k, arr.shape[-1])


@implements(np.diag_indices_from)
def diag_indices_from(arr: Value) -> tuple[Value, ...]:
    return np.diag_indices_from(stand_in(Aval(arr.shape, bool)))


# ---- grids -------------------------------------------------------------------------------------


@implements(np.meshgrid)
def meshgrid(
    *xi: Value, copy: bool = True, sparse: bool = False, indexing: str = "xy"
) -> tuple[Value, ...]:
    if indexing not in ("xy", "ij"):
        raise ValueError("Valid values for `indexing` are 'xy' and 'ij'.")
    n = len(xi)
    places = list(range(n))
    if indexing == "xy" and n > 1:
        places[0], places[1] = 1, 0
    grids: tuple[Value, ...] = tuple(
        [
            reshape(as_values(x), tuple([-1 if i == place else 1 for i in range(n)]))
            for x, place in zip(xi, places, strict=True)
        ]
    )
    if not sparse:
        grids = np.broadcast_arrays(*grids)
    return tuple([laid_out(g, "C", True) for g in grids]) if copy else grids


@implements(np.lib.stride_tricks.sliding_window_view)
def sliding_window_view(
    x: Value, window_shape: Any, axis: Any = None, *, subok: bool = False, writeable: bool = False
) -> Value:
    """All windows, as a view that can't be written to."""
    refuse("lib.stride_tricks.sliding_window_view", writeable=writeable)
    x = as_array(x)
    sliding = np.lib.stride_tricks.sliding_window_view
    sliding(stand_in(Aval(x.shape, bool)), window_shape, axis)  # NumPy's errors
    axes = range(x.ndim) if axis is None else axis
    axes = np.lib.array_utils.normalize_axis_tuple(axes, x.ndim, allow_duplicate=True)
    return view(windows, x, readonly=True, lengths=tuple(integers(window_shape)), axes=axes)


@implements(np.ix_)
def ix_(*args: Value) -> tuple[Value, ...]:
    grids = []
    for k, x in enumerate(args):
        x = x if isinstance(x, Tracer) else np.asarray(x)
        if x.ndim != 1:
            raise ValueError("Cross index must be 1 dimensional")
        if x.dtype == bool:
            (x,) = np.nonzero(concrete(x, "ix_"))
        elif x.size == 0 and not isinstance(x, Tracer):
            x = x.astype(np.intp)
        grids.append(reshape(x, tuple([-1 if i == k else 1 for i in range(len(args))])))
    return tuple(grids)


# ---- flat positions ----------------------------------------------------------------------------


def _require_integers(x: Value) -> Value:
    x = as_array(x)
    if x.dtype.kind not in "iu":
        raise TypeError("only int indices permitted")
    return structural.to_dtype(x, np.dtype(np.intp))


def _fastest_first(sizes: Sequence[int], order: str) -> list[int]:
    """The axes in the order in which a flat position runs through them."""
    if order not in ("C", "F"):
        raise ValueError("only 'C' or 'F' order is permitted")
    axes = list(range(len(sizes)))
    return axes if order == "F" else axes[::-1]


@implements(np.unravel_index)
def unravel_index(indices: Value, shape: Any, order: str = "C") -> tuple[Value, ...]:
    """Positions beyond the end are found where their values are known, else they wrap round."""
    flat = _require_integers(indices)
    sizes = [operator.index(n) for n in (shape if isinstance(shape, list | tuple) else [shape])]
    places: list[Value] = [None] * len(sizes)
    for axis in _fastest_first(sizes, order):
        places[axis] = flat % sizes[axis]
        flat = flat // sizes[axis]
    return tuple(places)


@implements(np.ravel_multi_index)
def ravel_multi_index(multi_index: Any, dims: Any, mode: Any = "raise", order: str = "C") -> Value:
    """Positions beyond the end are not found with ``mode="raise"`` while values are unknown."""
    sizes = [operator.index(n) for n in (dims if isinstance(dims, list | tuple) else [dims])]
    places = [_require_integers(x) for x in multi_index]
    modes = [mode] * len(sizes) if isinstance(mode, str) else list(mode)
    if len(places) != len(sizes) or len(modes) != len(sizes):
        raise ValueError(f"parameter multi_index must be a sequence of length {len(sizes)}")
    flat, stride = 0, 1
    for axis in _fastest_first(sizes, order):
        n, place = sizes[axis], places[axis]
        if modes[axis] == "wrap":
            place = place % n
        elif modes[axis] == "clip":
            place = np.clip(place, 0, n - 1)
        elif modes[axis] != "raise":
            raise ValueError(f"clipmode must be one of 'clip', 'raise', or 'wrap' (got {mode!r})")
        flat, stride = flat + place * stride, stride * n
    return flat
