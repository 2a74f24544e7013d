"""Does every mistake in a rule make a generated test fail?

``python -m tests.mutation [PRIMITIVE OR MODULE ...] [--after LINE]`` makes the mutants of
`tests.mutation.mutants` in turn, and runs the laws of the primitives concerned until one fails; if
all hold, then the written tests of the family: of both only what comes to the place of the mistake.
It prints a table per module, the mutants that nothing noticed, and the percentage; ``--after LINE``
goes on where a run was broken off, ``--before LINE`` ends it. Mutants that cannot be noticed,
because they compute the same, are in `tests.mutation.equivalent`, with the proof. It takes hours,
so it is no part of the suite.
"""

import itertools
import os
import signal
import sys
import time
import warnings
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path

import pytest

import vjpkit as vk
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import (
    MACHINERY,
    Mutant,
    Place,
    Source,
    concerned,
    forget_derived,
    modules_of_rules,
    mutants_of_declarations,
    settle,
    watch_programs,
)
from tests.mutation.reach import Probes
from vjpkit.core.primitive import Primitive, registered
from vjpkit.testing.case import cases_of
from vjpkit.testing.laws import LAWS
from vjpkit.testing.laws.linearity import undeclared

TESTS = Path(__file__).parents[1]
PATIENCE = 5
"""Checks that take so many times as long as without the mutant have noticed something."""

LONG = 60
"""No written test takes so many seconds without a mutant."""

FEW = 3
"""So many written tests that noticed others are asked before the rest of the laws."""

NEAR = 5
"""The laws of so many primitives are asked before the written tests of the family."""

SHORT = 0.5
"""The laws of so many seconds are asked before written tests, and of mutants proved equivalent."""

REMOVABLE = (
    "numpy/test_scipy.py::test_removable_singular_points",
    "numpy/test_scipy.py::test_series_are_evaluated_near_their_points_alone",
)

