"""A staged loop over a small state as one kernel.

Every value of a step is a list of its elements, which are lanes of registers: shapes are static, so
that indexing, reshaping and joining only choose among them. What a structural primitive chooses is
asked of the primitive itself, by running it on the numbers of the elements. Elementwise equations
are computed `WIDTH` elements at a time, on every machine alike.
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
from vjpkit.backends.native.code import TYPES, Code, Value, element, lanes_of, vector
from vjpkit.backends.native.engine import every_exception, host, ufunc
from vjpkit.backends.native.equations import computed, is_native, largest, smallest, why_not
from vjpkit.backends.native.kernels import loaded, store
from vjpkit.core.aval import Aval
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var

__all__ = ["Loop", "joined", "loop_of", "why_no_loop"]

LARGEST_STEP = 8000
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

WIDTH = 8
"""Elements that are computed at a time."""


@dataclass(frozen=True)
class Lane:
    """One element: a lane of a register, which may be its only one."""

    register: Value
    index: int = 0

    def to(self, kind: str) -> Lane:
        return Lane(self.register.to(kind), self.index)


Elements = list[Lane]


def lanes(registers: Sequence[Value]) -> Elements:
    """The elements of registers, one after the other."""
    return [Lane(x, i) for x in registers for i in range(lanes_of(x.kind))]


def chunks(count: int) -> list[range]:
    """Numbers of elements that are computed together."""
    return [range(i, min(i + WIDTH, count)) for i in range(0, count, WIDTH)]


def registers(code: Code, xs: Elements) -> list[Value]:
    """Elements in as few registers as possible."""
    return [register(code, [xs[i] for i in chunk]) for chunk in chunks(len(xs))]


def register(code: Code, xs: Elements) -> Value:
    """A register of these elements."""
    count, first = len(xs), xs[0].register
    if count == 1:
        return code.lane(first, xs[0].index)
    if lanes_of(first.kind) == count and all(
        x.register.name == first.name and x.index == i for i, x in enumerate(xs)
    ):
        return first
    kind = element(first.kind)
    sources: dict[str, list[tuple[int, Lane]]] = {}
    for i, x in enumerate(xs):
        sources.setdefault(x.register.name, []).append((i, x))
    if all(lanes_of(x.register.kind) == 1 and x.register.is_number for x in xs):
        words = [f"{kind} {x.register.name}" for x in xs]
        return Value(code, f"<{', '.join(words)}>", vector(kind, count))
    made: Value | None = None
    for pairs in sources.values():
        source, single = pairs[0][1].register, lanes_of(pairs[0][1].register.kind) == 1
        if single and len(pairs) == 1:
            made = code.with_lane(made, pairs[0][0], source, vector(kind, count))
            continue
        if single:
            source = code.with_lane(None, 0, source, vector(kind, count))
        places: list[int | None] = [None] * count
        for i, x in pairs:
            places[i] = x.index
        if lanes_of(source.kind) != count or any(p not in (None, i) for i, p in enumerate(places)):
            source = code.shuffled(source, None, places)
        if made is None:
            made = source
        else:
            mine = {i for i, _ in pairs}
            both = [count + i if i in mine else i for i in range(count)]
            made = code.shuffled(made, source, both)
    assert made is not None
    return made


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
        known = [self.load(before, j, a.size) for j, a in enumerate(loop.operands[: ends[1]])]
        first = known[ends[0] :]
        states = [
            [Value(inside, f"%c{j}_{k}", x.kind) for k, x in enumerate(xs)]
            for j, xs in enumerate(first)
        ]
        slices = [
            self.load(inside, j, loop.operands[j].size // loop.length, step=True)
            for j in range(ends[1], len(loop.operands))
        ]
        constants = [[Value(inside, x.name, x.kind) for x in xs] for xs in known[: ends[0]]]
        inputs = [*constants, *states, *slices]
        found = stepped(inside, loop.body, list(map(lanes, inputs)))
        outs = [registers(inside, xs) for xs in found]
        base = len(loop.operands)
        for j, values in enumerate(outs):
            if j < loop.carry:
                self.store(after, base + j, [Value(after, x.name, x.kind) for x in values])
            else:
                self.store(inside, base + j, values, step=True)
        phis = [
            f"{x.name} = phi {x.kind} [{a.name}, %entry], [{b.name}, %steps_]"
            for starts, xs, results in zip(first, states, outs, strict=False)
            for a, x, b in zip(starts, xs, results, strict=True)
        ]
        doubts, collected = inside.all_doubts(), []
        total = inside.anything(doubts)
        if doubts:
            total = total | Value(inside, "%doubt", "i1")
            collected = [f"%doubt = phi i1 [false, %entry], [{total.name}, %steps_]"]
        self.declared |= before.declared | inside.declared | after.declared
        name = "exact" if exact else "fast"
        lines = [
            f"define internal i1 @{name}(ptr %args, ptr %steps) nounwind "
            f'"prefer-vector-width"="{host().vector_bits}" {{', "entry:",
            *before.lines, "br label %steps_", "steps_:",
            "%i = phi i64 [0, %entry], [%next, %steps_]", *phis, *collected,
            f"%at = sub i64 {loop.length - 1}, %i" if loop.reverse else "%at = add i64 %i, 0",
            *inside.lines, "%next = add i64 %i, 1", f"%end = icmp eq i64 %next, {loop.length}",
            "br i1 %end, label %out, label %steps_", "out:", *after.lines,
            f"ret i1 {total.name}", "}",
        ]  # fmt: skip
        return "\n".join(lines), bool(doubts)

    def pointers(self, code: Code) -> None:
        """Where the arrays lie; their elements lie side by side."""
        for j in range(len(self.arrays)):
            code.lines += [f"%ap{j} = getelementptr ptr, ptr %args, i64 {j}",
                           f"%p{j} = load ptr, ptr %ap{j}"]  # fmt: skip

    def place(self, code: Code, j: int, k: int, step: bool) -> tuple[str, str]:
        """Array and number of element ``k`` of an operand or result, or of its slice."""
        array, start, row = self.places[j]
        if not step:
            return f"%p{array}", str(start + k)
        return f"%p{array}", (Value(code, "%at", "i64") * row + (start + k)).name

    def load(self, code: Code, j: int, size: int, step: bool = False) -> list[Value]:
        """The elements of an operand, or of its slice in this step."""
        kind = TYPES[self.arrays[self.places[j][0]].dtype]
        return [
            loaded(code, *self.place(code, j, chunk.start, step), vector(kind, len(chunk)))
            for chunk in chunks(size)
        ]

    def store(self, code: Code, j: int, values: Sequence[Value], step: bool = False) -> None:
        """The elements of a result, or of its slice in this step."""
        for k, x in enumerate(values):
            store(code, *self.place(code, j, k * WIDTH, step), x)


def stepped(code: Code, body: Program, inputs: Sequence[Elements]) -> list[Elements]:
    """The elements of a step's outputs."""
    values: dict[Var, Elements] = dict(zip(body.inputs, inputs, strict=True))

    def read(a: Atom) -> Elements:
        if isinstance(a, Literal):
            return lanes([code.number(a.value, TYPES[a.aval.dtype])])
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
        return elementwise(
            code,
            lambda *operands: computed(code, eqn, list(operands)),
            *[[x[i] for i in repeated(a.aval, out)] for a, x in zip(eqn.inputs, xs, strict=True)],
        )
    if name in ("fill", "constant"):
        value = np.broadcast_to(eqn.params["value"], out.shape).ravel()
        return lanes([code.number(v, TYPES[out.dtype]) for v in value])
    if name == "matmul":
        return product(code, eqn, xs)
    if name == "scatter_sum":
        return scattered(code, eqn, xs)
    flat = [x for operand in xs for x in operand]
    if name in FOLDS:
        return folded(code, FOLDS[name], eqn, flat)
    chosen = eqn.primitive.impl(*numbered([a.aval for a in eqn.inputs]), **eqn.params)
    return [flat[int(i)].to(TYPES[out.dtype]) for i in np.ravel(chosen)]


