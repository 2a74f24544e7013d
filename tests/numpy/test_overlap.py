"""Destinations that share memory with operands: what NumPy leaves there, or an error."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.errors import UnsupportedError

Array = Any
X = np.random.default_rng(5).normal(size=40)
M = np.random.default_rng(6).normal(size=(4, 4))
MASK = np.array([True, False, True, True, False])
PLACES = np.array([3, 0, 2, 1])
COUNT = 60
MODES: list[Callable[..., Array]] = [
    lambda f: vk.vjp(f, X)[0],
    lambda f: vk.jvp(f, (X,), (X,))[0],
    lambda f: vk.vmap(f)(X[None])[0],
    lambda f: vk.jit(f)(X),
]


def seen(buffer: Array, start: int, step: int, count: int) -> Array:
    """A line of elements, with gaps or backwards."""
    start += 8
    if step < 0:
        return buffer[start : start + count * -step][::step]
    return buffer[start : start + count * step : step]


def modf(y: Array, a: Array, b: Array) -> None:
    np.modf(np.ones(4), out=(y, b))


def ptp_of_rows(y: Array, a: Array, b: Array) -> None:
    np.ptp(a.reshape(2, 2), axis=0, out=y)


Statement = tuple[Callable[..., object], tuple[int, int, int]]
MOVES: list[Statement] = [
    (lambda y, a, b: np.concatenate([a, b], out=y), (6, 3, 3)),
    (lambda y, a, b: np.concatenate([a, np.arange(3.0), b], out=y), (9, 3, 3)),
    (lambda y, a, b: np.stack([a, b], axis=1, out=y.reshape(3, 2)), (6, 3, 3)),
    (lambda y, a, b: np.choose([0, 1, 3, 1], [a, b], out=y, mode="clip"), (4, 4, 4)),
    (lambda y, a, b: np.choose([0, 1, 3, 1], [a, b], out=y, mode="wrap"), (4, 4, 4)),
    (lambda y, a, b: np.choose([0, 1, 0, 1], [a, b], out=y), (4, 4, 4)),
    (lambda y, a, b: np.ptp(np.stack([a, b]), axis=0, out=y), (4, 4, 4)),
    (ptp_of_rows, (2, 4, 4)),
    (lambda y, a, b: y.__setitem__(slice(None), a), (4, 4, 4)),
    (lambda y, a, b: y.__setitem__(MASK, a), (5, 3, 4)),
    (lambda y, a, b: y.__setitem__(MASK.tolist(), a), (5, 3, 4)),
    (lambda y, a, b: y.__setitem__(PLACES, a), (5, 4, 4)),
    (lambda y, a, b: y.reshape(2, 3).__setitem__((PLACES[1:2], slice(1, None)), a), (6, 2, 2)),
    (lambda y, a, b: y.__setitem__((None, MASK), a), (5, 3, 4)),
    (lambda y, a, b: y.__setitem__((True, slice(2)), a), (5, 2, 4)),
    (lambda y, a, b: np.copyto(y, a, where=MASK), (5, 5, 4)),
    (lambda y, a, b: np.place(y, MASK, a), (5, 3, 4)),
    (lambda y, a, b: np.put(y, PLACES, a), (5, 3, 4)),
    (lambda y, a, b: np.fill_diagonal(y.reshape(3, 3), a), (9, 3, 4)),
    (lambda y, a, b: y.flat.__setitem__(PLACES, a), (5, 4, 4)),
    (lambda y, a, b: setattr(y, "flat", a), (5, 3, 4)),
    (lambda y, a, b: np.add(a, b, out=y), (5, 5, 5)),
    (lambda y, a, b: np.take(a, PLACES, out=y, mode="clip"), (4, 4, 4)),
    (lambda y, a, b: np.cumsum(a, out=y), (4, 4, 4)),
    (lambda y, a, b: np.add.at(y, [0, 1, 1, 2], a), (4, 4, 4)),
    (lambda y, a, b: np.multiply.at(y, [0, 1, 1, 2], a), (4, 4, 4)),
]
WRITTEN_WHILE_READ: list[Statement] = [
    (lambda y, a, b: np.einsum("i,i->i", a, b, out=y), (4, 4, 4)),
    (lambda y, a, b: np.matmul(M, a, out=y), (4, 4, 4)),
    (lambda y, a, b: np.vecdot(a.reshape(2, 2), M[:2, :2], out=y), (2, 4, 4)),
    (modf, (4, 4, 4)),
]


@pytest.mark.parametrize(("statement", "lengths"), MOVES, ids=range(len(MOVES)))
def test_what_is_left_is_what_numpy_leaves(
    statement: Callable[..., object], lengths: tuple[int, int, int]
) -> None:
    """In every mode and to first order; refused where NumPy's layout is not known or wrong."""
    rng = np.random.default_rng(7)
    # The maxima of NumPy 2.1 read what they have written where the operand is backwards.
    strides = (1, 2) if statement is ptp_of_rows else (1, 2, -1, -2)
    answered = 0
    for _ in range(COUNT):
        lines = [(int(rng.integers(6)), int(rng.choice(strides)), n) for n in lengths]

        def program(x: Array, lines: Sequence[tuple[int, int, int]] = lines) -> Array:
            buffer = np.copy(x)
            statement(*[seen(buffer, *line) for line in lines])
            return buffer

        wanted = program(X)
        for run in MODES:
            try:
                out = run(program)
            except UnsupportedError:
                continue
            answered += 1
            np.testing.assert_array_equal(out, wanted)
        v, h = rng.normal(size=X.size), 1e-6
        try:
            pushed = vk.jvp(program, (X,), (v,))[1]
        except UnsupportedError:
            continue
        difference = (program(X + h * v) - program(X - h * v)) / (2 * h)
        np.testing.assert_allclose(pushed, difference, atol=1e-7)
        _, pullback = vk.vjp(program, X)
        np.testing.assert_allclose(pullback(v)[0] @ v, v @ pushed, atol=1e-12)
    assert answered >= COUNT // 2


