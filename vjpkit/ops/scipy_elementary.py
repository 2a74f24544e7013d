"""SciPy's exponentials, logarithms, entropies and losses, and functions of degrees."""

from __future__ import annotations

import math

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.primitive import primitive
from vjpkit.ops.scipy_special import SciPyFunction, by_series, refused, whole

_X = np.array([0.3, -1.2, 2.5])
_POSITIVE = np.array([0.4, 1.7, 30.0])
_SMALL = np.array([0.3, -0.8, 0.05])
_FRACTION = np.array([0.3, 0.8, 0.05])


class Expit(SciPyFunction):
    """The logistic function, 1 / (1 + exp(-x))."""

    partials = ((lambda x, out: out * expit(-x)),)


expit: Expit = primitive(Expit)


class LogExpit(SciPyFunction):
    """The logarithm of `expit`."""

    partials = ((lambda x: expit(-x)),)


log_expit = primitive(LogExpit)


class Logit(SciPyFunction):
    """The inverse of `expit`."""

    partials = ((lambda x: 1 / (x * (1 - x))),)
    points = (_FRACTION,)


logit = primitive(Logit)


class Exp10(SciPyFunction):
    """10 to the power x."""

    partials = ((lambda out: math.log(10) * out),)


exp10 = primitive(Exp10)


_EXPREL = [n / math.factorial(n + 1) for n in range(1, 17)]


def _exprel_x(x: Value, out: Value) -> Value:
    """(exp(x) - out) / x, near 0 by the sum of n x^(n-1) / (n+1)!."""
    return by_series(x, 0.5, _EXPREL, lambda x: out - (out - 1) / x)


class Exprel(SciPyFunction):
    """(exp(x) - 1) / x."""

    partials = (_exprel_x,)
    points = (np.array([0.3, -1.2, 2.5, 0.0]),)


exprel = primitive(Exprel)


class Xlogy(SciPyFunction):
    """x log(y), and 0 where x is 0."""

    linear = ((1, 0),)
    partials = (
        (lambda x, y: np.log(np.where((x == 0) & (y == 0), 1, y))),
        (lambda x, y: x / np.where((x == 0) & (y == 0), 1, y)),
    )
    points = _X, _POSITIVE


xlogy = primitive(Xlogy)


class Xlog1py(SciPyFunction):
    """x log(1 + y), and 0 where x is 0."""

    linear = ((1, 0),)
    partials = (
        (lambda x, y: np.log1p(np.where((x == 0) & (y == -1), 0, y))),
        (lambda x, y: x / np.where((x == 0) & (y == -1), 1, 1 + y)),
    )
    points = _X, _SMALL


xlog1py = primitive(Xlog1py)


class Entr(SciPyFunction):
    """-x log(x); minus infinity for negative x, where it is constant."""

    partials = ((lambda x: np.where(x < 0, 0, -1 - np.log(x))),)
    points = (_POSITIVE,)


entr = primitive(Entr)


class RelEntr(SciPyFunction):
    """x log(x / y)."""

    partials = (lambda x, y: 1 + np.log(x / y)), (lambda x, y: -x / y)
    points = _POSITIVE, _FRACTION


rel_entr = primitive(RelEntr)


class KlDiv(SciPyFunction):
    """x log(x / y) - x + y."""

    partials = (lambda x, y: np.log(x / y)), (lambda x, y: 1 - x / y)
    points = _POSITIVE, _FRACTION


kl_div = primitive(KlDiv)


class Boxcox(SciPyFunction):
    """(x^y - 1) / y, and log(x) where y is 0."""

    partials = (
        (lambda x, y: x ** (y - 1)),
        (lambda x, y: np.log(x) ** 2 * _exprel_x(y * np.log(x), exprel(y * np.log(x)))),
    )
    points = _POSITIVE, _X


boxcox = primitive(Boxcox)


class Boxcox1p(SciPyFunction):
    """`boxcox` of 1 + x."""

    partials = (
        (lambda x, y: (1 + x) ** (y - 1)),
        (lambda x, y: np.log1p(x) ** 2 * _exprel_x(y * np.log1p(x), exprel(y * np.log1p(x)))),
    )
    points = _POSITIVE, _X


boxcox1p = primitive(Boxcox1p)


_INV_BOXCOX = [(-1) ** (n + 1) * (n - 1) / n for n in range(2, 19)]


