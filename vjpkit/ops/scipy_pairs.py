"""SciPy's functions that have several results: each is a primitive."""

from __future__ import annotations

import math

import numpy as np

from vjpkit.core.primitive import primitive
from vjpkit.ops.scipy_bessel import i0, j0, k0, y0
from vjpkit.ops.scipy_special import SciPyFunction, unknown

_X = np.array([0.3, -1.2, 2.5])
_POSITIVE = np.array([0.4, 1.7, 5.0])
_COARSE = {"analytic": "SciPy's complex values do not resolve a complex step"}


# Airy's functions have w'' = x w.


class Ai(SciPyFunction):
    branches = _COARSE
    function, place = "airy", 0
    partials = ((lambda x: aip(x)),)


ai: Ai = primitive(Ai)


class Aip(SciPyFunction):
    branches = _COARSE
    function, place = "airy", 1
    partials = ((lambda x: x * ai(x)),)


aip: Aip = primitive(Aip)


class Bi(SciPyFunction):
    branches = _COARSE
    function, place = "airy", 2
    partials = ((lambda x: bip(x)),)


bi: Bi = primitive(Bi)


class Bip(SciPyFunction):
    branches = _COARSE
    function, place = "airy", 3
    partials = ((lambda x: x * bi(x)),)


bip: Bip = primitive(Bip)


# Integrals.


class Si(SciPyFunction):
    """The integral of sin(t)/t from 0."""

    branches = _COARSE
    function, place = "sici", 0
    partials = ((lambda x: np.sinc(x / math.pi)),)


si = primitive(Si)


class Ci(SciPyFunction):
    """The integral of cos(t)/t from infinity."""

    branches = _COARSE
    function, place = "sici", 1
    partials = ((lambda x: np.cos(x) / x),)
    points = (_POSITIVE,)


ci = primitive(Ci)


class Shi(SciPyFunction):
    """The integral of sinh(t)/t from 0."""

    branches = _COARSE
    function, place = "shichi", 0
    partials = ((lambda x: np.sinh(x) / x),)


shi = primitive(Shi)


class Chi(SciPyFunction):
    """Euler's constant, log(x), and the integral of (cosh(t) - 1)/t from 0."""

    branches = _COARSE
    function, place = "shichi", 1
    partials = ((lambda x: np.cosh(x) / x),)
    points = (_POSITIVE,)


chi = primitive(Chi)


class FresnelS(SciPyFunction):
    function, place = "fresnel", 0
    partials = ((lambda x: np.sin(math.pi / 2 * x * x)),)


fresnel_s = primitive(FresnelS)


class FresnelC(SciPyFunction):
    function, place = "fresnel", 1
    partials = ((lambda x: np.cos(math.pi / 2 * x * x)),)


fresnel_c = primitive(FresnelC)


class IntegralJ0(SciPyFunction):
    function, place = "itj0y0", 0
    partials = ((lambda x: j0(x)),)
    points = (_POSITIVE,)


integral_j0 = primitive(IntegralJ0)


class IntegralY0(SciPyFunction):
    function, place = "itj0y0", 1
    partials = ((lambda x: y0(x)),)
    points = (_POSITIVE,)


integral_y0 = primitive(IntegralY0)


class IntegralI0(SciPyFunction):
    function, place = "iti0k0", 0
    partials = ((lambda x: i0(x)),)
    points = (_POSITIVE,)


integral_i0 = primitive(IntegralI0)


class IntegralK0(SciPyFunction):
    function, place = "iti0k0", 1
    partials = ((lambda x: k0(x)),)
    points = (_POSITIVE,)


integral_k0 = primitive(IntegralK0)


# Jacobi's elliptic functions of x (DLMF 22.13).

_PARAMETERS = np.array([0.3, 0.8, 0.05])


class Sn(SciPyFunction):
    function, place = "ellipj", 0
    partials = (lambda x, y: cn(x, y) * dn(x, y)), unknown("ellipj", "m")
    points = _X, _PARAMETERS


sn: Sn = primitive(Sn)


class Cn(SciPyFunction):
    function, place = "ellipj", 1
    partials = (lambda x, y: -sn(x, y) * dn(x, y)), unknown("ellipj", "m")
    points = _X, _PARAMETERS


cn: Cn = primitive(Cn)


class Dn(SciPyFunction):
    function, place = "ellipj", 2
    partials = (lambda x, y: -y * sn(x, y) * cn(x, y)), unknown("ellipj", "m")
    points = _X, _PARAMETERS


dn: Dn = primitive(Dn)


class Am(SciPyFunction):
    """The amplitude."""

    function, place = "ellipj", 3
    partials = (lambda x, y: dn(x, y)), unknown("ellipj", "m")
    points = _X, _PARAMETERS


am = primitive(Am)


# Parabolic cylinder functions of order x: D'' = (y²/4 - x - 1/2) D, and so has V (DLMF 12.2).


class Pbdv0(SciPyFunction):
    function, place = "pbdv", 0
    partials = unknown("pbdv", "v"), (lambda x, y: pbdv1(x, y))
    points = np.array([0.5, 2.0, 1.3]), _X


pbdv0: Pbdv0 = primitive(Pbdv0)


class Pbdv1(SciPyFunction):
    function, place = "pbdv", 1
    partials = unknown("pbdv", "v"), (lambda x, y: (y * y / 4 - x - 0.5) * pbdv0(x, y))
    points = np.array([0.5, 2.0, 1.3]), _X


pbdv1: Pbdv1 = primitive(Pbdv1)
