"""NumPy without any library: the function, and the gradient as one writes it by hand."""

from __future__ import annotations

from functools import partial

import numpy

from benchmarks.case import Case, Problem
from benchmarks.libraries.library import Call, Library, looped, module_with

try:
    from scipy.linalg import solve_triangular
except ImportError:
    from numpy.linalg import solve as solve_triangular
else:
    solve_triangular = partial(solve_triangular, lower=True)


def integers(x):
    """A cast, as NumPy spells it."""
    return x.astype(int)


def scatter_add(x, places, n):
    """Sums by place, as NumPy spells them without a loop."""
    return numpy.bincount(places, x, n)


class ByHand(Library):
    np = module_with(
        numpy,
        solve_triangular=solve_triangular,
        integers=integers,
        scatter_add=scatter_add,
        loop=looped,
    )

    def offers(self, measure: str, case: Case) -> bool:
        return measure == "function" or (measure == "gradient" and case.hand is not None)

    def make(self, measure: str, problem: Problem) -> Call:
        if measure == "function":
            return self.function(problem)
        assert problem.case.hand is not None
        return partial(problem.case.hand, problem.x, *problem.data)
