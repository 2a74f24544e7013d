"""What the derivatives of eigenvalue and singular value decompositions share: gaps in the spectrum.

The derivative of eigenvectors divides by differences of eigenvalues. Where these agree to rounding
the eigenvectors are any basis of a space, and only what does not depend on the basis has a
derivative: such cotangents are recognised and pulled back exactly, others are an error.

Where they are close, what does not depend on the vectors one by one has a derivative of ordinary
size, computed from differences of numbers that nearly agree, divided by a small gap. It counts as
ill-posed too where rounding, so enlarged, reaches half of the digits of the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import unbroadcast
from vjpkit.kinds import General
from vjpkit.kinds.linear import space, zeros
from vjpkit.ops.ill_posed import IllPosed, Report
from vjpkit.ops.structural import to_dtype

__all__ = [
    "adjoint",
    "divided",
    "generic",
    "inexact",
    "negligible",
    "real_dtype",
    "reciprocal_gaps",
    "spectrum_mean",
    "spectrum_pull",
    "spectrum_push",
    "tolerance",
]

Array = np.ndarray[Any, np.dtype[Any]]

_W = np.array([-0.7, 0.4, 1.5])
_M = np.array([[0.3, -1.2, 2.5], [1.7, 0.4, -0.6], [0.2, 0.9, -1.1]])
_Z = np.array([0.5 + 0.2j, -0.3 + 0.7j, 1.1 - 0.4j])


def adjoint(x: Value) -> Value:
    """The conjugate transpose of the last two axes."""
    x = np.swapaxes(x, -1, -2)
    return np.conjugate(x) if aval_of(x).dtype.kind == "c" else x


def tolerance(w: Value) -> Value:
    """Spectra are computed to about this: values that differ by less count as equal."""
    eps = np.finfo(w.dtype).eps
    return 10 * w.shape[-1] * eps * abs(w).max(axis=-1, initial=0, keepdims=True)


_NEARLY = 10
"""Values may be so many times what is negligible apart, to be treated as equal ones are."""


def negligible(x: Array) -> Any:
    """What of ``x`` counts as zero: half of its digits are below it."""
    return np.sqrt(np.finfo(x.dtype).eps) * abs(x).max(initial=0)


def _groups(together: Array) -> Array:
    """The pairs that a chain of such pairs connects."""
    out = together | np.eye(together.shape[-1], dtype=bool)
    for _ in range(together.shape[-1].bit_length()):
        out = out @ out
    return out


def _gaps(w: Array) -> tuple[Array, Array]:
    """``1 / (w_j - w_i)``, 0 where these agree, and where they agree: a chain of values does."""
    gaps = w[..., None, :] - w[..., :, None]
    equal = abs(gaps) <= tolerance(w)[..., None]
    if _degenerate(equal):
        equal = _groups(equal)
    return ~equal / np.where(equal, 1, gaps), equal


def _degenerate(equal: Array) -> bool:
    """Whether any value agrees with another one."""
    return bool(np.count_nonzero(equal) > equal.size // max(equal.shape[-1], 1))


def _noise(f: Array, ct: Array, hermitian: bool) -> Array:
    """The rounding errors of F ∘ ct, over eps: ct is a product with vectors, as exact as its
    columns are large."""
    size = abs(ct).max(axis=-2, initial=0, keepdims=True)
    return np.asarray(abs(f) * (size + np.swapaxes(size, -1, -2) if hermitian else size))


def _most(x: Array) -> Array:
    """The largest size of an element of each matrix."""
    return np.asarray(abs(x).max(axis=(-2, -1), initial=0, keepdims=True))


def _size(out: Array, w: Array, ct: Array) -> Array:
    """The size of a cotangent of M: what ``ct`` gives, or what it would give were it generic."""
    scale = _most(w[..., None])
    return np.maximum(_most(out), _most(ct) / np.where(scale > 0, scale, 1))


def generic(w: Array, *vectors: Array) -> tuple[Array, ...]:
    """Vectors with each basis of a space turned, by one reflection, into no special one.

    A matrix that is no multiple of the identity there has a diagonal that is not constant in such a
    basis: that is how `spectrum_pull` tells a second derivative that depends on more than it knows.
    """
    _, equal = _gaps(w)
    if not _degenerate(equal):
        return vectors
    turned = tuple([v.copy() for v in vectors])
    for index in np.ndindex(*w.shape[:-1]):
        for row in np.unique(equal[index], axis=0):
            (group,) = row.nonzero()
            if len(group) > 1:
                normal = np.cos(1.0 + np.arange(len(group))) + 0j
                normal *= np.exp(1j * np.arange(len(group)) ** 2)
                for v in turned:
                    x = normal if v.dtype.kind == "c" else normal.real
                    mirror = np.eye(len(group)) - 2 * np.outer(x, x.conj()) / np.vdot(x, x)
                    v[index][:, group] = v[index][:, group] @ mirror.astype(v.dtype)
    return turned


_ARBITRARY = "which are an arbitrary basis there"


def _tell(report: Report, equal: Array, what: str) -> None:
    """Report that derivatives of vectors are asked for where values of a spectrum agree."""
    pairs = np.argwhere(np.triu(equal, 1))
    i, j = pairs[0][-2:]
    report(
        f"values {i} and {j} of a spectrum agree to rounding (10 n eps times the largest), and "
        f"{what}\n"
        "Use the values alone (eigvalsh, svdvals), a function that does not depend on the basis, "
        "or move the matrix so that its spectrum is simple."
    )


def _tell_lost(report: Report, lost: Array, what: str) -> None:
    """Report that rounding errors take half of the digits where values of a spectrum are close."""
    i, j = np.argwhere(lost)[0][-2:]
    report(
        f"values {min(i, j)} and {max(i, j)} of a spectrum are so close that {what} is lost to "
        "rounding in half of its digits\n"
        "Use the values alone (eigvalsh, svdvals), a function of the matrix itself (slogdet, inv, "
        "matrix_power, solve), or move the matrix so that its spectrum is simple."
    )


def inexact(*avals: Aval) -> np.dtype[Any]:
    """The dtype of products of such operands, floating at least."""
    return np.result_type(*[a.dtype if a.inexact else np.float64 for a in avals])


def real_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(dtype.char.lower()) if dtype.kind in "fc" else np.dtype(float)


def _require_real(w: Value) -> None:
    if aval_of(w).dtype.kind == "c":
        raise TypeError("the spectrum of a Hermitian matrix is real")


class ReciprocalGaps(General):
    """``F_ij = 1 / (w_j - w_i)``, 0 where these agree."""

    core_ndims = (1,)

    @staticmethod
    def impl(w: Value) -> Value:
        return _gaps(w)[0]

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        (t,) = ts
        return out * out * (t[..., :, None] - t[..., None, :])  # type: ignore[index]  # not zero

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (w,) = avals
        if not w.inexact:
            raise TypeError("a spectrum is of floating numbers")
        return Aval((*w.shape, w.shape[-1]), w.dtype)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_W)
        yield Sample(np.stack([_Z, 2 * _Z]))
        yield Sample(_W[:1])
        yield Sample(_W[:0])


reciprocal_gaps = primitive(ReciprocalGaps)


class Divided(IllPosed):
    """F ∘ M, to be divided by gaps once more: in the derivative along w of `spectrum_push` at M.

    Given ``ct_w`` too, in that of `spectrum_pull` of M and it, or of its transpose. What a gap
    takes of the digits of these, it takes once more of their derivative.
    """

    core_ndims = (1, 2, 1)
    exempt = {"mixed0": "a spectrum comes in its matrix's precision"}

    @staticmethod
    def compute(report: Report, w: Value, m: Value, *ct_w: Value, hermitian: bool = False) -> Value:
        f, _ = _gaps(w)
        if ct_w:
            loss = _noise(f, m, hermitian)
            whole = _size(_quotients(f, ct_w[0], m, hermitian), w, m)
        else:
            loss = abs(f * m) * np.maximum(abs(w)[..., None, :], abs(w)[..., :, None])
            whole = _most(m)
        lost = np.finfo(f.dtype).eps ** 0.25 * loss > whole
        if lost.any():
            _tell_lost(report, lost, "a second derivative")
        return np.broadcast_to(f * m, np.broadcast_shapes(lost.shape, m.shape))

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        f = reciprocal_gaps(values[0])
        parts = [] if ts[1] is None else [np.broadcast_to(f * ts[1], aval_of(out).shape)]
        if ts[0] is not None:
            parts.append(out * f * (ts[0][..., :, None] - ts[0][..., None, :]))
        return sum(parts[1:], parts[0]) if parts else None

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return not mask[0] and mask[1]

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        w, m, *ct_w = avals
        if not w.inexact:
            raise TypeError("a spectrum is of floating numbers")
        leads = [a.shape[:-1] for a in (w, *ct_w)]
        return Aval(np.broadcast_shapes(m.shape, *[(*x, 1, 1) for x in leads]), inexact(w, m))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_W, np.stack([_M, 2 * _M]))
        yield Sample(_W, _M, np.stack([_W, 2 * _W]), wrt=(0, 1), hermitian=True)
        yield Sample(_Z, _M, _Z, wrt=(0, 1), hermitian=False)


divided = primitive(Divided)


class SpectrumMean(IllPosed):
    """The mean of ``d`` over values of ``w`` that agree: tangents of a spectrum with ties.

    With ``kink``, 0 where ``w`` is 0: singular values have a kink there, as abs has.

    Given ``c`` as a third operand, ``d`` itself where ``c`` is constant over values that agree: the
    tangent of the mean of ``c``, where the spectrum moves too. There the ties may be resolved, and
    a ``c`` that comes from a function f of each value, c = f'(w), is its own mean before and after.
    Another ``c`` stops being a mean where the ties are resolved, and has no tangent.
    """

    core_ndims = (1, 1, 1)
    exempt = {"undeclared": "linear in w too, where no two values agree, as in random numbers"}
    transposes = {1: lambda ct, values, **params: _mean_pull(ct, values, params)}

    @staticmethod
    def compute(report: Report, w: Value, d: Value, *given: Value, kink: bool) -> Value:
        _, equal = _gaps(w)
        shape = np.broadcast_shapes(w.shape, d.shape, *[c.shape for c in given])
        d = np.broadcast_to(d, shape)
        if _degenerate(equal):
            d = _means(report, equal, d, *given)
        out = np.array(d, inexact(aval_of(w), aval_of(d)))
        if kink:
            np.copyto(out, 0, where=abs(w) <= tolerance(w))
        return out

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        w, d, *given = values
        if ts[1] is None:
            return None
        return spectrum_mean(w, ts[1], *(given or ([] if ts[0] is None else [d])), **params)

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return mask in ((False, True), (False, True, False))

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        w, d = avals[:2]
        return Aval(np.broadcast_shapes(*[a.shape for a in avals]), inexact(w, d))

    def samples(self) -> Iterable[Sample]:
        tied = np.array([0.5, 0.5, 2.0])
        yield Sample(tied, _W, np.array([1.0, 1.0, 2.0]), wrt=(1,), kink=False)
        yield Sample(tied, _W, np.array([1.0, 1.0, 2.0]), wrt=(1,), kink=True)
        yield Sample(np.array([0.5, 0.5, 2.0]), _W, wrt=(1,), kink=False)
        yield Sample(np.array([2.0, 1.0, 0.0]), _W, wrt=(1,), kink=True)
        yield Sample(np.stack([_Z, _Z[[0, 0, 1]]]), _Z, wrt=(1,), kink=False)
        yield Sample(_W[:0], _W[:0], wrt=(1,), kink=False)


spectrum_mean = primitive(SpectrumMean)


def _means(report: Report, equal: Array, d: Array, *given: Array) -> Array:
    """The means of ``d`` over values that agree; with ``c``, ``d`` where this is constant."""
    mean = np.where(equal, d[..., None, :], 0).sum(axis=-1) / equal.sum(axis=-1)
    for c in given:
        moves = equal & (abs(c[..., None, :] - c[..., :, None]) > negligible(c))
        if np.where(moves, abs(d)[..., None, :], 0).any():
            _tell(report, equal, "what is differentiated is not the same for all of them")
        mean = np.where(moves.any(axis=-1), mean, d)
    return np.asarray(mean)


def _mean_pull(ct: Value, values: Sequence[Value], params: Any) -> Value:
    return unbroadcast(spectrum_mean(values[0], ct, *values[2:], **params), *space(values[1]))


class SpectrumPush(IllPosed):
    """Tangents of a spectrum and of the rotation of its vectors, from M = Vᴴ dA V.

    dw is the diagonal of M, Ω = Vᴴ dV is ``M_ij / (w_j - w_i)``. With ``hermitian`` the Hermitian
    part of M is taken. Where values agree, M must be a multiple of the identity (then they go on
    agreeing, and any basis stays one), or else the vectors have no derivative.
    """

    multi = True
    core_ndims = (1, 2)
    exempt = dict.fromkeys(("mixed0", "mixed1"), "a spectrum comes in its matrix's precision")

    @staticmethod
    def compute(report: Report, w: Value, m: Value, hermitian: bool) -> tuple[Value, Value]:
        if hermitian:
            _require_real(w)
            m = (m + adjoint(m)) / 2
        f, equal = _gaps(w)
        d = np.diagonal(m, axis1=-2, axis2=-1)
        d = d.real if hermitian else d
        omega = f * m
        _check_turns(report, w, m, omega)
        if _degenerate(equal):
            off = equal & ~np.eye(m.shape[-1], dtype=bool)
            turns = abs(np.where(off, m, 0)) > negligible(m)
            parts = equal & (abs(d[..., None, :] - d[..., :, None]) > negligible(m))
            if turns.any() or parts.any():
                _tell(report, equal, f"the tangent asked for is one of their vectors, {_ARBITRARY}")
        return spectrum_mean.impl(w, d, kink=False), omega

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        (w, m), (tw, tm) = values, ts
        turned = None
        if tw is not None:
            part = (m + adjoint(m)) / 2 if params["hermitian"] else m
            turned = _gap_tangent(w, tw, divided(w, part))
        if tm is None:
            return None, turned
        dw, omega = spectrum_push(w, tm, **params)
        return dw, omega if turned is None else omega + turned

    def pullback(
        self,
        values: Sequence[Value],
        outs: Sequence[Value],
        live: tuple[int, ...],
        given: Sequence[Value | None],
        **params: Any,
    ) -> Sequence[Value | None]:
        w = values[0]
        ct_w, ct_omega = given
        first = zeros(aval_of(outs[0]), ct_omega) if ct_w is None else ct_w
        pulled: list[Value | None] = []
        for i in live:
            if i == 1:
                parts = () if ct_omega is None else (ct_omega,)
                if not parts:  # complex where M is: so is the cotangent that comes back
                    first = to_dtype(first, aval_of(outs[1]).dtype)
                pulled.append(spectrum_pull(w, first, *parts, **params))
            elif ct_omega is None:
                pulled.append(None)
            else:
                weight = divided(w, ct_omega, first, **params) * outs[1]
                pulled.append(_gap_cotangent(w, weight))
        return [
            None if c is None else unbroadcast(c, *space(values[i])) for i, c in zip(live, pulled)
        ]

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return mask == (False, True)

    def abstract(self, *avals: Aval, hermitian: bool, **params: Any) -> tuple[Aval, Aval]:
        w, m = avals
        if hermitian:
            _require_real(w)
        dtype = inexact(w, m)
        lead = np.broadcast_shapes(w.shape[:-1], m.shape[:-2])
        real = real_dtype(dtype) if hermitian else dtype
        return Aval((*lead, w.shape[-1]), real), Aval((*lead, *m.shape[-2:]), dtype)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_W, _M, hermitian=True)
        yield Sample(_W, _M + 1j * _M.T, hermitian=True)
        yield Sample(_Z, _M + 1j * _M.T, hermitian=False)
        yield Sample(np.stack([_W, 2 * _W]), _M, hermitian=True)
        yield Sample(_W[:0], _M[:0, :0], hermitian=True)


spectrum_push = primitive(SpectrumPush)


def _check_turns(report: Report, w: Array, m: Array, omega: Array) -> None:
    """What does not depend on vectors that turn so fast is lost in their tangents."""
    eps = np.finfo(omega.dtype).eps
    scale = _most(w[..., None])
    lost = np.sqrt(eps) * scale * abs(omega) > _most(m)
    if lost.any():
        _tell_lost(report, lost, "what depends smoothly on the matrix")


def _gap_tangent(w: Value, tw: Value, omega: Value) -> Value:
    """The tangent of F ∘ M along that of w, from Ω = F ∘ M: dF = -F ∘ F ∘ (dw_j - dw_i)."""
    return omega * reciprocal_gaps(w) * (tw[..., :, None] - tw[..., None, :])


def _gap_cotangent(w: Value, weight: Value) -> Value:
    """The transpose of `_gap_tangent` in ``tw``, from what multiplies the differences."""
    out = np.sum(weight, axis=-1) - np.sum(weight, axis=-2)
    return np.real(out) if aval_of(w).dtype.kind != "c" else out


class SpectrumPull(IllPosed):
    """The transpose of `spectrum_push`: the cotangent of M from those of the spectrum and of Ω.

    Where values agree (a group), a cotangent that does not depend on the basis is one of these:

    * that of Ω vanishes there and that of w is constant: c times the identity
    * that of Ω is Hermitian there, and that of w is its diagonal times c, plus a constant: it comes
      from a function V f(w) Vᴴ of the matrix, whose derivative there is c times the cotangent of Ω,
      plus the constant times the identity

    Without a cotangent of Ω, that of w is shared equally in the group. Where values are so close
    that their quotients are lost to rounding, cotangents of the second kind are as good as those
    where they agree: to about the gap.
    """

    core_ndims = (1, 1, 2)
    exempt = {"mixed0": "a spectrum comes in its matrix's precision"}

    @staticmethod
    def compute(report: Report, w: Value, ct_w: Value, *ct_omega: Value, hermitian: bool) -> Value:
        if hermitian:
            _require_real(w)
        if not ct_omega:
            return _diagonal_matrix(spectrum_mean.impl(w, ct_w, kink=False))
        (ct,) = ct_omega
        f, equal = _gaps(w)
        out = _quotients(f, ct_w, ct, hermitian)
        lost = np.sqrt(np.finfo(out.dtype).eps) * _noise(f, ct, hermitian) > _size(out, w, ct)
        if _degenerate(equal) or lost.any():
            lost = np.broadcast_to(lost, out.shape)
            _fill_groups(report, out, w, lost, ct_w, ct, hermitian)
        return out

    def jvp(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        hermitian: bool = True,
        **params: Any,
    ) -> Any:
        total = None
        if any(t is not None for t in ts[1:]):
            some = next(t for t in ts[1:] if t is not None)
            dense = [
                zeros(aval_of(v), some) if t is None else t for v, t in zip(values[1:], ts[1:])
            ]
            total = spectrum_pull(values[0], *dense, hermitian=hermitian)
        if ts[0] is None or len(values) < 3:
            return total
        w, ct_w, ct_omega = values
        turned = _gap_tangent(w, ts[0], divided(w, ct_omega, ct_w, hermitian=hermitian))
        if hermitian:
            turned = (turned + adjoint(turned)) / 2
        return turned if total is None else total + turned

    def pullback(
        self,
        values: Sequence[Value],
        outs: Sequence[Value],
        live: tuple[int, ...],
        given: Sequence[Value | None],
        **params: Any,
    ) -> Sequence[Value | None]:
        w, ct_w, *ct_omega = values
        (ct,) = given
        if not ct_omega:
            # What the spectrum's own tangents do to these values is known of simple ones only.
            d = spectrum_push(w, ct, **params)[0] if 0 in live else _diagonal(w, ct, **params)
            return [unbroadcast(d, *space(values[1])) if i else None for i in live]
        pulled = [None, *spectrum_push(w, ct, **params)]
        if 0 in live:
            half = (ct + adjoint(ct)) / 2 if params["hermitian"] else ct
            weight = half * divided(w, ct_omega[0], ct_w, **params) * reciprocal_gaps(w)
            pulled[0] = _gap_cotangent(w, weight)
        return [
            None if pulled[i] is None else unbroadcast(pulled[i], *space(values[i])) for i in live
        ]

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return not mask[0] and all(mask[1:])

    def abstract(self, *avals: Aval, hermitian: bool, **params: Any) -> Aval:
        w, ct_w, *ct_omega = avals
        if hermitian:
            _require_real(w)
        lead = np.broadcast_shapes(w.shape[:-1], ct_w.shape[:-1], *[a.shape[:-2] for a in ct_omega])
        return Aval((*lead, w.shape[-1], w.shape[-1]), inexact(*avals))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_W, _M[0], _M, hermitian=True)
        yield Sample(_W, _M[0], _M + 1j * _M.T, hermitian=True)
        yield Sample(np.array([-0.7, 0.0, 1.5]), _M[0], hermitian=True)
        yield Sample(_Z, 1j * _M[0], _M + 1j * _M.T, hermitian=False)
        yield Sample(_Z, 1j * _M[0], hermitian=False)


spectrum_pull = primitive(SpectrumPull)


def _diagonal(w: Value, m: Value, hermitian: bool) -> Value:
    """The transpose of a spectrum's cotangent on the diagonal."""
    d = np.diagonal(m, axis1=-2, axis2=-1)
    return spectrum_mean(w, np.real(d) if hermitian else d, kink=False)


