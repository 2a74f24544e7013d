"""SciPy's distribution functions: their derivative is a density, that of an inverse 1 over it.

The parameters of a distribution have no derivative here, where no formula is known.
"""

from __future__ import annotations

import math

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.primitive import primitive
from vjpkit.ops.scipy_elementary import xlog1py, xlogy
from vjpkit.ops.scipy_gamma import betaln, lgamma
from vjpkit.ops.scipy_special import SciPyFunction, unknown

_SHAPES = np.array([0.7, 2.0, 5.5])
_OTHERS = np.array([1.1, 0.6, 3.0])
_FREEDOM = np.array([0.7, 2.0, np.inf])
_BETWEEN = np.array([0.4, 1.7, 3.9])
_POSITIVE = np.array([0.4, 1.7, 4.0])
_FRACTION = np.array([0.3, 0.8, 0.6])
_REAL = np.array([0.3, -1.2, 2.5])


# Densities: the last operand is where, those before it are parameters.


def _gamma_density(x: Value, y: Value) -> Value:
    return np.exp(xlogy(x - 1, y) - y - lgamma(x))


def _beta_density(x: Value, y: Value, z: Value) -> Value:
    return np.exp(xlogy(x - 1, z) + xlog1py(y - 1, -z) - betaln(x, y))


def _chi_square_density(x: Value, y: Value) -> Value:
    return _gamma_density(x / 2, y / 2) / 2


def _t_density(x: Value, y: Value) -> Value:
    """Student's density; the normal one for infinitely many degrees of freedom."""
    limit = np.isinf(x)
    v = np.where(limit, 1, x)
    log = -np.log1p(y * y / v) * (v + 1) / 2 - betaln(v / 2, 0.5) - np.log(v) / 2
    return np.exp(np.where(limit, -y * y / 2 - math.log(2 * math.pi) / 2, log))


def _f_density(x: Value, y: Value, z: Value) -> Value:
    log = xlogy(x / 2 - 1, z) + x / 2 * np.log(x / y) - (x + y) / 2 * np.log1p(x * z / y)
    return np.exp(log - betaln(x / 2, y / 2))


def _poisson_mass(x: Value, y: Value) -> Value:
    k = np.floor(x)
    return np.exp(xlogy(k, y) - y - lgamma(k + 1))


class Gammainc(SciPyFunction):
    """The regularized lower incomplete gamma function."""

    partials = unknown("gammainc", "a"), _gamma_density
    points = _SHAPES, _POSITIVE


gammainc = primitive(Gammainc)


class Gammaincc(SciPyFunction):
    """The regularized upper incomplete gamma function."""

    partials = unknown("gammaincc", "a"), (lambda x, y: -_gamma_density(x, y))
    points = _SHAPES, _POSITIVE


gammaincc = primitive(Gammaincc)


class Gammaincinv(SciPyFunction):
    """The inverse of `gammainc` in x."""

    partials = unknown("gammaincinv", "a"), (lambda x, out: 1 / _gamma_density(x, out))
    points = _SHAPES, _FRACTION


gammaincinv = primitive(Gammaincinv)


class Gammainccinv(SciPyFunction):
    """The inverse of `gammaincc` in x."""

    partials = unknown("gammainccinv", "a"), (lambda x, out: -1 / _gamma_density(x, out))
    points = _SHAPES, _FRACTION


gammainccinv = primitive(Gammainccinv)


class Chdtr(SciPyFunction):
    """The chi-square distribution with x degrees of freedom."""

    partials = unknown("chdtr", "v"), _chi_square_density
    points = _SHAPES, _POSITIVE


chdtr = primitive(Chdtr)


class Chdtrc(SciPyFunction):
    """The upper tail of `chdtr`."""

    partials = unknown("chdtrc", "v"), (lambda x, y: -_chi_square_density(x, y))
    points = _SHAPES, _POSITIVE


chdtrc = primitive(Chdtrc)


class Chdtri(SciPyFunction):
    """The inverse of `chdtrc`."""

    partials = unknown("chdtri", "v"), (lambda x, out: -1 / _chi_square_density(x, out))
    points = _SHAPES, _FRACTION


chdtri = primitive(Chdtri)


