"""SciPy's orthogonal polynomials and functions, whose degree is a parameter."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.primitive import primitive
from vjpkit.core.tracer import Tracer
from vjpkit.ops.scipy_special import SciPyFunction, special, unknown, whole
from vjpkit.ops.structural import to_dtype

_X = np.array([0.3, -0.8, 0.95])
_DEGREES = np.array([3, 0, 2])
_SHAPES = np.array([0.4, 1.7, 3.0])
_UNIT = np.array([0.3, 0.8, 0.95])


def _lowered(n: Value, value: Value) -> Value:
    """What the next lower degree contributes; a constant has none."""
    return np.where(n == 0, 0, value)


def _below(n: Value) -> Value:
    return np.where(n == 0, 1, n) - 1


class EvalJacobi(SciPyFunction):
    """DLMF 18.9.15."""

    partials = (
        unknown("eval_jacobi", "n"),
        unknown("eval_jacobi", "alpha"),
        unknown("eval_jacobi", "beta"),
        lambda x, y, z, w: _lowered(
            x, (x + y + z + 1) / 2 * eval_jacobi(_below(x), y + 1, z + 1, w)
        ),
    )
    points = _DEGREES, _SHAPES, _SHAPES[::-1], _X


eval_jacobi: EvalJacobi = primitive(EvalJacobi)


class EvalShJacobi(SciPyFunction):
    """A multiple of Jacobi's polynomial of 2 w - 1, monic."""

    partials = (
        unknown("eval_sh_jacobi", "n"),
        unknown("eval_sh_jacobi", "p"),
        unknown("eval_sh_jacobi", "q"),
        lambda x, y, z, w: _lowered(x, x * eval_sh_jacobi(_below(x), y + 2, z + 1, w)),
    )
    points = _DEGREES, _SHAPES + 2, _SHAPES[::-1], _UNIT


eval_sh_jacobi: EvalShJacobi = primitive(EvalShJacobi)


class EvalGegenbauer(SciPyFunction):
    """DLMF 18.9.19."""

    partials = (
        unknown("eval_gegenbauer", "n"),
        unknown("eval_gegenbauer", "alpha"),
        lambda x, y, z: _lowered(x, 2 * y * eval_gegenbauer(_below(x), y + 1, z)),
    )
    points = _DEGREES, _SHAPES, _X


eval_gegenbauer: EvalGegenbauer = primitive(EvalGegenbauer)


class EvalGenlaguerre(SciPyFunction):
    """DLMF 18.9.23."""

    partials = (
        unknown("eval_genlaguerre", "n"),
        unknown("eval_genlaguerre", "alpha"),
        lambda x, y, z: _lowered(x, -eval_genlaguerre(_below(x), y + 1, z)),
    )
    points = _DEGREES, _SHAPES, _X


eval_genlaguerre: EvalGenlaguerre = primitive(EvalGenlaguerre)


class EvalLaguerre(SciPyFunction):
    partials = (
        unknown("eval_laguerre", "n"),
        lambda x, y: _lowered(x, -eval_genlaguerre(_below(x), 1.0, y)),
    )
    points = _DEGREES, _X


eval_laguerre = primitive(EvalLaguerre)


class EvalHermite(SciPyFunction):
    """DLMF 18.9.25."""

    partials = (
        whole("eval_hermite", "n"),
        lambda x, y: _lowered(x, 2 * x * eval_hermite(_below(x), y)),
    )
    points = _DEGREES, _X


eval_hermite: EvalHermite = primitive(EvalHermite)


class EvalHermitenorm(SciPyFunction):
    """DLMF 18.9.27."""

    partials = (
        whole("eval_hermitenorm", "n"),
        lambda x, y: _lowered(x, x * eval_hermitenorm(_below(x), y)),
    )
    points = _DEGREES, _X


eval_hermitenorm: EvalHermitenorm = primitive(EvalHermitenorm)


class EvalLegendre(SciPyFunction):
    partials = (
        unknown("eval_legendre", "n"),
        lambda x, y: _lowered(x, eval_gegenbauer(_below(x), 1.5, y)),
    )
    points = _DEGREES, _X


eval_legendre = primitive(EvalLegendre)


class EvalShLegendre(SciPyFunction):
    partials = (
        unknown("eval_sh_legendre", "n"),
        lambda x, y: _lowered(x, 2 * eval_gegenbauer(_below(x), 1.5, 2 * y - 1)),
    )
    points = _DEGREES, _UNIT


eval_sh_legendre = primitive(EvalShLegendre)


class EvalChebyu(SciPyFunction):
    partials = (
        unknown("eval_chebyu", "n"),
        lambda x, y: _lowered(x, 2 * eval_gegenbauer(_below(x), 2.0, y)),
    )
    points = _DEGREES, _X


