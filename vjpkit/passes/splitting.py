"""Loops split: what the steps do not hand on to each other is done for all of them at once.

A step is three things: what follows from its slices alone, what the next step waits for, and what
only becomes a slice of the results or is added up. The first can be computed before the loop and
the last after it, each for all steps in one go, as `vmap` would: a call of NumPy for a thousand
steps costs little more than one for one step. What crosses from one part to another is stacked.

The gradient of a recurrent network is of this kind throughout. Parameters receive a sum over the
steps, which is one product of stacks; and partial derivatives do not wait for each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field

from vjpkit.core.aval import Aval
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, used
from vjpkit.core.primitive import lookup
from vjpkit.core.rows import roles
from vjpkit.kinds.elementwise import Ufunc
from vjpkit.passes import optimize
from vjpkit.passes.inlining import inlined
from vjpkit.passes.invariant import is_ours
from vjpkit.passes.recompute import is_cheap, least_stored
from vjpkit.passes.rewriting import Rewriter

__all__ = ["MOST", "gains_by_split", "with_loops_split"]

FEWEST = 16
"""Steps from which a call for all of them is worth the stacks."""
SMALL = 1 << 12
"""Elements up to which a step's array is cheaper to compute than to call NumPy for."""
SPARE, TIMES = 1 << 20, 8
"""Bytes of stacks that a loop may need more than before, and how many times as many as before."""
LARGEST = 1 << 26
"""Bytes of an array for all steps."""
MOST = 32
"""Elements of an array up to which it may be a tuple of Python's numbers."""
WORTH = 0.15
"""The part of a step's time that has to be saved."""
_OF_NUMBERS, _NUMBER = (0.0, 10.0), (0.0, 20.0)
_CALL, _ROW = (200.0, 0.3), (120.0, 0.3)
"""Nanoseconds to compute an array, or a slice of a stack, and for each element of it."""
_WHOLE = (500.0, 1.0)
"""Nanoseconds to compute a stack, and for each element of it."""

_MAPPED = frozenset(
    {
        "broadcast_to", "concatenate", "contract", "convert", "fill", "getitem", "matmul",
        "reshape", "scale", "scale_contract", "scale_matmul", "select", "spread", "stack", "sum",
        "transpose", "where",
    }
)  # fmt: skip
"""Primitives, beside ufuncs, that map over a stack as they are."""


def with_loops_split(
    program: Program, stays: Callable[[Equation], bool] = lambda loop: False
) -> Program:
    """Loops with what steps hand on to each other; the rest before and after them.

    Law: equal outputs up to rounding: sums over steps are taken in another order. A loop that
    ``stays`` is left as it is.
    """
    if not any(map(_is_loop, program.equations)):
        return program
    new = _Splitting(program)
    for old in program.equations:
        eqn = new.read(old)
        parts = new.parts(old, eqn) if _is_loop(eqn) and not stays(eqn) else None
        if parts is None or not parts.pay():
            new.keep(eqn)
        else:
            new.split(parts)
    return new.finish() if new.stands_for else program


def gains_by_split(eqn: Equation) -> bool:
    """Whether an equation is a loop that would be split."""
    return _is_loop(eqn) and _parts(eqn, [True] * len(eqn.outputs)).pay()


def _parts(eqn: Equation, wanted: Sequence[bool]) -> _Parts:
    """A loop of which some outputs are wanted taken apart, once for all loops of the same step."""
    params, body = eqn.params, optimize(eqn.params["body"])
    key = "parts", params["length"], params["consts"], params["carry"], tuple(wanted)
    parts: _Parts = copy(body.cached(key, lambda: _Parts(eqn, body, wanted)))
    parts.loop = eqn
    return parts


def _is_loop(eqn: Equation) -> bool:
    params = eqn.params
    return eqn.primitive.name == "scan" and params["length"] >= FEWEST and "slots" not in params


def _is_mapped(eqn: Equation) -> bool:
    """Whether an equation of a step is as well computed for all steps at once."""
    known = isinstance(eqn.primitive, Ufunc) or eqn.primitive.name in _MAPPED
    return known and is_ours(eqn) and all(v.aval.size <= SMALL for v in eqn.outputs)


