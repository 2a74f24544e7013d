"""Equations over small arrays whose elements change places: a straight run of instructions.

Element by element, as loops in Python write and read them, NumPy takes a call for each; here arrays
are lists of registers (see `steps`), in which nothing has to be moved: a loop of one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar

from vjpkit.backends.groups import Together, beginning, is_elementwise
from vjpkit.backends.native.equations import CASTS, is_dear
from vjpkit.backends.native.loops import Call, Loop
from vjpkit.backends.native.machine import Machine
from vjpkit.backends.native.steps import (
    FOLDS,
    OF_FLOATS,
    STRUCTURAL,
    SUMS_OF_PRODUCTS,
    WIDTH,
    is_element,
    why_no_element,
    work_of,
)
from vjpkit.core.ir import Equation, Program, Var, used

__all__ = ["Straight", "moves_enough", "straight", "straight_call"]

LONGEST = 128
"""Elements of an array."""
LONGEST_OUTSIDE = 1024
"""Elements of an array of which single ones are read, or to which single ones are added."""
MOST_PLACES = 200_000
"""Elements that all equations read and make: each has to be found once, when this is written."""
MOST_CODE = 6000
"""Instructions, about: LLVM takes some 20 us for each."""
FEWEST = 4
"""Equations that move elements from which a call is cheaper than theirs."""
MOVING = frozenset({*STRUCTURAL, "scatter_sum"})
"""What takes no instructions."""
TOGETHER = frozenset({"fill", *FOLDS, *SUMS_OF_PRODUCTS, *OF_FLOATS})
"""What takes elements together, each of which may be in another register."""


@dataclass(eq=False, repr=False)
class Straight(Together):
    """Equations over small arrays."""

    patience: ClassVar[float] = inf

    places: int = 0
    code: int = 0
    made: list[Machine] = field(default_factory=list)

    def takes(self, eqn: Equation) -> bool:
        """Whether the equation is computed element by element, and there is room for it."""
        name, avals = eqn.primitive.name, [a.aval for a in (*eqn.inputs, *eqn.outputs)]
        if len(eqn.outputs) != 1 or any(not 0 < a.size <= LONGEST_OUTSIDE for a in avals):
            return False
        inner = avals[1:] if is_element(eqn) else avals[:-1] if name == "scatter_sum" else avals
        if any(a.size > LONGEST for a in inner):
            return False
        if not (is_elementwise(eqn) or name in MOVING or name in CASTS or name in TOGETHER):
            return False
        if name in TOGETHER and work_of(eqn) > LONGEST:
            return False
        places, code = self.needs(eqn)
        room = self.places + places <= MOST_PLACES and self.code + code <= MOST_CODE
        return room and why_no_element(eqn) is None

    def needs(self, eqn: Equation) -> tuple[int, int]:
        """The places that an equation reads and makes, and its instructions."""
        size, name = eqn.outputs[0].aval.size, eqn.primitive.name
        places = size + (0 if is_element(eqn) else sum([a.aval.size for a in eqn.inputs]))
        if name in MOVING:
            return places, len(eqn.inputs)
        if name in TOGETHER:
            return places, places + work_of(eqn)
        return places, -(-size // WIDTH) * (5 if is_dear(eqn) else 2)

    def add(self, eqn: Equation) -> None:
        super().add(eqn)
        places, code = self.needs(eqn)
        self.places += places
        self.code += code

    def pays(self) -> bool:
        """Whether enough is moved: the rest may be a kernel as well."""
        return moves_enough(self.equations)

    def calls(self, outputs: Sequence[Var]) -> list[Call]:
        return [straight_call(self.equations, outputs)]


def moves_enough(equations: Sequence[Equation]) -> bool:
    """Whether so many of the equations move elements that a call is cheaper than theirs."""
    return sum([e.primitive.name in MOVING for e in equations]) >= FEWEST


def straight_call(equations: Sequence[Equation], outputs: Sequence[Var]) -> Call:
    """The loop of one step that makes ``outputs``."""
    made = {v for e in equations for v in e.outputs}
    read = [a for e in equations for a in used(e.inputs) if a not in made]
    operands = tuple(dict.fromkeys(read))
    body = Program(operands, equations, outputs)
    avals = tuple([a.aval.strong() for a in operands])
    results = tuple([v.aval for v in outputs])
    loop = Loop(body, avals, results, len(operands), 0, 1, False)
    return Call(loop, operands, tuple(outputs))


def straight(eqn: Equation) -> Straight | None:
    """A group that begins with an equation, if one can."""
    return beginning(Straight(), eqn)
