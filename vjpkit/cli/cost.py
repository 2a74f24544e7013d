"""What a derivative costs: time and memory of evaluation, linearization, pullback and gradient."""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from vjpkit.cli.check import cotangent, pulled_back
from vjpkit.cli.screen import Cell, Progress, Screen, time_text
from vjpkit.cli.target import Target
from vjpkit.core.aval import aval_of
from vjpkit.transforms.backings import nbytes_text
from vjpkit.transforms.derivatives import value_and_grad, vjp

__all__ = ["Cost", "measure", "report"]

_SECONDS = 0.5
"""How long the runs of one measurement may take together, if a few runs fit."""
_RUNS = (5, 400)
_SEED = 7


@dataclass(frozen=True)
class Cost:
    """Median time of one step, and its peak of memory beyond what there was before."""

    name: str
    seconds: float
    nbytes: int
    runs: int


def measure(target: Target, progress: Progress) -> tuple[list[Cost], int]:
    """The cost of every step, and the bytes of the residuals."""
    xs, flat = target.xs, target.flat
    _, pullback = vjp(flat, *xs)
    cts = cotangent(target, np.random.default_rng(_SEED))
    steps: dict[str, Callable[[], Any]] = {
        "evaluation": lambda: target.function(*target.args, **target.kwargs),
        "linearization": lambda: vjp(flat, *xs),
        "pullback": lambda: pulled_back(pullback, cts),
    }
    if target.is_scalar:
        steps["gradient"] = lambda: value_and_grad(flat, tuple(range(len(xs))))(*xs)
    progress("measuring time")
    times = _times(list(steps.values()))
    progress("measuring memory")
    peaks = [_peak(step) for step in steps.values()]
    costs = [
        Cost(name, statistics.median(seconds), nbytes, len(seconds))
        for name, seconds, nbytes in zip(steps, times, peaks, strict=True)
    ]
    return costs, pullback.nbytes


@contextmanager
def _collector_off() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _times(steps: Sequence[Callable[[], Any]]) -> list[list[float]]:
    """Seconds of every run; the steps take turns, so that a slow moment hits all of them."""
    with _collector_off():
        once = sum(_seconds(step) for step in steps)  # the first run also warms up
        runs = int(np.clip(_SECONDS / max(once, 1e-9), *_RUNS))
        rounds = [[_seconds(step) for step in steps] for _ in range(runs)]
    return [list(column) for column in zip(*rounds, strict=True)]


def _seconds(step: Callable[[], Any]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _peak(step: Callable[[], Any]) -> int:
    """The most memory in use during one run, beyond what was in use before."""
    running = tracemalloc.is_tracing()
    if not running:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        step()
        return max(tracemalloc.get_traced_memory()[1] - before, 0)
    finally:
        if not running:
            tracemalloc.stop()


# --------------------------------------------------------------------------------------- the report

_MEANING = {
    "evaluation": "the function itself, run by NumPy",
    "linearization": "value and pullback (vjp)",
    "pullback": "one product with the Jacobian, uJ",
    "gradient": "value and gradient in one go",
}


def report(screen: Screen, target: Target, measured: tuple[list[Cost], int]) -> None:
    """Print times, memory, and their ratios to one evaluation."""
    costs, residuals = measured
    base = costs[0]
    rows = [
        [
            Cell(c.name, "name"),
            time_text(c.seconds),
            f"{c.seconds / base.seconds:.1f}",
            nbytes_text(c.nbytes),
            Cell(_MEANING[c.name], "dim"),
        ]
        for c in costs
    ]
    screen.table(["", "time", "ratio", "peak memory", ""], rows, "<>>><")
    arguments = sum(aval_of(x).nbytes for x in target.xs)
    total = sum(c.seconds for c in costs[1:3]) / base.seconds
    if target.is_scalar:
        total = costs[3].seconds / base.seconds
    word = "The gradient costs" if target.is_scalar else "Linearization and pullback cost"
    screen.line()
    screen.say(
        f"{word} {total:.1f} evaluations, for {_count(target)}. The pullback holds "
        f"{nbytes_text(residuals)} of residuals, what is differentiated {nbytes_text(arguments)}. "
        f"(Medians of {base.runs} runs.)"
    )


def _count(target: Target) -> str:
    count = sum(aval_of(x).size for x in target.xs)
    return (
        f"{count:,} partial derivative{'s' * (count != 1)}"
        if target.is_scalar
        else (f"{count:,} input{'s' * (count != 1)}")
    )
