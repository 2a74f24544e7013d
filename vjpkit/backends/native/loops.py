"""A staged loop over a small state as one kernel.

Every value of a step is a list of its elements, which live in registers: shapes are static, so that
indexing, reshaping and joining only choose among them. What a structural primitive chooses is asked
of the primitive itself, by running it on the numbers of the elements.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from vjpkit.backends.groups import is_elementwise
from vjpkit.backends.native.code import TYPES, Code, Value
from vjpkit.backends.native.engine import every_exception, ufunc
from vjpkit.backends.native.equations import computed, is_native, largest, smallest, why_not
from vjpkit.backends.native.kernels import loaded, store
from vjpkit.core.aval import Aval
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var

__all__ = ["Loop", "joined", "loop_of", "why_no_loop"]

LARGEST_STEP = 2000
"""Elements that a step reads and computes at most: above, code grows faster than it gains."""
MOST_OPERANDS = 64
"""Operands and results of a ufunc."""
STRUCTURAL = frozenset(
    {"reshape", "transpose", "broadcast_to", "roll", "getitem", "diagonal", "concatenate", "stack",
     "copy", "update"}
)  # fmt: skip
FOLDS: dict[str, Callable[[Value, Value], Value]] = {
    "sum": lambda x, y: x + y, "max": largest, "min": smallest,
}  # fmt: skip

Elements = list[Value]


def why_no_loop(eqn: Equation, body: Program) -> str | None:
    """Why a scan cannot be a kernel, in words; None if it can."""
    if eqn.params["slots"] is not None if "slots" in eqn.params else False:
        return "its states are checkpointed"
    avals = [a.aval for a in (*eqn.inputs, *eqn.outputs)]
    other = next((a for a in avals if a.dtype not in TYPES or not a.size), None)
    if other is not None or not eqn.params["length"]:
        return f"kernels have no {other or 'loops of no steps'}"
    if sum([v.aval.size for v in body.inputs]) + sum(map(work, body.equations)) > LARGEST_STEP:
        return f"a step computes more than {LARGEST_STEP} elements"
    for inner in body.equations:
        reason = why_no_element(inner)
        if reason is not None:
            return reason
    return None


def work(eqn: Equation) -> int:
    """Elements that an equation computes; of a matrix product, all products."""
    inner = eqn.inputs[0].aval.shape[-1] if eqn.primitive.name == "matmul" else 1
    return inner * sum([v.aval.size for v in eqn.outputs])


def why_no_element(eqn: Equation) -> str | None:
    """Why an equation of a step cannot be computed element by element."""
    name = eqn.primitive.name
    if any(a.aval.dtype not in TYPES for a in (*eqn.inputs, *eqn.outputs)):
        return f"{name}: dtypes that kernels have not"
    if is_elementwise(eqn) or name == "convert":
        return None if is_native(eqn) else why_not(eqn)
    if len(eqn.inputs) > {"getitem": 1, "update": 2}.get(name, len(eqn.inputs)):
        return "indices that are computed"
    if name == "scatter_sum":
        static = len(eqn.inputs) == len(eqn.params["indices"])
        return None if static else "indices that are computed"
    kinds = {a.aval.dtype.kind for a in (*eqn.inputs, *eqn.outputs)}
    if name in STRUCTURAL:
        to_integers = eqn.outputs[0].aval.dtype.kind == "i" and "f" in kinds
        return "conversions to integers" if to_integers else None
    if name == "matmul":  # of truth values "or" adds up, not arithmetic
        return "matmul of truth values" if eqn.outputs[0].aval.dtype == bool else None
    if name in ("fill", "constant"):
        return None
    if name in FOLDS:
        return None if kinds == {"f"} else f"{name} of whole numbers"
    return f"{name} in its step"


def loop_of(eqn: Equation, body: Program) -> Loop:
    """The kernel of a scan whose step is ``body``."""
    params = eqn.params
    avals = tuple([a.aval.strong() for a in eqn.inputs])
    outs = tuple([v.aval for v in eqn.outputs])
    return Loop(
        body, avals, outs, params["consts"], params["carry"], params["length"], params["reverse"]
    )


@dataclass(frozen=True)
class Loop:
    """A scan: constants, states and slices in, states and stacks out."""

    body: Program
    operands: tuple[Aval, ...]
    results: tuple[Aval, ...]
    consts: int
    carry: int
    length: int
    reverse: bool

    @cached_property
    def module(self) -> str:
        return _Writer(self).module()

    @property
    def name(self) -> str:
        return f"loop_{hashlib.sha256(self.module.encode()).hexdigest()[:24]}"

    @property
    def text(self) -> str:
        """The module, in which the loop is called `name`."""
        return self.module.replace("@loop", f"@{self.name}")

    @cached_property
    def arrays(self) -> tuple[tuple[Packed, ...], tuple[Packed, ...]]:
        """The kernel's operands and results: one for each of the loop's, or several in one.

        A ufunc has no more than `MOST_OPERANDS`; where the loop has more, those of a dtype are
        packed together, stacks apart from others.
        """
        stacks = self.consts + self.carry, self.carry
        everything = list(zip((self.operands, self.results), stacks, strict=True))
        if len(self.operands) + len(self.results) <= MOST_OPERANDS:
            found = [alone(avals) for avals, _ in everything]
        else:
            found = [grouped(avals, first) for avals, first in everything]
        ins, outs = (
            tuple([Packed(js, tuple([avals[j] for j in js]), js[0] >= first) for js in groups])
            for groups, (avals, first) in zip(found, everything, strict=True)
        )
        return ins, outs

    def compile(self) -> np.ufunc:
        """The kernel as a generalised ufunc of flat arrays."""
        ins, outs = self.arrays
        words = [[f"({a.size})" if a.is_array else "()" for a in side] for side in (ins, outs)]
        signature = "->".join(map(",".join, words))
        dtypes = tuple([a.dtype for a in (*ins, *outs)])
        return ufunc(self.text, self.name, dtypes, len(ins), signature)


def alone(avals: Sequence[Aval]) -> list[tuple[int, ...]]:
    return [(j,) for j in range(len(avals))]


def grouped(avals: Sequence[Aval], first: int) -> list[tuple[int, ...]]:
    """Numbers of operands by dtype, those from ``first`` on apart from those before."""
    groups: dict[Any, list[int]] = {}
    for j, a in enumerate(avals):
        groups.setdefault((j >= first, a.dtype), []).append(j)
    return [tuple(js) for js in groups.values()]


@dataclass(frozen=True)
class Packed:
    """Operands or results of a loop as one array of the kernel.

    Stacks lie side by side: for each step the slices of all of them.
    """

    members: tuple[int, ...]
    avals: tuple[Aval, ...]
    stacked: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.avals[0].dtype

    @property
    def size(self) -> int:
        return sum([a.size for a in self.avals])

    @property
    def is_array(self) -> bool:
        return len(self.avals) > 1 or bool(self.avals[0].shape)

    def rows(self, length: int) -> int:
        """Slices that lie one after the other."""
        return length if self.stacked else 1

    def columns(self, length: int) -> list[tuple[int, int]]:
        """For each member where its part of a row begins and ends."""
        ends = np.cumsum([0, *[a.size // self.rows(length) for a in self.avals]]).tolist()
        return list(pairwise(ends))


def joined(values: Sequence[Any], dtype: np.dtype[Any], rows: int) -> Any:
    """Several operands as one array of a kernel."""
    parts = [np.reshape(np.asarray(v, dtype), (rows, -1)) for v in values]
    return np.concatenate(parts, axis=1).reshape(-1)


class _Writer:
    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.declared: set[str] = {"declare i32 @feclearexcept(i32)"}
        ins, outs = loop.arrays
        self.arrays = [*ins, *outs]
        count = len(loop.operands)
        self.places: dict[int, tuple[int, int, int]] = {}
        """Of an operand or result: its array, its first element there, and elements of a step."""
        for i, a in enumerate(self.arrays):
            row = a.size // a.rows(loop.length)
            for j, (start, _) in zip(a.members, a.columns(loop.length), strict=True):
                self.places[j + count * (i >= len(ins))] = i, start, row

    def module(self) -> str:
        fast, doubtful = self.function(exact=False)
        functions = [fast]
        if doubtful:
            functions.append(self.function(exact=True)[0])
        body = ["define void @loop(ptr %args, ptr %dims, ptr %steps, ptr %data) nounwind {",
                "  %flag = call i1 @fast(ptr %args, ptr %steps)"]  # fmt: skip
        if doubtful:
            body += ["  br i1 %flag, label %again, label %done", "again:",
                     "  %ignored = call i1 @exact(ptr %args, ptr %steps)", "  br label %done",
                     "done:"]  # fmt: skip
        body += [f"  %quiet = call i32 @feclearexcept(i32 {every_exception()})", "  ret void", "}"]
        return "\n".join([*sorted(self.declared), *functions, *body, ""])

    def function(self, exact: bool) -> tuple[str, bool]:
        """The loop over the steps, and whether it has doubts about arguments."""
        loop = self.loop
        before, inside, after = Code(prefix="b"), Code(prefix="t", exact=exact), Code(prefix="a")
        self.pointers(before)
        ends = loop.consts, loop.consts + loop.carry
        known: list[Elements] = []
        for j, aval in enumerate(loop.operands[: ends[1]]):
            known.append([self.load(before, j, aval, k) for k in range(aval.size)])
        states = [
            [Value(inside, f"%c{j}_{k}", TYPES[aval.dtype]) for k in range(aval.size)]
            for j, aval in enumerate(loop.operands[ends[0] : ends[1]])
        ]
        slices = []
        for j in range(ends[1], len(loop.operands)):
            aval = loop.operands[j]
            slices.append(
                [self.load(inside, j, aval, k, step=True)
                 for k in range(aval.size // loop.length)]
            )  # fmt: skip
        constants = [[Value(inside, v.name, v.kind) for v in vs] for vs in known[: ends[0]]]
        outs = stepped(inside, loop.body, [*constants, *states, *slices])
        base = len(loop.operands)
        for j, values in enumerate(outs[loop.carry :]):
            for k, value in enumerate(values):
                self.store(inside, base + loop.carry + j, k, value, step=True)
        phis = self.phis(known[ends[0] : ends[1]], states, outs)
        for j, aval in enumerate(loop.results[: loop.carry]):
            for k in range(aval.size):
                final = Value(after, outs[j][k].name, outs[j][k].kind)
                self.store(after, base + j, k, final)
        total, collected = inside.number(0, "i1"), []
        found = inside.all_doubts()
        for doubt in found:
            total = doubt | total
        if found:
            total = total | Value(inside, "%doubt", "i1")
            collected = [f"%doubt = phi i1 [false, %entry], [{total.name}, %steps_]"]
        self.declared |= before.declared | inside.declared | after.declared
        name = "exact" if exact else "fast"
        lines = [
            f"define internal i1 @{name}(ptr %args, ptr %steps) nounwind {{", "entry:",
            *before.lines, "br label %steps_", "steps_:",
            "%i = phi i64 [0, %entry], [%next, %steps_]", *phis, *collected,
            f"%at = sub i64 {loop.length - 1}, %i" if loop.reverse else "%at = add i64 %i, 0",
            *inside.lines, "%next = add i64 %i, 1", f"%end = icmp eq i64 %next, {loop.length}",
            "br i1 %end, label %out, label %steps_", "out:", *after.lines,
            f"ret i1 {total.name}", "}",
        ]  # fmt: skip
        return "\n".join(lines), bool(found)

    def pointers(self, code: Code) -> None:
        """Where the arrays lie, and how far apart their elements are."""
        place = len(self.arrays)
        for j, array in enumerate(self.arrays):
            code.lines += [f"%ap{j} = getelementptr ptr, ptr %args, i64 {j}",
                           f"%p{j} = load ptr, ptr %ap{j}"]  # fmt: skip
            if array.is_array:
                code.lines += [f"%as{j} = getelementptr i64, ptr %steps, i64 {place}",
                               f"%s{j} = load i64, ptr %as{j}"]  # fmt: skip
                place += 1

    def address(self, code: Code, j: int, k: int, step: bool) -> str:
        """Of element ``k`` of an operand or result, or of its slice in this step."""
        array, start, row = self.places[j]
        if not self.arrays[array].is_array:
            return f"%p{array}"
        index = (Value(code, "%at", "i64") * row + start + k).name if step else str(start + k)
        offset = code.make(f"mul i64 {index}, %s{array}", "i64")
        return code.make(f"getelementptr i8, ptr %p{array}, i64 {offset.name}", "ptr").name

    def load(self, code: Code, j: int, aval: Aval, k: int, step: bool = False) -> Value:
        return loaded(code, self.address(code, j, k, step), "0", TYPES[aval.dtype])

    def store(self, code: Code, j: int, k: int, value: Value, step: bool = False) -> None:
        store(code, self.address(code, j, k, step), "0", value)

    def phis(
        self, first: list[Elements], states: list[Elements], outs: list[Elements]
    ) -> list[str]:
        """The states: at first those given, then those of the step before."""
        lines = []
        for starts, values, results in zip(first, states, outs, strict=False):
            for a, v, b in zip(starts, values, results, strict=True):
                lines.append(f"{v.name} = phi {v.kind} [{a.name}, %entry], [{b.name}, %steps_]")
        return lines


def stepped(code: Code, body: Program, inputs: Sequence[Elements]) -> list[Elements]:
    """The elements of a step's outputs."""
    values: dict[Var, Elements] = dict(zip(body.inputs, inputs, strict=True))

    def read(a: Atom) -> Elements:
        if isinstance(a, Literal):
            return [code.number(a.value, TYPES[a.aval.dtype])]
        return values[a]

    for eqn in body.equations:
        values[eqn.outputs[0]] = elements(code, eqn, [read(a) for a in eqn.inputs])
    return [
        [x.to(TYPES[a.aval.dtype]) for x in read(a)] for a in body.outputs
    ]  # fmt: skip


