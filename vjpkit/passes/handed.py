"""Values that steps hand on: what a step computes at its end, and the next at its beginning.

A leapfrog step pulls at the places where it arrives, and the next one pulls there again; a
Runge-Kutta pair whose last stage is the first of the next step ("first same as last") does so too.
Compilers call it predictive commoning (O'Brien 1990). It is done where a loop is staged, so that
the derivative of the loop has the value once, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, live_equations, params_key, used
from vjpkit.passes.common import without_repetition
from vjpkit.passes.inlining import with_calls_inlined
from vjpkit.passes.invariant import VIEWS, is_ours

__all__ = ["Handed", "handed_on"]

_LIGHT = frozenset({"add", "subtract", "multiply", "negative", "positive", "where"})
"""Primitives of which one alone is not worth a carry."""


@dataclass(frozen=True, eq=False, repr=False)
class Handed:
    """A loop's step with more carries: ``added`` of them, after its own.

    ``start`` computes from constants and carries what the first step is handed.
    """

    start: Program
    body: Program

    @property
    def added(self) -> int:
        return len(self.start.outputs)


def handed_on(body: Program, consts: int, carry: int) -> Handed | None:
    """The step as one that is handed what the step before it computed; None where that is nothing.

    Law: equal outputs, to the bit, of a loop of at least one step: nothing is computed at other
    values than before.
    """
    found = _Common(without_repetition(with_calls_inlined(body)), consts, carry)
    return found.handed() if found.pays() else None


class _Common:
    """Equations of the constants and carries that have a twin, the same of what they become."""

    def __init__(self, program: Program, consts: int, carry: int) -> None:
        self.program, self.consts, self.carry = program, consts, carry
        self.first = program.inputs[consts : consts + carry]
        self.next: dict[Var, Atom] = {v: v for v in program.inputs[:consts]}
        """What a value is in the next step, as this one has it."""
        for v, a in zip(self.first, program.outputs, strict=False):
            if v.aval == a.aval:
                self.next[v] = a
        self.twins: dict[Equation, None] = {}
        self._pair()
        self.handed_values: dict[Var, None] = self._read_by_others()

    def _pair(self) -> None:
        there = {_key(e, e.inputs): e for e in self.program.equations if _may_move(e)}
        for eqn in self.program.equations:
            if not _may_move(eqn) or any(v not in self.next for v in used(eqn.inputs)):
                continue
            inputs = tuple([a if isinstance(a, Literal) else self.next[a] for a in eqn.inputs])
            twin = there.get(_key(eqn, inputs))
            if twin is not None:
                self.next.update(zip(eqn.outputs, twin.outputs, strict=True))
                if twin is not eqn:
                    self.twins[eqn] = None

    def _read_by_others(self) -> dict[Var, None]:
        """Results of twins that are read by equations that stay; views of them are made anew."""
        while True:
            made = {v for e in self.twins for v in e.outputs}
            rest = [e for e in self.program.equations if e not in self.twins]
            atoms = [*[v for e in rest for v in used(e.inputs)], *used(self.program.outputs)]
            read = dict.fromkeys(v for v in atoms if v in made)
            for v in (waiting := list(read)):  # what a carry becomes may be the next one's
                after = self.next[v]
                if after in made and after not in read:
                    assert isinstance(after, Var)
                    read[after] = None
                    waiting.append(after)
            views = [e for e in self.twins if e.primitive.name in VIEWS and e.outputs[0] in read]
            if not views:
                return read
            for eqn in views:
                del self.twins[eqn]

    def pays(self) -> bool:
        """Whether more is saved than handed on."""
        saved = [e for e in self.twins if e.primitive.name not in VIEWS]
        if any(e.primitive.name not in _LIGHT for e in saved):
            return True
        elements = sum([v.aval.size for e in saved for v in e.outputs])
        return elements > sum([v.aval.size for v in self.handed_values])

    def handed(self) -> Handed:
        program, ends = self.program, (self.consts, self.consts + self.carry)
        values = list(self.handed_values)
        before, _ = live_equations(program.equations, values, effects=False)
        start = Program(program.inputs[: ends[1]], before, values)
        rest = [e for e in program.equations if e not in self.twins]
        inputs = [*program.inputs[: ends[1]], *values, *program.inputs[ends[1] :]]
        outputs = [
            *program.outputs[: self.carry], *[self.next[v] for v in values],
            *program.outputs[self.carry :],
        ]  # fmt: skip
        return Handed(start, Program(inputs, rest, outputs))


def _may_move(eqn: Equation) -> bool:
    return bool(eqn.inputs) and is_ours(eqn)


def _key(eqn: Equation, inputs: Sequence[Atom]) -> Any:
    """What equations with equal results have in common."""
    key = eqn.primitive, tuple(inputs), params_key(eqn.params)
    try:
        hash(key)
    except TypeError:  # a parameter of the user's, which equals nothing else
        return object()
    return key
