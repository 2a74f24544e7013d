"""Grids and dense derivatives: a fluid, Jacobians and Hessians, sorting, scattering."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.case import Case, Size
from benchmarks.cases.arrays import QUICK, SIZES, vector

# A fluid: semi-Lagrangian steps on a periodic grid -----------------------------------------------

STEPS, SWEEPS, DT = 5, 6, 1.0


def flow(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    n = size[0]
    wave = 2 * np.pi * np.arange(n) / n
    speeds = np.stack([np.sin(wave)[:, None] + 0 * wave, 0 * wave[:, None] + np.cos(2 * wave)])
    rows, columns = np.meshgrid(np.arange(float(n)), np.arange(float(n)), indexing="ij")
    smoke = np.exp(-((rows - n / 2) ** 2 + (columns - n / 2) ** 2) / n)
    return speeds + 0.1 * generator.normal(size=(2, n, n)), smoke, np.stack([rows, columns])


def carried(np: Any, f: Any, speeds: Any, grid: Any) -> Any:
    """A field read where the fluid came from, between four cells."""
    n = f.shape[0]
    back = grid - DT * speeds
    floor = np.floor(back)
    part, cell = back - floor, np.integers(floor)
    (a, b), (i, j) = part, (cell[0] % n, cell[1] % n)
    k, l = (i + 1) % n, (j + 1) % n  # noqa: E741
    near = (1 - b) * f[i, j] + b * f[i, l]
    far = (1 - b) * f[k, j] + b * f[k, l]
    return (1 - a) * near + a * far


def fluid(np: Any, speeds: Any, smoke: Any, grid: Any) -> Any:
    """What smoke is left on the upper half, after steps of advection and projection."""
    u, v = speeds[0], speeds[1]
    for _ in range(STEPS):
        both = np.stack([u, v])
        u, v, smoke = [carried(np, f, both, grid) for f in (u, v, smoke)]
        spread = -0.5 * (
            np.roll(u, -1, 0) - np.roll(u, 1, 0) + np.roll(v, -1, 1) - np.roll(v, 1, 1)
        )
        p = 0.0 * spread
        for _ in range(SWEEPS):
            around = np.roll(p, 1, 0) + np.roll(p, -1, 0) + np.roll(p, 1, 1) + np.roll(p, -1, 1)
            p = 0.25 * (spread + around)
        u = u - 0.5 * (np.roll(p, -1, 0) - np.roll(p, 1, 0))
        v = v - 0.5 * (np.roll(p, -1, 1) - np.roll(p, 1, 1))
    half = smoke[: smoke.shape[0] // 2]
    return np.sum(half * half)


# Dense derivatives -------------------------------------------------------------------------------


def mixing(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    n = size[0]
    return generator.normal(size=n), generator.normal(size=(n, n)) / np.sqrt(n)


def twice_mixed(np: Any, x: Any, a: Any) -> Any:
    return np.matmul(a, np.tanh(np.matmul(a, np.sin(x))))


def twice_mixed_by_hand(x: np.ndarray, a: np.ndarray) -> np.ndarray:
    t = np.tanh(a @ np.sin(x))
    return (a * (1.0 - t * t)) @ (a * np.cos(x))


def energy(np: Any, x: Any, a: Any) -> Any:
    y = np.matmul(a, x)
    return np.sum(np.log(1.0 + y * y)) + 0.25 * np.sum(x * x) ** 2


def energy_by_hand(x: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Its Hessian."""
    y = a @ x
    d = 1.0 + y * y
    bend = 2.0 * (1.0 - y * y) / (d * d)
    return (a.T * bend) @ a + 2.0 * np.outer(x, x) + np.sum(x * x) * np.eye(len(x))


def network(np: Any, x: Any, a: Any) -> Any:
    return np.sum(np.tanh(np.matmul(a, np.tanh(np.matmul(a, x)))))


# Order and scatter -------------------------------------------------------------------------------


def ordered(np: Any, x: Any, weights: Any) -> Any:
    return np.sum(np.sort(x) * weights)


