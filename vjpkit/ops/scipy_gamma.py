"""SciPy's gamma functions, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.errors import at, calling_position
from vjpkit.core.primitive import Sample, primitive
from vjpkit.kinds import General
from vjpkit.ops.scipy_special import SciPyFunction, special, unknown
from vjpkit.ops.special import inexact

_POSITIVE = np.array([0.4, 1.7, 30.0])


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


class HurwitzZeta(SciPyFunction):
    """ζ(x, q) = Σ (q + k)⁻ˣ; its derivative in q is -x ζ(x + 1, q)."""

    real = True
    function = "zeta"
    partials = unknown("zeta", "x"), (lambda x, y: -x * hurwitz_zeta(x + 1, y))
    points = _POSITIVE + 1.5, _POSITIVE

    @cached_property
    def ufunc(self) -> Any:  # type: ignore[override]  # known later than the class
        """The ufunc that `scipy.special.zeta` calls."""
        return special()._ufuncs._zeta


hurwitz_zeta: HurwitzZeta = primitive(HurwitzZeta)


class Zetac(SciPyFunction):
    """Riemann's zeta function minus 1."""

    partials = (unknown("zetac", "x"),)
    points = (_POSITIVE + 1.5,)


zetac = primitive(Zetac)


class Gammasgn(SciPyFunction):
    """The sign of the gamma function, which is constant between its poles."""

    partials = (None,)
    points = (np.array([0.4, 1.7, -1.3]),)


gammasgn = primitive(Gammasgn)


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
