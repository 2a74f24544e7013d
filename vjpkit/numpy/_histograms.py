"""Counts in bins, differentiable in their weights: NumPy's signatures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._arguments import (
    as_array,
    cast_safely,
    concrete,
    known,
    plain,
)
from vjpkit.numpy._dispatch import implements
from vjpkit.numpy._face import unwrapped
from vjpkit.ops import indexing, selection, structural
from vjpkit.ops.index import Index

__all__: list[str] = []

_INT = np.dtype(np.intp)
_FLOAT = np.dtype(float)


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
    if weights is None or not places.size:  # NumPy does not look at weights of nothing
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
        if traced is not None:
            return traced
        dtype = np.result_type(*(limits or ()), a)
        dtype = dtype if dtype.kind in "fc" else np.result_type(dtype, _FLOAT)
        return _even_edges(a, limits, index(bins), dtype)
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
