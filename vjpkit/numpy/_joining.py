"""Joining, splitting, repeating, inserting and deleting: NumPy's signatures."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Shape, Value, aval_of
from vjpkit.core.errors import UnsupportedError
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._arguments import as_array, concrete, normalize_axis, one_axis
from vjpkit.numpy._creation import array, is_contiguous, laid_out
from vjpkit.numpy._dispatch import implements
from vjpkit.numpy._shape import cast, dense, integers, ravel, reshape, whole
from vjpkit.numpy._writing import delivered_in_turn
from vjpkit.ops import indexing, structural
from vjpkit.ops.index import Index, stand_in
from vjpkit.ops.indexing import scatter_sum

__all__: list[str] = []

# ---- joining -----------------------------------------------------------------------------------


def _in_dtype(arrays: list[Value], dtype: Any, casting: str) -> list[Value]:
    """Arrays to be joined, in the dtype asked for."""
    if dtype is None:
        dtype = np.result_type(*[a.dtype for a in arrays])
    if np.dtype(dtype).kind not in "biufc":
        raise UnsupportedError(f"arrays of dtype {np.dtype(dtype)} do not hold traced values")
    for a in arrays:
        if not np.can_cast(a.dtype, dtype, casting):  # type: ignore[arg-type]  # NumPy looks at it
            raise TypeError(
                f"Cannot cast array data from {a.dtype!r} to {np.dtype(dtype)!r} according to the "
                f"rule {casting!r}"
            )
    return [cast(a, np.dtype(dtype), "K", False) for a in arrays]


def _each(arrays: Any) -> list[Value]:
    return [a if type(a) is np.ndarray else as_values(a) for a in arrays]


@implements(np.concatenate)
def concatenate(
    arrays: Any,
    /,
    axis: int | None = 0,
    out: Any = None,
    *,
    dtype: Any = None,
    casting: str = "same_kind",
) -> Value:
    parts = _each(arrays)
    np.can_cast(bool, bool, casting)  # type: ignore[arg-type]  # NumPy's error for other words
    if axis is None:
        parts, axis = [ravel(a) for a in parts], 0
    ranks = {a.ndim for a in parts}
    if 0 in ranks or len(ranks) != 1:
        np.concatenate([stand_in(aval_of(a)) for a in parts], axis)  # NumPy's error
    axis = one_axis(axis, parts[0].ndim)
    if dtype is not None:
        parts = _in_dtype(parts, dtype, casting)
    result = structural.concatenate(*parts, axis=axis)
    return delivered_in_turn(
        "concatenate", result, out, parts, lambda xs, y: np.concatenate(xs, axis, y)
    )


@implements(np.stack)
def stack(
    arrays: Any,
    axis: int = 0,
    out: Any = None,
    *,
    dtype: Any = None,
    casting: str = "same_kind",
) -> Value:
    parts = _each(arrays)
    axis = normalize_axis(axis, parts[0].ndim + 1)
    if dtype is not None:
        parts = _in_dtype(parts, dtype, casting)
    result = structural.stack(*parts, axis=axis)
    return delivered_in_turn("stack", result, out, parts, lambda xs, y: np.stack(xs, axis, y))


@implements(np.vstack)
def vstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Value:
    return concatenate([np.atleast_2d(a) for a in _each(tup)], 0, dtype=dtype, casting=casting)


@implements(np.hstack)
def hstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Value:
    parts = [np.atleast_1d(a) for a in _each(tup)]
    return concatenate(parts, 0 if parts[0].ndim == 1 else 1, dtype=dtype, casting=casting)


@implements(np.dstack)
def dstack(tup: Any) -> Value:
    return concatenate([np.atleast_3d(a) for a in _each(tup)], 2)


@implements(np.column_stack)
def column_stack(tup: Any) -> Value:
    parts = [a if a.ndim > 1 else reshape(a, (-1, 1)) for a in _each(tup)]
    return concatenate(parts, 1)


@implements(np.block)
def block(arrays: Any) -> Value:
    depth = _depth(arrays, ())
    ndim = max(depth, *_ranks(arrays))
    out = _joined_blocks(arrays, ndim, -depth)
    return laid_out(out, "C", True) if depth == 0 else out


def _name(place: Iterable[int]) -> str:
    return "arrays" + "".join(f"[{i}]" for i in place)


def _depth(arrays: Any, place: tuple[int, ...]) -> int:
    """How deep the lists are nested: everywhere the same, and none of them empty."""
    if isinstance(arrays, tuple):
        raise TypeError(
            f"{_name(place)} is a tuple. Only lists can be used to arrange blocks, and np.block "
            "does not allow implicit conversion from tuple to ndarray."
        )
    if not isinstance(arrays, list):
        return len(place)
    if not arrays:
        raise ValueError(f"List at {_name(place)} cannot be empty")
    depths = [_depth(a, (*place, i)) for i, a in enumerate(arrays)]
    for i, depth in enumerate(depths):
        if depth != depths[0]:
            raise ValueError(
                f"List depths are mismatched. First element was at depth {depths[0]}, but there is "
                f"an element at depth {depth} ({_name((*place, i))})"
            )
    return depths[0]


def _ranks(arrays: Any) -> list[int]:
    if isinstance(arrays, list):
        return [n for a in arrays for n in _ranks(a)]
    return [int(np.ndim(arrays))]


def _joined_blocks(arrays: Any, ndim: int, axis: int) -> Value:
    if isinstance(arrays, list):
        return concatenate([_joined_blocks(a, ndim, axis + 1) for a in arrays], axis)
    a = as_array(arrays)
    return reshape(a, (1,) * (ndim - a.ndim) + a.shape)


@implements(np.append)
def append(arr: Value, values: Value, axis: int | None = None) -> Value:
    return concatenate((as_values(arr), as_values(values)), axis)


def as_values(x: Any) -> Value:
    """``x`` as an array; lists may hold traced values."""
    return array(x, copy=None) if isinstance(x, list | tuple) else as_array(x)


# ---- splitting ---------------------------------------------------------------------------------


@implements(np.array_split)
def array_split(ary: Value, indices_or_sections: Any, axis: int = 0) -> list[Value]:
    ary = as_array(ary)
    axis = range(ary.ndim)[axis]
    length = ary.shape[axis]
    if np.ndim(indices_or_sections):
        ends = [*map(operator.index, indices_or_sections), length]
    else:
        count = int(indices_or_sections)
        if count <= 0:
            raise ValueError("number sections must be larger than 0.")
        each, extra = divmod(length, count)
        ends = np.cumsum([each + 1] * extra + [each] * (count - extra)).tolist()
    lead = (slice(None),) * axis
    starts = [0, *ends[:-1]]
    return [ary[(*lead, slice(i, j))] for i, j in zip(starts, ends, strict=True)]


@implements(np.split)
def split(ary: Value, indices_or_sections: Any, axis: int = 0) -> list[Value]:
    ary = as_array(ary)
    if not np.ndim(indices_or_sections) and ary.shape[axis] % indices_or_sections:
        raise ValueError("array split does not result in an equal division")
    return array_split(ary, indices_or_sections, axis)


def _split_along(name: str, ary: Value, sections: Any, axis: int, ndim: int) -> list[Value]:
    ary = as_array(ary)
    if ary.ndim < ndim:
        raise ValueError(f"{name} only works on arrays of {ndim} or more dimensions")
    return split(ary, sections, axis)


@implements(np.hsplit)
def hsplit(ary: Value, indices_or_sections: Any) -> list[Value]:
    return _split_along("hsplit", ary, indices_or_sections, 1 if np.ndim(ary) > 1 else 0, 1)


@implements(np.vsplit)
def vsplit(ary: Value, indices_or_sections: Any) -> list[Value]:
    return _split_along("vsplit", ary, indices_or_sections, 0, 2)


@implements(np.dsplit)
def dsplit(ary: Value, indices_or_sections: Any) -> list[Value]:
    return _split_along("dsplit", ary, indices_or_sections, 2, 3)


@implements(np.unstack)
def unstack(x: Value, /, *, axis: int = 0) -> tuple[Value, ...]:
    x = as_array(x)
    if x.ndim == 0:
        raise ValueError("Input array must be at least 1-d.")
    return tuple(np.moveaxis(x, axis, 0))


# ---- repeating ---------------------------------------------------------------------------------


@implements(np.tile)
def tile(A: Value, reps: Any) -> Value:  # NumPy's name
    a = as_array(A)
    times = integers(reps if np.ndim(reps) == 0 else tuple(reps))
    ndim = max(a.ndim, len(times))
    times = (1,) * (ndim - len(times)) + times
    shape = (1,) * (ndim - a.ndim) + a.shape
    if all(n == 1 for n in times):
        return reshape(laid_out(a, "K", True), shape)
    apart = tuple([n for m in shape for n in (1, m)])
    spread = tuple([n for pair in zip(times, shape) for n in pair])
    return _repeated(a, apart, spread, tuple([n * m for n, m in zip(times, shape)]))


def _repeated(a: Value, apart: Shape, spread: Shape, shape: Shape) -> Value:
    """``a`` repeated along new axes, which then join the old ones: never a view."""
    out = structural.broadcast_to(structural.reshape(a, shape=apart), shape=spread)
    return dense(structural.reshape(out, shape=shape))


@implements(np.repeat)
def repeat(a: Value, repeats: Any, axis: int | None = None) -> Value:
    a = as_array(a)
    if axis is None:
        a, axis = ravel(a), 0
    a = a if a.ndim else reshape(a, (1,))
    axis = one_axis(axis, a.ndim)
    counts = concrete(repeats, "repeat")
    places = np.repeat(np.arange(a.shape[axis]), counts)  # NumPy's errors
    if np.size(counts) != 1:
        return indexing.take(a, places, axis=axis)
    times = max(int(np.ravel(counts)[0]), 0)
    before, n, after = a.shape[:axis], a.shape[axis], a.shape[axis + 1 :]
    shape = (*before, n * times, *after)
    return _repeated(a, (*before, n, 1, *after), (*before, n, times, *after), shape)


# ---- inserting and deleting --------------------------------------------------------------------


def _flat_or_along(arr: Value, axis: int | None) -> tuple[Value, int]:
    arr = as_values(arr)
    if axis is None:
        arr = ravel(arr) if arr.ndim != 1 else arr
        return arr, 0
    return arr, normalize_axis(axis, arr.ndim)


@implements(np.insert)
def insert(arr: Value, obj: Any, values: Value, axis: int | None = None) -> Value:
    """The new values behind the old ones, and one read that puts both in order."""
    arr, axis = _flat_or_along(arr, axis)
    n = arr.shape[axis]
    where = obj if isinstance(obj, slice) else np.array(concrete(obj, "insert"))
    if isinstance(obj, list | tuple) and not obj:
        where = np.zeros(0, np.intp)
    count = np.insert(np.arange(n), where, n).size - n  # of places: where there is one, of values
    values = structural.to_dtype(as_values(values), arr.dtype)
    if count == 1:
        values = reshape(values, (1,) * (arr.ndim - values.ndim) + values.shape)
        values = np.moveaxis(values, 0, axis) if getattr(where, "ndim", 1) == 0 else values
        count = values.shape[axis]
    order = np.insert(np.arange(n), where, np.arange(n, n + count))
    shape = (*arr.shape[:axis], count, *arr.shape[axis + 1 :])
    both = concatenate([arr, np.broadcast_to(values, shape)], axis)
    return _laid_out_like(arr, indexing.take(both, order, axis=axis))


def _laid_out_like(arr: Value, out: Value) -> Value:
    """``out`` in Fortran order where ``arr`` has it."""
    is_fortran = is_contiguous(arr, "F") and not is_contiguous(arr, "C")
    return laid_out(out, "F" if is_fortran else "C", True)


@implements(np.delete)
def delete(arr: Value, obj: Any, axis: int | None = None) -> Value:
    arr, axis = _flat_or_along(arr, axis)
    n = arr.shape[axis]
    obj = concrete(obj, "delete") if isinstance(obj, Tracer) else obj
    try:
        kept = np.delete(np.arange(n), obj)
    except IndexError as error:
        raise IndexError(str(error).replace("for axis 0", f"for axis {axis}")) from None
    lead = (slice(None),) * axis
    if kept.size and np.array_equal(kept, np.arange(kept[0], kept[-1] + 1)):
        return _laid_out_like(arr, arr[(*lead, slice(int(kept[0]), int(kept[-1]) + 1))])
    return indexing.take(arr, kept, axis=axis)


# ---- padding -----------------------------------------------------------------------------------

_KEYWORDS = {
    "empty": (), "edge": (), "wrap": (), "constant": ("constant_values",),
    "linear_ramp": ("end_values",), "maximum": ("stat_length",), "mean": ("stat_length",),
    "median": ("stat_length",), "minimum": ("stat_length",), "reflect": ("reflect_type",),
    "symmetric": ("reflect_type",),
}  # fmt: skip
_STATISTICS = {"maximum": np.max, "minimum": np.min, "mean": np.mean, "median": np.median}

Pair = tuple[Any, Any]


@implements(np.pad)
def pad(array: Value, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Value:
    a = as_values(array)
    if callable(mode):
        return _pad_by(mode, a, _widths(a.ndim, pad_width), kwargs)
    if mode not in _KEYWORDS:
        raise ValueError(f"mode '{mode}' is not supported")
    unknown = set(kwargs) - set(_KEYWORDS[mode])
    if unknown:
        raise ValueError(f"unsupported keyword arguments for mode '{mode}': {unknown}")
    widths = _widths(a.ndim, pad_width)
    lengths = _pairs(kwargs.get("stat_length"), max(a.ndim, 1))
    if any(n is not None and n < 0 for pair in lengths for n in pair):
        raise ValueError("index can't contain negative values")
    if a.ndim == 0:
        return laid_out(a, "C", True)
    if mode in ("constant", "empty"):
        out = _pad_constant(a, widths, kwargs.get("constant_values", 0))
    elif a.size == 0:
        out = _pad_empty(a, widths)
    elif mode == "linear_ramp":
        out = _pad_ramps(a, widths, _pairs(kwargs.get("end_values", 0), a.ndim))
    elif mode in _STATISTICS:
        out = _pad_statistics(a, widths, mode, lengths)
    elif kwargs.get("reflect_type", "even") == "odd":
        out = _pad_odd(a, widths, include_edge=mode == "symmetric")
    else:
        out = _pad_places(a, widths, mode)
    return _laid_out_like(a, out)


def _pad_by(
    function: Any, a: Value, widths: Sequence[tuple[int, int]], options: dict[str, Any]
) -> Value:
    """The user's function writes to every line of an array in zeros, axis after axis."""
    padded = _in_zeros(a, widths)
    for axis, width in enumerate(widths):
        lines = np.moveaxis(padded, axis, -1)
        for place in np.ndindex(*lines.shape[:-1]):
            function(lines[place], width, axis, options)
    return padded


