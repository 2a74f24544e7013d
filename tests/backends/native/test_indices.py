"""Loops that read and write at computed places: as eager, and as the NumPy tier."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk

pytest.importorskip("llvmlite", reason="the native tier is an extra")

RNG = np.random.default_rng(0)
X = RNG.normal(size=5)
T = RNG.normal(size=(5, 11))
CUBE = RNG.normal(size=(3, 4, 2))
WHOLE = np.array([3, -1, 4, 1, -5])


def assert_same(got: Any, want: Any) -> None:
    vk.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-12, 1e-14), got, want)


def looped(step, length=7):
    """A number that says which step it is, and a state, through a loop."""

    def f(x, t):
        def body(state, _):
            i, c = state
            c, y = step(i, c, t)
            return ((i * 3 + 1) % 5, c), y

        (_, c), ys = vk.lax.scan(body, (2, x), None, length=length)
        return np.sum(np.sin(c)) + np.sum(np.cos(ys))

    return f


def assigned(i, c, t):
    y = c * 1.0
    y[i] = np.sum(t[i]) * c[i - 1]
    y[i - 5] += 0.5
    return y, c[-1]


def written_twice(i, c, t):
    """The last one counts."""
    at = np.stack([i, (i + 1) % 5, i])
    y = c * 1.0
    y[at] = np.stack([c[0], c[1] * t[0, 0], c[2] * 0.5])
    return y * 0.9, np.sum(y)


def added(i, c, t):
    y = np.zeros_like(t)
    at = np.stack([i, i, (i + 2) % 5])
    rows: Any = (at, slice(2, 10))
    np.add.at(y, rows, c[:3, None] * 0.1)
    np.add.at(y, (at, at), 1.0)
    return c * 0.7 + y[:, 3] * 0.1, y[i]


def of_views(i, c, t):
    return c * 0.5 + t.T[i, :] * 0.1, t[None, i, None, ::-2] + t[:, i][:, None, None]


def stencil(i, c, t):
    left, right = (np.arange(5) - i) % 5, (np.arange(5) + i) % 5
    return 0.4 * (c[left] + c[right]) + 0.1 * t[right, left], c[left]


def of_integers(i, c, t):
    whole = np.array([3, 1, 4, 1, 2]) + 0 * i
    even = whole % 2 == 0
    return np.where(even[i], c * 0.9, c + t[whole[i], i] * 0.1), whole[i] * c


STEPS: dict[str, Any] = {
    "an element": lambda i, c, t: (c * 0.5 + t[i, 3] * c[i], t[i, i] * c[i - 1]),
    "a row": lambda i, c, t: (c * t[i, :5] + t[0, i], t[i]),
    "a column": lambda i, c, t: (c * 0.3 + t[:, i], t[::2, i - 3]),
    "taken": lambda i, c, t: (c * np.take(t, i, axis=1) + 0.1, np.take(c, [i, i - 1]) * 1.0),
    "rows in any order": lambda i, c, t: (
        0.3 * c + np.sum(t[np.stack([i, i, (i + 1) % 5])], axis=(0, 1)), t[np.stack([i, i]), 1:4],
    ),
    "apart": lambda i, c, t: (c * 0.5, (t.reshape(5, 1, 11) * c[:, None, None])[i, :, i]),
    "assigned": assigned,
    "written twice": written_twice,
    "added": added,
    "of views": of_views,
    "stencil": stencil,
    "of integers": of_integers,
}  # fmt: skip


@pytest.mark.parametrize("what", ["value", "gradient", "jvp", "second"])
@pytest.mark.parametrize("name", STEPS)
def test_as_eager_and_as_numpy(name, what):
    f = looped(STEPS[name])
    gradient = vk.grad(f, (0, 1))
    made = {
        "value": f,
        "gradient": gradient,
        "jvp": lambda x, t: vk.jvp(f, (x, t), (np.cos(x), np.sin(t))),
        "second": vk.grad(lambda x, t: sum(np.sum(g * g) for g in gradient(x, t)), (0, 1)),
    }[what]
    want = made(X, T)
    fast = vk.jit(made, backend="native")
    assert_same(fast(X, T), want)
    assert_same(vk.jit(made, backend="numpy")(X, T), want)
    loops = [part for part in fast.explain(X, T) if "scan" in str(part)]
    assert loops
    assert {part.where for part in loops} == {"native loop"}, [part.why for part in loops]


def test_single_precision_and_a_table_that_is_not_a_constant():
    def g(x, t):
        def step(state, row):
            i, c = state
            return (i + 1, c * row[i % 4] + row[np.stack([i, 0])].sum()), c > row[i]

        return vk.lax.scan(step, (0, x), t)

    x, t = X[:2].astype("f4"), T.astype("f4")
    fast = vk.jit(g, backend="native")
    got, want = fast(x, t), g(x, t)
    vk.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5), got, want)
    assert got[0][1].dtype == np.float32
    assert {part.where for part in fast.explain(x, t)} == {"native loop"}


def test_what_is_not_there_is_numpys_error():
    def f(x, n):
        def step(state, _):
            i, c = state
            return (i + 1, c + x[i]), None

        return vk.lax.scan(step, (n, 0.0), None, length=3)[0][1]

    for n in (0, 2, -5, -2):
        assert vk.jit(f, backend="native")(X, n) == f(X, n)
    for n in (3, -6, 2**40):
        with pytest.raises(IndexError):
            f(X, n)
        with pytest.raises(IndexError):
            vk.jit(f, backend="native")(X, n)


def test_a_branch_that_is_not_taken_may_read_what_is_not_there():
    def f(x):
        def step(state, _):
            i, c = state
            c = vk.lax.cond(i < 5, lambda c: c + x[i], lambda c: c * 2.0, c)
            return (i + 1, c), c

        return vk.lax.scan(step, (0, 0.0), None, length=8)[1]

    np.testing.assert_allclose(vk.jit(f, backend="native")(X), f(X))
    got = vk.jit(vk.grad(lambda x: np.sum(f(x) ** 2)), backend="native")(X)
    np.testing.assert_allclose(got, vk.grad(lambda x: np.sum(f(x) ** 2))(X))


def test_conditions_read_at_computed_places():
    def f(x, limit):
        """Bisection: the first entry of a sorted table that is not below a limit."""

        def step(state):
            low, high = state
            middle = (low + high) // 2
            below = x[middle] < limit
            return np.where(below, middle + 1, low), np.where(below, high, middle)

        return vk.lax.while_loop(lambda s: s[0] < s[1], step, (0, len(x)))[0]

    def g(x, limit):
        return vk.lax.while_loop(lambda i: x[i] < limit, lambda i: i + 1, 0)

    x = np.sort(X)
    for h in (f, g):
        fast = vk.jit(h, backend="native")
        for limit in (x[0] - 1, x[2], x[3] + 1e-9):
            assert fast(x, limit) == np.searchsorted(x, limit) == h(x, limit)
        assert {part.where for part in fast.explain(x, 0.0)} == {"native loop"}
    with pytest.raises(IndexError):
        vk.jit(g, backend="native")(x, 1e9)


def test_loops_inside_and_examples():
    def f(x, t):
        def outer(c, row):
            def inner(state, _):
                j, d = state
                return ((j + 2) % 5, d + c[j] * row[j]), d

            (_, d), ds = vk.lax.scan(inner, (1, 0.0), None, length=4)
            return c * 0.5 + d, ds

        c, ds = vk.lax.scan(outer, x, t)
        return np.sum(c) + np.sum(ds**2)

    fast = vk.jit(vk.grad(f, (0, 1)), backend="native")
    assert_same(fast(X, T), vk.grad(f, (0, 1))(X, T))
    assert {p.where for p in fast.explain(X, T) if "scan" in str(p)} == {"native loop"}
    one = looped(STEPS["an element"])
    xs = np.stack([X, -X, 2 * X])
    mapped = vk.vmap(vk.grad(one), (0, None))
    assert_same(vk.jit(mapped, backend="native")(xs, T), [vk.grad(one)(x, T) for x in xs])


def test_three_axes():
    def f(x):
        def step(i, _):
            j = np.stack([i, (i + 1) % 3])
            part = x[j, 1:, i % 2], x[:, j[:, None], np.stack([i % 2, 0])], x[i, ..., None]
            return (i + 1) % 3, part

        return vk.lax.scan(step, 0, None, length=5)[1]

    fast = vk.jit(f, backend="native")
    assert_same(fast(CUBE), f(CUBE))
    assert {p.where for p in fast.explain(CUBE) if "scan" in str(p)} == {"native loop"}
    g = vk.grad(lambda x: sum(np.sum(np.sin(y)) for y in f(x)))
    assert_same(vk.jit(g, backend="native")(CUBE), g(CUBE))
