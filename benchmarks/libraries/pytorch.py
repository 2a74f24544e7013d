"""PyTorch on the CPU, eager; inputs are tensors before the clock starts, results stay tensors."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy
import torch

from benchmarks.case import Case, Problem, Size, leaves, tree_map
from benchmarks.libraries.library import Call, Library, looped, module_with


def _max(x, axis=None, keepdims=False):
    return torch.amax(x, dim=() if axis is None else axis, keepdim=keepdims)


def _solve_triangular(a, b):
    return torch.linalg.solve_triangular(a, b[:, None], upper=False)[:, 0]


def _sort(x):
    return torch.sort(x).values


def _scatter_add(x, places, n):
    return torch.zeros(n, dtype=x.dtype).index_add(0, places, x)


class Torch(Library):
    np = module_with(
        torch,
        max=_max,
        sort=_sort,
        solve_triangular=_solve_triangular,
        integers=lambda x: x.long(),
        scatter_add=_scatter_add,
        loop=looped,
    )

    def put(self, x: numpy.ndarray) -> Any:
        return torch.tensor(x)

    def take(self, x: Any) -> numpy.ndarray:
        array: numpy.ndarray = x.detach().numpy()
        return array

    def threads(self) -> str:
        return f"torch {torch.get_num_threads()}, {super().threads()}"

    def gradient(self, problem: Problem) -> Call:
        x = tree_map(lambda leaf: leaf.clone().requires_grad_(), problem.x)
        function, data, inputs = problem.function, problem.data, leaves(x)
        if x is inputs[0]:
            return lambda: torch.autograd.grad(function(x, *data), x)[0]
        names = sorted(x)
        return lambda: dict(zip(names, torch.autograd.grad(function(x, *data), inputs)))

    def jacobian(self, problem: Problem) -> Call:
        wide = problem.function(problem.x, *problem.data).numel() >= problem.x.numel()
        transform = torch.func.jacfwd if wide else torch.func.jacrev
        return partial(transform(problem.function), problem.x, *problem.data)

    def hessian(self, problem: Problem) -> Call:
        return partial(torch.func.hessian(problem.function), problem.x, *problem.data)

    def product(self, problem: Problem) -> Call:
        *data, direction = problem.data
        slope = torch.func.grad(problem.function)

        def call(x):
            along = lambda x: slope(x, *data, direction)
            return torch.func.jvp(along, (x,), (direction,))[1]

        return partial(call, problem.x)

    def examples(self, problem: Problem) -> Call:
        over = (None, *[0] * len(problem.data))
        each = torch.func.vmap(torch.func.grad(problem.function), in_dims=over)
        return partial(each, problem.x, *problem.data)

    def blocks(self, problem: Problem) -> Call:
        each = torch.func.vmap(torch.func.jacrev(problem.function))
        return partial(each, problem.x, *problem.data)

    def jvp(self, problem: Problem) -> Call:
        f = partial(_swapped, problem.function, problem.data)
        return partial(torch.func.jvp, f, (problem.x,), (self.direction(problem),))

    def second(self, problem: Problem) -> Call:
        x, direction = problem.x.clone().requires_grad_(), self.direction(problem)

        def call():
            y = problem.function(x, *problem.data)
            (gradient,) = torch.autograd.grad(y, x, create_graph=True)
            return torch.autograd.grad(torch.sum(gradient * direction), x)[0]

        return call

    def vjp(self, problem: Problem) -> Call:
        x = tree_map(lambda leaf: leaf.clone().requires_grad_(), problem.x)
        return partial(problem.function, x, *problem.data)

    def pullback(self, problem: Problem) -> Call:
        x = tree_map(lambda leaf: leaf.clone().requires_grad_(), problem.x)
        y = problem.function(x, *problem.data)
        return partial(torch.autograd.grad, y, leaves(x), retain_graph=True)


class TorchCompiled(Torch):
    """The function compiled, forward and backward; compiled before the clock starts."""

    vjp = pullback = jvp = second = None  # type: ignore[assignment]  # compiled as a whole or not

    def problem(self, case: Case, size: Size) -> Problem:
        problem = super().problem(case, size)
        return replace(problem, function=torch.compile(problem.function, dynamic=False))

    def offers(self, measure: str, case: Case) -> bool:
        return measure == "function" or (measure == "gradient" and case.derivative == "gradient")


def _swapped(function, data, x):
    return function(x, *data)
