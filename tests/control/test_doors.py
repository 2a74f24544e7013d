"""Doors: the short way into a staged program answers what it knows, and nothing else."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from math import copysign

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.control.doors import MISS

X = np.array([0.3, -1.2, 2.5])
Pair = namedtuple("Pair", ["a", "b"])


@dataclass
class Model:
    w: np.ndarray
    b: float


def opened(f, *args, **kwargs):
    """The function after two calls, and its door."""
    for _ in range(2):
        f(*args, **kwargs)
    assert f.door is not None
    return f.door


def hits(f, *args, **kwargs):
    """Whether the door answers, and as a call does."""
    out = f.door(args, kwargs)
    if out is MISS:
        return False
    wanted = f.fun(*args, **kwargs)
    assert vk.tree_util.tree_structure(out) == vk.tree_util.tree_structure(wanted)
    for a, b in zip(*map(vk.tree_util.tree_leaves, (out, wanted)), strict=True):
        assert type(a) is type(b)
        assert np.array_equal(a, b)
    return True


@pytest.mark.parametrize(
    ("tree", "others"),
    [
        (X, [X[:2], X.astype("f"), X.tolist(), 1.5, np.float64(1.5), X[None], None, (X,)]),
        (1.5, [1, True, np.float64(1.5), np.array(1.5), 1.5j]),
        (np.float32(1.5), [1.5, np.float64(1.5)]),
        ({"w": X, "b": 1.0},
         [{"w": X}, {"w": X, "c": 1.0}, {"w": X, "b": X}, OrderedDict(w=X, b=1.0)]),
        ({"w": X, "b": None}, [{"w": X, "c": None}, {"w": X, "b": 1.0}]),
        ({1: X, 0: 2.0}, [{1: X, 2: 2.0}]),
        ({(0, "a"): X}, [{(0, "b"): X}]),
        ((X, [X, ()]), [(X, [X]), [X, [X, ()]], (X, (X, ())), (X, [X, (X,)])]),
        (Pair(X, None), [(X, None), Pair(X, 1.0), Pair(None, X)]),
        (Model(X, 2.0), [Model(X, 2), Pair(X, 2.0)]),
        (OrderedDict(b=X, a=X), [OrderedDict(a=X, b=X), {"b": X, "a": X}]),
    ],
    ids=["array", "float", "float32", "dict", "none", "numbers", "tuples", "nested", "named",
         "dataclass", "ordered"],
)  # fmt: skip
def test_a_door_knows_trees_shapes_and_dtypes(tree, others):
    f = vk.jit(lambda t: (vk.tree_util.tree_map(lambda x: x * 2, t), [t]))
    opened(f, tree)
    assert hits(f, tree)
    for other in others:
        assert not hits(f, other)
    assert not hits(f)
    assert not hits(f, tree, tree)
    assert not hits(f, tree, t=tree)


def test_a_door_knows_arguments_by_name():
    f = vk.jit(lambda x, *, y, z=1.0: x * y - z)
    opened(f, X, z=2.0, y=3.0)
    assert hits(f, X, y=4.0, z=5.0)
    for words in ({"y": 3.0}, {"y": 3.0, "z": 2}, {"y": 3.0, "w": 2.0}):
        assert not hits(f, X, **words)


@pytest.mark.parametrize(
    ("value", "others"),
    [
        (2, [3, 2.0, True, np.int64(2)]),
        (1, [True, 1.0]),
        (0.0, [-0.0, 0, False]),
        (2.5, [2.0, np.float64(2.5)]),
        ("a", ["b"]),
        ((1, "a"), [(1.0, "a"), (True, "a")]),
        (None, [0]),
    ],
)
def test_static_arguments_are_the_same_value_of_the_same_type(value, others):
    seen = []

    def f(x, s):
        seen.append(s)
        return x if isinstance(s, str | tuple | None) else x * s

    f = vk.jit(f, static_argnums=1)
    door = opened(f, X, value)
    assert door((X, value), {}) is not MISS
    for count, other in enumerate(others, 2):
        assert door((X, other), {}) is MISS
        f(X, other)
        assert f.cache_info().size == count
        assert type(seen[-1]) is type(other)
        assert repr(seen[-1]) == repr(other)
        f(X, value)  # its program is still there


def test_the_sign_of_a_static_zero_is_seen():
    f = vk.jit(lambda x, s: x * s, static_argnames="s")
    for s in (0.0, -0.0, 0.0, 0.0, -0.0, -0.0):
        assert copysign(1.0, f(2.0, s)) == copysign(1.0, s)


def test_results_behind_a_door_are_fresh_and_of_eager_types():
    f = vk.jit(lambda x, s: (x, x, x[1:], s, np.sum(x), x.reshape(3, 1), {"c": 1.5}))
    zero = np.array(2.0)
    opened(f, X, zero)
    out = f(X, zero)
    arrays = [y for y in vk.tree_util.tree_leaves(out) if isinstance(y, np.ndarray)]
    assert len(arrays) == 5
    for i, y in enumerate(arrays):
        assert y.flags.writeable
        assert not any(np.shares_memory(y, other) for other in (X, zero, *arrays[:i]))
    assert [type(y) for y in (out[3], out[4])] == [np.ndarray, np.float64]
    assert type(out[6]["c"]) is float
    equations = vk.jit(f.fun, passes=False)
    opened(equations, X, zero)
    for a, b in zip(*map(vk.tree_util.tree_leaves, (equations(X, zero), out)), strict=True):
        assert type(a) is type(b)
        assert np.array_equal(a, b)


def test_a_door_lets_tracers_pass_by():
    f = vk.jit(lambda x: np.sum(x**3))
    opened(f, X)
    assert np.allclose(vk.grad(f)(X), 3 * X**2)
    assert np.allclose(vk.vmap(f)(np.stack([X, 2 * X])), [f(X), f(2 * X)])
    assert np.allclose(vk.hessian(f)(X), np.diag(6 * X))
    assert hits(f, X)


def test_a_door_closes_when_what_the_function_reads_changes():
    scale = 2.0
    f = vk.jit(lambda x: x * scale)
    door = opened(f, X)
    assert np.array_equal(f(X), 2 * X)
    scale = 3.0
    assert door((X,), {}) is MISS
    assert np.array_equal(f(X), 3 * X)
    assert np.array_equal(f(X), 3 * X)


def test_captured_arrays_are_read_anew_behind_a_door():
    y = np.ones(3)
    f = vk.jit(lambda x: x * y)
    opened(f, X)
    y[:] = 5
    assert np.array_equal(f(X), 5 * X)
    assert hits(f, X)


def test_errors_and_warnings_behind_a_door_are_those_of_the_ordinary_way():
    f = vk.jit(lambda a: np.linalg.inv(a))
    opened(f, np.eye(2))
    with pytest.raises(np.linalg.LinAlgError, match="Singular") as caught:
        f(np.zeros((2, 2)))
    assert any("test_doors.py" in note for note in caught.value.__notes__)
    log = vk.jit(lambda x: np.log(x), backend="numpy")
    opened(log, X[:1])
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        log(np.zeros(1))
    slope = vk.jit(vk.grad(lambda x: np.sum(np.log(x))), backend="numpy")
    opened(slope, X[:1])
    assert slope(np.zeros(1))[0] == np.inf


@pytest.mark.parametrize(
    ("f", "args", "direct"),
    [
        (lambda x: np.sin(x) * x, (X,), True),
        (lambda x, y: (np.sin(x) * y, x + y), (X, 2 * X), True),
        (lambda x, y: (x + y, np.sin(x) * y), (X, 2.0), True),
        (lambda x: np.sum(np.sin(x) * x), (X,), True),
        (lambda x: np.sum(np.sin(x) * x), (np.stack([X, X]),), False),
        (lambda x, y: np.sin(y) * y, (X, 2 * X), False),
        (lambda x: (np.sin(x) * x, x), (X,), False),
        (lambda x, y: x * y + x, (True, X), False),
        (lambda tree: {"a": np.cos(tree["x"]) - tree["x"]}, ({"x": X},), True),
    ],
)  # fmt: skip
def test_a_program_that_is_one_kernel_is_called_directly(f, args, direct):
    pytest.importorskip("llvmlite", reason="the native tier is an extra")
    compiled = vk.jit(f, backend="native")
    opened(compiled, *args)
    assert (compiled.staged_for(args, {}).execute.direct is not None) == direct
    got, want = (vk.tree_util.tree_leaves(g(*args)) for g in (compiled, f))
    for a, b in zip(got, want, strict=True):
        assert type(a) is type(b)
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=1e-14)


def test_every_hit_is_counted():
    f = vk.jit(lambda x: x + 1)
    for _ in range(5):
        f(X)
    assert f.cache_info() == (4, 1, 1)
    f.cache_clear()
    assert f.door is None