def _diagonal_matrix(d: Array) -> Array:
    """Matrices with these diagonals."""
    out = np.zeros((*d.shape, d.shape[-1]), d.dtype)
    np.einsum("...ii->...i", out)[...] = d
    return out


def _quotients(f: Array, ct_w: Array, ct: Array, hermitian: bool) -> Array:
    """The cotangent of M where no values agree."""
    out = f * ct
    if hermitian:
        out = (out + adjoint(out)) / 2
    return np.asarray(out + _diagonal_matrix(ct_w))


def _fill_groups(
    report: Report, out: Array, w: Array, lost: Array, ct_w: Array, ct: Array, hermitian: bool
) -> None:
    """Write the blocks of ``out`` of values that agree, or are so close that quotients are lost."""
    _, equal = _gaps(w)
    w, ct_w = np.broadcast_to(w, out.shape[:-1]), np.broadcast_to(ct_w, out.shape[:-1])
    ct, equal = np.broadcast_to(ct, out.shape), np.broadcast_to(equal, out.shape)
    for index in np.ndindex(*out.shape[:-2]):
        limits = negligible(ct[index]), negligible(out[index])
        for row in np.unique(_groups(equal[index] | lost[index]), axis=0):
            (group,) = row.nonzero()
            block = np.ix_(group, group)
            b, c = ct_w[index][group], ct[index][block]
            if lost[index][block].any():
                spread = abs(w[index][group] - w[index][group[0]]).max()
                as_one = spread <= _NEARLY * negligible(w[index])
                found = _close_block(b, c, *limits, hermitian) if as_one else None
                if found is None:
                    _tell_lost(report, lost[index], "what depends smoothly on the matrix")
            elif len(group) > 1:
                found = _block(b, c, *limits, hermitian)
                if found is None:
                    what = f"the cotangent depends on the choice of their vectors, {_ARBITRARY}"
                    _tell(report, equal, what)
            else:
                continue
            if found is not None:
                out[index][block] = found