@dataclass(eq=False, repr=False)
class _Parts:
    """A loop taken apart.

    ``early`` follows from slices and constants, ``core`` leads from state to state, ``late`` is
    what is left. What is late reads little of the core: rather than to stack what is cheap, it is
    computed again. ``sums`` are states that only add up: their number, and the signs and terms.
    """

    loop: Equation
    body: Program
    wanted: Sequence[bool]
    same: dict[int, Var] = field(default_factory=dict)
    """States that stay what they are."""
    sums: dict[int, list[tuple[str, Var]]] = field(default_factory=dict)
    early: list[Equation] = field(default_factory=list)
    core: list[Equation] = field(default_factory=list)
    late: list[Equation] = field(default_factory=list)
    again: list[Equation] = field(default_factory=list)
    """What is computed in the core and, for what is late, once more after the loop."""

    def __post_init__(self) -> None:
        params, inputs = self.loop.params, self.body.inputs
        self.length: int = params["length"]
        c, k = params["consts"], params["carry"]
        self.consts, self.states, self.slices = inputs[:c], inputs[c : c + k], inputs[c + k :]
        self.next, self.ys = self.body.outputs[:k], self.body.outputs[k:]
        self.maker = {v: e for e in self.body.equations for v in e.outputs}
        self.made = list(self.maker)
        numbers = all(v.aval.size <= MOST for v in self.made)
        self.computed, self.stacked = (_OF_NUMBERS, _NUMBER) if numbers else (_CALL, _ROW)
        reads = [a for e in self.body.equations for a in used(e.inputs)]
        self.times = Counter([*reads, *used(self.body.outputs)])
        self.readers: dict[Var, Equation] = {
            a: e for e in self.body.equations for a in used(e.inputs)
        }
        for j, (before, after) in enumerate(zip(self.states, self.next, strict=True)):
            if before is after:
                self.same[j] = before
            elif (terms := self.terms(before, after)) is not None:
                self.sums[j] = terms if self.wanted[j] else []
        self.kept = [j for j in range(k) if j not in self.same and j not in self.sums]
        self.share_out()

    def terms(self, state: Var, after: Atom) -> list[tuple[str, Var]] | None:
        """What a state adds up, if that is all that is done with it."""
        found: list[tuple[str, Var]] = []
        at = state
        while at is not after:
            eqn = self.readers.get(at)
            if eqn is None or self.times[at] != 1 or eqn.primitive.name not in ("add", "subtract"):
                return None
            x, y = eqn.inputs
            term = y if x is at else x
            turned = eqn.primitive.name == "subtract" and term is x
            if turned or isinstance(term, Literal) or not _adds_up(at, term, eqn):
                return None
            found.append((eqn.primitive.name, term))
            (at,) = eqn.outputs
        return found if self.times[at] == 1 else None

    # ---- which part an equation belongs to ---------------------------------------------------

    def share_out(self) -> None:
        """Say of every equation that is needed to which part it belongs; of constants, to all."""
        wanted = [y for y, is_read in zip(self.ys, self.results, strict=True) if is_read]
        terms = [term for terms in self.sums.values() for _, term in terms]
        after = [self.next[j] for j in self.kept]
        live = self.behind([*after, *wanted, *terms])
        fixed = {*self.consts, *self.same.values()}
        flat = set(self.slices)
        self.constant: set[Equation] = set()
        early, stuck = set[Equation](), []
        for eqn in self.body.equations:
            reads, moves = list(used(eqn.inputs)), _is_mapped(eqn)
            if not moves and (eqn in live or eqn.effect):
                stuck.append(eqn)
            elif moves and fixed.issuperset(reads):
                self.constant.add(eqn)
                fixed.update(eqn.outputs)
            elif moves and all(a in fixed or a in flat for a in reads):
                early.add(eqn)
                flat.update(eqn.outputs)
        roots = [*after, *[a for e in stuck for a in e.inputs]]
        core = self.behind(roots, early) | set(stuck)
        self.early = self.in_order(self.behind([*roots, *wanted, *terms]) & early)
        self.core = self.in_order(core - self.constant)
        self.late = self.in_order(live - core - early - self.constant)
        self.terms_of_all = terms
        made = {self.states[j] for j in self.kept} | {v for e in self.core for v in e.outputs}
        reads = [a for e in self.late for a in used(e.inputs)]
        crossing = [v for v in dict.fromkeys([*reads, *used([*wanted, *terms])]) if v in made]
        self.stored, again = least_stored(
            self.core, crossing, fixed | flat, lambda v: _time([v], self.stacked), self.whole
        )
        self.again = list(again)

    def whole(self, eqn: Equation) -> float | None:
        """Nanoseconds, for each step, to compute an equation for all steps at once."""
        if not (_is_mapped(eqn) and is_cheap(eqn)):
            return None
        once, each = _WHOLE
        return sum([once / self.length + each * v.aval.size for v in eqn.outputs])

    @property
    def results(self) -> Sequence[bool]:
        """Which stacks are read by anybody."""
        return self.wanted[len(self.states) :]

    def behind(self, atoms: Iterable[Atom], but: set[Equation] | None = None) -> set[Equation]:
        """The equations that lead to some values, up to others."""
        found, pending = set[Equation](), list(used(atoms))
        while pending:
            eqn = self.maker.get(pending.pop())
            if eqn is not None and eqn not in found and (but is None or eqn not in but):
                found.add(eqn)
                pending += used(eqn.inputs)
        return found

    def in_order(self, equations: set[Equation]) -> list[Equation]:
        return [e for e in self.body.equations if e in equations]

    # ---- what crosses ------------------------------------------------------------------------

    def with_constants(
        self, equations: Sequence[Equation], outputs: Iterable[Atom]
    ) -> list[Equation]:
        """Equations, and those of constants that they or the outputs read."""
        reads = [a for e in equations for a in e.inputs]
        return self.in_order({*equations, *(self.behind([*reads, *outputs]) & self.constant)})

    def into_core(self) -> list[Var]:
        """What the core reads of every step: slices, and what was computed before the loop."""
        flat = {*self.slices, *[v for e in self.early for v in e.outputs]}
        reads = [a for e in self.core for a in used(e.inputs)]
        reads += used([self.next[j] for j in self.kept])
        return [v for v in dict.fromkeys(reads) if v in flat]

    def pay(self) -> bool:
        """Whether the steps have much less to do, and the stacks have room."""
        stacks = [*self.into_core(), *self.stored]
        before = [*self.slices, *used(self.ys)]
        moved = [v for e in (*self.early, *self.late) for v in e.outputs]
        moved += [term for terms in self.sums.values() for _, term in terms]
        cost, stacked = self.computed, self.stacked
        saved = _time(moved, cost) - _time(stacks, stacked) + _time(before, stacked)
        more = self.length * (_bytes(stacks) - _bytes(before))
        largest = self.length * max([v.aval.nbytes for v in moved], default=0)
        room = more <= SPARE or _bytes(stacks) <= TIMES * _bytes(before)
        return saved > WORTH * _time(self.made, cost) and room and largest <= LARGEST


