"""Loops and what lies between them as one function: one call, with the results of the parts."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import vjpkit as vk

pytest.importorskip("llvmlite", reason="the native tier is an extra")

POINT = np.array([0.4, -0.7, 1.1])


def assert_same(got: Any, want: Any, rtol: float = 1e-11) -> None:
    got, want = vk.tree.leaves(got), vk.tree.leaves(want)
    assert len(got) == len(want)
    for x, y in zip(got, want, strict=True):
        assert np.shape(x) == np.shape(y)
        assert np.result_type(x) == np.result_type(y)
        scale = 1e4 if np.result_type(y) == np.float32 else 1.0
        np.testing.assert_allclose(x, y, rtol=scale * rtol, atol=scale * rtol)


def calls(fast: Any, *args: Any) -> list[str]:
    """Where the parts of the compiled program run."""
    return [part.where for part in fast.explain(*args)]


def swings(x: Any, steps: int = 4) -> Any:
    """Two loops of numbers with arithmetic before, between and after."""
    a, b = x[0] * x[1], np.exp(x[2])
    first, seen = vk.lax.scan(lambda c, _: (c * 0.5 + a, c * c), b, None, length=steps)
    middle = np.sin(first) + a
    last, _ = vk.lax.scan(lambda c, t: (np.tanh(c) + t * middle, None), middle, seen)
    return last * first


def asked(x: Any) -> Any:
    """A loop of unknown length whose limit another one computes."""
    limit, _ = vk.lax.scan(lambda c, t: (c + t * t, t), 0.0, x)
    low, n = vk.lax.while_loop(
        lambda s: s[0] < limit, lambda s: (s[0] * 1.5 + 0.1, s[1] + 1), (x[0], 0)
    )
    return low * limit + n


def kinds(x: Any) -> Any:
    """Values of several dtypes from loop to loop."""
    y = x.astype(np.float32)
    c, (signs, counts) = vk.lax.scan(
        lambda c, t: (c * np.float32(0.5) + t, (t > 0, (c > 0).astype(int))), y[0], y
    )
    more, _ = vk.lax.scan(
        lambda s, t: (s + np.where(t[0], t[1], -1.0) * c.astype(float), None), 0.0, (signs, counts)
    )
    return more + c.astype(float)


def matrices(x: Any) -> Any:
    """Small linear algebra within loops and between them."""
    a = np.outer(x, x) * 0.1 + np.diag(x)
    b, rows = vk.lax.scan(lambda c, t: (np.tanh(c @ a) + t, c[0]), a, x)
    m = b.T @ rows + np.sum(b, axis=0)
    v, _ = vk.lax.scan(lambda c, r: (m @ c * 0.1 + r, None), x, rows, reverse=True)
    return np.sum(v * v) / np.max(np.abs(m))


def nested(x: Any) -> Any:
    inner = lambda c, t: (c * 0.8 + t, c)
    outer = lambda c, t: vk.lax.scan(inner, c + t, x)
    last, ys = vk.lax.scan(outer, x[0], x)
    total, _ = vk.lax.scan(lambda c, y: (c + y[0] * y[-1], None), last, ys)
    return total


PROGRAMS = (swings, asked, kinds, matrices, nested)


@pytest.mark.parametrize("f", PROGRAMS)
def test_values_and_derivatives_are_those_of_the_parts_in_one_call(f: Any):
    v = np.cos(POINT)
    for g in (f, vk.grad(f), lambda x: vk.jvp(f, (x,), (v,))[1]):
        fast = vk.jit(g, backend="native")
        assert_same(fast(POINT), g(POINT))
        assert_same(fast(POINT[::-1]), g(POINT[::-1]))
    assert calls(vk.jit(f, backend="native"), POINT) == ["native loop"]


@pytest.mark.parametrize("f", [swings, matrices, nested])
def test_second_derivatives_and_examples(f: Any):
    xs: Any = np.stack([POINT, 0.5 * POINT, -POINT])
    for g in (vk.hessian(f), vk.grad(lambda x: vk.hvp(f, (x,), (x,))[0])):
        assert_same(vk.jit(g, backend="native")(POINT), g(POINT), 1e-9)
    many = vk.vmap(vk.grad(f))
    assert_same(vk.jit(many, backend="native")(xs), many(xs))


@pytest.mark.parametrize("f", [swings, matrices])
def test_a_gradient_is_one_call(f: Any):
    fast = vk.jit(vk.grad(f), backend="native")
    assert calls(fast, POINT) == ["native loop"]
    assert fast.native_ir(POINT).count("define void @") == 1
    (part,) = fast.explain(POINT)
    assert sum(e.primitive.name == "scan" for e in part.equations) == 4
    assert part.why.endswith("steps and small arrays in registers")


def random_program(rng: np.random.Generator) -> Any:
    """Loops and operations of small arrays in random order, each of which reads any before it."""
    steps: list[Any] = [
        lambda c, t: (np.tanh(c) * 0.9 + t, c * t),
        lambda c, t: (c * 0.5 + np.sum(t), c),
        lambda c, t: (np.maximum(c, t) * 0.7, np.max(c)),
        lambda c, t: (c[[1, 2, 0]] * 0.6 - t, c[::-1]),
    ]
    single: list[Any] = [
        np.sin,
        lambda a: a[::-1] * 0.5,
        lambda a: np.cumsum(a) * 0.3,
        lambda a: np.concatenate([a[1:], a[:1]]),
        lambda a: a / (1.0 + np.sum(a * a)),
        lambda a: np.outer(a, a) @ a * 0.1,
        lambda a: vk.lax.while_loop(lambda s: np.sum(s * s) > 0.5, lambda s: s * 0.7, a),
    ]
    plan = [
        (int(rng.integers(3)), int(rng.integers(100)), int(rng.integers(100)), rng.integers(100))
        for _ in range(12)
    ]

    def f(x: Any) -> Any:
        values = [x, np.cos(x)]
        for kind, i, j, which in plan:
            a, b = values[i % len(values)], values[j % len(values)]
            if kind == 0:
                values.append(single[which % len(single)](a))
            elif kind == 1:
                values.append(a * b + 0.1)
            else:
                xs = np.stack([b, a * 0.5, b - a])
                last, ys = vk.lax.scan(steps[which % len(steps)], a, xs, reverse=which % 3 == 0)
                values += [last * 0.5, ys.reshape(-1)[:3]]
        return values[2:]

    return f


@pytest.mark.parametrize("seed", range(12))
def test_random_programs(seed: int):
    f = random_program(np.random.default_rng(seed))
    assert_same(vk.jit(f, backend="native")(POINT), f(POINT))
    g = vk.grad(lambda x: sum(np.sum(y * y) for y in f(x)))
    assert_same(vk.jit(g, backend="native")(POINT), g(POINT), 1e-9)


def test_what_is_large_lies_between_chains_or_in_arrays():
    """Stacks that the stack has no room for, and loops that wait for a matrix product."""
    big = np.linspace(-1.0, 1.0, 200 * 200).reshape(200, 200)

    def f(x: Any) -> Any:
        last, ys = vk.lax.scan(lambda c, _: (np.tanh(c) + 0.1, c), x, None, length=20_000)
        twice, zs = vk.lax.scan(lambda c, y: (c * 0.5 + y, c), last, ys)
        product = big @ np.concatenate([zs[:66].reshape(-1), twice[:2]])
        back, _ = vk.lax.scan(lambda c, t: (c * 0.9 + t, None), twice[0], product)
        return back + np.sum(twice)

    for g in (f, vk.grad(f)):
        fast = vk.jit(g, backend="native")
        assert_same(fast(POINT), g(POINT))
    assert calls(vk.jit(f, backend="native"), POINT).count("native loop") == 2


def test_more_operands_and_results_than_a_ufunc_takes():
    xs = [np.arange(1.0 + i % 3).astype("f8" if i % 2 else "f4") for i in range(40)]
    stack = np.linspace(0.0, 1.0, 1500)

    def f(xs: Any, stack: Any) -> Any:
        total, ys = vk.lax.scan(lambda c, t: (c * 0.5 + t, c), xs[1][0], stack)
        return [x * total.astype(x.dtype) + x[::-1] for x in xs], ys

    fast = vk.jit(f, backend="native")
    assert_same(fast(xs, stack), f(xs, stack))
    assert calls(fast, xs, stack) == ["native loop"]


@pytest.mark.parametrize("odd", [1e12, np.inf, np.nan, -0.0])
def test_what_fast_forms_do_not_take(odd: float):
    """Each part is computed again where it has doubts, and what follows reads that."""

    def f(x: Any) -> Any:
        c, ys = vk.lax.scan(lambda c, t: (np.sin(c) + t, np.cos(c * t)), x[0], x)
        z = np.where(ys > 2.0, np.log(ys - 2.0), ys)
        d, _ = vk.lax.scan(lambda c, t: (np.cos(c) * t, None), np.sin(c), z)
        return d + np.sum(z)

    x = POINT.copy()
    x[1] = odd
    with np.errstate(all="ignore"):
        for g in (f, vk.grad(f)):
            assert_same(vk.jit(g, backend="native")(x), g(x))


def test_a_place_that_is_not_there_ends_the_chain():
    """What follows would never end; NumPy raises its error."""

    def f(x: Any, i: Any) -> Any:
        c, _ = vk.lax.scan(lambda c, k: (c + x[k], None), 0.0, i)
        low = vk.lax.while_loop(lambda s: s < c, lambda s: s * x[2], x[1])
        return low + c

    fast = vk.jit(f, backend="native")
    x = np.array([1.0, 2.0, 1.5])
    assert_same(fast(x, np.array([0, 2, -1])), f(x, np.array([0, 2, -1])))
    assert calls(fast, x, np.array([0, 2, -1])) == ["native loop"]
    with pytest.raises(IndexError):
        fast(x, np.array([0, 3, 1]))
    endless = np.array([np.inf, 2.0, 1.0])
    with pytest.raises(IndexError):
        fast(endless, np.array([0, 3, 1]))


def test_loops_of_no_steps_and_of_one():
    for steps in (0, 1):
        f = lambda x, steps=steps: swings(x, steps)
        for g in (f, vk.grad(f)):
            assert_same(vk.jit(g, backend="native")(POINT), g(POINT))


def test_results_are_fresh_whatever_they_are_made_of():
    """A result that is an operand, one that comes twice, views of what the chain made."""

    def f(x: Any) -> Any:
        c, ys = vk.lax.scan(lambda c, t: (c + t, np.stack([c, c])), x, np.stack([x, x]))
        return x, c, c, ys, ys[0], ys.reshape(-1)

    fast = vk.jit(f, backend="native")
    x = POINT.copy()
    outs = fast(x)
    assert_same(outs, f(POINT))
    for i, y in enumerate(outs):
        assert y.flags.writeable
        assert not any(np.shares_memory(y, z) for z in (x, *outs[:i]))
        y[...] = -1.0
    np.testing.assert_array_equal(x, POINT)


def test_many_threads_at_once():
    fast = vk.jit(vk.grad(matrices), backend="native").compile(POINT)
    points = [POINT * (1.0 + 0.01 * i) for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(fast, points))
    for x, y in zip(points, got, strict=True):
        np.testing.assert_array_equal(y, fast(x))
