"""Elementwise functions, reductions and softmax on arrays from 10^3 elements on."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, exp, log1p, sin, tanh
from typing import Any

import numpy as np

from benchmarks.case import Case, Size

SIZES = tuple((10**k,) for k in range(3, 8))
QUICK = ((10**5,),)
CHEAP = frozenset({"arrays", "cheap"})
"""Tag of the programs whose gradient must cost a small constant times the function."""


def vector(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    return (generator.normal(size=size[0]),)


def elementwise(np: Any, x: Any) -> Any:
    q = x * x
    return np.sum(np.sin(x) * np.exp(-0.5 * q) + np.log1p(q) * np.tanh(x))


def elementwise_by_hand(x: np.ndarray) -> np.ndarray:
    q = x * x
    s, e, t = np.sin(x), np.exp(-0.5 * q), np.tanh(x)
    return (np.cos(x) - s * x) * e + 2.0 * x / (1.0 + q) * t + np.log1p(q) * (1.0 - t * t)


def elementwise_in_loops(njit: Any) -> Callable[..., Any]:
    @njit
    def gradient(x):
        out = np.empty_like(x)
        for i in range(x.size):
            v = x[i]
            q, s, t = v * v, sin(v), tanh(v)
            e = exp(-0.5 * q)
            out[i] = (cos(v) - s * v) * e + 2.0 * v / (1.0 + q) * t + log1p(q) * (1.0 - t * t)
        return out

    return gradient


def arithmetic(np: Any, x: Any) -> Any:
    q = x * x
    return np.sum(q * x / (1.0 + q) + 0.5 * q)


def arithmetic_by_hand(x: np.ndarray) -> np.ndarray:
    q = x * x
    d = 1.0 + q
    return (3.0 + q) * q / (d * d) + x


def arithmetic_in_loops(njit: Any) -> Callable[..., Any]:
    @njit
    def gradient(x):
        out = np.empty_like(x)
        for i in range(x.size):
            q = x[i] * x[i]
            d = 1.0 + q
            out[i] = (3.0 + q) * q / (d * d) + x[i]
        return out

    return gradient


def rows_of_100(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    return (generator.normal(size=(size[0] // 100, 100)),)


def reductions(np: Any, x: Any) -> Any:
    m = np.mean(x, axis=0)
    v = np.mean((x - m) ** 2, axis=0)
    s = np.sum(x * x, axis=1)
    return np.sum(m * m) + np.sum(np.sqrt(v)) + np.mean(np.log(s))


def reductions_by_hand(x: np.ndarray) -> np.ndarray:
    n = len(x)
    m = np.mean(x, axis=0)
    d = x - m
    v = np.mean(d * d, axis=0)
    s = np.sum(x * x, axis=1)
    # The mean inside v contributes nothing: the deviations add up to zero.
    return 2.0 * m / n + d * (1.0 / (n * np.sqrt(v))) + x * (2.0 / (n * s))[:, None]


def log_sum_exp(np: Any, x: Any) -> Any:
    m = np.max(x)
    return m + np.log(np.sum(np.exp(x - m)))


def log_sum_exp_by_hand(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - np.max(x))
    return e / np.sum(e)


def logits_and_classes(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    rows = size[0] // 100
    return generator.normal(size=(rows, 100)), np.eye(100)[generator.integers(0, 100, rows)]


def softmax(np: Any, x: Any, classes: Any) -> Any:
    y = x - np.max(x, axis=1, keepdims=True)
    log_total = np.log(np.sum(np.exp(y), axis=1, keepdims=True))
    return -np.sum(classes * (y - log_total)) / x.shape[0]


def softmax_by_hand(x: np.ndarray, classes: np.ndarray) -> np.ndarray:
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    return (e / np.sum(e, axis=1, keepdims=True) - classes) / len(x)


CASES = (
    Case(
        name="elementwise",
        about="sin, exp, log1p, tanh and products",
        sizes=SIZES,
        quick=QUICK,
        inputs=vector,
        function=elementwise,
        hand=elementwise_by_hand,
        numba=elementwise_in_loops,
        tags=CHEAP,
    ),
    Case(
        name="arithmetic",
        about="products, a quotient and sums: memory-bound",
        sizes=SIZES,
        quick=QUICK,
        inputs=vector,
        function=arithmetic,
        hand=arithmetic_by_hand,
        numba=arithmetic_in_loops,
        tags=CHEAP,
    ),
    Case(
        name="reductions",
        about="means, deviations and sums of squares along both axes",
        sizes=SIZES[:-1],
        quick=QUICK,
        inputs=rows_of_100,
        function=reductions,
        hand=reductions_by_hand,
        tags=CHEAP,
    ),
    Case(
        name="log-sum-exp",
        about="log of a sum of exponentials, stabilised",
        sizes=SIZES[:-1],
        quick=QUICK,
        inputs=vector,
        function=log_sum_exp,
        hand=log_sum_exp_by_hand,
        tags=CHEAP,
    ),
    Case(
        name="softmax",
        about="cross entropy of 100 classes",
        sizes=SIZES[:-1],
        quick=QUICK,
        inputs=logits_and_classes,
        function=softmax,
        hand=softmax_by_hand,
        tags=CHEAP,
    ),
)