eval_chebyu = primitive(EvalChebyu)


class EvalChebyt(SciPyFunction):
    """DLMF 18.9.21."""

    partials = (
        unknown("eval_chebyt", "n"),
        lambda x, y: _lowered(x, x * eval_chebyu(_below(x), y)),
    )
    points = _DEGREES, _X


eval_chebyt = primitive(EvalChebyt)


class EvalShChebyt(SciPyFunction):
    partials = (
        unknown("eval_sh_chebyt", "n"),
        lambda x, y: _lowered(x, 2 * x * eval_chebyu(_below(x), 2 * y - 1)),
    )
    points = _DEGREES, _UNIT


eval_sh_chebyt = primitive(EvalShChebyt)


class EvalShChebyu(SciPyFunction):
    partials = (
        unknown("eval_sh_chebyu", "n"),
        lambda x, y: _lowered(x, 4 * eval_gegenbauer(_below(x), 2.0, 2 * y - 1)),
    )
    points = _DEGREES, _UNIT


eval_sh_chebyu = primitive(EvalShChebyu)


class EvalChebys(SciPyFunction):
    partials = (
        unknown("eval_chebys", "n"),
        lambda x, y: _lowered(x, eval_gegenbauer(_below(x), 2.0, y / 2)),
    )
    points = _DEGREES, _X


eval_chebys = primitive(EvalChebys)


class EvalChebyc(SciPyFunction):
    partials = (
        unknown("eval_chebyc", "n"),
        lambda x, y: _lowered(x, x * eval_chebyu(_below(x), y / 2)),
    )
    points = _DEGREES, _X


eval_chebyc = primitive(EvalChebyc)


class Hyp2f1(SciPyFunction):
    """Gauss's function of w, whose derivative is x y / z of the next one (DLMF 15.5.1)."""

    partials = (
        unknown("hyp2f1", "a"),
        unknown("hyp2f1", "b"),
        unknown("hyp2f1", "c"),
        lambda x, y, z, w: x * y / z * hyp2f1(x + 1, y + 1, z + 1, w),
    )
    points = _SHAPES, _SHAPES[::-1], _SHAPES + 1, np.array([0.3, -0.8, 0.5])


hyp2f1: Hyp2f1 = primitive(Hyp2f1)


class SphTheta(SciPyFunction):
    """The spherical harmonic of degree x and order y at the longitude 0.

    Its derivative in the polar angle is half the difference of what the ladder operators make. It
    is a function of the angle's cosine: even about 0 and pi.
    """

    partials = (
        whole("sph_harm_y", "n"),
        whole("sph_harm_y", "m"),
        lambda x, y, z: np.where(np.sin(z) < 0, -0.5, 0.5) * _climbed(x, y, z),
    )
    own = True
    points = np.array([3, 0, 2]), np.array([1, 0, -2]), np.array([0.3, 1.2, 2.5])
    exempt = {}

    @cached_property
    def ufunc(self) -> Any:  # type: ignore[override]  # known later than the class
        """SciPy's function, real at this longitude."""
        return AtZero()


def _climbed(x: Value, y: Value, z: Value) -> Value:
    up, down = sph_theta(x, y + 1, z), sph_theta(x, y - 1, z)
    return _ladder(x, y, z) * up - _ladder(x, -y, z) * down


class AtZero:
    """`sph_harm_y` at the longitude 0, where it is real."""

    nin, nout, __name__ = 3, 0, "sph_harm_y"

    def __call__(self, x: Value, y: Value, z: Value) -> Value:
        if any(isinstance(v, Tracer) for v in (x, y, z)):  # as NumPy hands on what ufuncs get
            return sph_theta(x, y, z)
        return np.real(special().sph_harm_y(x, y, z, np.zeros((), np.asarray(z).dtype)))

    def resolve_dtypes(self, dtypes: Sequence[Any]) -> tuple[Any, ...]:
        """Whole numbers, whole numbers, and an angle in double precision, as beside integers."""
        if not np.can_cast(dtypes[2], np.float64):
            raise TypeError(f"sph_harm_y of {dtypes[2]} is not supported")
        angle = np.dtype(float)
        return np.dtype("long"), np.dtype("long"), angle, angle


def _ladder(x: Value, y: Value, z: Value) -> Value:
    """sqrt((x - y) (x + y + 1)), 0 beyond the last order."""
    return np.sqrt(to_dtype(np.maximum((x - y) * (x + y + 1), 0), aval_of(z).dtype))


sph_theta: SphTheta = primitive(SphTheta)
