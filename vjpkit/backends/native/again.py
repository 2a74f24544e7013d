"""Values of one kernel that another computes again rather than reads.

What a gradient needs of the function's values lies far from where it was made: each is written, and
read from the outer caches or from memory, which takes as long as several operations. Where cheap
operations lead to a value from others that the kernel reads anyhow, they are done again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import heapify, heappop, heappush

from vjpkit.backends.groups import Together
from vjpkit.backends.native.equations import is_cheap
from vjpkit.backends.native.places import is_gather, is_numbering
from vjpkit.core.aval import Shape
from vjpkit.core.ir import Atom, Equation, Program, Var, used

__all__ = ["Fusing", "with_values_computed_again"]

PER_ARRAY = 4
"""Operations that take as long as to write or to read an array."""
MOST = 64
"""Operations that are looked at for each array that a kernel reads."""
GATHER = 4
"""Operations that take as long as to take elements from where they are."""

Parts = Sequence[Equation | Together]


@dataclass(eq=False, repr=False)
class Fusing(Together):
    """A group that is one kernel over arrays of a shape."""

    shape: Shape = ()
    flat: bool = False
    """Whether all that is read element by element has to have it."""
    placed: set[Equation] = field(default_factory=set)
    """Equations that read elements at other places, or number them."""

    def reads(self) -> list[Var]:
        """The arrays of its shape of which it reads the element at its place."""
        raise NotImplementedError

    def sources(self) -> set[Var]:
        """The arrays of which it reads other elements."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Place:
    """Where a value is made: the number of the part, and of the equation among all."""

    part: int
    at: int
    eqn: Equation


class _Again:
    def __init__(self, program: Program, parts: Parts) -> None:
        self.parts = list(parts)
        self.places: dict[Var, _Place] = {}
        self.readers: dict[Var, set[int]] = {v: {-1} for v in used(program.outputs)}
        for i, part in enumerate(self.parts):
            for eqn in equations_of(part):
                self.places.update({v: _Place(i, len(self.places), eqn) for v in eqn.outputs})
                self.read(i, eqn)

    def read(self, i: int, eqn: Equation) -> None:
        for a in used(eqn.inputs):
            self.readers.setdefault(a, set()).add(i)

    def is_kernel(self, i: int) -> bool:
        return i >= 0 and isinstance(self.parts[i], Fusing)

    def can(self, v: Var, i: int, part: Fusing) -> bool:
        """Whether a kernel can compute what an earlier one does."""
        place, shape = self.places.get(v), part.shape
        if place is None or place.part >= i or not self.is_kernel(place.part):
            return False
        if part.flat and is_gather(place.eqn, shape):
            return True
        avals = [a.aval for a in (*place.eqn.inputs, *place.eqn.outputs)]
        cheap = is_cheap(place.eqn) or (part.flat and is_numbering(place.eqn, shape))
        return cheap and all(a.shape in (shape, ()) for a in avals)

    def cost(self, v: Var, i: int) -> float:
        """What it takes that part ``i`` reads a value: to read it, and its share in writing it.

        Where it is written in any case there is none.
        """
        place = self.places.get(v)
        if place is None or not self.is_kernel(place.part):
            return PER_ARRAY
        readers = self.readers.get(v, set()) | {i}
        readers.discard(place.part)
        shares = all(map(self.is_kernel, readers))
        return PER_ARRAY + (PER_ARRAY / len(readers) if shares else 0)

    def visit(self, i: int) -> None:
        part = self.parts[i]
        if not isinstance(part, Fusing) or not part.shape:
            return
        again = _Plan(self, i, part).again()
        if not again:
            return
        stands_for = {v: Var(v.aval) for e in again for v in e.outputs}
        for v in stands_for:
            self.readers[v].discard(i)
        new = {e: renamed(e, stands_for) for e in (*again, *part.equations, *part.sums)}
        for eqn in again:
            self.read(i, new[eqn])
        self.parts[i] = replace(
            part, equations=[new[e] for e in (*again, *part.equations)],
            sums=[new[e] for e in part.sums],
            placed={new[e] for e in new if e in part.placed or is_gather(e, part.shape)},
            members=part.members | set(stands_for.values()),
        )  # fmt: skip

    def prune(self, i: int) -> None:
        """Take out what nobody reads any more."""
        part = self.parts[i]
        if not isinstance(part, Fusing):
            return
        before = {a for e in equations_of(part) for a in used(e.inputs)}
        needed = {a for e in part.sums for a in used(e.inputs)}
        kept: list[Equation] = []
        for eqn in reversed(part.equations):
            if any(v in needed or self.readers.get(v, set()) - {i} for v in eqn.outputs):
                kept.append(eqn)
                needed.update(used(eqn.inputs))
        for a in before - needed:
            self.readers.get(a, set()).discard(i)
        if len(kept) < len(part.equations):
            members = {v for e in kept for v in e.outputs}
            self.parts[i] = replace(part, equations=kept[::-1], members=members)