FAMILIES = {
    "elementwise": (
        "ops/test_thresholds.py",
        "ops/test_elementwise.py",
        "test_kinks.py",
        "numpy/test_ufuncs.py",
        "test_nan_safety.py",
    ),
    "complex_numbers": (
        "ops/test_elementwise.py",
        "test_kinks.py",
        "numpy/test_ufuncs.py",
        "test_nan_safety.py",
    ),
    "special": ("numpy/test_ufuncs.py",),
    "reductions": (
        "ops/test_reductions.py",
        "test_kinks.py",
        "numpy/test_statistics.py",
        "test_nan_safety.py",
    ),
    "cumulative": ("ops/test_reductions.py", "test_kinks.py", "numpy/test_differences.py"),
    "ordering": ("ops/test_reductions.py", "test_kinks.py", "numpy/test_ordering.py"),
    "structural": (
        "ops/test_structural.py",
        "core/test_ir.py",
        "numpy/test_shape.py",
        "numpy/test_joining.py",
        "test_nan_safety.py",
    ),
    "selection": (
        "ops/test_structural.py",
        "test_kinks.py",
        "numpy/test_selection.py",
        "test_nan_safety.py",
    ),
    "indexing": ("ops/test_indexing.py", "numpy/test_indices.py"),
    "index": (
        "ops/test_indexing.py",
        "numpy/test_indices.py",
        "numpy/test_writable.py",
        "numpy/test_at.py",
    ),
    "updates": ("ops/test_indexing.py", "numpy/test_writable.py"),
    "linalg": (
        "ops/test_thresholds.py",
        "ops/test_linalg.py",
        "numpy/test_linalg.py",
        "test_kinks.py",
    ),
    "revolve": ("control/test_revolve.py", "control/test_checkpointed_loops.py"),
    "custom": ("control/test_custom.py", "control/test_rules.py", "test_bad_input.py"),
    "custom_arguments": (
        "control/test_custom.py",
        "control/test_outside.py",
        "control/test_rules.py",
        "test_bad_input.py",
    ),
    "spectra": (
        "ops/test_thresholds.py",
        "ops/test_linalg.py",
        "numpy/test_linalg.py",
        "test_kinks.py",
    ),
    "products": (
        "ops/test_linalg.py",
        "numpy/test_products.py",
        "test_nan_safety.py",
    ),
    "vectors": ("ops/test_thresholds.py", "ops/test_linalg.py"),
    "scipy_special": REMOVABLE,
    "scipy_bessel": REMOVABLE,
    "scipy_elementary": REMOVABLE,
    "scipy_gamma": REMOVABLE,
    "scipy_integrals": REMOVABLE,
    "scipy_distributions": (
        *REMOVABLE,
        "numpy/test_scipy.py::test_parameters_at_the_ends_and_outside",
    ),
    "ill_posed": ("ops/test_thresholds.py",),
    "collective": ("transforms/test_collectives.py",),
    "call": (
        "control/test_jit.py",
        "control/test_checkpoint.py",
        "test_nan_safety.py",
    ),
    "branch": (
        "control/test_branch.py",
        "test_nan_safety.py",
    ),
    "scan_rules": (
        "control/test_scan.py",
        "control/test_checkpointed_loops.py",
        "test_nan_safety.py",
    ),
    "loop": (
        "control/test_loop.py",
        "control/test_refusals.py",
        "control/test_checkpointed_loops.py",
        "transforms/test_taylor.py",
        "transforms/test_collectives.py",
        "test_nan_safety.py",
    ),
    "dynamic": ("control/test_loop.py", "control/test_checkpointed_loops.py"),
    "steps": ("control/test_loop.py", "control/test_checkpointed_loops.py"),
    "scan_split": ("control/test_scan.py", "control/test_checkpointed_loops.py"),
    "layout": ("control/test_scan.py", "control/test_loop.py"),
    "bodies": (
        "control/test_refusals.py",
        "control/test_branch.py",
        "control/test_mapped.py",
        "control/test_exact.py",
        "control/test_loop.py",
        "control/test_scan.py",
        "control/test_checkpointed_loops.py",
    ),
    "higher": (
        "transforms/test_changed_arrays.py",
        "transforms/test_vjp.py",
        "control/test_products.py",
        "test_nan_safety.py",
    ),
    "programs": (
        "control/test_branch.py",
        "control/test_scan.py",
        "control/test_loop.py",
        "control/test_checkpoint.py",
        "control/test_checkpointed_loops.py",
        "control/test_products.py",
        "transforms/test_taylor.py",
        "transforms/test_scopes.py",
        "test_nan_safety.py",
    ),
    "rules": ("control/test_rules.py", "control/test_custom.py", "control/test_outside.py"),
    "mapped_rules": ("control/test_rules.py", "transforms/test_collectives.py"),
    "implicit": ("control/test_implicit.py", "control/test_refusals.py"),
    "staged_rules": ("control/test_rules.py", "control/test_custom.py", "control/test_implicit.py"),
    "calls": ("control/test_rules.py", "control/test_custom.py", "control/test_checkpoint.py"),
    "checkpointing": (
        "control/test_checkpoint.py",
        "test_nan_safety.py",
    ),
    "policies": ("control/test_checkpoint.py",),
    "external": ("control/test_external.py",),
    "printing": ("test_debug.py",),
    "general": (
        "core/test_user_primitive.py",
        "transforms/test_changed_arrays.py",
        "ops/test_linalg.py",
        "ops/test_reductions.py",
        "numpy/test_linalg.py",
        "test_nan_safety.py",
    ),
    "linear": (
        "core/test_user_primitive.py",
        "ops/test_structural.py",
        "transforms/test_vjp.py",
        "test_nan_safety.py",
    ),
    "series": ("transforms/test_taylor.py",),
}
"""The written tests about the operations of a module."""

POINTS = "ops/test_special_points.py"
"""The written tests about operations of all modules."""


say = partial(print, file=sys.__stdout__, flush=True)
"""What is said of the mutants, whatever becomes of what the tests print."""


class TimeIsUp(Exception):
    """The mutant does not come to an end."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A law at a case."""

    name: str
    check: Callable[[], None]
    places: frozenset[Place]
    seconds: float

    def may_notice(self, mutant: Mutant) -> bool:
        return mutant.place is None or mutant.place in self.places


