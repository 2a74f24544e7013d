"""`numpy.linalg` on traced values: NumPy's signatures, results and errors over primitives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._arguments import as_array, axis_number, given, known, scalar
from vjpkit.numpy._dispatch import implements, normalize_axes, refuse
from vjpkit.numpy._face import unwrapped
from vjpkit.numpy._householder import reflections
from vjpkit.numpy._writing import delivers
from vjpkit.ops import lapack, linalg
from vjpkit.ops.linalg import mirror
from vjpkit.ops.spectra import adjoint
from vjpkit.ops.structural import to_dtype

__all__: list[str] = []

LinAlgError = np.linalg.LinAlgError

# The types of NumPy's results, which it does not name publicly.
_ONE = np.ones((1, 1))
SlogdetResult = type(np.linalg.slogdet(_ONE))
EighResult = type(np.linalg.eigh(_ONE))
EigResult = type(np.linalg.eig(_ONE))
SVDResult = type(np.linalg.svd(_ONE))
QRResult = type(np.linalg.qr(_ONE))


def stack_of_matrices(x: Value) -> Value:
    """``x`` as an array of at least two dimensions; NumPy's error where it has fewer."""
    x = as_array(x)
    if x.ndim < 2:
        raise LinAlgError(
            f"{x.ndim}-dimensional array given. Array must be at least two-dimensional"
        )
    return x


def stack_of_squares(x: Value) -> Value:
    """``x`` as an array of square matrices; NumPy's error where it is none."""
    x = stack_of_matrices(x)
    if x.shape[-1] != x.shape[-2]:
        raise LinAlgError("Last 2 dimensions of the array must be square")
    return x


# ---- equations ---------------------------------------------------------------------------------


@implements(np.linalg.solve)
def solve(a: Value, b: Value) -> Value:
    a, b = stack_of_squares(a), as_array(b)
    columns = b[:, None] if b.ndim == 1 else b
    large = a.ndim == 2 and a.shape[0] >= lapack.LARGE
    factors = linalg.lu(a) if large else ()
    x = linalg.solve(a, columns, *factors, transposed=False)
    return x[..., 0] if b.ndim == 1 else x


@implements(np.linalg.inv)
def inv(a: Value) -> Value:
    return linalg.inv(stack_of_squares(a), strict=True)


@implements(np.linalg.tensorsolve)
def tensorsolve(a: Value, b: Value, axes: Any = None) -> Value:
    a, b = as_array(a), as_array(b)
    if axes is not None:
        moved = [index(k) for k in axes]
        a = np.transpose(a, [k for k in range(a.ndim) if k not in moved] + moved)
    shape = a.shape[-(a.ndim - b.ndim) :]
    n = math.prod(shape)
    if a.size != n**2:
        raise LinAlgError(
            "Input arrays must satisfy the requirement "
            "prod(a.shape[b.ndim:]) == prod(a.shape[:b.ndim])"
        )
    return np.reshape(solve(np.reshape(a, (n, n)), np.ravel(b)), shape)


@implements(np.linalg.tensorinv)
def tensorinv(a: Value, ind: int = 2) -> Value:
    if ind <= 0:
        raise ValueError("Invalid ind argument.")
    a = as_array(a)
    shape = a.shape[ind:] + a.shape[:ind]
    return np.reshape(inv(np.reshape(a, (math.prod(a.shape[ind:]), -1))), shape)


@implements(np.linalg.lstsq)
def lstsq(a: Value, b: Value, rcond: Any = None) -> tuple[Value, Value, Value, Value]:
    """The residuals are given where the rank is full, which a staged rank is taken to be."""
    a, b = as_array(a), as_array(b)
    columns = b[:, None] if b.ndim == 1 else b
    for x in (a, columns):
        if x.ndim != 2:
            raise LinAlgError(f"{x.ndim}-dimensional array given. Array must be two-dimensional")
    m, n = a.shape
    if columns.shape[0] != m:
        raise LinAlgError("Incompatible dimensions")
    eps = float(np.finfo(np.result_type(a.dtype, b.dtype)).eps)
    limit = eps * max(m, n) if rcond is None else float(rcond)
    if not 0 < limit < 1:
        limit = eps  # as LAPACK has it
    a = to_dtype(a, linalg.common_dtype(aval_of(a), aval_of(b)))
    x = linalg.lstsq(a, columns, rcond=limit)
    s = linalg.svdvals(a)
    rank = np.sum(s > limit * np.max(s, initial=0))
    known_rank = known(rank)
    if m > n and (known_rank is None or known_rank == n):
        rest = columns - a @ x
        square = np.real(rest * np.conjugate(rest)) if rest.dtype.kind == "c" else rest * rest
        residuals = np.sum(square, axis=0)
    else:
        residuals = np.zeros((0,), linalg.real_dtype(x.dtype))
    out = x[:, 0] if b.ndim == 1 else x
    return out, residuals, to_dtype(rank, np.dtype(np.int32)), s


