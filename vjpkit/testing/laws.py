"""The laws that every primitive keeps, each checked at a `Case`.

A law is a function of a case that raises AssertionError, with a text that says what came, what was
wanted, and where. `LAWS` has them all by name. A primitive for which one cannot hold says so, with
the reason, in its ``exempt``.
"""

from __future__ import annotations

import itertools
import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.evaluate import interpret
from vjpkit.core.ir import check
from vjpkit.core.primitive import Elementwise
from vjpkit.core.staging import ClosedProgram, stage
from vjpkit.core.text import parse
from vjpkit.core.tracer import Tracer
from vjpkit.testing.case import (
    Case,
    Linearization,
    cases_of,
    dense,
    linearize,
    read_only,
    tangents,
    transposed,
)
from vjpkit.testing.compare import (
    assert_aval,
    assert_close,
    assert_identical,
    magnitude,
    pairing,
    rounding,
)
from vjpkit.testing.numeric import Estimate, central, complex_step, wide
from vjpkit.transforms.batch import Batched, Batches

__all__ = ["LAWS", "Law", "check_rule"]

Law = Callable[[Case], None]
LAWS: dict[str, Law] = {}
"""Every law by name."""


def law(function: Law) -> Law:
    LAWS[function.__name__] = function
    return function


# -------------------------------------------------------------------------------------------- values


@law
def value(case: Case) -> None:
    """Every kind of tracer computes what NumPy computes, bit for bit."""
    wanted = case.outs
    ufunc = getattr(case.primitive, "ufunc", None)
    if ufunc is not None:
        for got, want in zip(wanted, (ufunc(*case.operands),), strict=True):
            assert_close(got, want, 0.0, f"{case.text}: impl against NumPy's ufunc")
            assert_aval(got, aval_of(want), f"{case.text}: impl against NumPy's ufunc")
    for live in case.patterns():
        f, xs = case.function(live), case.at(live)
        ts = case.random(xs, case.rng)
        _identical(linearize(f, xs).outs, wanted, f"{case.text}: eager, operands {live} traced")
        _identical(tangents(f, xs, ts)[0], wanted, f"{case.text}: forward, operands {live} traced")
    staged = stage(case.call, case.avals)
    check(staged.program)
    _identical(staged(*case.operands), wanted, f"{case.text}: staged")
    _identical(interpret(staged.program, case.operands), wanted, f"{case.text}: interpreted")


def _identical(got: Sequence[Value], want: Sequence[Value], what: str) -> None:
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert_identical(a, b, f"{what}, output {i}")


@law
def pure(case: Case) -> None:
    """Nothing writes to operands, tangents or cotangents."""
    xs = [np.array(x) if isinstance(x, np.ndarray) else x for x in case.operands]
    rng = case.rng
    ts, cts = case.random([xs[i] for i in case.live], rng), case.random(case.outs, rng)
    before = pickle.dumps((xs, ts, cts))
    case.impl(*xs)
    if case.live:
        made = linearize(case.moved(xs, "").function(case.live), [xs[i] for i in case.live])
        made.push(ts)
        made.pull(cts)
    assert pickle.dumps((xs, ts, cts)) == before, f"{case.text}: an operand was written to"


@law
def text(case: Case) -> None:
    """The equation prints as text that reads back as the same equation, and pickles."""
    program = stage(case.call, case.avals).program
    assert parse(str(program)) == program, f"{case.text}: printed and parsed\n{program}"
    assert str(parse(str(program))) == str(program), f"{case.text}: printed again\n{program}"
    copy = pickle.loads(pickle.dumps(program))
    assert copy == program, f"{case.text}: pickled and unpickled\n{program}\n{copy}"


# -------------------------------------------------------------------------------------------- dtypes

_FLOATS = ("float16", "float32", "float64", "longdouble", "complex64", "complex128")
_INTEGERS = ("int64", "int8", "bool")


