"""Reductions, and any primitive whose derivative is given as a ``jvp``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from operator import mul
from typing import Any, ClassVar

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.errors import NotDifferentiableError, Position, at, calling_position
from vjpkit.core.evaluate import evaluate, interpret
from vjpkit.core.ir import params_key
from vjpkit.core.primitive import Primitive
from vjpkit.core.rows import (
    Cotangents,
    Eager,
    Product,
    Row,
    Rows,
    add_product,
    annihilate,
    cast,
    new_slots,
)
from vjpkit.core.staging import Builder, ClosedProgram, transpose_into
from vjpkit.core.tracer import Tracer, bind
from vjpkit.kinds.linear import contribute, own_values, rule

__all__ = ["General", "Reduction", "kept", "reduced_shape"]


class Reduction(Primitive):
    """Reduces over ``axes`` (None for all), with a weight per element as derivative.

    The rule is ``weights(x, out, **params)``, ``out`` with the reduced axes kept as length 1:
    d out = sum of weights * dx, its real part where ``out`` is real. Both modes follow from it.
    ``singular`` marks weights that can be inf or nan where the cotangent may be zero: they are
    multiplied by the transform's product.
    """

    singular: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()

        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, i, out, params, x = row
            axes = params["axes"]
            weights = self.weights(x, kept(out, x.shape, axes), **params)
            contribute(cts, i, self.product(cts)(kept(ct, x.shape, axes), weights))

        def push(row: Row, ts: Cotangents) -> None:
            _, k, _, _, i, out, params, x = row
            ts[k] = (
                None if ts[i] is None else self.weighted(x, ts[i], out, params, self.product(ts))
            )

        self.pull = rule(self, pull, push)

    def product(self, slots: Cotangents) -> Callable[[Value, Value], Value]:
        """What multiplies a tangent or cotangent by the weights."""
        return slots[-2] if self.singular else mul

    def weights(self, x: Value, out: Value, *, axes: Any, **params: Any) -> Value:
        raise NotImplementedError(f"{self.name} declares no weights")

    def weighted(self, x: Value, t: Value, out: Value, params: Any, product: Any) -> Value:
        axes = params["axes"]
        weights = self.weights(x, kept(out, x.shape, axes), **params)
        total = np.sum(product(t, weights), axis=axes, keepdims=params["keepdims"])
        return cast(total, out.dtype)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        (x,) = avals
        return Aval(
            reduced_shape(x.shape, params["axes"], params["keepdims"]), self.out_dtype(x.dtype)
        )

    def out_dtype(self, dtype: Any) -> Any:
        return dtype

    def __call__(self, x: Value, **params: Any) -> Value:
        if type(x) is not Eager or x.owner.dirty:
            return bind(self, (x,), params)
        trace = x.owner
        value = x.value
        out = self(value, **params) if isinstance(value, Tracer) else self.impl(value, **params)
        k = trace.new()
        trace.append((self.pull, k, *calling_position(), x.slot, out, params, value))
        return Eager(out, trace, k)

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        x = _array(values[0])
        out = self(x, **params)
        k = trace.new()
        trace.append((self.pull, k, *calling_position(), slots[0], out, params, x))
        return Eager(out, trace, k)

    def forward(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        params: Any,
        strict: bool,
    ) -> Any:
        product = self.product(new_slots(0, strict))
        x = _array(values[0])
        return None if ts[0] is None else self.weighted(x, ts[0], out, params, product)


def _array(x: Value) -> Value:
    """A Python number as a NumPy scalar, so that a rule may ask for its shape."""
    return np.asarray(x)[()] if type(x) in (float, complex) else x


def reduced_shape(shape: Shape, axes: tuple[int, ...] | None, keepdims: bool) -> Shape:
    """Shape after a reduction over non-negative ``axes`` (None for all)."""
    gone = range(len(shape)) if axes is None else axes
    if keepdims:
        return tuple(1 if i in gone else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in gone)


def kept(out: Value, shape: Shape, axes: tuple[int, ...] | None) -> Value:
    """``out`` of a reduction with the reduced axes as length 1, to broadcast against the
    operand."""
    full = reduced_shape(shape, axes, keepdims=True)
    return out if out.shape == full else np.reshape(out, full)


_CACHE_SIZE = 512


def is_nothing(ct: Value | None) -> bool:
    """Whether a cotangent is known to be exactly zero."""
    if ct is None:
        return True
    return isinstance(ct, np.ndarray | np.generic) and bool(ct.size) and not np.any(ct)


class Many(list[Any]):
    """Cotangents of the outputs of a primitive that has several."""

    __slots__ = ()


def _pull_part(row: Row, ct: Value, cts: Cotangents) -> None:
    """Collect the cotangent of one output in the slot of the whole."""
    _, _, _, _, whole, j, count = row
    if cts[whole] is None:
        cts[whole] = Many([None] * count)
    cts[whole][j] = ct


def _push_part(row: Row, ts: Cotangents) -> None:
    _, k, _, _, whole, j, _ = row
    ts[k] = None if ts[whole] is None else ts[whole][j]


_pull_part.push = _push_part  # type: ignore[attr-defined]  # every pull function carries its push


def part_row(k: int, position: Position, whole: int, j: int, count: int) -> Row:
    """The row of output ``j`` of ``count``, all of which slot ``whole`` stands for."""
    return (_pull_part, k, *position, whole, j, count)


class General(Primitive):
    """Any primitive with a ``jvp`` written in terms of others.

    ``jvp(values, ts, out, **params)`` gives the tangent (several for ``multi``), None for zero. The
    pullback is that rule staged, transposed, lowered and kept per (parameters, operands, avals).
    ``transposes[i](ct, values, **params)`` serves where only operand ``i`` is traced and the
    primitive is linear in it; that also ends the recursion of a rule that uses the primitive
    itself.

    ``pullback(values, outs, live, given, **params)``, where there is one, is used instead of the
    derived pullback: it gets the cotangents of all outputs (None for zero) and gives those of the
    ``live`` operands. It may give a `Product`; with ``takes_parts`` it gets the `Parts` of a
    cotangent that was collected part by part. Operands from number ``aids`` on are results of the
    library's own on which no derivative depends (a factorization, to be used again). A derived
    pullback that is ``interpreted`` runs through its primitives, some of which raise at arrays that
    have no derivative, and not as a program, in which these warn.
    """

    transposes: ClassVar[dict[int, Callable[..., Value]]] = {}
    pullback: ClassVar[Callable[..., Sequence[Any]] | None] = None
    takes_parts: ClassVar[bool] = False
    aids: ClassVar[int | None] = None
    interpreted: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.transposed: OrderedDict[Any, tuple[ClosedProgram, tuple[int, ...]]] = OrderedDict()

        def push(row: Row, ts: Cotangents) -> None:
            _, k, _, _, _, slots, values, outs, params = row
            inner = [None if s is None else ts[s] for s in slots]
            some = any(t is not None for t in inner)
            ts[k] = self.jvp(values, inner, self.pack(outs), **params) if some else None

        self.pull = rule(self, self._pull, push)
        self.pull_linear = rule(self, self._pull_linear, push)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        raise NotDifferentiableError(f"{self.name} has no derivative{at(calling_position())}")

    @property
    def _pull_linear(self) -> Any:
        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, live, slots, values, _, params = row
            i = live[0]
            contribute(cts, slots[i], self.transposes[i](ct, values, **params))

        return pull

    @property
    def _pull(self) -> Any:
        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, live, slots, values, outs, params = row
            given: Sequence[Value] = ct if type(ct) is Many else (ct,)
            if (self.interpreted or cts[-2] is annihilate) and all(map(is_nothing, given)):
                return
            pulled: Sequence[Value]
            reached = live
            if self.pullback is None:
                closed, reached = self.transposed_rule(values, outs, live, given, params)
                some = [c for c in given if c is not None]
                run = interpret if self.interpreted else evaluate
                pulled = run(closed.program, [*closed.consts, *values, *outs, *some])
            else:
                pulled = self.pullback(values, outs, live, given, **params)
            for i, c in zip(reached, pulled, strict=True):
                if type(c) is Product:
                    add_product(cts, slots[i], c, aval_of(values[i]))
                else:
                    contribute(cts, slots[i], c)

        pull.takes_parts = self.takes_parts  # type: ignore[attr-defined]  # read by the walks
        return pull

    def transposed_rule(
        self,
        values: Sequence[Value],
        outs: Sequence[Value],
        live: tuple[int, ...],
        given: Sequence[Value | None],
        params: Any,
    ) -> tuple[ClosedProgram, tuple[int, ...]]:
        """The program (values, outs, cotangents) -> cotangents, and whose operands' they are; kept.

        A live operand on which no given output depends gets none.
        """
        pattern = tuple(c is not None for c in given)
        key = (params_key(params), live, pattern, tuple(map(aval_of, values)))
        found = self.transposed.get(key)
        if found is None:
            found = self._transpose_rule(values, outs, live, given, params)
            assert not any(isinstance(c, Tracer) for c in found[0].consts), (
                f"{self.name} captured a tracer"
            )
            self.transposed[key] = found
            while len(self.transposed) > _CACHE_SIZE:
                self.transposed.popitem(last=False)
        return found

    def _transpose_rule(
        self, values: Any, outs: Any, live: Any, given: Any, params: Any
    ) -> tuple[ClosedProgram, tuple[int, ...]]:
        builder = Builder()
        staged = [builder.argument(aval_of(v)) for v in values]
        staged_outs = tuple([builder.argument(aval_of(o)) for o in outs])
        cts = [None if c is None else builder.argument(aval_of(c)) for c in given]

        def push(*ts: Value) -> Sequence[Value]:
            inner: list[Value | None] = [None] * len(values)
            for i, t in zip(live, ts, strict=True):
                inner[i] = t
            return self.unpack(self.jvp(staged, inner, self.pack(staged_outs), **params))

        avals = [aval_of(values[i]).strong() for i in live]
        pulled = transpose_into(builder, push, avals, cts)
        reached = tuple(i for i, c in zip(live, pulled, strict=True) if c is not None)
        some = [c for c in pulled if c is not None]
        return builder.finish(some, linear=sum(c is not None for c in given)), reached

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        return self.recorded(trace, values, self.unpack(self(*values, **params)), slots, params)

    def recorded(
        self,
        trace: Rows,
        values: list[Value],
        outs: tuple[Value, ...],
        slots: list[int | None],
        params: Any,
    ) -> Value:
        """Append the rows of outputs that are computed already."""
        code, offset = calling_position()
        live = tuple([i for i, s in enumerate(slots) if s is not None])
        pull = self.pull_linear if len(live) == 1 and live[0] in self.transposes else self.pull
        held = [
            v if s is not None else own_values([v], trace)[0]
            for v, s in zip(values[: self.aids], slots, strict=False)
        ]
        whole = trace.new()
        if self.aids is not None:
            held += values[self.aids :]
        trace.append((pull, whole, code, offset, live, tuple(slots), tuple(held), outs, params))
        if not self.multi:
            return Eager(outs[0], trace, whole)
        results: list[Value] = []
        for j, o in enumerate(outs):
            if not aval_of(o).inexact:
                results.append(o)
                continue
            k = trace.new()
            trace.append(part_row(k, (code, offset), whole, j, len(outs)))
            results.append(Eager(o, trace, k))
        return tuple(results)

    def forward(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        params: Any,
        strict: bool,
    ) -> Any:
        return self.jvp(values, ts, out, **params)

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return sum(mask) == 1 and mask.index(True) in self.transposes
