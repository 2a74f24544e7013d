"""Order statistics, averages, correlation, histograms, interpolation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.numpy.coverage.call import Call, Fixed, call
from tests.numpy.coverage.calls.data import CUBE, HOLES, INTS, KNOTS, KNOWN, M, N, V, W, X, Y, Z

__all__ = ["calls", "refusals"]


METHODS = (
    "inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf",
    "hazen", "weibull", "linear", "median_unbiased", "normal_unbiased", "lower", "higher",
    "midpoint", "nearest",
)  # fmt: skip
Q = np.array([0.13, 0.42, 0.81])


def calls() -> Iterator[Call]:
    function: Any
    for function in (np.median, np.nanmedian):
        x = HOLES if function is np.nanmedian else M
        yield call(function, x)
        yield call(function, CUBE, axis=(0, 1), keepdims=True)
        yield call(function, x, axis=0, out=np.zeros(4), overwrite_input=True)
    for function in (np.quantile, np.nanquantile, np.percentile, np.nanpercentile):
        yield from _quantiles(function)
    yield call(np.average, M)
    yield call(np.average, M, axis=1, weights=V[:4], returned=True, keepdims=True)
    yield call(np.average, M, weights=N)
    yield from _correlation()
    yield from _histograms()
    yield call(np.interp, V, KNOTS, W[:4], left=X, right=Y)
    yield call(np.interp, V * 3, xp=KNOTS, fp=W[:4], period=1.5)
    yield call(np.interp, V, Fixed(KNOTS), Z[0])
    yield call(np.interp, V, KNOTS, W[:4])


def _quantiles(function) -> Iterator[Call]:
    x = HOLES if function.__name__.startswith("nan") else M
    q = Q * 100 if function.__name__.endswith("percentile") else Q
    yield call(function, x, q)
    yield call(function, x, q[0], axis=0, keepdims=True, overwrite_input=True,
               out=np.zeros((1, 4)))  # fmt: skip
    for method in METHODS:
        yield call(function, x, q, axis=1, method=method)
    yield call(function, M, q, axis=1, method="inverted_cdf", weights=Fixed(N))


def _correlation() -> Iterator[Call]:
    yield call(np.cov, M)
    yield call(np.cov, M, y=N, rowvar=False, bias=True)
    yield call(np.cov, M, ddof=0, fweights=Fixed(np.array([1, 3, 2, 1])), dtype=np.float64)
    yield call(np.cov, M, aweights=V[:4])
    yield call(np.cov, Z)
    yield call(np.corrcoef, M)
    yield call(np.corrcoef, M, y=N, rowvar=False, dtype=np.float64)
    yield call(np.corrcoef, Z)


def _histograms() -> Iterator[Call]:
    edges = np.array([0.0, 0.33, 0.6, 1.0])
    yield call(np.histogram, V, bins=3, weights=W)
    yield call(np.histogram, V, bins=3, range=(0.0, 1.0), density=True, weights=W)
    yield call(np.histogram, V, bins=edges, density=True)
    yield call(np.histogram2d, V, W, bins=2, range=[[0, 1], [0, 1]], weights=W)
    yield call(np.histogram2d, V, W, bins=[edges, 2], density=True)
    yield call(np.histogramdd, M, bins=2, range=[(0, 1)] * 4, weights=V[:3])
    yield call(np.histogramdd, (V, W), bins=(edges, edges), density=True)
    yield call(np.histogram_bin_edges, V, bins=4)
    yield call(np.histogram_bin_edges, V, bins=4, range=(0, 1), weights=W)
    yield call(np.bincount, Fixed(INTS), weights=W, minlength=8)
    yield call(np.bincount, INTS, exempt=KNOWN)


def refusals() -> Iterator[tuple[str, Call]]:
    return iter(())