@implements(np.linalg.pinv)
def pinv(a: Value, rcond: Any = None, hermitian: bool = False, *, rtol: Any = np._NoValue) -> Value:
    a = stack_of_matrices(a)
    if rcond is not None and given(rtol):
        raise ValueError("`rtol` and `rcond` can't be both set.")
    limit = rcond
    if rcond is None:
        limit = 1e-15
        if given(rtol):
            limit = max(a.shape[-2:]) * float(np.finfo(a.dtype).eps) if rtol is None else rtol
    limit = as_array(unwrapped(limit))
    if limit.ndim:
        limit = np.broadcast_to(limit, a.shape[:-2])
    a = linalg.hermitian(stack_of_squares(a), lower=True) if hermitian else a
    known_limit = not (isinstance(limit, Tracer) or limit.ndim)
    return linalg.pseudo_inverse(a, float(limit) if known_limit else limit)


@implements(np.linalg.matrix_power)
def matrix_power(a: Value, n: Any) -> Value:
    a = stack_of_squares(a)
    try:
        n = index(n)
    except TypeError as error:
        raise TypeError("exponent must be an integer") from error
    if n == 0:
        return np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape).copy()
    if n < 0:
        a, n = inv(a), -n
    result, square = None, a
    while True:
        n, bit = divmod(n, 2)
        if bit:
            result = square if result is None else result @ square
        if not n:
            return result
        square = square @ square


@implements(np.linalg.multi_dot)
@delivers
def multi_dot(arrays: Sequence[Value], *, out: Any = None) -> Value:
    xs = [as_array(x) for x in arrays]
    if len(xs) < 2:
        raise ValueError("Expecting at least two arrays.")
    if len(xs) == 2:
        return np.dot(*xs)
    first, last = xs[0].ndim, xs[-1].ndim
    if first == 1:
        xs[0] = xs[0][None, :]
    if last == 1:
        xs[-1] = xs[-1][:, None]
    for x in xs:
        if x.ndim != 2:
            raise LinAlgError(f"{x.ndim}-dimensional array given. Array must be two-dimensional")
    product = _chain(xs)
    if first == 1 and last == 1:
        return product[0, 0]
    return np.ravel(product) if 1 in (first, last) else product


