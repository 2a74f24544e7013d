"""Functions of SciPy's distributions: values are SciPy's, derivatives are each other's.

One primitive computes any function of any distribution of one variable, elementwise: at ``x`` (or a
probability) and the shape parameters, all of one shape; location and scale are arithmetic around
it. Its derivatives take two formulas per distribution, the log density l in all arguments and the
distribution function F in the shapes s, which are differentiated like any function. The rest
follows from dF = exp(l) dx + F_s ds: of logarithms and complements by the chain rule, of quantiles
by solving it for dx.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import NotDifferentiableError, UnsupportedError, at, calling_position
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import annihilate, innermost
from vjpkit.core.tracer import Tracer, bind
from vjpkit.kinds import General
from vjpkit.ops.structural import to_dtype
from vjpkit.scipy._densities import CUMULATIVES, INEXACT, LOG_DENSITIES, MOMENTS
from vjpkit.scipy._namespace import scipy_module
from vjpkit.transforms.derivatives import vjp
from vjpkit.transforms.stopping import stop_gradient

__all__ = ["distribution", "is_discrete", "whole_shapes"]

Partials = dict[int, Value]
_DOUBLE = np.dtype(np.float64)


@cache
def _scipys(name: str) -> Any:
    return getattr(scipy_module("stats"), name)


def is_discrete(name: str) -> bool:
    """Whether the distribution is one of whole numbers."""
    return isinstance(_scipys(name), scipy_module("stats").rv_discrete)


def _operands(name: str, count: int) -> list[str]:
    """What the operands are called, of which there are ``count``."""
    shapes = [info.name for info in _scipys(name)._shape_info()]
    return [*["k" if is_discrete(name) else "x"][: count - len(shapes)], *shapes]


def whole_shapes(name: str) -> tuple[bool, ...]:
    """Which of the shape parameters are whole numbers."""
    return tuple([info.integrality for info in _scipys(name)._shape_info()])


class Distribution(General):
    """``scipy.stats.<of>.<function>(x, *shapes)``, or of the shapes alone.

    ``sample`` is ``x``, a sample that moves with the shapes as the quantile does that it is.
    """

    def __call__(self, *xs: Value, **params: Any) -> Value:
        return bind(self, [to_dtype(x, _DOUBLE) for x in xs], params)

    def impl(self, *xs: Value, of: str, function: str) -> Value:
        xs = tuple([np.asarray(x, _DOUBLE) for x in xs])
        out = xs[0] if function == "sample" else getattr(_scipys(of), function)(*xs)
        return np.asarray(out, _DOUBLE)[()]

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return Aval(np.broadcast_shapes(*[a.shape for a in avals]), _DOUBLE)

    def partials(
        self, values: Sequence[Value], out: Value, live: Sequence[int], of: str, function: str
    ) -> list[Value]:
        """The derivatives in the ``live`` operands, elementwise."""
        whole = whole_shapes(of)
        first = len(values) - len(whole)
        for i in live:
            if (i < first and is_discrete(of)) or (i >= first and whole[i - first]):
                where = "shape parameter" if i >= first else "argument"
                raise NotDifferentiableError(
                    f"scipy.stats.{of}.{function} has no derivative in {where} "
                    f"{i - first if i >= first else i}, a whole number{at(calling_position())}"
                )
        found = RULES[function](_Point(self, of, values, out, tuple(live)))
        return [found[i] for i in live]

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        live = [i for i, t in enumerate(ts) if t is not None]
        moved = [
            annihilate(ts[i], p)
            for i, p in zip(live, self.partials(values, out, live, **params), strict=True)
        ]
        return sum(moved[1:], start=moved[0])

    def pullback(
        self, values: Sequence[Value], outs: Any, live: Any, given: Any, **params: Any
    ) -> list[Value]:
        partials = self.partials(values, outs[0], live, **params)
        return [annihilate(given[0], p) for p in partials]

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Value:
        pairs = zip(values, batched, strict=True)
        return self(
            *[v if b else np.broadcast_to(v, (n, *aval_of(v).shape)) for v, b in pairs], **params
        )

    def samples(self) -> Iterable[Sample]:
        x, q, a = np.array([0.4, 1.7, 4.0]), np.array([0.1, 0.5, 0.95]), np.array([0.7, 2.0, 5.5])
        for function in ("logpdf", "pdf", "cdf", "sf", "logcdf", "logsf"):
            yield Sample(x, a, of="gamma", function=function)
        for function in ("ppf", "isf"):
            yield Sample(q, a, of="gamma", function=function)
        for function in ("mean", "var", "entropy"):
            yield Sample(a, of="gamma", function=function)
        yield Sample(x[0], a[0], of="gamma", function="logpdf")
        yield Sample(x[:0], a[:0], of="gamma", function="cdf")
        yield Sample(np.array([0.0, 2.0, 3.0]), a, wrt=[1], of="poisson", function="logpmf")


distribution: Distribution = primitive(Distribution)


# ---------------------------------------------------------------------------------------- the rules


class _Point:
    """Where a function of a distribution is differentiated, and in which operands."""

    def __init__(
        self, prim: Distribution, of: str, values: Sequence[Value], out: Value, live: Sequence[int]
    ) -> None:
        self.prim, self.of, self.values, self.out, self.live = prim, of, values, out, live

    def function(self, name: str, *xs: Value) -> Value:
        """Another function of the same distribution."""
        return self.prim(*xs, of=self.of, function=name)

    def derived(
        self, f: Callable[..., Value], values: Sequence[Value], whole: bool = False
    ) -> Partials:
        """The derivatives of an elementwise formula in the live operands.

        A ``whole`` formula is one of the value, and has to agree with it.
        """
        if not self.live:
            return {}

        def of_live(*xs: Value) -> Value:
            full = list(values)
            for i, x in zip(self.live, xs, strict=True):
                full[i] = x
            return f(*full)

        try:
            with np.errstate(all="ignore"):
                out, pull = vjp(of_live, *[values[i] for i in self.live])
                pulled = pull(np.ones(aval_of(out).shape))
        except (TypeError, ValueError, UnsupportedError) as error:
            raise self.refusal(str(error).splitlines()[0]) from error
        found = dict(zip(self.live, pulled, strict=True))
        if not whole:
            return found
        known = innermost(self.out), innermost(out)
        if not any(isinstance(x, Tracer) for x in known):
            near = np.isclose(*known, rtol=_AGREED, atol=_AGREED) | ~np.isfinite(known[0])
            if not near.all():
                raise self.refusal("the integral over its quantiles is not exact enough")
        finite = np.isfinite(self.out)
        return {i: np.where(finite, p, np.nan) for i, p in found.items()}

    def refusal(self, reason: str) -> NotDifferentiableError:
        """An error that names what is differentiated."""
        names = _operands(self.of, len(self.values))
        return NotDifferentiableError(
            f"scipy.stats.{self.of} has no derivative here in "
            f"{', '.join([names[i] for i in self.live])}: {reason}{at(calling_position())}"
        )

    def log_density(self) -> Partials:
        """The derivatives of the log density (or log mass) at this point; zero outside."""
        inside = np.isfinite(self.function(_DENSITIES[self.discrete][0], *self.values))
        pairs = self.derived(_formula(self.of, self.discrete), self.values).items()
        return {i: np.where(inside, p, 0) for i, p in pairs}

    @property
    def discrete(self) -> bool:
        return is_discrete(self.of)

    def cumulative(self, x: Value) -> Partials:
        """The derivatives of the distribution function at ``x``, in ``x`` and the shapes."""
        shapes = self.values[1:]
        found: Partials = {}
        if 0 in self.live:
            found[0] = self.function("pdf", x, *shapes)
        inner = _Point(self.prim, self.of, self.values, None, [i for i in self.live if i])
        if not inner.live:
            return found
        inside = np.isfinite(self.function(_DENSITIES[self.discrete][0], x, *shapes))
        for i, p in inner.derived(_cumulative(self.of), [x, *shapes]).items():
            found[i] = np.where(inside | self.discrete, p, 0)
        return found


_DENSITIES = {False: ("logpdf", "_logpdf", "_pdf"), True: ("logpmf", "_logpmf", "_pmf")}


def _overrides(d: Any, name: str) -> bool:
    """Whether a distribution has its own version of one of SciPy's methods."""
    stats = scipy_module("stats")
    return not any(
        getattr(type(d), name) is getattr(base, name, None)
        for base in (stats.rv_continuous, stats.rv_discrete)
    )


