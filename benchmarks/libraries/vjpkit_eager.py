"""vjpkit on plain NumPy code, without compilation."""

from __future__ import annotations

from functools import partial

import numpy

import vjpkit as vk
from benchmarks.case import Problem
from benchmarks.libraries.library import Call, Library, module_with


class Vjpkit(Library):
    # np.linalg.solve finds out by itself that a factor is triangular.
    np = module_with(numpy, solve_triangular=numpy.linalg.solve)

    def gradient(self, problem: Problem) -> Call:
        return partial(vk.grad(problem.function), problem.x, *problem.data)

    def jvp(self, problem: Problem) -> Call:
        f = partial(_swapped, problem.function, problem.data)
        return partial(vk.jvp, f, (problem.x,), (self.direction(problem),))

    def second(self, problem: Problem) -> Call:
        gradient, direction = vk.grad(problem.function), self.direction(problem)

        def slope(x, *data):
            return numpy.sum(gradient(x, *data) * direction)

        return partial(vk.grad(slope), problem.x, *problem.data)

    def vjp(self, problem: Problem) -> Call:
        return partial(vk.vjp, partial(_swapped, problem.function, problem.data), problem.x)

    def pullback(self, problem: Problem) -> Call:
        _, pullback = self.vjp(problem)()
        return partial(pullback, 1.0)

    def compiled(self, problem: Problem) -> Call:
        _, pullback = self.vjp(problem)()
        return partial(pullback.compile(), 1.0)


def _swapped(function, data, x):
    return function(x, *data)
