"""Batching: a tracer whose value has the batch as leading axis, and a rule per kind.

`batch_rule` finds how a primitive maps over a leading axis: its own ``batch`` method, or its kind's
default here. ``batch(n, values, batched, **params)`` gets the operands, those that ``batched``
marks with a leading axis of length n, and returns outputs that all have it. Where the axis has a
name, n knows it (`AxisSize`), so that whatever a rule maps in its turn is mapped under that name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.errors import (
    TracerConversionError,
    UnsupportedError,
    at,
    calling_position,
    counted,
)
from vjpkit.core.primitive import Primitive
from vjpkit.core.rows import innermost, roles
from vjpkit.core.tracer import RUNNING, Running, Tracer
from vjpkit.kinds import DOORS, Elementwise, Ufunc
from vjpkit.ops import structural
from vjpkit.ops.collective import Collective
from vjpkit.ops.indexing import MAPPED, READERS, behind_examples, read
from vjpkit.ops.selection import aligned
from vjpkit.transforms.traces import ValueTrace, current

__all__ = ["Axis", "AxisSize", "Batched", "Batches", "batched_along_front", "over_axis"]


class Batched(Tracer):
    """One example, standing for all: ``value`` has the batch as its leading axis."""

    __slots__ = ()

    def __init__(self, value: Value, trace: Batches) -> None:
        self.value = value
        self.owner = trace

    @property
    def aval(self) -> Aval:
        return Aval(self.value.shape[1:], self.value.dtype)

    @property
    def shape(self) -> Shape:
        return self.value.shape[1:]  # type: ignore[no-any-return]  # values are untyped

    @property
    def ndim(self) -> int:
        return self.value.ndim - 1  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype  # type: ignore[no-any-return]

    def concrete(self) -> NoReturn:
        raise TracerConversionError(
            f"a batched value of {self.aval} stands for "
            f"{counted(self.owner.n, 'example')}, so it cannot "
            f"decide Python control flow or become one Python number.{at(calling_position())}\n"
            "Use np.where for a choice that depends on it, NumPy's functions instead of Python's "
            "or math's, vk.debug.print to look at it, or a Python loop over the examples instead "
            "of vmap."
        )

    __float__ = __complex__ = concrete

    def __index__(self) -> int:
        return self.concrete() if self.dtype.kind in "iu" else super().__index__()

    def __repr__(self) -> str:
        return f"Traced<{self.aval}, batch of {self.owner.n}>"


def batched_door(primitive: Elementwise) -> Callable[..., Value | None]:
    """The quick door: operands that NumPy aligns as they are, the batch in front."""
    impl = primitive.impl

    def unary(x_: Batched) -> Value | None:
        trace = x_.owner
        return None if trace.dirty or trace.closed else Batched(packed(impl(x_.value)), trace)

    def binary(x_: Value, y_: Value) -> Value | None:
        trace: Batches = x_.owner if type(x_) is Batched else y_.owner
        if type(y_) is Batched and y_.owner.level > trace.level:
            trace = y_.owner
        x, y = _aligned(x_, y_, trace), _aligned(y_, x_, trace)
        if x is None or y is None or trace.dirty or trace.closed:
            return None
        return Batched(packed(impl(x, y)), trace)

    return unary if primitive.arity == 1 else binary


def packed(out: Value) -> Value:
    """A fresh result with each example dense in memory, as it would be by itself.

    Where the batch lies inside of the examples NumPy copies what it would give as a view of one.
    """
    value = innermost(out)
    if not isinstance(value, np.ndarray) or value.flags.c_contiguous:
        return out
    ndim, lead = out.ndim, value.ndim - out.ndim
    strides = value.strides[lead + 1 :]
    axes = (0, *[1 + a for a in sorted(range(ndim - 1), key=lambda a: -abs(strides[a]))])
    if value.transpose((*range(lead), *[lead + a for a in axes])).flags.c_contiguous:
        return out
    moved = structural.copy(np.transpose(out, axes), order="C")
    return np.transpose(moved, [int(a) for a in np.argsort(axes)])


def _aligned(x: Value, other: Value, trace: Batches) -> Value | None:
    """An operand so that NumPy aligns it with the other one, the batch in front; None if that takes
    more."""
    kind = type(x)
    if kind in _NUMBERS:
        return x
    if kind is not Batched or x.owner is not trace:
        return x if kind is Batched or (kind is np.ndarray and x.dtype.kind == "f") else None
    value = x.value
    if type(other) is not Batched and type(other) is not np.ndarray:
        return value
    ndim = other.value.ndim if type(other) is Batched and other.owner is trace else other.ndim + 1
    if value.ndim >= ndim:
        return value
    shape = value.shape
    return structural.reshape(value, shape=(trace.n, *[1] * (ndim - len(shape)), *shape[1:]))


_NUMBERS = frozenset({float, int, np.float64})
DOORS[Batched] = batched_door


def read_of_batch(x: Batched, index: Any) -> Value:
    """``x[index]`` for an index without arrays: the batch stays in front."""
    behind = behind_examples(index)
    out = read(x.value, behind)
    if type(out) is np.ndarray and out.ndim == 1 and Ellipsis not in behind:
        out = out.copy()  # scalars: no views of an array that may be written to
    return Batched(out, x.owner)


READERS[Batched] = read_of_batch
MAPPED.add(Batched)


class AxisSize(int):
    """The length of a mapped axis that has a name, and the name.

    Inside of k axes that the user calls the same it is the pair of that name, which is no tuple
    itself, and k: programs are told apart by it.

    >>> AxisSize(3, "i"), AxisSize(3, "i").name
    (3, 'i')
    """

    name: Any

    def __new__(cls, n: int, name: Any) -> AxisSize:
        size = super().__new__(cls, n)
        size.name = name
        return size


def is_called(n: int, name: Any) -> bool:
    """Whether the axis of length ``n`` has this name."""
    return isinstance(n, AxisSize) and bool(n.name == name)


@dataclass(frozen=True)
class Axis:
    """A named axis over which a function is being mapped; ``index`` is the example's number.

    ``key`` is what programs call it.

    Collectives look it up by name where the user's function runs: a value that no example differs
    in does not know over what it is mapped.
    """

    name: Any
    size: int
    index: Value
    key: Any


@contextmanager
def over_axis(trace: Batches) -> Iterator[None]:
    """While the user's function runs on tracers of ``trace``, collectives find its axis by name."""
    n = trace.n
    if not isinstance(n, AxisSize):
        yield
        return
    name = n.name[0] if isinstance(n.name, tuple) else n.name
    axis = Axis(name, int(n), Batched(np.arange(n), trace), n.name)
    outer = RUNNING.get()
    token = RUNNING.set(Running(outer.on, (*outer.axes, axis)))
    try:
        yield
    finally:
        RUNNING.reset(token)


