"""What passes share: a program rebuilt in one walk, equation by equation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from vjpkit.core.aval import Aval
from vjpkit.core.errors import Position, Source
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, used
from vjpkit.core.primitive import Primitive

__all__ = ["Rewriter"]


class Rewriter:
    """The equations of the new program, and what stands for the variables of the old one."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.equations: list[Equation] = []
        self.names: set[str] = set()
        """The primitives of the new program."""
        self.stands_for: dict[Var, Atom] = {}
        self.definition: dict[Var, Equation] = {}

    def atom(self, a: Atom) -> Atom:
        """What the new program reads where the old one read ``a``."""
        return self.stands_for.get(a, a) if isinstance(a, Var) else a

    def maker(self, a: Atom) -> Equation | None:
        """The new equation that defines ``a``; None for inputs and literals."""
        return self.definition.get(a) if isinstance(a, Var) else None

    def made_by(self, a: Atom, *names: str) -> Equation | None:
        """The new equation that defines ``a`` if its primitive has one of these names."""
        eqn = self.definition.get(a) if type(a) is Var else None
        return eqn if eqn is not None and eqn.primitive.name in names else None

    @cached_property
    def readers(self) -> Counter[Atom]:
        """How many equations of the old program, and its outputs, read each variable, or what it
        stands for."""
        reads: list[Atom] = [v for e in self.program.equations for v in set(used(e.inputs))]
        found = Counter([*reads, *used(self.program.outputs)])
        for old, new in self.stands_for.items():
            found[new] += found[old]
        return found

    @cached_property
    def results(self) -> frozenset[Atom]:
        """The outputs of the old program."""
        return frozenset(used(self.program.outputs))

    def read(self, eqn: Equation) -> Equation:
        """The equation with its operands as the new program has them."""
        stands_for = self.stands_for
        if stands_for:
            for a in eqn.inputs:
                if type(a) is Var and a in stands_for:
                    inputs = tuple(map(self.atom, eqn.inputs))
                    return Equation(eqn.primitive, inputs, eqn.params, eqn.outputs, eqn.position)
        return eqn

    def keep(self, eqn: Equation) -> None:
        """An equation of the new program."""
        self.equations.append(eqn)
        self.names.add(eqn.primitive.name)
        for v in eqn.outputs:
            self.definition[v] = eqn

    def replace(self, eqn: Equation, by: Sequence[Atom]) -> None:
        """Other values stand for the outputs of ``eqn``."""
        for old, new in zip(eqn.outputs, by, strict=True):
            self.replace_one(old, new)

    def replace_one(self, old: Var, new: Atom) -> None:
        """Another value stands for one that the old program has."""
        assert new.aval == old.aval, f"{new!r} cannot stand for {old!r}"
        self.stands_for[old] = new
        if "readers" in self.__dict__:
            self.readers[new] += self.readers[old]

    def emit(
        self,
        primitive: Primitive,
        inputs: tuple[Atom, ...],
        params: Mapping[str, Any],
        position: Position | Source | None,
    ) -> Var:
        """A new equation with one output."""
        aval: Aval = primitive.abstract(*[a.aval for a in inputs], **params)
        out = Var(aval)
        self.keep(Equation(primitive, inputs, params, (out,), position))
        return out

    def finish(self) -> Program:
        """The new program."""
        old = self.program
        outputs = tuple(map(self.atom, old.outputs))
        return Program(old.inputs, self.equations, outputs, old.linear)


def is_number(a: Atom, value: float) -> bool:
    """Whether ``a`` is the literal ``value``; 0.0 is not -0.0."""
    return isinstance(a, Literal) and bool(a.value == value) and str(a.value)[0] != "-"
