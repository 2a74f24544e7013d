"""`scipy.linalg`'s factorizations, bases, eigenvalues and singular values, and norms."""

from __future__ import annotations

from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import TracerConversionError, at, calling_position
from vjpkit.numpy._arguments import known
from vjpkit.numpy._householder import reflections
from vjpkit.ops import linalg, scipy_equations, scipy_factors
from vjpkit.ops.linalg import mirror
from vjpkit.ops.spectra import adjoint
from vjpkit.ops.structural import to_dtype
from vjpkit.scipy._traced import finite, in_lapack, unsupported, version_of

__all__ = [
    "det", "eig", "eig_banded", "eigh", "eigh_tridiagonal", "eigvals", "eigvals_banded", "eigvalsh",
    "eigvalsh_tridiagonal", "lu", "lu_factor", "norm", "null_space", "orth",
    "orthogonal_procrustes", "polar", "qr", "rq", "subspace_angles", "svd", "svdvals",
]  # fmt: skip

ours = version_of("linalg")


def _square(a: Value) -> Value:
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ValueError(f"expected a square matrix, got an array of shape {a.shape}")
    return a


def _matrix(a: Value) -> Value:
    if a.ndim < 2:
        raise ValueError(f"expected matrix, got an array of shape {a.shape}")
    return a


# ---- determinant, norm -------------------------------------------------------------------------


@ours
def det(a: Value, overwrite_a: bool = False, check_finite: bool = True) -> Value:
    """The determinant of (..., n, n) matrices.

    >>> import vjpkit as vk
    >>> vk.grad(vk.scipy.linalg.det)(np.array([[2.0, 0.0], [0.0, 3.0]]))
    array([[3., 0.],
           [0., 2.]])
    """
    return np.linalg.det(_square(finite(a, check_finite)))


@ours
def norm(
    a: Value, ord: Any = None, axis: Any = None, keepdims: bool = False, check_finite: bool = True
) -> Value:
    """`numpy.linalg.norm`, which refuses values that are not finite.

    >>> import vjpkit as vk
    >>> vk.grad(vk.scipy.linalg.norm)(np.array([3.0, 4.0]))
    array([0.6, 0.8])
    """
    return np.linalg.norm(finite(a, check_finite), ord, axis, keepdims)


# ---- LU, QR ------------------------------------------------------------------------------------


@ours
def lu_factor(
    a: Value, overwrite_a: bool = False, check_finite: bool = True
) -> tuple[Value, Value]:
    """``(lu, pivots)`` of (..., m, n) matrices for `lu_solve`; pivots are constant."""
    packed, pivots, _ = scipy_factors.lu_packed(_matrix(finite(a, check_finite)))
    return packed, pivots


@ours
def lu(
    a: Value,
    permute_l: bool = False,
    overwrite_a: bool = False,
    check_finite: bool = True,
    p_indices: bool = False,
) -> tuple[Value, ...]:
    """``(p, l, u)`` with a = p l u; ``(p l, u)`` if ``permute_l``; a = l[p] u if ``p_indices``.

    The permutation is constant. ``a`` is (..., m, n).

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.lu(a)[2][1, 1])(np.array([[2.0, 1.0], [1.0, 3.0]]))
    array([[ 0.25, -0.5 ],
           [-0.5 ,  1.  ]])
    """
    a = _matrix(finite(a, check_finite))
    packed, _, places = scipy_factors.lu_packed(a)
    m, n = a.shape[-2:]
    k = min(m, n)
    l = np.tril(packed[..., :, :k], -1) + np.eye(m, k, dtype=packed.dtype)  # noqa: E741
    u = np.triu(packed[..., :k, :])
    rows = np.argsort(places, axis=-1)
    if permute_l:
        where = np.broadcast_to(rows[..., None], (*rows.shape[:-1], m, k))
        return np.take_along_axis(l, where, axis=-2), u
    if p_indices:
        return rows, l, u
    p = rows[..., None] == np.arange(m)
    return to_dtype(p, linalg.real_dtype(packed.dtype)), l, u


