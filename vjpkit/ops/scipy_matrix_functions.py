"""Functions of a matrix, and their Fréchet derivatives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.errors import NotDifferentiableError, at, calling_position
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import unbroadcast
from vjpkit.kinds.linear import space
from vjpkit.ops.linalg import common_dtype, mirror
from vjpkit.ops.linalg.matrices import square
from vjpkit.ops.scipy_equations import solve_sylvester
from vjpkit.ops.scipy_looped import Looped, leading
from vjpkit.ops.structural import to_dtype

__all__ = ["FUNCTIONS", "frechet", "matrix_function"]

_A = np.array([[1.3, -0.2, 0.5], [0.0, 1.4, -0.6], [0.2, 0.0, 1.9]])
_E = np.array([[0.2, 0.1, -0.3], [-0.4, 0.3, 0.6], [0.1, -0.5, 0.2]])

FUNCTIONS = ("expm", "fractional_matrix_power", "logm", "signm", "sqrtm")
"""SciPy's functions that the others are made of."""


SCHUR = {"analytic": "Schur forms of complex matrices do not resolve a complex step"}


def value_of(function: str, a: Any, *powers: float) -> Any:
    """SciPy's value for one matrix, computed in double precision.

    That of a real matrix is one side of a branch cut: rounding does not choose it.
    """
    import scipy.linalg

    double = np.asarray(a, np.result_type(a, np.float64))
    if not np.any(double.imag):
        double = double.real
    return getattr(scipy.linalg, function)(double, *powers)


def require_smooth(function: str, a: Any) -> None:
    """Raise where f has no derivative at A, or one that blocks of it would not show.

    These have the eigenvalues of A twice, which rounding moves by its square root; and blocks of
    blocks four times.
    """
    if function == "expm":
        return
    share, n = 0.5, len(a) // 2
    while n and np.array_equal(a[:n, :n], a[n:, n:]) and not a[n:, :n].any():
        a, share, n = a[:n, :n], share / 2, n // 2
    eps = np.finfo(np.float64).eps
    reach = 10 * np.linalg.norm(a) * eps**share
    w = np.linalg.eigvals(a)
    if function == "signm":
        bad, where = abs(w.real) <= reach, "an imaginary eigenvalue, where the sign jumps"
    else:
        bad = (abs(w.imag) <= reach) & (w.real <= reach)
        where = "an eigenvalue that is 0 or negative, where the principal branch ends"
    if bad.any():
        raise NotDifferentiableError(
            f"{function} has no derivative here: the matrix has {where}{at(calling_position())}\n"
            f"The eigenvalue is {w[bad][0]:.3g}; what is closer than {reach:.1g} counts."
        )


def blocks(a: Value, e: Value) -> Value:
    """((A, E), (0, A))."""
    shape = np.broadcast_shapes(a.shape, e.shape)
    a, e = np.broadcast_to(a, shape), np.broadcast_to(e, shape)
    above = np.concatenate([a, e], axis=-1)
    return np.concatenate([above, np.concatenate([np.zeros_like(a), a], axis=-1)], axis=-2)


def corner(x: Value) -> Value:
    """The block that is right and above."""
    n = x.shape[-1] // 2
    return x[..., :n, n:]


class MatrixFunction(Looped):
    """f(A) of square matrices; ``powers`` are further numbers that f takes.

    A real matrix of which f is complex must be complex itself.
    """

    core_ndims = (2,)
    exempt = SCHUR

    @staticmethod
    def routine(a: Any, function: str, powers: tuple[float, ...]) -> Any:
        out = value_of(function, a, *powers)
        return out if np.iscomplexobj(a) else np.real(out)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        if params["function"] == "sqrtm":  # from X X = A
            return solve_sylvester(out, out, ts[0])
        return frechet(values[0], ts[0], **params)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (a,) = avals
        square(a)
        return Aval(a.shape, common_dtype(a))

    def samples(self) -> Iterable[Sample]:
        for function in FUNCTIONS:
            powers = (0.3,) if function == "fractional_matrix_power" else ()
            yield Sample(_A, function=function, powers=powers)
            yield Sample(np.stack([_A + 1j * _E, _A]), function=function, powers=powers)
        yield Sample(_A[:0, :0], function="expm", powers=())


matrix_function = primitive(MatrixFunction)


class Frechet(Looped):
    """The derivative of f at A along E: the corner of f((A, E), (0, A)) (Higham, 2008, 3.2).

    It is linear in E, with the derivative at Aᵀ as its transpose; and its own derivative in A is
    the derivative of f at that block matrix.
    """

    core_ndims = (2, 2)
    exempt = SCHUR
    transposes = {1: lambda ct, values, **params: _pull(ct, values, params)}

    @staticmethod
    def routine(a: Any, e: Any, function: str, powers: tuple[float, ...]) -> Any:
        from scipy.linalg import expm_frechet

        if function == "expm":
            return expm_frechet(a, e, compute_expm=False, check_finite=False)
        require_smooth(function, a)
        out = corner(value_of(function, blocks(a, e), *powers))
        return out if np.iscomplexobj(a) else np.real(out)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        a, e = [to_dtype(x, out.dtype) for x in values]
        ta, te = ts
        parts = [] if te is None else [frechet(a, te, **params)]
        if ta is not None:
            parts.append(corner(frechet(blocks(a, e), blocks(ta, np.zeros_like(ta)), **params)))
        return sum(parts[1:], parts[0]) if parts else None

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        a, e = avals
        n = square(a)
        if square(e) != n:
            raise ValueError("expected A and E to be the same shape")
        return Aval((*leading(avals, self.core_ndims), n, n), common_dtype(a, e))

    def samples(self) -> Iterable[Sample]:
        for function in ("expm", "fractional_matrix_power", "logm", "signm"):
            powers = (0.3,) if function == "fractional_matrix_power" else ()
            yield Sample(_A, _E, function=function, powers=powers)
        yield Sample(np.stack([_A + 1j * _E, _A]), _E, function="expm", powers=())
        yield Sample(_A[:0, :0], _E[:0, :0], function="expm", powers=())


frechet = primitive(Frechet)


def _pull(ct: Value, values: Sequence[Value], params: Any) -> Value:
    a, e = values
    return unbroadcast(frechet(mirror(a), ct, **params), *space(e))
