"""SciPy's Bessel functions; of fixed order, and of an order in which no derivative is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.primitive import primitive
from vjpkit.ops.scipy_special import SciPyFunction, by_series, unknown, whole

_X = np.array([0.3, -1.2, 2.5])
_WITH_0 = np.array([0.3, -1.2, 0.0])
_POSITIVE = np.array([0.4, 1.7, 5.0])
_ORDERS = np.array([0.5, 2.0, 1.3])
_COARSE = {"analytic": "SciPy's complex values do not resolve a complex step"}


_J1_OVER_X = [0.5 * (-0.25) ** k / (math.factorial(k) * math.factorial(k + 1)) for k in range(10)]
_I1_OVER_X = [abs(c) for c in _J1_OVER_X]


def _over_x(out: Value, x: Value, coefficients: Sequence[float]) -> Value:
    """``out / x``, near 0 by its series in x²."""
    return by_series(x * x, 1.0, coefficients, lambda _: out / np.where(x == 0, 1, x))


class J0(SciPyFunction):
    partials = ((lambda x: -j1(x)),)


j0 = primitive(J0)


class J1(SciPyFunction):
    partials = ((lambda x, out: j0(x) - _over_x(out, x, _J1_OVER_X)),)
    points = (_WITH_0,)


j1: J1 = primitive(J1)


class Y0(SciPyFunction):
    partials = ((lambda x: -y1(x)),)
    points = (_POSITIVE,)


y0 = primitive(Y0)


class Y1(SciPyFunction):
    partials = ((lambda x, out: y0(x) - out / x),)
    points = (_POSITIVE,)


y1: Y1 = primitive(Y1)


class I0(SciPyFunction):
    partials = ((lambda x: i1(x)),)


i0 = primitive(I0)


class I1(SciPyFunction):
    partials = ((lambda x, out: i0(x) - _over_x(out, x, _I1_OVER_X)),)
    points = (_WITH_0,)


i1: I1 = primitive(I1)


class I0e(SciPyFunction):
    """exp(-|x|) times `i0`."""

    partials = ((lambda x, out: i1e(x) - np.sign(x) * out),)


i0e = primitive(I0e)


def _i1e_x(x: Value, out: Value) -> Value:
    near = np.abs(x) < 1
    scale = np.where(near, np.exp(-np.abs(x)), 1)
    return i0e(x) - np.sign(x) * out - scale * _over_x(out, x, _I1_OVER_X)


class I1e(SciPyFunction):
    """exp(-|x|) times `i1`."""

    partials = (_i1e_x,)


i1e: I1e = primitive(I1e)


class K0(SciPyFunction):
    partials = ((lambda x: -k1(x)),)
    points = (_POSITIVE,)


k0 = primitive(K0)


class K1(SciPyFunction):
    partials = ((lambda x, out: -k0(x) - out / x),)
    points = (_POSITIVE,)


k1: K1 = primitive(K1)


class K0e(SciPyFunction):
    """exp(x) times `k0`."""

    partials = ((lambda x, out: out - k1e(x)),)
    points = (_POSITIVE,)


k0e = primitive(K0e)


class K1e(SciPyFunction):
    """exp(x) times `k1`."""

    partials = ((lambda x, out: out - k0e(x) - out / x),)
    points = (_POSITIVE,)


k1e: K1e = primitive(K1e)


class Jv(SciPyFunction):
    branches = _COARSE
    partials = unknown("jv", "v"), (lambda x, y: (jv(x - 1, y) - jv(x + 1, y)) / 2)
    points = _ORDERS, _POSITIVE


jv: Jv = primitive(Jv)


class Yv(SciPyFunction):
    branches = _COARSE
    partials = unknown("yv", "v"), (lambda x, y: (yv(x - 1, y) - yv(x + 1, y)) / 2)
    points = _ORDERS, _POSITIVE


yv: Yv = primitive(Yv)


class Iv(SciPyFunction):
    partials = unknown("iv", "v"), (lambda x, y: (iv(x - 1, y) + iv(x + 1, y)) / 2)
    points = _ORDERS, _POSITIVE


iv: Iv = primitive(Iv)


class Kv(SciPyFunction):
    partials = unknown("kv", "v"), (lambda x, y: -(kv(x - 1, y) + kv(x + 1, y)) / 2)
    points = _ORDERS, _POSITIVE


kv: Kv = primitive(Kv)


class Ive(SciPyFunction):
    """exp(-|x|) times `iv`."""

    real = True
    partials = (
        unknown("ive", "v"),
        (lambda x, y, out: (ive(x - 1, y) + ive(x + 1, y)) / 2 - np.sign(y) * out),
    )
    points = np.array([1.0, 2.0, 0.0]), _X


ive: Ive = primitive(Ive)


class Kve(SciPyFunction):
    """exp(x) times `kv`."""

    partials = (
        unknown("kve", "v"),
        (lambda x, y, out: out - (kve(x - 1, y) + kve(x + 1, y)) / 2),
    )
    points = _ORDERS, _POSITIVE


kve: Kve = primitive(Kve)


class Yn(SciPyFunction):
    """`yv` of a whole order."""

    partials = whole("yn", "n"), (lambda x, y: (yn(x - 1, y) - yn(x + 1, y)) / 2)
    points = np.array([0, 1, 3]), _POSITIVE


yn: Yn = primitive(Yn)
