"""Pytrees: nested containers seen as a list of leaves and the structure around them.

The law that everything here keeps: ``treedef.unflatten(leaves) == tree`` whenever
``leaves, treedef = flatten(tree)``, and the leaves of a subtree lie side by side.

Nodes are ``tuple``, ``list``, ``dict`` (children in sorted key order), ``None`` (no children),
``OrderedDict``, ``defaultdict``, namedtuples, dataclasses and whatever is registered. Types are
matched exactly: a subclass of ``list`` or ``dict`` is a leaf until it is registered.
"""

import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType
from typing import Any, TypeAlias, TypeVar

# ---- types -------------------------------------------------------------------------------------

# A tree may be any object at all; the aliases say which role it plays.
PyTree: TypeAlias = Any
Leaf: TypeAlias = Any
Aux: TypeAlias = Any  # a node's static data: hashable, compared with ==
IsLeaf: TypeAlias = Callable[[PyTree], bool]
KeyPath: TypeAlias = tuple[Hashable, ...]
KeyedChildren: TypeAlias = Iterable[tuple[Hashable, PyTree]]

T = TypeVar("T", bound=type)


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


def keystr(keys: KeyPath, *, simple: bool = False, separator: str = "") -> str:
    """The text of a key path; ``simple`` drops the brackets.

    >>> [(path, _)], _ = flatten_with_path({"h": [1.5]})
    >>> keystr(path)
    "['h'][0]"
    >>> keystr(path, simple=True, separator="/")
    'h/0'
    """
    return separator.join(_simple_key(key) if simple else str(key) for key in keys)


def _simple_key(key: Hashable) -> str:
    match key:
        case SequenceKey(name) | DictKey(name) | GetAttrKey(name) | FlattenedIndexKey(name):
            return str(name)
    return str(key)


# ---- structures --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
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

    def __init__(
        self, kind: Kind, aux: Aux, children: "tuple[PyTreeDef, ...]", num_leaves: int, flat: bool
    ) -> None:
        self._kind = kind
        self._aux = aux
        self._children = children
        self._num_leaves = num_leaves
        self._flat = flat  # every child is a leaf, so a slice of the leaves is the children

    @property
    def num_leaves(self) -> int:
        """How many leaves a tree of this structure has."""
        return self._num_leaves

    @property
    def num_nodes(self) -> int:
        """How many nodes it has, leaves and the root included."""
        return 1 + sum(child.num_nodes for child in self._children)

    def children(self) -> "list[PyTreeDef]":
        """The structures of the root's children."""
        return list(self._children)

    def node_data(self) -> tuple[type, Aux] | None:
        """The root's type and static data; ``None`` for a leaf."""
        return None if self is LEAF else (self._kind.cls, self._aux)

    def unflatten(self, leaves: Iterable[Leaf]) -> PyTree:
        """The tree of this structure with the given leaves; ValueError if they are miscounted."""
        flat = leaves if type(leaves) is list else list(leaves)
        if len(flat) != self._num_leaves:
            raise ValueError(
                f"unflatten: got {len(flat)} leaves, but {self} has {self._num_leaves}. "
                "Pass one leaf for each *."
            )
        return self._build(flat, 0)

    def _build(self, leaves: list[Leaf], at: int) -> PyTree:
        """Rebuild from ``leaves[at:]``."""
        if self._flat:
            return self._kind.unflatten(self._aux, leaves[at : at + self._num_leaves])
        children = []
        for child in self._children:
            children.append(leaves[at] if child is LEAF else child._build(leaves, at))
            at += child._num_leaves
        return self._kind.unflatten(self._aux, children)

    def flatten_up_to(self, tree: PyTree) -> list[PyTree]:
        """The subtrees of ``tree`` where this structure, a prefix of its own, has leaves.

        >>> structure([0, 0]).flatten_up_to([(1, 2), {"a": 3}])
        [(1, 2), {'a': 3}]
        """
        return flatten_up_to(self, tree)

    def compose(self, inner: "PyTreeDef") -> "PyTreeDef":
        """This structure with ``inner`` in the place of every leaf.

        >>> structure([0, 0]).compose(structure((0, None)))
        PyTreeDef([(*, None), (*, None)])
        """
        if self is LEAF:
            return inner
        return node(self._kind, self._aux, [child.compose(inner) for child in self._children])

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, PyTreeDef):
            return NotImplemented
        return (
            self._kind.cls is other._kind.cls
            and self._num_leaves == other._num_leaves
            and self._children == other._children
            and _same_aux(self._kind, self._aux, other._aux)
        )

    def __hash__(self) -> int:
        inner = tuple([hash(child) for child in self._children if child is not LEAF])
        try:
            return hash((self._kind.cls, self._aux, self._num_leaves, inner))
        except TypeError as error:
            raise TypeError(
                f"hash: the static data of {self._kind.cls.__name__} is not hashable ({error}). "
                "Make it hashable, or make it a child of the node."
            ) from None

    def __repr__(self) -> str:
        return f"PyTreeDef({self._text()})"

    def _text(self) -> str:
        cls, aux = self._kind.cls, self._aux
        parts = [child._text() for child in self._children]
        if self is LEAF or cls in _SELF_EXPLAINING:
            return repr(self._kind.unflatten(aux, [_Bare(part) for part in parts or "*"]))
        if self._kind.names:
            parts = [f"{name}={part}" for name, part in zip(self._kind.names, parts)]
        static = "" if aux is None or aux == () else f"[{aux!r}]"
        return f"{cls.__name__}{static}({', '.join(parts)})"

    def __reduce__(self) -> str | tuple[object, ...]:
        if self is LEAF:
            return "LEAF"
        return _unpickle, (self._kind.cls, self._aux, self._children)