@pytest.mark.parametrize(
    ("statement", "lengths"), WRITTEN_WHILE_READ, ids=range(len(WRITTEN_WHILE_READ))
)
def test_a_result_that_no_function_has_is_refused(
    statement: Callable[..., object], lengths: tuple[int, int, int]
) -> None:
    def program(x: Array) -> Array:
        buffer = np.copy(x)
        y, a, _ = lengths
        statement(seen(buffer, 1, 1, y), seen(buffer, 0, 1, a), seen(buffer, 0, 1, a))
        return buffer

    for run in (vk.vjp, lambda f, x: vk.jit(f)(x)):
        with pytest.raises(UnsupportedError, match="out shares memory with an operand"):
            run(program, X)


def test_products_into_other_memory_of_the_same_array_are_fine():
    def program(x):
        buffer = np.zeros_like(x)
        buffer[:4] = x[:4]
        np.matmul(M, buffer[:4], out=buffer[4:8])
        np.einsum("i,i->i", buffer[4:8], x[:4], out=buffer[8:12])
        return buffer

    np.testing.assert_allclose(vk.vjp(program, X)[0], program(X), rtol=1e-15)
    wanted = program(X)[4:8] + M.T.dot(X[:4])
    got = vk.grad(lambda x: np.sum(program(x)[8:12]))(X)[:4]
    np.testing.assert_allclose(got, wanted, rtol=1e-14)


def test_an_out_with_gaps_is_refused_where_numpy_fills_the_gaps():
    def program(x):
        y = np.copy(x)
        np.choose([0, 1, 2], [x[:3], x[3:6]], out=y[:6:2], mode="clip")
        return y

    for run in (vk.vjp, lambda f, x: vk.jit(f)(x)):
        with pytest.raises(UnsupportedError, match="as if it were contiguous"):
            run(program, X)
