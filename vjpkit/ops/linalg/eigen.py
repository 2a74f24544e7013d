"""Eigenvalues and eigenvectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.errors import NotDifferentiableError
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import Rows
from vjpkit.core.tracer import Tracer
from vjpkit.kinds import General
from vjpkit.ops.linalg.equations import solve
from vjpkit.ops.linalg.matrices import is_complex, order, real_dtype
from vjpkit.ops.linalg.samples import D, H, J, N, S
from vjpkit.ops.linalg.triangles import hermitian
from vjpkit.ops.spectra import adjoint, generic, spectrum_mean, spectrum_push
from vjpkit.ops.vectors import independent, phase_rows

__all__ = [
    "SpectrumValues",
    "eig",
    "eigen_push",
    "eigh",
    "eigvals",
    "eigvalsh",
    "projected_diagonal",
    "rephased",
]


def projected_diagonal(left: Value, t: Value, right: Value) -> Value:
    """The diagonal of ``leftᴴ t right``, without the product."""
    left = np.conjugate(left) if is_complex(left) else left
    return np.sum(left * (t @ right), axis=-2)


def rephased(
    turned: Value, v: Value, *others: tuple[Value, Value], prefer: str
) -> tuple[Value, ...]:
    """Tangents ``turned`` of complex vectors ``v``, turned in phase as LAPACK fixes it.

    The element of each vector that LAPACK made real stays real; ``others`` are pairs (tangent,
    vector) that turn with them.
    """
    mask = phase_rows(v, prefer=prefer)
    anchor = np.real(np.sum(mask * v, axis=-2))
    moved = np.imag(np.sum(mask * turned, axis=-2))
    angle = -(moved / np.where(anchor == 0, 1, anchor))
    phase = (1j * angle)[..., None, :]
    return tuple([t + x * phase for t, x in ((turned, v), *others)])


class SpectrumValues(General):
    """The values of a spectrum; those that agree share equally.

    ``decomposed`` gives them with their left and right vectors, ``tangents`` what moves them. Where
    the matrix is traced itself, as it is when derivatives are differentiated, the values are those
    of the decomposition from which their derivatives take the vectors. So all that a program makes
    of either meets in one equation, whose pullback finds out where values agree whether it comes
    from a function of the matrix.
    """

    aids = 1

    @staticmethod
    def decomposed(a: Value, mixed: bool, **params: Any) -> tuple[Value, Value, Value]:
        raise NotImplementedError

    @staticmethod
    def tangents(w: Value, left: Value, right: Value, t: Value, **params: Any) -> Value:
        raise NotImplementedError

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        a, *known = values
        w, left, right = known or self.decomposed(a, mixed=False, **params)
        return self.tangents(w, left, right, ts[0], **params)

    def known(self, a: Value, params: Any) -> tuple[Value, ...]:
        """The decomposition of a traced matrix; nothing of others.

        Nor of one that moves so that its vectors have no tangents: who needs them will say so.
        """
        if not isinstance(a, Tracer):
            return ()
        try:
            return self.decomposed(a, mixed=True, **params)
        except NotDifferentiableError:
            return ()

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        known = self.known(values[0], params)
        outs = known[:1] or (self(*values, **params),)
        return self.recorded(trace, [*values, *known], outs, slots, params)

    def with_tangents(
        self, values: Sequence[Value], ts: Sequence[Value | None], params: Any, strict: bool
    ) -> tuple[tuple[Value, ...], tuple[Value | None, ...]]:
        known = self.known(values[0], params)
        outs = known[:1] or (self(*values, **params),)
        return outs, (self.jvp([*values, *known], ts, outs[0], **params),)


class Eigh(General):
    """Eigenvalues and vectors of the Hermitian matrix of which one triangle is read.

    ``mixed`` makes the basis of a space of vectors a generic one.
    """

    multi = True
    interpreted = True
    core_ndims = (2,)

    @staticmethod
    def impl(a: Value, lower: bool, mixed: bool = False) -> tuple[Value, ...]:
        w, v = np.linalg.eigh(a, "L" if lower else "U")
        return (w, *generic(w, v)) if mixed else (w, v)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        lower = params["lower"]
        w, v = out
        dw, omega = spectrum_push(w, adjoint(v) @ hermitian(ts[0], lower=lower) @ v, hermitian=True)
        dv = v @ omega
        prefer = "first" if lower else "last"
        return dw, rephased(dv, v, prefer=prefer)[0] if is_complex(v) else dv

    def abstract(self, *avals: Aval, **params: Any) -> tuple[Aval, Aval]:
        lead, n, dtype = order(avals[0])
        return Aval((*lead, n), real_dtype(dtype)), Aval((*lead, n, n), dtype)

    def samples(self) -> Iterable[Sample]:
        yield Sample(S, lower=True)
        yield Sample(np.stack([H, 2 * H]), lower=True)
        yield Sample(H, lower=False)
        yield Sample(S[:1, :1], lower=True)
        yield Sample(N, lower=True)


eigh = primitive(Eigh)


class Eigvalsh(SpectrumValues):
    """Eigenvalues of the Hermitian matrix of which one triangle is read; ties share equally."""

    core_ndims = (2,)
    impl = staticmethod(lambda a, *known, lower: np.linalg.eigvalsh(a, "L" if lower else "U"))

    @staticmethod
    def decomposed(a: Value, mixed: bool, **params: Any) -> tuple[Value, Value, Value]:
        w, v = eigh(a, mixed=mixed, **params)
        return w, v, v

    @staticmethod
    def tangents(w: Value, left: Value, right: Value, t: Value, **params: Any) -> Value:
        d = projected_diagonal(left, hermitian(t, **params), right)
        return spectrum_mean(w, np.real(d) if is_complex(d) else d, kink=False)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        lead, n, dtype = order(avals[0])
        return Aval((*lead, n), real_dtype(dtype))

    def samples(self) -> Iterable[Sample]:
        yield Sample(S, lower=True)
        yield Sample(np.stack([H, 2 * H]), lower=False)
        yield Sample(N, lower=True)


eigvalsh = primitive(Eigvalsh)


def _complex_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.result_type(dtype, np.complex64)


def eigen_push(w: Value, v: Value, t: Value) -> tuple[Value, Value]:
    """Tangents of eigenvalues and of vectors of length 1, whose largest element is real."""
    m = solve(independent(v, of="eigenvectors"), t @ v, transposed=False)
    dw, omega = spectrum_push(w, m, hermitian=False)
    turned = v @ omega
    growth = np.real(np.sum(np.conjugate(v) * turned, axis=-2))
    return dw, rephased(turned - v * growth[..., None, :], v, prefer="largest")[0]


class Eig(General):
    """Eigenvalues and vectors (of length 1, their largest element real) of any square matrix.

    The outputs are complex; where NumPy finds that all eigenvalues are real, their imaginary parts
    are zero. ``mixed`` makes the basis of a space of vectors a generic one, and no more.
    """

    multi = True
    interpreted = True
    core_ndims = (2,)

    @staticmethod
    def impl(a: Value, mixed: bool = False) -> tuple[Value, ...]:
        w, v = np.linalg.eig(a)
        w, v = w.astype(_complex_dtype(w.dtype)), v.astype(_complex_dtype(v.dtype))
        return (w, *generic(w, v)) if mixed else (w, v)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        w, v = out
        return eigen_push(w, v, ts[0])

    def abstract(self, *avals: Aval, **params: Any) -> tuple[Aval, Aval]:
        lead, n, dtype = order(avals[0])
        return Aval((*lead, n), _complex_dtype(dtype)), Aval((*lead, n, n), _complex_dtype(dtype))

    def samples(self) -> Iterable[Sample]:
        yield Sample(D)
        yield Sample(np.stack([D, D + 1j * J]))
        yield Sample(D[:1, :1])
        yield Sample(N)


eig = primitive(Eig)


class Eigvals(SpectrumValues):
    """Eigenvalues of any square matrix, complex; equal ones share equally."""

    core_ndims = (2,)
    interpreted = True

    @staticmethod
    def impl(a: Value, *known: Value) -> Value:
        w = np.linalg.eigvals(a)
        return w.astype(_complex_dtype(w.dtype))

    @staticmethod
    def decomposed(a: Value, mixed: bool, **params: Any) -> tuple[Value, Value, Value]:
        w, v = eig(a, mixed=mixed)
        return w, v, v

    @staticmethod
    def tangents(w: Value, left: Value, right: Value, t: Value, **params: Any) -> Value:
        m = solve(independent(left, of="eigenvectors"), t @ right, transposed=False)
        return spectrum_mean(w, np.diagonal(m, axis1=-2, axis2=-1), kink=False)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        lead, n, dtype = order(avals[0])
        return Aval((*lead, n), _complex_dtype(dtype))

    def samples(self) -> Iterable[Sample]:
        yield Sample(D)
        yield Sample(np.stack([D, D + 1j * J]))
        yield Sample(N)


eigvals = primitive(Eigvals)