class _Bare(str):
    """Text that prints without quotes, to stand for a child in a container's repr."""

    __slots__ = ()
    __repr__ = str.__str__


def node(kind: Kind, aux: Aux, children: Iterable[PyTreeDef]) -> PyTreeDef:
    """The structure with the given root and children."""
    subs = tuple(children)
    count = sum([sub.num_leaves for sub in subs])
    return PyTreeDef(kind, aux, subs, count, all([sub is LEAF for sub in subs]))


def _unpickle(cls: type, aux: Aux, children: tuple[PyTreeDef, ...]) -> PyTreeDef:
    kind = KINDS[cls]
    if kind is None:
        raise ValueError(
            f"unpickle: the treedef has nodes of {cls!r}, which is not registered here. "
            "Import the module that registers it first."
        )
    return node(kind, aux, children)


def _same_aux(kind: Kind, aux: Aux, other: Aux) -> bool:
    if aux is other:
        return True
    try:
        return bool(aux == other)
    except ValueError as error:
        raise ValueError(
            f"treedef: the static data of {kind.cls.__name__} has no plain == ({error}). "
            "Arrays belong among the children of a node."
        ) from None


# ---- the kinds of nodes, by type ---------------------------------------------------------------


class _Kinds(dict[type, Kind | None]):
    """The kind of every type met so far; ``None`` for leaves. Looking up is all a leaf costs."""

    def __missing__(self, cls: type) -> Kind | None:
        kind = _infer(cls)
        # Remember module-level classes only: one made inside a function must be free to die.
        if vars(sys.modules.get(cls.__module__, sys)).get(cls.__name__) is cls:
            return self.setdefault(cls, kind)  # a registration that came in between stands
        return kind


KINDS = _Kinds()
_REGISTERED: dict[type, Kind | None] = {}


def _infer(cls: type) -> Kind | None:
    """The kind of a type that nobody registered."""
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        names = tuple(cls._fields)
        keys = tuple(map(GetAttrKey, names))
        make = cls._make  # type: ignore[attr-defined]  # has _fields, so it is a namedtuple
        return Kind(cls, lambda x: (x, None), lambda _, xs: make(xs), lambda _: keys, names)
    # Only a class that is itself decorated: a plain subclass may hold more than the fields.
    if "__dataclass_fields__" in vars(cls):
        return _record(cls, *_data_and_meta(cls), lambda **values: _restore(cls, values))
    return None


def _data_and_meta(cls: type) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A dataclass's fields: children, and those marked ``metadata={"static": True}``."""
    static = {field.name: bool(field.metadata.get("static")) for field in fields(cls)}
    data = tuple([name for name in static if not static[name]])
    return data, tuple([name for name in static if static[name]])


