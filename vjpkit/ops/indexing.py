"""Reading by index, and its transpose, which adds by index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.errors import calling_position
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import Cotangents, Eager, Parts, Product, Row, Rows, cast, roles
from vjpkit.core.tracer import Tracer, bind, refresh
from vjpkit.kinds import Linear, LinearMany, own_values, rule
from vjpkit.ops.index import (
    Index,
    addresses_once,
    arrays_apart,
    arrays_place,
    arrays_rank,
    flat_positions,
    has_tracer,
    indexed_shape,
    is_basic,
    moved,
    normalized,
    split_index,
    stand_in,
)
from vjpkit.ops.structural import along_front, inverse, move_axis, reshape, transpose

_M = np.array([[0.3, -1.2, 2.5], [1.7, 0.4, -0.6]])
_T = np.arange(24.0).reshape(2, 3, 4)[:, ::-1]
_SCALAR = np.float64(0.7)

# ---- reading -----------------------------------------------------------------------------------


def read(x: Value, index: Any) -> Value:
    """``x[index]`` for whatever the user wrote between the brackets: tracers' ``__getitem__``."""
    if type(x) is not Eager or x.owner.dirty or not is_basic(index):
        return _read_any(x, index)
    trace = x.owner
    value = x.value
    out = value[index]
    k = trace.new()
    trace.append((_pull_read, k, *calling_position(), x.slot, value.shape, value.dtype, index))
    return Eager(out, trace, k)


READERS: dict[type[Tracer], Callable[[Any, Any], Value]] = {}
"""What reads a tracer of another kind than the eager one at an index without arrays."""


def _read_any(x: Value, index: Any) -> Value:
    if not isinstance(x, Tracer) and not has_tracer(index):
        return x[index]
    if isinstance(x, Tracer) and x.owner.dirty:
        x = refresh(x)
    if type(x) in READERS and is_basic(index) and not x.owner.closed:
        try:
            return READERS[type(x)](x, index)
        except IndexError:
            _require_fit(x, normalized(index))  # in a batch of examples the axes have other numbers
            raise
    plain = type(index) is np.ndarray and index.dtype.kind in "bi" and index.shape != ()
    entries = (index,) if plain else normalized(index)
    if type(x) is Eager and (plain or not has_tracer(entries)):
        return _with_row(x.owner, x.slot, x.value, entries, at_index(x.value, entries))
    static, arrays = split_index(entries)
    if any(isinstance(e, np.ndarray) and e.dtype == bool for e in entries):
        _require_fit(x, entries)
    try:
        return getitem(x, *arrays, index=static)
    except IndexError:
        _require_fit(x, entries)  # in a batch of examples the axes have other numbers
        raise


def _require_fit(x: Value, entries: Sequence[Any]) -> None:
    """NumPy's IndexError where an index does not fit an array, as far as it is known."""
    stand_in(aval_of(x))[tuple([stand_in(e.aval) if has_tracer(e) else e for e in entries])]


def at_index(x: Value, index: tuple[Any, ...]) -> Value:
    """``x[index]`` where index arrays, or ``x`` itself, may be traced further out."""
    if not isinstance(x, Tracer) and not has_tracer(index):
        return indexable(x)[index]
    if type(x) in READERS and is_basic(index) and not (x.owner.dirty or x.owner.closed):
        return READERS[type(x)](x, index)
    static, arrays = split_index(index)
    return getitem(x, *arrays, index=static)


def indexable(x: Value) -> Value:
    """``x``, or a Python number as an array without axes: of that NumPy takes ``x[()]``."""
    return np.asarray(x) if type(x) in (float, complex, int, bool) else x


def _with_row(
    trace: Rows, slot: int | None, value: Value, index: tuple[Any, ...], out: Value
) -> Value:
    """``out``, read from ``value`` at ``index``, with a row that says so."""
    kept = tuple(own_values(index, trace))
    k = trace.new()
    aval = aval_of(value)
    trace.append((_pull_read, k, *calling_position(), slot, aval.shape, aval.dtype, kept))
    return Eager(out, trace, k)


def _pull(row: Row, ct: Value, cts: Cotangents) -> None:
    _, _, _, _, i, shape, dtype, index = row
    add_at_slot(cts, i, ct, shape, dtype, index)


