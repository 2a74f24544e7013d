"""Choice between values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import annihilate, unbroadcast
from vjpkit.kinds import LinearMany, PiecewiseConstant
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


same = primitive(Same)


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