def _pad_empty(a: Value, widths: Sequence[tuple[int, int]]) -> Value:
    for axis, width in enumerate(widths):
        if a.shape[axis] == 0 and any(width):
            raise ValueError(
                f"can't extend empty axis {axis} using modes other than 'constant' or 'empty'"
            )
    return _pad_constant(a, widths, 0)


def _pad_places(a: Value, widths: Sequence[tuple[int, int]], mode: Any) -> Value:
    """Modes that repeat elements: read along every axis, at the places that NumPy pads."""
    for axis, width in enumerate(widths):
        if any(width):
            a = indexing.take(a, np.pad(np.arange(a.shape[axis]), width, mode), axis=axis)
    return a


def _widths(ndim: int, pad_width: Any) -> list[tuple[int, int]]:
    """How much is added before and after every axis: NumPy's answer for an array of no elements."""
    probe = np.zeros((0,) * ndim)
    corner = np.pad(probe, pad_width)
    if isinstance(pad_width, dict):
        pairs = [pad_width.get(i, pad_width.get(i - ndim, 0)) for i in range(ndim)]
        pad_width = [(p, p) if isinstance(p, int) else p for p in pairs]
    widths = [(int(before), int(after)) for before, after in _pairs(np.asarray(pad_width), ndim)]
    assert corner.shape == tuple([sum(w) for w in widths])
    return widths


