"""Arithmetic of power series that several primitives share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.rows import stretch

__all__ = ["fitted", "solved_terms"]

Maybe = Sequence[Value | None]


def fitted(t: Value | None, out: Value) -> Value | None:
    """A term in the shape and dtype of the output."""
    if t is None:
        return None
    aval = aval_of(out)
    return stretch(t, aval.shape, aval.dtype)


def solved_terms(
    series: Sequence[Maybe | None],
    out: Value,
    product: Callable[[Value, Value], Value],
    solve: Callable[[Value], Value],
) -> Maybe:
    """Terms of the y with v y = u: ``v_0 y_k = u_k - sum of v_j y_(k-j)``.

    ``series`` are those of u and v after the first coefficients, None for a constant; ``solve``
    divides by v_0.
    """
    u, v = series
    order = len(u if u is not None else v or ())
    ys: list[Value | None] = [out]
    for k in range(1, order + 1):
        rest = None if u is None else u[k - 1]
        for j in range(1, k + 1):
            if v is not None and (w := v[j - 1]) is not None and (y := ys[k - j]) is not None:
                moved = product(w, y)
                rest = -moved if rest is None else rest - moved
        ys.append(None if rest is None else fitted(solve(rest), out))
    return ys[1:]
