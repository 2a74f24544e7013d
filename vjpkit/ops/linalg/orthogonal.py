"""QR, and what completes orthonormal columns to a basis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import filled_like, unbroadcast
from vjpkit.kinds import General
from vjpkit.kinds.linear import space
from vjpkit.ops import lapack
from vjpkit.ops.ill_posed import IllPosed, Report
from vjpkit.ops.linalg.equations import solve
from vjpkit.ops.linalg.matrices import common_dtype, is_complex, matrices, mirror
from vjpkit.ops.linalg.samples import Q1, Q2, A, B, C, N
from vjpkit.ops.spectra import adjoint, negligible
from vjpkit.ops.vectors import independent

__all__ = ["ANY_BASIS", "basis_tangent", "qr", "with_rest"]


ANY_BASIS = "a square orthogonal factor of matrices without elements is any basis"


class BasisTangent(IllPosed):
    """``t``, a tangent of vectors ``v`` that are just any orthonormal basis of their space.

    The identity; its pullback is an error where the cotangent depends on which basis it is.
    """

    core_ndims = (2, 2)
    exempt = dict.fromkeys(
        ("complex", "dtypes"), "a random complex cotangent depends on the phase, which is an error"
    )

    @staticmethod
    def compute(report: Report, v: Value, t: Value, checked: bool) -> Value:
        if checked:
            turning = lapack.mirror(v) @ t
            turning = turning - lapack.mirror(turning).conj()
            if (abs(turning) > negligible(t)).any():
                report(
                    "the cotangent depends on the choice of the vectors that complete a square "
                    "orthogonal matrix, which are any basis of a space\n"
                    "Use the reduced form (full_matrices=False, mode='reduced'), or a function "
                    "that does not depend on that basis."
                )
        return np.broadcast_to(t, (*np.broadcast_shapes(v.shape[:-2], t.shape[:-2]), *t.shape[-2:]))

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        return None if ts[1] is None else basis_tangent(values[0], ts[1], **params)

    def pullback(
        self,
        values: Sequence[Value],
        outs: Sequence[Value],
        live: tuple[int, ...],
        given: Sequence[Value | None],
        checked: bool = False,
        **params: Any,
    ) -> Sequence[Value | None]:
        ct = basis_tangent(values[0], given[0], checked=not checked)
        return [unbroadcast(ct, *space(values[1])) if i else None for i in live]

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return mask == (False, True)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        v, t = avals
        lead = np.broadcast_shapes(v.shape[:-2], t.shape[:-2])
        return Aval((*lead, *t.shape[-2:]), t.dtype)

    def samples(self) -> Iterable[Sample]:
        yield Sample(Q2, Q1 @ B[:2, :1], wrt=(1,), checked=False)


basis_tangent = primitive(BasisTangent)


def with_rest(turned: Value, v: Value) -> Value:
    """Tangents of square orthogonal matrices ``v`` from those of their first columns.

    The other columns are a basis of the complement; of all its turns the one without rotation
    within the complement is taken.
    """
    k = turned.shape[-1]
    if v.shape[-1] == k:
        return turned
    first, rest = v[..., :, :k], v[..., :, k:]
    moved = -(first @ (adjoint(turned) @ rest))
    return np.concatenate([turned, basis_tangent(rest, moved, checked=False)], axis=-1)


class Qr(General):
    """Q with orthonormal columns, upper triangular R with real diagonal; Q is square if ``full``.

    With X = Qᴴ dA R⁻¹ the part of X below the diagonal is that of Ω = Qᴴ dQ, which is
    anti-Hermitian. Columns of A beyond its number of rows only enter R.
    """

    multi = True
    interpreted = True
    core_ndims = (2,)
    exempt = {"empty-last": ANY_BASIS}
    impl = staticmethod(lambda a, full: tuple(np.linalg.qr(a, "complete" if full else "reduced")))

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        full = params["full"]
        q, r = out
        t: Value = ts[0]
        m, n = values[0].shape[-2:]
        k = min(m, n)
        q1, r1, t1 = q[..., :, :k], r[..., :k, :k], t[..., :, :k]
        d = mirror(solve(independent(r1, of="columns"), mirror(t1), transposed=True))
        x = adjoint(q1) @ d
        below = np.tril(x, -1)
        omega = below - adjoint(below)
        if is_complex(q):
            omega = omega + 1j * np.imag(np.tril(np.triu(x)))
        dq = q1 @ omega + (d - q1 @ x if m > k else 0)
        dr = (x - omega) @ r1
        if n > k:
            beyond = adjoint(omega) @ r[..., :, k:] + adjoint(q1) @ t[..., :, k:]
            dr = np.concatenate([dr, beyond], axis=-1)
        if full and m > k:
            dq = with_rest(dq, q)
            dr = np.concatenate([dr, filled_like(r[..., k:, :], 0)], axis=-2)
        return dq, dr

    def abstract(self, *avals: Aval, full: bool, **params: Any) -> tuple[Aval, Aval]:
        (a,) = avals
        m, n = matrices(a)
        dtype, k = common_dtype(a), m if full else min(m, n)
        return Aval((*a.shape[:-2], m, k), dtype), Aval((*a.shape[:-2], k, n), dtype)

    def samples(self) -> Iterable[Sample]:
        yield Sample(A, full=True)
        yield Sample(B, full=False)
        yield Sample(np.stack([C[:2], 2 * C[:2]]), full=False)
        yield Sample(np.stack([C, 2 * C])[..., :2], full=False)
        yield Sample(A[:1, :1], full=False)
        yield Sample(N, full=False)


qr = primitive(Qr)
