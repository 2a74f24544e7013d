"""Taylor mode: a tracer that carries a truncated power series, and how primitives expand.

A series is its value and ``order`` further terms: x(s) = x0 + x1 s + x2 s² + ... A primitive f maps
series to series. Whatever it is, y = f(x) obeys y' = Df(x) x', and the right-hand side is what the
primitive's rule for tangents computes, on series of one order less: so every primitive that has a
tangent has an expansion (`integrated`). Kinds know better where they can: what is affine maps term
by term, what is bilinear by convolution. An exception is a method of the primitive:
``taylor(values, series, out, **params)`` gives the terms of the output,
``composed(*operands, **params)`` the same function made of others (or NotImplemented), and
``with_series(values, series, params)`` outputs and terms, which it computes together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.primitive import Primitive
from vjpkit.core.rows import filled_like, roles
from vjpkit.core.tracer import ConcreteTracer, Tracer, named_info
from vjpkit.kinds import Elementwise, LinearMany, PiecewiseConstant, fitted
from vjpkit.transforms.traces import ValueTrace, current

__all__ = [
    "Expansion",
    "Series",
    "Terms",
    "expand",
    "integrated_together",
    "is_affine",
    "is_bilinear",
    "plus",
    "terms_of",
]

Terms = tuple[Value | None, ...]
"""The terms of a series after its value: arrays of the value's shape and dtype, None for zero."""


class Series(ConcreteTracer):
    """A value and the terms of its power series."""

    __slots__ = ()
    terms = named_info()

    def __init__(self, value: Value, trace: Expansion, terms: Terms) -> None:
        self.value = value
        self.owner = trace
        self.terms = terms


class Expansion(ValueTrace):
    """The trace of one expansion: every primitive maps its operands' series at once.

    ``watched`` are series whose terms are not known yet, and ``read`` says whether a primitive
    met one.
    """

    __slots__ = ("order", "read", "watched")

    def __init__(self, order: int, name: str = "jet") -> None:
        super().__init__(name)
        self.order = order
        self.watched: set[int] = set()
        self.read = False

    def series(self, value: Value, terms: Terms | None) -> Value:
        """A tracer, or the value itself where no term is there."""
        if terms is None or all(t is None for t in terms):
            return value
        return Series(value, self, terms)

    def process(self, primitive: Any, xs: Sequence[Value], params: dict[str, Any]) -> Value:
        self.require_running()
        values: list[Value] = []
        series: list[Terms | None] = []
        for x in xs:
            mine = type(x) is Series and x.owner is self
            if mine and id(x) in self.watched:
                self.read = True
            values.append(x.value if mine else _snapshot(x))
            series.append(x.terms if mine else None)
        outs, terms = self.expanded(primitive, values, series, params)
        self.require_closed(primitive, [*outs, *[t for s in terms for t in s or ()]], params)
        return primitive.pack(tuple(map(self.series, outs, terms)))

    def expanded(
        self,
        primitive: Any,
        values: Sequence[Value],
        series: Sequence[Terms | None],
        params: dict[str, Any],
    ) -> tuple[tuple[Value, ...], Sequence[Terms | None]]:
        """Outputs of a primitive, and their terms."""
        return expand(primitive, values, series, params)

    def split(self, y: Value) -> tuple[Value, Terms | None]:
        """Value and terms (None for a constant) of an output."""
        y = current(y)
        if isinstance(y, Series) and y.owner is self:
            return y.value, y.terms
        return self.foreign(y, "terms"), None


def _snapshot(x: Value) -> Value:
    """An operand of another trace as it is now: it may be an array that is written to later."""
    return roles["snapshot"](x) if isinstance(x, Tracer) else x


# ------------------------------------------------------------------------------------ one primitive


def expand(
    primitive: Any, values: Sequence[Value], series: Sequence[Terms | None], params: dict[str, Any]
) -> tuple[tuple[Value, ...], Sequence[Terms | None]]:
    """Outputs of a primitive at ``values``, and their terms."""
    if all(s is None for s in series):
        outs = primitive.unpack(primitive(*values, **params))
        return outs, [None] * len(outs)
    together = getattr(primitive, "with_series", None)
    if together is not None:
        with primitive.quietly():
            return together(values, series, params)  # type: ignore[no-any-return]  # found by name
    if hasattr(primitive, "with_tangents"):
        with np.errstate(all="ignore"):
            return integrated_together(primitive, values, series, params)
    out = primitive(*values, **params)
    outs = primitive.unpack(out)
    if isinstance(primitive, PiecewiseConstant):
        return outs, [None] * len(outs)
    with np.errstate(all="ignore"):
        return outs, primitive.unpack(terms_of(primitive, values, series, out, params))


def terms_of(
    primitive: Any,
    values: Sequence[Value],
    series: Sequence[Terms | None],
    out: Value,
    params: dict[str, Any],
) -> Any:
    """Terms of the output, several for ``multi``: by the primitive's own rule or its kind's."""
    own = getattr(primitive, "taylor", None)
    if own is not None:
        return own(values, series, out, **params)
    composed = getattr(primitive, "composed", None)
    if composed is not None:
        trace = Expansion(_order(series))
        y = composed(*map(trace.series, values, series), **params)
        if y is not NotImplemented:
            return [fitted(t, out) for t in trace.split(y)[1] or ()]
    mask = tuple([s is not None for s in series])
    if is_affine(primitive, mask, params):
        return _by_degree(primitive, values, series, out, params)
    if mask == (True, True) and is_bilinear(primitive, params):
        return _convolved(primitive, values, series, out, params)
    return integrated(primitive, values, series, out, params)


def _order(series: Sequence[Terms | None]) -> int:
    """How many terms there are."""
    return next(len(s) for s in series if s is not None)


