"""Laws of values: what is computed, what is inferred, what is printed."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.evaluate import interpret
from vjpkit.core.ir import check
from vjpkit.core.staging import stage
from vjpkit.kinds import Ufunc
from vjpkit.parsing import parse
from vjpkit.testing.case import Case, cast, linearize, tangents
from vjpkit.testing.compare import assert_aval, assert_close, assert_identical
from vjpkit.testing.laws.registry import everywhere, law


@law(everywhere)
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
        squares = linearize(lambda *ys, f=f: tuple(y * y for y in f(*ys)), xs).outs
        with np.errstate(all="ignore"):
            _identical(squares, [y * y for y in wanted], f"{case.text}: eager results squared")
    staged = stage(case.call, case.avals)
    check(staged.program)
    _identical(staged(*case.operands), wanted, f"{case.text}: staged")
    values = [*staged.consts, *case.operands]
    _identical(interpret(staged.program, values), wanted, f"{case.text}: interpreted")


def _identical(got: Sequence[Value], want: Sequence[Value], what: str) -> None:
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert_identical(a, b, f"{what}, output {i}")


@law(everywhere)
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


@law(everywhere)
def text(case: Case) -> None:
    """The equation prints as text that reads back as the same equation, and pickles."""
    program = stage(case.call, case.avals).program
    assert parse(str(program)) == program, f"{case.text}: printed and parsed\n{program}"
    assert str(parse(str(program))) == str(program), f"{case.text}: printed again\n{program}"
    copy = pickle.loads(pickle.dumps(program))
    assert copy == program, f"{case.text}: pickled and unpickled\n{program}\n{copy}"


_FLOATS = ("float16", "float32", "float64", "longdouble", "complex64", "complex128")
_INTEGERS = ("int64", "int8", "bool")


@law(everywhere)
def dtypes(case: Case) -> None:
    """Inference is NumPy's promotion; tangents have the output's dtype, cotangents an operand's."""
    for operands in _dtype_variants(case):
        variant = case.moved(operands, "dtypes")
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            _check_inference(variant)


def _dtype_variants(case: Case) -> Iterator[list[Value]]:
    """The operands in every floating and complex dtype, mixed with others and with numbers."""

    def mixed(live: Sequence[int], dtype: str) -> list[Value]:
        return [cast(x, dtype) if i in live else x for i, x in enumerate(case.operands)]

    for dtype in (*_FLOATS, *_INTEGERS):
        yield mixed(case.live, dtype)
    for i in case.live:
        if len(case.live) > 1:
            for dtype in ("float32", "complex64", *_INTEGERS):
                yield mixed((i,), dtype)
        is_number = isinstance(case.primitive, Ufunc) or case.avals[i].weak
        if is_number and np.ndim(case.operands[i]) == 0:
            alone = all(a.weak for j, a in enumerate(case.avals) if j != i)
            for number in (2.0, 1, 1.5 + 0.5j, True)[: 3 if alone else 4]:
                yield [number if j == i else x for j, x in enumerate(case.operands)]
                yield [number if j == i else x for j, x in enumerate(mixed(case.live, "float32"))]


def _check_inference(case: Case) -> None:
    try:
        outs = case.impl(*case.operands)
    except TypeError:
        if case.live == case.sample.wrt:
            _assert_refused(case)
        return
    except (ValueError, np.linalg.LinAlgError, ZeroDivisionError):
        return  # it is the numbers that NumPy refuses, which inference cannot know
    inferred = case.primitive.unpack(case.primitive.abstract(*case.avals, **case.params))
    # Python's complex number times NumPy's float64 is Python's: a type that no aval tells.
    mixed = len({a.weak for a in case.avals}) > 1
    stated = tuple(aval_of(y).strong() if mixed else aval_of(y) for y in outs)
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
