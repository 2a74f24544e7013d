"""Invariants of loops: what a step computes from the loop's constants alone, computed once."""

from __future__ import annotations

from collections.abc import Sequence

from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, used
from vjpkit.passes.inlining import with_calls_inlined
from vjpkit.passes.rewriting import Rewriter

__all__ = ["VIEWS", "is_ours", "with_invariants_outside"]

VIEWS = frozenset({"reshape", "transpose", "getitem", "broadcast_to", "fill", "eye"})
"""Primitives that cost a step nothing, beside a constant more that it would have to be handed."""


def with_invariants_outside(program: Program) -> Program:
    """Equations of a step that read constants alone stand before the loop.

    What a step computes from values around the loop is staged there in the first place: these are
    equations of programs that it calls, and of derivatives. Law: equal outputs, to the bit. Only of
    loops that make at least one step.
    """
    if not any(map(_is_loop, program.equations)):
        return program
    new = Rewriter(program)
    for old in program.equations:
        eqn = new.read(old)
        if _is_loop(eqn):
            body = with_calls_inlined(eqn.params["body"])
            moved = _moved(body, eqn.params["consts"])
            eqn = _without(new, eqn, body, moved) if moved else eqn
        new.keep(eqn)
    return new.finish()


def _is_loop(eqn: Equation) -> bool:
    return eqn.primitive.name == "scan" and bool(eqn.params["length"])


def _moved(body: Program, consts: int) -> list[Equation]:
    """The equations that depend on constants alone, if more than views are among them."""
    known = set(body.inputs[:consts])
    moved = []
    for eqn in body.equations:
        reads = used(eqn.inputs)
        if reads and known.issuperset(reads) and is_ours(eqn):
            moved.append(eqn)
            known.update(eqn.outputs)
    while moved and moved[-1].primitive.name in VIEWS:
        moved.pop()
    return moved


def is_ours(eqn: Equation) -> bool:
    """Whether nobody sees how often it is computed: a user's function may count its calls."""
    home = type(eqn.primitive).__module__
    return home.startswith("vjpkit.ops.") and not eqn.primitive.effect


def _without(new: Rewriter, loop: Equation, body: Program, moved: Sequence[Equation]) -> Equation:
    """The loop without these equations, which ``new`` gets; their results are constants of it."""
    consts = loop.params["consts"]
    outside: dict[Atom, Atom] = dict(zip(body.inputs[:consts], loop.inputs[:consts], strict=True))
    for eqn in moved:
        inputs = tuple([a if isinstance(a, Literal) else outside[a] for a in eqn.inputs])
        outputs = tuple([Var(v.aval) for v in eqn.outputs])
        new.keep(Equation(eqn.primitive, inputs, eqn.params, outputs, eqn.position))
        outside.update(zip(eqn.outputs, outputs, strict=True))
    gone = set(moved)
    rest = [eqn for eqn in body.equations if eqn not in gone]
    read = {a for eqn in rest for a in used(eqn.inputs)} | set(used(body.outputs))
    added = [v for eqn in moved for v in eqn.outputs if v in read]
    step = Program([*body.inputs[:consts], *added, *body.inputs[consts:]], rest, body.outputs)
    operands = (*loop.inputs[:consts], *[outside[v] for v in added], *loop.inputs[consts:])
    params = {**loop.params, "body": step, "consts": consts + len(added)}
    return Equation(loop.primitive, operands, params, loop.outputs, loop.position)
