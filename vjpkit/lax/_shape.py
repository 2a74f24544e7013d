"""Arrays made, reshaped, joined, padded and cut, under JAX's names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

import vjpkit.numpy as vnp
from vjpkit.core.aval import Shape, Value
from vjpkit.core.errors import at, calling_position, counted
from vjpkit.lax._arguments import array, axes, axis_of, integers, operands, per_axis
from vjpkit.numpy._arguments import known
from vjpkit.ops.indexing import read

__all__ = [
    "broadcast", "broadcast_in_dim", "broadcast_shapes", "broadcast_to_rank", "broadcasted_iota",
    "collapse", "concatenate", "dynamic_index_in_dim", "dynamic_slice", "dynamic_slice_in_dim",
    "dynamic_update_index_in_dim", "dynamic_update_slice", "dynamic_update_slice_in_dim", "empty",
    "expand_dims", "full", "full_like", "index_in_dim", "index_take", "iota", "pad", "reshape",
    "rev", "slice", "slice_in_dim", "split", "squeeze", "stack", "tile", "transpose",
    "unstack",
]  # fmt: skip

_slice = slice


# ------------------------------------------------------------------------------------- making


def full(shape: Sequence[int], fill_value: Value, dtype: Any = None) -> Value:
    """An array of one value.

    >>> import vjpkit as vk
    >>> vk.lax.full((2,), 7.0)
    array([7., 7.])
    """
    value = array("full", fill_value, "fill_value")
    if value.shape:
        raise TypeError(
            f"full: fill_value must be a scalar, got the shape {value.shape}"
            f"{at(calling_position())}"
        )
    return vnp.full(integers("full", "shape", shape), value, dtype=dtype)


def full_like(
    x: Value, fill_value: Value, dtype: Any = None, shape: Sequence[int] | None = None
) -> Value:
    """An array of one value in the shape and dtype of ``x``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.full_like(np.zeros(2, np.float32), 7)
    array([7., 7.], dtype=float32)
    """
    x = array("full_like", x, "x")
    return full(
        x.shape if shape is None else shape, fill_value, x.dtype if dtype is None else dtype
    )


def iota(dtype: Any, size: int) -> Value:
    """0, 1, ..., size - 1.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.iota(np.int32, 3)
    array([0, 1, 2], dtype=int32)
    """
    return broadcasted_iota(dtype, (size,), 0)


def broadcasted_iota(dtype: Any, shape: Sequence[int], dimension: int) -> Value:
    """The index along ``dimension`` of each element.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.broadcasted_iota(np.int32, (2, 3), 1)
    array([[0, 1, 2],
           [0, 1, 2]], dtype=int32)
    """
    sizes = integers("broadcasted_iota", "shape", shape)
    along = axis_of("broadcasted_iota", "dimension", dimension, len(sizes))
    line = np.arange(sizes[along]).reshape(-1, *[1] * (len(sizes) - along - 1))
    return np.broadcast_to(line, sizes).astype(dtype)


def empty(shape: Sequence[int], dtype: Any = None) -> Value:
    """An array whose values mean nothing; here zeros, as JAX's are.

    >>> import vjpkit as vk
    >>> vk.lax.empty((2,)).shape
    (2,)
    """
    return vnp.zeros(integers("empty", "shape", shape), dtype=float if dtype is None else dtype)


# --------------------------------------------------------------------------------------- shape


def reshape(
    operand: Value, new_sizes: Sequence[int], dimensions: Sequence[int] | None = None
) -> Value:
    """The elements in another shape, after the axes were put in the order ``dimensions``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.reshape(np.arange(4).reshape(2, 2), (4,), dimensions=(1, 0))
    array([0, 2, 1, 3])
    """
    x = array("reshape", operand)
    if dimensions is not None:
        x = transpose(x, dimensions)
    return np.reshape(x, integers("reshape", "new_sizes", new_sizes))


def transpose(operand: Value, permutation: Sequence[int]) -> Value:
    """The axes in another order.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.transpose(np.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    x = array("transpose", operand)
    order = per_axis("transpose", "permutation", permutation, x.ndim)
    return np.transpose(x, axes("transpose", "permutation", order, x.ndim))


def expand_dims(array: Value, dimensions: Sequence[int]) -> Value:
    """New axes of length 1, at these places of the result.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.expand_dims(np.zeros(3), (0, 2)).shape
    (1, 3, 1)
    """
    x = _array("expand_dims", array, "array")
    given = integers("expand_dims", "dimensions", dimensions)
    places = axes("expand_dims", "dimensions", given, x.ndim + len(given))
    return np.expand_dims(x, places)


def squeeze(array: Value, dimensions: Sequence[int]) -> Value:
    """Without these axes, which have length 1.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.squeeze(np.zeros((1, 3, 1)), (0,)).shape
    (3, 1)
    """
    x = _array("squeeze", array, "array")
    gone = axes("squeeze", "dimensions", dimensions, x.ndim)
    for a in gone:
        if x.shape[a] != 1:
            raise ValueError(
                f"squeeze: axis {a} of the shape {x.shape} has "
                f"{counted(x.shape[a], 'element')}, not one"
                f"{at(calling_position())}"
            )
    return np.squeeze(x, axis=gone)


def collapse(operand: Value, start_dimension: int, stop_dimension: int | None = None) -> Value:
    """Axes from ``start_dimension`` up to ``stop_dimension`` as one.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.collapse(np.zeros((2, 3, 4)), 1).shape
    (2, 12)
    """
    x = array("collapse", operand)
    first, last, _ = _slice(start_dimension, stop_dimension).indices(x.ndim)
    if last < first:
        raise ValueError(
            f"collapse: axes {start_dimension} to {stop_dimension} of the shape {x.shape} are none"
            f"{at(calling_position())}"
        )
    joined = math.prod(x.shape[first:last])
    return np.reshape(x, (*x.shape[:first], joined, *x.shape[last:]))


def broadcast(operand: Value, sizes: Sequence[int]) -> Value:
    """Repeated along new leading axes.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.broadcast(np.zeros(3), (2,)).shape
    (2, 3)
    """
    x = array("broadcast", operand)
    return np.broadcast_to(x, (*integers("broadcast", "sizes", sizes), *x.shape))


def broadcast_in_dim(
    operand: Value, shape: Sequence[int], broadcast_dimensions: Sequence[int]
) -> Value:
    """Repeated to ``shape``, in which axis i of the operand is axis ``broadcast_dimensions[i]``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.broadcast_in_dim(np.array([1, 2]), (2, 3), (0,))
    array([[1, 1, 1],
           [2, 2, 2]])
    """
    x = array("broadcast_in_dim", operand)
    sizes = integers("broadcast_in_dim", "shape", shape)
    name = "broadcast_dimensions"
    places = per_axis("broadcast_in_dim", name, broadcast_dimensions, x.ndim)
    places = axes("broadcast_in_dim", name, places, len(sizes))
    if list(places) != sorted(places):
        raise ValueError(
            f"broadcast_in_dim: {name}={places} must increase{at(calling_position())}\n"
            "Transpose the operand first."
        )
    ones = [1] * len(sizes)
    for place, n in zip(places, x.shape, strict=True):
        if n not in (1, sizes[place]):
            raise ValueError(
                f"broadcast_in_dim: an axis of "
                f"{counted(n, 'element')} cannot be axis {place} of the shape "
                f"{sizes}{at(calling_position())}"
            )
        ones[place] = n
    return np.broadcast_to(np.reshape(x, tuple(ones)), sizes)


def broadcast_shapes(*shapes: Sequence[int]) -> Shape:
    """The shape to which arrays of these shapes broadcast.

    >>> import vjpkit as vk
    >>> vk.lax.broadcast_shapes((2, 1), (3,))
    (2, 3)
    """
    return np.broadcast_shapes(*[tuple(shape) for shape in shapes])


def broadcast_to_rank(x: Value, rank: int) -> Value:
    """With leading axes of length 1, until there are ``rank`` axes.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.broadcast_to_rank(np.zeros(3), 3).shape
    (1, 1, 3)
    """
    x = array("broadcast_to_rank", x, "x")
    if index(rank) < x.ndim:
        raise ValueError(
            f"broadcast_to_rank: x has "
            f"{counted(x.ndim, 'axis', 'axes')}, more than rank={rank}{at(calling_position())}"
        )
    return np.reshape(x, (*[1] * (rank - x.ndim), *x.shape))


def rev(operand: Value, dimensions: Sequence[int]) -> Value:
    """In the opposite order along some axes.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.rev(np.arange(3), (0,))
    array([2, 1, 0])
    """
    x = array("rev", operand)
    return np.flip(x, axes("rev", "dimensions", dimensions, x.ndim))


def stack(operands: Sequence[Value], axis: int = 0) -> Value:
    """Arrays of one shape and dtype along a new axis.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.stack([np.zeros(2), np.ones(2)], axis=1)
    array([[0., 1.],
           [0., 1.]])
    """
    xs = [array("stack", x, f"operand {i}") for i, x in enumerate(operands)]
    if len({(x.shape, x.dtype) for x in xs}) != 1:
        avals = ", ".join(f"{x.dtype}{list(x.shape)}" for x in xs)
        raise TypeError(
            f"stack: the operands are {avals or 'none'}; they must have one shape and dtype"
            f"{at(calling_position())}"
        )
    return np.stack(xs, axis_of("stack", "axis", axis, xs[0].ndim + 1))


def unstack(operand: Value, axis: int = 0) -> tuple[Value, ...]:
    """The slices along an axis, without it.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.unstack(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=1)
    (array([1., 3.]), array([2., 4.]))
    """
    x = array("unstack", operand)
    moved = np.moveaxis(x, axis_of("unstack", "axis", axis, x.ndim), 0)
    return tuple([moved[i] for i in range(moved.shape[0])])


def tile(operand: Value, reps: Sequence[int]) -> Value:
    """The array repeated along each of its axes.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.tile(np.array([1.0, 2.0]), (2,))
    array([1., 2., 1., 2.])
    """
    x = array("tile", operand)
    return np.tile(x, per_axis("tile", "reps", reps, x.ndim))


def concatenate(operands: Sequence[Value], dimension: int) -> Value:
    """Arrays of one dtype, one after the other along an axis.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.concatenate([np.zeros(1), np.ones(2)], 0)
    array([0., 1., 1.])
    """
    xs = [array("concatenate", x, f"operand {i}") for i, x in enumerate(operands)]
    if not xs:
        raise ValueError(f"concatenate: there are no operands{at(calling_position())}")
    dtypes = [x.dtype for x in xs]
    if len(set(dtypes)) > 1:
        raise TypeError(
            f"concatenate: the operands have the dtypes {', '.join(map(str, dtypes))}, which must "
            f"be equal{at(calling_position())}\nCast them, or use np.concatenate, which promotes."
        )
    along = axis_of("concatenate", "dimension", dimension, xs[0].ndim)
    rest = {(*x.shape[:along], *x.shape[along + 1 :]) for x in xs}
    if len(rest) > 1 or len({x.ndim for x in xs}) > 1:
        shapes = ", ".join(str(x.shape) for x in xs)
        raise TypeError(
            f"concatenate: the shapes {shapes} differ in other axes than {along}"
            f"{at(calling_position())}"
        )
    return np.concatenate(xs, axis=along)


def split(operand: Value, sizes: Sequence[int], axis: int = 0) -> list[Value]:
    """Parts of these sizes along an axis.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.split(np.arange(3), (1, 2))
    [array([0]), array([1, 2])]
    """
    x = array("split", operand)
    along = axis_of("split", "axis", axis, x.ndim)
    parts = integers("split", "sizes", sizes)
    if sum(parts) != x.shape[along] or any(n < 0 for n in parts):
        raise ValueError(
            f"split: sizes={parts} do not make up the "
            f"{counted(x.shape[along], 'element')} of axis {along}"
            f"{at(calling_position())}"
        )
    return list(np.split(x, np.cumsum(parts)[:-1].tolist(), axis=along))


def pad(
    operand: Value, padding_value: Value, padding_config: Sequence[tuple[int, int, int]]
) -> Value:
    """``padding_value`` before, after and between the elements: ``(low, high, interior)`` per axis.

    Negative numbers of low and high take elements away.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.pad(np.array([1.0, 2.0, 3.0]), 0.0, [(1, -1, 1)])
    array([0., 1., 0., 2., 0.])
    """
    x = array("pad", operand)
    _, value = operands("pad", x, padding_value)
    value = array("pad", value, "padding_value")
    if value.shape:
        raise TypeError(
            f"pad: padding_value must be a scalar, got the shape {value.shape}"
            f"{at(calling_position())}"
        )
    if len(padding_config) != x.ndim:
        raise TypeError(
            f"pad: padding_config must have an entry (low, high, interior) for each of {x.ndim} "
            f"axes, got {padding_config!r}{at(calling_position())}"
        )
    sizes, taken, places = [], [], []
    for n, config in zip(x.shape, padding_config, strict=True):
        low, high, interior = per_axis("pad", "an entry of padding_config", config, 3)
        size = low + high + n + interior * builtin_max(n - 1, 0)
        if interior < 0 or size < 0:
            raise ValueError(
                f"pad: {tuple(config)} leaves nothing of an axis of "
                f"{counted(n, 'element')}, or is negative "
                f"between elements{at(calling_position())}"
            )
        step = interior + 1
        first = builtin_max(0, -(low // step)) if low < 0 else 0
        last = builtin_min(n, (size - 1 - low) // step + 1)
        sizes.append(size)
        taken.append(_slice(first, builtin_max(first, last)))
        start = low + first * step
        places.append(_slice(start, start + builtin_max(last - first, 0) * step, step))
    out = vnp.full(tuple(sizes), value, dtype=x.dtype)
    out[tuple(places)] = x[tuple(taken)]
    return out


builtin_max, builtin_min = max, min


# --------------------------------------------------------------------------------------- parts


def slice(
    operand: Value,
    start_indices: Sequence[int],
    limit_indices: Sequence[int],
    strides: Sequence[int] | None = None,
) -> Value:
    """The elements from start to limit along each axis, every stride-th of them.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.slice(np.arange(6), (1,), (6,), (2,))
    array([1, 3, 5])
    """
    x = array("slice", operand)
    starts = per_axis("slice", "start_indices", start_indices, x.ndim)
    limits = per_axis("slice", "limit_indices", limit_indices, x.ndim)
    steps = (1,) * x.ndim if strides is None else per_axis("slice", "strides", strides, x.ndim)
    for first, last, step, n in zip(starts, limits, steps, x.shape, strict=True):
        if not 0 <= first <= last <= n or step < 1:
            raise ValueError(
                f"slice: start {first}, limit {last} and stride {step} do not fit an axis of {n} "
                f"elements{at(calling_position())}\n"
                "0 <= start <= limit <= size is wanted; x[start:limit] takes any."
            )
    return x[tuple(map(_slice, starts, limits, steps))]


def slice_in_dim(
    operand: Value,
    start_index: int | None,
    limit_index: int | None,
    stride: int = 1,
    axis: int = 0,
) -> Value:
    """The elements from start to limit along one axis; negative ones count from the end.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.slice_in_dim(np.arange(6), 1, -1)
    array([1, 2, 3, 4])
    """
    x = array("slice_in_dim", operand)
    along = axis_of("slice_in_dim", "axis", axis, x.ndim)
    n = x.shape[along]
    first, last, _ = _slice(start_index, limit_index).indices(n)
    starts, limits, steps = [0] * x.ndim, list(x.shape), [1] * x.ndim
    starts[along], limits[along], steps[along] = first, builtin_max(first, last), index(stride)
    return slice(x, starts, limits, steps)


def index_in_dim(operand: Value, index: int, axis: int = 0, keepdims: bool = True) -> Value:
    """One slice along an axis, which stays with length 1 unless ``keepdims=False``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.index_in_dim(np.arange(6).reshape(2, 3), -1)
    array([[3, 4, 5]])
    """
    x = array("index_in_dim", operand)
    along = axis_of("index_in_dim", "axis", axis, x.ndim)
    place = axis_of("index_in_dim", "index", index, x.shape[along])
    part = slice_in_dim(x, place, place + 1, axis=along)
    return part if keepdims else np.squeeze(part, axis=along)


def dynamic_slice(
    operand: Value, start_indices: Sequence[Value], slice_sizes: Sequence[int]
) -> Value:
    """``slice_sizes`` elements along each axis, from indices that may be traced.

    An index is moved so that the slice lies inside; negative ones count from the end.

    >>> import numpy as np, vjpkit as vk
    >>> vk.jit(lambda x, i: vk.lax.dynamic_slice(x, (i,), (2,)))(np.arange(5), 4)
    array([3, 4])
    """
    x = array("dynamic_slice", operand)
    sizes = per_axis("dynamic_slice", "slice_sizes", slice_sizes, x.ndim)
    return read(x, _window("dynamic_slice", x.shape, start_indices, sizes))


def dynamic_update_slice(
    operand: Value, update: Value, start_indices: Sequence[Value] | Value
) -> Value:
    """The operand with ``update`` in it, from indices that may be traced.

    An index is moved so that the update lies inside; negative ones count from the end.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.dynamic_update_slice(np.zeros(4), np.array([1.0, 2.0]), (1,))
    array([0., 1., 2., 0.])
    """
    x = array("dynamic_update_slice", operand)
    new = array("dynamic_update_slice", update, "update")
    if new.ndim != x.ndim or new.dtype != x.dtype:
        raise TypeError(
            f"dynamic_update_slice: update has "
            f"{counted(new.ndim, 'axis', 'axes')} and dtype {new.dtype}, the operand "
            f"{x.ndim} and {x.dtype}; they must agree{at(calling_position())}"
        )
    place = _window("dynamic_update_slice", x.shape, start_indices, new.shape)
    out = vnp.empty(x.shape, x.dtype)  # takes traced values and traced indices
    out[...] = x
    out[place] = new
    return out


def _window(function: str, shape: Shape, starts: Any, sizes: Sequence[int]) -> tuple[Any, ...]:
    """Indices of a window of these sizes: slices where its place is known, else index arrays."""
    places = list(starts) if isinstance(starts, tuple | list) or np.ndim(starts) else [starts]
    if len(places) != len(shape):
        raise TypeError(
            f"{function}: start_indices must have one entry for each of "
            f"{counted(len(shape), 'axis', 'axes')}, got "
            f"{len(places)}{at(calling_position())}"
        )
    index: list[Any] = []
    for i, (place, n, size) in enumerate(zip(places, shape, sizes, strict=True)):
        if not 0 <= size <= n:
            raise TypeError(
                f"{function}: a slice of {size} does not fit axis {i} of {counted(n, 'element')}"
                f"{at(calling_position())}"
            )
        place = array(function, place, f"start_indices[{i}]")
        if place.dtype.kind not in "iu" or place.shape:
            raise TypeError(
                f"{function}: start_indices[{i}] must be an integer, got {place.dtype} of shape "
                f"{place.shape}{at(calling_position())}"
            )
        first = np.clip(np.where(place < 0, place + n, place), 0, n - size)
        value = known(first)
        if value is None:
            line = np.arange(size).reshape(-1, *[1] * (len(shape) - i - 1))
            index.append(first + line)
        else:
            index.append(_slice(int(value), int(value) + size))
    if any(not isinstance(part, _slice) for part in index):  # all as arrays: one way of indexing
        index = [
            np.arange(part.start, part.stop).reshape(-1, *[1] * (len(shape) - i - 1))
            if isinstance(part, _slice)
            else part
            for i, part in enumerate(index)
        ]
    return tuple(index)


def dynamic_slice_in_dim(
    operand: Value, start_index: Value, slice_size: int, axis: int = 0
) -> Value:
    """`dynamic_slice` along one axis.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.dynamic_slice_in_dim(np.arange(5), 1, 2)
    array([1, 2])
    """
    x = array("dynamic_slice_in_dim", operand)
    along = axis_of("dynamic_slice_in_dim", "axis", axis, x.ndim)
    starts: list[Any] = [0] * x.ndim
    sizes = list(x.shape)
    starts[along], sizes[along] = start_index, index(slice_size)
    return dynamic_slice(x, starts, sizes)


def dynamic_index_in_dim(
    operand: Value, index: Value, axis: int = 0, keepdims: bool = True
) -> Value:
    """One slice along an axis, at an index that may be traced.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.dynamic_index_in_dim(np.arange(6).reshape(2, 3), 1, keepdims=False)
    array([3, 4, 5])
    """
    part = dynamic_slice_in_dim(operand, index, 1, axis)
    return part if keepdims else np.squeeze(part, axis=axis)


def dynamic_update_slice_in_dim(
    operand: Value, update: Value, start_index: Value, axis: int
) -> Value:
    """`dynamic_update_slice` along one axis.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.dynamic_update_slice_in_dim(np.zeros(3), np.ones(1), -1, 0)
    array([0., 0., 1.])
    """
    x = array("dynamic_update_slice_in_dim", operand)
    along = axis_of("dynamic_update_slice_in_dim", "axis", axis, x.ndim)
    starts: list[Any] = [0] * x.ndim
    starts[along] = start_index
    return dynamic_update_slice(x, update, starts)


def dynamic_update_index_in_dim(operand: Value, update: Value, index: Value, axis: int) -> Value:
    """One slice along an axis replaced; ``update`` may lack the axis.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.dynamic_update_index_in_dim(np.zeros((2, 2)), np.ones(2), 0, 1)
    array([[1., 0.],
           [1., 0.]])
    """
    x = array("dynamic_update_index_in_dim", operand)
    along = axis_of("dynamic_update_index_in_dim", "axis", axis, x.ndim)
    new = array("dynamic_update_index_in_dim", update, "update")
    if new.ndim != x.ndim:
        new = np.expand_dims(new, along)
    return dynamic_update_slice_in_dim(x, new, index, along)


def index_take(src: Value, idxs: Sequence[Value], axes: Sequence[int]) -> Value:
    """The elements at ``idxs``, one array of indices for each of ``axes``; they come first.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.index_take(np.arange(6).reshape(2, 3), (np.array([1, 0]), np.array([2, 0])), (0, 1))
    array([5, 0])
    """
    x = array("index_take", src, "src")
    along = _axes("index_take", "axes", axes, x.ndim)
    if len(along) != len(idxs):
        raise TypeError(
            f"index_take: {counted(len(idxs), 'array')} of indices for "
            f"{counted(len(along), 'axis', 'axes')}"
            f"{at(calling_position())}"
        )
    moved = np.moveaxis(x, along, tuple(range(len(along))))
    return read(moved, tuple([array("index_take", i, "idxs") for i in idxs]))


_array, _axes = array, axes
