"""The gradient against finite differences, leaf by leaf.

For an output y a cotangent u is drawn (it is 1 for a scalar), and for every leaf x of the arguments
a direction v. The pullback says how fast u.y changes along v: (uJ)v. Differences of the function
itself, run by NumPy alone, say it too. Where the slopes from the two sides of the point disagree,
the function has a kink there, and any slope between the two is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vjpkit.cli.screen import Cell, Progress, Screen, clipped
from vjpkit.cli.target import Leaf, Target
from vjpkit.core.aval import Value, aval_of
from vjpkit.pytree import flatten
from vjpkit.testing.compare import magnitude, pairing, random_like
from vjpkit.testing.numeric import STEPS, Estimate, central, one_sided, wide
from vjpkit.transforms.derivatives import vjp
from vjpkit.transforms.linear import LinearMap

__all__ = ["Finding", "agreement", "cotangent", "direction", "explanation", "pulled_back", "report"]

SHOWN_STEPS = (1e-2, 1e-4, 1e-6)
_FINE = tuple(1e-4 * 0.5**k for k in range(8))
_ELEMENTS = 100
"""How many elements of a leaf are looked at one by one, to name the worst."""
_ROUNDING = 1e-9
"""What rounding may do to a slope, in terms of the value: far above eps / step."""
_TOLERANCE = {2: 5e-2, 4: 1e-3}
_DEFAULT_TOLERANCE = 1e-6
_SEED = 20240229


def direction(x: Value, rng: np.random.Generator) -> Any:
    """A random tangent of a leaf, of the leaf's own size; of a real number simply the size."""
    aval = aval_of(x)
    t = np.ones(aval.shape, aval.dtype)[()]
    return (t if aval.size == 1 and aval.dtype.kind == "f" else random_like(x, rng)) * _size(x)


def _size(x: Value) -> Any:
    """The size of a leaf, by which its steps are scaled; of its real dtype."""
    kind = np.empty(0, aval_of(x).dtype).real.dtype.type
    largest = float(np.max(abs(np.asarray(x)), initial=0.0))
    return kind(largest if 0 < largest < np.inf else 1)


def cotangent(target: Target, rng: np.random.Generator) -> list[Value]:
    """One number or array per output: 1 for a gradient, random otherwise."""
    if target.is_scalar:
        y = target.live_outputs[0][1]
        return [aval_of(y).dtype.type(1)]
    return [random_like(y, rng) for _, y in target.live_outputs]


def pulled_back(pullback: LinearMap, cts: Sequence[Value]) -> tuple[Value, ...]:
    """``uJ``, one cotangent per moving leaf."""
    return tuple(pullback(cts[0] if len(cts) == 1 else tuple(cts)))


# ---------------------------------------------------------------------------------------- one slope


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
        if self._near(coarse):
            return coarse
        fine = self._central(_FINE)
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
            left, right = (one_sided(self.line, side, _FINE)[0] for side in (-1, 1))
            closer = [one_sided(self.line, side, _FINE[4:])[0] for side in (-1, 1)]
        except ArithmeticError:
            return None
        a, b = float(left.value), float(right.value)
        noise = 10 * float(left.error + right.error)
        noise += 10 * sum(abs(float(x.value) - y) for x, y in zip(closer, (a, b)))  # a jump's
        small = 1e-3 * max(abs(a), abs(b), self.size) + 1e3 * _ROUNDING * self.scale
        return (a, b) if abs(a - b) > noise + small else None

    @property
    def off(self) -> float:
        return abs(self.got - float(self.estimate.value))

    @property
    def verdict(self) -> str:
        """agrees, kink, unsettled (the differences say nothing), or DIFFERS."""
        if not self.repeatable:
            return "unsettled"
        if not np.isfinite(self.got):
            return "DIFFERS"
        if self.sides is not None:
            low, high = sorted(self.sides)
            slack = self._allowed(self.estimate)
            return "kink" if low - slack <= self.got <= high + slack else "DIFFERS"
        loose = 1e-3 * max(self.size, abs(self.got)) + 1e3 * _ROUNDING * self.scale
        if float(self.estimate.error) > loose:
            return "unsettled"
        return "agrees" if self._near(self.estimate) else "DIFFERS"

    def _allowed(self, estimate: Estimate) -> float:
        size = max(self.size, abs(float(estimate.value)))
        return 10 * float(estimate.error) + self.tolerance * size + _ROUNDING * self.scale

    def _near(self, estimate: Estimate) -> bool:
        return abs(self.got - float(estimate.value)) <= self._allowed(estimate)

    def at_step(self, h: float) -> float:
        """The relative difference between the pullback and a plain central difference."""
        return self.relative(abs(self.got - float(self._central((h,)).value)))

    def relative(self, off: float) -> float:
        return off / (max(abs(self.got), abs(float(self.estimate.value))) or 1.0)


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
            # Copies, because the function may write to its arguments.
            xs = [x.copy() if isinstance(x, np.ndarray) else x for x in self.target.xs]
            xs[self.i] = wide(xs[self.i]) + h * self.t
            outs = flatten(self.target.flat(*xs))[0]
            found = (np.float64(sum(pairing(c, y) for c, y in zip(self.cts, outs, strict=True))),)
            self.known[h] = found
        return found


