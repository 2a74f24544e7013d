"""NumPy's functions of what an unknown mask selects: element by element, reductions, order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import counted
from vjpkit.numpy._selected import FUNCTIONS, METHODS, Selected, wide
from vjpkit.numpy._shape import normalize_axis_index, normalize_axis_tuple
from vjpkit.ops import selection

__all__: list[str] = []

Function = Callable[..., Any]


def first_selected(xs: Iterable[Any]) -> Selected:
    return next(x for x in xs if isinstance(x, Selected))


# ---- element by element ------------------------------------------------------------------------


def elementwise(function: Function) -> Function:
    """A function of NumPy's that is no ufunc, but computed element by element."""

    def compute(*args: Any, **kwargs: Any) -> Selected:
        like = first_selected((*args, *kwargs.values()))
        name = f"np.{function.__name__}"
        given = [like.operand(x, name) if is_operand(x) else x for x in args]
        named = {k: like.operand(x, name) if is_operand(x) else x for k, x in kwargs.items()}
        return like.like(function(*given, **named))

    return compute


def is_operand(x: Any) -> bool:
    return isinstance(x, Selected) or bool(getattr(x, "ndim", 0))


_ELEMENTWISE: tuple[Function, ...] = (
    np.angle, np.around, np.clip, np.copy, np.fix, np.i0, np.imag, np.isclose, np.isneginf,
    np.isposinf, np.nan_to_num, np.ones_like, np.real, np.real_if_close, np.round, np.sinc,
    np.where, np.zeros_like,
)  # fmt: skip
FUNCTIONS.update({f: elementwise(f) for f in _ELEMENTWISE})


def about(function: Function) -> Function:
    """A function of dtypes and the number of axes."""

    def compute(*args: Any) -> Any:
        return function(*[x.values if isinstance(x, Selected) else x for x in args])

    return compute


FUNCTIONS.update({
    np.iscomplexobj: about(np.iscomplexobj), np.isrealobj: about(np.isrealobj),
    np.result_type: about(np.result_type), np.ndim: lambda a: a.ndim,
})  # fmt: skip


# ---- reductions --------------------------------------------------------------------------------


def inner_axis(x: Selected, axis: int) -> int:
    """The axis of the values that an axis of the selection is, which the mask does not select."""
    return x.mask.ndim + axis - (axis > x.place)


def reduction(function: Function, extreme: Function | None = None) -> Function:
    """A reduction over what is selected, along other axes, or both.

    ``extreme`` gives for a dtype what no element exceeds: such a reduction has no identity.
    """
    name = function.__name__

    def reduce(
        a: Selected, axis: Any = None, dtype: Any = None, *, keepdims: Any = False, **kwargs: Any
    ) -> Any:
        kwargs = {k: v for k, v in kwargs.items() if v is not np._NoValue}
        if kwargs.keys() - {"ddof", "mean", "correction"} or kwargs.get("mean") is not None:
            a.refuse(f"np.{name} with {sorted(kwargs)}")
        if dtype is not None:
            kwargs["dtype"] = dtype
        every = tuple(range(a.ndim))
        axes = every if axis is None else normalize_axis_tuple(axis, a.ndim)
        others = [inner_axis(a, k) for k in axes if k != a.place]
        kept = keepdims is not np._NoValue and bool(keepdims)
        if a.place not in axes:
            made = function(a.values, axis=tuple(others), keepdims=kept, **kwargs)
            return Selected(a.mask, made, a.place - (0 if kept else sum(k < a.place for k in axes)))
        over = (*range(a.mask.ndim), *others)
        mask = a.mask
        if extreme is not None:
            mask = selection.selecting(mask, name=_OPERATIONS[name], lead=0)
            kwargs["initial"] = extreme(a.dtype)
        out = function(a.values, axis=over, where=wide(a.values, mask), **kwargs)
        return np.expand_dims(out, tuple(sorted(axes))) if kept else out

    return reduce


_OPERATIONS = {"amax": "maximum", "amin": "minimum", "max": "maximum", "min": "minimum"}


def lowest(dtype: np.dtype[Any]) -> Any:
    """What no number of a dtype is below."""
    return -np.inf if dtype.kind == "f" else (dtype.kind != "b" and np.iinfo(dtype).min)


def highest(dtype: np.dtype[Any]) -> Any:
    """What no number of a dtype is above."""
    return np.inf if dtype.kind == "f" else (dtype.kind == "b" or np.iinfo(dtype).max)


_SUMS: tuple[Function, ...] = (
    np.sum, np.prod, np.mean, np.std, np.var, np.any, np.all, np.nansum, np.nanprod, np.nanmean,
    np.nanstd, np.nanvar,
)  # fmt: skip
FUNCTIONS.update({f: reduction(f) for f in _SUMS})
FUNCTIONS[np.max] = FUNCTIONS[np.amax] = reduction(np.max, lowest)
FUNCTIONS[np.min] = FUNCTIONS[np.amin] = reduction(np.min, highest)


