"""The gradient against finite differences, leaf by leaf.

For an output y a cotangent u is drawn (it is 1 for a scalar), and for every leaf x of the arguments
a direction v. The pullback says how fast u.y changes along v: (uJ)v. Differences of the function
itself, run by NumPy alone, say it too. Where the slopes from the two sides of the point disagree,
the function has a kink there, and any slope between the two is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vjpkit.cli.screen import Cell, Progress, Screen, clipped
from vjpkit.cli.slope import ROUNDING, Line, Slope, direction, elements
from vjpkit.cli.target import Leaf, Target
from vjpkit.core.aval import Value, aval_of
from vjpkit.testing.compare import magnitude, pairing, random_like, size_of
from vjpkit.transforms.derivatives import vjp
from vjpkit.transforms.linear import LinearMap

__all__ = ["Finding", "agreement", "cotangent", "explanation", "pulled_back", "report"]

_SHOWN_STEPS = (1e-2, 1e-4, 1e-6)
_TOLERANCE = {2: 5e-2, 4: 1e-3}
"""How exact a derivative is expected to be, by the bytes of a real number."""
_DEFAULT_TOLERANCE = 1e-6
_SEED = 20240229


def cotangent(target: Target, rng: np.random.Generator) -> list[Value]:
    """One number or array per output: 1 for a gradient, random otherwise."""
    if target.is_scalar:
        y = target.live_outputs[0][1]
        return [aval_of(y).dtype.type(1)]
    return [random_like(y, rng) for _, y in target.live_outputs]


def pulled_back(pullback: LinearMap, cts: Sequence[Value]) -> tuple[Value, ...]:
    """``uJ``, one cotangent per moving leaf."""
    return tuple(pullback(cts[0] if len(cts) == 1 else tuple(cts)))


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
        again = target.plain(*target.xs)
        moved = sum(magnitude(c, y - z) for c, y, z in zip(cts, ys, again, strict=True))
        return cls(target, cts, rng, scale, tolerance, moved <= ROUNDING * scale)

    def finding(self, i: int, leaf: Leaf, ct: Value) -> Finding:
        """A random direction; where it does not simply agree, the elements one by one."""
        slope = self.slope(i, ct, direction(leaf.value, self.rng), None)
        if slope.verdict == "agrees" or not self.repeatable:
            return Finding(leaf, slope, None, (0, 0))
        slopes = [self.slope(i, ct, t, place) for place, t in elements(leaf.value, self.rng)]
        for verdict in ("DIFFERS", "kink"):
            found = [s for s in slopes if s.verdict == verdict]
            if found:
                worst = max(found, key=lambda s: s.off)
                return Finding(leaf, slope, worst, (len(found), len(slopes)))
        return Finding(leaf, slope, None, (0, len(slopes)))

    def slope(self, i: int, ct: Value, t: Value, place: tuple[int, ...] | None) -> Slope:
        """What is known along ``t``, which is zero but at ``place``, if there is one."""
        line = Line(self.target, self.cts, i, t)
        if place is not None:  # the others say nothing, not even inf * 0
            ct, t = np.asarray(ct)[place], np.asarray(t)[place]
        with np.errstate(invalid="ignore"):
            got, size = pairing(ct, t), magnitude(ct, t)
        return Slope(got, size, self.scale, self.tolerance, place, self.repeatable, line)


# --------------------------------------------------------------------------------------- the report


def explanation(target: Target) -> str:
    """What the numbers of the table are."""
    u = "" if target.is_scalar else "u random; "
    return f"{u}slopes along random directions; how far off at step h"


_STYLE = {"agrees": "good", "kink": "kink", "unsettled": "bad", "DIFFERS": "bad"}
_NAMES = 24


def report(screen: Screen, findings: Sequence[Finding]) -> bool:
    """Print the table and what it means; whether all is well."""
    steps = [f"h={h:.0e}".replace("e-0", "e-") for h in _SHOWN_STEPS]
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
    slope, unit = finding.slope, float(size_of(finding.leaf.value))
    offs = [_digits(slope.at_step(h)) for h in _SHOWN_STEPS]
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
    elif finding.verdict == "unsettled" and not np.isfinite(slope.got):
        text = "the pullback is not finite here, nor are differences; choose another point"
    elif finding.verdict == "unsettled":
        text = "differences at shrinking steps do not settle; the function is not smooth here, or "
        text += "has no values on both sides of this point"
    else:
        name += str(list(slope.place)) if slope.place else ""
        text = _numbers(slope, float(size_of(finding.leaf.value)))
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
