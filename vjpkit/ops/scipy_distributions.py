"""SciPy's distribution functions: their derivative is a density, that of an inverse 1 over it.

Derivatives in the parameters of a distribution are those of the incomplete gamma and beta functions
in theirs, which `scipy_quadrature` computes; they have derivatives too, but not these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import at, calling_position
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.tracer import bind
from vjpkit.kinds import General
from vjpkit.ops.scipy_elementary import xlog1py, xlogy
from vjpkit.ops.scipy_gamma import betaln, digamma, lgamma, polygamma
from vjpkit.ops.scipy_quadrature import beta_derivative, factor, gamma_derivative
from vjpkit.ops.scipy_special import SciPyFunction, whole
from vjpkit.ops.structural import to_dtype

_SHAPES = np.array([0.7, 2.0, 5.5])
_OTHERS = np.array([1.1, 0.6, 3.0])
_FREEDOM = np.array([0.7, 2.0, 60.0])
_COUNTS = np.array([0, 2, 4])
_TRIALS = np.array([5, 7, 6])
_BETWEEN = np.array([0.4, 1.7, 3.9])
_POSITIVE = np.array([0.4, 1.7, 4.0])
_FRACTION = np.array([0.3, 0.8, 0.6])
_REAL = np.array([0.3, -1.2, 2.5])


# Densities: the last operand is where, those before it are parameters.


def gamma_density(x: Value, y: Value) -> Value:
    return np.exp(xlogy(x - 1, y) - y - lgamma(x))


def _beta_density(x: Value, y: Value, z: Value) -> Value:
    return np.exp(xlogy(x - 1, z) + xlog1py(y - 1, -z) - betaln(x, y))


def _chi_square_density(x: Value, y: Value) -> Value:
    return gamma_density(x / 2, y / 2) / 2


def _t_density(x: Value, y: Value) -> Value:
    """Student's density; the normal one for infinitely many degrees of freedom."""
    limit = np.isinf(x)
    v = np.where(limit, 1, x)
    log = -np.log1p(y * y / v) * (v + 1) / 2 - betaln(v / 2, 0 * v + 0.5) - np.log(v) / 2
    return np.exp(np.where(limit, -y * y / 2 - math.log(2 * math.pi) / 2, log))


def _f_density(x: Value, y: Value, z: Value) -> Value:
    log = xlogy(x / 2 - 1, z) + x / 2 * np.log(x / y) - (x + y) / 2 * np.log1p(x * z / y)
    return np.exp(log - betaln(x / 2, y / 2))


def _poisson_mass(x: Value, y: Value) -> Value:
    k = np.floor(x)
    return np.exp(xlogy(k, y) - y - lgamma(k + 1))


# Derivatives in the parameters.


class ParameterDerivative(General):
    """The integral of a density's derivative in its parameters: in the place where it ends, its
    derivative is the integrand. In double precision at most."""

    def __call__(self, *xs: Value, **params: Any) -> Value:
        dtype = self.computed_in(list(map(aval_of, xs)))
        return bind(
            self, [to_dtype(x if hasattr(x, "dtype") else np.float64(x), dtype) for x in xs], params
        )

    def computed_in(self, avals: Sequence[Aval]) -> np.dtype[Any]:
        """Single precision where all operands have it or less, as SciPy does."""
        kinds = [a.dtype for a in avals if not a.weak] or [np.dtype(float)]
        dtype = np.result_type(np.float32, *kinds)
        if dtype.char not in "fd":
            raise TypeError(f"{self.name} is not supported for {dtype}{at(calling_position())}")
        return dtype

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        shape = np.broadcast_shapes(*[a.shape for a in avals])
        return Aval(shape, self.computed_in(avals))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Value:
        shapes = [aval_of(x).shape[b:] for x, b in zip(values, batched, strict=True)]
        ndim = max(map(len, shapes))
        aligned = [
            np.reshape(x, (n, *[1] * (ndim - len(s)), *s)) if b else x
            for x, b, s in zip(values, batched, shapes, strict=True)
        ]
        return self(*aligned, **params)

    def rounded(self, out: Value, *xs: Value, **params: Any) -> Value:
        """A value of double precision in the dtype it should have."""
        return out.astype(self.abstract(*map(aval_of, xs), **params).dtype, copy=False)[()]


def _integrand(density: Value, place: Value, weight: Callable[[Value], Value]) -> Value:
    """A density times what its derivative multiplies it by; zero where it is, at an end too."""
    return density * weight(np.where(density != 0, place, 0.5))


