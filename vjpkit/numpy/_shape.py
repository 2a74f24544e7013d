"""Shape, joining, splitting, indexing and creation: NumPy's signatures over primitives."""

from __future__ import annotations

from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._dispatch import implements, normalize_axes, refuse
from vjpkit.ops import structural


@implements(np.reshape)
def reshape(a: Value, /, shape: Any = None, order: str = "C", *, copy: bool | None = None) -> Value:
    if order not in ("C", "K"):
        refuse("reshape", order=order)
    shape = (shape,) if not isinstance(shape, tuple | list) else tuple(shape)
    shape = tuple(int(n) for n in shape)
    if -1 in shape:
        known = 1
        for n in shape:
            known *= n if n != -1 else 1
        missing = aval_of(a).size // known if known else 0
        shape = tuple(missing if n == -1 else n for n in shape)
    return structural.reshape(a, shape=shape)


@implements(np.broadcast_to)
def broadcast_to(array: Value, shape: Any, subok: bool = False) -> Value:
    return structural.broadcast_to(
        array, shape=(shape,) if isinstance(shape, int) else tuple(shape)
    )


@implements(np.transpose)
def transpose(a: Value, axes: Any = None) -> Value:
    order = tuple(range(a.ndim))[::-1] if axes is None else normalize_axes(axes, a.ndim)
    return structural.transpose(a, axes=order)


@implements(np.swapaxes)
def swapaxes(a: Value, axis1: int, axis2: int) -> Value:
    order = list(range(a.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return structural.transpose(a, axes=tuple(order))


@implements(np.astype)
def astype(x: Value, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Value:
    dtype = np.dtype(dtype)
    if dtype.kind not in "fc":
        return np.astype(x.concrete(), dtype)
    return structural.convert(x, dtype=dtype)


@implements(np.shape)
def shape(a: Value) -> Any:
    return a.shape


@implements(np.ndim)
def ndim(a: Value) -> int:
    return int(a.ndim)


@implements(np.full_like)
def full_like(a: Value, fill_value: Any, dtype: Any = None, **rest: Any) -> Value:
    inner = a
    while isinstance(inner, Tracer) and hasattr(inner, "value"):
        inner = inner.value
    return np.full(a.shape, fill_value, dtype or a.dtype)