def is_affine(primitive: Primitive, mask: tuple[bool, ...], params: Any) -> bool:
    """Whether the derivative in the marked operands does not depend on them."""
    if isinstance(primitive, LinearMany):
        return not any(mask[: primitive.fixed(params)])
    if isinstance(primitive, Elementwise):
        partials = [p for p, m in zip(primitive.partials, mask) if m]
        if all(p is None or isinstance(p, int | float) for p in partials):
            return True
    return primitive.linear_in(mask, params)


def is_bilinear(primitive: Primitive, params: Any) -> bool:
    """Whether it is linear in each of its two operands."""
    return primitive.linear_in((True, False), params) and primitive.linear_in((False, True), params)


def _by_degree(
    primitive: Any, values: Sequence[Value], series: Sequence[Any], out: Value, params: Any
) -> Any:
    """A map that is affine in the series takes each degree by itself."""
    order = _order(series)
    columns = []
    for k in range(order):
        ts = [None if s is None else s[k] for s in series]
        some = any(t is not None for t in ts)
        t = primitive.forward(values, ts, out, params, False) if some else None
        columns.append(primitive.unpack(t) if some else (None,) * len(primitive.unpack(out)))
    return primitive.pack(tuple(zip(*columns, strict=True)))


def _convolved(
    primitive: Any, values: Sequence[Value], series: Sequence[Any], out: Value, params: Any
) -> Terms:
    """y_k is the sum of B(x_i, z_j) over i + j = k; an exact zero wins over inf and nan."""
    xs, zs = ([v, *s] for v, s in zip(values, series, strict=True))
    terms = []
    for k in range(1, len(xs)):
        total: Value | None = None
        for i in range(k + 1):
            x, z = xs[i], zs[k - i]
            if x is None or z is None:
                continue
            ts = (x, None) if i else (None, z)
            total = plus(total, primitive.forward((x, z), ts, out, params, False))
        terms.append(total)
    return tuple(terms)


def plus(a: Value | None, b: Value | None) -> Value | None:
    """The sum, None standing for zero."""
    return b if a is None else a if b is None else a + b


# -------------------------------------------------------------------------- integrating the tangent


def integrated(
    primitive: Any,
    values: Sequence[Value],
    series: Sequence[Terms | None],
    out: Value,
    params: dict[str, Any],
) -> Any:
    """Terms from y' = Df(x, y) x', the primitive's own rule for tangents at series.

    A rule that does not read the output's terms gives all of them at once. One that does gives the
    next term from those before: degree by degree, at the order that the degree needs.
    """
    order = _order(series)
    outs = primitive.unpack(out)
    known: list[list[Value | None]] = [[] for _ in outs]
    depth = order - 1
    while True:
        done = len(known[0])
        trace = Expansion(depth)
        xs, ts = _at_depth(trace, values, series)
        ys = [
            Series(y, trace, (*terms[:depth], *[None] * (depth - done)))
            if depth and aval_of(y).inexact
            else y
            for y, terms in zip(outs, known, strict=True)
        ]
        trace.watched = set(map(id, ys))
        found = primitive.forward(xs, ts, primitive.pack(tuple(ys)), params, False)
        slopes = [_coefficients(trace, t) for t in primitive.unpack(found)]
        if not trace.read or done == order - 1:
            for terms, slope in zip(known, slopes, strict=True):
                terms += [_divided(slope[k], k + 1) for k in range(done, order)]
            return primitive.pack(tuple(map(tuple, known)))
        for terms, slope in zip(known, slopes, strict=True):
            terms.append(_divided(slope[done], done + 1))
        depth = done + 1


def integrated_together(
    primitive: Any, values: Sequence[Value], series: Sequence[Terms | None], params: dict[str, Any]
) -> tuple[tuple[Value, ...], Sequence[Terms | None]]:
    """The same for a primitive that computes outputs and tangents together."""
    order = _order(series)
    trace = Expansion(order - 1)
    xs, ts = _at_depth(trace, values, series)
    outs, tangents = primitive.with_tangents(xs, ts, params, False)
    terms = [
        tuple([_divided(slope, k + 1) for k, slope in enumerate(_coefficients(trace, t))])
        for t in tangents
    ]
    return tuple([trace.split(y)[0] for y in outs]), terms


def _at_depth(
    trace: Expansion, values: Sequence[Value], series: Sequence[Terms | None]
) -> tuple[list[Value], list[Value | None]]:
    """The operands as series of the trace's order, and their derivatives as such."""
    depth = trace.order
    xs: list[Value] = []
    ts: list[Value | None] = []
    for x, terms in zip(values, series, strict=True):
        if terms is None:
            xs.append(x)
            ts.append(None)
            continue
        xs.append(trace.series(_strong(x), terms[:depth]))
        slope = [None if t is None else (k + 1) * t for k, t in enumerate(terms[: depth + 1])]
        first = filled_like(x, 0) if slope[0] is None else slope[0]
        ts.append(trace.series(first, tuple(slope[1:])))
    return xs, ts


def _strong(x: Value) -> Value:
    """A Python number as NumPy's: a rule may divide by it, and it may be zero."""
    if isinstance(x, Tracer):
        return roles["strong"](x) if x.aval.weak else x
    return np.asarray(x)[()] if type(x) in (float, complex) else x


def _coefficients(trace: Expansion, t: Value | None) -> list[Value | None]:
    """All coefficients of a tangent, from the lowest."""
    if t is None:
        return [None] * (trace.order + 1)
    value, terms = trace.split(t)
    return [value, *(terms or [None] * trace.order)]


def _divided(t: Value | None, k: int) -> Value | None:
    return t if t is None or k == 1 else t / k
