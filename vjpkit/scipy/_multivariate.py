"""Distributions of several variables, as `scipy.stats` has them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import at, calling_position
from vjpkit.numpy._arguments import known
from vjpkit.scipy._namespace import scipy_module
from vjpkit.scipy._wrapped import Wrapped, double, traced

__all__ = [
    "dirichlet", "invwishart", "matrix_normal", "multinomial", "multivariate_normal",
    "multivariate_t", "wishart",
]  # fmt: skip

_LOG_2PI = math.log(2 * math.pi)


def _special() -> Any:
    return scipy_module("special")


class _WithLogPdf(Wrapped):
    """A distribution with a density, given its logarithm."""

    takes = "pdf, logpdf"

    def _require(self, *args: Any) -> None:
        """SciPy's own error for arguments that it refuses, as far as they are known."""
        values = [x if x is None else known(double(x)) for x in args]
        if not any(x is not None and v is None for x, v in zip(args, values, strict=True)):
            with np.errstate(all="ignore"):
                self.scipys.logpdf(*values)

    @traced
    def pdf(self, *args: Any, **kwds: Any) -> Value:
        """The density; takes what ``logpdf`` takes."""
        return np.exp(self.logpdf(*args, **kwds))


class _Scale:
    """A covariance-like matrix of positive definite (or, if allowed, semidefinite) kind."""

    def __init__(self, matrix: Value, singular: bool = False) -> None:
        self.rank = self.size = matrix.shape[-1]
        self.factor: Value | None = None
        if not singular:
            self.factor = np.linalg.cholesky(matrix)
            self.log_determinant = 2 * np.sum(np.log(np.diagonal(self.factor)))
            return
        values, vectors = np.linalg.eigh(matrix)
        floor = 1e6 * np.finfo(np.float64).eps * np.max(abs(values))  # SciPy's
        if np.min(values) < -floor:
            raise ValueError("The input matrix must be symmetric positive semidefinite.")
        kept = np.asarray(values > floor)
        self.rank = int(np.count_nonzero(kept))
        values, self.vectors = values[kept], vectors[:, kept]
        self.roots = np.sqrt(values)
        self.log_determinant = np.sum(np.log(values))

    def whitened(self, x: Value) -> Value:
        """Vectors along the last axis in terms of the matrix's root."""
        if self.factor is None:
            return x @ self.vectors / self.roots
        columns = np.reshape(x, (-1, self.size)).T
        return np.reshape(np.linalg.solve(self.factor, columns).T, x.shape)

    def norms(self, x: Value) -> Value:
        """``x' matrix^-1 x`` for vectors along the last axis."""
        return np.sum(self.whitened(x) ** 2, axis=-1)


def _location_and_scale(name: str, x: Value, mean: Any, cov: Any) -> tuple[Value, Value, Value]:
    """Points, location and a full matrix, from what SciPy accepts in their places."""
    x = double(x)
    if isinstance(cov, scipy_module("stats").Covariance):
        cov = cov.covariance
    cov = double(1.0 if cov is None else cov)
    dims = [a.shape[-1] for a in (double(0.0 if mean is None else mean), cov) if a.ndim]
    dim = dims[0] if dims else 1
    mean = np.zeros(dim) if mean is None else np.reshape(double(mean), (-1,))
    if cov.ndim < 2:
        cov = cov * np.eye(dim) if not cov.ndim else np.diag(cov)
    if cov.shape != (dim, dim) or mean.shape != (dim,):
        raise ValueError(
            f"scipy.stats.{name}: a location of shape {mean.shape} and a matrix of shape "
            f"{cov.shape} do not fit{at(calling_position())}"
        )
    if not x.ndim:
        x = x[None]
    elif x.ndim == 1:
        x = x[:, None] if dim == 1 else x[None, :]
    return x, mean, cov


