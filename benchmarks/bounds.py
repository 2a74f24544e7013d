"""The lines of ``--assert``: what vjpkit promises about its speed, as ratios within one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks.case import Case, label
from benchmarks.cases import CASES
from benchmarks.probes import memory_size
from benchmarks.results import Key, Missing, Results, Summary

__all__ = ["Bound", "Verdict", "bounds", "judge"]

CHEAP_FROM = 10**5
"""From this many elements on, gradient over function is bounded."""


@dataclass(frozen=True)
class Bound:
    """A promise: the median over the rounds of what ``values`` gives is at most ``limit``."""

    text: str
    limit: float
    values: Callable[[Results], list[float]]


@dataclass(frozen=True)
class Verdict:
    """A bound and what was found: no summary where it was not measured."""

    bound: Bound
    summary: Summary | None
    reason: str = ""

    @property
    def word(self) -> str:
        if self.summary is None:
            return "----"
        return "pass" if self.summary.median <= self.bound.limit else "FAIL"


def judge(bound: Bound, results: Results) -> Verdict:
    try:
        return Verdict(bound, Summary.of(bound.values(results)))
    except Missing as error:
        return Verdict(bound, None, str(error))


def against(case: str, size: str, peer: str, results: Results) -> list[float]:
    """vjpkit's gradient over a peer's."""
    mine, its = (Key(case, size, library, "gradient") for library in ("vjpkit", peer))
    return results.ratios(mine, its)


def over_function(case: str, size: str, results: Results) -> list[float]:
    """vjpkit's gradient over the plain function, in one process."""
    gradient, function = (Key(case, size, "vjpkit", what) for what in ("gradient", "function"))
    return results.ratios(gradient, function)


def cheap(quick: bool) -> list[tuple[str, str]]:
    """Cases and sizes whose gradient is bounded by the function."""
    return [
        (case.name, label(size))
        for case in CASES.values()
        if "cheap" in case.tags
        for size in case.chosen_sizes(quick)
        if elements(case, size) >= CHEAP_FROM
    ]


def elements(case: Case, size: tuple[int, ...]) -> int:
    """Elements of the largest input array."""
    return size[0] ** 2 if case.name == "matmul" else size[0]


def typical(sizes: list[tuple[str, str]], results: Results) -> list[float]:
    """In each round the median over the programs of gradient over function."""
    return [median(round_) for round_ in zip(*[over_function(*s, results) for s in sizes])]


def allocated(key: Key, results: Results) -> list[float]:
    """Arrays to one decimal: what an interpreter needs besides is no array."""
    return [round(value, 1) for value in results.of(key)]


def bounds(quick: bool) -> Iterator[Bound]:
    """Every line, in the order in which it is printed."""
    small = (("chain", "600", "chain of 600 small operations", 0.30, 0.55),
             ("tiny", "10", "scalar function of 10 elements", 0.35, 0.60))  # fmt: skip
    for case, size, text, hips, torch in small:
        yield Bound(f"{text}: over HIPS autograd", hips, partial(against, case, size, "autograd"))
        yield Bound(f"{text}: over PyTorch", torch, partial(against, case, size, "torch"))
    for size, limit in (("32x784x256x10", 1.15), ("32x64x128x10", 1.6)):
        yield Bound(f"MLP {size}: over by hand", limit, partial(against, "mlp", size, "numpy"))
    sizes = cheap(quick)
    for case, size in sizes:
        yield Bound(f"{case} {size}: over the function", 4.0, partial(over_function, case, size))
    yield Bound("median of these programs", 3.0, partial(typical, sizes))
    text = "Cholesky log-likelihood, n = 500: over potrf/potri by hand"
    yield Bound(text, 1.8, partial(against, "likelihood", "500", "numpy"))
    n = str(memory_size(quick))
    for how, way in (("rss", "resident"), ("traced", "allocated")):
        text = f"memory of grad of sum(sin(x)), n = {float(n):.0e}: arrays beyond x, {way}"
        yield Bound(text, 3.0, partial(allocated, Key("memory", n, "vjpkit", how)))
