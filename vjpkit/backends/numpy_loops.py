"""Loops whose steps work on few numbers: Python's floats in Python's own loop.

A step that is a function of its own takes numbers out of arrays and puts them back one by one. Here
the steps stand in the loop, written out number by number, and what a step reads and writes slice by
slice is one packed row. What follows from the slices alone is computed for all steps at once.

There are two loops. The fast one trusts that no step is an exception, and looks once, at the end,
whether a nan is left. The careful one, which begins anew where the fast one has failed, looks after
every step, and does that with NumPy where Python has raised an error or made a nan.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import count
from math import prod
from typing import ClassVar

import numpy as np

from vjpkit.backends.numpy_numbers import (
    FLOAT,
    LONGEST,
    UFUNCS,
    Few,
    Line,
    Word,
    Writer,
    is_known,
    words,
)
from vjpkit.backends.numpy_source import Lowered, Source, lower, quick_form
from vjpkit.core.aval import Aval, Value
from vjpkit.core.ir import Atom, Equation, Program, Var
from vjpkit.passes import optimize
from vjpkit.passes.factors import with_common_factors, with_quotients

__all__ = ["is_loop_of_numbers", "loop_of_numbers"]

_FILE = "<vjpkit loop>"
_LONG, _FEW = 1 << 12, 256
"""Steps from which, and equations up to which common factors are looked for: that takes as long as
it saves in some tens of thousands of steps."""
_COLUMN, _LINE, _WHOLE = 10.0, 7.0, 800.0
"""Nanoseconds to read a number of a row; that a line takes more in a step than in all steps at
once; and to compute it for all at once."""


def is_loop_of_numbers(eqn: Equation) -> bool:
    """Whether an equation is a ``scan`` whose steps work on few real numbers."""
    if eqn.primitive.name != "scan" or not eqn.params["length"]:
        return False
    step, read = optimize(eqn.params["body"]), eqn.params["consts"] + eqn.params["carry"]
    found: bool = step.cached(("is of numbers", read), lambda: _is_of_numbers(step, read))
    return found


def loop_of_numbers(eqn: Equation) -> Callable[..., tuple[Value, ...]] | None:
    """The function of a ``scan`` whose steps work on few real numbers, None for any other equation.

    Law: the outputs of the scan. A step in which Python raises an error, or whose quick form makes
    a nan, is one of NumPy's.
    """
    if not is_loop_of_numbers(eqn):
        return None
    step = optimize(eqn.params["body"])
    quick = quick_form(step)
    if eqn.params["length"] >= _LONG:
        quick = with_quotients(with_common_factors(quick, _FEW))
    if not _is_of_numbers(quick, eqn.params["consts"] + eqn.params["carry"]):
        return None
    exact = Exact(step)

    def careful() -> Callable[..., tuple[Value, ...]]:
        return CarefulLoop(eqn, quick, exact, len(step.outputs)).written()

    return FastLoop(eqn, quick, Later(careful), len(step.outputs)).written()


class Later:
    """A function that is made when it is called."""

    def __init__(self, make: Callable[[], Callable[..., tuple[Value, ...]]]) -> None:
        self.make = make

    @cached_property
    def made(self) -> Callable[..., tuple[Value, ...]]:
        return self.make()

    def __call__(self, *values: Value) -> tuple[Value, ...]:
        return self.made(*values)


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

    def __init__(self, step: Program) -> None:
        self.program = step

    @cached_property
    def step(self) -> Lowered:
        return lower(self.program, private=True)

    def __call__(self, *numbers: float) -> list[float]:
        rest = iter(numbers)
        values: list[Value] = []
        for aval in self.program.in_avals:
            flat = np.array([next(rest) for _ in range(aval.size)]).astype(aval.dtype)
            values.append(flat.reshape(aval.shape) if aval.ndim else flat[0])
        return [float(x) for y in self.step(*values) for x in np.ravel(y)]


class Loop(Source):
    """Writes the loop: the lines of a step, indented, between reading and writing its row."""

    def __init__(
        self,
        eqn: Equation,
        step: Program,
        otherwise: Callable[..., Iterable[float] | tuple[Value, ...]],
        results: int,
    ) -> None:
        super().__init__(step, True, exact=otherwise, results=results)
        self.length: int = eqn.params["length"]
        self.reverse: bool = eqn.params["reverse"]
        consts, carry = eqn.params["consts"], eqn.params["carry"]
        self.consts, rest = step.inputs[:consts], step.inputs[consts:]
        self.carry, self.slices = rest[:carry], rest[carry:]
        self.state, self.made = self.outputs[:carry], self.outputs[carry:]
        self.writer = Writer(self, map("n{}".format, count()))
        self.columns: list[tuple[list[Word], str]] = []
        """The columns of the rows that are read: what numbers are called in a step, and the array
        that has those of all steps."""

    def written(self) -> Callable[..., tuple[Value, ...]]:
        """The loop, compiled."""
        self.scope.update(
            frombuffer=np.frombuffer, ascontiguousarray=np.ascontiguousarray, float64=FLOAT
        )
        for v in (*self.consts, *self.carry):
            self.writer.read(v)
        for v in self.slices:
            names = words(self.writer.named(v))
            self.columns.append((names, f"{self.name(v)}.reshape({self.length}, {len(names)})"))
        self.writer.equations(self.program.equations)
        self.writer.require_finite(self.program.outputs[len(self.outputs) :])
        steps = self.steps([a for a in self.outputs if isinstance(a, Var) and a in self.doubtful])
        self.scope.update(
            unpack=struct.Struct(f"={len(self.row)}d").iter_unpack,
            pack=struct.Struct(f"={_width(self.made)}d").pack_into,
        )
        last = [line for v in self.carry for line in self.writer.packed(v)]
        lines = [*self.writer.before, *self.rows(), *steps, *last]
        results = [*map(self.name, self.carry), *map(self.stack, range(len(self.made)))]
        lines.append(f"return ({''.join(f'{result}, ' for result in results)})")
        text = [f"def run({self.operands()}):", *[f"    {line}" for line in lines]]
        exec(compile("\n".join(text), _FILE, "exec"), self.scope)
        return self.scope["run"]  # type: ignore[no-any-return]  # what exec has made

    def steps(self, doubtful: Sequence[Var]) -> list[str]:
        """The loop, of which nothing but these may be nan where the exact step has none."""
        raise NotImplementedError

    def operands(self) -> str:
        return ", ".join(map(self.name, self.program.inputs))

    def listed(self, atoms: Sequence[Atom]) -> str:
        """The numbers of some arrays one after the other."""
        return "".join(f"{word}, " for word in self.words(atoms))

    def words(self, atoms: Sequence[Atom]) -> list[Word]:
        return [word for a in atoms for word in words(self.writer.read(a))]

    @property
    def row(self) -> list[Word]:
        """The numbers that are read in each step."""
        return [word for names, _ in self.columns for word in names]

    def rows(self) -> list[str]:
        """What is read row by row, room for what is written."""
        lines = []
        if self.columns:
            order = "[::-1]" if self.reverse else ""
            columns = "".join(f"{column}{order}, " for _, column in self.columns)
            rows = f"concatenate(({columns}), 1, dtype=float64)"
            lines.append(f"rows = unpack(memoryview(ascontiguousarray({rows})))")
        if self.made:
            lines.append(f"made = bytearray({8 * _width(self.made) * self.length})")
        return lines

    def head(self) -> str:
        """The loop over the rows, where the places of written rows are counted in bytes."""
        size = 8 * _width(self.made)
        end = size * self.length
        places = f"range({end - size}, -1, -{size})" if self.reverse else f"range(0, {end}, {size})"
        row = "".join(f"{word}, " for word in self.row)
        if self.made and row:
            return f"for i, ({row}) in zip({places}, rows):"
        if self.made:
            return f"for i in {places}:"
        return f"for {row or '_'} in {'rows' if row else f'range({self.length})'}:"

    def ended(self) -> list[str]:
        """The lines that end a step: the row that it makes, and the state.

        This becomes what the step made of it: together where it is state that moves.
        """
        lines = [f"pack(made, i, {self.listed(self.made)})"] if self.made else []
        old, new = self.words(self.carry), self.words(self.state)
        moves = [(to, x) for to, x in zip(old, new, strict=True) if to != x]
        if not {x for _, x in moves} & {to for to, _ in moves}:
            return [*lines, *[f"{to} = {x}" for to, x in moves]]
        return [*lines, f"{self.listed(self.carry)} = {self.listed(self.state)}"]

    def stack(self, j: int) -> str:
        """What is written row by row, as an array."""
        a, start = self.made[j], _width(self.made[:j])
        rows = f"frombuffer(made).reshape({self.length}, -1)"
        if not a.aval.ndim:  # what lies in one piece is read in half the time
            return f"{rows}[:, {start}].copy()"
        shape = self.length, *a.aval.shape
        return f"{rows}[:, {start}:{start + a.aval.size}].reshape({shape})"


class CarefulLoop(Loop):
    """Does a step again with NumPy's where Python has raised an error or made a nan."""

    def steps(self, doubtful: Sequence[Var]) -> list[str]:
        self.writer.require_no_nan(doubtful)
        step = self.writer.written(self.outputs) or ["pass"]
        lines = ["try:", *[f"    {line}" for line in step]]
        lines += [
            "except (ArithmeticError, ValueError):",
            f"    {self.targets()} = exact({self.listed(self.program.inputs)})",
            *self.ended(),
        ]
        return [self.head(), *[f"    {line}" for line in lines]]

    def targets(self) -> str:
        """Where the results of a step of NumPy's go.

        What a step gives as it came, or always, is there already.
        """
        given = {word for v in self.program.inputs for word in words(self.writer.read(v))}
        numbers = [x for a in self.outputs for x in self.writer.read(a).flat]
        there = [x.value is not None or x.word in given for x in numbers]
        pairs = zip(numbers, there, strict=True)
        return "".join("_, " if known else f"{x.word}, " for x, known in pairs)


