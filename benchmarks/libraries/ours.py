"""vjpkit on plain NumPy code: op by op, and jitted on each of its backends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy

import vjpkit as vk
import vjpkit.numpy as vnp
from benchmarks.case import Problem
from benchmarks.libraries.library import Call, Library, looped, module_with


def scatter_add(x, places, n):
    """As it is written in NumPy."""
    sums = vnp.zeros(n)
    numpy.add.at(sums, places, x)
    return sums


def staged_loop(step, carry, xs):
    """The loop as one equation."""
    if isinstance(xs, int):
        return vk.lax.scan(lambda c, _: (step(c), None), carry, None, length=xs)[0]
    return vk.lax.scan(lambda c, x: (step(c, x), None), carry, xs)[0]


class Vjpkit(Library):
    # np.linalg.solve finds out by itself that a factor is triangular.
    np = module_with(
        numpy,
        solve_triangular=numpy.linalg.solve,
        integers=lambda x: x.astype(int),
        scatter_add=scatter_add,
        loop=looped,
    )

    def ready(self, function: Callable[..., Any], problem: Problem) -> Call:
        """The call of ``function`` at the problem's inputs."""
        return partial(function, problem.x, *problem.data)

    def gradient(self, problem: Problem) -> Call:
        return self.ready(vk.grad(problem.function), problem)

    def jacobian(self, problem: Problem) -> Call:
        return self.ready(vk.jacobian(problem.function), problem)

    def hessian(self, problem: Problem) -> Call:
        return self.ready(vk.hessian(problem.function), problem)

    def laplacian(self, problem: Problem) -> Call:
        return self.ready(vk.laplacian(problem.function), problem)

    def trace(self, problem: Problem) -> Call:
        """The Laplacian by way of the Hessian."""
        hessian = vk.hessian(problem.function)
        return self.ready(lambda x, *data: numpy.trace(hessian(x, *data)), problem)

    def product(self, problem: Problem) -> Call:
        def push(x, *data):
            return vk.hvp(lambda x: problem.function(x, *data), (x,), data[-1:])

        return self.ready(push, problem)

    def examples(self, problem: Problem) -> Call:
        over = (None, *[0] * len(problem.data))
        return self.ready(vk.vmap(vk.grad(problem.function), in_axes=over), problem)

    def blocks(self, problem: Problem) -> Call:
        return self.ready(vk.vmap(vk.jacrev(problem.function)), problem)

    def jvp(self, problem: Problem) -> Call:
        direction = self.direction(problem)

        def push(x, *data):
            return vk.jvp(lambda x: problem.function(x, *data), (x,), (direction,))

        return self.ready(push, problem)

    def second(self, problem: Problem) -> Call:
        gradient, direction = vk.grad(problem.function), self.direction(problem)

        def slope(x, *data):
            return numpy.sum(gradient(x, *data) * direction)

        return self.ready(vk.grad(slope), problem)

    def vjp(self, problem: Problem) -> Call:
        return partial(vk.vjp, lambda x: problem.function(x, *problem.data), problem.x)

    def pullback(self, problem: Problem) -> Call:
        _, pullback = self.vjp(problem)()
        return partial(pullback, 1.0)

    def compiled(self, problem: Problem) -> Call:
        _, pullback = self.vjp(problem)()
        return partial(pullback.compile(), 1.0)


class Jit(Vjpkit):
    """Everything under one `vk.jit`, compiled to NumPy source before the clock starts."""

    np = module_with(Vjpkit.np, loop=staged_loop)
    backend = "numpy"
    vjp = pullback = compiled = None  # type: ignore[assignment]  # one call, nothing to time apart

    def ready(self, function: Callable[..., Any], problem: Problem) -> Call:
        counts = [i + 1 for i, d in enumerate(problem.data) if isinstance(d, int)]
        jitted = vk.jit(function, static_argnums=counts, backend=self.backend)
        return partial(jitted, problem.x, *problem.data)

    def function(self, problem: Problem) -> Call:
        return self.ready(problem.function, problem)


class Native(Jit):
    """The same, groups of equations compiled to machine code."""

    backend = "native"
