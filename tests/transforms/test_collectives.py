"""Collectives against the unrolled program, in which every example's value is at hand."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.ops.collective import all_gather, psum_scatter

lax: Any = vk.lax
N = 4
X = np.array([[0.4, -0.7, 1.1], [0.9, 0.2, -0.3], [-1.3, 0.5, 0.8], [0.1, 1.7, -0.6]])
W = np.array([0.5, -1.0, 2.0, 0.7])


# Each program, and the same for all examples at once: (n, 3) to (n, ...).
PROGRAMS: dict[str, Any] = {
    "psum": (lambda x: np.sin(x) * lax.psum(x**2, "i"), lambda x: np.sin(x) * np.sum(x**2, axis=0)),
    "pmean": (lambda x: x - lax.pmean(np.exp(x), "i"), lambda x: x - np.mean(np.exp(x), axis=0)),
    "pmax": (lambda x: x * lax.pmax(x[::-1], "i"), lambda x: x * np.max(x[:, ::-1], axis=0)),
    "pmin": (lambda x: x * lax.pmin(x * x, "i"), lambda x: x * np.min(x * x, axis=0)),
    "all_gather": (
        lambda x: np.sin(lax.all_gather(x, "i") @ x),
        lambda x: np.sin(x @ x.T),
    ),
    "all_gather along 1": (
        lambda x: x @ np.tanh(lax.all_gather(x**2, "i", axis=1)),
        lambda x: x @ np.tanh(x**2).T,
    ),
    "all_gather joined": (
        lambda x: np.cumsum(lax.all_gather(x, "i", tiled=True)) * x[0],
        lambda x: np.cumsum(x.ravel()) * x[:, :1],
    ),
    "axis_index": (
        lambda x: x ** (1 + lax.axis_index("i")) * lax.psum(x[0], "i"),
        lambda x: x ** (1 + np.arange(len(x)))[:, None] * np.sum(x[:, 0]),
    ),
    "of what is the same": (
        lambda x: x * lax.psum(2.0, "i") + lax.pmean(np.ones(3), "i") + lax.axis_size("i") * x,
        lambda x: x * 2.0 * len(x) + 1.0 + len(x) * x,
    ),
    "twice": (
        lambda x: x * lax.psum(np.cos(x) * lax.psum(x, "i"), "i"),
        lambda x: x * np.sum(np.cos(x) * np.sum(x, axis=0), axis=0),
    ),
    "normalized": (
        lambda x: (x - lax.pmean(x, "i")) / np.sqrt(lax.pmean((x - lax.pmean(x, "i")) ** 2, "i")),
        lambda x: (x - x.mean(0)) / x.std(0),
    ),
}
PROGRAMS["softmax"] = (
    lambda x: np.exp(x - lax.pmax(x, "i")) / lax.psum(np.exp(x - lax.pmax(x, "i")), "i"),
    lambda x: np.exp(x) / np.sum(np.exp(x), axis=0),
)

PROGRAMS["ppermute"] = (
    lambda x: np.sin(lax.ppermute(x * x, "i", [(0, 2), (2, 1), (3, 0)])) * x,
    lambda x: np.sin(np.stack([x[3], x[2], x[0], 0 * x[0]]) ** 2) * x,
)
PROGRAMS["pshuffle"] = (
    lambda x: lax.pshuffle(np.exp(x), "i", [3, 0, 1, 2]) * x,
    lambda x: np.exp(x[np.array([3, 0, 1, 2])]) * x,
)
PROGRAMS["all_to_all"] = (
    lambda x: np.cumsum(lax.all_to_all(np.outer(x[:2], np.append(x, x[0])), "i", 1, 0)) * x[0],
    lambda x: (
        np.cumsum(
            np.reshape(
                (x[:, :2, None] * x[:, None, [0, 1, 2, 0]]).transpose(2, 0, 1), (len(x), -1)
            ),
            1,
        )
        * x[:, :1]
    ),
)


def pieces(x):
    """Eight numbers of each example, the last axis the one that changes quickest."""
    return np.reshape(x[..., [0, 1, 2, 1], None] * x[..., None, :2], (*x.shape[:-1], 8))


PROGRAMS["all_to_all tiled"] = (
    lambda x: np.cumsum(lax.all_to_all(pieces(x)[:, None], "i", 0, 1, tiled=True)),
    lambda x: np.cumsum(
        pieces(x).reshape(len(x), 4, 2).transpose(1, 2, 0).reshape(len(x), -1), axis=1
    ),
)
PROGRAMS["psum_scatter"] = (
    lambda x: np.sin(lax.psum_scatter(np.append(x, x[0]) ** 2, "i")) * x,
    lambda x: np.sin(np.sum(x[:, [0, 1, 2, 0]] ** 2, axis=0))[:, None] * x,
)
PROGRAMS["pswapaxes"] = (
    lambda x: np.sin(lax.pswapaxes(np.append(x, x[0]), "i", 0)) * x[1],
    lambda x: np.sin(x[:, [0, 1, 2, 0]].T) * x[:, 1:2],
)

KEEPERS: dict[str, Any] = {
    "vmap": lambda f: vk.vmap(f, axis_name="i"),
    "jit of vmap": lambda f: vk.jit(vk.vmap(f, axis_name="i")),
    "vmap of jit": lambda f: vk.vmap(vk.jit(f), axis_name="i"),
    "vmap of checkpoint": lambda f: vk.vmap(vk.checkpoint(f), axis_name="i"),
    "vmap of checkpoint with a policy": lambda f: vk.vmap(
        vk.checkpoint(f, policy=vk.checkpoint_policies.nothing_saveable), axis_name="i"
    ),
    "vmap of a custom rule": lambda f: vk.vmap(_with_own_rule(f), axis_name="i"),
    "vmap of scan": lambda f: vk.vmap(
        lambda x: lax.scan(lambda c, _: (c, f(x)), 0.0, length=2)[1][1], axis_name="i"
    ),
    "vmap of cond": lambda f: vk.vmap(
        lambda x: lax.cond(x[0] > 0.2, f, lambda x: f(x * 1.0), x), axis_name="i"
    ),
}
DERIVATIVES: dict[str, Any] = {
    "value": lambda f: f,
    "grad": lambda f: vk.grad(lambda x: np.sum(np.tanh(f(x)))),
    "jvp": lambda f: lambda x: vk.jvp(f, (x,), (np.cos(X),))[1],
    "jet": lambda f: lambda x: np.stack(vk.jet(f, (x,), ([np.cos(X), X],))[1]),
    "grad of grad": lambda f: vk.grad(
        lambda x: np.sum(vk.grad(lambda x: np.sum(np.tanh(f(x))))(x) ** 2)
    ),
    "jvp of grad": lambda f: (
        lambda x: vk.jvp(vk.grad(lambda x: np.sum(np.tanh(f(x)))), (x,), (np.cos(X),))[1]
    ),
}


def _with_own_rule(f):
    g = vk.custom_vjp(lambda x: f(x))
    g.defvjp(lambda x: vk.vjp(f, x), lambda pullback, ct: pullback(ct))
    return g


def assert_equal(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("derivative", DERIVATIVES)
@pytest.mark.parametrize("keeper", KEEPERS)
def test_derivatives_are_those_of_the_unrolled_program(keeper, derivative, name):
    f, unrolled = PROGRAMS[name]
    d = DERIVATIVES[derivative]
    assert_equal(d(KEEPERS[keeper](f))(X), d(unrolled)(X))


@pytest.mark.parametrize("name", PROGRAMS)
def test_reverse_mode_per_example_is_that_of_the_sum_of_all_results(name):
    """As in JAX: cotangents of all examples arrive together."""
    f, unrolled = PROGRAMS[name]
    want = vk.grad(lambda x: np.sum(np.tanh(unrolled(x))))(X)
    inside = lambda f: vk.grad(lambda x: np.sum(np.tanh(f(x))))
    assert_equal(vk.vmap(inside(f), axis_name="i")(X), want)
    assert_equal(vk.jit(vk.vmap(inside(f), axis_name="i"))(X), want)
    assert_equal(vk.vmap(inside(vk.jit(f)), axis_name="i")(X), want)
    assert_equal(vk.vmap(vk.jit(inside(f)), axis_name="i")(X), want)


@pytest.mark.parametrize("name", PROGRAMS)
def test_second_derivatives_per_example(name):
    f, unrolled = PROGRAMS[name]
    gradient = lambda f: vk.grad(lambda x: np.sum(np.tanh(f(x))))
    again = lambda f: vk.grad(lambda x: np.sum(np.sin(gradient(f)(x))))
    assert_equal(vk.vmap(again(f), axis_name="i")(X), again(unrolled)(X))


@pytest.mark.parametrize("name", PROGRAMS)
def test_forward_mode_per_example_is_that_of_all(name):
    f, unrolled = PROGRAMS[name]
    pushed = vk.vmap(lambda x, t: vk.jvp(f, (x,), (t,))[1], axis_name="i")(X, np.cos(X))
    assert_equal(pushed, vk.jvp(unrolled, (X,), (np.cos(X),))[1])


def test_shared_arguments_get_the_sum():
    loss = lambda w, x: np.sum(np.sin(w * x) / lax.psum(np.exp(w), "i"))
    mapped = lambda w: np.sum(vk.vmap(loss, (None, 0), axis_name="i")(w, X))
    unrolled = lambda w: sum(np.sum(np.sin(w * x) / (N * np.exp(w))) for x in X)
    for d in (vk.grad, lambda f: vk.grad(lambda w: np.sum(vk.grad(f)(w) ** 2))):
        assert_equal(d(mapped)(W[:3]), d(unrolled)(W[:3]))
        assert_equal(vk.jit(d(mapped))(W[:3]), d(unrolled)(W[:3]))


def test_two_axes():
    f = lambda x: x * lax.psum(x**2, "i") + lax.psum(x, "j") * lax.axis_index("j")
    both = vk.vmap(vk.vmap(f, axis_name="j"), axis_name="i")
    unrolled = lambda x: x * np.sum(x**2, axis=0) + np.sum(x, axis=1)[:, None] * np.arange(3)
    for d in DERIVATIVES.values():
        assert_equal(d(both)(X), d(unrolled)(X))
        assert_equal(vk.jit(d(both))(X), d(unrolled)(X))
    crossed = vk.vmap(vk.vmap(f, 0, axis_name="i"), 1, 1, axis_name="j")
    assert_equal(crossed(X), unrolled(X))
    total = vk.vmap(vk.vmap(lambda x: x / lax.psum(x, ("i", "j")), axis_name="j"), axis_name="i")
    assert_equal(total(X), X / np.sum(X))
    mean = vk.vmap(vk.vmap(lambda x: lax.pmean(x, ["i", "j"]), axis_name="j"), axis_name="i")
    assert_equal(mean(X), np.full_like(X, X.mean()))
    largest = vk.vmap(vk.vmap(lambda x: lax.pmax(x, ("i", "j")), axis_name="j"), axis_name="i")
    assert_equal(largest(X), np.full_like(X, X.max()))
    size = vk.vmap(lambda r: vk.vmap(lambda x: x * lax.axis_size(("i", "j")), axis_name="j")(r),
                   axis_name="i")  # fmt: skip
    assert_equal(size(X), 12 * X)


@pytest.mark.parametrize("axis", [0, 1])
def test_gathering_over_the_outermost_of_three_axes(axis):
    x = np.sin(np.arange(48.0)).reshape(N, 2, 3, 2)
    weighted = lambda all_x: np.tensordot(np.tanh(all_x), W, (axis, 0))
    f = lambda x: weighted(lax.all_gather(x, "i", axis=axis)) * x
    mapped = vk.vmap(vk.vmap(vk.vmap(f), axis_name="j"), axis_name="i")
    unrolled = lambda x: np.tensordot(W, np.tanh(x), (0, 0)) * x
    for d in (DERIVATIVES["value"], DERIVATIVES["grad"], DERIVATIVES["grad of grad"]):
        assert_equal(d(mapped)(x), d(unrolled)(x))
        assert_equal(vk.jit(d(mapped))(x), d(unrolled)(x))


def test_gathering_what_all_examples_share():
    f = lambda w, x: W @ np.sin(lax.all_gather(w, "i") * x)
    mapped = lambda w: np.sum(vk.vmap(f, (None, 0), axis_name="i")(w, X))
    unrolled = lambda w: np.sum(W) * np.sum(np.sin(w * X))
    for d in (DERIVATIVES["value"], vk.grad, lambda f: vk.grad(lambda w: np.sum(vk.grad(f)(w)))):
        assert_equal(d(mapped)(W[:3]), d(unrolled)(W[:3]))
        assert_equal(vk.jit(d(mapped))(W[:3]), d(unrolled)(W[:3]))

    inside = vk.vmap(vk.grad(lambda x: np.sum(W @ lax.all_gather(x, "i"))), axis_name="i")
    assert_equal(inside(X), N * np.broadcast_to(W[:, None], X.shape))


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("primitive", [all_gather, psum_scatter])
def test_examples_may_differ_in_their_number_alone(primitive, at):
    """Along a mapped axis of another name."""
    x = np.sin(np.arange(64.0)).reshape(N, N, N)
    f = lambda x, k: primitive(x, k, axis="i", size=N, at=at)
    numbered = vk.vmap(lambda x: vk.vmap(lambda k: f(x, k))(np.arange(2)), axis_name="i")(x)
    alone = vk.vmap(lambda x: f(x, lax.axis_index("i")), axis_name="i")(x)
    assert_equal(numbered, np.stack([alone, alone], axis=1))


def test_an_axis_without_a_name_is_not_meant():
    f = vk.vmap(vk.vmap(lambda x: x / lax.psum(x, "i")), axis_name="i")
    assert_equal(f(X), X / np.sum(X, axis=0))
    jac = vk.vmap(vk.jacrev(lambda x: lax.psum(x * x, "i")), axis_name="i")(X)
    assert_equal(jac, np.stack([np.diag(2 * N * x) / N * N for x in X]))


def test_the_inner_of_two_axes_of_one_name_is_meant():
    f = vk.vmap(vk.vmap(lambda x: x * lax.psum(x, "i"), axis_name="i"), axis_name="i")
    assert_equal(f(X), X * np.sum(X, axis=1, keepdims=True))
    assert_equal(vk.jit(f)(X), X * np.sum(X, axis=1, keepdims=True))


def test_what_is_combined_is_the_same_for_all_examples():
    f = vk.vmap(lambda x: (lax.psum(x, "i"), x), out_axes=(None, 0), axis_name="i")
    total, _ = f(X)
    assert_equal(total, np.sum(X, axis=0))
    everything = vk.vmap(lambda x: lax.all_gather(x, "i"), out_axes=None, axis_name="i")(X)
    np.testing.assert_array_equal(everything, X)


def test_trees_numbers_integers_and_booleans():
    def f(x):
        return lax.psum({"a": x, "b": (1, 2.0, True)}, "i"), lax.psum(x > 1, "i")

    sums, count = vk.vmap(f, out_axes=None, axis_name="i")(np.arange(4))
    assert sums == {"a": 6, "b": (4, 8.0, 4)}
    assert count == 2
    small = vk.vmap(lambda x: lax.psum(x, "i"), axis_name="i")(np.arange(3, dtype=np.int8))
    assert small.dtype == np.int8
    single = vk.vmap(lambda x: lax.pmean(x, "i"), axis_name="i")(np.ones(3, np.float32))
    assert single.dtype == np.float32


def test_axis_size_alone_maps_over_nothing():
    f = vk.vmap(lambda: lax.axis_index("i") ** 2, axis_name="i", axis_size=4)
    np.testing.assert_array_equal(f(), [0, 1, 4, 9])
    assert_equal(vk.vmap(lambda: lax.psum(1.5, "i"), axis_name="i", axis_size=4)(), np.full(4, 6.0))
    assert vk.vmap(lambda x: x, 0, 0, "i", 4)(np.zeros(4)).shape == (4,)


def test_a_jitted_function_is_staged_for_each_size_of_a_named_axis():
    f = vk.jit(lambda x: x / lax.psum(np.ones(3), "i")[0])
    assert_equal(vk.vmap(f, axis_name="i")(X), X / 4)
    assert_equal(vk.vmap(f, axis_name="i")(X[:2]), X[:2] / 2)
    assert_equal(vk.vmap(f, axis_name="i")(X), X / 4)
    assert f.cache_info().misses == 2
    assert "named axes {'i': 2}, and was {'i': 4}" in f.misses[-1].reason
    with pytest.raises(NameError):
        f(np.ones(3))


def test_a_collective_inside_a_loop_whose_length_differs():
    def f(x):
        step = lambda s: (s[0] + 1, 0.5 * s[1] + 0.1 * lax.psum(s[1], "i"))
        return lax.while_loop(lambda s: s[0] < 3, step, (0, x))[1]

    def unrolled(x):
        for _ in range(3):
            x = 0.5 * x + 0.1 * np.sum(x, axis=0)
        return x

    for d in DERIVATIVES.values():
        assert_equal(d(vk.vmap(f, axis_name="i"))(X), d(unrolled)(X))


def test_examples_that_are_done_take_part_in_collectives_as_they_are():
    lengths = np.array([1, 3, 2, 0])

    def f(n, x):
        step = lambda s: (s[0] + 1, 0.5 * s[1] + 0.1 * lax.psum(s[1], "i"))
        return lax.while_loop(lambda s: s[0] < n, step, (0, x))[1]

    def unrolled(x):
        for k in range(3):
            x = np.where((k < lengths)[:, None], 0.5 * x + 0.1 * np.sum(x, axis=0), x)
        return x

    for d in DERIVATIVES.values():
        assert_equal(d(lambda x: vk.vmap(f, axis_name="i")(lengths, x))(X), d(unrolled)(X))


def test_names_are_forgotten_after_an_error():
    def broken(x):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        vk.vmap(broken, axis_name="i")(X)
    with pytest.raises(NameError, match="no vmap with axis_name='i' runs here"):
        lax.psum(X, "i")


@pytest.mark.parametrize("wrap", [lambda f: f, vk.jit])
def test_of_axes_of_one_name_the_innermost_is_meant(wrap):
    """Also by a value that differs along the outer one alone."""
    inner = lambda x: vk.vmap(
        wrap(lambda y: lax.psum(x, "i") + lax.pmax(x, "i") * y + lax.axis_index("i")), axis_name="i"
    )(np.array([0.5, 2.0]))
    outer = lambda x: inner(x * lax.psum(x, "i"))
    unrolled = lambda x: (x * np.sum(x))[:, None] * np.array([2.5, 4.0]) + np.arange(2)
    assert_equal(vk.vmap(wrap(outer), axis_name="i")(W), unrolled(W))
    loss = lambda f: lambda x: np.sum(np.tanh(f(x)))
    got = vk.grad(loss(vk.vmap(wrap(outer), axis_name="i")))(W)
    assert_equal(got, vk.grad(loss(unrolled))(W))


def test_bad_exchanges():
    def mapped(f):
        return lambda: vk.vmap(f, axis_name="i")(X)

    for call, error, words in (
        (lambda x: lax.ppermute(x, "i", [(0, 1), (2, 1)]), ValueError, "each destination once"),
        (lambda x: lax.ppermute(x, "i", [(0, 1), (0, 2)]), ValueError, "each source once"),
        (lambda x: lax.ppermute(x, "i", [(0, 4)]), ValueError, "from 0 to 3"),
        (lambda x: lax.pshuffle(x, "i", [0, 1]), ValueError, "is not a permutation of 0 to 3"),
        (lambda x: lax.all_to_all(x, "i", 0, 0), ValueError, "as long as the mapped axis of 4"),
        (lambda x: lax.all_to_all(x, "i", 1, 0), ValueError, "split_axis=1 is no axis"),
        (lambda x: lax.psum_scatter(x, "i", tiled=True), ValueError, "a multiple of the mapped"),
        (lambda x: lax.ppermute(x, "j", [(0, 1)]), NameError, "axis_name='j'"),
        (lambda x: lax.all_to_all("x", "i", 0, 0), TypeError, "the operand is a str"),
    ):
        with pytest.raises(error, match=words):
            mapped(call)()


def test_swapping_twice_is_nothing():
    f = lambda x: lax.pswapaxes(lax.pswapaxes(np.append(x, x[0]), "i", 0), "i", 0)
    np.testing.assert_array_equal(vk.vmap(f, axis_name="i")(X), X[:, [0, 1, 2, 0]])
    tiled = lambda x: lax.psum_scatter(np.tile(x[:2], 4), "i", tiled=True)
    np.testing.assert_allclose(vk.vmap(tiled, axis_name="i")(X), [X[:, :2].sum(0)] * N, 1e-14)
