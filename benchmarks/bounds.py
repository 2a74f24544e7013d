"""The lines of ``--assert``: what vjpkit promises about its speed, as ratios within one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from statistics import median

from benchmarks.case import Case, label, parsed
from benchmarks.cases import CASES
from benchmarks.libraries import peers
from benchmarks.plain import NAMES, PARTS, WRITES
from benchmarks.probes import CHAIN, memory_size
from benchmarks.results import Key, Missing, Results, Summary
from benchmarks.schedules import FORMS, SLOTS, STEPS

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


def against(case: str, size: str, peer: str, results: Results, ours: str = "vjpkit") -> list[float]:
    """Our gradient over a peer's."""
    mine, its = (Key(case, size, library, "gradient") for library in (ours, peer))
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
    """Elements that the function works on, as a case's size tells."""
    if case.name in ("matmul", *FACTORISATIONS, "jacobian", "hessian", "laplacian", "fluid"):
        return size[0] ** 2
    return size[0] if len(size) == 1 else prod(size)


def typical(sizes: list[tuple[str, str]], results: Results) -> list[float]:
    """In each round the median over the programs of gradient over function."""
    return [median(round_) for round_ in zip(*[over_function(*s, results) for s in sizes])]


def allocated(key: Key, results: Results) -> list[float]:
    """Arrays to one decimal: what an interpreter needs besides is no array."""
    return [round(value, 1) for value in results.of(key)]


def worst(ratios: list[list[float]]) -> list[float]:
    """In each round the largest of several ratios."""
    if not ratios:
        raise Missing("none of it was measured in this run")
    return [max(round_) for round_ in zip(*ratios)]


def never_slower(ours: str, peer: str, largest: int, results: Results) -> list[float]:
    """The largest ratio to a peer over all programs of at most so many elements."""
    found = []
    for key in results.samples:
        small = key.case in CASES and elements(CASES[key.case], parsed(key.size)) <= largest
        if small and key.library == peer and key.measure == "gradient":
            mine = key._replace(library=ours)
            if mine in results.samples:
                found.append(results.ratios(mine, key))
    return worst(found)


def compiled_over_function(ours: str, names: Sequence[str], results: Results) -> list[list[float]]:
    """The compiled gradient over the compiled function, for every program that was measured."""
    return [
        results.ratios(key, key._replace(measure="function"))
        for key in results.samples
        if key.library == ours
        and key.measure == "gradient"
        and key.case in names
        and key._replace(measure="function") in results.samples
    ]


def bounds(quick: bool) -> Iterator[Bound]:
    """Every line, in the order in which it is printed."""
    yield from eager_bounds(quick)
    yield from numpy_bounds(quick)
    yield from native_bounds(quick)
    yield from laplacian_bounds(quick)
    yield from latency_bounds(quick)
    yield from memory_bounds(quick)
    yield from schedule_bounds()
    yield from plain_bounds()


def sizes_of(quick: bool, *names: str) -> list[tuple[str, str]]:
    """Cases and the sizes at which they are run."""
    return [(name, label(size)) for name in names for size in CASES[name].chosen_sizes(quick)]


def eager_bounds(quick: bool) -> Iterator[Bound]:
    """vjpkit on plain NumPy code, without compilation."""
    small = (("chain", "600", "chain of 600 small operations", 0.30, 0.50),
             ("tiny", "10", "scalar function of 10 elements", 0.30, 0.50))  # fmt: skip
    for case, size, text, hips, torch in small:
        yield Bound(f"{text}: over HIPS autograd", hips, partial(against, case, size, "autograd"))
        yield Bound(f"{text}: over PyTorch", torch, partial(against, case, size, "torch"))
        text = f"{text}: forward mode over reverse mode"
        keys = [Key(case, size, "vjpkit", measure) for measure in ("jvp", "gradient")]
        yield Bound(text, 1.0, partial(Results.ratios, over=keys[0], under=keys[1]))
    for peer, largest, words in (
        ("autograd", 10**9, ""),
        ("torch", 10**3, ", up to 1000 elements"),
    ):
        text = f"the worst of all programs over {peer}{words}"
        yield Bound(text, 1.0, partial(never_slower, "vjpkit", peer, largest))
    for size, limit in (("32x784x256x10", 1.15), ("32x64x128x10", 1.6)):
        yield Bound(f"MLP {size}: over by hand", limit, partial(against, "mlp", size, "numpy"))
    sizes = cheap(quick)
    for case, size in sizes:
        yield Bound(f"{case} {size}: over the function", 4.0, partial(over_function, case, size))
    yield Bound("median of these programs", 3.0, partial(typical, sizes))
    text = "Cholesky log-likelihood, n = 500: over potrf/potri by hand"
    yield Bound(text, 1.8, partial(against, "likelihood", "500", "numpy"))


