"""The public names for pytrees: vjpkit.tree and vjpkit.tree_util, as JAX has them."""

import functools
import pickle
from dataclasses import dataclass, field
from typing import Any

import pytest

from vjpkit import tree, tree_util
from vjpkit.tree_util import (
    DictKey,
    GetAttrKey,
    Partial,
    SequenceKey,
    keystr,
    register_dataclass,
    register_leaf,
    register_pytree_node_class,
    register_pytree_with_keys,
    register_pytree_with_keys_class,
    register_static,
)


@register_dataclass
@dataclass
class Model:
    w: Any
    b: Any
    name: str = tree.static(default="model")
    norm: Any = field(init=False, default=None)

    def __post_init__(self):
        self.norm = ("norm of", self.w)


@register_pytree_node_class
class Interval:
    def __init__(self, lo, hi):
        self.lo, self.hi = lo, hi

    def tree_flatten(self):
        return (self.lo, self.hi), None

    @classmethod
    def tree_unflatten(cls, aux, children):
        return cls(*children)


@register_pytree_with_keys_class
class Pair:
    def __init__(self, first, second):
        self.first, self.second = first, second

    def tree_flatten_with_keys(self):
        return ((GetAttrKey("first"), self.first), ("|second", self.second)), "aux"

    @classmethod
    def tree_unflatten(cls, aux, children):
        assert aux == "aux"
        return cls(*children)


def add(x, y):
    return x + y


# ---- names -------------------------------------------------------------------------------------


def test_every_name_of_tree_has_its_twin_in_tree_util():
    for name in set(tree.__all__) - {"static"}:
        assert getattr(tree_util, f"tree_{name}") is getattr(tree, name)


@pytest.mark.parametrize("module", [tree, tree_util], ids=["tree", "tree_util"])
def test_public_names_exist_once(module):
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


def test_the_names_of_jax_are_there():
    jax = pytest.importorskip("jax")
    ours, theirs = set(tree_util.__all__), set(dir(jax.tree_util))
    missing = {name for name in theirs if not name.startswith("_")} - ours - {"default_registry"}
    assert not missing
    assert not {name for name in dir(jax.tree) if not name.startswith("_")} - set(tree.__all__)


# ---- functions over trees ----------------------------------------------------------------------


def test_leaves_with_path():
    x = {"b": [1, None], "a": 2}
    assert tree.leaves_with_path(x) == [
        ((DictKey("a"),), 2),
        ((DictKey("b"), SequenceKey(0)), 1),
    ]
    assert [leaf for _, leaf in tree.leaves_with_path(x, lambda n: n is None)] == [2, 1, None]


def test_is_leaf_may_take_the_path():
    x = {"keep": [1, 2], "open": [3, 4]}
    pairs, treedef = tree.flatten_with_path(
        x, lambda path, node: keystr(path) == "['keep']", is_leaf_takes_path=True
    )
    assert [leaf for _, leaf in pairs] == [[1, 2], 3, 4]
    assert treedef.unflatten([leaf for _, leaf in pairs]) == x


def test_map_with_path():
    x, y = {"a": 1, "b": (2, 3)}, {"a": 10, "b": (20, [30])}
    out = tree.map_with_path(lambda path, *xs: (keystr(path), *xs), x, y)
    assert out == {"a": ("['a']", 1, 10), "b": (("['b'][0]", 2, 20), ("['b'][1]", 3, [30]))}
    with pytest.raises(ValueError, match=r"^map_with_path: tree 2: at \['b'\], expected a tuple"):
        tree.map_with_path(lambda *xs: xs, x, {"a": 1, "b": 2})
    whole = tree.map_with_path(lambda path, x: len(x), [[1, 2]], is_leaf=lambda x: x == [1, 2])
    assert whole == [2]


def test_reduce():
    x = {"a": 1, "b": (2, None, 3)}
    assert tree.reduce(add, x) == 6
    assert tree.reduce(add, x, 10) == 16
    assert tree.reduce(lambda n, leaf: n + 1, x, 0, is_leaf=lambda leaf: leaf is None) == 4
    assert tree.reduce(add, [], 5) == 5
    assert tree.reduce(lambda a, b: None, [1, 2], None) is None
    with pytest.raises(TypeError, match=r"reduce: the tree has no leaves. Pass an initializer"):
        tree.reduce(add, ())


