"""SciPy's inverses of distributions in a parameter, and distributions of few rules."""

from __future__ import annotations

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.primitive import primitive
from vjpkit.ops import scipy_distributions as of
from vjpkit.ops.scipy_bessel import ive
from vjpkit.ops.scipy_errors import ROOT_TWO_PI, ndtri
from vjpkit.ops.scipy_special import SciPyFunction, unknown

_REAL = np.array([0.3, -1.2, 2.5])
_POSITIVE = np.array([0.4, 1.7, 5.0])
_FRACTION = np.array([0.3, 0.8, 0.05])


def _normal_density(x: Value) -> Value:
    return np.exp(-x * x / 2) / ROOT_TWO_PI


class Nrdtrimn(SciPyFunction):
    """The mean of a normal distribution of deviation y that has probability x below z."""

    partials = (
        (lambda x, y: -y / _normal_density(ndtri(x))),
        (lambda x: -ndtri(x)),
        (lambda z: 1 + 0 * z),
    )
    points = _FRACTION, _POSITIVE, _REAL


nrdtrimn = primitive(Nrdtrimn)


class Nrdtrisd(SciPyFunction):
    """The deviation of a normal distribution of mean x that has probability y below z."""

    linear = ((1, 0, 1),)
    partials = (
        (lambda y: -1 / ndtri(y)),
        (lambda x, y, z: -(z - x) / (ndtri(y) ** 2 * _normal_density(ndtri(y)))),
        (lambda y: 1 / ndtri(y)),
    )
    points = _REAL, _FRACTION, _POSITIVE


nrdtrisd = primitive(Nrdtrisd)


class Gdtrix(SciPyFunction):
    """The place z at which the gamma distribution of rate x and shape y has a probability."""

    partials = (
        (lambda x, out: -out / x),
        (lambda x, y, out: -of.gammainc_a(y, x * out, order=1) / _gamma_density(x, y, out)),
        (lambda x, y, out: 1 / _gamma_density(x, y, out)),
    )
    points = _POSITIVE, _POSITIVE[::-1], _FRACTION


gdtrix = primitive(Gdtrix)


def _gamma_density(x: Value, y: Value, z: Value) -> Value:
    """Of z, for rate x and shape y."""
    return x * of.gamma_density(y, x * z)


def _noncentral(x: Value, y: Value, z: Value) -> Value:
    """The noncentral chi-square density of x (Fisher, 1928)."""
    distance = (np.sqrt(x) - np.sqrt(z)) ** 2 / 2
    bessel = ive(y / 2 - 1, np.sqrt(x * z))
    return np.exp(-distance) * (x / z) ** (y / 4 - 0.5) * bessel / 2


class Chndtr(SciPyFunction):
    """The noncentral chi-square distribution of x, y degrees of freedom, noncentrality z."""

    partials = (
        _noncentral,
        unknown("chndtr", "df"),
        (lambda x, y, z: -_noncentral(x, y + 2, z)),
    )
    points = _POSITIVE, np.array([2.0, 4.0, 3.0]), np.array([0.4, 1.7, 1.0])


chndtr = primitive(Chndtr)