def _close_block(b: Array, c: Array, limit: Any, limit_w: Any, hermitian: bool) -> Array | None:
    """`_block` of values that nearly agree: what is told from them may differ by their gap.

    The cotangents of the values themselves have all of their digits.
    """
    c = (c + c.conj().T) / 2 if hermitian else c
    found = _block(b, c, _NEARLY * limit, _NEARLY * limit_w, hermitian)
    if found is not None:
        np.fill_diagonal(found, b)
    return found


def _block(b: Array, c: Array, limit: Any, limit_w: Any, hermitian: bool) -> Array | None:
    """The cotangent of one group's block of M, from those of its values and of its block of Ω.

    What of c and of b counts as zero is told by all of the cotangents that they are a part of.
    """

    def close(x: Array, y: Array) -> bool:
        return bool((abs(x - y) <= limit_w).all())

    symmetric = (c + c.conj().T) / 2
    if (abs(c - (symmetric if hermitian else 0)) > limit).any():
        return None
    d = np.diagonal(symmetric).real
    off = abs(symmetric - np.diag(np.diagonal(symmetric)))
    mean = b.mean()
    if (off <= limit).all() and close(mean, b):
        return np.asarray(mean * np.eye(len(b)))
    if (abs(d) <= limit).all():
        return None
    constant, factor = _line(b, d, limit)
    found = constant * np.eye(len(b)) + factor * symmetric
    return np.asarray(found) if close(constant + factor * d, b) else None


def _line(b: Array, d: Array, limit: Any) -> tuple[Any, Any]:
    """The constant and the factor by which b may depend on d: one of them, or both where they are
    told apart by a third value."""
    factor = (b @ d) / (d @ d)
    off = d - d.mean()
    if (abs(b - factor * d) <= negligible(b)).all() or (abs(off) <= limit).all():
        return 0.0, factor
    slope = (off @ b) / (off @ off) if len(b) > 2 else 0.0
    return b.mean() - slope * d.mean(), slope