def _time(values: Iterable[Var], cost: tuple[float, float]) -> float:
    once, each = cost
    return sum([once + each * v.aval.size for v in values])


def _bytes(values: Iterable[Var]) -> int:
    return sum([v.aval.nbytes for v in dict.fromkeys(values)])


def _adds_up(at: Var, term: Var, eqn: Equation) -> bool:
    """Whether a sum has a floating dtype and the shape and dtype of both its terms."""
    aval = eqn.outputs[0].aval
    return at.aval == term.aval == aval and aval.inexact and not aval.weak and aval.size <= SMALL


class _Splitting(Rewriter):
    def parts(self, old: Equation, eqn: Equation) -> _Parts:
        wanted = [self.readers[v] > 0 for v in old.outputs]
        return _parts(eqn, wanted)

    def split(self, parts: _Parts) -> None:
        """The equations of the parts, and what stands for the outputs of the loop."""
        loop = parts.loop
        c, k = len(parts.consts), len(parts.states)
        outside: dict[Atom, Atom] = dict(zip(parts.consts, loop.inputs[:c], strict=True))
        outside.update((v, loop.inputs[c + j]) for j, v in parts.same.items())
        stacks: dict[Atom, Atom] = dict(zip(parts.slices, loop.inputs[c + k :], strict=True))
        made = [v for e in parts.early for v in e.outputs]
        self.for_all(parts, parts.early, made, outside, stacks)
        last = self.core(parts, outside, stacks)
        ys = [y for y, is_read in zip(parts.ys, parts.results, strict=True) if is_read]
        self.for_all(
            parts, [*parts.again, *parts.late], [*ys, *parts.terms_of_all], outside, stacks
        )
        last.update((j, outside[v]) for j, v in parts.same.items())
        for j, terms in parts.sums.items():
            last[j] = self.total(loop, loop.inputs[c + j], terms, stacks)
        for j, v in enumerate(loop.outputs):
            if parts.wanted[j]:
                by = last[j] if j < k else stacks[parts.ys[j - k]]
                assert by.aval == v.aval, f"{by!r} cannot stand for {v!r}"
                self.stands_for[v] = by

    def for_all(
        self,
        parts: _Parts,
        equations: Sequence[Equation],
        outputs: Sequence[Atom],
        outside: dict[Atom, Atom],
        stacks: dict[Atom, Atom],
    ) -> None:
        """Compute values of all steps at once, and put them among the stacks."""
        outputs = [a for a in dict.fromkeys(outputs) if a not in stacks]
        if not outputs:
            return
        equations = parts.with_constants(equations, outputs)
        inside = {v for e in equations for v in e.outputs}
        reads = [*[a for e in equations for a in used(e.inputs)], *used(outputs)]
        inputs = [v for v in dict.fromkeys(reads) if v not in inside]
        program = Program(inputs, equations, outputs)
        mapped, _ = roles["mapped"](
            program, parts.length, tuple([v in stacks for v in inputs]), (True,) * len(outputs)
        )
        operands = [stacks[v] if v in stacks else outside[v] for v in inputs]
        stacks.update(zip(outputs, inlined(self, operands, mapped), strict=True))

    def core(
        self, parts: _Parts, outside: dict[Atom, Atom], stacks: dict[Atom, Atom]
    ) -> dict[int, Atom]:
        """The loop that is left, its stacks among the others; the last states by their numbers."""
        loop, c = parts.loop, len(parts.consts)
        results, slices = parts.stored, parts.into_core()
        outputs = [*[parts.next[j] for j in parts.kept], *results]
        if not outputs and not any(e.effect for e in parts.core):
            return {}
        equations = parts.with_constants(parts.core, outputs)
        states = [parts.states[j] for j in parts.kept]
        inside = {v for e in equations for v in e.outputs} | {*states, *slices}
        reads = [*[a for e in equations for a in used(e.inputs)], *used(outputs)]
        consts = [v for v in dict.fromkeys(reads) if v not in inside]
        step = Program([*consts, *states, *slices], equations, outputs)
        params = {**loop.params, "body": step, "consts": len(consts), "carry": len(states)}
        operands = (
            *[outside[v] for v in consts],
            *[loop.inputs[c + j] for j in parts.kept],
            *[stacks[v] for v in slices],
        )
        last = [Var(loop.outputs[j].aval) for j in parts.kept]
        rows = [Var(Aval((parts.length, *v.aval.shape), v.aval.dtype)) for v in results]
        self.keep(Equation(loop.primitive, operands, params, (*last, *rows), loop.position))
        stacks.update(zip(results, rows, strict=True))
        return dict(zip(parts.kept, last, strict=True))

    def total(
        self,
        loop: Equation,
        first: Atom,
        terms: Sequence[tuple[str, Var]],
        stacks: dict[Atom, Atom],
    ) -> Atom:
        """What a state comes to that adds up terms."""
        total = first
        for name, term in terms:
            params = {"axes": (0,), "keepdims": False}
            added = self.emit(lookup("sum"), (stacks[term],), params, loop.position)
            total = self.emit(lookup(name), (total, added), {}, loop.position)
        return total
