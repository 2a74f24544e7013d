"""Pytrees: nested containers seen as a list of leaves and the structure around them.

The law that everything here keeps: ``treedef.unflatten(leaves) == tree`` whenever
``leaves, treedef = flatten(tree)``; and the leaves of a subtree lie side by side.

Nodes are ``tuple``, ``list``, ``dict`` (children in sorted key order), ``None`` (no children),
``OrderedDict``, ``defaultdict``, namedtuples, dataclasses and whatever is registered. Types are
matched exactly: a subclass of ``list`` or ``dict`` is a leaf until somebody registers it.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields
from types import NoneType
from typing import Any, NamedTuple, TypeAlias

# A tree may be any object at all; these names say which part it plays.
PyTree: TypeAlias = Any
Leaf: TypeAlias = Any
Aux: TypeAlias = Any  # what a node knows besides its children: hashable, compared with ==
KeyPath: TypeAlias = tuple[Hashable, ...]
KeyedLeaves: TypeAlias = list[tuple[KeyPath, Leaf]]
IsLeaf: TypeAlias = Callable[[PyTree], bool] | None
Stop: TypeAlias = Callable[[KeyPath, PyTree], bool]
Trail: TypeAlias = tuple[tuple[PyTree, int], ...]  # a way down, as (node, number of the child)

# ---- key paths ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SequenceKey:
    """The step ``tree[idx]`` into a list or tuple.

    >>> str(SequenceKey(0))
    '[0]'
    """

    idx: int

    def __str__(self) -> str:
        return f"[{self.idx}]"


@dataclass(frozen=True, slots=True)
class DictKey:
    """The step ``tree[key]`` into a mapping.

    >>> str(DictKey("h"))
    "['h']"
    """

    key: Hashable

    def __str__(self) -> str:
        return f"[{self.key!r}]"


@dataclass(frozen=True, slots=True)
class GetAttrKey:
    """The step ``tree.name`` into a namedtuple or dataclass.

    >>> str(GetAttrKey("name"))
    '.name'
    """

    name: str

    def __str__(self) -> str:
        return f".{self.name}"


@dataclass(frozen=True, slots=True)
class FlattenedIndexKey:
    """The step to child number ``key`` of a node that was registered without keys.

    >>> str(FlattenedIndexKey(1))
    '[<flat index 1>]'
    """

    key: int

    def __str__(self) -> str:
        return f"[<flat index {self.key}>]"


KeyEntry: TypeAlias = SequenceKey | DictKey | GetAttrKey | FlattenedIndexKey


def keystr(keys: KeyPath, *, simple: bool = False, separator: str = "") -> str:
    """The text of a key path; ``simple`` leaves out brackets and dots.

    >>> [(path, leaf)], _ = flatten_with_path({"h": [1.5]})
    >>> keystr(path)
    "['h'][0]"
    >>> keystr(path, simple=True, separator="/")
    'h/0'
    """
    return separator.join(_simple(key) if simple else str(key) for key in keys)


def _simple(key: Hashable) -> str:
    return str(getattr(key, key.__match_args__[0]) if isinstance(key, KeyEntry) else key)


# ---- structures --------------------------------------------------------------------------------


class Kind(NamedTuple):
    """How one type of node comes apart and goes together again."""

    cls: type
    flatten: Callable[[PyTree], tuple[Sequence[PyTree], Aux]]
    unflatten: Callable[[Aux, Sequence[PyTree]], PyTree]
    keys: Callable[[PyTree], Iterable[Hashable]]
    names: tuple[str, ...] = ()  # of the children, where the type fixes them


class PyTreeDef:
    """The structure of a tree: immutable, hashable, picklable, compared with ``==``.

    >>> treedef = structure({"w": (1.0, None), "b": 2.0})
    >>> treedef
    PyTreeDef({'b': *, 'w': (*, None)})
    >>> treedef.unflatten(["x", "y"])
    {'b': 'x', 'w': ('y', None)}
    """

    __slots__ = ("_aux", "_children", "_flat", "_kind", "_num_leaves")

    # A constructor without conveniences (`node` has them): one runs for every node flattened.
    def __init__(
        self, kind: Kind, aux: Aux, children: tuple[PyTreeDef, ...], num_leaves: int, flat: bool
    ) -> None:
        self._kind = kind
        self._aux = aux
        self._children = children
        self._num_leaves = num_leaves
        self._flat = flat  # every child is a leaf: the children are a slice of the leaves

    @property
    def num_leaves(self) -> int:
        """How many leaves a tree of this structure has."""
        return self._num_leaves

    @property
    def num_nodes(self) -> int:
        """How many nodes it has, the root and the leaves included."""
        return 1 + sum(child.num_nodes for child in self._children)

    def children(self) -> list[PyTreeDef]:
        """The structures of the root's children."""
        return list(self._children)

    def node_data(self) -> tuple[type, Aux] | None:
        """The root's type and what it knows besides its children; ``None`` for a leaf."""
        return None if self is LEAF else (self._kind.cls, self._aux)

    def unflatten(self, leaves: Iterable[Leaf]) -> PyTree:
        """The tree of this structure with the given leaves; ValueError if they are miscounted."""
        flat = leaves if type(leaves) is list else list(leaves)
        if len(flat) != self._num_leaves:
            came = f"{len(flat)} {'leaf' if len(flat) == 1 else 'leaves'}"
            raise ValueError(
                f"unflatten: got {came}, but {self} has {self._num_leaves}. "
                "Pass one leaf for every *."
            )
        return self._build(flat, 0)

    def _build(self, leaves: list[Leaf], at: int) -> PyTree:
        if self._flat:
            return self._kind.unflatten(self._aux, leaves[at : at + self._num_leaves])
        children = []
        for child in self._children:
            children.append(leaves[at] if child is LEAF else child._build(leaves, at))
            at += child._num_leaves
        return self._kind.unflatten(self._aux, children)

    def flatten_up_to(self, tree: PyTree) -> list[PyTree]:
        """The subtrees of ``tree`` where this structure has leaves.

        >>> structure([0, 0]).flatten_up_to([(1, 2), {"a": 3}])
        [(1, 2), {'a': 3}]
        """
        return flatten_up_to(self, tree)

    def compose(self, inner: PyTreeDef) -> PyTreeDef:
        """This structure with ``inner`` in the place of every leaf.

        >>> structure([0, 0]).compose(structure((0, None)))
        PyTreeDef([(*, None), (*, None)])
        """
        if self is LEAF:
            return inner
        return node(self._kind, self._aux, [child.compose(inner) for child in self._children])

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, PyTreeDef):
            return self is other
        return (
            self._kind.cls is other._kind.cls
            and self._children == other._children
            and _same(self._aux, other._aux, self._kind)
        )

    def __hash__(self) -> int:
        inner = tuple([hash(child) for child in self._children if child is not LEAF])
        return hash((self._kind.cls, self._aux, self._num_leaves, inner))

    def __repr__(self) -> str:
        return f"PyTreeDef({self._text()})"

    def _text(self) -> str:
        kind, parts = self._kind, [child._text() for child in self._children]
        if kind.cls in _BUILTIN:
            return repr(kind.unflatten(self._aux, [_Bare(part) for part in parts]))
        if kind.names:
            parts = [f"{name}={part}" for name, part in zip(kind.names, parts)]
        static = "" if repr(self._aux) in ("None", "()") else f"[{self._aux!r}]"
        return "*" if self is LEAF else f"{kind.cls.__name__}{static}({', '.join(parts)})"

    def __reduce__(self) -> str | tuple[object, ...]:
        return "LEAF" if self is LEAF else (_unpickle, (self._kind.cls, self._aux, self._children))


