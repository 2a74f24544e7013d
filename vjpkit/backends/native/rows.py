"""Equations that compute each row of their results from the same rows of their operands.

A run of them over arrays of one leading length is a loop over the rows: all that belongs to a row
lives in registers, several rows are computed at a time, and indexing, reshaping and joining within
rows cost nothing. The step is the run itself, restated for arrays of one row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vjpkit.backends.groups import Together, beginning, is_elementwise
from vjpkit.backends.native.equations import CASTS
from vjpkit.backends.native.loops import Call, Loop
from vjpkit.backends.native.machine import Machine
from vjpkit.backends.native.steps import why_no_element
from vjpkit.core.aval import Aval
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, used

__all__ = ["Rows", "row_by_row"]

FEWEST = 32
"""Rows from which a loop over them pays."""
LONGEST = 64
"""Elements of a row, and of an operand that all rows share."""
MOST_WORK = 2000
"""Elements that the equations compute per row."""

WITHIN = ("sum", "prod", "max", "min", "any", "all", "var", "std", "spread", "mean_where")
"""Reductions, and what undoes them."""
MOVING = frozenset(
    {*WITHIN, "cumsum", "concatenate", "stack", "scatter_sum", "matmul", "scale_matmul"}
)
"""Primitives between whose operands and results elements of a row move."""

Marks = tuple[bool, ...]
"""Which operands are read row by row; the others are shared."""


@dataclass(eq=False, repr=False)
class Rows(Together):
    """Equations over arrays of ``length`` rows."""

    length: int = 0
    work: int = 0
    roles: dict[Var, bool] = field(default_factory=dict)
    """Whether an operand is read row by row."""
    made: list[Machine] = field(default_factory=list)

    def takes(self, eqn: Equation) -> bool:
        """Whether the equation computes rows from rows, and there is room for it."""
        marks = row_marks(eqn, self.length)
        if marks is None or self.work + self.row(eqn.outputs[0].aval) > MOST_WORK:
            return False
        pairs = [(a, m) for a, m in zip(eqn.inputs, marks, strict=True) if isinstance(a, Var)]
        if any(self.roles.get(a, m) != m or (a in self.members and not m) for a, m in pairs):
            return False
        return all((self.row(a.aval) if m else a.aval.size) <= LONGEST for a, m in pairs)

    def row(self, aval: Aval) -> int:
        return aval.size // self.length

    def add(self, eqn: Equation) -> None:
        super().add(eqn)
        marks = row_marks(eqn, self.length)
        assert marks is not None
        for a, mark in zip(eqn.inputs, marks, strict=True):
            if isinstance(a, Var):
                self.roles[a] = mark
        self.roles.update(dict.fromkeys(eqn.outputs, True))
        self.work += self.row(eqn.outputs[0].aval)

    def pays(self) -> bool:
        """Whether there is more than a pass over arrays of one shape would do."""
        names = {e.primitive.name for e in self.equations}
        return sum(map(is_elementwise, self.equations)) > 1 and not names.isdisjoint(MOVING)

    def calls(self, outputs: Sequence[Var]) -> list[Call]:
        """The loop that makes ``outputs``."""
        outside = dict.fromkeys(
            a for e in self.equations for a in used(e.inputs) if a not in self.members
        )
        shared = [a for a in outside if not self.roles[a]]
        sliced = [a for a in outside if self.roles[a]]
        stands_for: dict[Var, Var] = {
            v: Var(one_row(v.aval) if rowed else v.aval) for v, rowed in self.roles.items()
        }

        def read(a: Atom) -> Atom:
            return stands_for[a] if isinstance(a, Var) else a

        equations = [
            Equation(
                e.primitive, tuple(map(read, e.inputs)), one_row_params(e.params),
                (stands_for[e.outputs[0]],), e.position,
            )
            for e in self.equations
        ]  # fmt: skip
        operands = [*shared, *sliced]
        inputs = [stands_for[v] for v in operands]
        body = Program(inputs, equations, [stands_for[v] for v in outputs])
        avals = tuple([a.aval.strong() for a in operands])
        results = tuple([v.aval for v in outputs])
        loop = Loop(body, avals, results, len(shared), 0, self.length, False)
        return [Call(loop, tuple(operands), tuple(outputs))]


def one_row(aval: Aval) -> Aval:
    return Aval((1, *aval.shape[1:]), aval.dtype, aval.weak)


def one_row_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the equation for arrays of one row."""
    shape = params.get("shape")
    return {**params, **({} if shape is None else {"shape": (1, *shape[1:])})}


