"""Slices, stencils, gathers, and reading element by element."""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt
from typing import Any

import numpy as np

from benchmarks.case import Case, Size
from benchmarks.cases.arrays import CHEAP, QUICK, SIZES, vector


def rosenbrock(np: Any, x: Any) -> Any:
    d = x[1:] - x[:-1] * x[:-1]
    r = 1.0 - x[:-1]
    return np.sum(100.0 * d * d + r * r)


def rosenbrock_by_hand(x: np.ndarray) -> np.ndarray:
    head = x[:-1]
    d = x[1:] - head * head
    out = np.zeros_like(x)
    out[:-1] = 2.0 * (head - 1.0) - 400.0 * d * head
    out[1:] += 200.0 * d
    return out


def rosenbrock_in_loops(njit: Any) -> Callable[..., Any]:
    @njit
    def gradient(x):
        out = np.zeros_like(x)
        for i in range(x.size - 1):
            d = x[i + 1] - x[i] * x[i]
            out[i] += 2.0 * (x[i] - 1.0) - 400.0 * d * x[i]
            out[i + 1] += 200.0 * d
        return out

    return gradient


def square(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    side = isqrt(size[0])
    return (generator.normal(size=(side, side)),)


def stencil(np: Any, u: Any) -> Any:
    bend = 4.0 * u[1:-1, 1:-1] - u[2:, 1:-1] - u[:-2, 1:-1] - u[1:-1, 2:] - u[1:-1, :-2]
    return 0.5 * np.sum(bend * bend)


def stencil_by_hand(u: np.ndarray) -> np.ndarray:
    bend = 4.0 * u[1:-1, 1:-1] - u[2:, 1:-1] - u[:-2, 1:-1] - u[1:-1, 2:] - u[1:-1, :-2]
    out = np.zeros_like(u)
    out[1:-1, 1:-1] = 4.0 * bend
    for part in (out[2:, 1:-1], out[:-2, 1:-1], out[1:-1, 2:], out[1:-1, :-2]):
        part -= bend
    return out


def vector_and_places(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    n = size[0]
    return generator.normal(size=n), generator.integers(0, n, n), generator.normal(size=n)


def gather(np: Any, x: Any, places: Any, weights: Any) -> Any:
    read = x[places]
    return np.sum(weights * read * read)


def gather_by_hand(x: np.ndarray, places: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.bincount(places, 2.0 * weights * x[places], len(x))


def index_loop(np: Any, x: Any) -> Any:
    total = 0.0
    for i in range(x.shape[0]):
        total = total + x[i] * x[i]
    return total


CASES = (
    Case(
        name="slices",
        about="the Rosenbrock function by slices",
        sizes=SIZES,
        quick=QUICK,
        inputs=vector,
        function=rosenbrock,
        hand=rosenbrock_by_hand,
        numba=rosenbrock_in_loops,
        tags=CHEAP,
    ),
    Case(
        name="stencil",
        about="the five-point Laplacian of a square grid by slices",
        sizes=SIZES[:-1],
        quick=QUICK,
        inputs=square,
        function=stencil,
        hand=stencil_by_hand,
        tags=CHEAP,
    ),
    Case(
        name="gather",
        about="reading by an array of indices, some of them twice",
        sizes=SIZES[:-1],
        quick=QUICK,
        inputs=vector_and_places,
        function=gather,
        hand=gather_by_hand,
        tags=frozenset({"arrays"}),
    ),
    Case(
        name="index-loop",
        about="a Python loop over the elements; the size is their number",
        sizes=((100,), (1000,), (10000,)),
        quick=((1000,),),
        inputs=vector,
        function=index_loop,
        operations=lambda size: 4 * size[0],
        at_most={"jax": 1000, "jax-eager": 1000, "autograd": 1000},
        tags=frozenset({"small", "unrolled"}),
    ),
)
