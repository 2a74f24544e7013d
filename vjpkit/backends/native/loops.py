"""A staged loop over a small state as one kernel.

The states live in registers from step to step. A loop without states computes `WIDTH` steps at a
time; the last of them overlap, where the length is no multiple of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from vjpkit.backends.native.code import BOOL, DOUBLE, FLOAT, INT, TYPES, Code, Value, vector
from vjpkit.backends.native.engine import host, ufunc
from vjpkit.backends.native.indices import Memory
from vjpkit.backends.native.kernels import loaded, store
from vjpkit.backends.native.machine import Machine, module_of
from vjpkit.backends.native.steps import WIDTH, Called, Step, computes_places, why_no_step
from vjpkit.core.aval import Aval
from vjpkit.core.ir import Equation, Program, Var
from vjpkit.core.primitive import lookup
from vjpkit.passes import optimize

__all__ = ["LOOPS", "Loop", "joined", "loop_of", "running", "why_no_loop"]

MOST_OPERANDS = 64
"""Operands and results of a ufunc."""


SHORTEST = 1000
"""Running sums that take longer in NumPy than the call of a loop."""
LONGEST_TURNED = 128
"""Elements of a step that are read and written one by one, where several steps are one."""
LOOPS = frozenset({"scan", "while"})
"""Primitives that are loops."""


def why_no_loop(eqn: Equation, body: Program) -> str | None:
    """Why a loop of `LOOPS` cannot be a kernel, in words; None if it can."""
    if eqn.params.get("slots") is not None:
        return "its states are checkpointed"
    avals = [a.aval for a in (*eqn.inputs, *eqn.outputs)]
    other = next((a for a in avals if a.dtype not in TYPES or not a.size), None)
    if other is not None or not eqn.params.get("length", 1) or not eqn.outputs:
        return f"kernels have no {other or 'loops of no steps'}"
    cond = eqn.params.get("cond")
    return why_no_step(body) or (why_no_step(optimize(cond)) if cond is not None else None)


def running(eqn: Equation) -> Loop | None:
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
    return Loop(body, (number, x), (number, out), 0, 1, x.size, eqn.params["reverse"])


def loop_of(eqn: Equation, body: Program) -> Loop:
    """The kernel of a loop whose step is ``body``."""
    params = eqn.params
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
class Loop(Machine):
    """A scan: constants, states and slices in, states and stacks out.

    With ``cond`` it goes on as long as that holds, and has states only; the first ``cond_consts``
    constants are those of the condition.
    """

    prefix: ClassVar[str] = "loop"

    body: Program
    operands: tuple[Aval, ...]
    results: tuple[Aval, ...]
    consts: int
    carry: int
    length: int
    reverse: bool
    cond: Program | None = None
    cond_consts: int = 0

    def write(self) -> str:
        return _Writer(self).module()

    @cached_property
    def arrays(self) -> tuple[tuple[Packed, ...], tuple[Packed, ...]]:
        """The kernel's operands and results: one for each of the loop's, or several in one.

        A ufunc has no more than `MOST_OPERANDS`; where the loop has more, those of a dtype are
        packed together: all but stacks, which take long to be copied, or stacks too.
        """
        stacks = self.consts + self.carry, self.carry
        everything = list(zip((self.operands, self.results), stacks, strict=True))
        for packed in (alone, grouped_but_stacks, grouped):
            found = [packed(avals, first) for avals, first in everything]
            if sum(map(len, found)) + self.checked <= MOST_OPERANDS:
                break
        ins, outs = (
            tuple([Packed(js, tuple([avals[j] for j in js]), js[0] >= first) for js in groups])
            for groups, (avals, first) in zip(found, everything, strict=True)
        )
        return ins, outs

    def compile(self) -> np.ufunc:
        """The kernel as a generalised ufunc of flat arrays."""
        ins, outs = self.arrays
        words = [[f"({a.size})" if a.is_array else "()" for a in side] for side in (ins, outs)]
        dtypes = [a.dtype for a in (*ins, *outs)]
        if self.checked:
            words[1].append("()")
            dtypes.append(np.dtype(np.int64))
        signature = "->".join(map(",".join, words))
        return ufunc(self.text, self.name, tuple(dtypes), len(ins), signature)

    @cached_property
    def checked(self) -> bool:
        """Whether places are computed, which may not be there: then the last result is not 0."""
        return any(map(computes_places, filter(None, (self.body, self.cond))))

    @property
    def once(self) -> bool:
        """Whether it is known to have one step."""
        return self.length == 1 and self.cond is None


def alone(avals: Sequence[Aval], first: int) -> list[tuple[int, ...]]:
    return [(j,) for j in range(len(avals))]


def grouped_but_stacks(avals: Sequence[Aval], first: int) -> list[tuple[int, ...]]:
    return [*grouped(avals[:first], first), *[(j,) for j in range(first, len(avals))]]


def grouped(avals: Sequence[Aval], first: int) -> list[tuple[int, ...]]:
    """Numbers of operands by dtype, those from ``first`` on apart from those before."""
    groups: dict[Any, list[int]] = {}
    for j, a in enumerate(avals):
        groups.setdefault((j >= first, a.dtype), []).append(j)
    return [tuple(js) for js in groups.values()]


@dataclass(frozen=True)
class Packed:
    """Operands or results of a loop as one array of the kernel.

    Stacks lie side by side: for each step the slices of all of them.
    """

    members: tuple[int, ...]
    avals: tuple[Aval, ...]
    stacked: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.avals[0].dtype

    @property
    def size(self) -> int:
        return sum([a.size for a in self.avals])

    @property
    def is_array(self) -> bool:
        return len(self.avals) > 1 or bool(self.avals[0].shape)

    def rows(self, length: int) -> int:
        """Slices that lie one after the other."""
        return length if self.stacked else 1

    def columns(self, length: int) -> list[tuple[int, int]]:
        """For each member where its part of a row begins and ends."""
        ends = np.cumsum([0, *[a.size // self.rows(length) for a in self.avals]]).tolist()
        return list(pairwise(ends))


def joined(values: Sequence[Any], dtype: np.dtype[Any], rows: int) -> Any:
    """Several operands as one array of a kernel."""
    parts = [np.reshape(np.asarray(v, dtype), (rows, -1)) for v in values]
    return np.concatenate(parts, axis=1).reshape(-1)


class _Writer:
    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.declared: set[str] = set()
        self.called = Called(self.declared)
        ins, outs = loop.arrays
        self.arrays = [*ins, *outs]
        count = len(loop.operands)
        self.places: dict[int, tuple[int, int, int]] = {}
        """Of an operand or result: its array, its first element there, and elements of a step."""
        for i, a in enumerate(self.arrays):
            row = a.size // a.rows(loop.length)
            for j, (start, _) in zip(a.members, a.columns(loop.length), strict=True):
                self.places[j + count * (i >= len(ins))] = i, start, row

    def module(self) -> str:
        texts = self.called.texts.values()
        count = len(self.arrays) + self.loop.checked
        return module_of(self.function, count, self.declared, texts)

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
            store(after, f"%p{len(self.arrays)}", "0", found_fault)
        self.declared |= head.declared
        self.declared |= before.declared | inside.declared | after.declared
        name = "exact" if exact else "fast"
        # the arrays of the kernel; what seldom runs is not worth being improved
        count = len(self.arrays) + loop.checked
        parameters = ", ".join(f"ptr noalias %p{j}" for j in range(count))
        effort = "noinline optnone cold" if exact else "noinline"
        lines = [
            f"define internal i1 @{name}({parameters}) nounwind {effort} "
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
        turned = sum([a.size // loop.length for a in self.arrays if a.stacked])
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
        return TYPES[self.arrays[self.places[j][0]].dtype]

    def load(self, code: Code, j: int, size: int) -> list[Value]:
        """The elements of an operand; each for all steps that are computed at once."""
        array, start, _ = self.places[j]
        found = [
            loaded(code, f"%p{array}", str(start + chunk.start), vector(self.kind(j), len(chunk)))
            for chunk in Step(code, self.steps).chunks(size)
        ]
        return [code.repeated(x, self.steps) for x in found] if self.steps > 1 else found

    def in_memory(self, constants: Sequence[Sequence[Value]]) -> dict[Any, tuple[str, int]]:
        """Where constants lie whose elements may be read at computed places."""
        return {
            tuple([x.name for x in xs]): (f"%p{self.places[j][0]}", self.places[j][1])
            for j, xs in enumerate(constants)
        }

    def load_slice(self, code: Code, j: int, size: int) -> list[Value]:
        """The elements of an operand's slice."""
        array, start, row = self.places[j]
        pointer, first = f"%p{array}", Value(code, "%at", "i64") * row + start
        if self.steps == 1 or row == 1:
            lanes = self.steps if row == 1 else 0
            return [
                loaded(code, pointer, (first + c.start).name, vector(self.kind(j), lanes or len(c)))
                for c in Step(code, self.steps).chunks(size)
            ]
        kind = vector(self.kind(j), self.steps)
        found = []
        for k in range(size):
            made: Value | None = None
            for i in range(self.steps):
                x = loaded(code, pointer, (first + (i * row + k)).name, self.kind(j))
                made = code.with_lane(made, i, x, kind)
            assert made is not None
            found.append(made)
        return found

    def store(self, code: Code, j: int, values: Sequence[Value]) -> None:
        """The elements of a result."""
        array, start, _ = self.places[j]
        for k, x in enumerate(values):
            store(code, f"%p{array}", str(start + k * WIDTH), x)

    def store_slice(self, code: Code, j: int, values: Sequence[Value]) -> None:
        """The elements of a result's slice."""
        array, start, row = self.places[j]
        pointer, first = f"%p{array}", Value(code, "%at", "i64") * row + start
        for k, x in enumerate(values):
            if self.steps == 1 or row == 1:
                store(code, pointer, (first + k * WIDTH).name, x)
                continue
            for i in range(self.steps):
                store(code, pointer, (first + (i * row + k)).name, code.lane(x, i))