def ordered_by_hand(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    out[np.argsort(x)] = weights
    return out


def shuffled(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    """Numbers in disorder, no two of them close, and weights."""
    return generator.permutation(size[0]) / size[0], generator.normal(size=size[0])


def two_vectors(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    return generator.normal(size=size[0]), generator.normal(size=size[0])


def running(np: Any, x: Any, weights: Any) -> Any:
    total = np.cumsum(x, 0)
    return np.sum(weights * total * total)


def running_by_hand(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    ct = 2.0 * weights * np.cumsum(x)
    return np.cumsum(ct[::-1])[::-1].copy()


def deposits(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    n = size[0]
    return generator.normal(size=n), generator.integers(0, max(1, n // 8), n)


def deposited(np: Any, x: Any, places: Any) -> Any:
    return np.sum(np.scatter_add(x, places, max(1, x.shape[0] // 8)) ** 3)


def deposited_by_hand(x: np.ndarray, places: np.ndarray) -> np.ndarray:
    total = np.bincount(places, x, max(1, len(x) // 8))
    return (3.0 * total * total)[places]


def written(np: Any, x: Any) -> Any:
    """A recurrence written element by element into an array."""
    y = np.zeros_like(x)
    y[0] = x[0]
    for i in range(1, x.shape[0]):
        y[i] = np.sin(y[i - 1]) * 0.5 + x[i]
    return np.sum(y * y)


def written_by_hand(x: np.ndarray) -> np.ndarray:
    y = np.zeros_like(x)
    y[0] = x[0]
    for i in range(1, len(x)):
        y[i] = np.sin(y[i - 1]) * 0.5 + x[i]
    ct = 2.0 * y
    for i in range(len(x) - 1, 0, -1):
        ct[i - 1] += 0.5 * np.cos(y[i - 1]) * ct[i]
    return ct


CASES = (
    Case(
        name="fluid",
        about="advection and projection on a periodic grid, gradient in the velocities; its side",
        sizes=((32,), (64,), (128,), (256,)),
        quick=((64,),),
        inputs=flow,
        function=fluid,
        at_most={"jax-eager": 64, "mygrad": 64, "pytensor": 64, "casadi": 0},
        tags=frozenset({"fields"}),
    ),
    Case(
        name="jacobian",
        about="the dense Jacobian of two mixings with sin and tanh",
        sizes=((10,), (50,), (200,)),
        quick=((50,),),
        inputs=mixing,
        function=twice_mixed,
        hand=twice_mixed_by_hand,
        derivative="jacobian",
        tags=frozenset({"dense"}),
    ),
    Case(
        name="hessian",
        about="the dense Hessian of a robust quadratic form",
        sizes=((10,), (50,), (200,)),
        quick=((50,),),
        inputs=mixing,
        function=energy,
        hand=energy_by_hand,
        derivative="hessian",
        tags=frozenset({"dense"}),
    ),
    Case(
        name="laplacian",
        about="the Laplacian of a network of two layers",
        sizes=((10,), (100,), (400,)),
        quick=((100,),),
        inputs=mixing,
        function=network,
        derivative="laplacian",
        measures=("function", "gradient", "trace"),
        tags=frozenset({"dense"}),
    ),
    Case(
        name="sort",
        about="a weighted sum of sorted numbers",
        sizes=SIZES[:-1],
        quick=QUICK,
        inputs=shuffled,
        function=ordered,
        hand=ordered_by_hand,
        tags=frozenset({"arrays"}),
    ),
    Case(
        name="cumsum",
        about="squares of running totals",
        sizes=SIZES[:-1],
        quick=QUICK,
        inputs=two_vectors,
        function=running,
        hand=running_by_hand,
        tags=frozenset({"arrays"}),
    ),
    Case(
        name="scatter",
        about="numbers added up where an index says, np.add.at, cubed",
        sizes=SIZES[:-1],
        quick=QUICK,
        inputs=deposits,
        function=deposited,
        hand=deposited_by_hand,
        tags=frozenset({"arrays"}),
    ),
    Case(
        name="written",
        about="a recurrence written into an array element by element; their number",
        sizes=((100,), (1000,)),
        quick=((100,),),
        inputs=vector,
        function=written,
        hand=written_by_hand,
        at_most=dict.fromkeys(("jax", "jax-eager", "torch-compile", "autograd", "mygrad"), 0),
        tags=frozenset({"small", "unrolled"}),
    ),
)
