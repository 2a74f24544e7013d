"""Order: permutations found by sorting, and reading along an axis by them.

What decides an order is locally constant; the values move, linearly, to where it says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.primitive import Sample, primitive
from vjpkit.kinds import Linear, PiecewiseConstant
from vjpkit.ops import structural
from vjpkit.ops.cumulative import batch_along_axis

__all__ = [
    "argpartition", "argsort", "inverse_permutation", "lexsort", "permuted", "searchsorted",
]  # fmt: skip

_M = np.array([[0.3, -1.2, 2.5, 0.8], [1.7, 0.4, -0.6, -1.1], [0.1, 0.2, 0.3, 0.4]])
_ORDER = np.array([[2, 0, 3, 1], [3, 1, 2, 0], [0, 1, 2, 3]])


class Order(PiecewiseConstant):
    """A permutation along ``axis``."""

    batch = batch_along_axis

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return Aval(avals[0].shape, np.intp)


class Argsort(Order):
    """The permutation along ``axis`` that sorts; ``kind`` as NumPy has it, None for its default."""

    impl = staticmethod(lambda x, axis, kind: np.argsort(x, axis, kind))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, axis=1, kind=None)
        yield Sample(_ORDER, axis=0, kind="stable")


argsort = primitive(Argsort)


class Argpartition(Order):
    """The permutation along ``axis`` that puts the elements of rank ``kth`` in their places."""

    impl = staticmethod(lambda x, axis, kth: np.argpartition(x, kth, axis))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, axis=1, kth=(1, 3))
        yield Sample(_ORDER, axis=0, kth=(-1,))


argpartition = primitive(Argpartition)


class Lexsort(Order):
    """The permutation along ``axis`` that sorts by several keys, of which the last counts most."""

    impl = staticmethod(lambda *keys, axis: np.lexsort(keys, axis))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, _ORDER // 2, axis=1)


lexsort = primitive(Lexsort)


class InversePermutation(Order):
    """The permutations along ``axis`` that undo the given ones."""

    @staticmethod
    def impl(order: Value, axis: int) -> Value:
        out = np.empty(order.shape, np.intp)
        places = np.arange(order.shape[axis]).reshape(-1, *[1] * (order.ndim - axis - 1))
        np.put_along_axis(out, order, np.broadcast_to(places, order.shape), axis)
        return out

    def samples(self) -> Iterable[Sample]:
        yield Sample(np.tile(_ORDER[0], (3, 1)), axis=1)
        yield Sample(_ORDER[1], axis=0)


inverse_permutation = primitive(InversePermutation)


class Permuted(Linear):
    """``x`` with its elements in another order along ``axis``; the transpose restores the order."""

    impl = staticmethod(lambda x, order, axis: np.take_along_axis(x, order, axis))
    batch = batch_along_axis

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        (order,) = fixed
        axis = params["axis"]
        return permuted(ct, inverse_permutation(order, axis=axis), axis=axis)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return avals[0].strong()

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, np.tile(_ORDER[0], (3, 1)), axis=1)
        yield Sample(_M[0], _ORDER[0], axis=0)


permuted = primitive(Permuted)


class Searchsorted(PiecewiseConstant):
    """Where each of ``v`` belongs in the ascending ``a``."""

    impl = staticmethod(lambda a, v, side: np.searchsorted(a, v, side))

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        a, v = avals
        if a.ndim != 1:
            raise ValueError("object of too small depth for desired array")
        return Aval(v.shape, np.intp)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, side: str
    ) -> Value:
        a, v = values
        if not batched[0]:
            return self(a, v, side=side)
        v = structural.along_front(v, batched[1], n)
        a = structural.reshape(a, shape=(n, *[1] * (v.ndim - 1), a.shape[1]))
        v = v[..., None]
        before = (np.less if side == "left" else np.less_equal)(a, v)
        if aval_of(v).inexact:  # nan comes last
            late = np.isnan(v)
            late = np.logical_and(late, ~np.isnan(a)) if side == "left" else late
            before = np.logical_or(before, late)
        return np.sum(before, axis=-1)

    def samples(self) -> Iterable[Sample]:
        a = np.array([-1.0, 0.25, 0.25, 1.5])
        yield Sample(a, _M, side="left")
        yield Sample(a, np.float64(0.2), side="right")
        for side in ("left", "right"):
            yield Sample(a, np.array([0.25, -1.0, 1.5]), side=side, exempt={"jvp": "steps at a"})


searchsorted = primitive(Searchsorted)
