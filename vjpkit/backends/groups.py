"""Which equations run together, block by block over the cache.

A group is a run of elementwise equations, and of reductions within rows, over arrays of the same
leading length: their blocks of rows stay in the cache, and only what is used outside the group is
ever made whole. Sums down the rows end a group: they are added up block by block.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vjpkit.core.aval import Aval
from vjpkit.core.ir import Atom, Equation, Program, Var, used
from vjpkit.kinds.elementwise import Ufunc

__all__ = ["Group", "Together", "is_elementwise", "schedule"]

SMALLEST = 1 << 15
"""Elements from which blocks pay: below, whole arrays stay in the cache by themselves."""
BLOCK = 15 << 10
"""Elements of a block: a ufunc's overhead is small beside it, several blocks fit the cache, and
one of float64 is below 128 KiB, from which on glibc asks the system for each array."""

FEWEST_ROWS = 8
"""Rows of a block from which what is small in them does not make up most of the calls."""

_WITHIN_ROWS = frozenset({"sum", "max", "min", "spread"})
_ELEMENTWISE = frozenset({"scale", "where", "same"})


def is_elementwise(eqn: Equation) -> bool:
    """Whether each element of the one result depends on the elements at its place alone."""
    return isinstance(eqn.primitive, Ufunc) or eqn.primitive.name in _ELEMENTWISE


@dataclass
class Together:
    """Equations that run as one; ``sums`` add up results of the others, and end the group."""

    equations: list[Equation] = field(default_factory=list)
    sums: list[Equation] = field(default_factory=list)
    members: set[Var] = field(default_factory=set)

    def add(self, eqn: Equation) -> None:
        self.equations.append(eqn)
        self.members.update(eqn.outputs)

    def depends(self, eqn: Equation, summed: set[Var]) -> bool:
        """Whether the equation needs what the group makes."""
        return any(a in self.members or a in summed for a in used(eqn.inputs))


@dataclass
class Group(Together):
    """Equations over arrays whose first axis has ``length``; ``sums`` go down the rows.

    ``flat`` says that all have one shape, so that blocks need not be rows.
    """

    length: int = 0
    flat: bool = False

    def takes(self, eqn: Equation) -> bool:
        """Whether the equation can be computed rows by rows, from rows."""
        (out,) = eqn.outputs
        if not _is_plain(out.aval) or not out.aval.shape or out.aval.shape[0] != self.length:
            return False
        if is_elementwise(eqn):
            return all(self.reads(a, out.aval) for a in eqn.inputs)
        name, (x, *_) = eqn.primitive.name, eqn.inputs or (None,)
        if not isinstance(x, Var) or not x.aval.shape or x.aval.shape[0] != self.length:
            return False
        if not all(a.aval.shape[:1] == (self.length,) for a in eqn.inputs):
            return False
        if name in _WITHIN_ROWS:
            axes = eqn.params["axes"]
            return axes is not None and len(axes) > 0 and min(axes) > 0
        if name == "broadcast_to":
            return x.aval.ndim == out.aval.ndim and x in self.members
        return name == "reshape" and x in self.members

    def reads(self, a: Atom, out: Aval) -> bool:
        """Whether rows of ``out`` need from ``a`` its rows, or all of it."""
        if self.has_rows(a, out):
            return _is_plain(a.aval)
        return a not in self.members and a.aval.size <= BLOCK

    def has_rows(self, a: Atom, out: Aval) -> bool:
        """Whether the first axis of ``a`` is the rows of ``out``."""
        return a.aval.ndim == out.ndim and a.aval.shape[:1] == (self.length,)

    def sums_up(self, eqn: Equation) -> bool:
        """Whether the equation adds up a member down its rows."""
        if eqn.primitive.name != "sum" or eqn.inputs[0] not in self.members:
            return False
        axes = eqn.params["axes"]
        return (axes is None or 0 in axes) and eqn.inputs[0].aval.dtype.kind in "fc"

    def finish(self) -> bool:
        """Decide about the form of the blocks; whether blocks pay at all."""
        shape = self.equations[-1].outputs[0].aval.shape
        shapes = {a.aval.shape for e in self.equations for a in (*e.inputs, *e.outputs)}
        self.flat = shapes <= {shape, ()} and all(map(is_elementwise, self.equations))
        self.flat = self.flat and all(e.params["axes"] is None for e in self.sums)
        if self.flat:
            self.length = int(np.prod(shape))
        several = len(self.equations) + len(self.sums) > 1
        return several and self.row * FEWEST_ROWS <= BLOCK

    @property
    def block(self) -> int:
        """Rows (elements, in the flat form) of a block."""
        return max(1, BLOCK // self.row)

    @property
    def row(self) -> int:
        """Elements of the longest row."""
        if self.flat:
            return 1
        atoms = {a for e in self.equations for a in (*e.inputs, *e.outputs)}
        rows = [a.aval.size for a in atoms if a.aval.shape[:1] == (self.length,)]
        return max(rows) // self.length


def _is_plain(aval: Aval) -> bool:
    dtype = aval.dtype
    return dtype.kind == "b" or (dtype.kind in "iufc" and dtype.itemsize >= 4)


def _starts(eqn: Equation) -> bool:
    """Whether a large array is made or reduced by an equation that a group may begin with."""
    if is_elementwise(eqn):
        return eqn.outputs[0].aval.size >= SMALLEST
    return eqn.primitive.name in _WITHIN_ROWS and eqn.inputs[0].aval.size >= SMALLEST


def schedule(program: Program) -> list[Equation | Group]:
    """The equations in an order in which groups stand together."""
    out: list[Equation | Group] = []
    group: Group | None = None
    summed: set[Var] = set()

    def close() -> None:
        nonlocal group
        if group is not None:
            out.extend([group] if group.finish() else [*group.equations, *group.sums])
        group = None
        summed.clear()

    for eqn in program.equations:
        single = len(eqn.outputs) == 1
        if group is not None and single:
            if not any(a in summed for a in used(eqn.inputs)) and group.takes(eqn):
                group.add(eqn)
                continue
            if group.sums_up(eqn):
                group.sums.append(eqn)
                summed.update(eqn.outputs)
                continue
        starts = single and _starts(eqn)
        if group is not None and (starts or group.depends(eqn, summed)):
            close()
        if starts:
            fresh = Group(length=(eqn.outputs[0].aval.shape or (0,))[0])
            if fresh.takes(eqn):
                fresh.add(eqn)
                group = fresh
                continue
        out.append(eqn)
    close()
    return out
