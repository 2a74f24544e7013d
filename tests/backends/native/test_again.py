"""Values that are computed again rather than stored: fewer arrays, and the same results."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.backends import executable
from vjpkit.core.aval import aval_of
from vjpkit.core.staging import stage

pytest.importorskip("llvmlite", reason="the native tier is an extra")

X = np.linspace(-2.0, 2.3717, 900)
PLACES = np.random.default_rng(0).integers(0, 900, 900)


def lines(f: Any, *xs: Any) -> list[str]:
    """The lines of the compiled program that call kernels."""
    program = stage(f, [aval_of(x) for x in xs]).program
    found = executable(program, "native").source.splitlines()
    return [line.strip() for line in found if "= kernel" in line]


def apart(x: Any) -> Any:
    """Two kernels, and a sort between them; the second needs what the first computes on its way."""
    u = x * x + 1.0
    return (np.sort(u * 3.0) * u - u,)


def test_a_cheap_value_is_not_stored_for_another_kernel():
    first, second = lines(apart, X)
    assert first.split(" = ")[0] == "v1"
    assert "(v0" in second
    np.testing.assert_array_equal(vk.jit(apart, backend="native")(X)[0], apart(X)[0])


@pytest.mark.parametrize("dear", [np.exp, np.sin, np.sqrt, lambda x: 1.0 / x])
def test_a_dear_one_is(dear: Any):
    def f(x: Any) -> Any:
        u = dear(x)
        return (np.sort(u * 3.0) * u - u,)

    first, _ = lines(f, X + 3.0)
    assert first.split(" = ")[0] == "v1, v2"


def test_what_others_store_is_read():
    """It is an output, or NumPy needs it."""
    for f in (
        lambda x: ((u := x * x + 1.0), np.sort(u * 3.0) * u),
        lambda x: (np.sort(u := x * x + 1.0) * u - u,),
    ):
        assert all(line.split(" = ")[0].count(",") <= 1 for line in lines(f, X))
        for got, want in zip(vk.jit(f, backend="native")(X), f(X), strict=True):
            np.testing.assert_array_equal(got, want)


def test_a_kernel_of_which_nothing_is_left_is_not_called():
    def f(x: Any) -> Any:
        u, v = x * 2.0, x + 1.0
        w = np.sort(x)
        return (u * v + w,)

    assert len(lines(f, X)) == 1
    np.testing.assert_array_equal(vk.jit(f, backend="native")(X)[0], f(X)[0])


def test_elements_of_what_is_computed_again():
    """The other kernel reads some elements of it at other places: it is there already."""

    def f(x: Any) -> Any:
        u = x * 2.0 + 1.0
        w = np.sort(u * x)
        return (np.roll(u, 3) * w + u, np.where(u > 0.0, w, u)[::-1])

    for got, want in zip(vk.jit(f, backend="native")(X), f(X), strict=True):
        np.testing.assert_array_equal(got, want)


def test_what_leads_far_back_is_no_reason_to_read_what_was_made_there():
    """The latest value takes many operations; the others, of an earlier kernel, take one each."""

    def f(x: Any) -> Any:
        u, v, w = x * 2.0, x + 1.0, x * x
        y = np.sort(u * v * w)
        for i in range(12):
            y = y * (x + float(i)) - np.sort(x + float(i))  # each reads an array more
        z = np.sort(y * 2.0)
        return (z * y * u * v * w,)

    *_, last = lines(f, X)
    assert last.count("v") <= 5  # the result, the sorted values, the latest one, `x`
    np.testing.assert_array_equal(vk.jit(f, backend="native")(X)[0], f(X)[0])


def test_elements_are_taken_again():
    """Where they were, if the kernel takes elements anyway; what they are taken from is stored."""

    def f(x: Any, i: Any, scale: float) -> Any:
        u = x * scale  # as cheap as reading it, but it is not there element by element
        near, far = u[i], u[(i + 1) % 900]
        y = np.sort(near * far)
        return np.sum((near - 2.0 * far) * y * y[i] * u)

    run = lambda x, i: f(x, i, 2.0)
    for g in (run, vk.grad(run)):
        fast = vk.jit(g, backend="native")
        np.testing.assert_allclose(fast(X, PLACES), g(X, PLACES), rtol=1e-11, atol=1e-11)
    first, *_ = lines(lambda x, i: (f(x, i, 1.0),), X, PLACES)
    assert first.split(" = ")[0].count("v") <= 2  # `u`, the product that is sorted


@pytest.mark.parametrize("last", range(8))
def test_what_elements_are_taken_from_is_not_made_again(last: int):
    """It is cheap, and wanted element by element as well, by the same kernel."""

    def f(x: Any, i: Any) -> Any:
        u = x * 2.0 + 1.0
        near, q = u[i], u * 3.0 - 1.0
        y = np.sort(near * q)
        w = u * 0.5 + 2.0
        z = np.sort(y * w)
        wanted = [v for k, v in enumerate((q, w, u)) if last >> k & 1]
        total = near * z * z[i] * x
        for v in wanted:
            total = total * v + v
        return np.sum(total)

    for g in (f, vk.grad(f)):
        fast = vk.jit(g, backend="native")
        np.testing.assert_allclose(fast(X, PLACES), g(X, PLACES), rtol=1e-10, atol=1e-7)


def tangled(rng: np.random.Generator) -> Any:
    """Operations of arrays in random order, cheap, dear and those that end a kernel."""
    operations: list[Any] = [
        lambda a, b: a + b,
        lambda a, b: a * b * 0.5,
        lambda a, b: np.where(a > b, a, b - 1.0),
        lambda a, b: np.tanh(a),
        lambda a, b: np.sort(a),
        lambda a, b: np.cumsum(b) * 0.01,
        lambda a, b: np.roll(a, 7) - b,
        lambda a, b: a * np.max(b),
        lambda a, b: a[np.argsort(b)],
        lambda a, b: a[PLACES] - b,
        lambda a, b: a[(PLACES + 1) % 900] * b[PLACES] * 0.5,
    ]
    plan = rng.integers(0, 1000, (25, 3)).tolist()
    results = rng.integers(1, 1000, 3).tolist()

    def f(x: Any) -> Any:
        values = [x, x * 0.5 + 1.0]
        for which, i, j in plan:
            a, b = values[-1 - i % len(values)], values[-1 - j % len(values)]
            values.append(operations[which % len(operations)](a, b))
        return [values[-1 - i % len(values)] for i in results] + values[-1:]

    return f


@pytest.mark.parametrize("seed", range(40))
def test_random_programs(seed: int):
    f = tangled(np.random.default_rng(seed))
    fast = vk.jit(f, backend="native")
    for got, want in zip(fast(X), f(X), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
    total = lambda x: sum(np.sum(y * np.cos(X)) for y in f(x))
    got, want = vk.jit(vk.grad(total), backend="native")(X), vk.grad(total)(X)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9 * np.max(np.abs(want)))
