"""All cases, in the order in which they are run and printed."""

from __future__ import annotations

from benchmarks.case import Case
from benchmarks.cases import arrays, fields, indexing, loops, matrices, models, small, vision

__all__ = ["CASES"]

CASES: dict[str, Case] = {
    case.name: case
    for family in (small, arrays, indexing, matrices, models, vision, fields, loops)
    for case in family.CASES
}
