"""`call`: a program as one equation, what `jit` records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.control.higher import Form, Linearization, Programmatic
from vjpkit.control.programs import (
    jvp_program,
    linearized_program,
    mapped_program,
    numbered,
    plain_program,
    transposed_program,
)
from vjpkit.core.aval import Aval, Value
from vjpkit.core.evaluate import evaluate
from vjpkit.core.ir import Atom, Equation, Program, linear_variables, nonlinear_equation
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.staging import stage

__all__ = ["call", "is_affine_in", "is_linear_in", "tangent_of_affine", "vectors"]


def linear_last(program: Program, live: Sequence[bool]) -> Program:
    """The program with the inputs that ``live`` marks last, and marked as linear."""
    key = ("linear last", tuple(live))

    def make() -> Program:
        fixed = [v for v, wanted in zip(program.inputs, live, strict=True) if not wanted]
        moved = [v for v, wanted in zip(program.inputs, live, strict=True) if wanted]
        return Program([*fixed, *moved], program.equations, program.outputs, len(moved))

    made: Program = program.cached(key, make)
    return made


def is_linear_in(program: Program, live: Sequence[bool]) -> bool:
    """Whether every output is linear in the inputs that ``live`` marks."""
    return _offender(program, live) is None


def is_affine_in(program: Program, live: Sequence[bool]) -> bool:
    """Whether every output is linear in the inputs that ``live`` marks, or free of them.

    The derivative does not depend on these inputs then, and a transposition may leave them open.
    """
    return not isinstance(_offender(program, live), Equation)


def _offender(program: Program, live: Sequence[bool]) -> Equation | Atom | None:
    """What first breaks linearity in some inputs."""
    key = ("offender", tuple(live))
    found: tuple[Equation | Atom | None] = program.cached(
        key, lambda: (nonlinear_equation(linear_last(program, live)),)
    )
    return found[0]


def vectors(count: int) -> list[int]:
    """The first vectors as operands of a form."""
    return [~j for j in range(count)]


def tangent_of_affine(program: Program, live: Sequence[bool]) -> tuple[Program, tuple[bool, ...]]:
    """An affine program as its own tangent program, and which outputs depend on the live inputs."""
    moved = linear_last(program, live)
    reachable = linear_variables(moved)
    outputs = [a for a in program.outputs if a in reachable]
    tangent = Program(moved.inputs, moved.equations, outputs, moved.linear)
    return tangent, tuple([a in reachable for a in program.outputs])


class Call(Programmatic):
    """A program as one equation."""

    exempt = {"dtypes": "a program is made for operands of its own avals"}

    @staticmethod
    def impl(*values: Value, program: Program) -> tuple[Value, ...]:
        return evaluate(program, values)

    def abstract(self, *avals: Aval, program: Program) -> tuple[Aval, ...]:
        return program.out_avals

    def linearization(
        self, live: tuple[bool, ...], avals: tuple[Aval, ...], **params: Any
    ) -> Linearization:
        program: Program = params["program"]
        count = len(program.outputs)
        if is_affine_in(program, live):  # then the live operands decide nothing at the point
            tangent, reached = tangent_of_affine(program, live)

            def primal(*values: Value) -> tuple[Sequence[Value], Sequence[Value]]:
                fixed = [v for v, wanted in zip(values, live, strict=True) if not wanted]
                return self(*values, program=program), fixed

            kept = len(live) - sum(live)
        else:
            at = linearized_program(program, live)
            tangent, reached = at.tangent, at.reached

            def primal(*values: Value) -> tuple[Sequence[Value], Sequence[Value]]:
                outs = self(*values, program=at.primal)
                return outs[:count], outs[count:]

            kept = len(at.residuals)
        inexact = [a.aval.inexact for a in program.outputs]
        places = [place for place, real in zip(numbered(reached), inexact, strict=True) if real]

        def transpose(given: tuple[bool, ...]) -> Form:
            mask = [g for g, place in zip(given, places, strict=True) if place is not None]
            back, found = transposed_program(tangent, tuple(mask))
            operands = (*range(kept), *vectors(sum(given)))
            return Form(self, {"program": back}, operands, tuple(numbered(found)))

        form = Form(self, {"program": tangent}, (*range(kept), *vectors(sum(live))), tuple(places))
        return Linearization(primal, form, transpose)

    def with_tangents(
        self, values: Sequence[Value], ts: Sequence[Value | None], params: Any, strict: bool
    ) -> tuple[tuple[Value, ...], Sequence[Value | None]]:
        program = params["program"]
        both, reached = jvp_program(program, tuple([t is not None for t in ts]))
        run = plain_program(both) if strict else both
        outs = self(*values, *[t for t in ts if t is not None], program=run)
        count = len(program.outputs)
        return outs[:count], [None if i is None else outs[count + i] for i in numbered(reached)]

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, program: Program
    ) -> tuple[Value, ...]:
        every = (True,) * len(program.outputs)
        mapped, _ = mapped_program(program, n, tuple(batched), every)
        return self(*values, program=mapped)  # type: ignore[no-any-return]

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return any(mask) and is_linear_in(params["program"], mask)

    def samples(self) -> Iterable[Sample]:
        x, y = np.array([0.3, -1.2, 2.5]), np.array([1.7, 0.4, -0.6])
        avals = (Aval(x.shape, x.dtype), Aval(y.shape, y.dtype))
        for f in (lambda x, y: (np.sin(x) * y, np.sum(x * x)), lambda x, y: (x, y, x[1:] * 2)):
            yield Sample(x, y, program=stage(f, avals).program)
        yield Sample(x, program=stage(lambda x: (x[::2], x.sum()), avals[:1]).program)


call = primitive(Call)