class GammaincA(ParameterDerivative):
    """The derivative of `gammainc` in the shape, of the given order."""

    def impl(self, x: Value, y: Value, order: int) -> Value:
        return self.rounded(gamma_derivative(order, x, y), x, y, order=order)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        (x, y), order = values, params["order"]

        def weight(y: Value) -> Value:
            first = np.log(y) - digamma(x)
            return factor((order, 0), lambda i, _: -polygamma(x, order=i - 1) if i > 1 else first)

        total = None
        if ts[0] is not None:
            total = ts[0] * gammainc_a(x, y, order=order + 1)
        if ts[1] is not None:
            moved = ts[1] * _integrand(gamma_density(x, y), y, weight)
            total = moved if total is None else total + moved
        return total

    def samples(self) -> Iterable[Sample]:
        yield Sample(_SHAPES, _POSITIVE, order=1)
        yield Sample(_SHAPES, _POSITIVE, order=2)
        yield Sample(_SHAPES.reshape(3, 1), _POSITIVE[1:], order=1)
        yield Sample(_SHAPES.reshape(3, 1)[:0], _POSITIVE, order=1)


gammainc_a: GammaincA = primitive(GammaincA)


class BetaincAb(ParameterDerivative):
    """The derivative of `betainc` in both parameters, of the given orders."""

    def impl(self, x: Value, y: Value, z: Value, orders: tuple[int, int]) -> Value:
        return self.rounded(beta_derivative(orders, x, y, z), x, y, z, orders=orders)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        (x, y, z), (i, j) = values, params["orders"]

        def weight(z: Value) -> Value:
            both = digamma(x + y)
            u, v = np.log(z) - digamma(x) + both, np.log1p(-z) - digamma(y) + both

            def of_log(i: int, j: int) -> Value:
                if i + j == 1:
                    return u if i else v
                both = polygamma(x + y, order=i + j - 1)
                return both if i and j else both - polygamma(x if i else y, order=i + j - 1)

            return factor((i, j), of_log)

        found = []
        if ts[0] is not None:
            found.append(ts[0] * betainc_ab(x, y, z, orders=(i + 1, j)))
        if ts[1] is not None:
            found.append(ts[1] * betainc_ab(x, y, z, orders=(i, j + 1)))
        if ts[2] is not None:
            found.append(ts[2] * _integrand(_beta_density(x, y, z), z, weight))
        return sum(found[1:], start=found[0])

    def samples(self) -> Iterable[Sample]:
        for orders in ((1, 0), (0, 1), (1, 1), (0, 2)):
            yield Sample(_SHAPES, _OTHERS, _FRACTION, orders=orders)
        yield Sample(_SHAPES.reshape(3, 1), _OTHERS[1:], _FRACTION[0], orders=(1, 0))
        yield Sample(_SHAPES.reshape(3, 1)[:0], _OTHERS, _FRACTION, orders=(1, 0))


betainc_ab: BetaincAb = primitive(BetaincAb)


def betainc_a(x: Value, y: Value, z: Value) -> Value:
    return betainc_ab(x, y, z, orders=(1, 0))


def betainc_b(x: Value, y: Value, z: Value) -> Value:
    return betainc_ab(x, y, z, orders=(0, 1))


# Compositions: functions of a parameter that stands in two operands, and inverses, whose derivative
# in a parameter is that of the function over minus the density.


def _gamma_place_a(x: Value, out: Value) -> Value:
    return -gammainc_a(x, out, order=1) / gamma_density(x, out)


def _beta_place_a(x: Value, y: Value, out: Value) -> Value:
    return -betainc_a(x, y, out) / _beta_density(x, y, out)


def _beta_place_b(x: Value, y: Value, out: Value) -> Value:
    return -betainc_b(x, y, out) / _beta_density(x, y, out)


def _t_distribution_df(x: Value, y: Value) -> Value:
    """Student's distribution, 1/2 + sign(t)/2 I(1/2, v/2, t²/(v + t²)), differentiated in v.

    For large t by the complementary function of the complementary place.
    """
    limit = np.isinf(x)
    v = np.where(limit, 1, x)
    square, total = y * y, v + y * y
    near = square < v
    place, rest = np.where(near, square / total, 0.5), np.where(near, 0.5, v / total)
    inner = betainc_b(0.5, v / 2, place)
    outer = -betainc_a(v / 2, 0.5, rest)
    moved = _t_density(v, y) * y / v  # twice: the density as y moves with sqrt(v)
    return np.where(limit, 0, np.sign(y) * np.where(near, inner, outer) / 4 - moved / 2)


def _f_places(x: Value, y: Value, z: Value) -> tuple[Value, Value]:
    total = y + x * z
    return x * z / total, y / total


