"""Programs made from a program: linearized, pushed forward, transposed, mapped.

Nothing here knows a primitive. A program is run on tracers over staged values, so whatever a
transform does to a function it does to a program, and the result is a program again. Each is made
once and kept with the program it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from vjpkit.backends import AS_IT_STANDS, Executable, executable
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import ClosedTraceError, Position, Source, at, calling_position
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, live_equations, subprograms
from vjpkit.core.primitive import lookup
from vjpkit.core.rows import Row, Rows, filled_like, new_slots, roles
from vjpkit.core.staging import Builder, ClosedProgram, Staged, transpose_into, unbound
from vjpkit.core.tracer import Tracer
from vjpkit.ops.collective import Collective
from vjpkit.ops.index import Index
from vjpkit.ops.indexing import getitem
from vjpkit.ops.structural import Array, constant
from vjpkit.passes import optimize
from vjpkit.transforms.batch import Batched, Batches, is_called
from vjpkit.transforms.forward import Dual, Duals
from vjpkit.transforms.series import Expansion, Series, Terms

__all__ = [
    "Linearized",
    "Mask",
    "apart",
    "apart_from_terms",
    "built",
    "combines",
    "dependent",
    "eager_form",
    "has_derivatives",
    "jvp_program",
    "linearized_program",
    "mapped_program",
    "numbered",
    "of_examples",
    "plain_param",
    "plain_program",
    "rearranged",
    "run_staged",
    "series_program",
    "split_program",
    "standing_in",
    "transposed_program",
    "unified",
    "with_terms",
    "without_effects",
    "zero_program",
]

Mask = tuple[bool, ...]
T = TypeVar("T")


def kept(program: Program, key: Any, make: Callable[[], T]) -> T:
    """What is made from a program and a key, made once."""
    found: T = program.cached(key, make)
    return found


def run_staged(
    builder: Builder,
    program: Program,
    values: Sequence[Value],
    after: Callable[[Any], None] = lambda _: None,
) -> list[Value]:
    """The outputs of a program on tracers over ``builder``, whose equations carry its lines.

    ``after`` is told the line of each equation once its primitive has run.
    """
    env: dict[Var, Value] = dict(zip(program.inputs, values, strict=True))

    def read(a: Atom) -> Value:
        return a.value if isinstance(a, Literal) else env[a]

    outer = builder.here
    for eqn in program.equations:
        builder.here = position_of(eqn) or outer
        if eqn.inputs:
            out = eqn.primitive(*[read(a) for a in eqn.inputs], **eqn.params)
        else:  # made where it is needed, not captured
            out = builder.process(eqn.primitive, (), dict(eqn.params))
        env.update(zip(eqn.outputs, eqn.primitive.unpack(out), strict=True))
        after(builder.here)
    builder.here = outer
    return [read(a) for a in program.outputs]


def position_of(eqn: Equation) -> Any:
    """The line of an equation, where it is known."""
    position: Position | Source | None = eqn.position
    unknown = isinstance(position, tuple) and position[0] is None
    return None if unknown else position


def with_constants(closed: ClosedProgram) -> Program:
    """A program that brings the arrays it captured along; rules make few, and small ones.

    Values of a program around it stay its leading inputs. A value of another trace is refused: a
    rule closes over it, and the program would outlive the trace.
    """
    program = closed.program
    pairs = list(zip(program.inputs, closed.captured, strict=False))
    outer = [var for var, c in pairs if type(c.value) is Staged]
    own = [(var, c.value) for var, c in pairs if type(c.value) is not Staged]
    if any(isinstance(x, Tracer) for _, x in own):
        raise ClosedTraceError(
            "a rule that is part of a program closes over a traced value"
            f"{at(calling_position())}.\nIt says nothing about the derivative in that value: pass "
            "the value as an argument, or hoist it with vk.closure_convert."
        )
    made = [Equation(constant, (), {"value": Array(x)}, (var,)) for var, x in own]
    inputs = [*outer, *program.inputs[len(pairs) :]]
    return Program(inputs, [*made, *program.equations], program.outputs, program.linear)


def built(
    avals: Sequence[Aval], run: Callable[[Builder, list[Staged]], Sequence[Value]], linear: int = 0
) -> Program:
    """The program of what ``run`` does with a builder and its arguments."""
    builder = Builder()
    return with_constants(builder.finish(run(builder, arguments(builder, avals)), linear))


def arguments(builder: Builder, avals: Sequence[Aval]) -> list[Staged]:
    return [builder.argument(aval) for aval in avals]


@dataclass(frozen=True)
class Linearized:
    """A program split at a point: what computes it, and what is linear there.

    ``primal`` gives the outputs and then the residuals; ``tangent`` takes residuals and tangents of
    the live inputs, in which it is linear, and gives tangents of the outputs that ``reached``
    marks.
    """

    primal: Program
    tangent: Program
    reached: Mask

    @property
    def residuals(self) -> tuple[Aval, ...]:
        """What the tangent program takes of the primal one."""
        return self.primal.out_avals[len(self.reached) :]


def linearized_program(program: Program, live: Mask) -> Linearized:
    """A program linearized in the inputs that ``live`` marks."""
    return kept(program, ("linearized", live), lambda: _linearize(program, live))


def _linearize(program: Program, live: Mask) -> Linearized:
    """What the passes leave of the program is linearized: fewer rows, fewer residuals."""
    program = optimize(program)
    outer = Builder()
    trace = Rows("linearization")
    values: list[Value] = [
        trace.argument(x) if wanted else x
        for x, wanted in zip(arguments(outer, program.in_avals), live, strict=True)
    ]
    slots = [x.slot for x, wanted in zip(values, live, strict=True) if wanted]
    lines: list[Any] = []

    def after(line: Any) -> None:
        lines.extend([line] * (len(trace.rows) - len(lines)))

    outs = run_staged(outer, program, values, after)
    out_slots = [trace.slot_of(y) for y in outs]
    primals = [trace.lower(y) for y in outs]
    rows = trace.close()
    inner = Builder()
    ts = new_slots(trace.new())
    avals = [aval.strong() for aval, wanted in zip(program.in_avals, live, strict=True) if wanted]
    for slot, t in zip(slots, arguments(inner, avals), strict=True):
        ts[slot] = t
    for row, line in zip(rows, lines, strict=True):
        inner.here = outer.here = line
        row[0].push(row, ts)
    tangents = [None if k is None else ts[k] for k in out_slots]
    reached = tuple([t is not None for t in tangents])
    inner.here = outer.here = None
    tangent = inner.finish([t for t in tangents if t is not None], linear=len(avals))
    residuals = [c.value for c in tangent.captured if type(c.value) is Staged]
    primal = outer.finish([*primals, *residuals])
    return Linearized(with_constants(primal), with_constants(tangent), reached)


def transposed_program(program: Program, given: Mask) -> tuple[Program, Mask]:
    """The transpose in the linear inputs of the outputs that ``given`` marks.

    Takes the other inputs and these cotangents; gives cotangents of the linear inputs that the
    mask, which comes with it, marks.
    """
    return kept(program, ("transposed", given), lambda: _transpose(program, given))


def _transpose(program: Program, given: Mask) -> tuple[Program, Mask]:
    builder = Builder()
    split = len(program.inputs) - program.linear
    fixed = arguments(builder, program.in_avals[:split])
    cts = [
        builder.argument(a.aval.strong()) if wanted else None
        for a, wanted in zip(program.outputs, given, strict=True)
    ]

    def push(*ts: Value) -> list[Value]:
        rows: list[Row] = ts[0].owner.rows if ts else []
        done = 0

        def after(line: Any) -> None:
            nonlocal done
            if isinstance(line, tuple):
                rows[done:] = [(*row[:2], *line, *row[4:]) for row in rows[done:]]
            done = len(rows)

        return run_staged(builder, program, [*fixed, *ts], after)

    pulled = transpose_into(builder, push, program.in_avals[split:], cts)
    some = [c for c in pulled if c is not None]
    made = with_constants(builder.finish(some, linear=sum(given), effects=False))
    assert unbound(made) is None, f"{unbound(made)!r} is not linear"
    return made, tuple([c is not None for c in pulled])


def jvp_program(program: Program, live: Mask) -> tuple[Program, Mask]:
    """Outputs, then tangents of the reached ones, from inputs and tangents of the live ones."""
    return kept(program, ("jvp", live), lambda: _jvp(program, live))


def _jvp(program: Program, live: Mask) -> tuple[Program, Mask]:
    builder = Builder()
    trace = Duals("jvp")
    xs = arguments(builder, program.in_avals)
    avals = [aval.strong() for aval, wanted in zip(program.in_avals, live, strict=True) if wanted]
    ts = iter(arguments(builder, avals))
    values = [Dual(x, trace, next(ts)) if wanted else x for x, wanted in zip(xs, live, strict=True)]
    pairs = [trace.split(y) for y in run_staged(builder, program, values)]
    reached = tuple([t is not None for _, t in pairs])
    tangents = [t for _, t in pairs if t is not None]
    return with_constants(builder.finish([*[y for y, _ in pairs], *tangents])), reached


def mapped_program(
    program: Program, n: int, batched: Mask, dense: Mask | None = None
) -> tuple[Program, Mask]:
    """A program over a leading axis of length n of the inputs that ``batched`` marks.

    The mask that comes with it marks the outputs that have the axis, those of ``dense`` among them.
    """
    key = ("mapped", n, getattr(n, "name", None), batched, dense)
    return kept(program, key, lambda: _map(program, n, batched, dense))


roles["mapped"] = mapped_program


def _map(program: Program, n: int, batched: Mask, dense: Mask | None) -> tuple[Program, Mask]:
    builder = Builder()
    trace = Batches(n)
    values: list[Value] = []
    for aval, wanted in zip(program.in_avals, batched, strict=True):
        full = Aval((n, *aval.shape), aval.dtype) if wanted else aval
        x = builder.argument(full)
        values.append(Batched(x, trace) if wanted else x)
    outs = run_staged(builder, program, values)
    mine = [isinstance(y, Batched) and y.owner is trace for y in outs]
    every = tuple([m or d for m, d in zip(mine, dense or mine, strict=True)])

    def given(y: Value, whole: bool) -> Value:
        if whole and not isinstance(y, Tracer):
            return roles["fill"](builder, (n,), y, aval_of(y).dtype)
        return trace.dense(y) if whole else y

    outputs = [given(y, whole) for y, whole in zip(outs, every, strict=True)]
    return with_constants(builder.finish(outputs)), every


def zero_program(program: Program) -> Program:
    """A program of the same inputs and outputs that gives zeros and does nothing else."""

    def run(builder: Builder, _: Sequence[Value]) -> list[Value]:
        return [zeros_in(builder, a) for a in program.out_avals]

    return kept(program, "zero", lambda: built(program.in_avals, run))


_ONE = Index((Index.ARRAY,))


def standing_in(mine: Value, values: Sequence[Value], batched: Sequence[bool]) -> list[Value]:
    """Values of examples, in which the first of ``mine`` stands for those that are none of these.

    A program for ``mine`` alone can then be run for all examples at once.
    """
    if not aval_of(mine).size:
        return list(values)
    first = np.argmax(mine)
    pairs = zip(values, batched, strict=True)
    return [of_examples(mine, x, getitem(x, first, index=_ONE)) if b else x for x, b in pairs]


def combines(program: Program, n: int) -> bool:
    """Whether examples of an axis of length n are combined: then none can stand for another."""
    return any(
        isinstance(eqn.primitive, Collective) and is_called(n, eqn.params["axis"])
        for eqn in program.equations
    ) or any(combines(inner, n) for inner in subprograms(program))


def of_examples(mine: Value, x: Value, other: Value) -> Value:
    """``x`` for the examples that ``mine`` marks, ``other`` for the rest."""
    return np.where(np.reshape(mine, (-1, *[1] * (aval_of(x).ndim - 1))), x, other)


def series_program(
    program: Program, moving: Mask, order: int, dense: Mask | None = None
) -> tuple[Program, Mask]:
    """A program on power series: after each input that ``moving`` marks come its terms.

    The mask that comes with it marks the outputs that are followed by terms, those of ``dense``
    among them.
    """
    key = ("series", moving, order, dense)
    return kept(program, key, lambda: _expand(program, moving, order, dense))


def _expand(program: Program, moving: Mask, order: int, dense: Mask | None) -> tuple[Program, Mask]:
    builder = Builder()
    trace = Expansion(order)
    values: list[Value] = []
    for aval, wanted in zip(program.in_avals, moving, strict=True):
        x = builder.argument(aval)
        moved = arguments(builder, [aval.strong()] * order) if wanted else []
        values.append(Series(x, trace, tuple(moved)) if wanted else x)
    pairs = [trace.split(y) for y in run_staged(builder, program, values)]
    found = [terms is not None for _, terms in pairs]
    reached = tuple([f or d for f, d in zip(found, dense or found, strict=True)])
    outputs: list[Value] = []
    for (y, terms), a, wanted in zip(pairs, program.out_avals, reached, strict=True):
        zero = zeros_in(builder, a) if wanted else None
        filled = [zero if t is None else t for t in terms or (None,) * order]
        outputs += [y, *filled] if wanted else [y]
    return with_constants(builder.finish(outputs)), reached


def with_terms(
    values: Sequence[Value], series: Sequence[Terms | None], moving: Mask, order: int
) -> list[Value]:
    """Operands of a program on power series."""
    flat: list[Value] = []
    for x, terms, wanted in zip(values, series, moving, strict=True):
        flat.append(x)
        if wanted:
            flat += [filled_like(x, 0) if t is None else t for t in terms or (None,) * order]
    return flat


def apart_from_terms(
    flat: Sequence[Value], reached: Mask, order: int
) -> tuple[tuple[Value, ...], list[Terms | None]]:
    """Outputs of a program on power series, and their terms."""
    rest = iter(flat)
    outs: list[Value] = []
    series: list[Terms | None] = []
    for wanted in reached:
        outs.append(next(rest))
        series.append(tuple([next(rest) for _ in range(order)]) if wanted else None)
    return tuple(outs), series


Outputs = Sequence[int | Aval]
"""Results by number, or zeros of an aval."""


def rearranged(
    program: Program,
    avals: Sequence[Aval],
    places: Sequence[int],
    outputs: Outputs,
    linear: int = 0,
) -> Program:
    """A program with other inputs, of which it reads those at ``places``, and other outputs."""
    key = ("rearranged", tuple(avals), tuple(places), tuple(outputs), linear)
    return kept(program, key, lambda: _rearrange(program, avals, places, outputs, linear))


def _rearrange(
    program: Program, avals: Sequence[Aval], places: Sequence[int], outputs: Outputs, linear: int
) -> Program:
    """The same equations between other inputs and outputs, and zeros where they are wanted."""
    given = dict(zip(places, program.inputs, strict=True))
    assert len(given) == len(places)
    assert all(avals[i] == v.aval for i, v in given.items())
    absent = built(
        (), lambda builder, _: [zeros_in(builder, o) for o in outputs if isinstance(o, Aval)]
    )
    zeros = iter(absent.outputs)
    atoms = [program.outputs[o] if isinstance(o, int) else next(zeros) for o in outputs]
    equations, _ = live_equations([*absent.equations, *program.equations], atoms, effects=True)
    inputs = [given.get(i) or Var(aval) for i, aval in enumerate(avals)]
    return Program(inputs, equations, atoms, linear)


def zeros_in(builder: Builder, aval: Aval) -> Value:
    """Zeros as a value of the program that is being written."""
    return roles["fill"](builder, aval.shape, 0, aval.dtype)


def unified(
    parts: Sequence[tuple[Program, Mask]], avals: Sequence[Aval]
) -> tuple[tuple[Program, ...], Mask]:
    """Programs that give those of several results that their masks mark: all give the same ones.

    ``avals`` are those of all results; what a program did not give is zero.
    """
    union = tuple([any(marks) for marks in zip(*[mask for _, mask in parts], strict=True)])

    def filled(program: Program, mask: Mask) -> Program:
        triples = zip(numbered(mask), avals, union, strict=True)
        outputs = [aval if place is None else place for place, aval, wanted in triples if wanted]
        places = range(len(program.inputs))
        return rearranged(program, program.in_avals, places, outputs, program.linear)

    return tuple([filled(program, mask) for program, mask in parts]), union


def numbered(mask: Sequence[bool]) -> list[int | None]:
    """The place of each marked entry among the marked ones.

    >>> numbered([True, False, True])
    [0, None, 1]
    """
    count = iter(range(len(mask)))
    return [next(count) if wanted else None for wanted in mask]


def plain_program(program: Program) -> Program:
    """A program with plain products instead of those in which an exact zero wins."""
    return kept(program, "plain", lambda: _plain(program))


def _plain(program: Program) -> Program:
    plainly = {
        "scale": "multiply", "scale_divide": "divide",
        "scale_matmul": "matmul", "scale_contract": "contract",
    }  # fmt: skip

    def plain(eqn: Equation) -> Equation:
        primitive = lookup(plainly.get(eqn.primitive.name, eqn.primitive.name))
        params = {name: plain_param(value) for name, value in eqn.params.items()}
        if primitive.name in ("push", "pull"):  # derivatives that are taken when they run
            params["strict"] = True
        return Equation(primitive, eqn.inputs, params, eqn.outputs, eqn.position)

    equations = [plain(eqn) for eqn in program.equations]
    return Program(program.inputs, equations, program.outputs, program.linear)


def plain_param(value: Any) -> Any:
    """A parameter with plain products in the programs that it holds."""
    if isinstance(value, tuple):
        return tuple(map(plain_param, value))
    return plain_program(value) if isinstance(value, Program) else value


def has_derivatives(program: Program) -> bool:
    """Whether a program holds ``scale``, the product of derivatives, or takes them as it runs."""
    return holds(program, ("scale", "scale_divide", "push", "pull"))


def holds(program: Program, names: tuple[str, ...]) -> bool:
    """Whether some equation of a program, or of those in it, is of one of these primitives."""

    def make() -> tuple[bool]:
        own = any(eqn.primitive.name in names for eqn in program.equations)
        return (own or any(holds(inner, names) for inner in subprograms(program)),)

    return kept(program, ("holds", names), make)[0]


def eager_form(program: Program) -> Executable:
    """What runs the body of a loop or a branch in eager mode.

    As it stands, with the bits of the operations that it was staged from; optimised where it is a
    derivative, which gains more than that takes, and where the user has asked for `jit` inside.
    """
    return executable(
        program, "numpy" if holds(program, ("scale", "scale_divide", "call")) else AS_IT_STANDS
    )


def without_effects(program: Program) -> Program:
    """A program that prints nothing: for runs beside the one that the user has asked for."""
    if not any(eqn.effect for eqn in program.equations):
        return program
    return kept(program, "without effects", lambda: _silent(program))


def _silent(program: Program) -> Program:
    equations = [
        Equation(e.primitive, e.inputs, {k: _silent_param(v) for k, v in e.params.items()},
                 e.outputs, e.position)
        for e in program.equations if not e.primitive.effect
    ]  # fmt: skip
    return Program(program.inputs, equations, program.outputs, program.linear)


def _silent_param(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_silent_param, value))
    return without_effects(value) if isinstance(value, Program) else value


def dependent(program: Program, live: Sequence[bool]) -> Mask:
    """Which outputs depend on the inputs that ``live`` marks."""
    reached: set[Atom] = {v for v, wanted in zip(program.inputs, live, strict=True) if wanted}
    for eqn in program.equations:
        if not reached.isdisjoint(eqn.inputs):
            reached.update(eqn.outputs)
    return tuple([a in reached for a in program.outputs])


def apart(program: Program, live: Sequence[bool], outputs: Sequence[int]) -> Program | None:
    """Some outputs from the inputs that ``live`` does not mark; None if they depend on others.

    Of a program that is affine in the live inputs no residual depends on them: computed apart,
    these may stay open, as a transposition leaves them.
    """
    marks = dependent(program, live)
    if any(marks[i] for i in outputs):
        return None
    atoms = [program.outputs[i] for i in outputs]
    equations, _ = live_equations(program.equations, atoms)
    inputs = [v for v, wanted in zip(program.inputs, live, strict=True) if not wanted]
    return Program(inputs, equations, atoms)


def split_program(program: Program, fixed: Mask) -> tuple[Program, Program, tuple[Aval, ...]]:
    """What of a program depends on ``fixed`` inputs alone, and the rest.

    The first takes the fixed inputs and gives values that the second takes after all inputs; each
    of them computes what it gives.
    """
    return kept(program, ("split", fixed), lambda: _split(program, fixed))


def _split(program: Program, fixed: Mask) -> tuple[Program, Program, tuple[Aval, ...]]:
    inputs = [v for v, known in zip(program.inputs, fixed, strict=True) if known]
    known: set[Atom] = set(inputs)
    early: list[Equation] = []
    late: list[Equation] = []
    for eqn in program.equations:
        if all(isinstance(a, Literal) or a in known for a in eqn.inputs) and eqn.inputs:
            early.append(eqn)
            known.update(eqn.outputs)
        else:
            late.append(eqn)
    made = {v for eqn in early for v in eqn.outputs}
    read = [a for eqn in late for a in eqn.inputs] + list(program.outputs)
    handed = [v for v in dict.fromkeys(a for a in read if isinstance(a, Var)) if v in made]
    first = Program(inputs, early, handed)
    second = Program([*program.inputs, *handed], late, program.outputs)
    return first, second, tuple([v.aval for v in handed])
