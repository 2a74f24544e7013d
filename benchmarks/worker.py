"""The child process: one library, told by lines of JSON what to prepare and what to time.

``python -m benchmarks.worker LIBRARY`` answers each line on its input with one on its output:

    {"do": "describe"}                                      version and threads
    {"do": "prepare", "case", "size", "file"}               value and gradient into an .npz file
    {"do": "measure", "measures", "budget"}                 makes the other calls, calibrates all
    {"do": "sample", "measure"}                             seconds per call

Everything that a library prints by itself goes to standard error.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any, TextIO

import numpy as np

from benchmarks.case import leaves, tree_map
from benchmarks.cases import CASES
from benchmarks.libraries import ENTRIES, open_library
from benchmarks.libraries.library import Call

BATCHES = 5
"""Batches of a sample; the quickest counts, since others only ever make a batch slower."""


@dataclass(frozen=True)
class Timed:
    """A call, and how often it is made within one batch."""

    call: Call
    calls: int
    batches: int
    clock: Callable[[], float]

    @classmethod
    def calibrated(cls, call: Call, budget: float, clock: Callable[[], float]) -> Timed:
        """So many calls that a batch lasts about ``budget`` seconds."""
        call()
        calls = 1
        while True:
            seconds = _batch(call, calls, clock)
            if seconds >= budget / 4 or calls >= 2**20:
                break
            calls *= 2
        each = seconds / calls
        calls = max(1, round(budget / each))
        batches = max(1, min(BATCHES, round(BATCHES * budget / (each * calls))))
        return cls(call, calls, batches, clock)

    def sample(self) -> float:
        """Seconds per call in the quickest batch; long calls need no warming up."""
        if self.batches > 1:
            self.call()
        times = [_batch(self.call, self.calls, self.clock) for _ in range(self.batches)]
        return min(times) / self.calls


def _batch(call: Call, calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in itertools.repeat(None, calls):
        call()
    return clock() - start


class Worker:
    """The state of the process: the library, and the calls of one case at one size."""

    def __init__(self, name: str, one_core: bool) -> None:
        self.name = name
        self.library = open_library(name)
        self.clock = time.process_time if one_core else time.perf_counter
        self.calls: dict[str, Call] = {}
        self.timed: dict[str, Timed] = {}

    def describe(self) -> Any:
        return {"version": version_of(self.name), "threads": self.library.threads()}

    def prepare(self, case: str, size: list[int], file: str) -> Any:
        """Value and gradient, for comparison."""
        self.calls, self.timed = {}, {}
        gc.collect()
        self.case = CASES[case]
        self.problem = self.library.problem(self.case, tuple(size))
        if not self.library.offers("gradient", self.case):
            return {"checked": False}
        for measure in ("function", "gradient"):
            if measure in self.case.measures and self.library.offers(measure, self.case):
                self.calls[measure] = self.library.make(measure, self.problem)
        gradient = tree_map(self.library.take, self.calls["gradient"]())
        named = (
            {"value": self.library.take(self.calls["function"]())}
            if "function" in self.calls
            else {}
        )
        np.savez(file, *leaves(self.case.canonical(gradient)), **named)
        return {"checked": True}

    def measure(self, measures: list[str], budget: float) -> Any:
        """Which of the measures can be sampled now, and why others cannot."""
        troubles = {}
        for measure in measures:
            if not self.library.offers(measure, self.case):
                continue
            try:
                call = self.calls.pop(measure, None) or self.library.make(measure, self.problem)
                self.timed[measure] = Timed.calibrated(call, budget, self.clock)
            except Exception as error:
                troubles[measure] = describe_error(error)
        return {"measures": list(self.timed), "troubles": troubles}

    def sample(self, measure: str) -> Any:
        return {"seconds": self.timed[measure].sample()}


def version_of(name: str) -> str:
    """The version of a library that has been imported."""
    package = ENTRIES[name].package
    version: str = getattr(sys.modules[package], "__version__", "") or metadata.version(package)
    return version


def describe_error(error: Exception) -> str:
    """The first line of what went wrong."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


def requests(lines: TextIO) -> Iterator[dict[str, Any]]:
    for line in lines:
        yield json.loads(line)


def pin_to_one_core() -> None:
    """Stay on one processor; the threads that libraries start inherit it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def main(name: str, one_core: bool) -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if one_core:
        pin_to_one_core()
    worker = Worker(name, one_core)
    for request in requests(sys.stdin):
        try:
            reply = getattr(worker, request.pop("do"))(**request)
        except Exception as error:
            reply = {"error": describe_error(error)}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], "--one-core" in sys.argv)
