"""Singular values and vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.primitive import Sample, primitive
from vjpkit.kinds import General
from vjpkit.ops.linalg.eigen import SpectrumValues, projected_diagonal, rephased
from vjpkit.ops.linalg.matrices import common_dtype, is_complex, matrices, real_dtype
from vjpkit.ops.linalg.orthogonal import ANY_BASIS, with_rest
from vjpkit.ops.linalg.samples import A, B, C, P
from vjpkit.ops.spectra import adjoint, generic, spectrum_mean, spectrum_push, tolerance
from vjpkit.ops.vectors import guarded_quotient, phase_rows

__all__ = ["rephased_pair", "svd", "svdvals"]


class Svd(General):
    """U, s, Vᴴ with A = U diag(s) Vᴴ; U and Vᴴ square if ``full``.

    ``mixed`` makes the basis of a space of vectors a generic one.

    With M = Uᴴ dA V, X half the sum and Y half the difference of Uᴴ dU and Vᴴ dV: the Hermitian
    part of M gives ds and X as for `eigh`, its other part gives Y by division by ``s_i + s_j``.
    """

    multi = True
    interpreted = True
    core_ndims = (2,)
    exempt = {
        "empty": ANY_BASIS,
        "empty-last": ANY_BASIS,
        "complex": "at a real matrix times a number LAPACK's choice of phases may jump",
    }

    @staticmethod
    def impl(a: Value, full: bool, mixed: bool = False) -> tuple[Value, ...]:
        u, s, vh = np.linalg.svd(a, full)
        if not mixed:
            return u, s, vh
        u, v = generic(s, u, adjoint(vh))
        return u, s, adjoint(v)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        full = params["full"]
        u, s, vh = out
        t: Value = ts[0]
        k = s.shape[-1]
        v = adjoint(vh)
        u1, v1 = (u[..., :, :k], v[..., :, :k]) if full else (u, v)
        tv = t @ v1
        m = adjoint(u1) @ tv
        ds, x = spectrum_push(s, m, hermitian=True)
        if params.get("mixed"):  # on behalf of `svdvals`, which has kinks where they vanish
            ds = np.where(s <= tolerance(s), 0, ds)
        sums = s[..., :, None] + s[..., None, :]
        y = guarded_quotient((m - adjoint(m)) / 2, sums)
        y = (y - adjoint(y)) / 2
        du, dv = u1 @ (x + y), v1 @ (x - y)
        if u1.shape[-2] > k:
            du = du + _beyond(tv, u1, s)
        if v1.shape[-2] > k:
            dv = dv + _beyond(adjoint(t) @ u1, v1, s)
        if is_complex(u):
            du, dv = rephased_pair(du, u1, dv, v1)
        if full:
            du, dv = with_rest(du, u), with_rest(dv, v)
        return du, ds, adjoint(dv)

    def abstract(self, *avals: Aval, full: bool, **params: Any) -> tuple[Aval, Aval, Aval]:
        (a,) = avals
        m, n = matrices(a)
        k, dtype, lead = min(m, n), common_dtype(a), a.shape[:-2]
        rows, columns = (m, n) if full else (k, k)
        return (
            Aval((*lead, m, rows), dtype),
            Aval((*lead, k), real_dtype(dtype)),
            Aval((*lead, columns, n), dtype),
        )

    def samples(self) -> Iterable[Sample]:
        yield Sample(A, full=False)
        yield Sample(B, full=False)
        yield Sample(np.stack([C, 2 * C])[..., :2], full=False)
        yield Sample(P, full=False)
        yield Sample(A[:1, :1], full=True)
        yield Sample(B[:0], full=False)


svd = primitive(Svd)


def _beyond(t: Value, v: Value, s: Value) -> Value:
    """What turns vectors V out of their own space: (1 - V Vᴴ) t / s."""
    out = guarded_quotient(t - v @ (adjoint(v) @ t), s[..., None, :])
    return out - v @ (adjoint(v) @ out)


def rephased_pair(du: Value, u: Value, dv: Value, v: Value) -> tuple[Value, Value]:
    """Tangents of pairs of singular vectors, turned in phase together."""
    in_v = np.sum(phase_rows(v, prefer="first"), axis=-2)[..., None, :] != 0
    first = rephased(dv, v, (du, u), prefer="first")
    second = rephased(du, u, (dv, v), prefer="first")
    return np.where(in_v, first[1], second[0]), np.where(in_v, first[0], second[1])


class Svdvals(SpectrumValues):
    """Singular values; equal ones share equally, and where one vanishes its derivative is 0."""

    core_ndims = (2,)
    impl = staticmethod(lambda a, *known: np.linalg.svd(a, compute_uv=False))

    @staticmethod
    def decomposed(a: Value, mixed: bool, **params: Any) -> tuple[Value, Value, Value]:
        u, s, vh = svd(a, full=False, mixed=mixed)
        return s, u, adjoint(vh)

    @staticmethod
    def tangents(w: Value, left: Value, right: Value, t: Value, **params: Any) -> Value:
        d = projected_diagonal(left, t, right)
        return spectrum_mean(w, np.real(d) if is_complex(d) else d, kink=True)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (a,) = avals
        return Aval((*a.shape[:-2], min(matrices(a))), real_dtype(common_dtype(a)))

    def samples(self) -> Iterable[Sample]:
        yield Sample(A)
        yield Sample(np.stack([C[:2], 2 * C[:2]]))
        yield Sample(B[:0])


svdvals = primitive(Svdvals)