def _push(row: Row, ts: Cotangents) -> None:
    _, k, _, _, i, _, _, index = row
    ts[k] = None if ts[i] is None else at_index(ts[i], index if type(index) is tuple else (index,))


class Getitem(Linear):
    """``x[index]``; index arrays are operands, the rest of the index is a parameter.

    A row keeps the filled index; the cotangent is added into the operand's own buffer at the index,
    not into a dense array of zeros.
    """

    impl = staticmethod(lambda x, *arrays, index: indexable(x)[index.fill(arrays)])

    def __call__(self, x: Value, *fixed: Value, **params: Any) -> Value:
        return bind(self, (x, *fixed), params)

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        x, *arrays = values
        return _with_row(trace, slots[0], x, params["index"].fill(arrays), self(*values, **params))

    def abstract(self, *avals: Aval, index: Index, **params: Any) -> Aval:
        return Aval(indexed_shape(avals[0].shape, index, avals[1:]), avals[0].dtype)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, index: Index
    ) -> Value:
        x, *arrays = values
        x_batched, *flags = batched
        ndim = aval_of(x).ndim - x_batched
        index, arrays, axes = batched_index(index, arrays, flags, ndim, x_batched, n)
        return permuted(getitem(x, *arrays, index=index), axes)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, index=Index((0, slice(None, None, -1))))
        yield Sample(_M, index=Index((Ellipsis, None, 1)))
        yield Sample(_SCALAR, index=Index((None,)))
        rows, columns = np.array([0, 1, 1]), np.array([[0], [-1]])
        one = Index.ARRAY
        yield Sample(_M, rows, index=Index((one,)))
        yield Sample(_M, rows, columns, index=Index((one, one)))
        yield Sample(_T, columns, rows, index=Index((one, slice(1, None), one)))
        yield Sample(_T, rows, index=Index((slice(None), 1, one)))
        yield Sample(_M, np.zeros((0, 2), int), index=Index((slice(None), one)))
        yield Sample(_T, rows, index=Index((slice(None), True, None, one)))
        yield Sample(_T, rows, np.array([[[0]], [[2]]]), index=Index((one, ..., one)))


getitem = primitive(Getitem)


_pull_read = rule(getitem, _pull, _push)


def permuted(x: Value, axes: tuple[int, ...]) -> Value:
    """``x`` with its axes in this order, most often the one they have: ``()`` says so too."""
    return x if axes == tuple(range(len(axes))) else transpose(x, axes=axes)


def batched_index(
    index: Index, arrays: Sequence[Value], flags: Sequence[bool], ndim: int, x_batched: bool, n: int
) -> tuple[Index, list[Value], tuple[int, ...]]:
    """How to read a batch of arrays (of ``ndim`` axes each) at a batch of indices, at once.

    Returns the index, its arrays, and the permutation of the result's axes that brings the batch to
    the front and the others where one example has them.
    """
    if is_basic(index.entries):
        return index.behind(slice(None)), [], ()
    ranks = [aval_of(a).ndim - b for a, b in zip(arrays, flags, strict=True)]
    rank = arrays_rank(index, ranks)
    rest = sum([not isinstance(e, int | str) for e in index.expanded(ndim)])
    if not any(flags):
        behind = rank if arrays_apart(index) else 0
        return index.behind(slice(None)), list(arrays), moved(1 + rest + rank, behind, 1, 0)
    place = arrays_place(index, ndim)
    aligned = [
        reshape(a, shape=(n, *[1] * (rank - r), *aval_of(a).shape[1:])) if b and r < rank else a
        for a, b, r in zip(arrays, flags, ranks, strict=True)
    ]
    if x_batched:
        examples = np.arange(n).reshape(n, *[1] * rank)
        axes = moved(1 + rest + rank, 1, rank, 1 + place)
        return index.behind(Index.ARRAY), [examples, *aligned], axes
    return index, aligned, moved(1 + rest + rank, place, 1, 0)