@law
def dtypes(case: Case) -> None:
    """Inference is NumPy's promotion; tangents follow the output's dtype, cotangents the operand's."""
    for operands in _dtype_variants(case):
        variant = case.moved(operands, "dtypes")
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            _check_inference(variant)


def _dtype_variants(case: Case) -> Iterator[list[Value]]:
    """The operands in every floating and complex dtype, mixed with others and with numbers."""

    def cast(live: Sequence[int], dtype: str) -> list[Value]:
        return [_cast(x, dtype) if i in live else x for i, x in enumerate(case.operands)]

    for dtype in (*_FLOATS, *_INTEGERS):
        yield cast(case.live, dtype)
    for i in case.live:
        if len(case.live) > 1:
            for dtype in ("float32", "complex64", *_INTEGERS):
                yield cast((i,), dtype)
        if np.ndim(case.operands[i]) == 0:
            for number in (2.0, 1, 1.5 + 0.5j, True)[: 4 if len(case.live) > 1 else 3]:
                yield [number if j == i else x for j, x in enumerate(case.operands)]
                yield [number if j == i else x for j, x in enumerate(cast(case.live, "float32"))]


def _cast(x: Value, dtype: str) -> Value:
    x = np.asarray(x)
    return (x.real if np.dtype(dtype).kind != "c" else x).astype(dtype)[()]


def _check_inference(case: Case) -> None:
    try:
        outs = case.impl(*case.operands)
    except TypeError:
        if all(case.avals[i].inexact for i in case.live):
            _assert_refused(case)
        return
    except (ValueError, np.linalg.LinAlgError, ZeroDivisionError):
        return  # it is the numbers that NumPy refuses, which inference cannot know
    inferred = case.primitive.unpack(case.primitive.abstract(*case.avals, **case.params))
    # Python's complex number times NumPy's float64 is Python's: a type that no aval tells.
    weak = all(a.weak for a in case.avals)
    stated = tuple(aval_of(y) if weak else aval_of(y).strong() for y in outs)
    assert tuple(inferred) == stated, f"{case.text}: inferred {inferred}, NumPy gives {stated}"
    live = case.live
    if not live or not all(a.inexact for a in stated):
        return
    made = linearize(case.function(live), case.at(live))
    rng = case.rng
    for out, t in zip(outs, made.push(case.random(case.at(live), rng)), strict=True):
        if t is not None:
            assert_aval(t, aval_of(out), f"{case.text}: tangent")
    for i, ct in zip(live, made.pull(case.random(outs, rng)), strict=True):
        if ct is not None:
            assert_aval(ct, case.avals[i], f"{case.text}: cotangent of operand {i}")


def _assert_refused(case: Case) -> None:
    try:
        inferred = case.primitive.abstract(*case.avals, **case.params)
    except (TypeError, ValueError):
        return
    raise AssertionError(f"{case.text}: NumPy raises TypeError, but inference gives {inferred}")


# --------------------------------------------------------------------------------- first derivatives

_DIFFERENCES = 1e-9
"""What extrapolated differences of a function of size 1 are good for, relative to their size."""
_SETTLED = 1e-4
"""Differences that change by more than this between steps say nothing."""


@law
def jvp(case: Case) -> None:
    """The tangent is the derivative along it: central differences at several steps."""
    if not case.live:
        return
    xs = case.at(case.live)
    ts = _directions(case)
    outs, out_ts = tangents(case.function(case.live), xs, ts)
    _assert_derivatives(case, outs, out_ts, central(_line(case, ts)), "tangent of output")


def _directions(case: Case) -> list[Any]:
    """Random tangents of the differentiable operands, of size 1 at most."""
    ts = case.random(case.at(case.live), case.rng)
    return [(t / max(1.0, np.max(abs(t), initial=0.0))).astype(t.dtype)[()] for t in ts]


