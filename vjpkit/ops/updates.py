"""Writing by index, as a function: a copy of ``x`` with ``value`` written through a chain of
views, or added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.primitive import PRIMITIVES, Sample, primitive
from vjpkit.core.rows import Cotangents, Row, cast, innermost, unbroadcast
from vjpkit.core.tracer import Tracer
from vjpkit.kinds import LinearMany, PiecewiseConstant, contribute, rule
from vjpkit.kinds.elementwise import weak_type
from vjpkit.ops import structural
from vjpkit.ops.index import Index, indexed_shape
from vjpkit.ops.indexing import add_into, behind_examples, examples_of, getitem

__all__ = ["Steps", "add_at", "last_writes", "through", "update"]

Steps = tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]
"""Views of views: (name, parameters) of structural primitives, applied from left to right."""

_M = np.array([[0.3, -1.2, 2.5], [1.7, 0.4, -0.6]])


def through(x: Value, steps: Steps) -> Value:
    """``x`` seen through a chain of views."""
    for name, params in steps:
        step = PRIMITIVES[name]
        x = step(x, **dict(params)) if isinstance(x, Tracer) else step.impl(x, **dict(params))
    return x


def seen_shape(shape: Shape, steps: Steps) -> Shape:
    """Shape of an array of ``shape`` seen through ``steps``."""
    aval = Aval(shape, np.dtype(bool))
    for name, params in steps:
        aval = PRIMITIVES[name].abstract(aval, **dict(params))
    return aval.shape


def copy_with_layout(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A private copy with the same strides, so that views of it are views where NumPy's would be.

    A dense copy of a gapped array would make later reshapes views where NumPy copies.
    """
    out = np.array(x, order="K")
    if any(n > 1 and step == 0 for n, step in zip(x.shape, x.strides, strict=True)):
        return out  # broadcast: its elements share memory, those of the copy must not
    steps = zip(x.shape, x.strides, out.strides, strict=True)
    if not x.size or all(n == 1 or step == new for n, step, new in steps):
        return out
    low, high = np.lib.array_utils.byte_bounds(x)
    offset = x.__array_interface__["data"][0] - low
    out = np.ndarray(x.shape, x.dtype, np.empty(high - low, np.uint8), offset, x.strides)
    out[...] = x
    return out


def write_into(x: np.ndarray[Any, Any], steps: Steps, index: Any, value: Value) -> None:
    """``x`` seen through ``steps``, at ``index``, becomes ``value``.

    A cotangent's layout may differ from the array's that was written, so that what was a view there
    is a copy here: then the positions lead to the elements.
    """
    seen = through(x, steps)
    if seen is x or np.may_share_memory(seen, x):
        seen[index] = value
        return
    positions = through(np.arange(x.size).reshape(x.shape), steps)[index]
    x[np.unravel_index(positions, x.shape)] = value


class LastWrites(PiecewiseConstant):
    """Where an assignment through index arrays is the last one to its element, as NumPy does
    them."""

    @staticmethod
    def impl(*arrays: Value, shape: Shape, index: Index) -> Value:
        flat = np.arange(Aval(shape, np.dtype(bool)).size).reshape(shape)
        positions = flat[index.fill(arrays)]
        last = np.zeros(positions.size, bool)
        _, first = np.unique(positions.ravel()[::-1], return_index=True)
        last[positions.size - 1 - first] = True
        return last.reshape(positions.shape)

    def abstract(self, *avals: Aval, shape: Shape, index: Index) -> Aval:
        return Aval(indexed_shape(shape, index, avals), np.dtype(bool))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Value:
        positions, flat = batched_positions(
            n, values, batched, (), params["index"], params["shape"]
        )
        every = Index((Index.ARRAY, Index.ARRAY))
        return self(batch_numbers(n, positions), positions, shape=(n, flat), index=every)

    def samples(self) -> Iterable[Sample]:
        yield Sample(np.array([0, 2, 0]), shape=(4,), index=Index((Index.ARRAY,)))