def _formula(of: str, discrete: bool) -> Callable[..., Value]:
    """The log density (or log mass) of a standardized distribution, for traced values."""
    if of in LOG_DENSITIES:
        return LOG_DENSITIES[of]
    d = _scipys(of)
    _, log, plain = _DENSITIES[discrete]
    if _overrides(d, log):
        return getattr(d, log)  # type: ignore[no-any-return]
    return lambda *xs: np.log(getattr(d, plain)(*xs))


def _cumulative(of: str) -> Callable[..., Value]:
    """The distribution function of a standardized distribution, for traced values."""
    if of in CUMULATIVES:
        return CUMULATIVES[of]
    d = _scipys(of)
    if _overrides(d, "_cdf"):
        return d._cdf  # type: ignore[no-any-return]
    if _overrides(d, "_sf"):
        return lambda *xs: 1 - d._sf(*xs)
    return _no_formula


def _no_formula(*xs: Value) -> Value:
    raise UnsupportedError("its distribution function has no formula")


def _times(partials: Partials, factor: Value) -> Partials:
    return {i: annihilate(p, factor) for i, p in partials.items()}


def _of_density(p: _Point) -> Partials:
    return _times(p.log_density(), p.out)


def _of_cdf(p: _Point) -> Partials:
    return p.cumulative(p.values[0])


