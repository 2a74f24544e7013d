"""SciPy's error functions and the normal distribution."""

from __future__ import annotations

import math

import numpy as np

from vjpkit.core.primitive import primitive
from vjpkit.ops.scipy_special import SciPyFunction

_SMALL = np.array([0.3, -0.8, 0.05])
_FRACTION = np.array([0.3, 0.8, 0.05])
_HALF_ROOT_PI = math.sqrt(math.pi) / 2
ROOT_TWO_PI = math.sqrt(2 * math.pi)


class Erf(SciPyFunction):
    """2/sqrt(pi) times the integral of exp(-t²) from 0 to x."""

    partials = ((lambda x: np.exp(-x * x) / _HALF_ROOT_PI),)


erf = primitive(Erf)


class Erfc(SciPyFunction):
    """1 - erf(x), without cancellation."""

    partials = ((lambda x: np.exp(-x * x) / -_HALF_ROOT_PI),)


erfc = primitive(Erfc)


class Erfcx(SciPyFunction):
    """exp(x²) erfc(x)."""

    partials = ((lambda x, out: 2 * x * out - 1 / _HALF_ROOT_PI),)


erfcx = primitive(Erfcx)


class Erfi(SciPyFunction):
    """-i erf(i x)."""

    partials = ((lambda x: np.exp(x * x) / _HALF_ROOT_PI),)


erfi = primitive(Erfi)


class Dawsn(SciPyFunction):
    """Dawson's integral, sqrt(pi)/2 exp(-x²) erfi(x)."""

    partials = ((lambda x, out: 1 - 2 * x * out),)


dawsn = primitive(Dawsn)


class ErfInv(SciPyFunction):
    """The inverse of erf."""

    function = "erfinv"
    partials = ((lambda out: _HALF_ROOT_PI * np.exp(out * out)),)
    points = (_SMALL,)


erf_inv = primitive(ErfInv)


class ErfcInv(SciPyFunction):
    """The inverse of erfc."""

    function = "erfcinv"
    partials = ((lambda out: -_HALF_ROOT_PI * np.exp(out * out)),)
    points = (_FRACTION,)


erfc_inv = primitive(ErfcInv)


class Ndtr(SciPyFunction):
    """The distribution function of the standard normal distribution."""

    partials = ((lambda x: np.exp(-0.5 * x * x) / ROOT_TWO_PI),)


ndtr = primitive(Ndtr)


class LogNdtr(SciPyFunction):
    """The logarithm of `ndtr`."""

    partials = ((lambda x, out: np.exp(-0.5 * x * x - out) / ROOT_TWO_PI),)


log_ndtr = primitive(LogNdtr)


class Ndtri(SciPyFunction):
    """The inverse of `ndtr`."""

    partials = ((lambda out: ROOT_TWO_PI * np.exp(0.5 * out * out)),)
    points = (_FRACTION,)


ndtri = primitive(Ndtri)