last_writes = primitive(LastWrites)


class Update(LinearMany):
    """A copy of ``x`` in which ``x`` seen through ``steps``, at ``index``, is ``value``.

    Operands: the index arrays, then ``x`` and ``value`` (which broadcasts). Linear in both: the
    cotangent of ``value`` is read where it was written, that of ``x`` is zero there. An element
    written several times keeps the last value, and only that one receives a cotangent.
    """

    def __init__(self) -> None:
        super().__init__()
        functional = self.pull

        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            """Like the general pull, zeroing a cotangent that nobody else holds in place."""
            _, _, _, _, (x_slot, value_slot), avals, arrays, params = row
            if examples_of(ct) is not None and is_plain(params, arrays):
                self.pull_examples(row, ct, cts)
                return
            if not np.shape(ct) or any(isinstance(x, Tracer) for x in (ct, *arrays)):
                functional(row, ct, cts)
                return
            if value_slot is not None:
                contribute(cts, value_slot, self.value_cotangent(ct, avals[1], arrays, params))
            if x_slot is not None:
                if not (ct.base is None and ct.flags.writeable and row[1] in cts[-1]):
                    ct = np.array(ct)
                write_into(ct, params["steps"], params["index"].fill(arrays), 0)
                contribute(cts, x_slot, ct)
                if cts[x_slot] is ct:
                    cts[-1].add(x_slot)

        self.pull = rule(self, pull, functional.push)

    @staticmethod
    def pull_examples(row: Row, ct: Value, cts: Cotangents) -> None:
        """The same of mapped cotangents: zeroed in the array of all examples."""
        _, k, _, _, (x_slot, value_slot), avals, _, params = row
        examples, owned = examples_of(ct), cts[-1]
        assert examples is not None
        index = behind_examples(params["index"].fill([]))
        if value_slot is not None:
            part = cast(type(ct)(examples[index].copy(), ct.owner), avals[1].dtype)
            contribute(cts, value_slot, unbroadcast(part, avals[1].shape, avals[1].dtype))
        if x_slot is not None:
            if not ((k,) in owned and examples.base is None and examples.flags.writeable):
                examples = np.array(examples)
                ct = type(ct)(examples, ct.owner)
            examples[index] = 0
            contribute(cts, x_slot, ct)
            if cts[x_slot] is ct:
                owned.add((x_slot,))

    def fixed(self, params: Any) -> int:
        return int(params["index"].arrays)

    @staticmethod
    def impl(*operands: Value, steps: Steps, index: Index) -> Value:
        *arrays, x, value = operands
        require_real(aval_of(x).dtype, aval_of(value).dtype)
        out = copy_with_layout(np.asarray(x))
        write_into(out, steps, index.fill(arrays), value)
        return out

    @staticmethod
    def overwrite(*operands: Value, steps: Steps, index: Index) -> Value:
        """The same in the memory of ``x``, where nothing else needs it."""
        *arrays, x, value = operands
        write_into(x, steps, index.fill(arrays), value)
        return x

    def value_cotangent(self, ct: Value, aval: Aval, arrays: Sequence[Value], params: Any) -> Value:
        """What was written to comes back, summed over what broadcasting repeated."""
        steps, index = params["steps"], params["index"]
        part = getitem(through(ct, steps), *arrays, index=index)
        if arrays:
            shape = seen_shape(aval_of(ct).shape, steps)
            part = np.where(last_writes(*arrays, shape=shape, index=index), part, 0)
        elif isinstance(part, np.ndarray):
            part = part.copy()  # not a view: the cotangent it is read from is about to change
        part = cast(part, aval.dtype)  # before it is added up
        return unbroadcast(part, aval.shape, aval.dtype)

    def transpose(
        self, ct: Value, avals: Sequence[Aval], live: Sequence[bool], *fixed: Value, **params: Any
    ) -> Sequence[Value | None]:
        _, value = avals  # read first: then a program may write into the cotangent
        part = self.value_cotangent(ct, value, fixed, params) if live[1] else None
        return self(*fixed, ct, 0, **params) if live[0] else None, part

    def abstract(self, *avals: Aval, steps: Steps, index: Index) -> Aval:
        *arrays, x, value = avals
        target = indexed_shape(seen_shape(x.shape, steps), index, arrays)
        np.broadcast_shapes(target, value.shape)
        require_real(x.dtype, value.dtype)
        if value.weak and value.dtype.kind == "c" and x.dtype.kind != "c":
            raise TypeError(f"a complex number cannot be written into an array of {x.dtype}")
        return Aval(x.shape, x.dtype)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Value:
        *arrays, x, value = values
        shape = aval_of(x).shape[1:] if batched[-2] else aval_of(x).shape
        x = x if batched[-2] else np.broadcast_to(x, (n, *shape))
        if batched[-2] and is_plain(params, arrays):
            index = params["index"]
            if batched[-1]:
                axes = len(indexed_shape(shape, index, []))
                own = aval_of(value).shape[1:]
                value = np.reshape(value, (n, *[1] * (axes - len(own)), *own))
            return self(x, value, steps=(), index=index.behind(slice(None)))
        positions, flat = batched_positions(
            n, arrays, batched, params["steps"], params["index"], shape
        )
        if batched[-1]:
            own = aval_of(value).shape[1:]
            value = np.reshape(value, (n, *[1] * (positions.ndim - 1 - len(own)), *own))
        rows = batch_numbers(n, positions)
        every = Index((Index.ARRAY, Index.ARRAY))
        flat_x = flat_examples(x, n, flat, batched[-2])
        out = self(rows, positions, flat_x, value, steps=(), index=every)
        return examples_like(x, np.reshape(out, (n, *shape)))

    def samples(self) -> Iterable[Sample]:
        row = Index((1,))
        yield Sample(_M, _M[0], steps=(), index=row)
        yield Sample(_M, 2.0, steps=(("transpose", (("axes", (1, 0)),)),), index=row)
        arrays = np.array([0, 1, 0]), np.array([2, 2, 2])
        both = Index((Index.ARRAY, Index.ARRAY))
        yield Sample(*arrays, _M, np.array([1.0, 2.0, 3.0]), steps=(), index=both)


