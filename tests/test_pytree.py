"""Pytrees: the round trip, what is a node, structures as values, and where two trees part."""

import copy
import dataclasses
import gc
import pickle
import sys
import threading
import weakref
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vjpkit import pytree as tree
from vjpkit.pytree import (
    KINDS,
    LEAF,
    DictKey,
    FlattenedIndexKey,
    GetAttrKey,
    SequenceKey,
    broadcast_prefix,
    flatten,
    flatten_up_to,
    flatten_with_path,
    keystr,
    leaves,
    register,
    register_pytree_node,
    structure,
    tree_map,
)


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass
class Layer:
    w: Any
    b: Any
    activation: str = field(default="tanh", metadata={"static": True})


@dataclass(frozen=True, slots=True)
class Frozen:
    value: Any


class Interval:
    def __init__(self, lo: Any, hi: Any) -> None:
        self.lo, self.hi = lo, hi

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Interval) and (self.lo, self.hi) == (other.lo, other.hi)


class Tagged:
    def __init__(self, tag: Any, value: Any) -> None:
        self.tag, self.value = tag, value


register_pytree_node(
    Interval, lambda i: (iter((i.lo, i.hi)), None), lambda aux, ends: Interval(*ends)
)
register_pytree_node(
    Tagged,
    lambda t: ([t.value], t.tag),
    lambda tag, children: Tagged(tag, *children),
    lambda t: ([(GetAttrKey("value"), t.value)], t.tag),
)

scalars = st.integers() | st.text(max_size=3) | st.floats(allow_nan=False)
keys = st.text(max_size=3) | st.sampled_from(["a", "b", "c"])


