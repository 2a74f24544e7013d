"""Determinants, and their derivatives at singular matrices too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import unbroadcast
from vjpkit.kinds import General
from vjpkit.kinds.linear import space
from vjpkit.ops import lapack
from vjpkit.ops.linalg.equations import inv
from vjpkit.ops.linalg.matrices import Fused, common_dtype, is_complex, mirror, real_dtype, square
from vjpkit.ops.linalg.samples import A, B, C, N
from vjpkit.ops.products import scale
from vjpkit.ops.spectra import adjoint
from vjpkit.ops.vectors import independent

__all__ = ["cofactors", "cofactors_push", "det", "slogdet"]


class Det(General):
    """The determinant. Its derivative is the matrix of cofactors, at singular matrices too."""

    core_ndims = (2,)
    impl = staticmethod(np.linalg.det)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        return np.sum(cofactors(values[0]) * ts[0], axis=(-2, -1))

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (a,) = avals
        square(a)
        return Aval(a.shape[:-2], common_dtype(a))

    def samples(self) -> Iterable[Sample]:
        yield Sample(A)
        yield Sample(np.stack([C, 2 * C]))
        yield Sample(A[:1, :1])
        yield Sample(B @ B.T, exempt={"taylor": "third derivatives at a singular matrix cancel"})
        yield Sample(N)


det = primitive(Det)


class Cofactors(General):
    """det(A) A⁻ᵀ, which is finite where A⁻¹ is not: the derivative of the determinant."""

    core_ndims = (2,)

    @staticmethod
    def impl(a: Value) -> Value:
        """From the inverse where A is well conditioned, else from the singular values."""
        x, d, bad = _inverse_and_determinant(a)
        out = d[..., None, None] * lapack.mirror(x)
        if bad.any():
            u, s, vh = np.linalg.svd(np.asarray(a)[bad])
            middle = _others(s)[..., None, :]
            out[bad] = _determinant(u, vh) * (u * middle @ vh).conj()
        return out

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        return cofactors_push(values[0], ts[0])

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (a,) = avals
        square(a)
        return Aval(a.shape, common_dtype(a))

    def samples(self) -> Iterable[Sample]:
        yield Sample(A)
        yield Sample(np.stack([C, 2 * C]))
        yield Sample(A[:1, :1])
        yield Sample(N)


cofactors = primitive(Cofactors)


class CofactorsPush(Fused):
    """The derivative of `cofactors` at A along T: the second derivative of the determinant.

    With A = U S Vᴴ and M = Uᴴ T V that of the cofactors of S has the elements
    -M_ji prod(s_k, k != i, j) and on the diagonal sum(M_jj prod(s_k, k != i, j), j != i): finite at
    singular matrices too. Its own derivatives are those of a formula with the inverse, which are an
    error where that is inaccurate.
    """

    core_ndims = (2, 2)
    interpreted = True
    transposes = {1: lambda ct, values: _cofactors_pull(ct, values)}

    @staticmethod
    def impl(a: Value, t: Value) -> Value:
        x, d, bad = _inverse_and_determinant(a)
        x = lapack.mirror(x)
        trace = (x * t).sum(axis=(-2, -1))[..., None, None]
        out = np.asarray(d[..., None, None] * (trace * x - x @ lapack.mirror(t) @ x))
        if bad.any():
            bad = np.broadcast_to(bad, out.shape[:-2])
            matrices, tangents = (np.broadcast_to(y, out.shape)[bad] for y in (a, t))
            out[bad] = _cofactors_push_from_svd(matrices, tangents)
        return out

    def formula(self, *xs: Value, **params: Any) -> Value:
        a, t = xs
        x = mirror(inv(independent(a, of="matrix"), strict=True))
        trace = np.sum(x * t, axis=(-2, -1))[..., None, None]
        return det(a)[..., None, None] * (x * trace - x @ mirror(t) @ x)

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return mask == (False, True)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        a, t = avals
        square(a)
        lead = np.broadcast_shapes(a.shape[:-2], t.shape[:-2])
        return Aval((*lead, *a.shape[-2:]), common_dtype(a, t))

    def samples(self) -> Iterable[Sample]:
        yield Sample(A, C)
        yield Sample(np.stack([C, 2 * C]), A)
        yield Sample(np.kron(A[:2, :2], A[:2, :2]), np.kron(B[:2], B[:2]))
        yield Sample(N, N)


cofactors_push = primitive(CofactorsPush)


def _cofactors_pull(ct: Value, values: Sequence[Value]) -> Value:
    return unbroadcast(cofactors_push(values[0], ct), *space(values[1]))


def _inverse_and_determinant(a: Value) -> tuple[Value, Value, Value]:
    """Inverses, determinants, and which of the inverses are bad (those are 0)."""
    d = np.asarray(np.linalg.det(a))
    x = np.asarray(lapack.inverse(a, strict=False))
    with np.errstate(all="ignore"):
        size = abs(a).sum(axis=-1).max(axis=-1, initial=0)
        condition = size * abs(x).sum(axis=-1).max(axis=-1, initial=0)
        bad = ~((condition < 1 / np.sqrt(np.finfo(x.dtype).eps)) & (d != 0))
    return np.where(bad[..., None, None], 0, x), d, bad


def _determinant(*factors: Value) -> Value:
    """The determinants of products, as factors of matrices."""
    out = np.linalg.det(factors[0])
    for x in factors[1:]:
        out = out * np.linalg.det(x)
    return out[..., None, None]


def _others(s: Value) -> Value:
    """The products of all other elements along the last axis."""
    ones = np.ones_like(s[..., :1])
    before = np.cumprod(np.concatenate([ones, s[..., :-1]], axis=-1), axis=-1)
    behind = np.cumprod(np.concatenate([ones, s[..., :0:-1]], axis=-1), axis=-1)
    return before * behind[..., ::-1]


def _cofactors_push_from_svd(a: Value, t: Value) -> Value:
    u, s, vh = np.linalg.svd(a)
    n = s.shape[-1]
    m = adjoint(u) @ t @ adjoint(vh)
    without = np.where(np.eye(n, dtype=bool), 1, s[..., None, :])  # row i: s without s_i
    others = np.where(np.eye(n, dtype=bool), 0, _others(without))
    d = np.diagonal(m, axis1=-2, axis2=-1)
    middle = -lapack.mirror(m) * others
    np.einsum("...ii->...i", middle)[...] = (others @ d[..., None])[..., 0]
    return _determinant(u, vh) * (u.conj() @ middle @ vh.conj())


class Slogdet(General):
    """Sign (or phase) and logarithm of the absolute value of the determinant."""

    multi = True
    core_ndims = (2,)
    impl = staticmethod(lambda a: tuple(np.linalg.slogdet(a)))

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        (a,), (t,) = values, ts
        singular = np.isneginf(out[1])[..., None, None]
        # Infinite as a factor, so that what is zero beside it is zero in higher derivatives too.
        regular = inv(np.where(singular, np.eye(a.shape[-1], dtype=a.dtype), a), strict=False)
        weights = mirror(regular) * np.where(singular, np.inf, 1).astype(real_dtype(a.dtype))
        trace = np.sum(scale(t, weights), axis=(-2, -1))
        if not is_complex(a):
            return None, trace
        return out[0] * (1j * np.imag(trace)), np.real(trace)

    def abstract(self, *avals: Aval, **params: Any) -> tuple[Aval, Aval]:
        (a,) = avals
        square(a)
        dtype = common_dtype(a)
        return Aval(a.shape[:-2], dtype), Aval(a.shape[:-2], real_dtype(dtype))

    def samples(self) -> Iterable[Sample]:
        yield Sample(A)
        yield Sample(np.stack([C, 2 * C]))
        yield Sample(A[:1, :1])
        yield Sample(N)


slogdet = primitive(Slogdet)
