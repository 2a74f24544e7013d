"""Functions of SciPy's distributions: values are SciPy's, derivatives are each other's.

One primitive computes any function of any distribution of one variable, elementwise: at ``x`` (or a
probability) and the shape parameters, which broadcast; location and scale are arithmetic around
it. Its derivatives take two formulas per distribution, the log density l in all arguments and the
distribution function F in the shapes s, which are differentiated like any function. The rest
follows from dF = exp(l) dx + F_s ds: of logarithms and complements by the chain rule, of quantiles
by solving it for dx. So every differential is something times dx and something times that of one of
the formulas, and rules say what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import NotDifferentiableError, UnsupportedError, at, calling_position
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import annihilate, unbroadcast
from vjpkit.core.tracer import bind
from vjpkit.kinds import General
from vjpkit.ops.ill_posed import IllPosed, Report
from vjpkit.ops.selection import aligned
from vjpkit.ops.structural import to_dtype
from vjpkit.scipy._densities import CUMULATIVES, INEXACT, LOG_DENSITIES, MOMENTS
from vjpkit.scipy._namespace import scipy_module
from vjpkit.transforms.derivatives import jvp, vjp
from vjpkit.transforms.stopping import stop_gradient

__all__ = ["distribution", "is_discrete", "whole_shapes"]

_DOUBLE = np.dtype(np.float64)


@cache
def _scipys(name: str) -> Any:
    return getattr(scipy_module("stats"), name)


@cache
def is_discrete(name: str) -> bool:
    """Whether the distribution is one of whole numbers."""
    return isinstance(_scipys(name), scipy_module("stats").rv_discrete)


def _operands(name: str, count: int) -> list[str]:
    """What the operands are called, of which there are ``count``."""
    shapes = [info.name for info in _scipys(name)._shape_info()]
    return [*["k" if is_discrete(name) else "x"][: count - len(shapes)], *shapes]


@cache
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
        sample = function == "sample"
        out = np.broadcast_arrays(*xs)[0] if sample else getattr(_scipys(of), function)(*xs)
        return np.array(out, _DOUBLE)[()]

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return Aval(np.broadcast_shapes(*[a.shape for a in avals]), _DOUBLE)

    def rule(
        self, values: Sequence[Value], out: Value, live: Sequence[int], of: str, function: str
    ) -> _Rule:
        """The differential; whole numbers have none."""
        whole = whole_shapes(of)
        first = len(values) - len(whole)
        places = is_discrete(of) and function not in ("ppf", "isf")
        for i in live:
            if whole[i - first] if i >= first else places:
                raise NotDifferentiableError(
                    f"scipy.stats.{of}.{function} has no derivative in "
                    f"{_operands(of, len(values))[i]}, a whole number{at(calling_position())}"
                )
        return RULES[function](_Point(of, function, values, out, live))

    def jvp(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        **params: Any,
    ) -> Any:
        live = [i for i, t in enumerate(ts) if t is not None]
        rule = self.rule(values, out, live, **params)
        moved = []
        if rule.along is not None and ts[0] is not None:
            moved.append(annihilate(ts[0], rule.along))
        if rule.live:
            given = [ts[i] for i in rule.live]
            moved.append(annihilate(rule.run(lambda f, xs: rule.pushed(f, xs, given)), rule.factor))
        return sum(moved[1:], start=moved[0]) if moved else None

    def pullback(
        self, values: Sequence[Value], outs: Any, live: Any, given: Any, **params: Any
    ) -> list[Value]:
        rule = self.rule(values, outs[0], live, **params)
        (ct,) = given
        pulled: dict[int, Value] = {}
        if rule.along is not None and 0 in live:
            pulled[0] = unbroadcast(annihilate(ct, rule.along), aval_of(values[0]).shape, _DOUBLE)
        if rule.live:
            weighted = annihilate(ct, rule.factor)
            cts = rule.run(lambda f, xs: rule.pulled(f, xs, weighted))
            pulled |= dict(zip(rule.live, cts, strict=True))
        return [pulled.get(i, None) for i in live]

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Value:
        return self(*aligned(n, values, batched), **params)

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
        yield Sample(x.reshape(3, 1), a[:2], of="gamma", function="logcdf")
        yield Sample(np.array([0.0, 2.0, 3.0]), a, wrt=[1], of="poisson", function="logpmf")


distribution: Distribution = primitive(Distribution)


class Agreement(IllPosed):
    """1 where an integral agrees with the value that it stands for, or where that is not finite.

    Else the integrand has a kink, or loses its digits, and so has the derivative.
    """

    exempt = {"batch": "random operands do not agree, which it says"}

    @staticmethod
    def compute(report: Report, value: Value, integral: Value, of: str, function: str) -> Value:
        near = np.isclose(value, integral, rtol=_AGREED, atol=_AGREED) | ~np.isfinite(value)
        if not near.all():
            report(
                f"scipy.stats.{of}.{function}: the integral over the quantiles is not exact enough "
                "for a derivative in the shape parameters\n"
                f"vk.numeric_vjp(scipy.stats.{of}.{function}) takes it by differences."
            )
        return np.ones(near.shape)[()]

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return Aval(np.broadcast_shapes(*[a.shape for a in avals]), _DOUBLE)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Value:
        return self(*aligned(n, values, batched), **params)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> None:
        return None

    def samples(self) -> Iterable[Sample]:
        near = np.array([1.0, np.inf])
        yield Sample(near, near, wrt=(), of="gamma", function="mean")
        yield Sample(near[:, None], near[:1], wrt=(), of="gamma", function="mean")


agreement: Agreement = primitive(Agreement)

_AGREED = 1e-8


# ---------------------------------------------------------------------------------------- the rules


class _Point:
    """Where a function of a distribution is differentiated, and in which operands."""

    def __init__(
        self, of: str, name: str, values: Sequence[Value], out: Value, live: Sequence[int]
    ) -> None:
        self.of, self.name, self.values, self.out, self.live = of, name, values, out, live
        self.discrete = is_discrete(of)

    def function(self, name: str, *xs: Value) -> Value:
        """Another function of the same distribution."""
        return distribution(*xs, of=self.of, function=name)

    def density(self, x: Value) -> Value:
        return self.function("pdf", x, *self.values[1:])

    def log_density(self, x: Value) -> Value:
        return self.function(_DENSITIES[self.discrete][0], x, *self.values[1:])


class _Rule:
    """A differential: ``along`` dx and ``factor`` times that of a formula.

    The formula is one of all operands, differentiated in those of them that are live. A ``whole``
    formula is one of the value, and has to agree with it.
    """

    def __init__(
        self,
        p: _Point,
        along: Value | None = None,
        formula: Callable[..., Value] | None = None,
        factor: Value = 1.0,
        x: Value | None = None,
        whole: bool = False,
    ) -> None:
        self.point, self.along, self.factor, self.whole = p, along, factor, whole
        self.formula = formula
        self.values = p.values if x is None else [x, *p.values[1:]]
        fixed = 0 if x is None else 1
        self.live = [] if formula is None else [i for i in p.live if i >= fixed]

    def pushed(
        self, f: Callable[..., Value], xs: Sequence[Value], ts: Sequence[Value | None]
    ) -> Value:
        """The formula's tangent."""
        out, t = jvp(f, tuple(xs), tuple(ts))
        return t * self.agreed(out)

    def pulled(self, f: Callable[..., Value], xs: Sequence[Value], ct: Value) -> Sequence[Value]:
        """The cotangents that the formula makes of one."""
        out, pull = vjp(f, *xs)
        return pull(np.broadcast_to(ct * self.agreed(out), aval_of(out).shape))  # type: ignore[no-any-return]  # several

    def agreed(self, out: Value) -> Value:
        """1, if the formula's value is the value; else there is no derivative."""
        if not self.whole:
            return 1.0
        p = self.point
        return agreement(stop_gradient(p.out), stop_gradient(out), of=p.of, function=p.name)

    def run(self, transform: Callable[..., Any]) -> Any:
        """What a transform makes of the formula, as a function of the live operands."""
        formula: Any = self.formula

        def of_live(*xs: Value) -> Value:
            full = list(self.values)
            for i, x in zip(self.live, xs, strict=True):
                full[i] = x
            return formula(*full)

        try:
            with np.errstate(all="ignore"):
                return transform(of_live, [self.values[i] for i in self.live])
        except (TypeError, ValueError, UnsupportedError) as error:
            if str(error).startswith(f"scipy.stats.{self.point.of}"):
                raise  # it names the distribution already
            raise self.refusal(str(error).splitlines()[0]) from error

    def refusal(self, reason: str) -> NotDifferentiableError:
        """An error that names what is differentiated."""
        names = _operands(self.point.of, len(self.values))
        return NotDifferentiableError(
            f"scipy.stats.{self.point.of} has no derivative here in "
            f"{', '.join([names[i] for i in self.live])}: {reason}{at(calling_position())}"
        )


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


