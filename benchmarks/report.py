"""Tables, as text: what the numbers of a run say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from benchmarks.bounds import Verdict
from benchmarks.case import Case, parsed
from benchmarks.cases import CASES
from benchmarks.libraries import ENTRIES, OURS, peers
from benchmarks.plain import PARTS
from benchmarks.results import Key, Missing, Results

__all__ = [
    "assertions", "case_sizes", "filled", "heading", "ratios", "report", "times", "title",
]  # fmt: skip

HAND = "numpy"
NOTHING = "-"


def report(results: Results) -> Iterator[str]:
    """Every table that the run has numbers for."""
    run = [CASES[name] for name in results.cases() if name in CASES]
    yield from table("Gradients: times", *gradients(run, results))
    for ours in (name for name in OURS if name in results.libraries):
        caption = f"{title(ours)}: the gradient's time over that of others"
        yield from table(caption, *ratios(ours, run, results))
    small = [case for case in run if case.operations is not None]
    yield from table("Time per operation of the function", *costs(small, results))
    several = [case for case in run if case.operations is None and len(case.measures) > 2]
    yield from table("Linearizing once, pulling back often", *costs(several, results))
    yield from table("Import in a fresh process, NumPy included", *imports(results))
    yield from table("The first gradient in a fresh process", *first_calls(results))
    yield from table("Peak memory beyond the input, in arrays of its size", *memory(results))
    yield from table("Loops with a checkpoint schedule", *schedules(results))
    yield from table("Plain NumPy code", *plain(results))
    if results.troubles:
        yield "Not measured"
        for key, trouble in results.troubles.items():
            what = " ".join(filter(None, (key.case, key.size)))
            yield f"  {what}, {title(key.library)}, {key.measure}: {trouble}"
        yield ""


def heading(machine: dict[str, Any], settings: dict[str, Any], results: Results) -> Iterator[str]:
    """The machine, how numbers were taken, and each library's version and threads."""
    for name, value in {**machine, "settings": settings}.items():
        text = ", ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else value
        yield f"{name:12s} {text}"
    for name, about in results.libraries.items():
        text = about.get("error") or f"{about['version']}; {about['threads']}"
        yield f"{title(name):14s} {text}"
    yield ""


