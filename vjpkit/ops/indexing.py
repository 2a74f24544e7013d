"""Reading by index, and its transpose, adding by index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value
from vjpkit.core.errors import at, calling_position
from vjpkit.core.primitive import Linear, LinearMany, Sample, own_values, primitive, rule
from vjpkit.core.rows import Cotangents, Eager, Parts, Row, refresh, roles
from vjpkit.core.text import register_param
from vjpkit.core.tracer import Tracer

_M = np.array([[0.3, -1.2, 2.5], [1.7, 0.4, -0.6]])


class Index:
    """The static part of an index: integers, slices, None, Ellipsis, and places for index arrays.

    >>> Index((slice(1, None), Index.ARRAY, None))
    [1:, @, None]
    """

    __slots__ = ("entries",)
    ARRAY = "@"

    def __init__(self, entries: tuple[Any, ...]) -> None:
        self.entries = entries

    def fill(self, arrays: Iterable[Value]) -> tuple[Any, ...]:
        """The index itself, with its arrays in their places."""
        rest = iter(arrays)
        return tuple([next(rest) if type(e) is str else e for e in self.entries])

    @property
    def arrays(self) -> int:
        """How many index arrays it takes."""
        return sum(type(e) is str for e in self.entries)

    def _key(self) -> tuple[Any, ...]:
        return tuple(
            (e.start, e.stop, e.step) if isinstance(e, slice) else (type(e), e)
            for e in self.entries
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Index) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"[{', '.join(map(_entry_text, self.entries))}]"

    def __reduce__(self) -> Any:
        return _index_named, (repr(self),)


_WORDS = {"None": None, "...": Ellipsis, Index.ARRAY: Index.ARRAY}


def _index_named(text: str) -> Index:
    """The index whose repr is ``text``."""
    return Index(tuple([_entry_named(word.strip()) for word in text[1:-1].split(",") if word]))


def _entry_named(word: str) -> Any:
    if ":" in word:
        return slice(*[int(part) if part else None for part in word.split(":")])
    return _WORDS[word] if word in _WORDS else int(word)


register_param(Index, r"\[[^\]]*\]", _index_named)


def _entry_text(e: Any) -> str:
    if isinstance(e, slice):
        start, stop, step = ("" if v is None else str(v) for v in (e.start, e.stop, e.step))
        return f"{start}:{stop}" + (f":{step}" if step else "")
    return "..." if e is Ellipsis else str(e)


def split_index(index: Any) -> tuple[Index, list[Value]]:
    """Separate the static part of what the user wrote between brackets from its index arrays."""
    entries: list[Any] = []
    arrays: list[Value] = []
    for e in index if type(index) is tuple else (index,):
        if e is None or e is Ellipsis:
            entries.append(e)
        elif isinstance(e, slice):
            entries.append(
                slice(*[None if v is None else v.__index__() for v in (e.start, e.stop, e.step)])
            )
        elif isinstance(e, int | np.integer) and not isinstance(e, bool):
            entries.append(int(e))
        elif isinstance(e, Tracer):
            entries.append(Index.ARRAY)
            arrays.append(e)
        else:
            array = np.asarray(e)
            if array.size == 0 and not isinstance(e, np.ndarray):
                array = array.astype(np.intp)
            if array.dtype.kind not in "biu":
                raise IndexError(
                    "arrays used as indices must be of integer (or boolean) type, got "
                    f"{array.dtype}{at(calling_position())}"
                )
            if array.dtype == bool:
                found = array.nonzero() if array.ndim else (np.zeros(int(array), np.intp),)
                entries += [None] * (array.ndim == 0) + [Index.ARRAY] * max(array.ndim, 1)
                arrays += found
            elif array.ndim == 0:
                entries.append(int(array))
            else:
                entries.append(Index.ARRAY)
                arrays.append(array)
    return Index(tuple(entries)), arrays


def is_basic(index: Any) -> bool:
    """Whether no array is in the index, so that it addresses each element at most once."""
    for e in index if type(index) is tuple else (index,):
        kind = type(e)
        if kind is not int and kind is not slice and e is not None and e is not Ellipsis:
            return False
    return True


def indexed_shape(shape: Shape, index: Index, arrays: Sequence[Aval]) -> Shape:
    """Shape of ``x[index]``, asked of NumPy on an array without storage."""
    dummy = np.broadcast_to(np.zeros((), bool), shape)
    zeros = [np.broadcast_to(np.zeros((), np.intp), a.shape) for a in arrays]
    return dummy[index.fill(zeros)].shape


@primitive
class getitem(Linear):
    """``x[index]``; index arrays are operands, the rest of the index is a parameter.

    An eager read keeps the index as the user wrote it; the cotangent is added into the operand's own
    buffer at the index, not into a dense array of zeros.
    """

    impl = staticmethod(lambda x, *arrays, index: x[index.fill(arrays)])

    def __init__(self) -> None:
        super().__init__()

        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, i, shape, dtype, index = row
            add_at_slot(cts, i, ct, shape, dtype, index)

        def push(row: Row, ts: Cotangents) -> None:
            _, k, _, _, i, _, _, index = row
            ts[k] = None if ts[i] is None else self.read(ts[i], index)

        self.pull_read = rule(self, pull, push)

    def read(self, x: Value, index: Any) -> Value:
        """``x[index]`` for whatever the user wrote between the brackets."""
        if type(x) is Eager and not _has_tracer(index):
            trace = x.trace
            if trace.dirty:
                x = refresh(x)
            value = x.value
            out = value[index]
            if not is_basic(index):
                static, arrays = split_index(index)
                index = static.fill(own_values(arrays, trace))
            k = trace.new()
            code, offset = calling_position()
            trace.append((self.pull_read, k, code, offset, x.slot, value.shape, value.dtype, index))
            return Eager(out, trace, k)
        if not isinstance(x, Tracer) and not _has_tracer(index):
            return x[index]
        static, arrays = split_index(index)
        return self(x, *arrays, index=static)

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return scatter_sum(*fixed, ct, shape=shape, dtype=dtype, indices=(params["index"],))

    def abstract(self, *avals: Aval, index: Index, **params: Any) -> Aval:
        return Aval(indexed_shape(avals[0].shape, index, avals[1:]), avals[0].dtype)

    def samples(self) -> Iterable[Sample]:
        yield Sample(_M, index=Index((0, slice(None, None, -1))))
        yield Sample(_M, index=Index((Ellipsis, None, 1)))
        rows, columns = np.array([0, 1, 1]), np.array([[0], [2]])
        yield Sample(_M, rows, index=Index((Index.ARRAY,)))
        yield Sample(_M, rows, columns, index=Index((Index.ARRAY, Index.ARRAY)))


def _has_tracer(index: Any) -> bool:
    if type(index) is tuple:
        return any(isinstance(e, Tracer) for e in index)
    return isinstance(index, Tracer)


def add_into(buffer: np.ndarray[Any, Any], index: Any, ct: Value) -> None:
    """``buffer[index] += ct``, adding repeatedly where the index repeats."""
    if is_basic(index):
        buffer[index] += ct
    else:
        np.add.at(buffer, index, ct)


def add_at_slot(cts: Cotangents, i: int, ct: Value, shape: Shape, dtype: Any, index: Any) -> None:
    """A contribution to part of a slot: into a buffer we own, or, traced, into a list of parts."""
    old = cts[i]
    owned = cts[-1]
    if isinstance(ct, Tracer) or type(old) is Parts or isinstance(old, Tracer):
        if type(old) is not Parts:
            whole = [] if old is None else [(None, old)]
            old = cts[i] = Parts([Aval(shape, dtype), *whole])
            owned.discard(i)
        old.append((index, ct))
        return
    if old is None:
        old = cts[i] = np.zeros(shape, dtype)
        owned.add(i)
    elif i not in owned:
        old = cts[i] = np.array(old)
        owned.add(i)
    add_into(old, index, ct)


@primitive
class scatter_sum(LinearMany):
    """Zeros of ``shape`` with every linear operand added at its index: the sum of transposed reads.

    Operands are first all index arrays, in the order of ``indices``, then one value per index.
    """

    def fixed(self, params: Any) -> int:
        return sum(index.arrays for index in params["indices"])

    @staticmethod
    def impl(*operands: Value, shape: Shape, dtype: Any, indices: tuple[Index, ...]) -> Value:
        out = np.zeros(shape, dtype)
        values = operands[len(operands) - len(indices) :]
        arrays = iter(operands)
        for value, index in zip(values, indices, strict=True):
            add_into(out, index.fill(arrays) if index.arrays else index.entries, value)
        return out

    def transpose(
        self, ct: Value, avals: Sequence[Aval], live: Sequence[bool], *fixed: Value, **params: Any
    ) -> Sequence[Value | None]:
        arrays = iter(fixed)
        out: list[Value | None] = []
        for index, wanted in zip(params["indices"], live, strict=True):
            mine = [next(arrays) for _ in range(index.arrays)]
            out.append(getitem(ct, *mine, index=index) if wanted else None)
        return out

    def total(
        self, ts: Sequence[Value | None], avals: Sequence[Aval], fixed: Sequence[Value], params: Any
    ) -> Any:
        arrays = iter(fixed)
        parts = []
        for t, index in zip(ts, params["indices"], strict=True):
            mine = [next(arrays) for _ in range(index.arrays)]
            if t is not None:
                parts.append((index, mine, t))
        return add_parts(parts, params["shape"], params["dtype"]) if parts else None

    def abstract(self, *avals: Aval, shape: Shape, dtype: Any, **params: Any) -> Aval:
        return Aval(shape, dtype)

    def samples(self) -> Iterable[Sample]:
        rows = np.array([0, 1, 0])
        indices = (Index((Index.ARRAY,)), Index((1, slice(1, None))))
        values = np.arange(9.0).reshape(3, 3), np.array([0.5, -2.0])
        yield Sample(rows, *values, shape=(2, 3), dtype=np.dtype(float), indices=indices)


def add_parts(
    parts: Sequence[tuple[Index, Sequence[Value], Value]], shape: Shape, dtype: Any
) -> Value:
    """One `scatter_sum` of (index, its arrays, value) triples."""
    arrays = [a for _, mine, _ in parts for a in mine]
    values = [value for _, _, value in parts]
    indices = tuple([index for index, _, _ in parts])
    return scatter_sum(*arrays, *values, shape=shape, dtype=dtype, indices=indices)


def _sum_parts(parts: Parts) -> Value:
    """A traced cotangent that was collected part by part."""
    aval = parts[0]
    sparse = []
    dense = None
    for index, ct in parts[1:]:
        if index is None:
            dense = ct if dense is None else dense + ct
        else:
            static, arrays = split_index(index)
            sparse.append((static, arrays, ct))
    if not sparse:
        return dense
    total = add_parts(sparse, aval.shape, aval.dtype)
    return total if dense is None else total + dense


roles["sum_parts"] = _sum_parts
