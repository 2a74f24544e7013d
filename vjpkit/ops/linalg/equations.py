"""Equations with square matrices, and inverses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.errors import counted
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import Product, unbroadcast
from vjpkit.kinds import General, PiecewiseConstant, solved_terms
from vjpkit.ops import lapack
from vjpkit.ops.linalg.matrices import common_dtype, matrices, mirror, square
from vjpkit.ops.linalg.samples import A, B, C, N
from vjpkit.ops.selection import aligned

__all__ = ["inv", "lu", "solve"]


class Lu(PiecewiseConstant):
    """Factors of square matrices in LAPACK's form, and pivots: an aid for `solve`.

    Not differentiated: a solution does not depend on how it was found.
    """

    multi = True
    core_ndims = (2,)
    impl = staticmethod(lapack.factor)

    def abstract(self, *avals: Aval, **params: Any) -> tuple[Aval, Aval]:
        (a,) = avals
        square(a)
        return a.strong(), Aval(a.shape[:-1], np.int32)

    def samples(self) -> Iterable[Sample]:
        yield Sample(A, wrt=())
        yield Sample(C, wrt=())


lu = primitive(Lu)


class Solve(General):
    """X with A X = B, or Aᵀ X = B if ``transposed``; operands after A and B are `lu` (A)."""

    impl = staticmethod(lapack.solve)
    core_ndims = (2, 2, 2, 1)
    aids = 2
    transposes = {1: lambda ct, values, transposed: _solution_pull(ct, values, transposed)}

    def jvp(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        transposed: bool = False,
        **params: Any,
    ) -> Any:
        a, _, *aids = values
        ta, tb = ts[:2]
        if ta is not None:
            moved = np.matmul(mirror(ta) if transposed else ta, out)
            tb = -moved if tb is None else tb - moved
        return None if tb is None else solve(a, tb, *aids, transposed=transposed)

    def pullback(
        self,
        values: Sequence[Value],
        outs: Sequence[Value],
        live: tuple[int, ...],
        given: Sequence[Value | None],
        transposed: bool = False,
        **params: Any,
    ) -> Sequence[Any]:
        a, b, *aids = values
        (ct,) = given
        u = solve(a, ct, *aids, transposed=not transposed)
        pulled: list[Any] = []
        for i in live:
            if i == 1:
                pulled.append(unbroadcast(u, b.shape, b.dtype))
            else:
                pulled.append(_matrix_cotangent(a, u, outs[0], ct, b, transposed))
        return pulled

    def taylor(
        self,
        values: Sequence[Value],
        series: Sequence[Any],
        out: Value,
        transposed: bool = False,
    ) -> Any:
        """From A X = B, with one factorization for all terms."""
        a, b = series[:2]

        def product(t: Value, x: Value) -> Value:
            return np.matmul(mirror(t) if transposed else t, x)

        def solved(rest: Value) -> Value:
            return solve(values[0], rest, *values[2:], transposed=transposed)

        return solved_terms((b, a), out, product, solved)

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return mask[1] and sum(mask) == 1

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        a, b = avals[:2]
        n = square(a)
        if matrices(b)[0] != n:
            raise ValueError(
                f"solve: matrices of order {n} do not fit right-hand sides of "
                f"{counted(b.shape[-2], 'row')}"
            )
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return Aval((*lead, *b.shape[-2:]), common_dtype(a, b))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Value:
        """One matrix and a batch of right-hand sides are one equation with more columns."""
        a, b, *aids = values
        if np.ndim(a) != 2 or b.ndim != 3:
            return self(*aligned(n, values, batched, self.core_ndims), **params)
        _, rows, columns = b.shape
        wide = np.reshape(np.swapaxes(b, 0, 1), (rows, n * columns))
        x = solve(a, wide, *aids, **params)
        return np.swapaxes(np.reshape(x, (rows, n, columns)), 0, 1)

    def samples(self) -> Iterable[Sample]:
        yield Sample(A, B, transposed=False)
        yield Sample(C, B, transposed=True)
        yield Sample(A, np.stack([B, 2 * B]) * (1 + 2j), transposed=False)
        yield Sample(np.stack([A, C]), B, transposed=False)
        yield Sample(A[:1, :1], B[:1], transposed=False)
        yield Sample(N, B[:0], transposed=False)
        yield Sample(A, np.stack([B[:, :1], 2 * B[:, 1:]]), transposed=False)


solve = primitive(Solve)


def _solution_pull(ct: Value, values: Sequence[Value], transposed: bool) -> Value:
    a, b, *aids = values
    return unbroadcast(solve(a, ct, *aids, transposed=not transposed), b.shape, b.dtype)


def _matrix_cotangent(a: Value, u: Value, x: Value, ct: Value, b: Value, transposed: bool) -> Any:
    """-u xᵀ, kept as a product where it has low rank."""
    product = Product(-u, x, -ct, b)
    if transposed:
        product = product.mirrored()
    n, rank = x.shape[-2:]
    if 2 * rank <= n and product.u.shape[:-2] == product.v.shape[:-2] == a.shape[:-2]:
        return product
    return unbroadcast(np.matmul(product.u, mirror(product.v)), a.shape, a.dtype)


class Inv(General):
    """The inverse; unless ``strict``, inf instead of an error where there is none."""

    core_ndims = (2,)
    impl = staticmethod(lapack.inverse)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        return -(out @ ts[0] @ out)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (a,) = avals
        square(a)
        return Aval(a.shape, common_dtype(a))

    def samples(self) -> Iterable[Sample]:
        yield Sample(A, strict=True)
        yield Sample(np.stack([C, 2 * C]), strict=False)
        yield Sample(A[:1, :1], strict=True)
        yield Sample(N, strict=True)


inv = primitive(Inv)
