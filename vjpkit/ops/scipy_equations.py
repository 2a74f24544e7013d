"""Equations that are linear in the unknown matrix, and Riccati's: SciPy's solvers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import unbroadcast
from vjpkit.kinds import PiecewiseConstant
from vjpkit.kinds.linear import space
from vjpkit.ops.linalg import common_dtype, mirror, solve
from vjpkit.ops.linalg.matrices import square
from vjpkit.ops.scipy_looped import Looped, Looping, leading
from vjpkit.ops.spectra import adjoint
from vjpkit.ops.structural import to_dtype

__all__ = [
    "hermitian_band",
    "hermitian_part",
    "pivoted",
    "riccati",
    "solve_banded",
    "solve_stein",
    "solve_sylvester",
    "solve_toeplitz",
    "solve_triangular",
    "toeplitz_matrix",
]

_A = np.array([[1.3, -1.2, 0.5], [0.7, 2.4, -0.6], [0.2, 0.9, -1.1]])
_B = np.array([[0.5, 1.1], [-0.7, 0.2], [1.3, -0.9]])
_D = np.array([[0.4, 0.3], [-0.2, 3.5]])
_I = np.array([[0.2, 0.1, -0.3], [-0.4, 0.3, 0.6], [0.1, -0.5, 0.2]])


class Equation(Looped):
    """X with L(c) X = B, for an operator L that is linear in its coefficients c; B comes last.

    dX = L(c)⁻¹ (dB - L(dc) X), and the transpose in B solves with the transposed operator.
    """

    def __init__(self) -> None:
        super().__init__()
        self.transposes = {len(self.core_ndims) - 1: self._transposed}  # type: ignore[misc]

    def applied(self, cs: Sequence[Value | None], x: Value, **params: Any) -> Value:
        """L(c) X, where None stands for coefficients that are zero."""
        raise NotImplementedError(f"{self.name} declares no operator")

    def mirrored(
        self, cs: Sequence[Value], params: dict[str, Any]
    ) -> tuple[Sequence[Value], dict[str, Any]]:
        """Coefficients and parameters of the transposed operator."""
        raise NotImplementedError(f"{self.name} declares no transposed operator")

    def _transposed(self, ct: Value, values: Sequence[Value], **params: Any) -> Value:
        cs, params = self.mirrored(values[:-1], params)
        return unbroadcast(self(*cs, ct, **params), *space(values[-1]))

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        *cs, _ = values
        *tcs, t = ts
        if any(tc is not None for tc in tcs):
            moved = self.applied(tcs, out, **params)
            t = -moved if t is None else t - moved
        return None if t is None else self(*cs, t, **params)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        core = self.core_ndims[-1]
        b = avals[-1]
        lead = leading(avals, self.core_ndims)
        return Aval((*lead, *b.shape[b.ndim - core :]), common_dtype(*avals))


def _rows_fit(name: str, n: int, b: Aval) -> None:
    if b.shape[-2] != n:
        raise ValueError(f"{name}: {n} equations do not fit right-hand sides of {b.shape[-2]} rows")


class SolveTriangular(Equation):
    """X with T X = B (or Tᵀ X = B), T the lower or upper triangle of A, with ones if ``unit``."""

    core_ndims = (2, 2)

    @staticmethod
    def routine(a: Any, b: Any, lower: bool, transposed: bool, unit: bool) -> Any:
        from scipy.linalg import solve_triangular

        trans = int(transposed)
        return solve_triangular(a, b, trans, lower, unit, check_finite=False)

    def applied(self, cs: Sequence[Value | None], x: Value, **params: Any) -> Value:
        a: Value = cs[0]
        unit = int(params["unit"])
        t = np.tril(a, -unit) if params["lower"] else np.triu(a, unit)
        return (mirror(t) if params["transposed"] else t) @ x

    def mirrored(
        self, cs: Sequence[Value], params: dict[str, Any]
    ) -> tuple[Sequence[Value], dict[str, Any]]:
        return cs, params | {"transposed": not params["transposed"]}

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        _rows_fit(self.name, square(avals[0]), avals[1])
        return super().abstract(*avals, **params)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_A, _B, lower=True, transposed=False, unit=False)
        yield Sample(_A + 1j * _I, _B, lower=False, transposed=True, unit=True)
        yield Sample(np.stack([_A, 2 * _A]), _B, lower=False, transposed=False, unit=False)
        yield Sample(_A[:0, :0], _B[:0], lower=True, transposed=False, unit=False)


solve_triangular = primitive(SolveTriangular)


class SolveSylvester(Equation):
    """X with A X + X B = Q (Bartels and Stewart, 1972)."""

    core_ndims = (2, 2, 2)
    exempt = {"analytic": "Schur forms of complex matrices do not resolve a complex step"}

    @staticmethod
    def routine(a: Any, b: Any, q: Any) -> Any:
        from scipy.linalg import get_lapack_funcs, schur

        output = "complex" if np.iscomplexobj(a) else "real"
        r, u = schur(a, output)
        s, v = schur(b.conj().T, output)
        f = u.conj().T @ q @ v
        (trsyl,) = get_lapack_funcs(("trsyl",), (r, s, f))
        y, scale, info = trsyl(r, s, f, tranb="C")
        if info:
            raise np.linalg.LinAlgError(
                "A and -B have common or very close eigenvalues: A X + X B = Q has no one solution"
            )
        return u @ (scale * y) @ v.conj().T

    def applied(self, cs: Sequence[Value | None], x: Value, **params: Any) -> Value:
        a, b = cs
        parts = [] if a is None else [a @ x]
        parts += [] if b is None else [x @ b]
        return sum(parts[1:], parts[0])

    def mirrored(
        self, cs: Sequence[Value], params: dict[str, Any]
    ) -> tuple[Sequence[Value], dict[str, Any]]:
        return [mirror(c) for c in cs], params

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        a, b, q = avals
        if q.shape[-2:] != (square(a), square(b)):
            raise ValueError(
                f"solve_sylvester: the right-hand side is {q.shape[-2:]}, but A and B are of order "
                f"{square(a)} and {square(b)}"
            )
        return super().abstract(*avals, **params)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_A, _D, _B)
        yield Sample(_A + 1j * _I, _D, _B)
        yield Sample(_A, _D, _B * (1 + 2j))
        yield Sample(np.stack([_A, 2 * _A]), _D, np.stack([_B, _B]))
        yield Sample(_A, _D[:0, :0], _B[:, :0])


solve_sylvester = primitive(SolveSylvester)


def solve_stein(a: Value, q: Value) -> Value:
    """X with A X Aᴴ - X + Q = 0, by the bilinear transform to an equation of Lyapunov's.

    -1 must be no eigenvalue of A (Kitagawa, 1977).
    """
    ah = adjoint(a)
    one = np.eye(a.shape[-1], dtype=a.dtype)
    b = mirror(solve(mirror(ah + one), mirror(ah - one), transposed=False))
    right = mirror(solve(mirror(ah + one), mirror(q), transposed=False))
    c = 2 * solve(a + one, right, transposed=False)
    return solve_sylvester(adjoint(b), b, -c)


def toeplitz_matrix(c: Value, r: Value) -> Value:
    """The matrix of first column ``c`` and first row ``r``, whose first element is not read."""
    m, n = c.shape[-1], r.shape[-1]
    lead = np.broadcast_shapes(c.shape[:-1], r.shape[:-1])
    column = np.broadcast_to(c[..., ::-1], (*lead, m))
    row = np.broadcast_to(r[..., 1:], (*lead, max(n - 1, 0)))
    line = np.concatenate([column, row], axis=-1)
    places = (m - 1) - np.arange(m)[:, None] + np.arange(n)
    return line[..., places]


class SolveToeplitz(Equation):
    """X with T X = B, where T has the first column c and the first row r (Levinson, 1947)."""

    core_ndims = (1, 1, 2)

    @staticmethod
    def routine(c: Any, r: Any, b: Any) -> Any:
        from scipy.linalg import solve_toeplitz

        return solve_toeplitz((c, r), b, check_finite=False)

    def applied(self, cs: Sequence[Value | None], x: Value, **params: Any) -> Value:
        c, r = cs
        if c is None:
            c = np.zeros_like(r)
        return toeplitz_matrix(c, np.zeros_like(c) if r is None else r) @ x

    def mirrored(
        self, cs: Sequence[Value], params: dict[str, Any]
    ) -> tuple[Sequence[Value], dict[str, Any]]:
        c, r = cs
        lead = np.broadcast_shapes(c.shape[:-1], r.shape[:-1])
        first = np.broadcast_to(c[..., :1], (*lead, *c[..., :1].shape[-1:]))
        rest = np.broadcast_to(r[..., 1:], (*lead, *r[..., 1:].shape[-1:]))
        return (np.concatenate([first, rest], axis=-1), c), params

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        c, r, b = avals
        if c.shape[-1] != r.shape[-1]:
            raise ValueError(
                f"solve_toeplitz: a column of {c.shape[-1]} and a row of {r.shape[-1]} elements "
                "make no square matrix"
            )
        _rows_fit(self.name, c.shape[-1], b)
        return super().abstract(*avals, **params)

    def samples(self) -> Iterable[Sample]:
        c, r = np.array([2.5, 0.4, -0.7]), np.array([9.0, 1.1, 0.3])
        yield Sample(c, r, _B)
        yield Sample(c * (1 + 0.5j), r, _B)
        yield Sample(np.stack([c, 2 * c]), r, _B)
        yield Sample(c[:1], r[:1], _B[:1])
        yield Sample(c[:0], r[:0], _B[:0])


solve_toeplitz = primitive(SolveToeplitz)


class SolveBanded(Equation):
    """X with A X = B, A given by its diagonals: A_ij = ab[upper + i - j, j].

    ``definite`` matrices are Hermitian; their lower diagonals are not read, but must be there.
    """

    core_ndims = (2, 2)

    @staticmethod
    def routine(ab: Any, b: Any, lower: int, upper: int, definite: bool) -> Any:
        from scipy.linalg import solve_banded, solveh_banded

        if definite:
            return solveh_banded(ab[: upper + 1], b, check_finite=False)
        return solve_banded((lower, upper), ab, b, check_finite=False)

    def applied(self, cs: Sequence[Value | None], x: Value, **params: Any) -> Value:
        ab: Value = cs[0]
        lower, upper = params["lower"], params["upper"]
        n = x.shape[-2]
        parts = []
        for k in range(-min(lower, n - 1), min(upper, n - 1) + 1):
            columns = slice(max(k, 0), n + min(k, 0))
            product = ab[..., upper - k, columns, None] * x[..., columns, :]
            parts.append(_shifted(product, max(-k, 0), max(k, 0), axis=-2))
        return sum(parts[1:], parts[0])

    def mirrored(
        self, cs: Sequence[Value], params: dict[str, Any]
    ) -> tuple[Sequence[Value], dict[str, Any]]:
        (ab,) = cs
        lower, upper = params["lower"], params["upper"]
        n = ab.shape[-1]
        rows = []
        for k in range(lower, -upper - 1, -1):
            if abs(k) >= n:
                rows.append(np.zeros_like(ab[..., 0, :]))
                continue
            kept = ab[..., upper + k, max(-k, 0) : n - max(k, 0)]
            rows.append(_shifted(kept, max(k, 0), max(-k, 0), axis=-1))
        return (np.stack(rows, axis=-2),), params | {"lower": upper, "upper": lower}

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        ab, b = avals
        if ab.shape[-2] != params["lower"] + params["upper"] + 1:
            raise ValueError(
                f"solve_banded: {params['lower']} lower, {params['upper']} upper and the main "
                f"diagonal are not {ab.shape[-2]} rows"
            )
        _rows_fit(self.name, ab.shape[-1], b)
        return super().abstract(*avals, **params)

    def samples(self) -> Iterable[Sample]:
        ab = np.array([[9.0, 9.0, 0.3], [9.0, -1.2, 0.5], [2.3, 1.4, -1.1], [0.2, 0.9, 9.0]])
        yield Sample(ab, _B, lower=1, upper=2, definite=False)
        yield Sample(ab * (1 + 0.5j), _B, lower=1, upper=2, definite=False)
        yield Sample(np.stack([ab, 2 * ab]), _B, lower=2, upper=1, definite=False)
        yield Sample(ab[:1], _B, lower=0, upper=0, definite=False)


solve_banded = primitive(SolveBanded)


def _shifted(x: Value, before: int, after: int, axis: int) -> Value:
    """``x`` between zeros along ``axis``."""
    width = [(0, 0)] * x.ndim
    width[axis] = (before, after)
    return np.pad(x, width) if before or after else x


def hermitian_part(x: Value) -> Value:
    return (x + adjoint(x)) / 2


class Riccati(Looped):
    """X with Aᴴ X + X A - X B R⁻¹ Bᴴ X + Q = 0, Q and R Hermitian, or the equation of
    ``discrete`` time, Aᴴ X A - X - (Aᴴ X B) (R + Bᴴ X B)⁻¹ (Bᴴ X A) + Q = 0.

    With the feedback K, X is also the cost Q + Kᴴ R K of the closed loop C = A - B K, which does
    not change with K to first order: Cᴴ dX + dX C is minus what dQ, dR and dA - dB K contribute.
    """

    core_ndims = (2, 2, 2, 2)

    @staticmethod
    def routine(a: Any, b: Any, q: Any, r: Any, discrete: bool) -> Any:
        from scipy.linalg import solve_continuous_are, solve_discrete_are

        solver = solve_discrete_are if discrete else solve_continuous_are
        return solver(a, b, hermitian_part(q), hermitian_part(r))

    def jvp(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        discrete: bool = False,
        **params: Any,
    ) -> Any:
        a, b, _, r = values
        ta, tb, tq, tr = ts
        r = hermitian_part(r)
        seen = adjoint(b) @ out
        weight, target = (r + seen @ b, seen @ a) if discrete else (r, seen)
        k = solve(weight, target, transposed=False)
        closed = a - b @ k
        parts = [] if tq is None else [hermitian_part(tq)]
        if tr is not None:
            parts.append(adjoint(k) @ hermitian_part(tr) @ k)
        moved = [] if ta is None else [ta]
        moved += [] if tb is None else [-(tb @ k)]
        if moved:
            half = adjoint(sum(moved[1:], moved[0])) @ (out @ closed if discrete else out)
            parts.append(half + adjoint(half))
        if not parts:
            return None
        rest = sum(parts[1:], parts[0])
        if discrete:
            return solve_stein(adjoint(closed), rest)
        return solve_sylvester(adjoint(closed), closed, -rest)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        a, b, q, r = avals
        n, m = square(a), square(r)
        if b.shape[-2:] != (n, m) or square(q) != n:
            raise ValueError(
                f"A {a.shape[-2:]}, B {b.shape[-2:]}, Q {q.shape[-2:]} and R {r.shape[-2:]} "
                "do not fit"
            )
        return Aval((*leading(avals, self.core_ndims), n, n), common_dtype(*avals))

    def samples(self) -> Iterable[Sample]:
        q = np.diag([1.0, 2.0, 1.5]) + 0.1
        r = np.diag([1.0, 0.7])
        for discrete in (False, True):
            yield Sample(_A, _B, q, r, discrete=discrete)
            yield Sample(_A + 1j * _I, _B, np.stack([q, 2 * q]), r, discrete=discrete)


riccati = primitive(Riccati)


class Pivoted(Looping, PiecewiseConstant):
    """The order of rows after LAPACK's exchanges: row i and row pivots[i], one after the other."""

    core_ndims = (1,)

    @staticmethod
    def routine(pivots: Any) -> Any:
        places = np.arange(len(pivots))
        for i, j in enumerate(pivots.astype(int)):
            places[[i, j]] = places[[j, i]]
        return places

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return Aval(avals[0].shape, np.intp)

    def samples(self) -> Iterable[Sample]:
        yield Sample(np.array([2, 1, 2]), wrt=())
        yield Sample(np.array([[1, 1, 2], [0, 2, 2]]), wrt=())


pivoted = primitive(Pivoted)


def hermitian_band(ab: Value, lower: bool) -> Value:
    """All diagonals of a Hermitian matrix, as `solve_banded` reads them, from those of one side."""
    u = ab.shape[-2] - 1
    n = ab.shape[-1]
    rows = []
    for k in range(u, -u - 1, -1):  # diagonal k, by the end that LAPACK keeps empty
        size = abs(k)
        place = size if lower else u - size
        if size >= n:
            rows.append(np.zeros_like(ab[..., 0, :]))
            continue
        kept = ab[..., place, : n - size] if lower else ab[..., place, size:]
        if (k > 0) == lower and k and kept.dtype.kind == "c":
            kept = np.conjugate(kept)
        if k == 0 and kept.dtype.kind == "c":
            kept = to_dtype(np.real(kept), kept.dtype)
        rows.append(_shifted(kept, max(k, 0), max(-k, 0), axis=-1))
    return np.stack(rows, axis=-2)
