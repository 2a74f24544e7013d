"""PyTensor: a symbolic graph, compiled before the clock starts with its default linker."""

from __future__ import annotations

from functools import partial

import numpy
import pytensor.tensor as pt
from pytensor import function as compiled
from pytensor.gradient import grad

from benchmarks.case import Case, Problem, leaves, tree_map
from benchmarks.libraries.library import Call, Library, looped, module_with


def _symbol(x):
    """A variable that stands for an array, with its shape."""
    return pt.tensor(dtype=x.dtype, shape=x.shape)


class PyTensor(Library):
    np = module_with(pt, integers=lambda x: pt.cast(x, "int64"), loop=looped, linalg=pt.linalg)

    def offers(self, measure: str, case: Case) -> bool:
        plain = case.derivative == "gradient" and "unrolled" not in case.tags
        return plain and measure in ("function", "gradient")

    def take(self, x):
        return numpy.asarray(x)

    def function(self, problem: Problem) -> Call:
        return self.compiled(problem, derivative=False)

    def gradient(self, problem: Problem) -> Call:
        return self.compiled(problem, derivative=True)

    def compiled(self, problem: Problem, derivative: bool) -> Call:
        x = tree_map(_symbol, problem.x)
        arrays = [d for d in problem.data if isinstance(d, numpy.ndarray)]
        symbols = {id(d): _symbol(d) for d in arrays}
        y = problem.function(x, *[symbols.get(id(d), d) for d in problem.data])
        inputs = leaves(x)
        outputs = grad(y, inputs) if derivative else [y]
        f = compiled(
            [*inputs, *symbols.values()], outputs, on_unused_input="ignore", trust_input=True
        )
        call = partial(f, *leaves(problem.x), *arrays)
        if derivative and isinstance(problem.x, dict):
            return lambda: dict(zip(sorted(problem.x), call()))
        return lambda: call()[0]