def _pairs(x: Any, ndim: int) -> list[Pair]:
    """A pair for every axis: one value, one pair, or one of them per axis."""
    if x is None:
        return [(None, None)] * ndim
    x = as_values(x)
    if x.size == 1:
        (one,) = ravel(x)
        return [(one, one)] * ndim
    if x.size == 2 and x.shape != (2, 1):
        before, after = ravel(x)
        return [(before, after)] * ndim
    return [(before, after) for before, after in np.broadcast_to(x, (ndim, 2))]


def _pad_constant(a: Value, widths: Sequence[tuple[int, int]], values: Any) -> Value:
    if type(values) in (int, float) and str(values) in ("0", "0.0"):
        return _in_zeros(a, widths)
    for axis, (width, pair) in enumerate(zip(widths, _pairs(values, a.ndim), strict=True)):
        sides = [structural.to_dtype(as_array(v), a.dtype) for v in pair]
        a = _between(a, axis, width, sides)
    return a


def _in_zeros(a: Value, widths: Sequence[tuple[int, int]]) -> Value:
    """``a`` in the middle of zeros: the transpose of a slice."""
    middle = tuple([slice(i, i + n) for (i, _), n in zip(widths, a.shape, strict=True)])
    shape = tuple([i + n + j for (i, j), n in zip(widths, a.shape, strict=True)])
    return scatter_sum(a, shape=shape, dtype=a.dtype, indices=(Index(middle),))