class _Bare(str):
    """Text that prints without quotes, in the place of a child in its container's repr."""

    __slots__ = ()
    __repr__ = str.__str__


def node(kind: Kind, aux: Aux, children: Iterable[PyTreeDef]) -> PyTreeDef:
    """The structure with this root and these children."""
    subs = tuple(children)
    flat = all(sub is LEAF for sub in subs)
    return PyTreeDef(kind, aux, subs, sum(sub.num_leaves for sub in subs), flat)


def _unpickle(cls: type, aux: Aux, children: tuple[PyTreeDef, ...]) -> PyTreeDef:
    if kind := KINDS[cls]:
        return node(kind, aux, children)
    raise ValueError(f"unpickle: {cls!r} is no node here. Import the module that registers it.")


def _same(aux: Aux, other: Aux, kind: Kind) -> bool:
    try:
        return bool(aux is other or aux == other)
    except ValueError as error:
        text = f"the static data of {kind.cls.__name__} does not compare with == ({error})"
        raise ValueError(f"treedef: {text}. Make arrays children of the node.") from None


# ---- kinds of nodes ----------------------------------------------------------------------------


class _Kinds(dict[type, Kind | None]):
    """The kind of every type met so far, ``None`` for leaves: one look-up is what a leaf costs."""

    def __missing__(self, cls: type) -> Kind | None:
        kind = _infer(cls)
        # Remember a class only where its module does: one made inside a function may die.
        if vars(sys.modules.get(cls.__module__, sys)).get(cls.__name__) is cls:
            return self.setdefault(cls, kind)  # a registration that came in between wins
        return kind