# ---- which equations -----------------------------------------------------------------------------


def row_marks(eqn: Equation, length: int) -> Marks | None:
    """Which operands the equation reads row by row; None if it does not compute rows from rows."""
    if len(eqn.outputs) != 1 or not is_rowed(eqn.outputs[0].aval, length):
        return None
    name = eqn.primitive.name
    rule = (
        _elementwise if is_elementwise(eqn) or name in (*CASTS, "broadcast_to")
        else RULES.get(name)
    )  # fmt: skip
    marks = None if rule is None else rule(eqn, length)
    return None if marks is None or why_no_element(eqn) is not None else marks


def is_rowed(aval: Aval, length: int) -> bool:
    return bool(aval.size) and aval.shape[:1] == (length,)


def _elementwise(eqn: Equation, length: int) -> Marks | None:
    """Operands of as many axes have rows; those of fewer, or of one row, are shared."""
    ndim = eqn.outputs[0].aval.ndim
    return tuple([a.aval.ndim == ndim and is_rowed(a.aval, length) for a in eqn.inputs])


def _all_rowed(eqn: Equation, length: int) -> Marks | None:
    rowed = all(is_rowed(a.aval, length) and isinstance(a, Var) for a in eqn.inputs)
    return (True,) * len(eqn.inputs) if rowed else None


def _within(eqn: Equation, length: int) -> Marks | None:
    """Over axes behind the first."""
    axes = eqn.params["axes"]
    inner = axes is not None and all(axis > 0 for axis in axes)
    return _all_rowed(eqn, length) if inner else None


def _permuted(eqn: Equation, length: int) -> Marks | None:
    return _all_rowed(eqn, length) if eqn.params["axes"][0] == 0 else None


def _joined(eqn: Equation, length: int) -> Marks | None:
    return _all_rowed(eqn, length) if eqn.params["axis"] > 0 else None


def _read(eqn: Equation, length: int) -> Marks | None:
    """An index that takes all rows, in their order."""
    whole = takes_all_rows(eqn.params["index"], eqn.inputs[0].aval.ndim)
    return _all_rowed(eqn, length) if whole else None


def _added(eqn: Equation, length: int) -> Marks | None:
    whole = all(takes_all_rows(i, len(eqn.params["shape"])) for i in eqn.params["indices"])
    return _all_rowed(eqn, length) if whole and eqn.inputs else None


def takes_all_rows(index: Any, ndim: int) -> bool:
    entries = index.expanded(ndim)
    return bool(entries) and isinstance(entries[0], slice) and entries[0] == slice(None)


def _stacks_of_matrices(eqn: Equation, length: int) -> Marks | None:
    x, y = eqn.inputs
    return _all_rowed(eqn, length) if min(x.aval.ndim, y.aval.ndim) > 2 else None


Rule = Callable[[Equation, int], Marks | None]

RULES: dict[str, Rule] = {
    "reshape": _all_rowed,
    "transpose": _permuted,
    **dict.fromkeys(WITHIN, _within),
    "cumsum": _joined,
    "concatenate": _joined,
    "stack": _joined,
    "getitem": _read,
    "scatter_sum": _added,
    "fill": lambda eqn, length: (),
    "matmul": _stacks_of_matrices,
    "scale_matmul": _stacks_of_matrices,
}
"""By the primitive's name, which operands have rows."""


def row_by_row(eqn: Equation) -> Rows | None:
    """A group that begins with an equation, if one can."""
    if len(eqn.outputs) != 1 or eqn.outputs[0].aval.shape[:1] < (FEWEST,):
        return None
    if not eqn.inputs or isinstance(eqn.inputs[0], Literal):
        return None
    return beginning(Rows(length=eqn.outputs[0].aval.shape[0]), eqn)
