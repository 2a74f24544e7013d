"""Dead code: equations on which no output depends."""

from __future__ import annotations

from vjpkit.core.ir import Program, live_equations

__all__ = ["without_dead_code"]


def without_dead_code(program: Program) -> Program:
    """The same outputs from the equations that they depend on, and those with effects.

    Law: equal outputs, to the bit. An error that only a dead equation would raise is not raised.
    """
    equations, _ = live_equations(program.equations, program.outputs, effects=True)
    if len(equations) == len(program.equations):
        return program
    return Program(program.inputs, equations, program.outputs, program.linear)
