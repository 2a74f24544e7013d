"""Sums, products, extrema, moments, accumulations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.numpy.coverage.call import Call, Fixed, call
from tests.numpy.coverage.calls.data import CUBE, HOLES, MASK, A, M, N, V, W, X, Y, Z

__all__ = ["calls", "refusals"]


def calls() -> Iterator[Call]:
    function: Any
    for function in (np.sum, np.nansum, np.prod, np.nanprod):
        x = HOLES if function.__name__.startswith("nan") else M
        yield call(function, x)
        yield call(function, x, axis=1, keepdims=True, dtype=np.float64, initial=1.25)
        yield call(function, CUBE, axis=(0, -1), where=Fixed(CUBE > 0.5))
        yield call(function, Z, axis=0)
        yield call(function, x, axis=0, out=np.zeros(4))
    for function in (np.max, np.min, np.amax, np.amin, np.nanmax, np.nanmin):
        x = HOLES if function.__name__.startswith("nan") else M
        yield call(function, x)
        yield call(function, CUBE, axis=(0, 1), keepdims=True)
        yield call(function, x, axis=1, initial=0.7, where=Fixed(MASK))
        yield call(function, x, axis=0, out=np.zeros(4))
    yield call(np.ptp, M, axis=1, keepdims=True)
    yield call(np.ptp, M, axis=0, out=np.zeros(4))
    yield from _moments()
    yield from _running()
    yield call(np.all, M, axis=1, keepdims=True, where=Fixed(MASK))
    yield call(np.all, M, axis=0, out=np.zeros(4, bool))
    yield call(np.any, M, axis=1, keepdims=True, where=Fixed(MASK))
    yield call(np.any, M, axis=0, out=np.zeros(4, bool))
    yield call(np.trace, CUBE, offset=1, axis1=1, axis2=2)
    yield call(np.trace, np.stack([A, M[:, :3]], axis=-1), dtype=np.float64, out=np.zeros(2))
    yield call(np.linalg.trace, CUBE, offset=-1, dtype=np.float64)
    yield call(np.apply_along_axis, _spread, 1, M)
    yield call(np.apply_along_axis, func1d=np.cumsum, axis=0, arr=M)
    yield call(np.apply_over_axes, np.sum, CUBE, axes=[0, 2])


def _spread(x):
    return np.max(x) * x[::2]


def _moments() -> Iterator[Call]:
    function: Any
    for function in (np.mean, np.nanmean):
        x = HOLES if function is np.nanmean else M
        yield call(function, x)
        yield call(function, CUBE, axis=(1, 2), dtype=np.float64, keepdims=True)
        yield call(function, x, axis=1, where=Fixed(MASK))
        yield call(function, x, axis=1, out=np.zeros(3))
        yield call(function, Z, axis=1)
    for function in (np.std, np.var, np.nanstd, np.nanvar):
        x = HOLES if function.__name__.startswith("nan") else M
        yield call(function, x)
        yield call(function, CUBE, axis=(0, 2), dtype=np.float64, ddof=1, keepdims=True)
        yield call(function, x, axis=1, where=Fixed(MASK), correction=0.5)
        yield call(function, x, axis=0, out=np.zeros(4))
        yield call(function, x, axis=1, mean=N[:, :1].copy())
        yield call(function, Z, axis=1)


def _running() -> Iterator[Call]:
    function: Any
    for function in (np.cumsum, np.cumprod, np.nancumsum, np.nancumprod):
        x = HOLES if function.__name__.startswith("nan") else M
        yield call(function, x)
        yield call(function, x, axis=1, dtype=np.float64, out=np.zeros((3, 4)))
        yield call(function, Z, axis=0)
    for function in (np.cumulative_sum, np.cumulative_prod):
        yield call(function, V)
        yield call(function, M, axis=1, dtype=np.float64, include_initial=True)
        yield call(function, M, axis=0, out=np.zeros((3, 4)))
    yield call(np.diff, V, n=2)
    yield call(np.diff, M, n=1, axis=0, prepend=N[:1], append=X)
    yield call(np.ediff1d, V, to_end=W[:2], to_begin=X)
    yield call(np.gradient, V)
    yield call(np.gradient, M, Y, axis=1, edge_order=2)
    yield call(np.gradient, M, Fixed(np.array([0.0, 0.4, 1.1])), np.array([0.0, 0.3, 1.0, 1.2]))
    yield call(np.trapezoid, M, axis=0)
    yield call(np.trapezoid, M, x=np.sort(V[:4]), axis=1)
    yield call(np.trapezoid, V, dx=Y)
    yield call(np.unwrap, V * 12)
    yield call(np.unwrap, M * 12, discont=2.0, axis=0, period=3.0)


def refusals() -> Iterator[tuple[str, Call]]:
    return iter(())
