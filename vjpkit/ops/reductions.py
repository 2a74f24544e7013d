"""Reductions other than the sum: extrema, product, variance, and the locally constant ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import Cotangents, Row, filled_like
from vjpkit.kinds import (
    Linear,
    PiecewiseConstant,
    Reduction,
    contribute,
    kept,
    reduced_shape,
    rule,
)
from vjpkit.ops import structural
from vjpkit.ops.cumulative import along
from vjpkit.ops.selection import same

_M = np.array([[0.3, -1.2, 2.5], [1.7, 0.4, -0.6]])
_ZEROS = np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 0.5], [1.5, -2.0, 0.7]])
_MASK = np.array([[True, True, False], [True, True, True]])

Axes = tuple[int, ...] | None


def in_batch(axes: Axes, ndim: int) -> tuple[int, ...]:
    """The axes of one example, seen in a batch whose array has ``ndim`` axes."""
    return tuple(range(1, ndim)) if axes is None else tuple([a + 1 for a in axes])


def batch_over_axes(
    self: Any,
    n: int,
    values: Sequence[Value],
    batched: Sequence[bool],
    *,
    axes: Axes,
    **params: Any,
) -> Value:
    """The batch rule of reductions: the same, with the batch's axis left alone."""
    (x,) = values
    return self(x, axes=in_batch(axes, x.ndim), **params)


# ---- extrema -----------------------------------------------------------------------------------


def _counts(mask: np.ndarray[Any, Any], axes: Axes, slices: int) -> Value | None:
    """How many are true in each slice, or None where it is one in each.

    Every slice that is not empty has at least one, so as many as there are slices is one in each.
    """
    if np.count_nonzero(mask) == slices:
        return None
    return np.maximum(np.sum(mask, axes, np.intp, keepdims=True), 1)


class Spread(Linear):
    """Each element of ``x`` in equal shares to the true elements of its slice of ``mask``.

    ``mask`` has the axes that ``x`` lacks (or, with ``keepdims``, has as length 1), and a true
    element in every slice. The transpose of `mean_where`.
    """

    @staticmethod
    def impl(x: Value, mask: Value, axes: Axes, keepdims: bool) -> Value:
        mask = np.asarray(mask)
        x = np.reshape(x, reduced_shape(mask.shape, axes, True))
        count = _counts(mask, axes, x.size)
        full = np.zeros(mask.shape, x.dtype)
        np.copyto(full, x if count is None else (x / count).astype(x.dtype), where=mask)
        return full if full.ndim else full[()]

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return mean_where(ct, *fixed, **params)

    def abstract(self, *avals: Aval, axes: Axes, keepdims: bool, **params: Any) -> Aval:
        x, mask = avals
        if x.shape != reduced_shape(mask.shape, axes, keepdims):
            raise ValueError(f"spread: shape {x.shape} is not {mask.shape} reduced over {axes}")
        return Aval(mask.shape, x.dtype)

    def batch(
        self,
        n: int,
        values: Sequence[Value],
        batched: Sequence[bool],
        *,
        axes: Axes,
        keepdims: bool,
    ) -> Value:
        x, mask = structural.all_along_front(values, batched, n)
        return self(x, mask, axes=in_batch(axes, mask.ndim), keepdims=keepdims)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M[:, 0], _MASK, axes=(1,), keepdims=False)
        yield Sample(_M[:1], _MASK, axes=(0,), keepdims=True)
        yield Sample(np.float64(0.7), np.array([False, True, False]), axes=None, keepdims=False)


spread = primitive(Spread)


class MeanWhere(Linear):
    """The mean over ``axes`` of the elements of ``x`` where ``mask``; the transpose of `spread`."""

    @staticmethod
    def impl(x: Value, mask: Value, axes: Axes, keepdims: bool) -> Value:
        mask = np.asarray(mask)
        total = np.sum(x, axes, x.dtype, keepdims=keepdims, where=mask)
        count = _counts(mask, axes, total.size)
        if count is None:
            return total
        return (total / np.reshape(count, total.shape)).astype(x.dtype)

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return spread(ct, *fixed, **params)

    def abstract(self, *avals: Aval, axes: Axes, keepdims: bool, **params: Any) -> Aval:
        x, mask = avals
        if x.shape != mask.shape:
            raise ValueError(f"mean_where: shapes {x.shape} and {mask.shape} differ")
        return Aval(reduced_shape(x.shape, axes, keepdims), x.dtype)

    def batch(
        self,
        n: int,
        values: Sequence[Value],
        batched: Sequence[bool],
        *,
        axes: Axes,
        keepdims: bool,
    ) -> Value:
        x, mask = structural.all_along_front(values, batched, n)
        return self(x, mask, axes=in_batch(axes, mask.ndim), keepdims=keepdims)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, _MASK, axes=(1,), keepdims=False)
        yield Sample(_M, _MASK, axes=(0,), keepdims=True)
        yield Sample(_M[0], np.array([False, True, False]), axes=None, keepdims=False)


