"""Products: matrix products, and the product of derivatives in which zero annihilates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value
from vjpkit.core.primitive import Bilinear, Sample, primitive
from vjpkit.core.rows import annihilate, cast, roles, unbroadcast
from vjpkit.core.tracer import UFUNCS
from vjpkit.ops.elementwise import multiply

_A = np.array([[0.3, -1.2, 2.5], [1.7, 0.4, -0.6]])
_B = np.array([[0.5, 1.1], [-0.7, 0.2], [1.3, -0.9]])


@primitive
class annihilating_multiply(Bilinear):
    """``x * y`` in which an exact zero wins over inf and nan.

    Closed under differentiation: linear in each factor, with itself as derivative, so that a branch
    not taken contributes nothing to any order.
    """

    impl = staticmethod(annihilate)

    def transpose_x(self, ct: Value, y: Value, shape: Shape, dtype: Any, **params: Any) -> Value:
        return unbroadcast(annihilate(ct, y), shape, dtype)

    def transpose_y(self, ct: Value, x: Value, shape: Shape, dtype: Any, **params: Any) -> Value:
        return unbroadcast(annihilate(ct, x), shape, dtype)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return multiply.abstract(*avals)

    def samples(self) -> Iterable[Sample]:
        return (Sample(_A, _A[1]),)


roles["annihilate"] = annihilating_multiply


@primitive
class matmul(Bilinear):
    """``x @ y``, batched and with vectors as NumPy has it.

    For Y = X W: X̄ = Ȳ Wᵀ and W̄ = Xᵀ Ȳ. Transposes are views; BLAS reads them as they are.
    """

    impl = np.matmul

    def transpose_x(self, ct: Value, y: Value, shape: Shape, dtype: Any, **params: Any) -> Value:
        if y.ndim == 1:
            return unbroadcast(ct[..., None] * y, shape, dtype)
        if len(shape) == 1:
            return unbroadcast(np.matmul(y, ct[..., None])[..., 0], shape, dtype)
        return _fitted(np.matmul(ct, np.swapaxes(y, -1, -2)), shape, dtype)

    def transpose_y(self, ct: Value, x: Value, shape: Shape, dtype: Any, **params: Any) -> Value:
        if x.ndim == 1:
            return unbroadcast(
                ct * x if len(shape) == 1 else x[:, None] * ct[..., None, :], shape, dtype
            )
        if len(shape) == 1:
            return unbroadcast(
                np.matmul(np.swapaxes(x, -1, -2), ct[..., None])[..., 0], shape, dtype
            )
        return _fitted(np.matmul(np.swapaxes(x, -1, -2), ct), shape, dtype)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        x, y = avals
        if not x.ndim or not y.ndim:
            raise ValueError("matmul: operands must have at least one dimension")
        inner = y.shape[-2] if y.ndim > 1 else y.shape[-1]
        if x.shape[-1] != inner:
            raise ValueError(
                f"matmul: shapes {x.shape} and {y.shape} do not agree in their inner dimension"
            )
        batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        shape = batch + x.shape[-2:-1] + (y.shape[-1:] if y.ndim > 1 else ())
        return Aval(shape, np.multiply.resolve_dtypes((x.dtype, y.dtype, None))[-1])

    def samples(self) -> Iterable[Sample]:
        yield Sample(_A, _B)
        yield Sample(_A, _B[:, 0])
        yield Sample(_A[:, 0], _A)
        yield Sample(_A[0], _A[1])
        yield Sample(np.stack([_A, _A * 2]), _B)
        yield Sample(_B.T, np.stack([_A.T[:, None], 2 * _A.T[:, None]])[:, :, 0])


def _fitted(ct: Value, shape: Shape, dtype: Any) -> Value:
    return cast(ct, dtype) if ct.shape == shape else unbroadcast(ct, shape, dtype)


UFUNCS[np.matmul] = matmul
