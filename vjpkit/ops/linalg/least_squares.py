"""Pseudo-inverses and least squares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.primitive import Sample, primitive
from vjpkit.kinds import General
from vjpkit.ops.linalg.matrices import common_dtype, matrices
from vjpkit.ops.linalg.samples import A, B, C
from vjpkit.ops.linalg.singular import svd
from vjpkit.ops.spectra import adjoint
from vjpkit.ops.structural import to_dtype

__all__ = ["drops_values", "lstsq", "pinv", "pseudo_inverse", "truncated_push"]


class Pinv(General):
    """The pseudo-inverse; singular values up to ``rcond`` times the largest count as zero.

    Its derivative is that at constant rank (Golub and Pereyra, 1973) where ``rcond`` drops rounding
    errors, and that of a function of the singular values where it ``drops`` more.
    """

    @staticmethod
    def impl(a: Value, rcond: Value, drops: bool) -> Value:
        if not a.size:
            return np.empty((*a.shape[:-2], *matrices(a)[::-1]), common_dtype(aval_of(a)))
        return np.linalg.pinv(a, rcond)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Value:
        a, rcond = values
        if not batched[0]:
            a = np.broadcast_to(a, (n, *a.shape))
        if batched[1]:
            missing = a.ndim - 2 - rcond.ndim
            rcond = np.reshape(rcond, (n, *[1] * missing, *rcond.shape[1:]))
        return self(a, rcond, **params)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        a, t = values[0], ts[0]
        if t is None:
            return None
        if params["drops"]:
            return truncated_push(a, t, values[1])
        p, th, ph = out, adjoint(t), adjoint(out)
        left = (p @ ph) @ th
        right = th @ (ph @ p)
        return left - (left @ a) @ p + right - p @ (a @ right) - (p @ t) @ p

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        a = avals[0]
        m, n = matrices(a)
        return Aval((*a.shape[:-2], n, m), common_dtype(a))

    def samples(self) -> Iterable[Sample]:
        stack = np.stack([C[:2], 2 * C[:2]])
        yield Sample(A, 1e-15, wrt=(0,), drops=False)
        yield Sample(B, 1e-15, wrt=(0,), drops=False)
        yield Sample(stack, 1e-15, wrt=(0,), drops=False)
        yield Sample(stack, np.float64(0.8), wrt=(0,), drops=True)
        yield Sample(A, 0.3, wrt=(0,), drops=True)
        yield Sample(B[:0], 1e-15, wrt=(0,), drops=False)


pinv = primitive(Pinv)


def pseudo_inverse(a: Value, rcond: Value) -> Value:
    """`pinv`, with the derivative that ``rcond`` asks for."""
    return pinv(a, rcond, drops=drops_values(a, rcond))


def drops_values(a: Value, rcond: Value) -> bool:
    """Whether ``rcond`` may make singular values count as zero that are not."""
    eps = np.finfo(common_dtype(aval_of(a))).eps
    return not isinstance(rcond, float) or rcond > 100 * max(matrices(a)) * eps


def truncated_push(a: Value, t: Value, rcond: Value) -> Value:
    """The tangent of U g(s) Vᴴ, adjoint: g is the inverse of what is kept, and 0 for the rest.

    As a function of the Hermitian matrix ((0, A), (Aᴴ, 0)) (Daleckii and Krein, 1965): with
    M = Uᴴ dA V its part of even symmetry is divided by s_i - s_j, that of odd symmetry by
    s_i + s_j; both differences of g are written out, so that they are right where values agree.
    """
    u, s, vh = svd(a, full=False)
    v = adjoint(vh)
    kept = s > to_dtype(rcond, s.dtype)[..., None] * np.max(s, axis=-1, keepdims=True, initial=0)
    g = np.where(kept, 1 / np.where(kept, s, 1), 0)
    rows, columns = (g[..., :, None], s[..., :, None]), (g[..., None, :], s[..., None, :])
    mixed = kept[..., :, None] != kept[..., None, :]
    gap = np.where(mixed, rows[1] - columns[1], 1)
    total = np.where(mixed, rows[1] + columns[1], 1)
    both = rows[0] * columns[0]
    even = np.where(mixed, (rows[0] - columns[0]) / gap, -both)
    odd = np.where(mixed, (rows[0] + columns[0]) / total, both)
    tv, uht = t @ v, adjoint(u) @ t
    m = uht @ v
    inner = (even * (m + adjoint(m)) + odd * (m - adjoint(m))) / 2
    beyond_u = (tv - u @ m) * (g * g)[..., None, :]
    beyond_v = (g * g)[..., :, None] * (uht - m @ vh)
    return adjoint((u @ inner + beyond_u) @ vh + u @ beyond_v)


class Lstsq(General):
    """The X of least norm that minimises the norm of A X - B, at constant rank of A."""

    core_ndims = (2, 2)

    @staticmethod
    def impl(a: Value, b: Value, rcond: float) -> Value:
        if a.ndim == b.ndim == 2:
            return np.linalg.lstsq(a, b, rcond)[0]
        return np.linalg.pinv(a.astype(np.result_type(a.dtype, b.dtype)), rcond) @ b

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        rcond = params["rcond"]
        (a, b), (ta, tb) = values, ts
        a = to_dtype(a, out.dtype)
        p = pseudo_inverse(a, rcond)
        if ta is None:
            return p @ tb
        if drops_values(a, rcond):
            moved = truncated_push(a, to_dtype(ta, out.dtype), rcond) @ b
            return moved if tb is None else p @ tb + moved
        th, ph = adjoint(ta), adjoint(p)
        rest = th @ (b - a @ out)
        back = th @ (ph @ out)
        moved = p @ (ph @ rest) + back - p @ (a @ back) - p @ (ta @ out)
        return moved if tb is None else p @ tb + moved

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        a, b = avals
        m, n = matrices(a)
        if matrices(b)[0] != m:
            raise np.linalg.LinAlgError("Incompatible dimensions")
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return Aval((*lead, n, b.shape[-1]), common_dtype(a, b))

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return mask == (False, True)

    def samples(self) -> Iterable[Sample]:
        yield Sample(B, A, rcond=1e-15)
        yield Sample(C[:2], A[:2], rcond=1e-15)
        yield Sample(C, A[:, :2], rcond=0.3)


lstsq = primitive(Lstsq)
