"""Backends: a program to a function of plain arrays.

`executable` is the one way from a `Program` to something that runs.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from vjpkit.backends.forks import UNFORKED
from vjpkit.backends.numpy_numbers import SourceOfNumbers
from vjpkit.backends.numpy_source import Lowered, Part, lower
from vjpkit.core.aval import Value
from vjpkit.core.evaluate import evaluate
from vjpkit.core.ir import Program
from vjpkit.passes import optimize
from vjpkit.passes.recompute import with_residuals_recomputed
from vjpkit.passes.splitting import gains_by_split, with_loops_split

__all__ = [
    "AS_IT_STANDS", "BACKENDS", "Executable", "collector_paused", "executable", "executed",
]  # fmt: skip


def by_numpy(program: Program) -> Lowered:
    """``program`` as calls of NumPy."""
    from vjpkit.backends.numpy_loops import is_loop_of_numbers

    again = with_residuals_recomputed(optimize(program), is_loop_of_numbers, gains_by_split)
    split = optimize(with_loops_split(again))
    return lower(split, private=True, kind=SourceOfNumbers)


def machine_code(program: Program) -> Lowered:
    """``program`` with groups of it as machine code."""
    with UNFORKED:
        from vjpkit.backends.native import lower_native

        return lower_native(optimize(program))


def by_need(program: Program) -> Executable:
    """``program`` as calls of NumPy, until it has run long enough to be compiled."""
    from vjpkit.backends.auto import Auto

    return Auto(program, by_numpy, machine_code)


class Executable(Protocol):
    """A function of plain arrays, and its text."""

    @property
    def source(self) -> str: ...

    @property
    def run(self) -> Callable[..., tuple[Value, ...]]: ...

    @property
    def direct(self) -> Callable[..., Any] | None: ...

    @property
    def settled(self) -> bool: ...

    @property
    def silent(self) -> bool: ...

    def name_line(self, error: Exception) -> None: ...

    def explain(self) -> tuple[Part, ...]: ...

    def native_ir(self) -> str: ...

    def compile(self) -> None: ...

    def __call__(self, *values: Value) -> tuple[Value, ...]: ...


BACKENDS: dict[str, Callable[[Program], Executable]] = {
    "auto": by_need,
    "numpy": by_numpy,
    "native": machine_code,
}
"""What makes a function of a program, by the backend's name."""


AS_IT_STANDS = "none"
"""The name of no backend: ``program`` equation by equation, with the bits of eager values."""


def as_it_stands(program: Program) -> Executable:
    return lower(program, fresh=True)


def executable(program: Program, backend: str = "numpy") -> Executable:
    """``program``, optimised, as a function of arrays of its inputs' avals; made once.

    Results are fresh: they share no memory with operands or each other, and are scalars where they
    have no axes. The function keeps no state between calls, so that it may be called from many
    threads, and from within itself. Operands are trusted to be arrays and numbers of the avals that
    the program states. By ``AS_IT_STANDS`` the equations run as they are, unoptimised.
    """
    try:
        make = as_it_stands if backend == AS_IT_STANDS else BACKENDS[backend]
    except KeyError:
        known = ", ".join(map(repr, BACKENDS))
        raise ValueError(f"no backend is called {backend!r}; there are {known}") from None

    def made() -> Executable:
        with collector_paused():
            return make(program)

    return program.cached(("executable", backend), made)  # type: ignore[no-any-return]  # the cache is untyped


@contextmanager
def collector_paused() -> Iterator[None]:
    """Without the cycle collector, which would walk a growing program again and again.

    A third of the time for 10,000 equations; nothing that is made meanwhile is a cycle.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_PLAIN = frozenset({np.ndarray, bool, int, float, complex, *np.sctypeDict.values()})


def executed(
    program: Program, values: Sequence[Value], backend: str = "numpy"
) -> tuple[Value, ...]:
    """The outputs of ``program``: by its executable if all values are plain arrays or numbers.

    Tracers, and arrays of other libraries, go through the primitives one by one.
    """
    if all(type(x) in _PLAIN for x in values):
        return executable(program, backend)(*values)
    return evaluate(program, values)