def elements(code: Code, eqn: Equation, xs: list[Elements]) -> Elements:
    """The elements of an equation's result."""
    name, out = eqn.primitive.name, eqn.outputs[0].aval
    if is_elementwise(eqn) or name == "convert":
        places = [spread(a.aval, out) for a in eqn.inputs]
        return [
            computed(code, eqn, [x[p[k]] for x, p in zip(xs, places, strict=True)])
            for k in range(out.size)
        ]
    if name in ("fill", "constant"):
        value = np.broadcast_to(eqn.params["value"], out.shape).ravel()
        return [code.number(v, TYPES[out.dtype]) for v in value]
    if name == "matmul":
        return product(eqn, xs)
    if name == "scatter_sum":
        return scattered(code, eqn, xs)
    flat = [x for operand in xs for x in operand]
    if name in FOLDS:
        return folded(FOLDS[name], eqn, flat)
    chosen = eqn.primitive.impl(*numbered([a.aval for a in eqn.inputs]), **eqn.params)
    return [flat[int(i)].to(TYPES[out.dtype]) for i in np.ravel(chosen)]


def numbered(avals: Sequence[Aval]) -> list[Any]:
    """Arrays of the numbers of the elements, counted through all operands."""
    arrays, start = [], 0
    for a in avals:
        arrays.append(np.arange(start, start + a.size).reshape(a.shape))
        start += a.size
    return arrays


