"""What a step computes at its end is not computed again at the beginning of the next."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.ir import subprograms
from vjpkit.passes import optimize
from vjpkit.test_util import check_grads

K = np.array([1.3, 0.7, 0.4])
X = np.array([0.3, -1.2, 0.8])


def pull(x, k):
    return -np.sin(x) * k


def leapfrog(x, k, length=4):
    def step(state, _):
        x, v = state
        v = v + 0.05 * pull(x, k)
        x = x + 0.1 * v
        return (x, v + 0.05 * pull(x, k)), v

    (x, v), vs = vk.lax.scan(step, (x, k), None, length=length)
    return np.sum(x * v) + np.sum(vs**2)


def with_slices(x, k):
    """The last stage is the first one of the next step; what is new comes in slices."""

    def step(x, t):
        first = np.exp(-x) * k
        x = x + t * first
        return x, np.exp(-x) * k + first

    x, ys = vk.lax.scan(step, x, np.linspace(0.1, 0.3, 5), reverse=True)
    return np.sum(x) + np.sum(ys)


def delayed(x, k):
    """Three values in a row, functions of all of which are needed."""

    def step(state, _):
        a, b = state
        new = np.sin(a) * np.sin(b) + k
        return (b, new), np.sin(new) * a

    (a, b), ys = vk.lax.scan(step, (x, 0.5 * x), None, length=5)
    return np.sum(a * b) + np.sum(ys)


def unmoved(x, k):
    """A carry that stays what it is."""

    def step(state, _):
        a, n = state
        return (a, n + np.tanh(a) * k), None

    return np.sum(vk.lax.scan(step, (x, k), None, length=3)[0][1] ** 2)


def nested(x, k):
    def outer(x, t):
        inner = lambda c, _: (c + 0.1 * np.cos(c), np.cos(c + 0.1 * np.cos(c)))
        y, ys = vk.lax.scan(inner, x, None, length=3)
        return np.cos(x) + y * t, np.sum(ys) + np.cos(np.cos(x) + y * t)

    y, ys = vk.lax.scan(outer, x, k)
    return np.sum(y) + np.sum(ys)


LOOPS: dict[str, Any] = {f.__name__: f for f in (leapfrog, with_slices, delayed, unmoved, nested)}
TWICE = {"leapfrog": "sin", "with_slices": "exp", "delayed": "sin"}


def counted(f, name, *values):
    """How often the steps of a function's loops compute something."""

    def inside(program, loops):
        mine = [e for e in program.equations if e.primitive.name == name] if loops else []
        return len(mine) + sum(inside(optimize(p), True) for p in subprograms(program))

    return inside(optimize(vk.make_ir(f)(*values).program), False)


@pytest.mark.parametrize("name", TWICE)
def test_it_is_computed_once(name):
    assert counted(LOOPS[name], TWICE[name], X, K) == 1


def test_the_derivative_computes_it_once_too():
    gradient = vk.grad(leapfrog)
    assert counted(gradient, "sin", X, K) == 1
    assert counted(gradient, "cos", X, K) == 1


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("name", LOOPS)
def test_values_and_derivatives(name, backend):
    f = LOOPS[name]
    for made in (f, vk.grad(f, (0, 1)), vk.hessian(f), lambda x, k: vk.jvp(f, (x, k), (k, x))):
        got = vk.jit(made, backend=backend)(X, K)
        vk.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-12, 1e-13), got, made(X, K))


@pytest.mark.parametrize("name", LOOPS)
def test_values_are_the_same_to_the_bit(name):
    """Equations as they stand, and the loop in Python."""
    f = LOOPS[name]
    assert vk.jit(f, passes=False)(X, K) == f(X, K)


@pytest.mark.parametrize("name", LOOPS)
def test_mapped_and_checked(name):
    f = LOOPS[name]
    xs = np.stack([X, -X, 2 * X])
    np.testing.assert_allclose(
        vk.vmap(vk.grad(f), (0, None))(xs, K), [vk.grad(f)(x, K) for x in xs], 1e-12, 1e-13
    )
    check_grads(vk.jit(f), (X, K), order=2)


def test_loops_of_no_step_and_of_one_compute_no_more():
    """Of a value that is not admitted no step is asked."""

    def f(x, length):
        def step(x, _):
            y = np.log(x) + 2.0
            return y, np.log(y)

        return vk.lax.scan(step, x, None, length=length)[0]

    for length in (0, 1, 2):
        staged = vk.jit(f, static_argnums=1, backend="numpy")
        np.testing.assert_array_equal(staged(X[:1], length), f(X[:1], length))
    np.testing.assert_array_equal(vk.jit(f, static_argnums=1, backend="numpy")(-X, 0), -X)


def test_what_is_light_or_seen_stays(capsys):
    """One sum is not worth a carry; what prints prints as often as it is asked to."""

    def light(x):
        return vk.lax.scan(
            lambda x, _: (np.sin(x) * x, np.sin(x) * x + 1.0 + (x + 1.0)), x, length=3
        )

    (loop,) = [e for e in vk.make_ir(light)(X).program.equations if e.primitive.name == "scan"]
    assert loop.params["carry"] == 1

    def told(x):
        def step(x, _):
            vk.debug.print("at {}", x[0])
            y = x + 1.0
            vk.debug.print("at {}", y[0])
            return y, None

        return vk.lax.scan(step, x, None, length=3)[0]

    vk.jit(told, backend="numpy")(X)
    assert capsys.readouterr().out.count("at") == 6


def test_checkpointed_loops_keep_their_carries():
    def f(x, k):
        def step(x, _):
            return x + 0.1 * pull(x, k), pull(x + 0.1 * pull(x, k), k)

        x, ys = vk.lax.scan(step, x, None, length=6, checkpoint="revolve", slots=2)
        return np.sum(x) + np.sum(ys)

    (loop,) = [e for e in vk.make_ir(f)(X, K).program.equations if e.primitive.name == "scan"]
    assert loop.params["carry"] == 1
    got, want = vk.jit(vk.grad(f))(X, K), vk.grad(f)(X, K)
    np.testing.assert_allclose(got, want, 1e-13)
