"""NumPy without any library: the function, and the gradient as one writes it by hand."""

from __future__ import annotations

from functools import partial

import numpy

from benchmarks.case import Case, Problem
from benchmarks.libraries.library import Call, Library, module_with

try:
    from scipy.linalg import solve_triangular
except ImportError:
    from numpy.linalg import solve as solve_triangular
else:
    solve_triangular = partial(solve_triangular, lower=True)


class ByHand(Library):
    np = module_with(numpy, solve_triangular=solve_triangular)

    def offers(self, measure: str, case: Case) -> bool:
        return measure == "function" or (measure == "gradient" and case.hand is not None)

    def gradient(self, problem: Problem) -> Call:
        assert problem.hand is not None
        return partial(problem.hand, problem.x, *problem.data)
