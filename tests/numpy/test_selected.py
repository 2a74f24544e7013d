"""Masks whose values are not known: writes and reads as NumPy has them, staged and mapped."""

import warnings
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
import vjpkit.numpy as vnp
from vjpkit.core.errors import TracerConversionError, UnsupportedError
from vjpkit.test_util import check_grads


def assigned(x):
    y = np.copy(x)
    y[y > 0] = 5.0
    return y


def scaled(x):
    y = np.copy(x)
    y[y > 0] *= 2.0
    y[(y < 0) & (x > -2)] += 1
    return y


def logarithms(x):
    y = np.copy(x)
    y[y > 0] = np.log(y[y > 0]) * x[y > 0]
    return y


def through_views(x):
    y = np.copy(x)
    mask, tail = y > 0, y[1:]
    tail[mask[1:]] = -1.0
    y[mask] = np.sqrt(x[mask]) + np.exp(-x[mask])
    return tail * y[:-1]


def rows(x):
    y = np.outer(x, x)
    mask = y[:, 0] > 0
    y[mask] *= np.arange(1.0, 1.0 + len(x))
    y[mask] = y[mask] / (1 + y[mask] ** 2)
    y[mask] = np.ones((1, len(x))) * x[0]
    return y


def into_zeros(x):
    y = vnp.zeros(len(x))
    y[x > 0] = x[x > 0] ** 2
    y[x[0] > 0] = y + 1
    return y


def put(x):
    y = np.copy(x)
    np.putmask(y, y > 0, [1.0, 2.0])
    np.place(y, x < 0, x[:2] * 3)
    return y


def totals(x):
    kept = x[x > 0]
    return np.sum(kept**2) + x[x < 0].mean() + np.prod(x[x > 1]) * kept.any() + np.all(kept > 0)


def sums_of_rows(x):
    y = np.outer(x, x)
    return np.sum(y[x > 0], axis=0) + y[x > 0].mean(0) + y[x > 0].mean()


PROGRAMS = {
    f.__name__: f
    for f in (
        assigned,
        scaled,
        logarithms,
        through_views,
        rows,
        into_zeros,
        put,
        totals,
        sums_of_rows,
    )
}
X = np.array([1.5, -2.5, 3.0, -0.5])


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    f = PROGRAMS[name]
    total = lambda x: np.sum(f(x) ** 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is computed of what is not selected
        for transform in (lambda g: g, vk.grad, vk.hessian):
            want = transform(total)(X)
            np.testing.assert_allclose(vk.jit(transform(total))(X), want, 1e-13, 1e-13)
            np.testing.assert_allclose(transform(vk.jit(total))(X), want, 1e-13, 1e-13)
            each = vk.vmap(transform(total))(np.stack([X, X[::-1]]))
            np.testing.assert_allclose(each, [want, transform(total)(X[::-1])], 1e-13, 1e-13)
        assert vk.jit(f)(X).dtype == f(X).dtype
        np.testing.assert_allclose(vk.vmap(f)(X[None])[0], f(X), 1e-14)
    check_grads(vk.jit(total), (X,), 2)


def test_what_is_assigned_takes_the_dtype():
    def f(x):
        y = np.array([1, 2, 3]) + 0 * x.astype(int)
        y[y > 1] = 7.9
        return y

    x = np.zeros(3)
    np.testing.assert_array_equal(vk.jit(f)(x), [1, 7, 7])
    assert vk.jit(f)(x).dtype == np.int64


def test_what_is_selected_is_written_back_by_the_same_mask_alone():
    def moved(x):
        y = np.copy(x)
        mask = y > 0
        y[:2] = 0.0
        y[y > 0] = x[mask]  # another mask, as y has changed
        return y

    for f in (moved, lambda x: x[x > 0] + x[x < 0]):
        with pytest.raises(UnsupportedError, match="how many elements a mask"):
            vk.jit(f)(X)


BAD: dict[str, Any] = {
    "shape": (lambda x: x[x > 0].shape, TracerConversionError, "depends on its values"),
    "len": (lambda x: len(x[x > 0]), TracerConversionError, "Use np.where"),
    "list": (lambda x: list(x[x > 0]), TracerConversionError, "Use np.where"),
    "sort": (lambda x: np.sort(x[x > 0]), UnsupportedError, "np.sort is not supported"),
    "max": (lambda x: np.max(x[x > 0]), UnsupportedError, "np.max is not supported"),
    "cumsum": (lambda x: np.add.accumulate(x[x > 0]), UnsupportedError, "np.add.accumulate"),
    "vector": (lambda x: x[x > 0] * x, UnsupportedError, r"with an array of shape \(4,\)"),
    "axis": (lambda x: np.sum(x[x > 0], axis=1), UnsupportedError, "along axis 1"),
    "returned": (lambda x: x[x > 0], TracerConversionError, "Use np.where"),
    "too short": (
        lambda x: x[x[1:] > 0],
        IndexError,
        "size of axis is 4 but size of corresponding",
    ),
    "too deep": (lambda x: x[np.outer(x, x) > 0], IndexError, "too many indices for array"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_needs_to_know_how_many_there_are(name):
    f, error, words = BAD[name]
    with pytest.raises(error, match=words):
        vk.jit(f)(X)


def test_values_for_each_selected_element_are_refused():
    def f(x):
        y = np.copy(x)
        y[y > 0] = np.array([1.0, 2.0])
        return y

    np.testing.assert_array_equal(f(X), [1.0, -2.5, 2.0, -0.5])
    with pytest.raises(UnsupportedError, match=r"assigning an array of shape \(2,\)") as caught:
        vk.jit(f)(X)
    assert "np.where" in str(caught.value)
    with pytest.raises(UnsupportedError, match="assigning an array"):
        vk.vmap(f)(np.stack([X, -X]))
