"""Evaluating programs: a lowered function for arrays, equation by equation for tracers.

A backend, which knows NumPy's functions, makes the function: it plays the role "lower".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vjpkit.core.aval import Value
from vjpkit.core.ir import Atom, Literal, Program
from vjpkit.core.rows import roles
from vjpkit.core.staging import builder_of
from vjpkit.core.tracer import Tracer

__all__ = ["evaluate", "interpret", "runner"]


def evaluate(program: Program, values: Sequence[Value]) -> tuple[Value, ...]:
    """The outputs of ``program`` at ``values``, equation by equation, with eager's bits."""
    if any(isinstance(x, Tracer) for x in values):
        return interpret(program, values)
    return runner(program)(*values)


def runner(program: Program) -> Callable[..., tuple[Value, ...]]:
    """The function of arrays that evaluates ``program``, made once."""
    return program.cached("runner", lambda: roles["lower"](program))  # type: ignore[no-any-return]  # the cache is untyped


def interpret(program: Program, values: Sequence[Value]) -> tuple[Value, ...]:
    """Run the equations through their primitives, so that tracers record them."""
    env: dict[Atom, Value] = dict(zip(program.inputs, values, strict=True))
    read = lambda a: a.value if isinstance(a, Literal) else env[a]  # noqa: E731
    builder = builder_of(values)
    for eqn in program.equations:
        if eqn.inputs or builder is None:
            out = eqn.primitive(*map(read, eqn.inputs), **eqn.params)
        else:  # a constant is made in the program that is being built, not captured
            out = builder.process(eqn.primitive, (), dict(eqn.params))
        env.update(zip(eqn.outputs, eqn.primitive.unpack(out), strict=True))
    return tuple(map(read, program.outputs))