def ptp(a: Selected, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    if out is not None:
        a.refuse("np.ptp with an out")
    most, least = FUNCTIONS[np.max], FUNCTIONS[np.min]
    return most(a, axis, keepdims=keepdims) - least(a, axis, keepdims=keepdims)


def count_nonzero(a: Selected, axis: Any = None, *, keepdims: bool = False) -> Any:
    return FUNCTIONS[np.sum](a.like(a.values != 0), axis, keepdims=keepdims)


def size(a: Selected, axis: Any = None) -> Any:
    if axis is not None:
        a.refuse(f"np.size along axis {axis}")
    return a.size


FUNCTIONS.update({np.ptp: ptp, np.count_nonzero: count_nonzero, np.size: size})


def flat(x: Selected, other: float) -> Value:
    """All that is selected, and ``other`` elsewhere, along one axis."""
    return np.ravel(np.where(x.whole_mask, x.values, x.dtype.type(other)))


def norm(x: Selected, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if x.ndim != 1 or ord not in (None, 1, 2) or axis not in (None, 0, -1) or keepdims:
        x.refuse(f"np.linalg.norm of {counted(x.ndim, 'axis', 'axes')} with ord={ord}, axis={axis}")
    return np.linalg.norm(flat(x, 0), ord)


def product(function: Function) -> Function:
    """A product of two vectors that the same mask selects."""

    def compute(a: Any, b: Any, out: Any = None) -> Any:
        like = first_selected((a, b))
        name = f"np.{function.__name__}"
        if out is not None or any(getattr(x, "ndim", 0) != 1 for x in (a, b)):
            like.refuse(f"{name} of other than two vectors")
        return function(*[flat(like.like(like.operand(x, name)), 0) for x in (a, b)])

    return compute


_PRODUCTS: tuple[Function, ...] = (np.dot, np.inner, np.vdot, np.matmul, np.vecdot)
FUNCTIONS.update({f: product(f) for f in _PRODUCTS})
FUNCTIONS[np.linalg.norm] = norm


# ---- order and running sums --------------------------------------------------------------------


def along(x: Selected, axis: int) -> tuple[bool, int]:
    """Whether an axis is that of what is selected; else the axis of the values that it is."""
    axis = normalize_axis_index(axis, x.ndim)
    return axis == x.place, inner_axis(x, axis)


def in_a_row(x: Selected, values: Value) -> Value:
    """The axes of the mask as one."""
    return np.reshape(values, (x.mask.size, *aval_of(values).shape[x.mask.ndim :]))


def running(function: Function, identity: float) -> Function:
    """A cumulative sum or product."""
    name = function.__name__

    def compute(a: Selected, axis: Any = None, dtype: Any = None, out: Any = None) -> Selected:
        if out is not None or (axis is None and a.ndim > 1):
            a.refuse(f"np.{name} with axis={axis} and out={out}")
        ours, other = along(a, 0 if axis is None else axis)
        if not ours:
            return a.like(function(a.values, axis=other, dtype=dtype))
        kept = np.where(wide(a.values, a.mask), a.values, a.dtype.type(identity))
        made = function(in_a_row(a, kept), axis=0, dtype=dtype)
        return a.like(np.reshape(made, aval_of(a.values).shape))

    return compute


def in_order(x: Selected) -> Value:
    """The values along one axis, what is selected first and in order."""
    values = in_a_row(x, x.values)
    left_out = ~in_a_row(x, x.whole_mask)
    order = np.argsort(values, axis=0, stable=True)
    behind = np.argsort(np.take_along_axis(left_out, order, 0), axis=0, stable=True)
    return np.take_along_axis(values, np.take_along_axis(order, behind, 0), 0)


def sort(
    a: Selected, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Selected:
    if order is not None or (axis is None and a.ndim > 1):
        a.refuse(f"np.sort with axis={axis} and order={order}")
    ours, other = along(a, 0 if axis is None else axis)
    if not ours:
        return a.like(np.sort(a.values, axis=other, kind=kind, stable=stable))
    number = np.maximum(np.cumsum(np.ravel(a.mask)) - 1, 0)  # of a place among the selected ones
    made = np.reshape(in_order(a)[number], aval_of(a.values).shape)
    return a.like(np.where(wide(made, a.mask), made, a.dtype.type(1)))


def median(
    a: Selected, axis: Any = None, out: Any = None, overwrite_input: bool = False,
    keepdims: bool = False,
) -> Any:  # fmt: skip
    if a.ndim != 1 or axis not in (None, 0, -1) or out is not None or keepdims:
        a.refuse(f"np.median of {counted(a.ndim, 'axis', 'axes')} with axis={axis}")
    values, count = in_order(a), a.size
    low, high = (
        values[np.maximum(count - 1, 0) // 2],
        values[np.maximum(count // 2, 0) % a.mask.size],
    )
    middle = np.where(count % 2 == 1, low, (low + high) / 2)
    missing = (count == 0) | FUNCTIONS[np.any](a.like(np.isnan(a.values)))
    return np.where(missing, np.nan, middle)


FUNCTIONS[np.cumsum] = running(np.cumsum, 0)
FUNCTIONS[np.cumprod] = running(np.cumprod, 1)
FUNCTIONS[np.sort] = sort
FUNCTIONS[np.median] = median

METHODS.update({
    "sum": np.sum, "prod": np.prod, "mean": np.mean, "std": np.std, "var": np.var, "any": np.any,
    "all": np.all, "max": np.max, "min": np.min, "cumsum": np.cumsum, "cumprod": np.cumprod,
    "clip": np.clip, "round": np.round, "dot": np.dot,
})  # fmt: skip
