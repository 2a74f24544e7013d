"""Writes by index, also by masks whose values are not known."""

from __future__ import annotations

from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import at, calling_position, counted
from vjpkit.core.tracer import Tracer, operand
from vjpkit.numpy._dispatch import method
from vjpkit.numpy._selected import (
    Selected,
    has_unknown_mask,
    mask_in_front,
    placed,
    same_mask,
    wide,
)  # fmt: skip
from vjpkit.numpy._writable import fitted, write
from vjpkit.ops.index import Index

__all__ = [
    "assign",
    "write_selected",
]


@method("__setitem__")
def assign(x: Tracer, index: Any, value: Any) -> None:
    """``x[index] = value`` as NumPy does it."""
    if isinstance(value, Selected) or has_unknown_mask(index):
        write_selected(x, index, value)
    else:
        write(x, index, value)


def write_selected(x: Tracer, index: Any, value: Any) -> None:
    """``x[index] = value`` where it is not known what a mask selects: a choice at each place.

    ``value`` is what the same mask selects, the same for all that it selects, or one for each: that
    there are not as many is an error when the program runs.
    """
    whole = x
    x, mask, place = mask_in_front(x, index)
    if isinstance(value, Selected):
        if place != value.place or not same_mask(mask, value.mask):
            value.refuse("writing it with another index")
        value = fitted(x, Index((Ellipsis,)), [], value.values)
    else:
        value = value if isinstance(value, Tracer) else operand(value)
        if x is whole and mask.ndim == x.ndim and np.ndim(value) > 1:
            raise TypeError(
                "NumPy boolean array indexing assignment requires a 0 or 1-dimensional input, "
                f"input has {counted(np.ndim(value), 'dimension')}{at(calling_position())}"
            )
        value = fitted_in_front(fitted(x, Index((Ellipsis,)), [], value), x, mask, place)
    write(x, Ellipsis, np.where(wide(x, mask), value, x))


def fitted_in_front(value: Value, x: Tracer, mask: Tracer, place: int) -> Value:
    """What is written to the elements of ``x`` that the mask selects, along axis ``place`` of the
    value, at all places."""
    axes = 1 + x.ndim - mask.ndim
    shape = aval_of(value).shape
    if len(shape) < axes:
        if not place:
            return value
        shape = (1,) * (axes - len(shape)) + shape
    extra = len(shape) - axes
    if shape[:extra] != (1,) * extra:
        raise ValueError(
            f"could not broadcast input array from shape {shape} to the {axes} axes of what a mask "
            f"selects{at(calling_position())}"
        )
    value = np.moveaxis(np.reshape(value, shape[extra:]), place, 0)
    count = value.shape[0]
    return placed(x, mask, np.broadcast_to(value, (count, *x.shape[mask.ndim :])))