def _restore(cls: type, values: dict[str, PyTree]) -> PyTree:
    """An instance with these attributes, made without ``__init__``.

    Checks and conversions in ``__post_init__`` are for the user's values, not for tracers.
    """
    made: PyTree = object.__new__(cls)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def _record(
    cls: type, data: tuple[str, ...], meta: tuple[str, ...], make: Callable[..., PyTree]
) -> Kind:
    """The kind of a class whose attributes are its children (data) or static (meta)."""
    keys = tuple(map(GetAttrKey, data))

    def flatten(tree: PyTree) -> tuple[Sequence[PyTree], Aux]:
        return [getattr(tree, name) for name in data], tuple([getattr(tree, n) for n in meta])

    def unflatten(aux: Aux, children: Sequence[PyTree]) -> PyTree:
        return make(**dict(zip(meta, aux)), **dict(zip(data, children)))

    return Kind(cls, flatten, unflatten, lambda _: keys, data)


class _KeysDoNotSort(ValueError):
    """Raised without a path by a dict, and again with one by ``flatten``."""


def _sorted_keys(tree: dict[Hashable, PyTree]) -> tuple[Hashable, ...]:
    try:
        return tuple(sorted(tree))  # type: ignore[type-var]  # the except is for those that don't
    except TypeError as error:
        raise _KeysDoNotSort(
            f"the keys {list(tree)} cannot be sorted ({error}). Use keys of one type"
        ) from None


def _flatten_dict(tree: dict[Hashable, PyTree]) -> tuple[Sequence[PyTree], Aux]:
    keys = _sorted_keys(tree)
    return [tree[key] for key in keys], keys


def _flatten_defaultdict(tree: defaultdict[Hashable, PyTree]) -> tuple[Sequence[PyTree], Aux]:
    children, keys = _flatten_dict(tree)
    return children, (tree.default_factory, keys)


def _index_keys(tree: Sequence[PyTree]) -> Iterable[Hashable]:
    return map(SequenceKey, range(len(tree)))


def _register(function: str, cls: type, kind: Kind | None) -> None:
    if not isinstance(cls, type):
        raise TypeError(f"{function}: expected a class, got {cls!r}. Pass the type itself.")
    if _REGISTERED.setdefault(cls, kind) is not kind:
        raise ValueError(
            f"{function}: {cls!r} is registered already. Register a type once, where it is defined."
        )
    KINDS[cls] = kind


for _kind in (
    Kind(tuple, lambda x: (x, None), lambda _, xs: tuple(xs), _index_keys),
    Kind(list, lambda x: (x, None), lambda _, xs: list(xs), _index_keys),
    Kind(
        dict,
        _flatten_dict,
        lambda keys, xs: dict(zip(keys, xs)),
        lambda x: map(DictKey, _sorted_keys(x)),
    ),
    Kind(NoneType, lambda x: ((), None), lambda _, xs: None, lambda x: ()),
    Kind(
        OrderedDict,
        lambda x: (tuple(x.values()), tuple(x)),
        lambda keys, xs: OrderedDict(zip(keys, xs)),
        lambda x: map(DictKey, x),
    ),
    Kind(
        defaultdict,
        _flatten_defaultdict,
        lambda aux, xs: defaultdict(aux[0], zip(aux[1], xs)),
        lambda x: map(DictKey, _sorted_keys(x)),
    ),
):
    _register("vjpkit", _kind.cls, _kind)

_SELF_EXPLAINING = frozenset(_REGISTERED)  # containers whose own repr shows the structure

LEAF = PyTreeDef(
    Kind(object, lambda x: ((), None), lambda _, xs: xs[0], lambda x: ()), None, (), 1, True
)


# ---- registration ------------------------------------------------------------------------------