class Take(Linear):
    """``x[:, ..., indices]``, read along ``axis`` into dense memory."""

    impl = staticmethod(lambda x, indices, axis: np.take(x, indices, axis))

    def __call__(self, x: Value, *fixed: Value, **params: Any) -> Value:
        return bind(self, (x, *fixed), params)

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> Value:
        x, indices = values
        index = (slice(None),) * params["axis"] + (indices,)
        return _with_row(trace, slots[0], x, index, self(x, indices, **params))

    def abstract(self, *avals: Aval, axis: int, **params: Any) -> Aval:
        x, indices = avals
        return Aval(x.shape[:axis] + indices.shape + x.shape[axis + 1 :], x.dtype)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, axis: int
    ) -> Value:
        if batched == [True, False]:
            return take(*values, axis=axis + 1)
        index = Index((slice(None),) * axis + (Index.ARRAY,))
        return type(getitem).batch(getitem, n, values, batched, index=index)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, np.array([[0, 2], [-1, 0]]), axis=1)
        yield Sample(_T, np.array([1, 1, 0]), axis=0)
        yield Sample(_T, np.array(2), axis=1)
        yield Sample(_M, np.zeros(0, int), axis=0)


take = primitive(Take)


# ---- adding ------------------------------------------------------------------------------------

_FEW = 2000
"""Up to so many elements NumPy's general loop is faster than computing flat positions."""


def add_into(buffer: np.ndarray[Any, Any], index: Any, ct: Value) -> None:
    """``buffer[index] += ct``, adding repeatedly where the index repeats."""
    if is_basic(index):
        part = buffer[index]
        if type(part) is np.ndarray:  # a view: what was added need not be written back
            np.add(part, ct, out=part, casting="same_kind")
        else:
            buffer[index] = part + ct
    elif addresses_once(index):
        buffer[index] += ct
    elif buffer.ndim == 1 == len(index):
        np.add.at(buffer, index[0].ravel(), ct.ravel())
    elif ct.size <= _FEW or not buffer.flags.c_contiguous:
        np.add.at(buffer, index, ct)
    else:  # NumPy adds to an array of one axis about six times faster than to others
        places = flat_positions(buffer.shape, index)
        np.add.at(buffer.ravel(), places.ravel(), ct.ravel())


MAPPED: set[type[Tracer]] = set()
"""Tracers whose ``value`` has the examples of a batch in front."""


def examples_of(x: Value) -> np.ndarray[Any, Any] | None:
    """The array of all examples that a mapped value stands for; None of any other value."""
    plain = type(x) in MAPPED and type(x.value) is np.ndarray and not x.owner.closed
    return x.value if plain else None


def behind_examples(index: Any) -> tuple[Any, ...]:
    """An index without arrays, to be taken of every example."""
    return (slice(None), *(index if type(index) is tuple else (index,)))


def own_examples(cts: Cotangents, i: int, shape: Shape, dtype: Any, like: Any) -> Any:
    """The buffer of slot ``i`` for mapped cotangents like ``like``, ours; None if it has another.

    ``(i,)`` among what is owned says that nobody else holds the examples of slot ``i``.
    """
    old, owned = cts[i], cts[-1]
    if old is None:
        buffer = np.zeros((len(like.value), *shape), dtype)
    elif type(old) is not type(like) or old.owner is not like.owner:
        return None
    else:
        held = examples_of(old)
        if held is None or held.dtype != dtype:
            return None
        if (i,) in owned and held.base is None and held.flags.writeable:
            return held
        buffer = np.array(held)
    cts[i] = type(like)(buffer, like.owner)
    owned.add((i,))
    return buffer


def add_at_slot(cts: Cotangents, i: int, ct: Value, shape: Shape, dtype: Any, index: Any) -> None:
    """A contribution to part of a slot: into a buffer we own, or, traced, into a list of parts."""
    old = cts[i]
    owned = cts[-1]
    examples = examples_of(ct)
    if examples is not None and index is not None and is_basic(index):
        buffer = own_examples(cts, i, shape, dtype, ct)
        if buffer is not None:
            add_into(buffer, behind_examples(index), examples)
            return
    if isinstance(ct, Tracer) or isinstance(old, Tracer | Parts) or has_tracer(index):
        if type(old) is not Parts:
            whole = [] if old is None else [(None, old)]
            old = cts[i] = Parts([Aval(shape, dtype), *whole])
            owned.difference_update((i, ~i))
        old.append(((None,) if index is None else index, ct))  # None alone stands for the whole
        return
    if old is None:
        old = cts[i] = np.zeros(shape, dtype)
        owned.add(i)
        if is_basic(index):
            old[index] = ct
            return
    elif i not in owned:
        old = cts[i] = np.array(old, order="C")
        owned.add(i)
    add_into(old, index, ct)


