"""The law of declared linearity."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.kinds import PiecewiseConstant, Ufunc
from vjpkit.testing.case import Case
from vjpkit.testing.compare import assert_close, rounding
from vjpkit.testing.laws.registry import law


def declares_linearity(case: Case) -> bool:
    """Whether there are operands in which the case is said to be linear."""
    masks = _masks(case) if case.operands else [()]
    return any(case.primitive.linear_in(mask, case.params) for mask in masks)


@law(declares_linearity)
def linear(case: Case) -> None:
    """It is linear in the operands that it declares itself linear in; without any, it is zero."""
    if not case.operands and case.primitive.linear_in((), case.params):
        for got in case.outs:
            assert_close(got, 0 * got, 0.0, f"{case.text}: declared zero")
    for mask in _masks(case):
        if case.primitive.linear_in(mask, case.params):
            name = f"{case.text}: declared linear in {mask}"
            for out, (got, want, scale) in zip(case.outs, _superposed(case, mask), strict=True):
                assert np.all(np.isnan(out) | ~np.isnan(got)), f"{name}: nan at other operands"
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
    """Operands in which a primitive is linear at every sample without saying so.

    One sample may look linear by its parameters; only ufuncs have none. Operands on which the value
    does not depend, beside others, are not asked for.
    """
    if cases and isinstance(cases[0].primitive, PiecewiseConstant):
        return []  # nobody asks: it has no tangents
    found: dict[tuple[bool, ...], list[bool]] = {}
    for case in cases:
        avals = [*case.avals, *map(aval_of, case.outs)]
        if not case.label.isdigit() or not all(a.size for a in avals):
            continue
        if all(aval_of(y).inexact for y in case.outs):
            for mask in _masks(case):
                declared = case.primitive.linear_in(mask, case.params)
                found.setdefault(mask, []).append(not declared and _looks_linear(case, mask))
    least = 1 if cases and isinstance(cases[0].primitive, Ufunc) else 2
    return [mask for mask, looks in found.items() if all(looks) and len(looks) >= least]


def _looks_linear(case: Case, mask: tuple[bool, ...]) -> bool:
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return _matters(case, mask) and all(
                np.allclose(got, want, rtol=1e-6, atol=1e-6)
                for got, want, _ in _superposed(case, mask)
            )
    except (ValueError, TypeError, ArithmeticError, np.linalg.LinAlgError):
        return False


def _matters(case: Case, mask: tuple[bool, ...]) -> bool:
    """Whether the value depends on each of several operands, or there is only one."""
    if sum(mask) == 1:
        return True
    others = case.random(case.avals, case.rng)

    def with_other(i: int) -> Sequence[Value]:
        return case.impl(*[others[j] if j == i else x for j, x in enumerate(case.operands)])

    return all(
        any(not np.array_equal(a, b) for a, b in zip(with_other(i), case.outs, strict=True))
        for i, m in enumerate(mask)
        if m
    )
