"""Random programs that write into arrays: a program is a list of statements, each a few numbers.

A statement picks an array, an index and a value by its numbers, modulo what there is, so that every
list of numbers is a program, and a shorter list is a simpler one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Statement = tuple[int, int, int, int]

SHAPE = (3, 4)
WEIGHTS = np.random.default_rng(3).normal(size=64)


class State:
    """What a running program has: its input, arrays and views of them, and a total so far."""

    def __init__(self, x: Any) -> None:
        self.x = x
        self.arrays = [np.copy(x), np.zeros_like(x)]
        self.total = 0.0

    def array(self, number: int) -> Any:
        return self.arrays[number % len(self.arrays)]

    def value(self, number: int, shape: tuple[int, ...]) -> Any:
        """Something smooth that broadcasts to ``shape``."""
        flat = np.ravel(self.x)
        scalar = flat[number % flat.size]
        match number % 5:
            case 0:
                return 0.5
            case 1:
                return np.sin(scalar)
            case 2:
                return scalar * flat[(number + 5) % flat.size]
            case 3:
                size = shape[-1] if shape else 1
                return np.reshape(np.cos(flat[:size]), shape[-1:]) if size <= flat.size else scalar
        fitting = [a for a in self.arrays if a.shape == shape]
        return np.sin(fitting[number % len(fitting)]) if fitting else scalar


def index_of(number: int, shape: tuple[int, ...]) -> Any:
    """A way of indexing an array of this shape."""
    if not shape or 0 in shape:
        return ...
    i, j = number % shape[0], number % shape[-1]
    ways: list[Any] = [
        i,
        slice(i, None),
        slice(None, None, -1),
        (..., j),
        (..., slice(None, None, 2)),
        slice(i, i),
        np.array([i, (i + 1) % shape[0]]),
        np.array([i, 0, i]),
        (np.arange(shape[0]) + number) % 2 == 0,
        (slice(None), np.array([0, j])) if len(shape) > 1 else slice(0, 1),
        (np.array([0, i]), np.array([j, 0])) if len(shape) == 2 else (None, 0),
        (np.arange(int(np.prod(shape))).reshape(shape) * 7 + number) % 3 == 0,
        (..., None, slice(j, None)),
        -1,
        True,
    ]
    return ways[number % len(ways)]


def view(state: State, a: int, b: int, c: int) -> None:
    x = state.array(a)
    views: list[Callable[[], Any]] = [
        lambda: x[index_of(c, x.shape)],
        lambda: x.T,
        lambda: np.reshape(x, -1),
        lambda: np.ravel(x),
        lambda: x[::-1],
        lambda: np.swapaxes(x, 0, -1) if x.ndim else x,
        lambda: np.expand_dims(x, 0),
        lambda: np.squeeze(x),
        lambda: x.reshape(2, -1) if x.size % 2 == 0 and x.size else x[...],
        lambda: np.copy(x),
        lambda: np.einsum("ii->i", x) if x.ndim == 2 and len(set(x.shape)) == 1 else x[...],
        lambda: np.atleast_2d(x),
    ]
    made = views[b % len(views)]()
    if np.ndim(made) <= 4 and isinstance(made, np.ndarray | type(x)) and np.ndim(made):
        state.arrays.append(made)


def assign(state: State, a: int, b: int, c: int) -> None:
    x = state.array(a)
    index = index_of(b, x.shape)
    x[index] = state.value(c, np.shape(x[index]))


def augment(state: State, a: int, b: int, c: int) -> None:
    x = state.array(a)
    index = index_of(b, x.shape)
    value = state.value(c, np.shape(x[index]))
    match c % 4:
        case 0:
            x[index] += value
        case 1:
            x[index] *= value
        case 2:
            x[index] -= value
        case _:
            x[index] /= 2.0 + value * value


def whole(state: State, a: int, b: int, c: int) -> None:
    x = state.array(a)
    value = state.value(b, x.shape)
    match c % 3:
        case 0:
            x += value
        case 1:
            x *= value
        case _:
            x -= value


def accumulate(state: State, a: int, b: int, c: int) -> None:
    x = state.array(a)
    if not x.ndim or not x.shape[0]:
        return
    places = (np.arange(2 + b % 12) * (1 + b % 3) + c) % x.shape[0]
    ufunc = (np.add, np.subtract, np.multiply)[b % 3]
    value = np.sin(np.ravel(state.x)[c % state.x.size] * (1.0 + np.arange(float(places.size))))
    ufunc.at(x, places, value.reshape((-1,) + (1,) * (x.ndim - 1)))


def copy_where(state: State, a: int, b: int, c: int) -> None:
    x = state.array(a)
    mask = (np.arange(x.size).reshape(x.shape) + b) % 2 == 0
    np.copyto(x, state.value(c, x.shape), where=mask)


def write_out(state: State, a: int, b: int, c: int) -> None:
    x = state.array(a)
    fitting = [y for y in state.arrays if y.shape == x.shape]
    y = fitting[b % len(fitting)]
    if c % 2:
        np.sin(y, out=x)
    else:
        np.multiply(y, 0.5, out=x, where=(np.arange(x.size).reshape(x.shape) + c) % 3 == 0)


def functions(state: State, a: int, b: int, c: int) -> None:
    x = state.array(a)
    if not x.size:
        return
    match b % 4:
        case 0:
            np.put(x, [c % x.size, 0], state.value(c, (2,)))
        case 1 if x.ndim == 2:
            np.fill_diagonal(x, state.value(1 + 5 * c, ()))
        case 2:
            x.fill(state.value(1 + 5 * c, ()))
        case _:
            np.putmask(x, np.arange(x.size).reshape(x.shape) % 2 == c % 2, state.value(3, (2,)))


def swap(state: State, a: int, b: int, c: int) -> None:
    x = state.array(a)
    if x.ndim and x.shape[0]:
        i, j = b % x.shape[0], c % x.shape[0]
        x[i], x[j] = x[j], x[i]


def shift(state: State, a: int, b: int, c: int) -> None:
    x = state.array(a)
    if x.ndim and x.shape[0] > 1:
        x[1:] = x[:-1]


def read(state: State, a: int, b: int, c: int) -> None:
    x = state.array(a)
    part = x[index_of(b, x.shape)]
    state.total = state.total + np.sum(np.sin(part) * part if c % 2 else part * part)


STATEMENTS = (view, assign, augment, whole, accumulate, copy_where, write_out, functions, swap,
              shift, read)  # fmt: skip


def run(program: Sequence[Statement], x: Any) -> tuple[Any, list[Any]]:
    """The total at the end, and every array and view."""
    state = State(x)
    for kind, *numbers in program:
        STATEMENTS[kind % len(STATEMENTS)](state, *numbers)
    for a in state.arrays:
        weights = np.resize(WEIGHTS, a.shape)
        state.total = state.total + np.sum(np.sin(a) * weights)
    return state.total, state.arrays
