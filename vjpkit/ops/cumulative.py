"""Running sums, products, extrema, and the linear recurrence that is behind their derivatives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import cast, filled_like
from vjpkit.kinds import General, Linear
from vjpkit.ops import structural
from vjpkit.ops.selection import same, where

_M = np.array([[0.3, -1.2, 2.5, 0.8], [1.7, 0.4, -0.6, -1.1]])
_ZEROS = np.array([[2.0, 0.0, 3.0, -0.5], [0.0, 1.5, 0.0, 0.7]])


def along(axis: int, entry: Any) -> tuple[Any, ...]:
    """The index that takes ``entry`` of one axis and all of the others."""
    return (*[slice(None)] * axis, entry)


def accumulated(ufunc: np.ufunc, x: Value, axis: int, reverse: bool) -> Value:
    """``ufunc.accumulate`` from the front of an axis, or from its end."""
    if not reverse:
        return ufunc.accumulate(x, axis)
    backwards = along(axis, slice(None, None, -1))
    return ufunc.accumulate(x[backwards], axis)[backwards]


def previous(y: Value, axis: int, reverse: bool, first: float) -> Value:
    """What each element of ``y`` comes after; ``first`` stands before all."""
    if y.shape[axis] == 0:
        return y
    start = filled_like(y[along(axis, slice(0, 1))], first)
    if reverse:
        return structural.concatenate(y[along(axis, slice(1, None))], start, axis=axis)
    return structural.concatenate(start, y[along(axis, slice(None, -1))], axis=axis)


def batch_along_axis(
    self: Any, n: int, values: Sequence[Value], batched: Sequence[bool], *, axis: int, **params: Any
) -> Value:
    """The batch rule of what works along one axis: the same along the next."""
    xs = structural.all_along_front(values, batched, n)
    return self(*xs, axis=axis + 1, **params)


class Cumsum(Linear):
    """Running sums along ``axis``; the transpose runs the other way."""

    impl = staticmethod(lambda x, axis, reverse: accumulated(np.add, x, axis, reverse))
    batch = batch_along_axis

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return cumsum(ct, axis=params["axis"], reverse=not params["reverse"])

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (x,) = avals
        return Aval(x.shape, np.add.accumulate(np.zeros(1, x.dtype)).dtype)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, axis=0, reverse=False)
        yield Sample(_M, axis=1, reverse=True)


cumsum = primitive(Cumsum)


class Recurrence(General):
    """``y[k] = a[k] * y[k-1] + b[k]`` along ``axis``, reversed from the end; a[0] is not used.

    Closed under differentiation: dy[k] = a[k] * dy[k-1] + (da[k] * y[k-1] + db[k]), and the
    transpose in b is the recurrence run the other way: b̄[k] = a[k+1] * b̄[k+1] + ȳ[k].
    """

    batch = batch_along_axis

    @staticmethod
    def impl(a: Value, b: Value, axis: int, reverse: bool) -> Value:
        turned = slice(None, None, -1 if reverse else 1)
        a, b = np.moveaxis(a, axis, 0)[turned], np.moveaxis(b, axis, 0)[turned]
        with np.errstate(over="ignore", invalid="ignore"):
            return np.moveaxis(_solve(a, b)[turned], 0, axis)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        (a, _), (ta, tb) = values, ts
        if ta is not None:
            driven = ta * previous(out, params["axis"], params["reverse"], 0)
            tb = driven if tb is None else driven + tb
        return recurrence(a, tb, **params)

    @staticmethod
    def _transpose_b(ct: Value, values: Sequence[Value], axis: int, reverse: bool) -> Value:
        a, b = values
        following = previous(a, axis, not reverse, 0)
        return cast(recurrence(following, ct, axis=axis, reverse=not reverse), b.dtype)

    transposes = {1: _transpose_b}

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        a, b = avals
        if a.shape != b.shape:
            raise ValueError(f"recurrence: shapes {a.shape} and {b.shape} differ")
        return Aval(b.shape, np.result_type(a.dtype, b.dtype))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, _ZEROS, axis=1, reverse=False)
        yield Sample(_ZEROS.T.copy(), _M.T.copy(), axis=0, reverse=True)


recurrence = primitive(Recurrence)


_LOOP = 64
"""Up to so many steps a recurrence is a loop over the axis; longer ones are cut into blocks."""
_LANES = 2048
"""From so many independent recurrences on, the loop is as fast as the memory."""


def _solve(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The recurrence along the first axis.

    Cut into blocks: all are run at once from zero; then a recurrence over the blocks gives what
    comes into each, to which it adds that times the product of its factors. O(n) operations in
    O(n^(1/2)) calls. Where such a product leaves the range of the numbers: step by step.
    """
    n = len(b)
    y = np.array(b, np.result_type(a, b))
    if n <= _LOOP or math.prod(b.shape[1:]) >= _LANES:
        return _run(a, y)
    size = math.isqrt(n)
    cut = n // size * size

    def by_step(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The whole blocks, as (place in the block, block, ...)."""
        return x[:cut].reshape(-1, size, *x.shape[1:]).swapaxes(0, 1)

    factors = by_step(a)
    growth = np.multiply.accumulate(factors, axis=0)
    if not _in_range(growth, factors):
        return _run(a, y)
    blocks = _run(factors, by_step(y))
    ends = _solve(growth[-1], blocks[-1])
    blocks[:, 1:] += growth[:, 1:] * ends[:-1]
    _run(a[cut - 1 :], y[cut - 1 :])
    return y


def _in_range(growth: np.ndarray[Any, Any], factors: np.ndarray[Any, Any]) -> bool:
    """Whether running products have neither overflowed nor underflowed."""
    zero = np.logical_or.accumulate(factors == 0, axis=0)
    size = abs(growth)
    return bool((np.isfinite(size) & (zero | (size >= np.finfo(size.dtype).tiny))).all())


def _run(a: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The recurrence step by step, in place."""
    for k in range(1, len(y)):
        y[k] += a[k] * y[k - 1]
    return y


class Cumprod(General):
    """Running products along ``axis``.

    dy[k] = x[k] * dy[k-1] + y[k-1] * dx[k]: no division, so zeros are exact, to every order.
    """

    impl = staticmethod(lambda x, axis, reverse: accumulated(np.multiply, x, axis, reverse))
    batch = batch_along_axis

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        (x,), (t,) = values, ts
        return recurrence(x, previous(out, params["axis"], params["reverse"], 1) * t, **params)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (x,) = avals
        return Aval(x.shape, np.multiply.accumulate(np.ones(1, x.dtype)).dtype)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, axis=0, reverse=False)
        yield Sample(_ZEROS, axis=1, reverse=False)
        yield Sample(_ZEROS, axis=1, reverse=True)


cumprod = primitive(Cumprod)


class RunningExtremum(General):
    """The largest (smallest) element so far along ``axis``; those that attain it share equally.

    Each stretch of one value restarts the sum and the count of the elements that attain it: a
    recurrence whose factors are 1 inside a stretch and 0 at its start.
    """

    larger: ClassVar[np.ufunc]
    """The extremum of two."""
    batch = batch_along_axis

    def __init__(self) -> None:
        super().__init__()
        self.impl = lambda x, axis, reverse: accumulated(self.larger, x, axis, reverse)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        (x,), (t,) = values, ts
        attained = same(x, out)
        goes_on = same(out, previous(out, params["axis"], params["reverse"], 0))
        factors = structural.to_dtype(goes_on, out.dtype)
        total = recurrence(factors, where(attained, t, 0), **params)
        return total / recurrence(factors, structural.to_dtype(attained, out.dtype), **params)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return avals[0].strong()

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, axis=0, reverse=False)
        yield Sample(_M, axis=1, reverse=False)
        yield Sample(_M, axis=1, reverse=True)


class Cummax(RunningExtremum):
    larger = np.maximum


cummax = primitive(Cummax)


class Cummin(RunningExtremum):
    larger = np.minimum


cummin = primitive(Cummin)
