"""Pictures of a run: vjpkit's time over the others', and how times grow with size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.case import Case, parsed
from benchmarks.cases import CASES
from benchmarks.libraries import ENTRIES, HAND, OURS, peers
from benchmarks.results import Key, Missing, Results

__all__ = ["draw"]


def draw(results: Results, folder: Path) -> Iterator[Path]:
    """A picture of all ratios, and one per case with several sizes; the files that were written."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text, which is smaller
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    cases = [CASES[name] for name in results.cases() if name in CASES]
    pictures: dict[str, Callable[[Any], None]] = {
        f"ratios-{ours}": partial(ratios, ours=ours, cases=cases, results=results)
        for ours in OURS
        if ours in results.libraries
    }
    for case in cases:
        if len(results.case_sizes(case.name)) > 2:
            pictures[case.name] = partial(growth, case=case, results=results)
    for name, picture in pictures.items():
        figure, axes = plt.subplots(layout="constrained")
        picture(axes)
        path = folder / f"{name}.svg"
        figure.savefig(path)
        plt.close(figure)
        yield path


def ratios(axes: Any, ours: str, cases: list[Case], results: Results) -> None:
    """A row per case and size, a dot per library: its gradient's time over ours."""
    rows = [(case.name, size) for case in cases for size in results.case_sizes(case.name)]
    axes.figure.set_size_inches(8, 1.5 + 0.22 * len(rows))
    for library in (*HAND, *peers(results.libraries)):
        dots = []
        for height, (case, size) in enumerate(rows):
            its, mine = (Key(case, size, name, "gradient") for name in (library, ours))
            try:
                dots.append((results.median_ratio(its, mine), height))
            except Missing:
                continue
        if dots:
            axes.plot(*zip(*dots), "o", label=ENTRIES[library].title)
    axes.axvline(1.0, color="black", linewidth=0.8)
    name = ENTRIES[ours].title
    axes.set(xscale="log", xlabel=f"time of the gradient over that of {name} (right: slower)")
    axes.set_yticks(range(len(rows)), [" ".join(row) for row in rows])
    axes.invert_yaxis()
    axes.legend()


def growth(axes: Any, case: Case, results: Results) -> None:
    """Time of the gradient against the size, a line per library."""
    sizes = results.case_sizes(case.name)
    for library in results.libraries:
        points = []
        for size in sizes:
            try:
                seconds = results.median(Key(case.name, size, library, "gradient"))
                points.append((parsed(size)[0], seconds))
            except Missing:
                continue
        if points:
            axes.plot(*zip(*points), "o-", label=ENTRIES[library].title)
    axes.set(xscale="log", yscale="log", xlabel="size", ylabel="seconds", title=case.about)
    axes.legend()
