"""Does every mistake in a rule make a generated test fail?

``python -m tests.mutation [PRIMITIVE OR MODULE ...] [--after LINE]`` makes the mutants of
`tests.mutation.mutants` in turn, and runs the laws of the primitives concerned until one fails; if
all hold, then the written tests of the family. It prints a table per module, the mutants that
nothing noticed, and the percentage; ``--after`` goes on where a run was broken off. Mutants that
cannot be noticed, because they compute the same, are in `tests.mutation.equivalent`, with the
proof. It takes hours, so it is no part of the suite.
"""

import itertools
import os
import signal
import sys
import time
import warnings
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import vjpkit as vk
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import (
    MACHINERY,
    Mutant,
    Source,
    concerned,
    modules_of_rules,
    mutants_of_declarations,
)
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
"""So many primitives are tried before written tests, and on mutants proved to be equivalent."""

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
    "updates": ("ops/test_indexing.py", "numpy/test_writable.py"),
    "linalg": (
        "ops/test_thresholds.py",
        "ops/test_linalg.py",
        "numpy/test_linalg.py",
        "test_kinks.py",
    ),
    "revolve": ("control/test_revolve.py", "control/test_checkpointed_loops.py"),
    "custom": ("control/test_custom.py",),
    "custom_arguments": ("control/test_custom.py", "control/test_outside.py"),
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
    "bodies": ("control/test_refusals.py", "control/test_branch.py", "control/test_mapped.py"),
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
}
"""The written tests about the operations of a module."""

POINTS = "ops/test_special_points.py"
"""The written tests about operations of all modules."""


class TimeIsUp(Exception):
    """The mutant does not come to an end."""


class Checks:
    """The laws of one primitive that hold without a mutant, the telling ones first."""

    ORDER = ("duality", "jvp", "batch", "batched_derivatives", "annihilation", "dtypes", "second")

    def __init__(self, primitive: Primitive) -> None:
        self.primitive = primitive
        self.cases = cases_of(primitive)
        laws = sorted(LAWS, key=lambda name: (name not in self.ORDER, name))
        pairs = [(case, LAWS[name]) for name, case in itertools.product(laws, self.cases)]
        self.pairs = [
            (c, law) for c, law in pairs
            if (law.applies(c) or law.name == "linear") and c.exemption(law.name) is None
        ]  # fmt: skip
        start = time.process_time()
        broken = [(c, law) for c, law in self.pairs if not holds(law, c)]
        self.broken = sorted({law.name for _, law in broken})
        self.pairs = [pair for pair in self.pairs if pair not in broken]
        self.linear = "undeclared" not in primitive.exempt and not undeclared(self.cases)
        self.seconds = time.process_time() - start

    def run(self) -> str | None:
        """The first law that does not hold, if any; it is asked first the next time."""
        for i, (case, law) in enumerate(self.pairs):
            if not holds(law, case):
                self.pairs.insert(0, self.pairs.pop(i))
                return law.name
        if self.linear and undeclared(self.cases):
            return "linear"
        return None

    @property
    def intact(self) -> bool:
        """Whether the check that noticed the last mutant holds without it."""
        return not self.pairs or holds(*self.pairs[0][::-1])


def holds(law, case) -> bool:
    try:
        law(case)
    except Exception:
        return False
    return True


def noticed(mutant: Mutant, checks: Checks) -> str | None:
    """The law that fails with the mutant, and holds again without it; or None."""
    signal.setitimer(signal.ITIMER_PROF, 2 + PATIENCE * checks.seconds)
    try:
        with mutant.installed():
            law = checks.run()
    except Exception as error:
        return type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    assert law is None or checks.intact, f"{mutant} left a trace"
    return law


telling: dict[str, list[str]] = defaultdict(list)
"""The written tests that noticed mutants of a module, the last one first: these are asked first."""


def noticed_by_laws(
    mutant: Mutant, primitives: Sequence[Primitive]
) -> tuple[str | None, Primitive | None]:
    """The first law of these primitives that fails with the mutant, if any, and of which."""
    for p in primitives:
        law = noticed(mutant, checks_of(p))
        if law is not None:
            return law, p
    return None, None


def tests_of(mutant: Mutant) -> list[str]:
    """The written tests of a mutant's family."""
    family = [test for name in mutant.owner.split(".") for test in FAMILIES.get(name, ())]
    return [str(TESTS / name) for name in (*family, POINTS)]


def noticed_by_tests(mutant: Mutant, tests: list[str]) -> bool:
    """Whether one of these written tests fails with the mutant, and passes without it."""
    with mutant.installed():
        test = first_failed(tests) if tests else None
    if not test or first_failed([test]) is not None:
        return False
    known = telling[mutant.owner]
    known[:] = [test, *[other for other in known if other != test]]
    return True


