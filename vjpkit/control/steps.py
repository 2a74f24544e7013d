"""A loop at a point, step by step: its linear map, and what is kept of each step for it.

`Recorded` keeps the residuals of every step. `Schedule` keeps a few states and computes the others
again, as `vjpkit.control.revolve` says: binomially, in the least number of steps, where the length
is known; chosen on the way where it is not. Both walks ask for the residuals of one step after the
other, and do not know which of the two they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vjpkit.control.call import call, chained
from vjpkit.control.layout import Layout, carried, linear_reached, reached_outputs
from vjpkit.control.programs import (
    Linearized,
    Mask,
    linearized_program,
    numbered,
    plain_program,
    transposed_program,
)
from vjpkit.control.revolve import Online, split
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.ir import Program
from vjpkit.kinds.linear import zeros
from vjpkit.transforms.backings import Residual

__all__ = ["Machine", "Steps", "scan_machine"]


State = Sequence[Value]
Columns = list[Sequence[Value]]


@dataclass(frozen=True)
class Machine:
    """The steps of a loop: step k reads slice ``place(k)``, and follows where ``more`` says so.

    ``operands``, constants, carries and what is read slice by slice, is a list that whoever records
    the loop may put guarded copies into.
    """

    layout: Layout
    body: Program
    moving: Mask
    operands: list[Value]
    more: Callable[[int, State], bool]
    place: Callable[[int], int]
    length: int | None = None

    @property
    def at(self) -> Linearized:
        """The body, linearized in what moves in the course of the loop."""
        return linearized_program(self.body, self.moving)

    @property
    def start(self) -> State:
        return self.layout.split(self.operands)[1]

    def reading(self, state: State, step_number: int) -> list[Value]:
        """What the step at a place reads."""
        consts, _, xs = self.layout.split(self.operands)
        return [*consts, *state, *[x[step_number] for x in xs]]

    def run(self, program: Program, state: State, k: int) -> Sequence[Value]:
        step_number = self.place(k)
        return call(*self.reading(state, step_number), program=program)  # type: ignore[no-any-return]

    def advance(self, state: State, k: int, count: int, ys: Columns | None = None) -> State:
        """The state some steps after k; what the steps write goes into ``ys``."""
        for j in range(k, k + count):
            state, out = self.layout.outs(self.run(self.body, state, j))
            if ys is not None:
                ys.append(out)
        return state

    def linear(
        self, state: State, k: int, ys: Columns | None = None
    ) -> tuple[State, Sequence[Value]]:
        """The state after step k, and the step's residuals."""
        outs = self.run(self.at.primal, state, k)
        count = len(self.body.outputs)
        state, out = self.layout.outs(outs[:count])
        if ys is not None:
            ys.append(out)
        return state, outs[count:]


def scan_machine(
    values: Sequence[Value], live: Mask, *, body: Program, length: int, reverse: bool,
    consts: int, carry: int, slots: int,
) -> Machine:  # fmt: skip
    """The steps of a scan."""
    layout = Layout(consts, carry)
    return Machine(
        layout,
        body,
        carried(body, layout, live, linear_reached),
        list(values),
        more=lambda k, _: k < length,
        place=(lambda k: length - 1 - k) if reverse else (lambda k: k),
        length=length,
    )


# -------------------------------------------------------------------------------------------- tapes


Kept = tuple[bool, Sequence[Value]]
"""Of a step: whether its residuals are there, and these, or else what the step reads."""


class Tape(Protocol):
    """All steps, one at a time: their residuals, or what these are computed from."""

    def forward(self) -> Iterator[Sequence[Value]]: ...
    def backward(self) -> Iterator[Kept]: ...
    def __len__(self) -> int: ...


class Recorded:
    """Keeps the residuals of every step."""

    def __init__(self, machine: Machine, ys: Columns) -> None:
        self.kept: list[Value] = []
        self.width = len(machine.at.residuals)
        self.length = 0
        state = machine.start
        while machine.more(self.length, state):
            state, residuals = machine.linear(state, self.length, ys)
            self.kept += residuals
            self.length += 1
        self.final = state

    def forward(self) -> Iterator[Sequence[Value]]:
        return map(self.of_step, range(self.length))

    def backward(self) -> Iterator[Kept]:
        return ((True, self.of_step(k)) for k in reversed(range(self.length)))

    def of_step(self, k: int) -> Sequence[Value]:
        return self.kept[k * self.width : (k + 1) * self.width]

    def __len__(self) -> int:
        return self.length


@dataclass(frozen=True)
class Segment:
    """Steps that are still to be reversed: ``length`` of them from the state before step k on."""

    state: State
    k: int
    length: int
    slots: int


@dataclass
class Plan:
    """What the first sweep leaves for the first walk back: segments, the last step's residuals."""

    segments: list[Segment]
    last: list[Sequence[Value]]


