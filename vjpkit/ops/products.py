"""Products: matrix products, and the product of derivatives in which zero annihilates."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import (
    Cotangents,
    Row,
    annihilate,
    cast,
    has_nan,
    roles,
    stretch,
    unbroadcast,
)
from vjpkit.core.tracer import UFUNCS
from vjpkit.kinds import Bilinear, General, contribute, rule
from vjpkit.kinds.linear import SMALL, space
from vjpkit.ops.elementwise import divide, multiply, quotient
from vjpkit.ops.selection import aligned

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_A = np.array([[0.3, -1.2, 2.5], [1.7, 0.4, -0.6]])
_B = np.array([[0.5, 1.1], [-0.7, 0.2], [1.3, -0.9]])


class Scale(Bilinear):
    """``x * y`` in which an exact zero wins over inf and nan: a tangent times a partial derivative.

    Closed under differentiation: linear in each factor, with itself as derivative, so that a branch
    not taken contributes nothing to any order.
    """

    impl = staticmethod(annihilate)
    quick = staticmethod(operator.mul)

    def __init__(self) -> None:
        super().__init__()
        apart = self.pull_xy

        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            """A square's two contributions are added to each other first, as `multiply` does."""
            _, _, _, _, i, j, _, x, _ = row
            if i == j:
                c = cts[-2](ct, x)
                contribute(cts, i, c + c)
            else:
                apart(row, ct, cts)

        self.pull_xy = rule(self, pull, apart.push)

    def transpose_x(self, ct: Value, y: Value, shape: Shape, dtype: Any, **params: Any) -> Value:
        return unbroadcast(annihilate(ct, y), shape, dtype)

    def transpose_y(self, ct: Value, x: Value, shape: Shape, dtype: Any, **params: Any) -> Value:
        return unbroadcast(annihilate(ct, x), shape, dtype)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return multiply.abstract(*avals)

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool]) -> Value:
        return self(*aligned(n, values, batched))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_A, _A[1])


scale = primitive(Scale)


roles["annihilate"] = scale


class ScaleDivide(General):
    """``t / y`` in which an exact zero of ``t`` wins: a tangent divided, rounded once, as `scale`
    by ``1 / y`` would not be."""

    impl = staticmethod(partial(quotient, product=annihilate))
    quick = staticmethod(operator.truediv)
    transposes: ClassVar = {
        0: lambda ct, values: unbroadcast(scale_divide(ct, values[1]), *space(values[0]))
    }

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Value:
        (_, y), (dt, dy) = values, ts
        a = None if dt is None else scale_divide(dt, y)
        b = None if dy is None else annihilate(dy, scale_divide(-out, y))
        total = b if a is None else a if b is None else a + b
        return stretch(total, *space(out))

    def pullback(
        self, values: Sequence[Value], outs: Sequence[Value], live: tuple[int, ...],
        given: Sequence[Any], **params: Any,
    ) -> Sequence[Value]:  # fmt: skip
        (_, y), (out,), (ct,) = values, outs, given
        rules = lambda: scale_divide(ct, y), lambda: annihilate(ct, scale_divide(-out, y))
        return [unbroadcast(rules[i](), *space(values[i])) for i in live]

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return divide.abstract(*avals)

    def taylor(self, values: Sequence[Value], series: Sequence[Any], out: Value) -> Any:
        return divide.taylor(values, series, out)

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool]) -> Value:
        return self(*aligned(n, values, batched))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_A, _A[1])
        yield Sample(_A[0], _B[:, :1])


scale_divide: ScaleDivide = primitive(ScaleDivide)


roles["divide"] = scale_divide


