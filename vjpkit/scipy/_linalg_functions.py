"""`scipy.linalg`'s functions of a matrix, and its matrices made of a vector."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._arguments import as_array, known
from vjpkit.ops import linalg, scipy_equations, scipy_matrix_functions
from vjpkit.ops.linalg import mirror
from vjpkit.ops.structural import to_dtype
from vjpkit.scipy._traced import finite, in_lapack, unsupported, version_of

__all__ = [
    "block_diag", "circulant", "companion", "convolution_matrix", "coshm", "cosm",
    "diagsvd", "expm", "expm_frechet", "fiedler", "fiedler_companion", "fractional_matrix_power",
    "funm", "hankel", "khatri_rao", "leslie", "logm", "signm", "sinhm", "sinm", "sqrtm", "tanhm",
    "tanm", "toeplitz",
]  # fmt: skip

ours = version_of("linalg")

_NOT_GIVEN: Any = np._NoValue


def _square(a: Value) -> Value:
    a = in_lapack(a)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ValueError("expected square array_like input")
    return a


# ---- functions of a matrix ---------------------------------------------------------------------


def _of_matrix(a: Value, function: str, *powers: float) -> Value:
    """f(A), real where SciPy's is: of a real matrix whose values are known."""
    if a.dtype.kind == "c" or function == "expm" or not a.size:
        return scipy_matrix_functions.matrix_function(a, function=function, powers=powers)
    values = known(a)
    real = False
    if values is not None:
        found = [
            scipy_matrix_functions.value_of(function, m, *powers)
            for m in values.reshape(-1, *values.shape[-2:])
        ]
        real = not any(map(np.iscomplexobj, found))
    if not real and function != "signm":
        a = to_dtype(a, np.result_type(a.dtype, np.complex64))
    return scipy_matrix_functions.matrix_function(a, function=function, powers=powers)


def _no_disp(function: str, disp: Any) -> None:
    if disp is not _NOT_GIVEN and disp is not True:
        raise unsupported(f"linalg.{function}", f"disp={disp!r}", "Leave it out.")


@ours
def expm(A: Value) -> Value:
    """The exponential of (..., n, n) matrices.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.expm(a)[0, 1])(np.zeros((2, 2)))
    array([[0., 1.],
           [0., 0.]])
    """
    return _of_matrix(_square(A), "expm")


@ours
def expm_frechet(
    A: Value,
    E: Value,
    method: str | None = None,
    compute_expm: bool = True,
    check_finite: bool = True,
) -> Any:
    """``(expm(A), L)``, or L alone, where L is the derivative of `expm` at A along E.

    >>> import vjpkit as vk
    >>> one = np.eye(1)
    >>> vk.grad(lambda a: vk.scipy.linalg.expm_frechet(a, one, compute_expm=False)[0, 0])(0 * one)
    array([[1.]])
    """
    a, e = finite(A, check_finite), finite(E, check_finite)
    if a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise ValueError("expected A to be a square matrix")
    if e.shape != a.shape:
        raise ValueError("expected A and E to be the same shape")
    if method not in (None, "SPS", "blockEnlarge"):
        raise ValueError(f"Unknown implementation {method}")
    derivative = scipy_matrix_functions.frechet(a, e, function="expm", powers=())
    return (_of_matrix(a, "expm"), derivative) if compute_expm else derivative


@ours
def logm(A: Value, disp: Any = _NOT_GIVEN) -> Value:
    """The principal logarithm; complex unless it is known to be real.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.logm(a)[0, 1])(2 * np.eye(2)).round(9)
    array([[0. , 0.5],
           [0. , 0. ]])
    """
    _no_disp("logm", disp)
    return _of_matrix(_square(A), "logm")


@ours
def sqrtm(A: Value, disp: Any = _NOT_GIVEN, blocksize: Any = _NOT_GIVEN) -> Value:
    """The principal square root; complex unless it is known to be real.

    A singular matrix has no derivative: `LinAlgError`.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.sqrtm(a)[0, 1])(4 * np.eye(2))
    array([[0.  , 0.25],
           [0.  , 0.  ]])
    """
    _no_disp("sqrtm", disp)
    return _of_matrix(_square(A), "sqrtm")


@ours
def signm(A: Value, disp: Any = _NOT_GIVEN) -> Value:
    """The matrix sign: eigenvalues become the signs of their real parts.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.signm(a)[0, 1])(np.diag([1.0, -1.0]))
    array([[0., 1.],
           [0., 0.]])
    """
    _no_disp("signm", disp)
    return _of_matrix(_square(A), "signm")