@ours
def qr(
    a: Value,
    overwrite_a: bool = False,
    lwork: int | None = None,
    mode: str = "full",
    pivoting: bool = False,
    check_finite: bool = True,
) -> Any:
    """``(q, r)``, ``(q, r, p)`` if ``pivoting``; ``(r,)`` for ``mode="r"``, ``((qr, tau), r)`` for
    "raw".

    The places of columns are constant. Where q has more columns than a has rank, they are any
    basis: functions that depend on it have no derivative (``mode="economic"`` has none).

    >>> import vjpkit as vk
    >>> a = np.array([[3.0, 0.0], [4.0, 1.0]])
    >>> vk.grad(lambda a: vk.scipy.linalg.qr(a, mode="r")[0][0, 0])(a)
    array([[-0.6,  0. ],
           [-0.8,  0. ]])
    """
    if mode not in ("full", "r", "economic", "raw"):
        raise ValueError("Mode argument should be one of ['full', 'r', 'economic', 'raw']")
    a = _matrix(finite(a, check_finite))
    order: tuple[Value, ...] = ()
    if pivoting:
        places = scipy_factors.column_order(a)
        a = np.take_along_axis(a, np.broadcast_to(places[..., None, :], a.shape), axis=-1)
        order = (places,)
    m, n = a.shape[-2:]
    if mode == "raw":
        h, tau = reflections(a)
        h = mirror(h)
        return ((h, tau), np.triu(h[..., : min(m, n), :]), *order)
    q, r = linalg.qr(a, full=mode == "full")
    if mode == "r":
        padding = [(0, 0)] * (r.ndim - 2) + [(0, m - r.shape[-2]), (0, 0)]
        return (np.pad(r, padding) if m > r.shape[-2] else r, *order)
    return (q, r, *order)


@ours
def rq(
    a: Value,
    overwrite_a: bool = False,
    lwork: int | None = None,
    mode: str = "full",
    check_finite: bool = True,
) -> Any:
    """``(r, q)`` with a = r q, r upper triangular and q unitary; r alone for ``mode="r"``.

    As the QR factorization of what a is backwards.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.rq(a)[0][1, 1])(np.array([[1.0, 0.0], [3.0, 4.0]]))
    array([[ 0. ,  0. ],
           [-0.6, -0.8]])
    """
    if mode not in ("full", "r", "economic"):
        raise ValueError("Mode argument should be one of ['full', 'r', 'economic']")
    a = _matrix(finite(a, check_finite))
    n = a.shape[-1]
    q, r = linalg.qr(adjoint(a)[..., ::-1, ::-1], full=mode != "economic")
    k = r.shape[-2]
    r = adjoint(r)[..., ::-1, ::-1]
    if mode != "economic" and k > n:
        r = r[..., k - n :]
    if mode == "r":
        return r
    return r, adjoint(q)[..., ::-1, ::-1]


@ours
def polar(a: Value, side: str = "right") -> tuple[Value, Value]:
    """``(u, p)`` with a = u p, or a = p u for ``side="left"``; p is Hermitian and not negative.

    ``a`` is (..., m, n), of full rank: elsewhere there is no derivative.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.polar(a)[1][0, 1])(np.eye(2))
    array([[0. , 0.5],
           [0.5, 0. ]])
    """
    if side not in ("right", "left"):
        raise ValueError("`side` must be either 'right' or 'left'")
    a = _matrix(in_lapack(a))
    wide = a.shape[-1] > a.shape[-2]
    u, p = scipy_factors.polar(adjoint(a) if wide else a)
    if wide:
        u = adjoint(u)
    if (side == "left") == wide:
        return u, p
    return u, (adjoint(u) @ a if wide else a @ adjoint(u))


@ours
def orthogonal_procrustes(A: Value, B: Value, check_finite: bool = True) -> tuple[Value, Value]:
    """``(R, scale)``: the unitary R for which |A R - B| is least, and the sum of singular values.

    >>> import vjpkit as vk
    >>> one = np.eye(2)
    >>> vk.grad(lambda a: vk.scipy.linalg.orthogonal_procrustes(a, one)[0][0, 1])(one)
    array([[ 0. , -0.5],
           [ 0.5,  0. ]])
    """
    a, b = finite(A, check_finite), finite(B, check_finite)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-2:] != b.shape[-2:]:
        raise ValueError(f"the shapes of A and B differ ({a.shape} vs {b.shape})")
    r, p = scipy_factors.polar(adjoint(a) @ b)
    return r, np.real(np.trace(p, axis1=-2, axis2=-1))