def containers(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    dicts = st.dictionaries(keys, children, max_size=4)
    return st.one_of(
        st.lists(children, max_size=4),
        st.lists(children, max_size=4).map(tuple),
        dicts,
        st.dictionaries(st.integers(), children, max_size=3),
        dicts.map(OrderedDict),
        dicts.map(lambda d: defaultdict(list, d)),
        st.builds(Point, children, children),
        st.builds(Layer, children, children, st.sampled_from(["tanh", "relu"])),
        st.builds(Frozen, children),
        st.builds(Interval, children, children),
    )


trees = st.recursive(scalars | st.none(), containers, max_leaves=20)


def replaced(treedef: tree.PyTreeDef, start: int = 0) -> Any:
    """A tree of the structure with numbered leaves."""
    return treedef.unflatten(range(start, start + treedef.num_leaves))


def at(x: Any, path: tree.KeyPath) -> Any:
    """The subtree that a key path leads to."""
    for key in path:
        match key:
            case SequenceKey(step) | DictKey(step):
                x = x[step]
            case GetAttrKey(name):
                x = getattr(x, name)
            case FlattenedIndexKey(i):
                x = (x.lo, x.hi)[i]
    return x


# ---- the laws ----------------------------------------------------------------------------------


@given(trees)
def test_round_trip(x):
    flat, treedef = flatten(x)
    again = treedef.unflatten(flat)
    assert again == x
    assert type(again) is type(x)
    assert len(flat) == treedef.num_leaves
    assert all(a is b for a, b in zip(leaves(again), flat, strict=True))
    assert structure(again) == treedef


@given(trees)
def test_paths_lead_to_the_leaves_in_their_order(x):
    pairs, treedef = flatten_with_path(x)
    assert treedef == structure(x)
    assert all(a is b for (_, a), b in zip(pairs, leaves(x), strict=True))
    assert all(at(x, path) is leaf for path, leaf in pairs)
    texts = [keystr(path) for path, _ in pairs]
    assert len(set(texts)) == len(texts)


@given(trees)
def test_structures_are_values(x):
    treedef = structure(x)
    twin = structure(replaced(treedef))
    assert treedef == twin
    assert hash(treedef) == hash(twin)
    assert repr(treedef) == repr(twin)
    assert pickle.loads(pickle.dumps(treedef)) == treedef
    assert copy.deepcopy(treedef) == treedef
    assert repr(treedef).count("*") >= treedef.num_leaves


@given(trees, trees)
def test_equal_structures_and_only_they_match_exactly(x, y):
    treedef = structure(x)
    if structure(y) == treedef:
        assert flatten_up_to(treedef, y, exact=True) == leaves(y)
    else:
        with pytest.raises(ValueError, match=r"^pullback: at .* Pass a tree of the structure"):
            flatten_up_to(treedef, y, "pullback", exact=True)


@given(trees, trees)
def test_a_structure_is_a_prefix_of_what_it_composes_with(x, y):
    outer, inner = structure(x), structure(y)
    whole = outer.compose(inner)
    assert whole.num_leaves == outer.num_leaves * inner.num_leaves
    subtrees = flatten_up_to(outer, replaced(whole))
    assert all(structure(subtree) == inner for subtree in subtrees)
    assert [leaf for subtree in subtrees for leaf in leaves(subtree)] == [*range(whole.num_leaves)]
    spread = broadcast_prefix(replaced(outer), replaced(whole))
    assert spread == [i for i in range(outer.num_leaves) for _ in range(inner.num_leaves)]


@given(trees)
def test_map(x):
    treedef = structure(x)
    doubled = tree_map(lambda a, b: a + b, replaced(treedef), replaced(treedef))
    assert leaves(doubled) == [2 * i for i in range(treedef.num_leaves)]
    assert structure(doubled) == treedef


@given(trees)
def test_is_leaf_keeps_subtrees_whole(x):
    def is_list(node):
        return isinstance(node, list)

    flat, treedef = flatten(x, is_list)
    pairs, same = flatten_with_path(x, lambda path, node: is_list(node))
    assert treedef == same
    assert all(a is b for (_, a), b in zip(pairs, flat, strict=True))
    assert treedef.unflatten(flat) == x
    assert all(not isinstance(child, list) for child in leaves(x))


# ---- what is a node ----------------------------------------------------------------------------


def test_dicts_flatten_in_sorted_order():
    x, y = {"b": 1, "a": 2}, {"a": 2, "b": 1}
    assert flatten(x) == flatten(y) == ([2, 1], structure(x))
    assert list(structure(x).unflatten([0, 0])) == ["a", "b"]


def test_ordered_dicts_keep_their_order():
    x = OrderedDict(b=1, a=2)
    assert leaves(x) == [1, 2]
    assert structure(x) != structure(OrderedDict(a=2, b=1))
    assert structure(x) != structure(dict(x))


def test_defaultdicts_keep_their_factory():
    x: Any = defaultdict(list, b=1, a=2)
    flat, treedef = flatten(x)
    again = treedef.unflatten(flat)
    assert (flat, again, again.default_factory) == ([2, 1], x, list)
    assert treedef != structure(defaultdict(int, b=1, a=2))


def test_none_is_an_empty_node():
    assert flatten(None) == ([], structure(None))
    assert structure(None).unflatten([]) is None
    assert structure(None) not in (LEAF, structure(()), structure([]))


class MyList(list):
    pass


class MyTuple(tuple):
    pass


class MyDict(dict):
    pass


@pytest.mark.parametrize(
    "leaf",
    [
        *(1, 1.5, "text", b"x", {1, 2}, np.ones(3), np.float64(1), range(3), Ellipsis, object()),
        *(print, Layer, SequenceKey(0), MyList([1]), MyTuple([1]), MyDict(a=1)),
    ],
    ids=lambda leaf: type(leaf).__name__,
)
def test_everything_else_is_a_leaf(leaf):
    flat, treedef = flatten(leaf)
    assert flat[0] is leaf
    assert treedef is LEAF
    assert treedef.unflatten(flat) is leaf
    assert structure([leaf]).num_leaves == 1


def test_namedtuples_are_nodes_whatever_their_constructor():
    class Checked(namedtuple("Checked", "x y")):
        def __new__(cls, x, y):
            assert isinstance(x, float)
            return super().__new__(cls, x, y)

    again = tree_map(lambda leaf: "traced", Checked(1.0, 2.0))
    assert type(again) is Checked
    assert tuple(again) == ("traced", "traced")


def test_results_of_numpy_are_nodes():
    result = np.linalg.slogdet(np.eye(2))
    flat, treedef = flatten(result)
    assert len(flat) == 2
    assert type(treedef.unflatten(flat)) is type(result)


def test_dataclasses_are_nodes_without_registration():
    layer = Layer(1.0, [2.0], "relu")
    flat, treedef = flatten(layer)
    assert flat == [1.0, 2.0]
    assert treedef.unflatten(flat) == layer
    assert treedef != structure(Layer(1.0, [2.0], "tanh"))
    assert repr(treedef) == "PyTreeDef(Layer[('relu',)](w=*, b=[*]))"


def test_dataclasses_are_rebuilt_without_their_constructor():
    @dataclass(frozen=True)
    class Strict:
        x: Any
        scale: dataclasses.InitVar[float]
        total: Any = field(init=False)

        def __new__(cls, x, scale):
            return object.__new__(cls)

        def __post_init__(self, scale):
            if not isinstance(self.x, float):
                raise TypeError("not a float")
            object.__setattr__(self, "total", self.x * scale)

    again = tree_map(lambda leaf: [leaf], Strict(1.5, 2.0))
    assert (again.x, again.total) == ([1.5], [3.0])
    assert type(again) is Strict


def test_a_plain_subclass_of_a_dataclass_is_a_leaf():
    class More(Layer):
        pass

    assert structure(More(1.0, 2.0)) is LEAF


def test_a_type_may_be_registered_after_it_was_met():
    @dataclass
    class Late:
        x: Any

    assert structure(Late(1)).num_leaves == 1
    register(Late, None)
    assert structure(Late(1)) is LEAF


def test_a_registration_wins_against_a_simultaneous_first_meeting(monkeypatch):
    def infer(cls):
        register(Met, tree.Kind(Met, lambda x: ((7,), None), lambda aux, xs: Met(), lambda x: "k"))
        return None

    monkeypatch.setattr(tree, "_infer", infer)
    KINDS.pop(Met, None)
    leaves(Met())
    assert leaves(Met()) == [7]


class Met:
    pass


def test_a_class_made_in_a_function_may_die():
    @dataclass
    class Local:
        x: Any

    class Plain:
        pass

    Pair = namedtuple("Pair", "a b")
    leaves([Local(1), Plain(), Pair(1, 2)])
    alive = [weakref.ref(cls) for cls in (Local, Plain, Pair)]
    del Local, Plain, Pair
    gc.collect()
    assert [ref() for ref in alive] == [None] * 3
    assert float in KINDS


def test_a_registered_type_gets_tuples_back():
    class Probe:
        def __init__(self, children):
            self.children = children

    register_pytree_node(Probe, lambda p: (p.children, None), lambda aux, xs: Probe(xs))
    assert tree_map(lambda x: x, Probe([1, 2])).children == (1, 2)
    assert tree_map(lambda x: x, Probe([1, [2]])).children == (1, [2])


def test_registering_twice_is_an_error():
    with pytest.raises(ValueError, match=r"register_pytree_node: .*Interval.* registered already"):
        register_pytree_node(Interval, lambda i: ((), None), lambda aux, xs: None)
    with pytest.raises(ValueError, match="registered already"):
        register(dict, None)
    assert leaves(Interval(1, 2)) == [1, 2]


def test_only_types_can_be_registered():
    with pytest.raises(TypeError, match=r"expected a class, got 3\. Pass the type itself"):
        register_pytree_node(3, lambda x: ((), None), lambda aux, xs: None)  # type: ignore[arg-type]  # the mistake


def test_many_threads_meet_and_register_types():
    wrong = []

    def work():
        for _ in range(50):

            class Local:
                pass

            register_pytree_node(Local, lambda x: ((1, 2), None), lambda aux, xs: Local())
            if leaves([Local(), Point(3, 4), Layer(5, 6)]) != [1, 2, 3, 4, 5, 6]:
                wrong.append(Local)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- structures --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (1, "*"),
        ((), "()"),
        ((1,), "(*,)"),
        ([1, None, {"b": 1, "a": (2, 3)}], "[*, None, {'a': (*, *), 'b': *}]"),
        (Point(1, [2]), "Point(x=*, y=[*])"),
        (defaultdict(int, a=1), "defaultdict(<class 'int'>, {'a': *})"),
        (Interval(1, 2), "Interval(*, *)"),
        (Tagged("up", (1,)), "Tagged['up']((*,))"),
        (Frozen({}), "Frozen(value={})"),
        ({"it's": 1}, '{"it\'s": *}'),
    ],
)
def test_repr(x, text):
    assert repr(structure(x)) == f"PyTreeDef({text})"