@ours
def fractional_matrix_power(A: Value, t: Any) -> Value:
    """A to the power t, through the logarithm where t is traced.

    >>> import vjpkit as vk
    >>> a = 4 * np.eye(2)
    >>> vk.grad(lambda a: vk.scipy.linalg.fractional_matrix_power(a, 0.5)[0, 1])(a)
    array([[0.  , 0.25],
           [0.  , 0.  ]])
    """
    a = _square(A)
    if isinstance(t, Tracer):
        logarithm = _of_matrix(a, "logm")
        values, power = known(a), known(t)
        if values is not None and power is not None and values.ndim == 2:
            out = scipy_matrix_functions.value_of("fractional_matrix_power", values, float(power))
            logarithm = to_dtype(logarithm, np.result_type(logarithm.dtype, out.dtype))
        return _of_matrix(t * logarithm, "expm")
    if float(t) == int(t):
        return np.linalg.matrix_power(a, int(t))
    return _of_matrix(a, "fractional_matrix_power", float(t))


@ours
def funm(A: Value, func: Callable[[Value], Value], disp: bool = True) -> Value:
    """f(A) = V f(w) V⁻¹ from the eigenvalues w; ``func`` takes a complex array of them.

    Where two eigenvalues agree it has no derivative. Real where all eigenvalues and values are
    known to be.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.funm(a, np.exp)[0, 0])(np.diag([0.0, 1.0]))
    array([[1., 0.],
           [0., 0.]])
    """
    if disp is not True:
        raise unsupported("linalg.funm", f"disp={disp!r}", "Leave it out.")
    a = _square(A)
    w, v = linalg.eig(a)
    out = mirror(linalg.solve(mirror(v), mirror(v * func(w)[..., None, :]), transposed=False))
    values = known(out)
    if a.dtype.kind == "c" or values is None:
        return out
    size = np.max(abs(values), initial=0) * 1e3 * np.finfo(values.dtype).eps
    return np.real(out) if np.all(abs(np.imag(values)) <= size) else out


def _exponentials(a: Value) -> tuple[Value, Value]:
    """exp(i A) and exp(-i A)."""
    return _of_matrix(1j * a, "expm"), _of_matrix(-1j * a, "expm")


def _cosine(a: Value) -> Value:
    if a.dtype.kind != "c":
        return np.real(_of_matrix(1j * a, "expm"))
    plus, minus = _exponentials(a)
    return 0.5 * (plus + minus)


def _sine(a: Value) -> Value:
    if a.dtype.kind != "c":
        return np.imag(_of_matrix(1j * a, "expm"))
    plus, minus = _exponentials(a)
    return -0.5j * (plus - minus)


@ours
def cosm(A: Value) -> Value:
    """The cosine of (..., n, n) matrices.

    >>> import vjpkit as vk
    >>> a = np.array([[0.0, 1.0], [0.0, 0.0]])
    >>> vk.grad(lambda a: vk.scipy.linalg.cosm(a)[0, 0])(a).round(9)
    array([[ 0. ,  0. ],
           [-0.5,  0. ]])
    """
    return _cosine(_square(A))


@ours
def sinm(A: Value) -> Value:
    """The sine of (..., n, n) matrices.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.sinm(a)[0, 1])(np.zeros((2, 2)))
    array([[0., 1.],
           [0., 0.]])
    """
    return _sine(_square(A))


@ours
def tanm(A: Value) -> Value:
    """The tangent of (..., n, n) matrices, cos⁻¹ sin."""
    a = _square(A)
    return np.linalg.solve(_cosine(a), _sine(a))


@ours
def coshm(A: Value) -> Value:
    """The hyperbolic cosine of (..., n, n) matrices."""
    a = _square(A)
    return 0.5 * (_of_matrix(a, "expm") + _of_matrix(-a, "expm"))


@ours
def sinhm(A: Value) -> Value:
    """The hyperbolic sine of (..., n, n) matrices."""
    a = _square(A)
    return 0.5 * (_of_matrix(a, "expm") - _of_matrix(-a, "expm"))


@ours
def tanhm(A: Value) -> Value:
    """The hyperbolic tangent of (..., n, n) matrices, cosh⁻¹ sinh."""
    a = _square(A)
    plus, minus = _of_matrix(a, "expm"), _of_matrix(-a, "expm")
    return np.linalg.solve(0.5 * (plus + minus), 0.5 * (plus - minus))


# ---- matrices made of vectors ------------------------------------------------------------------