class FastLoop(Loop):
    """Gives up where Python has raised an error, or where a nan is left at the end."""

    LASTING: ClassVar = frozenset({"{} + {}", "{} - {}", "{} * {}", "{} / {}", "-{}", "{0} * {0}"})
    """Forms of lines that give a nan for a nan, and arrays for arrays."""
    SUMS: ClassVar = frozenset({"{} + {}", "{} - {}"})

    def steps(self, doubtful: Sequence[Var]) -> list[str]:
        lasting = [a for a in doubtful if a in self.made or self.stays_nan(a)]
        self.writer.require_no_nan([a for a in doubtful if a not in lasting])
        self.take_out()
        step = [*(self.writer.written(self.outputs) or ["pass"]), *self.ended()]
        names = [f"y{j} = {self.stack(j)}" for j, a in enumerate(self.made) if a in lasting]
        asked = [f"y{j}" for j, a in enumerate(self.made) if a in lasting]
        lines = ["try:", f"    {self.head()}", *[f"        {line}" for line in step]]
        lines += [f"    {line}" for line in names]
        lines += [f"    if has_nan({y}): raise ArithmeticError" for y in asked]
        ends = [v for v, a in zip(self.carry, self.state, strict=True) if a in lasting]
        lines += [f"    if {word} != {word}: raise ArithmeticError" for word in self.words(ends)]
        return [
            *lines,
            "except (ArithmeticError, ValueError):",
            f"    return exact({self.operands()})",
        ]

    def stays_nan(self, after: Var) -> bool:
        """Whether a number of the state that is nan is so in all states to come."""
        js = [j for j, a in enumerate(self.state) if a is after]
        return all(self.leads(self.carry[j], after) for j in js)

    def leads(self, before: Var, after: Var) -> bool:
        """Whether each number follows by arithmetic alone from the one in its place."""
        pairs = zip(self.words([before]), self.words([after]), strict=True)
        return all(self.follows(old, new) for old, new in pairs)

    def follows(self, old: Word, new: Word) -> bool:
        found = {old}
        for line in self.writer.lines:
            if line.form in self.LASTING and not found.isdisjoint(line.operands):
                found.add(line.word)
        return new in found

    def whole(self, form: str) -> str | None:
        """The form of a line for arrays, if there is one."""
        if form in self.LASTING:
            return form
        name, _, rest = form.partition("(")
        if name not in UFUNCS or rest != "{0})":
            return None
        return f"{self.function(UFUNCS[name], f'whole_{name}')}({{0}})"

    def factored(self) -> list[Line]:
        """The lines, ``x * y - x * z`` as ``x * (y - z)`` where all steps have that difference at
        once.

        Law: equal up to rounding, and not finite where it was not.
        """
        moving = set(self.words(self.carry))
        products: dict[Word, tuple[Word, Word]] = {}
        uses = Counter(self.words(self.outputs))
        uses.update(word for line in self.writer.lines for word in line.operands)
        out: list[Line] = []
        for line in self.writer.lines:
            terms = [w for w in line.operands if w in products and uses[w] == 1]
            if line.form in self.SUMS and len(terms) == 2:
                (x, y), (other, z) = (products[w] for w in terms)
                if x == other:
                    inner = Line(line.form, (y, z), next(self.writer.fresh))
                    out = [*[kept for kept in out if kept.word not in terms], inner]
                    line = Line("{} * {}", (x, inner.word), line.word)
            if not self.whole(line.form) or not moving.isdisjoint(line.operands):
                moving.add(line.word)
            both = sorted(line.operands, key=lambda word: word not in moving)
            if line.form == "{} * {}" and [word in moving for word in both] == [True, False]:
                products[line.word] = both[0], both[1]
            out.append(line)
        return out

    def take_out(self) -> None:
        """Let lines that read slices and constants alone be computed for all steps at once.

        Where that saves more than it takes to read what they give.
        """
        columns = {
            word: column if len(names) == 1 else f"{column}[:, {j}:{j + 1}]"
            for names, column in self.columns for j, word in enumerate(names)
        }  # fmt: skip
        moving = set(self.words(self.carry))
        taken, rest = dict[Word, str](), list[Line]()
        for line in self.factored():
            found, form = [columns.get(word, word) for word in line.operands], self.whole(line.form)
            if form and found != [*line.operands] and moving.isdisjoint(found):
                columns[line.word] = f"all_{line.word}"
                taken[line.word] = f"all_{line.word} = {form.format(*found)}"
            else:
                moving.add(line.word)
                rest.append(line)
        read = {*self.words(self.outputs), *[x for line in rest for x in line.operands]}
        kept = [(names, x) for names, x in self.columns if not read.isdisjoint(names)]
        kept += [([word], columns[word]) for word in taken if word in read]
        longer = sum(len(names) for names, _ in kept) - len(self.row)
        if longer * _COLUMN < len(taken) * (_LINE - _WHOLE / self.length):
            self.columns, self.writer.lines = kept, rest
            self.writer.before += taken.values()


def _width(atoms: Sequence[Atom]) -> int:
    """How many numbers a row of these has."""
    return sum([prod(a.aval.shape) for a in atoms])