def _line(case: Case, ts: Sequence[Value]) -> Callable[[float], Sequence[Value]]:
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
    tolerance = max(_DIFFERENCES, rounding(*case.operands, *case.outs))
    for i, (x, t, estimate) in enumerate(zip(at, got, wanted, strict=True)):
        scale = max(1.0, float(np.max(abs(estimate.value), initial=0.0)))
        worst = float(np.max(estimate.error, initial=0.0))
        name = f"{case.text}: {what} {i} against finite differences"
        assert worst <= _SETTLED * scale, f"{name}: these do not settle (error {worst:.2g})"
        zero = np.zeros(aval_of(x).shape)
        assert_close(zero if t is None else t, estimate.value, tolerance, name, 10 * estimate.error)


@law
def analytic(case: Case) -> None:
    """Where the function is analytic, the complex step gives the tangent to rounding."""
    real = all(a.dtype.kind != "c" for a in case.avals)
    if not case.live or not real or rounding(*case.operands) > rounding(1.0):
        return
    ts = _directions(case)
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
    except (TypeError, ValueError, ArithmeticError, np.linalg.LinAlgError):
        return False
    return all(
        np.iscomplexobj(y)
        and np.allclose(y, out, rtol=1e-12, atol=1e-12)
        and np.allclose(a.value * 1j, b.value, rtol=1e-6, atol=1e-6)
        for y, out, a, b in zip(there, case.outs, along, across, strict=True)
    )


@law
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
            tolerance = rounding(*xs, out)
            a, b = dense(pushed[i], out), dense(forward[i], out)
            assert_close(b, a, tolerance, f"{name}: forward mode against the rows")
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


@law
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
                assert_close(got, want, rounding(*xs, out), f"{name}: only tangent {i}")
        for ct, x in zip(made.pull([dense(None, y) for y in made.outs]), xs, strict=True):
            assert_close(dense(ct, x), dense(None, x), 0.0, f"{name}: pullback of zeros")


@law
def annihilation(case: Case) -> None:
    """At the edges of a ufunc's domain, where a partial may be infinite, zero still gives zero.

    To second order too: the derivative of the pullback of zero is zero.
    """
    primitive = case.primitive
    if not isinstance(primitive, Elementwise) or case.label != "0":
        return
    edges = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.0)
    grid = np.array(list(itertools.product(edges, repeat=primitive.arity))).T
    xs = [read_only(x.copy()) for x in grid]
    nothing, something = np.zeros(grid.shape[1]), np.ones(grid.shape[1])
    with np.errstate(all="ignore"):
        made = linearize(case.call, xs)
        pulled = made.pull([nothing])
        pushed = made.push([nothing for _ in xs])
        for i, got in enumerate((*pulled, *pushed)):
            _assert_nothing(case, got, grid, f"product {i}")

        def pull(*ys: Value) -> tuple[Value, ...]:
            return tuple(dense(c, nothing) for c in linearize(case.call, ys).pull([nothing]))

        for i in range(len(xs)):
            ts = [something if i == j else None for j in range(len(xs))]
            for got in tangents(pull, xs, ts)[1]:
                _assert_nothing(case, got, grid, f"second derivative along operand {i}")


def _assert_nothing(case: Case, got: Value | None, grid: Value, what: str) -> None:
    wrong = np.asarray(got != 0) if got is not None else np.zeros(1, bool)
    places = grid.T[wrong][:3].tolist() if wrong.any() else []
    assert not places, f"{case.text}: {what} with zero is not zero at {places} (singular=True?)"


# ----------------------------------------------------------------------------------------- programs


