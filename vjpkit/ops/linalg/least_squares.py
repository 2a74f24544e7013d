"""Pseudo-inverses and least squares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import unbroadcast
from vjpkit.kinds import General
from vjpkit.kinds.linear import space
from vjpkit.ops.linalg.matrices import common_dtype, matrices
from vjpkit.ops.linalg.samples import A, B, C
from vjpkit.ops.spectra import adjoint
from vjpkit.ops.structural import to_dtype

__all__ = ["drops_values", "lstsq", "pinv", "pseudo_inverse", "truncated"]


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
            return truncated(a, values[1], t)
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


class Truncated(General):
    """The derivative of `pinv` where it drops values, along ``ts``: as often as there are of them.

    The Hermitian matrix J = ((0, A), (Aᴴ, 0)) has the singular values and their negatives as its
    eigenvalues, and the pseudo-inverse is a block of G: J's inverse on the space of the eigenvalues
    that are kept, 0 on the rest. With P, the projection on that space, G is the solution of

        P P = P,  P J = J P,  G J = J G = P,  P G = G

    at J + ε_1 dJ_1 + ... + ε_n dJ_n, where every ε_i squared is 0; the derivative is what
    ε_1 ... ε_n is multiplied by. It needs no derivative of a vector, and is right where values
    agree. Being the gradient of a trace, it is symmetric in the tangents and the cotangent.
    """

    core_ndims = (2, 0, *[2] * 8)
    transposes = {
        k + 2: partial(lambda k, ct, values: _truncated_pull(k, ct, values), k) for k in range(8)
    }

    @staticmethod
    def impl(a: Value, rcond: Value, *ts: Value) -> Value:
        (m, n), dtype = matrices(a), common_dtype(*map(aval_of, (a, *ts)))
        lead = np.broadcast_shapes(np.shape(rcond), *[x.shape[:-2] for x in (a, *ts)])
        xs = [np.broadcast_to(x, (*lead, m, n)).astype(dtype) for x in (a, *ts)]
        limits = np.broadcast_to(rcond, lead)
        out = np.zeros((*lead, n, m), dtype)
        for place in np.ndindex(*lead):
            out[place] = _derivative_of_inverse(limits[place], *[x[place] for x in xs])
        return out

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        a, rcond, *along = values
        parts = [] if ts[0] is None else [truncated(a, rcond, *along, ts[0])]
        for k, t in enumerate(ts[2:]):
            if t is not None:
                parts.append(truncated(a, rcond, *along[:k], t, *along[k + 1 :]))
        return sum(parts[1:], parts[0]) if parts else None

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        a, rcond, *ts = avals
        m, n = matrices(a)
        lead = np.broadcast_shapes(rcond.shape, *[x.shape[:-2] for x in (a, *ts)])
        return Aval((*lead, n, m), common_dtype(a, *ts))

    def samples(self) -> Iterable[Sample]:
        tied = np.array([[0.0, 2.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.5]])
        yield Sample(A, 0.3, A.T, wrt=(0, 2))
        yield Sample(tied, 0.5, A, A.T, wrt=(0, 2, 3))
        yield Sample(np.stack([C[:2], 2 * C[:2]]), np.array([0.8, 0.1]), C[1:], wrt=(0, 2))


truncated = primitive(Truncated)


def _truncated_pull(k: int, ct: Value, values: Sequence[Value]) -> Value:
    a, rcond, *ts = values
    ts[k] = np.swapaxes(ct, -1, -2)
    return unbroadcast(np.swapaxes(truncated(a, rcond, *ts), -1, -2), *space(values[k + 2]))


def _derivative_of_inverse(rcond: Any, a: Any, *ts: Any) -> Any:
    """`Truncated` for one matrix."""
    m, n = a.shape
    k = min(m, n)
    u, s, vh = np.linalg.svd(a)
    v, x = vh.conj().T, np.concatenate([s, -s, np.zeros(m + n - 2 * k, s.dtype)])
    above = np.concatenate([u[:, :k], u[:, :k], np.sqrt(2) * u[:, k:], np.zeros((m, n - k))], 1)
    below = np.concatenate([v[:, :k], -v[:, :k], np.zeros((n, m - k)), np.sqrt(2) * v[:, k:]], 1)
    kept = abs(x) > rcond * s.max(initial=0)
    products = [above.conj().T @ t @ below / 2 for t in ts]
    inner = _coefficient(x, kept, [p + p.conj().T for p in products])
    return below @ inner @ above.conj().T / 2


def _coefficient(x: Any, kept: Any, tangents: Sequence[Any]) -> Any:
    """G's coefficient of all tangents at once, where J is ``diag(x)``: set by set, the numbers of
    whose members are the bits of an integer."""
    rows, columns = kept[:, None], kept[None, :]
    divisors = np.where(kept, x, 1)
    gaps = np.where(rows != columns, x[None, :] - x[:, None], 1)
    projections, inverses = [np.diag(kept.astype(float))], [np.diag(kept / divisors)]
    for members in range(1, 1 << len(tangents)):
        single = [(t, members ^ 1 << i) for i, t in enumerate(tangents) if members >> i & 1]
        split = [(i, members ^ i) for i in range(1, members) if i & members == i]
        squared = sum([projections[i] @ projections[j] for i, j in split], np.zeros(gaps.shape))
        moved = sum([projections[rest] @ t - t @ projections[rest] for t, rest in single])
        p = np.where(rows != columns, -moved / gaps, np.where(rows, -squared, squared))
        after = p - sum([t @ inverses[rest] for t, rest in single])
        before = p - sum([inverses[rest] @ t for t, rest in single])
        neither = sum([projections[i] @ inverses[j] for i, j in split], np.zeros(gaps.shape))
        left, right = after / divisors[:, None], before / divisors
        projections.append(p)
        inverses.append(np.where(rows, left, np.where(columns, right, neither)))
    return inverses[-1]


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
            moved = truncated(a, rcond, to_dtype(ta, out.dtype)) @ b
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
