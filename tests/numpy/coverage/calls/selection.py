"""Choosing elements: by place, by condition, by order, by value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.numpy.coverage.call import Call, Fixed, call, parameters_of
from tests.numpy.coverage.calls.data import (
    ANY_ORDER,
    EVEN,
    HOLES,
    INTS,
    KNOTS,
    KNOWN,
    MASK,
    MOVED,
    M,
    N,
    V,
    W,
    X,
    Z,
)

__all__ = ["calls", "refusals"]

_DOWNWARDS: dict[str, Any] = {"descending": True} if "descending" in parameters_of(np.sort) else {}
"""A keyword of NumPy 2.5 and newer."""


PLACES = Fixed(np.array([[0, 2], [3, 1], [1, 1]]))


def calls() -> Iterator[Call]:
    yield from _by_place()
    yield from _by_condition()
    yield from _by_order()
    yield from _by_value()


def _by_place() -> Iterator[Call]:
    yield call(np.take, M, [0, 5, -1])
    yield call(np.take, M, indices=[[1, 7], [-2, 0]], axis=1, mode="wrap")
    yield call(np.take, M, [1, 9], axis=0, mode="clip", out=np.zeros((2, 4)))
    yield call(np.take_along_axis, M, PLACES, axis=1)
    yield call(np.take_along_axis, M, Fixed(np.array([3, 1, 11])), axis=None)
    yield call(np.choose, Fixed(np.array([0, 1, 1, 0, 2])), [V, W, X])
    yield call(np.choose, Fixed(np.array([0, 4, -1])), choices=[V[:3], W[:3]], mode="clip",
               out=np.zeros(3))  # fmt: skip
    yield call(np.select, [M > 0.8, M > 0.4], [M**2, N], default=X)
    yield call(np.select, condlist=[MASK], choicelist=[N])
    yield call(np.unravel_index, INTS, shape=(2, 4), order="F")
    yield call(np.ravel_multi_index, (INTS - 1, INTS), dims=(5, 6), mode="wrap", order="F")
    yield call(np.ravel_multi_index, (INTS, INTS), (3, 4), mode=("clip", "wrap"))


def _by_condition() -> Iterator[Call]:
    yield call(np.where, MASK, M, N)
    yield call(np.where, M, exempt=KNOWN)
    yield call(np.extract, Fixed(MASK), M)
    yield call(np.compress, Fixed(EVEN[:4]), M, axis=1)
    yield call(np.compress, condition=Fixed(EVEN), a=V, out=np.zeros(3))
    yield call(np.piecewise, M, [Fixed(MASK), Fixed(~MASK)], [_square, 0.4])
    yield call(np.piecewise, V, condlist=[Fixed(EVEN)], funclist=[_scaled, _square], exempt={})
    yield call(np.clip, M, 0.3, 0.8)
    yield call(np.clip, M, a_min=N * 0.6, a_max=None, out=np.zeros((3, 4)))
    yield call(np.clip, M, min=X, max=np.float64(0.9))
    yield call(np.clip, M, 0.3, 0.8, where=Fixed(MASK), out=np.ones((3, 4)))
    yield call(np.nonzero, M, exempt=KNOWN)
    yield call(np.flatnonzero, M, exempt=KNOWN)
    yield call(np.argwhere, M, exempt=KNOWN)
    yield call(np.count_nonzero, M, axis=1, keepdims=True)
    yield call(np.searchsorted, KNOTS, V, side="right")
    yield call(np.searchsorted, KNOTS[::-1].copy(), V, sorter=Fixed(np.array([3, 2, 1, 0])))
    yield call(np.digitize, V, Fixed(KNOTS), right=True)
    yield call(np.digitize, V, bins=KNOTS[::-1].copy(), exempt=KNOWN)


def _square(x, *args, **kw):
    return x**2


def _scaled(x, *args, **kw):
    return 3 * x


def _by_order() -> Iterator[Call]:
    yield call(np.sort, M)
    yield call(np.sort, M, axis=None, kind="stable")
    yield call(np.sort, M, axis=0, stable=True, **_DOWNWARDS)
    yield call(np.sort, Z, axis=1)
    yield call(np.argsort, M, axis=0, kind="stable")
    yield call(np.argsort, M, axis=-1, stable=True, **_DOWNWARDS)
    yield call(np.partition, M, kth=2, axis=1, kind="introselect")
    yield call(np.argpartition, V, kth=[1, 3], axis=0, kind="introselect", exempt=ANY_ORDER)
    yield call(np.lexsort, (V, W), axis=0)
    yield call(np.argmax, M, axis=1, keepdims=True)
    yield call(np.argmax, M, axis=1, out=np.zeros(3, int))
    yield call(np.argmin, M, axis=0, keepdims=True)
    yield call(np.argmin, M, axis=0, out=np.zeros(4, int))
    yield call(np.nanargmax, HOLES, axis=0, keepdims=True)
    yield call(np.nanargmax, HOLES, axis=0, out=np.zeros(4, int))
    yield call(np.nanargmin, HOLES, axis=1, keepdims=True)
    yield call(np.nanargmin, HOLES, axis=1, out=np.zeros(3, int))


def _by_value() -> Iterator[Call]:
    twice = np.array([0.5, 0.2, 0.9, 0.3])
    yield call(np.unique, twice, return_index=True, return_inverse=True, return_counts=True,
               equal_nan=False, exempt=KNOWN)  # fmt: skip
    yield call(np.unique, M, axis=0, sorted=True, exempt=KNOWN)
    yield call(np.unique_all, twice, exempt=KNOWN)
    yield call(np.unique_counts, twice, exempt=KNOWN)
    yield call(np.unique_inverse, twice, exempt=KNOWN)
    yield call(np.unique_values, twice, exempt=KNOWN)
    yield call(np.intersect1d, V, Fixed(V[1:4]), assume_unique=True, return_indices=True,
               exempt=KNOWN | MOVED)  # fmt: skip
    yield call(np.union1d, V, W, exempt=KNOWN)
    yield call(np.setdiff1d, V, ar2=W, assume_unique=True, exempt=KNOWN)
    yield call(np.setxor1d, V, ar2=W, assume_unique=True, exempt=KNOWN)
    yield call(np.isin, V, test_elements=V[:2], assume_unique=True, invert=True)
    yield call(np.isin, M, V, kind="sort")


def refusals() -> Iterator[tuple[str, Call]]:
    function: Any
    for function in (np.sort, np.argsort):
        yield "order", call(function, M, order="f")
    for function in (np.partition, np.argpartition):
        yield "order", call(function, M, 1, order="f")
