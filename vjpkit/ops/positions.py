"""Where elements stand in an array laid out flat, from their index along each axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value
from vjpkit.core.primitive import Sample, primitive
from vjpkit.kinds import PiecewiseConstant
from vjpkit.ops.index import stand_in
from vjpkit.ops.selection import aligned

__all__ = ["positions"]

Integers = np.ndarray[Any, np.dtype[Any]]


def flat(*arrays: Integers, shape: Shape) -> Integers:
    """The positions, of axes from the end too; NumPy's IndexError where an index is out of bounds.

    >>> flat(np.array([0, 1]), np.array([2, -1]), shape=(2, 3))
    array([2, 5])
    """
    total: Any = 0
    for array, n in zip(arrays, shape, strict=True):
        low, high = (array.min(), array.max()) if array.size else (0, -1)
        if low < -n or high >= n:
            stand_in(Aval(shape, bool))[arrays]  # whose error it is
        total = total * n + (array if low >= 0 else np.where(array < 0, array + n, array))
    return np.asarray(total, np.intp)


class Positions(PiecewiseConstant):
    """``ravel_multi_index(arrays, shape)`` of integer arrays that broadcast, one for each axis."""

    impl = staticmethod(flat)

    def abstract(self, *avals: Aval, shape: Shape) -> Aval:
        return Aval(np.broadcast_shapes(*[a.shape for a in avals]), np.intp)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, shape: Shape
    ) -> Value:
        return self(*aligned(n, values, batched), shape=shape)

    def samples(self) -> Iterable[Sample]:
        rows, columns = np.array([0, 1, 1]), np.array([[0], [-1]])
        yield Sample(rows, columns, shape=(2, 3))
        yield Sample(rows, rows, np.array([2, -3, 0]), shape=(2, 2, 3))
        yield Sample(rows[:0], rows[:0], shape=(2, 3))


positions = primitive(Positions)