class _Plan:
    """What one kernel had better compute again."""

    def __init__(self, among: _Again, i: int, part: Fusing) -> None:
        self.among, self.i, self.part = among, i, part
        self.needed, self.sources = set(part.reads()), part.sources()
        self.made: set[Var] = set()
        """What it is to compute again."""

    def at(self, v: Var) -> int:
        return self.among.places[v].at

    def can(self, v: Var) -> bool:
        """Whether it can be: a kernel takes no elements of what it makes."""
        if v in self.sources or not self.among.can(v, self.i, self.part):
            return False
        return self.made.isdisjoint(self.taken_from([self.among.places[v].eqn]))

    def taken_from(self, equations: Sequence[Equation]) -> set[Var]:
        """The arrays of which equations take elements."""
        gathers = [e for e in equations if is_gather(e, self.part.shape)]
        return {a for e in gathers for a in used(e.inputs[:1])}

    def again(self) -> list[Equation]:
        """The equations, in order.

        What one earlier kernel made is looked at together, then each by itself, the latest kernel's
        first: that a value leads far back, through all that came before, is no reason to read what
        was made there.
        """
        waiting = defaultdict[int, list[Var]](list)
        places, found = self.among.places, list[Equation]()
        for v in filter(self.can, self.needed):
            waiting[places[v].part].append(v)
        while waiting:
            origin = max(waiting)
            values = sorted(waiting.pop(origin), key=self.at, reverse=True)
            for some in (values, *[[v] for v in values]):
                again = self.worth([v for v in some if v in self.needed and self.can(v)])
                self.made.update([v for e in again for v in e.outputs])
                self.sources |= self.taken_from(again)
                self.needed -= self.made
                for v in self.operands(again, self.needed):
                    self.needed.add(v)
                    if self.can(v) and places[v].part < origin:
                        waiting[places[v].part].append(v)
                found += again
        return sorted(found, key=lambda e: self.at(e.outputs[0]))

    def operands(self, equations: Sequence[Equation], there: Collection[Var]) -> list[Var]:
        """The arrays that equations read, but for those that are there."""
        arrays = dict.fromkeys([a for e in equations for a in used(e.inputs) if a.aval.shape])
        return [a for a in arrays if a not in there and a not in self.made]

    def worth(self, values: Sequence[Var]) -> list[Equation]:
        """What saves most, from the latest on, of these values and of what leads to them."""
        needed, cost = set(self.needed), partial(self.among.cost, i=self.i)
        waiting = [(-self.at(v), v) for v in values]
        heapify(waiting)
        size = least = 0.0
        again: list[Equation] = []
        taken: set[Var] = set()
        most, count = MOST * len(waiting), 0
        while waiting and len(again) < most:
            v = heappop(waiting)[1]
            if v in taken:
                continue
            eqn = self.among.places[v].eqn
            needed.remove(v)
            again.append(eqn)
            sources = self.taken_from([eqn])
            taken |= sources
            size += (GATHER if sources else 1) - cost(v)
            for a in self.operands([eqn], needed):
                needed.add(a)
                size += cost(a)
                if self.can(a):
                    heappush(waiting, (-self.at(a), a))
            if size < least:
                least, count = size, len(again)
        return again[:count]


def equations_of(part: Equation | Together) -> Iterator[Equation]:
    yield from (*part.equations, *part.sums) if isinstance(part, Together) else (part,)


def renamed(eqn: Equation, stands_for: dict[Var, Var]) -> Equation:
    """The equation with other variables."""
    inputs: tuple[Atom, ...] = tuple(
        [stands_for.get(a, a) if isinstance(a, Var) else a for a in eqn.inputs]
    )
    outputs = tuple([stands_for.get(v, v) for v in eqn.outputs])
    if inputs == eqn.inputs and outputs == eqn.outputs:
        return eqn
    return Equation(eqn.primitive, inputs, eqn.params, outputs, eqn.position)


def with_values_computed_again(program: Program, parts: Parts) -> list[Equation | Together]:
    """The parts of a program, of which kernels read fewer arrays, and make fewer.

    Law: equal outputs; every operation is done as it was, some of them twice.
    """
    new = _Again(program, parts)
    for i in range(len(new.parts)):
        new.visit(i)
    for i in reversed(range(len(new.parts))):
        new.prune(i)
    return [p for p in new.parts if not isinstance(p, Fusing) or p.equations or p.sums]
