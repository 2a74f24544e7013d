"""LAPACK on plain arrays: SciPy's routines for one large matrix, NumPy's for everything else.

SciPy is optional and is imported when the first large matrix comes. It serves where it has the
better routine (triangular solves, factors that are kept, the inverse from a Cholesky factor); the
results agree to rounding, and errors are NumPy's. Row-major matrices are handed over as their
transposes, so that nothing is copied to change the order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from vjpkit.core.aval import Value

__all__ = ["LARGE", "cholesky", "cholesky_pull", "factor", "inverse", "mirror", "solve"]

Array = np.ndarray[Any, np.dtype[Any]]

LARGE = 64
"""Rows from which one matrix is worth a routine of its own."""

_LETTERS = {"f": "s", "d": "d", "F": "c", "D": "z"}
_NONE, _LOWER, _UPPER = -1, -2, -3
"""What ``pivots[0]`` says where the factors of a matrix are not those of an LU decomposition."""


@cache
def _scipy(module: str) -> Any | None:
    """SciPy's ``lapack`` or ``blas``, or None where SciPy is not installed."""
    try:
        from scipy.linalg import blas, lapack
    except ImportError:
        return None
    return lapack if module == "lapack" else blas


def _routine(name: str, a: Value, module: str = "lapack") -> Callable[..., Any] | None:
    """SciPy's routine for one large square matrix, or None where NumPy serves."""
    if type(a) is not np.ndarray or a.ndim != 2 or a.shape[0] < LARGE or a.shape[0] != a.shape[1]:
        return None
    letter = _LETTERS.get(a.dtype.char)
    library = None if letter is None else _scipy(module)
    return None if library is None else getattr(library, f"{letter}{name}")


def _require_square(a: Value) -> None:
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")


def mirror(a: Value) -> Value:
    """The transpose of the last two axes."""
    return a.swapaxes(-1, -2)


# ---- triangles


def _is_lower(a: Array) -> bool:
    """Whether all above the diagonal is exactly zero; blockwise, so that a full matrix is cheap."""
    n = len(a)
    if n <= _BLOCK:
        return not ((a != 0) & _ABOVE[:n, :n]).any()
    h = n // 2
    return not a[:h, h:].any() and _is_lower(a[:h, :h]) and _is_lower(a[h:, h:])


_BLOCK = 64
_ABOVE = np.triu(np.ones((_BLOCK, _BLOCK), bool), 1)


def _is_diagonal(a: Array) -> bool:
    """Whether all beside the diagonal is exactly zero: there are n elements between two of it."""
    n = len(a)
    if n < 2 or a[0, 1:].any():
        return n < 2
    return not a.ravel("K")[:-1].reshape(n - 1, n + 1)[:, 1:].any()


def _triangle(a: Array) -> int:
    """Which triangular matrix ``a`` is, if it is one and regular."""
    if not a[0, 1:].any() and _is_lower(a):
        kind = _LOWER
    elif not a[1:, 0].any() and _is_lower(a.T):
        kind = _UPPER
    else:
        return _NONE
    return kind if np.diagonal(a).all() else _NONE


def _solve_triangular(a: Array, b: Array, kind: int, transposed: bool) -> Array | None:
    trtrs = _routine("trtrs", a)
    if trtrs is None:
        return None
    x, info = trtrs(a.T, b, lower=int(kind == _UPPER), trans=int(not transposed))
    return x if info == 0 else None


# ---- equations, inverse


def factor(a: Value) -> tuple[Value, Value]:
    """Factors of square matrices, and pivots: what `solve` needs to use them again and again."""
    _require_square(a)
    n = a.shape[-1]
    getrf = _routine("getrf", a)
    if getrf is None:
        return a, np.full(a.shape[:-1], _NONE, np.int32)
    kind = _triangle(a)
    if kind != _NONE:
        return a, np.full(n, kind, np.int32)
    lu, pivots, info = getrf(a.T)
    if info > 0:
        raise np.linalg.LinAlgError("Singular matrix")
    return lu, pivots.astype(np.int32, copy=False)


def solve(a: Value, b: Value, *factors: Value, transposed: bool) -> Value:
    """X with A X = B (or Aᵀ X = B), for matrices B; ``factors`` are `factor` (A)."""
    if factors and type(b) is np.ndarray and b.ndim == 2 and factors[1].ndim == 1:
        lu, pivots = factors
        kind = int(pivots[0]) if len(pivots) else _NONE
        b = b.astype(np.result_type(a, b), copy=False)
        if kind >= 0 and b.dtype == lu.dtype:
            getrs = _routine("getrs", lu)
            if getrs is not None:
                return getrs(lu, pivots, b, trans=int(not transposed))[0]
        elif kind != _NONE and b.dtype == a.dtype:
            x = _solve_triangular(a, b, kind, transposed)
            if x is not None:
                return x
    return np.linalg.solve(mirror(a) if transposed else a, b)


def inverse(a: Value, strict: bool = True) -> Value:
    """The inverse; unless ``strict``, inf instead of an error where there is none."""
    _require_square(a)
    trtri = _routine("trtri", a)
    if trtri is not None:
        kind = _triangle(a)
        if kind != _NONE:
            return trtri(a.T, lower=int(kind == _UPPER))[0].T
    if strict:
        return np.linalg.inv(a)
    try:
        return np.linalg.inv(a)
    except np.linalg.LinAlgError:
        return _inverses(a)


def _inverses(a: Array) -> Array:
    """One inverse after the other, inf where there is none."""
    out = np.empty(a.shape, np.linalg.inv(np.ones((1, 1), a.dtype)).dtype)
    for index in np.ndindex(*a.shape[:-2]):
        try:
            out[index] = np.linalg.inv(a[index])
        except np.linalg.LinAlgError:
            out[index] = np.inf
    return out


