"""SciPy's spherical Bessel functions of whole orders, where real numbers are not negative."""

from __future__ import annotations

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.primitive import primitive
from vjpkit.ops.scipy_special import SciPyFunction, whole
from vjpkit.ops.structural import to_dtype

_ORDERS = np.array([0, 1, 3])
_COARSE = {"analytic": "SciPy's complex values do not resolve a complex step"}
_POSITIVE = np.array([0.4, 1.7, 5.0])


def _neighbours(x: Value, y: Value, below: Value, above: Value) -> Value:
    """(x f of the order below + (x + 1) f of the order above) / (2 x + 1) (DLMF 10.51.1)."""
    n = to_dtype(x, aval_of(y).dtype)
    return (n * below + (n + 1) * above) / (2 * n + 1)


def _lower(x: Value) -> Value:
    """The order below, and 0 below 0, where it does not count."""
    return np.maximum(x, 1) - 1


class SphericalJn(SciPyFunction):
    function = "_spherical_jn"
    branches = _COARSE
    partials = (
        whole("spherical_jn", "n"),
        lambda x, y: _neighbours(x, y, spherical_jn(_lower(x), y), -spherical_jn(x + 1, y)),
    )
    points = _ORDERS, _POSITIVE


spherical_jn: SphericalJn = primitive(SphericalJn)


class SphericalYn(SciPyFunction):
    function = "_spherical_yn"
    branches = _COARSE
    partials = (
        whole("spherical_yn", "n"),
        lambda x, y: _neighbours(x, y, spherical_yn(_lower(x), y), -spherical_yn(x + 1, y)),
    )
    points = _ORDERS, _POSITIVE


spherical_yn: SphericalYn = primitive(SphericalYn)


class SphericalIn(SciPyFunction):
    function = "_spherical_in"
    partials = (
        whole("spherical_in", "n"),
        lambda x, y: _neighbours(x, y, spherical_in(_lower(x), y), spherical_in(x + 1, y)),
    )
    points = _ORDERS, _POSITIVE


spherical_in: SphericalIn = primitive(SphericalIn)


class SphericalKn(SciPyFunction):
    function = "_spherical_kn"
    partials = (
        whole("spherical_kn", "n"),
        lambda x, y: -_neighbours(x, y, spherical_kn(_lower(x), y), spherical_kn(x + 1, y)),
    )
    points = _ORDERS, _POSITIVE


spherical_kn: SphericalKn = primitive(SphericalKn)
