"""Solutions of equations that SciPy finds, differentiated by the equations.

A solution x of r(x, p) = 0 moves with the parameters by dx = -(dr/dx)^-1 dr/dp dp, whatever found
it (Griewank and Walther, "Evaluating Derivatives", 2nd ed. 2008, 15). A minimum is a root of the
gradient; where a bound holds it, that component's equation is x = bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vjpkit.control.custom import custom_rule
from vjpkit.core.aval import Aval, Value
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.scipy._calls import host
from vjpkit.transforms.derivatives import jvp
from vjpkit.transforms.jacobians import jacobian

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
        moved = jvp(lambda *p: residual(x, aids, p), values, ts)[1]
        slope = jacobian(lambda y: residual(y, aids, values))(x)
        n = max(1, int(np.prod(x.shape)))
        if moved.size != n:
            raise UnsupportedError(
                f"{label}: {moved.size} equations for {n} unknowns have no derivative"
                f"{at(calling_position())}.\nUse least_squares for more equations than unknowns."
            )
        if not x.shape:
            t = -moved / slope
        else:
            t = np.linalg.solve(-np.reshape(slope, (n, n)), np.reshape(moved, n))
        return (x, *aids), (np.reshape(t, x.shape), *[None] * len(aids))

    solved.defjvp(rule)
    return solved(*values)  # type: ignore[no-any-return]  # a tree


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