# ---- Cholesky


def cholesky(a: Value) -> Value:
    """Lower triangular L with L Lᴴ = A, from the lower triangle of A."""
    potrf = _routine("potrf", a)
    if potrf is None:
        return np.linalg.cholesky(a)
    upper, info = potrf(a.T, lower=0, clean=1)
    if info > 0:
        raise np.linalg.LinAlgError("Matrix is not positive definite")
    return upper.T


def cholesky_pull(l: Value, ct: Value, *products: Value) -> Value:  # noqa: E741  # the factor L
    """The cotangent of A, lower triangle, from that of its Cholesky factor L.

    The cotangent of L is ``ct`` plus products U Vᵀ, of which ``products`` gives W = Lᵀ U and V.
    With P = Φ(Lᵀ ct + Σ W Vᵀ), where Φ takes the lower triangle and halves the diagonal, and H the
    Hermitian part of P, that of A is L⁻ᵀ H conj(L)⁻¹. Two cases do without its cubic costs:

    * ct diagonal with ct L_ii constant (the logarithm of the determinant): a multiple of conj(A)⁻¹
    * W a multiple of conj(V), column by column (quadratic forms in A⁻¹): of low rank, like V
    """
    potri = _routine("potri", l)
    if potri is None or not all(x.ndim == 2 and x.dtype == l.dtype for x in (ct, *products)):
        return _cholesky_pull(l, ct, products)
    dense, low = [], []
    for w, v in zip(products[::2], products[1::2], strict=True):
        multiples = _real_multiples(w, v)
        if multiples is None:
            dense.append(w @ v.T)
        else:
            low.append((multiples, _solve_triangular(l, v.conj(), _LOWER, True)))
    weight = _constant_diagonal(ct, l)
    if weight is None or (dense and weight):
        dense.append(l.T @ ct)
    if dense:
        out = _doubled(_between_inverses(l, _hermitian_half(sum(dense[1:], dense[0]))))
    else:
        out = _weighted_inverse(potri, l, weight)
    for multiples, a in low:
        assert a is not None
        out = _with_low_rank(out, multiples, a)
    return out


def _weighted_inverse(potri: Callable[..., Any], l: Array, weight: Any) -> Array:  # noqa: E741
    """The lower triangle of c conj(L Lᴴ)⁻¹, with half the diagonal."""
    if not weight:
        return np.zeros_like(l)
    out: Array = potri(l.T, lower=0)[0].T
    if np.iscomplexobj(out):
        np.conjugate(out, out=out)
    out *= weight
    diagonal = np.einsum("ii->i", out)
    diagonal *= 0.5
    return out


def _with_low_rank(out: Array, multiples: Array, a: Array) -> Array:
    """A triangle plus the lower triangle of A diag(c) Aᴴ, half of its diagonal."""
    update = _routine("her" if np.iscomplexobj(a) else "syr", out, "blas")
    if update is None or a.shape[1] > 4:
        return out + _doubled((a * (multiples / 2)) @ a.conj().T)
    for c, column in zip(multiples, a.T, strict=True):
        before = np.diagonal(out).copy()
        out = update(c, column.conj(), lower=0, a=out.T, overwrite_a=1).T
        diagonal = np.einsum("ii->i", out)
        diagonal[...] = (before + diagonal) / 2
    return out


def _cholesky_pull(l: Array, ct: Array, products: Sequence[Array]) -> Array:  # noqa: E741
    """`cholesky_pull` through the inverse of L, for small matrices and many of them."""
    p = mirror(l) @ ct
    for w, v in zip(products[::2], products[1::2], strict=True):
        p = p + w @ mirror(v)
    x = np.linalg.inv(l)
    return _doubled(mirror(x) @ _hermitian_half(p) @ x.conj())


def _hermitian_half(p: Array) -> Array:
    """The Hermitian part of Φ(P)."""
    half = np.tril(p)
    diagonal = np.einsum("...ii->...i", half)
    diagonal *= 0.5
    whole: Array = half + mirror(half).conj()
    whole *= 0.5
    return whole


def _doubled(s: Array) -> Array:
    """The lower triangle that a Hermitian cotangent S is for the one triangle that is read."""
    out = np.tril(s)
    diagonal = np.einsum("...ii->...i", out)
    kept = diagonal.real.copy()
    out *= 2
    diagonal[...] = kept
    return out


def _real_multiples(w: Array, v: Array) -> Array | None:
    """Real c with ``w = c conj(v)`` to rounding, one per column."""
    square = np.einsum("ij,ij->j", v, v.conj()).real
    c = np.einsum("ij,ij->j", w, v).real / np.where(square == 0, 1, square)
    size = abs(w).max(axis=0)
    rounding = 8 * np.finfo(w.dtype).eps
    return c if (abs(w - c * v.conj()).max(axis=0) <= rounding * size).all() else None


def _constant_diagonal(ct: Array, l: Array) -> float | None:  # noqa: E741
    """c where ``ct`` is diagonal and ct_ii L_ii = c to rounding; None elsewhere."""
    if not _is_diagonal(ct):
        return None
    c = (np.diagonal(ct) * np.diagonal(l)).real
    mean = c.mean()
    rounding = 8 * np.finfo(c.dtype).eps
    return mean if (abs(c - mean) <= rounding * abs(mean)).all() else None


def _between_inverses(l: Array, h: Array) -> Array:  # noqa: E741
    """L⁻ᵀ H conj(L)⁻¹."""
    trsm = _routine("trsm", l, "blas")
    assert trsm is not None
    left = trsm(1, l.T, h, side=0, lower=0)
    return np.asarray(trsm(1, l.T, left, side=1, lower=0, trans_a=2, overwrite_b=1))