update = primitive(Update)


def is_plain(params: Any, arrays: Sequence[Value]) -> bool:
    """Whether it is written at an index without arrays, and not through views."""
    entries = params["index"].entries
    return not (params["steps"] or arrays or bool in map(type, entries))


class AddAt(LinearMany):
    """A copy of ``x`` with ``value`` added at an index, again and again where it repeats.

    Operands: the index arrays, then ``x`` and ``value`` (which broadcasts). Linear in both. The sum
    at each element begins with ``x`` and goes on in the order of the index, as NumPy's ``add.at``
    does it.
    """

    def fixed(self, params: Any) -> int:
        return int(params["index"].arrays)

    @staticmethod
    def impl(*operands: Value, index: Index) -> Value:
        *arrays, x, value = operands
        require_addable(aval_of(x), aval_of(value))
        out = np.array(x)
        target = indexed_shape(out.shape, index, [aval_of(a) for a in arrays])
        add_into(out, index.fill(arrays), np.broadcast_to(value, target))
        return out

    def transpose(
        self, ct: Value, avals: Sequence[Aval], live: Sequence[bool], *fixed: Value, **params: Any
    ) -> Sequence[Value | None]:
        value = avals[1]
        part = None
        if live[1]:
            part = cast(getitem(ct, *fixed, index=params["index"]), value.dtype)
            part = unbroadcast(part, value.shape, value.dtype)
        return (ct if live[0] else None, part)

    def abstract(self, *avals: Aval, index: Index) -> Aval:
        *arrays, x, value = avals
        np.broadcast_shapes(indexed_shape(x.shape, index, arrays), value.shape)
        require_addable(x, value)
        return Aval(x.shape, x.dtype)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, index: Index
    ) -> Value:
        *arrays, x, value = values
        shape = aval_of(x).shape[1:] if batched[-2] else aval_of(x).shape
        x = x if batched[-2] else np.broadcast_to(x, (n, *shape))
        positions, flat = batched_positions(n, arrays, batched, (), index, shape)
        if batched[-1]:
            own = aval_of(value).shape[1:]
            value = np.reshape(value, (n, *[1] * (positions.ndim - 1 - len(own)), *own))
        every = Index((Index.ARRAY, Index.ARRAY))
        rows = batch_numbers(n, positions)
        out = self(rows, positions, flat_examples(x, n, flat, batched[-2]), value, index=every)
        return examples_like(x, np.reshape(out, (n, *shape)))

    def samples(self) -> Iterable[Sample]:
        rows = np.array([0, 1, 0])
        yield Sample(rows, _M, _M[0], index=Index((Index.ARRAY,)))
        both = Index((Index.ARRAY, Index.ARRAY))
        yield Sample(rows, np.array([2, 2, 2]), _M, np.array([1.0, 2.0, 3.0]), index=both)
        yield Sample(_M, 2.0, index=Index((1, slice(None, None, 2))))


