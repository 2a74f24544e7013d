"""Pytrees under the names of ``jax.tree_util``: registration, key paths, ``Partial``.

>>> leaves, treedef = tree_flatten({"w": [1.0, 2.0], "b": 3.0})
>>> leaves
[3.0, 1.0, 2.0]
>>> tree_unflatten(treedef, [leaf + 1 for leaf in leaves])
{'b': 4.0, 'w': [2.0, 3.0]}
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from vjpkit.pytree import (
    KINDS,
    LEAF,
    Aux,
    DictKey,
    FlattenedIndexKey,
    GetAttrKey,
    IsLeaf,
    KeyEntry,
    KeyPath,
    Kind,
    PyTree,
    PyTreeDef,
    SequenceKey,
    attribute_kind,
    data_and_meta,
    keystr,
    node,
    register,
    register_pytree_node,
)
from vjpkit.tree import all as tree_all
from vjpkit.tree import broadcast as tree_broadcast
from vjpkit.tree import flatten as tree_flatten
from vjpkit.tree import flatten_with_path as tree_flatten_with_path
from vjpkit.tree import leaves as tree_leaves
from vjpkit.tree import leaves_with_path as tree_leaves_with_path
from vjpkit.tree import map as tree_map
from vjpkit.tree import map_with_path as tree_map_with_path
from vjpkit.tree import reduce as tree_reduce
from vjpkit.tree import reduce_associative as tree_reduce_associative
from vjpkit.tree import structure as tree_structure
from vjpkit.tree import transpose as tree_transpose
from vjpkit.tree import unflatten as tree_unflatten

__all__ = [
    "DictKey",
    "FlattenedIndexKey",
    "GetAttrKey",
    "KeyEntry",
    "KeyPath",
    "Partial",
    "PyTreeDef",
    "SequenceKey",
    "all_leaves",
    "flatten_one_level",
    "flatten_one_level_with_keys",
    "is_tree_node",
    "keystr",
    "register_dataclass",
    "register_leaf",
    "register_pytree_node",
    "register_pytree_node_class",
    "register_pytree_with_keys",
    "register_pytree_with_keys_class",
    "register_static",
    "tree_all",
    "tree_broadcast",
    "tree_flatten",
    "tree_flatten_with_path",
    "tree_leaves",
    "tree_leaves_with_path",
    "tree_map",
    "tree_map_with_path",
    "tree_reduce",
    "tree_reduce_associative",
    "tree_structure",
    "tree_transpose",
    "tree_unflatten",
    "treedef_children",
    "treedef_is_leaf",
    "treedef_tuple",
]

Keyed: TypeAlias = tuple[Hashable, PyTree]


class Node(Protocol):
    """A class that says itself how its instances come apart and go together."""

    def tree_flatten(self) -> tuple[Iterable[PyTree], Aux]: ...

    @classmethod
    def tree_unflatten(cls, aux_data: Any, children: Any, /) -> Any: ...


class KeyedNode(Protocol):
    """A class that also says how to reach its children."""

    def tree_flatten_with_keys(self) -> tuple[Iterable[Keyed], Aux]: ...

    @classmethod
    def tree_unflatten(cls, aux_data: Any, children: Any, /) -> Any: ...


R = TypeVar("R")
T = TypeVar("T", bound=type)
N = TypeVar("N", bound=type[Node])
K = TypeVar("K", bound=type[KeyedNode])

# ---- registration ------------------------------------------------------------------------------


def register_pytree_node_class(cls: N) -> N:
    """Register a class by its methods ``tree_flatten`` and ``tree_unflatten``.

    >>> @register_pytree_node_class
    ... class Interval:
    ...     def __init__(self, lo, hi):
    ...         self.lo, self.hi = lo, hi
    ...     def tree_flatten(self):
    ...         return (self.lo, self.hi), None
    ...     @classmethod
    ...     def tree_unflatten(cls, aux, children):
    ...         return cls(*children)
    >>> tree_map(lambda x: 2 * x, Interval(1, 2)).hi
    4
    """
    register_pytree_node(cls, lambda x: x.tree_flatten(), cls.tree_unflatten)
    return cls


def register_pytree_with_keys(
    nodetype: type,
    flatten_with_keys: Callable[[PyTree], tuple[Iterable[Keyed], Aux]],
    unflatten_func: Callable[[Aux, tuple[PyTree, ...]], PyTree],
    flatten_func: Callable[[PyTree], tuple[Iterable[PyTree], Aux]] | None = None,
) -> None:
    """Register a type with key paths: ``flatten_with_keys`` gives ``((key, child), ...), aux``.

    >>> class Interval:
    ...     def __init__(self, lo, hi):
    ...         self.lo, self.hi = lo, hi
    >>> register_pytree_with_keys(
    ...     Interval,
    ...     lambda i: (((GetAttrKey("lo"), i.lo), (GetAttrKey("hi"), i.hi)), None),
    ...     lambda aux, ends: Interval(*ends),
    ... )
    >>> [keystr(path) for path, _ in tree_leaves_with_path([Interval(1, 2)])]
    ['[0].lo', '[0].hi']
    """

    def without_keys(tree: PyTree) -> tuple[Iterable[PyTree], Aux]:
        children, aux = flatten_with_keys(tree)
        return [child for _, child in children], aux

    register_pytree_node(nodetype, flatten_func or without_keys, unflatten_func, flatten_with_keys)


def register_pytree_with_keys_class(cls: K) -> K:
    """Register a class by its methods ``tree_flatten_with_keys`` and ``tree_unflatten``.

    A method ``tree_flatten`` is used where no keys are wanted.

    >>> @register_pytree_with_keys_class
    ... class Box:
    ...     def __init__(self, inside):
    ...         self.inside = inside
    ...     def tree_flatten_with_keys(self):
    ...         return ((GetAttrKey("inside"), self.inside),), None
    ...     @classmethod
    ...     def tree_unflatten(cls, aux, children):
    ...         return cls(*children)
    >>> tree_leaves_with_path(Box(3))
    [((GetAttrKey(name='inside'),), 3)]
    """
    flatten = (lambda x: x.tree_flatten()) if hasattr(cls, "tree_flatten") else None
    register_pytree_with_keys(
        cls, lambda x: x.tree_flatten_with_keys(), cls.tree_unflatten, flatten
    )
    return cls


def register_dataclass(
    nodetype: T,
    data_fields: Sequence[str] | None = None,
    meta_fields: Sequence[str] | None = None,
    drop_fields: Sequence[str] = (),
) -> T:
    """Make the instances of a class nodes, with children ``data_fields``, static ``meta_fields``.

    Without lists the fields that a dataclass's ``__init__`` takes are used, static where
    ``vk.tree.static`` or ``metadata={"static": True}`` marks them. Instances are rebuilt by
    calling the class. (A dataclass that nobody registers is a node too, of all its fields, and
    rebuilt field by field without ``__init__``.)

    >>> @functools.partial(register_dataclass, data_fields=["w"], meta_fields=["name"])
    ... @dataclass
    ... class Layer:
    ...     w: float
    ...     name: str
    >>> tree_flatten(Layer(2.0, "first"))
    ([2.0], PyTreeDef(Layer[('first',)](w=*)))
    """
    if (data_fields is None) != (meta_fields is None):
        text = f"got {data_fields=} and {meta_fields=}"
        raise TypeError(f"register_dataclass: {text}. Pass both of them, or neither.")
    if data_fields is None or meta_fields is None:
        if not is_dataclass(nodetype):
            text = f"{nodetype!r} is not a dataclass"
            raise TypeError(f"register_dataclass: {text}. Pass data_fields and meta_fields.")
        taken = _taken_by_init(nodetype, drop_fields)
        data, meta = data_and_meta(nodetype)
        data_fields, meta_fields = [x for x in data if x in taken], [x for x in meta if x in taken]
    _check_fields(nodetype, [*data_fields, *meta_fields], drop_fields)
    kind = attribute_kind(nodetype, data_fields, meta_fields, nodetype)
    register(nodetype, kind, "register_dataclass")
    return nodetype


def _taken_by_init(cls: type, drop: Sequence[str]) -> set[str]:
    return {field.name for field in fields(cls) if field.init} - set(drop)


def _check_fields(cls: type, given: list[str], drop: Sequence[str]) -> None:
    """Every field that ``__init__`` takes is named once, or dropped."""
    if twice := sorted({name for name in given if given.count(name) > 1}):
        text = f"data_fields and meta_fields of {cls.__name__} name {twice} twice"
        raise ValueError(f"register_dataclass: {text}. Name each field once.")
    if not is_dataclass(cls):
        return
    wanted = _taken_by_init(cls, drop)
    if missing := sorted(wanted - set(given)):
        text = f"{cls.__name__} has the fields {missing}, not named in data_fields or meta_fields"
        raise ValueError(f"register_dataclass: {text}. Name them, or put them into drop_fields.")
    if odd := sorted(set(given) - wanted):
        text = f"the __init__ of {cls.__name__} takes {sorted(wanted)}, not {odd}"
        raise ValueError(f"register_dataclass: {text}. Name only fields that it takes.")


def register_static(cls: T) -> T:
    """Make the instances of a hashable type part of the structure: nodes without leaves.

    >>> @register_static
    ... class Mode(str): ...
    >>> tree_flatten([1.0, Mode("train")])
    ([1.0], PyTreeDef([*, Mode['train']()]))
    """
    kind = Kind(cls, lambda x: ((), x), lambda instance, xs: instance, lambda x: ())
    register(cls, kind, "register_static")
    return cls


def register_leaf(cls: T) -> T:
    """Keep the instances of a dataclass or namedtuple whole: leaves, not nodes.

    >>> @register_leaf
    ... @dataclass
    ... class Shape:
    ...     dims: tuple
    >>> tree_structure([Shape((2, 3))])
    PyTreeDef([*])
    """
    register(cls, None, "register_leaf")
    return cls


# ---- questions ---------------------------------------------------------------------------------


def all_leaves(iterable: Iterable[PyTree], is_leaf: IsLeaf = None) -> bool:
    """Whether all elements are leaves.

    >>> all_leaves([1, "two"]), all_leaves([1, (2,)])
    (True, False)
    """
    return all(tree_structure(x, is_leaf) is LEAF for x in iterable)


def is_tree_node(typ: type) -> bool:
    """Whether the instances of a type are nodes.

    >>> is_tree_node(dict), is_tree_node(float)
    (True, False)
    """
    return KINDS[typ] is not None


def flatten_one_level(tree: PyTree) -> tuple[Sequence[PyTree], Aux]:
    """The children of a node, and what it knows besides them; ValueError for a leaf.

    >>> flatten_one_level({"b": [1, 2], "a": 3})
    ([3, [1, 2]], ('a', 'b'))
    """
    return _kind_of(tree, "flatten_one_level").flatten(tree)


def flatten_one_level_with_keys(tree: PyTree) -> tuple[Sequence[Keyed], Aux]:
    """The children of a node, each with its key, and what it knows besides them.

    >>> flatten_one_level_with_keys([1, (2, 3)])
    ([(SequenceKey(idx=0), 1), (SequenceKey(idx=1), (2, 3))], None)
    """
    kind = _kind_of(tree, "flatten_one_level_with_keys")
    children, aux = kind.flatten(tree)
    return list(zip(kind.keys(tree), children)), aux


def _kind_of(tree: PyTree, name: str) -> Kind:
    if kind := KINDS[type(tree)]:
        return kind
    raise ValueError(f"{name}: got a leaf, {type(tree)!r}. Pass a node, or register its type.")


def treedef_children(treedef: PyTreeDef) -> list[PyTreeDef]:
    """The structures of the root's children.

    >>> treedef_children(tree_structure([(1, 2), 3]))
    [PyTreeDef((*, *)), PyTreeDef(*)]
    """
    return treedef.children()


def treedef_is_leaf(treedef: PyTreeDef) -> bool:
    """Whether the structure is a single node: a leaf, None or an empty container.

    >>> [treedef_is_leaf(tree_structure(x)) for x in (1, None, (), [1])]
    [True, True, True, False]
    """
    return treedef.num_nodes == 1


def treedef_tuple(treedefs: Iterable[PyTreeDef]) -> PyTreeDef:
    """The structure of a tuple of trees of the given structures.

    >>> treedef_tuple([tree_structure(1), tree_structure([2])])
    PyTreeDef((*, [*]))
    """
    kind = KINDS[tuple]
    assert kind is not None
    return node(kind, None, treedefs)


# ---- Partial -----------------------------------------------------------------------------------


class Partial(functools.partial[R]):
    """``functools.partial`` as a node: its arguments are children, its function is static.

    >>> double = Partial(lambda a, x: a * x, 2.0)
    >>> double(3.0)
    6.0
    >>> tree_map(lambda a: 10 * a, double)(3.0)
    60.0
    """

    def __new__(cls, func: Callable[..., R], /, *args: Any, **keywords: Any) -> Partial[R]:
        # functools.partial would take a partial's arguments over, and make them children.
        whole = _Whole(func) if isinstance(func, functools.partial) else func
        return super().__new__(cls, whole, *args, **keywords)


@dataclass(frozen=True)
class _Whole(Generic[R]):
    """A partial function, to be taken as it is."""

    func: Callable[..., R]

    def __call__(self, *args: Any, **keywords: Any) -> R:
        return self.func(*args, **keywords)


register(
    Partial,
    Kind(
        Partial,
        lambda x: ((x.args, x.keywords), x.func),
        lambda func, xs: Partial(func, *xs[0], **xs[1]),
        lambda x: (GetAttrKey("args"), GetAttrKey("keywords")),
        ("args", "keywords"),
    ),
)