KINDS = _Kinds()
_REGISTERED: dict[type, Kind | None] = {}


def register(cls: type, kind: Kind | None, name: str = "register") -> None:
    """Make the instances of a type nodes of this kind, or leaves (``None``), once and for all."""
    if not isinstance(cls, type):
        raise TypeError(f"{name}: expected a class, got {cls!r}. Pass the type itself.")
    if _REGISTERED.setdefault(cls, kind) is not kind:
        raise ValueError(f"{name}: {cls!r} is registered already. Register it in one place.")
    KINDS[cls] = kind


def _infer(cls: type) -> Kind | None:
    """The kind of a type that nobody registered."""
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        make: Callable[..., PyTree] = getattr(cls, "_make")  # noqa: B009  (mypy sees a bare tuple)
        keys = tuple(map(GetAttrKey, cls._fields))
        return Kind(cls, lambda x: (x, None), lambda _, xs: make(xs), lambda x: keys, cls._fields)
    # Only a class that is itself decorated: a plain subclass may hold more than the fields.
    if "__dataclass_fields__" in vars(cls):
        return attribute_kind(cls, *data_and_meta(cls), lambda **values: _restored(cls, values))
    return None


def data_and_meta(cls: type) -> tuple[list[str], list[str]]:
    """A dataclass's fields: the children, and those marked ``metadata={"static": True}``."""
    static = {field.name: bool(field.metadata.get("static")) for field in fields(cls)}
    return [name for name in static if not static[name]], [name for name in static if static[name]]


def _restored(cls: type, values: dict[str, PyTree]) -> PyTree:
    """An instance with these attributes, made without ``__init__``.

    What ``__post_init__`` checks and converts are the user's values; here come tracers.
    """
    made: PyTree = object.__new__(cls)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def attribute_kind(
    cls: type, data: Iterable[str], meta: Iterable[str], make: Callable[..., PyTree]
) -> Kind:
    """The kind of a class with children in the attributes ``data`` and static ones in ``meta``."""
    names, statics = tuple(data), tuple(meta)
    keys = tuple(map(GetAttrKey, names))
    return Kind(
        cls,
        lambda x: ([getattr(x, n) for n in names], tuple([getattr(x, n) for n in statics])),
        lambda aux, xs: make(**dict(zip(statics, aux)), **dict(zip(names, xs))),
        lambda x: keys,
        names,
    )


class _KeysDoNotSort(ValueError):
    """Raised by a dict that does not know where it is, and again by ``flatten``, which does."""


def _sorted_keys(tree: dict[Any, PyTree]) -> tuple[Hashable, ...]:
    try:
        return tuple(sorted(tree))
    except TypeError as error:
        text = f"the keys {list(tree)} do not sort ({error}). Use keys of one type."
        raise _KeysDoNotSort(text) from None


