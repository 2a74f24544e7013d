"""Solutions of equations that SciPy finds, differentiated by the equations.

A solution x of r(x, p) = 0 moves with the parameters by dx = -(dr/dx)^-1 dr/dp dp, whatever found
it (Griewank and Walther, "Evaluating Derivatives", 2nd ed. 2008, 15). A minimum is a root of the
gradient; where a bound holds it, that component's equation is x = bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from vjpkit.control.custom import SymbolicZero, custom_rule
from vjpkit.core.aval import Aval, Value
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.core.rows import innermost
from vjpkit.ops.ill_posed import warn
from vjpkit.scipy._calls import host
from vjpkit.transforms.derivatives import jvp
from vjpkit.transforms.jacobians import jacobian
from vjpkit.transforms.staged import is_abstract

__all__ = ["constant", "implicit"]

Residual = Callable[[Value, Sequence[Value], Sequence[Value]], Value]


def implicit(
    label: str,
    solve: Callable[..., tuple[Any, ...]],
    residual: Residual,
    values: Sequence[Value],
    avals: Sequence[Aval] | None,
) -> tuple[Any, ...]:
    """``(x, *aids)`` of ``solve(*values)``, where ``residual(x, aids, values)`` is zero.

    ``solve`` gets plain values. ``aids`` have no derivative: which bounds hold, for instance.
    """
    found = host(label, solve, avals)

    def solution(*values: Value) -> tuple[Any, ...]:
        return tuple(found(*values))

    solution.__name__ = label
    solved = custom_rule(solution)

    def rule(values: tuple[Value, ...], ts: tuple[Value, ...]) -> Any:
        x, *aids = solved(*values)
        moved = along(lambda *p: residual(x, aids, p), values, ts)
        if moved is None:
            return (x, *aids), (None, *[None] * len(aids))
        slope = jacobian(lambda y: residual(y, aids, values))(x)
        n = max(1, int(np.prod(x.shape)))
        if moved.size != n:
            raise UnsupportedError(
                f"{label}: {moved.size} equations for {n} unknowns have no derivative"
                f"{at(calling_position())}.\nUse least_squares for more equations than unknowns."
            )
        slope = np.reshape(slope, (n, n))
        look(label, x, slope, residual(x, aids, values))
        t = np.linalg.solve(-slope, np.reshape(moved, n))
        return (x, *aids), (np.reshape(t, x.shape), *[None] * len(aids))

    solved.defjvp(rule, symbolic_zeros=True)
    return solved(*values)  # type: ignore[no-any-return]  # a tree


def along(
    f: Callable[..., Value], values: Sequence[Value], ts: Sequence[Value | SymbolicZero]
) -> Value | None:
    """The derivative of ``f`` along tangents, None where all of them are zero."""
    live = [i for i, t in enumerate(ts) if not isinstance(t, SymbolicZero)]
    if not live:
        return None

    def moving(*some: Value) -> Value:
        full = list(values)
        for i, v in zip(live, some, strict=True):
            full[i] = v
        return f(*full)

    at_point, ts = tuple([values[i] for i in live]), tuple([ts[i] for i in live])
    return jvp(moving, at_point, ts)[1]


def look(label: str, x: Value, slope: Value, residual: Value) -> None:
    """Warn where Newton's step from a solution is long: SciPy stopped before it was there."""
    if any(map(is_abstract, (x, slope, residual))):
        return
    x, slope, residual = map(innermost, (x, slope, residual))
    with suppress(np.linalg.LinAlgError):
        step = np.max(np.abs(np.linalg.solve(slope, np.reshape(residual, -1))), initial=0.0)
        if step > 1e-2 * max(1.0, np.max(np.abs(x), initial=0.0)):
            warn(
                f"{label}: SciPy stopped {step:.1g} before a solution{at(calling_position())}.\n"
                "Derivatives are those of solutions: say by its tolerances that it is to go on."
            )


def constant(
    label: str, function: Callable[..., tuple[Any, ...]], values: Sequence[Value]
) -> tuple[Any, ...]:
    """What a function returns of traced values, with derivative zero: integers."""

    def fixed(*values: Value) -> tuple[Any, ...]:
        return tuple(function(*values))

    fixed.__name__ = label
    ruled = custom_rule(fixed)

    def rule(values: tuple[Value, ...], ts: tuple[Value, ...]) -> Any:
        outs = ruled(*values)
        return outs, tuple([None for _ in outs])

    ruled.defjvp(rule)
    return ruled(*values)  # type: ignore[no-any-return]  # a tree