class Matmul(Bilinear):
    """``x @ y``, batched and with vectors as NumPy has it.

    For Y = X W: X̄ = Ȳ Wᵀ and W̄ = Xᵀ Ȳ. Transposes are views; BLAS reads them as they are.
    """

    impl: Any = np.matmul
    times: ClassVar[Callable[..., Value]] = np.matmul
    """The product in transposes."""
    each: ClassVar[Callable[..., Value]] = operator.mul
    """The product of elements in transposes."""

    def transpose_x(self, ct: Value, y: Value, shape: Shape, dtype: Any, **params: Any) -> Value:
        if len(shape) == y.ndim == 2:
            few = type(ct) is _ndarray is type(y) and shape[0] * shape[1] <= SMALL
            out = ct.dot(y.T) if few else type(self).times(ct, y.T)
            return out if out.dtype is dtype else cast(out, dtype)
        times = type(self).times
        if y.ndim == 1:
            return unbroadcast(type(self).each(ct[..., None], y), shape, dtype)
        if len(shape) == 1:
            return _fitted(_times_vectors(times, y, ct), shape, dtype)
        return _fitted(times(ct, y.swapaxes(-1, -2)), shape, dtype)

    def transpose_y(self, ct: Value, x: Value, shape: Shape, dtype: Any, **params: Any) -> Value:
        if len(shape) == x.ndim == 2:
            few = type(ct) is _ndarray is type(x) and shape[0] * shape[1] <= SMALL
            out = x.T.dot(ct) if few else type(self).times(x.T, ct)
            return out if out.dtype is dtype else cast(out, dtype)
        times, each = type(self).times, type(self).each
        if x.ndim == 1:
            product = each(ct, x) if len(shape) == 1 else each(x[:, None], ct[..., None, :])
            return unbroadcast(product, shape, dtype)
        if len(shape) == 1:
            return _fitted(_times_vectors(times, x.swapaxes(-1, -2), ct), shape, dtype)
        return _fitted(times(x.swapaxes(-1, -2), ct), shape, dtype)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        x, y = avals
        if not x.ndim or not y.ndim:
            raise ValueError("matmul: operands must have at least one dimension")
        inner = y.shape[-2] if y.ndim > 1 else y.shape[-1]
        if x.shape[-1] != inner:
            raise ValueError(
                f"matmul: shapes {x.shape} and {y.shape} do not agree in their inner dimension"
            )
        batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        shape = batch + x.shape[-2:-1] + (y.shape[-1:] if y.ndim > 1 else ())
        return Aval(shape, np.multiply.resolve_dtypes((x.dtype, y.dtype, None))[-1])

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool]) -> Value:
        """As few and as large products as there can be."""
        (x, y), (x_batched, y_batched) = values, batched
        x_ndim, y_ndim = aval_of(x).ndim - x_batched, aval_of(y).ndim - y_batched
        if not y_batched and y_ndim <= 2:
            return _merged(self, x, y)
        if not x_batched and x_ndim <= 2 and y_ndim == 1:
            return self(y, x if x_ndim == 1 else np.swapaxes(x, 0, 1))
        x = np.expand_dims(x, -2) if x_ndim == 1 else x
        y = np.expand_dims(y, -1) if y_ndim == 1 else y
        out = self(*aligned(n, (x, y), batched, (2, 2)))
        gone = tuple([axis for axis, ndim in ((-2, x_ndim), (-1, y_ndim)) if ndim == 1])
        return np.squeeze(out, axis=gone) if gone else out

    def samples(self) -> Iterable[Sample]:
        yield Sample(_A, _B)
        yield Sample(_A, _B[:, 0])
        yield Sample(_A[:, 0], _A)
        yield Sample(_A[0], _A[1])
        yield Sample(np.linspace(-1.0, 1.0, 4200).reshape(2, -1), np.ones((2100, 2)) / 2100)
        yield Sample(np.stack([_A, _A * 2]), _B)
        yield Sample(np.stack([_A, _A * 2]), _B[:, 0])
        yield Sample(_B.T, np.stack([_A.T[:, None], 2 * _A.T[:, None]])[:, :, 0])


matmul = primitive(Matmul)


def _spared(product: Callable[..., Value], x: Value, y: Value, **params: Any) -> Value:
    """A sum of products in each of which an exact zero wins over inf and nan."""
    out = product(x, y, **params)
    if out.dtype.kind not in "fc" or not has_nan(out):
        return out
    finite: Value = np.isfinite(x)
    other: Value = np.isfinite(y)
    clean = product(np.where(finite, x, 0), np.where(other, y, 0), **params)
    touched = product(np.astype(x != 0, float), np.astype(~other, float), **params)
    touched = touched + product(np.astype(~finite, float), np.astype(y != 0, float), **params)
    fixed: Value = np.where(touched != 0, out, clean)
    return fixed.astype(out.dtype)[()]


class ScaleMatmul(Matmul):
    """``x @ y`` of products as `scale` makes them: a tangent times partial derivatives."""

    impl = staticmethod(partial(_spared, np.matmul))
    quick = np.matmul
    times = staticmethod(lambda x, y: scale_matmul(x, y))
    each = staticmethod(annihilate)


scale_matmul: ScaleMatmul = primitive(ScaleMatmul)
Matmul.sparing = scale_matmul


_ndarray = np.ndarray


