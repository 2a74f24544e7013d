"""What needs a fresh process for every number: imports, first calls, memory, schedules."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES
from benchmarks.libraries import ENTRIES
from benchmarks.plain import NAMES, PARTS, WRITES
from benchmarks.results import Key, Results
from benchmarks.runner import ROOT, Settings
from benchmarks.schedules import FORMS

__all__ = ["CHAIN", "PROBES", "Probe", "memory_size"]

CHAIN = "600"
"""Operations of the chain through `numpy` and through `vjpkit.numpy`."""

IMPORT = "import time; start = time.perf_counter(); import {0}; print(time.perf_counter() - start)"
FIRST_CALLS = (
    ("tiny", "10"),
    ("mlp", "32x64x128x10"),
    ("chain", "429"),
    ("chain", "4290"),
    ("rk4", "1000"),
)
"""Cases and sizes; the gradient of a chain of 4,290 operations is a program of 10,000 equations."""
TIMES = ("first", "second", "processor", "made")
"""What is measured of a first call."""


@dataclass(frozen=True)
class Probe:
    """A measurement with processes of its own."""

    name: str
    about: str
    run: Callable[[Settings, Results], None]


def python(settings: Settings, *arguments: str) -> Any:
    """The JSON that a fresh interpreter prints; raises with its last line where it fails."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=settings.environment,
        capture_output=True,
        text=True,
        timeout=settings.patience,
        check=False,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.splitlines() or ["no message"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def attempt(settings: Settings, results: Results, keys: dict[str, Key], *arguments: str) -> None:
    """Add what a fresh interpreter gives, entry by entry, or note why it gave nothing."""
    try:
        answer = python(settings, *arguments)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        for key in keys.values():
            results.troubles[key] = str(error)[:200]
            results.add(key, None)
        return
    for name, key in keys.items():
        results.add(key, answer if name == "" else answer[name])


def imports(settings: Settings, results: Results) -> None:
    """Seconds of ``import``, NumPy included; each interpreter imports one package."""
    packages = {ENTRIES[name].package: name for name in reversed(settings.libraries)}
    for number in range(settings.rounds + 1):
        # The first round writes the bytecode files, and is not kept.
        kept = results if number else Results()
        for package, name in packages.items():
            key = Key("import", "", name, "import")
            attempt(settings, kept, {"": key}, "-c", IMPORT.format(package))


def first_calls(settings: Settings, results: Results) -> None:
    """Seconds of the first gradient after the import, and of the one after it."""
    for _ in range(min(settings.rounds, 5)):
        for case, size in FIRST_CALLS:
            for name in settings.libraries:
                if CASES[case].at_most.get(name, 10**9) < int(size.split("x")[0]):
                    continue
                keys = {w: Key("first-call", f"{case} {size}", name, w) for w in TIMES}
                arguments = ("-m", "benchmarks.fresh", "first-call", name, case, size)
                attempt(settings, results, keys, *arguments)


def memory_size(quick: bool) -> int:
    """The n of the memory probe."""
    return 10**7 if quick else 10**8


def memory(settings: Settings, results: Results) -> None:
    """Peak memory of the gradient of sum(sin(x)) beyond x, in arrays: resident, and allocated."""
    n = memory_size(settings.quick)
    for _ in range(min(settings.rounds, 3)):
        for name in settings.libraries:
            ways = ["rss"] if Path("/proc/self/clear_refs").exists() else []
            if name in ("numpy", "vjpkit", "autograd"):
                ways.append("traced")  # only NumPy tells tracemalloc what it allocates
            for how in ways:
                key = Key("memory", str(n), name, how)
                arguments = ("-m", "benchmarks.fresh", "memory", name, str(n), how)
                attempt(settings, results, {"arrays": key}, *arguments)


def schedules(settings: Settings, results: Results) -> None:
    """Long loops in little memory: time over that of their steps, megabytes beyond the state."""
    if "vjpkit" not in settings.libraries:
        return
    for _ in range(min(settings.rounds, 3)):
        for form in FORMS:
            keys = {w: Key("revolve", form, "vjpkit", w) for w in ("time", "megabytes")}
            attempt(settings, results, keys, "-m", "benchmarks.fresh", "revolve", form)


def plain(settings: Settings, results: Results) -> None:
    """Plain NumPy code: the chain by either name of the functions, and element writes."""
    if "vjpkit" not in settings.libraries:
        return
    for _ in range(min(settings.rounds, 5)):
        keys = {name: Key("plain", CHAIN, "vjpkit", name) for name in NAMES}
        attempt(settings, results, keys, "-m", "benchmarks.fresh", "spelling", CHAIN)
        keys = {part: Key("plain", f"{WRITES} writes", "vjpkit", part) for part in PARTS}
        attempt(settings, results, keys, "-m", "benchmarks.fresh", "writes")


PROBES: dict[str, Probe] = {
    probe.name: probe
    for probe in (
        Probe("import", "importing the package in a fresh process", imports),
        Probe("first-call", "the first gradient in a fresh process", first_calls),
        Probe("memory", "peak memory of the gradient of sum(sin(x))", memory),
        Probe("plain", "names of functions, and writes into arrays, in plain NumPy code", plain),
        Probe("revolve", "time and memory of loops with a checkpoint schedule", schedules),
    )
}