add_at = primitive(AddAt)


def require_addable(x: Aval, value: Aval) -> None:
    """Raise where a sum cannot be cast to the array that it is written to."""
    kinds = [weak_type(value) if value.weak else value.dtype]
    total = np.add.resolve_dtypes((x.dtype, *kinds, None))[-1]
    if not np.can_cast(total, x.dtype, "same_kind"):
        raise TypeError(
            f"Cannot cast ufunc 'add' output from {total!r} to {x.dtype!r} with casting rule "
            "'same_kind'"
        )


def require_real(array: np.dtype[Any], value: np.dtype[Any]) -> None:
    """Raise where writing would drop an imaginary part."""
    if value.kind == "c" and array.kind != "c":
        raise TypeError(f"a value of {value} does not fit into an array of {array}")


def batched_positions(
    n: int,
    arrays: Sequence[Value],
    batched: Sequence[bool],
    steps: Steps,
    index: Index,
    shape: Shape,
) -> tuple[Value, int]:
    """(n, *target): flat positions in one example of what is written, and an example's size."""
    size = Aval(shape, np.dtype(bool)).size
    flat = through(np.arange(size).reshape(shape), steps)
    if any(batched[: len(arrays)]):
        return type(getitem).batch(
            getitem, n, [flat, *arrays], [False, *batched[: len(arrays)]], index=index
        ), size
    positions = getitem(flat, *arrays, index=index)
    return np.broadcast_to(positions, (n, *np.shape(positions))), size


def flat_examples(x: Value, n: int, size: int, batched: bool) -> Value:
    """(n, size): every example flat, in memory one after the other also where they are the same."""
    flat = np.reshape(x, (n, size))
    return flat if batched else structural.copy(flat, order="C")


def examples_like(x: Value, out: Value) -> Value:
    """``out`` with examples in the layout of those of ``x``: it decides what a view is."""
    value = innermost(x)
    if not isinstance(value, np.ndarray):
        return out
    ndim = out.ndim - 1
    strides = value.strides[value.ndim - ndim :]
    axes = (0, *[1 + a for a in sorted(range(ndim), key=lambda a: -abs(strides[a]))])
    if axes == tuple(range(ndim + 1)):
        return out
    moved = structural.copy(np.transpose(out, axes), order="C")
    return np.transpose(moved, [int(a) for a in np.argsort(axes)])


def batch_numbers(n: int, positions: Value) -> np.ndarray[Any, Any]:
    """The number of each example, to stand beside its positions."""
    return np.arange(n).reshape(n, *[1] * (positions.ndim - 1))
