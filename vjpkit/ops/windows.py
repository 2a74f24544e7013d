"""Sliding windows: a view in which elements appear many times; its transpose adds them up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from vjpkit.core.aval import Aval, Shape, Value
from vjpkit.core.primitive import Sample, primitive
from vjpkit.kinds import Linear
from vjpkit.ops.index import Index, stand_in
from vjpkit.ops.indexing import scatter_sum

__all__ = ["windows"]

_V = np.array([0.3, -1.2, 2.5, 0.8, -0.4])
_M = np.array([[0.3, -1.2, 2.5, 0.9], [1.7, 0.4, -0.6, 0.1], [0.2, 1.1, 0.7, -2.0]])


class Windows(Linear):
    """All windows of the given lengths along ``axes``, on new axes at the end."""

    impl = staticmethod(lambda x, lengths, axes: sliding_window_view(x, lengths, axes))

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        places = window_places(shape, **params)
        index = (Index((Index.ARRAY,) * len(shape)),)
        return scatter_sum(*places, ct, shape=shape, dtype=dtype, indices=index)

    def abstract(self, *avals: Aval, lengths: Shape, axes: tuple[int, ...], **params: Any) -> Aval:
        (x,) = avals
        form = sliding_window_view(stand_in(Aval(x.shape, bool)), lengths, axes)
        return Aval(form.shape, x.dtype)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, lengths: Shape,
        axes: tuple[int, ...],
    ) -> Value:  # fmt: skip
        return self(*values, lengths=lengths, axes=tuple([axis + 1 for axis in axes]))

    def samples(self) -> Iterable[Sample]:
        yield Sample(_V, lengths=(3,), axes=(0,))
        yield Sample(_M[::-1, ::2], lengths=(2,), axes=(0,))
        yield Sample(_M, lengths=(2, 3), axes=(0, 1))
        yield Sample(_M, lengths=(2, 2), axes=(1, 1))


windows = primitive(Windows)


def window_places(shape: Shape, lengths: Shape, axes: tuple[int, ...]) -> list[Any]:
    """For every axis of an array, where along it the elements of its windows are."""
    total = len(shape) + len(lengths)
    places = []
    for i, n in enumerate(shape):
        mine = [j for j, axis in enumerate(axes) if axis == i]
        starts = n - sum([lengths[j] - 1 for j in mine])
        place: Any = np.arange(starts).reshape(-1, *[1] * (total - 1 - i))
        for j in mine:
            place = place + np.arange(lengths[j]).reshape(-1, *[1] * (len(lengths) - 1 - j))
        places.append(place)
    return places
