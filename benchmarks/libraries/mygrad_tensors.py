"""MyGrad: NumPy-like tensors with reverse mode."""

from __future__ import annotations

import mygrad
import numpy
from mygrad.tensor_base import Tensor

from benchmarks.case import Case, Problem, leaves, tree_map
from benchmarks.libraries.library import Call, Library, looped, module_with


class MyGrad(Library):
    np = module_with(mygrad, integers=lambda x: numpy.asarray(x.data).astype(int), loop=looped)

    def offers(self, measure: str, case: Case) -> bool:
        return measure == "function" or (measure == "gradient" and case.derivative == "gradient")

    def take(self, x):
        return numpy.asarray(getattr(x, "data", x))

    def gradient(self, problem: Problem) -> Call:
        def call():
            x = tree_map(Tensor, problem.x)
            problem.function(x, *problem.data).backward()
            grads = [leaf.grad for leaf in leaves(x)]
            return dict(zip(sorted(x), grads)) if isinstance(x, dict) else grads[0]

        return call
