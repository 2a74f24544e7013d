"""``x.at[index].set(values)`` and its kin: updates as functions, with JAX's spelling.

They return a new array and leave ``x`` as it is. An index out of bounds is an error, as in NumPy,
unless ``mode`` says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import TracerConversionError, at, calling_position
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._dispatch import method
from vjpkit.numpy._joining import as_values
from vjpkit.numpy._masked import write_selected
from vjpkit.numpy._reading import copied
from vjpkit.numpy._selected import has_unknown_mask
from vjpkit.numpy._writable import fitted
from vjpkit.ops.index import (
    addresses_once,
    has_tracer,
    is_basic,
    normalized,
    repetitions,
    require_fitting,
    split_index,
    takes_axis,
)
from vjpkit.ops.updates import add_at, update

__all__ = ["At"]

_MODES = (None, "promise_in_bounds", "clip", "wrap", "drop", "fill")


class At:
    """``x.at``: waits for an index. ``At(x)`` does the same for an array that may be plain."""

    __slots__ = ("array",)

    def __init__(self, array: Value) -> None:
        self.array = array

    def __getitem__(self, index: Any) -> Place:
        return Place(self.array, index)


def _at(self: Value) -> At:
    """Functional updates: ``x.at[index].set(values)``, ``add``, ``multiply``, ``get``, ..."""
    return At(self)


method("at")(property(_at))


class Place:
    """``x.at[index]``: what may be done there.

    ``unique_indices`` promises that no element is addressed twice, which an index that is not known
    while tracing needs for everything but `set` and `add`. ``mode`` says what indices out of bounds
    do: ``clip`` and ``wrap`` move them inside, ``drop`` (also called ``fill``) ignores them, and
    reading gives ``fill_value`` there.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: np.sum(x.at[0].set(5.0) ** 2))(np.array([1.0, 2.0]))
    array([0., 4.])
    """

    __slots__ = ("array", "index")

    def __init__(self, array: Value, index: Any) -> None:
        self.array = array
        self.index = index

    def get(self, *, mode: str | None = None, fill_value: Any = None, **promises: bool) -> Value:
        """The elements at the index."""
        x, index = self._bounded(mode, fill_value, promises)
        return x[index]

    def set(self, values: Value, *, mode: str | None = None, **promises: bool) -> Value:
        """The array with ``values`` at the index; the last of several for one element stays."""
        return self._updated(lambda x, index: replaced(x, index, values), mode, promises)

    def add(self, values: Value, *, mode: str | None = None, **promises: bool) -> Value:
        """The array with ``values`` added at the index, repeatedly where it repeats."""

        def added(x: Value, index: Any) -> Value:
            if is_basic(index) or has_unknown_mask(index):
                return replaced(x, index, x[index] + as_values(values))
            require_fitting(x.shape, index)
            static, arrays = split_index(index)
            return add_at(*arrays, x, as_values(values), index=static)

        return self._updated(added, mode, promises)

    def subtract(self, values: Value, *, mode: str | None = None, **promises: bool) -> Value:
        """The array with ``values`` subtracted at the index."""
        return self.add(-as_values(values), mode=mode, **promises)

    def multiply(self, values: Value, *, mode: str | None = None, **promises: bool) -> Value:
        """The array multiplied by ``values`` at the index."""
        return self._combined(np.multiply, values, mode, promises)

    mul = multiply

    def divide(self, values: Value, *, mode: str | None = None, **promises: bool) -> Value:
        """The array divided by ``values`` at the index."""
        return self._combined(np.divide, values, mode, promises)

    def power(self, values: Value, *, mode: str | None = None, **promises: bool) -> Value:
        """The array to the power ``values`` at the index."""
        return self._combined(np.power, values, mode, promises)

    def min(self, values: Value, *, mode: str | None = None, **promises: bool) -> Value:
        """The smaller of the array and ``values`` at the index."""
        return self._combined(np.minimum, values, mode, promises)

    def max(self, values: Value, *, mode: str | None = None, **promises: bool) -> Value:
        """The larger of the array and ``values`` at the index."""
        return self._combined(np.maximum, values, mode, promises)

    def apply(
        self, func: Callable[[Value], Value], *, mode: str | None = None, **promises: bool
    ) -> Value:
        """The array with ``func`` applied at the index, once for every repetition."""
        return self._updated(lambda x, i: combined(x, i, func, (), promises), mode, promises)

    def _combined(
        self, function: Any, values: Value, mode: str | None, promises: dict[str, bool]
    ) -> Value:
        parts = (as_values(values),)
        return self._updated(
            lambda x, index: combined(x, index, function, parts, promises), mode, promises
        )

    def _updated(
        self,
        function: Callable[[Value, Any], Value],
        mode: str | None,
        promises: dict[str, bool],
    ) -> Value:
        x, index = self._bounded(mode, None, promises)
        out = function(x, index)
        return out[tuple(map(slice, self.array.shape))] if out.shape != self.array.shape else out

    def _bounded(
        self, mode: str | None, fill_value: Any, promises: dict[str, bool]
    ) -> tuple[Value, Any]:
        """Array and index such that every index is inside, as ``mode`` says.

        What is dropped goes to one more element at the end of the axis.
        """
        unknown = set(promises) - {"indices_are_sorted", "unique_indices"}
        if unknown or mode not in _MODES:
            raise TypeError(f"at[...]: unknown keyword {unknown.pop() if unknown else mode!r}")
        if mode in (None, "promise_in_bounds"):
            return self.array, self.index
        entries = list(normalized(self.index))
        shape = self.array.shape
        extra = [0] * len(shape)
        for place, axis in _axes_of_integers(entries, len(shape)):
            n = shape[axis]
            i = entries[place]
            i = np.where(i < 0, i + n, i) if mode != "wrap" else i
            if mode == "clip":
                i = np.clip(i, 0, n - 1)
            elif mode == "wrap":
                i = i % n
            else:
                i = np.where((i < 0) | (i >= n), n, i)
                extra[axis] = 1
            entries[place] = i if isinstance(i, Tracer) or i.ndim else int(i)
        if not any(extra):
            return self.array, tuple(entries)
        fill = _fill_value(self.array.dtype) if fill_value is None else fill_value
        return np.pad(self.array, [(0, n) for n in extra], constant_values=fill), tuple(entries)


def _fill_value(dtype: np.dtype[Any]) -> Any:
    """What JAX reads out of bounds: nan, or the whole number least likely to be meant."""
    if dtype.kind in "fc":
        return np.nan
    if dtype.kind == "b":
        return True
    return np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max


def _axes_of_integers(entries: Sequence[Any], ndim: int) -> list[tuple[int, int]]:
    """Where integers and integer arrays stand in an index, and which axes they index."""
    found = []
    axis = 0
    for place, e in enumerate(entries):
        if e is Ellipsis:
            axis = ndim - sum(map(_width, entries[place + 1 :]))
        elif takes_axis(e):
            if not isinstance(e, slice) and not is_mask(e):
                found.append((place, axis))
            axis += _width(e)
    return found


def is_mask(e: Any) -> bool:
    return isinstance(e, np.ndarray | Tracer) and e.dtype == bool


def _width(e: Any) -> int:
    """How many axes an entry indexes."""
    if not takes_axis(e):
        return 0
    return int(e.ndim) if is_mask(e) else 1


def replaced(x: Value, index: Any, values: Value) -> Value:
    """``x`` with ``values`` at ``index``."""
    if has_unknown_mask(index):
        out = copied(x)
        write_selected(out, index, values)
        return out
    require_fitting(x.shape, index)
    static, arrays = split_index(index)
    value = fitted(x, static, arrays, as_values(values))
    return update(*arrays, x, value, steps=(), index=static)


def combined(
    x: Value,
    index: Any,
    function: Callable[..., Value],
    operands: Sequence[Value],
    promises: dict[str, bool],
) -> Value:
    """``x`` with ``function(x[index], *operands)`` at ``index``, one repetition after another."""
    if has_unknown_mask(index):
        return replaced(x, index, function(x[index], *operands))
    entries = normalized(index)
    if addresses_once(entries) or promises.get("unique_indices"):
        return replaced(x, index, function(x[index], *operands))
    if has_tracer(entries):
        raise TracerConversionError(
            "at[...]: an index that is not known while tracing may address an element twice"
            f"{at(calling_position())}\nPass unique_indices=True if it does not."
        )
    places = np.arange(x.size).reshape(x.shape)[entries]
    for mask in repetitions(places):
        parts = [np.broadcast_to(v, places.shape)[mask] for v in operands]
        once = np.unravel_index(places[mask], x.shape)
        x = replaced(x, once, function(x[once], *parts))
    return x
