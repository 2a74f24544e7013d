"""Residuals of loops that are cheaper to compute again than to store and read.

A backward loop reads, step by step, what the forward loop stored. Where arithmetic alone leads from
the state before a step, the loop's constants and its slices to a residual, the backward loop can do
that arithmetic again: less memory, and less traffic. What is dear (exponentials, products of
matrices) stays stored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from vjpkit.core.aval import Aval
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, used

__all__ = ["is_cheap", "least_stored", "with_residuals_recomputed"]

_CHEAP = frozenset(
    {
        "absolute", "add", "broadcast_to", "concatenate", "constant", "convert", "copysign",
        "divide", "equal", "fill", "fmax", "fmin", "getitem", "greater", "greater_equal", "isnan",
        "less", "less_equal", "logical_and", "logical_not", "logical_or", "maximum", "minimum",
        "multiply", "negative", "not_equal", "positive", "reciprocal", "reshape", "same", "scale",
        "sign", "spread", "sqrt", "square", "stack", "subtract", "sum", "transpose", "where",
    }
)  # fmt: skip

Fits = Callable[[Equation], bool]


def with_residuals_recomputed(
    program: Program, fits: Fits, reads: Fits = lambda loop: True
) -> Program:
    """Loops store the states before their steps rather than residuals that follow from them.

    Law: equal outputs, to the bit. Loops are changed into such only of which ``fits`` holds, and
    ``reads`` of those that read what others store.
    """
    if not any(eqn.primitive.name == "scan" for eqn in program.equations):
        return program
    new = _Recomputing(program, fits, reads)
    for at, eqn in enumerate(program.equations):
        if eqn.primitive.name == "scan":
            new.visit(at)
    return Program(program.inputs, new.equations, program.outputs, program.linear)


@dataclass(frozen=True, eq=False, repr=False)
class _Plan:
    """Which stacks of a loop are dropped, and how a reader comes by their slices.

    ``stored`` are values of the step that must be stacked, ``equations`` those that lead from
    these, constants and slices to ``dropped``.
    """

    dropped: tuple[int, ...]
    stored: tuple[Var, ...]
    equations: tuple[Equation, ...]


class _Recomputing:
    def __init__(self, program: Program, fits: Fits, reads: Fits) -> None:
        self.program = program
        self.fits, self.reads_well = fits, reads
        self.equations = list(program.equations)
        self.readers: dict[Var, set[int]] = {}
        for at, eqn in enumerate(self.equations):
            self.reads(at, eqn)

    def reads(self, at: int, eqn: Equation) -> None:
        for v in used(eqn.inputs):
            self.readers.setdefault(v, set()).add(at)

    def visit(self, at: int) -> None:
        """Carry out the plan for the loop at a place, if there is a good one."""
        loop = self.equations[at]
        plan = self.plan(loop)
        if plan is None:
            return
        stacks = tuple([Var(stack_of(v, loop)) for v in plan.stored])
        made = {at: storing(loop, plan, stacks)}
        for j in plan.dropped:
            for reader in self.readers_of(loop.outputs[j]):
                if reader not in made:
                    made[reader] = recomputing(self.equations[reader], loop, plan, stacks)
        if not all(map(self.fits, made.values())):
            return
        if not all(self.reads_well(eqn) for place, eqn in made.items() if place != at):
            return
        for place, eqn in made.items():
            self.equations[place] = eqn
            self.reads(place, eqn)

    def plan(self, loop: Equation) -> _Plan | None:
        """What to drop and what to store instead, if that is less."""
        body, carry = loop.params["body"], loop.params["carry"]
        dropped = tuple(
            [j for j, v in enumerate(loop.outputs) if j >= carry and self.is_read_by_steps(v, loop)]
        )
        roots = dict.fromkeys(used(body.outputs[j] for j in dropped))
        consts = loop.params["consts"]
        at_hand = {*body.inputs[:consts], *body.inputs[consts + carry :]}
        stored, equations = least_stored(
            body.equations, roots, at_hand, _bytes, lambda e: 0.0 if is_cheap(e) else None
        )
        before, after = (sum(map(_bytes, vs)) for vs in (roots, stored))
        return _Plan(dropped, stored, equations) if after < before else None

    def readers_of(self, v: Var) -> list[int]:
        """Places of the equations that read a variable."""
        return [at for at in sorted(self.readers.get(v, ())) if v in self.equations[at].inputs]

    def is_read_by_steps(self, v: Var, loop: Equation) -> bool:
        """Whether only loops of the same length read a stack, each step its slice."""
        if v in self.program.outputs:
            return False
        return all(
            eqn.primitive.name == "scan"
            and eqn.params["length"] == loop.params["length"]
            and v not in eqn.inputs[: eqn.params["consts"] + eqn.params["carry"]]
            for eqn in map(self.equations.__getitem__, self.readers_of(v))
        )


def _bytes(v: Var) -> int:
    return v.aval.nbytes


def stack_of(v: Var, loop: Equation) -> Aval:
    return Aval((loop.params["length"], *v.aval.shape), v.aval.dtype)


def least_stored(
    equations: Sequence[Equation],
    roots: Iterable[Var],
    at_hand: Collection[Var],
    store: Callable[[Var], float],
    again: Callable[[Equation], float | None],
) -> tuple[tuple[Var, ...], tuple[Equation, ...]]:
    """What is stored for ``roots``, and the equations that lead from there to them.

    Walking back from the roots, what is stored is what is needed so far and not at hand. It costs
    least, with the equations behind it, at some place: at the states before the step or in the
    midst of it, and there it is cut. ``store`` and ``again`` say what a value and an equation cost;
    what is not computed again at all costs None.
    """
    needed = dict.fromkeys(v for v in roots if v not in at_hand)
    dear: list[Var] = []
    found: list[Equation] = []
    cost = least = sum(map(store, needed))
    stored, count = tuple(needed), 0
    for eqn in reversed(equations):
        wanted = [v for v in eqn.outputs if v in needed]
        if not wanted:
            continue
        for v in wanted:
            del needed[v]
        own = again(eqn)
        if own is None:
            dear += wanted
            continue
        found.append(eqn)
        read = dict.fromkeys(v for v in used(eqn.inputs) if v not in at_hand and v not in needed)
        needed |= read
        cost += own + sum(map(store, read)) - sum(map(store, wanted))
        if cost < least:
            least, stored, count = cost, (*dear, *needed), len(found)
    return stored, tuple(reversed(found[:count]))


def is_cheap(eqn: Equation) -> bool:
    """Whether an equation is arithmetic, or moves values."""
    return eqn.primitive.name in _CHEAP


def storing(loop: Equation, plan: _Plan, stacks: Sequence[Var]) -> Equation:
    """The loop with other stacks."""
    body: Program = loop.params["body"]
    kept = [j for j in range(len(loop.outputs)) if j not in plan.dropped]
    step = Program(body.inputs, body.equations, [*[body.outputs[j] for j in kept], *plan.stored])
    outputs = (*[loop.outputs[j] for j in kept], *stacks)
    return Equation(
        loop.primitive, loop.inputs, {**loop.params, "body": step}, outputs, loop.position
    )


def recomputing(reader: Equation, loop: Equation, plan: _Plan, stacks: Sequence[Var]) -> Equation:
    """A loop that reads other stacks, and computes from them what it read before."""
    body: Program = loop.params["body"]
    ends = [0, loop.params["consts"], loop.params["consts"] + loop.params["carry"]]
    mine: Program = reader.params["body"]
    consts, carry = reader.params["consts"], reader.params["carry"]
    step = _Step(reader, mine)
    values: dict[Var, Atom] = {}
    read = {v for e in plan.equations for v in used(e.inputs)}
    read |= set(used(body.outputs[j] for j in plan.dropped))
    for v, a in zip(body.inputs[: ends[1]], loop.inputs[: ends[1]], strict=True):
        if v in read:
            values[v] = step.constant(a, v)
    for v, a in zip(body.inputs[ends[2] :], loop.inputs[ends[2] :], strict=True):
        if v in read:
            values[v] = step.slice(a, v)
    for v, stack in zip(plan.stored, stacks, strict=True):
        values[v] = step.slice(stack, v)
    made = []
    for eqn in plan.equations:
        outputs = tuple([Var(v.aval) for v in eqn.outputs])
        inputs = tuple([values[a] if isinstance(a, Var) else a for a in eqn.inputs])
        made.append(Equation(eqn.primitive, inputs, eqn.params, outputs, eqn.position))
        values.update(zip(eqn.outputs, outputs, strict=True))
    residuals = {loop.outputs[j]: body.outputs[j] for j in plan.dropped}
    gone: dict[Var, Atom] = {}
    for v, a in zip(mine.inputs[consts + carry :], reader.inputs[consts + carry :], strict=True):
        if isinstance(a, Var) and a in residuals:
            found = residuals[a]
            gone[v] = values[found] if isinstance(found, Var) else found
    return step.finish(made, gone)


class _Step:
    """The step of a reader, with operands added to it."""

    def __init__(self, reader: Equation, body: Program) -> None:
        consts, carry = reader.params["consts"], reader.params["carry"]
        pairs = list(zip(reader.inputs, body.inputs, strict=True))
        self.reader, self.body = reader, body
        self.consts = pairs[:consts]
        self.carry = pairs[consts : consts + carry]
        self.slices = pairs[consts + carry :]

    def constant(self, a: Atom, like: Var) -> Var:
        return _added(self.consts, a, like.aval)

    def slice(self, a: Atom, like: Var) -> Var:
        return _added(self.slices, a, like.aval)

    def finish(self, equations: Sequence[Equation], gone: dict[Var, Atom]) -> Equation:
        """The reader with ``equations`` before its own, which give what stands for ``gone``."""

        def found(a: Atom) -> Atom:
            return gone.get(a, a) if isinstance(a, Var) else a

        moved = [
            Equation(e.primitive, tuple(map(found, e.inputs)), e.params, e.outputs, e.position)
            for e in self.body.equations
        ]
        self.slices = [pair for pair in self.slices if pair[1] not in gone]
        pairs = [*self.consts, *self.carry, *self.slices]
        step = Program(
            [v for _, v in pairs], [*equations, *moved], list(map(found, self.body.outputs))
        )
        params = {**self.reader.params, "body": step, "consts": len(self.consts)}
        return Equation(
            self.reader.primitive, tuple([a for a, _ in pairs]), params, self.reader.outputs,
            self.reader.position,
        )  # fmt: skip


def _added(pairs: list[tuple[Atom, Var]], a: Atom, aval: Aval) -> Var:
    """The variable of the step for an operand, which may be there already."""
    for other, v in pairs:
        if other is a and v.aval == aval and not isinstance(a, Literal):
            return v
    pairs.append((a, Var(aval)))
    return pairs[-1][1]