def numbered(avals: Sequence[Aval]) -> list[Any]:
    """Arrays of the numbers of the elements, counted through all operands."""
    arrays, start = [], 0
    for a in avals:
        arrays.append(np.arange(start, start + a.size).reshape(a.shape))
        start += a.size
    return arrays


def elementwise(code: Code, rule: Callable[..., Value], *xs: Elements) -> Elements:
    """What a rule gives for the elements of lists of one length."""
    return [
        Lane(y, i)
        for chunk in chunks(len(xs[0]))
        for y in [rule(*[register(code, [x[k] for k in chunk]) for x in xs])]
        for i in range(len(chunk))
    ]


def repeated(aval: Aval, out: Aval) -> list[int]:
    """For each element of ``out`` the element of an operand that is broadcast to it."""
    places = np.broadcast_to(np.arange(aval.size).reshape(aval.shape), out.shape)
    return list(map(int, places.ravel()))


def folded(
    code: Code, fold: Callable[[Value, Value], Value], eqn: Equation, xs: Elements
) -> Elements:
    """A reduction: the first half of each row with the second, until one is left.

    The sum of negative zeros is a positive one, as in NumPy, and that of nothing zero.
    """
    x, out = eqn.inputs[0].aval, eqn.outputs[0].aval
    axes = eqn.params["axes"]
    axes = tuple(range(x.ndim)) if axes is None else axes
    moved = np.moveaxis(np.arange(x.size).reshape(x.shape), axes, range(-len(axes), 0))
    rows = [[xs[int(i)] for i in row] for row in moved.reshape(out.size, -1)]
    while len(rows[0]) > 1:
        half = len(rows[0]) // 2
        left, right = ([y for row in rows for y in row[k : k + half]] for k in (0, half))
        made = elementwise(code, fold, left, right)
        rows = [[*made[i * half : (i + 1) * half], *row[2 * half :]] for i, row in enumerate(rows)]
    if eqn.primitive.name != "sum":
        return [row[0] for row in rows]
    zero = lanes([code.number(0, TYPES[out.dtype])])
    if not rows[0]:
        return zero * out.size
    return elementwise(code, fold, [row[0] for row in rows], zero * out.size)


