"""SciPy's elementwise functions: error functions, the gamma family, and what they are made of.

SciPy is optional and is imported when the first value is asked for. `vjpkit.ops.scipy_bessel` and
`vjpkit.ops.scipy_distributions` go on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property
from importlib import import_module
from typing import Any, ClassVar, NoReturn

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import NotDifferentiableError, at, calling_position
from vjpkit.core.primitive import PRIMITIVES, Primitive, Sample, primitive
from vjpkit.kinds import Elementwise, General
from vjpkit.kinds.elementwise import weak_type
from vjpkit.ops.special import inexact
from vjpkit.ops.structural import to_dtype

_X = np.array([0.3, -1.2, 2.5])
_POSITIVE = np.array([0.4, 1.7, 30.0])
_CUT = {"analytic": "a complex step goes off from a branch cut"}
_SMALL = np.array([0.3, -0.8, 0.05])
_FRACTION = np.array([0.3, 0.8, 0.05])
_HALF_ROOT_PI = math.sqrt(math.pi) / 2
ROOT_TWO_PI = math.sqrt(2 * math.pi)


@cache
def special() -> Any:
    """`scipy.special`, or an error that says how to install it."""
    try:
        from scipy import special
    except ImportError:
        raise ImportError(
            "this function is SciPy's, which is not installed: pip install 'vjpkit[scipy]'"
            f"{at(calling_position())}"
        ) from None
    return special


def ufunc_of_scipy(name: str) -> Any:
    """SciPy's ufunc; its array API dispatch, where it is switched on, wraps them in functions."""
    found = getattr(special(), name)
    return getattr(found, "__wrapped__", found)


class SciPyFunction(Elementwise):
    """A ufunc of `scipy.special`, imported when it is first computed; in double precision at most.

    ``points`` are operands at which it is checked.
    """

    function: ClassVar[str] = ""
    """SciPy's name, where it is not the primitive's own."""
    points: ClassVar[Sequence[Any]] = (_X,)
    real: ClassVar[bool] = False
    """Whether its derivative is known for real numbers only."""
    branches: ClassVar[dict[str, str]] = {}
    """Laws that its branch cuts break, and why."""

    def __init__(self) -> None:
        Primitive.__init__(self)
        self.types = {}
        self.arity = len(self.partials)

    @cached_property
    def ufunc(self) -> Any:  # type: ignore[override]  # known later than the class
        """SciPy's function."""
        return ufunc_of_scipy(self.function or self.name)

    @cached_property
    def impl(self) -> Any:  # type: ignore[override]  # known later than the class
        """SciPy's value."""
        return self.real_value if self.real else self.ufunc

    def real_value(self, *xs: Value) -> Value:
        """The value of real numbers."""
        self.require_real([aval_of(x) for x in xs])
        return self.ufunc(*xs)

    def require_real(self, avals: Sequence[Aval]) -> None:
        if self.real and any(a.dtype.kind == "c" for a in avals):
            raise TypeError(
                f"scipy.special.{self.function or self.name} of complex numbers has no derivative "
                f"here{at(calling_position())}"
            )

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        self.require_real(avals)
        return super().abstract(*avals, **params)

    def __call__(self, *xs: Value, **params: Any) -> Value:
        return self.apply(*self.as_computed(xs))

    def as_computed(self, xs: Sequence[Value]) -> Sequence[Value]:
        """Operands as SciPy casts them, so that no partial derivative is coarser than the value."""
        if self.arity == 1:
            return xs
        avals = [aval_of(x) for x in xs]
        kinds = [weak_type(a) if a.weak else a.dtype for a in avals]
        loop = self.ufunc.resolve_dtypes((*kinds, None))
        return [x if k is d else to_dtype(x, d) for x, k, d in zip(xs, kinds, loop, strict=False)]

    def samples(self) -> Iterable[Sample]:
        xs = self.points
        wrt = [i for i in range(self.arity) if i not in self.unknown]
        yield Sample(*xs, wrt=wrt)
        yield Sample(*[np.reshape(x, (1, -1))[:0] for x in xs], wrt=wrt)
        yield Sample(*[np.reshape(x, -1)[0] for x in xs], wrt=wrt)
        if self.arity > 1:
            yield Sample(np.reshape(xs[0], (-1, 1)), *xs[1:], wrt=wrt)

    @property
    def exempt(self) -> dict[str, str]:  # type: ignore[override]  # follows from the partials
        """Laws that cannot hold: those that need every derivative."""
        missing = {"annihilation": "one operand has no known derivative"} if self.unknown else {}
        return missing | self.branches

    @property
    def unknown(self) -> set[int]:
        """Operands in which no derivative is known."""
        return {i for i, p in enumerate(self.partials) if p in _UNKNOWN}


_UNKNOWN: set[Any] = set()


def unknown(function: str, operand: str) -> Callable[[Value], Value]:
    """A partial derivative without a formula: it raises where it is needed."""

    def refuse(t: Value) -> NoReturn:
        raise NotDifferentiableError(
            f"scipy.special.{function}: there is no formula for the derivative in {operand}"
            f"{at(calling_position())}\nvk.numeric_vjp(scipy.special.{function}) takes it by "
            f"differences; pass vk.lax.stop_gradient({operand}) where it does not matter."
        )

    _UNKNOWN.add(refuse)
    return refuse


def by_series(
    x: Value, radius: float, coefficients: Sequence[float], far: Callable[[Value], Value]
) -> Value:
    """A power series of ``x`` within the radius of 0, where ``far`` would cancel; else ``far``."""
    near = np.abs(x) < radius
    inside = np.where(near, x, 0)
    series: Value = 0.0
    for coefficient in reversed(coefficients):
        series = series * inside + coefficient
    return np.where(near, series, far(np.where(near, 1, x)))