class MultivariateNormal(_WithLogPdf):
    takes = "pdf, logpdf, entropy"

    @traced
    def logpdf(self, x: Any, mean: Any = None, cov: Any = 1, allow_singular: bool = False) -> Value:
        """See `scipy.stats.multivariate_normal`. Points off the support of a singular matrix have
        log density -inf."""
        x, mean, cov = _location_and_scale(self.name, x, mean, cov)
        scale = _Scale(cov, allow_singular)
        norms = scale.norms(x - mean)
        out = -0.5 * (scale.rank * _LOG_2PI + scale.log_determinant + norms)
        if scale.rank < scale.size:
            along = (x - mean) @ scale.vectors @ scale.vectors.T
            off = np.linalg.norm(x - mean - along, axis=-1) >= 1e3 * 1e6 * np.finfo(float).eps
            out = np.where(off, -math.inf, out)
        return np.squeeze(out)[()]

    @traced
    def entropy(self, mean: Any = None, cov: Any = 1) -> Value:
        """See `scipy.stats.multivariate_normal`."""
        _, _, cov = _location_and_scale(self.name, 0.0, mean, cov)
        return 0.5 * (cov.shape[0] * (_LOG_2PI + 1) + _Scale(cov).log_determinant)


class MultivariateT(_WithLogPdf):
    @traced
    def logpdf(self, x: Any, loc: Any = None, shape: Any = 1, df: Any = 1) -> Value:
        """See `scipy.stats.multivariate_t`."""
        degrees = known(double(df))
        if degrees is not None and np.isposinf(degrees):
            return multivariate_normal.logpdf(x, loc, shape)
        self._require(x, loc, shape, df)
        x, loc, shape = _location_and_scale(self.name, x, loc, shape)
        scale, df, lgamma = _Scale(shape), double(df), _special().gammaln
        half = 0.5 * (df + scale.size)
        const = lgamma(half) - lgamma(0.5 * df) - 0.5 * scale.size * np.log(df * math.pi)
        out = const - 0.5 * scale.log_determinant - half * np.log1p(scale.norms(x - loc) / df)
        return np.squeeze(out)[()]


class Dirichlet(_WithLogPdf):
    takes = "pdf, logpdf, mean, var, cov, entropy"

    @traced
    def logpdf(self, x: Any, alpha: Any) -> Value:
        """See `scipy.stats.dirichlet`; ``x`` may leave out its last component."""
        self._require(x, alpha)
        x, alpha = double(x), double(alpha)
        if x.shape[0] == alpha.shape[0] - 1:
            x = np.concatenate([x, 1 - np.sum(x, axis=0, keepdims=True)])
        if x.shape[0] != alpha.shape[0]:
            raise ValueError(
                f"scipy.stats.dirichlet: {x.shape[0]} components do not fit {alpha.shape[0]} "
                f"parameters{at(calling_position())}"
            )
        terms = _special().xlogy((alpha - 1), x.T)
        return np.sum(terms, axis=-1) - self._log_normalizer(alpha)

    def _log_normalizer(self, alpha: Value) -> Value:
        lgamma = _special().gammaln
        return np.sum(lgamma(alpha)) - lgamma(np.sum(alpha))

    @traced
    def mean(self, alpha: Any) -> Value:
        """See `scipy.stats.dirichlet`."""
        alpha = double(alpha)
        return alpha / np.sum(alpha)

    @traced
    def var(self, alpha: Any) -> Value:
        """See `scipy.stats.dirichlet`."""
        return np.diagonal(self.cov(alpha))

    @traced
    def cov(self, alpha: Any) -> Value:
        """See `scipy.stats.dirichlet`."""
        alpha = double(alpha)
        total = np.sum(alpha)
        mean = alpha / total
        return (np.diag(mean) - np.outer(mean, mean)) / (total + 1)

    @traced
    def entropy(self, alpha: Any) -> Value:
        """See `scipy.stats.dirichlet`."""
        alpha, digamma = double(alpha), _special().digamma
        total = np.sum(alpha)
        slopes = (total - len(alpha)) * digamma(total) - np.sum((alpha - 1) * digamma(alpha))
        return self._log_normalizer(alpha) + slopes


