"""Numerical derivatives along a line, each with an estimate of its own error.

Differences are taken at several steps and extrapolated to step zero (Richardson's tableau; of its
entries the one that changed least is kept, as in Ridders 1982), element by element. Where the
function leaves its domain, the step is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of

__all__ = ["FINE", "STEPS", "Array", "Estimate", "central", "complex_step", "one_sided", "wide"]

Array = np.ndarray[Any, np.dtype[Any]]
Line = Callable[[float], Sequence[Value]]

STEPS = tuple(0.05 * 0.5**k for k in range(8))
"""From 0.05, halved seven times: for functions and directions of size 1."""

FINE = tuple(1e-4 * 0.5**k for k in range(8))
"""Near a kink only these see the point itself; rounding hurts them first."""

_COMPLEX_STEP = 1e-30


@dataclass(frozen=True, slots=True)
class Estimate:
    """A derivative, and how far off each of its elements may be."""

    value: Array
    error: Array


def wide(x: Value) -> Any:
    """``x`` in double precision or better, so that differences of it mean something.

    >>> wide(np.float32(0.5)).dtype
    dtype('float64')
    """
    aval = aval_of(x)
    if not aval.inexact:
        return x
    return np.asarray(x).astype(np.result_type(aval.dtype, np.float64))[()]


def central(line: Line, steps: Sequence[float] = STEPS) -> tuple[Estimate, ...]:
    """d/dh of every output of ``line(h)`` at h = 0, from both sides.

    At a kink it is the mean of the two one-sided derivatives.

    >>> estimate, = central(lambda h: [np.exp(2 * h)])
    >>> abs(estimate.value - 2) < 1e-10
    np.True_
    """

    def difference(h: float) -> list[Estimate]:
        pairs = zip(_values(line, h), _values(line, -h), strict=True)
        return [_quotient(a, b, 2 * h) for a, b in pairs]

    return _extrapolate(difference, steps, order=2)


def one_sided(line: Line, side: int, steps: Sequence[float] = STEPS) -> tuple[Estimate, ...]:
    """The derivative from the right (``side=1``) or the left (``side=-1``).

    >>> [one_sided(lambda h: [abs(h)], side)[0].value for side in (1, -1)]
    [array(1.), array(-1.)]
    """
    origin = _values(line, 0.0)

    def difference(h: float) -> list[Estimate]:
        pairs = zip(_values(line, side * h), origin, strict=True)
        return [_quotient(a, b, side * h) for a, b in pairs]

    return _extrapolate(difference, steps, order=1)


def complex_step(line: Callable[[complex], Sequence[Value]]) -> tuple[Array, ...]:
    """The derivative of an analytic function that is real on the reals, to rounding.

    f(ih) = f(0) + i h f'(0) + O(h^2) has it in its imaginary part, without any difference.

    >>> complex_step(lambda h: [np.exp(2 * h)])
    (np.float64(2.0),)
    """
    return tuple(np.asarray(y).imag / _COMPLEX_STEP for y in line(_COMPLEX_STEP * 1j))


def _values(line: Line, h: float) -> list[Array]:
    """The outputs at ``h`` as arrays that can be subtracted."""
    outs = [np.asarray(y) for y in line(h)]
    return [y if y.dtype.kind in "fc" else y.astype(np.float64) for y in outs]


def _quotient(a: Array, b: Array, h: float) -> Estimate:
    """``(a - b) / h``, and what rounding of ``a`` and ``b`` does to it."""
    noise = np.finfo(a.dtype).eps * np.maximum(abs(a), abs(b)) / abs(h)
    return Estimate((a - b) / h, noise)


def _extrapolate(
    difference: Callable[[float], list[Estimate]], steps: Sequence[float], order: int
) -> tuple[Estimate, ...]:
    """Richardson's extrapolation of differences whose error is a series in ``h**order``."""
    found: list[_Tableau] | None = None
    for h in steps:
        try:
            with np.errstate(all="ignore"):
                row = difference(h)
        except (np.linalg.LinAlgError, FloatingPointError, ZeroDivisionError):
            continue  # out of the domain: a smaller step may stay in it
        if found is None:
            found = [_Tableau(order) for _ in row]
        for tableau, entry in zip(found, row, strict=True):
            tableau.add(h, entry)
    if found is None:
        raise ArithmeticError(f"the function cannot be evaluated at steps down to {min(steps)}")
    return tuple(tableau.estimate(single=len(steps) == 1) for tableau in found)


class _Tableau:
    """Differences at shrinking steps, extrapolated; the steadiest entry is the result."""

    def __init__(self, order: int) -> None:
        self.order = order
        self.steps: list[float] = []
        self.last: list[Array] = []
        self.value: Array | None = None
        self.error: Array | None = None

    def add(self, h: float, difference: Estimate) -> None:
        """The differences at one more step, and what follows from it and the steps before."""
        if not np.isfinite(difference.value).all():
            self.steps, self.last = [], []
            return
        self.steps.append(h)
        row = [difference.value]
        if self.value is None or self.error is None:
            self.value, self.error = row[0], np.full(row[0].shape, np.inf)
        for j, older in enumerate(self.last):
            ratio = (self.steps[-2 - j] / h) ** self.order
            new = row[j] + (row[j] - older) / (ratio - 1)
            error = np.maximum(abs(new - row[j]), abs(new - older)) + difference.error
            better = error < self.error
            self.value = np.where(better, new, self.value)
            self.error = np.where(better, error, self.error)
            row.append(new)
        self.last = row

    def estimate(self, single: bool) -> Estimate:
        """The result; a ``single`` step leaves nothing to judge its error by, so it is called 0."""
        if self.value is None or self.error is None:
            raise ArithmeticError("the function is not finite on both sides of the point")
        if single:
            return Estimate(self.value, np.zeros(self.value.shape))
        return Estimate(self.value, self.error)