def scattered(code: Code, eqn: Equation, xs: list[Elements]) -> Elements:
    """Zeros, and each operand added where it was read from."""
    out = eqn.outputs[0].aval
    kind = TYPES[out.dtype]
    results = lanes([code.number(0, kind)]) * out.size
    for index, values in zip(eqn.params["indices"], xs, strict=True):
        places = np.arange(out.size).reshape(out.shape)[index.entries]
        waiting = list(zip(map(int, np.ravel(places)), values, strict=True))
        alone = len(xs) == 1 and len({place for place, _ in waiting}) == len(waiting)
        while waiting:  # where a place occurs several times, once after the other
            now: dict[int, Lane] = {}
            later = []
            for place, x in waiting:
                if place in now:
                    later.append((place, x))
                else:
                    now[place] = x
            old = [results[place] for place in now]
            new = [x.to(kind) for x in now.values()]
            if not alone:  # an assignment keeps the sign of zero
                new = elementwise(code, lambda x, y: x + y, old, new)
            for place, x in zip(now, new, strict=True):
                results[place] = x
            waiting = later
    return results


def product(code: Code, eqn: Equation, xs: list[Elements]) -> Elements:
    """A matrix product of vectors, matrices or stacks of them, each sum from first to last."""
    x, y = (np.arange(a.aval.size).reshape(a.aval.shape) for a in eqn.inputs)
    out = eqn.outputs[0].aval
    kind = TYPES[out.dtype]
    left = x[None, :] if x.ndim == 1 else x
    right = y[:, None] if y.ndim == 1 else y
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    shape = (*batch, left.shape[-2], right.shape[-1])
    # the sum of negative zeros is a positive one
    total = lanes([code.number(0, kind)]) * out.size
    for k in range(left.shape[-1]):
        rows, columns = (
            np.broadcast_to(part, shape).ravel()
            for part in (left[..., :, k, None], right[..., k, None, :])
        )
        total = elementwise(
            code,
            lambda t, a, b: t + a.to(kind) * b.to(kind),
            total, [xs[0][int(i)] for i in rows], [xs[1][int(j)] for j in columns],
        )  # fmt: skip
    return total