@ours
def block_diag(*arrs: Value) -> Value:
    """Matrices along the diagonal of one, zeros elsewhere; leading axes broadcast.

    >>> import vjpkit as vk
    >>> vk.grad(lambda x: np.sum(vk.scipy.linalg.block_diag(x, 2.0)))(np.ones((1, 2)))
    array([[1., 1.]])
    """
    blocks = [np.atleast_2d(as_array(a)) for a in arrs]
    lead = np.broadcast_shapes(*[b.shape[:-2] for b in blocks])
    width = sum(b.shape[-1] for b in blocks)
    rows, before = [], 0
    for b in blocks:
        m, n = b.shape[-2:]
        padding = [(0, 0)] * len(lead) + [(0, 0), (before, width - before - n)]
        rows.append(np.pad(np.broadcast_to(b, (*lead, m, n)), padding))
        before += n
    return np.concatenate(rows, axis=-2)


@ours
def toeplitz(c: Value, r: Value | None = None) -> Value:
    """The matrix of first column ``c`` and first row ``r`` (by default c's conjugate).

    >>> import vjpkit as vk
    >>> vk.grad(lambda c: np.sum(vk.scipy.linalg.toeplitz(c)))(np.ones(3))
    array([3., 4., 2.])
    """
    c = np.atleast_1d(as_array(c))
    if r is None:
        r = np.conjugate(c) if c.dtype.kind == "c" else c
    return scipy_equations.toeplitz_matrix(c, np.atleast_1d(as_array(r)))


@ours
def circulant(c: Value) -> Value:
    """The square matrix whose columns are ``c``, moved round.

    >>> import vjpkit as vk
    >>> vk.grad(lambda c: np.sum(vk.scipy.linalg.circulant(c)[0]))(np.ones(3))
    array([1., 1., 1.])
    """
    c = np.atleast_1d(as_array(c))
    n = c.shape[-1]
    return c[..., (np.arange(n)[:, None] - np.arange(n)) % max(n, 1)]


@ours
def hankel(c: Value, r: Value | None = None) -> Value:
    """The matrix of first column ``c`` and last row ``r`` (by default 0), constant across.

    >>> import vjpkit as vk
    >>> vk.grad(lambda c: np.sum(vk.scipy.linalg.hankel(c)))(np.ones(3))
    array([1., 2., 3.])
    """
    c = as_array(c)
    r = np.zeros_like(c) if r is None else as_array(r)
    if c.ndim > 1 or r.ndim > 1:
        raise unsupported("linalg.hankel", "an array of more than one dimension", "Use vk.vmap.")
    values = np.concatenate([c, r[1:]])
    return values[np.arange(len(c))[:, None] + np.arange(len(r))]


@ours
def companion(a: Value) -> Value:
    """The matrix whose eigenvalues are the roots of the polynomial with coefficients ``a``.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: np.sum(vk.scipy.linalg.companion(a)))(np.array([1.0, 2.0, 3.0]))
    array([ 5., -1., -1.])
    """
    a = np.atleast_1d(as_array(a))
    n = a.shape[-1]
    if n < 2:
        raise ValueError("The length of `a` along the last axis must be at least 2.")
    zero = known(np.any(a[..., 0] == 0))
    if zero is not None and zero:
        raise ValueError(
            "The first coefficient(s) of `a` (i.e. elements of `a[..., 0]`) must not be zero."
        )
    first = -a[..., 1:] / (1.0 * a[..., 0:1])
    rest = np.eye(n - 2, n - 1, dtype=first.dtype)
    rest = np.broadcast_to(rest, (*first.shape[:-1], n - 2, n - 1))
    return np.concatenate([first[..., None, :], rest], axis=-2)


@ours
def leslie(f: Value, s: Value) -> Value:
    """The matrix of fecundities ``f`` in its first row and survivals ``s`` below the diagonal.

    >>> import vjpkit as vk
    >>> vk.grad(lambda f: np.sum(vk.scipy.linalg.leslie(f, [0.5])))(np.ones(2))
    array([1., 1.])
    """
    f, s = np.atleast_1d(as_array(f)), np.atleast_1d(as_array(s))
    n = f.shape[-1]
    if n != s.shape[-1] + 1:
        raise ValueError(
            "Incorrect lengths for f and s. The length of s along the last axis must be one less "
            "than the length of f."
        )
    if n < 2:
        raise ValueError("The length of s must be at least 1.")
    below = s[..., :, None] * np.eye(n - 1, n, dtype=s.dtype)
    dtype = np.result_type(f.dtype, s.dtype)
    lead = np.broadcast_shapes(f.shape[:-1], s.shape[:-1])
    top = np.broadcast_to(f[..., None, :], (*lead, 1, n))
    below = np.broadcast_to(below, (*lead, n - 1, n))
    return to_dtype(np.concatenate([top, below], axis=-2), dtype)


