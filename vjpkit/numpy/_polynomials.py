"""NumPy's functions of polynomials, highest coefficient first, on traced coefficients and points.

Where NumPy drops leading zeros, the length of the result depends on values, which must be known.
"""

from __future__ import annotations

import warnings
from operator import index
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.numpy._arguments import as_array, concrete, known
from vjpkit.numpy._dispatch import implements
from vjpkit.numpy._linalg import are_real
from vjpkit.ops.structural import to_dtype

__all__: list[str] = []


def _coefficients(p: Value) -> Value:
    """Coefficients as an array of one axis at least."""
    return np.atleast_1d(as_array(p))


def _floating(x: Value) -> Value:
    """``x`` as NumPy's ``asarray(x) + 0.0`` makes it."""
    return as_array(x) + 0.0


# ---- from zeros, and back ----------------------------------------------------------------------


@implements(np.poly)
def poly(seq_of_zeros: Value) -> Value:
    """The polynomial with these zeros, or the characteristic one of a matrix."""
    zeros = _coefficients(seq_of_zeros)
    if zeros.ndim == 2 and zeros.shape[0] == zeros.shape[1] != 0:
        zeros = np.linalg.eigvals(zeros)
    elif zeros.ndim == 1:
        zeros = to_dtype(zeros, np.dtype(np.mintypecode(zeros.dtype.char)))
    else:
        raise ValueError("input must be 1d or non-empty square 2d array.")
    if not len(zeros):
        return 1.0
    out = np.ones(1, zeros.dtype)
    for zero in zeros:
        out = np.convolve(out, np.stack([np.ones_like(zero), -zero]))
    if zeros.dtype.kind == "c" and _come_in_pairs(concrete(zeros, "poly")):
        return np.real(out)
    return out


def _come_in_pairs(zeros: Any) -> bool:
    """Whether complex zeros are those of a real polynomial."""
    return bool(np.all(np.sort(zeros) == np.sort(zeros.conjugate())))


@implements(np.roots)
def roots(p: Value) -> Value:
    """Eigenvalues of the companion matrix; a multiple zero has no derivative, which raises."""
    p = _coefficients(p)
    if p.ndim != 1:
        raise ValueError("Input must be a rank-1 array.")
    places = np.flatnonzero(concrete(p, "roots"))
    if not len(places):
        return np.array([])
    trailing = len(p) - places[-1] - 1
    p = p[int(places[0]) : int(places[-1]) + 1]
    p = p if p.dtype.kind in "fc" else to_dtype(p, np.dtype(float))
    n = len(p)
    if n == 1:
        return np.zeros(trailing)
    below = np.diag(np.ones(n - 2, p.dtype), -1)[1:]
    companion = np.concatenate([(-p[1:] / p[0])[None], below])
    found = np.linalg.eigvals(companion)
    found = np.real(found) if are_real(found, of=companion) else found
    return np.hstack([found, np.zeros(trailing, found.dtype)])


# ---- values, derivatives, integrals ------------------------------------------------------------


@implements(np.polyval)
def polyval(p: Value, x: Value) -> Value:
    """Horner's scheme."""
    p, x = as_array(p), as_array(x)
    y = np.zeros_like(x)
    for coefficient in p:
        y = y * x + coefficient
    return y


@implements(np.polyder)
def polyder(p: Value, m: Any = 1) -> Value:
    m = index(m)
    if m < 0:
        raise ValueError("Order of derivative must be positive (see polyint)")
    p = as_array(p)
    for _ in range(m):
        p = p[:-1] * np.arange(len(p) - 1, 0, -1)
    return p


@implements(np.polyint)
def polyint(p: Value, m: Any = 1, k: Value = None) -> Value:
    """``k`` holds the constants, that of the first integral first."""
    m = index(m)
    if m < 0:
        raise ValueError("Order of integral must be positive (see polyder)")
    constants = np.zeros(m) if k is None else _coefficients(k)
    if len(constants) == 1 and m > 1:
        constants = constants[0] * np.ones(m)
    if len(constants) < m:
        raise ValueError("k must be a scalar or a rank-1 array of length 1 or >m.")
    p = as_array(p)
    for i in range(m):
        p = np.concatenate([p / np.arange(len(p), 0, -1), constants[i : i + 1]])
    return p


# ---- arithmetic --------------------------------------------------------------------------------


def _aligned(a1: Value, a2: Value) -> tuple[Value, Value]:
    """Both with as many coefficients, zeros in front."""
    xs = [_coefficients(a) for a in (a1, a2)]
    n = max(map(len, xs))
    a, b = (x if len(x) == n else np.concatenate([np.zeros(n - len(x), x.dtype), x]) for x in xs)
    return a, b


