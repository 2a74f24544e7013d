"""Kernels over long rows: elementwise work, reductions within rows, sums down the rows."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk

pytest.importorskip("llvmlite", reason="the native tier is an extra")

from vjpkit.backends.native.wide import LONGEST


def normalised(x):
    mean = np.mean(x, axis=-1, keepdims=True)
    spread = np.mean((x - mean) ** 2, axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(spread + 0.1)


def surprise(x):
    top = np.max(x, axis=-1, keepdims=True)
    return top[..., 0] + np.log(np.sum(np.exp(x - top), axis=-1)) - x[..., 0]


def weight(x):
    """A row that all rows share."""
    return np.linspace(-1.0, 2.0, x.shape[-1])


def broadcast(a, b, c):
    """Rows of a grid, operands and sums along each axis."""
    y = np.sin(a - b) * c + np.max(a + b, axis=2, keepdims=True)
    return (
        np.sum(y * b, axis=1), np.sum(y * a, axis=0, keepdims=True), np.sum(y, axis=(0, 1)),
        np.sum(y * y, axis=2), np.exp(-y) * np.sum(b, axis=1, keepdims=True),
    )  # fmt: skip


PROGRAMS: dict[str, Any] = {
    "softmax": lambda x: np.exp(x - np.max(x, axis=1, keepdims=True))
    / np.sum(np.exp(x - np.max(x, axis=1, keepdims=True)), axis=1, keepdims=True),
    "surprise": lambda x: np.sum(surprise(x)),
    "its gradient": vk.grad(lambda x: np.sum(surprise(x) ** 2)),
    "layers": lambda x: np.tanh(normalised(x) * weight(x) + 0.5),
    "their gradient": vk.grad(lambda x: np.sum(np.sin(normalised(x) * weight(x)))),
    "gradient in what is shared": lambda x: vk.grad(
        lambda w: np.sum(np.tanh(normalised(x) * w) ** 2)
    )(weight(x)),
    "values and columns": lambda x: (np.sum(np.sin(x) * x, axis=0), np.sum(np.cos(x) + x, axis=1)),
    "columns kept": lambda x: np.sum(np.sin(x) * x, axis=0, keepdims=True) + np.sum(x * x),
    "truth values": lambda x: (
        np.any((x > 2.0) & (x * x < 9.0), axis=1),
        np.all((x > -3.0) | (x < -4.0), axis=1, keepdims=True),
        np.where(x > np.min(x, axis=1, keepdims=True), x * 2.0, 0.0),
    ),
    "products": lambda x: np.prod(1.0 + 0.01 * np.sin(x), axis=1) * np.max(x * x, axis=1),
    "whole numbers": lambda x: np.sum(np.rint(x).astype("f8") * (x > 0), axis=1),
    "more axes": lambda x: surprise(x[:, None] * np.array([[1.0], [0.5]])) * 2.0,
    "along all axes": lambda x: broadcast(x[:4, None], x[None, :3] * 0.5, x[:4, :3, None]),
    "gradient along all axes": lambda x: vk.grad(
        lambda a, b, c: sum([np.sum(y * y) for y in broadcast(a, b, c)]), argnums=(0, 1, 2)
    )(x[:4, None], x[None, :3] * 0.5, x[:4, :3, None]),
    "single precision": lambda x: surprise((x * x).astype("f4")),
    "angles": lambda x: np.sum(np.sin(x * 1e10) * x, axis=1),
}  # fmt: skip


def assert_same(got: Any, want: Any) -> None:
    for a, b in zip(vk.tree.leaves(got), vk.tree.leaves(want), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        scale = 1e-11 if b.dtype != np.float32 else 2e-5
        largest = max(1.0, float(np.max(np.abs(b), initial=0.0)))  # sums round by their terms
        np.testing.assert_allclose(a, b, rtol=scale, atol=scale * largest)


def rows_of(count: int, width: int) -> np.ndarray:
    return np.random.default_rng(width).normal(size=(count, width))


@pytest.mark.parametrize("width", [5, 16, 103])
@pytest.mark.parametrize("name", PROGRAMS)
def test_long_rows(name, width):
    f, x = PROGRAMS[name], rows_of(5, width)
    fast = vk.jit(f, backend="native")
    assert_same(fast(x), f(x))
    words = "\n".join(map(str, fast.explain(x)))
    assert f"rows of {width} elements" in words, words


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -np.inf])
def test_special_values(value):
    """The exact form takes over where a zero meets an infinite derivative."""
    x = np.abs(rows_of(6, 80))
    x[2] = value
    x[4, 77] = value
    f = lambda x: np.sum(np.sqrt(np.where(x > 0, x, 0.0)) * np.max(x, axis=1, keepdims=True), 1)
    g = vk.grad(lambda x: np.sum(f(x)))
    with np.errstate(all="ignore"):
        for h in (f, g, surprise, PROGRAMS["truth values"], PROGRAMS["values and columns"]):
            assert_same(vk.jit(h, backend="native")(x), h(x))


@pytest.mark.parametrize("layout", ["columns", "backwards", "strided", "repeated"])
def test_layouts(layout):
    x = rows_of(80, 80)
    x = {"columns": x.T, "backwards": x[::-1, ::-1], "strided": np.repeat(x, 2, 1)[:, ::2],
         "repeated": np.broadcast_to(x[:1], x.shape)}[layout]  # fmt: skip
    f = vk.grad(lambda x: np.sum(surprise(x) ** 2))
    assert_same(vk.jit(f, backend="native")(x), f(x))


NOT_ROWS: dict[str, Any] = {
    "an index": lambda x: np.sum(np.sin(x[::-1]) * x, axis=1),
    "turned": lambda x: np.sum(np.sin(x.T) * np.cos(x), axis=1) + np.sum(x, axis=0),
    "numbers of rows as a shared row": lambda x: np.sum(np.sin(x) * np.sum(x * x, axis=1), axis=1),
    "a row of columns": lambda x: np.sum(np.cos(x) * np.sum(np.sin(x) * x, axis=0), axis=1),
    "too long": lambda x: np.sum(np.tile(np.sin(x) * x, (1, LONGEST // 60)) * 2.0, axis=1),
}


@pytest.mark.parametrize("name", NOT_ROWS)
def test_what_mixes_rows(name):
    """Square arrays, in which rows and columns are as long."""
    f, x = NOT_ROWS[name], rows_of(80, 80)
    assert_same(vk.jit(f, backend="native")(x), f(x))
    g = vk.grad(lambda x: np.sum(f(x) ** 2))
    assert_same(vk.jit(g, backend="native")(x), g(x))


def test_what_is_printed_keeps_its_order(capsys):
    def f(x):
        y = np.sin(x) / np.sum(x * x, axis=1, keepdims=True)
        vk.debug.print("first {}", y[0, 0])
        vk.debug.print("second {}", x[0, 0])
        return np.sum(y * y, axis=0)

    x = rows_of(4, 70)
    assert_same(vk.jit(f, backend="native")(x), f(x))
    words = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert words == ["first", "second"] * 2


def test_many_operands():
    """More than a ufunc takes."""
    xs = [rows_of(3, 70) + i for i in range(50)]

    def f(xs):
        total = [np.sin(x) / np.sum(x, axis=1, keepdims=True) for x in xs]
        return total, [np.sum(t * t, axis=1) for t in total], [np.sum(t, axis=0) for t in total]

    fast = vk.jit(f, backend="native")
    assert_same(fast(xs), f(xs))
    assert {part.where for part in fast.explain(xs)} == {"native kernel"}


def test_numbers_of_short_rows():
    """NumPy's loop would be called for each row."""
    x, y = rows_of(900, 5), rows_of(900, 1)
    f = lambda x, y: x * y
    fast = vk.jit(f, backend="native")
    assert [part.where for part in fast.explain(x, y)] == ["native kernel"]
    np.testing.assert_array_equal(fast(x, y), f(x, y))
    small = vk.jit(f, backend="native")
    assert [part.where for part in small.explain(x[:9], y[:9])] == ["one call"]