def test_repr_of_an_ordered_dict_is_its_own():
    assert "'b', *" in repr(structure(OrderedDict(b=1))).replace(": ", ", ")


def test_parts_of_a_structure():
    treedef = structure({"a": (1, 2), "b": None})
    assert treedef.node_data() == (dict, ("a", "b"))
    assert treedef.children() == [structure((1, 2)), structure(None)]
    assert (treedef.num_leaves, treedef.num_nodes) == (2, 5)
    assert (LEAF.node_data(), LEAF.children(), LEAF.num_nodes) == (None, [], 1)


def test_structures_cannot_be_changed():
    treedef = structure((1, 2))
    with pytest.raises(AttributeError):
        treedef.num_leaves = 3  # type: ignore[misc]  # the mistake
    with pytest.raises(AttributeError):
        treedef.other = 3  # type: ignore[attr-defined]  # the mistake
    treedef.children().clear()
    assert len(treedef.children()) == 2


def test_structures_differ_from_other_things():
    assert structure(1) != "*"
    assert structure([1]) != structure((1,))
    assert structure([1]) != structure([1, 2])
    assert structure([[1], 2]) != structure([1, [2]])
    assert structure(Point(1, 2)) != structure((1, 2))
    assert len({structure(x) for x in ([1, 2], [3, 4], (1, 2), [1, [2]], [[1], 2])}) == 4


