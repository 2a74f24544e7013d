"""Factorizations of a matrix that SciPy has and NumPy has not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.primitive import Sample, primitive
from vjpkit.kinds import PiecewiseConstant
from vjpkit.ops.linalg.eigen import Eigh, eigen_push
from vjpkit.ops.linalg.equations import solve
from vjpkit.ops.linalg.matrices import common_dtype, matrices, mirror, order
from vjpkit.ops.linalg.singular import Svd
from vjpkit.ops.scipy_equations import solve_sylvester, solve_triangular
from vjpkit.ops.scipy_looped import Looped, Looping
from vjpkit.ops.spectra import adjoint

__all__ = ["column_order", "eig_both", "eigh_by", "lu_packed", "polar", "svd_by"]

_A = np.array([[1.3, -1.2, 2.5], [1.7, 0.4, -0.6], [0.2, 0.9, -1.1]])
_I = np.array([[0.2, 0.1, -0.3], [-0.4, 0.3, 0.6], [0.1, -0.5, 0.2]])
_B = np.array([[0.5, 1.1], [-0.7, 0.2], [1.3, -0.9]])
_S = np.array([[4.0, 9.0, 9.0], [0.5, 3.0, 9.0], [-0.8, 0.3, 2.5]])
_D = np.array([[1.0, 0.3, -0.2], [0.1, 2.5, 0.4], [-0.3, 0.2, -1.5]])


def _width(driver: str) -> int:
    """How many diagonals beside the main one a driver reads."""
    return 1 if driver.startswith("st") else int(driver[4:])


class EighBy(Looping, Eigh):
    """Eigenvalues and vectors of a Hermitian matrix by one of LAPACK's ``driver``s.

    "st..." are those of tridiagonal matrices, "bevd3" is that of matrices with 3 more diagonals on
    each side; what is farther from the diagonal they do not read.
    """

    core_ndims = (2,)

    @staticmethod
    def routine(a: Any, lower: bool, driver: str | None) -> Any:
        from scipy.linalg import eig_banded, eigh, eigh_tridiagonal

        if driver is None or driver.startswith("ev"):
            return eigh(a, lower=lower, driver=driver, check_finite=False)
        if driver.startswith("st") and not np.iscomplexobj(a):
            return eigh_tridiagonal(np.diag(a), np.diag(a, -1), lapack_driver=driver)
        u, n = _width(driver), len(a)
        band = np.zeros((u + 1, n), a.dtype)
        for k in range(min(u + 1, n)):
            if lower:
                band[k, : n - k] = np.diag(a, -k)
            else:
                band[u - k, k:] = np.diag(a, k)
        some = (
            {} if driver.startswith(("bevd", "st")) else {"select": "i", "select_range": (0, n - 1)}
        )
        return eig_banded(band, lower=lower, **some)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        driver = params["driver"]
        t: Value = ts[0]
        if driver is not None and not driver.startswith("ev"):
            k = _width(driver)
            t = np.tril(np.triu(t, -k), k)
        return super().jvp(values, [t], out, **params)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_S, lower=True, driver=None)
        yield Sample(np.stack([_S + 1j * _I, 2 * _S + 2j * _I]), lower=False, driver="evd")
        tridiagonal = np.tril(np.triu(_S, -1))
        for driver in ("stevd", "stebz", "bevd1", "bevx1"):
            yield Sample(tridiagonal, lower=True, driver=driver)
        yield Sample(_S[:0, :0], lower=True, driver=None)


eigh_by = primitive(EighBy)


class SvdBy(Looping, Svd):
    """Singular values and vectors by one of LAPACK's ``driver``s."""

    exempt = {}
    core_ndims = (2,)

    @staticmethod
    def routine(a: Any, full: bool, driver: str) -> Any:
        from scipy.linalg import svd

        return svd(a, full, check_finite=False, lapack_driver=driver)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_A, full=False, driver="gesvd")
        yield Sample(np.stack([_B, 2 * _B]), full=False, driver="gesdd")


svd_by = primitive(SvdBy)


class EigBoth(Looped):
    """Eigenvalues, left and right eigenvectors, of length 1 and with their largest element real.

    The left ones are the right ones of Aᴴ, at the conjugate eigenvalues.
    """

    multi = True
    interpreted = True
    core_ndims = (2,)

    @staticmethod
    def routine(a: Any) -> Any:
        from scipy.linalg import eig

        return eig(a, left=True, check_finite=False)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        w, left, right = out
        t: Value = ts[0]
        moved, turned = eigen_push(w, right, t)
        return moved, eigen_push(np.conjugate(w), left, adjoint(t))[1], turned

    def abstract(self, *avals: Aval, **params: Any) -> tuple[Aval, Aval, Aval]:
        lead, n, dtype = order(avals[0])
        dtype = np.result_type(dtype, np.complex64)
        square = Aval((*lead, n, n), dtype)
        return Aval((*lead, n), dtype), square, square

    def samples(self) -> Iterable[Sample]:
        yield Sample(_D)
        yield Sample(np.stack([_D, _D + 1j * _I]))
        yield Sample(_D[:0, :0])