class ScatterSum(LinearMany):
    """Zeros of ``shape`` with every linear operand added at its index: the sum of transposed reads.

    Operands are first all index arrays, in the order of ``indices``, then one value per index.
    """

    def fixed(self, params: Any) -> int:
        return sum([index.arrays for index in params["indices"]])

    @staticmethod
    def impl(*operands: Value, shape: Shape, dtype: Any, indices: tuple[Index, ...]) -> Value:
        out = np.zeros(shape, dtype)
        values = operands[len(operands) - len(indices) :]
        _require_castable(map(aval_of, values), out.dtype)
        if len(values) == 1 and len(operands) == 1:
            out[indices[0].entries] = values[0]  # keeps the sign of zero
            return out
        for value, (index, arrays) in zip(values, with_arrays(indices, operands), strict=True):
            add_into(out, index.fill(arrays), value)
        return out

    def transpose(
        self, ct: Value, avals: Sequence[Aval], live: Sequence[bool], *fixed: Value, **params: Any
    ) -> Sequence[Value | None]:
        reads = zip(avals, live, with_arrays(params["indices"], fixed), strict=True)
        return [
            cast(getitem(ct, *arrays, index=index), aval.dtype) if wanted else None
            for aval, wanted, (index, arrays) in reads
        ]

    def total(
        self, ts: Sequence[Value | None], avals: Sequence[Aval], fixed: Sequence[Value], params: Any
    ) -> Any:
        places = with_arrays(params["indices"], fixed)
        parts = [(*place, t) for t, place in zip(ts, places, strict=True) if t is not None]
        return add_parts(parts, params["shape"], params["dtype"]) if parts else None

    def abstract(self, *avals: Aval, shape: Shape, dtype: Any, **params: Any) -> Aval:
        _require_castable(avals[len(avals) - len(params["indices"]) :], dtype)
        return Aval(shape, dtype)

    def batch(
        self,
        n: int,
        values: Sequence[Value],
        batched: Sequence[bool],
        *,
        shape: Shape,
        dtype: Any,
        indices: tuple[Index, ...],
    ) -> Value:
        fixed = self.fixed({"indices": indices})
        flags = iter(batched)
        parts = []
        for (index, arrays), value, is_batched in zip(
            with_arrays(indices, values[:fixed]), values[fixed:], batched[fixed:], strict=True
        ):
            mine = [next(flags) for _ in arrays]
            index, arrays, axes = batched_index(index, arrays, mine, len(shape), True, n)
            value = permuted(along_front(value, is_batched, n), inverse(axes))
            parts.append((index, arrays, value))
        return add_parts(parts, (n, *shape), dtype)

    def samples(self) -> Iterable[Sample]:
        rows, one = np.array([0, 1, 0]), Index.ARRAY
        indices = Index((one,)), Index((1, slice(1, None)))
        values = np.arange(9.0).reshape(3, 3), np.array([0.5, -2.0])
        real = np.dtype(float)
        yield Sample(rows, *values, shape=(2, 3), dtype=real, indices=indices)
        backwards = (Index((slice(None, None, -1), None, slice(1, 3))),)
        yield Sample(_M[:, None, :2], shape=(2, 4), dtype=real, indices=backwards)
        apart = (Index((one, slice(None), one)),)
        yield Sample(rows, rows, _T[0], shape=(2, 4, 2), dtype=real, indices=apart)
        last = (Index((slice(None), slice(None), one)),)
        yield Sample(rows, _T[:, :, :3], shape=(2, 3, 2), dtype=real, indices=last)
        yield Sample(_SCALAR, shape=(3,), dtype=real, indices=(Index((-1,)),))
        yield Sample(_SCALAR, shape=(), dtype=real, indices=(Index(()),))


scatter_sum = primitive(ScatterSum)