def test_the_leaf_survives_copies():
    assert pickle.loads(pickle.dumps(LEAF)) is LEAF
    assert copy.copy(LEAF) is LEAF
    assert copy.deepcopy(structure([1])).children()[0] is LEAF


def test_unpickling_needs_the_type_to_be_registered(monkeypatch):
    data = pickle.dumps(structure(Interval(1, 2)))
    monkeypatch.setitem(KINDS, Interval, None)
    with pytest.raises(ValueError, match=r"Interval'> is no node here\. Import the module"):
        pickle.loads(data)


def test_miscounted_leaves():
    with pytest.raises(ValueError, match=r"got 1 leaf, but PyTreeDef\(\(\*, \*\)\) has 2"):
        structure((1, 2)).unflatten([1])
    with pytest.raises(ValueError, match="got 2 leaves"):
        LEAF.unflatten([1, 2])
    assert structure((1, [2])).unflatten(iter("ab")) == ("a", ["b"])


def test_static_data_that_does_not_compare():
    x, y = (structure(Tagged(np.ones(2), 1)) for _ in range(2))
    with pytest.raises(ValueError, match=r"static data of Tagged .* Make arrays children"):
        assert x == y
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)


# ---- two trees ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "came", "text"),
    [
        ({"h": [(1, 2)]}, {"h": [(1, 2, 3)]}, "at ['h'][0], expected a tuple (*, *), got a tuple"),
        ([1, 2], (1, 2), "at the root, expected a list [*, *], got a tuple (*, *)"),
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, "at the root, missing keys ['b'], unexpected keys"),
        ([{"a": 1}], [3.5], "at [0], expected a dict {'a': *}, got a leaf of type float"),
        ([1, None], [1, 2], "at [1], expected None, got a leaf of type int"),
        ([Point(1, (2,))], [Point(1, [2])], "at [0].y, expected a tuple (*,), got a list [*]"),
        ([Point(1, 2)], [(1, 2)], "at [0], expected Point(x=*, y=*), got a tuple (*, *)"),
        (Layer([1], 2), Layer(1, 2), "at .w, expected a list [*], got a leaf of type int"),
        (Layer(1, 2), Layer(1, 2, "relu"), "expected Layer[('tanh',)](w=*, b=*), got Layer[('relu"),
        (Interval(1, [2]), Interval(1, 2), "at [<flat index 1>], expected a list"),
        (Tagged(0, [2]), Tagged(0, 2), "at .value, expected a list [*], got a leaf"),
        ({3: {"a": ()}}, {3: {"a": None}}, "at [3]['a'], expected a tuple (), got None"),
        (OrderedDict(a=[1]), OrderedDict(a=1), "at ['a'], expected a list"),
        (defaultdict(None, a=[1]), defaultdict(None, a=1), "at ['a'], expected a list"),
    ],
)
def test_a_mismatch_names_the_path(wanted, came, text):
    with pytest.raises(ValueError, match="tree_map: tree 3: ") as caught:
        tree_map(lambda *xs: xs, wanted, wanted, came)
    assert text in str(caught.value)
    assert f"Pass a tree of the structure {repr(structure(wanted))[10:-1]}." in str(caught.value)
    with pytest.raises(ValueError, match=r"^pullback: ") as exactly:
        flatten_up_to(structure(wanted), came, "pullback", exact=True)
    assert text in str(exactly.value)


def test_only_an_exact_match_minds_deeper_trees():
    treedef = structure([0, 0])
    assert flatten_up_to(treedef, [1, (2, 3)]) == [1, (2, 3)]
    assert flatten_up_to(LEAF, {1: 2, "a": 3}) == [{1: 2, "a": 3}]
    with pytest.raises(ValueError, match=r"at \[1\], expected a leaf, got a tuple \(\*, \*\)"):
        flatten_up_to(treedef, [1, (2, 3)], exact=True)
    with pytest.raises(ValueError, match="at the root, expected a leaf, got None"):
        flatten_up_to(LEAF, None, exact=True)