# ----------------------------------------------------------------------------------------- one leaf


@dataclass(frozen=True)
class Finding:
    """What the check says of one leaf: along a random direction, and of its worst element."""

    leaf: Leaf
    slope: Slope
    worst: Slope | None
    counts: tuple[int, int]
    """How many of the elements looked at are like the worst, and how many were looked at."""

    @property
    def verdict(self) -> str:
        return self.slope.verdict if self.worst is None else self.worst.verdict

    @property
    def good(self) -> bool:
        return self.verdict in ("agrees", "kink")


def agreement(target: Target, progress: Progress) -> list[Finding]:
    """Compare the pullback with differences in every moving leaf."""
    _, pullback = vjp(target.flat, *target.xs)
    probe = Probe.of(target)
    pulled = pulled_back(pullback, probe.cts)
    findings = []
    for i, (leaf, ct) in enumerate(zip(target.moving, pulled, strict=True)):
        progress(f"differences in {leaf.name} ({i + 1} of {len(pulled)})")
        if np.size(leaf.value):
            findings.append(probe.finding(i, leaf, ct))
    return findings


@dataclass(frozen=True)
class Probe:
    """What is the same for all leaves."""

    target: Target
    cts: Sequence[Value]
    rng: np.random.Generator
    scale: float
    tolerance: float
    repeatable: bool

    @classmethod
    def of(cls, target: Target) -> Probe:
        rng = np.random.default_rng(_SEED)
        cts = cotangent(target, rng)
        ys = [y for _, y in target.live_outputs]
        scale = sum(magnitude(c, y) for c, y in zip(cts, ys, strict=True))
        tolerance = max(
            _TOLERANCE.get(np.empty(0, aval_of(x).dtype).real.dtype.itemsize, _DEFAULT_TOLERANCE)
            for x in (*target.xs, *cts)
        )
        again = flatten(target.flat(*target.xs))[0]
        moved = sum(magnitude(c, y - z) for c, y, z in zip(cts, ys, again, strict=True))
        return cls(target, cts, rng, scale, tolerance, moved <= _ROUNDING * scale)

    def finding(self, i: int, leaf: Leaf, ct: Value) -> Finding:
        """A random direction; where it does not simply agree, the elements one by one."""
        slope = self.slope(i, ct, direction(leaf.value, self.rng), None)
        if slope.verdict == "agrees" or not self.repeatable:
            return Finding(leaf, slope, None, (0, 0))
        slopes = [self.slope(i, ct, t, place) for place, t in _elements(leaf.value, self.rng)]
        for verdict in ("DIFFERS", "kink"):
            found = [s for s in slopes if s.verdict == verdict]
            if found:
                worst = max(found, key=lambda s: s.off)
                return Finding(leaf, slope, worst, (len(found), len(slopes)))
        return Finding(leaf, slope, None, (0, len(slopes)))

    def slope(self, i: int, ct: Value, t: Value, place: tuple[int, ...] | None) -> Slope:
        got, size = pairing(ct, t), magnitude(ct, t)
        line = Line(self.target, self.cts, i, t)
        return Slope(got, size, self.scale, self.tolerance, place, self.repeatable, line)


