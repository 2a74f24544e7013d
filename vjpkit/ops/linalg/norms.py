"""The Euclidean norm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.primitive import Sample, primitive
from vjpkit.kinds import Reduction
from vjpkit.ops.linalg.matrices import is_complex, real_dtype
from vjpkit.ops.linalg.samples import A, B, C

__all__ = ["norm2"]


class Norm2(Reduction):
    """The square root of the sum of ``|x|²`` over ``axes``; its derivative at zero is zero."""

    singular = True

    @staticmethod
    def impl(x: Value, axes: tuple[int, ...] | None, keepdims: bool) -> Value:
        x = x if x.dtype.kind in "fc" else x.astype(float)
        if axes is None and x.dtype.kind == "f" and not keepdims:
            flat = x.ravel(order="K")
            return np.sqrt(flat.dot(flat))
        if x.dtype.kind == "c":
            square = x.real * x.real + x.imag * x.imag
        else:
            square = x * x
        return np.sqrt(np.sum(square, axis=axes, keepdims=keepdims))

    def weights(self, x: Value, out: Value, *, axes: Any, **params: Any) -> Value:
        conjugate = np.conjugate(x) if is_complex(x) else x
        return conjugate / np.where(out == 0, float("inf"), out)

    def out_dtype(self, dtype: Any) -> Any:
        return real_dtype(dtype) if dtype.kind in "fc" else np.dtype(float)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, axes: Any, **params: Any
    ) -> Value:
        (x,) = values
        inner = range(x.ndim - 1) if axes is None else axes
        return norm2(x, axes=tuple([i + 1 for i in inner]), **params)

    def samples(self) -> Iterable[Sample]:
        yield Sample(A, axes=None, keepdims=False)
        yield Sample(C, axes=(1,), keepdims=True)
        yield Sample(np.stack([C, 2 * C]), axes=(0, 2), keepdims=False)
        yield Sample(B[:0], axes=(0,), keepdims=False)


norm2 = primitive(Norm2)
