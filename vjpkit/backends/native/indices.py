"""Elements of a step that are read and written at computed places.

Registers cannot be indexed by a number that is not known. What is read, or written to, at such a
place lies in memory for that: where an operand of the loop lies already, else in a buffer on the
stack. A place outside of the array is a fault, upon which NumPy computes everything again, and
raises its error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from vjpkit.backends.native.code import BOOL, INT, TYPES, Code, Value, element, lanes_of, vector
from vjpkit.backends.native.kernels import memory_type
from vjpkit.backends.native.steps import WIDTH, Elements, Lane, Step, repeated
from vjpkit.core.aval import Aval, Shape
from vjpkit.core.ir import Equation

__all__ = ["Memory"]


@dataclass(frozen=True)
class Places:
    """Where the elements of an index lie in an array laid out flat.

    For each the sum of a number and of entries of the index arrays, each times what one further
    along its axis is.
    """

    shape: Shape
    entries: tuple[Any, ...]
    """The index: an array has a string in its place."""
    arrays: tuple[Aval, ...]

    @cached_property
    def axes(self) -> list[int]:
        """The axis of each index array."""
        axis, found = 0, []
        taking = [e is not None and e is not ... and not isinstance(e, bool) for e in self.entries]
        for e, takes in zip(self.entries, taking, strict=True):
            if type(e) is str:
                found.append(axis)
            axis += len(self.shape) - sum(taking) if e is ... else takes
        return found

    @cached_property
    def strides(self) -> list[int]:
        return [prod(self.shape[i + 1 :]) for i in range(len(self.shape))]

    @cached_property
    def chosen(self) -> Any:
        """The elements, in the shape of the result: see `coordinates`."""
        numbers = iter([np.arange(a.size).reshape(a.shape) for a in self.arrays])
        index = tuple([next(numbers) if type(e) is str else e for e in self.entries])
        return np.arange(prod(self.sizes)).reshape(self.sizes)[index]

    @cached_property
    def sizes(self) -> list[int]:
        """The lengths of the axes, of those that have an index array its number of entries."""
        sizes = list(self.shape)
        for i, a in zip(self.axes, self.arrays, strict=True):
            sizes[i] = a.size
        return sizes

    @cached_property
    def coordinates(self) -> list[list[int]]:
        """For each element its place along the axes, or the number of the entry that gives it."""
        places = np.unravel_index(np.ravel(self.chosen), self.sizes)
        return list(np.stack(places, axis=1).tolist())

    def known(self, at: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        """The number, and which entries, for an element with these coordinates."""
        fixed = sum([c * self.strides[i] for i, c in enumerate(at) if i not in self.axes])
        return fixed, tuple([at[i] for i in self.axes])

    def runs(self, most: int) -> Iterator[tuple[int, int, int, tuple[int, ...]]]:
        """Elements that lie one after the other: the first, how many, their number and entries."""
        every = list(map(self.known, self.coordinates))
        start = 0
        for i in range(1, len(every) + 1):
            first, entries = every[start]
            if i == len(every) or i - start == most or every[i] != (first + i - start, entries):
                yield start, i - start, first, entries
                start = i


@dataclass
class Memory:
    """Arrays in memory, for one step.

    ``operands`` says from which array the registers of each of the loop's constants come.
    """

    operands: dict[tuple[str, ...], str] = field(default_factory=dict)
    buffers: list[str] = field(default_factory=list)
    """Lines that make room on the stack, once before the loop."""
    faults: list[Value] = field(default_factory=list)
    """Where these are true, a place is not there."""

    def result(self, step: Step, eqn: Equation, xs: list[Elements]) -> Elements:
        """The elements of an equation whose places are computed."""
        return RULES[eqn.primitive.name](self, step, eqn, xs)

    # ---- places ------------------------------------------------------------------------------

    def entries(self, places: Places, indices: list[Elements], code: Code) -> list[list[Value]]:
        """Entries of the index arrays, counted from the end where they are negative, times that."""
        found = []
        for i, xs in zip(places.axes, indices, strict=True):
            n, mine = places.shape[i], []
            for x in xs:
                k = code.lane(x.register, x.index).to(INT)
                inside = (k >= -n) & (k < n)
                self.faults.append(~inside)
                mine.append(inside.choose((k < 0).choose(k + n, k), 0) * places.strides[i])
            found.append(mine)
        return found

    def runs(
        self, places: Places, indices: list[Elements], code: Code, most: int = WIDTH
    ) -> Iterator[tuple[range, Value]]:
        """Elements that lie one after the other, and where the first of them does."""
        entries = self.entries(places, indices, code)
        for start, count, first, chosen in places.runs(most):
            at = code.number(first, INT)
            for mine, k in zip(entries, chosen, strict=True):
                at = mine[k] + at
            yield range(start, start + count), at

    # ---- loads and stores --------------------------------------------------------------------

    def room(self, code: Code, size: int, kind: str) -> str:
        """A new buffer."""
        name = f"%{code.prefix}room{len(self.buffers)}"
        self.buffers.append(f"{name} = alloca [{size} x {memory_type(kind)}], align 64")
        return name

    def store(self, code: Code, pointer: str, at: str, x: Value) -> None:
        memory, name = memory_type(x.kind), x.name
        if element(x.kind) == BOOL:
            name = fresh(code, f"zext {x.kind} {name} to {memory}", memory).name
        address = code.make(f"getelementptr {element(memory)}, ptr {pointer}, i64 {at}", "ptr")
        code.lines.append(f"store {memory} {name}, ptr {address.name}, align 1")

    def load(self, code: Code, pointer: str, at: str, kind: str) -> Value:
        """What lies there now: it is not what was read there before."""
        memory = memory_type(kind)
        address = code.make(f"getelementptr {element(memory)}, ptr {pointer}, i64 {at}", "ptr")
        found = fresh(code, f"load {memory}, ptr {address.name}, align 1", memory)
        if element(kind) != BOOL:
            return found
        zero = "0" if lanes_of(kind) == 1 else "zeroinitializer"
        return fresh(code, f"icmp ne {memory} {found.name}, {zero}", kind)

    def stored(self, step: Step, xs: Elements, size: int, kind: str) -> str:
        """A buffer of these elements; one stands for all."""
        pointer = self.room(step.code, size, kind)
        every = xs * size if len(xs) < size else xs
        for chunk, x in zip(step.chunks(size), step.registers(every), strict=True):
            self.store(step.code, pointer, str(chunk.start), x)
        return pointer

    def all_of(self, step: Step, pointer: str, size: int, kind: str) -> Elements:
        """The elements of a buffer."""
        return step.elements_of([
            self.load(step.code, pointer, str(chunk.start), vector(kind, len(chunk)))
            for chunk in step.chunks(size)
        ])  # fmt: skip

    # ---- equations ---------------------------------------------------------------------------

    def read(self, step: Step, eqn: Equation, xs: list[Elements]) -> Elements:
        """``x[index]``."""
        x, *indices = xs
        aval, *arrays = [a.aval for a in eqn.inputs]
        kind = TYPES[aval.dtype]
        code = step.code
        registers = step.registers(x)
        pointer = self.operands.get(tuple([r.name for r in registers]))
        if pointer is None:
            pointer = self.stored(step, x, aval.size, kind)
        places = Places(aval.shape, entries_of(eqn), tuple(arrays))
        found: Elements = []
        for run, at in self.runs(places, indices, code):
            y = self.load(code, pointer, at.name, vector(kind, len(run)))
            found += step.elements_of([y])
        return [y.to(TYPES[eqn.outputs[0].aval.dtype]) for y in found]

    def scattered(self, step: Step, eqn: Equation, xs: list[Elements]) -> Elements:
        """Zeros, and values added at their places."""
        out, params = eqn.outputs[0].aval, eqn.params
        kind = TYPES[out.dtype]
        pointer = self.stored(step, [step.number(0, kind)], out.size, kind)
        indices, count = params["indices"], len(params["indices"])
        arrays = list(zip(eqn.inputs[:-count], xs[:-count], strict=True))
        for index, a, values in zip(indices, eqn.inputs[-count:], xs[-count:], strict=True):
            mine, arrays = arrays[: index.arrays], arrays[index.arrays :]
            places = Places(out.shape, index.entries, tuple([b.aval for b, _ in mine]))
            self.put(step, pointer, places, [x for _, x in mine], a.aval, values, kind, adds=True)
        return self.all_of(step, pointer, out.size, kind)

    def written(self, step: Step, eqn: Equation, xs: list[Elements]) -> Elements:
        """A copy in which elements are others, or have something added."""
        *indices, x, values = xs
        *arrays, aval, given = [a.aval for a in eqn.inputs]
        kind = TYPES[eqn.outputs[0].aval.dtype]
        pointer = self.stored(step, [y.to(kind) for y in x], aval.size, kind)
        places = Places(aval.shape, entries_of(eqn), tuple(arrays))
        adds = eqn.primitive.name == "add_at"
        self.put(step, pointer, places, indices, given, values, kind, adds)
        return self.all_of(step, pointer, aval.size, kind)

    def put(
        self, step: Step, pointer: str, places: Places, indices: list[Elements], given: Aval,
        values: Elements, kind: str, adds: bool,
    ) -> None:  # fmt: skip
        """Write, or add, values one after the other: a place may occur several times."""
        code = step.code
        order = repeated(given, Aval(places.chosen.shape, given.dtype))
        for run, at in self.runs(places, indices, code):
            x = step.register([values[order[i]].to(kind) for i in run])
            if adds:
                x = self.load(code, pointer, at.name, x.kind) + x
            self.store(code, pointer, at.name, x)

    def numbers(self, step: Step, eqn: Equation, xs: list[Elements]) -> list[Value]:
        """Where each element of an index lies."""
        arrays = tuple([a.aval for a in eqn.inputs])
        places = Places(eqn.params["shape"], entries_of(eqn), arrays)
        return [at for _, at in self.runs(places, xs, step.code, 1)]

    def positions(self, step: Step, eqn: Equation, xs: list[Elements]) -> Elements:
        return list(map(Lane, self.numbers(step, eqn, xs)))

    def last(self, step: Step, eqn: Equation, xs: list[Elements]) -> Elements:
        """Whether no later element of an index has the place of each."""
        at = self.numbers(step, eqn, xs)
        found = []
        for i, x in enumerate(at):
            again = step.code.number(0, BOOL)
            for y in at[i + 1 :]:
                again = x.equals(y) | again
            found.append(Lane(~again))
        return found


RULES: dict[str, Callable[[Memory, Step, Equation, list[Elements]], Elements]] = {
    "getitem": Memory.read,
    "take": Memory.read,
    "scatter_sum": Memory.scattered,
    "update": Memory.written,
    "add_at": Memory.written,
    "positions": Memory.positions,
    "last_writes": Memory.last,
}


def entries_of(eqn: Equation) -> tuple[Any, ...]:
    """The index by which an equation reads or writes."""
    name, params = eqn.primitive.name, eqn.params
    if name == "take":
        return (*[slice(None)] * (params["axis"] % eqn.inputs[0].aval.ndim), "@")
    if name == "positions":
        return ("@",) * len(eqn.inputs)
    return tuple(params["index"].entries)


def fresh(code: Code, text: str, kind: str) -> Value:
    """The result of an instruction that gives another one when it is written again."""
    name = f"%{code.prefix}m{len(code.lines)}"
    code.lines.append(f"{name} = {text}")
    return Value(code, name, kind)
