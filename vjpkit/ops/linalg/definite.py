"""The Cholesky factor of a positive definite matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import Parts, Product, settled
from vjpkit.kinds import General
from vjpkit.kinds.linear import zeros
from vjpkit.ops import lapack
from vjpkit.ops.linalg.equations import inv
from vjpkit.ops.linalg.matrices import Fused, common_dtype, is_complex, mirror, square
from vjpkit.ops.linalg.samples import A, B, C, H, N, S
from vjpkit.ops.linalg.triangles import fold, hermitian
from vjpkit.ops.spectra import adjoint

__all__ = ["cholesky", "cholesky_pull", "phi"]


def phi(x: Value) -> Value:
    """The lower triangle with the diagonal halved."""
    return (np.tril(x) + np.tril(x, -1)) / 2


class Cholesky(General):
    """L, lower triangular, with L Lᴴ the Hermitian matrix of which the lower triangle is read.

    dL = L Φ(L⁻¹ dA L⁻ᴴ). The pullback knows cotangents that come from quadratic forms and from the
    logarithm of the determinant, see `cholesky_pull`.
    """

    core_ndims = (2,)
    takes_parts = True
    impl = staticmethod(lapack.cholesky)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        x = inv(out, strict=True)
        return out @ phi(x @ hermitian(ts[0], lower=True) @ adjoint(x))

    def pullback(
        self,
        values: Sequence[Value],
        outs: Sequence[Value],
        live: tuple[int, ...],
        given: Sequence[Any],
        **params: Any,
    ) -> Sequence[Value | None]:
        (l,), (ct,) = outs, given  # noqa: E741  # the factor L
        products: list[Value] = []
        if type(ct) is Parts:
            taken = [p for _, p in ct[1:] if type(p) is Product and _fits(p, l)]
            rest = Parts(
                [ct[0], *[part for part in ct[1:] if not any(part[1] is p for p in taken)]]
            )
            products = [x for p in taken for x in (p.w, p.v)]
            ct = settled(rest) if len(rest) > 1 else zeros(aval_of(l), products[0])
        return [cholesky_pull(l, ct, *products)]

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (a,) = avals
        square(a)
        return Aval(a.shape, common_dtype(a))

    def samples(self) -> Iterable[Sample]:
        yield Sample(S)
        yield Sample(np.stack([H, 2 * H]))
        yield Sample(S[:1, :1])
        yield Sample(N)


cholesky = primitive(Cholesky)


def _fits(product: Product, l: Value) -> bool:  # noqa: E741  # the factor L
    """Whether a product needs no conversion to be pulled back together with others."""
    return bool(product.w.dtype == product.v.dtype == l.dtype)


class CholeskyPull(Fused):
    """The pullback of `cholesky` at L: of a cotangent and of products U Vᵀ, given by Lᵀ U and V."""

    core_ndims = (2,)
    exempt = {"mixed0": "the factor and its cotangents come in one dtype"}
    impl = staticmethod(lapack.cholesky_pull)

    def formula(self, *xs: Value, **params: Any) -> Value:
        l, ct, *products = xs  # noqa: E741  # the factor L
        p = mirror(l) @ ct
        for w, v in zip(products[::2], products[1::2], strict=True):
            p = p + w @ mirror(v)
        half, x = phi(p), inv(l, strict=True)
        conjugate = np.conjugate(x) if is_complex(x) else x
        return fold(mirror(x) @ (half + adjoint(half)) @ conjugate / 2, lower=True)

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        """In the cotangent and all W together."""
        return mask == tuple([i == 1 or (i > 1 and i % 2 == 0) for i in range(len(mask))])

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        lead = np.broadcast_shapes(*[a.shape[:-2] for a in avals])
        return Aval((*lead, *avals[0].shape[-2:]), common_dtype(*avals))

    def samples(self) -> Iterable[Sample]:
        yield Sample(np.linalg.cholesky(S), A)
        yield Sample(np.linalg.cholesky(H), A, C[:, :2], B + 1j)
        yield Sample(np.linalg.cholesky(np.stack([S, 2 * S])), A)
        yield Sample(N, N)


cholesky_pull = primitive(CholeskyPull)
