"""Medians, quantiles and percentiles: NumPy's signatures.

A quantile reads elements at places that the order of the data decides. That order is locally
constant: derivatives flow to the elements read and, between two of them, to the position.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._arguments import (
    as_array,
    grid,
    known,
    plain,
    scalar,
    warn_where,
    yes,
)
from vjpkit.numpy._dispatch import implements, normalize_axes
from vjpkit.numpy._face import unwrapped
from vjpkit.numpy._statistics import weights_like
from vjpkit.numpy._writing import delivers
from vjpkit.ops import ordering, selection, structural
from vjpkit.ops.indexing import read

__all__: list[str] = []

Axes = tuple[int, ...] | None
_INT = np.dtype(np.intp)
_FLOAT = np.dtype(float)


# ---- samples in order --------------------------------------------------------------------------


def _in_front(a: Value, axes: Axes) -> Value:
    """``a`` with the reduced axes as one, in front of the others."""
    gone = tuple(range(a.ndim)) if axes is None else axes
    order = (*gone, *[i for i in range(a.ndim) if i not in gone])
    if order != tuple(range(a.ndim)):
        a = structural.transpose(a, axes=order)
    if len(gone) == 1:
        return a
    lanes = a.shape[len(gone) :]
    return structural.reshape(a, shape=(math.prod(a.shape[: len(gone)]), *lanes))


class _Sample:
    """Data along the first axis, and the places of its elements in order; nan comes last."""

    def __init__(self, data: Value, order: Value, count: Value, spoilt: Value | None = None):
        self.data = data
        self.order = order
        self.count = count
        """How many elements count: all, or, per lane, those that are not nan."""
        self.spoilt = spoilt
        """The lanes in which a nan makes the result nan; None where there are none."""

    @classmethod
    def of(cls, a: Value, axes: Axes, skip_nan: bool) -> _Sample:
        data = _in_front(a, axes)
        order = ordering.argsort(data, axis=0, kind=None)
        nan = np.isnan(data)
        if plain(nan) and not nan.any():
            return cls(data, order, len(data))
        if skip_nan:
            return cls(data, order, len(data) - np.sum(nan, axis=0))
        return cls(data, order, len(data), np.any(nan, axis=0))

    def at(self, ranks: Value) -> Value:
        """The elements of these ranks, which broadcast against the lanes."""
        lanes = grid(self.data.shape[1:])
        return read(self.data, (read(self.order, (ranks, *lanes)), *lanes))

    def checked(self, result: Value) -> Value:
        """nan in the lanes that have one: the nan itself, so that it keeps its derivative."""
        return result if self.spoilt is None else selection.where(self.spoilt, self.at(-1), result)


def _put_back(result: Value, a: Value, axes: Axes, keepdims: bool) -> Value:
    """A result over the lanes (after new axes), with the reduced axes as length 1 if wanted."""
    if not keepdims:
        return scalar(result)
    gone = range(a.ndim) if axes is None else axes
    new = result.ndim - (a.ndim - len(gone))
    lanes = iter(result.shape[new:])
    kept = [1 if i in gone else next(lanes) for i in range(a.ndim)]
    return structural.reshape(result, shape=(*result.shape[:new], *kept))


def _real(a: Value) -> Value:
    """Numbers as floating ones."""
    array = as_array(a)
    return array if array.dtype.kind in "fc" else structural.to_dtype(array, _FLOAT)


# ---- median ------------------------------------------------------------------------------------


def _median(function: str, a: Value, axis: Any, keepdims: Any) -> Value:
    array = _real(a)
    axes = normalize_axes(axis, array.ndim)
    skip_nan = function == "nanmedian"
    sample = _Sample.of(array, axes, skip_nan)
    if not len(sample.data):
        return np.mean(array, axis=axes, keepdims=yes(keepdims))
    n = sample.count
    if skip_nan:
        warn_where(n == 0, "All-NaN slice encountered")
    if isinstance(n, int) and n % 2:
        result = sample.at(n // 2)
    else:
        result = np.mean(np.stack([sample.at((n - 1) // 2), sample.at(n // 2)]), axis=0)
    return _put_back(sample.checked(result), array, axes, yes(keepdims))


@implements(np.median)
@delivers
def median(
    a: Value, axis: Any = None, out: Any = None, overwrite_input: bool = False,
    keepdims: Any = False,
) -> Value:  # fmt: skip
    """The middle element, or the mean of the two; the input is never overwritten."""
    return _median("median", a, axis, keepdims)


@implements(np.nanmedian)
@delivers
def nanmedian(
    a: Value, axis: Any = None, out: Any = None, overwrite_input: bool = False,
    keepdims: Any = False,
) -> Value:  # fmt: skip
    """The middle element of those that are not nan; the input is never overwritten."""
    return _median("nanmedian", a, axis, keepdims)


# ---- quantiles ---------------------------------------------------------------------------------

# Position of quantile q among n elements, counted from 0: n q + alpha + q (1 - alpha - beta) - 1
# (Hyndman and Fan 1996), with alpha and beta by method.
_CONTINUOUS = {
    "interpolated_inverted_cdf": (0, 1), "hazen": (0.5, 0.5), "weibull": (0, 0), "linear": (1, 1),
    "median_unbiased": (1 / 3, 1 / 3), "normal_unbiased": (3 / 8, 3 / 8),
}  # fmt: skip


def _closest_observation(n: Value, q: Value) -> Value:
    position = n * q - 1.5
    below = np.floor(position)
    return np.where(np.logical_and(position == below, below % 2 == 1), below, below + 1)


# Methods that pick one element: its rank.
_DISCRETE: dict[str, Callable[[Value, Value], Value]] = {
    "inverted_cdf": lambda n, q: np.ceil(n * q - 1),
    "closest_observation": _closest_observation,
    "lower": lambda n, q: np.floor((n - 1) * q),
    "higher": lambda n, q: np.ceil((n - 1) * q),
    "nearest": lambda n, q: np.rint((n - 1) * q),
}

# Methods that mix two elements in fixed proportion: the position, and the share of the upper one
# where the position is an element and where it is between two.
_MIXED: dict[str, tuple[Callable[[Value, Value], Value], float, float]] = {
    "averaged_inverted_cdf": (lambda n, q: n * q - 1, 0.5, 1.0),
    "midpoint": (lambda n, q: (n - 1) * q, 0.0, 0.5),
}


def _position(method: str, n: Value, q: Value) -> Value:
    alpha, beta = _CONTINUOUS[method]
    if method == "linear":
        return (n - 1) * q  # the same, with less rounding
    return n * q + (alpha + q * (1 - alpha - beta)) - 1


def _interpolated(sample: _Sample, method: str, q: Value) -> Value:
    """The quantile at ``q``, which has the axes of the lanes after its own."""
    n = sample.count
    last = n - 1
    if not isinstance(n, int):
        n = structural.to_dtype(as_array(n), q.dtype)
    if method in _DISCRETE:
        return sample.at(_rank(_DISCRETE[method](n, q), last))
    if method in _MIXED:
        place, on, between = _MIXED[method]
        position = place(n, q)
        below = np.floor(position)
        share = selection.where(position == below, on, between)
        share = structural.to_dtype(share, q.dtype)
    else:
        position = _position(method, n, q)
        below = np.floor(position)
        share = position - below
    lower, upper = sample.at(_rank(below, last)), sample.at(_rank(below + 1, last))
    return lower + (upper - lower) * share


def _rank(rank: Value, last: Value) -> Value:
    """A rank within the sample, as an integer."""
    return np.minimum(np.maximum(structural.to_dtype(as_array(rank), _INT), 0), last)


def _weighted_ranks(sample: _Sample, weights: Value, q: Value) -> Value:
    """Where the cumulated weights of each lane reach ``q``: found on values, locally constant."""
    order, points, weights = sample.order, unwrapped(q), unwrapped(weights)
    if np.any(known(weights < 0)):
        raise ValueError("Weights must be non-negative.")
    weights = np.take_along_axis(np.broadcast_to(weights, order.shape), order, 0)
    counted = np.arange(len(order)).reshape(-1, *[1] * (order.ndim - 1)) < sample.count
    weights = np.where(np.logical_or(counted, sample.count == 0), weights, 0)
    cdf = np.cumsum(weights, axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        cdf = cdf / cdf[-1]
    if np.any(known(np.isnan(cdf[-1]))):
        raise ValueError("Weights included NaN, inf or were all zero.")
    cdf = np.astype(np.where(cdf == 0, -1, cdf), points.dtype)  # without weight: no quantile
    below = cdf < np.reshape(points, (*points.shape, *[1] * order.ndim))
    return np.minimum(np.sum(below, axis=points.ndim), len(order) - 1)


def _points(q: Value, percent: bool) -> Value:
    """Quantiles between 0 and 1, as floating numbers."""
    points = _real(q)
    if percent:
        points = points / 100
    if points.ndim > 2:
        raise ValueError("q must be a scalar or 1d")
    value = known(points)
    if value is not None and not np.all((value >= 0) & (value <= 1)):
        kind, end = ("Percentiles", 100) if percent else ("Quantiles", 1)
        raise ValueError(f"{kind} must be in the range [0, {end}]")
    return points


@cache
def _float64_decides() -> bool:
    """Whether a ``q`` of type np.float64 decides the dtype; before NumPy 2.2 it does not."""
    return bool(np.quantile(np.zeros(1, np.float32), np.float64(0.5)).dtype == np.float64)


def _follows_data(q: Value, method: str) -> bool:
    """Whether the result has the dtype of the data, whatever the dtype of ``q``."""
    if isinstance(q, Tracer):
        return q.aval.weak
    if type(q) in (int, float) or (type(q) is np.float64 and not _float64_decides()):
        return True
    return method == "linear" and np.asarray(q).dtype.kind in "biu"


def _quantile(
    function: str, a: Value, q: Value, axis: Any, method: str, keepdims: Any, weights: Any
) -> Value:
    array = as_array(a)
    if array.dtype.kind == "c":
        raise TypeError("a must be an array of real numbers")
    points = _points(q, function.endswith("percentile"))
    axes = normalize_axes(axis, array.ndim)
    if method not in (*_CONTINUOUS, *_DISCRETE, *_MIXED):
        names = ", ".join([*_CONTINUOUS, *_DISCRETE, *_MIXED])
        raise ValueError(f"{method!r} is not a valid method. Use one of: {names}")
    skip_nan = function.startswith("nan")
    if skip_nan and not array.size:
        return np.nanmean(array, axis, keepdims=yes(keepdims))  # one, however many are asked for
    sample = _Sample.of(array, axes, skip_nan)
    lanes = sample.data.shape[1:]
    if not len(sample.data):
        raise IndexError("index -1 is out of bounds for axis 0 with size 0")
    if weights is None:
        result = _interpolated(sample, method, np.reshape(points, points.shape + (1,) * len(lanes)))
    else:
        if method != "inverted_cdf":
            raise ValueError(f"Only method 'inverted_cdf' supports weights. Got: {method}.")
        given = np.broadcast_to(weights_like(as_array(weights), array, axes), array.shape)
        result = sample.at(_weighted_ranks(sample, _in_front(given, axes), points))
    result = sample.checked(result)
    if array.dtype.kind in "fc" and _follows_data(q, method):
        result = structural.to_dtype(result, array.dtype)
    return _put_back(result, array, axes, yes(keepdims))


@implements(np.quantile)
@delivers
def quantile(
    a: Value, q: Value, axis: Any = None, out: Any = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: Any = False, *, weights: Any = None,
) -> Value:  # fmt: skip
    """NumPy's thirteen methods; ``q`` may be traced; the input is never overwritten."""
    return _quantile("quantile", a, q, axis, method, keepdims, weights)


@implements(np.percentile)
@delivers
def percentile(
    a: Value, q: Value, axis: Any = None, out: Any = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: Any = False, *, weights: Any = None,
) -> Value:  # fmt: skip
    """Quantiles in percent."""
    return _quantile("percentile", a, q, axis, method, keepdims, weights)


@implements(np.nanquantile)
@delivers
def nanquantile(
    a: Value, q: Value, axis: Any = None, out: Any = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: Any = False, *, weights: Any = None,
) -> Value:  # fmt: skip
    """Quantiles of what is not nan."""
    return _quantile("nanquantile", a, q, axis, method, keepdims, weights)


@implements(np.nanpercentile)
@delivers
def nanpercentile(
    a: Value, q: Value, axis: Any = None, out: Any = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: Any = False, *, weights: Any = None,
) -> Value:  # fmt: skip
    """Quantiles in percent of what is not nan."""
    return _quantile("nanpercentile", a, q, axis, method, keepdims, weights)
