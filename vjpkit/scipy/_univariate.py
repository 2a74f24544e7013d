"""Distributions of one variable, as `scipy.stats` has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.core.tracer import Tracer
from vjpkit.scipy._distributions import distribution, is_discrete
from vjpkit.scipy._wrapped import Wrapped, double, traced
from vjpkit.transforms.stopping import stop_gradient

__all__ = ["Univariate"]


class _Parameters:
    """Shape parameters, location and scale of one call, in the order that SciPy reads them."""

    def __init__(self, dist: Any, args: Sequence[Any], kwds: dict[str, Any]) -> None:
        shapes, loc, scale = dist._parse_args(*args, **kwds)
        self.shapes = [double(s) for s in shapes]
        numbers = type(loc) in (int, float) and type(scale) in (int, float)
        self.loc, self.scale = map(float if numbers else double, (loc, scale))

    def where_valid(self, out: Value) -> Value:
        """Scales that are not positive give nan."""
        if type(self.scale) is type(self.loc) is float and self.scale > 0 and self.loc == self.loc:
            return out
        return np.where((self.scale > 0) & (self.loc == self.loc), out, math.nan)


def _method(function: str) -> Callable[..., Any]:
    """A method that takes a place, or a probability, and the parameters."""

    def method(self: Univariate, x: Any, *args: Any, **kwds: Any) -> Value:
        p = _Parameters(self.scipys, args, kwds)
        x = double(x)
        if function in ("ppf", "isf"):
            return p.where_valid(self.at(function, x, *p.shapes) * p.scale + p.loc)
        x = x - p.loc
        out = self.at(function, x if self.discrete else x / p.scale, *p.shapes)
        if function == "pdf":
            out = out / p.scale
        if function == "logpdf":
            out = out - np.log(p.scale)
        return p.where_valid(out)

    method.__name__ = function
    method.__doc__ = f"See `scipy.stats.rv_continuous.{function}`."
    return traced(method)


class Univariate(Wrapped):
    """One of SciPy's distributions of one variable, called as SciPy's is.

    >>> import vjpkit as vk
    >>> vk.scipy.stats.expon
    <vjpkit.scipy.stats.expon>
    >>> vk.grad(vk.scipy.stats.expon.cdf)(1.0).round(6)
    np.float64(0.367879)
    """

    takes = (
        "densities, masses, distribution functions, quantiles, mean, var, std, median, entropy, "
        "interval, nnlf, rvs"
    )

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.discrete = is_discrete(name)

    def at(self, function: str, *xs: Value) -> Value:
        """A function of the standardized distribution."""
        if not xs:
            return getattr(self.scipys, function)()
        return distribution(*xs, of=self.name, function=function)

    cdf = _method("cdf")
    isf = _method("isf")
    logcdf = _method("logcdf")
    logpdf = _method("logpdf")
    logpmf = _method("logpmf")
    logsf = _method("logsf")
    pdf = _method("pdf")
    pmf = _method("pmf")
    ppf = _method("ppf")
    sf = _method("sf")

    @traced
    def mean(self, *args: Any, **kwds: Any) -> Value:
        """See `scipy.stats.rv_continuous.mean`."""
        p = _Parameters(self.scipys, args, kwds)
        return p.where_valid(self.at("mean", *p.shapes) * p.scale + p.loc)

    @traced
    def var(self, *args: Any, **kwds: Any) -> Value:
        """See `scipy.stats.rv_continuous.var`."""
        p = _Parameters(self.scipys, args, kwds)
        return p.where_valid(self.at("var", *p.shapes) * p.scale * p.scale)

    @traced
    def std(self, *args: Any, **kwds: Any) -> Value:
        """See `scipy.stats.rv_continuous.std`."""
        return np.sqrt(self.var(*args, **kwds))

    @traced
    def entropy(self, *args: Any, **kwds: Any) -> Value:
        """See `scipy.stats.rv_continuous.entropy`."""
        p = _Parameters(self.scipys, args, kwds)
        return p.where_valid(self.at("entropy", *p.shapes) + np.log(p.scale))

    @traced
    def median(self, *args: Any, **kwds: Any) -> Value:
        """See `scipy.stats.rv_continuous.median`."""
        return self.ppf(0.5, *args, **kwds)

    @traced
    def interval(self, confidence: Any, *args: Any, **kwds: Any) -> tuple[Value, Value]:
        """See `scipy.stats.rv_continuous.interval`."""
        outside = (1 - double(confidence)) / 2
        return self.ppf(outside, *args, **kwds), self.ppf(1 - outside, *args, **kwds)

    @traced
    def nnlf(self, theta: Sequence[Any], x: Any) -> Value:
        """See `scipy.stats.rv_continuous.nnlf`."""
        *shapes, loc, scale = theta
        return -np.sum(self.logpdf(x, *shapes, loc=loc, scale=scale))

    @traced
    def rvs(self, *args: Any, size: Any = None, random_state: Any = None, **kwds: Any) -> Value:
        """See `scipy.stats.rv_continuous.rvs`.

        Samples move with the parameters as the quantiles do that they are: Figurnov, Mohamed and
        Mnih (2018), "Implicit reparameterization gradients".
        """
        if self.discrete:
            raise UnsupportedError(
                f"scipy.stats.{self.name}.rvs: samples that are whole numbers have no derivative "
                f"in the parameters{at(calling_position())}; use vk.lax.stop_gradient of these"
            )
        p = _Parameters(self.scipys, args, kwds)
        if size is None:
            size = np.broadcast_shapes(*[aval_of(x).shape for x in (*p.shapes, p.loc, p.scale)])
        shapes = [np.asarray(_below(s)) for s in p.shapes]
        drawn = self.scipys.rvs(*shapes, size=size, random_state=random_state)
        moving = self.at("sample", double(drawn), *p.shapes) if shapes else drawn
        return moving * p.scale + p.loc


def _below(x: Value) -> Value:
    """The numbers below eager tracers."""
    x = stop_gradient(x)
    while isinstance(x, Tracer) and hasattr(x, "value"):
        x = x.value
    return x
