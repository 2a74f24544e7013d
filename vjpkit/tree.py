"""Pytrees under the names of ``jax.tree``.

>>> params = {"w": [1.0, 2.0], "b": 3.0}
>>> map(lambda x: 10 * x, params)
{'b': 30.0, 'w': [10.0, 20.0]}
"""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Any, TypeVar

from vjpkit import pytree as core
from vjpkit.pytree import (
    IsLeaf,
    KeyedLeaves,
    Leaf,
    PyTree,
    PyTreeDef,
    flatten,
    flatten_up_to,
    leaves,
    structure,
)
from vjpkit.pytree import tree_map as map

__all__ = [
    "all",
    "broadcast",
    "flatten",
    "flatten_with_path",
    "leaves",
    "leaves_with_path",
    "map",
    "map_with_path",
    "reduce",
    "reduce_associative",
    "static",
    "structure",
    "transpose",
    "unflatten",
]

T = TypeVar("T")

# Stands for an argument that was not given, where None would be a value like any other.
_MISSING: Any = object()


def unflatten(treedef: PyTreeDef, leaves: Iterable[Leaf]) -> PyTree:
    """The tree of the given structure and leaves: undoes ``flatten``.

    >>> leaves, treedef = flatten({"a": (1, 2), "b": None})
    >>> unflatten(treedef, [10 * leaf for leaf in leaves])
    {'a': (10, 20), 'b': None}
    """
    return treedef.unflatten(leaves)


def flatten_with_path(
    tree: PyTree, is_leaf: Callable[..., bool] | None = None, is_leaf_takes_path: bool = False
) -> tuple[KeyedLeaves, PyTreeDef]:
    """``flatten``, with the key path of every leaf.

    ``is_leaf`` is called with the subtree, or with ``(path, subtree)`` as ``is_leaf_takes_path``
    says.

    >>> pairs, treedef = flatten_with_path({"h": [1.5]})
    >>> pairs
    [((DictKey(key='h'), SequenceKey(idx=0)), 1.5)]
    """
    if is_leaf is None:
        return core.flatten_with_path(tree)
    if is_leaf_takes_path:
        return core.flatten_with_path(tree, is_leaf)
    return core.flatten_with_path(tree, lambda path, x: is_leaf(x))


def leaves_with_path(
    tree: PyTree, is_leaf: Callable[..., bool] | None = None, is_leaf_takes_path: bool = False
) -> KeyedLeaves:
    """The leaves of a tree, each with its key path.

    >>> [(core.keystr(path), leaf) for path, leaf in leaves_with_path({"h": [1.5, 2.5]})]
    [("['h'][0]", 1.5), ("['h'][1]", 2.5)]
    """
    return flatten_with_path(tree, is_leaf, is_leaf_takes_path)[0]


def map_with_path(
    f: Callable[..., Leaf],
    tree: PyTree,
    *rest: PyTree,
    is_leaf: Callable[..., bool] | None = None,
    is_leaf_takes_path: bool = False,
) -> PyTree:
    """``map`` with a function that takes the key path before the leaves.

    >>> map_with_path(lambda path, x: f"{core.keystr(path)}={x}", {"a": 1, "b": [2]})
    {'a': "['a']=1", 'b': ["['b'][0]=2"]}
    """
    pairs, treedef = flatten_with_path(tree, is_leaf, is_leaf_takes_path)
    others = [flatten_up_to(treedef, x, f"map_with_path: tree {i}") for i, x in enumerate(rest, 2)]
    return treedef.unflatten([f(*pair, *row) for pair, *row in zip(pairs, *others)])


def reduce(
    function: Callable[[T, Leaf], T],
    tree: PyTree,
    initializer: T = _MISSING,
    is_leaf: IsLeaf = None,
) -> T:
    """``functools.reduce`` over the leaves.

    >>> reduce(lambda total, x: total + x, {"a": 1, "b": (2, 3)})
    6
    """
    flat = leaves(tree, is_leaf)
    if initializer is _MISSING:
        if not flat:
            raise TypeError("reduce: the tree has no leaves. Pass an initializer to begin with.")
        initializer, *flat = flat
    return functools.reduce(function, flat, initializer)


def reduce_associative(
    operation: Callable[[T, T], T],
    tree: PyTree,
    *,
    identity: T = _MISSING,
    is_leaf: IsLeaf = None,
) -> T:
    """Reduce the leaves in pairs, as a balanced tree: rounding grows with the logarithm.

    >>> reduce_associative(lambda a, b: f"({a}{b})", list("abcd"))
    '((ab)(cd))'
    """
    flat: list[T] = leaves(tree, is_leaf)
    if not flat and identity is _MISSING:
        raise TypeError("reduce_associative: the tree has no leaves. Pass its value as identity.")
    return _halves(flat, operation) if flat else identity


def _halves(flat: list[T], operation: Callable[[T, T], T]) -> T:
    middle = len(flat) // 2
    if not middle:
        return flat[0]
    return operation(_halves(flat[:middle], operation), _halves(flat[middle:], operation))


def all(tree: PyTree, *, is_leaf: IsLeaf = None) -> bool:
    """Whether every leaf is true.

    >>> all({"a": True, "b": [1, 0]})
    False
    """
    return builtins.all(leaves(tree, is_leaf))


def transpose(
    outer_treedef: PyTreeDef, inner_treedef: PyTreeDef | None, pytree_to_transpose: PyTree
) -> PyTree:
    """Turn a tree of trees inside out; TypeError where it is not ``outer`` composed of ``inner``.

    Without ``inner_treedef``, the structure of the first inner tree is taken.

    >>> pairs = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    >>> transpose(structure([0, 0]), structure({"a": 0, "b": 0}), pairs)
    {'a': [1, 3], 'b': [2, 4]}
    """
    try:
        if inner_treedef is None:
            inner_treedef = _first_inner(outer_treedef, pytree_to_transpose)
        whole = outer_treedef.compose(inner_treedef)
        flat = flatten_up_to(whole, pytree_to_transpose, "transpose", exact=True)
    except ValueError as error:
        raise TypeError(str(error)) from None
    width = inner_treedef.num_leaves
    return inner_treedef.unflatten([outer_treedef.unflatten(flat[i::width]) for i in range(width)])


def _first_inner(outer: PyTreeDef, tree: PyTree) -> PyTreeDef:
    inners = flatten_up_to(outer, tree, "transpose")
    if not inners:
        raise TypeError(f"transpose: {outer} has no leaves to look below. Pass inner_treedef.")
    return structure(inners[0])


def broadcast(prefix_tree: PyTree, full_tree: PyTree, is_leaf: IsLeaf = None) -> PyTree:
    """``full_tree`` with every leaf replaced by the leaf of ``prefix_tree`` above it.

    >>> broadcast({"a": 0, "b": 1}, {"a": ("x", "y"), "b": "z"})
    {'a': (0, 0), 'b': 1}
    """
    spread = core.broadcast_prefix(prefix_tree, full_tree, is_leaf, "broadcast")
    return structure(full_tree).unflatten(spread)


def static(**options: Any) -> Any:  # as dataclasses.field, which can be no more precise
    """A dataclass field that is part of the tree's structure, not one of its leaves.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Layer:
    ...     w: float
    ...     activation: str = static(default="tanh")
    >>> flatten(Layer(2.0))
    ([2.0], PyTreeDef(Layer[('tanh',)](w=*)))
    """
    metadata = {"static": True, **(options.pop("metadata", None) or {})}
    return field(metadata=metadata, **options)
