"""Collapsed Taylor mode: many directions at once, of whose second-order terms the sum is kept.

Along x(s) = x0 + x1 s + x2 s² in each of n directions a function f gives

    y1 = Df x1,        y2 = Df x2 + D²f(x1, x1) / 2,

and the sum of y2 over the directions depends on the sum of x2 alone. So a value carries its n first
terms and one sum, n + 1 arrays in the place of 2 n. That is the forward Laplacian: Li et al., "A
computational framework for neural network-based variational Monte Carlo with forward Laplacian"
(2023); Dangel et al., "Collapsing Taylor mode automatic differentiation" (2025).

First terms go through the primitives' own rules as a batch. What is linear maps the sum by itself;
an elementwise function scales, by its partial derivatives, the sums and the sums of products of
first terms; anything else expands the batch, and its second terms are added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.evaluate import interpret
from vjpkit.core.ir import Program
from vjpkit.core.rows import annihilate, filled_like
from vjpkit.kinds import Elementwise, PiecewiseConstant, fitted
from vjpkit.ops.products import ScaleDivide
from vjpkit.ops.selection import aligned
from vjpkit.transforms.batch import Batched, Batches
from vjpkit.transforms.series import (
    Expansion,
    Terms,
    expand,
    integrated_together,
    is_affine,
    is_bilinear,
    plus,
    terms_of,
)

__all__ = ["Collapsing"]


class Collapsing(Expansion):
    """The trace of one collapsed expansion.

    A series has two terms: the first ones along a leading axis of ``n`` directions, and the sum of
    the second ones.
    """

    __slots__ = ("batches",)

    def __init__(self, n: int, name: str) -> None:
        super().__init__(2, name)
        self.batches = Batches(n)

    def expanded(
        self,
        primitive: Any,
        values: Sequence[Value],
        series: Sequence[Terms | None],
        params: dict[str, Any],
    ) -> tuple[tuple[Value, ...], Sequence[Terms | None]]:
        if all(s is None for s in series):
            return expand(primitive, values, series, params)
        if primitive.name == "call":
            program: Program = params["program"]
            outs = interpret(program, list(map(self.series, values, series)))
            pairs = list(map(self.split, outs))
            return tuple([y for y, _ in pairs]), [terms for _, terms in pairs]
        if hasattr(primitive, "with_series") or hasattr(primitive, "with_tangents"):
            with np.errstate(all="ignore"):
                return self._together(primitive, values, series, params)
        out = primitive(*values, **params)
        outs = primitive.unpack(out)
        if isinstance(primitive, PiecewiseConstant):
            return outs, [None] * len(outs)
        with np.errstate(all="ignore"):
            return outs, self._terms(primitive, values, series, out, params)

    def _terms(
        self, primitive: Any, values: Sequence[Value], series: Sequence[Any], out: Value,
        params: dict[str, Any],
    ) -> list[Terms]:  # fmt: skip
        """Terms of each output of a primitive."""
        if getattr(primitive, "composed", None) is not None:
            trace = Collapsing(self.batches.n, self.name)
            y = primitive.composed(*map(trace.series, values, series), **params)
            if y is not NotImplemented:
                first, second = trace.split(y)[1] or (None, None)
                moved = None if first is None else Batched(first, self.batches)
                return [(self._dense(fitted(moved, out)), fitted(second, out))]
        mask = tuple([s is not None for s in series])
        firsts = [
            None if s is None or s[0] is None else Batched(s[0], self.batches) for s in series
        ]
        sums = [None if s is None else s[1] for s in series]

        def pushed(ts: Sequence[Value | None]) -> Sequence[Value | None]:
            """The tangents of the outputs."""
            if all(t is None for t in ts):
                return (None,) * len(primitive.unpack(out))
            found: Sequence[Value | None] = primitive.unpack(
                primitive.forward(values, ts, out, params, False)
            )
            return found

        if is_affine(primitive, mask, params):
            return list(zip(map(self._dense, pushed(firsts)), pushed(sums), strict=True))
        if mask == (True, True) and is_bilinear(primitive, params):
            second = pushed(sums)[0]
            if None not in firsts:
                both = primitive.forward(firsts, (firsts[0], None), out, params, False)
                second = plus(self._summed(both), second)
            return [(self._dense(pushed(firsts)[0]), second)]
        if is_real_function(primitive, values):
            return [self._scaled(primitive, values, series, out, params)]
        given = [None if t is None else (t, None) for t in firsts]
        if all(s is None for s in given):
            return [(None, y2) for y2 in pushed(sums)]
        terms = primitive.unpack(terms_of(primitive, values, given, out, params))
        return self._combined(terms, pushed(sums))

    def _scaled(
        self, primitive: Any, values: Sequence[Value], series: Sequence[Any], out: Value,
        params: dict[str, Any],
    ) -> Terms:  # fmt: skip
        """An elementwise function, by its partial derivatives of first and second order."""
        first: Value | None = None
        second: Value | None = None
        units = [None if s is None else filled_like(x, 1) for x, s in zip(values, series)]
        live = [i for i, s in enumerate(series) if s is not None]
        slopes: dict[int, Value | None] = {}
        for i in live:
            x1, x2 = series[i]
            along = [(units[i], None) if j == i else None for j in range(len(values))]
            slopes[i], bend = terms_of(primitive, values, along, out, params)
            if slopes[i] is not None and x2 is not None:
                second = plus(second, annihilate(x2, slopes[i]))
            if slopes[i] is not None and x1 is not None:
                first = plus(first, annihilate(Batched(x1, self.batches), slopes[i]))
            if bend is not None and x1 is not None:
                second = plus(second, annihilate(np.sum(x1 * x1, axis=0), bend))
        for i, j in combinations(live, 2):
            x1, z1 = series[i][0], series[j][0]
            mixed = mixed_partial(primitive, values, (i, j), units, slopes[j], out, params)
            if mixed is not None and x1 is not None and z1 is not None:
                x, z = aligned(self.batches.n, (x1, z1), (True, True))
                second = plus(second, annihilate(np.sum(x * z, axis=0), mixed))
        return self._dense(first), fitted(second, out)

    def _together(
        self, primitive: Any, values: Sequence[Value], series: Sequence[Any], params: dict[str, Any]
    ) -> tuple[tuple[Value, ...], list[Terms]]:
        """A primitive that computes outputs and terms together."""
        firsts, sums = self._columns(series)
        given = [None if t is None else (t, None) for t in firsts]
        outs: Sequence[Value] = ()
        moved: Sequence[Value | None] = ()
        if any(t is not None for t in sums):
            outs, moved = primitive.with_tangents(values, sums, params, False)
        terms: Sequence[Terms | None] = [None] * len(outs)
        if any(s is not None for s in given):
            together = getattr(primitive, "with_series", None)
            if together is not None:
                outs, terms = together(values, given, params)
            else:
                outs, terms = integrated_together(primitive, values, given, params)
        single = tuple(map(self._single, outs))
        return single, self._combined(terms, moved or [None] * len(outs))

    def _columns(self, series: Sequence[Any]) -> tuple[list[Batched | None], list[Value | None]]:
        """First terms as a batch, and sums."""
        pairs = [(None, None) if s is None else s for s in series]
        firsts = [None if t is None else Batched(t, self.batches) for t, _ in pairs]
        return firsts, [t for _, t in pairs]

    def _combined(
        self, terms: Sequence[Terms | None], moved: Sequence[Value | None]
    ) -> list[Terms]:
        """First terms, and the sums of second ones and of what the sums before became."""
        pairs = [(None, None) if t is None else t for t in terms]
        return [
            (self._dense(y1), plus(self._summed(y2), m))
            for (y1, y2), m in zip(pairs, moved, strict=True)
        ]

    def _dense(self, t: Value | None) -> Value | None:
        """The terms of all directions, with their axis."""
        return None if t is None else self.batches.dense(t)

    def _summed(self, t: Value | None) -> Value | None:
        return None if t is None else np.sum(self.batches.dense(t), axis=0)

    def _single(self, y: Value) -> Value:
        """An output, which is the same in all directions."""
        mine = isinstance(y, Batched) and y.owner is self.batches
        return y.value[0] if mine else y


def is_real_function(primitive: Any, values: Sequence[Value]) -> bool:
    """Whether it is elementwise on real numbers: then its derivative is a factor."""
    each = isinstance(primitive, Elementwise | ScaleDivide)
    return each and all(aval_of(x).dtype.kind != "c" for x in values)


def mixed_partial(
    primitive: Any,
    values: Sequence[Value],
    pair: tuple[int, int],
    units: Sequence[Value | None],
    slope: Value | None,
    out: Value,
    params: dict[str, Any],
) -> Value | None:
    """The derivative in operand j (whose partial derivative is ``slope``) of that in operand i."""
    i, j = pair
    trace = Expansion(1)
    xs = [trace.series(x, (units[j],)) if k == j else x for k, x in enumerate(values)]
    ts = [units[i] if k == i else None for k in range(len(values))]
    found = primitive.forward(xs, ts, trace.series(out, (slope,)), params, False)
    terms = None if found is None else trace.split(found)[1]
    return None if terms is None else terms[0]
