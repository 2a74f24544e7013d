"""Ordinary differential equations that SciPy solves, and their derivatives, which are such too.

A `Pass` is an initial value problem over the intervals between output times, forward or backward,
with jumps at these times; it may read the trajectories of the passes before it. A cascade of
passes is closed under differentiation, so that derivatives of any order and mode are cascades:

* forward: every pass z gets a second half, its variation, dz' = f_z dz + f_p dp;
* reverse: the adjoints follow in reversed order and directions. With directions d and the passes p
  from q on, l_q' = -d_q sum of d_p (df_p/dz_q)^T l_p, which jumps by the cotangents of z_q at
  the output times. Then l_q there is the cotangent of the jumps of z_q, and that of the parameters
  is the integral of sum of d_p (df_p/dp)^T l_p (Pontryagin; Hairer, Norsett, Wanner, "Solving
  Ordinary Differential Equations I", 2nd ed. 1993, I.14).

Every pass is solved in its own stable direction, and reads the others by their dense output:
nothing is integrated back to where it came from. Within an interval time is s from 0 to 1, so that
output times are parameters like others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vjpkit.control.custom import custom_rule
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.scipy._calls import Often, host
from vjpkit.scipy._namespace import scipy_module
from vjpkit.transforms.derivatives import jvp, vjp
from vjpkit.transforms.sides import FLOAT0

__all__ = ["Pass", "Solver", "cascade"]

Values = Sequence[Value]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Pass:
    """One initial value problem: dz/ds = ``rhs(values, i, s, *states)`` within interval i.

    ``states`` are those of the passes before it, and its own last. Components from number
    ``linear`` on are tangents or cotangents.
    """

    direction: int
    size: int
    linear: int
    rhs: Callable[..., Value]


@dataclass(frozen=True)
class Solver:
    """How derivatives are solved for: SciPy's method and tolerances."""

    method: Any
    rtol: float
    atol: float

    def interval(
        self, fun: Callable[[float, Array], Array], back: bool, z: Array, atol: Array, dense: bool
    ) -> tuple[Array, Any]:
        """The state at the other end of an interval, and its trajectory if it is asked for."""
        if not z.size:
            return z, lambda s: z
        span = (1.0, 0.0) if back else (0.0, 1.0)
        found = scipy_module("integrate").solve_ivp(
            fun, span, z, self.method, t_eval=span[1:], dense_output=dense, rtol=self.rtol,
            atol=atol,
        )  # fmt: skip
        if not found.success:
            raise RuntimeError(f"an equation for derivatives could not be solved: {found.message}")
        return found.y[:, -1], found.sol


def solved(passes: Sequence[Pass], jumps: Sequence[Array], values: Any, solver: Solver) -> Any:
    """The states of all passes at the output times, after their jumps, from plain values."""
    tangents = [np.max(np.abs(u[:, p.linear :]), initial=0.0) for p, u in zip(passes, jumps)]
    scale = max(tangents) or 1.0
    count = len(jumps[0])
    outs: list[Array] = []
    sols: list[list[Any]] = []
    for number, (p, u) in enumerate(zip(passes, jumps, strict=True)):
        back = p.direction < 0
        atol = solver.atol * np.where(np.arange(p.size) < p.linear, 1.0, scale)
        out = np.array(u, float)
        mine: list[Any] = [None] * (count - 1)
        rhs = Often(p.rhs)
        for i in reversed(range(count - 1)) if back else range(count - 1):
            before = [each[i] for each in sols]

            def fun(s: float, z: Array, i: int = i, before: Any = before, rhs: Any = rhs) -> Array:
                y = rhs(values, np.intp(i), s, *[sol(s) for sol in before], z)
                return np.asarray(y, float)

            last = number + 1 == len(passes)
            end, mine[i] = solver.interval(fun, back, out[i + back], atol, not last)
            out[i + 1 - back] += end
        outs.append(out)
        sols.append(mine)
    return tuple(outs)


