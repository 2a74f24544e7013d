"""A page with the tables and pictures of a saved run, and where a peer is ahead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from benchmarks.bounds import Verdict
from benchmarks.cases import CASES
from benchmarks.libraries import ENTRIES, HAND, OURS, peers
from benchmarks.pictures import draw
from benchmarks.report import case_sizes, filled, ratios, times, title
from benchmarks.results import Key, Results

__all__ = ["write"]

PAGE, PICTURES = "RESULTS.md", "pictures"
AHEAD = 1.05
"""The ratio of times from which a peer is called ahead: less is noise."""

WAYS = {
    "vjpkit": "as it is: plain NumPy code, op by op",
    "vjpkit-jit": "under `vk.jit(backend='numpy')`: compiled to NumPy source",
    "vjpkit-native": "under `vk.jit(backend='native')`: groups and loops as machine code",
}


def write(
    folder: Path,
    saved: str,
    machine: Mapping[str, Any],
    settings: Mapping[str, Any],
    results: Results,
    verdicts: Sequence[Verdict],
) -> Iterator[Path]:
    """Write the page and its pictures into ``folder``; the files that were written.

    ``saved`` is the name of the file that the numbers came from.
    """
    pictures = [p for p in draw(results, folder / PICTURES) if p.stem.startswith("ratios-")]
    yield from pictures
    text = [*introduction(saved, machine, settings, results), *summary(results)]
    for ours in (name for name in OURS if name in results.libraries):
        picture = next(p for p in pictures if p.stem == f"ratios-{ours}")
        text += [*section(ours, results), f"![{title(ours)}]({PICTURES}/{picture.name})", ""]
    text += [*promises(verdicts), *unmeasured(results)]
    page = folder / PAGE
    page.write_text("\n".join(text), encoding="utf-8")
    yield page


def introduction(
    saved: str, machine: Mapping[str, Any], settings: Mapping[str, Any], results: Results
) -> Iterator[str]:
    """What was measured, how, where, against what."""
    how = "one processor, one thread, processor time" if settings["one_core"] else "all processors"
    kept = "kept by malloc" if settings["retain_memory"] else "given back to the system by malloc"
    yield from (
        "# What a gradient costs",
        "",
        "Every number is a ratio of times within one run: each library computes the same gradient",
        "in a process of its own, the processes take turns in rounds, every gradient is compared",
        "with the others' first, and a ratio is the median over the rounds. Below 1 vjpkit is",
        "quicker. `by hand` is the derivative as one would write it in NumPy for this function",
        "alone.",
        "",
        f"* {machine['processor']}, {machine['cores']} cores, {machine['python']},",
        f"  {machine['system']}, {machine['date'][:10]};",
        f"* {settings['rounds']} rounds; {how}; freed memory is {kept};",
    )
    versions = {
        ENTRIES[name].package: about["version"]
        for name, about in results.libraries.items()
        if "version" in about
    }
    yield f"* {', '.join(' '.join(pair) for pair in versions.items())}."
    yield from (
        "",
        "The page is made from the numbers that were saved, and these by one command:",
        "",
        "```sh",
        " \\\n    ".join(["python -m benchmarks", *flags(saved, settings, results)]),
        f"python -m benchmarks --from benchmarks/results/{saved} --page benchmarks",
        "```",
        "",
    )


def flags(saved: str, settings: Mapping[str, Any], results: Results) -> Iterator[str]:
    """The options of the run."""
    named = ("quick", "one_core", "retain_memory")
    switches = [f"--{name.replace('_', '-')}" for name in named if settings[name]]
    yield " ".join([*switches, f"--rounds {settings['rounds']}"])
    yield f"--libraries {','.join(results.libraries)}"
    yield f"--cases {','.join(results.cases())}"
    yield f"--save benchmarks/results/{saved}"


def summary(results: Results) -> Iterator[str]:
    """For each way of running vjpkit and each other library the typical ratio."""
    ways = [name for name in OURS if name in results.libraries]
    yield from (
        "## In short",
        "",
        "The geometric mean over the programs of vjpkit's time over another library's, and in how",
        "many of them vjpkit is quicker or within 5 %.",
        "",
    )
    rows = []
    for other in (*HAND, *peers(results.libraries)):
        if other not in results.libraries:
            continue
        cells = []
        for ours in ways:
            found = common_ratios(ours, other, results)
            wins = sum(ratio <= AHEAD for ratio in found)
            cells.append(f"{geometric_mean(found):.2f} ({wins} of {len(found)})" if found else "-")
        rows.append([title(other), *cells])
    yield from markdown(["over", *map(title, ways)], rows)


def common_ratios(ours: str, other: str, results: Results) -> list[float]:
    """The ratios of our gradients' times to another library's, where both were measured."""
    keys = [
        (Key(case.name, size, ours, "gradient"), Key(case.name, size, other, "gradient"))
        for case, size in case_sizes([CASES[n] for n in results.cases() if n in CASES], results)
    ]
    return [
        results.median_ratio(mine, its)
        for mine, its in keys
        if mine in results.samples and its in results.samples
    ]


def section(ours: str, results: Results) -> Iterator[str]:
    """Where a peer is ahead of one way of running vjpkit, and its table of ratios."""
    yield from (f"## {title(ours)}", "", f"vjpkit {WAYS[ours]}.", "")
    cases = [CASES[name] for name in results.cases() if name in CASES]
    ahead = []
    for case, size in case_sizes(cases, results):
        mine = Key(case.name, size, ours, "gradient")
        theirs = [mine._replace(library=name) for name in peers(results.libraries)]
        known = [key for key in theirs if key in results.samples and mine in results.samples]
        if known:
            first = min(known, key=results.median)
            ratio = results.median_ratio(mine, first)
            if ratio > AHEAD:
                ahead.append((ratio, f"{case.name} {size} ({title(first.library)} {times(ratio)})"))
    words = ", ".join(text for _, text in sorted(ahead, reverse=True))
    yield f"**Where the best peer is ahead** ({len(ahead)}): {words or 'nowhere'}."
    yield ""
    yield from markdown(*ratios(ours, cases, results))


def promises(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """The bounds of ``--assert`` that do not hold: median and limit."""
    judged = [v for v in verdicts if v.summary is not None]
    kept = sum(v.word == "pass" for v in judged)
    yield from (
        "## What is aimed at, and missed",
        "",
        f"`--assert` checks the aims. Of {len(judged)} that this run measured {kept} hold;",
        "these do not:",
        "",
    )
    rows = [
        [v.bound.text, times(v.summary.median), f"{v.bound.limit:g}"]
        for v in judged
        if v.word == "FAIL" and v.summary is not None
    ]
    yield from markdown(["bound", "measured", "at most"], rows)


def unmeasured(results: Results) -> Iterator[str]:
    """What did not work, and why."""
    if results.troubles:
        yield from ("## Not measured", "")
        for key, trouble in results.troubles.items():
            what = " ".join(filter(None, (key.case, key.size)))
            reason = trouble.splitlines()[0] if trouble else ""
            yield f"* {what}, {ENTRIES[key.library].title}, {key.measure}: {reason}"
        yield ""


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table; nothing at all where there are no rows, no column where all are empty."""
    if rows:
        first, *others = filled(columns, rows)
        for line in (first, ["---", *["---:"] * (len(first) - 1)], *others):
            yield f"| {' | '.join(line)} |"
        yield ""