def by_ufunc(ufunc: np.ufunc) -> Callable[..., Value] | None:
    """What computes one of SciPy's ufuncs on traced values, if something does."""
    if ufunc.__name__ in ("cbrt", "exp2", "expm1", "log1p"):  # NumPy has them too
        return getattr(np, ufunc.__name__) if ufunc_of_scipy(ufunc.__name__) is ufunc else None
    found = by_name().get(ufunc.__name__)
    return found if found is not None and found.ufunc is ufunc else None


@cache
def by_name() -> dict[str, SciPyFunction]:
    """SciPy's functions under SciPy's names."""
    for name in ("scipy_bessel", "scipy_distributions"):
        import_module(f"vjpkit.ops.{name}")
    every = [p for p in PRIMITIVES.values() if isinstance(p, SciPyFunction)]
    return {p.function or p.name: p for p in every}


# -------------------------------------------------------------------------------- error functions


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


# ------------------------------------------------------------------------------ the gamma family


class Lgamma(SciPyFunction):
    """The logarithm of the gamma function's absolute value."""

    function = "gammaln"
    partials = ((lambda x: digamma(x)),)
    points = (_POSITIVE,)


lgamma = primitive(Lgamma)


class Loggamma(SciPyFunction):
    """The principal branch of the logarithm of the gamma function."""

    real = True
    partials = ((lambda x: digamma(x)),)
    points = (_POSITIVE,)


loggamma = primitive(Loggamma)


class Digamma(SciPyFunction):
    """The derivative of `lgamma`."""

    real = True
    function = "psi"
    partials = ((lambda x: polygamma(x, order=1)),)
    points = (_POSITIVE,)


digamma: Digamma = primitive(Digamma)


class Polygamma(General):
    """The derivative of the given order of digamma, which is that of lgamma."""

    @staticmethod
    def impl(x: Value, order: int) -> Value:
        x = np.asarray(x)
        out = special().polygamma(order, x)
        return np.asarray(out).astype(inexact(x.dtype), copy=False)[()]

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        return ts[0] * polygamma(values[0], order=params["order"] + 1)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        dtype = avals[0].dtype
        if dtype.kind == "c" or dtype.char == "g":
            raise TypeError(f"polygamma is not supported for {dtype}{at(calling_position())}")
        return Aval(avals[0].shape, inexact(dtype))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Value:
        return self(*values, **params)

    def samples(self) -> Iterable[Sample]:
        for order in (1, 2):
            yield Sample(_POSITIVE, order=order)
        yield Sample(_POSITIVE.reshape(3, 1)[:0], order=1)


polygamma: Polygamma = primitive(Polygamma)


class Gamma(SciPyFunction):
    """The gamma function."""

    real = True
    partials = ((lambda x, out: out * digamma(x)),)
    points = (np.array([0.4, 1.7, -1.3]),)


gamma = primitive(Gamma)


def _rgamma_x(x: Value, out: Value) -> Value:
    """-psi(x) / Gamma(x); on the left, where there are poles, the derivative of its reflection,
    sin(pi x) Gamma(1 - x) / pi."""
    left = x < 0.5
    place = np.where(left, x, 0)
    mirrored = gamma(1 - place)
    turn = np.cos(np.pi * place) - np.sin(np.pi * place) / np.pi * digamma(1 - place)
    return np.where(left, turn * mirrored, -out * digamma(np.where(left, 1, x)))


class Rgamma(SciPyFunction):
    """The reciprocal of the gamma function."""

    real = True
    partials = (_rgamma_x,)
    points = (np.array([0.4, 1.7, -1.3]),)


rgamma = primitive(Rgamma)


class Betaln(SciPyFunction):
    """The logarithm of the beta function's absolute value."""

    partials = (
        (lambda x, y: digamma(x) - digamma(x + y)),
        (lambda x, y: digamma(y) - digamma(x + y)),
    )
    points = _POSITIVE, _POSITIVE[::-1].copy()


betaln = primitive(Betaln)


class Beta(SciPyFunction):
    """The beta function, Gamma(x) Gamma(y) / Gamma(x + y)."""

    partials = (
        (lambda x, y, out: out * (digamma(x) - digamma(x + y))),
        (lambda x, y, out: out * (digamma(y) - digamma(x + y))),
    )
    points = np.array([0.4, 1.7, 2.0]), np.array([1.1, 0.5, 2.3])


beta = primitive(Beta)


class Binom(SciPyFunction):
    """The binomial coefficient of real numbers."""

    partials = (
        (lambda x, y, out: out * (digamma(x + 1) - digamma(x - y + 1))),
        (lambda x, y, out: out * (digamma(x - y + 1) - digamma(y + 1))),
    )
    points = np.array([4.4, 3.7, 7.0]), np.array([1.1, 0.5, 2.3])


binom = primitive(Binom)


class Poch(SciPyFunction):
    """Pochhammer's symbol, Gamma(x + y) / Gamma(x)."""

    partials = (
        (lambda x, y, out: out * (digamma(x + y) - digamma(x))),
        (lambda x, y, out: out * digamma(x + y)),
    )
    points = np.array([0.4, 1.7, 2.0]), np.array([1.1, 0.5, 2.3])


poch = primitive(Poch)


# -------------------------------------------------------------- exponentials, logarithms, entropies


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

    partials = ((lambda x: np.where(x < 0, 0, -1 - np.log(np.where(x < 0, 1, x)))),)
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


# --------------------------------------------------------------------------- integrals, and degrees


class Exp1(SciPyFunction):
    """The integral of exp(-t)/t from x to infinity."""

    partials = ((lambda x: -np.exp(-x) / x),)
    points = (_POSITIVE,)


exp1 = primitive(Exp1)


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
