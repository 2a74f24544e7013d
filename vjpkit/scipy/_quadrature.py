"""Integrals that SciPy computes, differentiated under the integral sign (Leibniz).

d of the integral of f from a to b is f(b) db - f(a) da + the integral of df. The last one is
computed as that of the whole gradient of f in its parameters, one array that SciPy's adaptive rule
integrates at once; it is such an integral itself, so that there are derivatives of any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vjpkit.control.custom import SymbolicZero, custom_rule
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.scipy._calls import Often, host, value_of
from vjpkit.scipy._namespace import scipy_module
from vjpkit.transforms.jacobians import jacobian

__all__ = ["Precision", "integral"]

Values = Sequence[Value]
_ERROR = Aval((), np.float64)


@dataclass(frozen=True)
class Precision:
    """How exactly the integrals of derivatives are wanted, and where integrands are not smooth."""

    epsabs: float
    epsrel: float
    points: Any = None

    def integrated(self, f: Callable[[float], Any], a: Any, b: Any) -> tuple[Any, Any]:
        """The integral of a vector, and SciPy's estimate of its error."""
        found = scipy_module("integrate").quad_vec(
            f, a, b, max(self.epsabs, 1e-13), self.epsrel, norm="max", points=self.points
        )
        return np.asarray(found[0], float), np.float64(found[1])


def integral(
    label: str,
    f: Callable[[Values, Value], Value],
    ends: tuple[Value, Value],
    values: Values,
    precision: Precision,
    shape: tuple[int, ...] | None,
    own: Callable[..., tuple[Any, Any]] | None = None,
    staging: set[int] | None = None,
) -> tuple[Value, Value]:
    """The integral of ``f(values, x)`` between two ends, and an estimate of its error.

    ``shape`` is that of ``f``, if it is known. ``own(a, b, *values)`` computes both from plain
    values, if SciPy has a way of its own. ``staging`` is that of the integral whose derivative
    this is.
    """

    def run(a: Any, b: Any, *values: Any) -> tuple[Any, Any]:
        if own is not None:
            return own(a, b, *values)
        often = Often(f)
        return precision.integrated(lambda x: np.asarray(often(values, x), float), a, b)

    found = host(label, run, None if shape is None else [Aval(shape, np.float64), _ERROR])

    def integrated(ends: tuple[Value, Value], values: Values) -> tuple[Value, Value]:
        return tuple(found(*ends, *values))

    def rule(primals: Any, tangents: Any) -> Any:
        ends, values = primals
        shifts, ts = tangents
        out, error = ruled(ends, values)
        t = np.zeros(out.shape, out.dtype)
        for sign, x, dx in zip((-1, 1), ends, shifts, strict=True):
            if not isinstance(dx, SymbolicZero):
                inside = np.isfinite(x)
                at_end = value_of(f(values, np.where(inside, x, 0.0)))
                t = t + sign * np.where(inside, at_end, 0.0) * dx
        real = [i for i, t in enumerate(ts) if not isinstance(t, SymbolicZero)]
        if real:
            both = integral(
                label, gradient(f, real), ends, values, precision,
                None if shape is None else (int(np.prod(shape, dtype=int)), total(values, real)),
                staging=ruled.staging,
            )  # fmt: skip
            flat = np.concatenate([np.reshape(ts[i], -1) for i in real])
            t = t + np.reshape(both[0] @ flat, out.shape)
        return (out, error), (t, None)

    integrated.__name__ = label
    ruled = custom_rule(integrated)
    ruled.defjvp(rule, symbolic_zeros=True)
    if staging is not None:
        ruled.staging = staging
    return ruled(ends, tuple(values))  # type: ignore[no-any-return]  # a pair


def total(values: Values, real: Sequence[int]) -> int:
    """How many numbers there are in some of the values."""
    return sum([int(np.prod(aval_of(values[i]).shape, dtype=int)) for i in real])


def gradient(f: Callable[[Values, Value], Value], real: Sequence[int]) -> Any:
    """The Jacobian of ``f`` in some of its values, a matrix."""

    def slopes(values: Values, x: Value) -> Value:
        def at(*some: Value) -> Value:
            full = list(values)
            for i, v in zip(real, some, strict=True):
                full[i] = v
            return np.reshape(value_of(f(full, x)), -1)

        parts = jacobian(at, tuple(range(len(real))))(*[values[i] for i in real])
        return np.concatenate([np.reshape(part, (part.shape[0], -1)) for part in parts], axis=1)

    return slopes