class Batches(ValueTrace):
    """The trace of one ``vmap`` over ``n`` examples."""

    __slots__ = ("n",)

    def __init__(self, n: int) -> None:
        super().__init__("vmap")
        self.n = n

    def close(self, name: str) -> None:
        """End the trace: its tracers raise from now on."""
        self.name = name
        self.closed = True

    def process(self, primitive: Any, xs: Sequence[Value], params: dict[str, Any]) -> Value:
        self.require_running()
        xs, params = primitive.canonical(xs, params)
        mine = [isinstance(x, Batched) and x.owner is self for x in xs]
        values = [
            x.value if m else roles["snapshot"](x) if isinstance(x, Tracer) else x
            for x, m in zip(xs, mine, strict=True)
        ]
        if isinstance(primitive, Collective) and is_called(self.n, params["axis"]):
            y, differs = primitive.combined(self.n, values[0], mine[0], **params)
            return Batched(y, self) if differs else y
        out = batch_rule(primitive)(primitive, self.n, values, mine, **params)
        outs = primitive.unpack(out)
        self.require_closed(primitive, outs, params)
        return primitive.pack(tuple([Batched(o, self) for o in outs]))

    def dense(self, y: Value) -> Value:
        """An output with its leading batch axis, repeated where it is the same for all."""
        y = current(y)
        if isinstance(y, Batched) and y.owner is self:
            return y.value
        return batched_along_front(y, False, self.n)


def batched_along_front(x: Value, is_batched: bool, n: int) -> Value:
    """``x`` with a leading axis of length n, repeated if it is not batched."""
    return x if is_batched else np.broadcast_to(x, (n, *aval_of(x).shape))


Rule = Callable[..., Any]
_DEFAULTS: dict[type[Primitive], Rule] = {}


def batch_rule(primitive: Primitive) -> Rule:
    """How ``primitive`` maps over a leading axis."""
    own = getattr(type(primitive), "batch", None)
    if own is not None:
        return own  # type: ignore[no-any-return]  # found by name
    if hasattr(primitive, "core_ndims"):
        return _core
    for kind in type(primitive).__mro__:
        if kind in _DEFAULTS:
            return _DEFAULTS[kind]
    raise UnsupportedError(
        f"{primitive.name} has no batching rule{at(calling_position())}\n"
        "Its class needs a method batch(self, n, values, batched, **params)."
    )


def default(*kinds: type[Primitive]) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for kind in kinds:
            _DEFAULTS[kind] = rule
        return rule

    return register


def _core(
    self: Any, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
) -> Value:
    """A primitive that maps over leading axes by itself: all but ``core_ndims`` of each
    operand's."""
    return self(*aligned(n, values, batched, self.core_ndims), **params)


@default(Ufunc)
def _ufunc(
    self: Any, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
) -> Value:
    """Align the examples' axes to the right, the batch stays in front."""
    ndim = max(len(aval_of(v).shape) - b for v, b in zip(values, batched, strict=True))

    def align(v: Value, b: bool) -> Value:
        shape = aval_of(v).shape
        if not b or len(shape) - 1 == ndim:
            return v
        return structural.reshape(v, shape=(n, *[1] * (ndim - len(shape) + 1), *shape[1:]))

    out = self(*[align(v, b) for v, b in zip(values, batched, strict=True)], **params)
    return self.pack(tuple(map(packed, self.unpack(out))))
