"""Functions of the user's as programs: bodies of loops and branches, staged and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vjpkit.control.programs import built, rearranged, run_staged
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import at, calling_position
from vjpkit.core.ir import Literal, Program
from vjpkit.core.primitive import Primitive, lookup
from vjpkit.core.rows import roles
from vjpkit.core.staging import Builder
from vjpkit.core.tracer import RUNNING, Tracer, operand
from vjpkit.ops.structural import renamed, to_dtype
from vjpkit.pytree import PyTree, PyTreeDef, flatten, flatten_with_path, keystr, tree_map
from vjpkit.transforms.staged import is_abstract, staged, traces_around

__all__ = ["Body", "array_leaves", "body", "giving_something", "python_numbers", "sharing"]


def decides(label: str, what: str, x: Value) -> None:
    """Raise unless ``x`` is a scalar that may decide."""
    aval = aval_of(x) if hasattr(x, "dtype") or isinstance(x, bool | int | float) else None
    if aval is None or aval.shape or aval.dtype.kind not in "biuf":
        came = type(x).__name__ if aval is None else aval
        raise TypeError(
            f"{label}: {what} must be a scalar boolean or number, got {came}"
            f"{at(calling_position())}.\nReduce it with np.any or np.all, or use np.where for a "
            "choice element by element."
        )


def runs_on_values(leaves: Sequence[Value]) -> bool:
    """Whether control flow may run in Python: nothing here is abstract."""
    return RUNNING.get().on not in ("abstract", "exact") and not any(map(is_abstract, leaves))


def form_of(primitive: Primitive) -> Any:
    """The primitive that an equation of a loop or a branch is to be of."""
    return lookup(f"exact_{primitive.name}") if RUNNING.get().on == "exact" else primitive


@dataclass(frozen=True)
class Body:
    """A staged function: the program of its leaves, what it closes over, the tree of its output."""

    program: Program
    consts: tuple[Value, ...]
    tree: PyTreeDef
    outs: tuple[Aval, ...]

    def cast(self, avals: Sequence[Aval]) -> Body:
        """The same with outputs in the dtypes of ``avals``, strong."""
        if list(self.outs) == list(avals):
            return self
        dtypes = tuple([a.dtype for a in avals])
        program = converted(self.program, dtypes)
        return Body(program, self.consts, self.tree, program.out_avals)


def giving_something(made: Body) -> Body:
    """The same with a result where it has none, which means nothing.

    What runs for its effects alone is an equation like others, then.
    """
    if made.outs:
        return made
    p = made.program
    program = Program(p.inputs, p.equations, [Literal(np.True_)], p.linear)
    return Body(program, made.consts, made.tree, program.out_avals)


def converted(program: Program, dtypes: tuple[Any, ...]) -> Program:
    """A program with outputs in other dtypes."""

    def run(builder: Builder, xs: Sequence[Value]) -> list[Value]:
        outs = run_staged(builder, program, xs)
        return [to_dtype(y, d) for y, d in zip(outs, dtypes, strict=True)]

    return built(program.in_avals, run)


def body(
    label: str,
    fun: Callable[..., PyTree],
    args: tuple[PyTree, ...],
    traces: Sequence[Any] = (),
) -> Body:
    """Stage ``fun`` at arguments like these, with what it computes from values of ``traces``.

    What the body of a loop computes from others alone is computed once, before the loop; but not
    where it is to be exact.
    """
    if not traces and RUNNING.get().on == "exact":
        traces = traces_around(flatten(args)[0], [fun])
    closed, tree, _ = staged(label, fun, args, traces=traces)
    return Body(closed.program, closed.consts, tree, closed.program.out_avals)


def sharing(bodies: Sequence[Body], avals: Sequence[Aval]) -> tuple[list[Value], list[Program]]:
    """The captured values of several bodies, and their programs: each takes all, then ``avals``."""
    consts = [c for b in bodies for c in b.consts]
    everything = [*[v for b in bodies for v in b.program.in_avals[: len(b.consts)]], *avals]
    programs, start = [], 0
    for b in bodies:
        places = [*range(start, start + len(b.consts)), *range(len(consts), len(everything))]
        outputs = range(len(b.program.outputs))
        programs.append(rearranged(b.program, everything, places, outputs))
        start += len(b.consts)
    return consts, programs


def own_results(y: PyTree, given: Sequence[PyTree]) -> PyTree:
    """What a loop or a branch returns in Python, as its equation would: traced values that are
    results of their own, and none of the arrays that it was ``given``."""
    if isinstance(y, np.generic):
        return y
    if isinstance(y, Tracer):
        return renamed(y)
    if not all([type(x) is np.ndarray for x in given]):
        given = flatten(given)[0]
    if type(y) is np.ndarray:
        return owned(y, given)
    return tree_map(lambda x: owned(x, given), y)


def owned(x: Value, given: Sequence[Value]) -> Value:
    if type(x) is np.ndarray:
        return x.copy() if any([x is other for other in given]) else x
    return renamed(x)


def python_numbers(tree: PyTree) -> list[bool]:
    """Which leaves are Python's numbers, traced ones too, that decide no dtype."""
    return [
        type(x) in (int, float, complex) or (isinstance(x, Tracer) and x.aval.weak)
        for x in flatten(tree)[0]
    ]


def array_leaves(label: str, what: str, tree: PyTree) -> tuple[list[Value], PyTreeDef]:
    """Leaves as arrays and NumPy scalars (Python's numbers become these), and the tree."""
    leaves, structure = flatten(tree)
    for i, x in enumerate(leaves):
        if isinstance(x, bool | int | float | complex) and not isinstance(x, np.generic):
            leaves[i] = np.asarray(x)[()]
        elif isinstance(x, Tracer) and x.aval.weak:
            leaves[i] = roles["strong"](x)
        elif isinstance(x, np.ndarray) and x.dtype.kind not in "biufc":
            leaves[i] = operand(x)  # np.array([x, y]) of traced values, or an error
        elif not hasattr(x, "dtype"):
            path = keystr(flatten_with_path(tree)[0][i][0])
            raise TypeError(
                f"{label}: {what}{f' at {path}' if path else ''} is a {type(x).__name__}, which is "
                f"neither an array nor a number{at(calling_position())}.\n"
                "Close over it instead, or make its class a pytree."
            )
    return leaves, structure