def _between(a: Value, axis: int, width: tuple[int, int], sides: Sequence[Value]) -> Value:
    """``a`` with something broadcast on both sides of it along an axis."""
    parts = [a]
    for n, side, place in zip(width, sides, (0, 2), strict=True):
        if n:
            shape = (*a.shape[:axis], n, *a.shape[axis + 1 :])
            parts.insert(place, np.broadcast_to(side, shape))
    return concatenate(parts, axis) if len(parts) > 1 else a


def _edges(a: Value, axis: int) -> list[Value]:
    index = list(whole(a))
    edges = []
    for place in (slice(0, 1), slice(-1, None)):
        index[axis] = place
        edges.append(a[tuple(index)])
    return edges


def _pad_ramps(a: Value, widths: Sequence[tuple[int, int]], ends: Sequence[Pair]) -> Value:
    for axis, (width, pair) in enumerate(zip(widths, ends, strict=True)):
        sides = []
        for n, end, edge in zip(width, pair, _edges(a, axis), strict=True):
            stop = np.squeeze(edge, axis)
            sides.append(np.linspace(end, stop, n, endpoint=False, dtype=a.dtype, axis=axis))
        a = _between(a, axis, width, [sides[0], np.flip(sides[1], axis)])
    return a


def _pad_statistics(
    a: Value, widths: Sequence[tuple[int, int]], mode: str, lengths: Sequence[Pair]
) -> Value:
    function: Any = _STATISTICS[mode]
    for axis, (width, pair) in enumerate(zip(widths, lengths, strict=True)):
        n = a.shape[axis]
        left, right = (n if v is None else min(int(v), n) for v in pair)
        if not (left and right) and mode in ("maximum", "minimum"):
            raise ValueError("stat_length of 0 yields no value for padding")
        lead = (slice(None),) * axis
        sides = [
            function(a[(*lead, part)], axis=axis, keepdims=True)
            for part in (slice(0, left), slice(n - right, n))
        ]
        if a.dtype.kind in "iu":
            sides = [np.round(side) for side in sides]
        a = _between(a, axis, width, [structural.to_dtype(s, a.dtype) for s in sides])
    return a


def _pad_odd(a: Value, widths: Sequence[tuple[int, int]], include_edge: bool) -> Value:
    """Point reflection at both edges, repeated where the padding is longer than the array."""
    for axis, (left, right) in enumerate(widths):
        period = a.shape[axis]
        lead = (slice(None),) * axis
        if period == 1:
            a = _between(a, axis, (left, right), _edges(a, axis))
            continue
        while left > 0 or right > 0:
            n = a.shape[axis]
            usable = (
                n // period * period if include_edge else (n - 1) // (period - 1) * (period - 1)
            )
            first, last = _edges(a, axis)
            skip = 0 if include_edge else 1
            i, j = min(usable, left), min(usable, right)
            before = 2 * first - np.flip(a[(*lead, slice(skip, skip + i))], axis)
            if i:
                a = concatenate([before, a], axis)
            m = a.shape[axis]
            after = 2 * last - np.flip(a[(*lead, slice(m - skip - j, m - skip))], axis)
            if j:
                a = concatenate([a, after], axis)
            left, right = left - i, right - j
    return a
