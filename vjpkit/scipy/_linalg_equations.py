"""`scipy.linalg`'s equations: systems, inverses, least squares, structured and matrix equations."""

from __future__ import annotations

from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.numpy._arguments import known
from vjpkit.ops import linalg, scipy_equations
from vjpkit.ops.linalg import mirror
from vjpkit.ops.spectra import adjoint
from vjpkit.scipy._traced import finite, in_lapack, unsupported, version_of

__all__ = [
    "cho_factor", "cho_solve", "cholesky", "inv", "lstsq", "lu_solve", "matmul_toeplitz", "pinv",
    "pinvh", "solve", "solve_banded", "solve_circulant", "solve_continuous_are",
    "solve_continuous_lyapunov", "solve_discrete_are", "solve_discrete_lyapunov", "solve_lyapunov",
    "solve_sylvester", "solve_toeplitz", "solve_triangular", "solveh_banded",
]  # fmt: skip

ours = version_of("linalg")
# SciPy 1.17's Schur forms of real matrices beside complex ones are none: its X is no solution.
ours_always = version_of("linalg", always=True)


def _square(a: Value) -> Value:
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ValueError(f"expected a square matrix, got an array of shape {a.shape}")
    return a


def _columns(b: Value) -> Value:
    """Right-hand sides as columns: a vector is one."""
    return b[:, None] if b.ndim == 1 else b


def _like(x: Value, b: Value) -> Value:
    """A solution as `b` is given."""
    return x[..., 0] if b.ndim == 1 else x


# ---- systems -----------------------------------------------------------------------------------

_GENERAL = ("gen", "general", "banded")
_STRUCTURES = {
    "sym": "symmetric", "her": "hermitian", "pos": "positive definite",
}  # fmt: skip


def _triangular(a: Value, b: Value, *, lower: bool, transposed: bool, unit: bool = False) -> Value:
    return scipy_equations.solve_triangular(
        a, b, lower=bool(lower), transposed=transposed, unit=bool(unit)
    )


def _structured(a: Value, assume_a: str, lower: bool) -> Value:
    """The matrix that a routine for one structure reads ``a`` as."""
    n = a.shape[-1]
    if assume_a == "symmetric":
        one, k = (np.tril, -1) if lower else (np.triu, 1)
        return one(a) + mirror(one(a, k))
    if assume_a == "hermitian":
        return linalg.hermitian(a, lower=lower)
    if assume_a in ("diagonal", "tridiagonal"):
        distance = abs(np.arange(n)[:, None] - np.arange(n))
        return np.where(distance <= (assume_a == "tridiagonal"), a, 0)
    if assume_a in ("upper triangular", "lower triangular"):
        return np.triu(a) if assume_a[0] == "u" else np.tril(a)
    raise ValueError(f"{assume_a} is not a recognized matrix structure")


@ours
def solve(
    a: Value,
    b: Value,
    lower: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
    assume_a: str | None = None,
    transposed: bool = False,
) -> Value:
    """x with a x = b, or aᵀ x = b if ``transposed``; of ``a`` that is read which ``assume_a`` says.

    ``a`` is (..., n, n), ``b`` (n,) or (..., n, k). `LinAlgError` where ``a`` is singular, or no
    positive definite matrix though it is said to be one.

    >>> import vjpkit as vk
    >>> from vjpkit.scipy import linalg
    >>> vk.grad(lambda a: linalg.solve(a, [1.0, 2.0], assume_a="pos")[0])(2 * np.eye(2))
    array([[-0.25, -0.5 ],
           [ 0.  ,  0.  ]])
    """
    a, b = _square(finite(a, check_finite)), finite(b, check_finite)
    structure = _STRUCTURES.get(assume_a or "general", assume_a or "general")
    if structure == "positive definite":
        factor = linalg.cholesky(a if lower else adjoint(a))
        factor = np.conjugate(factor) if transposed else factor
        return _like(_between_factors(factor, _columns(b), lower=True), b)
    if structure in ("upper triangular", "lower triangular"):
        lower = structure[0] == "l"
        x = _triangular(a, _columns(b), lower=lower, transposed=bool(transposed))
        return _like(x, b)
    if structure not in _GENERAL:
        a = _structured(a, structure, bool(lower))
    return np.linalg.solve(mirror(a) if transposed else a, b)


