"""Distributions of one variable, as `scipy.stats` has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.numpy._arguments import known
from vjpkit.scipy._distributions import distribution, is_discrete
from vjpkit.scipy._traced import unsupported
from vjpkit.scipy._wrapped import Frozen, Wrapped, double, traced

__all__ = ["Univariate"]


class _Parameters:
    """Shape parameters, location and scale of one call, in the order that SciPy reads them."""

    def __init__(self, dist: Any, args: Sequence[Any], kwds: dict[str, Any]) -> None:
        shapes, loc, scale = dist._parse_args(*args, **kwds)
        self.shapes = [double(s) for s in shapes]
        self.valid: Value = None
        self.loc: Value
        self.scale: Value
        if type(loc) in (int, float) and type(scale) in (int, float) and scale > 0 and loc == loc:
            self.loc, self.scale = float(loc), float(scale)
            return
        self.loc, scale = double(loc), double(scale)
        self.valid = (scale > 0) & (self.loc == self.loc)
        self.scale = np.where(self.valid, scale, 1)

    def where_valid(self, out: Value, otherwise: float = math.nan) -> Value:
        """Scales that are not positive, and locations that are nan, give nan."""
        return out if self.valid is None else np.where(self.valid, out, otherwise)[()]


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

    def __call__(self, *args: Any, **kwds: Any) -> Frozen:
        """The distribution with these parameters."""
        self.scipys._parse_args(*args, **kwds)  # raises where they do not fit
        return super().__call__(*args, **kwds)

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
        inside = known(double(confidence))
        if inside is not None and not np.all((inside >= 0) & (inside <= 1)):
            raise ValueError("alpha must be between 0 and 1 inclusive")  # SciPy's words
        outside = (1 - double(confidence)) / 2
        return self.ppf(outside, *args, **kwds), self.ppf(1 - outside, *args, **kwds)

    @traced
    def nnlf(self, theta: Sequence[Any], x: Any) -> Value:
        """See `scipy.stats.rv_continuous.nnlf`."""
        *shapes, loc, scale = theta
        total = -np.sum(self.logpdf(x, *shapes, loc=loc, scale=scale))
        return np.where(np.isnan(total), math.inf, total)[()]

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
        values = [known(x) for x in (*p.shapes, p.loc, p.scale)]
        if any(x is None for x in values):
            way = "Draw outside of jit and vmap, and pass the samples in; ppf(q) of given q maps."
            raise unsupported(f"stats.{self.name}.rvs", "drawing with parameters not known", way)
        if size is None:
            size = np.broadcast_shapes(*[aval_of(x).shape for x in (*p.shapes, p.loc, p.scale)])
        drawn = self.scipys.rvs(*values[:-2], size=size, random_state=random_state)
        moving = self.at("sample", double(drawn), *p.shapes) if p.shapes else drawn
        return p.where_valid(moving * p.scale + p.loc)
