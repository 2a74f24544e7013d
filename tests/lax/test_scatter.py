"""Slices at computed places: against loops over the places, and under transforms."""

import itertools
from typing import Any

import numpy as np
import pytest

import vjpkit
from vjpkit.test_util import check_grads

vk: Any = vjpkit
lax: Any = vk.lax
rng = np.random.default_rng(5)
X = rng.normal(size=(4, 3, 2))

# Operand, indices, which axes: slices, those left out, those that are placed; batching axes.
CASES: dict[str, Any] = {
    "elements": (X[:, 0, 0], [[2], [0], [5], [-1]], (1,), ((), (0,), (0,))),
    "rows": (X[:, :, 0], [[3], [1], [9]], (1, 3), ((1,), (0,), (0,))),
    "columns in front": (X[:, :, 0], [[2], [0]], (4, 1), ((0,), (1,), (1,))),
    "blocks": (X, [[1, 0], [3, 1], [0, 2]], (2, 2, 1), ((1, 2, 3), (), (0, 1))),
    "blocks, axes the other way round": (X, [[0, 1], [1, 3]], (2, 1, 2), ((0, 2), (1,), (1, 0))),
    "a table of places": (
        X, [[[1, 1], [0, 2]], [[3, 0], [2, 2]]], (1, 1, 2), ((2,), (0, 1), (0, 1)),
    ),
    "one place": (X, [2], (1, 3, 2), ((0, 1), (0,), (0,))),
    "batches": (X, [[[1], [2]]] * 4, (1, 1, 2), ((2,), (1,), (1,), (0,), (0,))),
    "batches behind": (X[:, :, 0], [[[1], [2], [0], [7]]], (1, 1), ((), (1,), (1,), (0,), (1,))),
    "nowhere": (X[:, 0, 0], np.zeros((0, 1), int), (1,), ((), (0,), (0,))),
}  # fmt: skip


def looped(x, indices, sizes, numbers, mode):
    """The places of each slice, or None where it is not there: index vectors to index tuples."""
    offset, left_out, along, *batching = numbers
    pairs = dict(zip(*batching)) if batching else {}
    indices = np.asarray(indices)
    for place in itertools.product(*map(range, indices.shape[:-1])):
        start = [0] * x.ndim
        vector = list(indices[place])
        if pairs:
            vector = list(indices[place])
        for axis, at in zip(along, vector):
            start[axis] = int(at)
        for axis, of in pairs.items():
            start[axis] = place[of]
        ends = [n - size for n, size in zip(x.shape, sizes)]
        inside = all(0 <= a <= b for a, b in zip(start, ends))
        start = [min(max(a, 0), b) for a, b in zip(start, ends)]
        gone = [*left_out, *pairs]
        index = tuple(
            a if axis in gone else slice(a, a + n) for axis, (a, n) in enumerate(zip(start, sizes))
        )
        yield place, (index if inside or mode == "clip" else None)


def gathered(x, indices, sizes, numbers, mode):
    offset, left_out, *_ = numbers
    gone = {*left_out, *(numbers[3] if len(numbers) > 3 else ())}
    window = [n for axis, n in enumerate(sizes) if axis not in gone]
    batch = np.shape(indices)[:-1]
    out = np.full((*batch, *window), np.nan)
    for place, index in looped(x, indices, sizes, numbers, mode):
        if index is not None:
            out[place] = x[index]
    return np.moveaxis(out, range(len(batch), out.ndim), offset)


@pytest.mark.parametrize("mode", ["clip", "fill"])
@pytest.mark.parametrize("name", CASES)
def test_gather(name, mode):
    x, indices, sizes, numbers = CASES[name]
    dimensions = lax.GatherDimensionNumbers(*numbers)
    f = lambda x: lax.gather(x, np.asarray(indices), dimensions, sizes, mode=mode)
    want = gathered(x, indices, sizes, numbers, mode)
    np.testing.assert_array_equal(f(x), want)
    np.testing.assert_array_equal(vk.jit(f)(x), want)
    traced = vk.jit(lambda x, i: lax.gather(x, i, dimensions, sizes, mode=mode))
    np.testing.assert_array_equal(traced(x, np.asarray(indices)), want)
    np.testing.assert_array_equal(vk.vmap(f)(np.stack([x, 2 * x])), np.stack([want, 2 * want]))
    check_grads(lambda x: np.where(np.isnan(want), 0.0, f(x)), (x,), 2)