def _of_log_density(p: _Point) -> _Rule:
    inside = np.isfinite(p.out).astype(float)
    return _Rule(p, formula=_formula(p.of, p.discrete), factor=inside)


def _of_density(p: _Point) -> _Rule:
    inside = (p.out > 0) & np.isfinite(p.out)
    return _Rule(p, formula=_formula(p.of, p.discrete), factor=np.where(inside, p.out, 0))


def _of_cumulative(p: _Point, along: Value | None, factor: Value, x: Value) -> _Rule:
    """``along`` dx and ``factor`` times what F at ``x`` moves by with the shapes."""
    x = np.floor(x) if p.discrete else x
    factor = np.where(np.isfinite(p.log_density(x)), factor, 0)
    return _Rule(p, along, _cumulative(p.of), factor, x)


def _of_cdf(p: _Point, sign: int) -> _Rule:
    x = p.values[0]
    return _of_cumulative(p, sign * p.density(x) if 0 in p.live else None, sign, x)


def _of_logarithm(p: _Point, sign: int) -> _Rule:
    """Of log F, or of log(1 - F): in ``x`` a ratio of densities, taken of their logarithms."""
    x = p.values[0]
    ratio = sign * np.exp(p.log_density(x) - p.out) if 0 in p.live else None
    return _of_cumulative(p, ratio, sign * np.exp(-p.out), x)