FACTORISATIONS = ("likelihood", "likelihood-triangular")
DENSE = ("deep", "gmm", *FACTORISATIONS, "jacobian", "hessian", "deep-curvature", "fluid")


def numpy_bounds(quick: bool) -> Iterator[Bound]:
    """Compiled to NumPy source."""
    ours = "vjpkit-jit"
    mine = partial(against, ours=ours)
    by_hand = [name for name, case in CASES.items() if case.hand and "unrolled" not in case.tags]
    for case, size in sizes_of(quick, *by_hand):
        yield Bound(
            f"NumPy tier, {case} {size}: over by hand", 1.05, partial(mine, case, size, "numpy")
        )
    for case, size in sizes_of(quick, "tiny"):
        if int(size) <= 100:
            yield Bound(
                f"NumPy tier, {case} {size}: over JAX jit", 0.5, partial(mine, case, size, "jax")
            )
    yield from cheap_compiled("NumPy tier", ours)
    for case, size in sizes_of(quick, *DENSE):
        yield Bound(
            f"NumPy tier, {case} {size}: over JAX jit", 1.0, partial(mine, case, size, "jax")
        )


def native_bounds(quick: bool) -> Iterator[Bound]:
    """Compiled to machine code."""
    ours = "vjpkit-native"
    mine = partial(against, ours=ours)
    whole_call = Key("tiny", "3", ours, "gradient")
    text = "native tier: microseconds of a whole call on 3 elements"
    yield Bound(text, 0.8, partial(microseconds, whole_call))
    for case, size in sizes_of(quick, "elementwise", "arithmetic"):
        if int(size) < CHEAP_FROM:
            continue
        text = f"native tier, {case} {size}: over"
        if case == "elementwise":
            yield Bound(f"{text} the best peer", 0.35, partial(best_peer, ours, case, size))
        else:
            yield Bound(f"{text} by hand", 1.0, partial(mine, case, size, "numpy"))
    for case, limit in NATIVE_LOOPS.items():
        for _, size in sizes_of(quick, case):
            text = f"native tier, {case} {size}: over JAX jit"
            yield Bound(text, limit, partial(mine, case, size, "jax"))
    for case, size in sizes_of(quick, *[name for name, case in CASES.items() if case.numba]):
        text = f"native tier, {case} {size}: over Numba by hand"
        yield Bound(text, 1.5, partial(mine, case, size, "numba"))
    text = "native tier, Cholesky log-likelihood, n = 500: over potrf/potri by hand"
    yield Bound(text, 1.25, partial(mine, "likelihood", "500", "numpy"))
    yield from cheap_compiled("native tier", ours)
    sizes = [label(size) for size in CASES["rk4"].chosen_sizes(quick)]
    text = f"native tier, rk4: seconds per step at {sizes[-1]} over those at {sizes[0]} steps"
    yield Bound(text, 1.2, partial(growth, ours, "rk4", sizes[0], sizes[-1]))


NATIVE_LOOPS = {"rk4": 0.1, "three-body": 0.1, "lstm": 0.6, "bundle": 0.4}
"""Cases that are loops or many small problems, and their limits over JAX jit."""


def microseconds(key: Key, results: Results) -> list[float]:
    return [1e6 * seconds for seconds in results.of(key)]


def best_peer(ours: str, case: str, size: str, results: Results) -> list[float]:
    """Our gradient over that of the library that is quickest in the same round."""
    mine = Key(case, size, ours, "gradient")
    names = peers([key.library for key in results.samples])
    theirs = [mine._replace(library=name) for name in dict.fromkeys(names)]
    theirs = [key for key in theirs if key in results.samples]
    if not theirs:
        raise Missing(f"no peer has {case} {size}")
    return [max(round_) for round_ in zip(*[results.ratios(mine, key) for key in theirs])]


