"""The compiled pullback of a loop of unknown length: what recording its steps gives."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.control.unwound import LENGTHS

W = np.array([[0.3, -0.2], [0.1, 0.4]])
X = np.array([0.5, -0.7])


def flow(w, x, limit):
    """A state, the time, and how many steps there were."""

    def step(state):
        x, t, n = state
        return x + 0.01 * np.sin(w @ x), t + 0.01 * (1.0 + x[0] * x[0]), n + 1

    x, t, n = vk.lax.while_loop(lambda s: s[1] < limit, step, (x, 0.0 * limit, 0))
    return np.sum(x * x * w[0]) + t * n


def newton(w, x, limit):
    """A condition on what moves."""

    def step(x):
        return x - 0.1 * (x**3 - np.sum(w)) / (3.0 * x * x + 0.1)

    start = 5.0 + x[0] * x[1]
    return vk.lax.while_loop(lambda x: np.abs(x**3 - np.sum(w)) > 1.0 / limit, step, start)


def decaying(w, x, limit):
    """A loop in which the derivative does not depend on the state."""
    step = lambda s: (s[0] @ w * 0.9 + x, s[1] + 1)
    y, _ = vk.lax.while_loop(lambda s: s[1] < limit * 40, step, (x, 0))
    return np.sum(np.sin(y))


def overwritten(w, x, limit):
    """What arrives at a carry goes no further; a carry that nothing reaches."""

    def step(state):
        a, b, n = state
        return np.tanh(b), w @ b, n + 1

    a, b, n = vk.lax.while_loop(lambda s: s[2] < limit * 20, step, (x, x * 2.0, 0))
    return np.sum(a * b) + n


LOOPS: dict[str, Any] = {f.__name__: f for f in (flow, newton, decaying, overwritten)}
LIMITS = 0.0, 0.005, 0.2, 3.5


def assert_same(got: Any, want: Any) -> None:
    vk.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-10, 1e-13), got, want)


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("name", LOOPS)
def test_as_eager(name, backend):
    gradient = vk.grad(LOOPS[name], (0, 1))
    fast = vk.jit(gradient, backend=backend)
    for limit in LIMITS if name != "newton" else (1.0, 1e3, 1e9):
        assert_same(fast(W, X, limit), gradient(W, X, limit))


def test_of_every_number_of_blocks():
    def f(x, n):
        step = lambda s: (s[0] * 0.999 + 0.001 * np.cos(s[0]), s[1] + 1)
        return vk.lax.while_loop(lambda s: s[1] < n, step, (x, 0))[0]

    gradient = vk.grad(f)
    fast = vk.jit(gradient, backend="numpy")
    most = LENGTHS[0]
    for n in (0, 1, 2, most - 1, most, most + 1, 3 * most + 18):
        assert_same(fast(0.3, n), gradient(0.3, n))


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_second_order_and_examples(backend):
    f = lambda x: flow(W, x, 0.15)
    assert_same(vk.jit(vk.hessian(f), backend=backend)(X), vk.hessian(f)(X))
    xs = np.stack([X, 2 * X, -X])
    mapped = vk.vmap(vk.grad(f))
    assert_same(vk.jit(mapped, backend=backend)(xs), [vk.grad(f)(x) for x in xs])


def test_inside_a_loop():
    def f(x):
        def step(c, t):
            inner = lambda s: (s[0] + 0.1 * np.sin(s[0]) * t, s[1] + s[0][0] ** 2)
            y, _ = vk.lax.while_loop(lambda s: s[1] < 3.0, inner, (c, 0.0))
            return y * 0.5, np.sum(y)

        return np.sum(vk.lax.scan(step, x, np.array([1.0, 0.5]))[1])

    assert_same(vk.jit(vk.grad(f), backend="native")(X), vk.grad(f)(X))


def test_where_it_runs():
    fast = vk.jit(vk.grad(flow), backend="native")
    parts = {str(p).split(":")[0] for p in fast.explain(W, X, 1.0) if "pull" in str(p)}
    assert parts == {"native steps"}


def test_what_prints_prints_no_more_often(capsys):
    def f(x):
        def step(s):
            vk.debug.print("at {}", s[1])
            return s[0] * 0.9, s[1] + 1

        return vk.lax.while_loop(lambda s: s[1] < 20, step, (x, 0))[0]

    jitted = vk.jit(vk.grad(f), backend="numpy")
    assert_same(jitted(0.5), 0.9**20)
    capsys.readouterr()
    jitted(0.5)
    assert capsys.readouterr().out.count("at") == 20


def test_an_exact_zero_wins():
    """A carry that is not finite, and of which the cotangent is zero."""

    def f(x):
        step = lambda s: (s[0] * 0.5, np.sqrt(s[1]), s[2] + 1)
        a, b, _ = vk.lax.while_loop(lambda s: s[2] < 18, step, (x, 0.0 * x, 0))
        return a + np.where(b > 0, b, 0.0)

    for backend in ("numpy", "native"):
        assert_same(vk.jit(vk.grad(f), backend=backend)(0.3), vk.grad(f)(0.3))
        assert np.isfinite(vk.jit(vk.grad(f), backend=backend)(0.3))
