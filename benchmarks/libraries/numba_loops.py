"""Numba: gradients as one writes them by hand in loops, compiled before the clock starts."""

from __future__ import annotations

from functools import partial

import numba

from benchmarks.case import Case, Problem
from benchmarks.libraries.library import Call, Library


class Numba(Library):
    np = None  # it has no function of its own, only derivatives

    def offers(self, measure: str, case: Case) -> bool:
        return measure == "gradient" and case.numba is not None

    def make(self, measure: str, problem: Problem) -> Call:
        assert problem.case.numba is not None
        return partial(problem.case.numba(numba.njit), problem.x, *problem.data)
