"""SciPy's Bessel functions; of fixed order, and of an order in which no derivative is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.primitive import primitive
from vjpkit.core.rows import filled_like
from vjpkit.ops.scipy_gamma import rgamma
from vjpkit.ops.scipy_special import SciPyFunction, by_series, unknown, whole

_X = np.array([0.3, -1.2, 2.5])
_WITH_0 = np.array([0.3, -1.2, 0.0])
_POSITIVE = np.array([0.4, 1.7, 5.0])
_ORDERS = np.array([0.5, 2.0, 1.3])
_COMPLEX = {"analytic": "what a complex step would show is in the value of real numbers already"}
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


class Kn(SciPyFunction):
    """`kv` of a whole order."""

    partials = whole("kn", "n"), (lambda x, y: -(kn(x - 1, y) + kn(x + 1, y)) / 2)
    points = np.array([0, 1, 3]), _POSITIVE


kn: Kn = primitive(Kn)


class Jve(SciPyFunction):
    """`jv`, times exp(-|Im y|)."""

    real = True
    partials = unknown("jve", "v"), (lambda x, y: (jve(x - 1, y) - jve(x + 1, y)) / 2)
    points = _ORDERS, _POSITIVE


jve: Jve = primitive(Jve)


class Yve(SciPyFunction):
    """`yv`, times exp(-|Im y|)."""

    real = True
    partials = unknown("yve", "v"), (lambda x, y: (yve(x - 1, y) - yve(x + 1, y)) / 2)
    points = _ORDERS, _POSITIVE


yve: Yve = primitive(Yve)


class Hankel1(SciPyFunction):
    """jv + i yv."""

    branches = _COMPLEX
    partials = unknown("hankel1", "v"), (lambda x, y: (hankel1(x - 1, y) - hankel1(x + 1, y)) / 2)
    points = _ORDERS, _POSITIVE


hankel1: Hankel1 = primitive(Hankel1)


class Hankel2(SciPyFunction):
    """jv - i yv."""

    branches = _COMPLEX
    partials = unknown("hankel2", "v"), (lambda x, y: (hankel2(x - 1, y) - hankel2(x + 1, y)) / 2)
    points = _ORDERS, _POSITIVE


hankel2: Hankel2 = primitive(Hankel2)


class Hankel1e(SciPyFunction):
    """`hankel1`, times exp(-i y)."""

    branches = _COMPLEX
    partials = (
        unknown("hankel1e", "v"),
        (lambda x, y, out: (hankel1e(x - 1, y) - hankel1e(x + 1, y)) / 2 - 1j * out),
    )
    points = _ORDERS, _POSITIVE


hankel1e: Hankel1e = primitive(Hankel1e)


class Hankel2e(SciPyFunction):
    """`hankel2`, times exp(i y)."""

    branches = _COMPLEX
    partials = (
        unknown("hankel2e", "v"),
        (lambda x, y, out: (hankel2e(x - 1, y) - hankel2e(x + 1, y)) / 2 + 1j * out),
    )
    points = _ORDERS, _POSITIVE


hankel2e: Hankel2e = primitive(Hankel2e)


def _struve_term(x: Value, y: Value) -> Value:
    """(y/2)^x / (sqrt(pi) Gamma(x + 3/2)) (DLMF 11.4.25, 11.4.27)."""
    return (y / 2) ** x * rgamma(x + 1.5) / math.sqrt(math.pi)


class Struve(SciPyFunction):
    """Struve's function H of order x."""

    partials = (
        unknown("struve", "v"),
        (lambda x, y: (struve(x - 1, y) - struve(x + 1, y) + _struve_term(x, y)) / 2),
    )
    points = _ORDERS, _POSITIVE


struve: Struve = primitive(Struve)


class Modstruve(SciPyFunction):
    """Struve's modified function L of order x."""

    partials = (
        unknown("modstruve", "v"),
        (lambda x, y: (modstruve(x - 1, y) + modstruve(x + 1, y) + _struve_term(x, y)) / 2),
    )
    points = _ORDERS, _POSITIVE


modstruve: Modstruve = primitive(Modstruve)


class Itstruve0(SciPyFunction):
    """The integral of `struve` of order 0 from 0 to x."""

    partials = ((lambda x: struve(filled_like(x, 0), x)),)
    points = (_POSITIVE,)


itstruve0 = primitive(Itstruve0)


class Itmodstruve0(SciPyFunction):
    """The integral of `modstruve` of order 0 from 0 to x."""

    partials = ((lambda x: modstruve(filled_like(x, 0), x)),)
    points = (_POSITIVE,)


itmodstruve0 = primitive(Itmodstruve0)


class It2struve0(SciPyFunction):
    """The integral of H_0(t)/t from x to infinity."""

    partials = ((lambda x: -struve(filled_like(x, 0), x) / x),)
    points = (_POSITIVE,)


it2struve0 = primitive(It2struve0)


# Kelvin's functions: w = ber + i bei, and ker + i kei, have x² w'' + x w' = i x² w (DLMF 10.61.3).


class Ber(SciPyFunction):
    partials = ((lambda x: berp(x)),)
    points = (_POSITIVE,)


ber: Ber = primitive(Ber)


class Bei(SciPyFunction):
    partials = ((lambda x: beip(x)),)
    points = (_POSITIVE,)


bei: Bei = primitive(Bei)


class Berp(SciPyFunction):
    """The derivative of `ber`."""

    partials = ((lambda x, out: -bei(x) - out / x),)
    points = (_POSITIVE,)


berp: Berp = primitive(Berp)


class Beip(SciPyFunction):
    """The derivative of `bei`."""

    partials = ((lambda x, out: ber(x) - out / x),)
    points = (_POSITIVE,)


beip: Beip = primitive(Beip)


class Ker(SciPyFunction):
    partials = ((lambda x: kerp(x)),)
    points = (_POSITIVE,)


ker: Ker = primitive(Ker)


class Kei(SciPyFunction):
    partials = ((lambda x: keip(x)),)
    points = (_POSITIVE,)


kei: Kei = primitive(Kei)


class Kerp(SciPyFunction):
    """The derivative of `ker`."""

    partials = ((lambda x, out: -kei(x) - out / x),)
    points = (_POSITIVE,)


kerp: Kerp = primitive(Kerp)


class Keip(SciPyFunction):
    """The derivative of `kei`."""

    partials = ((lambda x, out: ker(x) - out / x),)
    points = (_POSITIVE,)


keip: Keip = primitive(Keip)