# ---- eigenvalues -------------------------------------------------------------------------------


def _selected(w: Value, v: Value | None, by_index: Any, by_value: Any, function: str) -> Any:
    """Some eigenvalues, by number from first to last, or in (low, high]."""
    if by_value is not None:
        low, high = by_value
        values = known(w)
        if values is None or values.ndim != 1:
            raise TracerConversionError(
                f"scipy.{function}: how many eigenvalues are in an interval depends on values that "
                f"must be known{at(calling_position())}\nSelect them by number."
            )
        (inside,) = ((values > low) & (values <= high)).nonzero()
        first, last = (inside[0], inside[-1] + 1) if len(inside) else (0, 0)
    elif by_index is not None:
        first, last = int(by_index[0]), int(by_index[1]) + 1
        if not 0 <= first < last <= w.shape[-1]:
            raise ValueError(
                "Requested eigenvalue indices are not valid. Valid range is "
                f"[0, {w.shape[-1] - 1}] and start <= end, but start={first}, end={last - 1} is "
                "given"
            )
    else:
        return w, v
    return w[..., first:last], None if v is None else v[..., :, first:last]


_DRIVERS = (None, "ev", "evd", "evr", "evx", "gv", "gvd", "gvx")


def _eigh(a: Value, b: Any, lower: bool, kind: int, check: bool, driver: Any, vectors: bool) -> Any:
    if driver not in _DRIVERS:
        raise ValueError(f'"{driver}" is unknown. Possible values are {_DRIVERS}')
    if kind not in (1, 2, 3):
        raise ValueError('"type" keyword only accepts 1, 2, and 3.')
    a = _square(finite(a, check))
    if b is not None:
        b = _square(finite(b, check))
        factor = linalg.cholesky(b if lower else adjoint(b))
        whole = linalg.hermitian(a, lower=lower)
        if kind == 1:
            inner = _triangular(factor, whole)
            inner = adjoint(_triangular(factor, adjoint(inner)))
        else:
            inner = adjoint(factor) @ whole @ factor
        a = inner
        driver = (driver or "gvd").replace("gv", "ev")
    if not vectors:
        return linalg.eigvalsh(a, lower=lower), None
    w, v = scipy_factors.eigh_by(a, lower=lower, driver=driver)
    if b is not None:
        v = factor @ v if kind == 3 else _back(factor, v)
    return w, v


def _triangular(factor: Value, b: Value) -> Value:
    return scipy_equations.solve_triangular(factor, b, lower=True, transposed=False, unit=False)


def _back(factor: Value, v: Value) -> Value:
    conjugate = np.conjugate(factor) if factor.dtype.kind == "c" else factor
    return scipy_equations.solve_triangular(conjugate, v, lower=True, transposed=True, unit=False)


@ours
def eigh(
    a: Value,
    b: Value | None = None,
    *,
    lower: bool = True,
    eigvals_only: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    type: int = 1,
    check_finite: bool = True,
    subset_by_index: Any = None,
    subset_by_value: Any = None,
    driver: str | None = None,
) -> Any:
    """``(w, v)`` with a v = b v diag(w) (``type`` 1), a b v = v diag(w) (2) or b a v = v diag(w).

    ``a`` and ``b`` are Hermitian, b positive definite; one triangle of each is read. Vectors of
    equal eigenvalues are any basis: what depends on it has no derivative.

    >>> import vjpkit as vk
    >>> from vjpkit.scipy import linalg
    >>> vk.grad(lambda b: linalg.eigh(np.eye(2), b)[0][0])(np.diag([2.0, 1.0]))
    array([[-0.25,  0.  ],
           [ 0.  ,  0.  ]])
    """
    w, v = _eigh(a, b, bool(lower), type, check_finite, driver, not eigvals_only)
    w, v = _selected(w, v, subset_by_index, subset_by_value, "linalg.eigh")
    return w if eigvals_only else (w, v)


