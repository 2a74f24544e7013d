"""Constant ones: questions, integers, text; and those of end points."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.numpy.coverage.call import Call, Fixed, call
from tests.numpy.coverage.calls.data import HOLES, PLAIN, SIGNED, ZV, A, M, N, V, W, X, Y, Z

__all__ = ["calls", "refusals"]


def calls() -> Iterator[Call]:
    yield from _questions()
    yield from _grids()
    yield from _rounded()


def _questions() -> Iterator[Call]:
    yield call(np.allclose, M, N, rtol=0.1, atol=0.2, equal_nan=True)
    yield call(np.isclose, M, N, rtol=0.1, atol=0.2)
    yield call(np.isclose, HOLES, HOLES, equal_nan=True)
    yield call(np.array_equal, M, M, equal_nan=True)
    yield call(np.array_equiv, M, N)
    yield call(np.iscomplex, Z)
    yield call(np.isreal, Z)
    yield call(np.iscomplexobj, M)
    yield call(np.isrealobj, M)
    yield call(np.isposinf, M)
    yield call(np.isneginf, M, out=np.zeros((3, 4), bool))
    yield call(np.isposinf, M, out=np.zeros((3, 4), bool))
    yield call(np.ndim, M)
    yield call(np.shape, M)
    yield call(np.size, M, axis=1)
    yield call(np.result_type, M, Fixed(np.float32(1)))
    yield call(np.can_cast, Fixed(np.dtype("f4")), np.float64, casting="safe", exempt=PLAIN)
    yield call(np.common_type, M, N)
    yield call(np.min_scalar_type, M)
    yield call(np.may_share_memory, M, N, max_work=1)
    yield call(np.shares_memory, M, N, max_work=10)
    yield call(np.diag_indices_from, A)
    yield call(np.tril_indices_from, M, k=1)
    yield call(np.triu_indices_from, M, k=1)


def _grids() -> Iterator[Call]:
    yield call(np.linspace, X, Y)
    yield call(np.linspace, V, W, num=4, endpoint=False, retstep=True, axis=1, dtype=np.float64,
               device="cpu")  # fmt: skip
    yield call(np.logspace, X, Y, num=5, base=np.float64(2.5), endpoint=False)
    yield call(np.logspace, V, Y, num=3, axis=-1, dtype=np.float64)
    yield call(np.geomspace, X, Y, num=5, endpoint=False)
    yield call(np.geomspace, V, W, num=4, axis=1, dtype=np.float64)
    yield call(np.geomspace, ZV, 2 + 1j, num=3)


def _rounded() -> Iterator[Call]:
    yield call(np.round, M, decimals=1)
    yield call(np.round, M * 10, out=np.zeros((3, 4)))
    yield call(np.around, M * 10, decimals=0, out=np.zeros((3, 4)))
    yield call(np.fix, SIGNED * 7)
    yield call(np.fix, SIGNED * 7, out=np.zeros((3, 4)))
    yield call(np.i0, SIGNED * 2)
    yield call(np.sinc, SIGNED)
    yield call(np.sinc, np.array([0.0, 0.4]))


def refusals() -> Iterator[tuple[str, Call]]:
    return iter(())
