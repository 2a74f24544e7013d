"""Laws of rows as programs, and of staged operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vjpkit.backends import AS_IT_STANDS, executable
from vjpkit.control.jit import jit as jitted
from vjpkit.core.aval import Value, aval_of
from vjpkit.core.ir import check
from vjpkit.core.staging import ClosedProgram, stage
from vjpkit.passes import optimize
from vjpkit.testing.case import Case, Linearization, linearize, transposed
from vjpkit.testing.compare import assert_aval, assert_close, assert_identical, rounding
from vjpkit.testing.laws.registry import everywhere, has_derivative, law

Walk = Callable[[Linearization, Sequence[Value]], list[Value | None]]


@law(has_derivative)
def program(case: Case) -> None:
    """The rows as a linear program, its transpose, and the transpose's agree with the walks."""
    rng = case.rng
    for live in case.patterns():
        xs = case.at(live)
        made = linearize(case.function(live), xs)
        ts, cts = case.random(xs, rng), case.random(made.outs, rng)
        pushed, pulled = made.push(ts), made.pull(cts)
        some = [i for i, t in enumerate(pushed) if t is not None]
        if not some:
            continue
        name = f"{case.text}: operands {live} traced"
        linear = made.program([aval_of(x).strong() for x in xs])
        _check_program(linear, ts, [pushed[i] for i in some], f"{name}: program")
        back = transposed(linear)
        wanted = [c for c in pulled if c is not None]
        _check_program(back, [cts[i] for i in some], wanted, f"{name}: its transpose")
        again = transposed(back)
        reach = [t for t, c in zip(ts, pulled, strict=True) if c is not None]
        _check_program(again, reach, [pushed[i] for i in some], f"{name}: transposed twice")


def _check_program(
    closed: ClosedProgram,
    values: Sequence[Value],
    wanted: Sequence[Value | None],
    what: str,
) -> None:
    check(closed.program)
    assert len(closed.program.outputs) == len(wanted), f"{what}: number of outputs"
    for i, (got, want) in enumerate(zip(closed(*values), wanted, strict=True)):
        assert_aval(got, aval_of(want), f"{what}, output {i}")
        assert_aval(got, closed.program.out_avals[i], f"{what}, output {i}, as inferred")
        assert_close(got, want, rounding(want), f"{what}, output {i}")
    _check_optimized(closed, values, wanted, f"{what}, optimised")


def _check_optimized(
    closed: ClosedProgram, values: Sequence[Value], wanted: Sequence[Value | None], what: str
) -> None:
    """The optimised program is well formed, and gives the same, in arrays of its own."""
    given = [*closed.consts, *values]
    check(optimize(closed.program))
    outs = executable(closed.program)(*given)
    for i, (got, want) in enumerate(zip(outs, wanted, strict=True)):
        assert_aval(got, closed.program.out_avals[i], f"{what}, output {i}")
        assert_close(got, want, rounding(want), f"{what}, output {i}")
    arrays = [y for y in outs if isinstance(y, np.ndarray)]
    for i, y in enumerate(arrays):
        others = [x for x in [*given, *arrays[:i]] if isinstance(x, np.ndarray)]
        assert not any(np.may_share_memory(x, y) for x in others), f"{what}: output {i} is shared"


@law(has_derivative)
def staged(case: Case) -> None:
    """Pushing and pulling at abstract operands, staged, gives what it gives at arrays: to the bit
    where no pass rewrites it."""
    rng = case.rng
    for live in case.patterns():
        xs = case.at(live)
        f = case.function(live)
        made = linearize(f, xs)
        ts, cts = case.random(xs, rng), case.random(made.outs, rng)
        for vectors, walk in ((ts, Linearization.push), (cts, Linearization.pull)):
            wanted = [v for v in walk(made, vectors) if v is not None]
            closed = _staged_walk(f, xs, vectors, walk)
            name = f"{case.text}: {walk.__name__} staged, operands {live} traced"
            outs = executable(closed.program, AS_IT_STANDS)(*closed.consts, *xs, *vectors)
            for i, (got, want) in enumerate(zip(outs, wanted, strict=True)):
                same = np.array_equal(got, want, equal_nan=True)
                assert same, f"{name}, output {i}: {got} as it stands, and {want} at arrays"
            _check_program(closed, [*xs, *vectors], wanted, name)


def _staged_walk(
    f: Callable[..., tuple[Value, ...]], xs: Sequence[Value], vectors: Sequence[Value], walk: Walk
) -> ClosedProgram:
    """The program (operands, vectors) -> what pushing or pulling the vectors gives."""

    def run(*values: Value) -> list[Value]:
        out = walk(linearize(f, values[: len(xs)]), values[len(xs) :])
        return [v for v in out if v is not None]

    return stage(run, [aval_of(v) for v in (*xs, *vectors)], linear=len(vectors))


@law(everywhere)
def jit(case: Case) -> None:
    """Under jit it computes what it computes without: to the bit where no pass rewrites it."""
    call, wanted = case.call, case.outs
    exact = jitted(lambda *xs: call(*xs), passes=False)(*case.operands)
    quick = jitted(lambda *xs: call(*xs), backend="numpy")(*case.operands)
    for i, (same, near, want) in enumerate(zip(exact, quick, wanted, strict=True)):
        array = np.asarray(want)[()]  # jit makes NumPy scalars of Python's
        assert_identical(np.asarray(same)[()], array, f"{case.text}: without passes, output {i}")
        assert_aval(near, aval_of(array), f"{case.text}: output {i}")
        assert_close(near, array, rounding(array), f"{case.text}: output {i}")