@ours
def eigvalsh(
    a: Value,
    b: Value | None = None,
    *,
    lower: bool = True,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    type: int = 1,
    check_finite: bool = True,
    subset_by_index: Any = None,
    subset_by_value: Any = None,
    driver: str | None = None,
) -> Value:
    """The eigenvalues of `eigh`; derivatives of equal ones are shared.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.eigvalsh(a)[1])(np.diag([1.0, 2.0]))
    array([[0., 0.],
           [0., 1.]])
    """
    w, _ = _eigh(a, b, bool(lower), type, check_finite, driver, False)
    return _selected(w, None, subset_by_index, subset_by_value, "linalg.eigvalsh")[0]


def _choice(select: Any, select_range: Any) -> tuple[Any, Any]:
    """What ``select`` means, as numbers and as an interval."""
    word = select.lower() if isinstance(select, str) else select
    if word in (0, "a", "all"):
        return None, None
    if word in (1, "v", "value"):
        return None, select_range
    if word in (2, "i", "index"):
        return select_range, None
    raise ValueError("invalid argument for select")


def _tridiagonal(d: Value, e: Value, check: bool) -> Value:
    d, e = finite(d, check), finite(e, check)
    if "c" in (d.dtype.kind, e.dtype.kind):
        raise TypeError("Only real arrays currently supported")
    n = d.shape[-1]
    if e.shape[-1] != n - 1:
        raise ValueError(f"d ({d.size}) must have one more element than e ({e.size})")
    below = np.pad(e, [(0, 0)] * (e.ndim - 1) + [(0, 1)])
    return d[..., None] * np.eye(n) + below[..., None, :] * np.eye(n, k=-1)


@ours
def eigh_tridiagonal(
    d: Value,
    e: Value,
    eigvals_only: bool = False,
    select: Any = "a",
    select_range: Any = None,
    check_finite: bool = True,
    tol: float = 0.0,
    lapack_driver: str = "auto",
) -> Any:
    """``(w, v)`` of the symmetric matrix with diagonal ``d`` and ``e`` beside it, as a full matrix.

    >>> import vjpkit as vk
    >>> from vjpkit.scipy import linalg
    >>> vk.grad(lambda d: linalg.eigh_tridiagonal(d, np.zeros(1))[0][0])(np.array([1.0, 2.0]))
    array([1., 0.])
    """
    matrix = _tridiagonal(d, e, check_finite)
    driver = lapack_driver
    if driver == "auto":
        driver = "stevd" if _choice(select, select_range) == (None, None) else "stebz"
    function = "linalg.eigh_tridiagonal"
    return _eigh_of(matrix, True, eigvals_only, select, select_range, driver, function)


@ours
def eigvalsh_tridiagonal(
    d: Value,
    e: Value,
    select: Any = "a",
    select_range: Any = None,
    check_finite: bool = True,
    tol: float = 0.0,
    lapack_driver: str = "auto",
) -> Value:
    """The eigenvalues of `eigh_tridiagonal`."""
    matrix = _tridiagonal(d, e, check_finite)
    function = "linalg.eigvalsh_tridiagonal"
    return _eigh_of(matrix, True, True, select, select_range, None, function)


def _eigh_of(
    matrix: Value,
    lower: bool,
    eigvals_only: bool,
    select: Any,
    select_range: Any,
    driver: str | None,
    function: str,
) -> Any:
    chosen = _choice(select, select_range)
    if eigvals_only:
        return _selected(linalg.eigvalsh(matrix, lower=lower), None, *chosen, function)[0]
    w, v = scipy_factors.eigh_by(matrix, lower=lower, driver=driver)
    return _selected(w, v, *chosen, function)


def _from_band(a_band: Value, lower: bool) -> Value:
    """One triangle of a full matrix, from its diagonals."""
    u, n = a_band.shape[-2] - 1, a_band.shape[-1]
    i, j = np.arange(n)[:, None], np.arange(n)
    place = i - j if lower else u + i - j
    inside = (place >= 0) & (place <= u) & ((i >= j) if lower else (i <= j))
    return np.where(inside, a_band[..., np.where(inside, place, 0), j], 0)


