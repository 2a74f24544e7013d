"""Laws of mapping over a leading axis."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.ir import check
from vjpkit.core.staging import stage
from vjpkit.testing.case import Case, cast, dense, fixes_avals, linearize, read_only
from vjpkit.testing.compare import assert_aval, assert_close, rounding
from vjpkit.testing.laws.registry import law
from vjpkit.transforms.batch import Batched, Batches

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
    rows = [f(*[x[k] if i in batched else x for i, x in enumerate(xs)]) for k in range(_EXAMPLES)]
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def _assert_mapped(got: Sequence[Value], want: Sequence[Value], what: str) -> None:
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert_aval(a, aval_of(b), f"{what}, output {i}")
        assert_close(a, b, rounding(b), f"{what}, output {i}")


def has_operands(case: Case) -> bool:
    """Whether there is something to map over."""
    return bool(case.operands)


@law(has_operands)
def batch(case: Case) -> None:
    """Mapping over a leading axis is the loop over examples, whichever operands are batched."""
    everything = tuple(range(len(case.operands)))
    variants = [list(case.operands)]
    if case.live and case.label.isdigit() and not any(map(fixes_avals, case.params.values())):
        variants.append(
            [cast(x, _single(x)) if i in case.live else x for i, x in enumerate(case.operands)]
        )
    for operands in variants:
        for batched in _subsets(everything):
            xs = [_examples(x) if i in batched else x for i, x in enumerate(operands)]
            want = _looped(case.impl, xs, batched)
            name = f"{case.text}: operands {batched} batched"
            _assert_mapped(_mapped(case.call, xs, batched), want, name)
    staged = stage(lambda *ys: _mapped(case.call, ys, batched), [aval_of(x) for x in xs])
    check(staged.program)
    _assert_mapped(staged(*xs), want, f"{case.text}: staged, all batched")
    twice = [np.stack([x, x[::-1]]) for x in xs]
    trace = Batches(2)
    outs = _mapped(case.call, [Batched(x, trace) for x in twice], batched)
    for got, once in zip(outs, want, strict=True):
        name = f"{case.text}: batched twice"
        assert_close(trace.dense(got), np.stack([once, once[::-1]]), rounding(once), name)


def _single(x: Value) -> str:
    return "complex64" if aval_of(x).dtype.kind == "c" else "float32"


def has_smooth_outputs(case: Case) -> bool:
    """Whether every output has a derivative, in some operand."""
    return bool(case.live) and all(aval_of(y).inexact for y in case.outs)


@law(has_smooth_outputs)
def batched_derivatives(case: Case) -> None:
    """Mapping a push or a pull is a loop over examples; pulling through a map is that loop too."""
    live, rng = case.live, case.rng
    f = case.function(live)
    ts = case.random(case.at(live), rng)
    cts = case.random(case.outs, rng)

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
            _assert_mapped(_mapped(walk, xs, all_batched), want, name)
    for batched in _subsets(range(len(live))):
        xs = [_examples(x) if i in batched else x for i, x in enumerate(case.at(live))]
        seeds = [_examples(c) for c in cts]
        made = linearize(lambda *ys, on=batched: _mapped(f, ys, on), xs)
        places = range(len(live), len(live) + len(cts))
        want = _looped(pull, [*xs, *seeds], (*batched, *places))
        for i, (got, each, x) in enumerate(zip(made.pull(seeds), want, xs, strict=True)):
            total = each if i in batched else np.sum(each, axis=0)
            name = f"{case.text}: pulled through a map over operands {batched}, operand {i}"
            assert_close(dense(got, x), total, rounding(total), name)
