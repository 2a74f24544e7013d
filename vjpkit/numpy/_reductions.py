"""Reductions, statistics, cumulative operations, choice and order: NumPy's signatures over primitives."""

from __future__ import annotations

from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.numpy._dispatch import implements, normalize_axes, refuse
from vjpkit.ops import selection, structural


@implements(np.sum)
def sum(  # noqa: A001  # NumPy's name
    a: Value,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = np._NoValue,
    where: Any = True,
) -> Value:
    refuse("sum", out=out)
    if where is not True:
        a = selection.where(where, a, 0)
    if dtype is not None:
        a = np.astype(a, dtype)
    total = structural.sum_(a, axes=normalize_axes(axis, np.ndim(a)), keepdims=bool(keepdims))
    return total if initial is np._NoValue else total + initial


@implements(np.where)
def where(condition: Value, x: Value = np._NoValue, y: Value = np._NoValue, /) -> Value:
    return selection.where(condition, x, y)
