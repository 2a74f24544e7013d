"""PyTorch on the CPU, eager; inputs are tensors before the clock starts, results stay tensors."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy
import torch

from benchmarks.case import Problem, leaves, tree_map
from benchmarks.libraries.library import Call, Library, module_with


def _max(x, axis=None, keepdims=False):
    return torch.amax(x, dim=() if axis is None else axis, keepdim=keepdims)


def _solve_triangular(a, b):
    return torch.linalg.solve_triangular(a, b[:, None], upper=False)[:, 0]


class Torch(Library):
    np = module_with(torch, max=_max, solve_triangular=_solve_triangular)

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


def _swapped(function, data, x):
    return function(x, *data)
