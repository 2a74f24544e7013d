"""Convolution of vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import cast
from vjpkit.kinds import Bilinear
from vjpkit.ops import structural

__all__ = ["convolve"]

_X = np.array([0.3, -1.2, 2.5, 0.8, -0.4])
_Y = np.array([1.7, 0.4, -0.6])


class Convolve(Bilinear):
    """``out[k] = sum of x[i] * y[k - i]``: all of it, or, ``valid``, where the longer x covers y.

    The two modes are each other's transposes: with y turned round, the adjoint of ``full`` in x is
    ``valid``, and that of ``valid`` is ``full``.
    """

    impl = staticmethod(lambda x, y, valid: np.convolve(x, y, "valid" if valid else "full"))

    def transpose_x(self, ct: Value, y: Value, shape: Shape, dtype: Any, **params: Any) -> Value:
        return cast(convolve(ct, y[::-1], valid=not params["valid"]), dtype)

    def transpose_y(self, ct: Value, x: Value, shape: Shape, dtype: Any, **params: Any) -> Value:
        if params["valid"]:
            return cast(convolve(x, ct[::-1], valid=True)[::-1], dtype)
        return cast(convolve(ct, x[::-1], valid=True), dtype)

    def abstract(self, *avals: Aval, valid: bool, **params: Any) -> Aval:
        x, y = avals
        if x.ndim != 1 or y.ndim != 1:
            raise ValueError("object too deep for desired array")
        if not x.size or not y.size:
            raise ValueError(f"{'a' if not x.size else 'v'} cannot be empty")
        (n,), (m,) = x.shape, y.shape
        if valid and n < m:
            raise ValueError("convolve: the first operand must be the longer one")
        return Aval((n - m + 1 if valid else n + m - 1,), np.result_type(x.dtype, y.dtype))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, valid: bool
    ) -> Value:
        """Windows of x times y turned round; at the ends those of zeros are not multiplied."""
        x, y = structural.all_along_front(values, batched, n)
        if x.shape[1] < y.shape[1]:
            x, y = y, x
        (_, k), (_, m) = x.shape, y.shape
        inner = np.arange(k - m + 1)[:, None] + np.arange(m)
        with np.errstate(all="ignore"):  # as NumPy does it
            out = np.matmul(x[:, inner], y[:, ::-1, None])[..., 0]
        if valid or m == 1:
            return out
        i, j = np.tril_indices(m - 1)
        starts = np.cumsum(np.arange(m - 1))
        first, last = [
            cast(np.add.reduceat(a[:, j] * b[:, i - j], starts, axis=1), aval_of(out).dtype)
            for a, b in ((x, y), (x[:, ::-1], y[:, ::-1]))
        ]
        return structural.concatenate(first, out, last[:, ::-1], axis=1)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_X, _Y, valid=False)
        yield Sample(_Y, _X, valid=False)
        yield Sample(_X, _Y, valid=True)
        yield Sample(_Y, _Y + 1, valid=True)


convolve = primitive(Convolve)
