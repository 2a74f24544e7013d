"""Sorting, searching and sets: values move to where the order says."""

import inspect
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from tests.numpy.against_numpy import assert_same_as_numpy
from tests.numpy.agreement import agrees, source
from vjpkit.core.errors import TracerConversionError

untyped: Any = np  # for calls that are wrong, or that NumPy takes but its types do not
NUMBERS = [-2.1, -1.65, -1.25, -0.85, -0.7, -0.45, 0.55, 0.8, 0.98, 1.3, 1.55, 1.9]
X = np.random.default_rng(1).permutation(NUMBERS).reshape(3, 4)
Z = X + 1j * X[::-1]
V = np.array([0.75, -1.5, 0.5, 1.8, -0.4, 1.2, -0.9])
EAGER = {"staged": False, "mapped": False}


@pytest.mark.parametrize("axis", [-1, 0, None])
def test_sorting(axis):
    agrees(lambda x: np.sort(x, axis=axis), X)
    agrees(lambda x: np.argsort(x, axis=axis) * np.sum(x), X)
    agrees(lambda x: np.sort(x, axis=axis, stable=True), X)
    agrees(lambda x: np.sort(x, axis=axis, kind="heapsort"), X)
    agrees(lambda x: np.sort(x, axis=axis), Z)


@pytest.mark.parametrize("axis", [-1, 0, None])
def test_sorting_downwards(axis):
    if "descending" not in inspect.signature(np.sort).parameters:
        pytest.skip("descending= came with NumPy 2.5")
    agrees(lambda x: untyped.sort(x, axis=axis, descending=True), X)
    agrees(lambda x: untyped.argsort(x, axis=axis, descending=True) * np.sum(x), X)
    agrees(lambda x: untyped.sort(x, axis=axis, descending=True), Z)


def test_downwards_too_nan_is_last_and_ties_keep_their_order():
    x = np.array([3.0, np.nan, 1.0, 1.0, 2.0])
    places = vk.vjp(lambda x: x.argsort(descending=True, stable=True) + 0 * np.sum(x[:1]), x)[0]
    assert places.tolist() == [0, 4, 2, 3, 1]


def test_ties_keep_numpys_order():
    x = np.array([2.0, 1.0, 2.0, 1.0])
    for kind in (None, "stable", "heapsort"):
        rows = vk.jacrev(lambda x, k=kind: np.sort(x, kind=k))(x)
        assert rows.argmax(axis=1).tolist() == np.argsort(x, kind=kind).tolist()
    rows = vk.jacrev(lambda x: np.partition(x, 2))(x)
    assert rows.argmax(axis=1).tolist() == np.argpartition(x, 2).tolist()


def test_nan_sorts_last_and_keeps_its_place():
    x = np.array([np.nan, 1.0, 0.5])
    g = vk.grad(lambda x: np.sort(x) @ np.array([1.0, 2.0, 4.0]))(x)
    assert g.tolist() == [4.0, 2.0, 1.0]


def test_complex_numbers_sort_by_their_real_parts_first():
    agrees(np.sort_complex, V, order=1)
    agrees(np.sort_complex, Z[0])


@pytest.mark.parametrize("axis", [-1, 0])
def test_partitions(axis):
    agrees(lambda x: np.partition(x, 2, axis=axis) * np.partition(x, [0, -1], axis=axis), X)
    agrees(lambda x: np.argpartition(x, 2, axis=axis) * np.sum(x), X)


def test_partition_of_all():
    agrees(lambda x: np.partition(x, 5, axis=None), X)


def test_sorting_in_place():
    def f(x):
        y = np.copy(x)
        y.sort()
        z = np.copy(x)
        z.partition(1, axis=0)
        return y * z * x.argsort(0) * x.argpartition(1)

    agrees(f, X)


def test_lexsort():
    agrees(lambda x: np.lexsort((x, np.round(x))) * np.sum(x), X)
    agrees(lambda x: x[0][np.lexsort(x)], X)


def test_searching():
    agrees(lambda a, w: np.searchsorted(np.sort(a), w) * np.sum(a) * np.sum(w), V, X)
    agrees(lambda a: np.sort(a).searchsorted(0.1, "right") * np.sum(a), V)
    agrees(lambda a: np.searchsorted(a, [0.0, 0.55], sorter=np.argsort(a)) * np.sum(a), V)
    agrees(lambda w: np.searchsorted(np.arange(3.0), w) * w, X)
    agrees(lambda x: np.digitize(x, [-1.0, 0, 1]) * x, X)
    agrees(lambda x: np.digitize(x, [1.0, 0, -1], right=True) * x, X)