@pytest.mark.parametrize("axis", [0, 1, 2, (0, 1)])
def test_a_product_that_is_only_summed_is_not_made(axis):
    x, y = (rows_of(n, 40)[:120].reshape(6, 20, 40) for n in (120, 121))
    f = lambda x, y: np.sum(x * y, axis=axis)
    fast = vk.jit(f, backend="native")
    (part,) = [p for p in fast.explain(x, y) if len(p.equations) > 1]
    assert str(part).startswith("native kernel: multiply sum")
    np.testing.assert_allclose(fast(x, y), f(x, y), rtol=1e-12, atol=1e-12)


def test_what_is_small_does_not_end_a_group():
    def f(x, y):
        z = np.sin(x) * y
        square = np.matmul(np.swapaxes(z, 1, 2), z)  # needs the group, and is computed after it
        return -square * 2.0, np.sum(z * x, axis=1), np.sum(z, axis=1, keepdims=True)

    x, y = rows_of(2000, 8).reshape(4, 500, 8), rows_of(2000, 1).reshape(4, 500, 1)
    fast = vk.jit(f, backend="native")
    parts = [str(part) for part in fast.explain(x, y)]
    assert "native kernel: sin multiply multiply sum sum   (2000 rows of 8 elements" in parts[0]
    for got, want in zip(fast(x, y), f(x, y), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_results_are_fresh():
    f = vk.jit(lambda x: (np.sin(x) / np.sum(x * x, axis=1, keepdims=True), x), backend="native")
    x = rows_of(4, 70)
    first = f(x)
    assert not any(np.may_share_memory(y, x) for y in first)
    first[0][:] = 0.0
    assert np.all(f(x)[0] != 0.0)


def test_bits_are_those_of_any_number_of_rows():
    f = vk.jit(PROGRAMS["layers"], backend="native")
    x = rows_of(7, 83)
    assert f(x)[3:5].tobytes() == f(x[3:5]).tobytes()
