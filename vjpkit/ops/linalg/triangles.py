"""A Hermitian matrix and the one triangle of it that a routine reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value
from vjpkit.core.primitive import Sample, primitive
from vjpkit.kinds import Linear
from vjpkit.ops import lapack
from vjpkit.ops.linalg.matrices import square
from vjpkit.ops.linalg.samples import A, C, N

__all__ = ["fold", "hermitian"]


class OneTriangle(Linear):
    """Between a Hermitian matrix and its lower (or upper) triangle."""

    core_ndims = (2,)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        square(avals[0])
        return avals[0].strong()

    def samples(self) -> Iterable[Sample]:
        yield Sample(A, lower=True)
        yield Sample(np.stack([C, 2 * C]), lower=False)
        yield Sample(N, lower=True)


class Hermitian(OneTriangle):
    """The Hermitian matrix of which ``x`` has one triangle; what else ``x`` holds is not read."""

    @staticmethod
    def impl(x: Value, lower: bool) -> Value:
        triangle, k = (np.tril, -1) if lower else (np.triu, 1)
        out = triangle(x)
        if np.iscomplexobj(out):
            np.einsum("...ii->...i", out).imag = 0
        return out + lapack.mirror(triangle(x, k)).conj()

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return fold(ct, **params)


hermitian = primitive(Hermitian)


class Fold(OneTriangle):
    """``x + xᴴ`` in one triangle, the real diagonal of ``x``, zeros in the other triangle."""

    @staticmethod
    def impl(x: Value, lower: bool) -> Value:
        triangle, k = (np.tril, -1) if lower else (np.triu, 1)
        out = triangle(x + lapack.mirror(x).conj(), k)
        np.einsum("...ii->...i", out)[...] = np.einsum("...ii->...i", x).real
        return out

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return hermitian(ct, **params)


fold = primitive(Fold)