eig_both = primitive(EigBoth)


class LuPacked(Looped):
    """L below the diagonal and U on and above it, with P A = L U; LAPACK's pivots; P as places.

    With X = L⁻¹ P dA U⁻¹ the part of X below the diagonal is L⁻¹ dL, the other one dU U⁻¹. Where A
    is not square, L and U are completed by columns and rows of the identity.
    """

    multi = True
    core_ndims = (2,)

    @staticmethod
    def routine(a: Any) -> Any:
        from scipy.linalg import get_lapack_funcs

        (getrf,) = get_lapack_funcs(("getrf",), (a,))
        packed, pivots, _ = getrf(a)
        places = np.arange(len(a))
        for i, j in enumerate(pivots):
            places[[i, j]] = places[[j, i]]
        return packed, pivots, places

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        packed, _, places = out
        t = np.take_along_axis(ts[0], places[..., None], axis=-2)
        m, n = packed.shape[-2:]
        k = min(m, n)
        l = _completed(np.tril(packed[..., :, :k], -1), m, axis=-1)  # noqa: E741  # the factor L
        u = _completed(packed[..., :k, :], n, axis=-2)
        x = solve_triangular(l, t, lower=True, transposed=False, unit=True)
        x = solve_triangular(u, mirror(x), lower=False, transposed=True, unit=False)
        x = mirror(x)
        below = np.tril(x, -1)[..., :, :k]
        dl = below + np.tril(l, -1) @ below
        du = np.triu(x)[..., :k, :] @ np.triu(u)
        return _packed(dl, du, m, n), None, None

    def abstract(self, *avals: Aval, **params: Any) -> tuple[Aval, Aval, Aval]:
        (a,) = avals
        m, n = matrices(a)
        lead = a.shape[:-2]
        return (
            Aval(a.shape, common_dtype(a)),
            Aval((*lead, min(m, n)), np.int32),
            Aval((*lead, m), np.intp),
        )

    def samples(self) -> Iterable[Sample]:
        yield Sample(_A)
        yield Sample(np.stack([_A + 1j * _I, _A])[..., :2])
        yield Sample(_B.T)
        yield Sample(_A[:0, :0])


def _completed(x: Value, size: int, axis: int) -> Value:
    """A square matrix whose first columns (or rows) are ``x``, the others the identity's."""
    missing = size - x.shape[axis]
    if not missing:
        return x
    rest = np.eye(size, dtype=x.dtype)[size - missing :]
    rest = np.broadcast_to(rest, (*x.shape[:-2], missing, size))
    return np.concatenate([x, mirror(rest) if axis == -1 else rest], axis=axis)


def _packed(l: Value, u: Value, m: int, n: int) -> Value:  # noqa: E741  # the factor L
    """A strictly lower triangle and an upper one in one matrix."""
    k = min(m, n)
    below = np.pad(np.tril(l, -1), [(0, 0)] * (l.ndim - 1) + [(0, n - k)])
    above = np.pad(np.triu(u), [(0, 0)] * (u.ndim - 2) + [(0, m - k), (0, 0)])
    return below + above


lu_packed = primitive(LuPacked)


class ColumnOrder(Looping, PiecewiseConstant):
    """The places of columns in a QR factorization with pivoting."""

    core_ndims = (2,)

    @staticmethod
    def routine(a: Any) -> Any:
        from scipy.linalg import qr

        return qr(a, mode="r", pivoting=True, check_finite=False)[1]

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (a,) = avals
        return Aval((*a.shape[:-2], matrices(a)[1]), np.int32)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_A, wrt=())
        yield Sample(np.stack([_B, 2 * _B]), wrt=())


column_order = primitive(ColumnOrder)


class Polar(Looped):
    """A = U P of a matrix with at least as many rows as columns: U with orthonormal columns.

    P is Hermitian and positive definite. With the anti-Hermitian Ω = Uᴴ dU,
    P Ω + Ω P = Uᴴ dA - dAᴴ U, and dP = Uᴴ dA - Ω P (Higham, 2008, 8.1).
    """

    multi = True
    core_ndims = (2,)

    @staticmethod
    def routine(a: Any) -> Any:
        from scipy.linalg import polar

        return polar(a)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        u, p = out
        t: Value = ts[0]
        seen = adjoint(u) @ t
        omega = solve_sylvester(p, p, seen - adjoint(seen))
        du = u @ omega
        if u.shape[-2] > u.shape[-1]:
            beyond = t - u @ seen
            du = du + mirror(solve(p, mirror(beyond), transposed=True))
        return du, seen - omega @ p

    def abstract(self, *avals: Aval, **params: Any) -> tuple[Aval, Aval]:
        (a,) = avals
        m, n = matrices(a)
        if m < n:
            raise ValueError(f"polar: {m} rows and {n} columns")
        dtype = common_dtype(a)
        return Aval(a.shape, dtype), Aval((*a.shape[:-2], n, n), dtype)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_A)
        yield Sample(_B)
        yield Sample(np.stack([_A + 1j * _I, _A])[..., :2])


polar = primitive(Polar)