COMBINED: dict[str, Any] = {
    "scatter": lambda old, new: new,
    "scatter_add": np.add,
    "scatter_sub": np.subtract,
    "scatter_mul": np.multiply,
    "scatter_min": np.minimum,
    "scatter_max": np.maximum,
}


@pytest.mark.parametrize("mode", ["clip", "drop"])
@pytest.mark.parametrize("function", COMBINED)
@pytest.mark.parametrize("name", CASES)
def test_scatter(name, function, mode):
    x, indices, sizes, numbers = CASES[name]
    shape = gathered(x, indices, sizes, numbers, mode).shape
    updates = np.random.default_rng(7).normal(size=shape)
    window = np.moveaxis(updates, numbers[0], range(len(np.shape(indices)) - 1, len(shape)))
    want = x.copy()
    for place, index in looped(x, indices, sizes, numbers, mode):
        if index is not None:
            want[index] = COMBINED[function](want[index], window[place])
    dimensions = lax.ScatterDimensionNumbers(*numbers)
    f = lambda x, u: getattr(lax, function)(x, np.asarray(indices), u, dimensions, mode=mode)
    np.testing.assert_allclose(f(x, updates), want, 1e-14)
    np.testing.assert_allclose(vk.jit(f)(x, updates), want, 1e-14)
    both = vk.vmap(f, in_axes=(None, 0))(x, np.stack([updates, updates]))
    np.testing.assert_allclose(both, np.stack([want, want]), 1e-14)
    check_grads(f, (x, updates), 2)


def test_what_stands_for_elements_that_are_not_there():
    each = lax.GatherDimensionNumbers((), (0,), (0,))
    places = np.array([[0], [3]])
    for dtype, want in ((np.int8, -128), (np.uint8, 255), (bool, True), (np.float32, np.nan)):
        got = lax.gather(np.zeros(2, dtype), places, each, (1,), mode="fill")
        assert got.dtype == dtype
        np.testing.assert_array_equal(got[1], want)
    got = lax.gather(np.zeros(2), places, each, (1,), mode="fill", fill_value=7)
    np.testing.assert_array_equal(got, [0.0, 7.0])
    mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    np.testing.assert_array_equal(lax.gather(np.ones(2), places[:1], each, (1,), mode=mode), [1.0])


def test_bad_calls():
    each = lax.GatherDimensionNumbers((), (0,), (0,))
    write = lax.ScatterDimensionNumbers((), (0,), (0,))
    x, i = np.ones(3), np.array([[0]])
    for call, error, words in (
        (lambda: lax.gather(x, i * 1.0, each, (1,)), TypeError, "gather: indices have dtype float"),
        (lambda: lax.gather(x, i[0, 0], each, (1,)), ValueError, "hold vectors along the last"),
        (lambda: lax.gather(x, i, each, (2,)), ValueError, "must be 1 along the axes"),
        (lambda: lax.gather(x, i, each, (1,), mode="wrap"), ValueError, "mode must be 'fill'"),
        (lambda: lax.gather(x, i, each, (1, 1)), TypeError, "slice_sizes must have one entry"),
        (lambda: lax.scatter(x, i, np.ones(2), write), ValueError, "scatter: updates have the"),
        (lambda: lax.scatter_add(x, i, np.ones(1, int), write), TypeError, "must be equal"),
        (lambda: lax.scatter_mul(x, i, None, write), TypeError, "updates: NoneType is not"),
    ):
        with pytest.raises(error, match=words):
            call()
