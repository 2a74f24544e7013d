"""All cases, in the order in which they are run and printed."""

from __future__ import annotations

from benchmarks.case import Case
from benchmarks.cases import arrays, indexing, matrices, small

__all__ = ["CASES"]

CASES: dict[str, Case] = {
    case.name: case for case in (*small.CASES, *arrays.CASES, *indexing.CASES, *matrices.CASES)
}
