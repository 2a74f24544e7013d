"""Element by element through small arrays: one call, what NumPy gives, the sign of zeros too."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk

pytest.importorskip("llvmlite", reason="the native tier is an extra")


def recurrence(x: Any) -> Any:
    y = np.zeros_like(x)
    y[0] = x[0]
    for i in range(1, len(x)):
        y[i] = np.sin(y[i - 1]) * 0.5 + x[i]
    return np.sum(y * y)


def total_of_pairs(x: Any) -> Any:
    total = 0.0
    for i in range(len(x) - 1):
        total = total + x[i] * np.exp(-x[i + 1])
    return total


def tridiagonal(x: Any) -> Any:
    """Elimination in a matrix, in place."""
    n = len(x)
    a = np.zeros_like(np.outer(x, x))
    for i in range(n):
        a[i, i] = 2.0 + x[i] * x[i]
        if i:
            a[i, i - 1] = a[i - 1, i] = x[i - 1]
    for i in range(1, n):
        a[i] -= a[i, i - 1] / a[i - 1, i - 1] * a[i - 1]
    return np.sum(np.log(np.diagonal(a)))


def turned(x: Any) -> Any:
    parts = [x[i] * x[-1 - i] if i % 2 else x[i] for i in range(len(x))]
    return np.sum(np.cumsum(np.stack(parts)) * np.roll(x, 1))


PROGRAMS = (recurrence, total_of_pairs, tridiagonal, turned)
POINT = np.linspace(-1.0, 1.3, 9)


@pytest.mark.parametrize("f", PROGRAMS)
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_values_and_derivatives(f: Any, dtype: str):
    x = POINT.astype(dtype)
    v = np.cos(x)
    rtol = 1e-12 if dtype == "f8" else 2e-4
    for g in (f, vk.grad(f), lambda x: vk.hvp(f, (x,), (v,)), lambda x: vk.jvp(f, (x,), (v,))[1]):
        fast = vk.jit(g, backend="native")
        np.testing.assert_allclose(fast(x), g(x), rtol=rtol, atol=rtol)
    fast = vk.jit(vk.grad(f), backend="native")
    words = "small arrays, element by element in registers"
    assert words in [part.why for part in fast.explain(x)]


def test_a_recurrence_is_one_call():
    fast = vk.jit(vk.grad(recurrence), backend="native")
    assert [part.where for part in fast.explain(POINT)] == ["native loop"]
    text = fast.native_ir(POINT)
    assert text.count("define internal { double, i1 } @dear") == 4  # sine, cosine; and exact


@pytest.mark.parametrize("odd", [1e12, np.inf, np.nan, -0.0])
def test_arguments_that_fast_forms_do_not_take(odd: float):
    x = POINT.copy()
    x[3] = odd
    for g in (recurrence, vk.grad(recurrence), vk.grad(total_of_pairs)):
        with np.errstate(all="ignore"):
            want = g(x)
        np.testing.assert_allclose(vk.jit(g, backend="native")(x), want, rtol=1e-12)


def test_the_sign_of_zeros():
    """What is added to zeros loses it, what is assigned keeps it."""
    x = np.array([-0.0, 0.0, -0.0, 1.0, -0.0, -0.0])

    def f(x: Any) -> Any:
        y = np.zeros_like(x)
        y[1:5] += x[1:5]
        y[0] = x[0]
        z = x + np.roll(x, 1)
        z[2] = x[2]
        w = y + z
        w[3:] += y[3:]
        u = np.zeros_like(x)
        u[2] = -0.0
        return y, z, w, w + u, u + x, x + u

    for got, want in zip(vk.jit(f, backend="native")(x), f(x), strict=True):
        assert got.tobytes() == want.tobytes()
    fast = vk.jit(f, backend="native")
    assert [part.where for part in fast.explain(x)] == ["native loop"]


def test_single_elements_of_a_longer_array():
    x = np.sin(np.arange(1000.0)).reshape(50, 20)

    def f(x: Any) -> Any:
        total = 0.0
        for i in range(-10, 11):
            total = total + x[i, i] * np.cos(x[3, -i])
        return total

    for g in (f, vk.grad(f)):
        fast = vk.jit(g, backend="native")
        np.testing.assert_allclose(fast(x), g(x), rtol=1e-13)
        assert [part.where for part in fast.explain(x)] == ["native loop"]


def test_what_it_leaves_to_others():
    large = np.linspace(0.0, 1.0, 2000)
    fast = vk.jit(lambda x: x[0] * x[1] + x[2] * x[3], backend="native")
    assert not any("small arrays" in part.why for part in fast.explain(large))
    assert fast(large) == large[0] * large[1] + large[2] * large[3]
    fast = vk.jit(lambda x: np.sin(x[0] * x[1]), backend="native")
    assert not any("small arrays" in part.why for part in fast.explain(POINT))
    assert fast(POINT) == pytest.approx(np.sin(POINT[0] * POINT[1]))