class Checks:
    """The laws of one primitive that hold without a mutant, the telling ones first, each with the
    places that it comes to and the seconds that it takes."""

    ORDER = ("duality", "jvp", "batch", "batched_derivatives", "annihilation", "dtypes", "second")

    def __init__(self, primitive: Primitive, probes: Probes) -> None:
        self.primitive = primitive
        self.probes = probes
        self.cases = cases_of(primitive)
        self.asked: list[Asked] = []
        laws = sorted(LAWS, key=lambda name: (name not in self.ORDER, name))
        pairs = [(case, LAWS[name]) for name, case in itertools.product(laws, self.cases)]
        self.untried: deque[tuple[str, Callable[[], None]]] = deque(
            (law.name, partial(law, case)) for case, law in pairs
            if (law.applies(case) or law.name == "linear") and not case.exemption(law.name)
        )  # fmt: skip
        if "undeclared" not in primitive.exempt:
            self.untried.append(("linear", self.none_undeclared))

    def tried(self, name: str, check: Callable[[], None]) -> Iterator[Asked]:
        """The law, if it holds without a mutant."""
        forget_derived()
        with self.probes.installed():
            self.probes.taken()
            start = time.process_time()
            sound = holds(check)
            asked = Asked(name, check, self.probes.taken(), time.process_time() - start)
        if not self.untried:
            settle()
        if sound:
            self.asked.append(asked)
            yield asked
        else:
            say(f"without any mutant, {self.primitive.name} breaks {name}")

    def none_undeclared(self) -> None:
        assert not undeclared(self.cases)

    def of(self, mutant: Mutant) -> Iterator[Asked]:
        """Those that come to the place of a mutant; they are tried without it when needed."""
        yield from [x for x in self.asked if x.may_notice(mutant)]
        while self.untried:
            yield from (x for x in self.tried(*self.untried.popleft()) if x.may_notice(mutant))

    def first(self, asked: Asked) -> None:
        """What has noticed a mutant is asked first the next time."""
        self.asked.remove(asked)
        self.asked.insert(0, asked)


def holds(check: Callable[[], None]) -> bool:
    try:
        check()
    except Exception:
        return False
    return True


def laws_of(
    mutant: Mutant, primitives: Sequence[Primitive], probes: Probes
) -> Iterator[tuple[Primitive, Asked]]:
    """The laws that come to the place of a mutant."""
    for p in primitives:
        yield from ((p, law) for law in checks_of(p, probes).of(mutant))


def some(laws: Iterator[tuple[Primitive, Asked]]) -> list[tuple[Primitive, Asked]]:
    """The next laws, which take a short while."""
    found, seconds = [], 0.0
    for primitive, law in laws:
        found.append((primitive, law))
        seconds += law.seconds
        if seconds > SHORT:
            break
    return found


def noticed_by_laws(
    mutant: Mutant, laws: Iterator[tuple[Primitive, Asked]], probes: Probes
) -> tuple[str | None, Primitive | None]:
    """The first of these laws that fails with the mutant, if any, and of which primitive."""
    while batch := some(laws):
        found = noticed_by_some(mutant, batch, probes)
        if found[0] is not None:
            return found
    return None, None


def noticed_by_some(
    mutant: Mutant, laws: list[tuple[Primitive, Asked]], probes: Probes
) -> tuple[str | None, Primitive | None]:
    with mutant.installed():
        found = next(((p, law) for p, law in laws if not holds_in_time(law)), None)
    if found is None:
        return None, None
    primitive, law = found
    checks_of(primitive, probes).first(law)
    assert holds(law.check), f"{mutant} left a trace"
    return law.name, primitive


def holds_in_time(asked: Asked) -> bool:
    """Whether a law still holds, and comes to an end."""
    signal.setitimer(signal.ITIMER_PROF, 2 + PATIENCE * asked.seconds)
    try:
        return holds(asked.check)
    except TimeIsUp:  # too late to be caught inside
        return False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


@dataclass(frozen=True)
class Reached:
    """What a written test comes to, and the seconds that it takes."""

    places: frozenset[Place]
    seconds: float