def test_reduce_associative():
    text = tree.reduce_associative(lambda a, b: f"({a}{b})", {"x": "a", "y": ["b", "c"], "z": "d"})
    assert text == "((ab)(cd))"
    assert tree.reduce_associative(add, [*range(101)]) == 5050
    assert tree.reduce_associative(add, [7]) == 7
    assert tree.reduce_associative(add, [], identity=0) == 0
    with pytest.raises(TypeError, match="Pass its value as identity"):
        tree.reduce_associative(add, [])


def test_all():
    assert tree.all({"a": True, "b": [1]})
    assert not tree.all({"a": True, "b": [0]})
    assert tree.all(())
    assert not tree.all([None], is_leaf=lambda x: x is None)


def test_transpose():
    outer, inner = tree.structure([0, 0]), tree.structure({"a": 0, "b": (0, 0)})
    x = [{"a": 1, "b": (2, 3)}, {"a": 4, "b": (5, 6)}]
    wanted = {"a": [1, 4], "b": ([2, 5], [3, 6])}
    assert tree.transpose(outer, inner, x) == wanted
    assert tree.transpose(outer, None, x) == wanted
    assert tree.transpose(inner, outer, wanted) == x
    assert tree.transpose(outer, tree.structure(()), [(), ()]) == ()


def test_transpose_of_something_else():
    outer, inner = tree.structure([0, 0]), tree.structure((0, 0))
    with pytest.raises(
        TypeError, match=r"^transpose: at \[1\], expected a tuple \(\*, \*\), got a"
    ):
        tree.transpose(outer, inner, [(1, 2), (3, 4, 5)])
    with pytest.raises(TypeError, match=r"at \[1\]\[0\], expected a leaf, got a list \[\*\]"):
        tree.transpose(outer, None, [(1, 2), ([3], 4)])
    with pytest.raises(TypeError, match="at the root, expected a list"):
        tree.transpose(outer, None, ((1, 2), (3, 4)))
    with pytest.raises(TypeError, match="Pass inner_treedef"):
        tree.transpose(tree.structure([]), None, [])


def test_broadcast():
    full = {"a": [1, None], "b": (2, {"c": 3})}
    assert tree.broadcast({"a": 0, "b": 1}, full) == {"a": [0, None], "b": (1, {"c": 1})}
    assert tree.broadcast(None, [1], lambda x: x is None) == [None]
    with pytest.raises(ValueError, match=r"^broadcast: at \['b'\], expected a list \[\*\], got"):
        tree.broadcast({"a": 0, "b": [1]}, full)


def test_questions():
    assert tree_util.all_leaves([1, "a", print])
    assert not tree_util.all_leaves([1, None])
    assert tree_util.all_leaves([1, None], is_leaf=lambda x: x is None)
    assert tree_util.is_tree_node(Model)
    assert not tree_util.is_tree_node(int)
    structures = [tree.structure(x) for x in (1, [2], None)]
    whole = tree_util.treedef_tuple(iter(structures))
    assert whole == tree.structure((1, [2], None))
    assert tree_util.treedef_children(whole) == structures
    assert [tree_util.treedef_is_leaf(treedef) for treedef in structures] == [True, False, True]


def test_one_level():
    assert tree_util.flatten_one_level({"b": [1], "a": 2}) == ([2, [1]], ("a", "b"))
    pairs, aux = tree_util.flatten_one_level_with_keys(Pair(1, [2]))
    assert (pairs, aux) == ([(GetAttrKey("first"), 1), ("|second", [2])], "aux")
    with pytest.raises(ValueError, match=r"flatten_one_level: got a leaf, <class 'float'>"):
        tree_util.flatten_one_level(1.0)


# ---- registration ------------------------------------------------------------------------------


def test_registered_dataclasses_are_rebuilt_by_their_constructor():
    flat, treedef = tree.flatten(Model(1, [2], "first"))
    assert flat == [1, 2]
    again = treedef.unflatten([10, 20])
    assert again == Model(10, [20], "first")
    assert again.norm == ("norm of", 10)
    assert treedef != tree.structure(Model(1, [2], "second"))
    assert [keystr(path) for path, _ in tree.leaves_with_path(Model(1, [2]))] == [".w", ".b[0]"]


@dataclass
class Op:
    x: Any
    y: Any
    op: str = "add"
    cache: Any = None


def test_register_dataclass_with_lists():
    register = functools.partial(register_dataclass, data_fields=["y", "x"], meta_fields=("op",))
    assert register(Op, drop_fields=["cache"]) is Op
    flat, treedef = tree.flatten(Op(1, 2, "mul", cache="dropped"))
    assert flat == [2, 1]
    assert treedef.unflatten([20, 10]) == Op(10, 20, "mul")


