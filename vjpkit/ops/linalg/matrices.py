"""Shapes and dtypes of matrices, and kernels whose derivatives come from a formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.rows import Rows, new_slots, push_rows
from vjpkit.kinds import General

__all__ = [
    "Fused",
    "common_dtype",
    "is_complex",
    "matrices",
    "mirror",
    "order",
    "real_dtype",
    "square",
]


def mirror(x: Value) -> Value:
    """The transpose of the last two axes."""
    return np.swapaxes(x, -1, -2)


def is_complex(x: Value) -> bool:
    return aval_of(x).dtype.kind == "c"


def matrices(a: Aval) -> Shape:
    """The shape of the matrices in ``a``; NumPy's error where there are none."""
    if a.ndim < 2:
        raise np.linalg.LinAlgError(
            f"{a.ndim}-dimensional array given. Array must be at least two-dimensional"
        )
    return a.shape[-2:]


def square(a: Aval) -> int:
    """The order of the square matrices in ``a``; NumPy's error where they are not."""
    m, n = matrices(a)
    if m != n:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")
    return m


def common_dtype(*avals: Aval) -> np.dtype[Any]:
    """The dtype that NumPy's linear algebra computes in."""
    for a in avals:
        if a.inexact and a.dtype.char not in "fdFD":
            raise TypeError(f"array type {a.dtype.name} is unsupported in linalg")
    return np.result_type(*[a.dtype if a.inexact else np.float64 for a in avals])


def real_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the absolute value."""
    return np.dtype(dtype.char.lower())


def order(a: Aval) -> tuple[Shape, int, np.dtype[Any]]:
    """Leading axes, order and dtype of square matrices."""
    n = square(a)
    return a.shape[:-2], n, common_dtype(a)


class Fused(General):
    """A kernel for a ``formula`` in terms of other primitives, from which its derivatives come."""

    def formula(self, *xs: Value, **params: Any) -> Value:
        raise NotImplementedError(f"{self.name} declares no formula")

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        live = [i for i, t in enumerate(ts) if t is not None]
        if len(live) == 1 and live[0] in self.transposes:
            return self(*[x if t is None else t for x, t in zip(values, ts)], **params)
        trace = Rows(self.name)
        outs = self.unpack(self.formula(*[trace.argument(x) for x in values], **params))
        rows = trace.close()
        slots = [*ts, *new_slots(trace.new() - len(values))]
        push_rows(rows, slots)
        found = [trace.slot_of(y) for y in outs]
        return self.pack(tuple([None if k is None else slots[k] for k in found]))