@law
def program(case: Case) -> None:
    """The rows as a linear program, its transpose, and the transpose of that agree with the walks."""
    rng = case.rng
    for live in case.patterns():
        xs = case.at(live)
        made = linearize(case.function(live), xs)
        ts, cts = case.random(xs, rng), case.random(made.outs, rng)
        pushed, pulled = made.push(ts), made.pull(cts)
        some = [i for i, t in enumerate(pushed) if t is not None]
        if not some:
            continue
        tolerance = rounding(*xs, *made.outs)
        name = f"{case.text}: operands {live} traced"
        linear = made.program([aval_of(x).strong() for x in xs])
        _check_program(linear, ts, [pushed[i] for i in some], tolerance, f"{name}: program")
        back = transposed(linear)
        wanted = [c for c in pulled if c is not None]
        _check_program(back, [cts[i] for i in some], wanted, tolerance, f"{name}: its transpose")
        again = transposed(back)
        reach = [t for t, c in zip(ts, pulled, strict=True) if c is not None]
        _check_program(again, reach, [pushed[i] for i in some], tolerance, f"{name}: transposed twice")


def _check_program(
    closed: ClosedProgram,
    values: Sequence[Value],
    wanted: Sequence[Value | None],
    tolerance: float,
    what: str,
) -> None:
    check(closed.program)
    assert len(closed.program.outputs) == len(wanted), f"{what}: number of outputs"
    for i, (got, want) in enumerate(zip(closed(*values), wanted, strict=True)):
        assert_aval(got, aval_of(want), f"{what}, output {i}")
        assert_aval(got, closed.program.out_avals[i], f"{what}, output {i}, as inferred")
        assert_close(got, want, tolerance, f"{what}, output {i}")


@law
def staged(case: Case) -> None:
    """Pushing and pulling at abstract operands, staged, gives what it gives at arrays."""
    rng = case.rng
    for live in case.patterns():
        xs = case.at(live)
        f = case.function(live)
        made = linearize(f, xs)
        ts, cts = case.random(xs, rng), case.random(made.outs, rng)
        for vectors, walk in ((ts, Linearization.push), (cts, Linearization.pull)):
            wanted = [v for v in walk(made, vectors) if v is not None]

            def run(*values: Value, walk: Any = walk) -> list[Value]:
                out = walk(linearize(f, values[: len(live)]), values[len(live) :])
                return [v for v in out if v is not None]

            avals = [aval_of(v) for v in (*xs, *vectors)]
            closed = stage(run, avals, linear=len(vectors))
            name = f"{case.text}: {walk.__name__} staged, operands {live} traced"
            _check_program(closed, [*xs, *vectors], wanted, rounding(*xs, *made.outs), name)


# -------------------------------------------------------------------------------- second derivatives


@law
def second(case: Case) -> None:
    """Forward and reverse in every order give one symmetric second derivative, the numerical one."""
    live = case.live
    xs = case.at(live)
    f = case.function(live)
    smooth = [i for i, y in enumerate(case.outs) if aval_of(y).inexact]
    if not live or not smooth:
        return
    rng = case.rng
    cts = [c if i in smooth else None for i, c in enumerate(case.random(case.outs, rng))]
    ts, us = _directions(case), case.random(xs, rng)

    def pull(*ys: Value) -> tuple[Value, ...]:
        return tuple(dense(c, x) for c, x in zip(linearize(f, ys).pull(cts), xs, strict=True))

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

    start = [wide(x) for x in xs]
    line = lambda h: pull(*[x + h * wide(t) for x, t in zip(start, ts, strict=True)])  # noqa: E731
    if rounding(*xs, *case.outs) <= rounding(1.0):
        _assert_derivatives(case, xs, outer, central(line), "second derivative, operand")


def _paired(cts: Sequence[Value | None], ts: Sequence[Value | None]) -> float:
    pairs = zip(cts, ts, strict=True)
    return sum(pairing(c, t) for c, t in pairs if c is not None and t is not None)


# --------------------------------------------------------------------------------------------- linear


@law
def linear(case: Case) -> None:
    """It is linear in the operands that it declares itself linear in."""
    for mask in _masks(case):
        if case.primitive.linear_in(mask, case.params):
            name = f"{case.text}: declared linear in {mask}"
            for got, want, scale in _superposed(case, mask):
                assert_close(got, want, rounding(*case.operands) * scale, name)


