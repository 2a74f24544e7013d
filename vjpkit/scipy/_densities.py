"""Logarithms of densities and masses, and distribution functions, where SciPy's own take no traced
values.

SciPy writes most of its formulas in NumPy and ufuncs, and these are differentiated as they stand.
The formulas here are of the standardized distribution, as SciPy documents it, in its order of
parameters. They serve derivatives alone: values are always SciPy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.scipy._namespace import scipy_module

__all__ = ["CUMULATIVES", "INEXACT", "LOG_DENSITIES", "MOMENTS"]

Formula = Callable[..., Value]
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)

LOG_DENSITIES: dict[str, Formula] = {}
"""log f(x, *shapes), or log of the mass at k."""

CUMULATIVES: dict[str, Formula] = {}
"""F(x, *shapes)."""

MOMENTS: dict[tuple[str, str], Formula] = {}
"""Mean, var or entropy of the shapes, where the integral over the quantiles is not the way."""

INEXACT: dict[str, frozenset[str]] = {}
"""Where it is not exact, and there is no formula: quantiles have a kink or lose their digits near
an end."""


def _log_density(f: Formula) -> Formula:
    LOG_DENSITIES[f.__name__] = f
    return f


def _special() -> Any:
    return scipy_module("special")


def _normal(x: Value) -> Value:
    return -0.5 * x * x - _HALF_LOG_2PI


def _log_gamma_density(x: Value, a: Value) -> Value:
    special = _special()
    return special.xlogy(a - 1, x) - x - special.gammaln(a)


_SMALL = 1e-4


def _log1p_over(u: Value) -> Value:
    """``log1p(u) / u``, smooth at 0, where it is 1."""
    small = abs(u) < _SMALL
    series = 1 - u * (1 / 2 - u * (1 / 3 - u * (1 / 4 - u / 5)))
    away = np.where(small, 1, u)
    return np.where(small, series, np.log1p(away) / away)


# ------------------------------------------------------------------------------------- continuous


@_log_density
def burr(x: Value, c: Value, d: Value) -> Value:
    return np.log(c * d) - (c + 1) * np.log(x) - (d + 1) * np.log1p(x**-c)


@_log_density
def cauchy(x: Value) -> Value:
    return -np.log1p(x * x) - math.log(math.pi)


@_log_density
def cosine(x: Value) -> Value:
    return np.log1p(np.cos(x)) - math.log(2 * math.pi)


@_log_density
def crystalball(x: Value, beta: Value, m: Value) -> Value:
    total = m / beta / (m - 1) * np.exp(-beta * beta / 2) + math.sqrt(
        2 * math.pi
    ) * _special().ndtr(beta)
    tail = m * np.log(m / beta) - beta * beta / 2 - m * np.log(m / beta - beta - x)
    return np.where(x > -beta, -x * x / 2, tail) - np.log(total)


@_log_density
def fisk(x: Value, c: Value) -> Value:
    return burr(x, c, 1.0)


@_log_density
def genextreme(x: Value, c: Value) -> Value:
    z = -x * _log1p_over(-c * x)
    return (1 - c) * z - np.exp(z)


@_log_density
def gengamma(x: Value, a: Value, c: Value) -> Value:
    special = _special()
    return np.log(abs(c)) + special.xlogy(c * a - 1, x) - x**c - special.gammaln(a)


@_log_density
def genhyperbolic(x: Value, p: Value, a: Value, b: Value) -> Value:
    special = _special()
    r = np.sqrt(a * a - b * b)
    s = np.sqrt(1 + x * x)
    const = p * np.log(r) - (p - 0.5) * np.log(a) - np.log(special.kve(p, r)) + r - _HALF_LOG_2PI
    return const + (p - 0.5) * np.log(s) + np.log(special.kve(p - 0.5, a * s)) - a * s + b * x


@_log_density
def geninvgauss(x: Value, p: Value, b: Value) -> Value:
    bessel = np.log(2 * _special().kve(p, b)) - b
    return (p - 1) * np.log(x) - b * (x + 1 / x) / 2 - bessel


@_log_density
def genpareto(x: Value, c: Value) -> Value:
    return -(1 + c) * x * _log1p_over(c * x)


@_log_density
def gibrat(x: Value) -> Value:
    return lognorm(x, 1.0)


@_log_density
def kappa4(x: Value, h: Value, k: Value) -> Value:
    z = -x * _log1p_over(-k * x)
    return (1 - h) * -np.exp(z) * _log1p_over(-h * np.exp(z)) + (1 - k) * z


@_log_density
def lognorm(x: Value, s: Value) -> Value:
    return _normal(np.log(x) / s) - np.log(s * x)


@_log_density
def ncx2(x: Value, df: Value, nc: Value) -> Value:
    root = np.sqrt(x * nc)
    bessel = np.log(_special().ive(df / 2 - 1, root)) + root
    return -math.log(2) + (df / 4 - 0.5) * np.log(x / nc) - (x + nc) / 2 + bessel


@_log_density
def pearson3(x: Value, skew: Value) -> Value:
    small = abs(skew) < _SMALL  # the next term of the expansion is of the size of its square
    rate = 2 / np.where(small, 1, skew)
    gamma = np.log(abs(rate)) + _log_gamma_density(rate * (x + rate), rate * rate)
    return np.where(small, _normal(x) + skew * (x**3 - 3 * x) / 6, gamma)


@_log_density
def recipinvgauss(x: Value, mu: Value) -> Value:
    return -((1 - mu * x) ** 2) / (2 * x * mu * mu) - 0.5 * np.log(x) - _HALF_LOG_2PI


@_log_density
def skewnorm(x: Value, a: Value) -> Value:
    return math.log(2) + _normal(x) + _special().log_ndtr(a * x)


@_log_density
def t(x: Value, df: Value) -> Value:
    normal = np.isinf(df)
    v = np.where(normal, 1, df)
    const = -_special().betaln(v / 2, 0.5) - 0.5 * np.log(v)
    return np.where(normal, _normal(x), const - (v + 1) / 2 * np.log1p(x * x / v))


@_log_density
def trapezoid(x: Value, c: Value, d: Value) -> Value:
    sides = np.where(x < c, x / c, np.where(x > d, (1 - x) / (1 - d), 1.0))
    return math.log(2) - np.log(1 + d - c) + np.log(sides)


@_log_density
def triang(x: Value, c: Value) -> Value:
    return math.log(2) + np.log(np.where(x < c, x / c, (1 - x) / (1 - c)))


@_log_density
def truncnorm(x: Value, a: Value, b: Value) -> Value:
    return _normal(x) - _log_normal_between(a, b)


@_log_density
def truncpareto(x: Value, b: Value, c: Value) -> Value:
    return np.log(b / -np.expm1(-b * np.log(c))) - (b + 1) * np.log(x)


def _log_normal_between(a: Value, b: Value) -> Value:
    """The logarithm of the normal probability between ``a < b``, by the tail they are in."""
    log_ndtr, ndtr = _special().log_ndtr, _special().ndtr
    right = a > 0
    low, high = np.where(right, -b, a), np.where(right, -a, b)
    tail = log_ndtr(high) + np.log1p(-np.exp(log_ndtr(low) - log_ndtr(high)))
    return np.where(high <= 0, tail, np.log1p(-ndtr(low) - ndtr(-high)))


def _betaprime(x: Value, a: Value, b: Value) -> Value:
    return _special().betainc(a, b, x / (1 + x))


def _crystalball(x: Value, beta: Value, m: Value) -> Value:
    ndtr, width = _special().ndtr, math.sqrt(2 * math.pi)
    tail = m / beta / (m - 1) * np.exp(-beta * beta / 2)
    base = np.where(x > -beta, 1, m / beta - beta - x)
    left = (m / beta) ** m * np.exp(-beta * beta / 2) * base ** (1 - m) / (m - 1)
    right = tail + width * (ndtr(x) - ndtr(-beta))
    return np.where(x > -beta, right, left) / (tail + width * ndtr(beta))


def _dlaplace(k: Value, a: Value) -> Value:
    below, above = np.exp(a * (k + 1)), np.exp(-a * np.where(k < 0, 0, k))
    return np.where(k < 0, below, np.exp(a) + 1 - above) / (np.exp(a) + 1)


def _kappa4(x: Value, h: Value, k: Value) -> Value:
    z = np.exp(-x * _log1p_over(-k * x))
    return np.exp(-z * _log1p_over(-h * z))


def _pearson3(x: Value, skew: Value) -> Value:
    special = _special()
    small = abs(skew) < _SMALL
    rate = 2 / np.where(small, 1, skew)
    below = special.gammainc(rate * rate, rate * (x + rate))
    gamma = np.where(rate > 0, below, 1 - below)
    return np.where(small, special.ndtr(x) - skew * (x * x - 1) * np.exp(_normal(x)) / 6, gamma)


def _trapezoid(x: Value, c: Value, d: Value) -> Value:
    height = 2 / (1 + d - c)
    last = 1 - height * (1 - x) ** 2 / (2 * (1 - d))
    return np.where(x < c, height * x * x / (2 * c), np.where(x > d, last, height * (x - c / 2)))


def _wrapcauchy(x: Value, c: Value) -> Value:
    turn = np.arctan((1 + c) / (1 - c) * np.tan(np.where(x < math.pi, x, 2 * math.pi - x) / 2))
    return np.where(x < math.pi, turn / math.pi, 1 - turn / math.pi)


def _truncnorm(x: Value, a: Value, b: Value) -> Value:
    return np.exp(_log_normal_between(a, x) - _log_normal_between(a, b))


CUMULATIVES.update(
    bernoulli=lambda k, p: np.where(k < 1, 1 - p, 1),
    betaprime=_betaprime,
    binom=lambda k, n, p: _special().betainc(n - k, k + 1, 1 - p),
    crystalball=_crystalball,
    dlaplace=_dlaplace,
    genextreme=lambda x, c: np.exp(-np.exp(-x * _log1p_over(-c * x))),
    genpareto=lambda x, c: -np.expm1(-x * _log1p_over(c * x)),
    kappa4=_kappa4,
    loggamma=lambda x, c: _special().gammainc(c, np.exp(x)),
    nbinom=lambda k, n, p: _special().betainc(n, k + 1, p),
    ncx2=lambda x, df, nc: _special().chndtr(x, df, nc),
    ncf=lambda x, dfn, dfd, nc: _special().ncfdtr(dfn, dfd, nc, x),
    nct=lambda x, df, nc: _special().nctdtr(df, nc, x),
    pearson3=_pearson3,
    rice=lambda x, b: _special().chndtr(x * x, 2.0, b * b),
    skewnorm=lambda x, a: _special().ndtr(x) - 2 * _special().owens_t(x, a),
    trapezoid=_trapezoid,
    triang=lambda x, c: np.where(x < c, x * x / c, 1 - (1 - x) ** 2 / (1 - c)),
    truncnorm=_truncnorm,
    wrapcauchy=_wrapcauchy,
)


# ---------------------------------------------------------------------------------------- moments


def _skewness_mean(a: Value) -> Value:
    return math.sqrt(2 / math.pi) * a / np.sqrt(1 + a * a)


def _fisk_moment(order: int, c: Value) -> Value:
    turn = order * math.pi / c
    return turn / np.sin(turn)


def _beta_entropy(a: Value, b: Value) -> Value:
    special = _special()
    psi = special.digamma
    slopes = (a - 1) * psi(a) + (b - 1) * psi(b) - (a + b - 2) * psi(a + b)
    return special.betaln(a, b) - slopes


MOMENTS.update({
    ("beta", "entropy"): _beta_entropy,
    ("fisk", "entropy"): lambda c: 2 - np.log(c),
    ("fisk", "mean"): lambda c: _fisk_moment(1, c),
    ("fisk", "var"): lambda c: _fisk_moment(2, c) - _fisk_moment(1, c) ** 2,
    ("invgauss", "mean"): lambda mu: mu,
    ("invgauss", "var"): lambda mu: mu**3,
    ("laplace_asymmetric", "entropy"): lambda kappa: 1 + np.log(kappa + 1 / kappa),
    ("laplace_asymmetric", "mean"): lambda kappa: 1 / kappa - kappa,
    ("laplace_asymmetric", "var"): lambda kappa: 1 / kappa**2 + kappa**2,
    ("lomax", "entropy"): lambda c: 1 + 1 / c - np.log(c),
    ("lomax", "mean"): lambda c: 1 / (c - 1),
    ("lomax", "var"): lambda c: c / ((c - 1) ** 2 * (c - 2)),
    ("ncx2", "mean"): lambda df, nc: df + nc,
    ("ncx2", "var"): lambda df, nc: 2 * (df + 2 * nc),
    ("pareto", "entropy"): lambda b: 1 + 1 / b - np.log(b),
    ("pareto", "mean"): lambda b: b / (b - 1),
    ("pareto", "var"): lambda b: b / ((b - 1) ** 2 * (b - 2)),
    ("pearson3", "mean"): lambda skew: 0 * skew,
    ("pearson3", "var"): lambda skew: 1 + 0 * skew,
    ("skewnorm", "mean"): _skewness_mean,
    ("skewnorm", "var"): lambda a: 1 - _skewness_mean(a) ** 2,
    ("triang", "entropy"): lambda c: 0.5 - math.log(2) + 0 * c,
    ("triang", "mean"): lambda c: (1 + c) / 3,
    ("triang", "var"): lambda c: (1 - c + c * c) / 18,
})  # fmt: skip

_ENTROPIES = (
    "skewnorm "
    "argus betaprime dgamma dweibull f foldnorm genhalflogistic invgauss jf_skew_t powerlognorm "
    "rdist truncnorm truncpareto truncweibull_min weibull_max"
)
_ALL = "alpha crystalball foldcauchy kappa3 kappa4 loglaplace mielke skewcauchy trapezoid"
INEXACT.update(
    mean=frozenset(_ALL.split()),
    var=frozenset(f"{_ALL} rel_breitwigner".split()),
    entropy=frozenset(f"{_ALL} {_ENTROPIES}".split()),
)
