"""Choice between values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import annihilate, unbroadcast
from vjpkit.kinds import Linear, LinearMany, PiecewiseConstant
from vjpkit.ops import structural

_M = np.array([[0.3, -1.2, 2.5], [1.7, 0.4, -0.6]])


class Where(LinearMany):
    """``x`` where ``mask``, else ``y``: linear in both, an exact zero to the one not selected."""

    impl = staticmethod(np.where)

    def fixed(self, params: Any) -> int:
        return 1

    def transpose(
        self, ct: Value, avals: Sequence[Aval], live: Sequence[bool], *fixed: Value, **params: Any
    ) -> Sequence[Value | None]:
        (mask,) = fixed
        (x, y), (x_live, y_live) = avals, live
        return (
            unbroadcast(masked(ct, mask), x.shape, x.dtype) if x_live else None,
            unbroadcast(masked(ct, mask, False), y.shape, y.dtype) if y_live else None,
        )

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        shape = np.broadcast_shapes(*[a.shape for a in avals])
        return Aval(shape, np.result_type(*[_example(a) for a in avals[1:]]))

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool]) -> Value:
        return self(*aligned(n, values, batched))

    def samples(self) -> Iterable[Sample]:
        mask = np.array([True, False, True])
        yield Sample(mask, _M, -_M)
        yield Sample(mask, _M[0], 1.0)
        yield Sample(mask[:, None], _M[0], _M[1])
        yield Sample(np.True_, np.float64(0.3), _M)


where = primitive(Where)


def masked(x: Value, mask: Value, kept: bool = True) -> Value:
    """``x`` where the mask is ``kept``, else an exact zero.

    On arrays a product, which has no branches that the processor could guess wrongly.
    """
    if type(x) is np.ndarray and type(mask) is np.ndarray and mask.dtype == bool:
        return annihilate(x, mask if kept else ~mask)
    return where(mask, x, 0) if kept else where(mask, 0, x)


class Same(PiecewiseConstant):
    """``x == y``, with nan the same as nan."""

    @staticmethod
    def impl(x: Value, y: Value) -> Value:
        mask = np.equal(x, y)
        nan = np.not_equal(y, y)
        return mask | (nan & np.not_equal(x, x)) if nan.any() else mask

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return Aval(np.broadcast_shapes(*[a.shape for a in avals]), bool)

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool]) -> Value:
        return self(*aligned(n, values, batched))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, np.array([[0.3], [-0.6]]))
        yield Sample(np.float64(2.0), 2.0)
        yield Sample(_M, np.float64(0.3))


same = primitive(Same)


# ---- the elements that a mask selects, where it is known how many --------------------------------


def _require_selected(mask: np.ndarray[Any, Any], lead: int, size: int) -> None:
    """Raise unless each example's mask selects ``size`` elements."""
    counts = mask.reshape(*mask.shape[:lead], -1).sum(-1)
    wrong = counts[counts != size]
    if wrong.size:
        raise ValueError(
            f"boolean array indexing with {size} values, but the mask is true at {wrong.flat[0]} "
            "places"
        )


class Place(Linear):
    """The rows of ``v``, one after the other, where the mask is true, and zero elsewhere.

    The first ``lead`` axes of both are of examples, each of which has a mask of its own.
    """

    @staticmethod
    def impl(v: Value, mask: Value, lead: int) -> Value:
        _require_selected(mask, lead, v.shape[lead])
        rest = v.shape[lead + 1 :]
        out = np.zeros(mask.shape + rest, v.dtype)
        out[mask] = v.reshape(-1, *rest)
        return out

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, lead: int, **params: Any
    ) -> Value:
        return pick(ct, *fixed, lead=lead, size=shape[lead])

    def abstract(self, *avals: Aval, lead: int, **params: Any) -> Aval:
        v, mask = avals
        return Aval(mask.shape + v.shape[lead + 1 :], v.dtype)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, lead: int
    ) -> Value:
        return place(*structural.all_along_front(values, batched, n), lead=lead + 1)

    def samples(self) -> Iterable[Sample]:
        mask = np.array([[True, False, True], [False, True, False]])
        yield Sample(_M[0], mask, lead=0)
        yield Sample(_M.T, mask, lead=0)
        yield Sample(_M[:, :2], np.array([[True, False, True]] * 2), lead=1)
        yield Sample(_M[:, :0], np.zeros((2, 4), bool), lead=1)


class Pick(Linear):
    """The ``size`` elements that the mask selects; the transpose of `Place`."""

    @staticmethod
    def impl(x: Value, mask: Value, lead: int, size: int) -> Value:
        _require_selected(mask, lead, size)
        return x[mask].reshape(*mask.shape[:lead], size, *x.shape[mask.ndim :])

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, lead: int, **params: Any
    ) -> Value:
        return place(ct, *fixed, lead=lead)

    def abstract(self, *avals: Aval, lead: int, size: int, **params: Any) -> Aval:
        x, mask = avals
        return Aval((*mask.shape[:lead], size, *x.shape[mask.ndim :]), x.dtype)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, lead: int, size: int
    ) -> Value:
        return pick(*structural.all_along_front(values, batched, n), lead=lead + 1, size=size)

    def samples(self) -> Iterable[Sample]:
        mask = np.array([[True, False, True], [False, True, False]])
        yield Sample(_M, mask, lead=0, size=3)
        yield Sample(_M, np.array([True, False]), lead=0, size=1)
        yield Sample(_M, np.array([[True, False, True]] * 2), lead=1, size=2)
        yield Sample(_M, np.zeros((2, 3), bool), lead=1, size=0)


place = primitive(Place)
pick = primitive(Pick)


class Selecting(PiecewiseConstant):
    """The mask itself; an error that names a reduction without identity where it selects nothing.

    The first ``lead`` axes are of examples.
    """

    @staticmethod
    def impl(mask: Value, name: str, lead: int) -> Value:
        if not np.all(np.any(mask, axis=tuple(range(lead, mask.ndim)))):
            raise ValueError(f"zero-size array to reduction operation {name} which has no identity")
        return mask

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return avals[0]

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, name: str, lead: int
    ) -> Value:
        return self(*values, name=name, lead=lead + 1)

    def samples(self) -> Iterable[Sample]:
        yield Sample(np.array([True, False]), name="maximum", lead=0)
        yield Sample(np.array([[True, False], [True, True]]), name="minimum", lead=1)


selecting = primitive(Selecting)


def aligned(
    n: int, values: Sequence[Value], batched: Sequence[bool], core: Sequence[int] = (0,)
) -> list[Value]:
    """Operands that broadcast against each other, with the batch in front of all axes.

    ``core`` says how many trailing axes of each operand do not broadcast; the last number serves
    all further operands.
    """
    cores = [core[min(i, len(core) - 1)] for i in range(len(values))]
    ranks = [aval_of(v).ndim - b - c for v, b, c in zip(values, batched, cores, strict=True)]

    def align(x: Value, is_batched: bool, rank: int) -> Value:
        if not is_batched or rank == max(ranks):
            return x
        return structural.reshape(x, shape=(n, *[1] * (max(ranks) - rank), *aval_of(x).shape[1:]))

    return [align(x, b, rank) for x, b, rank in zip(values, batched, ranks, strict=True)]


def _example(aval: Aval) -> Any:
    """Something of which NumPy's promotion sees what it would see of the value."""
    return aval.dtype.type(0).item() if aval.weak else aval.dtype
