"""Loops over rows: what is computed row by row is what NumPy computes for all rows at once."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import vjpkit as vk
from tests.laws.test_metamorphic import POINT, close, programs
from vjpkit.backends import executable
from vjpkit.core.aval import aval_of

pytest.importorskip("llvmlite", reason="the native tier is an extra")

from vjpkit.backends.native.rows import FEWEST


def rows_of(count: int, *row: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, *row))


def turned(x):
    """A vector about an axis, as cameras are turned."""
    axis, place = x[:3] / np.sqrt(np.sum(x[:3] ** 2)), x[3:6]
    normal = np.stack([axis[1] * place[2] - axis[2] * place[1], axis[2] * place[0], -axis[0]])
    moved = place * np.cos(x[6]) + normal * np.sin(x[6])
    return np.concatenate([moved[:2] / moved[2], x[:1] * 0.5])


def losses(x):
    """Cross entropy of each row after it was normalised."""
    y = (x - np.mean(x, axis=1, keepdims=True)) / np.sqrt(np.var(x, axis=1, keepdims=True) + 0.1)
    top = np.max(y, axis=1, keepdims=True)
    return top[:, 0] + np.log(np.sum(np.exp(y - top), axis=1)) - y[:, 0]


SHARED = np.array([0.5, 2.0, -1.0, 0.25, 3.0, 1.0, -0.5])
PROGRAMS: dict[str, Any] = {
    "values": vk.vmap(turned),
    "blocks": vk.vmap(vk.jacrev(turned)),
    "forward": vk.vmap(vk.jacfwd(turned)),
    "curvature": vk.vmap(vk.hessian(lambda x: np.sum(turned(x) ** 2))),
    "losses": losses,
    "gradient of losses": vk.grad(lambda x: np.sum(losses(x) ** 2)),
    "shared": lambda x: np.sum(np.tanh(x * SHARED), axis=1) + np.max(x, axis=1) * SHARED[2],
    "whole numbers and truth values": lambda x: (
        np.concatenate([x > 0, x[:, ::-1] < SHARED], axis=1),
        np.where(x[:, :1] > 0, np.sum(x, axis=1, keepdims=True), np.min(x, axis=1)[:, None]),
    ),
    "small matrices": lambda x: np.sin(
        np.matmul(x[:, :6].reshape(-1, 2, 3), np.cos(x[:, :6]).reshape(-1, 3, 2))
    ) * x[:, 6][:, None, None],
    "reduced": lambda x: np.std(x, axis=1) * np.prod(x, axis=1) + np.var(x, axis=1, ddof=1),
    "extrema": vk.grad(lambda x: np.sum(np.max(x, axis=1) ** 3 - np.min(x * x, axis=1))),
    "running": lambda x: np.cumsum(np.sin(x), axis=1)[:, ::2] * x[:, :1],
    "single precision": lambda x: np.sum(np.sin(x.astype("f4") * x[:, :1].astype("f4")), axis=1),
}  # fmt: skip


def assert_same(got: Any, want: Any) -> None:
    for a, b in zip(vk.tree.leaves(got), vk.tree.leaves(want), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        scale = 1e-11 if b.dtype != np.float32 else 1e-5
        np.testing.assert_allclose(a, b, rtol=scale, atol=scale)


@pytest.mark.parametrize("count", [FEWEST, FEWEST + 9])
@pytest.mark.parametrize("name", PROGRAMS)
def test_rows(name, count):
    f, x = PROGRAMS[name], rows_of(count, 7)
    fast = vk.jit(f, backend="native")
    assert_same(fast(x), f(x))
    assert any(f"{count} rows" in part.why for part in fast.explain(x)), fast.explain(x)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_rows_with_special_values(value):
    """The exact form takes over where a zero meets an infinite derivative."""
    x = np.abs(rows_of(FEWEST + 3, 7))
    x[5] = value
    x[9, 2] = value
    f = lambda x: np.sum(np.sqrt(np.where(x > 0, x, 0.0)) * x[:, :1], axis=1)
    g = vk.grad(lambda x: np.sum(f(x)))
    with np.errstate(all="ignore"):
        assert_same(vk.jit(f, backend="native")(x), f(x))
        assert_same(vk.jit(g, backend="native")(x), g(x))


NOT_ROWS: dict[str, Any] = {
    "an index of rows": lambda x: np.sum(np.sin(x[::-1]) * x, axis=1),
    "rows that are rolled": lambda x: np.sum(np.roll(x, 1, axis=0) * np.exp(x), axis=1),
    "rows that are turned": lambda x: np.sum(np.sin(x.T) * np.cos(x), axis=1),
    "rows that are joined": lambda x: np.sum(np.concatenate([x[1:], x[:1]]) * np.sin(x), axis=1),
    "sums of columns": lambda x: np.sum(np.sin(x) * np.cos(x) - np.sum(x, axis=0), axis=1),
    "a product": lambda x: np.sum(np.sin(x @ x) * np.cos(x), axis=1),
    "the diagonal": lambda x: np.sum(np.sin(np.diagonal(x))[:, None] * np.cos(x), axis=1),
    "a mask of rows": lambda x: np.sum(np.where(x[0] > 0, np.sin(x), np.cos(x)), axis=1),
}


@pytest.mark.parametrize("name", NOT_ROWS)
def test_what_mixes_rows(name):
    """Square arrays, in which rows and columns are as many."""
    f, x = NOT_ROWS[name], rows_of(FEWEST, FEWEST)
    assert_same(vk.jit(f, backend="native")(x), f(x))
    g = vk.grad(lambda x: np.sum(f(x) ** 2))
    assert_same(vk.jit(g, backend="native")(x), g(x))


POINTS = np.stack([POINT * s for s in np.linspace(0.6, 1.4, 9)])


@settings(max_examples=8, derandomize=True, deadline=None)
@given(programs)
def test_random_programs_row_by_row(f):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vjpkit.backends.native.rows.FEWEST", 2)
        closed = vk.make_ir(vk.vmap(vk.value_and_grad(f.scalar)))(POINTS)
        outs = executable(closed.program, "native")(*closed.consts, POINTS)
    for got, want in zip(outs, closed(POINTS), strict=True):
        assert aval_of(got).strong() == aval_of(want).strong()
        close(got, want)


def test_results_are_fresh():
    f = vk.jit(lambda x: (np.sum(np.sin(x) * x, axis=1), x[:, :1] * 2.0), backend="native")
    x = rows_of(FEWEST, 3)
    first = f(x)
    assert not any(np.may_share_memory(y, x) for y in first)
    first[0][:] = 0.0
    assert np.all(f(x)[0] != 0.0)