@ours
def solve_triangular(
    a: Value,
    b: Value,
    trans: Any = 0,
    lower: bool = False,
    unit_diagonal: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Value:
    """x with t x = b, tᵀ x = b (``trans`` 1 or "T") or tᴴ x = b (2 or "C"), for a triangle t of a.

    ``a`` is (..., n, n), ``b`` (n,) or (..., n, k); nothing but the triangle is read, nor its
    diagonal if ``unit_diagonal``. `LinAlgError` where an element of the diagonal is 0.

    >>> import vjpkit as vk
    >>> from vjpkit.scipy import linalg
    >>> vk.grad(lambda a: linalg.solve_triangular(a, [1.0, 2.0])[1])(np.eye(2))
    array([[ 0.,  0.],
           [ 0., -2.]])
    """
    a, b = _square(finite(a, check_finite)), finite(b, check_finite)
    kind = {"N": 0, "T": 1, "C": 2}.get(trans, trans)
    if kind not in (0, 1, 2):
        raise ValueError(f"trans={trans!r} is none of 0, 1, 2, 'N', 'T', 'C'")
    a = np.conjugate(a) if kind == 2 and a.dtype.kind == "c" else a
    x = _triangular(a, _columns(b), lower=lower, transposed=kind > 0, unit=unit_diagonal)
    return _like(x, b)


@ours
def inv(
    a: Value,
    overwrite_a: bool = False,
    check_finite: bool = True,
    *,
    assume_a: str | None = None,
    lower: bool = False,
) -> Value:
    """The inverse of (..., n, n) matrices, of which that is read which ``assume_a`` says.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.inv(a)[0, 0])(2 * np.eye(2))
    array([[-0.25,  0.  ],
           [ 0.  ,  0.  ]])
    """
    a = _square(finite(a, check_finite))
    structure = _STRUCTURES.get(assume_a or "general", assume_a or "general")
    if structure == "positive definite":
        factor = linalg.cholesky(a if lower else adjoint(a))
        one = np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape)
        return _between_factors(factor, one, lower=True)
    if structure in ("upper triangular", "lower triangular"):
        one = np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape)
        return _triangular(a, one, lower=structure[0] == "l", transposed=False)
    if structure not in _GENERAL:
        a = _structured(a, structure, bool(lower))
    return linalg.inv(a, strict=True)


# ---- factors -----------------------------------------------------------------------------------


def _between_factors(c: Value, b: Value, lower: bool) -> Value:
    """x with L Lᴴ x = b for L = c, or Uᴴ U x = b for U = c."""
    conjugate = np.conjugate(c) if c.dtype.kind == "c" else c
    if lower:
        x = _triangular(c, b, lower=True, transposed=False)
        return _triangular(conjugate, x, lower=True, transposed=True)
    x = _triangular(conjugate, b, lower=False, transposed=True)
    return _triangular(c, x, lower=False, transposed=False)


