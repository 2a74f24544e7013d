"""Passes: a program to a better program with the same meaning.

`optimize` is the pipeline. Each pass is one file, and its docstring states its law: exact to the
bit, or exact up to rounding. What would need finite values is not applied.

Others a backend asks for: ``splitting`` and ``recompute``, because only it knows which loops gain
by them; ``cancelling``, ``sums`` and ``factors``, because it has the exact program at hand where
what they take for granted does not hold.
"""

from __future__ import annotations

from collections.abc import Callable

from vjpkit.core.ir import Program
from vjpkit.passes.algebra import simplified
from vjpkit.passes.common import without_repetition
from vjpkit.passes.constants import with_constants_folded
from vjpkit.passes.dead import without_dead_code
from vjpkit.passes.diagonal import with_diagonals
from vjpkit.passes.gathers import with_positions_shared
from vjpkit.passes.idle import without_idle_states
from vjpkit.passes.inlining import with_calls_inlined
from vjpkit.passes.invariant import with_invariants_outside
from vjpkit.passes.joined import with_parts_read
from vjpkit.passes.loosened import loosened
from vjpkit.passes.transposes import with_transposes_in_products
from vjpkit.passes.twins import without_twin_states
from vjpkit.passes.written import with_writes_read

__all__ = ["PIPELINE", "optimize"]

Pass = Callable[[Program], Program]
PIPELINE: tuple[Pass, ...] = (
    loosened,
    with_calls_inlined,
    with_invariants_outside,
    without_dead_code,
    without_idle_states,
    with_constants_folded,
    without_repetition,
    with_diagonals,
    with_parts_read,
    with_writes_read,
    simplified,
    with_transposes_in_products,
    with_positions_shared,
    without_repetition,
    without_twin_states,
    without_dead_code,
)
"""The passes in their order: rules see more of equal equations that are one."""


def optimize(program: Program) -> Program:
    """``program`` after every pass, made once and kept with it."""
    return program.cached("optimized", lambda: _optimized(program))  # type: ignore[no-any-return]  # the cache is untyped


def _optimized(program: Program) -> Program:
    made = program
    left: dict[Pass, Program] = {}
    for run in PIPELINE:
        if left.get(run) is not made:  # else it has been here, and nothing has changed since
            made = left[run] = run(made)
    if made is not program:
        made.cached("optimized", lambda: made)
    return made