def cascade(
    label: str,
    passes: Sequence[Pass],
    jumps: Sequence[Value],
    values: Values,
    solver: Solver,
    own: Callable[[Values], tuple[Array, ...]] | None = None,
    staging: set[int] | None = None,
) -> tuple[Value, ...]:
    """The states of passes at the output times, after their jumps, one row per time.

    ``own`` finds them from plain values, if SciPy has found them in its own way. ``staging`` is
    that of the cascade whose derivative this is: their rules are staged as those of one function.
    """
    several = len(jumps)
    avals = [Aval(u.shape, np.float64) for u in jumps]

    def run(*operands: Any) -> tuple[Array, ...]:
        values = operands[several:]
        if own is not None:
            return own(values)
        return solved(passes, operands[:several], values, solver)  # type: ignore[no-any-return]

    found = host(label, run, avals)

    def solution(jumps: Values, values: Values) -> tuple[Value, ...]:
        return tuple(found(*jumps, *values))

    def rule(primals: Any, tangents: Any) -> Any:
        jumps, values = primals
        moved, ts = tangents
        doubled = [varied(p, len(values)) for p in passes]
        starts = [np.concatenate([u, t], axis=1) for u, t in zip(jumps, moved, strict=True)]
        live = [t for v, t in zip(values, ts, strict=True) if aval_of(v).inexact]
        outs = cascade(label, doubled, starts, [*values, *live], solver, staging=ruled.staging)
        halves = [out[:, p.size :] for p, out in zip(passes, outs, strict=True)]
        return ruled(jumps, values), tuple(halves)

    def fwd(jumps: Values, values: Values) -> Any:
        return ruled(jumps, values), (jumps, values)

    def bwd(kept: Any, cts: Values) -> Any:
        jumps, values = kept
        both = [*passes, *adjoints(passes, values)]
        parameters = both[-1].size - passes[0].size
        more = list(cts[::-1])
        more[-1] = np.concatenate([more[-1], np.zeros((len(cts[0]), parameters))], axis=1)
        outs = cascade(label, both, [*jumps, *more], values, solver, staging=ruled.staging)
        outs = outs[several:][::-1]
        first, size = outs[0], passes[0].size
        back: list[Value | None] = []
        start = size
        for v in values:
            n = size_of(v)
            part = np.reshape(first[0, start : start + n], aval_of(v).shape) if is_real(v) else None
            start += n if is_real(v) else 0
            back.append(part)
        return (first[:, :size], *outs[1:]), tuple(back)

    solution.__name__ = label
    ruled = custom_rule(solution, jvp=rule, vjp=(fwd, bwd))
    if staging is not None:
        ruled.staging = staging
    return ruled(tuple(jumps), tuple(values))  # type: ignore[no-any-return]  # a tree


def is_real(v: Value) -> bool:
    """Whether a parameter has derivatives."""
    return bool(aval_of(v).inexact)


def size_of(v: Value) -> int:
    return int(np.prod(aval_of(v).shape, dtype=int))


def varied(p: Pass, count: int) -> Pass:
    """A pass and its variation; the tangents of its ``count`` parameters follow them."""

    def rhs(values: Values, i: int, s: float, *states: Value) -> Value:
        given = iter(values[count:])
        own = values[:count]
        ts = [next(given) if is_real(v) else np.zeros(aval_of(v).shape, FLOAT0) for v in own]
        sizes = [z.shape[0] // 2 for z in states]
        zs = [z[:n] for z, n in zip(states, sizes, strict=True)]
        dzs = [z[n:] for z, n in zip(states, sizes, strict=True)]

        def moving(own: Values, zs: Values) -> Value:
            return p.rhs(own, i, s, *zs)

        return np.concatenate(jvp(moving, (list(own), zs), (ts, dzs)))

    return Pass(p.direction, 2 * p.size, min(p.linear, p.size), rhs)


def adjoints(passes: Sequence[Pass], values: Values) -> list[Pass]:
    """The adjoints of passes, the last one's first; the parameters' are with the first one's."""
    several = len(passes)

    def adjoint(q: int) -> Pass:
        mine = passes[q]

        def rhs(values: Values, i: int, s: float, *states: Value) -> Value:
            zs = list(states[:several])
            costates = [c[: passes[q].size] for c in states[several:][::-1][:1]]
            costates += states[several:-1][::-1]  # of the passes from q on
            cts = [p.direction * c for p, c in zip(passes[q:], costates, strict=True)]
            real = [k for k, v in enumerate(values) if is_real(v)] if q == 0 else []

            def moving(z: Value, *some: Value) -> list[Value]:
                full, own = [*zs[:q], z, *zs[q + 1 :]], list(values)
                for k, v in zip(real, some, strict=True):
                    own[k] = v
                return [p.rhs(own, i, s, *full[: n + 1]) for n, p in enumerate(passes)][q:]

            pulled = vjp(moving, zs[q], *[values[k] for k in real])[1](cts)
            parts = [np.reshape(part, -1) for part in pulled]
            return -mine.direction * np.concatenate(parts)

        more = sum([size_of(v) for v in values if is_real(v)]) if q == 0 else 0
        return Pass(-mine.direction, mine.size + more, 0, rhs)

    return [adjoint(q) for q in reversed(range(several))]
