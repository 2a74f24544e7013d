"""Recursive digital filters.

A recursion is a triangular Toeplitz system of equations; its transpose is the recursion run from
the other end. SciPy runs it; it is imported when the first filter runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import cast, filled_like
from vjpkit.kinds import General
from vjpkit.ops import structural

__all__ = ["recursion"]

_A = np.array([-0.6, 0.3])
_X = np.array([0.3, -1.2, 2.5, 0.8, -0.4])


def _run(a: Value, x: Value, back: bool) -> Value:
    if a.ndim > 1:
        rows = [_run(each, part, back) for each, part in zip(a, x, strict=True)]
        return np.stack(rows) if rows else np.zeros(x.shape, np.result_type(a, x))
    dtype = np.result_type(a, x)
    if not x.size or not a.size:
        return x.astype(dtype)
    wide = np.promote_types(dtype, np.float32)  # SciPy has no half precision
    coefficients = np.concatenate([np.ones(1), a]).astype(wide)
    x = x[..., ::-1] if back else x
    y = import_module("scipy.signal").lfilter(coefficients[:1], coefficients, x.astype(wide))
    return (y[..., ::-1] if back else y).astype(dtype)


def _moved(x: Value, k: int, back: bool) -> Value:
    """``x`` k places later along the last axis, or earlier; zeros come in."""
    k = min(k, x.shape[-1])
    nothing = filled_like(x[..., :k], 0)
    kept = x[..., k:] if back else x[..., : x.shape[-1] - k]
    return np.concatenate([kept, nothing] if back else [nothing, kept], axis=-1)


class Recursion(General):
    """``y[n] = x[n] - sum of a[k] y[n - 1 - k]`` along the last axis; ``back`` from its end.

    Leading axes of ``a`` are leading axes of ``x``.
    """

    impl = staticmethod(_run)
    transposes = {1: lambda ct, values, back: _transposed(ct, values, back)}

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        a, x = values
        ta, tx = ts
        rest = None if tx is None else cast(tx, out.dtype)
        if ta is not None:
            lead = (1,) * (x.ndim - a.ndim)
            for k in range(a.shape[-1]):
                each = np.reshape(ta[..., k], (*a.shape[:-1], *lead, 1))
                part = each * _moved(out, k + 1, params["back"])
                rest = -part if rest is None else rest - part
        return None if rest is None else recursion(a, cast(rest, out.dtype), **params)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        a, x = avals
        if not a.ndim or not x.ndim or a.shape[:-1] != x.shape[: a.ndim - 1]:
            raise ValueError(f"recursion: coefficients {a.shape} do not fit a signal {x.shape}")
        return Aval(x.shape, np.result_type(a.dtype, x.dtype))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Value:
        a, x = values
        if not batched[0] and a.ndim == 1:
            return recursion(a, x, **params)
        a, x = structural.all_along_front(values, batched, n)
        return recursion(a, x, **params)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_A, _X, back=False)
        yield Sample(_A, _X, back=True)
        yield Sample(_A + 0.1j, _X, back=False)
        yield Sample(_A, np.stack([_X, _X[::-1]]), back=False)
        yield Sample(np.stack([_A, _A[::-1]]), np.stack([[_X], [_X[::-1]]]), back=False)


recursion = primitive(Recursion)


def _transposed(ct: Value, values: Sequence[Value], back: bool) -> Value:
    return cast(recursion(values[0], ct, back=not back), values[1].dtype)
