"""Eigenvectors and singular vectors: where they have no derivative, and what fixes their phase."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import unbroadcast
from vjpkit.kinds import PiecewiseConstant, solved_terms
from vjpkit.kinds.linear import space
from vjpkit.ops.ill_posed import IllPosed, Report
from vjpkit.ops.spectra import inexact, negligible, real_dtype

__all__ = ["guarded_quotient", "independent", "phase_rows"]

_M = np.array([[0.3, -1.2, 2.5], [1.7, 0.4, -0.6], [0.2, 0.9, -1.1]])


class GuardedQuotient(IllPosed):
    """``x / y``, where ``y`` has values that count as zero if they are small against the largest.

    There ``x`` must count as zero too, and gives 0; else what it stands for has no derivative.
    """

    core_ndims = (2, 2)
    transposes = {0: lambda ct, values: _quotient_pull(ct, values)}

    @staticmethod
    def compute(report: Report, x: Value, y: Value) -> Value:
        eps = np.finfo(np.true_divide.resolve_dtypes((x.dtype, y.dtype, None))[-1]).eps
        limit = 10 * max(x.shape[-2:]) * eps * abs(y).max(axis=(-2, -1), initial=0, keepdims=True)
        small = abs(y) <= limit
        if small.any():
            if (abs(np.where(small, x, 0)) > negligible(x)).any():
                report(
                    "singular values vanish to rounding, and vectors that belong to them are to be "
                    "differentiated; these have no derivative there\n"
                    "Use the singular values alone (svdvals), or only the vectors that belong to "
                    "the others."
                )
            return np.where(small, 0, x / np.where(small, 1, y))
        return x / y

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        (_, y), (tx, ty) = values, ts
        a = None if tx is None else guarded_quotient(tx, y)
        b = None if ty is None else -guarded_quotient(out * ty, y)
        return b if a is None else a if b is None else a + b

    def taylor(self, values: Sequence[Value], series: Sequence[Any], out: Value) -> Any:
        """From x = y out."""
        divided = lambda rest: guarded_quotient(rest, values[1])  # noqa: E731
        return solved_terms(series, out, operator.mul, divided)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        x, y = avals
        dtype = np.true_divide.resolve_dtypes((x.dtype, y.dtype, None))[-1]
        return Aval(np.broadcast_shapes(x.shape, y.shape), dtype)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, abs(_M) + 1)
        yield Sample(np.stack([_M, _M * 2]), abs(_M.T) + 1)


guarded_quotient = primitive(GuardedQuotient)


def _quotient_pull(ct: Value, values: Sequence[Value]) -> Value:
    return unbroadcast(guarded_quotient(ct, values[1]), *space(values[0]))


_DEPENDENT = {
    "eigenvectors": (
        "eigenvalues and eigenvectors of a defective matrix (the eigenvectors are dependent to the "
        "root of 10 n eps) are to be differentiated; they have no derivative there\n"
        "Use a function of the matrix itself (det, trace, matrix_power), or move the matrix so "
        "that its eigenvalues differ."
    ),
    "columns": (
        "orthogonal factors of a matrix with dependent columns (to 10 n eps of the largest) are to "
        "be differentiated; they have no derivative there\n"
        "Use the singular values or a projection, or move the matrix so that it has full rank."
    ),
    "matrix": (
        "a determinant is to be differentiated more than twice at a matrix that is singular to "
        "half of its digits, where such derivatives are not computed accurately\n"
        "Use at most second derivatives there, or move the matrix so that it has full rank."
    ),
}


class Independent(IllPosed):
    """``v``, if its columns are independent; else a matrix with which nothing can be solved.

    Columns that are made orthogonal must be so to rounding, 10 n eps. Eigenvectors must be so to
    its root: they are dependent where a matrix is defective, and there its eigenvalues move like
    the root of a perturbation. A matrix whose inverse stands for its cofactors must be so to half
    of its digits.
    """

    core_ndims = (2,)
    transposes = {0: lambda ct, values, **params: ct}

    @staticmethod
    def compute(report: Report, v: Value, of: str) -> Value:
        v = np.array(v, inexact(aval_of(v)))
        s = np.linalg.svd(v, compute_uv=False)
        n = s.shape[-1]
        if not n:
            return v
        eps = np.finfo(s.dtype).eps
        rounding = 10 * n * eps
        least = {"columns": rounding, "eigenvectors": np.sqrt(rounding), "matrix": np.sqrt(eps)}[of]
        dependent = s[..., -1] <= least * s[..., 0]
        if not dependent.any():
            return v
        report(_DEPENDENT[of])
        nothing = np.eye(n, dtype=v.dtype) / np.sqrt(np.finfo(s.dtype).tiny)
        return np.where(dependent[..., None, None], nothing, v)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        return ts[0]

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (v,) = avals
        if v.inexact and v.dtype.char not in "fdFD":
            raise TypeError(f"array type {v.dtype.name} is unsupported in linalg")
        return Aval(v.shape, inexact(v))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, of="columns")
        yield Sample(np.stack([_M, _M + 1j * _M.T]), of="eigenvectors")
        yield Sample(_M[:0, :0], of="matrix")


independent = primitive(Independent)


class PhaseRows(PiecewiseConstant):
    """1 at one element of each column of complex vectors, 0 elsewhere.

    LAPACK fixes the phase of a vector by making an element of it real: that of one row (``prefer``
    is "first" or "last"), or the largest. Of the elements without imaginary part this is that one,
    or else the largest; a column of zeros says that there is none.
    """

    core_ndims = (2,)

    @staticmethod
    def impl(v: Value, prefer: str) -> Value:
        dtype = real_dtype(aval_of(v).dtype)
        if not v.size:
            return np.zeros(v.shape, dtype)
        real = abs(v.imag) <= 32 * np.finfo(dtype).eps * abs(v.real)
        size = np.where(real, abs(v.real), 0)
        chosen = size.argmax(axis=-2)
        if prefer != "largest":
            row = 0 if prefer == "first" else v.shape[-2] - 1
            chosen = np.where(size[..., row, :] > np.sqrt(np.finfo(dtype).eps), row, chosen)
        here = np.arange(v.shape[-2])[:, None] == chosen[..., None, :]
        return (here & (size > 0)).astype(dtype)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return Aval(avals[0].shape, real_dtype(avals[0].dtype))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M + 1j * np.tril(_M), wrt=(), prefer="largest")
        yield Sample(_M, wrt=(), prefer="last")


phase_rows = primitive(PhaseRows)
