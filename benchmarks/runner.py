"""The parent's side: child processes, the check of every gradient, rounds round all libraries."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import numpy as np

from benchmarks.case import Case, Size, label
from benchmarks.machine import child_environment
from benchmarks.results import Key, Results

__all__ = ["ROOT", "Settings", "run_case"]

ROOT = Path(__file__).parents[1]
TOLERANCE = 1e-8
"""Largest accepted difference of gradients, relative to the largest entry."""


@dataclass(frozen=True)
class Settings:
    """What a run was asked for."""

    libraries: tuple[str, ...]
    rounds: int
    quick: bool
    one_core: bool
    retain_memory: bool
    say: Callable[[str], None]

    def as_json(self) -> dict[str, Any]:
        """How numbers were taken."""
        names = ("rounds", "quick", "one_core", "retain_memory")
        return {name: getattr(self, name) for name in names}

    @property
    def environment(self) -> dict[str, str]:
        """The child processes' environment."""
        return child_environment(self.one_core, self.retain_memory)

    @property
    def budget(self) -> float:
        """Seconds that a batch of calls is to take."""
        return 0.002 if self.quick else 0.005

    @property
    def patience(self) -> float:
        """Seconds after which a child that does not answer is given up."""
        return 60.0 if self.quick else 180.0


class Child:
    """A worker process of one library."""

    def __init__(self, library: str, settings: Settings) -> None:
        self.library = library
        self.patience = settings.patience
        self.complaints = TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # see close
        flags = ["--one-core"] if settings.one_core else []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", library, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            text=True,
            cwd=ROOT,
            env=settings.environment,
        )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """One request and its answer; ``{"error": ...}`` where none came."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        late = threading.Timer(self.patience, self.process.kill)
        late.start()
        try:
            print(json.dumps({"do": do, **request}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            late.cancel()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = self.process.wait()
        self.complaints.seek(0)
        last = self.complaints.read().strip().rpartition("\n")[2]
        return {"error": f"exit status {code} (limit {self.patience:.0f} s) {last}".strip()}

    def close(self) -> None:
        """End the process and wait for it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if self.alive:
            self.process.stdin.close()
            self.process.wait()
        self.process.stdout.close()
        self.complaints.close()


class Children:
    """One living child per library, for the length of a case."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.of = {name: Child(name, settings) for name in settings.libraries}

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *exception: object) -> None:
        for child in self.of.values():
            child.close()

    def ask(self, library: str, do: str, **request: Any) -> dict[str, Any]:
        return self.of[library].ask(do, **request)

    def revive(self) -> None:
        """Replace children that ended at the last size."""
        for name, child in self.of.items():
            if not child.alive:
                child.close()
                self.of[name] = Child(name, self.settings)


def run_case(case: Case, settings: Settings, results: Results) -> None:
    """Check and measure a case in all its sizes."""
    with Children(settings) as children:
        for name in settings.libraries:
            results.libraries[name] = children.ask(name, "describe")
        for size in case.chosen_sizes(settings.quick):
            settings.say(f"{case.name} {label(size)}")
            children.revive()
            right = checked(case, size, children, results)
            entries = prepared(case, size, right, children, results)
            run_rounds(case, size, entries, children, results)


def checked(case: Case, size: Size, children: Children, results: Results) -> list[str]:
    """The libraries whose value and gradient agree with the first one's (by hand, if it can)."""
    right: list[str] = []
    reference: dict[str, np.ndarray] | None = None
    with TemporaryDirectory() as folder:
        for name in [name for name in children.of if case.fits(name, size)]:
            file = Path(folder, f"{name}.npz")
            reply = children.ask(name, "prepare", case=case.name, size=size, file=str(file))
            if "error" in reply:
                results.troubles[Key(case.name, label(size), name, "gradient")] = reply["error"]
                continue
            if reply["checked"]:
                with np.load(file) as saved:
                    arrays = {key: saved[key] for key in saved.files}
                if reference is None:
                    reference = arrays
                off = difference(arrays, reference)
                if not off <= TOLERANCE:
                    text = f"WRONG: off by {off:.1e} of its largest entry"
                    results.troubles[Key(case.name, label(size), name, "gradient")] = text
                    continue
            right.append(name)
    return right


def difference(arrays: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> float:
    """Largest difference relative to the largest entry, over the gradient, and the value if known.

    >>> difference({"arr_0": np.array([1.0, 2.0])}, {"arr_0": np.array([1.0, 2.5])})
    0.2
    """
    if arrays.keys() - {"value"} != reference.keys() - {"value"}:
        return float("inf")
    pairs = [(arrays[name], reference[name]) for name in arrays.keys() & reference.keys()]
    if any(a.shape != b.shape for a, b in pairs):
        return float("inf")
    off = [np.max(abs(a - b)) / np.max(abs(b)) for a, b in pairs]
    return float(np.max(off))  # nan if one is nan, unlike Python's max


def prepared(
    case: Case, size: Size, libraries: Iterable[str], children: Children, results: Results
) -> list[Key]:
    """Let the children make and calibrate their calls; what is to be sampled."""
    entries = []
    for name in libraries:
        budget = children.settings.budget
        reply = children.ask(name, "measure", measures=case.measures, budget=budget)
        troubles = {"gradient": reply["error"]} if "error" in reply else reply["troubles"]
        for measure, trouble in troubles.items():
            results.troubles[Key(case.name, label(size), name, measure)] = trouble
        entries += [Key(case.name, label(size), name, m) for m in reply.get("measures", ())]
    return entries


def run_rounds(
    case: Case, size: Size, entries: list[Key], children: Children, results: Results
) -> None:
    """Sample every entry once per round; each round starts elsewhere."""
    rounds = children.settings.rounds
    for number in range(rounds):
        start = number * len(entries) // rounds
        for key in entries[start:] + entries[:start]:
            reply = children.ask(key.library, "sample", measure=key.measure)
            results.add(key, reply.get("seconds"))
            if "error" in reply:
                results.troubles[key] = reply["error"]
