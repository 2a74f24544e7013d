"""`call`: a program as one equation, what `jit` records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vjpkit.backends import executable
from vjpkit.control.higher import Form, Linearization, Programmatic, expanded
from vjpkit.control.programs import (
    apart,
    jvp_program,
    linearized_program,
    mapped_program,
    numbered,
    plain_program,
    transposed_program,
)
from vjpkit.core.aval import Aval, Value
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, nonlinear_equation
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.staging import stage
from vjpkit.transforms.series import Terms

__all__ = ["call", "chained", "flattened", "is_linear_in", "vectors"]


def linear_last(program: Program, live: Sequence[bool]) -> Program:
    """The program with the inputs that ``live`` marks last, and marked as linear."""
    key = ("linear last", tuple(live))

    def make() -> Program:
        fixed = [v for v, wanted in zip(program.inputs, live, strict=True) if not wanted]
        moved = [v for v, wanted in zip(program.inputs, live, strict=True) if wanted]
        return Program([*fixed, *moved], program.equations, program.outputs, len(moved))

    made: Program = program.cached(key, make)
    return made


def is_linear_in(program: Program, live: Sequence[bool], zeros: Sequence[bool]) -> bool:
    """Whether every output is linear in the inputs that ``live`` marks, where ``zeros`` are 0."""

    def make() -> tuple[bool]:
        known = [v for v, zero in zip(program.inputs, zeros, strict=True) if zero]
        return (nonlinear_equation(linear_last(program, live), known) is None,)

    answer: tuple[bool] = program.cached(("is linear", tuple(live), tuple(zeros)), make)
    return answer[0]


def vectors(count: int) -> list[int]:
    """The first vectors as operands of a form."""
    return [~j for j in range(count)]


class Call(Programmatic):
    """A program as one equation."""

    exempt = {"dtypes": "a program is made for operands of its own avals"}

    @staticmethod
    def impl(*values: Value, program: Program) -> tuple[Value, ...]:
        return executable(program)(*values)

    def compiled(self, backend: str, params: Mapping[str, Any]) -> Callable[..., tuple[Value, ...]]:
        """Its function, the program run by a backend."""
        return executable(params["program"], backend)

    def abstract(self, *avals: Aval, program: Program) -> tuple[Aval, ...]:
        return program.out_avals

    def linearization(
        self, live: tuple[bool, ...], avals: tuple[Aval, ...], **params: Any
    ) -> Linearization:
        program: Program = params["program"]
        count = len(program.outputs)
        at = linearized_program(program, live)
        early = apart(at.primal, live, range(count, len(at.primal.outputs)))

        def primal(*values: Value) -> tuple[Sequence[Value], Sequence[Value]]:
            if early is None:
                outs = self(*values, program=at.primal)
                return outs[:count], outs[count:]
            fixed = [v for v, wanted in zip(values, live, strict=True) if not wanted]
            return self(*values, program=program), self(*fixed, program=early)

        inexact = [a.aval.inexact for a in program.outputs]
        places = [p for p, real in zip(numbered(at.reached), inexact, strict=True) if real]
        kept = range(len(at.residuals))

        def transpose(given: tuple[bool, ...]) -> Form:
            mask = [g for g, place in zip(given, places, strict=True) if place is not None]
            back, found = transposed_program(at.tangent, tuple(mask))
            operands = (*kept, *vectors(sum(given)))
            return Form(self, {"program": back}, operands, tuple(numbered(found)))

        form = Form(self, {"program": at.tangent}, (*kept, *vectors(sum(live))), tuple(places))
        return Linearization(primal, form, transpose)

    def together(
        self, values: Sequence[Value], ts: Sequence[Value | None], params: Any, strict: bool
    ) -> tuple[tuple[Value, ...], Sequence[Value | None]]:
        program = params["program"]
        both, reached = jvp_program(program, tuple([t is not None for t in ts]))
        run = plain_program(both) if strict else both
        outs = self(*values, *[t for t in ts if t is not None], program=run)
        count = len(program.outputs)
        return outs[:count], [None if i is None else outs[count + i] for i in numbered(reached)]

    def with_series(
        self, values: Sequence[Value], series: Sequence[Terms | None], params: Any
    ) -> tuple[tuple[Value, ...], Sequence[Terms | None]]:
        return expanded(self, values, series, **params)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, program: Program
    ) -> tuple[Value, ...]:
        every = (True,) * len(program.outputs)
        mapped, _ = mapped_program(program, n, tuple(batched), every)
        return self(*values, program=mapped)  # type: ignore[no-any-return]

    def linear_with(self, mask: tuple[bool, ...], zeros: tuple[bool, ...], params: Any) -> bool:
        return any(mask) and is_linear_in(params["program"], mask, zeros)

    def samples(self) -> Iterable[Sample]:
        x, y = np.array([0.3, -1.2, 2.5]), np.array([1.7, 0.4, -0.6])
        avals = (Aval(x.shape, x.dtype), Aval(y.shape, y.dtype))
        for f in (lambda x, y: (np.sin(x) * y, np.sum(x * x)), lambda x, y: (x, y, x[1:] * 2)):
            yield Sample(x, y, program=stage(f, avals).program)
        yield Sample(x, program=stage(lambda x: (x[::2], x.sum()), avals[:1]).program)


call = primitive(Call)


def flattened(program: Program) -> Program:
    """The program with the equations of those that it calls in their place."""
    made: Program = program.cached("flattened", lambda: _flatten(program))
    return made


def _flatten(program: Program) -> Program:
    if not any(eqn.primitive is call for eqn in program.equations):
        return program
    equations: list[Equation] = []
    outputs = _inline(program, dict(zip(program.inputs, program.inputs, strict=True)), equations)
    return Program(program.inputs, equations, outputs, program.linear)


def _inline(
    program: Program, names: dict[Atom, Atom], equations: list[Equation]
) -> tuple[Atom, ...]:
    """Append the equations of ``program`` with the names that its inputs have here."""

    def here(a: Atom) -> Atom:
        return a if isinstance(a, Literal) else names[a]

    for eqn in program.equations:
        inputs = tuple(map(here, eqn.inputs))
        if eqn.primitive is call:
            inner: Program = eqn.params["program"]
            outs = _inline(inner, dict(zip(inner.inputs, inputs, strict=True)), equations)
            names.update(zip(eqn.outputs, outs, strict=True))
            continue
        fresh = tuple([Var(v.aval) for v in eqn.outputs])
        names.update(zip(eqn.outputs, fresh, strict=True))
        equations.append(Equation(eqn.primitive, inputs, eqn.params, fresh, eqn.position))
    return tuple(map(here, program.outputs))


def chained(first: Program, second: Program) -> Program:
    """``second`` of what ``first`` gives and of further inputs, in which it is linear."""
    count = len(first.outputs)
    tail = second.inputs[count:]
    names: dict[Atom, Atom] = {v: v for v in tail}
    names.update(zip(second.inputs, first.outputs, strict=False))
    names.update(zip(tail, tail, strict=True))
    equations = list(first.equations)
    outputs = _inline(second, names, equations)
    return Program([*first.inputs, *tail], equations, outputs, linear=len(tail))
