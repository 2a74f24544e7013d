"""Idle states: what loops carry from step to step although nobody reads it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any

from vjpkit.core.ir import Atom, Equation, Program, Var, live_equations, used

__all__ = ["without_idle_states"]

Mask = list[bool]


def without_idle_states(program: Program) -> Program:
    """Loops carry, stack and read only what their live results, or their conditions, depend on.

    A gradient in some operands leaves states behind that lead to nothing, and whoever counts the
    steps of a loop wants nothing else of it. Law: equal outputs, to the bit. An error that only an
    idle state would raise is not raised.
    """
    if not any(eqn.primitive.name in RULES for eqn in program.equations):
        return program
    live = set(used(program.outputs))
    equations, changed = list[Equation](), False
    for old in reversed(program.equations):
        eqn = old
        if old.primitive.name in RULES and not live.isdisjoint(old.outputs):
            eqn = RULES[old.primitive.name](old, [v in live for v in old.outputs])
            changed |= eqn is not old
        equations.append(eqn)
        live.update(used(eqn.inputs))
    if not changed:
        return program
    return Program(program.inputs, equations[::-1], program.outputs, program.linear)


def read_by(program: Program, outputs: Sequence[bool]) -> Mask:
    """Which inputs some outputs depend on, or equations with effects."""
    made = restricted(program, [True] * len(program.inputs), outputs)
    read = {v for eqn in made.equations for v in used(eqn.inputs)} | set(used(made.outputs))
    return [v in read for v in program.inputs]


def restricted(program: Program, inputs: Sequence[bool], outputs: Sequence[bool]) -> Program:
    """The program with some of its inputs and outputs, and what these need."""
    wanted: list[Atom] = [*compress(program.outputs, outputs)]
    equations, _ = live_equations(program.equations, wanted, effects=True)
    made = Program([*compress(program.inputs, inputs)], equations, wanted)
    return without_idle_states(made)


def scanned(eqn: Equation, live: Mask) -> Equation:
    """A loop of known length with what its live results need."""
    params: Any = eqn.params
    body: Program = params["body"]
    if params.get("slots") is not None or body.linear:
        return eqn
    consts, carry = params["consts"], params["carry"]
    while True:
        reads = read_by(body, live)
        states = reads[consts : consts + carry]
        wider = [a or b for a, b in zip(live[:carry], states, strict=True)]
        if wider == live[:carry]:
            break
        live = [*wider, *live[carry:]]
    inputs = [*reads[:consts], *live[:carry], *reads[consts + carry :]]
    if all(inputs) and all(live):
        return eqn
    step = restricted(body, inputs, live)
    return narrowed(
        eqn, inputs, live, body=step, consts=sum(reads[:consts]), carry=sum(live[:carry])
    )


def repeated(eqn: Equation, live: Mask) -> Equation:
    """A loop of unknown length with what its live results, and its condition, need."""
    params: Any = eqn.params
    body, cond = params["body"], params["cond"]
    if params.get("slots") is not None or body.linear:
        return eqn
    fixed, consts = params["cond_consts"], params["body_consts"]
    asked = read_by(cond, [True])
    live = [a or b for a, b in zip(live, asked[fixed:], strict=True)]
    while True:
        reads = read_by(body, live)
        wider = [a or b for a, b in zip(live, reads[consts:], strict=True)]
        if wider == live:
            break
        live = wider
    inputs = [*asked[:fixed], *reads[:consts], *live]
    if all(inputs):
        return eqn
    return narrowed(
        eqn, inputs, live, cond=restricted(cond, [*asked[:fixed], *live], [True]),
        body=restricted(body, [*reads[:consts], *live], live),
        cond_consts=sum(asked[:fixed]), body_consts=sum(reads[:consts]),
    )  # fmt: skip


def narrowed(eqn: Equation, inputs: Mask, outputs: Mask, **params: Any) -> Equation:
    """An equation with some of its operands and results, and other parameters."""
    left: tuple[Var, ...] = tuple(compress(eqn.outputs, outputs))
    given = tuple(compress(eqn.inputs, inputs))
    return Equation(eqn.primitive, given, {**eqn.params, **params}, left, eqn.position)


RULES = {"scan": scanned, "while": repeated}
