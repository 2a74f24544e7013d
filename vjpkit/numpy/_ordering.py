"""Sorting, searching, and sets: NumPy's signatures.

Values move to where an order puts them; the order itself is locally constant.
"""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.numpy._arguments import as_array, axis_number, concrete, known, normalize_axis
from vjpkit.numpy._dispatch import implements, method
from vjpkit.ops import ordering
from vjpkit.ops.cumulative import along
from vjpkit.ops.indexing import read

__all__: list[str] = []


# ---- sorting -----------------------------------------------------------------------------------


def _sort_kind(kind: Any, stable: Any, order: Any) -> str | None:
    """How to sort; None leaves it to NumPy."""
    if order is not None:
        raise ValueError("Cannot specify order when the array has no fields.")
    if stable is None:
        return kind  # type: ignore[no-any-return]  # NumPy looks at it
    if kind is not None:
        raise ValueError("`kind` and keyword parameters can't be provided at the same time.")
    return "stable" if stable else None


def _flat(a: Value, axis: Any) -> tuple[Value, int]:
    """``a`` and the axis to work along; flat, where no axis is given."""
    array = as_array(a)
    if axis is None:
        return np.reshape(array, -1), 0
    return array, normalize_axis(axis, array.ndim)


def _key(array: Value, descending: Any) -> Value:
    """What to sort upwards so that ``array`` is in order; a NaN is last in either direction."""
    if not descending:
        return array
    return -array if array.dtype.kind in "fc" else ~array


@implements(np.sort)
def sort(
    a: Value, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None,
    descending: Any = None,
) -> Value:  # fmt: skip
    kind = _sort_kind(kind, stable, order)
    array, number = _flat(a, axis)
    places = ordering.argsort(_key(array, descending), axis=number, kind=kind)
    return ordering.permuted(array, places, axis=number)


@method("sort")
def _sort_in_place(
    self: Value, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None,
    descending: Any = None,
) -> None:  # fmt: skip
    self[...] = sort(self, axis, kind, order, stable=stable, descending=descending)


@method("argsort")
@implements(np.argsort)
def argsort(
    a: Value, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None,
    descending: Any = None,
) -> Value:  # fmt: skip
    kind = _sort_kind(kind, stable, order)
    array = as_array(a)
    if not array.ndim and axis is not None:
        array, axis = np.reshape(array, 1), normalize_axis(axis, 1)
    array, number = _flat(array, axis if axis is None else axis_number(axis))
    return ordering.argsort(_key(array, descending), axis=number, kind=kind)


@implements(np.sort_complex)
def sort_complex(a: Value) -> Value:
    result = np.sort(as_array(a))
    return np.astype(result, np.sort_complex(np.zeros(0, result.dtype)).dtype, copy=False)


def _ranks(kth: Any, n: int) -> tuple[int, ...]:
    """The ranks of a partition, checked as NumPy checks them."""
    ranks = tuple(index(k) for k in np.atleast_1d(concrete(kth, "partition")))
    for k in ranks:
        if not -n <= k < n:
            raise ValueError(f"kth(={k}) out of bounds ({n})")
    return ranks


@implements(np.partition)
def partition(
    a: Value, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None
) -> Value:
    array, number = _flat(a, axis)
    places = argpartition(array, kth, number, kind, order)
    return ordering.permuted(array, places, axis=number)


@method("partition")
def _partition_in_place(
    self: Value, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None
) -> None:
    self[...] = partition(self, kth, axis, kind, order)


@method("argpartition")
@implements(np.argpartition)
def argpartition(
    a: Value, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None
) -> Value:
    _sort_kind(None, None, order)
    if kind != "introselect":
        raise ValueError(f"select kind must be 'introselect' (got {kind!r})")
    array, number = _flat(a, axis if axis is None else axis_number(axis))
    return ordering.argpartition(array, axis=number, kth=_ranks(kth, array.shape[number]))


@implements(np.lexsort)
def lexsort(keys: Any, axis: Any = -1) -> Value:
    columns = [as_array(k) for k in keys]
    if not columns:
        raise TypeError("need sequence of keys with len > 0 in lexsort")
    if any(c.shape != columns[0].shape for c in columns):
        raise ValueError("all keys need to be the same shape")
    if columns[0].ndim == 0:
        return np.intp(0)
    return ordering.lexsort(*columns, axis=normalize_axis(axis, columns[0].ndim))


# ---- searching ---------------------------------------------------------------------------------


@method("searchsorted")
@implements(np.searchsorted)
def searchsorted(a: Value, v: Value, side: str = "left", sorter: Any = None) -> Value:
    if side not in ("left", "right"):
        raise ValueError(f"search side must be 'left' or 'right' (got {side!r})")
    table = as_array(a)
    if sorter is not None:
        table = read(table, as_array(sorter))
    return ordering.searchsorted(table, as_array(v), side=side)


@implements(np.digitize)
def digitize(x: Value, bins: Value, right: bool = False) -> Value:
    x, edges = as_array(x), as_array(bins)
    if x.dtype.kind == "c":
        raise TypeError("x may not be complex")
    if edges.ndim != 1:
        raise ValueError("object of too small depth for desired array")
    steps = np.diff(concrete(edges, "digitize"))
    side = "left" if right else "right"
    if (steps >= 0).all():
        return searchsorted(edges, x, side)
    if (steps <= 0).all():
        return len(edges) - searchsorted(edges[::-1], x, side)
    raise ValueError("bins must be monotonically increasing or decreasing")