def _f_distribution_x(x: Value, y: Value, z: Value) -> Value:
    place, rest = _f_places(x, y, z)
    near = place < 0.5
    inner = betainc_a(x / 2, y / 2, np.where(near, place, 0.5))
    outer = -betainc_b(y / 2, x / 2, np.where(near, 0.5, rest))
    return np.where(near, inner, outer) / 2 + _f_density(x, y, z) * z / x


def _f_distribution_y(x: Value, y: Value, z: Value) -> Value:
    place, rest = _f_places(x, y, z)
    near = place < 0.5
    inner = betainc_b(x / 2, y / 2, np.where(near, place, 0.5))
    outer = -betainc_a(y / 2, x / 2, np.where(near, 0.5, rest))
    return np.where(near, inner, outer) / 2 - _f_density(x, y, z) * z / y


class Gammainc(SciPyFunction):
    """The regularized lower incomplete gamma function."""

    partials = (lambda x, y: gammainc_a(x, y, order=1)), gamma_density
    points = _SHAPES, _POSITIVE


gammainc = primitive(Gammainc)


class Gammaincc(SciPyFunction):
    """The regularized upper incomplete gamma function."""

    partials = (lambda x, y: -gammainc_a(x, y, order=1)), (lambda x, y: -gamma_density(x, y))
    points = _SHAPES, _POSITIVE


gammaincc = primitive(Gammaincc)


class Gammaincinv(SciPyFunction):
    """The inverse of `gammainc` in x."""

    partials = _gamma_place_a, (lambda x, out: 1 / gamma_density(x, out))
    points = _SHAPES, _FRACTION


gammaincinv = primitive(Gammaincinv)


class Gammainccinv(SciPyFunction):
    """The inverse of `gammaincc` in x."""

    partials = _gamma_place_a, (lambda x, out: -1 / gamma_density(x, out))
    points = _SHAPES, _FRACTION


gammainccinv = primitive(Gammainccinv)


class Chdtr(SciPyFunction):
    """The chi-square distribution with x degrees of freedom."""

    partials = (lambda x, y: gammainc_a(x / 2, y / 2, order=1) / 2), _chi_square_density
    points = _SHAPES, _POSITIVE


chdtr = primitive(Chdtr)


class Chdtrc(SciPyFunction):
    """The upper tail of `chdtr`."""

    partials = (
        (lambda x, y: -gammainc_a(x / 2, y / 2, order=1) / 2),
        (lambda x, y: -_chi_square_density(x, y)),
    )
    points = _SHAPES, _POSITIVE


chdtrc = primitive(Chdtrc)


class Chdtri(SciPyFunction):
    """The inverse of `chdtrc`."""

    partials = (
        (lambda x, out: _gamma_place_a(x / 2, out / 2)),
        (lambda x, out: -1 / _chi_square_density(x, out)),
    )
    points = _SHAPES, _FRACTION


chdtri = primitive(Chdtri)


class Stdtr(SciPyFunction):
    """Student's t distribution with x degrees of freedom."""

    partials = _t_distribution_df, _t_density
    points = _FREEDOM, _REAL


stdtr = primitive(Stdtr)


class Stdtrit(SciPyFunction):
    """The inverse of `stdtr` in t."""

    partials = (
        (lambda x, out: -_t_distribution_df(x, out) / _t_density(x, out)),
        (lambda x, out: 1 / _t_density(x, out)),
    )
    points = _FREEDOM, _FRACTION


stdtrit = primitive(Stdtrit)


class Betainc(SciPyFunction):
    """The regularized incomplete beta function."""

    partials = (
        (lambda x, y, z: betainc_a(x, y, z)),
        (lambda x, y, z: betainc_b(x, y, z)),
        _beta_density,
    )
    points = _SHAPES, _OTHERS, _FRACTION


betainc = primitive(Betainc)


class Betaincc(SciPyFunction):
    """1 - `betainc`, without cancellation."""

    partials = (
        (lambda x, y, z: -betainc_a(x, y, z)),
        (lambda x, y, z: -betainc_b(x, y, z)),
        (lambda x, y, z: -_beta_density(x, y, z)),
    )
    points = _SHAPES, _OTHERS, _FRACTION


betaincc = primitive(Betaincc)


class Betaincinv(SciPyFunction):
    """The inverse of `betainc` in x."""

    partials = (
        _beta_place_a,
        _beta_place_b,
        (lambda x, y, out: 1 / _beta_density(x, y, out)),
    )
    points = _SHAPES, _OTHERS, _FRACTION


betaincinv = primitive(Betaincinv)


class Betainccinv(SciPyFunction):
    """The inverse of `betaincc` in x."""

    partials = (
        _beta_place_a,
        _beta_place_b,
        (lambda x, y, out: -1 / _beta_density(x, y, out)),
    )
    points = _SHAPES, _OTHERS, _FRACTION


