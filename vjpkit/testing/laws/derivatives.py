"""Laws of first and second derivatives."""

from __future__ import annotations

import itertools
import struct
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.kinds import Elementwise, Reduction
from vjpkit.testing.case import Case, Linearization, dense, linearize, read_only, tangents
from vjpkit.testing.compare import assert_close, magnitude, pairing, rounding
from vjpkit.testing.laws.registry import has_derivative, law
from vjpkit.testing.numeric import Estimate, central, complex_step, wide

_DIFFERENCES = 1e-9
"""What extrapolated differences of a function of size 1 are good for, relative to their size."""
_SETTLED = 1e-4
"""Differences that change by more than this between steps say nothing."""


@law(has_derivative)
def jvp(case: Case) -> None:
    """The tangent is the derivative along it: central differences at several steps."""
    xs = case.at(case.live)
    ts = _directions(case, case.rng)
    outs, out_ts = tangents(case.function(case.live), xs, ts)
    _assert_derivatives(case, outs, out_ts, central(_line(case, ts)), "tangent of output")


def _directions(case: Case, rng: np.random.Generator) -> list[Any]:
    """Random tangents of the differentiable operands, of size 1 at most."""
    ts = case.random(case.at(case.live), rng)
    return [(t / max(1.0, np.max(abs(t), initial=0.0))).astype(t.dtype)[()] for t in ts]


def _line(case: Case, ts: Sequence[Value]) -> Callable[[Any], Sequence[Value]]:
    """The outputs along a line through the operands, in double precision."""
    start = [wide(x) for x in case.operands]

    def line(h: Any) -> Sequence[Value]:
        xs = list(start)
        for i, t in zip(case.live, ts, strict=True):
            xs[i] = start[i] + h * wide(t)
        return case.impl(*xs)

    return line


def _assert_derivatives(
    case: Case,
    at: Sequence[Value],
    got: Sequence[Value | None],
    wanted: Sequence[Estimate],
    what: str,
) -> None:
    """``got`` are the numerical derivatives of values at ``at``."""
    tolerance = max(_DIFFERENCES, rounding(*case.outs))
    for i, (x, t, estimate) in enumerate(zip(at, got, wanted, strict=True)):
        scale = max(1.0, float(np.max(abs(estimate.value), initial=0.0)))
        worst = float(np.max(estimate.error, initial=0.0))
        name = f"{case.text}: {what} {i} against finite differences"
        assert worst <= _SETTLED * scale, f"{name}: these do not settle (error {worst:.2g})"
        zero = np.zeros(aval_of(x).shape)
        assert_close(zero if t is None else t, estimate.value, tolerance, name, 10 * estimate.error)


def is_real(case: Case) -> bool:
    """Whether operands are real, in double precision."""
    real = all(a.dtype.kind != "c" for a in case.avals)
    return bool(case.live) and real and rounding(*case.operands) <= rounding(1.0)


@law(is_real)
def analytic(case: Case) -> None:
    """Where the function is analytic, the complex step gives the tangent to rounding."""
    ts = _directions(case, case.rng)
    line = _line(case, ts)
    if not _is_analytic(case, line):
        return
    _, out_ts = tangents(case.function(case.live), case.at(case.live), ts)
    for i, (got, want) in enumerate(zip(out_ts, complex_step(line), strict=True)):
        assert_close(
            dense(got, case.outs[i]), want, rounding(want), f"{case.text}: complex step, output {i}"
        )