class Schedule:
    """Keeps at most ``slots`` states, the initial one among them, and no residuals."""

    def __init__(self, machine: Machine, slots: int, ys: Columns) -> None:
        self.machine = machine
        self.slots = slots
        self.plan: Plan | None = None
        if machine.length is None:
            self.final, self.plan, self.length = self._online(ys)
        else:
            self.length = machine.length
            self.final, self.plan = self._descend(ys)

    @property
    def kept(self) -> list[Value]:
        return self.machine.operands

    def states(self) -> list[Value]:
        """The states that are kept beside the operands."""
        return [] if self.plan is None else [x for s in self.plan.segments for x in s.state]

    def _descend(self, ys: Columns | None) -> tuple[State, Plan]:
        """To the end, keeping states on the way; the last step is linearized."""
        state, k, plan = self.machine.start, 0, Plan([], [])
        length, slots = self.length, self.slots
        while length > 1:
            m = split(length, slots)
            plan.segments.append(Segment(state, k, m, slots))
            state = self.machine.advance(state, k, m, ys)
            k, length, slots = k + m, length - m, slots - 1
        if length:
            state, residuals = self.machine.linear(state, k, ys)
            plan.last.append(residuals)
        return state, plan

    def _online(self, ys: Columns) -> tuple[State, Plan, int]:
        """To an end that is not known before; and how far it was."""
        online, state, k = Online(self.slots), self.machine.start, 0
        kept = {0: state}
        while self.machine.more(k, state):
            state = self.machine.advance(state, k, 1, ys)
            k += 1
            dropped = online.drop_for(k)
            kept[k] = state
            if dropped is not None:
                del kept[dropped]
        places = sorted(i for i in kept if i < k)
        triples = enumerate(zip(places, [*places[1:], k], strict=False))
        segments = [Segment(kept[a], a, b - a, self.slots - j) for j, (a, b) in triples]
        return state, Plan(segments, []), k

    def forward(self) -> Iterator[Sequence[Value]]:
        state = self.machine.start
        for k in range(self.length):
            state, residuals = self.machine.linear(state, k)
            yield residuals

    def backward(self) -> Iterator[Kept]:
        plan, self.plan = self.plan, None  # a second walk begins again from the initial state
        if plan is None:
            plan = self._descend(None)[1]
        while plan.last:
            yield True, plan.last.pop()
        while plan.segments:
            yield from self._reversed(plan.segments.pop())

    def _reversed(self, segment: Segment) -> Iterator[Kept]:
        state, k, length, slots = segment.state, segment.k, segment.length, segment.slots
        del segment
        while length > 1:
            m = split(length, slots)
            middle = self.machine.advance(state, k, m)
            yield from self._reversed(Segment(middle, k + m, length - m, slots - 1))
            del middle
            length = m
        yield False, self.machine.reading(state, self.machine.place(k))

    def __len__(self) -> int:
        return self.length


# --------------------------------------------------------------------------------------- linear map


class Steps:
    """The linear map of a loop at values: from its live operands to its real outputs.

    ``skipped`` live operands come before those of the machine, and nothing depends on them. It is
    applied to vectors of which one at least is not zero.
    """

    def __init__(
        self, name: str, machine: Machine, live: Sequence[bool], slots: int | None, skipped: int = 0
    ) -> None:
        self.name = name
        self.machine = machine
        self.live = [i for i, wanted in enumerate(live) if wanted]
        self.skipped = skipped
        self.avals = [aval_of(v) for v in machine.operands]
        self.out_avals = machine.body.out_avals
        ys: Columns = []
        self.tape: Recorded | Schedule
        if slots is None:
            self.tape = Recorded(machine, ys)
        else:
            self.tape = Schedule(machine, slots, ys)
        self.kept = self.tape.kept
        written = self.machine.layout.outs(self.out_avals)[1]
        self.outs = (*self.tape.final, *self._stacks(ys, written))
        n = machine.layout.consts
        end = n + machine.layout.carry
        marked = [i for i, m in enumerate(machine.moving) if m]
        self.consts = [i for i in marked if i < n]
        self.carries = [i for i in marked if n <= i < end]
        self.slices = [i for i in marked if i >= end]

    @property
    def reached(self) -> list[bool]:
        """Which real outputs depend on the live operands."""
        return reached_outputs(self.machine.layout, self.machine.body, self.machine.moving)

    def _stacks(self, columns: Columns, avals: Sequence[Aval]) -> list[Value]:
        """What the steps gave, first to last, stacked at their places."""
        if not columns:
            return [np.zeros((0, *a.shape), a.dtype) for a in avals]
        order = sorted(range(len(columns)), key=self.machine.place)
        rows = [columns[k] for k in order]
        return [np.stack([row[j] for row in rows]) for j in range(len(avals))]

    def _dense(self, i: int, t: Value | None, like: Value) -> Value:
        return zeros(self.avals[i], like) if t is None else t

    def push(self, ts: Sequence[Value | None], strict: bool = False) -> list[Value | None]:
        inexact = [j for j, a in enumerate(self.out_avals) if a.inexact]
        some = next(t for t in ts if t is not None)
        machine = self.machine
        given = dict(zip(self.live, ts[self.skipped :], strict=True))
        fixed = [self._dense(i, given.get(i), some) for i in self.consts]
        state = [self._dense(i, given.get(i), some) for i in self.carries]
        slices = [self._dense(i, given.get(i), some) for i in self.slices]
        marks = numbered(machine.at.reached)
        count, n = machine.layout.carry, machine.layout.consts
        written = [j for j in inexact if j >= count and marks[j] is not None]
        tangent = plain_program(machine.at.tangent) if strict else machine.at.tangent
        columns: Columns = []
        for k, residuals in enumerate(self.tape.forward()):
            step_number = machine.place(k)
            slices_here = [t[step_number] for t in slices]
            outs = call(*residuals, *fixed, *state, *slices_here, program=tangent)
            places = [marks[c - n] for c in self.carries]
            state = [
                self._dense(c, None if p is None else outs[p], some)
                for c, p in zip(self.carries, places, strict=True)
            ]
            columns.append([outs[marks[j]] for j in written])
        found: dict[int, Value] = {c - n: t for c, t in zip(self.carries, state, strict=True)}
        stacks = self._stacks(columns, [self.out_avals[j] for j in written])
        found.update(zip(written, stacks, strict=True))
        return [found.get(j) for j in inexact]

    def pull(self, cts: Sequence[Value | None], strict: bool = False) -> list[Value | None]:
        some = next(c for c in cts if c is not None)
        back = Backward(self, cts, some, strict)
        k = len(self.tape)
        for kept in self.tape.backward():
            k -= 1
            back.step(k, kept)
        return [*[None] * self.skipped, *map(back.total, self.live)]

    def residuals(self) -> list[Residual]:
        kept = list(self.kept)
        if isinstance(self.tape, Schedule):
            own = {id(x): x for x in [*kept, *self.tape.states()]}
            kept = list(own.values())
        return [Residual(self.name, v, None) for v in kept if hasattr(v, "dtype")]


