"""The laws of Taylor mode."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.staging import stage
from vjpkit.testing.case import Case, dense, tangents
from vjpkit.testing.compare import assert_aval, assert_close, rounding
from vjpkit.testing.laws.derivatives import is_precise
from vjpkit.testing.laws.registry import law
from vjpkit.transforms.collapsed import Collapsing
from vjpkit.transforms.series import Expansion, Terms

_TOLERANCE = {2: 1e-10, 6: 1e-6}
"""By order, relative to the largest element: sixth derivatives of factorizations cancel."""


@law(is_precise)
def taylor(case: Case) -> None:
    """The terms of an expansion are those of nested forward mode, and the same when staged."""
    xs, rng = case.at(case.live), case.rng
    f = case.function(case.live)
    order = 6 if case.label == "0" else 2
    series = [tuple(case.random([x] * order, rng)) for x in xs]
    with np.errstate(all="ignore"):
        pairs = expanded(f, xs, series)
        wanted = _nested(f, xs, series, order)
    for j, ((y, terms), want) in enumerate(zip(pairs, wanted, strict=True)):
        for k, b in enumerate(want):
            t = None if terms is None else terms[k]
            name = f"{case.text}: output {j}, term {k + 1} against nested jvp"
            if t is not None:
                assert_aval(t, aval_of(y), name)
            assert_close(dense(t, y), b, _TOLERANCE[order], name)
    if not case.variant:
        _check_staged(case, f, xs, series)


@law(is_precise)
def collapsed(case: Case) -> None:
    """Of several directions at once: each first term, and the sum of the second ones."""
    xs, rng = case.at(case.live), case.rng
    f = case.function(case.live)
    directions = [[tuple(case.random([x] * 2, rng)) for x in xs] for _ in range(3)]
    trace = Collapsing(len(directions), "collapsed")
    columns = [[series[i] for series in directions] for i in range(len(xs))]
    sums = [(np.stack([a for a, _ in c]), np.add.reduce([b for _, b in c])) for c in columns]
    with np.errstate(all="ignore"):
        pairs = [trace.split(y) for y in f(*map(trace.series, xs, sums))]
        wanted = [expanded(f, xs, series) for series in directions]
    found = [(y, terms or (None, None)) for y, terms in pairs if aval_of(y).inexact]
    for j, ((y, (firsts, second)), each) in enumerate(zip(found, zip(*wanted), strict=True)):
        known = [terms or (None, None) for _, terms in each]
        name = f"{case.text}: output {j}"
        for k, (first, _) in enumerate(known):
            t = None if firsts is None else firsts[k]
            assert_close(dense(t, y), dense(first, y), _TOLERANCE[2], f"{name}, direction {k}")
        total = np.add.reduce([dense(t, y) for _, t in known])
        if second is not None:
            assert_aval(second, aval_of(y), f"{name}, sum of second terms")
        assert_close(dense(second, y), total, _TOLERANCE[2], f"{name}, sum of second terms")


def expanded(
    f: Callable[..., Sequence[Value]], xs: Sequence[Value], series: Sequence[Terms]
) -> list[tuple[Value, Terms | None]]:
    """Outputs that have derivatives, and their terms."""
    trace = Expansion(len(series[0]))
    pairs = [trace.split(y) for y in f(*map(trace.series, xs, series))]
    return [(y, terms) for y, terms in pairs if aval_of(y).inexact]


def _nested(
    f: Callable[..., Sequence[Value]], xs: Sequence[Value], series: Sequence[Terms], order: int
) -> list[tuple[Value, ...]]:
    """Terms of each output by forward mode over forward mode, along the curve."""

    def on_curve(s: Any) -> tuple[Value, ...]:
        moved = []
        for x, terms in zip(xs, series, strict=True):
            rest: Any = terms[-1] * s
            for t in reversed(terms[:-1]):
                rest = (rest + t) * s
            moved.append(x + rest)
        return tuple([y for y in f(*moved) if aval_of(y).inexact])

    def derivative(g: Callable[[Any], tuple[Value, ...]]) -> Callable[[Any], tuple[Value, ...]]:
        def slope(s: Any) -> tuple[Value, ...]:
            outs, ts = tangents(g, (s,), (np.float64(1),))
            return tuple([dense(t, y) for t, y in zip(ts, outs, strict=True)])

        return slope

    g: Callable[[Any], tuple[Value, ...]] = on_curve
    columns = []
    for k in range(1, order + 1):
        g = derivative(g)
        columns.append([y / math.factorial(k) for y in g(np.float64(0))])
    return list(zip(*columns, strict=True))


def _check_staged(
    case: Case,
    f: Callable[..., Sequence[Value]],
    xs: Sequence[Value],
    series: Sequence[Terms],
) -> None:
    """Two terms by a program, against those of values."""
    count = len(xs)

    def flat(*values: Value) -> list[Value]:
        firsts, seconds = values[count : 2 * count], values[2 * count :]
        pairs = expanded(f, values[:count], list(zip(firsts, seconds, strict=True)))
        return [t for _, terms in pairs for t in terms or () if t is not None]

    values = [*xs, *[s[0] for s in series], *[s[1] for s in series]]
    with np.errstate(all="ignore"):
        closed = stage(flat, [aval_of(v) for v in values])
        got, want = closed(*values), flat(*values)
    for a, b in zip(got, want, strict=True):
        assert_close(a, b, rounding(1.0), f"{case.text}: terms by a program")
