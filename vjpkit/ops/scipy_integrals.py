"""SciPy's exponential integrals, dilogarithm, elliptic integrals, and functions like them."""

from __future__ import annotations

import math

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.primitive import primitive
from vjpkit.ops.scipy_special import SciPyFunction, by_series, unknown, whole

_POSITIVE = np.array([0.4, 1.7, 30.0])
_CUT = {"analytic": "a complex step goes off from a branch cut"}
_SMALL = np.array([0.3, -0.8, 0.05])
_FRACTION = np.array([0.3, 0.8, 0.05])


class Exp1(SciPyFunction):
    """The integral of exp(-t)/t from x to infinity."""

    partials = ((lambda x: -np.exp(-x) / x),)
    points = (_POSITIVE,)


exp1 = primitive(Exp1)


def _expn_x(x: Value, y: Value) -> Value:
    """-E of the order before, which is exp(-y)/y for order 0 and has that integral's derivative."""
    lowest = x == 0
    before = expn(np.where(lowest, 1, x) - 1, y)
    return -np.where(lowest, np.exp(-y) * (1 + 1 / y) / y, before)


class Expn(SciPyFunction):
    """The integral of exp(-y t) / t^x from 1 to infinity, for whole numbers x."""

    partials = whole("expn", "n"), _expn_x
    points = np.array([3, 1, 2]), _POSITIVE


expn: Expn = primitive(Expn)


class Expi(SciPyFunction):
    """The exponential integral, whose derivative is exp(x)/x."""

    branches = _CUT
    partials = ((lambda x: np.exp(x) / x),)


expi = primitive(Expi)


_SPENCE = [-((-1) ** n) / (n + 1) for n in range(18)]


def _spence_x(x: Value) -> Value:
    """log(x) / (1 - x)."""
    return by_series(x - 1, 0.1, _SPENCE, lambda off: -np.log1p(off) / off)


class Spence(SciPyFunction):
    """The dilogarithm of 1 - x."""

    partials = (_spence_x,)
    points = (_POSITIVE,)


spence = primitive(Spence)


# The integrals are the sums of these times x^n, E with a factor 1 / (1 - 2n).
_ELLIPTIC = [math.pi / 2 * (math.comb(2 * n, n) / 4**n) ** 2 for n in range(20)]
_ELLIPE_X = [n / (1 - 2 * n) * c for n, c in enumerate(_ELLIPTIC)][1:]
_ELLIPK_X = [n * c for n, c in enumerate(_ELLIPTIC)][1:]


def _ellipe_x(x: Value, out: Value) -> Value:
    """(E - K) / (2 x)."""
    return by_series(x, 0.1, _ELLIPE_X, lambda m: (out - ellipk(x)) / (2 * m))


def _ellipk_x(x: Value, out: Value) -> Value:
    """(E / (1 - x) - K) / (2 x)."""
    return by_series(x, 0.1, _ELLIPK_X, lambda m: (ellipe(x) / (1 - x) - out) / (2 * m))


def _ellipkm1_x(x: Value, out: Value) -> Value:
    """The same at 1 - x, with the opposite sign, and ``x`` itself near 0."""
    return -by_series(1 - x, 0.1, _ELLIPK_X, lambda m: (ellipe(1 - x) / x - out) / (2 * m))


class Ellipe(SciPyFunction):
    """The complete elliptic integral of the second kind, of the parameter."""

    partials = (_ellipe_x,)
    points = (_SMALL,)


ellipe = primitive(Ellipe)


class Ellipk(SciPyFunction):
    """The complete elliptic integral of the first kind, of the parameter."""

    partials = (_ellipk_x,)
    points = (_SMALL,)


ellipk = primitive(Ellipk)


class Ellipkm1(SciPyFunction):
    """`ellipk` of 1 - x."""

    partials = (_ellipkm1_x,)
    points = (_FRACTION,)


ellipkm1 = primitive(Ellipkm1)


class Hyp1f1(SciPyFunction):
    """Kummer's function 1F1(x, y; z), whose derivative in z is x/y of the next one."""

    real = True
    partials = (
        unknown("hyp1f1", "a"),
        unknown("hyp1f1", "b"),
        (lambda x, y, z: x / y * hyp1f1(x + 1, y + 1, z)),
    )
    points = _FRACTION, _FRACTION + 0.7, _SMALL


hyp1f1: Hyp1f1 = primitive(Hyp1f1)


def _lpmv_x(x: Value, y: Value, z: Value, out: Value) -> Value:
    return (y * z * out - (x + y) * lpmv(x, y - 1, z)) / (z * z - 1)


class Lpmv(SciPyFunction):
    """The associated Legendre function of degree y and whole order x."""

    partials = unknown("lpmv", "m"), unknown("lpmv", "v"), _lpmv_x
    points = np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.5, 3.0]), _SMALL


lpmv: Lpmv = primitive(Lpmv)


class Hyp0f1(SciPyFunction):
    """0F1(x; y), whose derivative in y is 1/x of the next one."""

    branches = {"analytic": "SciPy's complex values do not resolve a complex step"}
    partials = unknown("hyp0f1", "v"), (lambda x, y: hyp0f1(x + 1, y) / x)
    points = _FRACTION + 0.7, _SMALL


hyp0f1: Hyp0f1 = primitive(Hyp0f1)


class Hyperu(SciPyFunction):
    """Tricomi's function U(x, y, z), whose derivative in z is -x of the next one."""

    partials = (
        unknown("hyperu", "a"),
        unknown("hyperu", "b"),
        (lambda x, y, z: -x * hyperu(x + 1, y + 1, z)),
    )
    points = _FRACTION, _FRACTION + 0.7, np.array([0.4, 1.7, 3.0])


hyperu: Hyperu = primitive(Hyperu)


class WrightBessel(SciPyFunction):
    """Wright's function of z, sum of z^k / (k! Gamma(x k + y))."""

    partials = (
        unknown("wright_bessel", "a"),
        unknown("wright_bessel", "b"),
        (lambda x, y, z: wright_bessel(x, x + y, z)),
    )
    points = _FRACTION + 0.5, _FRACTION + 0.7, _POSITIVE[:2].repeat(2)[:3]


wright_bessel: WrightBessel = primitive(WrightBessel)


class LogWrightBessel(SciPyFunction):
    """The logarithm of `wright_bessel`."""

    partials = (
        unknown("log_wright_bessel", "a"),
        unknown("log_wright_bessel", "b"),
        (lambda x, y, z, out: np.exp(log_wright_bessel(x, x + y, z) - out)),
    )
    points = _FRACTION + 0.5, _FRACTION + 0.7, _POSITIVE[:2].repeat(2)[:3]


log_wright_bessel: LogWrightBessel = primitive(LogWrightBessel)