mean_where = primitive(MeanWhere)


class Extremum(Reduction):
    """The largest (smallest) element over ``axes``; those that attain it share its cotangent."""

    larger: ClassVar[np.ufunc]
    """The extremum of two."""
    batch = batch_over_axes

    def __init__(self) -> None:
        super().__init__()
        reduce = self.larger.reduce
        self.impl = lambda x, axes, keepdims: reduce(x, axes, keepdims=keepdims)

        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, i, out, params, x = row
            contribute(cts, i, spread(ct, attained(x, out, params["axes"]), **params))

        def push(row: Row, ts: Cotangents) -> None:
            _, k, _, _, i, out, params, x = row
            ts[k] = None if ts[i] is None else self.weighted(x, ts[i], out, params, ts[-2])

        self.pull = rule(self, pull, push)

    def weighted(self, x: Value, t: Value, out: Value, params: Any, product: Any) -> Value:
        return mean_where(t, attained(x, out, params["axes"]), **params)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (x,) = avals
        shape = reduced_shape(x.shape, params["axes"], params["keepdims"])
        if x.size == 0 and 0 not in shape:
            self.larger.reduce(np.zeros(0, x.dtype))  # raises NumPy's error
        return Aval(shape, x.dtype)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, axes=None, keepdims=False)
        yield Sample(_M, axes=(1,), keepdims=True)
        yield Sample(_M, axes=(0,), keepdims=False)
        yield Sample(_M, axes=(), keepdims=False)
        yield Sample(_M[:0], axes=(1,), keepdims=False)
        yield Sample(_M[0, 0], axes=(), keepdims=False)
        yield Sample(0.75, axes=None, keepdims=False)


def attained(x: Value, out: Value, axes: Axes) -> Value:
    """Where ``x`` is its extremum ``out``; nan is attained by nan."""
    return same(x, kept(out, x.shape, axes))


class Max(Extremum):
    larger = np.maximum


max_ = primitive(Max)


class Min(Extremum):
    larger = np.minimum


min_ = primitive(Min)


# ---- product -----------------------------------------------------------------------------------


class Prod(Reduction):
    """Product over ``axes``.

    The weight of an element is the product of all others, found by multiplying pairs, pairs of
    pairs, ... Nothing is divided, so zeros are exact, to every order.
    """

    impl = staticmethod(lambda x, axes, keepdims: np.multiply.reduce(x, axes, keepdims=keepdims))
    batch = batch_over_axes
    singular = True

    def weights(self, x: Value, out: Value, *, axes: Axes, **params: Any) -> Value:
        if 0 in x.shape:
            return x
        gone = tuple(range(x.ndim)) if axes is None else axes
        if len(gone) == 1:
            return _product_of_others(x, gone[0])
        order = (*[i for i in range(x.ndim) if i not in gone], *gone)
        turned = structural.transpose(x, axes=order)
        lead = turned.shape[: x.ndim - len(gone)]
        flat = structural.reshape(turned, shape=(*lead, math.prod(turned.shape[len(lead) :])))
        others = structural.reshape(_product_of_others(flat, len(lead)), shape=turned.shape)
        return structural.transpose(others, axes=structural.inverse(order))

    def out_dtype(self, dtype: Any) -> Any:
        return np.multiply.reduce(np.ones(1, dtype)).dtype

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, axes=None, keepdims=False)
        yield Sample(_ZEROS, axes=(1,), keepdims=True)
        yield Sample(_ZEROS, axes=(0,), keepdims=False)
        yield Sample(np.stack([_M, _M[::-1]]), axes=(0, 2), keepdims=False)
        yield Sample(_M, axes=(), keepdims=False)
        yield Sample(_M[:, :0], axes=(1,), keepdims=False)
        yield Sample(_M[0, 0], axes=(), keepdims=False)


prod = primitive(Prod)


def _product_of_others(x: Value, axis: int) -> Value:
    """For each element, the product of all others: those of the other pairs, times its partner."""
    n = x.shape[axis]
    if n == 1:
        return filled_like(x, 1)
    if n == 2:
        return x[along(axis, slice(None, None, -1))]
    half = n // 2
    even, odd = x[along(axis, slice(0, 2 * half, 2))], x[along(axis, slice(1, None, 2))]
    single = along(axis, slice(2 * half, None))
    groups = even * odd
    if n % 2:
        groups = structural.concatenate(groups, x[single], axis=axis)
    others = _product_of_others(groups, axis)
    pairs = others[along(axis, slice(0, half))]
    woven = structural.stack(pairs * odd, pairs * even, axis=axis + 1)
    woven = structural.reshape(woven, shape=(*x.shape[:axis], 2 * half, *x.shape[axis + 1 :]))
    if n % 2 == 0:
        return woven
    return structural.concatenate(woven, others[along(axis, slice(half, None))], axis=axis)


# ---- variance ----------------------------------------------------------------------------------


def _number(shape: Shape, axes: Axes) -> int:
    """How many elements are reduced to one."""
    return math.prod(shape if axes is None else [shape[a] for a in axes])