class Backward:
    """Cotangents on their way from the last step to the first."""

    def __init__(
        self, steps: Steps, cts: Sequence[Value | None], some: Value, strict: bool
    ) -> None:
        self.steps = steps
        self.some = some
        machine = steps.machine
        count, n = machine.layout.carry, machine.layout.consts
        inexact = [j for j, a in enumerate(steps.out_avals) if a.inexact]
        arrived = dict(zip(inexact, cts, strict=True))
        self.state = {i: steps._dense(i, arrived.get(i - n), some) for i in steps.carries}
        self.written = {j: ct for j, ct in arrived.items() if j >= count and ct is not None}
        reached = machine.at.reached
        self.carried = [i for i in steps.carries if reached[i - n]]
        self.slices = [j for j in range(count, len(reached)) if reached[j]]
        self.names: list[int] = []
        if any(reached):
            back, found = transposed_program(machine.at.tangent, (True,) * sum(reached))
            back = plain_program(back) if strict else back
            self.back = {True: back, False: recomputing(machine.at, back)}
            marked = [*steps.consts, *steps.carries, *steps.slices]
            self.names = [i for i, f in zip(marked, found, strict=True) if f]
        self.read = [x for x in steps.slices if x in self.names]
        self.sums: dict[int, Value] = {}
        self.columns: Columns = []

    def step(self, k: int, kept: Kept) -> None:
        """Pull back through step k."""
        steps, pulled = self.steps, {}
        linearized, values = kept
        step_number = steps.machine.place(k)
        if self.names:
            outs = call(*values, *self._vectors(step_number), program=self.back[linearized])
            pulled = dict(zip(self.names, outs, strict=True))
        self.state = {c: steps._dense(c, pulled.get(c), self.some) for c in steps.carries}
        for c in steps.consts:
            if c in pulled:
                self.sums[c] = self.sums[c] + pulled[c] if c in self.sums else pulled[c]
        self.columns.append([pulled[x] for x in self.read])

    def _vectors(self, i: int) -> list[Value]:
        avals = self.steps.out_avals
        slices = [
            self.written[j][i] if j in self.written else zeros(avals[j], self.some)
            for j in self.slices
        ]
        return [*[self.state[c] for c in self.carried], *slices]

    def total(self, i: int) -> Value:
        """The cotangent of an operand."""
        if i in self.state:
            return self.state[i]
        if i in self.sums:
            return self.sums[i]
        if i in self.read and self.columns:
            j = self.read.index(i)
            rows = {self.steps.machine.place(k): row[j] for k, row in self._numbered()}
            return np.stack([rows[p] for p in sorted(rows)])
        return zeros(self.steps.avals[i], self.some)

    def _numbered(self) -> Iterator[tuple[int, Sequence[Value]]]:
        """Columns with the numbers of their steps, of which the last came first."""
        return zip(range(len(self.columns) - 1, -1, -1), self.columns, strict=True)


def recomputing(at: Linearized, back: Program) -> Program:
    """``back`` from what a step reads instead of its residuals: the step's gradient, as one."""

    def make() -> Program:
        count = len(at.reached)
        primal = at.primal
        return chained(Program(primal.inputs, primal.equations, primal.outputs[count:]), back)

    made: Program = back.cached("recomputing", make)
    return made
