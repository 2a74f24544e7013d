"""Products, convolutions, Einstein sums."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.numpy.coverage.call import Call, call
from tests.numpy.coverage.calls.data import CUBE, PAIR, SCALAR, ZV, A, B, M, N, V, W, X, Z

__all__ = ["calls", "refusals"]


def calls() -> Iterator[Call]:
    yield call(np.dot, M, N.T.copy())
    yield call(np.dot, V, W)
    yield call(np.dot, X, M)
    yield call(np.dot, CUBE, np.stack([M.T, N.T]))
    yield call(np.dot, M, V[:4], out=np.zeros(3))
    yield call(np.vdot, Z, N * 1j)
    yield call(np.vdot, M, N)
    yield call(np.inner, M, N)
    yield call(np.outer, V, W, out=np.zeros((5, 5)))
    yield call(np.outer, M, X)
    yield call(np.linalg.outer, ZV, V)
    yield call(np.kron, B, A)
    yield call(np.kron, V, M)
    yield call(np.cross, A, PAIR)
    yield call(np.cross, A, A[:1] + 1, axisa=0, axisb=1, axisc=0)
    yield call(np.cross, A, PAIR[1], axis=0)
    yield call(np.linalg.cross, A, PAIR[1], axis=0)
    yield call(np.linalg.matmul, PAIR, B)
    yield call(np.linalg.vecdot, M, N, axis=0)
    yield call(np.linalg.vecdot, Z, N * 1j)
    yield call(np.tensordot, CUBE, PAIR, axes=([1, 0], [2, 0]))
    yield call(np.tensordot, CUBE, N.T.copy(), axes=1)
    yield call(np.linalg.tensordot, CUBE, M, axes=2)
    yield from _einsum()
    yield from _convolutions()


def _einsum() -> Iterator[Call]:
    yield call(np.einsum, "ij,kj->ik", M, N)
    yield call(np.einsum, "ij,jk,kl", B.T, A, B, optimize=True)
    yield call(np.einsum, "ii->i", A, out=np.zeros(3))
    yield call(np.einsum, "...ij,...j->...i", PAIR, A[:2], optimize="optimal")
    yield call(np.einsum, A, [0, 1], B, [1, 2], [2, 0])
    yield call(
        np.einsum, "ij,ij,ij->", M, N, M, optimize=["einsum_path", (0, 1), (0, 1)], exempt=SCALAR
    )
    yield call(np.einsum, "ij,j", Z, ZV[:4])
    yield call(np.einsum, "iij->j", np.stack([A, A + 1, A * 2]))
    yield call(np.einsum, "ij->j", M, dtype=np.float64, casting="safe")
    yield call(np.einsum_path, "ij,jk", A, B, optimize="greedy")


def _convolutions() -> Iterator[Call]:
    for mode in ("full", "same", "valid"):
        yield call(np.convolve, V, W[:3], mode=mode)
        yield call(np.correlate, V, W[:3], mode=mode)
        yield call(np.correlate, V[:2], ZV, mode=mode)
    yield call(np.convolve, V[:2], W)


def refusals() -> Iterator[tuple[str, Call]]:
    yield "einsum_call", call(np.einsum_path, "ij,jk", A, B, einsum_call=True)
    yield "order", call(np.einsum, "ij,jk", A, B, order="F")