def register_pytree_node(
    nodetype: type,
    flatten_func: Callable[[PyTree], tuple[Iterable[PyTree], Aux]],
    unflatten_func: Callable[[Aux, tuple[PyTree, ...]], PyTree],
    flatten_with_keys_func: Callable[[PyTree], tuple[KeyedChildren, Aux]] | None = None,
) -> None:
    """Make instances of a type nodes: ``flatten_func`` gives ``(children, aux)``.

    >>> class Interval:
    ...     def __init__(self, lo, hi):
    ...         self.lo, self.hi = lo, hi
    >>> register_pytree_node(
    ...     Interval, lambda i: ((i.lo, i.hi), None), lambda _, ends: Interval(*ends)
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

    def unflatten(aux: Aux, children: Sequence[PyTree]) -> PyTree:
        return unflatten_func(aux, tuple(children))

    _register("register_pytree_node", nodetype, Kind(nodetype, flatten, unflatten, keys))


def register_dataclass(
    nodetype: T,
    data_fields: Sequence[str] | None = None,
    meta_fields: Sequence[str] | None = None,
    drop_fields: Sequence[str] = (),
) -> T:
    """Make instances of a class nodes, with children ``data_fields`` and static ``meta_fields``.

    Without lists, a dataclass's own fields are taken, static where marked
    ``metadata={"static": True}``. Instances are rebuilt by calling the class. A dataclass
    that nobody registers is a node too, rebuilt field by field without its ``__init__``.

    >>> from dataclasses import dataclass, field
    >>> @register_dataclass
    ... @dataclass
    ... class Layer:
    ...     w: float
    ...     name: str = field(metadata={"static": True})
    >>> flatten(Layer(2.0, "first"))
    ([2.0], PyTreeDef(Layer[('first',)](w=*)))
    """
    if (data_fields is None) != (meta_fields is None):
        raise TypeError(
            f"register_dataclass: got {data_fields=} and {meta_fields=}. Pass both or neither."
        )
    if data_fields is None or meta_fields is None:
        if not is_dataclass(nodetype):
            raise TypeError(
                f"register_dataclass: {nodetype!r} is not a dataclass. "
                "Pass data_fields and meta_fields, or decorate it with @dataclass."
            )
        data_fields, meta_fields = _data_and_meta(nodetype)
    _check_fields(nodetype, data_fields, meta_fields, drop_fields)
    kind = _record(nodetype, tuple(data_fields), tuple(meta_fields), nodetype)
    _register("register_dataclass", nodetype, kind)
    return nodetype


def _check_fields(cls: type, data: Sequence[str], meta: Sequence[str], drop: Sequence[str]) -> None:
    given = {*data, *meta}
    if len(given) != len(data) + len(meta):
        raise ValueError(
            f"register_dataclass: data_fields {list(data)} and meta_fields {list(meta)} of "
            f"{cls.__name__} name a field twice. List each field once."
        )
    if not is_dataclass(cls):
        return
    wanted = {field.name for field in fields(cls) if field.init} - set(drop)
    if given != wanted:
        raise ValueError(
            f"register_dataclass: the fields of {cls.__name__} that its __init__ takes are "
            f"{sorted(wanted)}, but data_fields and meta_fields have {sorted(given)}. "
            "Name all of them, or put those to leave out into drop_fields."
        )


def register_leaf(cls: T) -> T:
    """Keep instances of a dataclass or namedtuple type whole: leaves, not nodes.

    >>> from dataclasses import dataclass
    >>> @register_leaf
    ... @dataclass
    ... class Shape:
    ...     dims: tuple
    >>> structure([Shape((2, 3))])
    PyTreeDef([*])
    """
    _register("register_leaf", cls, None)
    return cls


for _key in (SequenceKey, DictKey, GetAttrKey, FlattenedIndexKey, Kind):
    register_leaf(_key)


# ---- flatten -----------------------------------------------------------------------------------


def flatten(tree: PyTree, is_leaf: IsLeaf | None = None) -> tuple[list[Leaf], PyTreeDef]:
    """The leaves of a tree and its structure; ``is_leaf`` stops the descent where it is true.

    >>> flatten({"b": [3, None], "a": (1, 2)})
    ([1, 2, 3], PyTreeDef({'a': (*, *), 'b': [*, None]}))
    >>> flatten([1, None], is_leaf=lambda x: x is None)
    ([1, None], PyTreeDef([*, *]))
    """
    if is_leaf is not None:
        pairs, treedef = flatten_with_path(tree, is_leaf)
        return [leaf for _, leaf in pairs], treedef
    kind = KINDS[type(tree)]
    if kind is None:
        return [tree], LEAF
    leaves: list[Leaf] = []
    try:
        return leaves, _collect(tree, kind, leaves)
    except _KeysDoNotSort:
        flatten_with_path(tree)  # raises again, and knows the path
        raise


def _collect(tree: PyTree, kind: Kind, leaves: list[Leaf]) -> PyTreeDef:
    """Append the leaves of a node. Every call of a transform pays for this one."""
    children, aux = kind.flatten(tree)
    if not any(map(_kind_of, map(type, children))):
        leaves += children
        size = len(children)
        return PyTreeDef(kind, aux, (LEAF,) * size, size, True)
    start = len(leaves)
    subs = []
    for child in children:
        child_kind = KINDS[type(child)]
        if child_kind is None:
            leaves.append(child)
            subs.append(LEAF)
        else:
            subs.append(_collect(child, child_kind, leaves))
    return PyTreeDef(kind, aux, tuple(subs), len(leaves) - start, False)


_kind_of = KINDS.__getitem__


def flatten_with_path(
    tree: PyTree, is_leaf: Callable[..., bool] | None = None, is_leaf_takes_path: bool = False
) -> tuple[list[tuple[KeyPath, Leaf]], PyTreeDef]:
    """``flatten``, with the key path of every leaf.

    >>> pairs, _ = flatten_with_path({"h": [1.5, (2.5,)]})
    >>> [(keystr(path), leaf) for path, leaf in pairs]
    [("['h'][0]", 1.5), ("['h'][1][0]", 2.5)]
    """
    pairs: list[tuple[KeyPath, Leaf]] = []

    def stop(path: KeyPath, node: PyTree) -> bool:
        if is_leaf is None:
            return False
        return is_leaf(path, node) if is_leaf_takes_path else is_leaf(node)

    return pairs, _collect_with_path(tree, (), stop, pairs)


def _collect_with_path(
    tree: PyTree,
    path: KeyPath,
    stop: Callable[[KeyPath, PyTree], bool],
    pairs: list[tuple[KeyPath, Leaf]],
) -> PyTreeDef:
    kind = None if stop(path, tree) else KINDS[type(tree)]
    if kind is None:
        pairs.append((path, tree))
        return LEAF
    try:
        children, aux = kind.flatten(tree)
    except _KeysDoNotSort as error:
        raise ValueError(f"flatten: {_place(path)}, {error}.") from None
    keyed = zip(kind.keys(tree), children, strict=True)
    subs = [_collect_with_path(child, (*path, key), stop, pairs) for key, child in keyed]
    return node(kind, aux, subs)


def unflatten(treedef: PyTreeDef, leaves: Iterable[Leaf]) -> PyTree:
    """The tree of the given structure and leaves: undoes ``flatten``.

    >>> leaves, treedef = flatten({"a": (1, 2), "b": None})
    >>> unflatten(treedef, [10 * leaf for leaf in leaves])
    {'a': (10, 20), 'b': None}
    """
    return treedef.unflatten(leaves)


def leaves(tree: PyTree, is_leaf: IsLeaf | None = None) -> list[Leaf]:
    """The leaves of a tree.

    >>> leaves({"b": 2, "a": [1, None]})
    [1, 2]
    """
    return flatten(tree, is_leaf)[0]


def structure(tree: PyTree, is_leaf: IsLeaf | None = None) -> PyTreeDef:
    """The structure of a tree.

    >>> structure((1, {"a": 2.0}))
    PyTreeDef((*, {'a': *}))
    """
    return flatten(tree, is_leaf)[1]


# ---- two trees at a time -----------------------------------------------------------------------

# The way back to the root, for messages only: (the way to the parent, the parent, child number).
Trail: TypeAlias = "tuple[Trail, PyTree, int] | None"


def flatten_up_to(
    treedef: PyTreeDef, tree: PyTree, *, name: str = "flatten_up_to", exact: bool = False
) -> list[PyTree]:
    """The subtrees of ``tree`` at the leaves of ``treedef``; ``exact`` wants leaves there too.

    Raises a ValueError that begins with ``name`` and says where the structures part.

    >>> treedef = structure({"a": (0, 0), "b": 0})
    >>> flatten_up_to(treedef, {"a": (1, 2), "b": [3, 4]})
    [1, 2, [3, 4]]
    >>> flatten_up_to(treedef, {"a": [1, 2], "b": 3}, name="pullback")
    Traceback (most recent call last):
        ...
    ValueError: pullback: at ['a'], expected a tuple (*, *), got a list [*, *]. Pass a tree with \
