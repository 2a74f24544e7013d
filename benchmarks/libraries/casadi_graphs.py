"""CasADi: scalar expression graphs and their virtual machine, where a case is one of scalars."""

from __future__ import annotations

from types import SimpleNamespace

import casadi
import numpy

from benchmarks.case import Case, Problem
from benchmarks.libraries.library import Call, Library, looped


class CasADi(Library):
    np = SimpleNamespace(
        sin=casadi.sin, exp=casadi.exp, tanh=casadi.tanh, sum=casadi.sum1, sqrt=casadi.sqrt,
        loop=looped,
    )  # fmt: skip

    def offers(self, measure: str, case: Case) -> bool:
        natural = case.derivative == "gradient" and case.tags & {"small", "loops"}
        return bool(natural) and measure in ("function", "gradient")

    def take(self, x):
        array = numpy.asarray(x)
        return array.reshape(()) if array.size == 1 else array.reshape(-1)

    def function(self, problem: Problem) -> Call:
        x, y = self.graph(problem)
        f = casadi.Function("f", [x], [y])
        return lambda: f(problem.x)

    def gradient(self, problem: Problem) -> Call:
        x, y = self.graph(problem)
        f = casadi.Function("g", [x], [casadi.gradient(y, x)])
        return lambda: f(problem.x)

    def graph(self, problem: Problem):
        """The variable, and the function of it."""
        x = casadi.SX.sym("x", *problem.x.shape)
        return x, problem.function(x, *problem.data)
