"""Linear algebra: equations, determinants, factorizations, spectra.

All primitives map over leading axes. The rules hold for complex matrices too; cotangents pair
without conjugation (Re(sum(ct * t))). Where a routine reads one triangle of a Hermitian matrix,
that triangle is what it depends on, and so its derivative is in that triangle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.errors import NotDifferentiableError
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import (
    Parts,
    Product,
    Rows,
    filled_like,
    new_slots,
    push_rows,
    settled,
    unbroadcast,
)
from vjpkit.core.tracer import Tracer
from vjpkit.kinds import General, Linear, PiecewiseConstant, Reduction, solved_terms
from vjpkit.kinds.linear import space, zeros
from vjpkit.ops import lapack
from vjpkit.ops.ill_posed import IllPosed, Report
from vjpkit.ops.products import scale
from vjpkit.ops.selection import aligned
from vjpkit.ops.spectra import (
    adjoint,
    generic,
    negligible,
    spectrum_mean,
    spectrum_push,
    tolerance,
)
from vjpkit.ops.structural import to_dtype
from vjpkit.ops.vectors import guarded_quotient, independent, phase_rows

_A = np.array([[1.3, -1.2, 2.5], [1.7, 0.4, -0.6], [0.2, 0.9, -1.1]])
_B = np.array([[0.5, 1.1], [-0.7, 0.2], [1.3, -0.9]])
_I = np.array([[0.2, 0.1, -0.3], [-0.4, 0.3, 0.6], [0.1, -0.5, 0.2]])
_C = _A + 1j * _I
_S = np.array(
    [[4.0, 9.0, 9.0], [0.5, 3.0, 9.0], [-0.8, 0.3, 2.5]]
)  # only its lower triangle is read
_H = _S + 1j * _I
_N = np.zeros((0, 0))
_ANY_BASIS = "a square orthogonal factor of matrices without elements is any basis"
_P = np.array([[1.3 + 0.2j, -1.2, 2.5j], [1.7, 0.9 - 0.4j, -0.6 + 1j]])
_D = np.array([[1.0, 0.3, -0.2], [0.1, 2.5, 0.4], [-0.3, 0.2, -1.5]])
_Q1, _Q2 = np.split(np.linalg.qr(_B, "complete")[0], [2], axis=1)


def mirror(x: Value) -> Value:
    """The transpose of the last two axes."""
    return np.swapaxes(x, -1, -2)


def is_complex(x: Value) -> bool:
    return aval_of(x).dtype.kind == "c"


# ---- shapes, dtypes, errors


def matrices(a: Aval) -> Shape:
    """The shape of the matrices in ``a``; NumPy's error where there are none."""
    if a.ndim < 2:
        raise np.linalg.LinAlgError(
            f"{a.ndim}-dimensional array given. Array must be at least two-dimensional"
        )
    return a.shape[-2:]


def square(a: Aval) -> int:
    """The order of the square matrices in ``a``; NumPy's error where they are not."""
    m, n = matrices(a)
    if m != n:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")
    return m


def common_dtype(*avals: Aval) -> np.dtype[Any]:
    """The dtype that NumPy's linear algebra computes in."""
    for a in avals:
        if a.inexact and a.dtype.char not in "fdFD":
            raise TypeError(f"array type {a.dtype.name} is unsupported in linalg")
    return np.result_type(*[a.dtype if a.inexact else np.float64 for a in avals])


