"""What plain NumPy code costs: by which name a function is called, and writes into an array.

`spelling` is the eager chain through `numpy` and through `vjpkit.numpy`. `writes` is a loop that
assigns 1,000 elements of a traced array one by one: its time, forward and backward, beyond that of
the same loop over an array of 1,000 elements, in copies of the array. A write that copied the array
would make it 1,000.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.cases import CASES

__all__ = ["NAMES", "PARTS", "WRITES", "spelling", "writes"]

WRITES, SIZE = 1000, 10**5
NAMES = ("numpy", "vjpkit.numpy")
PARTS = ("forward", "backward")
ROUNDS = 15

Call = Callable[[], Any]


def quickest(calls: dict[str, Call], repeated: int = 1) -> dict[str, float]:
    """Seconds of processor time of each call in its quickest round; they take turns."""
    found = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.thread_time()
            for _ in range(repeated):
                call()
            found[name] = min(found[name], (time.thread_time() - start) / repeated)
    return found


def spelling(operations: str) -> dict[str, float]:
    """Seconds of the gradient of so many small operations by each name of the functions."""
    import vjpkit as vk
    import vjpkit.numpy as vnp

    case = CASES["chain"]
    x, steps = case.problem((int(operations),))
    gradients = [vk.grad(partial(case.function, names)) for names in (np, vnp)]
    calls = [partial(gradient, x, steps) for gradient in gradients]
    return quickest(dict(zip(NAMES, calls, strict=True)), 5)


def assigned(x: Any) -> Any:
    """Sines of the first elements, assigned one by one."""
    y = np.zeros_like(x)
    for i in range(WRITES):
        y[i] = np.sin(x[i])
    return y


def writes() -> dict[str, float]:
    """Copies of the array that the loop takes forward, and those that its pullback takes."""
    import vjpkit as vk

    calls: dict[str, Call] = {}
    for n in (WRITES, SIZE):
        x = np.linspace(0.1, 1.0, n)
        y, pullback = vk.vjp(assigned, x)
        calls[f"forward {n}"] = partial(vk.vjp, assigned, x)
        calls[f"backward {n}"] = partial(pullback, y)
    calls["copy"] = lambda: [np.copy(x) for _ in range(100)]
    found = quickest(calls)
    return {
        part: (found[f"{part} {SIZE}"] - found[f"{part} {WRITES}"]) / (found["copy"] / 100)
        for part in PARTS
    }