the structure {'a': (*, *), 'b': *}.
    """
    matching = _Matching(treedef, name, exact, [])
    matching.descend(treedef, tree, None)
    return matching.subtrees


@dataclass(frozen=True, slots=True)
class _Matching:
    """One walk through a tree, side by side with the structure it should have."""

    root: PyTreeDef
    name: str
    exact: bool
    subtrees: list[PyTree]

    def descend(self, wanted: PyTreeDef, tree: PyTree, trail: Trail) -> None:
        kind = KINDS[type(tree)] or LEAF._kind
        if wanted is LEAF and (kind is LEAF._kind or not self.exact):
            self.subtrees.append(tree)
            return
        children, aux = kind.flatten(tree)
        if (
            kind.cls is not wanted._kind.cls
            or len(children) != len(wanted._children)
            or not _same_aux(kind, aux, wanted._aux)
        ):
            raise ValueError(self.complaint(wanted, tree, trail))
        for i, (sub, child) in enumerate(zip(wanted._children, children)):
            self.descend(sub, child, (trail, tree, i))

    def complaint(self, wanted: PyTreeDef, tree: PyTree, trail: Trail) -> str:
        kind = KINDS[type(tree)] or LEAF._kind
        children, aux = kind.flatten(tree)
        came = _outline(kind, aux, len(children))
        if kind is LEAF._kind:
            came += f" of type {type(tree).__name__}"
        if kind.cls is dict is wanted._kind.cls:
            lost = [key for key in wanted._aux if key not in aux]
            came += f" (missing {lost}, unexpected {[k for k in aux if k not in wanted._aux]})"
        return (
            f"{self.name}: {_place(_path(trail))}, expected "
            f"{_outline(wanted._kind, wanted._aux, len(wanted._children))}, got {came}. "
            f"Pass a tree with the structure {_short(self.root._text())}."
        )


def _path(trail: Trail) -> KeyPath:
    if trail is None:
        return ()
    before, tree, i = trail
    kind = KINDS[type(tree)]
    assert kind is not None, "only nodes have children"
    return (*_path(before), list(kind.keys(tree))[i])


def _place(path: KeyPath) -> str:
    return f"at {keystr(path)}" if path else "at the root"


def _outline(kind: Kind, aux: Aux, size: int) -> str:
    """One level of a structure in words."""
    if kind is LEAF._kind:
        return "a leaf"
    text = _short(node(kind, aux, [LEAF] * size)._text())
    return f"a {kind.cls.__name__} {text}" if kind.cls in (tuple, list, dict) else text


def _short(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."


def tree_map(
    f: Callable[..., Leaf], tree: PyTree, *rest: PyTree, is_leaf: IsLeaf | None = None
) -> PyTree:
    """``f`` of every leaf, with the corresponding subtrees of ``rest`` as further arguments.

    >>> tree_map(lambda x, y: x + y, {"a": 1, "b": (2, 3)}, {"a": 10, "b": (20, 30)})
    {'a': 11, 'b': (22, 33)}
    """
    first, treedef = flatten(tree, is_leaf)
    if not rest:
        return treedef.unflatten([f(leaf) for leaf in first])
    others = [
        flatten_up_to(treedef, other, name=f"tree_map: tree {i}") for i, other in enumerate(rest, 2)
    ]
    return treedef.unflatten([f(*row) for row in zip(first, *others)])


def broadcast_prefix(
    prefix_tree: PyTree,
    full_tree: PyTree,
    is_leaf: IsLeaf | None = None,
    *,
    name: str = "broadcast_prefix",
) -> list[Leaf]:
    """One leaf of ``prefix_tree`` for every leaf of ``full_tree`` below it.

    >>> broadcast_prefix({"a": 0, "b": 1}, {"a": ("x", "y"), "b": "z"})
    [0, 0, 1]
    >>> broadcast_prefix(None, ["x", "y"], is_leaf=lambda axis: axis is None)
    [None, None]
    """
    prefix, treedef = flatten(prefix_tree, is_leaf)
    subtrees = flatten_up_to(treedef, full_tree, name=name)
    sizes = [structure(subtree).num_leaves for subtree in subtrees]
    return [leaf for leaf, size in zip(prefix, sizes) for _ in range(size)]
