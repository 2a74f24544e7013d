"""Collectives: values of all examples of a `vmap` whose axis has a name, combined.

Inside of ``vmap(f, axis_name="i")`` they combine what the examples have, and are constant between
them; derivatives are those of the unrolled program, in which each result depends on all examples.
Inside of a derivative taken per example, ``vmap(grad(f), axis_name="i")``, the cotangents of all
examples arrive together, as in JAX: the gradient is that of the sum of all results.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import at, calling_position, counted
from vjpkit.core.tracer import RUNNING, Tracer
from vjpkit.ops import collective
from vjpkit.ops.indexing import read
from vjpkit.pytree import PyTree, flatten, flatten_with_path, keystr, tree_map
from vjpkit.transforms.batch import Axis

__all__ = [
    "all_gather",
    "all_to_all",
    "axis_index",
    "axis_size",
    "pmax",
    "pmean",
    "pmin",
    "ppermute",
    "pshuffle",
    "psum",
    "psum_scatter",
    "pswapaxes",
]

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
                f"all_gather: axis {axis} is out of range for an operand of "
                f"{counted(ndim, 'axis', 'axes')}"
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


def ppermute(x: PyTree, axis_name: Hashable, perm: Sequence[tuple[int, int]]) -> PyTree:
    """``x`` of another example: each pair of ``perm`` is a source and its destination.

    An example that is nobody's destination gets zeros. `ValueError` where an example is twice a
    source, or twice a destination.

    >>> import numpy as np, vjpkit as vk
    >>> f = lambda x: vk.lax.ppermute(x, "i", [(0, 1), (1, 2)])
    >>> vk.vmap(f, axis_name="i")(np.array([5.0, 6.0, 7.0]))
    array([0., 5., 6.])
    """
    axis = named_axis("ppermute", axis_name)
    pairs = [tuple(pair) for pair in perm]
    for side, numbers in zip(("source", "destination"), zip(*pairs, strict=True), strict=False):
        outside = [n for n in numbers if not 0 <= n < axis.size]
        if outside or len(set(numbers)) < len(numbers):
            raise ValueError(
                f"ppermute: perm={pairs} must name each {side} once, from 0 to {axis.size - 1}"
                f"{at(calling_position())}"
            )
    sources = np.zeros(axis.size, int)
    reached = np.zeros(axis.size, bool)
    for source, destination in pairs:
        sources[destination], reached[destination] = source, True

    def moved(leaf: Value) -> Value:
        leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        everything = _gathered(axis, leaf, 0)
        mine = read(everything, read(sources, axis.index))
        zero = np.zeros((), aval_of(leaf).dtype)
        return mine if reached.all() else np.where(read(reached, axis.index), mine, zero)

    return over_leaves("ppermute", moved, x)


def pshuffle(x: PyTree, axis_name: Hashable, perm: Sequence[int]) -> PyTree:
    """``x`` of the example ``perm[i]``, where i is this one.

    >>> import numpy as np, vjpkit as vk
    >>> f = lambda x: vk.lax.pshuffle(x, "i", [2, 0, 1])
    >>> vk.vmap(f, axis_name="i")(np.array([5.0, 6.0, 7.0]))
    array([7., 5., 6.])
    """
    size = named_axis("pshuffle", axis_name).size
    if sorted(perm) != list(range(size)):
        raise ValueError(
            f"pshuffle: perm={list(perm)} is not a permutation of 0 to {size - 1}"
            f"{at(calling_position())}"
        )
    return ppermute(x, axis_name, list(zip(perm, range(size), strict=True)))


def all_to_all(
    x: PyTree, axis_name: Hashable, split_axis: int, concat_axis: int, *, tiled: bool = False
) -> PyTree:
    """Each example's slices of ``split_axis``, one for each example, from all along
    ``concat_axis``.

    Without ``tiled`` the axis ``split_axis`` must be as long as the mapped one; it goes, and
    ``concat_axis`` is a new one. With it, ``split_axis`` is cut into as many parts, which are
    joined along ``concat_axis``.

    >>> import numpy as np, vjpkit as vk
    >>> f = lambda x: vk.lax.all_to_all(x, "i", 0, 0)
    >>> vk.vmap(f, axis_name="i")(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[1., 3.],
           [2., 4.]])
    """
    axis = named_axis("all_to_all", axis_name)

    def exchanged(leaf: Value) -> Value:
        leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        shape = aval_of(leaf).shape
        split = _place("all_to_all", "split_axis", split_axis, len(shape))
        joined = _place("all_to_all", "concat_axis", concat_axis, len(shape))
        parts = _parts("all_to_all", leaf, split, axis, tiled)
        mine = read(parts, (slice(None), axis.index))  # of all examples, the part that is mine
        if not tiled:
            return np.moveaxis(mine, 0, joined)
        whole = list(mine.shape[1:])
        whole[joined] *= axis.size
        return np.reshape(np.moveaxis(mine, 0, joined), whole)

    return over_leaves("all_to_all", exchanged, x)


def pswapaxes(x: PyTree, axis_name: Hashable, axis: int) -> PyTree:
    """The mapped axis and the axis ``axis`` of ``x``, which is as long, exchanged.

    >>> import numpy as np, vjpkit as vk
    >>> f = lambda x: vk.lax.pswapaxes(x, "i", 0)
    >>> vk.vmap(f, axis_name="i")(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[1., 3.],
           [2., 4.]])
    """
    return all_to_all(x, axis_name, axis, axis)


def psum_scatter(
    x: PyTree, axis_name: Hashable, *, scatter_dimension: int = 0, tiled: bool = False
) -> PyTree:
    """The slice of the sum over all examples that is this example's.

    Without ``tiled`` the axis ``scatter_dimension`` must be as long as the mapped one, and goes;
    with it, the axis is cut into as many parts.

    >>> import numpy as np, vjpkit as vk
    >>> f = lambda x: vk.lax.psum_scatter(x, "i")
    >>> vk.vmap(f, axis_name="i")(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([4., 6.])
    """
    axis = named_axis("psum_scatter", axis_name)

    def mine(leaf: Value) -> Value:
        leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        ndim = len(aval_of(leaf).shape)
        place = _place("psum_scatter", "scatter_dimension", scatter_dimension, ndim)
        parts = _parts("psum_scatter", leaf, place, axis, tiled)
        return np.sum(read(parts, (slice(None), axis.index)), axis=0, dtype=parts.dtype)

    return over_leaves("psum_scatter", mine, x)


def _place(label: str, name: str, axis: int, ndim: int) -> int:
    if not isinstance(axis, int) or not -ndim <= axis < ndim:
        raise ValueError(
            f"{label}: {name}={axis!r} is no axis of an operand of {counted(ndim, 'axis', 'axes')}"
            f"{at(calling_position())}"
        )
    return axis % ndim


def _parts(label: str, leaf: Value, place: int, axis: Axis, tiled: bool) -> Value:
    """What all examples have, cut along an axis: axes of examples, of parts, and of a part."""
    shape = aval_of(leaf).shape
    length, rest = divmod(shape[place], axis.size)
    if rest or (not tiled and length != 1):
        wanted = "a multiple of" if tiled else "as long as"
        raise ValueError(
            f"{label}: axis {place} of {shape} must be {wanted} the mapped axis of "
            f"{axis.size}{at(calling_position())}"
        )
    inner = (length,) if tiled else ()
    cut = np.reshape(leaf, (*shape[:place], axis.size, *inner, *shape[place + 1 :]))
    return np.moveaxis(_gathered(axis, cut, 0), place + 1, 1)


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
