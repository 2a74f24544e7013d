"""Evaluating programs: straight-line NumPy source for arrays, equation by equation for tracers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vjpkit.core.aval import Value
from vjpkit.core.ir import Atom, Literal, Program, Var
from vjpkit.core.rows import has_nan
from vjpkit.core.tracer import Tracer

__all__ = ["evaluate", "interpret", "lower", "lowered_source", "runner"]


def evaluate(program: Program, values: Sequence[Value]) -> tuple[Value, ...]:
    """The outputs of ``program`` at ``values``."""
    if any(isinstance(x, Tracer) for x in values):
        return interpret(program, values)
    if program.cached("quick", lambda: (has_quick(program),))[0]:
        out = program.cached("compiled quickly", lambda: lower(program, quick=True))(*values)
        if not any(map(has_nan, out)):
            return out  # type: ignore[no-any-return]  # the cache is untyped
    return runner(program)(*values)


def runner(program: Program) -> Callable[..., tuple[Value, ...]]:
    """The function of arrays that evaluates ``program``, made once."""
    return program.cached("compiled", lambda: lower(program))  # type: ignore[no-any-return]


def has_quick(program: Program) -> bool:
    """Whether some equation has a quicker form that may give nan where the exact one does not."""
    return any(eqn.primitive.quick is not None for eqn in program.equations)


def interpret(program: Program, values: Sequence[Value]) -> tuple[Value, ...]:
    """Run the equations through their primitives, so that tracers record them."""
    env: dict[Atom, Value] = dict(zip(program.inputs, values, strict=True))
    read = lambda a: a.value if isinstance(a, Literal) else env[a]  # noqa: E731
    for eqn in program.equations:
        out = eqn.primitive(*map(read, eqn.inputs), **eqn.params)
        env.update(zip(eqn.outputs, eqn.primitive.unpack(out), strict=True))
    return tuple(map(read, program.outputs))


def lowered_source(program: Program, quick: bool = False) -> tuple[str, dict[str, Any]]:
    """Python source of a function that evaluates ``program``, and the names it needs.

    One line per equation; a variable is deleted after its last use.
    """
    names: dict[Var, str] = {}
    scope: dict[str, Any] = {}

    def name(a: Atom) -> str:
        if isinstance(a, Literal):
            constant = f"c{len(scope)}"
            scope[constant] = a.value
            return constant
        return names.setdefault(a, f"v{len(names)}")

    last = {a: i for i, e in enumerate(program.equations) for a in (*e.inputs, *e.outputs)}
    keep = set(program.outputs)
    lines = [f"def evaluate_program({', '.join(map(name, program.inputs))}):"]
    for i, eqn in enumerate(program.equations):
        function = f"{eqn.primitive.name}_{i}"
        scope[function] = (
            eqn.primitive.quick if quick and eqn.primitive.quick else eqn.primitive.impl
        )
        arguments = [name(a) for a in eqn.inputs]
        for key, value in eqn.params.items():
            scope[f"{key}_{i}"] = value
            arguments.append(f"{key}={key}_{i}")
        targets = ", ".join(map(name, eqn.outputs)) + ("," if eqn.primitive.multi else "")
        lines.append(f"    {targets} = {function}({', '.join(arguments)})")
        touched = dict.fromkeys((*eqn.inputs, *eqn.outputs))
        dead = [name(a) for a in touched if isinstance(a, Var) and last[a] == i and a not in keep]
        if dead:
            lines.append(f"    del {', '.join(dead)}")
    lines.append(f"    return ({''.join(f'{name(a)}, ' for a in program.outputs)})")
    return "\n".join(lines), scope


def lower(program: Program, quick: bool = False) -> Callable[..., tuple[Value, ...]]:
    """``program`` as a Python function of arrays."""
    source, scope = lowered_source(program, quick)
    exec(compile(source, "<vjpkit program>", "exec"), scope)
    function: Callable[..., tuple[Value, ...]] = scope["evaluate_program"]
    return function
