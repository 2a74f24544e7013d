"""Loops whose steps work on numbers alone: Python floats in Python's own loop.

NumPy's scalars take twice as long for a product as Python's floats, and a step that is a function
of its own takes them out of arrays and puts them back one by one. Here the steps stand in the loop,
their numbers are floats, and what a step reads and writes slice by slice is one packed row.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from vjpkit.backends.numpy_calls import ufunc_call
from vjpkit.backends.numpy_source import Lowered, Source, lower, quick_form
from vjpkit.core.aval import Aval, Value
from vjpkit.core.ir import Equation, Program, Var, used
from vjpkit.passes import optimize

__all__ = ["loop_of_numbers"]

NUMBER = Aval((), np.dtype("float64"))

_ARITHMETIC = frozenset({"add", "subtract", "multiply", "divide", "negative", "scale"})
"""Operators, whose results are those of NumPy's scalars where Python raises no error."""


def loop_of_numbers(eqn: Equation) -> Callable[..., tuple[Value, ...]] | None:
    """The function of a ``scan`` whose steps are real numbers, None for any other equation.

    Law: the outputs of the scan, to the bit. A step in which Python raises an error, or whose quick
    form makes a nan, is one of NumPy's scalars.
    """
    body = eqn.params["body"]
    if not eqn.params["length"] or not _is_of_numbers(body):
        return None
    step = optimize(body)
    if not _is_of_numbers(step):
        return None
    exact = lower(step, private=True)
    return Loop(eqn, quick_form(step), exact, len(step.outputs)).written()


def _is_of_numbers(program: Program) -> bool:
    """Whether all values are real numbers, and all equations arithmetic or plain ufuncs."""
    edge = (*program.inputs, *program.outputs)
    values = [a for e in program.equations for a in (*e.inputs, *e.outputs)]
    strong = all(a.aval == NUMBER for a in edge)
    numbers = all(_is_number(a.aval) for a in values)
    return strong and numbers and all(map(_fits, program.equations))


def _is_number(aval: Aval) -> bool:
    return not aval.shape and (
        aval.dtype == NUMBER.dtype or (aval.weak and aval.dtype.kind in "fi")
    )


def _fits(eqn: Equation) -> bool:
    if eqn.primitive.name in _ARITHMETIC:
        return bool(used(eqn.inputs))
    call = ufunc_call(eqn)
    return call is not None and len(eqn.inputs) == 1 == len(call[1])


class Loop(Source):
    """Writes the loop: the lines of a step, indented, between reading and writing its row."""

    def __init__(self, eqn: Equation, step: Program, exact: Lowered, results: int) -> None:
        super().__init__(step, True, exact=exact, results=results)
        self.length: int = eqn.params["length"]
        self.reverse: bool = eqn.params["reverse"]
        consts, carry = eqn.params["consts"], eqn.params["carry"]
        self.consts, rest = step.inputs[:consts], step.inputs[consts:]
        self.carry, self.slices = rest[:carry], rest[carry:]

    def written(self) -> Callable[..., tuple[Value, ...]]:
        """The loop, compiled."""
        scope = self.scope
        scope.update(stack=np.stack, float64=np.float64, frombuffer=np.frombuffer, map=map)
        count = len(self.outputs) - len(self.carry)
        scope["unpack"] = struct.Struct(f"={len(self.slices)}d").unpack_from
        scope["pack"] = struct.Struct(f"={count}d").pack_into
        for i, eqn in enumerate(self.program.equations):
            self.equation(i, eqn, set())
        self.examine(self.outputs)
        carries = ", ".join(map(self.name, self.carry))
        width, size = 8 * len(self.slices), 8 * count
        steps = f"range({self.length - 1}, -1, -1)" if self.reverse else f"range({self.length})"
        text = [f"def run({', '.join(map(self.name, self.program.inputs))}):"]
        for v in (*self.consts, *self.carry):
            text.append(f"    {self.name(v)} = float({self.name(v)})")
        if self.slices:
            slices = ", ".join(map(self.name, self.slices))
            text.append(f"    rows = memoryview(stack(({slices},), 1))")
        if count:
            text.append(f"    made = bytearray({size * self.length})")
        text.append(f"    for i in {steps}:")
        if self.slices:
            text.append(f"        {slices}, = unpack(rows, i * {width})")
        text.append("        try:")
        text += [f"            {line}" for line in self.lines]
        results = [self.word(a) for a in self.outputs]
        text.append(f"            results = ({', '.join(results)},)")
        inputs = ", ".join(map(self.name, self.program.inputs))
        text.append("        except ArithmeticError:")
        text.append(f"            results = exact(*map(float64, ({inputs},)))")
        if count:
            text.append(f"        pack(made, i * {size}, *results[{len(self.carry)}:])")
        if carries:
            text.append(f"        {carries}, = results[:{len(self.carry)}]")
        numbers = "".join(f"float64({self.name(v)}), " for v in self.carry)
        columns = "".join(f"made[:, {j}], " for j in range(count))
        if count:
            text.append(f"    made = frombuffer(made).reshape(-1, {count})")
        text.append(f"    return ({numbers}{columns})")
        source = "\n".join(text)
        exec(compile(source, "<vjpkit loop>", "exec"), scope)
        return scope["run"]  # type: ignore[no-any-return]  # what exec has made

    def examination(self, *asked: tuple[Var, str]) -> str:
        """The line that asks whether one of some numbers is nan."""
        return f"if {' or '.join(f'{w} != {w}' for _, w in asked)}: raise ArithmeticError"
