"""One slope of a function, by its pullback and by differences of the function itself.

Differences are taken at coarse steps and at fine ones: near kinks only the fine ones see the point
itself, while rounding hurts these first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vjpkit.cli.target import Target
from vjpkit.core.aval import Value, aval_of
from vjpkit.testing.compare import pairing, random_like, size_of
from vjpkit.testing.numeric import FINE, STEPS, Estimate, central, one_sided, wide

__all__ = ["ROUNDING", "Line", "Slope", "direction", "elements"]

ROUNDING = 1e-9
"""What rounding may do to a slope, in terms of the value: far above eps / step."""
_ELEMENTS = 100
"""How many elements of a leaf are looked at one by one, to name the worst."""


def direction(x: Value, rng: np.random.Generator) -> Any:
    """A random tangent of a leaf, of the leaf's own size; of a real number simply the size."""
    aval = aval_of(x)
    t = np.ones(aval.shape, aval.dtype)[()]
    return (t if aval.size == 1 and aval.dtype.kind == "f" else random_like(x, rng)) * size_of(x)


def elements(x: Value, rng: np.random.Generator) -> Iterator[tuple[tuple[int, ...], Value]]:
    """Directions along single elements: all of them, or as many as one can look at."""
    shape, size = np.shape(x), int(np.size(x))
    numbers = np.arange(size)
    if size > _ELEMENTS:
        numbers = np.sort(rng.choice(size, _ELEMENTS, replace=False))
    units = (1, 1j) if aval_of(x).dtype.kind == "c" else (1,)
    for k in numbers:
        place = tuple(int(n) for n in np.unravel_index(k, shape))
        for unit in units:
            t = np.zeros(shape, aval_of(x).dtype)
            t[place] = unit * size_of(x)
            yield place, t[()]


class Line:
    """``u.f`` along a direction in one leaf, as a function of the step; values are kept."""

    def __init__(self, target: Target, cts: Sequence[Value], i: int, t: Value) -> None:
        self.target = target
        self.cts = cts
        self.i = i
        self.t = wide(t)
        self.known: dict[float, tuple[Value]] = {}

    def __call__(self, h: float) -> tuple[Value]:
        found = self.known.get(h)
        if found is None:
            xs = list(self.target.xs)
            xs[self.i] = wide(xs[self.i]) + h * self.t
            outs = self.target.plain(*xs)
            found = (np.float64(sum(pairing(c, y) for c, y in zip(self.cts, outs, strict=True))),)
            self.known[h] = found
        return found


@dataclass(frozen=True)
class Slope:
    """What is known of the derivative along one direction."""

    got: float
    """From the pullback."""
    size: float
    """Of the terms that were added up for it."""
    scale: float
    """Of the function's value."""
    tolerance: float
    place: tuple[int, ...] | None
    repeatable: bool
    """Whether the function gives the same value when it is called again."""
    line: Line

    @cached_property
    def estimate(self) -> Estimate:
        """Differences at coarse steps, or at fine ones where only these say the same."""
        coarse = self._central(STEPS)
        if self._near(coarse) and self._settled(coarse):
            return coarse
        fine = self._central(FINE)
        return fine if self._near(fine) or fine.error < coarse.error else coarse

    def _central(self, steps: Sequence[float]) -> Estimate:
        try:
            return central(self.line, steps)[0]
        except ArithmeticError:  # the point is on the edge of the function's domain
            return Estimate(np.array(np.nan), np.array(np.inf))

    @cached_property
    def sides(self) -> tuple[float, float] | None:
        """The slopes from the left and from the right, where they disagree."""
        try:
            left, right = (one_sided(self.line, side, FINE)[0] for side in (-1, 1))
            closer = [one_sided(self.line, side, FINE[4:])[0] for side in (-1, 1)]
        except ArithmeticError:
            return None
        a, b = float(left.value), float(right.value)
        noise = 10 * float(left.error + right.error)
        noise += 10 * sum(abs(float(x.value) - y) for x, y in zip(closer, (a, b)))  # a jump's
        small = 1e-3 * max(abs(a), abs(b), self.size) + 1e-6 * self.variation
        small += 1e3 * ROUNDING * self.scale
        return (a, b) if abs(a - b) > noise + small else None

    @property
    def off(self) -> float:
        return abs(self.got - float(self.estimate.value))

    @cached_property
    def variation(self) -> float:
        """How steep the function is at some distance, which says what counts as a small slope."""
        origin = self.line(0.0)[0]
        slopes = [abs(float(self.line(h)[0] - origin)) / h for h in (STEPS[0], FINE[0])]
        return max((x for x in slopes if np.isfinite(x)), default=0.0)

    @property
    def verdict(self) -> str:
        """agrees, kink, unsettled (the differences say nothing), or DIFFERS."""
        if not self.repeatable:
            return "unsettled"
        if not np.isfinite(self.got):
            return "DIFFERS" if np.isfinite(self.estimate.error) else "unsettled"
        if self.sides is not None:
            low, high = sorted(self.sides)
            slack = self._allowed(self.estimate)
            return "kink" if low - slack <= self.got <= high + slack else "DIFFERS"
        if not self._settled(self.estimate):
            return "unsettled"
        return "agrees" if self._near(self.estimate) else "DIFFERS"

    def _settled(self, estimate: Estimate) -> bool:
        small = 1e-3 * max(self.size, self.variation) + 1e3 * ROUNDING * self.scale
        return float(estimate.error) <= small

    def _near(self, estimate: Estimate) -> bool:
        off = abs(self.got - float(estimate.value))
        return bool(np.isfinite(self.got)) and off <= self._allowed(estimate)

    def _allowed(self, estimate: Estimate) -> float:
        size = max(self.size, abs(float(estimate.value)))
        return 10 * float(estimate.error) + self.tolerance * size + ROUNDING * self.scale

    def at_step(self, h: float) -> float:
        """The relative difference between the pullback and a plain central difference."""
        return self.relative(abs(self.got - float(self._central((h,)).value)))

    def relative(self, off: float) -> float:
        """``off`` in terms of the slope, or of what is small for this function."""
        small = 1e-3 * self.variation
        return off / (max(abs(self.got), abs(float(self.estimate.value)), small) or 1.0)
