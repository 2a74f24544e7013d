"""Loops whose steps work on numbers alone: Python floats in Python's own loop.

NumPy's scalars take twice as long for a product as Python's floats, and a step that is a function
of its own takes them out of arrays and puts them back one by one. Here the steps stand in the loop,
their numbers are floats, and what a step reads and writes slice by slice is one packed row.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import numpy as np

from vjpkit.backends.numpy_calls import ufunc_call
from vjpkit.backends.numpy_source import Lowered, Source, lower, quick_form
from vjpkit.core.aval import Aval, Value
from vjpkit.core.ir import Atom, Equation, Program, Var, used
from vjpkit.passes import optimize

__all__ = ["loop_of_numbers"]

NUMBER = Aval((), np.dtype("float64"))

_FILE = "<vjpkit loop>"

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
        count = len(self.outputs) - len(self.carry)
        self.scope.update(
            stack=np.stack, float64=np.float64, frombuffer=np.frombuffer, map=map, zip=zip,
            unpack=struct.Struct(f"={len(self.slices)}d").iter_unpack,
            pack=struct.Struct(f"={count}d").pack_into,
        )  # fmt: skip
        for i, eqn in enumerate(self.program.equations):
            self.equation(i, eqn, set())
        self.examine(self.outputs)
        text = [f"def run({self.listed(self.program.inputs)}):"]
        text += [f"    {line}" for line in [*self.before(count), *self.steps(count)]]
        numbers = "".join(f"float64({self.name(v)}), " for v in self.carry)
        columns = "".join(f"made[:, {j}], " for j in range(count))
        exec(
            compile("\n".join([*text, f"    return ({numbers}{columns})"]), _FILE, "exec"),
            self.scope,
        )
        return self.scope["run"]  # type: ignore[no-any-return]  # what exec has made

    def listed(self, atoms: Sequence[Atom]) -> str:
        return ", ".join(map(self.word, atoms))

    def before(self, count: int) -> list[str]:
        """Numbers as floats, what is read row by row, room for what is written."""
        lines = [f"{name} = float({name})" for name in map(self.name, (*self.consts, *self.carry))]
        if self.slices:
            order = "[::-1]" if self.reverse else ""
            stacks = "".join(f"{self.name(v)}{order}, " for v in self.slices)
            lines.append(f"rows = unpack(memoryview(stack(({stacks}), 1)))")
        if count:
            lines.append(f"made = bytearray({8 * count * self.length})")
        return lines

    def steps(self, count: int) -> list[str]:
        """The loop over the rows, where the places of written rows are counted in bytes."""
        end, size = 8 * count * self.length, 8 * count
        places = f"range({end - size}, -1, -{size})" if self.reverse else f"range(0, {end}, {size})"
        row = f"({self.listed(self.slices)},)"
        if count and self.slices:
            head = f"for i, {row} in zip({places}, rows):"
        elif count:
            head = f"for i in {places}:"
        else:
            head = f"for {row} in rows:" if self.slices else f"for _ in range({self.length}):"
        state, written = self.outputs[: len(self.carry)], self.outputs[len(self.carry) :]
        lines = ["try:", *[f"    {line}" for line in self.lines or ["pass"]]]
        lines += ["except ArithmeticError:", f"    {self.targets()} = {self.exactly()}"]
        if count:
            lines.append(f"pack(made, i, {self.listed(written)})")
        if self.carry:
            lines.append(f"{self.listed(self.carry)}, = {self.listed(state)},")
        after = [f"made = frombuffer(made).reshape(-1, {count})"] if count else []
        return [head, *[f"    {line}" for line in lines], *after]

    def exactly(self) -> str:
        """The results of a step of NumPy's scalars."""
        return f"exact(*map(float64, ({self.listed(self.program.inputs)},)))"

    def targets(self) -> str:
        """Where these go: what a step gives as it came is there already."""
        made = {v for eqn in self.program.equations for v in eqn.outputs}
        return "".join(f"{self.name(a) if a in made else '_'}, " for a in self.outputs)

    def examination(self, *asked: tuple[Var, str]) -> str:
        """The line that asks whether one of some numbers is nan."""
        return f"if {' or '.join(f'{w} != {w}' for _, w in asked)}: raise ArithmeticError"