def test_long_structures_are_cut_short_in_messages():
    with pytest.raises(ValueError, match=r"\[\*, \*, .* \.\.\., got a leaf") as caught:
        flatten_up_to(structure([0] * 1000), 1)
    assert len(str(caught.value)) < 500


def test_prefixes():
    full = ({"a": 1, "b": [2, 3]}, 4)
    assert broadcast_prefix(7, full) == [7, 7, 7, 7]
    assert broadcast_prefix(({"a": 5, "b": 6}, 7), full) == [5, 6, 6, 7]
    assert broadcast_prefix((None, 0), full, lambda x: x is None) == [None, None, None, 0]
    assert broadcast_prefix((None, 0), (None, 1)) == [0]
    with pytest.raises(ValueError, match=r"^vmap: in_axes: at \[0\], expected None, got a dict"):
        broadcast_prefix((None, 0), full, name="vmap: in_axes")
    with pytest.raises(
        ValueError, match=r"at \[1\], expected a list \[\*\], got a leaf of type int"
    ):
        broadcast_prefix((0, [1]), full)


def test_map_calls_in_order_and_lets_errors_pass():
    seen: list[int] = []
    tree_map(seen.append, {"b": 2, "a": [0, 1]})
    assert seen == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        tree_map(lambda x: 1 / x, [1, 0])
    assert tree_map(lambda x, y: (x, y), [1, 2], [(3,), None]) == [(1, (3,)), (2, None)]
    assert tree_map(str, [1, None], is_leaf=lambda x: x is None) == ["1", "None"]


# ---- key paths and errors ----------------------------------------------------------------------


def test_keystr():
    x = {"h": [Layer(1, Interval(2, Tagged(0, 3)))], "g": {1: OrderedDict(z=4)}}
    assert [keystr(path) for path, _ in flatten_with_path(x)[0]] == [
        "['g'][1]['z']",
        "['h'][0].w",
        "['h'][0].b[<flat index 0>]",
        "['h'][0].b[<flat index 1>].value",
    ]
    path = (DictKey("h"), SequenceKey(0), GetAttrKey("name"), FlattenedIndexKey(2), "user")
    assert keystr(path) == "['h'][0].name[<flat index 2>]user"
    assert keystr(path, simple=True, separator="/") == "h/0/name/2/user"
    assert keystr(()) == ""


def test_key_entries_are_values():
    same = {SequenceKey(0), SequenceKey(0), FlattenedIndexKey(0), DictKey(0), DictKey(0)}
    assert len(same) == 3
    assert pickle.loads(pickle.dumps(DictKey("a"))) == DictKey("a")


@pytest.mark.parametrize("is_leaf", [None, lambda x: False], ids=["plain", "is_leaf"])
def test_keys_that_do_not_sort(is_leaf):
    with pytest.raises(
        ValueError, match=r"flatten: at \['h'\]\[1\], the keys \[1, 'a'\]"
    ) as caught:
        flatten({"h": [0, {1: 2, "a": 3}]}, is_leaf)
    assert "Use keys of one type." in str(caught.value)
    with pytest.raises(ValueError, match="flatten: at the root, the keys"):
        leaves(defaultdict(int, {1: 2, "a": 3}))
    assert leaves(OrderedDict([(1, 2), ("a", 3)])) == [2, 3]


def test_a_tree_within_itself_is_an_error():
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(RecursionError):
        flatten(loop)


def test_deep_trees():
    depth = sys.getrecursionlimit() // 4
    x: Any = 1.0
    for _ in range(depth):
        x = [x]
    flat, treedef = flatten(x)
    assert treedef.unflatten(flat) == x
    assert treedef.num_leaves == 1


def test_nothing_waits_for_the_cycle_collector():
    class Leaf:
        pass

    gc.disable()
    try:
        gc.collect()
        x = {"a": [Leaf(), (Leaf(), None)], "b": Layer(Leaf(), Leaf())}
        alive = [weakref.ref(leaf) for leaf in leaves(x)]
        flatten_with_path(x)
        tree_map(lambda a, b: a, x, x)
        flatten_up_to(structure(x), x, exact=True)
        broadcast_prefix(0, x)
        with pytest.raises(ValueError, match="expected"):
            tree_map(lambda a, b: a, x, [x])
        del x
        assert [ref() for ref in alive] == [None] * 4
    finally:
        gc.enable()