@ours
def cholesky(
    a: Value, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> Value:
    """U with Uᴴ U = a, or L with L Lᴴ = a if ``lower``; only that triangle of ``a`` is read.

    `LinAlgError` where ``a`` (..., n, n) is not positive definite.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.cholesky(a)[0, 1])(4 * np.eye(2))
    array([[0. , 0.5],
           [0. , 0. ]])
    """
    a = _square(finite(a, check_finite))
    return linalg.cholesky(a) if lower else adjoint(linalg.cholesky(adjoint(a)))


@ours
def cho_factor(
    a: Value, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> tuple[Value, bool]:
    """``(c, lower)`` for `cho_solve`: the factor, and in the other triangle what ``a`` has there.

    >>> import vjpkit as vk
    >>> from vjpkit.scipy import linalg
    >>> solve = lambda a: linalg.cho_solve(linalg.cho_factor(a), [1.0, 0.0])[0]
    >>> vk.grad(solve)(2 * np.eye(2))
    array([[-0.25,  0.  ],
           [ 0.  ,  0.  ]])
    """
    a = _square(finite(a, check_finite))
    if lower:
        return linalg.cholesky(a) + np.triu(a, 1), lower
    return adjoint(linalg.cholesky(adjoint(a))) + np.tril(a, -1), lower


@ours
def cho_solve(
    c_and_lower: Any, b: Value, overwrite_b: bool = False, check_finite: bool = True
) -> Value:
    """x with a x = b, from `cho_factor` (a); see there."""
    c, lower = c_and_lower
    c, b = _square(finite(c, check_finite)), finite(b, check_finite)
    return _like(_between_factors(c, _columns(b), bool(lower)), b)


@ours
def lu_solve(
    lu_and_piv: Any,
    b: Value,
    trans: int = 0,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Value:
    """x with a x = b, aᵀ x = b (``trans`` 1) or aᴴ x = b (2), from ``lu_factor(a)``.

    >>> import vjpkit as vk
    >>> from vjpkit.scipy import linalg
    >>> vk.grad(lambda a: linalg.lu_solve(linalg.lu_factor(a), [1.0, 0.0])[0])(2 * np.eye(2))
    array([[-0.25,  0.  ],
           [ 0.  ,  0.  ]])
    """
    packed, pivots = lu_and_piv
    packed, b = _square(finite(packed, check_finite)), finite(b, check_finite)
    if trans not in (0, 1, 2):
        raise ValueError(f"trans={trans!r} is none of 0, 1, 2")
    places = scipy_equations.pivoted(pivots)
    x = _columns(b)
    if trans == 0:
        x = np.take_along_axis(x, _spread(places, x), axis=-2)
        x = _triangular(packed, x, lower=True, transposed=False, unit=True)
        return _like(_triangular(packed, x, lower=False, transposed=False), b)
    packed = np.conjugate(packed) if trans == 2 and packed.dtype.kind == "c" else packed
    x = _triangular(packed, x, lower=False, transposed=True)
    x = _triangular(packed, x, lower=True, transposed=True, unit=True)
    back = np.argsort(places, axis=-1)
    return _like(np.take_along_axis(x, _spread(back, x), axis=-2), b)


def _spread(places: Value, x: Value) -> Value:
    """Places of rows, for matrices of any leading axes."""
    lead = np.broadcast_shapes(places.shape[:-1], x.shape[:-2])
    return np.broadcast_to(places[..., None], (*lead, *x.shape[-2:]))


# ---- least squares -----------------------------------------------------------------------------


@ours
def lstsq(
    a: Value,
    b: Value,
    cond: float | None = None,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
    lapack_driver: str | None = None,
) -> tuple[Value, Value, Value, Value | None]:
    """``(x, residuals, rank, s)``: the x of least norm that minimizes |b - a x|.

    ``a`` is (m, n), ``b`` (m,) or (m, k); every ``lapack_driver`` gives the same to rounding.

    >>> import vjpkit as vk
    >>> a = np.array([[1.0], [1.0]])
    >>> vk.grad(lambda b: vk.scipy.linalg.lstsq(a, b)[0][0])(np.array([1.0, 2.0]))
    array([0.5, 0.5])
    """
    a, b = finite(a, check_finite), finite(b, check_finite)
    if a.ndim != 2 or b.ndim not in (1, 2):
        raise unsupported(
            "linalg.lstsq", f"a of {a.ndim} and b of {b.ndim} dimensions", "Use vk.vmap."
        )
    if lapack_driver not in (None, "gelsd", "gelsy", "gelss"):
        raise ValueError(f'LAPACK driver "{lapack_driver}" is not found')
    eps = float(np.finfo(np.result_type(a.dtype, b.dtype)).eps)
    x, residuals, rank, s = np.linalg.lstsq(a, b, rcond=eps if cond is None else cond)
    residuals = residuals[0] if b.ndim == 1 and residuals.shape[0] else residuals
    if not residuals.size:
        residuals = np.zeros(residuals.shape, x.dtype)
    return x, residuals, rank, None if lapack_driver == "gelsy" else s


def _limit(s: Value, shape: Any, atol: Any, rtol: Any) -> Value:
    """Up to this singular values count as zero."""
    atol = 0.0 if atol is None else atol
    rtol = max(shape[-2:]) * float(np.finfo(s.dtype).eps) if rtol is None else rtol
    return atol + rtol * np.max(s, axis=-1, keepdims=True, initial=0)


def _pseudo_inverse(a: Value, atol: Any, rtol: Any, return_rank: bool) -> Any:
    if (atol is not None and atol < 0) or (rtol is not None and rtol < 0):
        raise ValueError("atol and rtol values must be positive.")
    relative = max(a.shape[-2:]) * float(np.finfo(a.dtype).eps) if rtol is None else float(rtol)
    if not atol and not return_rank:
        return linalg.pseudo_inverse(a, relative)
    s = linalg.svdvals(a)
    limit = _limit(s, a.shape, atol, rtol)
    largest = np.max(s, axis=-1, initial=0)
    if atol:
        out = linalg.pseudo_inverse(a, limit[..., 0] / np.where(largest == 0, 1, largest))
    else:
        out = linalg.pseudo_inverse(a, relative)
    return (out, np.sum(s > limit, axis=-1)) if return_rank else out


@ours
def pinv(
    a: Value,
    *,
    atol: float | None = None,
    rtol: float | None = None,
    return_rank: bool = False,
    check_finite: bool = True,
) -> Any:
    """The pseudo-inverse; singular values up to ``atol + rtol * max(s)`` count as zero.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.pinv(a)[0, 0])(np.array([[2.0], [0.0]]))
    array([[-0.25],
           [ 0.  ]])
    """
    return _pseudo_inverse(finite(a, check_finite), atol, rtol, return_rank)


@ours
def pinvh(
    a: Value,
    atol: float | None = None,
    rtol: float | None = None,
    lower: bool = True,
    return_rank: bool = False,
    check_finite: bool = True,
) -> Any:
    """The pseudo-inverse of the Hermitian matrix of which one triangle is read.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.pinvh(a)[1, 0])(2 * np.eye(2))
    array([[ 0.  ,  0.  ],
           [-0.25,  0.  ]])
    """
    a = _square(finite(a, check_finite))
    whole = linalg.hermitian(a, lower=bool(lower))
    return _pseudo_inverse(whole, atol, rtol, return_rank)


# ---- structured systems ------------------------------------------------------------------------


@ours
def solve_banded(
    l_and_u: Any,
    ab: Value,
    b: Value,
    overwrite_ab: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Value:
    """x with a x = b for a matrix with ``l_and_u`` diagonals, ``ab[u + i - j, j] = a[i, j]``.

    >>> import vjpkit as vk
    >>> solve = lambda ab: vk.scipy.linalg.solve_banded((0, 1), ab, np.ones(2))[0]
    >>> vk.grad(solve)(np.array([[0.0, 0.0], [1.0, 2.0]]))
    array([[ 0. , -0.5],
           [-1. ,  0. ]])
    """
    ab, b = finite(ab, check_finite), finite(b, check_finite)
    lower, upper = (int(k) for k in l_and_u)
    if ab.shape[-1] != _columns(b).shape[-2]:
        raise ValueError("shapes of ab and b are not compatible.")
    if lower + upper + 1 != ab.shape[-2]:
        raise ValueError("invalid values for the number of lower and upper diagonals")
    x = scipy_equations.solve_banded(ab, _columns(b), lower=lower, upper=upper, definite=False)
    return _like(x, b)


@ours
def solveh_banded(
    ab: Value,
    b: Value,
    overwrite_ab: bool = False,
    overwrite_b: bool = False,
    lower: bool = False,
    check_finite: bool = True,
) -> Value:
    """x with a x = b for a positive definite matrix, of which ``ab`` has the diagonals of one side.

    `LinAlgError` where it is not positive definite.

    >>> import vjpkit as vk
    >>> solve = lambda ab: vk.scipy.linalg.solveh_banded(ab, np.ones(2))[0]
    >>> vk.grad(solve)(np.array([[0.0, 0.0], [1.0, 2.0]]))
    array([[ 0. , -0.5],
           [-1. ,  0. ]])
    """
    ab, b = finite(ab, check_finite), finite(b, check_finite)
    if ab.shape[-1] != _columns(b).shape[-2]:
        raise ValueError("shapes of ab and b are not compatible.")
    u = ab.shape[-2] - 1
    whole = scipy_equations.hermitian_band(ab, lower=bool(lower))
    x = scipy_equations.solve_banded(whole, _columns(b), lower=u, upper=u, definite=True)
    return _like(x, b)


def _column_and_row(c_or_cr: Any, check: bool) -> tuple[Value, Value]:
    if isinstance(c_or_cr, tuple):
        c, r = [finite(x, check) for x in c_or_cr]
        return c, r
    c = finite(c_or_cr, check)
    return c, np.conjugate(c) if c.dtype.kind == "c" else c


@ours
def solve_toeplitz(c_or_cr: Any, b: Value, check_finite: bool = True) -> Value:
    """x with t x = b, where t has the first column c, and the first row r (by default c's
    conjugate).

    >>> import vjpkit as vk
    >>> solve = lambda c: vk.scipy.linalg.solve_toeplitz(c, np.ones(2))[0]
    >>> vk.grad(solve)(np.array([2.0, 0.0])).tolist()
    [-0.25, -0.25]
    """
    c, r = _column_and_row(c_or_cr, check_finite)
    b = finite(b, check_finite)
    if b.ndim == 0 or c.shape[-1] != _columns(b).shape[-2]:
        raise ValueError("Incompatible dimensions.")
    return _like(scipy_equations.solve_toeplitz(c, r, _columns(b)), b)


@ours
def matmul_toeplitz(
    c_or_cr: Any, x: Value, check_finite: bool = False, workers: int | None = None
) -> Value:
    """t x by Fourier transforms, where t has the first column c and the first row r.

    >>> import vjpkit as vk
    >>> product = lambda c: vk.scipy.linalg.matmul_toeplitz(c, np.array([1.0, 2.0]))[1]
    >>> vk.grad(product)(np.array([1.0, 0.0])).round(9)
    array([2., 1.])
    """
    c, r = _column_and_row(c_or_cr, check_finite)
    x = finite(x, check_finite)
    columns = _columns(x)
    m, n = c.shape[-1], r.shape[-1]
    if columns.shape[-2] != n:
        raise ValueError("Incompatible dimensions.")
    length = m + n - 1
    lead = np.broadcast_shapes(c.shape[:-1], r.shape[:-1])
    c = np.broadcast_to(c, (*lead, m))
    rest = np.broadcast_to(r[..., :0:-1], (*lead, n - 1))
    circle = np.concatenate([c, rest], axis=-1)
    product: Value
    if any(aval_of(v).dtype.kind == "c" for v in (circle, columns)):
        spectrum = np.fft.fft(circle, axis=-1)[..., None]
        columns = np.fft.fft(columns, n=length, axis=-2)
        product = np.fft.ifft(spectrum * columns, axis=-2)
    else:
        spectrum = np.fft.rfft(circle, axis=-1)[..., None]
        columns = np.fft.rfft(columns, n=length, axis=-2)
        product = np.fft.irfft(spectrum * columns, n=length, axis=-2)
    return _like(product[..., :m, :], x)


@ours
def solve_circulant(
    c: Value,
    b: Value,
    singular: str = "raise",
    tol: Any = None,
    caxis: int = -1,
    baxis: int = 0,
    outaxis: int = 0,
) -> Value:
    """x with C x = b by Fourier transforms, where the columns of C are ``c``, moved round.

    Eigenvalues up to ``tol`` count as zero: an error, or dropped with ``singular="lstsq"``.

    >>> import vjpkit as vk
    >>> solve = lambda c: vk.scipy.linalg.solve_circulant(c, np.array([1.0, 0.0]))[0]
    >>> vk.grad(solve)(np.array([2.0, 0.0])).tolist()
    [-0.25, 0.0]
    """
    c, b = np.atleast_1d(in_lapack(c)), np.atleast_1d(in_lapack(b))
    n = c.shape[caxis]
    if n != b.shape[baxis]:
        raise ValueError(f"Shapes of c {c.shape} and b {b.shape} are incompatible")
    real = not any(x.dtype.kind == "c" for x in (c, b))
    eigenvalues = np.fft.fft(np.moveaxis(c, caxis, -1), axis=-1)
    size = abs(eigenvalues)
    if tol is None:
        eps = float(np.finfo(np.float64).eps)
        tol = np.max(size, axis=-1, keepdims=True) * n * eps
    small = size <= tol
    some = known(np.any(small))
    if singular == "raise" and some is not None and some:
        raise np.linalg.LinAlgError("near singular circulant matrix.")
    quotient = np.fft.fft(np.moveaxis(b, baxis, -1), axis=-1) / np.where(small, 1, eigenvalues)
    if singular != "raise":
        quotient = np.where(small, 0, quotient)
    elif some is None:  # staged: what SciPy refuses has no value
        quotient = np.where(small, np.nan, quotient)
    x = np.fft.ifft(quotient, axis=-1)
    x = np.real(x) if real else x
    return x if outaxis == -1 else np.moveaxis(x, -1, outaxis)


# ---- matrix equations --------------------------------------------------------------------------


@ours_always
def solve_sylvester(a: Value, b: Value, q: Value) -> Value:
    """X with a X + X b = q; `LinAlgError` where a and -b have an eigenvalue in common.

    >>> import vjpkit as vk
    >>> one = np.eye(1)
    >>> vk.grad(lambda a: vk.scipy.linalg.solve_sylvester(a, one, one)[0, 0])(one)
    array([[-0.25]])
    """
    return scipy_equations.solve_sylvester(in_lapack(a), in_lapack(b), in_lapack(q))


@ours_always
def solve_continuous_lyapunov(a: Value, q: Value) -> Value:
    """X with a X + X aᴴ = q.

    >>> import vjpkit as vk
    >>> one = np.eye(1)
    >>> vk.grad(lambda a: vk.scipy.linalg.solve_continuous_lyapunov(a, one)[0, 0])(one)
    array([[-0.5]])
    """
    a, q = in_lapack(a), in_lapack(q)
    return scipy_equations.solve_sylvester(a, adjoint(a), q)


@ours_always
def solve_lyapunov(a: Value, q: Value) -> Value:
    """`solve_continuous_lyapunov` under its older name."""
    a, q = in_lapack(a), in_lapack(q)
    return scipy_equations.solve_sylvester(a, adjoint(a), q)


@ours
def solve_discrete_lyapunov(a: Value, q: Value, method: str | None = None) -> Value:
    """X with a X aᴴ - X + q = 0, as one system for all elements ("direct"), or "bilinear".

    >>> import vjpkit as vk
    >>> a, one = 0.5 * np.eye(1), np.eye(1)
    >>> vk.grad(lambda q: vk.scipy.linalg.solve_discrete_lyapunov(a, q)[0, 0])(one).round(6)
    array([[1.333333]])
    """
    a, q = in_lapack(a), in_lapack(q)
    n = a.shape[-1]
    how = ("bilinear" if n >= 10 else "direct") if method is None else method.lower()
    if how == "bilinear":
        return scipy_equations.solve_stein(a, q)
    if how != "direct":
        raise ValueError(f"Unknown solver {how}")
    conjugate = np.conjugate(a) if a.dtype.kind == "c" else a
    product = np.einsum("...ij,...kl->...ikjl", a, conjugate)
    product = np.reshape(product, (*a.shape[:-2], n * n, n * n))
    matrix = np.eye(n * n, dtype=a.dtype) - product
    x = np.linalg.solve(matrix, np.reshape(q, (*q.shape[:-2], n * n, 1)))
    return np.reshape(x, (*x.shape[:-2], n, n))


def _are(
    function: str, discrete: bool, a: Value, b: Value, q: Value, r: Value, e: Any, s: Any
) -> Value:
    a, b, q, r = [finite(x) for x in (a, b, q, r)]
    for x in (q, r):
        value = known(x)
        if value is not None:
            rest = abs(value - np.swapaxes(value, -1, -2).conj())
            spacing = 100 * np.spacing(np.linalg.norm(value, 1, axis=(-2, -1)))
            if (np.linalg.norm(rest, 1, axis=(-2, -1)) > spacing).any():
                raise ValueError("q and r should be symmetric/hermitian.")
    if e is not None:
        raise unsupported(function, "e", "Pass inv(e) @ a and inv(e) @ b, and q as it is seen so.")
    if s is not None:  # the feedback without it is moved by r⁻¹ sᴴ
        s = finite(s)
        moved = np.linalg.solve(r, adjoint(s))
        a, q = a - b @ moved, q - s @ moved
    return scipy_equations.riccati(a, b, q, r, discrete=discrete)


@ours
def solve_continuous_are(
    a: Value,
    b: Value,
    q: Value,
    r: Value,
    e: Value | None = None,
    s: Value | None = None,
    balanced: bool = True,
) -> Value:
    """X with aᴴ X + X a - (X b + s) r⁻¹ (bᴴ X + sᴴ) + q = 0; ``e`` is refused.

    >>> import vjpkit as vk
    >>> one = np.eye(1)
    >>> vk.grad(lambda q: vk.scipy.linalg.solve_continuous_are(one, one, q, one)[0, 0])(3 * one)
    array([[0.25]])
    """
    return _are("linalg.solve_continuous_are", False, a, b, q, r, e, s)


@ours
def solve_discrete_are(
    a: Value,
    b: Value,
    q: Value,
    r: Value,
    e: Value | None = None,
    s: Value | None = None,
    balanced: bool = True,
) -> Value:
    """X with aᴴ X a - X - (aᴴ X b + s) (r + bᴴ X b)⁻¹ (bᴴ X a + sᴴ) + q = 0; ``e`` is refused.

    >>> import vjpkit as vk
    >>> one = np.eye(1)
    >>> vk.grad(lambda q: vk.scipy.linalg.solve_discrete_are(one, one, q, one)[0, 0])(2 * one)
    array([[1.07735027]])
    """
    return _are("linalg.solve_discrete_are", True, a, b, q, r, e, s)