def _of_logarithm(p: _Point, sign: int) -> Partials:
    """Of log F, or of log(1 - F): in ``x`` a ratio of densities, taken of their logarithms."""
    found = _times(p.cumulative(p.values[0]), sign * np.exp(-p.out))
    if 0 in found:
        log = p.function(_DENSITIES[p.discrete][0], *p.values)
        found[0] = sign * np.exp(log - p.out)
    return found


def _of_quantile(p: _Point, sign: int) -> Partials:
    """Of x with F(x) = q, or with 1 - F(x) = q."""
    density = p.function("pdf", p.out, *p.values[1:])
    found = _times(
        _Point(p.prim, p.of, p.values, p.out, [i for i in p.live if i]).cumulative(p.out),
        -1 / density,
    )
    if 0 in p.live:
        found[0] = sign / density
    return found


def _of_sample(p: _Point) -> Partials:
    moved = _of_quantile(p, 1)
    return {i: np.ones(aval_of(p.out).shape) if i == 0 else moved[i] for i in p.live}


def _of_whole_quantile(p: _Point) -> Partials:
    """Of a quantile that is a whole number: locally constant."""
    return {i: np.zeros(aval_of(p.out).shape) for i in p.live}


def _of_moment(name: str) -> Callable[[_Point], Partials]:
    """Of a moment: that of an integral over the probability, at fixed places of which quantiles
    move with the shapes. Where the support ends does not matter."""

    def integral(of: str, *shapes: Value) -> Value:
        columns = [np.expand_dims(s, -1) for s in shapes]
        probabilities = np.broadcast_to(_Q, (*aval_of(shapes[0]).shape, _Q.size))
        operands = np.broadcast_arrays(probabilities, *columns)
        x = np.concatenate([distribution(*operands, of=of, function=f) for f in ("ppf", "isf")], -1)
        shapes = np.broadcast_arrays(x, *columns)[1:]
        # Next to nothing is so close to an end of the support that derivatives overflow there.
        inside = np.isfinite(distribution(stop_gradient(x), *shapes, of=of, function="logpdf"))
        x = np.where(inside & (abs(x) > 1e-90), x, np.expand_dims(x[..., _Q.size // 3], -1))

        def mean(y: Value) -> Value:
            return np.sum(_WEIGHTS * y, axis=-1)

        if name == "entropy":
            return -mean(distribution(x, *shapes, of=of, function="logpdf"))
        return mean(x) if name == "mean" else mean((x - np.expand_dims(mean(x), -1)) ** 2)

    def formula(of: str, *shapes: Value) -> Value:
        if (of, name) in MOMENTS:
            return MOMENTS[of, name](*shapes)
        if of in INEXACT[name]:
            raise UnsupportedError("there is no formula for it")
        if not is_discrete(of):
            return integral(of, *shapes)
        d = _scipys(of)
        return d._entropy(*shapes) if name == "entropy" else d._stats(*shapes)[name == "var"]

    return lambda p: p.derived(lambda *shapes: formula(p.of, *shapes), p.values, whole=True)


_AGREED = 1e-8


_U, _STEP = np.linspace(-3.8, 5.0, 280, retstep=True)
_S = np.exp(_U - np.exp(-_U))
_Q = 0.5 * np.exp(-_S)
_WEIGHTS = np.tile(_Q * _S * (1 + np.exp(-_U)) * _STEP, 2)
"""Half of the probability from below and half from above, by the double exponential substitution
of `vjpkit.ops.scipy_quadrature`, to 1e-65 from either end."""

RULES: dict[str, Callable[[_Point], Partials]] = {
    "cdf": _of_cdf,
    "entropy": _of_moment("entropy"),
    "isf": lambda p: _of_whole_quantile(p) if p.discrete else _of_quantile(p, -1),
    "logcdf": lambda p: _of_logarithm(p, 1),
    "logpdf": _Point.log_density,
    "logpmf": _Point.log_density,
    "logsf": lambda p: _of_logarithm(p, -1),
    "mean": _of_moment("mean"),
    "pdf": _of_density,
    "pmf": _of_density,
    "ppf": lambda p: _of_whole_quantile(p) if p.discrete else _of_quantile(p, 1),
    "sample": _of_sample,
    "sf": lambda p: _times(_of_cdf(p), -1),
    "var": _of_moment("var"),
}