# ---- sets --------------------------------------------------------------------------------------


def test_unique_values_are_those_that_come_first():
    x = np.array([1.5, -0.5, 1.5, 0.25, -0.5])
    agrees(lambda x: np.unique(x, return_counts=True), x, order=0, **EAGER)
    g = vk.grad(lambda x: np.unique(x) @ np.array([1.0, 2.0, 4.0]))(x)
    assert g.tolist() == [4.0, 1.0, 0.0, 2.0, 0.0]


def test_unique():
    agrees(lambda x: np.unique(x, True, True, True), V, **EAGER)
    agrees(lambda x: np.unique(x, axis=1, return_inverse=True), X, **EAGER)
    agrees(lambda x: np.unique(x, return_inverse=True), X, **EAGER)
    agrees(lambda x: np.unique(np.array([np.nan, 1, np.nan]) * x[0]), V, order=0, **EAGER)
    agrees(lambda x: (*np.unique_all(x), *np.unique_counts(x), *np.unique_inverse(x)), V, **EAGER)
    agrees(lambda x: np.sort(np.unique_values(x)), V, **EAGER)
    assert type(vk.vjp(lambda x: (np.unique_all(x).values, 1.0), V)[0]) is tuple


@pytest.mark.parametrize(
    "y", [V[:3] * 1.1, V[:3] + np.array([0.0, 1.0, 0.0])], ids=["other", "shared"]
)
def test_set_operations(y):
    agrees(
        lambda x, y: (
            np.union1d(x, y),
            np.intersect1d(x, x * 1, return_indices=True),
            np.setdiff1d(x, y),
            np.setdiff1d(x, y, assume_unique=True),
            np.setxor1d(x, y),
            np.isin(x, y) * np.sum(x),
        ),
        V,
        y,
        order=0,
        **EAGER,
    )


def test_set_operations_are_differentiated():
    agrees(
        lambda x, y: (
            np.union1d(x, y), np.intersect1d(x, x), np.setdiff1d(x, y), np.setxor1d(x, y)
        ),
        V,
        V[:3] * 1.1,
        **EAGER,
    )  # fmt: skip


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sort(x[0, 0]),
        lambda x: np.sort(x[0, 0], axis=None),
        lambda x: np.argsort(x[0, 0]),
        lambda x: np.sort(x, axis=2),
        lambda x: untyped.sort(x, kind="bubble"),
        lambda x: np.sort(x, kind="stable", stable=True),
        lambda x: np.sort(x, order="f"),
        lambda x: np.partition(x, 4),
        lambda x: np.partition(x, -5),
        lambda x: untyped.partition(x, 1, kind="fast"),
        lambda x: untyped.partition(x, 0.5),
        lambda x: np.searchsorted(x, 0.0),
        lambda x: untyped.searchsorted(x[0], 0.0, side="middle"),
        lambda x: np.digitize(x, [1, 0, 2]),
        lambda x: np.digitize(x * 1j, [1, 2]),
        lambda x: np.lexsort((x, x[0])),
        lambda x: np.lexsort((x,), axis=2),
        lambda x: np.unique(x, axis=2),
    ],
    ids=source,
)
def test_borderline_cases_end_as_in_numpy(f):
    assert_same_as_numpy(f, X)


@pytest.mark.parametrize(
    "f",
    [np.unique, np.unique_all, lambda x: np.union1d(x, x)],
    ids=["unique", "unique_all", "union1d"],
)
def test_sets_of_abstract_values_say_why_not(f):
    with pytest.raises(TracerConversionError, match="what it returns depends on values"):
        vk.make_ir(f)(V)


def test_places_among_mapped_numbers_with_nan():
    a = np.array([[0.0, 1.0, 2.0, np.nan], [-np.inf, 0.5, 0.5, np.inf]])
    v = np.array([np.nan, -np.inf, np.inf, 0.5, 2.0])
    for side in ("left", "right"):
        f = lambda a, v, s=side: np.searchsorted(a, v, side=s)
        wanted = np.stack([f(row, v) for row in a])
        np.testing.assert_array_equal(vk.vmap(f, in_axes=(0, None))(a, v), wanted)
        np.testing.assert_array_equal(vk.vmap(f)(a, np.stack([v, v])), wanted)
