"""Linear filters along the last axis, of traced coefficients and signals.

A filter is a convolution followed by a recursion (direct form I); its state is what the recursion
would add to the samples to come (SciPy's, of the transposed direct form II).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.ops.scipy_filters import recursion
from vjpkit.ops.structural import to_dtype

__all__ = ["convolved", "extended", "filtered", "steady", "windows_of"]


def padded(x: Value, before: int, after: int) -> Value:
    """Zeros before and after, along the last axis."""
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(before, after)])


def windows_of(x: Value, shape: Sequence[int]) -> Value:
    """All windows of the last axes, as further axes."""
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    return np.lib.stride_tricks.sliding_window_view(x, tuple(shape), axis=axes)


def convolved(h: Value, x: Value) -> Value:
    """The whole convolution of a vector with the last axis: ``len(h) - 1`` samples longer."""
    m = h.shape[0]
    if x.shape[-1] == 0:
        return np.zeros((*x.shape[:-1], m - 1), np.result_type(h.dtype, x.dtype))
    return windows_of(padded(x, m - 1, m - 1), (m,)) @ h[::-1]


def filtered(b: Value, a: Value, x: Value, zi: Value | None) -> tuple[Value, Value]:
    """The filter's output and its final state, from an initial one."""
    first = a[0]
    b, a = b / first, a / first
    n, order = x.shape[-1], max(b.shape[0], a.shape[0]) - 1
    w = padded(convolved(b, x), 0, order + 1 - b.shape[0])
    if zi is not None:
        w = w + padded(zi, 0, n)
    y = w[..., :n]
    rest = w[..., n:]
    if a.shape[0] > 1:
        dtype = np.result_type(a.dtype, y.dtype)
        y = recursion(to_dtype(a[1:], dtype), to_dtype(y, dtype), back=False)
        rest = rest - padded(convolved(a, y), 0, order + 1 - a.shape[0])[..., n:]
    return y, rest


def steady(b: Value, a: Value) -> Value:
    """The state in which a filter answers ones with a constant."""
    b, a = b / a[0], a / a[0]
    n = max(b.shape[0], a.shape[0])
    a, b = padded(a, 0, n - a.shape[0]), padded(b, 0, n - b.shape[0])
    rest = np.eye(n - 1) - np.eye(n - 1, k=1)
    if n == 1:
        return b[1:]
    column = np.concatenate([a[1:, None], np.zeros((n - 1, n - 2))], axis=1)
    return np.linalg.solve(rest + column, b[1:] - a[1:] * b[0])


def extended(x: Value, n: int, kind: Any) -> Value:
    """The last axis with ``n`` samples more on each side: odd, even or constant."""
    if not n or kind is None:
        return x
    first, last = x[..., :1], x[..., -1:]
    if kind == "constant":
        ones = np.ones(n)
        return np.concatenate([first * ones, x, last * ones], axis=-1)
    before, after = x[..., n:0:-1], x[..., -2 : -(n + 2) : -1]
    if kind == "odd":
        before, after = 2 * first - before, 2 * last - after
    return np.concatenate([before, x, after], axis=-1)
