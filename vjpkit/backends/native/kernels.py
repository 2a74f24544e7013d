"""An elementwise group as a kernel: one pass over blocks of the operands.

Elements are computed in blocks of `BLOCK`, which stay in the first cache. A block is one loop per
dear function, because a loop that computes several keeps more values than there are registers;
what one loop leaves to a later one lies in scratch arrays on the stack. Operands that do not lie
element after element are copied to scratch first, so that the loops are the same for every layout;
so are those of a last block that is not as long as what a loop takes at a time.

Compiling is dear, and most of it is LLVM's search for vector code. So the loops are written as
vector code, each that is needed once; tables say which of them are called with what; what kernels
have in common is compiled once for all of them (`helpers`), and what runs once in a block without
any effort.

Where values are elsewhere, or go elsewhere, see `places`; the operands are then flat arrays.

A sum adds each block in `LANES` fixed lanes, and the blocks with the rounding errors carried along
(Neumaier 1974): its bits do not depend on the machine, and its error does not grow with the length.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from math import prod
from operator import or_
from typing import Any, ClassVar

import numpy as np

from vjpkit.backends.native import helpers
from vjpkit.backends.native.code import (
    BOOL,
    INT,
    TYPES,
    Code,
    Value,
    element,
    lanes_of,
    literal,
    vector,
)
from vjpkit.backends.native.engine import Effort, Helper, host, ufunc
from vjpkit.backends.native.equations import computed, is_dear
from vjpkit.backends.native.helpers import DOUBT, FAULT, SIZES
from vjpkit.backends.native.machine import Machine, quietly
from vjpkit.backends.native.places import (
    Deposit,
    Laid,
    Move,
    Table,
    bound_of,
    gathered,
    is_gather,
    is_numbering,
    view_of,
)
from vjpkit.core.aval import Aval, Shape
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, params_key, used
from vjpkit.passes.factors import with_common_factors, with_quotients

__all__ = ["Kernel", "loaded", "memory_type", "most_at_once", "store"]

BLOCK = 512
"""Elements of a block, where so many of each array that is kept have room in the cache."""
ROOM = 1 << 14
"""Numbers on the stack: the blocks are shorter where a group keeps many."""
LONGEST_LOOP = 64
"""Equations that one loop computes: LLVM takes more than twice as long for twice as many."""
GRAIN = 16
"""Elements of which a block has a multiple, all but the last: loops take several at a time."""
BRIEFLY = "noinline optnone nounwind"
"""Of functions that run once in a block: they are compiled in little time."""
MEMORY = {BOOL: "i8"}
"""How a number lies in memory, where that differs."""


def memory_type(kind: str) -> str:
    one = element(kind)
    return vector(MEMORY.get(one, one), lanes_of(kind))


def kind_of(v: Atom) -> str:
    return TYPES[v.aval.dtype]


@dataclass(frozen=True)
class Kernel(Machine):
    """What a group reads and makes, in the order of the ufunc's operands and results.

    ``sums`` are the equations that add up one of ``equations``' results over everything.
    ``equations`` may read ``moves``, and elements of ``sources`` at computed places; ``deposits``
    are the equations that add their results at such places, ``laid`` those that do at known ones.
    Then the operands are followed by ``table``, and the results by a number that is not zero where
    a place was not there.
    """

    prefix: ClassVar[str] = "kernel"

    arrays: tuple[Var, ...]
    numbers: tuple[Var, ...]
    equations: tuple[Equation, ...]
    outputs: tuple[Var, ...]
    sums: tuple[Equation, ...] = ()
    moves: tuple[Move, ...] = ()
    deposits: tuple[Deposit, ...] = ()
    laid: tuple[Laid, ...] = ()
    bounds: tuple[tuple[Var, int], ...] = ()
    """Operands that are whole numbers from 0 on, and what they are less than."""

    @property
    def operands(self) -> tuple[Var, ...]:
        return (*self.arrays, *self.numbers, *self.sources)

    @property
    def results(self) -> tuple[Var, ...]:
        sums = [e.outputs[0] for e in self.sums]
        added = [d.out for d in self.deposits] + [d.out for d in self.laid]
        return (*self.outputs, *sums, *added)

    @property
    def arity(self) -> int:
        return len(self.operands) + len(self.results) + bool(self.runs) + self.checked

    @cached_property
    def shape(self) -> Shape:
        """That of the arrays."""
        found = [e.outputs[0] for e in self.equations]
        found += [m.var for m in self.moves] + [*self.arrays]
        return found[0].aval.shape

    @cached_property
    def gathers(self) -> tuple[Equation, ...]:
        return tuple([e for e in self.equations if is_gather(e, self.shape)])

    @cached_property
    def numberings(self) -> tuple[Equation, ...]:
        return tuple([e for e in self.equations if is_numbering(e, self.shape)])

    @cached_property
    def sources(self) -> tuple[Var, ...]:
        """The arrays that elements are taken from."""
        found = [a for m in self.moves for a in m.sources]
        found += [e.inputs[0] for e in self.gathers]  # type: ignore[misc]  # see `is_gather`
        found += [d.base for d in self.deposits if d.base is not None]
        return tuple(dict.fromkeys(found))

    @property
    def placed(self) -> bool:
        """Whether not every element stays where it is."""
        return bool(self.moves or self.laid or self.asked)

    @cached_property
    def asked(self) -> tuple[tuple[Sequence[Atom], Shape], ...]:
        """The indices of places that are computed, and the shapes that they are for."""
        read = [(e.inputs[1:], e.inputs[0].aval.shape) for e in self.gathers]
        read += [(e.inputs, e.params["shape"]) for e in self.numberings]
        added = [(term[1:], d.out.aval.shape) for d in self.deposits for term in d.terms]
        return (*read, *added)

    @cached_property
    def below(self) -> dict[Atom, int]:
        """What whole numbers from 0 on are less than, as far as that is known."""
        made = {e.outputs[0]: bound_of(e) for e in self.equations}
        return {**dict(self.bounds), **{v: n for v, n in made.items() if n is not None}}

    def known(self, indices: Sequence[Atom], shape: Shape) -> list[bool]:
        """Along which axes the places are certainly there, and none is negative."""
        return [self.below.get(i, n + 1) <= n for i, n in zip(indices, shape, strict=True)]

    @cached_property
    def checked(self) -> bool:
        """Whether places are computed, which may not be there."""
        return not all(all(self.known(*asked)) for asked in self.asked)

    @property
    def runs(self) -> list[Table]:
        """Those of all moves, and of all that is laid."""
        return [m.table for m in self.moves] + [t for d in self.laid for _, t in d.terms]

    @property
    def table(self) -> Table | None:
        """All runs, one after the other."""
        return np.concatenate([t.reshape(-1) for t in self.runs]) if self.runs else None

    def reading(self, views: Mapping[Var, Equation]) -> Kernel:
        """The kernel that reads elements of arrays where these are views of them."""
        moves = list(filter(None, [view_of(views[v]) for v in self.arrays if v in views]))
        found = {move.var for move in moves}
        arrays = tuple([v for v in self.arrays if v not in found])
        return replace(self, arrays=arrays, moves=(*self.moves, *moves)) if moves else self

    @cached_property
    def written(self) -> tuple[str, tuple[Helper, ...]]:
        writer = _Writer(self)
        return writer.module(), tuple(writer.helpers.values())

    def write(self) -> str:
        return self.written[0]

    def compile(self) -> np.ufunc:
        given, made = ([v.aval.dtype for v in side] for side in (self.operands, self.results))
        signature = None
        if self.placed:
            inputs, outputs = (
                [f"({v.aval.size})" if v.aval.shape else "()" for v in side]
                for side in (self.operands, self.results)
            )
            if self.table is not None:
                inputs.append(f"({self.table.size})")
                given.append(self.table.dtype)
            if self.checked:
                outputs.append("()")
                made.append(np.dtype(np.int64))
        elif self.sums:
            inputs = ["(n)"] * len(self.arrays) + ["()"] * len(self.numbers)
            outputs = ["(n)"] * len(self.outputs) + ["()"] * len(self.sums)
        if self.placed or self.sums:
            signature = f"{','.join(inputs)}->{','.join(outputs)}"
        dtypes, helped = (*given, *made), self.written[1]
        return ufunc(self.text, self.name, dtypes, len(given), signature, Effort.NONE, helped)


@dataclass
class _Stage:
    """Equations that one loop computes."""

    equations: list[Equation] = field(default_factory=list)
    angle: Atom | None = None


def staged(equations: Sequence[Equation]) -> list[list[Equation]]:
    """Equations by loops: each dear function begins one; sine and cosine of one angle share it."""
    stages: list[_Stage] = [_Stage()]
    made = dict[Var, int]()
    for eqn in equations:
        name = eqn.primitive.name
        at = len(stages) - 1
        if name in ("sin", "cos"):
            shared = [i for i, s in enumerate(stages) if s.angle is eqn.inputs[0]]
            if shared:
                stages[shared[0]].equations.append(eqn)
                made[eqn.outputs[0]] = shared[0]
                continue
        full = len(stages[-1].equations) >= LONGEST_LOOP
        if full or (is_dear(eqn) and any(map(is_dear, stages[-1].equations))):
            stages.append(_Stage())
            at += 1
        if name in ("sin", "cos"):
            stages[at].angle = eqn.inputs[0]
        stages[at].equations.append(eqn)
        made[eqn.outputs[0]] = at
    return [s.equations for s in stages]


class _Loop:
    """Writes the function of a loop over the elements of a block, ``width`` at a time."""

    def __init__(self, writer: _Writer, width: int, exact: bool = False) -> None:
        self.writer, self.width = writer, width
        self.before, self.code = Code(prefix="s"), Code(exact=exact)
        self.given: dict[int, str] = {}
        """Places, and what they are called in this function."""
        self.values: dict[Var, Value] = {}
        self.faults: list[Value] = []

    def place(self, number: int) -> str:
        """Where the block lies whose address has a number in the table of these."""
        make, given = self.before.make, self.given
        if number not in given:
            at = make(f"getelementptr i64, ptr %given, i64 {len(given)}", "ptr")
            found = make(f"load i64, ptr {at.name}", INT)
            at = make(f"getelementptr ptr, ptr %places, i64 {found.name}", "ptr")
            given[number] = make(f"load ptr, ptr {at.name}", "ptr").name
        return given[number]

    def read(self, a: Atom) -> Value:
        """Elements of an operand; a number in every lane."""
        kind = vector(kind_of(a), self.width)
        if isinstance(a, Literal):
            return self.code.number(a.value, kind)
        if a not in self.values:
            place = self.place(self.writer.number[a])
            if a in self.writer.kernel.numbers:
                one = loaded(self.before, place, "0", kind_of(a))
                found = Value(self.code, self.before.repeated(one, self.width).name, kind)
            else:
                found = loaded(self.code, place, "%i", kind)
            self.values[a] = found
        return self.values[a]

    def number_at(self, indices: Sequence[Atom], shape: Shape) -> Value:
        """The numbers of the elements at places."""
        known = self.writer.kernel.known(indices, shape)
        return gathered(list(map(self.read, indices)), shape, known, self.faults)

    def function(self) -> tuple[str, list[int], bool]:
        """The name of the function, the places that it is given, and whether it has doubts."""
        code, found, kind = self.code, Code(prefix="r"), vector(INT, self.width)
        doubts = code.all_doubts()
        asked = (doubts, DOUBT), (self.faults, FAULT)
        flags = [(reduce(or_, answers), bit) for answers, bit in asked if answers]
        lines = ["entry:", *[f"  {line}" for line in self.before.lines], "  br label %l", "l:",
                 "  %i = phi i64 [0, %entry], [%j, %l]"]  # fmt: skip
        if flags:
            lines.append(f"  %c = phi {kind} [{literal(0, kind)}, %entry], [%d, %l]")
        lines += [f"  {line}" for line in code.lines]
        if flags:
            lines += collected(flags, self.width)
        flag = found.union(Value(found, "%d", kind)).name if flags else "0"
        lines += [f"  %j = add nuw nsw i64 %i, {self.width}", "  %e = icmp eq i64 %j, %m",
                  "  br i1 %e, label %end, label %l", "end:",
                  *[f"  {line}" for line in found.lines], f"  ret i64 {flag}", "}"]  # fmt: skip
        self.writer.declared |= code.declared | found.declared
        effort = "noinline optnone cold " if code.exact else ""  # it seldom runs
        body = "\n".join([
            f"(ptr %given, ptr %places, i64 %m) nounwind {effort}"
            f'"prefer-vector-width"="{host().vector_bits}" {{', *lines,
        ])  # fmt: skip
        functions = self.writer.functions
        name = functions.setdefault(body, f"stage{len(functions)}")
        return name, list(self.given), bool(doubts)


class _Writer:
    """Writes the module of one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.declared: set[str] = set()
        self.helpers: dict[str, Helper] = {}
        """Functions that are compiled once for all kernels."""
        self.arguments: list[str] = []
        """Lines that find operands and results."""
        self.functions: dict[str, str] = {}
        """Loops over the elements of a block, and their names."""
        self.stages_written: dict[Any, tuple[str, list[tuple[bool, int]], bool]] = {}
        """By what a loop computes: its name, what it reads and writes, and whether it doubts."""
        self.stages = staged(kernel.equations) if kernel.equations else []
        made = {e.outputs[0]: i for i, s in enumerate(self.stages) for e in s}
        summed = [e.inputs[0] for e in kernel.sums]
        summed += [term[0] for d in kernel.deposits for term in d.terms]
        summed += [term[0] for d in kernel.laid for term in d.terms]
        crossing = [a for d in kernel.deposits for term in d.terms for a in term[1:]]
        self.shifted = [m.var for m in kernel.moves]
        crossing += [
            a for i, s in enumerate(self.stages) for e in s for a in e.inputs
            if isinstance(a, Var) and made.get(a, i) != i
        ]  # fmt: skip
        kept = {*crossing, *summed} - {*kernel.outputs, *kernel.arrays, *self.shifted}
        integers = Aval(kernel.shape, np.dtype(np.int64))
        self.targets = {
            (term[1:], d.out.aval.shape): Var(integers) for d in kernel.deposits for term in d.terms
        }
        """By index arrays, and the shape they are for: the numbers of the elements there."""
        sure = [k for k in self.targets if len(k[0]) == 1 and all(kernel.known(*k))]
        self.targets.update({k: k[0][0] for k in sure})
        self.scratch = [v for v in made if v in kept]
        self.scratch += [v for k, v in self.targets.items() if k not in sure]
        self.places = [*kernel.arrays, *kernel.outputs, *self.shifted, *self.scratch]
        gathered_from = dict.fromkeys(a for e in kernel.gathers for a in used(e.inputs[:1]))
        self.number = {v: j for j, v in enumerate([*self.places, *kernel.numbers])}
        """Where the address of a value's block stands in the table of these, or of a number."""
        self.source = {v: j for j, v in enumerate(gathered_from, start=len(self.number))}
        """Where that of an array stands from which elements are taken."""
        room = ROOM // max(1, len(self.places)) // GRAIN * GRAIN
        self.size = max(GRAIN, min(BLOCK, room))
        """Elements of a block."""
        self.grain = next((w for w in (1, 2, 4, 8) if prod(kernel.shape) <= w), GRAIN)
        """Elements of which it has a multiple; fewer where the arrays have fewer."""
        self.width = min(self.grain, host().vector_bits // 32)
        """Elements that a loop computes at a time: two registers of doubles, or one where so many
        of them are needed at once that there are not twice as many registers."""

    # ---- the block ---------------------------------------------------------------------------

    def block(self, exact: bool) -> tuple[list[str], bool]:
        """Tables of what is called for one block, and whether it has doubts about arguments."""
        functions, arguments = list[str](), list[int]()
        for equations, (name, given, doubts) in zip(self.stages, self.fast, strict=True):
            if exact and doubts:
                name, given, _ = self.stage(equations, exact=True)
            functions.append(f"ptr @{name}")
            arguments += [len(given), *given]
        for (indices, shape), target in self.targets.items():
            if target in indices:
                continue
            name, given = self.placing(indices, shape)
            functions.append(f"ptr @{name}")
            arguments += [len(given), *given]
        name = "exact" if exact else "fast"
        lines = [
            table(f"{name}_functions", "ptr", [*functions, "ptr null"]),
            table(f"{name}_arguments", INT, [f"i64 {n}" for n in arguments]),
        ]
        return lines, any(doubts for *_, doubts in self.fast)

    @cached_property
    def fast(self) -> list[tuple[str, list[int], bool]]:
        """What `stage` gives of each loop, in the fast form."""
        return [self.stage(equations, exact=False) for equations in self.stages]

    def stage(self, equations: Sequence[Equation], exact: bool) -> tuple[str, list[int], bool]:
        """The name of the function of a loop, the places that it is given, and whether it doubts.

        Loops that compute the same, as those of an unrolled loop do, are one function, written
        once.
        """
        local: dict[Var, int] = {}
        words: list[Any] = [exact]
        for eqn in equations:
            words += [eqn.primitive, params_key(eqn.params), eqn in self.kernel.gathers]
            for a in (*eqn.inputs, *eqn.outputs):
                if isinstance(a, Literal):
                    words.append(a)
                else:
                    words += [local.setdefault(a, len(local)), a in self.number, a.aval]
                    words += [a in self.kernel.numbers, self.kernel.below.get(a)]
        key = tuple(words)
        if key not in self.stages_written:
            name, given, doubts = self.write_stage(equations, exact)
            numbers = {n: v for v, n in (*self.source.items(), *self.number.items())}
            found = [(n in self.source.values(), local[numbers[n]]) for n in given]
            self.stages_written[key] = name, found, doubts
        name, found, doubts = self.stages_written[key]
        mine = list(local)
        tables = self.number, self.source
        return name, [tables[shared][mine[i]] for shared, i in found], doubts

    def write_stage(
        self, equations: Sequence[Equation], exact: bool
    ) -> tuple[str, list[int], bool]:
        """What `stage` gives of equations that are new.

        The exact form takes one element at a time where it calls the C library.
        """
        crowded = most_at_once(equations) > host().vector_bits // 32
        width = min(self.width, host().vector_bits // 64) if crowded else self.width
        loop = self.loop(equations, width, exact)
        if loop.code.scalar:
            loop = self.loop(equations, 1, exact)
        return loop.function()

    def loop(self, equations: Sequence[Equation], width: int, exact: bool) -> _Loop:
        """The loop that computes equations, ``width`` elements at a time."""
        loop = _Loop(self, width, exact)
        values = loop.values
        stored = [v for e in equations for v in e.outputs if v in self.number]
        program = Program((), equations, stored)
        if not exact:  # which all are computed in again where this makes a nan of products
            program = with_quotients(with_common_factors(program))
        places: dict[Atom, list[Var]] = {}
        for v, made in zip(stored, program.outputs, strict=True):
            places.setdefault(made, []).append(v)
        for eqn in program.equations:
            out = eqn.outputs[0]
            if eqn in self.kernel.gathers:
                x, *indices = used(eqn.inputs)
                at = loop.number_at(indices, x.aval.shape)
                values[out] = taken(loop.code, loop.place(self.source[x]), at, kind_of(x))
            elif eqn in self.kernel.numberings:
                values[out] = loop.number_at(eqn.inputs, eqn.params["shape"])
            else:
                values[out] = computed(loop.code, eqn, list(map(loop.read, eqn.inputs)))
            for v in places.get(out, ()):  # at once: it need not stay in a register
                store(loop.code, loop.place(self.number[v]), "%i", values[out])
        return loop

    def placing(self, indices: tuple[Var, ...], shape: Shape) -> tuple[str, list[int]]:
        """The function that finds the numbers of elements, and the places that it is given."""
        loop = _Loop(self, self.width)
        found = loop.number_at(indices, shape)
        store(loop.code, loop.place(self.number[self.targets[indices, shape]]), "%i", found)
        name, given, _ = loop.function()
        return name, given

    # ---- the loop over blocks ----------------------------------------------------------------

    def helper(self, helper: Helper) -> str:
        """The name by which a function of all kernels is called."""
        self.helpers[helper.name] = helper
        return helper.name

    def module(self) -> str:
        functions, doubtful = self.block(exact=False)
        if doubtful:
            functions += self.block(exact=True)[0]
        functions += [f"define internal i64 @{name}{body}" for body, name in self.functions.items()]
        functions.append(self.outer(doubtful))
        self.declared |= {helper.declaration for helper in self.helpers.values()}
        return "\n".join([*sorted(self.declared), *functions, ""])

    def outer(self, doubtful: bool) -> str:
        """The loop over blocks, which NumPy calls, after the tables that it reads."""
        kernel, size, grain = self.kernel, self.size, self.grain
        copied = [*kernel.arrays, *kernel.outputs]
        places = len(self.number) + len(self.source)
        body = ["  %left = sub i64 %n, %b", f"  %full = icmp slt i64 %left, {size}",
                f"  %most = select i1 %full, i64 %left, i64 {size}",
                f"  %even = and i64 %most, {-grain}", "  %whole = icmp sgt i64 %even, 0",
                "  %m = select i1 %whole, i64 %even, i64 %left",
                f"  %padded = select i1 %whole, i64 %even, i64 {grain}"]  # fmt: skip
        given = "ptr @copied, ptr @copies, ptr %args, ptr %steps, ptr %places, ptr %near, "
        given += "i64 %b, i64 %m, i64 %padded"
        body.append(f"  call void @{self.helper(helpers.BRING)}({given})")
        body += self.shifting()
        exact = "ptr @exact_functions, ptr @exact_arguments" if doubtful else "ptr null, ptr null"
        body.append(f"  %flag = call i64 @{self.helper(helpers.STAGES)}(ptr @fast_functions, "
                    f"ptr @fast_arguments, {exact}, ptr %places, i64 %padded)")  # fmt: skip
        if kernel.outputs:
            body.append(f"  call void @{self.helper(helpers.SEND)}({given})")
        body += [*self.added(), *self.deposited(), *self.laying(), "  %b1 = add i64 %b, %m",
                 "  %more = icmp slt i64 %b1, %n",
                 "  br i1 %more, label %blocks, label %done"]  # fmt: skip
        before, after, (needs, quiet) = self.starting(), self.finished(), quietly()
        self.declared |= set(needs)
        lines = [*self.tables(),
                 f"define void @loop(ptr %args, ptr %dims, ptr %steps, ptr %data) {BRIEFLY} {{",
                 "entry:", f"  %places = alloca [{places} x ptr], align 64",
                 f"  %kept = alloca [{len(self.scratch) * size} x i64], align 64",
                 f"  %near = alloca [{len(copied) * size} x i64], align 64"]  # fmt: skip
        if kernel.placed:
            lines.append(f"  %n = add i64 0, {prod(kernel.shape)}")
        else:
            lines += [f"  %dn = getelementptr i64, ptr %dims, i64 {int(bool(kernel.sums))}",
                      "  %n = load i64, ptr %dn"]  # fmt: skip
        lines += [*self.arguments, *before, "  %some = icmp sgt i64 %n, 0",
                  "  br i1 %some, label %blocks, label %done", "blocks:",
                  "  %b = phi i64 [0, %entry], [%b1, %blocks]", *body, "done:", *after,
                  *quiet, "  ret void", "}"]  # fmt: skip
        return "\n".join(lines)

    def tables(self) -> list[str]:
        """What the loop over blocks has for each array that it reads or writes block by block.

        Its place in the table of addresses, which operand of the kernel it is, where its step
        stands, unless it is flat (-1), and the size of its elements; then what copies them.
        """
        kernel = self.kernel
        ins, base = len(kernel.arrays), self.first_result
        copied = [*kernel.arrays, *kernel.outputs]
        numbers, copies = [len(copied), ins, 8 * self.size], list[str]()
        for j, v in enumerate(copied):
            operand = j if j < ins else base + j - ins
            step = kernel.arity + j if kernel.sums else operand
            numbers += [self.number[v], operand, -1 if kernel.placed else step, size_of(v)]
            name = self.helper(helpers.copied(memory_type(kind_of(v)), j < ins))
            copies.append(f"ptr @{name}")
        fixed: list[int] = []
        for j, v in enumerate(kernel.numbers, start=ins):
            fixed += [self.number[v], j]
        for v, place in self.source.items():
            fixed += [place, self.operand(v)]
        return [
            table("copied", INT, [f"i64 {n}" for n in numbers]), table("copies", "ptr", copies),
            table("fixed", INT, [f"i64 {n}" for n in [len(fixed) // 2, *fixed]]),
        ]  # fmt: skip

    @property
    def first_result(self) -> int:
        return len(self.kernel.operands) + bool(self.kernel.runs)

    def argument(self, j: int) -> str:
        """Where an operand or a result of the ufunc lies."""
        lines = [f"  %a{j} = getelementptr ptr, ptr %args, i64 {j}",
                 f"  %p{j} = load ptr, ptr %a{j}"]  # fmt: skip
        if lines[0] not in self.arguments:
            self.arguments += lines
        return f"%p{j}"

    def operand(self, v: Var) -> int:
        """Which operand an array is that elements are taken from."""
        kernel = self.kernel
        return len(kernel.arrays) + len(kernel.numbers) + kernel.sources.index(v)

    def address(self, v: Var) -> str:
        """Where such an array lies."""
        return self.argument(self.operand(v))

    def starting(self) -> list[str]:
        """What is done before the first block."""
        kernel = self.kernel
        lines = [f"  call void @{self.helper(helpers.FIXED)}(ptr @fixed, ptr %args, ptr %places)"]
        if self.scratch:
            first, name = len(self.places) - len(self.scratch), self.helper(helpers.ROWS)
            lines += [f"  %first = getelementptr ptr, ptr %places, i64 {first}",
                      f"  call void @{name}(ptr %first, ptr %kept, i64 {len(self.scratch)}, "
                      f"i64 {8 * self.size})"]  # fmt: skip
        if kernel.checked:
            lines += ["  %bad = alloca i64", "  store i64 0, ptr %bad"]
        for j, eqn in enumerate(kernel.sums):
            kind = f"[2 x {sum_kind(eqn)}]"
            lines += [f"  %S{j} = alloca {kind}", f"  store {kind} zeroinitializer, ptr %S{j}"]
        first = 0
        for j, move in enumerate(kernel.moves):
            kind, count = memory_type(kind_of(move.var)), len(move.sources)
            runs = self.argument(len(kernel.operands))
            lines += [f"  %mw{j} = alloca [{self.size} x {kind}], align 64",
                      f"  %mc{j} = alloca i64", f"  store i64 0, ptr %mc{j}",
                      f"  %ms{j} = alloca [{count} x ptr]",
                      f"  %mt{j} = getelementptr i64, ptr {runs}, i64 {first}"]  # fmt: skip
            first += move.table.size
            for k, v in enumerate(move.sources):
                lines += [f"  %ms{j}_{k} = getelementptr ptr, ptr %ms{j}, i64 {k}",
                          f"  store ptr {self.address(v)}, ptr %ms{j}_{k}"]  # fmt: skip
        for j, laid in enumerate(kernel.laid):
            lines += [f"  %lf{j} = alloca i64", f"  store i64 0, ptr %lf{j}"]
            runs = self.argument(len(kernel.operands))
            for k, (_, found) in enumerate(laid.terms):
                lines += [f"  %lc{j}_{k} = alloca i64", f"  store i64 0, ptr %lc{j}_{k}",
                          f"  %lt{j}_{k} = getelementptr i64, ptr {runs}, i64 {first}"]  # fmt: skip
                first += found.size
        for j, deposit in enumerate(kernel.deposits):
            size, base = deposit.out.aval.nbytes, deposit.base
            name, start = "memset.p0", "i8 0"
            if base is not None:
                name, start = "memcpy.p0.p0", f"ptr {self.address(base)}"
            self.declared.add(f"declare void @llvm.{name}.i64(ptr, {start.split()[0]}, i64, i1)")
            given = f"ptr {self.deposit(j)}, {start}, i64 {size}, i1 false"
            lines.append(f"  call void @llvm.{name}.i64({given})")
        return lines

    # ---- in each block -----------------------------------------------------------------------

    def shifting(self) -> list[str]:
        """The blocks of moved values."""
        lines = []
        for j, move in enumerate(self.kernel.moves):
            name = self.helper(helpers.moved(memory_type(kind_of(move.var))))
            lines += [f"  %v{j} = call ptr @{name}(ptr %ms{j}, ptr %mt{j}, ptr %mc{j}, ptr %mw{j}, "
                      "i64 %b, i64 %m, i64 %padded)",
                      f"  %vp{j} = getelementptr ptr, ptr %places, i64 {self.number[move.var]}",
                      f"  store ptr %v{j}, ptr %vp{j}"]  # fmt: skip
        return lines

    def blocks(self, name: str, vs: Sequence[Var]) -> tuple[list[str], list[str]]:
        """The lines that read the addresses of blocks from their table; and these."""
        lines = []
        for i, v in enumerate(vs):
            lines += [f"  %{name}{i}p = getelementptr ptr, ptr %places, i64 {self.number[v]}",
                      f"  %{name}{i} = load ptr, ptr %{name}{i}p"]  # fmt: skip
        return lines, [f"ptr %{name}{i}" for i in range(len(vs))]

    def added(self) -> list[str]:
        """A block added to each total."""
        lines = []
        for j, eqn in enumerate(self.kernel.sums):
            found, (block,) = self.blocks(f"B{j}_", list(used(eqn.inputs)))
            name = self.helper(helpers.added(sum_kind(eqn)))
            lines += [*found, f"  call void @{name}(ptr %S{j}, {block}, i64 %m)"]
        return lines

    def laying(self) -> list[str]:
        """A block laid into each of such results."""
        lines = []
        for j, laid in enumerate(self.kernel.laid):
            to = self.deposit(len(self.kernel.deposits) + j)
            name = self.helper(helpers.laid(kind_of(laid.out), len(laid.terms) == 1))
            for k, (value, _) in enumerate(laid.terms):
                found, (block,) = self.blocks(f"L{j}_{k}_", [value])
                given = f"ptr {to}, ptr {block[4:]}, ptr %lt{j}_{k}, ptr %lc{j}_{k}, ptr %lf{j}, "
                lines += [*found, f"  call void @{name}({given}i64 %b, i64 %m)"]
        return lines

    def deposit(self, j: int) -> str:
        """Where a result lies to which is added at places: the deposits, then what is laid."""
        kernel = self.kernel
        return self.argument(self.first_result + len(kernel.outputs) + len(kernel.sums) + j)

    def deposited(self) -> list[str]:
        """A block added to each of such results, and the faults so far."""
        lines = []
        if self.kernel.checked:
            lines += ["  %sofar = load i64, ptr %bad", "  %now = or i64 %sofar, %flag",
                      "  store i64 %now, ptr %bad"]  # fmt: skip
        pairs = defaultdict[tuple[Var, str], list[tuple[str, Var]]](list)
        for j, deposit in enumerate(self.kernel.deposits):
            for value, *indices in deposit.terms:
                target = self.targets[tuple(indices), deposit.out.aval.shape]
                pairs[target, kind_of(deposit.out)].append((self.deposit(j), value))
        for j, ((target, kind), mine) in enumerate(pairs.items()):
            for k in range(0, len(mine), helpers.TOGETHER):
                some = mine[k : k + helpers.TOGETHER]
                found, (*blocks, at) = self.blocks(f"D{j}_{k}_", [*[v for _, v in some], target])
                given = [f"ptr {to}, {block}" for (to, _), block in zip(some, blocks, strict=True)]
                name = self.helper(helpers.deposited(kind, len(some)))
                lines += [*found, f"  call void @{name}({', '.join([*given, at])}, i64 %m)"]
        return lines

    def finished(self) -> list[str]:
        """The totals, and whether there were faults."""
        kernel, lines = self.kernel, []
        base = self.first_result + len(kernel.outputs)
        for j, eqn in enumerate(kernel.sums):
            name = self.helper(helpers.total(sum_kind(eqn)))
            lines.append(f"  call void @{name}(ptr %S{j}, ptr {self.argument(base + j)})")
        for j, laid in enumerate(kernel.laid):
            to, kind = self.deposit(len(kernel.deposits) + j), kind_of(laid.out)
            self.declared.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
            lines += [f"  %le{j} = load i64, ptr %lf{j}",
                      f"  %lr{j} = sub i64 {laid.out.aval.size}, %le{j}",
                      f"  %lb{j} = mul i64 %lr{j}, {size_of(laid.out)}",
                      f"  %lp{j} = getelementptr {kind}, ptr {to}, i64 %le{j}",
                      f"  call void @llvm.memset.p0.i64(ptr %lp{j}, i8 0, i64 %lb{j}, i1 false)",
                      ]  # fmt: skip
        if kernel.checked:
            place = self.deposit(len(kernel.deposits) + len(kernel.laid))
            lines += ["  %badly = load i64, ptr %bad", f"  %faults = and i64 %badly, {FAULT}",
                      f"  store i64 %faults, ptr {place}"]  # fmt: skip
        return lines


def most_at_once(equations: Sequence[Equation]) -> int:
    """How many values equations need at once, from where each is first read or made."""
    atoms = [[*used(e.inputs), *e.outputs] for e in equations]
    first, last = dict[Var, int](), dict[Var, int]()
    for i, vs in enumerate(atoms):
        for v in vs:
            first.setdefault(v, i)
            last[v] = i
    begun, ended = Counter(first.values()), Counter(last.values())
    most = count = 0
    for i in range(len(atoms)):
        count += begun[i]
        most = max(most, count)
        count -= ended[i]
    return most


def table(name: str, kind: str, entries: Sequence[str]) -> str:
    """A constant array."""
    value = f"[{', '.join(entries)}]" if entries else "zeroinitializer"
    return f"@{name} = internal constant [{len(entries)} x {kind}] {value}"


def collected(flags: Sequence[tuple[Value, int]], width: int) -> list[str]:
    """Doubts and faults of some elements, and their bits, added to those before."""
    lines, sofar, kind = [], "%c", vector(INT, width)
    for n, (flag, bit) in enumerate(flags):
        name = "%d" if n == len(flags) - 1 else f"%o{n}"
        lines += [f"  %z{n} = select {flag.kind} {flag.name}, {kind} {literal(bit, kind)}, "
                  f"{kind} {literal(0, kind)}", f"  {name} = or {kind} {sofar}, %z{n}"]  # fmt: skip
        sofar = name
    return lines


def sum_kind(eqn: Equation) -> str:
    return kind_of(eqn.outputs[0])


def size_of(v: Var) -> int:
    return int(v.aval.dtype.itemsize)


def alignment(memory: str) -> str:
    """What is known of an address: numbers are aligned, vectors of them no better."""
    return f"align {SIZES[element(memory)]}"


def loaded(code: Code, pointer: str, index: str, kind: str) -> Value:
    """An element of an array, or as many as the type has."""
    memory = memory_type(kind)
    address = code.make(
        f"getelementptr inbounds {element(memory)}, ptr {pointer}, i64 {index}", "ptr"
    )
    value = code.make(f"load {memory}, ptr {address.name}, {alignment(memory)}", memory)
    if element(kind) != BOOL:
        return value
    return code.make(f"icmp ne {memory} {value.name}, {literal(0, memory)}", kind)


def taken(code: Code, pointer: str, places: Value, kind: str) -> Value:
    """The elements of an array at the places of each lane."""
    lanes, one = lanes_of(places.kind), memory_type(kind)
    if lanes == 1:
        return loaded(code, pointer, places.name, kind)
    memory, pointers, mask = (vector(x, lanes) for x in (one, "ptr", BOOL))
    address = code.make(
        f"getelementptr {one}, ptr {pointer}, {places.kind} {places.name}", pointers
    )
    word = {"double": "f64", "float": "f32"}.get(one, one)
    name = f"llvm.masked.gather.v{lanes}{word}.v{lanes}p0"
    code.declared.add(f"declare {memory} @{name}({pointers}, i32, {mask}, {memory})")
    given = f"{pointers} {address.name}, i32 {SIZES[one]}, {mask} {literal(True, mask)}"
    found = code.make(f"call {memory} @{name}({given}, {memory} poison)", memory)
    return found if kind != BOOL else found.differs(0)


def store(code: Code, pointer: str, index: str, value: Value) -> None:
    """An element into an array, or as many as there are."""
    memory = memory_type(value.kind)
    name = value.name
    if element(value.kind) == BOOL:
        name = code.make(f"zext {value.kind} {name} to {memory}", memory).name
    address = code.make(
        f"getelementptr inbounds {element(memory)}, ptr {pointer}, i64 {index}", "ptr"
    )
    code.lines.append(f"store {memory} {name}, ptr {address.name}, {alignment(memory)}")
