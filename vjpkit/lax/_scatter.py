"""Slices read and written at computed places, with JAX's dimension numbers."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import vjpkit.numpy as vnp
from vjpkit.core.aval import Shape, Value
from vjpkit.core.errors import at, calling_position
from vjpkit.lax._arguments import array, per_axis

__all__ = [
    "GatherDimensionNumbers",
    "GatherScatterMode",
    "ScatterDimensionNumbers",
    "gather",
    "scatter",
    "scatter_add",
    "scatter_max",
    "scatter_min",
    "scatter_mul",
    "scatter_sub",
]


class GatherDimensionNumbers(NamedTuple):
    """Which axes `gather` reads and makes, as `jax.lax.GatherDimensionNumbers` has it.

    ``offset_dims`` are the axes of the result along the slices, ``collapsed_slice_dims`` axes of
    the operand that a slice has one element of and the result lacks, ``start_index_map`` the axes
    of the operand that an index vector says the place along. The operand's
    ``operand_batching_dims`` go along with the indices' ``start_indices_batching_dims``.
    """

    offset_dims: tuple[int, ...]
    collapsed_slice_dims: tuple[int, ...]
    start_index_map: tuple[int, ...]
    operand_batching_dims: tuple[int, ...] = ()
    start_indices_batching_dims: tuple[int, ...] = ()


class ScatterDimensionNumbers(NamedTuple):
    """Which axes the scatter functions write, as `jax.lax.ScatterDimensionNumbers` has it.

    ``update_window_dims`` are the axes of the updates along the slices, ``inserted_window_dims``
    axes of the operand that they lack, ``scatter_dims_to_operand_dims`` the axes of the operand
    that an index vector says the place along; batching axes as for `gather`.
    """

    update_window_dims: tuple[int, ...]
    inserted_window_dims: tuple[int, ...]
    scatter_dims_to_operand_dims: tuple[int, ...]
    operand_batching_dims: tuple[int, ...] = ()
    scatter_indices_batching_dims: tuple[int, ...] = ()


class GatherScatterMode(enum.Enum):
    """What happens to slices that reach out of the operand."""

    CLIP = 0
    FILL_OR_DROP = 1
    PROMISE_IN_BOUNDS = 2

    @classmethod
    def of(cls, function: str, mode: Any) -> GatherScatterMode:
        """The mode by one of its names."""
        if isinstance(mode, cls):
            return mode
        if mode not in _MODES:
            raise ValueError(
                f"{function}: mode must be 'fill', 'drop', 'clip', 'promise_in_bounds' or a "
                f"GatherScatterMode, got {mode!r}{at(calling_position())}"
            )
        return cls[_MODES[mode]]


_MODES = {
    "fill": "FILL_OR_DROP",
    "drop": "FILL_OR_DROP",
    "clip": "CLIP",
    "promise_in_bounds": "PROMISE_IN_BOUNDS",
}


class Places:
    """Where the elements of slices lie in the flat operand.

    ``numbers`` has the axes of the indices, but for the last, and then those of a slice that are
    not in ``left_out``; ``inside`` says, with slice axes of length 1, which slices lie within the
    operand.
    """

    def __init__(
        self,
        function: str,
        shape: Shape,
        indices: Value,
        sizes: Sequence[int],
        along: Sequence[int],
        left_out: Sequence[int],
        batching: Sequence[tuple[int, int]],
        mode: GatherScatterMode,
    ) -> None:
        ndim = len(shape)
        if indices.dtype.kind not in "iu":
            raise TypeError(
                f"{function}: indices have dtype {indices.dtype}; they must be integers"
                f"{at(calling_position())}"
            )
        if not indices.shape or indices.shape[-1] != len(along):
            raise ValueError(
                f"{function}: indices of shape {indices.shape} hold vectors along the last axis, "
                f"which must have one entry for each of the {len(along)} axes {tuple(along)}"
                f"{at(calling_position())}"
            )
        if any(not 0 <= n <= size for n, size in zip(sizes, shape, strict=True)):
            raise ValueError(
                f"{function}: slices of sizes {tuple(sizes)} do not fit into shape {shape}"
                f"{at(calling_position())}"
            )
        batch = indices.shape[:-1]
        window = [axis for axis in range(ndim) if axis not in left_out]
        self.window = tuple([sizes[axis] for axis in window])
        numbers: Value = 0
        inside: Value = True
        for axis in range(ndim):
            spread = [1] * (len(batch) + len(window))
            if axis in window:
                spread[len(batch) + window.index(axis)] = sizes[axis]
            place: Value = np.arange(sizes[axis]).reshape(spread)
            pairs = dict(batching)
            if axis in pairs:
                line = [1] * len(spread)
                line[pairs[axis]] = shape[axis]
                place = place + np.arange(shape[axis]).reshape(line)
            elif axis in along:
                start = indices[..., list(along).index(axis)].astype(np.intp)
                start = np.reshape(start, (*batch, *[1] * len(window)))
                last = shape[axis] - sizes[axis]
                fits = (start >= 0) & (start <= last)
                inside = inside & fits if mode is GatherScatterMode.FILL_OR_DROP else inside
                place = place + np.clip(start, 0, last)
            numbers = numbers * shape[axis] + place
        full = (*batch, *self.window)
        self.numbers = np.broadcast_to(numbers, full)
        self.inside = inside


def gather(
    operand: Value,
    start_indices: Value,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Sequence[int],
    *,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    mode: GatherScatterMode | str | None = "clip",
    fill_value: Any = None,
) -> Value:
    """Slices of ``slice_sizes`` that begin at the places ``start_indices``, as one array.

    The last axis of the indices holds vectors. A slice that reaches out of the operand is moved
    inside; in the mode ``"fill"`` it is ``fill_value`` (nan, or the dtype's smallest integer, or
    largest unsigned one). Differentiable in the operand. ``unique_indices`` and
    ``indices_are_sorted`` are hints that nothing needs here.

    >>> import numpy as np, vjpkit as vk
    >>> rows = vk.lax.GatherDimensionNumbers(
    ...     offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0,))
    >>> x = np.arange(6.0).reshape(3, 2)
    >>> vk.lax.gather(x, np.array([[2], [0], [5]]), rows, (1, 2), mode="fill")
    array([[ 4.,  5.],
           [ 0.,  1.],
           [nan, nan]])
    """
    x = array("gather", operand)
    indices = array("gather", start_indices, "start_indices")
    numbers = dimension_numbers
    sizes = per_axis("gather", "slice_sizes", slice_sizes, x.ndim)
    left_out = [*numbers.collapsed_slice_dims, *numbers.operand_batching_dims]
    if any(sizes[axis] > 1 for axis in left_out):
        raise ValueError(
            f"gather: slice_sizes {sizes} must be 1 along the axes {tuple(left_out)}, which the "
            f"result lacks{at(calling_position())}"
        )
    kind = GatherScatterMode.of("gather", mode or "clip")
    pairs = list(
        zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    )
    places = Places(
        "gather", x.shape, indices, sizes, numbers.start_index_map, left_out, pairs, kind
    )
    out = np.reshape(x, -1)[places.numbers]
    if kind is GatherScatterMode.FILL_OR_DROP:
        out = np.where(places.inside, out, _filling(x.dtype, fill_value))
    count = len(indices.shape) - 1
    return np.moveaxis(out, range(count, out.ndim), numbers.offset_dims)


def _filling(dtype: np.dtype[Any], value: Any) -> Any:
    """What stands for an element that is not there."""
    if value is not None:
        return dtype.type(value)
    if dtype.kind in "fc":
        return dtype.type(np.nan)
    if dtype.kind == "b":
        return np.True_
    info = np.iinfo(dtype)
    return dtype.type(info.min if dtype.kind == "i" else info.max)


def _scattered(
    function: str,
    ufunc: np.ufunc | None,
    operand: Value,
    scatter_indices: Value,
    updates: Value,
    numbers: ScatterDimensionNumbers,
    mode: Any,
) -> Value:
    """The operand with updates written or combined at their places."""
    x, values = array(function, operand), array(function, updates, "updates")
    indices = array(function, scatter_indices, "scatter_indices")
    if x.dtype != values.dtype:
        raise TypeError(
            f"{function}: operand and updates have the dtypes {x.dtype} and {values.dtype}, which "
            f"must be equal{at(calling_position())}\nCast one with convert_element_type."
        )
    left_out = [*numbers.inserted_window_dims, *numbers.operand_batching_dims]
    rest = iter([values.shape[axis] for axis in numbers.update_window_dims])
    sizes = [1 if axis in left_out else next(rest) for axis in range(x.ndim)]
    pairs = list(
        zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True)
    )
    along = numbers.scatter_dims_to_operand_dims
    kind = GatherScatterMode.of(function, mode or "drop")
    places = Places(function, x.shape, indices, sizes, along, left_out, pairs, kind)
    count = len(indices.shape) - 1
    values = np.moveaxis(values, numbers.update_window_dims, range(count, values.ndim))
    if values.shape != places.numbers.shape:
        raise ValueError(
            f"{function}: updates have the shape {values.shape} (slices last), but indices of "
            f"shape {indices.shape} and slices of shape {places.window} make "
            f"{places.numbers.shape}{at(calling_position())}"
        )
    # What is to be dropped is written behind the operand's elements.
    where = np.where(places.inside, places.numbers, x.size)
    out = vnp.zeros(x.size + 1, x.dtype)  # takes traced values
    out[:-1] = np.reshape(x, -1)
    if ufunc is None:
        out[where] = values
    else:
        ufunc.at(out, where, values)
    return np.reshape(out[:-1], x.shape)


def scatter(
    operand: Value,
    scatter_indices: Value,
    updates: Value,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: GatherScatterMode | str | None = "drop",
) -> Value:
    """A copy of ``operand`` in which ``updates`` are written at computed places.

    The last axis of the indices holds vectors; slices that reach out of the operand are dropped, or
    moved inside in the mode ``"clip"``. Where slices overlap, the last one wins. Differentiable in
    operand and updates. ``unique_indices`` and ``indices_are_sorted`` are hints that nothing needs.

    >>> import numpy as np, vjpkit as vk
    >>> rows = vk.lax.ScatterDimensionNumbers((1,), (0,), (0,))
    >>> vk.lax.scatter(np.zeros((3, 2)), np.array([[2]]), np.array([[5.0, 6.0]]), rows)
    array([[0., 0.],
           [0., 0.],
           [5., 6.]])
    """
    return _scattered("scatter", None, operand, scatter_indices, updates, dimension_numbers, mode)


def scatter_add(
    operand: Value,
    scatter_indices: Value,
    updates: Value,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: GatherScatterMode | str | None = "drop",
) -> Value:
    """A copy of ``operand`` to which ``updates`` are added at computed places, see `scatter`.

    >>> import numpy as np, vjpkit as vk
    >>> each = vk.lax.ScatterDimensionNumbers((), (0,), (0,))
    >>> vk.lax.scatter_add(np.zeros(3), np.array([[1], [1]]), np.array([2.0, 3.0]), each)
    array([0., 5., 0.])
    """
    return _scattered(
        "scatter_add", np.add, operand, scatter_indices, updates, dimension_numbers, mode
    )


def scatter_sub(
    operand: Value,
    scatter_indices: Value,
    updates: Value,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: GatherScatterMode | str | None = "drop",
) -> Value:
    """A copy of ``operand`` from which ``updates`` are subtracted, see `scatter`.

    >>> import numpy as np, vjpkit as vk
    >>> each = vk.lax.ScatterDimensionNumbers((), (0,), (0,))
    >>> vk.lax.scatter_sub(np.zeros(3), np.array([[1], [1]]), np.array([2.0, 3.0]), each)
    array([ 0., -5.,  0.])
    """
    return _scattered(
        "scatter_sub", np.subtract, operand, scatter_indices, updates, dimension_numbers, mode
    )


def scatter_mul(
    operand: Value,
    scatter_indices: Value,
    updates: Value,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: GatherScatterMode | str | None = "drop",
) -> Value:
    """A copy of ``operand`` multiplied by ``updates`` at computed places, see `scatter`.

    >>> import numpy as np, vjpkit as vk
    >>> each = vk.lax.ScatterDimensionNumbers((), (0,), (0,))
    >>> vk.lax.scatter_mul(np.ones(3), np.array([[1], [1]]), np.array([2.0, 3.0]), each)
    array([1., 6., 1.])
    """
    return _scattered(
        "scatter_mul", np.multiply, operand, scatter_indices, updates, dimension_numbers, mode
    )


def scatter_min(
    operand: Value,
    scatter_indices: Value,
    updates: Value,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: GatherScatterMode | str | None = "drop",
) -> Value:
    """The smaller of ``operand`` and ``updates`` at computed places, see `scatter`.

    >>> import numpy as np, vjpkit as vk
    >>> each = vk.lax.ScatterDimensionNumbers((), (0,), (0,))
    >>> vk.lax.scatter_min(np.ones(3), np.array([[1], [1]]), np.array([2.0, 0.5]), each)
    array([1. , 0.5, 1. ])
    """
    return _scattered(
        "scatter_min", np.minimum, operand, scatter_indices, updates, dimension_numbers, mode
    )


def scatter_max(
    operand: Value,
    scatter_indices: Value,
    updates: Value,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: GatherScatterMode | str | None = "drop",
) -> Value:
    """The larger of ``operand`` and ``updates`` at computed places, see `scatter`.

    >>> import numpy as np, vjpkit as vk
    >>> each = vk.lax.ScatterDimensionNumbers((), (0,), (0,))
    >>> vk.lax.scatter_max(np.ones(3), np.array([[1], [1]]), np.array([2.0, 0.5]), each)
    array([1., 2., 1.])
    """
    return _scattered(
        "scatter_max", np.maximum, operand, scatter_indices, updates, dimension_numbers, mode
    )