def real_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the absolute value."""
    return np.dtype(dtype.char.lower())


class Fused(General):
    """A kernel for a ``formula`` in terms of other primitives, from which its derivatives come."""

    def formula(self, *xs: Value, **params: Any) -> Value:
        raise NotImplementedError(f"{self.name} declares no formula")

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        live = [i for i, t in enumerate(ts) if t is not None]
        if len(live) == 1 and live[0] in self.transposes:
            return self(*[x if t is None else t for x, t in zip(values, ts)], **params)
        trace = Rows(self.name)
        outs = self.unpack(self.formula(*[trace.argument(x) for x in values], **params))
        rows = trace.close()
        slots = [*ts, *new_slots(trace.new() - len(values))]
        push_rows(rows, slots)
        found = [trace.slot_of(y) for y in outs]
        return self.pack(tuple([None if k is None else slots[k] for k in found]))


# ---- one triangle


class OneTriangle(Linear):
    """Between a Hermitian matrix and its lower (or upper) triangle."""

    core_ndims = (2,)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        square(avals[0])
        return avals[0].strong()

    def samples(self) -> Iterable[Sample]:
        yield Sample(_A, lower=True)
        yield Sample(np.stack([_C, 2 * _C]), lower=False)
        yield Sample(_N, lower=True)


class Hermitian(OneTriangle):
    """The Hermitian matrix of which ``x`` has one triangle; what else ``x`` holds is not read."""

    @staticmethod
    def impl(x: Value, lower: bool) -> Value:
        triangle, k = (np.tril, -1) if lower else (np.triu, 1)
        out = triangle(x)
        if np.iscomplexobj(out):
            np.einsum("...ii->...i", out).imag = 0
        return out + lapack.mirror(triangle(x, k)).conj()

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return fold(ct, **params)


hermitian = primitive(Hermitian)


class Fold(OneTriangle):
    """``x + xᴴ`` in one triangle, the real diagonal of ``x``, zeros in the other triangle."""

    @staticmethod
    def impl(x: Value, lower: bool) -> Value:
        triangle, k = (np.tril, -1) if lower else (np.triu, 1)
        out = triangle(x + lapack.mirror(x).conj(), k)
        np.einsum("...ii->...i", out)[...] = np.einsum("...ii->...i", x).real
        return out

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return hermitian(ct, **params)


fold = primitive(Fold)


# ---- equations


class Lu(PiecewiseConstant):
    """Factors of square matrices in LAPACK's form, and pivots: an aid for `solve`.

    Not differentiated: a solution does not depend on how it was found.
    """

    multi = True
    core_ndims = (2,)
    impl = staticmethod(lapack.factor)

    def abstract(self, *avals: Aval, **params: Any) -> tuple[Aval, Aval]:
        (a,) = avals
        square(a)
        return a.strong(), Aval(a.shape[:-1], np.int32)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_A, wrt=())
        yield Sample(_C, wrt=())


lu = primitive(Lu)


class Solve(General):
    """X with A X = B, or Aᵀ X = B if ``transposed``; operands after A and B are `lu` (A)."""

    impl = staticmethod(lapack.solve)
    core_ndims = (2, 2, 2, 1)
    aids = 2
    transposes = {1: lambda ct, values, transposed: _solution_pull(ct, values, transposed)}

    def jvp(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        transposed: bool = False,
        **params: Any,
    ) -> Any:
        a, _, *aids = values
        ta, tb = ts[:2]
        if ta is not None:
            moved = np.matmul(mirror(ta) if transposed else ta, out)
            tb = -moved if tb is None else tb - moved
        return None if tb is None else solve(a, tb, *aids, transposed=transposed)

    def pullback(
        self,
        values: Sequence[Value],
        outs: Sequence[Value],
        live: tuple[int, ...],
        given: Sequence[Value | None],
        transposed: bool = False,
        **params: Any,
    ) -> Sequence[Any]:
        a, b, *aids = values
        (ct,) = given
        u = solve(a, ct, *aids, transposed=not transposed)
        pulled: list[Any] = []
        for i in live:
            if i == 1:
                pulled.append(unbroadcast(u, b.shape, b.dtype))
            else:
                pulled.append(_matrix_cotangent(a, u, outs[0], ct, b, transposed))
        return pulled

    def taylor(
        self,
        values: Sequence[Value],
        series: Sequence[Any],
        out: Value,
        transposed: bool = False,
    ) -> Any:
        """From A X = B, with one factorization for all terms."""
        a, b = series[:2]

        def product(t: Value, x: Value) -> Value:
            return np.matmul(mirror(t) if transposed else t, x)

        def solved(rest: Value) -> Value:
            return solve(values[0], rest, *values[2:], transposed=transposed)

        return solved_terms((b, a), out, product, solved)

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return mask[1] and sum(mask) == 1

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        a, b = avals[:2]
        n = square(a)
        if matrices(b)[0] != n:
            raise ValueError(
                f"solve: matrices of order {n} do not fit right-hand sides of {b.shape[-2]} rows"
            )
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return Aval((*lead, *b.shape[-2:]), common_dtype(a, b))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Value:
        """One matrix and a batch of right-hand sides are one equation with more columns."""
        a, b, *aids = values
        if any(batched[i] for i in range(len(values)) if i != 1) or np.ndim(a) != 2 or b.ndim != 3:
            return self(*aligned(n, values, batched, self.core_ndims), **params)
        _, rows, columns = b.shape
        wide = np.reshape(np.swapaxes(b, 0, 1), (rows, n * columns))
        x = solve(a, wide, *aids, **params)
        return np.swapaxes(np.reshape(x, (rows, n, columns)), 0, 1)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_A, _B, transposed=False)
        yield Sample(_C, _B, transposed=True)
        yield Sample(_A, np.stack([_B, 2 * _B]) * (1 + 2j), transposed=False)
        yield Sample(np.stack([_A, _C]), _B, transposed=False)
        yield Sample(_A[:1, :1], _B[:1], transposed=False)
        yield Sample(_N, _B[:0], transposed=False)


solve = primitive(Solve)


def _solution_pull(ct: Value, values: Sequence[Value], transposed: bool) -> Value:
    a, b, *aids = values
    return unbroadcast(solve(a, ct, *aids, transposed=not transposed), b.shape, b.dtype)


def _matrix_cotangent(a: Value, u: Value, x: Value, ct: Value, b: Value, transposed: bool) -> Any:
    """-u xᵀ, kept as a product where it has low rank."""
    product = Product(-u, x, -ct, b)
    if transposed:
        product = product.mirrored()
    n, rank = x.shape[-2:]
    if 2 * rank <= n and product.u.shape[:-2] == product.v.shape[:-2] == a.shape[:-2]:
        return product
    return unbroadcast(np.matmul(product.u, mirror(product.v)), a.shape, a.dtype)


class Inv(General):
    """The inverse; unless ``strict``, inf instead of an error where there is none."""

    core_ndims = (2,)
    impl = staticmethod(lapack.inverse)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        return -(out @ ts[0] @ out)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (a,) = avals
        square(a)
        return Aval(a.shape, common_dtype(a))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_A, strict=True)
        yield Sample(np.stack([_C, 2 * _C]), strict=False)
        yield Sample(_A[:1, :1], strict=True)
        yield Sample(_N, strict=True)


inv = primitive(Inv)


# ---- determinants


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
        yield Sample(_A)
        yield Sample(np.stack([_C, 2 * _C]))
        yield Sample(_A[:1, :1])
        yield Sample(_B @ _B.T, exempt={"taylor": "third derivatives at a singular matrix cancel"})
        yield Sample(_N)


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
        yield Sample(_A)
        yield Sample(np.stack([_C, 2 * _C]))
        yield Sample(_A[:1, :1])
        yield Sample(_N)


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
        yield Sample(_A, _C)
        yield Sample(np.stack([_C, 2 * _C]), _A)
        yield Sample(np.kron(_A[:2, :2], _A[:2, :2]), np.kron(_B[:2], _B[:2]))
        yield Sample(_N, _N)


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
        yield Sample(_A)
        yield Sample(np.stack([_C, 2 * _C]))
        yield Sample(_A[:1, :1])
        yield Sample(_N)


slogdet = primitive(Slogdet)


# ---- Cholesky


def phi(x: Value) -> Value:
    """The lower triangle with the diagonal halved."""
    return (np.tril(x) + np.tril(x, -1)) / 2


class Cholesky(General):
    """L, lower triangular, with L Lᴴ the Hermitian matrix of which the lower triangle is read.

    dL = L Φ(L⁻¹ dA L⁻ᴴ). The pullback knows cotangents that come from quadratic forms and from the
    logarithm of the determinant, see `cholesky_pull`.
    """

    core_ndims = (2,)
    takes_parts = True
    impl = staticmethod(lapack.cholesky)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        x = inv(out, strict=True)
        return out @ phi(x @ hermitian(ts[0], lower=True) @ adjoint(x))

    def pullback(
        self,
        values: Sequence[Value],
        outs: Sequence[Value],
        live: tuple[int, ...],
        given: Sequence[Any],
        **params: Any,
    ) -> Sequence[Value | None]:
        (l,), (ct,) = outs, given  # noqa: E741  # the factor L
        products: list[Value] = []
        if type(ct) is Parts:
            taken = [p for _, p in ct[1:] if type(p) is Product and _fits(p, l)]
            rest = Parts(
                [ct[0], *[part for part in ct[1:] if not any(part[1] is p for p in taken)]]
            )
            products = [x for p in taken for x in (p.w, p.v)]
            ct = settled(rest) if len(rest) > 1 else zeros(aval_of(l), products[0])
        return [cholesky_pull(l, ct, *products)]

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (a,) = avals
        square(a)
        return Aval(a.shape, common_dtype(a))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_S)
        yield Sample(np.stack([_H, 2 * _H]))
        yield Sample(_S[:1, :1])
        yield Sample(_N)


cholesky = primitive(Cholesky)


def _fits(product: Product, l: Value) -> bool:  # noqa: E741  # the factor L
    """Whether a product needs no conversion to be pulled back together with others."""
    parts = product.w, product.v
    return all(x.dtype == l.dtype and x.shape[:-1] == l.shape[:-1] for x in parts)


class CholeskyPull(Fused):
    """The pullback of `cholesky` at L: of a cotangent and of products U Vᵀ, given by Lᵀ U and V."""

    core_ndims = (2,)
    exempt = {"mixed0": "the factor and its cotangents come in one dtype"}
    impl = staticmethod(lapack.cholesky_pull)

    def formula(self, *xs: Value, **params: Any) -> Value:
        l, ct, *products = xs  # noqa: E741  # the factor L
        p = mirror(l) @ ct
        for w, v in zip(products[::2], products[1::2], strict=True):
            p = p + w @ mirror(v)
        half, x = phi(p), inv(l, strict=True)
        conjugate = np.conjugate(x) if is_complex(x) else x
        return fold(mirror(x) @ (half + adjoint(half)) @ conjugate / 2, lower=True)

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        """In the cotangent and all W together."""
        return mask == tuple([i == 1 or (i > 1 and i % 2 == 0) for i in range(len(mask))])

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        lead = np.broadcast_shapes(*[a.shape[:-2] for a in avals])
        return Aval((*lead, *avals[0].shape[-2:]), common_dtype(*avals))

    def samples(self) -> Iterable[Sample]:
        yield Sample(np.linalg.cholesky(_S), _A)
        yield Sample(np.linalg.cholesky(_H), _A, _C[:, :2], _B + 1j)
        yield Sample(np.linalg.cholesky(np.stack([_S, 2 * _S])), _A)
        yield Sample(_N, _N)


cholesky_pull = primitive(CholeskyPull)


# ---- orthogonal


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
        yield Sample(_Q2, _Q1 @ _B[:2, :1], wrt=(1,), checked=False)


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
    exempt = {"empty-last": _ANY_BASIS}
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
        yield Sample(_A, full=True)
        yield Sample(_B, full=False)
        yield Sample(np.stack([_C[:2], 2 * _C[:2]]), full=False)
        yield Sample(np.stack([_C, 2 * _C])[..., :2], full=False)
        yield Sample(_A[:1, :1], full=False)
        yield Sample(_N, full=False)


qr = primitive(Qr)


# ---- spectra


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


def order(a: Aval) -> tuple[Shape, int, np.dtype[Any]]:
    """Leading axes, order and dtype of square matrices."""
    n = square(a)
    return a.shape[:-2], n, common_dtype(a)


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
        yield Sample(_S, lower=True)
        yield Sample(np.stack([_H, 2 * _H]), lower=True)
        yield Sample(_H, lower=False)
        yield Sample(_S[:1, :1], lower=True)
        yield Sample(_N, lower=True)


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
        yield Sample(_S, lower=True)
        yield Sample(np.stack([_H, 2 * _H]), lower=False)
        yield Sample(_N, lower=True)


eigvalsh = primitive(Eigvalsh)


def _complex_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.result_type(dtype, np.complex64)


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
        t: Value = ts[0]
        m = solve(independent(v, of="eigenvectors"), t @ v, transposed=False)
        dw, omega = spectrum_push(w, m, hermitian=False)
        turned = v @ omega
        growth = np.real(np.sum(np.conjugate(v) * turned, axis=-2))
        return dw, rephased(turned - v * growth[..., None, :], v, prefer="largest")[0]

    def abstract(self, *avals: Aval, **params: Any) -> tuple[Aval, Aval]:
        lead, n, dtype = order(avals[0])
        return Aval((*lead, n), _complex_dtype(dtype)), Aval((*lead, n, n), _complex_dtype(dtype))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_D)
        yield Sample(np.stack([_D, _D + 1j * _I]))
        yield Sample(_D[:1, :1])
        yield Sample(_N)


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
        yield Sample(_D)
        yield Sample(np.stack([_D, _D + 1j * _I]))
        yield Sample(_N)


eigvals = primitive(Eigvals)


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
        "empty": _ANY_BASIS,
        "empty-last": _ANY_BASIS,
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
        yield Sample(_A, full=False)
        yield Sample(_B, full=False)
        yield Sample(np.stack([_C, 2 * _C])[..., :2], full=False)
        yield Sample(_P, full=False)
        yield Sample(_A[:1, :1], full=True)
        yield Sample(_B[:0], full=False)


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
        yield Sample(_A)
        yield Sample(np.stack([_C[:2], 2 * _C[:2]]))
        yield Sample(_B[:0])


svdvals = primitive(Svdvals)


# ---- generalised inverses, and norm


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
        stack = np.stack([_C[:2], 2 * _C[:2]])
        yield Sample(_A, 1e-15, wrt=(0,), drops=False)
        yield Sample(_B, 1e-15, wrt=(0,), drops=False)
        yield Sample(stack, 1e-15, wrt=(0,), drops=False)
        yield Sample(stack, np.float64(0.8), wrt=(0,), drops=True)
        yield Sample(_A, 0.3, wrt=(0,), drops=True)
        yield Sample(_B[:0], 1e-15, wrt=(0,), drops=False)


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
        yield Sample(_B, _A, rcond=1e-15)
        yield Sample(_C[:2], _A[:2], rcond=1e-15)
        yield Sample(_C, _A[:, :2], rcond=0.3)


lstsq = primitive(Lstsq)


class Norm2(Reduction):
    """The square root of the sum of ``|x|²`` over ``axes``; its derivative at zero is zero."""

    singular = True

    @staticmethod
    def impl(x: Value, axes: tuple[int, ...] | None, keepdims: bool) -> Value:
        x = x if x.dtype.kind in "fc" else x.astype(float)
        if axes is None and x.dtype.kind == "f" and not keepdims:
            flat = x.ravel(order="K")
            return np.sqrt(flat.dot(flat))
        if x.dtype.kind == "c":
            square = x.real * x.real + x.imag * x.imag
        else:
            square = x * x
        return np.sqrt(np.sum(square, axis=axes, keepdims=keepdims))

    def weights(self, x: Value, out: Value, *, axes: Any, **params: Any) -> Value:
        conjugate = np.conjugate(x) if is_complex(x) else x
        return conjugate / np.where(out == 0, float("inf"), out)

    def out_dtype(self, dtype: Any) -> Any:
        return real_dtype(dtype) if dtype.kind in "fc" else np.dtype(float)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, axes: Any, **params: Any
    ) -> Value:
        (x,) = values
        inner = range(x.ndim - 1) if axes is None else axes
        return norm2(x, axes=tuple([i + 1 for i in inner]), **params)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_A, axes=None, keepdims=False)
        yield Sample(_C, axes=(1,), keepdims=True)
        yield Sample(np.stack([_C, 2 * _C]), axes=(0, 2), keepdims=False)
        yield Sample(_B[:0], axes=(0,), keepdims=False)


norm2 = primitive(Norm2)