def _dict_keys(tree: dict[Any, PyTree]) -> Iterable[Hashable]:
    return map(DictKey, _sorted_keys(tree))


def _index_keys(tree: Sequence[PyTree]) -> Iterable[Hashable]:
    return map(SequenceKey, range(len(tree)))


def _flatten_dict(tree: dict[Any, PyTree]) -> tuple[Sequence[PyTree], Aux]:
    keys = _sorted_keys(tree)
    return [tree[key] for key in keys], keys


for _builtin in (
    Kind(tuple, lambda x: (x, None), lambda _, xs: tuple(xs), _index_keys),
    Kind(list, lambda x: (x, None), lambda _, xs: list(xs), _index_keys),
    Kind(dict, _flatten_dict, lambda keys, xs: dict(zip(keys, xs)), _dict_keys),
    Kind(NoneType, lambda x: ((), None), lambda _, xs: None, lambda x: ()),
    Kind(
        OrderedDict,
        lambda x: (tuple(x.values()), tuple(x)),
        lambda keys, xs: OrderedDict(zip(keys, xs)),
        lambda x: map(DictKey, x),
    ),
    Kind(
        defaultdict,
        lambda x: (_flatten_dict(x)[0], (x.default_factory, _sorted_keys(x))),
        lambda aux, xs: defaultdict(aux[0], zip(aux[1], xs)),
        _dict_keys,
    ),
):
    register(_builtin.cls, _builtin)

_BUILTIN = frozenset(_REGISTERED)  # containers whose own repr shows the structure

_LEAF_KIND = Kind(object, lambda x: ((), None), lambda _, xs: xs[0], lambda x: ())
LEAF = PyTreeDef(_LEAF_KIND, None, (), 1, True)

for _cls in (SequenceKey, DictKey, GetAttrKey, FlattenedIndexKey):
    register(_cls, None)


def register_pytree_node(
    nodetype: type,
    flatten_func: Callable[[PyTree], tuple[Iterable[PyTree], Aux]],
    unflatten_func: Callable[[Aux, tuple[PyTree, ...]], PyTree],
    flatten_with_keys_func: Callable[[PyTree], tuple[Iterable[Any], Aux]] | None = None,
) -> None:
    """Make the instances of a type nodes: ``flatten_func`` gives ``(children, aux)``.

    >>> class Interval:
    ...     def __init__(self, lo, hi):
    ...         self.lo, self.hi = lo, hi
    >>> register_pytree_node(
    ...     Interval, lambda i: ((i.lo, i.hi), None), lambda aux, ends: Interval(*ends)
    ... )
    >>> flatten([Interval(1, 2), 3])
    ([1, 2, 3], PyTreeDef([Interval(*, *), *]))
    """

    def flatten(tree: PyTree) -> tuple[Sequence[PyTree], Aux]:
        children, aux = flatten_func(tree)
        return tuple(children), aux

    def keys(tree: PyTree) -> Iterable[Hashable]:
        if flatten_with_keys_func is None:
            return map(FlattenedIndexKey, range(len(flatten(tree)[0])))
        return [key for key, _ in flatten_with_keys_func(tree)[0]]

    kind = Kind(nodetype, flatten, lambda aux, xs: unflatten_func(aux, tuple(xs)), keys)
    register(nodetype, kind, "register_pytree_node")


# ---- one tree ----------------------------------------------------------------------------------


def flatten(tree: PyTree, is_leaf: IsLeaf = None) -> tuple[list[Leaf], PyTreeDef]:
    """The leaves of a tree and its structure; ``is_leaf`` stops the descent where it is true.

    >>> flatten({"b": [3, None], "a": (1, 2)})
    ([1, 2, 3], PyTreeDef({'a': (*, *), 'b': [*, None]}))
    >>> flatten([1, None], is_leaf=lambda x: x is None)
    ([1, None], PyTreeDef([*, *]))
    """
    kind = KINDS[type(tree)]
    if kind is None or (is_leaf is not None and is_leaf(tree)):
        return [tree], LEAF
    leaves: list[Leaf] = []
    try:
        return leaves, _collect(tree, kind, is_leaf, leaves)
    except _KeysDoNotSort:
        flatten_with_path(tree, lambda _, x: is_leaf is not None and is_leaf(x))  # names the path
        raise