def spread(aval: Aval, out: Aval) -> list[int]:
    """For each element of ``out`` the element of an operand that is broadcast to it."""
    places = np.broadcast_to(np.arange(aval.size).reshape(aval.shape), out.shape)
    return [int(i) for i in places.ravel()]


def folded(fold: Callable[[Value, Value], Value], eqn: Equation, xs: Elements) -> Elements:
    """A reduction, each result from first to last; a sum begins at 0.0, as NumPy's does."""
    x, out = eqn.inputs[0].aval, eqn.outputs[0].aval
    axes = eqn.params["axes"]
    axes = tuple(range(x.ndim)) if axes is None else axes
    moved = np.moveaxis(np.arange(x.size).reshape(x.shape), axes, range(-len(axes), 0))
    rows = moved.reshape(out.size, -1)
    results = []
    for row in rows:
        first = xs[int(row[0])]
        total = 0.0 + first if eqn.primitive.name == "sum" else first
        for i in row[1:]:
            total = fold(total, xs[int(i)])
        results.append(total)
    return results


def scattered(code: Code, eqn: Equation, xs: list[Elements]) -> Elements:
    """Zeros, and each operand added where it was read from."""
    out = eqn.outputs[0].aval
    kind = TYPES[out.dtype]
    zero = code.number(0, kind)
    results = [zero] * out.size
    for index, values in zip(eqn.params["indices"], xs, strict=True):
        places = np.arange(out.size).reshape(out.shape)[index.entries]
        for place, value in zip(np.ravel(places), values, strict=True):
            alone = len(xs) == 1  # an assignment, which keeps the sign of zero
            results[int(place)] = value.to(kind) if alone else results[int(place)] + value.to(kind)
    return results


def product(eqn: Equation, xs: list[Elements]) -> Elements:
    """A matrix product of vectors, matrices or stacks of them, each sum from first to last."""
    x, y = (np.arange(a.aval.size).reshape(a.aval.shape) for a in eqn.inputs)
    kind = TYPES[eqn.outputs[0].aval.dtype]
    left = x[None, :] if x.ndim == 1 else x
    right = y[:, None] if y.ndim == 1 else y
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    left = np.broadcast_to(left, (*batch, *left.shape[-2:])).reshape(-1, *left.shape[-2:])
    right = np.broadcast_to(right, (*batch, *right.shape[-2:])).reshape(-1, *right.shape[-2:])
    results = []
    for a, b in zip(left, right, strict=True):
        for row in a:
            for column in b.T:
                terms = [
                    xs[0][int(i)].to(kind) * xs[1][int(j)].to(kind)
                    for i, j in zip(row, column, strict=True)
                ]
                total = 0 + terms[0]  # the sum of negative zeros is a positive one
                for term in terms[1:]:
                    total = total + term
                results.append(total)
    return results