class Multinomial(Wrapped):
    takes = "pmf, logpmf"

    @traced
    def logpmf(self, x: Any, n: Any, p: Any) -> Value:
        """See `scipy.stats.multinomial`. Its last probability is what the others leave."""
        special = _special()
        x, n, p = np.asarray(x), np.asarray(n), double(p)
        p = np.concatenate([p[..., :-1], 1 - np.sum(p[..., :-1], axis=-1, keepdims=True)], axis=-1)
        counts = special.gammaln(n + 1) - np.sum(special.gammaln(x + 1), axis=-1)
        fits = (np.sum(x, axis=-1) == n) & np.all(x >= 0, axis=-1)
        out = np.where(fits, counts + np.sum(special.xlogy(x, p), axis=-1), -math.inf)
        possible = np.all((p >= 0) & (p <= 1), axis=-1) & (n >= 0)
        return np.where(possible, out, math.nan)[()]

    @traced
    def pmf(self, x: Any, n: Any, p: Any) -> Value:
        """See `scipy.stats.multinomial`."""
        return np.exp(self.logpmf(x, n, p))


class _OfMatrices(_WithLogPdf):
    """Wishart's distributions: SciPy has the samples' axis last."""

    def _read(self, x: Any, df: Any, scale: Any) -> tuple[Value, Value, Value, int]:
        x, df, scale = double(x), double(df), double(scale)
        if scale.ndim < 2:
            scale = np.diag(np.reshape(scale, (-1,)))
        dim = scale.shape[0]
        if x.ndim < 2:
            x = np.eye(dim)[:, :, None] * x
        return np.moveaxis(x[:, :, None] if x.ndim == 2 else x, -1, 0), df, scale, dim

    def _const(self, df: Value, dim: int) -> Value:
        places = np.arange(dim) / 2
        gammas = np.sum(_special().gammaln(df / 2 - places)) + dim * (dim - 1) / 4 * math.log(
            math.pi
        )
        return df * dim / 2 * math.log(2) + gammas


class Wishart(_OfMatrices):
    @traced
    def logpdf(self, x: Any, df: Any, scale: Any) -> Value:
        """See `scipy.stats.wishart`."""
        self._require(x, df, scale)
        x, df, scale, dim = self._read(x, df, scale)
        _, of_x = np.linalg.slogdet(x)
        _, of_scale = np.linalg.slogdet(scale)
        traces = np.trace(np.linalg.solve(scale, x), axis1=-2, axis2=-1)
        out = (df - dim - 1) / 2 * of_x - traces / 2 - df / 2 * of_scale - self._const(df, dim)
        return np.squeeze(out)[()]


class Invwishart(_OfMatrices):
    @traced
    def logpdf(self, x: Any, df: Any, scale: Any) -> Value:
        """See `scipy.stats.invwishart`."""
        self._require(x, df, scale)
        x, df, scale, dim = self._read(x, df, scale)
        _, of_x = np.linalg.slogdet(x)
        _, of_scale = np.linalg.slogdet(scale)
        traces = np.trace(np.linalg.solve(x, scale), axis1=-2, axis2=-1)
        out = df / 2 * of_scale - (df + dim + 1) / 2 * of_x - traces / 2 - self._const(df, dim)
        return np.squeeze(out)[()]


class MatrixNormal(_WithLogPdf):
    @traced
    def logpdf(self, X: Any, mean: Any = None, rowcov: Any = 1, colcov: Any = 1) -> Value:
        """See `scipy.stats.matrix_normal`."""
        x = double(X)
        rows, columns = x.shape[-2:]
        u, v = [_full(c, n) for c, n in ((rowcov, rows), (colcov, columns))]
        across, down = _Scale(v), _Scale(u)
        moved = x if mean is None else x - double(mean)
        white = np.swapaxes(down.whitened(np.swapaxes(across.whitened(moved), -1, -2)), -1, -2)
        const = rows * columns * _LOG_2PI
        const = const + rows * across.log_determinant + columns * down.log_determinant
        return -0.5 * (const + np.sum(white**2, axis=(-2, -1)))


def _full(cov: Any, n: int) -> Value:
    cov = double(cov)
    return cov * np.eye(n) if not cov.ndim else np.diag(cov) if cov.ndim == 1 else cov


dirichlet = Dirichlet("dirichlet")
invwishart = Invwishart("invwishart")
matrix_normal = MatrixNormal("matrix_normal")
multinomial = Multinomial("multinomial")
multivariate_normal = MultivariateNormal("multivariate_normal")
multivariate_t = MultivariateT("multivariate_t")
wishart = Wishart("wishart")
