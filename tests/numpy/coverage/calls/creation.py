"""Making arrays: NumPy dispatches these by ``like=``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.numpy.coverage.call import Call, call
from tests.numpy.coverage.calls.data import KNOWN, UNSET, M, V, W, X, Y

__all__ = ["calls", "refusals"]


def calls() -> Iterator[Call]:
    function: Any
    keywords: Any = {"dtype": np.float64, "order": "C", "device": "cpu", "like": M}
    yield call(np.array, M, dtype=np.float64, copy=True, order="C", subok=False, ndmin=3, like=M)
    yield call(np.array, [[X, Y], [Y, X]], like=M)
    for function in (np.asarray, np.asanyarray):
        yield call(function, M, **keywords, copy=True)
        yield call(function, [X, Y], like=M)
    for function in (np.ascontiguousarray, np.asfortranarray):
        yield call(function, M, dtype=np.float64, like=M)
        yield call(function, [V, W], like=M)
    for function in (np.zeros, np.ones):
        yield call(function, (2, 3), **keywords)
    yield call(np.full, (2, 3), fill_value=X, **keywords)
    yield call(np.full, (2, 5), V, like=M)
    yield call(np.empty, (2, 3), **keywords, exempt=UNSET)
    yield call(np.empty_like, M, dtype=np.float64, order="C", subok=False, shape=(2,),
               device="cpu", exempt=UNSET)  # fmt: skip
    yield call(np.eye, 3, M=4, k=1, **keywords)
    yield call(np.identity, 3, dtype=np.float64, like=M)
    yield call(np.tri, 3, M=4, k=1, dtype=np.float64, like=M)
    yield call(np.arange, X, Y, step=np.float64(0.2), dtype=np.float64, device="cpu",
               like=M, exempt=KNOWN)  # fmt: skip
    yield call(np.fromfunction, _sum, (2, 3), dtype=np.float64, like=M)


def _sum(i, j):
    return i + 2 * j


def refusals() -> Iterator[tuple[str, Call]]:
    if "ndmax" in (np.array.__doc__ or ""):  # since NumPy 2.4
        yield "ndmax", call(np.array, [[X, Y]], ndmax=1, like=M)