def _is_analytic(case: Case, line: Callable[[Any], Sequence[Value]]) -> bool:
    """Whether the Cauchy-Riemann equations hold near the point, and it is real on the reals."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            there = line(0j)
            along = central(lambda h: line(0.01j + h))
            across = central(lambda h: line(0.01j + 1j * h))
    except (TypeError, ValueError, ArithmeticError, struct.error, np.linalg.LinAlgError):
        return False
    return all(
        np.iscomplexobj(y)
        and np.allclose(y, out, rtol=1e-12, atol=1e-12)
        and np.allclose(a.value * 1j, b.value, rtol=1e-6, atol=1e-6)
        for y, out, a, b in zip(there, case.outs, along, across, strict=True)
    )


@law(has_derivative)
def duality(case: Case) -> None:
    """<ct, J t> = <J' ct, t> to rounding, for each set of operands, all outputs and each alone."""
    rng = case.rng
    for live in case.patterns():
        xs = case.at(live)
        made = linearize(case.function(live), xs)
        ts, cts = case.random(xs, rng), case.random(made.outs, rng)
        pushed = made.push(ts)
        _, forward = tangents(case.function(live), xs, ts)
        for i, out in enumerate(made.outs):
            name = f"{case.text}: operands {live} traced, output {i}"
            a, b = dense(pushed[i], out), dense(forward[i], out)
            assert_close(b, a, rounding(out), f"{name}: forward mode against the rows")
        seeds = [cts]
        if len(made.live) > 1:
            seeds += [[c if i == j else None for i, c in enumerate(cts)] for j in made.live]
        for seed in seeds:
            _assert_dual(case, made, xs, ts, pushed, seed, f"operands {live} traced")


def _assert_dual(
    case: Case,
    made: Linearization,
    xs: Sequence[Value],
    ts: Sequence[Value],
    pushed: Sequence[Value | None],
    cts: Sequence[Value | None],
    what: str,
) -> None:
    left = [(dense(c, y), dense(t, y)) for c, t, y in zip(cts, pushed, made.outs, strict=True)]
    right = [(dense(c, x), t) for c, t, x in zip(made.pull(cts), ts, xs, strict=True)]
    live = [left[i] for i in made.live]
    size = sum(magnitude(*pair) for pair in (*live, *right))
    got, want = sum(pairing(*pair) for pair in right), sum(pairing(*pair) for pair in live)
    assert_close(
        got / max(1.0, size), want / max(1.0, size), rounding(*xs, *made.outs),
        f"{case.text}: {what}: <J' ct, t> against <ct, J t>, both divided by {max(1.0, size):.3g}",
    )  # fmt: skip


@law(has_derivative)
def zeros(case: Case) -> None:
    """A tangent or cotangent of None is one of zeros, and zeros give zeros."""
    rng = case.rng
    for live in case.patterns():
        xs = case.at(live)
        made = linearize(case.function(live), xs)
        name = f"{case.text}: operands {live} traced"
        for i in range(len(xs)):
            t = case.random([xs[i]], rng)[0]
            sparse = made.push([t if j == i else None for j in range(len(xs))])
            full = made.push([t if j == i else dense(None, x) for j, x in enumerate(xs)])
            for out, a, b in zip(made.outs, sparse, full, strict=True):
                got, want = dense(a, out), dense(b, out)
                assert_close(got, want, rounding(out), f"{name}: only tangent {i}")
        for ct, x in zip(made.pull([dense(None, y) for y in made.outs]), xs, strict=True):
            assert_close(dense(ct, x), dense(None, x), 0.0, f"{name}: pullback of zeros")


def has_edges(case: Case) -> bool:
    """Each elementwise primitive once, and reductions: the points are the law's own."""
    if isinstance(case.primitive, Reduction):
        return case.label.isdigit() and bool(case.live)
    return isinstance(case.primitive, Elementwise) and case.label == "0"


@law(has_edges)
def annihilation(case: Case) -> None:
    """At the edges of the domain, where a partial may be infinite, zero still gives zero.

    To second order too: the derivative of the pullback of zero is zero.
    """
    xs = [read_only(x) for x in _edges(case)]
    with np.errstate(all="ignore"):
        made = linearize(case.call, xs)
        nothing, still = (
            [np.zeros_like(y)[()] for y in made.outs],
            [np.zeros_like(x)[()] for x in xs],
        )
        for i, got in enumerate((*made.pull(nothing), *made.push(still))):
            _assert_nothing(case, got, f"product {i}")

        def pull(*ys: Value) -> tuple[Value, ...]:
            pairs = zip(linearize(case.call, ys).pull(nothing), xs, strict=True)
            return tuple(dense(c, x) for c, x in pairs)

        for i in range(len(xs)):
            ts = [np.ones_like(x)[()] if i == j else None for j, x in enumerate(xs)]
            for got in tangents(pull, xs, ts)[1]:
                _assert_nothing(case, got, f"second derivative along operand {i}")


