"""Order statistics, averages, correlation, histograms: NumPy's signatures.

A quantile reads elements at places that the order of the data decides. That order is locally
constant: derivatives flow to the elements read and, between two of them, to the position.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from operator import index
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._arguments import (
    as_array,
    cast_safely,
    concrete,
    flag,
    grid,
    known,
    plain,
    scalar,
    warn_where,
)
from vjpkit.numpy._dispatch import implements, normalize_axes
from vjpkit.numpy._face import unwrapped
from vjpkit.numpy._writing import delivers
from vjpkit.ops import indexing, ordering, selection, structural
from vjpkit.ops.index import Index
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
        return np.mean(array, axis=axes, keepdims=flag(keepdims))
    n = sample.count
    if skip_nan:
        warn_where(n == 0, "All-NaN slice encountered")
    if isinstance(n, int) and n % 2:
        result = sample.at(n // 2)
    else:
        result = np.mean(np.stack([sample.at((n - 1) // 2), sample.at(n // 2)]), axis=0)
    return _put_back(sample.checked(result), array, axes, flag(keepdims))


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
    sample = _Sample.of(array, axes, skip_nan)
    lanes = sample.data.shape[1:]
    if not len(sample.data):
        if not skip_nan:
            raise IndexError("index -1 is out of bounds for axis 0 with size 0")
        nothing = np.full((*points.shape, *lanes), math.nan, array.dtype)
        return _put_back(nothing, array, axes, flag(keepdims))
    if weights is None:
        result = _interpolated(sample, method, np.reshape(points, points.shape + (1,) * len(lanes)))
    else:
        if method != "inverted_cdf":
            raise ValueError(f"Only method 'inverted_cdf' supports weights. Got: {method}.")
        given = np.broadcast_to(_weights_like(as_array(weights), array, axes), array.shape)
        result = sample.at(_weighted_ranks(sample, _in_front(given, axes), points))
    result = sample.checked(result)
    if array.dtype.kind in "fc" and _follows_data(q, method):
        result = structural.to_dtype(result, array.dtype)
    return _put_back(result, array, axes, flag(keepdims))


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


# ---- averages and correlation ------------------------------------------------------------------


def _weights_like(weights: Value, a: Value, axes: Axes) -> Value:
    """Weights that broadcast against ``a``; those of some axes alone stand along these."""
    if weights.shape == a.shape:
        return weights
    if axes is None:
        raise TypeError("Axis must be specified when shapes of a and weights differ.")
    if weights.shape != tuple(a.shape[i] for i in axes):
        raise ValueError(
            "Shape of weights must be consistent with shape of a along specified axis."
        )
    turned = np.transpose(weights, tuple(int(i) for i in np.argsort(axes)))
    return np.reshape(turned, tuple(n if i in axes else 1 for i, n in enumerate(a.shape)))


@implements(np.average)
def average(
    a: Value, axis: Any = None, weights: Any = None, returned: bool = False, *,
    keepdims: Any = False,
) -> Value:  # fmt: skip
    array = as_array(a)
    axes = normalize_axes(axis, array.ndim)
    keep = flag(keepdims)
    if weights is None:
        mean = np.mean(array, axis=axes, keepdims=keep)
        total = mean.dtype.type(array.size / mean.size)
    else:
        weight = _weights_like(as_array(weights), array, axes)
        extra = (_FLOAT,) if array.dtype.kind in "biu" else ()
        dtype = np.result_type(array.dtype, weight.dtype, *extra)
        total = np.sum(weight, axis=axes, dtype=dtype, keepdims=keep)
        if (value := known(total)) is not None and np.any(value == 0):
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
        product = structural.to_dtype(array, dtype) * structural.to_dtype(weight, dtype)
        mean = np.sum(product, axis=axes, keepdims=keep) / total
    if not returned:
        return mean
    return mean, np.broadcast_to(total, mean.shape) if total.shape != mean.shape else total


def _rows(m: Value, rowvar: bool, dtype: Any) -> Value:
    """Observations as a matrix with a row per variable."""
    rows = structural.to_dtype(m, dtype)
    if rows.ndim < 2:
        return np.reshape(rows, (1, -1))
    return rows if rowvar or rows.shape[0] == 1 else np.transpose(rows)


def _observation_weights(fweights: Any, aweights: Any, n: int) -> tuple[Value | None, Value | None]:
    """The weight of each observation, and the part of it that is not a number of repetitions."""
    weights: list[Value | None] = []
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is None:
            weights.append(None)
            continue
        w = structural.to_dtype(as_array(given), _FLOAT)
        value = known(w)
        if name == "fweights" and value is not None and not np.all(value == np.around(value)):
            raise TypeError("fweights must be integer")
        if w.ndim > 1:
            raise RuntimeError(f"cannot handle multidimensional {name}")
        if w.shape[0] != n:
            raise RuntimeError(f"incompatible numbers of samples and {name}")
        if value is not None and np.any(value < 0):
            raise ValueError(f"{name} cannot be negative")
        weights.append(w)
    repeats, other = weights
    return (other if repeats is None else repeats if other is None else repeats * other), other


@implements(np.cov)
def cov(
    m: Value,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: Any = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Value:
    if ddof is not None and ddof != int(ddof):
        raise ValueError("ddof must be integer")
    given = [as_array(v) for v in (m, y) if v is not None]
    for name, v in zip("my", given, strict=False):
        if v.ndim > 2:
            raise ValueError(f"{name} has more than 2 dimensions")
    if dtype is None:
        dtype = np.result_type(*[v.dtype for v in given], _FLOAT)
    parts = [
        _rows(v, rowvar or (i == 0 and v.ndim == 1), np.dtype(dtype)) for i, v in enumerate(given)
    ]
    if parts[0].shape[0] == 0:
        return np.array([]).reshape(0, 0)
    rows = np.concatenate(parts, axis=0) if len(parts) > 1 else parts[0]
    if ddof is None:
        ddof = 0 if bias else 1
    weight, other = _observation_weights(fweights, aweights, rows.shape[1])
    mean, total = np.average(rows, axis=1, weights=weight, returned=True)
    total = total[0]
    if weight is None:
        factor = rows.shape[1] - ddof
    elif ddof == 0:
        factor = total
    elif other is None:
        factor = total - ddof
    else:
        factor = total - ddof * np.sum(weight * other) / total
    if (value := known(factor)) is not None and value <= 0:
        warnings.warn("Degrees of freedom <= 0 for slice", RuntimeWarning, stacklevel=2)
        factor = np.float64(0.0)
    rows = rows - mean[:, None]
    weighted = rows if weight is None else rows * weight
    products = np.matmul(rows, np.conj(np.transpose(weighted)))
    return np.squeeze(structural.to_dtype(products * np.true_divide(1, factor), products.dtype))


@implements(np.corrcoef)
def corrcoef(x: Value, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Value:
    c = cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    deviation = np.sqrt(np.real(np.diagonal(c)))
    c = c / deviation[:, None] / deviation[None, :]
    if c.dtype.kind == "c":
        return _within_one(np.real(c)) + 1j * _within_one(np.imag(c))
    return _within_one(c)


def _within_one(c: Value) -> Value:
    """What rounding put outside of -1 ... 1, put back; the ends themselves stay smooth."""
    return np.where(c > 1, 1.0, np.where(c < -1, -1.0, c))


# ---- histograms --------------------------------------------------------------------------------


def _counted(places: Value, weights: Value, size: int) -> Value:
    """The sum of the weights that fall on each place."""
    index = Index((Index.ARRAY,))
    return indexing.scatter_sum(
        places, weights, shape=(size,), dtype=weights.dtype, indices=(index,)
    )


@implements(np.bincount)
def bincount(x: Value, /, weights: Any = None, minlength: int = 0) -> Value:
    places = concrete(as_array(x), "bincount")
    counts = np.bincount(places, minlength=minlength)
    if weights is None:
        return counts
    weight = cast_safely(as_array(weights), _FLOAT)
    if weight.shape != places.shape:
        raise ValueError("The weights and list don't have the same length.")
    return _counted(places, weight, len(counts))


Limits = tuple[Value, Value] | None


def _even_edges(a: Value, limits: Limits, count: int, dtype: Any) -> Value:
    """Edges of bins of one width; they move with the extrema of the data."""
    nothing = limits is None and not a.size
    first, last = (0.0, 1.0) if nothing else (np.min(a), np.max(a)) if limits is None else limits
    same = first == last
    if (value := known(same)) is None:
        first, last = np.where(same, first - 0.5, first), np.where(same, last + 0.5, last)
    elif value:
        first, last = first - 0.5, last + 0.5
    return np.linspace(first, last, count + 1, dtype=dtype)


def _edges(function: str, a: Value, bins: Any, limits: Limits) -> Value:
    """The edges of `numpy.histogram` with their derivatives; its errors, where values are known."""
    if isinstance(bins, str):
        concrete(a, function)
    traced = as_array(bins) if not isinstance(bins, str) and np.ndim(bins) else None
    value = known(a) if traced is None else np.zeros(1)
    given = bins if traced is None else known(traced)
    ends: Any = None if limits is None else tuple(known(end) for end in limits)
    if value is None or given is None or (ends is not None and None in ends):
        dtype = None if traced is not None else np.result_type(*(limits or ()), a)
        return _even_edges(a, limits, index(bins), dtype) if traced is None else traced
    edges = np.histogram_bin_edges(value, given, ends)
    if traced is not None:
        return traced
    moves = isinstance(a, Tracer) if limits is None else not all(map(plain, limits))
    return _even_edges(a, limits, len(edges) - 1, edges.dtype) if moves else edges


def _data(a: Value, weights: Any, bins: Any) -> tuple[Value, Value | None]:
    """Flat data, and as many weights."""
    array = as_array(a)
    if weights is None:
        return np.reshape(array, -1), None
    weight = as_array(weights)
    if weight.shape != array.shape:
        raise ValueError("weights should have the same shape as a.")
    if isinstance(bins, str):
        raise TypeError(
            "Automated estimation of the number of bins is not supported for weighted data"
        )
    return np.reshape(array, -1), np.reshape(weight, -1)


@implements(np.histogram_bin_edges)
def histogram_bin_edges(a: Value, bins: Any = 10, range: Any = None, weights: Any = None) -> Value:
    array, _ = _data(a, weights, bins)
    return _edges("histogram_bin_edges", array, bins, range)


@implements(np.histogram)
def histogram(
    a: Value, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None
) -> tuple[Value, Value]:
    """Which bin an element falls in is locally constant; weights and edges have derivatives."""
    array, weight = _data(a, weights, bins)
    edges = _edges("histogram", array, bins, range)
    n = _sums_in_bins([array], [edges], np.ones(array.shape, int) if weight is None else weight)
    if density:
        n = n / structural.to_dtype(np.diff(edges), _FLOAT) / np.sum(n)
    return n, edges


def _sums_in_bins(columns: Sequence[Value], edges: Sequence[Value], weight: Value) -> Value:
    """The weights of the points that fall in each bin; the last one has both its ends."""
    inside: Value = True
    flat: Value = 0
    for x, e in zip(map(unwrapped, columns), map(unwrapped, edges), strict=True):
        places = np.searchsorted(e, x, side="right") - 1
        places = np.where(x == e[-1], len(e) - 2, places)
        inside = np.logical_and(inside, (places >= 0) & (places < len(e) - 1))
        flat = flat * (len(e) - 1) + places
    shape = tuple(len(e) - 1 for e in edges)
    flat = np.where(inside, flat, 0)
    weight = selection.where(inside, weight, np.zeros((), weight.dtype))
    return np.reshape(_counted(flat, weight, math.prod(shape)), shape)


@implements(np.histogram2d)
def histogram2d(
    x: Value, y: Value, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None
) -> tuple[Value, Value, Value]:
    if len(x) != len(y):
        raise ValueError("x and y must have the same length.")
    if hasattr(bins, "__len__") and len(bins) not in (1, 2):
        bins = [bins, bins]
    n, edges = histogramdd(
        np.stack([as_array(x), as_array(y)], axis=1), bins, range, density, weights
    )
    return n, edges[0], edges[1]


@implements(np.histogramdd)
def histogramdd(
    sample: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None
) -> tuple[Value, list[Value]]:
    points = as_array(sample) if hasattr(sample, "ndim") else np.transpose(np.stack(sample))
    if points.ndim != 2:
        points = np.transpose(np.atleast_2d(points))
    d = points.shape[1]
    bins = _per_dimension(bins, d)
    if len(bins) != d:
        raise ValueError("The dimension of bins must be equal to the dimension of the sample x.")
    range = (None,) * d if range is None else range
    if len(range) != d:
        raise ValueError("range argument must have one entry per dimension")
    columns = [points[:, i] for i in np.arange(d)]
    edges = [_edges_of_axis(*each) for each in zip(columns, bins, range, strict=True)]
    weight = np.ones(len(points)) if weights is None else cast_safely(as_array(weights), _FLOAT)
    n = _sums_in_bins(columns, edges, weight)
    if density:
        total = np.sum(n)
        for i, e in enumerate(edges):
            n = n / np.reshape(np.diff(e), (-1, *[1] * (d - i - 1)))
        n = n / total
    return n, edges


def _edges_of_axis(a: Value, bins: Any, limits: Limits) -> Value:
    """As `_edges`; bins of one width have edges in the precision of the ends."""
    edges = _edges("histogramdd", a, bins, limits)
    return edges if np.ndim(bins) else _even_edges(a, limits, index(bins), None)


def _per_dimension(bins: Any, d: int) -> Sequence[Any]:
    try:
        len(bins)
    except TypeError:
        return [bins] * d
    return bins  # type: ignore[no-any-return]  # a sequence: it has a length