def first_failed(tests: list[str]) -> str | None:
    """The first written test that fails, or the first file that cannot be read."""
    failed = []

    class Reports:
        def pytest_runtest_logreport(self, report) -> None:
            if report.failed:
                failed.append(report.nodeid)

        pytest_collectreport = pytest_runtest_logreport

        def pytest_runtest_logstart(self) -> None:
            signal.setitimer(signal.ITIMER_PROF, LONG)  # a test that does not end has failed

        def pytest_runtest_logfinish(self) -> None:
            signal.setitimer(signal.ITIMER_PROF, 0)

    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        code = pytest.main([*options, f"--rootdir={TESTS.parent}", *tests], [Reports()])
    assert code in (0, 1, 2), f"pytest ends with {code!r}"
    return next(iter(failed), None) if code else None


def lines_asked(arguments: list[str]) -> tuple[list[str], int]:
    """The names, and the line after which the mutants begin: a run that was broken off goes on."""
    if "--after" not in arguments:
        return arguments, 0
    i = arguments.index("--after")
    return arguments[:i] + arguments[i + 2 :], int(arguments[i + 1])


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
    names, line = lines_asked(arguments)
    signal.signal(signal.SIGPROF, stop)
    warnings.simplefilter("error")
    start = time.monotonic()
    wanted, everything = selected(names), selected([])
    whole = [name for name in modules_of_rules() if not names or name.split(".")[-1] in names]
    if not wanted and not whole:
        sys.exit(f"no primitive and no module of primitives is called {' or '.join(names)}")
    caught: dict[str, Counter[str]] = defaultdict(Counter)
    survivors = 0
    equivalent: set[str] = set()
    last: deque[Primitive] = deque(maxlen=2)
    for mutant, primitives in all_mutants(wanted, everything, whole):
        if mutant.line <= line:
            continue
        proved = str(mutant) in EQUIVALENT
        # What noticed the last mutants is asked first; a written test of these before all the rest.
        ordered = sorted(primitives, key=lambda p: p not in last)
        law, by = noticed_by_laws(mutant, ordered[:FEW])
        told = law is None and not proved and noticed_by_tests(mutant, telling[mutant.owner][:FEW])
        if law is None and not told and not proved:
            law, by = noticed_by_laws(mutant, ordered[FEW:])
        last += [by] if by and by not in last else []
        if law is None and proved:
            equivalent.add(str(mutant))
            caught[mutant.owner]["equivalent"] += 1
        elif law is None and (told or noticed_by_tests(mutant, tests_of(mutant))):
            caught[mutant.owner]["written tests"] += 1
            print(f"by a written test: {mutant}", flush=True)
        elif law is None:
            survivors += 1
            caught[mutant.owner]["not caught"] += 1
            print(f"not caught: {mutant}   (line {mutant.line})", flush=True)
        else:
            caught[mutant.owner][law] += 1
    report(caught, time.monotonic() - start)
    if not names and (stale := set(EQUIVALENT) - equivalent):
        print("listed as equivalent, but caught or gone:", *sorted(stale), sep="\n  ")
    return 1 if survivors else 0


@cache
def checks_of(primitive: Primitive) -> Checks:
    """The checks of a primitive; what it breaks without a mutant cannot be asked of it with one."""
    checks = Checks(primitive)
    if checks.broken:
        print(f"without any mutant, {primitive.name} breaks {', '.join(checks.broken)}")
    return checks


def all_mutants(
    wanted: list[Primitive], everything: list[Primitive], owners: Sequence[str]
) -> Iterator[tuple[Mutant, list[Primitive]]]:
    """Mutants, each with the primitives whose checks may notice it."""
    bases = [c.__module__ for p in wanted for c in type(p).__mro__[1:]]
    shared = [name for name in bases if name.startswith(f"{vk.__name__}.ops.")]
    whole = [f"{vk.__name__}.{name}" for name in owners]
    modules = dict.fromkeys([*(type(p).__module__ for p in wanted), *shared, *whole])
    for source in [Source(import_module(name)) for name in modules]:  # before any is changed
        for rule in source.rules():
            primitives = concerned(rule, everything)
            asked = source.owner in owners and (source.owner in MACHINERY or primitives)
            if asked or any(p in wanted for p in primitives):
                yield from ((mutant, primitives) for mutant in source.mutants(rule))
    for primitive in wanted:
        for mutant in mutants_of_declarations(primitive):
            yield mutant, [primitive]


def report(caught, seconds) -> None:
    print(
        f"\n{'module':24}{'mutants':>8}{'caught':>8}{'equivalent':>12}{'not caught':>12}   by law"
    )
    total, missed = 0, 0
    for owner, laws in sorted(caught.items()):
        count, same, left = laws.total(), laws.pop("equivalent", 0), laws.pop("not caught", 0)
        by = ", ".join(f"{law} {n}" for law, n in laws.most_common(5))
        print(f"{owner:24}{count:8}{count - same - left:8}{same:12}{left:12}   {by}")
        total += count - same
        missed += left
    share = 100 * (total - missed) / total if total else 100.0
    print(f"{total - missed} of {total} mutants caught: {share:.2f} %, in {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