def _of_quantile(p: _Point, along: Callable[[Value], Value]) -> _Rule:
    """Of the x with F(x) = q, or with 1 - F(x) = q."""
    slope = 1 / p.density(p.out)
    return _of_cumulative(p, along(slope), -slope, p.out)


def _of_moment(name: str) -> Callable[[_Point], _Rule]:
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

    def rule(p: _Point) -> _Rule:
        finite = np.where(np.isfinite(p.out), 1, np.nan)
        return _Rule(p, None, lambda *shapes: formula(p.of, *shapes), finite, whole=True)

    return rule


_U, _STEP = np.linspace(-3.8, 5.0, 280, retstep=True)
_S = np.exp(_U - np.exp(-_U))
_Q = 0.5 * np.exp(-_S)
_WEIGHTS = np.tile(_Q * _S * (1 + np.exp(-_U)) * _STEP, 2)
"""Half of the probability from below and half from above, by the double exponential substitution
of `vjpkit.ops.scipy_quadrature`, to 1e-65 from either end."""

RULES: dict[str, Callable[[_Point], _Rule]] = {
    "cdf": lambda p: _of_cdf(p, 1),
    "entropy": _of_moment("entropy"),
    "isf": lambda p: _Rule(p) if p.discrete else _of_quantile(p, lambda slope: -slope),
    "logcdf": lambda p: _of_logarithm(p, 1),
    "logpdf": _of_log_density,
    "logpmf": _of_log_density,
    "logsf": lambda p: _of_logarithm(p, -1),
    "mean": _of_moment("mean"),
    "pdf": _of_density,
    "pmf": _of_density,
    "ppf": lambda p: _Rule(p) if p.discrete else _of_quantile(p, lambda slope: slope),
    "sample": lambda p: _of_quantile(p, np.ones_like),
    "sf": lambda p: _of_cdf(p, -1),
    "var": _of_moment("var"),
}
