"""Reductions other than the sum: extrema, products, variance, and the locally constant ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.primitive import (
    Linear,
    PiecewiseConstant,
    Reduction,
    Sample,
    contribute,
    kept,
    primitive,
    reduced_shape,
    rule,
)
from vjpkit.core.rows import Cotangents, Row, filled_like
from vjpkit.ops import structural
from vjpkit.ops.cumulative import cumprod, take_slice
from vjpkit.ops.indexing import along_front

_M = np.array([[0.3, -1.2, 2.5], [1.7, 0.4, -0.6]])
_TIED = np.array([[2.0, -1.0, 2.0], [0.5, 0.5, 0.5]])
_ZEROS = np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 0.5], [1.5, -2.0, 0.7]])

Axes = tuple[int, ...] | None


def example_axes(axes: Axes, ndim: int) -> tuple[int, ...]:
    """The axes of one example, as axes of a batch of them whose arrays have ``ndim`` axes."""
    return tuple(range(1, ndim)) if axes is None else tuple([a + 1 for a in axes])


class Reduce(Reduction):
    """A `Reduction` that maps over a leading axis by leaving it alone."""

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, axes: Axes, **params: Any
    ) -> Value:
        (x,) = values
        return self(x, axes=example_axes(axes, x.ndim), **params)


# ------------------------------------------------------------------------------------------- extrema


@primitive
class same(PiecewiseConstant):
    """``x == y``, with nan the same as nan."""

    @staticmethod
    def impl(x: Value, y: Value) -> Value:
        mask = x == y
        nan = y != y
        return mask | (nan & (x != x)) if np.any(nan) else mask

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        x, y = avals
        return Aval(np.broadcast_shapes(x.shape, y.shape), bool)

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool]) -> Value:
        x, y = values
        if not all(batched):
            rank = max(aval_of(v).ndim - b for v, b in zip(values, batched, strict=True))
            x, y = [
                structural.reshape(v, shape=(n, *[1] * (rank + 1 - v.ndim), *v.shape[1:])) if b else v
                for v, b in zip(values, batched, strict=True)
            ]
        return self(x, y)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_TIED, np.array([[2.0], [0.5]]))
        yield Sample(np.array([1.0, np.nan, np.nan]), np.array([np.nan, np.nan, 2.0]))
        yield Sample(np.float64(2.0), np.float64(2.0))


def _selected(mask: Value, axes: Axes) -> tuple[Value, Value | None]:
    """Flat places of the true elements, and their counts where some slice has not exactly one."""
    places = np.flatnonzero(mask)
    slices = mask.size // max(1, math.prod(mask.shape if axes is None else [mask.shape[a] for a in axes]))
    if axes is None and places.size == 1:
        return places, None
    count = np.add.reduce(mask, axes, np.intp, None, True)
    one_each = places.size == slices and bool((count == 1).all())
    return places, None if one_each else np.maximum(count, 1)
