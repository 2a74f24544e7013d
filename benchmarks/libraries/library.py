"""What every adapter of a library offers to the worker."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.case import Case, Problem, Size, Tree, tree_map

__all__ = ["Call", "Library", "looped", "module_with"]

Call = Callable[[], Any]
"""What is timed: no arguments, and back when the result is there."""


def module_with(module: ModuleType, **extra: Any) -> Any:
    """A module's names and a few more, looked up as fast as a module's."""
    namespace = ModuleType(module.__name__)
    namespace.__dict__.update(vars(module))
    namespace.__dict__.update(extra)
    return namespace


def looped(step: Callable[..., Any], carry: Any, xs: Any) -> Any:
    """``np.loop`` of libraries that run Python's loops."""
    if isinstance(xs, int):
        for _ in range(xs):
            carry = step(carry)
        return carry
    for i in range(xs.shape[0]):
        carry = step(carry, xs[i])
    return carry


class Library:
    """One way of getting derivatives, in the process that imported it.

    A measure is a method of that name: it takes a `Problem`, does what is not to be timed, and
    returns the call that is; the measure "gradient" is the method that the case's ``derivative``
    names. A library without a measure has no method of its name.
    """

    np: Any
    """The namespace that cases are written against."""

    def put(self, x: np.ndarray) -> Any:
        """An array as this library wants it; done before anything is timed."""
        return x

    def take(self, x: Any) -> np.ndarray:
        """A result as an array."""
        return np.asarray(x)

    def threads(self) -> str:
        """How many threads it computes with, in words."""
        return blas_threads()

    def problem(self, case: Case, size: Size) -> Problem:
        x, *data = case.problem(size)
        return Problem(
            function=partial(case.function, self.np),
            x=tree_map(self.put, x),
            data=tuple([d if isinstance(d, int) else tree_map(self.put, d) for d in data]),
            case=case,
        )

    def make(self, measure: str, problem: Problem) -> Call:
        """The call of a measure."""
        name = problem.case.derivative if measure == "gradient" else measure
        made: Call = getattr(self, name)(problem)
        return made

    def direction(self, problem: Problem) -> Tree:
        """A tangent at ``x``, for the measures that need one."""
        generator = np.random.default_rng(7)
        return tree_map(lambda leaf: self.put(generator.normal(size=tuple(leaf.shape))), problem.x)

    def offers(self, measure: str, case: Case) -> bool:
        name = case.derivative if measure == "gradient" else measure
        return getattr(self, name, None) is not None

    def function(self, problem: Problem) -> Call:
        """The function itself."""
        return partial(problem.function, problem.x, *problem.data)

    def gradient(self, problem: Problem) -> Call:
        """The gradient in ``x``."""
        raise NotImplementedError


def blas_threads() -> str:
    """The threads of the BLAS libraries in this process, as far as it can be known."""
    try:
        controls = import_module("threadpoolctl")
    except ImportError:
        return "BLAS: its default"
    found = controls.threadpool_info()
    pools = {f"{pool['internal_api']} {pool['num_threads']}" for pool in found}
    return ", ".join(sorted(pools)) or "no BLAS loaded"