@ours
def convolution_matrix(a: Value, n: int, mode: str = "full") -> Value:
    """The matrix T with T v = convolve(a, v, mode) for v of length ``n``.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: np.sum(vk.scipy.linalg.convolution_matrix(a, 2)))(np.ones(2))
    array([2., 2.])
    """
    a = as_array(a)
    if n <= 0:
        raise ValueError("n must be a positive integer.")
    if a.size == 0:
        raise ValueError("len(a) must be at least 1.")
    if mode not in ("full", "valid", "same"):
        raise ValueError("'mode' argument must be one of ('full', 'valid', 'same')")
    m = a.shape[-1]
    trim = {"full": 0, "valid": min(n, m) - 1, "same": min(n, m) - 1}[mode]
    first = trim if mode == "valid" else trim // 2
    last = trim if mode == "valid" else trim - trim // 2
    rows = np.arange(first, m + n - 1 - last)
    places = rows[:, None] - np.arange(n)
    inside = (places >= 0) & (places < m)
    return np.where(inside, a[..., np.where(inside, places, 0)], 0)


@ours
def fiedler(a: Value) -> Value:
    """The matrix of |a_i - a_j|.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.fiedler(a)[0, 1])(np.array([1.0, 3.0]))
    array([-1.,  1.])
    """
    a = np.atleast_1d(as_array(a))
    if not a.size:
        return np.zeros(0)
    if a.size == 1:
        return np.zeros((1, 1))
    return abs(a[..., :, None] - a[..., None, :])


@ours
def fiedler_companion(a: Value) -> Value:
    """A pentadiagonal matrix whose eigenvalues are the roots of a polynomial.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.fiedler_companion(a)[0, 0])(np.array([1.0, 2.0, 3.0]))
    array([ 2., -1.,  0.])
    """
    a = np.atleast_1d(as_array(a))
    if a.ndim > 1:
        raise unsupported(
            "linalg.fiedler_companion", "an array of more than one dimension", "Use vk.vmap."
        )
    if a.size < 2:
        return np.zeros(0, a.dtype)
    if a.size == 2:
        return np.reshape(-(a / a[0])[-1], (1, 1))
    zero = known(a[0] == 0)
    if zero is not None and zero:
        raise ValueError("Leading coefficient is zero.")
    a = a / a[0]
    n = a.size - 1
    # Row 0 holds -a[1] and -a[2], row 1 a one; then pairs of rows hold -a[k], a one beside it.
    minus, ones = np.zeros((n + 1, n, n)), np.zeros((n, n))
    for below, place in zip(range(2, n, 2), range(3, n + 1, 2), strict=False):
        minus[place, below, below - 1] = -1
    for above, place in zip(range(0, n - 1, 2), range(2, n + 1, 2), strict=False):
        minus[place, above, above + 1] = -1
    ones[range(3, n, 2), range(1, n - 2, 2)] = 1
    ones[range(0, n - 2, 2), range(2, n, 2)] = 1
    minus[1, 0, 0] = -1
    ones[1, 0] = 1
    return np.tensordot(a, minus.astype(a.dtype), axes=1) + ones.astype(a.dtype)


@ours
def khatri_rao(a: Value, b: Value) -> Value:
    """Kronecker's product column by column: (n, k) and (m, k) give (n m, k).

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: np.sum(vk.scipy.linalg.khatri_rao(a, [[1.0], [2.0]])))(np.ones((1, 1)))
    array([[3.]])
    """
    a, b = as_array(a), as_array(b)
    if a.ndim < 2 or b.ndim < 2:
        raise ValueError("The both arrays should be 2-dimensional.")
    if a.shape[-1] != b.shape[-1]:
        raise ValueError("The number of columns for both arrays should be equal.")
    product = a[..., :, None, :] * b[..., None, :, :]
    return np.reshape(product, (*product.shape[:-3], math.prod(product.shape[-3:-1]), a.shape[-1]))


@ours
def diagsvd(s: Value, M: int, N: int) -> Value:
    """The (M, N) matrix of singular values ``s``.

    >>> import vjpkit as vk
    >>> vk.grad(lambda s: vk.scipy.linalg.diagsvd(s, 2, 3)[1, 1])(np.ones(2))
    array([0., 1.])
    """
    s = as_array(s)
    k = s.shape[-1]
    if k not in (M, N):
        raise ValueError("Length of s must be M or N.")
    square = s[..., :, None] * np.eye(k, dtype=s.dtype)
    return np.pad(square, [(0, 0)] * (s.ndim - 1) + [(0, M - k), (0, N - k)])
