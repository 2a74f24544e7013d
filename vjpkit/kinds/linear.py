"""Linear primitives (in one operand, in several jointly, in each of two) and their transposes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from vjpkit.core import rows as _rows
from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.errors import Position, calling_position
from vjpkit.core.primitive import Primitive, lookup
from vjpkit.core.rows import (
    Cotangents,
    Eager,
    Row,
    Rows,
    add_cotangent,
    annihilate,
    cast,
    eager,
    has_nan,
    innermost,
    plain_product,
)
from vjpkit.core.tracer import Tracer, bind, is_foreign

__all__ = ["Bilinear", "Linear", "LinearMany", "contribute", "own_values", "rule"]


_ndarray = np.ndarray
new = object.__new__


def own_values(xs: Iterable[Value], trace: Rows) -> list[Value]:
    """Operands that a row keeps although they are not this trace's: guarded against later
    changes."""
    keep = trace.keep
    return [keep(x) if type(x) is np.ndarray else x for x in xs]


def contribute(cts: Cotangents, i: int | None, ct: Value | None) -> None:
    """Add ``ct`` to slot ``i``, where both exist."""
    if i is None or ct is None:
        return
    if cts[i] is None:
        cts[i] = ct
    else:
        add_cotangent(cts, i, ct)


class Linear(Primitive):
    """Linear in operand 0; the operands after it are fixed (index arrays, ...).

    The rule is ``transpose(ct, shape, dtype, /, *fixed, **params)``: the cotangent of an operand of
    that shape and dtype. The push is the primitive itself.
    """

    def __init__(self) -> None:
        super().__init__()
        transpose = self.transpose

        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, i, shape, dtype, fixed, params = row
            c = transpose(ct, shape, dtype, *fixed, **params)
            if cts[i] is None:
                cts[i] = c
            else:
                add_cotangent(cts, i, c)

        def push(row: Row, ts: Cotangents) -> None:
            _, k, _, _, i, _, _, fixed, params = row
            t = ts[i]
            ts[k] = None if t is None else self(t, *fixed, **params)

        self.pull = rule(self, pull, push)

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        raise NotImplementedError(f"{self.name} declares no transpose")

    def __call__(self, x: Value, *fixed: Value, **params: Any) -> Value:
        if type(x) is not Eager or fixed or x.owner.dirty:
            if type(x) is _ndarray and not fixed and not x.dtype.hasobject:
                return self.impl(x, **params)
            return bind(self, (x, *fixed), params)
        trace = x.owner
        value = x.value
        plain = type(value) is _ndarray or not isinstance(value, Tracer)
        out = self.impl(value, **params) if plain else self(value, **params)
        k = trace.new()
        code, offset = calling_position()
        trace.append((self.pull, k, code, offset, x.slot, value.shape, value.dtype, (), params))
        if type(out) is not _ndarray and type(out) is not np.float64:
            return eager(out, trace, k)
        tracer = new(Eager)
        tracer.value, tracer.owner, tracer.slot = out, trace, k
        return tracer

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        x, *fixed = values
        out = self(x, *fixed, **params)
        if slots[0] is None:
            return out
        k = trace.new()
        aval = aval_of(x)
        fixed = own_values(fixed, trace)
        position = calling_position()
        trace.append((self.pull, k, *position, slots[0], aval.shape, aval.dtype, fixed, params))
        return Eager(out, trace, k)

    def forward(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        params: Any,
        strict: bool,
    ) -> Any:
        return None if ts[0] is None else self(ts[0], *values[1:], **params)

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return mask[0] and not any(mask[1:])


def rule(owner: Primitive, pull: Any, push: Any) -> Any:
    """A pull function with its push and its primitive."""
    pull.push = push
    pull.primitive = owner
    return pull


class LinearMany(Primitive):
    """Jointly linear in all operands after the first ``fixed(params)`` ones: ``concatenate``,
    ``where``.

    The rule is ``transpose(ct, avals, live, *fixed, **params)``: cotangents of the linear operands,
    of which ``live`` marks those that are wanted (others may be None).
    """

    def __init__(self) -> None:
        super().__init__()

        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, slots, avals, fixed, params = row
            live = [i is not None for i in slots]
            for i, c in zip(slots, self.transpose(ct, avals, live, *fixed, **params), strict=True):
                contribute(cts, i, c)

        def push(row: Row, ts: Cotangents) -> None:
            _, k, _, _, slots, avals, fixed, params = row
            inner = [None if i is None else ts[i] for i in slots]
            ts[k] = self.total(inner, avals, fixed, params)

        self.pull = rule(self, pull, push)

    def fixed(self, params: Any) -> int:
        """How many leading operands are not linear ones."""
        return 0

    def transpose(
        self, ct: Value, avals: Sequence[Aval], live: Sequence[bool], *fixed: Value, **params: Any
    ) -> Sequence[Value | None]:
        raise NotImplementedError(f"{self.name} declares no transpose")

    def total(
        self, ts: Sequence[Value | None], avals: Sequence[Aval], fixed: Sequence[Value], params: Any
    ) -> Any:
        """The map at tangents of which some are zero."""
        if all(t is None for t in ts):
            return None
        some = next(t for t in ts if t is not None)
        dense = [zeros(a, some) if t is None else t for t, a in zip(ts, avals, strict=True)]
        out = self(*fixed, *dense, **params)
        if all(a.inexact and not a.weak for a in avals):
            return out
        # Tangents of numbers and integers are floats: they would decide the dtype of the result.
        return cast(out, self.abstract(*map(aval_of, fixed), *avals, **params).dtype)

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        out = self(*values, **params)
        n = self.fixed(params)
        if all(s is None for s in slots[n:]):
            return out
        k = trace.new()
        avals = [aval_of(v) for v in values[n:]]
        fixed = own_values(values[:n], trace)
        trace.append((self.pull, k, *calling_position(), tuple(slots[n:]), avals, fixed, params))
        return eager(out, trace, k)

    def forward(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        params: Any,
        strict: bool,
    ) -> Any:
        n = self.fixed(params)
        return self.total(ts[n:], [aval_of(v) for v in values[n:]], values[:n], params)

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return self.linear_with(mask, (False,) * len(mask), params)

    def linear_with(self, mask: tuple[bool, ...], zeros: tuple[bool, ...], params: Any) -> bool:
        n = self.fixed(params)
        return all(m or z for m, z in zip(mask[n:], zeros[n:], strict=True)) and not any(mask[:n])


def zeros(aval: Aval, like: Value) -> Value:
    """Zeros of an aval, staged where ``like`` is; else as light as they can be: one stored
    element."""
    dtype = aval.dtype if aval.inexact else np.dtype(np.float64)
    while isinstance(like, Tracer) and hasattr(like, "value"):
        like = like.value
    if isinstance(like, Tracer):
        return _rows.roles["fill"](like.owner, aval.shape, 0, dtype)
    return np.broadcast_to(np.zeros((), dtype), aval.shape) if aval.shape else dtype.type(0)


def space(x: Value) -> tuple[Shape, Any]:
    """Shape and dtype of a value that may be a Python number."""
    aval = x if type(x) is np.ndarray else aval_of(x)
    return aval.shape, aval.dtype


def strong_slot(trace: Rows, x: Value, i: int | None, out: Value) -> int | None:
    """The slot of a factor, in the dtype of the product ``out`` if it is a Python number.

    Tangents of these are strong, and would decide the dtype.
    """
    if type(x) is _ndarray:
        return i
    aval, dtype = aval_of(x), aval_of(out).dtype
    if i is None or not aval.weak or aval.dtype == dtype:
        return i
    convert: Any = lookup("convert")
    k = trace.new()
    row = (convert.pull, k, *calling_position(), i, (), aval.dtype, (), {"dtype": dtype})
    trace.append(row)
    return k


def meets_nan(x: Value) -> bool:
    """Whether some element is nan, as far as is known."""
    inner = innermost(x)
    return not isinstance(inner, Tracer) and has_nan(inner)


def zero_wins(f: Callable[..., Value], t: Value, x: Value, out: Value) -> Value:
    """``out = f(t, x)``, linear in each, but an exact zero of ``t`` wins over inf and nan in ``x``.

    Cleaned of them ``f`` is what it should be, except where one meets an element that is not zero.
    """
    finite: Value = np.isfinite(x)
    zero: Value = t == 0
    cleaned: Value = np.where(finite, x, 0)
    _, dtype = space(x)
    clean = f(t, cleaned.astype(dtype))
    touched = f(np.astype(~zero, t.dtype), np.astype(~finite, dtype))
    fixed: Value = np.where(touched != 0, out, clean)
    return fixed.astype(out.dtype)[()]


def may_meet_nan(t: Value, x: Value) -> bool:
    """Whether the product of a tangent or cotangent with ``x`` may turn out to have nan.

    Of values that are not known; what is known is looked at when the product is there.
    """
    factor = innermost(x)
    if isinstance(factor, Tracer):
        return True
    return isinstance(innermost(t), Tracer) and not np.all(np.isfinite(factor))


def contribute_product(
    cts: Cotangents,
    i: int,
    out: Value,
    transpose: Any,
    ct: Value,
    x: Value,
    shape: Shape,
    dtype: Any,
    params: Any,
) -> None:
    """Add to slot ``i`` the product ``out``, a transpose of a bilinear primitive at ``ct``, ``x``.

    A result of many elements is not read for nan where its factors show that it has none.
    """
    if cts[-2] is annihilate:
        if meets_nan(out):
            back = partial(transpose, shape=shape, dtype=dtype, **params)
            out = zero_wins(back, ct, x, out)
    elif cts[i] is None:
        cts[i] = out
        if of_many(out, ct, x) and of_finite_norm(ct) and of_finite_norm(x):
            cts[-1].add(~i)
        return
    contribute(cts, i, out)


_MANY = 1 << 14


def of_many(out: Value, ct: Value, x: Value) -> bool:
    """Whether a product has many more elements than its factors."""
    arrays = type(out) is type(ct) is type(x) is np.ndarray
    return arrays and bool(out.size > 4 * (ct.size + x.size))


def of_finite_norm(x: Value) -> bool:
    """Whether the squares of ``x`` add up to a finite number.

    A sum of products of two such arrays is finite: its size is at most the product of their norms.
    Squares may overflow: derivatives, which ask this, are computed in `silence`.
    """
    if x.dtype.char not in "fd":
        return False
    x = x.ravel("K")
    return bool(x.dot(x) < np.inf)


SMALL = 4096
"""Products of so few elements come sooner from `numpy.ndarray.dot`, which clears them first."""


class Bilinear(Primitive):
    """Linear in each of two operands.

    The rules are ``transpose_x(ct, y, shape, dtype, **params)`` and ``transpose_y(ct, x, shape,
    dtype, **params)``; the push is the primitive itself, or ``sparing`` where it may meet nan.
    """

    sparing: Bilinear | None = None
    """The same product in which an exact zero wins over inf and nan."""

    def __init__(self) -> None:
        super().__init__()
        transpose_x: Any = self.transpose_x
        transpose_y: Any = self.transpose_y

        def pull_x(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, i, shape, dtype, params, y = row
            if type(ct) is _ndarray and 0 in ct.strides:
                ct = ct.copy()  # BLAS cannot read what is repeated without memory
            known = type(ct) is _ndarray is type(y)
            back = transpose_x if known else self.spared(ct, y, cts).transpose_x
            out = back(ct, y, shape, dtype, **params)
            if out.size < _MANY and cts[i] is None and cts[-2] is plain_product:
                cts[i] = out
            else:
                contribute_product(cts, i, out, transpose_x, ct, y, shape, dtype, params)

        def push_x(row: Row, ts: Cotangents) -> None:
            _, k, _, _, i, _, _, params, y = row
            ts[k] = self.forward((None, y), (ts[i], None), None, params, ts[-2] is plain_product)

        def pull_y(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, j, shape, dtype, params, x = row
            if type(ct) is _ndarray and 0 in ct.strides:
                ct = ct.copy()
            known = type(ct) is _ndarray is type(x)
            back = transpose_y if known else self.spared(ct, x, cts).transpose_y
            out = back(ct, x, shape, dtype, **params)
            if out.size < _MANY and cts[j] is None and cts[-2] is plain_product:
                cts[j] = out
            else:
                contribute_product(cts, j, out, transpose_y, ct, x, shape, dtype, params)

        def push_y(row: Row, ts: Cotangents) -> None:
            _, k, _, _, j, _, _, params, x = row
            ts[k] = self.forward((x, None), (None, ts[j]), None, params, ts[-2] is plain_product)

        def pull_xy(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, i, j, params, x, y = row
            if type(ct) is _ndarray and 0 in ct.strides:
                ct = ct.copy()
            known = type(ct) is _ndarray is type(x) is type(y)
            shape, dtype = (x.shape, x.dtype) if type(x) is _ndarray else space(x)
            back = transpose_x if known else self.spared(ct, y, cts).transpose_x
            out = back(ct, y, shape, dtype, **params)
            if out.size < _MANY and cts[i] is None and cts[-2] is plain_product:
                cts[i] = out
            else:
                contribute_product(cts, i, out, transpose_x, ct, y, shape, dtype, params)
            shape, dtype = (y.shape, y.dtype) if type(y) is _ndarray else space(y)
            back = transpose_y if known else self.spared(ct, x, cts).transpose_y
            out = back(ct, x, shape, dtype, **params)
            if out.size < _MANY and cts[j] is None and cts[-2] is plain_product:
                cts[j] = out
            else:
                contribute_product(cts, j, out, transpose_y, ct, x, shape, dtype, params)

        def push_xy(row: Row, ts: Cotangents) -> None:
            _, k, _, _, i, j, params, x, y = row
            ts[k] = self.forward((x, y), (ts[i], ts[j]), None, params, ts[-2] is plain_product)

        self.pull_x = rule(self, pull_x, push_x)
        self.pull_y = rule(self, pull_y, push_y)
        self.pull_xy = rule(self, pull_xy, push_xy)

    def transpose_x(self, ct: Value, y: Value, shape: Shape, dtype: Any, **params: Any) -> Value:
        raise NotImplementedError(f"{self.name} declares no transpose_x")

    def transpose_y(self, ct: Value, x: Value, shape: Shape, dtype: Any, **params: Any) -> Value:
        raise NotImplementedError(f"{self.name} declares no transpose_y")

    def __call__(self, x: Value, y: Value, **params: Any) -> Value:
        trace: Any = None
        a, b, i, j = x, y, None, None
        if type(x) is Eager:
            trace, a, i = x.owner, x.value, x.slot
        if type(y) is Eager:
            if trace is not None and trace is not y.owner:
                return self.general(x, y, params)
            trace, b, j = y.owner, y.value, y.slot
        if trace is None or trace.dirty:
            return self.general(x, y, params)
        if i is None and (type(a) is not _ndarray or a.dtype.kind not in "fc"):
            return self.general(x, y, params)
        if j is None and (type(b) is not _ndarray or b.dtype.kind not in "fc"):
            return self.general(x, y, params)
        return self.append(trace, calling_position(), a, b, i, j, params)

    def general(self, x: Value, y: Value, params: dict[str, Any]) -> Value:
        """Any two operands: foreign containers decline, tracers go through `bind`."""
        if is_foreign(x) or is_foreign(y):
            return NotImplemented
        return bind(self, (x, y), params)

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        (x, y), (i, j) = values, slots
        return self.append(trace, calling_position(), x, y, i, j, params)

    def append(
        self,
        trace: Rows,
        position: Position,
        x: Value,
        y: Value,
        i: int | None,
        j: int | None,
        params: Any,
    ) -> Value:
        """Compute, and append the row for operands in the slots ``i`` and ``j``."""
        if type(x) is _ndarray is type(y):
            out = self.impl(x, y, **params)
        else:
            traced = isinstance(x, Tracer) or isinstance(y, Tracer)
            out = (self if traced else self.impl)(x, y, **params)
            i, j = strong_slot(trace, x, i, out), strong_slot(trace, y, j, out)
        k = trace.new()
        if i is None:
            shape, dtype = (y.shape, y.dtype) if type(y) is _ndarray else space(y)
            x = trace.keep(x) if type(x) is _ndarray else x
            trace.append((self.pull_y, k, *position, j, shape, dtype, params, x))
        elif j is None:
            shape, dtype = (x.shape, x.dtype) if type(x) is _ndarray else space(x)
            y = trace.keep(y) if type(y) is _ndarray else y
            trace.append((self.pull_x, k, *position, i, shape, dtype, params, y))
        else:
            trace.append((self.pull_xy, k, *position, i, j, params, x, y))
        tracer = new(Eager)
        tracer.value, tracer.owner, tracer.slot = out, trace, k
        return tracer

    def forward(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        params: Any,
        strict: bool,
    ) -> Any:
        (x, y), (tx, ty) = values, ts
        slots = [plain_product if strict else None, None]
        a = None if tx is None else self.spared(tx, y, slots)(tx, y, **params)
        b = None if ty is None else self.spared(ty, x, slots)(x, ty, **params)
        if a is not None and not strict and meets_nan(a):
            a = zero_wins(partial(self, **params), tx, y, a)
        if b is not None and not strict and meets_nan(b):
            b = zero_wins(lambda t, x: self(x, t, **params), ty, x, b)
        return b if a is None else a if b is None else a + b

    def spared(self, t: Value, x: Value, slots: Sequence[Any]) -> Any:
        """The product of a tangent or cotangent with ``x``, in a walk over these slots."""
        plain = slots[-2] is plain_product or not may_meet_nan(t, x)
        return self if self.sparing is None or plain else self.sparing

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return sum(mask) == 1