def _masks(case: Case) -> Iterator[tuple[bool, ...]]:
    """Every choice of operands that have tangents."""
    count = len(case.operands)
    choices = [(False, True) if a.inexact else (False,) for a in case.avals]
    if count > 4:
        yield tuple(a.inexact for a in case.avals)
        choices = []
    yield from (mask for mask in itertools.product(*choices) if any(mask))


def _superposed(case: Case, mask: tuple[bool, ...]) -> Iterator[tuple[Value, Value, float]]:
    """f(2x - 3y) and 2 f(x) - 3 f(y) of every output, and the size of the latter's terms."""
    rng = case.rng

    def at(xs: Sequence[Value]) -> tuple[Value, ...]:
        pairs = zip(case.operands, mask, iter(xs), strict=True)
        return case.impl(*[x if m else fixed for fixed, m, x in pairs])

    xs, ys = case.random(case.avals, rng), case.random(case.avals, rng)
    both = at([2 * x - 3 * y for x, y in zip(xs, ys, strict=True)])
    for got, a, b in zip(both, at(xs), at(ys), strict=True):
        want = 2 * np.asarray(a) - 3 * np.asarray(b)
        yield got, want, max(1.0, float(np.max(abs(np.asarray(a)), initial=0.0)))


def undeclared(cases: Sequence[Case]) -> list[tuple[bool, ...]]:
    """Operands in which a primitive is linear at every sample without saying so."""
    counts: dict[tuple[bool, ...], list[bool]] = {}
    for case in cases:
        if any(a.size == 0 for a in case.avals) or any(aval_of(y).size == 0 for y in case.outs):
            continue
        for mask in _masks(case):
            if not case.primitive.linear_in(mask, case.params):
                counts.setdefault(mask, []).append(_looks_linear(case, mask))
    return [mask for mask, found in counts.items() if all(found)]


def _looks_linear(case: Case, mask: tuple[bool, ...]) -> bool:
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return all(
                np.allclose(got, want, rtol=1e-6, atol=1e-6)
                for got, want, _ in _superposed(case, mask)
            )
    except (ValueError, TypeError, ArithmeticError, np.linalg.LinAlgError):
        return False


# ---------------------------------------------------------------------------------------------- batch

_EXAMPLES = 3


def _examples(x: Value) -> Any:
    """A stack of operands like ``x``: floats scaled a little, integers and masks shifted round."""
    a = np.asarray(x)
    if a.dtype.kind in "fc":
        return read_only(np.stack([(a * (1 + 0.01 * k)).astype(a.dtype) for k in range(_EXAMPLES)]))
    return read_only(np.stack([np.roll(a, k) for k in range(_EXAMPLES)]))


