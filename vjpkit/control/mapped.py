"""`map`, `associative_scan` and `select`: loops and choices that are made of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vjpkit.control.bodies import array_leaves
from vjpkit.control.scan import common_length, scan
from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import at, calling_position, counted
from vjpkit.pytree import PyTree, flatten, flatten_with_path, keystr, tree_map
from vjpkit.transforms.arguments import name_of, require_function
from vjpkit.transforms.mapping import vmap

__all__ = ["associative_scan", "map_", "select"]


def map_(f: Callable[[PyTree], PyTree], xs: PyTree, *, batch_size: int | None = None) -> PyTree:
    """``f`` of each slice of ``xs`` along the first axis, stacked.

    Equal to ``vmap(f)(xs)``, one slice after the other instead of all at once; with ``batch_size``
    so many at once, which bounds memory.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.map(lambda x: x * x, np.arange(3.0))
    array([0., 1., 4.])
    >>> vk.lax.map(np.sum, np.ones((5, 2)), batch_size=2)
    array([2., 2., 2., 2., 2.])
    """
    require_function("map", f)
    leaves, tree = array_leaves("map", "xs", xs)
    n = common_length(xs, leaves, None)
    if batch_size is None:
        return scan(lambda _, x: (None, f(x)), None, xs)[1]
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(
            f"map: batch_size must be a positive int, got {batch_size!r}{at(calling_position())}"
        )
    whole = n - n % batch_size
    parts = []
    if whole or not n:
        shape = whole // batch_size, batch_size
        blocks = [np.reshape(x[:whole], (*shape, *x.shape[1:])) for x in leaves]
        ys = scan(lambda _, x: (None, vmap(f)(x)), None, tree.unflatten(blocks))[1]
        parts.append(tree_map(lambda y: np.reshape(y, (whole, *y.shape[2:])), ys))
    if whole < n:
        parts.append(vmap(f)(tree.unflatten([x[whole:] for x in leaves])))
    return parts[0] if len(parts) == 1 else tree_map(lambda *ys: np.concatenate(ys), *parts)


def associative_scan(
    fn: Callable[[PyTree, PyTree], PyTree], elems: PyTree, reverse: bool = False, axis: int = 0
) -> PyTree:
    """All partial results x0, x0∘x1, x0∘x1∘x2, ... of an associative ``fn``, along an axis.

    ``fn(a, b)`` combines two trees like ``elems`` slice by slice: its arguments have the axis too,
    of any length. About 2 log n calls on halves of the data instead of n on single slices
    (Blelloch 1990).

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.associative_scan(np.multiply, np.array([1.0, 2.0, 3.0, 4.0]))
    array([ 1.,  2.,  6., 24.])
    >>> vk.lax.associative_scan(np.add, np.array([1.0, 2.0, 3.0]), reverse=True)
    array([6., 5., 3.])
    """
    require_function("associative_scan", fn)
    leaves, tree = array_leaves("associative_scan", "elems", elems)
    paths = flatten_with_path(elems)[0]
    lengths = {}
    for (path, _), x in zip(paths, leaves, strict=True):
        ndim = len(aval_of(x).shape)
        if not -ndim <= axis < ndim:
            raise ValueError(
                f"associative_scan: {keystr(path) or 'elems'} has "
                f"{counted(ndim, 'axis', 'axes')}, so there is no axis "
                f"{axis}{at(calling_position())}"
            )
        lengths[keystr(path) or "elems"] = aval_of(x).shape[axis]
    if len(set(lengths.values())) > 1:
        words = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ValueError(
            f"associative_scan: slices along axis {axis} disagree: {words}{at(calling_position())}"
        )
    moved = [np.moveaxis(x, axis, 0) for x in leaves]
    if reverse:
        moved = [x[::-1] for x in moved]

    def combined(a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
        first, second = (tree.unflatten([np.moveaxis(x, 0, axis) for x in xs]) for xs in (a, b))
        out, found = flatten(fn(first, second))
        if found != tree:
            raise TypeError(
                f"associative_scan: {name_of(fn)} returned the tree {found}, but elems has {tree}"
                f"{at(calling_position())}.\nReturn a tree like its arguments."
            )
        for y, x, (path, _) in zip(out, flatten(first)[0], paths, strict=True):
            if np.shape(y) != np.shape(x):
                raise ValueError(
                    f"associative_scan: {name_of(fn)} returned shape {np.shape(y)} at "
                    f"{keystr(path) or 'elems'} for slices of shape {np.shape(x)}"
                    f"{at(calling_position())}.\nCombine slices element by element along the axis."
                )
        return [np.moveaxis(y, axis, 0) for y in out]

    out = _scanned(combined, moved)
    if reverse:
        out = [y[::-1] for y in out]
    return tree.unflatten([np.moveaxis(y, 0, axis) for y in out])


def _scanned(fn: Callable[..., list[Value]], xs: list[Value]) -> list[Value]:
    """Partial results along the first axis: of pairs first, then of what lies between."""
    n = aval_of(xs[0]).shape[0] if xs else 0
    if n < 2:
        return [x * 1 if aval_of(x).dtype.kind != "b" else x for x in xs]
    odd = _scanned(fn, fn([x[: n - 1 : 2] for x in xs], [x[1::2] for x in xs]))
    if n == 2:
        return [np.concatenate([x[:1], o]) for x, o in zip(xs, odd, strict=True)]
    rest = [x[2::2] for x in xs]
    count = aval_of(rest[0]).shape[0]
    even = fn([o[:count] for o in odd], rest)
    even = [np.concatenate([x[:1], e]) for x, e in zip(xs, even, strict=True)]
    return [_interleaved(a, b, n) for a, b in zip(even, odd, strict=True)]


def _interleaved(even: Value, odd: Value, n: int) -> Value:
    """One array from every other slice of two."""
    half = n // 2
    pairs = np.stack([even[:half], odd[:half]], axis=1)
    flat = np.reshape(pairs, (2 * half, *aval_of(even).shape[1:]))
    return flat if n % 2 == 0 else np.concatenate([flat, even[half:]])


def select(pred: Value, on_true: Any, on_false: Any) -> Any:
    """``on_true`` where ``pred``, elsewhere ``on_false``; of one shape, or ``pred`` a scalar.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.select(np.array([True, False]), np.ones(2), np.zeros(2))
    array([1., 0.])
    """
    shapes = [aval_of(x).shape for x in (pred, on_true, on_false)]
    if shapes[1] != shapes[2] or shapes[0] not in ((), shapes[1]):
        raise TypeError(
            f"select: pred, on_true and on_false have the shapes {', '.join(map(str, shapes))}"
            f"{at(calling_position())}.\nThe cases must have one shape, and pred that shape or (); "
            "np.where broadcasts."
        )
    return np.where(pred, on_true, on_false)