def _require_castable(avals: Iterable[Aval], dtype: np.dtype[Any]) -> None:
    for a in avals:
        if a.dtype != dtype and not np.can_cast(a.dtype, dtype, "same_kind"):
            raise TypeError(f"values of {a.dtype} cannot be added to an array of {dtype}")


def with_arrays(
    indices: Iterable[Index], arrays: Iterable[Value]
) -> Iterator[tuple[Index, list[Value]]]:
    """Each index with its own arrays, out of those of all."""
    rest = iter(arrays)
    return ((index, list(islice(rest, index.arrays))) for index in indices)


def add_parts(
    parts: Sequence[tuple[Index, Sequence[Value], Value]], shape: Shape, dtype: Any
) -> Value:
    """One `scatter_sum` of (index, its arrays, value) triples."""
    arrays = [a for _, mine, _ in parts for a in mine]
    values = [value for _, _, value in parts]
    indices = tuple([index for index, _, _ in parts])
    return scatter_sum(*arrays, *values, shape=shape, dtype=dtype, indices=indices)


def _sum_parts(parts: Parts) -> Value:
    """A traced cotangent that was collected part by part: added up in the order of arrival."""
    aval = parts[0]
    sparse: list[tuple[Index, Sequence[Value], Value]] = []
    products = [ct for _, ct in parts[1:] if type(ct) is Product]
    dense = _multiplied(products, aval) if products else None
    for index, ct in parts[1:]:
        if type(ct) is Product:
            continue
        if index is None:
            whole = _added_to(dense, sparse, aval)
            dense, sparse = ct if whole is None else whole + ct, []
        else:
            sparse.append((*split_index(index), ct))
    return _added_to(dense, sparse, aval)


def _added_to(
    whole: Value | None, parts: Sequence[tuple[Index, Sequence[Value], Value]], aval: Aval
) -> Value | None:
    """The parts added to the whole, one after the other."""
    if not parts:
        return whole
    first = [] if whole is None else [(WHOLE, (), whole)]
    return add_parts([*first, *parts], aval.shape, aval.dtype)


WHOLE = Index(())


def _multiplied(products: Sequence[Product], aval: Aval) -> Value:
    """The sum of products u vᵀ, as one product."""
    us, vs = [p.u for p in products], [p.v for p in products]
    u, v = (x[0] if len(x) == 1 else np.concatenate(x, axis=-1) for x in (us, vs))
    multiply = np.multiply if u.shape[-1] == 1 else np.matmul
    return cast(multiply(u, np.swapaxes(v, -1, -2)), aval.dtype)


roles["sum_parts"] = _sum_parts


# ---- diagonals ---------------------------------------------------------------------------------


class Diagonal(Linear):
    """The ``offset``-th diagonal of every matrix of the two axes, as the last axis."""

    impl = staticmethod(lambda x, offset, axis1, axis2: np.diagonal(x, offset, axis1, axis2))

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        first, second = sorted((params["axis1"], params["axis2"]))
        places = np.arange(ct.shape[-1])
        down, right = places + max(-params["offset"], 0), places + max(params["offset"], 0)
        arrays = (down, right) if params["axis1"] == first else (right, down)
        entries = [Index.ARRAY if i in (first, second) else slice(None) for i in range(len(shape))]
        index = Index(tuple(entries))
        ct = move_axis(ct, len(shape) - 2, arrays_place(index, len(shape)))
        return scatter_sum(*arrays, ct, shape=shape, dtype=dtype, indices=(index,))

    def abstract(self, *avals: Aval, offset: int, axis1: int, axis2: int, **params: Any) -> Aval:
        return Aval(stand_in(avals[0]).diagonal(offset, axis1, axis2).shape, avals[0].dtype)

    def batch(
        self,
        n: int,
        values: Sequence[Value],
        batched: Sequence[bool],
        *,
        offset: int,
        axis1: int,
        axis2: int,
    ) -> Value:
        return diagonal(values[0], offset=offset, axis1=axis1 + 1, axis2=axis2 + 1)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, offset=0, axis1=0, axis2=1)
        yield Sample(_T, offset=-1, axis1=2, axis2=0)
        yield Sample(_T, offset=1, axis1=1, axis2=2)
        yield Sample(_M, offset=5, axis1=0, axis2=1)


diagonal = primitive(Diagonal)