# ---- sets --------------------------------------------------------------------------------------


def _unique(
    function: str, a: Value, axis: Any, equal_nan: bool
) -> tuple[Value, Value, Value, Value]:
    """Values, and where each first occurs, where each element went, how often each occurs."""
    array = as_array(a)
    if axis is None or array.ndim == 1:
        array = np.reshape(array, -1) if array.ndim != 1 else array
    value = concrete(array, function)
    _, places, back, counts = np.unique(
        value, True, True, True, None if array.ndim == 1 else axis, equal_nan=equal_nan
    )
    number = 0 if array.ndim == 1 else normalize_axis(axis, array.ndim)
    return array[along(number, places)], places, back, counts


@implements(np.unique)
def unique(
    ar: Value,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: Any = None,
    *,
    equal_nan: bool = True,
    sorted: bool = True,
) -> Value:
    array = as_array(ar)
    if not (sorted or return_index or return_inverse or return_counts or axis is not None):
        plain = concrete(array, "unique")
        return _in_order_of(np.unique(plain, equal_nan=equal_nan, sorted=False), array, equal_nan)
    if axis is not None:
        normalize_axis(axis, array.ndim)
    values, places, back, counts = _unique("unique", array, axis, equal_nan)
    extra = [places] if return_index else []
    if return_inverse:
        extra.append(back.reshape(array.shape) if axis is None else back)
    extra += [counts] if return_counts else []
    return (values, *extra) if extra else values


def _in_order_of(chosen: np.ndarray[Any, Any], array: Value, equal_nan: bool) -> Value:
    """The distinct elements of ``array`` as NumPy has chosen to order them, which is its secret."""
    values, places, _, _ = _unique("unique", array, None, equal_nan)
    order = np.empty(len(places), np.intp)
    order[np.argsort(chosen, kind="stable")] = np.arange(len(places))
    return values[order]


@implements(np.unique_values)
def unique_values(x: Value) -> Value:
    return _in_order_of(np.unique_values(concrete(as_array(x), "unique_values")), x, False)


@implements(np.unique_counts)
def unique_counts(x: Value) -> Any:
    values = np.unique(x, equal_nan=False)
    return np.unique_counts(concrete(x, "unique_counts"))._replace(values=values)


@implements(np.unique_inverse)
def unique_inverse(x: Value) -> Any:
    values = np.unique(x, equal_nan=False)
    return np.unique_inverse(concrete(x, "unique_inverse"))._replace(values=values)


@implements(np.unique_all)
def unique_all(x: Value) -> Any:
    values = np.unique(x, equal_nan=False)
    return np.unique_all(concrete(x, "unique_all"))._replace(values=values)


@implements(np.union1d)
def union1d(ar1: Value, ar2: Value) -> Value:
    return np.unique(np.concatenate([np.reshape(as_array(a), -1) for a in (ar1, ar2)]))


@implements(np.intersect1d)
def intersect1d(
    ar1: Value, ar2: Value, assume_unique: bool = False, return_indices: bool = False
) -> Value:
    first, second = (np.reshape(as_array(a), -1) for a in (ar1, ar2))
    _, mine, other = np.intersect1d(
        concrete(first, "intersect1d"), concrete(second, "intersect1d"), assume_unique, True
    )
    values = first[mine].astype(np.result_type(first.dtype, second.dtype))
    return (values, mine, other) if return_indices else values


@implements(np.setdiff1d)
def setdiff1d(ar1: Value, ar2: Value, assume_unique: bool = False) -> Value:
    first = np.reshape(as_array(ar1), -1) if assume_unique else np.unique(as_array(ar1))
    return read(first, np.isin(first, ar2, assume_unique=assume_unique, invert=True))


@implements(np.setxor1d)
def setxor1d(ar1: Value, ar2: Value, assume_unique: bool = False) -> Value:
    both = [as_array(a) if assume_unique else np.unique(as_array(a)) for a in (ar1, ar2)]
    joined = np.sort(np.concatenate([np.reshape(a, -1) for a in both]))
    value = concrete(joined, "setxor1d")
    new = np.concatenate(([True], value[1:] != value[:-1], [True]))
    return joined[new[1:] & new[:-1]] if value.size else joined


@implements(np.isin)
def isin(
    element: Value, test_elements: Value, assume_unique: bool = False, invert: bool = False, *,
    kind: Any = None,
) -> Value:  # fmt: skip
    """While values are not known, each is compared with each."""
    x, tests = as_array(element), as_array(test_elements)
    values, known_tests = known(x), known(tests)
    if values is not None and known_tests is not None:
        return np.isin(values, known_tests, assume_unique, invert, kind=kind)
    if kind not in (None, "sort", "table"):
        raise ValueError(f"Invalid kind: '{kind}'. Please use None, 'sort' or 'table'.")
    found = np.any(x[..., None] == np.reshape(tests, -1), axis=-1)
    return ~found if invert else found