@ours
def eig_banded(
    a_band: Value,
    lower: bool = False,
    eigvals_only: bool = False,
    overwrite_a_band: bool = False,
    select: Any = "a",
    select_range: Any = None,
    max_ev: int = 0,
    check_finite: bool = True,
) -> Any:
    """``(w, v)`` of the Hermitian matrix of which ``a_band`` has the diagonals, as a full matrix.

    >>> import vjpkit as vk
    >>> band = np.array([[0.0, 0.0], [1.0, 2.0]])
    >>> vk.grad(lambda a: vk.scipy.linalg.eig_banded(a)[0][1])(band)
    array([[0., 0.],
           [0., 1.]])
    """
    a_band = _matrix(finite(a_band, check_finite))
    matrix = _from_band(a_band, bool(lower))
    whole = _choice(select, select_range) == (None, None)
    driver = f"{'bevd' if whole else 'bevx'}{a_band.shape[-2] - 1}"
    function = "linalg.eig_banded"
    return _eigh_of(matrix, bool(lower), eigvals_only, select, select_range, driver, function)


@ours
def eigvals_banded(
    a_band: Value,
    lower: bool = False,
    overwrite_a_band: bool = False,
    select: Any = "a",
    select_range: Any = None,
    check_finite: bool = True,
) -> Value:
    """The eigenvalues of `eig_banded`."""
    matrix = _from_band(_matrix(finite(a_band, check_finite)), bool(lower))
    function = "linalg.eigvals_banded"
    return _eigh_of(matrix, bool(lower), True, select, select_range, None, function)


def _homogeneous(w: Value, homogeneous: bool) -> Value:
    return np.stack([w, np.ones_like(w)]) if homogeneous else w


@ours
def eig(
    a: Value,
    b: Value | None = None,
    left: bool = False,
    right: bool = True,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
    homogeneous_eigvals: bool = False,
) -> Any:
    """``w``, then ``vl`` if ``left``, ``vr`` if ``right``: vlᴴ a = diag(w) vlᴴ, a vr = vr diag(w).

    Eigenvalues are complex; vectors of a real matrix are real where all eigenvalues are known to
    be. ``b`` is refused.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: np.real(vk.scipy.linalg.eig(a)[0][0]))(np.diag([1.0, 2.0]))
    array([[1., 0.],
           [0., 0.]])
    """
    if b is not None:
        raise unsupported(
            "linalg.eig", "b", "Use eigh where a and b are Hermitian, or eig(solve(b, a))."
        )
    a = _square(finite(a, check_finite))
    if not (left or right):
        return _homogeneous(linalg.eigvals(a), homogeneous_eigvals)
    if left:
        w, *vectors = scipy_factors.eig_both(a)
    else:
        w, *vectors = linalg.eig(a)
    values = known(w)
    if a.dtype.kind != "c" and values is not None and not np.any(np.imag(values)):
        vectors = [np.real(v) for v in vectors]
    return _homogeneous(w, homogeneous_eigvals), *(vectors if right else vectors[:1])


@ours
def eigvals(
    a: Value,
    b: Value | None = None,
    overwrite_a: bool = False,
    check_finite: bool = True,
    homogeneous_eigvals: bool = False,
) -> Value:
    """The eigenvalues of `eig`, complex; derivatives of equal ones are shared; ``b`` is refused.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: np.real(vk.scipy.linalg.eigvals(a)[0]))(np.diag([1.0, 2.0]))
    array([[1., 0.],
           [0., 0.]])
    """
    if b is not None:
        raise unsupported(
            "linalg.eigvals", "b", "Use eigvalsh where a and b are Hermitian, or solve(b, a)."
        )
    a = _square(finite(a, check_finite))
    return _homogeneous(linalg.eigvals(a), homogeneous_eigvals)


# ---- singular values, bases --------------------------------------------------------------------


@ours
def svd(
    a: Value,
    full_matrices: bool = True,
    compute_uv: bool = True,
    overwrite_a: bool = False,
    check_finite: bool = True,
    lapack_driver: str = "gesdd",
) -> Any:
    """``(u, s, vh)``, or ``s`` alone, of (..., m, n) matrices.

    Vectors of equal singular values, and those that complete square matrices, are any basis: what
    depends on it has no derivative.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.svd(a)[1][0])(np.diag([2.0, 1.0]))
    array([[1., 0.],
           [0., 0.]])
    """
    if lapack_driver not in ("gesdd", "gesvd"):
        raise ValueError(f"lapack_driver must be 'gesdd' or 'gesvd', not {lapack_driver!r}")
    a = _matrix(finite(a, check_finite))
    if not compute_uv:
        return linalg.svdvals(a)
    full = bool(full_matrices) and a.shape[-1] != a.shape[-2]
    return scipy_factors.svd_by(a, full=full, driver=lapack_driver)