def _collect(tree: PyTree, kind: Kind, is_leaf: IsLeaf, leaves: list[Leaf]) -> PyTreeDef:
    """Append the leaves of a node. Every call of a transform pays for this one."""
    children, aux = kind.flatten(tree)
    for child in children:
        if KINDS[type(child)] is not None:
            break
    else:  # leaves only, as in most nodes: no need to go through them one by one
        leaves += children
        size = len(children)
        return PyTreeDef(kind, aux, (LEAF,) * size, size, True)
    start, subs = len(leaves), []
    for child in children:
        child_kind = KINDS[type(child)]
        if child_kind is None or (is_leaf is not None and is_leaf(child)):
            leaves.append(child)
            subs.append(LEAF)
        else:
            subs.append(_collect(child, child_kind, is_leaf, leaves))
    return PyTreeDef(kind, aux, tuple(subs), len(leaves) - start, False)


def flatten_with_path(
    tree: PyTree, stop: Stop = lambda path, x: False
) -> tuple[KeyedLeaves, PyTreeDef]:
    """``flatten``, with the key path of every leaf; ``stop(path, subtree)`` ends the descent.

    >>> pairs, _ = flatten_with_path({"h": [1.5, (2.5,)]})
    >>> [(keystr(path), leaf) for path, leaf in pairs]
    [("['h'][0]", 1.5), ("['h'][1][0]", 2.5)]
    """
    pairs: KeyedLeaves = []
    return pairs, _collect_with_path(tree, (), stop, pairs)


def _collect_with_path(tree: PyTree, path: KeyPath, stop: Stop, pairs: KeyedLeaves) -> PyTreeDef:
    kind = None if stop(path, tree) else KINDS[type(tree)]
    if kind is None:
        pairs.append((path, tree))
        return LEAF
    try:
        children, aux = kind.flatten(tree)
    except _KeysDoNotSort as error:
        raise ValueError(f"flatten: {_place(path)}, {error}") from None
    keyed = zip(kind.keys(tree), children, strict=True)
    return node(kind, aux, [_collect_with_path(x, (*path, key), stop, pairs) for key, x in keyed])


def leaves(tree: PyTree, is_leaf: IsLeaf = None) -> list[Leaf]:
    """The leaves of a tree.

    >>> leaves({"b": 2, "a": [1, None]})
    [1, 2]
    """
    return flatten(tree, is_leaf)[0]


def structure(tree: PyTree, is_leaf: IsLeaf = None) -> PyTreeDef:
    """The structure of a tree.

    >>> structure((1, {"a": 2.0}))
    PyTreeDef((*, {'a': *}))
    """
    return flatten(tree, is_leaf)[1]


# ---- two trees side by side --------------------------------------------------------------------


def flatten_up_to(
    treedef: PyTreeDef, tree: PyTree, name: str = "flatten_up_to", exact: bool = False
) -> list[PyTree]:
    """The subtrees of ``tree`` at the leaves of ``treedef``; ``exact`` wants leaves there too.

    Raises a ValueError that begins with ``name`` and says where the structures part.

    >>> treedef = structure({"a": (0, 0), "b": 0})
    >>> flatten_up_to(treedef, {"a": (1, 2), "b": [3, 4]})
    [1, 2, [3, 4]]
    >>> flatten_up_to(treedef, {"a": [1, 2], "b": 3}, "pullback")
    Traceback (most recent call last):
        ...
    ValueError: pullback: at ['a'], expected a tuple (*, *), got a list [*, *]. Pass a tree of \
the structure {'a': (*, *), 'b': *}.
    """
    if exact and (whole := flatten(tree))[1] == treedef:
        return whole[0]
    subtrees: list[PyTree] = []
    if problem := _match(treedef, tree, (), exact, subtrees):
        raise ValueError(f"{name}: {problem}. Pass a tree of the structure {_short(treedef)}.")
    return subtrees


