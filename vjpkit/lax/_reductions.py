"""Reductions, windows and running reductions under JAX's names; dtypes stay what they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import index
from typing import Any

import numpy as np

from vjpkit.control.mapped import associative_scan
from vjpkit.core.aval import Value
from vjpkit.core.errors import at, calling_position, counted
from vjpkit.lax import _elementwise as elementwise
from vjpkit.lax._arguments import array, axes, axis_of, per_axis
from vjpkit.lax._shape import pad
from vjpkit.pytree import PyTree, flatten

__all__ = [
    "argmax", "argmin", "cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum",
    "padtype_to_pads", "reduce", "reduce_and", "reduce_max", "reduce_min", "reduce_or",
    "reduce_prod", "reduce_sum", "reduce_window", "reduce_xor", "sort", "sort_key_val", "top_k",
]  # fmt: skip


def _reduced(name: str, operand: Value, dimensions: Any, reducer: Any, **options: Any) -> Value:
    x = array(name, operand)
    return reducer(x, axis=axes(name, "axes", dimensions, x.ndim), **options)


def reduce_sum(operand: Value, axes: Sequence[int]) -> Value:
    """The sum over some axes, in the operand's dtype.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.reduce_sum(np.ones((2, 3), np.float32), (1,))
    array([3., 3.], dtype=float32)
    """
    return _reduced("reduce_sum", operand, axes, np.sum, dtype=_dtype("reduce_sum", operand))


def reduce_prod(operand: Value, axes: Sequence[int]) -> Value:
    """The product over some axes, in the operand's dtype.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.reduce_prod(np.array([2, 3, 4], np.int32), (0,))
    np.int32(24)
    """
    return _reduced("reduce_prod", operand, axes, np.prod, dtype=_dtype("reduce_prod", operand))


def _dtype(function: str, operand: Value) -> Any:
    dtype = array(function, operand).dtype
    if dtype.kind == "b":
        raise TypeError(
            f"{function}: the operand is boolean{at(calling_position())}\n"
            "Cast it to an integer to count, or use reduce_and and reduce_or."
        )
    return dtype


def reduce_max(operand: Value, axes: Sequence[int]) -> Value:
    """The greatest over some axes; of equal ones each has the same share of the slope.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.reduce_max(np.array([[1, 5], [3, 2]]), (1,))
    array([5, 3])
    """
    return _reduced("reduce_max", operand, axes, np.max)


def reduce_min(operand: Value, axes: Sequence[int]) -> Value:
    """The smallest over some axes; of equal ones each has the same share of the slope.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.reduce_min(np.array([[1, 5], [3, 2]]), (0, 1))
    np.int64(1)
    """
    return _reduced("reduce_min", operand, axes, np.min)


def reduce_and(operand: Value, axes: Sequence[int]) -> Value:
    """Whether all are true over some axes; of integers the bits set in all.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.reduce_and(np.array([True, False]), (0,)), vk.lax.reduce_and(np.array([6, 3]), (0,))
    (np.False_, np.int64(2))
    """
    return _bitwise("reduce_and", operand, axes, np.bitwise_and)


def reduce_or(operand: Value, axes: Sequence[int]) -> Value:
    """Whether any is true over some axes; of integers the bits set in any.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.reduce_or(np.array([True, False]), (0,))
    np.True_
    """
    return _bitwise("reduce_or", operand, axes, np.bitwise_or)


def reduce_xor(operand: Value, axes: Sequence[int]) -> Value:
    """Whether an odd number is true over some axes; of integers bit by bit.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.reduce_xor(np.array([True, True, True]), (0,))
    np.True_
    """
    return _bitwise("reduce_xor", operand, axes, np.bitwise_xor)


def _bitwise(name: str, operand: Value, dimensions: Any, ufunc: np.ufunc) -> Value:
    x = array(name, operand)
    if x.dtype.kind not in "biu":
        raise TypeError(
            f"{name}: the operand has dtype {x.dtype}, but booleans or integers are wanted"
            f"{at(calling_position())}"
        )
    return ufunc.reduce(x, axis=axes(name, "axes", dimensions, x.ndim))


def argmax(operand: Value, axis: int, index_dtype: Any = np.int32) -> Value:
    """Where the greatest element along an axis is first.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.argmax(np.array([1.0, 5.0, 5.0]), 0, np.int32)
    np.int32(1)
    """
    x = array("argmax", operand)
    return np.astype(np.argmax(x, axis_of("argmax", "axis", axis, x.ndim)), np.dtype(index_dtype))


def argmin(operand: Value, axis: int, index_dtype: Any = np.int32) -> Value:
    """Where the smallest element along an axis is first.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.argmin(np.array([1.0, 5.0, 0.0]), 0, np.int32)
    np.int32(2)
    """
    x = array("argmin", operand)
    return np.astype(np.argmin(x, axis_of("argmin", "axis", axis, x.ndim)), np.dtype(index_dtype))


# ---------------------------------------------------------------------- by a function of the user's


def reduce(
    operands: PyTree,
    init_values: PyTree,
    computation: Callable[[PyTree, PyTree], PyTree],
    dimensions: Sequence[int],
) -> PyTree:
    """``computation(x, y)``, associative, of all elements over some axes and the initial value.

    It combines two arrays (or trees of them) element by element; halves are combined with halves,
    in log n steps.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.reduce(np.arange(6.0).reshape(2, 3), 0.0, vk.lax.add, (0, 1))
    np.float64(15.0)
    """
    xs, tree = flatten(operands)
    starts, start_tree = flatten(init_values)
    if tree != start_tree:
        raise TypeError(
            f"reduce: operands have the tree {tree}, init_values {start_tree}"
            f"{at(calling_position())}"
        )
    arrays = [array("reduce", x) for x in xs]
    along = axes("reduce", "dimensions", dimensions, arrays[0].ndim)
    front = tuple(range(len(along)))
    moved = [np.moveaxis(x, along, front) for x in arrays]
    size = math.prod(moved[0].shape[: len(along)])
    flat = [np.reshape(x, (size, *x.shape[len(along) :])) for x in moved]

    def combined(a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
        return flatten(computation(tree.unflatten(list(a)), tree.unflatten(list(b))))[0]

    pairs = zip(starts, flat, strict=True)
    total = [np.broadcast_to(_start("reduce", s, x), x.shape[1:]) for s, x in pairs]
    while size:
        half = size // 2
        if size % 2:
            total = combined(total, [x[size - 1] for x in flat])
        if half:
            flat = combined([x[:half] for x in flat], [x[half : 2 * half] for x in flat])
        size = half
    return tree.unflatten([x[()] for x in total])


def _start(function: str, value: Value, like: Value) -> Value:
    """An initial value in the dtype of what it begins."""
    return np.astype(array(function, value, "the initial value"), like.dtype)[()]


_KNOWN: dict[Any, Any] = {
    elementwise.add: np.sum, np.add: np.sum, elementwise.mul: np.prod, np.multiply: np.prod,
    elementwise.max: np.max, np.maximum: np.max, elementwise.min: np.min, np.minimum: np.min,
}  # fmt: skip
_NEUTRAL = {np.sum: 0, np.prod: 1, np.max: -math.inf, np.min: math.inf}


def reduce_window(
    operand: Value,
    init_value: Value,
    computation: Callable[[Value, Value], Value],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> Value:
    """``computation`` of the elements of each window: pooling. Padding is ``init_value``.

    `add`, `mul`, `max` and `min` (and NumPy's) are reductions over a view of the windows; any other
    associative function is combined as in `reduce`.

    >>> import numpy as np, vjpkit as vk
    >>> x = np.array([3.0, 1.0, 2.0, 5.0])
    >>> vk.lax.reduce_window(x, -np.inf, vk.lax.max, (2,), (2,), "VALID")
    array([3., 5.])
    """
    x = array("reduce_window", operand)
    sizes = per_axis("reduce_window", "window_dimensions", window_dimensions, x.ndim)
    steps = per_axis("reduce_window", "window_strides", window_strides, x.ndim)
    dilation = _ones("reduce_window", "window_dilation", window_dilation, x.ndim)
    spread = _ones("reduce_window", "base_dilation", base_dilation, x.ndim)
    lengths = [(n - 1) * b + 1 if n else 0 for n, b in zip(x.shape, spread, strict=True)]
    spans = [(n - 1) * d + 1 for n, d in zip(sizes, dilation, strict=True)]
    pads = padtype_to_pads(lengths, spans, steps, padding)
    config = [(low, high, b - 1) for (low, high), b in zip(pads, spread, strict=True)]
    if any(low or high or between for low, high, between in config):
        x = pad(x, _start("reduce_window", init_value, x), config)
    view = np.lib.stride_tricks.sliding_window_view(x, tuple(spans))
    chosen = [slice(None, None, s) for s in (*steps, *dilation)]
    view = view[tuple(chosen)]
    inner = tuple(range(x.ndim, 2 * x.ndim))
    known = _KNOWN.get(computation)
    if known is None:
        return reduce(view, init_value, computation, inner)
    out = (
        known(view, axis=inner)
        if known in (np.max, np.min)
        else known(view, axis=inner, dtype=x.dtype)
    )
    if not isinstance(init_value, int | float) or init_value != _NEUTRAL[known]:
        out = computation(out, _start("reduce_window", init_value, x))
    return out


def _ones(function: str, name: str, numbers: Any, ndim: int) -> tuple[int, ...]:
    return (1,) * ndim if numbers is None else per_axis(function, name, numbers, ndim)


def padtype_to_pads(
    in_shape: Sequence[int],
    window_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
) -> list[tuple[int, int]]:
    """Padding before and after each axis: "VALID" none, "SAME" for ceil(n / stride) windows.

    "SAME_LOWER" puts the odd one before instead of after; pairs are taken as they are.

    >>> import vjpkit as vk
    >>> vk.lax.padtype_to_pads((5,), (2,), (1,), "SAME")
    [(0, 1)]
    """
    if not isinstance(padding, str):
        pairs = [per_axis("padding", "each entry", p, 2) for p in padding]
        if len(pairs) != len(in_shape):
            raise TypeError(
                f"padding must have an entry (low, high) for each of "
                f"{counted(len(in_shape), 'axis', 'axes')}, got "
                f"{padding!r}{at(calling_position())}"
            )
        return [(low, high) for low, high in pairs]
    kind = padding.upper()
    if kind == "VALID":
        return [(0, 0)] * len(in_shape)
    if kind not in ("SAME", "SAME_LOWER"):
        raise ValueError(
            f"padding must be 'VALID', 'SAME', 'SAME_LOWER' or pairs (low, high), got {padding!r}"
            f"{at(calling_position())}"
        )
    pads = []
    for n, window, step in zip(in_shape, window_shape, window_strides, strict=True):
        total = max((-(-n // step) - 1) * step + window - n, 0)
        low = total // 2 if kind == "SAME" else total - total // 2
        pads.append((low, total - low))
    return pads


# ------------------------------------------------------------------------------------------ running


def _running(name: str, operand: Value, axis: int, reverse: bool, run: Any) -> Value:
    x = array(name, operand)
    along = axis_of(name, "axis", axis, x.ndim)
    if reverse:
        return np.flip(run(np.flip(x, along), along), along)
    return run(x, along)


def cumsum(operand: Value, axis: int = 0, reverse: bool = False) -> Value:
    """Running sums along an axis, in the operand's dtype; from the end where ``reverse``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.cumsum(np.array([1, 2, 3]), reverse=True)
    array([6, 5, 3])
    """
    return _running(
        "cumsum", operand, axis, reverse, lambda x, a: np.cumsum(x, axis=a, dtype=x.dtype)
    )


def cumprod(operand: Value, axis: int = 0, reverse: bool = False) -> Value:
    """Running products along an axis, in the operand's dtype; from the end where ``reverse``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.cumprod(np.array([1.0, 2.0, 3.0]))
    array([1., 2., 6.])
    """
    return _running(
        "cumprod", operand, axis, reverse, lambda x, a: np.cumprod(x, axis=a, dtype=x.dtype)
    )


def cummax(operand: Value, axis: int = 0, reverse: bool = False) -> Value:
    """Running maxima along an axis; from the end where ``reverse``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.cummax(np.array([1.0, 3.0, 2.0]))
    array([1., 3., 3.])
    """
    return _running("cummax", operand, axis, reverse, np.maximum.accumulate)


def cummin(operand: Value, axis: int = 0, reverse: bool = False) -> Value:
    """Running minima along an axis; from the end where ``reverse``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.cummin(np.array([1.0, 3.0, 2.0]), reverse=True)
    array([1., 2., 2.])
    """
    return _running("cummin", operand, axis, reverse, np.minimum.accumulate)


def cumlogsumexp(operand: Value, axis: int = 0, reverse: bool = False) -> Value:
    """Running ``log(sum(exp(x)))`` along an axis, without overflow.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.cumlogsumexp(np.array([1000.0, 1000.0])).round(4)
    array([1000.    , 1000.6931])
    """
    return _running(
        "cumlogsumexp", operand, axis, reverse,
        lambda x, a: associative_scan(np.logaddexp, x, axis=a),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------ sorting


def sort(
    operand: Value | tuple[Value, ...],
    dimension: int = -1,
    is_stable: bool = True,
    num_keys: int = 1,
) -> Any:
    """Sorted along an axis; of a tuple all arrays in the order of the first ``num_keys``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.sort((np.array([2, 1]), np.array([5.0, 6.0])))
    (array([1, 2]), array([6., 5.]))
    """
    if not isinstance(operand, tuple):
        x = array("sort", operand)
        return np.sort(x, axis=axis_of("sort", "dimension", dimension, x.ndim), kind="stable")
    xs = [array("sort", x, f"operand {i}") for i, x in enumerate(operand)]
    if not xs or not 1 <= index(num_keys) <= len(xs):
        raise ValueError(
            f"sort: num_keys={num_keys} for "
            f"{counted(len(xs), 'operand')}; one to all of them are keys"
            f"{at(calling_position())}"
        )
    if len({x.shape for x in xs}) > 1:
        raise TypeError(
            f"sort: the operands have the shapes {', '.join(str(x.shape) for x in xs)}, which must "
            f"be equal{at(calling_position())}"
        )
    along = axis_of("sort", "dimension", dimension, xs[0].ndim)
    order = np.lexsort(xs[:num_keys][::-1], axis=along)
    return tuple([np.take_along_axis(x, order, axis=along) for x in xs])


def sort_key_val(
    keys: Value, values: Value, dimension: int = -1, is_stable: bool = True
) -> tuple[Value, Value]:
    """Keys sorted along an axis, and values in the same order.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.sort_key_val(np.array([2, 1]), np.array([5.0, 6.0]))
    (array([1, 2]), array([6., 5.]))
    """
    first, second = sort((keys, values), dimension, is_stable)
    return first, second


def top_k(operand: Value, k: int) -> tuple[Value, Value]:
    """The k greatest along the last axis, from the greatest, and where they are.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.top_k(np.array([1.0, 9.0, 5.0, 9.0]), 3)
    (array([9., 9., 5.]), array([1, 3, 2], dtype=int32))
    """
    x = array("top_k", operand)
    n = x.shape[-1] if x.ndim else -1
    if not 0 <= index(k) <= n:
        raise ValueError(
            f"top_k: k={k} for the shape {x.shape}; 0 <= k <= size of the last axis is wanted"
            f"{at(calling_position())}"
        )
    ascending = np.argsort(np.flip(x, -1), axis=-1, kind="stable")
    order = n - 1 - np.flip(ascending, -1)[..., :k]
    return np.take_along_axis(x, order, axis=-1), np.astype(order, np.dtype(np.int32))