@ours
def svdvals(a: Value, overwrite_a: bool = False, check_finite: bool = True) -> Value:
    """Singular values; equal ones share derivatives, those that are 0 have none.

    >>> import vjpkit as vk
    >>> vk.grad(lambda a: vk.scipy.linalg.svdvals(a)[0])(np.diag([2.0, 1.0]))
    array([[1., 0.],
           [0., 0.]])
    """
    return linalg.svdvals(_matrix(finite(a, check_finite)))


def _rank(s: Value, shape: Any, rcond: Any, function: str) -> int:
    if rcond is None:
        rcond = float(np.finfo(s.dtype).eps) * max(shape[-2:])
    values = known(s)
    if values is None or values.ndim != 1:
        raise TracerConversionError(
            f"scipy.{function}: the rank, and so the shape of the result, depends on values that "
            f"must be known{at(calling_position())}\nUse svd, and as many vectors as you want."
        )
    return int(np.sum(values > np.max(values, initial=0.0) * rcond))


@ours
def orth(A: Value, rcond: float | None = None) -> Value:
    """An orthonormal basis of what a matrix (m, n) reaches: its left singular vectors.

    >>> import vjpkit as vk
    >>> projection = lambda a: np.sum((q := vk.scipy.linalg.orth(a)) @ q.T)
    >>> vk.grad(projection)(np.array([[1.0], [0.0]]))
    array([[0.],
           [2.]])
    """
    a = _matrix(in_lapack(A))
    u, s, _ = scipy_factors.svd_by(a, full=False, driver="gesdd")
    return u[..., :, : _rank(s, a.shape, rcond, "linalg.orth")]


@ours
def null_space(
    A: Value,
    rcond: float | None = None,
    *,
    overwrite_a: bool = False,
    check_finite: bool = True,
    lapack_driver: str = "gesdd",
) -> Value:
    """An orthonormal basis of what a matrix (m, n) sends to 0.

    It is any basis of that space: what depends on its choice has no derivative.

    >>> import vjpkit as vk
    >>> projection = lambda a: np.sum((q := vk.scipy.linalg.null_space(a)) @ q.T)
    >>> vk.grad(projection)(np.array([[1.0, 0.0]]))
    array([[ 0., -2.]])
    """
    a = _matrix(finite(A, check_finite))
    full = a.shape[-1] != a.shape[-2]
    _, s, vh = scipy_factors.svd_by(a, full=full, driver=lapack_driver)
    return adjoint(vh[..., _rank(s, a.shape, rcond, "linalg.null_space") :, :])


@ours
def subspace_angles(A: Value, B: Value) -> Value:
    """Angles between the spaces that the columns of two matrices span, the largest first.

    >>> import vjpkit as vk
    >>> x, y = np.array([[1.0], [0.0]]), np.array([[1.0], [1.0]])
    >>> vk.grad(lambda y: vk.scipy.linalg.subspace_angles(x, y)[0])(y)
    array([[-0.5],
           [ 0.5]])
    """
    a, b = finite(A), finite(B)
    for x in (a, b):
        if x.ndim != 2:
            raise ValueError(f"expected 2D array, got shape {x.shape}")
    if a.shape[0] != b.shape[0]:
        raise ValueError(
            f"A and B must have the same number of rows, got {a.shape[0]} and {b.shape[0]}"
        )
    qa, qb = orth(a), orth(b)
    cosines = adjoint(qa) @ qb
    sigma = linalg.svdvals(cosines)
    if qa.shape[1] >= qb.shape[1]:
        rest = qb - qa @ cosines
    else:
        rest = qa - qb @ adjoint(cosines)
    small = (sigma**2 >= 0.5)[::-1]
    sines = linalg.svdvals(rest)
    # A branch that is not taken is kept away from its kink.
    by_sine = np.arcsin(np.where(small, np.clip(sines, -1.0, 1.0), 0))
    by_cosine = np.arccos(np.where(small, 0, np.clip(sigma[::-1], -1.0, 1.0)))
    return np.where(small, by_sine, by_cosine)