def _edges(case: Case) -> list[Any]:
    """Operands at which partial derivatives may be infinite: poles, branch points, overflow."""
    if isinstance(case.primitive, Reduction):
        return [np.asarray(x) * 1e200 for x in case.operands]
    edges = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.0)
    return list(np.array(list(itertools.product(edges, repeat=len(case.operands)))).T.copy())


def _assert_nothing(case: Case, got: Value | None, what: str) -> None:
    wrong = got is not None and np.asarray(got != 0).any()
    assert not wrong, f"{case.text}: {what} with zero is not zero (singular=True?): {got}"


def has_smooth_output(case: Case) -> bool:
    """Whether there is something to differentiate, and something to differentiate by."""
    return bool(case.live) and any(aval_of(y).inexact for y in case.outs)


@law(has_smooth_output)
def second(case: Case) -> None:
    """Forward and reverse, in every order, give one symmetric second derivative."""
    xs = case.at(case.live)
    f = case.function(case.live)
    rng = case.rng
    cts, ts, us = _cotangents(case, rng), _directions(case, rng), _directions(case, rng)
    pull = _pull_of(case, cts)

    def push(*ys: Value) -> tuple[Value, ...]:
        pairs = zip(tangents(f, ys, us)[1], case.outs, strict=True)
        return tuple(dense(t, out) for t, out in pairs)

    outer = tangents(pull, xs, ts)[1]
    pulled = linearize(pull, xs).pull(us)
    found = {
        "forward over reverse": _paired(us, outer),
        "reverse over reverse": _paired(ts, pulled),
        "forward over forward": _paired(cts, tangents(push, xs, ts)[1]),
        "reverse over forward": _paired(ts, linearize(push, xs).pull(cts)),
        "forward over reverse, swapped": _paired(ts, tangents(pull, xs, us)[1]),
    }
    size = max(1.0, sum(magnitude(u, dense(v, x)) for u, v, x in zip(us, outer, xs, strict=True)))
    first = found["forward over reverse"]
    for order, got in found.items():
        name = f"{case.text}: {order} against forward over reverse, divided by {size:.3g}"
        assert_close(got / size, first / size, rounding(*xs, *case.outs), name)


def is_precise(case: Case) -> bool:
    """Whether differences of the gradient say something: nothing is in single precision."""
    return has_smooth_output(case) and rounding(*case.operands, *case.outs) <= rounding(1.0)


@law(is_precise)
def curvature(case: Case) -> None:
    """The second derivative is the derivative of the first: differences of the pullback."""
    xs, rng = case.at(case.live), case.rng
    pull = _pull_of(case, _cotangents(case, rng))
    ts = _directions(case, rng)
    start = [wide(x) for x in xs]
    line = lambda h: pull(*[x + h * wide(t) for x, t in zip(start, ts, strict=True)])  # noqa: E731
    got = tangents(pull, xs, ts)[1]
    _assert_derivatives(case, xs, got, central(line), "second derivative, operand")


def _cotangents(case: Case, rng: np.random.Generator) -> list[Any]:
    """Random cotangents of the outputs that have them."""
    cts = case.random(case.outs, rng)
    return [c if aval_of(y).inexact else None for c, y in zip(cts, case.outs, strict=True)]


def _pull_of(case: Case, cts: Sequence[Value | None]) -> Callable[..., tuple[Value, ...]]:
    """The pullback of fixed cotangents as a function of the operands."""
    f, xs = case.function(case.live), case.at(case.live)

    def pull(*ys: Value) -> tuple[Value, ...]:
        return tuple(dense(c, x) for c, x in zip(linearize(f, ys).pull(cts), xs, strict=True))

    return pull


def _paired(cts: Sequence[Value | None], ts: Sequence[Value | None]) -> float:
    pairs = zip(cts, ts, strict=True)
    return sum(pairing(c, t) for c, t in pairs if c is not None and t is not None)
