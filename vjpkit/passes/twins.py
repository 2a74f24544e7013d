"""States of a loop that are always equal: one of them is enough."""

from __future__ import annotations

from collections.abc import Sequence

from vjpkit.core.ir import Atom, Equation, Program, Var
from vjpkit.passes.common import without_repetition
from vjpkit.passes.inlining import with_calls_inlined
from vjpkit.passes.rewriting import Rewriter

__all__ = ["without_twin_states"]


def without_twin_states(program: Program) -> Program:
    """Loops carry once what begins as the same value and becomes the same value in each step.

    The cotangents of terms that a step adds up are of this kind. Law: equal outputs, to the bit.
    """
    if not any(eqn.primitive.name == "scan" for eqn in program.equations):
        return program
    new = Rewriter(program)
    for old in program.equations:
        eqn = new.read(old)
        twins = _twins(eqn) if eqn.primitive.name == "scan" else None
        if not twins:
            new.keep(eqn)
            continue
        new.keep(_with_one(eqn, twins))
        for late, early in twins.items():
            new.replace_one(eqn.outputs[late], eqn.outputs[early])
    return new.finish() if new.stands_for else program


def _twins(eqn: Equation) -> dict[int, int]:
    """The states that equal an earlier one, and which."""
    params = eqn.params
    first, carry = params["consts"], params["carry"]
    starts = eqn.inputs[first : first + carry]
    if params.get("slots") is not None or params["body"].linear or len({*starts}) == carry:
        return {}
    ends = _short(params["body"]).outputs[:carry]
    found: dict[tuple[Atom, Atom], int] = {}
    earlier = [found.setdefault(pair, j) for j, pair in enumerate(zip(starts, ends, strict=True))]
    return {j: i for j, i in enumerate(earlier) if i != j and _alike(eqn, i, j)}


def _alike(eqn: Equation, i: int, j: int) -> bool:
    return eqn.outputs[i].aval == eqn.outputs[j].aval


def _short(body: Program) -> Program:
    return without_repetition(with_calls_inlined(body))


def _with_one(eqn: Equation, twins: dict[int, int]) -> Equation:
    """The loop that carries one of each pair of twins."""
    params, body = eqn.params, _short(eqn.params["body"])
    first, carry = params["consts"], params["carry"]
    states = body.inputs[first : first + carry]
    new = Rewriter(body)
    for late, early in twins.items():
        new.replace_one(states[late], states[early])
    for inner in body.equations:
        new.keep(new.read(inner))
    kept: Sequence[Var] = [v for j, v in enumerate(body.inputs) if j - first not in twins]
    outputs = [new.atom(a) for j, a in enumerate(body.outputs) if j not in twins]
    step = Program(kept, new.equations, outputs)
    inputs = tuple([a for j, a in enumerate(eqn.inputs) if j - first not in twins])
    left = tuple([v for j, v in enumerate(eqn.outputs) if j not in twins])
    params = {**params, "body": step, "carry": carry - len(twins)}
    return Equation(eqn.primitive, inputs, params, left, eqn.position)