betainccinv = primitive(Betainccinv)


class Fdtr(SciPyFunction):
    """The F distribution with x and y degrees of freedom."""

    partials = _f_distribution_x, _f_distribution_y, _f_density
    points = _SHAPES, _OTHERS, _POSITIVE


fdtr = primitive(Fdtr)


class Fdtrc(SciPyFunction):
    """The upper tail of `fdtr`."""

    partials = (
        (lambda x, y, z: -_f_distribution_x(x, y, z)),
        (lambda x, y, z: -_f_distribution_y(x, y, z)),
        (lambda x, y, z: -_f_density(x, y, z)),
    )
    points = _SHAPES, _OTHERS, _POSITIVE


fdtrc = primitive(Fdtrc)


class Fdtri(SciPyFunction):
    """The inverse of `fdtr`."""

    partials = (
        (lambda x, y, out: -_f_distribution_x(x, y, out) / _f_density(x, y, out)),
        (lambda x, y, out: -_f_distribution_y(x, y, out) / _f_density(x, y, out)),
        (lambda x, y, out: 1 / _f_density(x, y, out)),
    )
    points = _SHAPES, _OTHERS, _FRACTION


fdtri = primitive(Fdtri)


class Gdtr(SciPyFunction):
    """The gamma distribution of z with rate x and shape y."""

    partials = (
        (lambda x, y, z: z * gamma_density(y, x * z)),
        (lambda x, y, z: gammainc_a(y, x * z, order=1)),
        (lambda x, y, z: x * gamma_density(y, x * z)),
    )
    points = _OTHERS, _SHAPES, _POSITIVE


gdtr = primitive(Gdtr)


class Gdtrc(SciPyFunction):
    """The upper tail of `gdtr`."""

    partials = (
        (lambda x, y, z: -z * gamma_density(y, x * z)),
        (lambda x, y, z: -gammainc_a(y, x * z, order=1)),
        (lambda x, y, z: -x * gamma_density(y, x * z)),
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


class Pdtri(SciPyFunction):
    """The mean at which `pdtr` is y."""

    partials = whole("pdtri", "k"), (lambda x, out: -1 / _poisson_mass(x, out))
    points = _COUNTS, _FRACTION


pdtri = primitive(Pdtri)


def _binomial_density(x: Value, y: Value, z: Value) -> Value:
    """Of z, as `bdtrc` is a beta distribution of it."""
    k = np.floor(x)
    return _beta_density(k + 1, y - k, z)


def _negative_density(x: Value, y: Value, z: Value) -> Value:
    """Of z, as `nbdtr` is a beta distribution of it."""
    return _beta_density(y, x + 1, z)


class Bdtr(SciPyFunction):
    """The binomial distribution: at most x successes in y trials of probability z."""

    partials = (
        whole("bdtr", "k"),
        whole("bdtr", "n"),
        (lambda x, y, z: -_binomial_density(x, y, z)),
    )
    points = _COUNTS, _TRIALS, _FRACTION


bdtr = primitive(Bdtr)


class Bdtrc(SciPyFunction):
    """The upper tail of `bdtr`."""

    partials = whole("bdtrc", "k"), whole("bdtrc", "n"), _binomial_density
    points = _COUNTS, _TRIALS, _FRACTION


bdtrc = primitive(Bdtrc)


class Bdtri(SciPyFunction):
    """The probability of success at which `bdtr` is z."""

    partials = (
        whole("bdtri", "k"),
        whole("bdtri", "n"),
        (lambda x, y, out: -1 / _binomial_density(x, y, out)),
    )
    points = _COUNTS, _TRIALS, _FRACTION


bdtri = primitive(Bdtri)


class Nbdtr(SciPyFunction):
    """The negative binomial distribution: at most x failures before success number y."""

    partials = whole("nbdtr", "k"), whole("nbdtr", "n"), _negative_density
    points = _COUNTS, _TRIALS, _FRACTION


nbdtr = primitive(Nbdtr)


class Nbdtrc(SciPyFunction):
    """The upper tail of `nbdtr`."""

    partials = (
        whole("nbdtrc", "k"),
        whole("nbdtrc", "n"),
        (lambda x, y, z: -_negative_density(x, y, z)),
    )
    points = _COUNTS, _TRIALS, _FRACTION


nbdtrc = primitive(Nbdtrc)


class Nbdtri(SciPyFunction):
    """The probability of success at which `nbdtr` is z."""

    partials = (
        whole("nbdtri", "k"),
        whole("nbdtri", "n"),
        (lambda x, y, out: 1 / _negative_density(x, y, out)),
    )
    points = _COUNTS, _TRIALS, _FRACTION


nbdtri = primitive(Nbdtri)
