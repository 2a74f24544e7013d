"""Trees of arguments that come again are read by code of their own, and mean the same."""

import pickle
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.pytree import flatten, structure
from vjpkit.transforms.forms import BARE, form_of, walked

Pair = namedtuple("Pair", "left right")
X, Y, Z = np.array([0.3, 0.7]), np.array([[1.5]]), np.array(2.0)

TREES: dict[str, Any] = {
    "dict": {"w": X, "b": Y},
    "nested": {"layers": [{"w": X, "b": Y}, (Z,)], "scale": Z},
    "list": [X, [Y, (Z,)]],
    "empty": {"w": X, "none": (), "rest": {}},
    "numbers": {2: X, 1: Y},
    "pair": Pair(X, [Y]),
    "ordered": OrderedDict(b=X, a=Y),
    "with None": [X, None],
}


def total(tree: Any) -> Any:
    return sum(np.sum(x * x) for x in flatten(tree)[0])


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_later_calls_give_what_the_first_gives(tree: Any):
    gradient = vk.grad(total)
    first = gradient(tree)
    for _ in range(3):
        again = gradient(tree)
        assert structure(again) == structure(tree) == structure(first)
        for a, b in zip(flatten(first)[0], flatten(again)[0], strict=True):
            np.testing.assert_array_equal(a, b)
            assert type(a) is type(b)


def test_another_tree_may_come_at_any_time():
    gradient = vk.grad(total)
    for tree in [*TREES.values(), X, 2.0, *TREES.values(), {"w": X, "c": Y}, {"w": X}]:
        for _ in range(3):
            assert structure(gradient(tree)) == structure(tree)


def test_leaves_that_are_no_arrays_are_read_with_care():
    gradient = vk.grad(lambda p: p["a"] * np.sum(p["x"]))
    for _ in range(3):
        gradient({"a": Z, "x": X})
    assert type(gradient({"a": 3.0, "x": X})["a"]) is np.float64
    with pytest.raises(TypeError, match=r"argument 0 at \['x'\] is i64\[2\]"):
        gradient({"a": Z, "x": np.array([1, 2])})
    with pytest.raises(TypeError, match=r"argument 0 at \['x'\]"):
        gradient({"a": Z, "x": "no"})


def test_traced_leaves():
    gradient = vk.grad(total)
    gradient({"w": X})
    gradient({"w": X})
    second = vk.grad(lambda x: np.sum(gradient({"w": x})["w"] * x))(X)
    np.testing.assert_allclose(second, 4 * X)


def test_keys_that_are_missing_or_too_many():
    form = form_of(structure({"w": 0, "b": 0}))
    assert form.read({"w": X, "c": Y}) is None
    assert form.read({"w": X, "b": Y, "c": Z}) is None
    assert form.read(OrderedDict(b=X, w=Y)) is None
    leaves = form.read({"w": X, "b": Y})
    assert leaves is not None
    assert form.build(leaves) == {"b": Y, "w": X}
    assert list(form.build(leaves)) == ["b", "w"]


def test_what_is_walked():
    many = structure([0] * 100)
    for tree in (many, structure(Pair(0, 0)), structure(OrderedDict(a=0))):
        assert form_of(tree).read([X] * 100) is None
        assert form_of(tree).build([X] * tree.num_leaves) is not None
    assert walked(structure(0)) is BARE is form_of(structure(0))


def test_a_gradient_function_that_has_been_called_is_pickled():
    gradient = vk.grad(total)
    for _ in range(2):
        gradient({"w": X})
    again = pickle.loads(pickle.dumps(gradient))
    np.testing.assert_array_equal(again({"w": X})["w"], 2 * X)
