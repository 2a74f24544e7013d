"""The benchmarks run: one tiny case, every gradient checked; how long it takes is not tested."""

import doctest
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bounds import Bound, bounds, judge
from benchmarks.case import label, leaves, tree_map
from benchmarks.cases import CASES
from benchmarks.libraries.by_hand import ByHand
from benchmarks.libraries.ours import Vjpkit
from benchmarks.plain import NAMES, PARTS, WRITES
from benchmarks.probes import CHAIN, FIRST_CALLS, TIMES
from benchmarks.results import Key, Results
from benchmarks.schedules import FORMS

ROOT = Path(__file__).parents[1]
BY_HAND = [case for case in CASES.values() if case.hand is not None]
SCALAR = [case for case in BY_HAND if case.derivative == "gradient"]
MODULES = ("case", "report", "results", "runner")


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_quick_run(tmp_path: Path):
    path = tmp_path / "run.json"
    quick = ("--quick", "--one-core", "--rounds", "2", "--libraries", "numpy,vjpkit")
    done = benchmarks(*quick, "--cases", "tiny", "--save", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Not measured" not in done.stdout
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert saved["machine"]["cores"] >= 1
    assert saved["libraries"]["vjpkit"]["version"]
    rounds = {(s["library"], s["measure"]): s["rounds"] for s in saved["samples"]}
    wanted = {("numpy", "function"), ("numpy", "gradient")}
    wanted |= {("vjpkit", measure) for measure in CASES["tiny"].measures}
    assert set(rounds) == wanted
    assert all(len(r) == 2 and min(r) > 0 for r in rounds.values())


def test_an_unknown_case_is_named():
    done = benchmarks("--cases", "nothing-like-this")
    assert done.returncode != 0
    assert "no case is called 'nothing-like-this'" in done.stderr


@pytest.mark.parametrize("case", SCALAR, ids=[case.name for case in SCALAR])
def test_gradients_by_hand(case):
    """The slope along a direction, by central differences, of the function that is measured."""
    size = min(case.sizes)
    problem = ByHand().problem(case, size)
    gradient = ByHand().make("gradient", problem)()
    generator = np.random.default_rng(3)
    direction = tree_map(lambda leaf: generator.normal(size=leaf.shape), problem.x)
    if case.name.startswith("likelihood"):  # defined for symmetric matrices only
        direction = direction + direction.T
    step = 1e-5

    def moved(sign: float) -> float:
        pairs = zip(leaves(problem.x), leaves(direction))
        new = [x + sign * step * v for x, v in pairs]
        names = sorted(problem.x) if isinstance(problem.x, dict) else None
        x = new[0] if names is None else dict(zip(names, new))
        return float(problem.function(x, *problem.data))

    slope = (moved(1.0) - moved(-1.0)) / (2 * step)
    pairs = zip(leaves(gradient), leaves(direction))
    assert slope == pytest.approx(sum(np.sum(g * v) for g, v in pairs), rel=1e-5)


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_derivatives_agree(case):
    """What is measured of vjpkit is what is measured by hand, at the smallest size."""
    ours = Vjpkit()
    problem = ours.problem(case, min(case.sizes))
    found = leaves(case.canonical(ours.make("gradient", problem)()))
    assert all(np.isfinite(leaf).all() and leaf.any() for leaf in found)
    if case.hand is not None:
        by_hand = ByHand().make("gradient", ByHand().problem(case, min(case.sizes)))()
        for got, want in zip(found, leaves(case.canonical(by_hand)), strict=True):
            scale = np.max(abs(want))
            np.testing.assert_allclose(got / scale, want / scale, atol=1e-10)


def test_verdicts():
    results = Results()
    for value in (1.0, 2.0, 3.0):
        results.add(Key("c", "1", "vjpkit", "gradient"), value)
        results.add(Key("c", "1", "numpy", "gradient"), 1.0)
    keys = (Key("c", "1", "vjpkit", "gradient"), Key("c", "1", "numpy", "gradient"))
    for limit, word in ((2.0, "pass"), (1.9, "FAIL")):
        assert judge(Bound("", limit, lambda r: r.ratios(*keys)), results).word == word
    missing = judge(Bound("", 1.0, lambda r: r.of(Key("d", "1", "vjpkit", "gradient"))), results)
    assert missing.summary is None
    assert "vjpkit was not measured" in missing.reason


LIBRARIES = ("numpy", "vjpkit", "vjpkit-jit", "vjpkit-native", "autograd", "torch", "jax", "numba")


def test_every_bound_names_cases_that_are_run():
    """With or without --quick, a bound asks for sizes that the run has."""
    for quick in (True, False):
        results = Results()
        for case in CASES.values():
            for size in case.chosen_sizes(quick):
                for library in LIBRARIES:
                    for measure in {"function", "gradient", *case.measures}:
                        results.add(Key(case.name, label(size), library, measure), 1.0)
        for name, its_size in FIRST_CALLS:
            for measure in TIMES:
                results.add(Key("first-call", f"{name} {its_size}", "vjpkit-jit", measure), 1.0)
        for form in FORMS:
            for what in ("time", "megabytes"):
                results.add(Key("revolve", form, "vjpkit", what), 1.0)
        for name in NAMES:
            results.add(Key("plain", CHAIN, "vjpkit", name), 1.0)
        for part in PARTS:
            results.add(Key("plain", f"{WRITES} writes", "vjpkit", part), 1.0)
        verdicts = [judge(bound, results) for bound in bounds(quick)]
        assert [
            v.bound.text for v in verdicts if v.summary is None and "memory of" not in v.bound.text
        ] == []


def test_a_page_is_made_from_a_saved_run(tmp_path: Path):
    """The tables say who is ahead; what was not measured is named."""
    about = {"version": "1.0", "threads": "one"}
    results = Results(libraries=dict.fromkeys(("numpy", "vjpkit", "torch"), about))
    for case, mine, its in (("tiny", 1.0, 2.0), ("chain", 3.0, 2.0)):
        for library, seconds in (("numpy", 1.0), ("vjpkit", mine), ("torch", its)):
            for measure in ("function", "gradient"):
                results.add(Key(case, "10", library, measure), seconds)
    results.troubles[Key("sort", "10", "torch", "gradient")] = "no such operation"
    settings = {"rounds": 1, "quick": True, "one_core": True, "retain_memory": False}
    machine = dict.fromkeys(("processor", "cores", "python", "system", "date"), "2026-01-01")
    saved = tmp_path / "run.json"
    saved.write_text(
        json.dumps({"machine": machine, "settings": settings, **results.as_json()}), "utf-8"
    )
    assert Results.from_json(json.loads(saved.read_text("utf-8"))) == results
    done = benchmarks("--from", str(saved), "--page", str(tmp_path))
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "RESULTS.md").read_text("utf-8")
    assert "| PyTorch | 0.87 (1 of 2) |" in page
    assert "ahead** (1): chain 10 (PyTorch 1.50)" in page
    assert "| tiny 10 | 1.00 | 1.00 | 0.50 | 0.50 PyTorch |" in page
    assert "* sort 10, PyTorch, gradient: no such operation" in page
    assert (tmp_path / "pictures" / "ratios-vjpkit.svg").exists()


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str):
    module = import_module(f"benchmarks.{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