def test_register_dataclass_takes_plain_classes_with_lists():
    class Plain:
        def __init__(self, x, name):
            self.x, self.name = x, name

    register_dataclass(Plain, ["x"], ["name"])
    again = tree.map(lambda x: 2 * x, Plain(3, "p"))
    assert (again.x, again.name) == (6, "p")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"data_fields": ["x"]}, TypeError, r"Pass both of them, or neither"),
        ({"data_fields": ["x"], "meta_fields": []}, ValueError, r"the fields \['y'\], not named"),
        ({"data_fields": ["x", "y", "z"], "meta_fields": []}, ValueError, r"not \['z'\]"),
        ({"data_fields": ["x", "y"], "meta_fields": ["x"]}, ValueError, r"name \['x'\] twice"),
    ],
)
def test_register_dataclass_checks_the_fields(arguments, error, text):
    @dataclass
    class Two:
        x: Any
        y: Any

    with pytest.raises(error, match=f"^register_dataclass: .*{text}"):
        register_dataclass(Two, **arguments)
    assert tree.leaves(Two(1, 2)) == [1, 2]


def test_register_dataclass_needs_fields():
    with pytest.raises(TypeError, match=r"is not a dataclass\. Pass data_fields and meta_fields"):
        register_dataclass(type("Plain", (), {}))


def test_classes_register_themselves():
    doubled = tree.map(lambda x: 2 * x, [Interval(1, 2), Pair(3, [4])])
    assert (doubled[0].hi, doubled[1].second) == (4, [8])
    paths = [keystr(path) for path, _ in tree.leaves_with_path([Interval(1, 2), Pair(3, [4])])]
    assert paths == ["[0][<flat index 0>]", "[0][<flat index 1>]", "[1].first", "[1]|second[0]"]


def test_a_flatten_function_of_its_own_is_used():
    class Box:
        pass

    register_pytree_with_keys(
        Box,
        lambda x: pytest.fail("keys were not asked for"),
        lambda aux, xs: Box(),
        lambda x: ((1, 2), None),
    )
    assert tree.leaves(Box()) == [1, 2]


def test_static_types_have_no_leaves():
    @register_static
    @dataclass(frozen=True)
    class Mode:
        train: bool

    mode = Mode(True)
    flat, treedef = tree.flatten([1.0, mode])
    assert flat == [1.0]
    assert treedef.unflatten([2.0])[1] is mode
    assert treedef == tree.structure([0, Mode(True)])
    assert treedef != tree.structure([0, Mode(False)])


def test_leaf_types_stay_whole():
    @register_leaf
    @dataclass
    class Shape:
        dims: tuple[int, ...]

    shape = Shape((2, 3))
    assert tree.leaves([shape])[0] is shape


# ---- Partial -----------------------------------------------------------------------------------


def test_partial_is_a_node():
    scaled = Partial(add, 1.0)
    assert scaled(2.0) == 3.0
    tripled = tree.map(lambda x: 3 * x, scaled)
    assert isinstance(tripled, Partial)
    assert tripled(2.0) == 5.0
    assert tree.structure(scaled) == tree.structure(tripled)
    assert tree.structure(scaled) != tree.structure(Partial(max, 1.0))


def test_partial_with_keywords_and_paths():
    p = Partial(add, y={"a": 2}, x=[1])
    assert [keystr(path) for path, _ in tree.leaves_with_path(p)] == [
        ".keywords['x'][0]",
        ".keywords['y']['a']",
    ]
    assert repr(tree.structure(Partial(int, "7", base=8))).startswith(
        "PyTreeDef(Partial[<class 'int'>](args=(*,), keywords={'base': *}))"
    )


def test_partial_of_a_partial_keeps_the_inner_arguments_static():
    inner = functools.partial(add, 1.0)
    outer = Partial(inner, 2.0)
    assert outer() == 3.0
    assert tree.leaves(outer) == [2.0]
    assert tree.structure(outer) == tree.structure(Partial(inner, 5.0))
    assert Partial(Partial(add, 1.0), 2.0)() == 3.0


def test_partial_pickles():
    again = pickle.loads(pickle.dumps(Partial(add, 1.0)))
    assert isinstance(again, Partial)
    assert again(2.0) == 3.0
    nested = pickle.loads(pickle.dumps(Partial(functools.partial(add, 1.0), 2.0)))
    assert nested() == 3.0
