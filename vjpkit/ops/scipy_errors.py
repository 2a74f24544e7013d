"""SciPy's error functions and the normal distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.primitive import primitive
from vjpkit.ops.scipy_special import SciPyFunction
from vjpkit.ops.structural import to_dtype

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


class Wofz(SciPyFunction):
    """exp(-x²) erfc(-i x), of complex numbers."""

    partials = ((lambda x, out: 2j / math.sqrt(math.pi) - 2 * x * out),)
    points = (np.array([0.3 + 0.2j, -1.2 + 1j, 2.5 - 0.3j]),)

    def as_computed(self, xs: Sequence[Value]) -> Sequence[Value]:
        """Complex, as SciPy computes them."""
        (x,) = xs
        return [to_dtype(x, self.ufunc.resolve_dtypes((aval_of(x).dtype, None))[0])]


wofz: Wofz = primitive(Wofz)


def _voigt(x: Value, y: Value, z: Value) -> Value:
    return (x + 1j * z) / (math.sqrt(2) * y)


def _voigt_moved(x: Value, y: Value, z: Value) -> Value:
    """The derivative of `wofz` there, as it scales the profile."""
    place = _voigt(x, y, z)
    slope = 2j / math.sqrt(math.pi) - 2 * place * wofz(place)
    return slope / (math.sqrt(2) * ROOT_TWO_PI * y * y)


class VoigtProfile(SciPyFunction):
    """Of x, a normal density of deviation y, convolved with Cauchy's of half width z."""

    partials = (
        (lambda x, y, z: np.real(_voigt_moved(x, y, z))),
        (lambda x, y, z, out: -out / y - np.real((x + 1j * z) * _voigt_moved(x, y, z)) / y),
        (lambda x, y, z: -np.imag(_voigt_moved(x, y, z))),
    )
    points = np.array([0.3, -1.2, 2.5]), np.array([0.4, 1.7, 1.0]), np.array([0.3, 0.8, 0.05])


voigt_profile = primitive(VoigtProfile)


class NdtriExp(SciPyFunction):
    """The x of which `log_ndtr` is given."""

    partials = ((lambda x, out: ROOT_TWO_PI * np.exp(x + out * out / 2)),)
    points = (np.array([-0.3, -1.2, -5.0]),)


ndtri_exp = primitive(NdtriExp)


class OwensT(SciPyFunction):
    """Owen's function: exp(-x² (1 + t²)/2) / (1 + t²), over 2 pi, integrated from 0 to y."""

    partials = (
        (lambda x, y: -np.exp(-x * x / 2) * erf(x * y / math.sqrt(2)) / (2 * ROOT_TWO_PI)),
        (lambda x, y: np.exp(-x * x * (1 + y * y) / 2) / (2 * math.pi * (1 + y * y))),
    )
    points = np.array([0.3, -1.2, 2.5]), np.array([0.3, -0.8, 1.5])


owens_t = primitive(OwensT)


_THETA = range(1, 8)


def _kolmogorov_x(x: Value) -> Value:
    """From the sum of (-1)^(k-1) exp(-2 k² x²), for small x by the theta function's other one."""
    near = x < 0.8
    small, large = np.where(near, np.where(x == 0, 1, x), 0.8), np.where(near, 0.8, x)
    far = sum([8 * (-1) ** k * k * k * large * np.exp(-2 * k * k * large**2) for k in _THETA])
    square = small * small
    parts = []
    for k in _THETA:
        c = ((2 * k - 1) * math.pi) ** 2 / 8
        parts.append((1 - 2 * c / square) * np.exp(-c / square))
    close = ROOT_TWO_PI / square * sum(parts[1:], parts[0])
    return np.where(near, np.where(x <= 0, 0, close), far)


class Kolmogorov(SciPyFunction):
    """The upper tail of Kolmogorov's distribution."""

    partials = (_kolmogorov_x,)
    points = (np.array([0.4, 0.7, 1.9]),)


kolmogorov = primitive(Kolmogorov)


class Kolmogi(SciPyFunction):
    """The inverse of `kolmogorov`."""

    partials = ((lambda out: 1 / _kolmogorov_x(out)),)
    points = (_FRACTION,)


kolmogi = primitive(Kolmogi)