def _merged(product: Matmul, x: Value, y: Value) -> Value:
    """``x @ y`` for one matrix (or vector) y: the leading axes of x are rows of one product."""
    if x.ndim <= 2 or not x.shape[-1]:
        return product(x, y)
    rows = np.reshape(x, (aval_of(x).size // x.shape[-1], x.shape[-1]))
    return np.reshape(product(rows, y), (*x.shape[:-1], *y.shape[1:]))


def _times_vectors(times: Callable[..., Value], x: Value, ct: Value) -> Value:
    """Each matrix of ``x`` times its vector."""
    return times(x, ct) if x.ndim == 2 else times(x, ct[..., None])[..., 0]


def _fitted(ct: Value, shape: Shape, dtype: Any) -> Value:
    return cast(ct, dtype) if ct.shape == shape else unbroadcast(ct, shape, dtype)


UFUNCS[np.matmul] = matmul.__call__


# ---- products over named indices ---------------------------------------------------------------


class Plan(NamedTuple):
    """How a product over named indices is one batched matrix product."""

    x: str
    y: str
    out: str
    batch: str
    rows: str
    inner: str
    columns: str


@lru_cache(maxsize=1024)
def plan(subscripts: str) -> Plan:
    """Sort the indices of ``"ab,bc->ac"`` by where they occur.

    >>> plan("kab,kcb->kca")[3:]
    ('k', 'a', 'b', 'c')
    """
    operands, out = subscripts.split("->")
    x, y = operands.split(",")
    shared = [i for i in x if i in y]
    batch = "".join([i for i in shared if i in out])
    inner = "".join([i for i in shared if i not in out])
    rows = "".join([i for i in x if i not in y])
    columns = "".join([i for i in y if i not in x])
    return Plan(x, y, out, batch, rows, inner, columns)


_FEW = 4096
"""Products of so few terms are not worth the calls that BLAS needs."""


def _contract(x: Value, y: Value, subscripts: str) -> Value:
    p = plan(subscripts)
    x, y = np.asarray(x), np.asarray(y)
    sizes = dict(zip(p.x + p.y, x.shape + y.shape, strict=True))

    def count(indices: str) -> int:
        return math.prod([sizes[i] for i in indices])

    terms = count(p.batch + p.rows + p.inner + p.columns)
    few = terms < _FEW or not p.inner or (p.batch and not (p.rows and p.columns))
    if few or x.dtype.kind not in "fc" or y.dtype.kind not in "fc":
        return np.einsum(subscripts, x, y)
    lead = [sizes[i] for i in p.batch]
    left = _ordered(x, p.x, p.batch + p.rows + p.inner)
    right = _ordered(y, p.y, p.batch + p.inner + p.columns)
    left = left.reshape(*lead, count(p.rows), count(p.inner))
    right = right.reshape(*lead, count(p.inner), count(p.columns))
    free = [sizes[i] for i in p.rows + p.columns]
    product = np.matmul(left, right).reshape(*lead, *free)
    return _ordered(product, p.batch + p.rows + p.columns, p.out)[()]


def _ordered(x: Value, indices: str, wanted: str) -> Value:
    """``x`` with its axes in another order."""
    return x if indices == wanted else x.transpose([indices.index(i) for i in wanted])


class Contract(Bilinear):
    """The product of two operands over named indices: ``ab,bc->ac``, as `numpy.einsum` has it.

    An index occurs at most once in an operand, and in two of the operands and the output or in all
    three. So each transpose is such a product too, and all of them are matrix products for BLAS.
    """

    impl = staticmethod(_contract)

    def transpose_x(
        self, ct: Value, y: Value, shape: Shape, dtype: Any, subscripts: str = "", **params: Any
    ) -> Value:
        p = plan(subscripts)
        return cast(self(ct, y, subscripts=f"{p.out},{p.y}->{p.x}"), dtype)

    def transpose_y(
        self, ct: Value, x: Value, shape: Shape, dtype: Any, subscripts: str = "", **params: Any
    ) -> Value:
        p = plan(subscripts)
        return cast(self(x, ct, subscripts=f"{p.x},{p.out}->{p.y}"), dtype)

    def abstract(self, *avals: Aval, subscripts: str, **params: Any) -> Aval:
        x, y = avals
        p = plan(subscripts)
        sizes: dict[str, int] = {}
        for index, size in zip(p.x + p.y, x.shape + y.shape, strict=True):
            if sizes.setdefault(index, size) != size:
                raise ValueError(
                    f"contract: shapes {x.shape} and {y.shape} do not fit {subscripts}"
                )
        return Aval(tuple([sizes[i] for i in p.out]), np.result_type(x.dtype, y.dtype))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, subscripts: str
    ) -> Value:
        p = plan(subscripts)
        new = next(c for c in LETTERS if c not in subscripts)
        x, y = (new * b + indices for b, indices in zip(batched, (p.x, p.y), strict=True))
        return self(*values, subscripts=f"{x},{y}->{new}{p.out}")

    def samples(self) -> Iterable[Sample]:
        cube = np.stack([_A, 2 * _A - 1])
        yield Sample(_A, _B, subscripts="ab,bc->ca")
        yield Sample(cube, _A, subscripts="kab,ab->ak")
        yield Sample(cube, cube, subscripts="kab,kab->k")
        yield Sample(_A, _B[:, 0], subscripts="ab,c->cba")
        yield Sample(_A, _A, subscripts="ab,ab->")
        yield Sample(_A, np.float64(2.0), subscripts="ab,->ab")
        yield Sample(_large(40, 30), _large(30, 20), subscripts="ab,bc->ca")
        yield Sample(_large(3, 20, 12), _large(12, 3, 11), subscripts="kab,bkc->akc")


contract = primitive(Contract)


class ScaleContract(Contract):
    """A product over named indices, of products as `scale` makes them."""

    impl = staticmethod(partial(_spared, _contract))
    quick = staticmethod(_contract)


scale_contract: ScaleContract = primitive(ScaleContract)
Contract.sparing = scale_contract


def _large(*shape: int) -> Value:
    """Numbers of size 1, enough of them for BLAS."""
    return np.sin(np.arange(np.prod(shape), dtype=float)).reshape(shape)
