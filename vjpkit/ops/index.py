"""The language of indices: what may stand between brackets, its static part, and its shape."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from types import EllipsisType, NoneType
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value
from vjpkit.core.errors import TracerConversionError, at, calling_position
from vjpkit.core.text import register_param
from vjpkit.core.tracer import Tracer, operand, refresh

__all__ = [
    "Index", "addresses_once", "are_apart", "arrays_apart", "arrays_place", "arrays_rank",
    "flat_positions", "has_tracer", "indexed_shape", "is_basic", "moved", "normalized",
    "require_fitting", "split_index", "stand_in", "takes_axis",
]  # fmt: skip

# ---- the index ---------------------------------------------------------------------------------

_INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)
_BASIC = frozenset({int, slice, NoneType, EllipsisType, np.intp, np.longlong, *_INTEGERS})
"""Types of the entries that address no element twice and need no array."""


class Index:
    """The static part of an index: integers, slices, None, Ellipsis, booleans, places for arrays.

    >>> Index((slice(1, None), Index.ARRAY, None))
    [1:, @, None]
    """

    __slots__ = ("entries",)
    ARRAY = "@"

    def __init__(self, entries: tuple[Any, ...]) -> None:
        self.entries = entries

    @classmethod
    def parse(cls, text: str) -> Index:
        """The index that prints as ``text``.

        >>> Index.parse("[..., ::-1, @, 0]").entries
        (Ellipsis, slice(None, None, -1), '@', 0)
        """
        words = [word for word in text[1:-1].split(", ") if word]
        return cls(tuple(map(_entry_of, words)))

    def fill(self, arrays: Iterable[Value]) -> tuple[Any, ...]:
        """The index itself, with its arrays in their places."""
        rest = iter(arrays)
        return tuple([next(rest) if type(e) is str else e for e in self.entries])

    @property
    def arrays(self) -> int:
        """How many index arrays it takes."""
        return sum([type(e) is str for e in self.entries])

    def expanded(self, ndim: int) -> tuple[Any, ...]:
        """The entries for an array of ``ndim`` axes, slices in the place of what is left out."""
        entries = self.entries
        missing = (slice(None),) * (ndim - sum(map(takes_axis, entries)))
        if Ellipsis not in entries:
            return (*entries, *missing)
        i = entries.index(Ellipsis)
        return (*entries[:i], *missing, *entries[i + 1 :])

    def behind(self, *entries: Any) -> Index:
        """The index with other entries in front of its own."""
        return Index((*entries, *self.entries))

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
        return Index.parse, (repr(self),)


def _entry_text(e: Any) -> str:
    if isinstance(e, slice):
        start, stop, step = ("" if v is None else str(v) for v in (e.start, e.stop, e.step))
        return f"{start}:{stop}" + (f":{step}" if step else "")
    return "..." if e is Ellipsis else str(e)


def _entry_of(text: str) -> Any:
    if ":" in text:
        return slice(*[int(v) if v else None for v in text.split(":")])
    return _WORDS[text] if text in _WORDS else int(text)


_WORDS = {
    "...": Ellipsis,
    "None": None,
    "True": True,
    "False": False,
    Index.ARRAY: Index.ARRAY,
}

register_param(Index, r"\[[^\]]*\]", Index.parse)


def takes_axis(e: Any) -> bool:
    """Whether an entry indexes an axis; None and booleans make a new one, Ellipsis is many."""
    return e is not None and e is not Ellipsis and not isinstance(e, bool)


def is_basic(index: Any) -> bool:
    """Whether an index has no array in it, so that it addresses each element at most once."""
    if type(index) is tuple:
        return _BASIC.issuperset(map(type, index))
    return type(index) in _BASIC


def addresses_once(index: Any) -> bool:
    """Whether an index certainly addresses no element twice: only masks and basic entries."""
    return all(
        type(e) in _BASIC or (isinstance(e, bool | np.ndarray) and np.asarray(e).dtype == bool)
        for e in (index if type(index) is tuple else (index,))
    )


def normalized(index: Any) -> tuple[Any, ...]:
    """What stands between the brackets as a tuple, with sequences as arrays.

    Its entries are None, Ellipsis, slices, integers and booleans of Python's, arrays, and tracers.
    """
    return tuple(map(_normalized, index if isinstance(index, tuple) else (index,)))


def _normalized(e: Any) -> Any:
    if e is None or e is Ellipsis or isinstance(e, bool):
        return e
    if isinstance(e, Tracer):  # at the lowest level are constants
        e = e if e.owner.level else refresh(e)
        return e if e.owner.level else _normalized(e.value)
    if isinstance(e, slice):
        return slice(*[None if v is None else _bound(v) for v in (e.start, e.stop, e.step)])
    if isinstance(e, int | np.integer):
        return int(e)
    array = np.asarray(e)
    if array.dtype == object and has_tracer(array.tolist()):
        return operand(array)
    if array.size == 0 and not isinstance(e, np.ndarray):
        array = array.astype(np.intp)
    if array.dtype.kind not in "biu":
        raise IndexError(_kind_of_index_error(array))
    return array if array.ndim or array.dtype != bool else bool(array)


def _kind_of_index_error(array: Value) -> str:
    if array.ndim:
        return "arrays used as indices must be of integer (or boolean) type"
    return (
        "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or "
        "boolean arrays are valid indices"
    )


def _bound(v: Any) -> int:
    if isinstance(v, Tracer):
        raise TracerConversionError(
            f"a slice has a traced bound of {v.aval}, so the length of its result is not known."
            f"{at(calling_position())}\n"
            "For n elements from a traced position on, index with start + np.arange(n)."
        )
    return int(v.__index__())


def split_index(index: Any) -> tuple[Index, list[Value]]:
    """Separate the static part of an index from its index arrays.

    A mask is the integer arrays of its true places, so it must be known.
    """
    entries: list[Any] = []
    arrays: list[Value] = []
    for e in normalized(index):
        if isinstance(e, Tracer):
            _require_integers(e)
            found: Sequence[Value] = (e,)
        elif isinstance(e, np.ndarray) and e.ndim:
            found = e.nonzero() if e.dtype == bool else (e,)
        else:
            entries.append(int(e) if isinstance(e, np.ndarray) else e)
            continue
        entries += [Index.ARRAY] * len(found)
        arrays += found
    return Index(tuple(entries)), arrays


def _require_integers(e: Tracer) -> None:
    if e.dtype == bool:
        raise TracerConversionError(
            f"a mask of {e.aval} whose values are not known cannot be an index: the shape of the "
            f"result would depend on them.{at(calling_position())}\n"
            "Use np.where(mask, x, 0) to select without changing the shape."
        )
    if e.dtype.kind not in "iu":
        raise IndexError(_kind_of_index_error(e))


def has_tracer(index: Any) -> bool:
    """Whether a traced value is in the index."""
    if isinstance(index, tuple | list):
        return any(map(has_tracer, index))
    return isinstance(index, Tracer)


# ---- its shape ---------------------------------------------------------------------------------


def stand_in(aval: Aval) -> np.ndarray[Any, Any]:
    """Zeros of an aval that take no memory, to ask NumPy about shapes."""
    return np.broadcast_to(np.zeros((), aval.dtype), aval.shape)


def require_fitting(shape: Shape, index: Any) -> None:
    """NumPy's error for a mask of another shape than what it is an index of.

    Once split, a mask is the places where it is true.
    """
    entries = normalized(index)
    masked = any(isinstance(e, np.ndarray) and e.dtype == bool for e in entries)
    if masked and not any(isinstance(e, Tracer) for e in entries):
        stand_in(Aval(shape, np.dtype(bool)))[entries]


def indexed_shape(shape: Shape, index: Index, arrays: Sequence[Aval]) -> Shape:
    """Shape of ``x[index]``, asked of NumPy; its IndexError where the index does not fit."""
    indexed: Shape = stand_in(Aval(shape, bool))[index.fill(map(stand_in, arrays))].shape
    return indexed


def arrays_apart(index: Index) -> bool:
    """Whether something else stands between the index arrays; integers count as such.

    >>> arrays_apart(Index((Index.ARRAY, None, 0))), arrays_apart(Index((None, Index.ARRAY, 0)))
    (True, False)
    """
    kinds = [isinstance(e, int | str) for e in index.entries]
    first, last = kinds.index(True), len(kinds) - kinds[::-1].index(True)
    return not all(kinds[first:last])


def arrays_place(index: Index, ndim: int) -> int:
    """Where the axes of index arrays stand in the result: first if the arrays stand apart.

    >>> arrays_place(Index((Ellipsis, Index.ARRAY, 0)), 4)
    2
    """
    if arrays_apart(index):
        return 0
    entries = index.expanded(ndim)
    return [isinstance(e, int | str) for e in entries].index(True)


def arrays_rank(index: Index, ranks: Sequence[int]) -> int:
    """How many axes the index arrays have together; a boolean is one along a new axis."""
    return max([*ranks, *[1 for e in index.entries if isinstance(e, bool)]], default=0)


def are_apart(one: Index, other: Index, shape: Shape) -> bool:
    """Whether two indices without arrays certainly address no element of an array both.

    >>> one, other = Index((0,)), Index((slice(1, None), slice(None, None, 2)))
    >>> are_apart(one, other, (3, 4)), are_apart(other, Index((-1,)), (3, 4))
    (True, False)
    """
    pairs = zip(_reaches(one, shape), _reaches(other, shape), strict=True)
    return any(a.stop <= b.start or b.stop <= a.start for a, b in pairs)


def _reaches(index: Index, shape: Shape) -> Iterator[range]:
    """From where to where the entry for each axis reaches."""
    entries = [e for e in index.expanded(len(shape)) if takes_axis(e)]
    for e, n in zip(entries, shape, strict=True):
        found = range(n)[e if isinstance(e, slice) else slice(e % n, e % n + 1)]
        yield range(min(found[0], found[-1]), max(found[0], found[-1]) + 1) if found else range(0)


def moved(ndim: int, source: int, count: int, destination: int) -> tuple[int, ...]:
    """The permutation that moves ``count`` axes from ``source`` to ``destination``.

    >>> moved(5, 1, 2, 3)
    (0, 3, 4, 1, 2)
    """
    rest = [a for a in range(ndim) if not source <= a < source + count]
    return (*rest[:destination], *range(source, source + count), *rest[destination:])


def flat_positions(shape: Shape, entries: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.intp]]:
    """``arange(size).reshape(shape)[entries]``, computed from the index alone.

    >>> flat_positions((2, 3), (slice(None), np.array([0, -1])))
    array([[0, 2],
           [3, 5]])
    """
    index, arrays = split_index(entries)
    place, rank = arrays_place(index, len(shape)), arrays_rank(index, [a.ndim for a in arrays])
    filled = index.expanded(len(shape))
    ndim = rank + sum([not isinstance(e, int | str) for e in filled])
    rest = iter(arrays)
    total: Any = 0
    axis, dim, stride = 0, 0, math.prod(shape)
    for e in filled:
        if e is None:
            dim += 1
            continue
        if isinstance(e, bool):
            total = total + np.zeros((int(e), *[1] * (ndim - place - rank)), np.intp)
            continue
        n = shape[axis]
        axis += 1
        stride //= n or 1
        if isinstance(e, int):
            total = total + e % n * stride
        elif isinstance(e, slice):
            after = ndim - 1 - (dim if dim < place else dim + rank)
            total = total + (np.arange(n)[e] * stride).reshape(-1, *[1] * after)
            dim += 1
        else:
            a = next(rest).astype(np.intp, copy=False)
            a = np.where(a < 0, a + n, a) * stride
            total = total + a.reshape(*a.shape, *[1] * (ndim - place - rank))
    return total  # type: ignore[no-any-return]  # an index array was among the entries


def repetitions(places: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """Masks of first, second, ... occurrences among ``places``.

    >>> [mask.tolist() for mask in repetitions(np.array([3, 5, 3]))]
    [[True, True, False], [False, False, True]]
    """
    flat = places.reshape(-1)
    order = np.argsort(flat, kind="stable")
    ranked = flat[order]
    starts = np.flatnonzero(np.diff(ranked, prepend=-1))
    numbers = np.empty(flat.size, np.intp)
    numbers[order] = np.arange(flat.size) - np.repeat(starts, np.diff(starts, append=flat.size))
    for n in range(int(numbers.max(initial=-1)) + 1):
        yield (numbers == n).reshape(places.shape)
