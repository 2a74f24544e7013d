"""The quick doors of forward mode and vmap: each pattern of operands, and what they leave alone."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.kinds import DOORS
from vjpkit.kinds.silence import _entered, _left, restore, silence, silent
from vjpkit.ops.elementwise import arctan2, divide, multiply, power, tanh
from vjpkit.transforms.batch import Batched, Batches
from vjpkit.transforms.forward import Dual, Duals

X = np.array([0.3, 0.7, 1.9])
T = np.array([1.0, -2.0, 0.5])
OTHERS = {
    "float": 2.5,
    "int": 2,
    "scalar": np.float64(2.5),
    "vector": np.array([1.5, 0.4, 2.2]),
    "matrix": np.array([[1.5], [0.4]]),
    "single": np.array([1.5, 0.4, 2.2], np.float32),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("primitive", [multiply, divide, power, arctan2])
@pytest.mark.parametrize("swapped", [False, True])
def test_forward_mode_agrees_with_reverse_mode(primitive, other, swapped):
    def f(x):
        return primitive(other, x) if swapped else primitive(x, other)

    out, t = vk.jvp(f, (X,), (T,))
    assert t.shape == out.shape
    assert t.dtype == out.dtype
    np.testing.assert_array_equal(out, f(X))
    np.testing.assert_allclose(t, vk.jacrev(f)(X) @ T, rtol=1e-12)


def test_both_operands_traced_and_of_two_traces():
    def f(x, y):
        return x * y / (x + y)

    _, t = vk.jvp(f, (X, X + 1), (T, T[::-1]))
    by_x, by_y = vk.jacrev(f, (0, 1))(X, X + 1)
    np.testing.assert_allclose(t, by_x @ T + by_y @ T[::-1], rtol=1e-12)

    def nested(x):
        return vk.jvp(lambda y: np.tanh(x * y) * x, (X,), (T,))[1]

    mixed = vk.jvp(nested, (X,), (T,))[1]
    np.testing.assert_allclose(mixed, vk.jacrev(nested)(X) @ T, rtol=1e-12)


def test_zero_wins_over_an_infinite_partial_unless_strict():
    with np.errstate(divide="ignore"):
        assert vk.jvp(lambda x: np.sqrt(x) * 1.0, (np.zeros(1),), (np.zeros(1),))[1] == 0
        strict = vk.jvp(lambda x: np.sqrt(x), (np.zeros(1),), (np.zeros(1),), strict=True)[1]
        assert np.isnan(strict)
        infinite = vk.jvp(lambda x: x * np.inf, (np.ones(2),), (np.array([0.0, 1.0]),))[1]
        np.testing.assert_array_equal(infinite, [0, np.inf])


def test_a_derivative_never_warns():
    huge = np.array([1e200])
    assert np.isinf(vk.jvp(lambda x: x * 1e200, (np.ones(1),), (huge,))[1])
    assert silent(lambda: np.float64(1) / np.float64(0))() == np.inf
    with pytest.warns(RuntimeWarning):
        np.float64(1) / np.float64(0)


def test_silence_ends_with_an_error_and_with_numpys_own_way_too():
    for hush, loud in ((silence, restore), (_entered, _left)):
        before = np.geterr()
        token = hush()
        assert set(np.geterr().values()) == {"ignore"}
        loud(token)
        assert np.geterr() == before
    with pytest.raises(ValueError, match="hello"):
        silent(raised)("hello")
    assert np.geterr() == before


def raised(message):
    raise ValueError(message)


def test_silence_is_re_entrant_and_serves_threads():
    log = silent(np.log)
    assert silent(lambda x: log(x) - log(x))(np.float64(0)) != 0

    def push(i):
        return vk.jvp(lambda x: np.tanh(np.sin(x) * i), (X,), (T,))[1]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(push, range(40)))
    for i, t in enumerate(together):
        np.testing.assert_array_equal(t, push(i))


def dual():
    return Dual(X, Duals(), T)


def batched():
    return Batched(X, Batches(3))


@pytest.mark.parametrize("make", [dual, batched])
def test_doors_leave_closed_traces_and_foreign_operands_alone(make):
    x = make()
    kind = type(x)
    door = DOORS[kind](multiply)
    assert type(door(x, 2.0)) is kind
    assert type(door(2.0, x)) is kind
    assert door(x, np.array([True])) is None
    assert door(x, np.array([None])) is None
    x.owner.closed = True
    assert door(x, 2.0) is None
    assert DOORS[kind](tanh)(x) is None


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_batches_meet_plain_operands(other):
    examples = np.arange(12.0).reshape(4, 3) + 1

    def f(x):
        return other / x + x * other - np.tanh(x)

    np.testing.assert_allclose(vk.vmap(f)(examples), np.stack([f(x) for x in examples]))


def test_batches_of_unequal_dimensions():
    rows, numbers = np.arange(12.0).reshape(4, 3), np.arange(4.0)
    out = vk.vmap(lambda x, a: a * x + x * a)(rows, numbers)
    np.testing.assert_array_equal(out, 2 * numbers[:, None] * rows)


@pytest.mark.parametrize("inner", [(), (3,), (2, 3)])
@pytest.mark.parametrize("outer", [(), (3,), (2, 3)])
def test_batches_of_two_traces_and_unequal_dimensions(outer, inner):
    xs = np.linspace(0.5, 2.0, 4 * math.prod(outer)).reshape(4, *outer)
    ys = np.linspace(-1.0, 1.0, 5 * math.prod(inner)).reshape(5, *inner)
    fixed = np.arange(6.0).reshape(2, 3)

    def f(x, y):
        return (x * y - y / x, y + fixed, np.arctan2(fixed, x))

    mapped = vk.vmap(lambda x: vk.vmap(lambda y: f(x, y))(ys))(xs)
    for k, out in enumerate(mapped):
        np.testing.assert_array_equal(
            out, np.stack([np.stack([f(x, y)[k] for y in ys]) for x in xs])
        )


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_views_of_results_are_views_wherever_the_batch_lies(axis):
    def written(x):
        y, z = np.sin(x), x * np.arange(1.0, 1.0 + x.shape[1])
        y.ravel()[0] = 5.0
        z.ravel()[1] = 7.0
        return y * z

    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    examples = range(x.shape[axis])
    mapped = vk.vmap(written, in_axes=axis)
    np.testing.assert_array_equal(
        mapped(x), np.stack([written(np.take(x, i, axis)) for i in examples])
    )
    by_loop = lambda x: sum([np.sum(written(np.take(x, i, axis)) ** 2) for i in examples])
    np.testing.assert_allclose(
        vk.grad(lambda x: np.sum(mapped(x) ** 2))(x), vk.grad(by_loop)(x), rtol=1e-13
    )
