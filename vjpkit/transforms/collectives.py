"""Collectives: values of all examples of a `vmap` whose axis has a name, combined.

Inside of ``vmap(f, axis_name="i")`` they combine what the examples have, and are constant between
them; derivatives are those of the unrolled program, in which each result depends on all examples.
Inside of a derivative taken per example, ``vmap(grad(f), axis_name="i")``, the cotangents of all
examples arrive together, as in JAX: the gradient is that of the sum of all results.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import at, calling_position
from vjpkit.core.tracer import RUNNING, Tracer
from vjpkit.ops import collective
from vjpkit.pytree import PyTree, flatten, flatten_with_path, keystr, tree_map
from vjpkit.transforms.batch import Axis

__all__ = ["all_gather", "axis_index", "axis_size", "pmax", "pmean", "pmin", "psum"]

Names = Hashable  # the name of an axis, or a tuple or list of names


def named_axis(label: str, name: Hashable) -> Axis:
    """The innermost axis of that name over which a function is being mapped here."""
    axes: tuple[Axis, ...] = RUNNING.get().axes
    for axis in reversed(axes):
        if axis.name == name:
            return axis
    known = ", ".join([repr(axis.name) for axis in axes])
    raise NameError(
        f"{label}: no vmap with axis_name={name!r} runs here"
        f"{f'; there are {known}' if known else ''}{at(calling_position())}.\n"
        f"Collectives work inside of vk.vmap(f, axis_name={name!r})."
    )


def named_axes(label: str, names: Names) -> list[Axis]:
    """The axes that a name, or several, mean."""
    several = names if isinstance(names, tuple | list) else (names,)
    return [named_axis(label, name) for name in several]


def over_leaves(label: str, f: Callable[[Value], Value], x: PyTree) -> PyTree:
    """``f`` of each leaf, which must be an array or a number."""
    for i, leaf in enumerate(flatten(x)[0]):
        if not (hasattr(leaf, "dtype") or isinstance(leaf, bool | int | float | complex)):
            path = keystr(flatten_with_path(x)[0][i][0])
            raise TypeError(
                f"{label}: the operand{f' at {path}' if path else ''} is a {type(leaf).__name__}, "
                f"which is neither an array nor a number{at(calling_position())}"
            )
    return tree_map(f, x)


def psum(x: PyTree, axis_name: Names) -> PyTree:
    """The sum of ``x`` over all examples of the mapped axis, or axes, of that name.

    Of each leaf of a tree; of a value that is the same for all examples it is a multiple, so that
    ``psum(1, "i")`` is their number. Dtypes stay, booleans are counted. `NameError` where no `vmap`
    of that name runs.

    >>> import numpy as np, vjpkit as vk
    >>> f = lambda x: x - vk.lax.psum(x, "i") / vk.lax.psum(1, "i")
    >>> vk.vmap(f, axis_name="i")(np.array([1.0, 2.0, 6.0]))
    array([-2., -1.,  3.])
    """
    axes = named_axes("psum", axis_name)

    def total(leaf: Value) -> Value:
        for axis in axes:
            leaf = _sum_over(axis, leaf)
        return leaf

    return over_leaves("psum", total, x)


def _sum_over(axis: Axis, leaf: Value) -> Value:
    if not isinstance(leaf, Tracer):
        return leaf * axis.size
    return collective.psum(leaf, axis=axis.key, size=axis.size)


def pmean(x: PyTree, axis_name: Names) -> PyTree:
    """The mean of ``x`` over all examples of the mapped axis, or axes, of that name.

    >>> import numpy as np, vjpkit as vk
    >>> vk.vmap(lambda x: vk.lax.pmean(x, "i"), axis_name="i")(np.array([1.0, 2.0, 6.0]))
    array([3., 3., 3.])
    """
    axes = named_axes("pmean", axis_name)
    count = 1
    for axis in axes:
        count *= axis.size
    return over_leaves("pmean", lambda leaf: psum(leaf, axis_name) / count, x)


def pmax(x: PyTree, axis_name: Names) -> PyTree:
    """The largest ``x`` of all examples; those that are equal share the derivative.

    >>> import numpy as np, vjpkit as vk
    >>> f = lambda x: x - vk.lax.pmax(x, "i")
    >>> vk.vmap(f, axis_name="i")(np.array([1.0, 2.0, 6.0]))
    array([-5., -4.,  0.])
    """
    return _extreme("pmax", np.max, x, axis_name)


def pmin(x: PyTree, axis_name: Names) -> PyTree:
    """The smallest ``x`` of all examples; those that are equal share the derivative.

    >>> import numpy as np, vjpkit as vk
    >>> vk.vmap(lambda x: vk.lax.pmin(x, "i"), axis_name="i")(np.array([1.0, 2.0, 6.0]))
    array([1., 1., 1.])
    """
    return _extreme("pmin", np.min, x, axis_name)


def _extreme(label: str, f: Any, x: PyTree, names: Names) -> PyTree:
    axes = named_axes(label, names)

    def over_all(leaf: Value) -> Value:
        for axis in axes:
            leaf = f(_gathered(axis, leaf, 0), axis=0) if isinstance(leaf, Tracer) else leaf
        return leaf

    return over_leaves(label, over_all, x)


def _gathered(axis: Axis, leaf: Value, place: int) -> Value:
    return collective.all_gather(leaf, axis.index, axis=axis.key, size=axis.size, at=place)


def all_gather(x: PyTree, axis_name: Hashable, *, axis: int = 0, tiled: bool = False) -> PyTree:
    """What all examples have as ``x``, stacked along a new axis, or joined along one if ``tiled``.

    The same for all examples; its transpose gives each example the sum of the cotangents of its
    slice.

    >>> import numpy as np, vjpkit as vk
    >>> def f(x):
    ...     everything = vk.lax.all_gather(x, "i")
    ...     return np.sum(everything < x)
    >>> vk.vmap(f, axis_name="i")(np.array([2.0, 1.0, 6.0]))
    array([1, 0, 2])
    """
    found = named_axis("all_gather", axis_name)
    if not isinstance(axis, int):
        raise TypeError(f"all_gather: axis must be an int, got {axis!r}{at(calling_position())}")

    def gathered(leaf: Value) -> Value:
        leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        ndim = len(aval_of(leaf).shape)
        places = ndim + (not tiled)
        if not -places <= axis < places:
            raise ValueError(
                f"all_gather: axis {axis} is out of range for an operand of {ndim} axes"
                f"{at(calling_position())}"
            )
        place = axis % places
        stack = _gathered(found, leaf, place)
        if not tiled:
            return stack
        shape = aval_of(leaf).shape
        joined = (*shape[:place], found.size * shape[place], *shape[place + 1 :])
        return np.reshape(stack, joined)

    return over_leaves("all_gather", gathered, x)


def axis_index(axis_name: Hashable) -> Value:
    """The number of the example along the mapped axis of that name.

    >>> import numpy as np, vjpkit as vk
    >>> vk.vmap(lambda x: x * vk.lax.axis_index("i"), axis_name="i")(np.array([5.0, 5.0, 5.0]))
    array([ 0.,  5., 10.])
    """
    return named_axis("axis_index", axis_name).index


def axis_size(axis_name: Names) -> int:
    """How many examples there are along the mapped axis, or axes, of that name.

    >>> import numpy as np, vjpkit as vk
    >>> vk.vmap(lambda x: x / vk.lax.axis_size("i"), axis_name="i")(np.array([1.0, 2.0]))
    array([0.5, 1. ])
    """
    size = 1
    for axis in named_axes("axis_size", axis_name):
        size *= axis.size
    return size
