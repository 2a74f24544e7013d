"""A staged loop over a small state as a function.

The states live in registers from step to step. A loop without states computes `WIDTH` steps at a
time; the last of them overlap, where the length is no multiple of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from vjpkit.backends.native.code import BOOL, DOUBLE, FLOAT, INT, TYPES, Code, Value, vector
from vjpkit.backends.native.engine import host
from vjpkit.backends.native.indices import Memory
from vjpkit.backends.native.kernels import loaded, store
from vjpkit.backends.native.steps import WIDTH, Called, Step, computes_places, why_no_step
from vjpkit.core.aval import Aval
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var
from vjpkit.core.primitive import lookup
from vjpkit.passes import optimize

__all__ = ["LOOPS", "Call", "Loop", "is_loop", "loop_call", "running", "step_of", "why_no_loop"]

SHORTEST = 1000
"""Running sums that take longer in NumPy than the call of a loop."""
LONGEST_TURNED = 128
"""Elements of a step that are read and written one by one, where several steps are one."""
LOOPS = frozenset({"scan", "while"})
"""Primitives that are loops."""


def step_of(eqn: Equation) -> Program:
    """What a loop does in one step, optimised."""
    return optimize(eqn.params["body"])


def is_loop(eqn: Equation) -> bool:
    """Whether an equation is a loop that can be machine code."""
    return eqn.primitive.name in LOOPS and why_no_loop(eqn) is None


def why_no_loop(eqn: Equation) -> str | None:
    """Why a loop of `LOOPS` cannot be machine code, in words; None if it can."""
    if eqn.params.get("slots") is not None:
        return "its states are checkpointed"
    avals = [a.aval for a in (*eqn.inputs, *eqn.outputs)]
    other = next((a for a in avals if a.dtype not in TYPES or not a.size), None)
    if other is not None or not eqn.params.get("length", 1) or not eqn.outputs:
        return f"kernels have no {other or 'loops of no steps'}"
    cond = eqn.params.get("cond")
    return why_no_step(step_of(eqn)) or (why_no_step(optimize(cond)) if cond is not None else None)


def running(eqn: Equation) -> Call | None:
    """The loop of running sums of a vector, where it is worth a call; else None.

    They begin with -0.0, to which any number can be added without a change.
    """
    if eqn.primitive.name != "cumsum" or eqn.outputs[0].aval.ndim != 1:
        return None
    x, out = eqn.inputs[0].aval.strong(), eqn.outputs[0].aval
    if x.size < SHORTEST or x.dtype != out.dtype or TYPES.get(x.dtype) not in (DOUBLE, FLOAT):
        return None
    number = Aval((), x.dtype)
    sofar, element, total = Var(number), Var(number), Var(number)
    add = Equation(lookup("add"), (sofar, element), {}, (total,))
    body = Program([sofar, element], [add], [total, total])
    loop = Loop(body, (number, x), (number, out), 0, 1, x.size, eqn.params["reverse"])
    first = Literal(number.dtype.type(-0.0))
    return Call(loop, (first, *eqn.inputs), (Var(number), *eqn.outputs))


def loop_call(eqn: Equation) -> Call:
    """A loop that is machine code."""
    return Call(loop_of(eqn), eqn.inputs, eqn.outputs)


def loop_of(eqn: Equation) -> Loop:
    params, body = eqn.params, step_of(eqn)
    avals = tuple([a.aval.strong() for a in eqn.inputs])
    outs = tuple([v.aval for v in eqn.outputs])
    if eqn.primitive.name == "while":
        cond, fixed = optimize(params["cond"]), params["cond_consts"]
        consts = fixed + params["body_consts"]
        return Loop(body, avals, outs, consts, len(outs), 1, False, cond, fixed)
    return Loop(
        body, avals, outs, params["consts"], params["carry"], params["length"], params["reverse"]
    )


@dataclass(frozen=True)
class Loop:
    """A scan: constants, states and slices in, states and stacks out.

    With ``cond`` it goes on as long as that holds, and has states only; the first ``cond_consts``
    constants are those of the condition.
    """

    body: Program
    operands: tuple[Aval, ...]
    results: tuple[Aval, ...]
    consts: int
    carry: int
    length: int
    reverse: bool
    cond: Program | None = None
    cond_consts: int = 0

    def write(self, called: Called) -> list[str]:
        """Its function, without a name: the fast form, and the exact one if the first has doubts.

        It takes pointers to the loop's operands and results, and one more if it is `checked`; the
        fast form says whether it was given arguments that it does not take.
        """
        writer = _Writer(self, called)
        fast, doubtful = writer.function(False)
        return [fast, *([writer.function(True)[0]] if doubtful else [])]

    @cached_property
    def checked(self) -> bool:
        """Whether places are computed, which may not be there: then the last result is not 0."""
        return any(map(computes_places, filter(None, (self.body, self.cond))))

    @property
    def once(self) -> bool:
        """Whether it is known to have one step."""
        return self.length == 1 and self.cond is None


@dataclass(frozen=True)
class Call:
    """A loop, what it reads and what it makes."""

    loop: Loop
    operands: tuple[Atom, ...]
    results: tuple[Var, ...]


class _Writer:
    def __init__(self, loop: Loop, called: Called) -> None:
        self.loop = loop
        self.called = called
        self.avals = [*loop.operands, *loop.results]

    def function(self, exact: bool) -> tuple[str, bool]:
        """The loop over the steps, and whether it has doubts about arguments."""
        loop = self.loop
        before, inside, after = Code(prefix="b"), Code(prefix="t", exact=exact), Code(prefix="a")
        ends = loop.consts, loop.consts + loop.carry
        known = [self.load(before, j, a.size) for j, a in enumerate(loop.operands[: ends[1]])]
        memory = Memory(self.in_memory(known[: ends[0]]))
        step = Step(inside, self.steps, self.called if loop.once else None, memory)
        first = known[ends[0] :]
        turned = "steps_" if loop.cond is None else "turn"
        states = [
            [Value(inside, f"%c{j}_{k}", x.kind) for k, x in enumerate(xs)]
            for j, xs in enumerate(first)
        ]
        slices = [
            self.load_slice(inside, j, loop.operands[j].size // loop.length)
            for j in range(ends[1], len(loop.operands))
        ]
        constants = [[Value(inside, x.name, x.kind) for x in xs] for xs in known[: ends[0]]]
        inputs = [*constants[loop.cond_consts :], *states, *slices]
        found = step.run(loop.body, list(map(step.elements_of, inputs)))
        outs = list(map(step.registers, found))
        base = len(loop.operands)
        for j, values in enumerate(outs):
            if j < loop.carry:
                last = values if loop.cond is None else states[j]
                self.store(after, base + j, [Value(after, x.name, x.kind) for x in last])
            else:
                self.store_slice(inside, base + j, values)
        phis = [
            f"{x.name} = phi {x.kind} [{a.name}, %entry], [{b.name}, %{turned}]"
            for starts, xs, results in zip(first, states, outs, strict=False)
            for a, x, b in zip(starts, xs, results, strict=True)
        ]
        head = Code(prefix="h", exact=exact)
        first_memory = Memory(memory.operands)
        goes_on = self.condition(head, constants, states, first_memory)
        asked = head.all_doubts()
        before_step = head.anything([Value(head, "%doubt", BOOL), *asked])
        doubts = [*inside.all_doubts(), *asked]
        total = inside.anything([Value(inside, before_step.name, BOOL), *inside.all_doubts()])
        bad = head.anything([Value(head, "%bad", BOOL), *first_memory.faults])
        worse = inside.anything([Value(inside, bad.name, BOOL), *memory.faults])
        if goes_on is None:
            turn = [*inside.lines, "%next = add i64 %i, 1",
                    f"%end = icmp eq i64 %next, {self.turns}",
                    "br i1 %end, label %out, label %steps_"]  # fmt: skip
            doubt, fault = total, worse
        else:  # what is doubtful may never end
            go = goes_on & ~(before_step | bad)
            turn = [f"br i1 {go.name}, label %turn, label %out", "turn:", *inside.lines,
                    "%next = add i64 %i, 1", "br label %steps_"]  # fmt: skip
            doubt, fault = before_step, bad
        collected = [
            f"%{name} = phi i1 [false, %entry], [{x.name}, %{turned}]"
            for name, x in (("doubt", total), ("bad", worse))
        ]
        if loop.checked:
            found_fault = Value(after, fault.name, BOOL).to(INT)
            store(after, f"%p{len(self.avals)}", "0", found_fault)
        for code in (before, head, inside, after):
            self.called.declared |= code.declared
        count = len(self.avals) + loop.checked
        parameters = ", ".join(f"ptr noalias %p{j}" for j in range(count))
        # what seldom runs is not worth being improved
        effort = "noinline optnone cold" if exact else "noinline"
        lines = [
            f"({parameters}) nounwind {effort} "
            f'"prefer-vector-width"="{host().vector_bits}" {{', "entry:",
            *memory.buffers, *first_memory.buffers, *before.lines, "br label %steps_", "steps_:",
            f"%i = phi i64 [0, %entry], [%next, %{turned}]", *phis, *collected, *self.counting(),
            *head.lines, *turn, "out:", *after.lines, f"ret i1 {doubt.name}", "}",
        ]  # fmt: skip
        return "\n".join(lines), bool(doubts)

    def condition(
        self, code: Code, constants: Sequence[Sequence[Value]], states: Sequence[Sequence[Value]],
        memory: Memory,
    ) -> Value | None:  # fmt: skip
        """Whether another step follows; None where their number is known."""
        if self.loop.cond is None:
            return None
        step = Step(code, places=memory)
        inputs = [*constants[: self.loop.cond_consts], *states]
        given = [step.elements_of([Value(code, x.name, x.kind) for x in xs]) for xs in inputs]
        (found,) = step.run(self.loop.cond, given)
        return step.register(found).to(BOOL)

    @cached_property
    def steps(self) -> int:
        """How many steps are computed at a time."""
        loop = self.loop
        alone = loop.carry or loop.checked or loop.length < WIDTH
        stacks = [*loop.operands[loop.consts :], *loop.results]
        turned = sum([a.size // loop.length for a in stacks])
        return 1 if alone or turned > LONGEST_TURNED else WIDTH

    @property
    def turns(self) -> int:
        return -(-self.loop.length // self.steps)

    def counting(self) -> list[str]:
        """The number of the step, or of the first one, as slices are numbered."""
        length = self.loop.length
        if self.steps > 1:
            last = length - self.steps
            return [f"%from = mul i64 %i, {self.steps}", f"%far = icmp sgt i64 %from, {last}",
                    f"%at = select i1 %far, i64 {last}, i64 %from"]  # fmt: skip
        return [f"%at = sub i64 {length - 1}, %i" if self.loop.reverse else "%at = add i64 %i, 0"]

    # ---- memory ------------------------------------------------------------------------------

    def kind(self, j: int) -> str:
        return TYPES[self.avals[j].dtype]

    def load(self, code: Code, j: int, size: int) -> list[Value]:
        """The elements of an operand; each for all steps that are computed at once."""
        found = [
            loaded(code, f"%p{j}", str(chunk.start), vector(self.kind(j), len(chunk)))
            for chunk in Step(code, self.steps).chunks(size)
        ]
        return [code.repeated(x, self.steps) for x in found] if self.steps > 1 else found

    def in_memory(self, constants: Sequence[Sequence[Value]]) -> dict[tuple[str, ...], str]:
        """Where constants lie whose elements may be read at computed places."""
        return {tuple([x.name for x in xs]): f"%p{j}" for j, xs in enumerate(constants)}

    def load_slice(self, code: Code, j: int, size: int) -> list[Value]:
        """The elements of an operand's slice."""
        pointer, first = f"%p{j}", Value(code, "%at", "i64") * size
        if self.steps == 1 or size == 1:
            lanes = self.steps if size == 1 else 0
            return [
                loaded(code, pointer, (first + c.start).name, vector(self.kind(j), lanes or len(c)))
                for c in Step(code, self.steps).chunks(size)
            ]
        kind = vector(self.kind(j), self.steps)
        found = []
        for k in range(size):
            made: Value | None = None
            for i in range(self.steps):
                x = loaded(code, pointer, (first + (i * size + k)).name, self.kind(j))
                made = code.with_lane(made, i, x, kind)
            assert made is not None
            found.append(made)
        return found

    def store(self, code: Code, j: int, values: Sequence[Value]) -> None:
        """The elements of a result."""
        for k, x in enumerate(values):
            store(code, f"%p{j}", str(k * WIDTH), x)

    def store_slice(self, code: Code, j: int, values: Sequence[Value]) -> None:
        """The elements of a result's slice."""
        row = self.avals[j].size // self.loop.length
        pointer, first = f"%p{j}", Value(code, "%at", "i64") * row
        for k, x in enumerate(values):
            if self.steps == 1 or row == 1:
                store(code, pointer, (first + k * WIDTH).name, x)
                continue
            for i in range(self.steps):
                store(code, pointer, (first + (i * row + k)).name, code.lane(x, i))
