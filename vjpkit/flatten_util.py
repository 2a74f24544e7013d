"""Trees of arrays as one vector, under the name of ``jax.flatten_util``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import at, calling_position
from vjpkit.pytree import PyTree, flatten, flatten_with_path, keystr

__all__ = ["ravel_pytree"]


def ravel_pytree(pytree: PyTree) -> tuple[Value, Callable[[Value], PyTree]]:
    """The leaves of a tree joined as one vector, and the function that takes it apart again.

    The vector has the dtype that NumPy promotes those of the leaves to (float64 where there are
    none); parts are cast back to their own. ``unravel(ravel_pytree(tree)[0])`` is the tree again.
    Both are linear, and take traced values. Leaves are arrays and numbers (`TypeError`); a vector
    of another length is a `ValueError`.

    >>> import numpy as np, vjpkit as vk
    >>> flat, unravel = ravel_pytree({"w": np.array([[1.0, 2.0]]), "b": 3.0})
    >>> flat
    array([3., 1., 2.])
    >>> unravel(10 * flat)
    {'b': np.float64(30.0), 'w': array([[10., 20.]])}
    >>> vk.grad(lambda v: np.sum(unravel(v)["w"] ** 2))(flat)
    array([0., 2., 4.])
    """
    leaves, tree = flatten(pytree)
    for i, x in enumerate(leaves):
        if not (hasattr(x, "dtype") or isinstance(x, bool | int | float | complex)):
            path = keystr(flatten_with_path(pytree)[0][i][0]) or "the tree"
            raise TypeError(
                f"ravel_pytree: {path} is a {type(x).__name__}, which is neither an array nor a "
                f"number{at(calling_position())}.\nLeave it out of the tree."
            )
    avals = [aval_of(x) for x in leaves]
    sizes = [a.size for a in avals]
    count = sum(sizes)
    ends = np.cumsum(sizes)[:-1]

    def unravel(vector: Value) -> PyTree:
        """The tree whose leaves are parts of ``vector``."""
        if np.shape(vector) != (count,):
            raise ValueError(
                f"unravel: got an array of shape {np.shape(vector)}, but ({count},) is wanted"
                f"{at(calling_position())}.\nPass a vector as long as the one of ravel_pytree."
            )
        return tree.unflatten(map(_part, np.split(vector, ends), avals) if avals else [])

    flat = [np.reshape(x, (-1,)) for x in leaves]
    return np.concatenate(flat) if flat else np.zeros(0), unravel


def _part(piece: Value, aval: Aval) -> Value:
    """A piece of the vector as the leaf that it was."""
    real = np.real(piece) if aval.dtype.kind != "c" else piece
    return np.reshape(real, aval.shape).astype(aval.dtype)[()]
