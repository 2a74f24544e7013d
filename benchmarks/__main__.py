"""``python -m benchmarks``: measure, print tables, check the promises, save the numbers."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from benchmarks.bounds import bounds, judge
from benchmarks.cases import CASES
from benchmarks.libraries import ENTRIES, installed
from benchmarks.machine import describe_machine
from benchmarks.probes import PROBES
from benchmarks.report import assertions, heading, report
from benchmarks.results import Results
from benchmarks.runner import ROOT, Settings, run_case


def parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parse.add_argument("--cases", metavar="NAMES", help="names, patterns or tags: a,b,c")
    parse.add_argument("--libraries", metavar="NAMES", help=f"of {', '.join(ENTRIES)}")
    parse.add_argument("--rounds", type=int, help="rounds round all libraries (11; with --quick 5)")
    parse.add_argument("--quick", action="store_true", help="fewer sizes, fewer and shorter rounds")
    parse.add_argument(
        "--one-core", action="store_true", help="one processor, one thread each; processor time"
    )
    parse.add_argument(
        "--retain-memory", action="store_true", help="raise glibc's thresholds in every process"
    )
    parse.add_argument("--assert", dest="check", action="store_true", help="check the promises")
    parse.add_argument("--save", type=Path, metavar="FILE", help="where the JSON goes")
    parse.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw them (matplotlib)")
    parse.add_argument(
        "--from", dest="saved", type=Path, metavar="FILE", help="the JSON of a run to report again"
    )
    parse.add_argument(
        "--page", type=Path, metavar="FOLDER", help="write a page with tables and pictures there"
    )
    parse.add_argument("--list", action="store_true", help="say what there is, and measure nothing")
    return parse


def chosen_cases(names: str | None) -> list[str]:
    """Cases and probes that names, patterns or tags choose; an error where one chooses none."""
    everything = [*CASES, *PROBES]
    if names is None:
        return everything
    chosen: set[str] = set()
    for word in names.split(","):
        found = {
            name
            for name in everything
            if fnmatch(name, word) or (name in CASES and word in CASES[name].tags)
        }
        if not found:
            raise SystemExit(f"no case is called {word!r}; there are {', '.join(everything)}")
        chosen |= found
    return [name for name in everything if name in chosen]


def chosen_libraries(names: str | None) -> tuple[str, ...]:
    """Installed libraries, or those asked for."""
    here = installed()
    if names is None:
        return tuple(here)
    wanted = names.split(",")
    for name in wanted:
        if name not in here:
            why = "not installed" if name in ENTRIES else f"unknown; there are {', '.join(ENTRIES)}"
            raise SystemExit(f"{name}: {why}")
    return tuple(name for name in here if name in wanted)


def say(text: str) -> None:
    """Progress, where it does not mix with the tables."""
    print(text, file=sys.stderr, flush=True)


def measured(options: argparse.Namespace) -> Path:
    """Measure what was asked for; where it was saved, as far as it has come after each case."""
    settings = Settings(
        libraries=chosen_libraries(options.libraries),
        rounds=options.rounds or (5 if options.quick else 11),
        quick=options.quick,
        one_core=options.one_core,
        retain_memory=options.retain_memory,
        say=say,
    )
    names = chosen_cases(options.cases)
    machine = describe_machine(settings.environment)
    default = ROOT / "benchmarks" / "results" / f"{datetime.now():%Y-%m-%d-%H%M%S}.json"
    path: Path = options.save or default
    results = Results()
    for name in names:
        if name in CASES:
            run_case(CASES[name], settings, results)
        else:
            say(name)
            PROBES[name].run(settings, results)
        save(path, machine, settings, results)
    return path


def save(path: Path, machine: dict[str, Any], settings: Settings, results: Results) -> None:
    """The numbers of every round, and the machine, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "settings": settings.as_json(), **results.as_json()}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.list:
        about = {name: case.about for name, case in CASES.items()}
        about |= {name: probe.about for name, probe in PROBES.items()}
        print("\n".join(f"{name:22s} {text}" for name, text in about.items()))
        return 0
    saved = options.saved or measured(options)
    content = json.loads(saved.read_text(encoding="utf-8"))
    machine, settings = content["machine"], content["settings"]
    results = Results.from_json(content)
    print("\n".join([*heading(machine, settings, results), *report(results)]))
    verdicts = [judge(bound, results) for bound in bounds(settings["quick"])]
    if options.check:
        print("\n".join(assertions(verdicts)))
    print(f"saved: {saved}")
    if options.pictures is not None:
        from benchmarks.pictures import draw

        for picture in draw(results, options.pictures):
            print(f"drawn: {picture}")
    if options.page is not None:
        from benchmarks.page import write

        for path in write(options.page, saved.name, machine, settings, results, verdicts):
            print(f"written: {path}")
    wrong = any(trouble.startswith("WRONG") for trouble in results.troubles.values())
    failed = options.check and any(verdict.word == "FAIL" for verdict in verdicts)
    return int(wrong or failed)


if __name__ == "__main__":
    sys.exit(main())
