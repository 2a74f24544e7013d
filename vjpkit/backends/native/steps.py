"""One step of a loop in registers.

Every value of a step is a list of its elements, which are lanes of registers: shapes are static, so
that indexing, reshaping and joining only choose among them. What a structural primitive chooses is
asked of the primitive itself, by running it on the numbers of the elements.

Elementwise equations are computed `WIDTH` elements at a time, on every machine alike; or, where no
step waits for another, one element of `WIDTH` steps at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vjpkit.backends.groups import is_elementwise
from vjpkit.backends.native.code import TYPES, Code, Value, element, lanes_of, vector
from vjpkit.backends.native.equations import computed, is_native, largest, smallest, why_not
from vjpkit.core.aval import Aval
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var

__all__ = ["WIDTH", "Elements", "Lane", "Step", "why_no_element", "why_no_step"]

LARGEST_STEP = 8000
"""Elements that a step reads and computes at most: above, code grows faster than it gains."""
STRUCTURAL = frozenset(
    {"reshape", "transpose", "broadcast_to", "roll", "getitem", "diagonal", "concatenate", "stack",
     "copy", "update"}
)  # fmt: skip
FOLDS: dict[str, Callable[[Value, Value], Value]] = {
    "sum": lambda x, y: x + y, "max": largest, "min": smallest,
}  # fmt: skip
WIDTH = 8
"""Lanes of a register."""


@dataclass(frozen=True)
class Lane:
    """One element: a lane of a register, or all of one that holds it for several steps."""

    register: Value
    index: int = 0

    def to(self, kind: str) -> Lane:
        return Lane(self.register.to(kind), self.index)


Elements = list[Lane]


def why_no_step(body: Program) -> str | None:
    """Why a program cannot be computed in registers, in words; None if it can."""
    if sum([v.aval.size for v in body.inputs]) + sum(map(work, body.equations)) > LARGEST_STEP:
        return f"a step computes more than {LARGEST_STEP} elements"
    return next(filter(None, map(why_no_element, body.equations)), None)


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


@dataclass(frozen=True)
class Step:
    """Writes equations of one step, or of ``steps`` independent ones at once."""

    code: Code
    steps: int = 1

    # ---- registers ---------------------------------------------------------------------------

    def chunks(self, count: int) -> list[range]:
        """Numbers of elements that are computed together."""
        width = WIDTH if self.steps == 1 else 1
        return [range(i, min(i + width, count)) for i in range(0, count, width)]

    def number(self, x: Any, kind: str) -> Lane:
        return Lane(self.code.number(x, vector(kind, self.steps)))

    def elements_of(self, registers: Sequence[Value]) -> Elements:
        """The elements of registers, one after the other."""
        if self.steps > 1:
            return list(map(Lane, registers))
        return [Lane(x, i) for x in registers for i in range(lanes_of(x.kind))]

    def registers(self, xs: Elements) -> list[Value]:
        """Elements in as few registers as possible."""
        return [self.register([xs[i] for i in chunk]) for chunk in self.chunks(len(xs))]

    def register(self, xs: Elements) -> Value:
        """A register of these elements."""
        code, count, first = self.code, len(xs), xs[0].register
        if count == 1:
            return first if self.steps > 1 else code.lane(first, xs[0].index)
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
            if lanes_of(source.kind) != count or any(
                p not in (None, i) for i, p in enumerate(places)
            ):
                source = code.shuffled(source, None, places)
            if made is None:
                made = source
            else:
                mine = {i for i, _ in pairs}
                both = [count + i if i in mine else i for i in range(count)]
                made = code.shuffled(made, source, both)
        assert made is not None
        return made

    # ---- equations ---------------------------------------------------------------------------

    def run(self, body: Program, inputs: Sequence[Elements]) -> list[Elements]:
        """The elements of a step's outputs."""
        values: dict[Var, Elements] = dict(zip(body.inputs, inputs, strict=True))

        def read(a: Atom) -> Elements:
            if isinstance(a, Literal):
                return [self.number(a.value, TYPES[a.aval.dtype])]
            return values[a]

        for eqn in body.equations:
            values[eqn.outputs[0]] = self.equation(eqn, [read(a) for a in eqn.inputs])
        return [
            [x.to(TYPES[a.aval.dtype]) for x in read(a)] for a in body.outputs
        ]  # fmt: skip

    def equation(self, eqn: Equation, xs: list[Elements]) -> Elements:
        """The elements of an equation's result."""
        name, out = eqn.primitive.name, eqn.outputs[0].aval
        if is_elementwise(eqn) or name == "convert":
            return self.elementwise(
                lambda *operands: computed(self.code, eqn, list(operands)),
                *[
                    [x[i] for i in repeated(a.aval, out)]
                    for a, x in zip(eqn.inputs, xs, strict=True)
                ],
            )
        if name in ("fill", "constant"):
            value = np.broadcast_to(eqn.params["value"], out.shape).ravel()
            return [self.number(v, TYPES[out.dtype]) for v in value]
        if name == "matmul":
            return self.product(eqn, xs)
        if name == "scatter_sum":
            return self.scattered(eqn, xs)
        flat = [x for operand in xs for x in operand]
        if name in FOLDS:
            return self.folded(FOLDS[name], eqn, flat)
        chosen = eqn.primitive.impl(*numbered([a.aval for a in eqn.inputs]), **eqn.params)
        return [flat[int(i)].to(TYPES[out.dtype]) for i in np.ravel(chosen)]

    def elementwise(self, rule: Callable[..., Value], *xs: Elements) -> Elements:
        """What a rule gives for the elements of lists of one length."""
        return [
            Lane(y, i)
            for chunk in self.chunks(len(xs[0]))
            for y in [rule(*[self.register([x[k] for k in chunk]) for x in xs])]
            for i in range(len(chunk))
        ]

    def folded(
        self, fold: Callable[[Value, Value], Value], eqn: Equation, xs: Elements
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
            made = self.elementwise(fold, left, right)
            rows = [
                [*made[i * half : (i + 1) * half], *row[2 * half :]] for i, row in enumerate(rows)
            ]
        if eqn.primitive.name != "sum":
            return [row[0] for row in rows]
        zero = [self.number(0, TYPES[out.dtype])]
        if not rows[0]:
            return zero * out.size
        return self.elementwise(fold, [row[0] for row in rows], zero * out.size)

    def scattered(self, eqn: Equation, xs: list[Elements]) -> Elements:
        """Zeros, and each operand added where it was read from."""
        out = eqn.outputs[0].aval
        kind = TYPES[out.dtype]
        results = [self.number(0, kind)] * out.size
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
                    new = self.elementwise(lambda x, y: x + y, old, new)
                for place, x in zip(now, new, strict=True):
                    results[place] = x
                waiting = later
        return results

    def product(self, eqn: Equation, xs: list[Elements]) -> Elements:
        """A matrix product of vectors, matrices or stacks of them, each sum from first to last."""
        x, y = (np.arange(a.aval.size).reshape(a.aval.shape) for a in eqn.inputs)
        out = eqn.outputs[0].aval
        kind = TYPES[out.dtype]
        left = x[None, :] if x.ndim == 1 else x
        right = y[:, None] if y.ndim == 1 else y
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        shape = (*batch, left.shape[-2], right.shape[-1])
        # the sum of negative zeros is a positive one
        total = [self.number(0, kind)] * out.size
        for k in range(left.shape[-1]):
            rows, columns = (
                np.broadcast_to(part, shape).ravel()
                for part in (left[..., :, k, None], right[..., k, None, :])
            )
            total = self.elementwise(
                lambda t, a, b: t + a.to(kind) * b.to(kind),
                total, [xs[0][int(i)] for i in rows], [xs[1][int(j)] for j in columns],
            )  # fmt: skip
        return total


def numbered(avals: Sequence[Aval]) -> list[Any]:
    """Arrays of the numbers of the elements, counted through all operands."""
    arrays, start = [], 0
    for a in avals:
        arrays.append(np.arange(start, start + a.size).reshape(a.shape))
        start += a.size
    return arrays


def repeated(aval: Aval, out: Aval) -> list[int]:
    """For each element of ``out`` the element of an operand that is broadcast to it."""
    places = np.broadcast_to(np.arange(aval.size).reshape(aval.shape), out.shape)
    return list(map(int, places.ravel()))