def growth(ours: str, case: str, small: str, large: str, results: Results) -> list[float]:
    """Seconds per step of a loop at one length over those at another."""
    keys = [Key(case, size, ours, "gradient") for size in (large, small)]
    factor = parsed(large)[0] / parsed(small)[0]
    return [ratio / factor for ratio in results.ratios(*keys)]


def cheap_compiled(text: str, ours: str) -> Iterator[Bound]:
    """Gradient over function, both compiled by us: the worst, and the median of all programs."""
    whole = [name for name, case in CASES.items() if case.derivative == "gradient"]
    others = [name for name in whole if name not in FACTORISATIONS]

    def dearest(results: Results) -> list[float]:
        return worst(compiled_over_function(ours, others, results))

    def usual(results: Results) -> list[float]:
        ratios = compiled_over_function(ours, whole, results)
        return [median(round_) for round_ in zip(*ratios)]

    yield Bound(f"{text}: the worst gradient over the function, both compiled", 3.0, dearest)
    yield Bound(f"{text}: the median of these", 2.0, usual)


def laplacian_bounds(quick: bool) -> Iterator[Bound]:
    """Collapsed Taylor mode."""
    for ours in ("vjpkit", "vjpkit-jit"):
        for case, size in sizes_of(quick, "laplacian"):
            keys = [Key(case, size, ours, measure) for measure in ("gradient", "trace")]
            ratios = partial(Results.ratios, over=keys[0], under=keys[1])
            yield Bound(f"{ours}, {case} {size}: over the trace of the Hessian", 1.0, ratios)


def latency_bounds(quick: bool) -> Iterator[Bound]:
    """Processor seconds from a function to its first compiled gradient, in a fresh process."""
    for case, size, what, measure, limit in (
        ("chain", "4290", "a program of 10,000 equations, imports included", "processor", 0.6),
        ("chain", "429", "a program of 1,000 equations", "made", 0.05),
        ("rk4", "1000", "a scan of 1,000 steps, imports included", "processor", 0.06),
    ):
        key = Key("first-call", f"{case} {size}", "vjpkit-jit", measure)
        text = f"jit(grad(f)) of {what}: seconds to the first result"
        yield Bound(text, limit, partial(Results.of, key=key))


def memory_bounds(quick: bool) -> Iterator[Bound]:
    """Peak memory of the gradient of sum(sin(x)), counted in arrays."""
    n = str(memory_size(quick))
    for ours, limit in (("vjpkit", 3.0), ("vjpkit-jit", 2.1)):
        for how, way in (("rss", "resident"), ("traced", "allocated")):
            text = (
                f"{ours}, memory of grad of sum(sin(x)), n = {float(n):.0e}: arrays beyond x, {way}"
            )
            yield Bound(text, limit, partial(allocated, Key("memory", n, ours, how)))


def schedule_bounds() -> Iterator[Bound]:
    """Loops of many steps over a state of 10^5 doubles, of which a few states are kept."""
    for form in FORMS:
        text = f"{form}, {STEPS} steps, {SLOTS} slots"
        time, space = (Key("revolve", form, "vjpkit", what) for what in ("time", "megabytes"))
        yield Bound(f"{text}: time over that of its steps", 1.15, partial(Results.of, key=time))
        yield Bound(f"{text}: MB beyond the state", 25.0, partial(Results.of, key=space))


def plain_bounds() -> Iterator[Bound]:
    """Plain NumPy code is as quick, and no write copies the array."""
    over, under = (Key("plain", CHAIN, "vjpkit", name) for name in NAMES)
    text = f"chain of {CHAIN} small operations: through numpy over through vjpkit.numpy"
    yield Bound(text, 1.25, partial(Results.ratios, over=over, under=under))
    for part in PARTS:
        key = Key("plain", f"{WRITES} writes", "vjpkit", part)
        text = f"{WRITES} writes into a traced array of 10^5: copies of it that this takes, {part}"
        yield Bound(text, 10.0, partial(Results.of, key=key))
