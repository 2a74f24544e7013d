"""`ravel_pytree`: a tree of arrays as one vector and back, as a linear map that is traced."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.flatten_util import ravel_pytree

TREES: dict[str, Any] = {
    "dict": {"w": np.arange(6.0).reshape(2, 3), "b": np.float64(3.0)},
    "mixed": [np.array([1.5], "f4"), (np.arange(3), 2.5 + 1j), np.array([True])],
    "empty arrays": {"a": np.zeros((0, 2)), "b": np.ones(())},
    "single": np.ones((2, 2), "f4"),
    "number": 3.0,
    "nothing": {"a": [], "b": ()},
}


@pytest.mark.parametrize("name", TREES)
def test_there_and_back(name: str) -> None:
    tree = TREES[name]
    flat, unravel = ravel_pytree(tree)
    leaves, treedef = vk.tree.flatten(tree)
    back, found = vk.tree.flatten(unravel(flat))
    assert found == treedef
    assert flat.shape == (sum(np.size(x) for x in leaves),)
    assert flat.dtype == np.result_type(float if not leaves else leaves[0], *leaves[1:])
    for a, b in zip(back, leaves, strict=True):
        assert (np.shape(a), np.asarray(a).dtype) == (np.shape(b), np.asarray(b).dtype)
        np.testing.assert_array_equal(a, b)
    assert not any(np.may_share_memory(flat, x) for x in leaves)


def test_under_transforms() -> None:
    tree = TREES["dict"]
    flat, unravel = ravel_pytree(tree)

    def loss(vector: Any) -> Any:
        params = unravel(vector)
        return np.sum(np.sin(params["w"]) * params["b"]) + np.sum(ravel_pytree(params)[0] ** 2)

    want = np.concatenate(
        [[np.sum(np.sin(tree["w"]))], (np.cos(tree["w"]) * tree["b"]).ravel()]
    ) + 2 * np.concatenate([[tree["b"]], tree["w"].ravel()])
    for gradient in (vk.grad(loss), vk.jit(vk.grad(loss)), vk.jacfwd(loss)):
        np.testing.assert_allclose(gradient(flat), want, rtol=1e-12)
    two = np.stack([flat, flat])
    np.testing.assert_allclose(vk.vmap(vk.grad(loss))(two), [want, want], rtol=1e-12)
    by_tree = vk.grad(lambda p: np.sum(ravel_pytree(p)[0] ** 3))(tree)
    np.testing.assert_allclose(ravel_pytree(by_tree)[0], 3 * flat**2, rtol=1e-12)