@implements(np.polyadd)
def polyadd(a1: Value, a2: Value) -> Value:
    a, b = _aligned(a1, a2)
    return a + b


@implements(np.polysub)
def polysub(a1: Value, a2: Value) -> Value:
    a, b = _aligned(a1, a2)
    return a - b


@implements(np.polymul)
def polymul(a1: Value, a2: Value) -> Value:
    """`numpy.convolve` of coefficients without leading zeros; it takes unknown ones too."""
    a, b = (_without_leading_zeros(_coefficients(p), "polymul") for p in (a1, a2))
    return np.convolve(a, b)


def _without_leading_zeros(p: Value, function: str) -> Value:
    if p.ndim != 1:
        raise ValueError("Polynomial must be 1d only.")
    places = np.flatnonzero(concrete(p, function))
    return p[int(places[0]) :] if len(places) else np.zeros(1, p.dtype)


@implements(np.polydiv)
def polydiv(u: Value, v: Value) -> tuple[Value, Value]:
    """Quotient, and remainder without its leading zeros."""
    u, v = _floating(_coefficients(u)), _floating(_coefficients(v))
    dtype = (u[0] + v[0]).dtype
    n = len(v)
    steps = len(u) - n + 1
    rest = to_dtype(u, dtype)
    quotient = []
    for k in range(steps):
        factor = 1.0 / v[0] * rest[k]
        quotient.append(factor)
        behind = rest[k + n :]
        rest = np.concatenate([rest[:k], rest[k : k + n] - factor * v, behind])
    values = concrete(rest, "polydiv")
    first = 0
    while first < len(values) - 1 and np.allclose(values[first], 0, rtol=1e-14):
        first += 1
    return np.stack(quotient) if quotient else np.zeros(1, dtype), rest[first:]


# ---- least squares -----------------------------------------------------------------------------


@implements(np.vander)
def vander(x: Value, N: Any = None, increasing: bool = False) -> Value:
    """Powers of ``x``, which are computed as a running product."""
    x = as_array(x)
    if x.ndim != 1:
        raise ValueError("x must be a one-dimensional array or sequence.")
    n = len(x) if N is None else index(N)
    x = to_dtype(x, np.promote_types(x.dtype, int))
    factors = [np.ones((len(x), min(n, 1)), x.dtype)]
    if n > 1:
        factors.append(np.broadcast_to(x[:, None], (len(x), n - 1)))
    powers = np.cumprod(np.concatenate(factors, axis=1), axis=1)
    return powers if increasing else powers[:, ::-1]


@implements(np.polyfit)
def polyfit(
    x: Value, y: Value, deg: Any, rcond: Any = None, full: bool = False, w: Value = None,
    cov: Any = False,
) -> Any:  # fmt: skip
    """The rank is taken to be full while it is not known."""
    order = int(deg) + 1
    x, y = _floating(x), _floating(y)
    _require_points(x, y, order)
    if rcond is None:
        rcond = len(x) * np.finfo(x.dtype).eps
    left, right = vander(x, order), y
    if w is not None:
        weights = _floating(w)
        if weights.ndim != 1:
            raise TypeError("expected a 1-d array for weights")
        if len(weights) != len(y):
            raise TypeError("expected w and y to have the same length")
        left = left * weights[:, None]
        right = right * (weights[:, None] if right.ndim == 2 else weights)
    scale = np.sqrt(np.sum(left * left, axis=0))
    left = left / scale
    found, residuals, rank, s = np.linalg.lstsq(left, right, rcond)
    found = (found.T / scale).T
    if full:
        return found, residuals, rank, s, rcond
    if known(rank) not in (None, order):
        message = "Polyfit may be poorly conditioned"
        warnings.warn(message, np.exceptions.RankWarning, stacklevel=3)
    if not cov:
        return found
    base = np.linalg.inv(np.dot(left.T, left)) / np.outer(scale, scale)
    if cov == "unscaled":
        factor: Value = 1
    elif len(x) <= order:
        raise ValueError(
            "the number of data points must exceed order to scale the covariance matrix"
        )
    else:
        factor = residuals / (len(x) - order)
    return found, (base if y.ndim == 1 else base[:, :, None]) * factor


def _require_points(x: Value, y: Value, order: int) -> None:
    if order < 1:
        raise ValueError("expected deg >= 0")
    if x.ndim != 1:
        raise TypeError("expected 1D vector for x")
    if not x.size:
        raise TypeError("expected non-empty vector for x")
    if y.ndim not in (1, 2):
        raise TypeError("expected 1D or 2D array for y")
    if len(x) != len(y):
        raise TypeError("expected x and y to have same length")