def _centered(x: Value, axes: Axes) -> Value:
    """Half the derivative of ``|x - mean|**2``: the conjugate distance from the mean."""
    distance = x - np.mean(x, axis=axes, keepdims=True)
    return np.conj(distance) if distance.dtype.kind == "c" else distance


class Dispersion(Reduction):
    """A measure of the distances from the mean over ``axes``; real, also of complex ones."""

    batch = batch_over_axes

    def out_dtype(self, dtype: Any) -> Any:
        return np.var(np.ones(1, dtype)).dtype

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, axes=None, keepdims=False, ddof=0)
        yield Sample(_M, axes=(1,), keepdims=True, ddof=1)
        yield Sample(_M * (1 - 0.5j), axes=(0,), keepdims=False, ddof=0.5)
        yield Sample(_M[:0], axes=(1,), keepdims=False, ddof=1)


class Var(Dispersion):
    """Sum of ``|x - mean|**2`` over ``axes``, divided by their number less ``ddof``."""

    impl = staticmethod(lambda x, axes, keepdims, ddof: np.var(x, axes, None, None, ddof, keepdims))

    def weights(self, x: Value, out: Value, *, axes: Axes, **params: Any) -> Value:
        freedom = max(_number(x.shape, axes) - params["ddof"], 0) or math.nan
        return _centered(x, axes) * (2 / freedom)


var = primitive(Var)


class Std(Dispersion):
    """Root of the variance; where all values are equal, the derivative is 0."""

    impl = staticmethod(lambda x, axes, keepdims, ddof: np.std(x, axes, None, None, ddof, keepdims))

    def weights(self, x: Value, out: Value, *, axes: Axes, **params: Any) -> Value:
        freedom = max(_number(x.shape, axes) - params["ddof"], 0) or math.nan
        # Equal values are found by comparing them: their mean may be off by a rounding.
        first = x[
            tuple(slice(0, 1) if axes is None or i in axes else slice(None) for i in range(x.ndim))
        ]
        equal = np.all(x == first, axis=axes, keepdims=True)
        scale = np.where(equal, 0, 1 / (np.where(equal, 1, out) * freedom))
        return _centered(x, axes) * scale


std = primitive(Std)


# ---- locally constant --------------------------------------------------------------------------


class Constant(PiecewiseConstant):
    """A reduction that does not change where its operand changes little."""

    batch = batch_over_axes

    def abstract(self, *avals: Aval, axes: Axes, keepdims: bool, **params: Any) -> Aval:
        return Aval(reduced_shape(avals[0].shape, axes, keepdims), bool)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_ZEROS, axes=None, keepdims=False)
        yield Sample(_ZEROS > 0, axes=(1,), keepdims=True)
        yield Sample(_ZEROS[:0], axes=(0,), keepdims=False)


class Any_(Constant):
    impl = staticmethod(
        lambda x, axes, keepdims: np.logical_or.reduce(x, axes, bool, keepdims=keepdims)
    )


any_ = primitive(Any_)


class All(Constant):
    impl = staticmethod(
        lambda x, axes, keepdims: np.logical_and.reduce(x, axes, bool, keepdims=keepdims)
    )


all_ = primitive(All)


class Place(PiecewiseConstant):
    """The first place of an extremum along ``axis``, or in the flattened array."""

    def abstract(self, *avals: Aval, axis: int | None, keepdims: bool) -> Aval:
        (x,) = avals
        axes = None if axis is None else (axis,)
        if x.size == 0 and _number(x.shape, axes) == 0:
            self.impl(np.zeros(0), axis=None, keepdims=False)  # raises NumPy's error
        return Aval(reduced_shape(x.shape, axes, keepdims), np.intp)

    def batch(
        self,
        n: int,
        values: Sequence[Value],
        batched: Sequence[bool],
        *,
        axis: int | None,
        keepdims: bool,
    ) -> Value:
        (x,) = values
        if axis is not None:
            return self(x, axis=axis + 1, keepdims=keepdims)
        flat = structural.reshape(x, shape=(n, math.prod(x.shape[1:])))
        place = self(flat, axis=1, keepdims=False)
        return structural.reshape(place, shape=(n, *[1] * (x.ndim - 1))) if keepdims else place

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, axis=None, keepdims=False)
        yield Sample(_M, axis=None, keepdims=True)
        yield Sample(_M, axis=1, keepdims=True)
        yield Sample(_M, axis=0, keepdims=False)


class Argmax(Place):
    impl = staticmethod(lambda x, axis, keepdims: np.argmax(x, axis, keepdims=keepdims))


argmax = primitive(Argmax)


class Argmin(Place):
    impl = staticmethod(lambda x, axis, keepdims: np.argmin(x, axis, keepdims=keepdims))


argmin = primitive(Argmin)


__all__ = [
    "all_",
    "any_",
    "argmax",
    "argmin",
    "max_",
    "mean_where",
    "min_",
    "prod",
    "spread",
    "std",
    "var",
]
