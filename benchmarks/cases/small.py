"""Small arrays, where what a library does per operation is all there is."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.case import Case, Size

EVERY = ("function", "gradient", "jvp", "second", "vjp", "pullback", "compiled")


def few(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    return (np.linspace(0.1, 1.0, size[0]),)


def tiny(np: Any, x: Any) -> Any:
    y = np.sin(x) * x + np.exp(-x * x)
    return np.sum(y * y / (1.0 + x))


def tiny_by_hand(x: np.ndarray) -> np.ndarray:
    s = np.sin(x)
    e = np.exp(-x * x)
    y = s * x + e
    d = 1.0 + x
    q = y / d
    return 2.0 * q * (np.cos(x) * x + s - 2.0 * x * e) - q * q


def four_and_steps(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    return np.linspace(0.1, 1.0, 4), size[0] // 3


def chain(np: Any, x: Any, steps: int) -> Any:
    for _ in range(steps):
        x = np.tanh(x) * 1.01 + 0.1
    return np.sum(x)


def chain_by_hand(x: np.ndarray, steps: int) -> np.ndarray:
    kept = []
    for _ in range(steps):
        t = np.tanh(x)
        kept.append(t)
        x = t * 1.01 + 0.1
    ct = np.ones_like(x)
    while kept:
        t = kept.pop()
        ct = ct * 1.01 * (1.0 - t * t)
    return ct


CASES = (
    Case(
        name="tiny",
        about="ten elementwise operations and a sum",
        sizes=((3,), (10,), (100,), (1000,)),
        quick=((3,), (10,)),
        inputs=few,
        function=tiny,
        hand=tiny_by_hand,
        operations=lambda size: 10,
        measures=EVERY,
        tags=frozenset({"small"}),
    ),
    Case(
        name="chain",
        about="a chain of small operations on 4 elements; the size is their number",
        sizes=((60,), (600,), (1800,)),
        quick=((600,),),
        inputs=four_and_steps,
        function=chain,
        hand=chain_by_hand,
        operations=lambda size: size[0],
        measures=EVERY,
        at_most={"jax": 600, "jax-eager": 600},
        tags=frozenset({"small", "unrolled"}),
    ),
)
