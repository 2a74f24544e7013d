"""One step of a loop in registers.

Every value of a step is a list of its elements, which are lanes of registers: shapes are static, so
that indexing, reshaping and joining only choose among them. What a structural primitive chooses is
asked of the primitive itself, by running it on the numbers of the elements.

Elementwise equations are computed `WIDTH` elements at a time, on every machine alike; or, where no
step waits for another, one element of `WIDTH` steps at a time.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from math import prod
from typing import Any, Protocol

import numpy as np

from vjpkit.backends.groups import is_elementwise
from vjpkit.backends.native.code import (
    BOOL,
    DOUBLE,
    INT,
    TYPES,
    Code,
    Value,
    element,
    lanes_of,
    literal,
    vector,
)
from vjpkit.backends.native.equations import (
    CASTS,
    computed,
    is_dear,
    is_native,
    largest,
    scaled,
    smallest,
    why_not,
)
from vjpkit.core.aval import Aval
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var
from vjpkit.passes import optimize

__all__ = [
    "FOLDS",
    "OF_FLOATS",
    "STRUCTURAL",
    "SUMS_OF_PRODUCTS",
    "WIDTH",
    "Called",
    "Elements",
    "Lane",
    "Step",
    "computes_places",
    "is_element",
    "repeated",
    "why_no_element",
    "why_no_step",
    "work_of",
]

LARGEST_STEP = 8000
"""Elements that a step reads and computes at most: above, code grows faster than it gains."""
STRUCTURAL = frozenset(
    {"reshape", "transpose", "broadcast_to", "roll", "getitem", "diagonal", "concatenate", "stack",
     "copy", "update", "stop", "tril", "triu"}
)  # fmt: skip
"""Primitives that choose among the elements of their operands, and zero."""
WIDTH = 8
"""Lanes of a register."""
MOST_WRITES = 16
"""Elements of an index that is written to: each is compared with all others."""

Fold = Callable[[Value, Value], Value]


def plus(x: Value, y: Value) -> Value:
    return x + y


FOLDS: dict[str, tuple[Fold, int | None]] = {
    "sum": (plus, 0),
    "prod": (lambda x, y: x * y, 1),
    "max": (largest, None),
    "min": (smallest, None),
    "any": (lambda x, y: x | y, 0),
    "all": (lambda x, y: x & y, 1),
}
"""Reductions: the function of two, and the result of none."""


@dataclass(frozen=True)
class Lane:
    """One element: a lane of a register, or all of one that holds it for several steps."""

    register: Value
    index: int = 0

    def to(self, kind: str) -> Lane:
        register = self.register.to(kind)
        return self if register is self.register else Lane(register, self.index)

    @property
    def is_zero(self) -> bool:
        """Whether it is known to be 0, and not -0.0."""
        return self.register.name == zero(self.register.kind)


@cache
def zero(kind: str) -> str:
    return literal(0, kind)


Elements = list[Lane]


def why_no_step(body: Program) -> str | None:
    """Why a program cannot be computed in registers, in words; None if it can."""
    if work(body) > LARGEST_STEP:
        return f"a step computes more than {LARGEST_STEP} elements"
    found = [why_no_element(e, computed=True) for e in body.equations]
    return next(filter(None, found), None)


def work(program: Program) -> int:
    """Elements that a program reads and computes."""
    return sum([v.aval.size for v in program.inputs]) + sum(map(work_of, program.equations))


def work_of(eqn: Equation) -> int:
    """Elements that an equation computes; of products all terms, of branches all."""
    name, params = eqn.primitive.name, eqn.params
    if name in NESTED:
        return int(params.get("length", 1)) * sum(map(work, programs_in(eqn)))
    if name in ("matmul", "scale_matmul"):
        return int(eqn.inputs[0].aval.shape[-1]) * eqn.outputs[0].aval.size
    if name in ("contract", "scale_contract"):
        return prod(sizes_of(eqn).values())
    return sum([v.aval.size for v in eqn.outputs])


def programs_in(eqn: Equation) -> list[Program]:
    """The programs of a nested equation, optimised."""
    found = NESTED[eqn.primitive.name](eqn.params)
    return list(map(optimize, found))


NESTED: dict[str, Callable[[Mapping[str, Any]], tuple[Program, ...]]] = {
    "branch": lambda params: params["branches"],
    "call": lambda params: (params["program"],),
    "scan": lambda params: (params["body"],),
}
"""Where equations have their programs."""
SUMS_OF_PRODUCTS = frozenset({"matmul", "scale_matmul", "contract", "scale_contract"})
OF_FLOATS = frozenset({"sum", "prod", "max", "min", "spread", "mean_where", "var", "std", "cumsum"})


def why_no_element(eqn: Equation, computed: bool = False) -> str | None:
    """Why an equation of a step cannot be computed element by element.

    Elements at ``computed`` places need room for arrays, and somebody who looks at faults.
    """
    name = eqn.primitive.name
    if any(a.aval.dtype not in TYPES for a in (*eqn.inputs, *eqn.outputs)):
        return f"{name}: dtypes that kernels have not"
    if is_elementwise(eqn) or name in CASTS:
        return None if is_native(eqn) else why_not(eqn)
    if name in NESTED:
        if eqn.params.get("slots") is not None:
            return "its states are checkpointed"
        equations = [e for program in programs_in(eqn) for e in program.equations]
        found = [why_no_element(e, computed) for e in equations]
        return next(filter(None, found), None)
    places = index_arrays(eqn)
    if places:
        return why_no_place(eqn, places) if computed else "indices that are computed"
    kinds = {a.aval.dtype.kind for a in eqn.inputs}
    out = eqn.outputs[0].aval.dtype
    if name in STRUCTURAL:
        return "conversions to integers" if out.kind == "i" and "f" in kinds else None
    if name in SUMS_OF_PRODUCTS:  # of truth values "or" adds up, not arithmetic
        return f"{name} of truth values" if out.kind == "b" else None
    if name in OF_FLOATS:
        return None if kinds <= {"f", "b"} and out.kind == "f" else f"{name} of whole numbers"
    known = name in ("fill", "constant", "any", "all", "scatter_sum")
    return None if known else f"{name} in its step"


def index_arrays(eqn: Equation) -> Sequence[Atom]:
    """The operands that say which elements are read or written."""
    name, inputs = eqn.primitive.name, eqn.inputs
    if name in ("getitem", "take"):
        return inputs[1:]
    if name == "scatter_sum":
        return inputs[: -len(eqn.params["indices"])]
    if name in ("update", "add_at"):
        return inputs[:-2]
    return inputs if name in ("last_writes", "positions") else ()


def why_no_place(eqn: Equation, places: Sequence[Atom]) -> str | None:
    """Why an equation that computes its places is not computed element by element."""
    atoms, name = (*eqn.inputs, *eqn.outputs), eqn.primitive.name
    if any(TYPES[a.aval.dtype] != INT for a in places) or not all(a.aval.size for a in atoms):
        return "indices of truth values, or of nothing"
    if eqn.params.get("steps"):
        return "indices that are computed, of views"
    if name == "last_writes" and eqn.outputs[0].aval.size > MOST_WRITES:
        return f"more than {MOST_WRITES} writes at computed places"
    kinds = {a.aval.dtype.kind for a in eqn.inputs if a not in places}
    if "f" in kinds and eqn.outputs[0].aval.dtype.kind != "f":
        return "conversions to integers"
    return None


def computes_places(program: Program) -> bool:
    """Whether elements are read or written at places that a program computes."""
    return any(
        any(map(computes_places, programs_in(e))) if e.primitive.name in NESTED
        else bool(index_arrays(e))
        for e in program.equations
    )  # fmt: skip


def is_element(eqn: Equation) -> bool:
    """Whether one element is read whose place is known."""
    if eqn.primitive.name != "getitem":
        return False
    entries = eqn.params["index"].entries
    return len(entries) == eqn.inputs[0].aval.ndim and all(type(i) is int for i in entries)


@dataclass
class Called:
    """Dear functions that are called, rather than written where they are needed.

    What runs once is compiled sooner if each is there once. ``declared`` is what they need.
    """

    declared: set[str]
    texts: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def call(self, code: Code, eqn: Equation, xs: list[Value]) -> Value:
        """The result of an equation, and its doubts."""
        avals = [a.aval for a in (*eqn.inputs, *eqn.outputs)]
        kinds = [x.kind for x in xs]
        key = eqn.primitive, code.exact, *kinds, *[(a.dtype, a.weak) for a in avals]
        names = list(self.texts)
        name = f"dear{names.index(key) if key in self.texts else len(names)}"
        kind = vector(TYPES[avals[-1].dtype], lanes_of(kinds[0]))
        both = f"{{ {kind}, i1 }}"
        if key not in self.texts:
            inside = Code(exact=code.exact)
            given = [Value(inside, f"%x{i}", k) for i, k in enumerate(kinds)]
            found = computed(inside, eqn, given)
            doubt = inside.anything(inside.all_doubts())
            parameters = ", ".join(f"{x.kind} {x.name}" for x in given)
            self.texts[key] = "\n".join([
                f"define internal {both} @{name}({parameters}) nounwind noinline {{",
                *inside.lines, f"%first = insertvalue {both} poison, {kind} {found.name}, 0",
                f"%second = insertvalue {both} %first, i1 {doubt.name}, 1",
                f"ret {both} %second", "}",
            ])  # fmt: skip
            self.declared |= inside.declared
        words = ", ".join(f"{x.kind} {x.name}" for x in xs)
        made = code.make(f"call {both} @{name}({words})", both)
        if not code.exact:
            code.doubts.append(code.make(f"extractvalue {both} {made.name}, 1", BOOL))
        return code.make(f"extractvalue {both} {made.name}, 0", kind)


class Places(Protocol):
    """What reads and writes elements at computed places."""

    def result(self, step: Step, eqn: Equation, xs: list[Elements]) -> Elements: ...


@dataclass(frozen=True)
class Step:
    """Writes equations of one step, or of ``steps`` independent ones at once."""

    code: Code
    steps: int = 1
    called: Called | None = None
    places: Places | None = None
    unsigned: set[tuple[str, int]] = field(default_factory=set)
    """Lanes of registers that are known not to be -0.0, so that adding a zero changes nothing."""

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
            outs = self.equation(eqn, [read(a) for a in eqn.inputs])
            values.update(zip(eqn.outputs, outs, strict=True))
        return [
            [x.to(TYPES[a.aval.dtype]) for x in read(a)] for a in body.outputs
        ]  # fmt: skip

    def equation(self, eqn: Equation, xs: list[Elements]) -> list[Elements]:
        """The elements of each of an equation's results."""
        name = eqn.primitive.name
        if name == "call":
            return self.run(programs_in(eqn)[0], xs)
        if name == "branch":
            return self.chosen(eqn, xs)
        if name == "scan":
            return self.unrolled(eqn, xs)
        return [self.result(eqn, xs)]

    def computed(self, eqn: Equation, xs: list[Value]) -> Value:
        if self.called is None or not is_dear(eqn):
            return computed(self.code, eqn, xs)
        return self.called.call(self.code, eqn, xs)

    def result(self, eqn: Equation, xs: list[Elements]) -> Elements:
        """The elements of an equation's one result."""
        name, out = eqn.primitive.name, eqn.outputs[0].aval
        kind = TYPES[out.dtype]
        if is_elementwise(eqn) or name in CASTS:
            operands = [
                [x[i] for i in repeated(a.aval, out)] for a, x in zip(eqn.inputs, xs, strict=True)
            ]
            if name == "add" and out.dtype.kind == "f":
                return self.added(*[[x.to(kind) for x in operand] for operand in operands])
            return self.elementwise(lambda *given: self.computed(eqn, list(given)), *operands)
        if name in ("fill", "constant"):
            value = np.ravel(eqn.primitive.impl(**eqn.params))
            return [self.number(v, kind) for v in value]
        if name in FOLDS:
            rows = [[x.to(kind) for x in row] for row in self.rows(eqn, xs[0])]
            return self.folded(*FOLDS[name], rows, kind)
        if index_arrays(eqn):
            assert self.places is not None
            return self.places.result(self, eqn, xs)
        rule = RULES.get(name)
        if rule is not None:
            return rule(self, eqn, xs)
        if is_element(eqn):
            aval, places = eqn.inputs[0].aval, eqn.params["index"].entries
            at = np.ravel_multi_index(
                [i % n for i, n in zip(places, aval.shape, strict=True)], aval.shape
            )
            return [xs[0][int(at)].to(kind)]
        flat = [self.number(0, kind), *[x.to(kind) for operand in xs for x in operand]]
        chosen = eqn.primitive.impl(*numbered([a.aval for a in eqn.inputs]), **eqn.params)
        return [flat[int(i)] for i in np.ravel(chosen)]

    # ---- nested programs ---------------------------------------------------------------------

    def chosen(self, eqn: Equation, xs: list[Elements]) -> list[Elements]:
        """Every branch is computed; the first operand says which one counts."""
        index, *operands = xs
        number = [index[0].to(INT)]
        first, *others = [self.run(program, operands) for program in programs_in(eqn)]
        for i, other in enumerate(others, start=1):
            first = [
                self.elementwise(
                    lambda n, y, x, i=i: n.equals(i).choose(y, x), number * len(x), y, x
                )
                for x, y in zip(first, other, strict=True)
            ]
        return first

    def unrolled(self, eqn: Equation, xs: list[Elements]) -> list[Elements]:
        """A loop inside the step, its steps one after the other."""
        params = eqn.params
        ends = params["consts"], params["consts"] + params["carry"]
        consts, state, stacks = xs[: ends[0]], xs[ends[0] : ends[1]], xs[ends[1] :]
        (body,) = programs_in(eqn)
        length = params["length"]
        written: dict[int, list[Elements]] = {}
        for i in range(length - 1, -1, -1) if params["reverse"] else range(length):
            slices = [x[len(x) // length * i : len(x) // length * (i + 1)] for x in stacks]
            outs = self.run(body, [*consts, *state, *slices])
            state, written[i] = outs[: len(state)], outs[len(state) :]
        count = len(eqn.outputs) - len(state)
        return [*state, *[[x for i in range(length) for x in written[i][j]] for j in range(count)]]

    # ---- elements ----------------------------------------------------------------------------

    def elementwise(self, rule: Callable[..., Value], *xs: Elements) -> Elements:
        """What a rule gives for the elements of lists of one length."""
        return [
            Lane(y, i)
            for chunk in self.chunks(len(xs[0]))
            for y in [rule(*[self.register([x[k] for k in chunk]) for x in xs])]
            for i in range(len(chunk))
        ]

    def added(self, xs: Elements, ys: Elements) -> Elements:
        """Sums; where what was added at a few places is zeros elsewhere, there are none."""
        found: dict[int, Lane] = {}
        for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
            for zero, other in ((x, y), (y, x)):
                if zero.is_zero and self.is_unsigned(other):
                    found[i] = other
        left = [i for i in range(len(xs)) if i not in found]
        if left:
            made = self.elementwise(plus, [xs[i] for i in left], [ys[i] for i in left])
            for i, z in zip(left, made, strict=True):
                found[i] = z
                if self.is_unsigned(xs[i]) or self.is_unsigned(ys[i]):
                    self.unsigned.add((z.register.name, z.index))
        return [found[i] for i in range(len(xs))]

    def is_unsigned(self, x: Lane) -> bool:
        return x.is_zero or (x.register.name, x.index) in self.unsigned

    def rows(self, eqn: Equation, xs: Elements) -> list[Elements]:
        """The elements that are reduced to one, for each element of the reduced array."""
        return [[xs[i] for i in row] for row in reduced_places(eqn)]

    def folded(self, fold: Fold, empty: int | None, rows: list[Elements], kind: str) -> Elements:
        """Each row reduced: its first half with the second, until one is left.

        The sum of negative zeros is a positive one, as in NumPy.
        """
        if not rows:
            return []
        while len(rows[0]) > 1:
            half = len(rows[0]) // 2
            left, right = ([y for row in rows for y in row[k : k + half]] for k in (0, half))
            made = self.elementwise(fold, left, right)
            rows = [
                [*made[i * half : (i + 1) * half], *row[2 * half :]] for i, row in enumerate(rows)
            ]
        if empty is None:
            return [row[0] for row in rows]
        start = [self.number(empty, kind)] * len(rows)
        if not rows[0]:
            return start
        firsts = [row[0] for row in rows]
        return self.elementwise(fold, firsts, start) if fold is plus else firsts

    def total(self, rows: list[Elements], kind: str) -> Elements:
        return self.folded(plus, 0, rows, kind)

    def counts(self, eqn: Equation, mask: Elements) -> Elements:
        """How many elements of each row a mask marks, one at least."""
        ones = [[x.to(INT) for x in row] for row in self.rows(eqn, mask)]
        count = self.total(ones, INT)
        return self.elementwise(lambda n: (n > 1).choose(n, 1).to(DOUBLE), count)

    def spread(self, eqn: Equation, xs: list[Elements]) -> Elements:
        """Equal shares for the marked elements of each row."""
        kind = TYPES[eqn.outputs[0].aval.dtype]
        x, mask = xs
        shares = self.elementwise(
            lambda x, n: (x.to(DOUBLE) / n).to(kind), x, self.counts(eqn, mask)
        )
        owner = {i: row for row, places in enumerate(reduced_places(eqn)) for i in places}
        given = [shares[owner[i]] for i in range(len(mask))]
        return self.elementwise(lambda m, s: m.choose(s, 0.0), mask, given)

    def mean_where(self, eqn: Equation, xs: list[Elements]) -> Elements:
        """The mean of the marked elements of each row."""
        kind = TYPES[eqn.outputs[0].aval.dtype]
        x, mask = xs
        marked = self.elementwise(lambda m, x: m.choose(x, 0.0), mask, x)
        total = self.total(self.rows(eqn, marked), kind)
        return self.elementwise(
            lambda t, n: (t.to(DOUBLE) / n).to(kind), total, self.counts(eqn, mask)
        )

    def variance(self, eqn: Equation, xs: list[Elements]) -> Elements:
        """The mean square of the distances from the mean; or its root."""
        kind = TYPES[eqn.outputs[0].aval.dtype]
        rows = self.rows(eqn, xs[0])
        count = len(rows[0]) if rows else 0
        means = self.elementwise(lambda t: t / float(count), self.total(rows, kind))
        squares = [
            self.elementwise(lambda x, m: (x - m) * (x - m), row, [mean] * count)
            for row, mean in zip(rows, means, strict=True)
        ]
        freedom = float(max(count - eqn.params["ddof"], 0))
        root = eqn.primitive.name == "std"
        return self.elementwise(
            lambda t: self.code.intrinsic("sqrt", t / freedom) if root else t / freedom,
            self.total(squares, kind),
        )

    def running(self, eqn: Equation, xs: list[Elements]) -> Elements:
        """Sums of the elements up to each."""
        aval, axis = eqn.inputs[0].aval, eqn.params["axis"]
        places = np.moveaxis(np.arange(aval.size).reshape(aval.shape), axis, 0)
        columns = places.reshape(aval.shape[axis], -1).tolist()
        kind = TYPES[eqn.outputs[0].aval.dtype]
        results = [x.to(kind) for x in xs[0]]
        columns = columns[::-1] if eqn.params["reverse"] else columns
        for before, now in pairwise(columns):
            made = self.elementwise(plus, [results[i] for i in before], [results[i] for i in now])
            for i, x in zip(now, made, strict=True):
                results[i] = x
        return results

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
                    new = self.added(old, new)
                for place, x in zip(now, new, strict=True):
                    results[place] = x
                waiting = later
        return results

    def product(self, eqn: Equation, xs: list[Elements]) -> Elements:
        """A matrix product of vectors, matrices or stacks of them."""
        x, y = (np.arange(a.aval.size).reshape(a.aval.shape) for a in eqn.inputs)
        left = x[None, :] if x.ndim == 1 else x
        right = y[:, None] if y.ndim == 1 else y
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        shape = (*batch, left.shape[-2], right.shape[-1], left.shape[-1])
        right = np.moveaxis(right, -2, -1)[..., None, :, :]
        return self.summed(eqn, xs, left[..., :, None, :], right, shape)

    def contracted(self, eqn: Equation, xs: list[Elements]) -> Elements:
        """A product over named indices: those of the result, then those that are summed."""
        sizes = sizes_of(eqn)
        operands, out = eqn.params["subscripts"].split("->")
        letters = [*out, *[i for i in sizes if i not in out]]
        inner = prod([sizes[i] for i in letters[len(out) :]])
        shape = tuple([sizes[i] for i in letters])
        places = []
        for words, a in zip(operands.split(","), eqn.inputs, strict=True):
            order = [words.index(i) for i in letters if i in words]
            x = np.arange(a.aval.size).reshape(a.aval.shape).transpose(order)
            full = x.reshape([sizes[i] if i in words else 1 for i in letters])
            places.append(np.broadcast_to(full, shape).reshape(-1, inner))
        return self.summed(eqn, xs, places[0], places[1], places[0].shape)

    def summed(
        self, eqn: Equation, xs: list[Elements], left: Any, right: Any, shape: tuple[int, ...]
    ) -> Elements:
        """Sums of products over the last axis of the places, each from first to last."""
        out = eqn.outputs[0].aval
        kind = TYPES[out.dtype]
        places = [
            np.broadcast_to(part, shape).reshape(out.size, -1).T.tolist() for part in (left, right)
        ]
        times = scaled if eqn.primitive.name.startswith("scale") else operator.mul
        total = [self.number(0, kind)] * out.size  # the sum of negative zeros is a positive one
        for rows, columns in zip(*places, strict=True):
            total = self.elementwise(
                lambda t, a, b: t + times(a.to(kind), b.to(kind)),
                total, [xs[0][i] for i in rows], [xs[1][j] for j in columns],
            )  # fmt: skip
        return total


RULES: dict[str, Callable[[Step, Equation, list[Elements]], Elements]] = {
    "matmul": Step.product,
    "scale_matmul": Step.product,
    "contract": Step.contracted,
    "scale_contract": Step.contracted,
    "scatter_sum": Step.scattered,
    "spread": Step.spread,
    "mean_where": Step.mean_where,
    "var": Step.variance,
    "std": Step.variance,
    "cumsum": Step.running,
}
"""What computes the results of primitives that are neither elementwise nor structural."""


def sizes_of(eqn: Equation) -> dict[str, int]:
    """The lengths of the indices of a contraction."""
    words = eqn.params["subscripts"].split("->")[0].split(",")
    pairs = zip(words, eqn.inputs, strict=True)
    return {i: n for word, a in pairs for i, n in zip(word, a.aval.shape, strict=True)}


def reduced_places(eqn: Equation) -> list[list[int]]:
    """Numbers of the elements that a reduction, or what undoes one, takes together.

    The last operand, a mask where there is one, has the axes.
    """
    aval, axes = eqn.inputs[-1].aval, eqn.params["axes"]
    axes = tuple(range(aval.ndim)) if axes is None else axes
    places = np.moveaxis(
        np.arange(aval.size).reshape(aval.shape), axes, range(aval.ndim - len(axes), aval.ndim)
    )
    outer = places.shape[: aval.ndim - len(axes)]
    found: list[list[int]] = places.reshape(prod(outer), -1 if aval.size else 0).tolist()
    return found


def numbered(avals: Sequence[Aval]) -> list[Any]:
    """Arrays of the numbers of the elements, counted from 1 through all operands; 0 is zero."""
    arrays, start = [], 1
    for a in avals:
        arrays.append(np.arange(start, start + a.size).reshape(a.shape))
        start += a.size
    return arrays


def repeated(aval: Aval, out: Aval) -> list[int]:
    """For each element of ``out`` the element of an operand that is broadcast to it."""
    places = np.broadcast_to(np.arange(aval.size).reshape(aval.shape), out.shape)
    return list(map(int, places.ravel()))
