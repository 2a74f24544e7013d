"""What a probe runs in a process of its own; prints one line of JSON.

``python -m benchmarks.fresh first-call LIBRARY CASE SIZE``, ``... memory LIBRARY N rss|traced``,
``... revolve FORM``, ``... spelling OPERATIONS`` or ``... writes``.
"""

from __future__ import annotations

import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.case import Case
from benchmarks.cases import CASES
from benchmarks.libraries import open_library
from benchmarks.plain import spelling, writes
from benchmarks.schedules import measure


def first_call(library: str, case: str, size: str) -> Any:
    """Seconds of the first and of the second gradient, the library being imported.

    ``processor`` are the first one's seconds of processor time, which other programs on the machine
    do not stretch; ``made`` those of making another function of it, when nothing is left to import.
    """
    found = CASES[case]
    adapter = open_library(library)
    problem = adapter.problem(found, tuple(map(int, size.split("x"))))
    start, processor = time.perf_counter(), time.process_time()
    call = adapter.make("gradient", problem)
    call()
    first, processor = time.perf_counter() - start, time.process_time() - processor
    start = time.perf_counter()
    call()
    second, made = time.perf_counter() - start, time.process_time()
    adapter.make("gradient", problem)()
    made = time.process_time() - made
    return {"first": first, "second": second, "processor": processor, "made": made}


def sine(np: Any, x: Any) -> Any:
    return np.sum(np.sin(x))


def sine_by_hand(x: Any) -> Any:
    import numpy

    return numpy.cos(x)


def halves(size: tuple[int, ...], generator: object) -> tuple[Any, ...]:
    import numpy

    return (numpy.full(size[0], 0.5),)


SINE = Case("memory", "sum(sin(x))", (), (), halves, sine, sine_by_hand)


def memory(library: str, n: str, how: str) -> Any:
    """Peak memory of a gradient beyond its input, in arrays of the input's size."""
    adapter = open_library(library)
    gradient = adapter.make("gradient", adapter.problem(SINE, (1000,)))
    gradient()  # what is imported or set up at first use is not the gradient's memory
    peak = traced_peak if how == "traced" else resident_peak
    if how == "traced":
        tracemalloc.start()
    gradient = adapter.make("gradient", adapter.problem(SINE, (int(n),)))
    return {"arrays": peak(gradient) / (8 * int(n))}


def traced_peak(call: Callable[[], Any]) -> int:
    """Bytes allocated at the peak of a call, beyond those before it."""
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    call()
    _, peak = tracemalloc.get_traced_memory()
    return peak - before


def resident_peak(call: Callable[[], Any]) -> int:
    """Bytes of resident memory at the peak of a call, beyond those before it."""
    forget_peak()
    before = status_bytes("VmRSS")
    call()
    return status_bytes("VmHWM") - before


def forget_peak() -> None:
    """Let the kernel count the peak of resident memory from now on."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def status_bytes(name: str) -> int:
    """A line of /proc/self/status that is given in kB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise LookupError(f"/proc/self/status has no {name}")


COMMANDS: dict[str, Callable[..., Any]] = {
    "first-call": first_call,
    "memory": memory,
    "revolve": measure,
    "spelling": spelling,
    "writes": writes,
}

if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    print(json.dumps(COMMANDS[command](*arguments)))