def _chain(xs: Sequence[Value]) -> Value:
    """The product of a chain of matrices in the cheapest order (Cormen et al., 15.2)."""
    sizes = [x.shape[0] for x in xs] + [xs[-1].shape[1]]
    cost: dict[tuple[int, int], tuple[int, int]] = {(i, i): (0, i) for i in range(len(xs))}
    for length in range(1, len(xs)):
        for i in range(len(xs) - length):
            j = i + length
            cost[i, j] = min(
                (cost[i, k][0] + cost[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )

    def product(i: int, j: int) -> Value:
        if i == j:
            return xs[i]
        k = cost[i, j][1]
        return product(i, k) @ product(k + 1, j)

    return product(0, len(xs) - 1)


# ---- determinants, rank, condition -------------------------------------------------------------


@implements(np.linalg.det)
def det(a: Value) -> Value:
    return linalg.det(stack_of_squares(a))


@implements(np.linalg.slogdet)
def slogdet(a: Value) -> Any:
    return SlogdetResult(*linalg.slogdet(stack_of_squares(a)))


@implements(np.linalg.matrix_rank)
def matrix_rank(A: Value, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Value:
    if rtol is not None and tol is not None:
        raise ValueError("`tol` and `rtol` can't be both set.")
    a = as_array(A)
    if a.ndim < 2:
        return np.any(a != 0).astype(int)
    s = abs(linalg.eigvalsh(a, lower=True)) if hermitian else linalg.svdvals(a)
    if tol is None:
        relative = max(a.shape[-2:]) * float(np.finfo(s.dtype).eps) if rtol is None else rtol
        tol = np.max(s, axis=-1, keepdims=True, initial=0) * np.expand_dims(relative, -1)
    else:
        tol = np.expand_dims(as_array(tol), -1)
    return np.sum(s > tol, axis=-1)


@implements(np.linalg.cond)
def cond(x: Value, p: Any = None) -> Value:
    x = as_array(x)
    if x.size == 0 and 0 in x.shape[-2:]:
        raise LinAlgError("cond is not defined on empty arrays")
    with np.errstate(all="ignore"):
        if p is None or p in (2, -2):
            s = linalg.svdvals(stack_of_matrices(x))
            ratio = s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
        else:
            inverse = linalg.inv(stack_of_squares(x), strict=False)
            ratio = norm(x, p, axis=(-2, -1)) * norm(inverse, p, axis=(-2, -1))
    lost = np.isnan(ratio) & ~np.any(np.isnan(x), axis=(-2, -1))
    none = known(np.any(lost))
    return ratio if none is not None and not none else scalar(np.where(lost, np.inf, ratio))


# ---- factorizations ----------------------------------------------------------------------------


@implements(np.linalg.cholesky)
def cholesky(a: Value, /, *, upper: bool = False) -> Value:
    a = stack_of_squares(a)
    return adjoint(linalg.cholesky(adjoint(a))) if upper else linalg.cholesky(a)


@implements(np.linalg.qr)
def qr(a: Value, mode: str = "reduced") -> Any:
    if mode not in ("reduced", "complete", "r"):
        if mode == "raw":
            return reflections(stack_of_matrices(a))
        if mode not in ("f", "full", "e", "economic"):
            raise ValueError(f"Unrecognized mode '{mode}'")
        refuse("linalg.qr", mode=mode)  # NumPy has deprecated them
    q, r = linalg.qr(stack_of_matrices(a), full=mode == "complete")
    return r if mode == "r" else QRResult(q, r)


def _lower(UPLO: str) -> bool:
    uplo = UPLO.upper()
    if uplo not in ("L", "U"):
        raise ValueError("UPLO argument must be 'L' or 'U'")
    return uplo == "L"


@implements(np.linalg.eigh)
def eigh(a: Value, UPLO: str = "L") -> Any:
    lower = _lower(UPLO)
    return EighResult(*linalg.eigh(stack_of_squares(a), lower=lower))


@implements(np.linalg.eigvalsh)
def eigvalsh(a: Value, UPLO: str = "L") -> Value:
    lower = _lower(UPLO)
    return linalg.eigvalsh(stack_of_squares(a), lower=lower)


_NARROWS = np.linalg.eigvals(_ONE).dtype.kind == "f"
"""Whether NumPy gives eigenvalues that are all real as real numbers; since 2.5 it does not."""


@implements(np.linalg.eig)
def eig(a: Value) -> Any:
    a = _finite(stack_of_squares(a))
    w, v = linalg.eig(a)
    narrow = _NARROWS and are_real(w, of=a)
    return EigResult(np.real(w), np.real(v)) if narrow else EigResult(w, v)


@implements(np.linalg.eigvals)
def eigvals(a: Value) -> Value:
    a = _finite(stack_of_squares(a))
    w = linalg.eigvals(a)
    return np.real(w) if _NARROWS and are_real(w, of=a) else w


def _finite(a: Value) -> Value:
    values = known(a)
    if values is not None and not np.isfinite(values).all():
        raise LinAlgError("Array must not contain infs or NaNs")
    return a


def are_real(w: Value, of: Value) -> bool:
    """Whether all eigenvalues of a matrix are real; abstract ones count as complex."""
    values = known(w)
    return of.dtype.kind != "c" and values is not None and not np.any(np.imag(values))


@implements(np.linalg.svd)
def svd(
    a: Value, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False
) -> Any:
    if hermitian:
        return _svd_of_hermitian(stack_of_squares(a), compute_uv)
    a = stack_of_matrices(a)
    if not compute_uv:
        return linalg.svdvals(a)
    return SVDResult(*linalg.svd(a, full=bool(full_matrices) and a.shape[-1] != a.shape[-2]))


def _svd_of_hermitian(a: Value, compute_uv: bool) -> Any:
    """From the eigenvalues: their absolute values are the singular ones, their signs go to Vᴴ."""
    if not compute_uv:
        return np.sort(abs(linalg.eigvalsh(a, lower=True)), axis=-1)[..., ::-1]
    w, v = linalg.eigh(a, lower=True)
    sizes = abs(w)
    order = np.argsort(sizes, axis=-1)[..., ::-1]
    signs = np.take_along_axis(np.sign(w), order, axis=-1)
    u = np.take_along_axis(v, order[..., None, :], axis=-1)
    s = np.take_along_axis(sizes, order, axis=-1)
    return SVDResult(u, s, adjoint(u * signs[..., None, :]))


@implements(np.linalg.svdvals)
def svdvals(x: Value, /) -> Value:
    return linalg.svdvals(stack_of_matrices(x))


# ---- norms -------------------------------------------------------------------------------------


@implements(np.linalg.norm)
def norm(
    x: Value, ord: Any = None, axis: Any = None, keepdims: Any = False
) -> Value:  # NumPy's name
    x = as_array(x)
    x = x if x.dtype.kind in "fc" else to_dtype(x, np.dtype(float))
    keepdims = bool(keepdims)
    if axis is None:
        plain = ord is None or (ord in ("f", "fro") and x.ndim == 2) or (ord == 2 and x.ndim == 1)
        if plain:
            return linalg.norm2(x, axes=None, keepdims=keepdims)
        axes: Any = tuple(range(x.ndim))
    else:
        axes = normalize_axes(_norm_axes(axis), x.ndim)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes, keepdims)
    if len(axes) == 2:
        return _matrix_norm(x, ord, axes, keepdims)
    raise ValueError("Improper number of dimensions to norm.")


def _norm_axes(axis: Any) -> tuple[int, ...]:
    if not isinstance(axis, tuple):
        try:
            return (int(axis),)
        except Exception as error:
            raise TypeError("'axis' must be None, an integer or a tuple of integers") from error
    if len(axis) == 2 and axis[0] == axis[1]:
        raise ValueError("Duplicate axes given.")
    return tuple(map(axis_number, axis))


def _vector_norm(x: Value, order: Any, axes: tuple[int, ...], keepdims: bool) -> Value:
    if order is None or order == 2:
        return linalg.norm2(x, axes=axes, keepdims=keepdims)
    if isinstance(order, str):
        raise ValueError(f"Invalid norm order '{order}' for vectors")
    if order == 0:
        nonzero = (x != 0).astype(linalg.real_dtype(x.dtype))
        return np.sum(nonzero, axis=axes, keepdims=keepdims)
    size = abs(x)
    if order == np.inf:
        return np.max(size, axis=axes, keepdims=keepdims, initial=0)
    if order == -np.inf:
        return np.min(size, axis=axes, keepdims=keepdims)
    if order == 1:
        return np.sum(size, axis=axes, keepdims=keepdims)
    return np.sum(size**order, axis=axes, keepdims=keepdims) ** (1 / order)


def _matrix_norm(x: Value, order: Any, axes: tuple[int, ...], keepdims: bool) -> Value:
    row, column = axes
    if order in (None, "fro", "f"):
        return linalg.norm2(x, axes=axes, keepdims=keepdims)
    if order in (2, -2, "nuc"):
        s = linalg.svdvals(np.moveaxis(x, axes, (-2, -1)))
        if order == "nuc":
            out = np.sum(s, axis=-1)
        else:
            out = np.max(s, axis=-1, initial=0) if order == 2 else np.min(s, axis=-1)
        return np.expand_dims(out, tuple(sorted(axes))) if keepdims else out
    if order not in (1, -1, np.inf, -np.inf):
        raise ValueError("Invalid norm order for matrices.")
    summed, rest = (row, column) if abs(order) == 1 else (column, row)
    total = np.sum(abs(x), axis=summed)
    rest -= rest > summed
    out = np.max(total, axis=rest, initial=0) if order > 0 else np.min(total, axis=rest)
    return np.expand_dims(out, tuple(sorted(axes))) if keepdims else out


@implements(np.linalg.matrix_norm)
def matrix_norm(x: Value, /, *, keepdims: bool = False, ord: Any = "fro") -> Value:  # NumPy's name
    return norm(x, axis=(-2, -1), keepdims=keepdims, ord=ord)


@implements(np.linalg.vector_norm)
def vector_norm(
    x: Value, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2
) -> Value:  # NumPy's name
    x = as_array(x)
    if axis is not None:
        axis = tuple(map(axis_number, axis)) if isinstance(axis, tuple) else index(axis)
    axes = normalize_axes(axis, x.ndim)
    axes = tuple(range(x.ndim)) if axes is None else axes
    rest = [i for i in range(x.ndim) if i not in axes]
    flat = np.reshape(np.transpose(x, [*axes, *rest]), (-1, *[x.shape[i] for i in rest]))
    out = norm(flat, axis=0, ord=ord)
    return np.expand_dims(out, tuple(sorted(axes))) if keepdims else out


# ---- parts of matrices -------------------------------------------------------------------------


@implements(np.linalg.trace)
def trace(x: Value, /, *, offset: int = 0, dtype: Any = None) -> Value:
    return np.trace(x, offset, axis1=-2, axis2=-1, dtype=dtype)


@implements(np.linalg.diagonal)
def diagonal(x: Value, /, *, offset: int = 0) -> Value:
    return np.diagonal(x, offset, axis1=-2, axis2=-1)


@implements(np.linalg.matrix_transpose)
def matrix_transpose(x: Value, /) -> Value:
    x = as_array(x)
    if x.ndim < 2:
        raise ValueError(f"Input array must be at least 2-dimensional, but it is {x.ndim}")
    return mirror(x)