def _inv_boxcox_y(x: Value, y: Value, out: Value) -> Value:
    """out x² h(x y) with h(u) = (u / (1 + u) - log(1 + u)) / u², the sum of
    (-1)^(n+1) (n-1)/n u^(n-2)."""
    h = by_series(x * y, 0.1, _INV_BOXCOX, lambda u: (u / (1 + u) - np.log1p(u)) / (u * u))
    return out * x * x * h


class InvBoxcox(SciPyFunction):
    """The inverse of `boxcox` in x, (1 + x y)^(1 / y), and exp(x) where y is 0."""

    partials = (lambda y, out: out ** (1 - y)), _inv_boxcox_y
    points = _FRACTION, np.array([0.4, 0.0, 30.0])


inv_boxcox = primitive(InvBoxcox)


class InvBoxcox1p(SciPyFunction):
    """`inv_boxcox` - 1."""

    partials = (
        (lambda x, y, out: (1 + out) ** (1 - y)),
        (lambda x, y, out: _inv_boxcox_y(x, y, 1 + out)),
    )
    points = _FRACTION, np.array([0.4, 0.0, 30.0])


inv_boxcox1p = primitive(InvBoxcox1p)


class Huber(SciPyFunction):
    """Huber's loss of y: quadratic up to x, then linear."""

    partials = (
        (lambda x, y: np.where(np.abs(y) <= x, 0, np.abs(y) - x)),
        (lambda x, y: np.clip(y, -x, x)),
    )
    points = _POSITIVE, _X


huber = primitive(Huber)


class PseudoHuber(SciPyFunction):
    """x² (sqrt(1 + (y/x)²) - 1), a smooth `huber`."""

    partials = (
        (lambda x, y: 2 * x * (np.hypot(1, y / x) - 1) - y * (y / x) / np.hypot(1, y / x)),
        (lambda x, y: y / np.hypot(1, y / x)),
    )
    points = _POSITIVE, _X


pseudo_huber = primitive(PseudoHuber)


_DEGREE = math.pi / 180


class Sindg(SciPyFunction):
    """The sine of degrees."""

    partials = ((lambda x: _DEGREE * cosdg(x)),)
    points = (50 * _X,)


sindg = primitive(Sindg)


class Cosdg(SciPyFunction):
    """The cosine of degrees."""

    partials = ((lambda x: -_DEGREE * sindg(x)),)
    points = (50 * _X,)


cosdg: Cosdg = primitive(Cosdg)


class Tandg(SciPyFunction):
    """The tangent of degrees."""

    partials = ((lambda out: _DEGREE * (1 + out * out)),)
    points = (50 * _X,)


tandg = primitive(Tandg)


class Cotdg(SciPyFunction):
    """The cotangent of degrees."""

    partials = ((lambda out: -_DEGREE * (1 + out * out)),)
    points = (50 * _X,)


cotdg = primitive(Cotdg)


class Cosm1(SciPyFunction):
    """cos(x) - 1."""

    partials = ((lambda x: -np.sin(x)),)


cosm1 = primitive(Cosm1)


class Radian(SciPyFunction):
    """Degrees, minutes and seconds of arc in radians."""

    linear = ((1, 1, 1),)
    partials = (
        (lambda x: _DEGREE + 0 * x),
        (lambda y: _DEGREE / 60 + 0 * y),
        (lambda z: _DEGREE / 3600 + 0 * z),
    )
    points = 50 * _X, _POSITIVE, _SMALL


radian = primitive(Radian)


class Powm1(SciPyFunction):
    """x^y - 1."""

    partials = (lambda x, y: y * x ** (y - 1)), (lambda x, out: np.log(x) * (1 + out))
    points = _POSITIVE, _SMALL


powm1 = primitive(Powm1)


class Lambertw(SciPyFunction):
    """The solution w of w exp(w) = x on branch y, to a relative z; complex."""

    function = "_lambertw"
    partials = (
        (lambda out: np.exp(-out) / (1 + out)),
        whole("lambertw", "k"),
        refused(
            "scipy.special.lambertw: tol is no operand of the function", "Pass a plain number."
        ),
    )
    points = np.array([0.3, 1.2, 2.5 + 1j]), np.array([0, 0, -1]), np.array([1e-8, 1e-8, 1e-8])


lambertw: Lambertw = primitive(Lambertw)


class Wrightomega(SciPyFunction):
    """The solution w of w + log(w) = x."""

    partials = ((lambda out: out / (1 + out)),)
    points = (np.array([0.3, -1.2, 2.5]),)


wrightomega = primitive(Wrightomega)