class WrittenTests:
    """The written tests of some files: collected once, in a session of pytest that lasts as long as
    the work that asks them."""

    def __init__(self, probes: Probes) -> None:
        self.probes = probes
        self.items: dict[str, dict[str, pytest.Item]] = defaultdict(dict)
        self.reached: dict[str, dict[str, Reached]] = {}
        self.telling: dict[str, list[str]] = defaultdict(list)
        self.failed = False

    def during(self, work: Callable[[], int], files: Iterable[str]) -> int:
        """What some work gives that asks the tests of these files."""
        self.work = work
        options = ("-q", "-s", "--tb=line", "-p", "no:cacheprovider", "-p", "no:randomly")
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            pytest.main([*options, f"--rootdir={TESTS.parent}", *files], [self])
        return self.status

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for item in session.items:
            self.items[str(item.path)][item.nodeid] = item
        self.status = self.work()
        return True

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            say(f"cannot be collected: {report.nodeid}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or report.failed

    def passes(self, name: str, limit: float) -> bool:
        """Whether a test passes; one that does not end has failed."""
        item = self.items[file_of(name)][name]
        self.failed = False
        signal.setitimer(signal.ITIMER_PROF, limit)
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        return not self.failed

    def reaching(self, file: str) -> dict[str, Reached]:
        """The tests of a file that pass without a mutant, with where they come to."""
        if file not in self.reached:
            with self.probes.installed():
                found = {name: self.reaches(name) for name in self.items[file]}
            settle()
            self.reached[file] = {name: x for name, x in found.items() if x}
        return self.reached[file]

    def reaches(self, name: str) -> Reached | None:
        """The places that a test comes to and the seconds that it takes, if it passes."""
        forget_derived()
        self.probes.taken()
        start = time.process_time()
        if self.passes(name, LONG):
            return Reached(self.probes.taken(), time.process_time() - start)
        say(f"without any mutant, this fails: {name}")
        return None

    def of_file(self, mutant: Mutant, file: str) -> dict[str, float]:
        """The tests of a file that come to the place of a mutant, the quick ones first, each with
        the seconds that it takes."""
        found = self.reaching(file)
        asked = [k for k, x in found.items() if mutant.place is None or mutant.place in x.places]
        return {k: found[k].seconds for k in sorted(asked, key=lambda k: found[k].seconds)}

    def that_told(self, mutant: Mutant) -> dict[str, float]:
        """Of the tests that noticed mutants of the module, the last one first, those that may
        notice this one."""
        known = self.telling[mutant.owner]
        files = dict.fromkeys(file_of(name) for name in known)
        asked = {k: v for file in files for k, v in self.of_file(mutant, file).items()}
        return {name: asked[name] for name in known if name in asked}

    def notice(self, mutant: Mutant, tests: dict[str, float]) -> bool:
        """Whether one of these tests fails with the mutant, and passes without it."""
        limits = {name: 2 + PATIENCE * seconds for name, seconds in tests.items()}
        with mutant.installed():
            test = next((k for k, limit in limits.items() if not self.passes(k, limit)), None)
        if test is None or not self.passes(test, LONG):
            return False
        known = self.telling[mutant.owner]
        known[:] = [test, *[other for other in known if other != test]]
        return True

    def of_family_notice(self, mutant: Mutant) -> bool:
        """Whether a test of the family notices a mutant; file by file."""
        files = dict.fromkeys(map(file_of, family(mutant.owner)))
        return any(self.notice(mutant, self.of_file(mutant, file)) for file in files)


def file_of(test: str) -> str:
    return str(TESTS.parent / test.partition("::")[0])


def family(owner: str) -> list[str]:
    """The written tests about a module: files, or tests of a file."""
    found = [test for name in owner.split(".") for test in FAMILIES.get(name, ())]
    return [str(TESTS / name) for name in (*found, POINTS)]


def lines_asked(arguments: list[str]) -> tuple[list[str], dict[str, int]]:
    """The names, and the lines between which the mutants are: a run that was broken off goes on."""
    names, between = list(arguments), {"--after": 0, "--before": sys.maxsize}
    for option in between:
        if option in names:
            i = names.index(option)
            between[option] = int(names[i + 1])
            del names[i : i + 2]
    return names, between


def selected(names: list[str]) -> list[Primitive]:
    """The primitives asked for, by name or by module; all of vjpkit's without a name."""
    ours = [p for p in registered().values() if type(p).__module__.startswith(vk.__name__)]
    if not names:
        return ours
    asked = set(names)
    return [p for p in ours if asked & {p.name, *type(p).__module__.split(".")}]


def stop(*_: object) -> None:
    raise TimeIsUp


def main(arguments: list[str]) -> int:
    names, between = lines_asked(arguments)
    signal.signal(signal.SIGPROF, stop)
    watch_programs()
    wanted, everything = selected(names), selected([])
    whole = [name for name in modules_of_rules() if not names or name.split(".")[-1] in names]
    if not wanted and not whole:
        sys.exit(f"no primitive and no module of primitives is called {' or '.join(names)}")
    sources = [Source(import_module(name)) for name in modules_asked(wanted, whole)]
    mutants = (
        (mutant, primitives)
        for mutant, primitives in all_mutants(wanted, everything, whole, sources)
        if between["--after"] < mutant.line < between["--before"]
    )
    written = WrittenTests(Probes(sources))
    files = dict.fromkeys(file for source in sources for file in family(source.owner))
    listed = {x for x in EQUIVALENT if not names or x.startswith(tuple(f"{m}." for m in whole))}
    if len(arguments) > len(names):
        listed = set()  # of a part of a module nothing is known to be gone
    return written.during(lambda: ask(mutants, written, listed), files)


def ask(
    mutants: Iterable[tuple[Mutant, list[Primitive]]], written: WrittenTests, listed: set[str]
) -> int:
    """Ask the checks about mutants, with the primitives concerned; 1 if any is not noticed.
    ``listed`` are those proved equivalent, which are to be found."""
    warnings.simplefilter("error")
    start = time.monotonic()
    probes = written.probes
    caught: dict[str, Counter[str]] = defaultdict(Counter)
    survivors = 0
    equivalent: set[str] = set()
    last: deque[Primitive] = deque(maxlen=2)
    for mutant, primitives in mutants:
        proved = str(mutant) in EQUIVALENT
        # What noticed the last mutants is asked first; a written test of these before all the rest.
        ordered = sorted(primitives, key=lambda p: p not in last)
        near, far = (laws_of(mutant, x, probes) for x in (ordered[:NEAR], ordered[NEAR:]))
        law, by = noticed_by_some(mutant, some(near), probes)
        told = False
        if law is None and not proved:
            few = dict(itertools.islice(written.that_told(mutant).items(), FEW))
            told = written.notice(mutant, few)
            if not told:
                law, by = noticed_by_laws(mutant, near, probes)
            told = told or (law is None and written.of_family_notice(mutant))
            if law is None and not told:
                law, by = noticed_by_laws(mutant, far, probes)
        last += [by] if by and by not in last else []
        if law is not None:
            caught[mutant.owner][law] += 1
        elif proved:
            equivalent.add(str(mutant))
            caught[mutant.owner]["equivalent"] += 1
        elif told:
            caught[mutant.owner]["written tests"] += 1
            say(f"by a written test: {mutant}")
        else:
            survivors += 1
            caught[mutant.owner]["not caught"] += 1
            say(f"not caught: {mutant}   (line {mutant.line})")
    report(caught, time.monotonic() - start)
    if stale := listed - equivalent:
        say("listed as equivalent, but caught or gone:", *sorted(stale), sep="\n  ")
    return 1 if survivors else 0


@cache
def checks_of(primitive: Primitive, probes: Probes) -> Checks:
    return Checks(primitive, probes)


def modules_asked(wanted: list[Primitive], owners: Sequence[str]) -> Iterable[str]:
    """The modules whose mutants are made."""
    bases = [c.__module__ for p in wanted for c in type(p).__mro__[1:]]
    shared = [name for name in bases if name.startswith(f"{vk.__name__}.ops.")]
    whole = [f"{vk.__name__}.{name}" for name in owners]
    return dict.fromkeys([*(type(p).__module__ for p in wanted), *shared, *whole])


def all_mutants(
    wanted: list[Primitive],
    everything: list[Primitive],
    owners: Sequence[str],
    sources: Sequence[Source],
) -> Iterator[tuple[Mutant, list[Primitive]]]:
    """Mutants, each with the primitives whose checks may notice it."""
    for source in sources:
        for rule in source.rules():
            primitives = concerned(rule, everything)
            asked = source.owner in owners and (source.owner in MACHINERY or primitives)
            if asked or any(p in wanted for p in primitives):
                yield from ((mutant, primitives) for mutant in source.mutants(rule))
    for primitive in wanted:
        for mutant in mutants_of_declarations(primitive):
            yield mutant, [primitive]


def report(caught, seconds) -> None:
    say(f"\n{'module':24}{'mutants':>8}{'caught':>8}{'equivalent':>12}{'not caught':>12}   by law")
    total, missed = 0, 0
    for owner, laws in sorted(caught.items()):
        count, same, left = laws.total(), laws.pop("equivalent", 0), laws.pop("not caught", 0)
        by = ", ".join(f"{law} {n}" for law, n in laws.most_common(5))
        say(f"{owner:24}{count:8}{count - same - left:8}{same:12}{left:12}   {by}")
        total += count - same
        missed += left
    share = 100 * (total - missed) / total if total else 100.0
    say(f"{total - missed} of {total} mutants caught: {share:.2f} %, in {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