def _subsets(indices: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Non-empty subsets; of more than three, each alone and all together."""
    sizes = range(1, len(indices) + 1) if len(indices) <= 3 else (1, len(indices))
    for size in sizes:
        yield from itertools.combinations(indices, size)


def _mapped(
    f: Callable[..., Sequence[Value]], xs: Sequence[Value], batched: Sequence[int]
) -> tuple[Value, ...]:
    """``f`` over the leading axis of the operands in ``batched``."""
    trace = Batches(_EXAMPLES)
    return tuple(
        trace.dense(y)
        for y in f(*[Batched(x, trace) if i in batched else x for i, x in enumerate(xs)])
    )


def _looped(
    f: Callable[..., Sequence[Value]], xs: Sequence[Value], batched: Sequence[int]
) -> tuple[Value, ...]:
    """What `_mapped` means: one example after the other."""
    rows = [
        f(*[x[k] if i in batched else x for i, x in enumerate(xs)]) for k in range(_EXAMPLES)
    ]
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def _assert_mapped(
    got: Sequence[Value], want: Sequence[Value], tolerance: float, what: str
) -> None:
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert_aval(a, aval_of(b), f"{what}, output {i}")
        assert_close(a, b, tolerance, f"{what}, output {i}")


@law
def batch(case: Case) -> None:
    """Mapping over a leading axis is the loop over examples, whichever operands are batched."""
    everything = tuple(range(len(case.operands)))
    variants = [list(case.operands)]
    if case.live and case.label.isdigit():
        variants.append([_cast(x, _single(x)) if i in case.live else x for i, x in enumerate(case.operands)])
    for operands in variants:
        tolerance = rounding(*operands, *case.outs)
        for batched in _subsets(everything):
            xs = [_examples(x) if i in batched else x for i, x in enumerate(operands)]
            want = _looped(case.impl, xs, batched)
            name = f"{case.text}: operands {batched} batched"
            _assert_mapped(_mapped(case.call, xs, batched), want, tolerance, name)
    if not everything:
        return
    staged = stage(lambda *ys: _mapped(case.call, ys, batched), [aval_of(x) for x in xs])
    check(staged.program)
    _assert_mapped(staged(*xs), want, tolerance, f"{case.text}: staged, all batched")
    twice = [np.stack([x, x[::-1]]) for x in xs]
    trace = Batches(2)
    outs = _mapped(case.call, [Batched(x, trace) for x in twice], batched)
    for got, once in zip(outs, want, strict=True):
        name = f"{case.text}: batched twice"
        assert_close(trace.dense(got), np.stack([once, once[::-1]]), tolerance, name)


def _single(x: Value) -> str:
    return "complex64" if aval_of(x).dtype.kind == "c" else "float32"


@law
def batched_derivatives(case: Case) -> None:
    """Mapping a push or a pull is a loop over examples; pulling through a map is that loop too."""
    live, rng = case.live, case.rng
    if not live or not all(aval_of(y).inexact for y in case.outs):
        return
    f = case.function(live)
    ts = case.random(case.at(live), rng)
    cts = case.random(case.outs, rng)
    tolerance = rounding(*case.operands, *case.outs)

    def push(*values: Value) -> list[Value]:
        made = linearize(f, values[: len(live)])
        return [dense(t, y) for t, y in zip(made.push(values[len(live) :]), case.outs, strict=True)]

    def pull(*values: Value) -> list[Value]:
        made = linearize(f, values[: len(live)])
        pairs = zip(made.pull(values[len(live) :]), case.at(live), strict=True)
        return [dense(c, x) for c, x in pairs]

    for walk, vectors in ((push, ts), (pull, cts)):
        values = [*case.at(live), *vectors]
        for batched in ((), *_subsets(range(len(live)))):
            all_batched = (*batched, *range(len(live), len(values)))
            xs = [_examples(x) if i in all_batched else x for i, x in enumerate(values)]
            want = _looped(walk, xs, all_batched)
            name = f"{case.text}: {walk.__name__} mapped, operands {batched} and vectors batched"
            _assert_mapped(_mapped(walk, xs, all_batched), want, tolerance, name)
    for batched in _subsets(range(len(live))):
        xs = [_examples(x) if i in batched else x for i, x in enumerate(case.at(live))]
        seeds = [_examples(c) for c in cts]
        made = linearize(lambda *ys, on=batched: _mapped(f, ys, on), xs)
        places = range(len(live), len(live) + len(cts))
        want = _looped(pull, [*xs, *seeds], (*batched, *places))
        for i, (got, each, x) in enumerate(zip(made.pull(seeds), want, xs, strict=True)):
            total = each if i in batched else np.sum(each, axis=0)
            name = f"{case.text}: pulled through a map over operands {batched}, operand {i}"
            assert_close(dense(got, x), total, tolerance, name)


# --------------------------------------------------------------------------------------- all together


def failures(primitive: Any) -> Iterator[tuple[Case, str, Exception]]:
    """Every law that does not hold, where, and what was raised."""
    for case in cases_of(primitive):
        for name, check_law in LAWS.items():
            if case.exemption(name) is not None:
                continue
            try:
                check_law(case)
            except Exception as error:
                yield case, name, error