def _match(due: PyTreeDef, tree: PyTree, trail: Trail, exact: bool, out: list[PyTree]) -> str:
    """Append the subtrees to ``out`` (not if ``exact``); say where and how the tree differs."""
    if due is LEAF and not exact:
        out.append(tree)
        return ""
    kind = _kind(tree)
    children, aux = kind.flatten(tree)
    wanted, came = _level(due._kind, due._aux, due._children), _level(kind, aux, children)
    if wanted != came:
        path = tuple([list(_kind(x).keys(x))[i] for x, i in trail])
        return f"{_place(path)}, {_difference(wanted, came, type(tree))}"
    if due._flat and not exact:
        out.extend(children)
        return ""
    pairs = enumerate(zip(due._children, children))
    problems = (_match(sub, x, (*trail, (tree, i)), exact, out) for i, (sub, x) in pairs)
    return next(filter(None, problems), "")


def _kind(tree: PyTree) -> Kind:
    return KINDS[type(tree)] or _LEAF_KIND


def _level(kind: Kind, aux: Aux, children: Sequence[object]) -> PyTreeDef:
    """A node, with its children blotted out."""
    return PyTreeDef(kind, aux, (LEAF,) * len(children), len(children), True)


def _difference(wanted: PyTreeDef, came: PyTreeDef, cls: type) -> str:
    if cls is dict is wanted._kind.cls:
        missing = [key for key in wanted._aux if key not in came._aux]
        odd = [key for key in came._aux if key not in wanted._aux]
        return f"missing keys {missing}, unexpected keys {odd}"
    got = f"a leaf of type {cls.__name__}" if came._kind is _LEAF_KIND else _outline(came)
    return f"expected {'a leaf' if wanted._kind is _LEAF_KIND else _outline(wanted)}, got {got}"


def _outline(level: PyTreeDef) -> str:
    cls = level._kind.cls
    return f"a {cls.__name__} {_short(level)}" if cls in (tuple, list, dict) else _short(level)


def _short(treedef: PyTreeDef) -> str:
    text = treedef._text()
    return text if len(text) < 160 else f"{text[:156]} ..."


def _place(path: KeyPath) -> str:
    return f"at {keystr(path)}" if path else "at the root"


def tree_map(f: Callable[..., Leaf], tree: PyTree, *rest: PyTree, is_leaf: IsLeaf = None) -> PyTree:
    """``f`` of every leaf, with the corresponding subtrees of ``rest`` as further arguments.

    >>> tree_map(lambda x, y: x + y, {"a": 1, "b": (2, 3)}, {"a": 10, "b": (20, 30)})
    {'a': 11, 'b': (22, 33)}
    """
    first, treedef = flatten(tree, is_leaf)
    others = [flatten_up_to(treedef, x, f"tree_map: tree {i}") for i, x in enumerate(rest, 2)]
    return treedef.unflatten([f(*row) for row in zip(first, *others)])


def broadcast_prefix(
    prefix_tree: PyTree, full_tree: PyTree, is_leaf: IsLeaf = None, name: str = "broadcast_prefix"
) -> list[Leaf]:
    """One leaf of ``prefix_tree`` for every leaf of ``full_tree`` below it.

    >>> broadcast_prefix({"a": 0, "b": 1}, {"a": ("x", "y"), "b": "z"})
    [0, 0, 1]
    >>> broadcast_prefix(None, ["x", "y"], is_leaf=lambda axis: axis is None)
    [None, None]
    """
    prefix, treedef = flatten(prefix_tree, is_leaf)
    subtrees = flatten_up_to(treedef, full_tree, name)
    sizes = [structure(subtree).num_leaves for subtree in subtrees]
    return [leaf for leaf, size in zip(prefix, sizes) for _ in range(size)]
