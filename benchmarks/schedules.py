"""The gradient of a long loop by a checkpoint schedule: its time over that of its steps.

300 steps of a nonlinear heat equation over 10^5 doubles, 20 states kept. The cost of the steps is
that of as many forward steps as the schedule makes and of one gradient for each step, measured in
the same process on as many different states as the schedule keeps (one state alone would stay in
the cache): of the plain step for `checkpoint_loop`, which runs it as it is, and of the compiled one
for the loops that compile it.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from statistics import median
from typing import Any

import numpy as np

__all__ = ["FORMS", "measure"]

STEPS, SLOTS, SIZE = 300, 20, 10**5
FORMS = ("checkpoint_loop", "scan", "while_loop", "jit of scan")
ROUNDS, UNITS = 5, 100

Step = Callable[[Any], Any]


def heat(x: Any) -> Any:
    """One step of u' = u_xx - u³ on a ring."""
    return x + 0.1 * (np.roll(x, 1) - 2.0 * x + np.roll(x, -1)) - 0.01 * x * x * x


def forms() -> dict[str, Step]:
    """The sum of the last state, as a function of the first one."""
    import vjpkit as vk

    options: Any = {"checkpoint": "revolve", "slots": SLOTS}

    def looped(x: Any) -> Any:
        return np.sum(vk.checkpoint_loop(lambda u, _: heat(u), x, range(STEPS), slots=SLOTS))

    def scanned(x: Any) -> Any:
        return np.sum(vk.lax.scan(lambda u, _: (heat(u), None), x, None, STEPS, **options)[0])

    def repeated(x: Any) -> Any:
        def goes_on(pair: Any) -> Any:
            return pair[0] < STEPS

        def step(pair: Any) -> Any:
            return pair[0] + 1, heat(pair[1])

        return np.sum(vk.lax.while_loop(goes_on, step, (0, x), **options)[1])

    gradients = [vk.grad(looped), vk.grad(scanned), vk.grad(repeated), vk.jit(vk.grad(scanned))]
    return dict(zip(FORMS, gradients, strict=True))


def forward_steps(known: bool) -> int:
    """How many steps run forward, beside those that are linearized, where the length is known."""
    import vjpkit as vk

    calls = 0

    def step(x: Any, _: int) -> Any:
        nonlocal calls
        calls += 1
        return 0.5 * x

    items = range(STEPS) if known else iter(range(STEPS))
    vk.grad(lambda x: vk.checkpoint_loop(step, x, items, slots=SLOTS))(1.0)
    return calls - STEPS


def seconds(call: Callable[[], Any], count: int = 1) -> float:
    """Processor seconds of a call."""
    start = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - start) / count


def measure(form: str) -> dict[str, float]:
    """Time over that of the steps; megabytes allocated at the peak beyond the state's own."""
    import vjpkit as vk

    vk.retain_memory()  # a page fault in every array would hide what is measured here
    gradient = forms()[form]
    x = np.linspace(-1.0, 1.0, SIZE)
    states: Iterator[Any] = cycle([x + 0.1 * i for i in range(SLOTS)])
    ct = np.ones(SIZE)

    def step_gradient(x: Any, ct: Any) -> Any:
        return vk.vjp(heat, x)[1](ct)

    plain = form == "checkpoint_loop"
    compiled = partial(vk.jit, backend="numpy")  # what runs the steps of loops with a schedule
    step, back = (heat, step_gradient) if plain else (compiled(heat), compiled(step_gradient))
    steps = forward_steps(known=form != "while_loop")
    gradient(x), step(x), back(x, ct)
    ratios = []
    for _ in range(ROUNDS):
        before = (
            seconds(lambda: step(next(states)), UNITS),
            seconds(lambda: back(next(states), ct), UNITS),
        )
        whole = seconds(lambda: gradient(x))
        after = (
            seconds(lambda: step(next(states)), UNITS),
            seconds(lambda: back(next(states), ct), UNITS),
        )
        forward, backward = (median(pair) for pair in zip(before, after, strict=True))
        ratios.append(whole / (steps * forward + STEPS * backward))
    tracemalloc.start()
    result = gradient(x)
    _, peak = tracemalloc.get_traced_memory()
    return {"time": median(ratios), "megabytes": (peak - result.nbytes) / 1e6}
