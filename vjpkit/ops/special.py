"""Special functions of NumPy's that are no ufuncs, closed under differentiation by an order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.primitive import Sample, primitive
from vjpkit.kinds import General

_X = np.array([0.3, -1.2, 2.5])

Array = np.ndarray[Any, Any]


class Unary(General):
    """A function of one array, element by element, and of a whole number ``order``."""

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return Aval(avals[0].shape, inexact(avals[0].dtype))

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool], order: int) -> Value:
        return self(*values, order=order)

    def samples(self) -> Iterable[Sample]:
        for order in (0, 1, 2):
            yield Sample(_X, order=order)
        yield Sample(_X.reshape(3, 1)[:0], order=0)
        yield Sample(np.array([0.0, 1e-9, 30.0]), order=1)


def inexact(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which NumPy computes: double precision for whole numbers."""
    return dtype if dtype.kind in "fc" else np.dtype(np.float64)


class Sinc(Unary):
    """The derivative of ``sin(pi x) / (pi x)`` of the given order; analytic, at 0 too."""

    @staticmethod
    def impl(x: Value, order: int) -> Value:
        return np.sinc(x) if order == 0 else _sinc_derivative(np.asarray(x), order)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        return ts[0] * sinc(values[0], order=params["order"] + 1)


sinc = primitive(Sinc)


def _sinc_derivative(x: Array, order: int) -> Value:
    """With s(y) = sin(y)/y, the derivative is pi^n s_n(pi x): a series near 0, else a recurrence.

    Differentiating y s(y) = sin(y) n times gives y s_n + n s_(n-1) = sin_n(y), which is stable for
    |y| >= n.
    """
    y = np.pi * np.asarray(x, np.result_type(x.dtype, np.float64))
    near = abs(y) < order
    far = np.where(near, order, y)
    cycle = np.sin(far), np.cos(far), -np.sin(far), -np.cos(far)
    value = cycle[0] / far
    for n in range(1, order + 1):
        value = (cycle[n % 4] - n * value) / far
    close = np.where(near, y, 0)
    out = np.where(near, _sinc_series(close, order), value) * np.pi**order
    return out.astype(inexact(x.dtype))[()]


def _sinc_series(y: Array, order: int) -> Array:
    """Sum over m of (-1)^m y^(2m-n) / ((2m-n)! (2m+1)), from the small terms to the large."""
    first = (order + 1) // 2
    total = np.zeros_like(y)
    for m in reversed(range(first, first + 12 + 2 * order)):
        power = 2 * m - order
        total = total + (-1) ** m * y**power / (math.factorial(power) * (2 * m + 1))
    return total


class BesselI(Unary):
    """The modified Bessel function of the first kind, I_n: I_n' is the mean of its neighbours."""

    @staticmethod
    def impl(x: Value, order: int) -> Value:
        return np.i0(x) if order == 0 else _modified_bessel(np.asarray(x), order)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        if avals[0].dtype.kind == "c":
            raise TypeError("i0 not supported for complex values")
        return super().abstract(*avals, **params)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        (x,), n = values, params["order"]
        if n == 0:
            return ts[0] * bessel_i(x, order=1)
        return ts[0] * (0.5 * (bessel_i(x, order=n - 1) + bessel_i(x, order=n + 1)))


bessel_i = primitive(BesselI)


_SERIES_UP_TO = 25.0


def _modified_bessel(x: Array, n: int) -> Value:
    """I_n by its power series, all of whose terms are positive; for large x Hankel's expansion."""
    if x.dtype.kind == "c":
        raise TypeError("i0 not supported for complex values")
    wide = np.asarray(x, np.result_type(x.dtype, np.float64))
    size = abs(wide)
    q = (np.minimum(size, _SERIES_UP_TO) / 2) ** 2
    series = np.ones_like(wide)
    for m in range(64, 0, -1):
        series = 1 + q / (m * (m + n)) * series
    series = series * (np.minimum(size, _SERIES_UP_TO) / 2) ** n / math.factorial(n)
    far = np.maximum(size, _SERIES_UP_TO)
    terms = np.ones_like(wide)
    for k in range(25 + n, 0, -1):
        terms = 1 - (4 * n * n - (2 * k - 1) ** 2) / (8 * k * far) * terms
    half = np.exp(far / 2)
    value = np.where(
        size <= _SERIES_UP_TO, series, half * (half / np.sqrt(2 * np.pi * far)) * terms
    )
    odd = np.sign(wide) if n % 2 else 1
    return (odd * value).astype(inexact(x.dtype))[()]
