"""Loops whose steps work on few numbers: Python's floats in Python's own loop.

A step that is a function of its own takes numbers out of arrays and puts them back one by one. Here
the steps stand in the loop, written out number by number, and what a step reads and writes slice by
slice is one packed row.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import count
from math import prod

import numpy as np

from vjpkit.backends.numpy_numbers import FLOAT, LONGEST, Few, Writer, is_known, words
from vjpkit.backends.numpy_source import Lowered, Source, lower, quick_form
from vjpkit.core.aval import Aval, Value
from vjpkit.core.ir import Atom, Equation, Program, Var
from vjpkit.passes import optimize

__all__ = ["loop_of_numbers"]

_FILE = "<vjpkit loop>"


def loop_of_numbers(eqn: Equation) -> Callable[..., tuple[Value, ...]] | None:
    """The function of a ``scan`` whose steps work on few real numbers, None for any other equation.

    Law: the outputs of the scan. A step in which Python raises an error, or whose quick form makes
    a nan, is one of NumPy's.
    """
    if not eqn.params["length"]:
        return None
    step = optimize(eqn.params["body"])
    quick = quick_form(step)
    read = eqn.params["consts"] + eqn.params["carry"]
    if not (_is_of_numbers(step, read) and _is_of_numbers(quick, read)):
        return None
    exact = Exact(lower(step, private=True))
    return Loop(eqn, quick, exact, len(step.outputs)).written()


def _is_of_numbers(program: Program, read: int) -> bool:
    """Whether all values are few real numbers, for which NumPy's calls would take longer.

    After the first ``read`` inputs, slices may be integers, which a row has as floats: what
    compares them would see the difference where they are large.
    """
    edge = [*program.inputs[:read], *program.outputs]
    slices = program.inputs[read:]
    whole = {v for v in slices if v.aval.dtype.kind in "bi"}
    if not all(_is_real(a.aval) for a in edge) or any(v.aval.weak for v in slices):
        return False
    if not all(_is_real(v.aval) for v in slices if v not in whole):
        return False
    step = Few(quick=True)
    for eqn in program.equations:
        compares = eqn.outputs[0].aval.dtype.kind == "b" and not whole.isdisjoint(eqn.inputs)
        if compares or not is_known(eqn, quick=True):
            return False
        step.add(eqn)
    return step.lines <= LONGEST and step.saved >= 0.0


def _is_real(aval: Aval) -> bool:
    return aval.dtype == FLOAT and not aval.weak and bool(aval.size)


class Exact:
    """A step of NumPy's, as a function of numbers one by one."""

    def __init__(self, step: Lowered) -> None:
        self.step = step
        self.avals = step.program.in_avals

    def __call__(self, *numbers: float) -> list[float]:
        rest = iter(numbers)
        values: list[Value] = []
        for aval in self.avals:
            flat = np.array([next(rest) for _ in range(aval.size)]).astype(aval.dtype)
            values.append(flat.reshape(aval.shape) if aval.ndim else flat[0])
        return [float(x) for y in self.step(*values) for x in np.ravel(y)]


