"""numpy.linalg, and the equations behind polynomials."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.numpy.coverage.call import Call, call
from tests.numpy.coverage.calls.data import (
    CUBE,
    PAIR,
    REAL,
    SIGNED,
    SPD,
    TRIANGLE,
    ZA,
    ZV,
    A,
    B,
    M,
    N,
    V,
    Z,
)

__all__ = ["calls", "refusals"]


def calls() -> Iterator[Call]:
    yield from _equations()
    yield from _factorizations()
    yield from _norms()


def _equations() -> Iterator[Call]:
    yield call(np.linalg.solve, A, V[:3])
    yield call(np.linalg.solve, PAIR, B)
    yield call(np.linalg.solve, ZA, B)
    yield call(np.linalg.inv, PAIR)
    yield call(np.linalg.inv, ZA)
    yield call(np.linalg.tensorsolve, A.reshape(3, 3, 1), V[:3], axes=None)
    yield call(np.linalg.tensorsolve, _TENSOR.transpose(0, 2, 1, 3), M[:2, :3], axes=(1,))
    yield call(np.linalg.tensorinv, A.reshape(3, 1, 3), ind=1)
    yield call(np.linalg.tensorinv, _TENSOR)
    yield call(np.linalg.pinv, M)
    yield call(np.linalg.pinv, np.stack([B, 2 * B[::-1]]), rcond=1e-10)
    yield call(np.linalg.pinv, SPD, hermitian=True)
    yield call(np.linalg.pinv, Z.T, rtol=1e-9)
    yield call(np.linalg.pinv, np.stack([B, 2 * B[::-1]]), np.array([1e-10, 1e-12]))
    yield call(np.linalg.lstsq, B, V[:3], rcond=None)
    yield call(np.linalg.lstsq, M, N[:, :2].copy(), 1e-12)
    yield call(np.linalg.lstsq, Z.T, N.T.copy())
    yield call(np.linalg.det, PAIR)
    yield call(np.linalg.det, ZA)
    yield call(np.linalg.slogdet, PAIR)
    yield call(np.linalg.slogdet, ZA)
    for n in (0, 1, 3, -2):
        yield call(np.linalg.matrix_power, PAIR, n)
    yield call(np.linalg.multi_dot, [B.T, A, B], out=np.zeros((2, 2)))
    yield call(np.linalg.multi_dot, [V[:3], A, A, B[:, 0]])


_TENSOR = np.kron(np.eye(2), A).reshape(2, 3, 2, 3) + np.linspace(0.1, 0.4, 36).reshape(2, 3, 2, 3)


def _factorizations() -> Iterator[Call]:
    hermitian = ZA @ ZA.conj().T
    yield call(np.linalg.cholesky, SPD)
    yield call(np.linalg.cholesky, np.stack([SPD, 2 * SPD + A + A.T]), upper=True)
    yield call(np.linalg.cholesky, hermitian, upper=True, exempt=TRIANGLE)
    for mode in ("reduced", "complete", "r"):
        yield call(np.linalg.qr, A, mode=mode)
        yield call(np.linalg.qr, M, mode=mode)
        yield call(np.linalg.qr, np.stack([B, 2 * B[::-1]]), mode="r" if mode == "r" else "reduced")
    yield call(np.linalg.qr, ZA)
    for a in (A, M, M.T, ZA, np.stack([Z, Z[::-1]])):
        yield call(np.linalg.qr, a, mode="raw")
    yield call(np.linalg.eig, _SPREAD, exempt=REAL)
    yield call(np.linalg.eig, ZA)
    yield call(np.linalg.eigvals, _SPREAD, exempt=REAL)
    yield call(np.linalg.eigvals, ZA)
    for uplo in "LU":
        yield call(np.linalg.eigh, SPD, UPLO=uplo)
        yield call(np.linalg.eigvalsh, np.stack([SPD, A]), UPLO=uplo)
    yield call(np.linalg.eigh, hermitian)
    yield call(np.linalg.svd, M, full_matrices=False)
    yield call(np.linalg.svd, A)
    yield call(np.linalg.svd, ZA)
    yield call(np.linalg.svd, PAIR, compute_uv=False)
    yield call(np.linalg.svd, SPD, hermitian=True)
    yield call(np.linalg.svd, SPD, compute_uv=False, hermitian=True)
    yield call(np.linalg.svdvals, np.stack([M, N]))


_SPREAD = A + np.diag([0.0, 2.0, 5.0])


def _norms() -> Iterator[Call]:
    order: Any
    yield call(np.linalg.norm, CUBE)
    for order in (None, 0, 1, 2, 3.5, np.inf, -np.inf, -1, 0.5):
        yield call(np.linalg.norm, SIGNED, ord=order, axis=1, keepdims=True)
        yield call(np.linalg.norm, ZV, order)
        if order is not None:
            yield call(np.linalg.vector_norm, CUBE, axis=(0, 2), ord=order, keepdims=True)
    for order in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        yield call(np.linalg.norm, CUBE, ord=order, axis=(2, 0), keepdims=True)
        yield call(np.linalg.norm, ZA, order)
        yield call(np.linalg.matrix_norm, PAIR, ord=order, keepdims=True)
        if order != "nuc":
            yield call(np.linalg.cond, PAIR, p=order)
    yield call(np.linalg.vector_norm, M)
    yield call(np.linalg.matrix_norm, M)
    yield call(np.linalg.cond, M)
    yield call(np.linalg.cond, A, "nuc")
    yield call(np.linalg.matrix_rank, PAIR, hermitian=True)
    yield call(np.linalg.matrix_rank, M, tol=0.1)
    yield call(np.linalg.matrix_rank, M, rtol=0.1)


def refusals() -> Iterator[tuple[str, Call]]:
    return iter(())
