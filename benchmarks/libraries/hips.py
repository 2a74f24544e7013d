"""HIPS autograd."""

from __future__ import annotations

from functools import partial

import autograd
import autograd.numpy
import numpy
from autograd.differential_operators import make_jvp, make_vjp

from benchmarks.case import Problem
from benchmarks.libraries.library import Call, Library, looped, module_with

np = autograd.numpy

try:
    from autograd.scipy.linalg import solve_triangular
except ImportError:
    solve_triangular = np.linalg.solve
else:
    solve_triangular = partial(solve_triangular, lower=True)


def scatter_add(x, places, n):
    """Its own way: the transpose of a gather is not among its functions, a product is."""
    return np.dot(1.0 * (np.arange(n)[:, None] == places), x)


class Autograd(Library):
    np = module_with(
        autograd.numpy,
        solve_triangular=solve_triangular,
        integers=lambda x: numpy.asarray(getattr(x, "_value", x)).astype(int),
        scatter_add=scatter_add,
        loop=looped,
    )

    def gradient(self, problem: Problem) -> Call:
        return partial(autograd.grad(problem.function), problem.x, *problem.data)

    def jacobian(self, problem: Problem) -> Call:
        return partial(autograd.jacobian(problem.function), problem.x, *problem.data)

    def hessian(self, problem: Problem) -> Call:
        return partial(autograd.hessian(problem.function), problem.x, *problem.data)

    def jvp(self, problem: Problem) -> Call:
        pushforward, direction = make_jvp(problem.function), self.direction(problem)
        return lambda: pushforward(problem.x, *problem.data)(direction)

    def second(self, problem: Problem) -> Call:
        gradient, direction = autograd.grad(problem.function), self.direction(problem)

        def slope(x, *data):
            return np.sum(gradient(x, *data) * direction)

        return partial(autograd.grad(slope), problem.x, *problem.data)

    def vjp(self, problem: Problem) -> Call:
        return partial(make_vjp(problem.function), problem.x, *problem.data)

    def pullback(self, problem: Problem) -> Call:
        pullback, _ = self.vjp(problem)()
        return partial(pullback, 1.0)