class Loop(Source):
    """Writes the loop: the lines of a step, indented, between reading and writing its row."""

    def __init__(self, eqn: Equation, step: Program, exact: Exact, results: int) -> None:
        super().__init__(step, True, exact=exact, results=results)
        self.length: int = eqn.params["length"]
        self.reverse: bool = eqn.params["reverse"]
        consts, carry = eqn.params["consts"], eqn.params["carry"]
        self.consts, rest = step.inputs[:consts], step.inputs[consts:]
        self.carry, self.slices = rest[:carry], rest[carry:]
        self.state, self.made = self.outputs[:carry], self.outputs[carry:]
        self.writer = Writer(self, map("n{}".format, count()))

    def written(self) -> Callable[..., tuple[Value, ...]]:
        """The loop, compiled."""
        self.scope.update(
            frombuffer=np.frombuffer, ascontiguousarray=np.ascontiguousarray, float64=FLOAT,
            unpack=struct.Struct(f"={_width(self.slices)}d").iter_unpack,
            pack=struct.Struct(f"={_width(self.made)}d").pack_into,
        )  # fmt: skip
        for v in (*self.consts, *self.carry):
            self.writer.read(v)
        for v in self.slices:
            self.writer.named(v)
        self.writer.equations(self.program.equations)
        self.writer.require_no_nan(
            [a for a in self.outputs if isinstance(a, Var) and a in self.doubtful]
        )
        self.writer.require_finite(self.program.outputs[len(self.outputs) :])
        text = [f"def run({', '.join(map(self.name, self.program.inputs))}):"]
        last = [line for v in self.carry for line in self.writer.packed(v)]
        lines = [*self.writer.before, *self.rows(), *self.steps(), *last]
        text += [f"    {line}" for line in lines]
        results = [*map(self.name, self.carry), *self.stacks()]
        text.append(f"    return ({''.join(f'{result}, ' for result in results)})")
        exec(compile("\n".join(text), _FILE, "exec"), self.scope)
        return self.scope["run"]  # type: ignore[no-any-return]  # what exec has made

    def listed(self, atoms: Sequence[Atom]) -> str:
        """The numbers of some arrays one after the other."""
        return "".join(f"{word}, " for word in self.words(atoms))

    def words(self, atoms: Sequence[Atom]) -> list[str]:
        return [word for a in atoms for word in words(self.writer.read(a))]

    def rows(self) -> list[str]:
        """What is read row by row, room for what is written."""
        lines = []
        if self.slices:
            order = "[::-1]" if self.reverse else ""
            columns = [
                f"{self.name(v)}.reshape({self.length}, {v.aval.size}){order}, "
                for v in self.slices
            ]
            rows = f"concatenate(({''.join(columns)}), 1, dtype=float64)"
            lines.append(f"rows = unpack(memoryview(ascontiguousarray({rows})))")
        if self.made:
            lines.append(f"made = bytearray({8 * _width(self.made) * self.length})")
        return lines

    def steps(self) -> list[str]:
        """The loop over the rows, where the places of written rows are counted in bytes."""
        size = 8 * _width(self.made)
        end = size * self.length
        places = f"range({end - size}, -1, -{size})" if self.reverse else f"range(0, {end}, {size})"
        if self.made and self.slices:
            head = f"for i, ({self.listed(self.slices)}) in zip({places}, rows):"
        elif self.made:
            head = f"for i in {places}:"
        else:
            row = self.listed(self.slices) if self.slices else "_"
            head = f"for {row} in {'rows' if self.slices else f'range({self.length})'}:"
        step = self.writer.written(self.outputs) or ["pass"]
        lines = ["try:", *[f"    {line}" for line in step]]
        lines += [
            "except (ArithmeticError, ValueError):",
            f"    {self.targets()} = {self.exactly()}",
        ]
        if self.made:
            lines.append(f"pack(made, i, {self.listed(self.made)})")
        lines += self.carried()
        return [head, *[f"    {line}" for line in lines]]

    def carried(self) -> list[str]:
        """The state becomes what the step made of it: together where it is state that moves."""
        old, new = self.words(self.carry), self.words(self.state)
        moves = [(to, x) for to, x in zip(old, new, strict=True) if to != x]
        if not {x for _, x in moves} & {to for to, _ in moves}:
            return [f"{to} = {x}" for to, x in moves]
        return [f"{self.listed(self.carry)} = {self.listed(self.state)}"]

    def exactly(self) -> str:
        """The results of a step of NumPy's."""
        return f"exact({self.listed(self.program.inputs)})"

    def targets(self) -> str:
        """Where these go: what a step gives as it came, or always, is there already."""
        given = {word for v in self.program.inputs for word in words(self.writer.read(v))}
        numbers = [x for a in self.outputs for x in self.writer.read(a).flat]
        there = [x.value is not None or x.word in given for x in numbers]
        pairs = zip(numbers, there, strict=True)
        return "".join("_, " if known else f"{x.word}, " for x, known in pairs)

    def stacks(self) -> list[str]:
        """What is written row by row, as arrays."""
        out, j = [], 0
        for a in self.made:
            columns = f"{j}:{j + a.aval.size}" if a.aval.ndim else str(j)
            out.append(f"frombuffer(made).reshape({self.length}, -1)[:, {columns}]")
            if a.aval.ndim:
                out[-1] += f".reshape({(self.length, *a.aval.shape)})"
            j += a.aval.size
        return out


def _width(atoms: Sequence[Atom]) -> int:
    """How many numbers a row of these has."""
    return sum([prod(a.aval.shape) for a in atoms])