def assertions(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """One line per bound: verdict, median, middle half of the rounds, limit."""
    yield "      median  (quarter to three quarters)   limit"
    for verdict in verdicts:
        if verdict.summary is None:
            yield f"{verdict.word}  {verdict.bound.text}: {verdict.reason}"
            continue
        s = verdict.summary
        yield (
            f"{verdict.word}  {s.median:6.3f}  ({s.low:.3f} to {s.high:.3f})"
            f"  <= {verdict.bound.limit:<5g}  {verdict.bound.text}"
        )
    yield ""


# Formats ------------------------------------------------------------------------------------------


def title(library: str) -> str:
    """What tables call a library."""
    return ENTRIES[library].title


def seconds(value: float) -> str:
    """A time with three digits.

    >>> seconds(3.4567e-5), seconds(0.25)
    ('34.6 us', '250 ms')
    """
    for unit, scale in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if value < 999.5 * scale:
            return f"{value / scale:#.3g}".rstrip(".") + f" {unit}"
    return f"{value:.3g} s"


def attempt(compute: Callable[..., float], form: Callable[[float], str], *keys: Key) -> str:
    """A formatted number, or a dash where there is none."""
    try:
        return form(compute(*keys))
    except Missing:
        return NOTHING


def times(value: float) -> str:
    return f"{value:.2f}"


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Aligned columns; nothing at all where there are no rows, no column where all are empty."""
    if not rows:
        return
    lines = filled(columns, rows)
    widths = [max(map(len, column)) for column in zip(*lines)]
    yield caption
    for first, *others in lines:
        words = [word.rjust(w) for word, w in zip(others, widths[1:])]
        yield "  ".join(["", first.ljust(widths[0]), *words])
    yield ""


def filled(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The heads of the columns and the rows, without columns in which there is nothing."""
    kept = [i for i, _ in enumerate(columns) if any(row[i] != NOTHING for row in rows)]
    return [[line[i] for i in kept] for line in (columns, *rows)]


# Tables: (columns, rows) --------------------------------------------------------------------------

Table = tuple[Sequence[str], list[list[str]]]


def case_sizes(cases: Iterable[Case], results: Results) -> list[tuple[Case, str]]:
    return [(case, size) for case in cases for size in results.case_sizes(case.name)]


def function_of(case: str, size: str, results: Results) -> Key:
    """The plain function: NumPy's own, where that was measured."""
    key = Key(case, size, HAND, "function")
    return key if key in results.samples else key._replace(library=OURS[0])


def gradients(cases: Sequence[Case], results: Results) -> Table:
    """The function, and its gradient in every library, for each case at each size."""
    libraries = list(results.libraries)
    rows = []
    for case, size in case_sizes(cases, results):
        keys = [Key(case.name, size, name, "gradient") for name in libraries]
        cells = [attempt(results.median, seconds, key) for key in keys]
        function = attempt(results.median, seconds, function_of(case.name, size, results))
        rows.append([f"{case.name} {size}", function, *cells])
    return ["", "function", *map(title, libraries)], rows


def ratios(ours: str, cases: Sequence[Case], results: Results) -> Table:
    """Ratios to the plain function, to what is written by hand, to each peer and the best one."""
    others = peers(results.libraries)
    columns = ["", "/ function", "/ by hand", "/ Numba by hand"]
    columns += [f"/ {title(name)}" for name in others] + ["/ best peer"]
    rows = []
    for case, size in case_sizes(cases, results):
        mine, hand, numba, *theirs = (
            Key(case.name, size, name, "gradient") for name in (ours, HAND, "numba", *others)
        )
        under = (function_of(case.name, size, results), hand, numba, *theirs)
        cells = [attempt(results.median_ratio, times, mine, key) for key in under]
        if any(cell != NOTHING for cell in cells):
            rows.append([f"{case.name} {size}", *cells, best(mine, theirs, results)])
    return columns, rows


def best(mine: Key, others: Sequence[Key], results: Results) -> str:
    """The ratio to the quickest of the peers, and its name."""
    known = [key for key in others if key in results.samples]
    if mine not in results.samples or not known:
        return NOTHING
    first = min(known, key=results.median)
    return f"{times(results.median_ratio(mine, first))} {title(first.library)}"


def costs(cases: Sequence[Case], results: Results) -> Table:
    """Every measure in every library: time per operation, or in all."""
    libraries = list(results.libraries)
    rows = []
    for case, size in case_sizes(cases, results):
        each = 1 if case.operations is None else case.operations(parsed(size))
        for measure in case.measures:
            keys = [Key(case.name, size, name, measure) for name in libraries]
            cells = [attempt(partial(per_operation, results, each), seconds, key) for key in keys]
            if any(cell != NOTHING for cell in cells):
                rows.append([f"{case.name} {size} {measure}", *cells])
    return ["", *map(title, libraries)], rows


def per_operation(results: Results, operations: int, key: Key) -> float:
    return results.median(key) / operations


def imports(results: Results) -> Table:
    numpy = Key("import", "", HAND, "import")
    keys = [key for key in results.samples if key.case == "import"]
    rows = [
        [
            ENTRIES[key.library].package,
            attempt(results.median, seconds, key),
            attempt(results.median_ratio, times, key, numpy),
        ]
        for key in keys
    ]
    return ["", "import", "/ numpy"], rows


def first_calls(results: Results) -> Table:
    keys = [k for k in results.samples if k.case == "first-call" and k.measure == "first"]
    rows = [
        [
            f"{key.size}, {title(key.library)}",
            attempt(results.median, seconds, key),
            attempt(results.median, seconds, key._replace(measure="second")),
            attempt(results.median, seconds, key._replace(measure="processor")),
            attempt(results.median, seconds, key._replace(measure="made")),
        ]
        for key in keys
    ]
    return ["", "first", "second", "first, processor", "made again, processor"], rows


def memory(results: Results) -> Table:
    found = dict.fromkeys(key[:3] for key in results.samples if key.case == "memory")
    rows = [
        [
            f"n = {size}, {title(library)}",
            attempt(results.median, times, Key(case, size, library, "rss")),
            attempt(results.median, times, Key(case, size, library, "traced")),
        ]
        for case, size, library in found
    ]
    return ["", "resident", "allocated"], rows


def plain(results: Results) -> Table:
    keys = [key for key in results.samples if key.case == "plain"]
    rows = [
        [
            f"{key.size}, {key.measure}",
            attempt(results.median, times if key.measure in PARTS else seconds, key),
        ]
        for key in keys
    ]
    return ["", "gradient, or copies of the array"], rows


def schedules(results: Results) -> Table:
    keys = [k for k in results.samples if k.case == "revolve" and k.measure == "time"]
    rows = [
        [
            key.size,
            attempt(results.median, times, key),
            attempt(results.median, times, key._replace(measure="megabytes")),
        ]
        for key in keys
    ]
    return ["", "time / its steps", "MB beyond the state"], rows