def _elements(x: Value, rng: np.random.Generator) -> Iterator[tuple[tuple[int, ...], Value]]:
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
            t[place] = unit * _size(x)
            yield place, t[()]


# --------------------------------------------------------------------------------------- the report


def explanation(target: Target) -> str:
    """What the numbers of the table are."""
    u = "" if target.is_scalar else "u random; "
    return f"{u}slopes along random directions; how far off at step h"


_STYLE = {"agrees": "good", "kink": "kink", "unsettled": "bad", "DIFFERS": "bad"}
_NAMES = 24


def report(screen: Screen, findings: Sequence[Finding]) -> bool:
    """Print the table and what it means; whether all is well."""
    steps = [f"h={h:.0e}".replace("e-0", "e-") for h in SHOWN_STEPS]
    header = ["argument", "pullback", "differences", *steps, "h -> 0", ""]
    screen.table(header, [_row(f) for f in findings], "<>>>>>><")
    screen.line()
    for finding in findings:
        _explain(screen, finding)
    by_verdict = {v: [f.leaf.name for f in findings if f.verdict == v] for v in _STYLE}
    wrong, noisy, bent = (by_verdict[v] for v in ("DIFFERS", "unsettled", "kink"))
    if wrong:
        screen.say(f"The pullback and the differences DISAGREE in {', '.join(wrong)}.", "bad")
    if noisy:
        screen.say(f"Nothing can be said about {', '.join(noisy)}.", "bad")
    if not wrong and not noisy:
        remark = f", up to a kink in {', '.join(bent)}" if bent else ""
        screen.say(f"The pullback agrees with finite differences{remark}.", "good")
    return not wrong and not noisy


def _row(finding: Finding) -> list[str]:
    slope, unit = finding.slope, float(_size(finding.leaf.value))
    offs = [_digits(slope.at_step(h)) for h in SHOWN_STEPS]
    return [
        Cell(clipped(finding.leaf.name, _NAMES), "name"),
        f"{slope.got / unit:.8g}",
        f"{float(slope.estimate.value) / unit:.8g}",
        *offs,
        _digits(slope.relative(slope.off)),
        Cell(finding.verdict, _STYLE[finding.verdict]),
    ]


def _digits(relative: float) -> str:
    return "exact" if relative == 0 else f"{relative:.0e}"


def _explain(screen: Screen, finding: Finding) -> None:
    """What is wrong, or bent, and where."""
    slope, name = finding.worst or finding.slope, finding.leaf.name
    if finding.verdict == "agrees":
        return
    if not slope.repeatable:
        text = "the function gives another value when it is called again; fix its random seed"
    elif finding.verdict == "unsettled":
        text = "differences at shrinking steps do not settle; the function is not smooth here, or "
        text += "has no values on both sides of this point"
    else:
        name += str(list(slope.place)) if slope.place else ""
        text = _numbers(slope, float(_size(finding.leaf.value)))
        count, total = finding.counts
        if count > 1:
            text += f" ({count} such elements among {total})"
    screen.say(f"{name}: {text}.", _STYLE[finding.verdict])


def _numbers(slope: Slope, unit: float) -> str:
    """The derivative in one element (or along one direction) by the pullback, and otherwise."""
    got = f"{slope.got / unit:.8g}"
    if slope.sides is not None:
        left, right = (side / unit for side in slope.sides)
        return (
            f"a kink, slope {left:.6g} from the left and {right:.6g} from the right; "
            f"the pullback takes {got}"
        )
    value, error = (float(x) / unit for x in (slope.estimate.value, slope.estimate.error))
    return f"the pullback says {got}, differences say {value:.8g} ± {error:.0e}"