class Stdtr(SciPyFunction):
    """Student's t distribution with x degrees of freedom."""

    partials = unknown("stdtr", "df"), _t_density
    points = _FREEDOM, _REAL


stdtr = primitive(Stdtr)


class Stdtrit(SciPyFunction):
    """The inverse of `stdtr` in t."""

    partials = unknown("stdtrit", "df"), (lambda x, out: 1 / _t_density(x, out))
    points = _FREEDOM, _FRACTION


stdtrit = primitive(Stdtrit)


class Betainc(SciPyFunction):
    """The regularized incomplete beta function."""

    partials = (
        unknown("betainc", "a"),
        unknown("betainc", "b"),
        _beta_density,
    )
    points = _SHAPES, _OTHERS, _FRACTION


betainc = primitive(Betainc)


class Betaincc(SciPyFunction):
    """1 - `betainc`, without cancellation."""

    partials = (
        unknown("betaincc", "a"),
        unknown("betaincc", "b"),
        (lambda x, y, z: -_beta_density(x, y, z)),
    )
    points = _SHAPES, _OTHERS, _FRACTION


betaincc = primitive(Betaincc)


class Betaincinv(SciPyFunction):
    """The inverse of `betainc` in x."""

    partials = (
        unknown("betaincinv", "a"),
        unknown("betaincinv", "b"),
        (lambda x, y, out: 1 / _beta_density(x, y, out)),
    )
    points = _SHAPES, _OTHERS, _FRACTION


betaincinv = primitive(Betaincinv)


class Betainccinv(SciPyFunction):
    """The inverse of `betaincc` in x."""

    partials = (
        unknown("betainccinv", "a"),
        unknown("betainccinv", "b"),
        (lambda x, y, out: -1 / _beta_density(x, y, out)),
    )
    points = _SHAPES, _OTHERS, _FRACTION


betainccinv = primitive(Betainccinv)


class Fdtr(SciPyFunction):
    """The F distribution with x and y degrees of freedom."""

    partials = unknown("fdtr", "dfn"), unknown("fdtr", "dfd"), _f_density
    points = _SHAPES, _OTHERS, _POSITIVE


fdtr = primitive(Fdtr)


class Fdtrc(SciPyFunction):
    """The upper tail of `fdtr`."""

    partials = (
        unknown("fdtrc", "dfn"),
        unknown("fdtrc", "dfd"),
        (lambda x, y, z: -_f_density(x, y, z)),
    )
    points = _SHAPES, _OTHERS, _POSITIVE


fdtrc = primitive(Fdtrc)


class Fdtri(SciPyFunction):
    """The inverse of `fdtr`."""

    partials = (
        unknown("fdtri", "dfn"),
        unknown("fdtri", "dfd"),
        (lambda x, y, out: 1 / _f_density(x, y, out)),
    )
    points = _SHAPES, _OTHERS, _FRACTION


fdtri = primitive(Fdtri)


class Gdtr(SciPyFunction):
    """The gamma distribution of z with rate x and shape y."""

    partials = (
        (lambda x, y, z: z * _gamma_density(y, x * z)),
        unknown("gdtr", "b"),
        (lambda x, y, z: x * _gamma_density(y, x * z)),
    )
    points = _OTHERS, _SHAPES, _POSITIVE


gdtr = primitive(Gdtr)


class Gdtrc(SciPyFunction):
    """The upper tail of `gdtr`."""

    partials = (
        (lambda x, y, z: -z * _gamma_density(y, x * z)),
        unknown("gdtrc", "b"),
        (lambda x, y, z: -x * _gamma_density(y, x * z)),
    )
    points = _OTHERS, _SHAPES, _POSITIVE


gdtrc = primitive(Gdtrc)


class Pdtr(SciPyFunction):
    """The Poisson distribution with mean y, a step function of x."""

    partials = None, (lambda x, y: -_poisson_mass(x, y))
    points = _BETWEEN, _SHAPES


pdtr = primitive(Pdtr)


class Pdtrc(SciPyFunction):
    """The upper tail of `pdtr`."""

    partials = None, _poisson_mass
    points = _BETWEEN, _SHAPES


pdtrc = primitive(Pdtrc)
