"""An elementwise group as a kernel: one pass over blocks of the operands.

Elements are computed in blocks of `BLOCK`, which stay in the first cache. A block is one loop per
dear function, because a loop that computes several keeps more values than there are registers;
what one loop leaves to a later one lies in scratch arrays on the stack. Operands that do not lie
element after element are copied to scratch first, so that the loops are the same for every layout.

Where values are elsewhere, or go elsewhere, see `places`; the operands are then flat arrays.

A sum adds each block in `LANES` fixed lanes, and the blocks with the rounding errors carried along
(Neumaier 1974): its bits do not depend on the machine, and its error does not grow with the length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import ClassVar

import numpy as np

from vjpkit.backends.native.code import (
    BOOL,
    TYPES,
    Code,
    Value,
    element,
    lanes_of,
    literal,
    vector,
)
from vjpkit.backends.native.engine import host, ufunc
from vjpkit.backends.native.equations import computed, is_dear
from vjpkit.backends.native.machine import Machine
from vjpkit.backends.native.places import (
    DOUBT,
    FAULT,
    MOVING_NEEDS,
    Deposit,
    Move,
    Table,
    gathered,
    is_gather,
    moving,
    placed_sum,
)
from vjpkit.core.aval import Shape
from vjpkit.core.ir import Atom, Equation, Literal, Var

__all__ = ["Kernel", "loaded", "memory_type", "store"]

BLOCK = 512
"""Elements of a block, where so many of each array that is kept have room in the cache."""
ROOM = 1 << 14
"""Numbers on the stack: the blocks are shorter where a group keeps many."""
LONGEST_LOOP = 64
"""Equations that one loop computes: LLVM takes more than twice as long for twice as many."""
LANES = 8
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
    are the equations that add their results at such places. Then the operands are followed by
    ``table``, and the results by a number that is not zero where a place was not there.
    """

    prefix: ClassVar[str] = "kernel"

    arrays: tuple[Var, ...]
    numbers: tuple[Var, ...]
    equations: tuple[Equation, ...]
    outputs: tuple[Var, ...]
    sums: tuple[Equation, ...] = ()
    moves: tuple[Move, ...] = ()
    deposits: tuple[Deposit, ...] = ()

    @property
    def operands(self) -> tuple[Var, ...]:
        return (*self.arrays, *self.numbers, *self.sources)

    @property
    def results(self) -> tuple[Var, ...]:
        sums = [e.outputs[0] for e in self.sums]
        return (*self.outputs, *sums, *[d.out for d in self.deposits])

    @property
    def arity(self) -> int:
        return len(self.operands) + len(self.results) + bool(self.moves) + self.checked

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
    def sources(self) -> tuple[Var, ...]:
        """The arrays that elements are taken from."""
        found = [a for m in self.moves for a in m.sources]
        found += [e.inputs[0] for e in self.gathers]  # type: ignore[misc]  # see `is_gather`
        found += [d.base for d in self.deposits if d.base is not None]
        return tuple(dict.fromkeys(found))

    @property
    def placed(self) -> bool:
        """Whether not every element stays where it is."""
        return bool(self.moves or self.checked)

    @property
    def checked(self) -> bool:
        """Whether places are computed, which may not be there."""
        return bool(self.gathers or self.deposits)

    @property
    def table(self) -> Table | None:
        """The runs of all moves."""
        return np.concatenate([m.table for m in self.moves]).reshape(-1) if self.moves else None

    def write(self) -> str:
        return _Writer(self).module()

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
        return ufunc(self.text, self.name, (*given, *made), len(given), signature)


def copying(kind: str, inward: bool) -> str:
    return f"{'gather' if inward else 'scatter'}_{kind}"


def copies(kind: str, inward: bool) -> str:
    """The function that copies elements that lie ``%step`` bytes apart, to or from dense ones."""
    near, far = ("%to", "%from") if inward else ("%from", "%to")
    dense = f"  %d = getelementptr {kind}, ptr {near}, i64 %i"
    apart = f"  %s = getelementptr i8, ptr {far}, i64 %o"
    here, there = ("%s", "%d") if inward else ("%d", "%s")
    return f"""define internal void @{copying(kind, inward)}(
    ptr %from, ptr %to, i64 %step, i64 %count) noinline nounwind {{
entry:
  br label %next
next:
  %i = phi i64 [0, %entry], [%j, %next]
  %o = mul i64 %i, %step
{dense}
{apart}
  %v = load {kind}, ptr {here}
  store {kind} %v, ptr {there}
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %count
  br i1 %more, label %next, label %done
done:
  ret void
}}"""


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


class _Writer:
    """Writes the module of one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.declared: set[str] = set()
        self.copies: set[tuple[str, bool]] = set()
        self.functions: dict[str, str] = {}
        """Loops over the elements of a block, and their names."""
        self.adders: dict[tuple[str, Shape], str] = {}
        """Functions that add a block to an array of a type and a shape."""
        self.stages = staged(kernel.equations) if kernel.equations else []
        made = {e.outputs[0]: i for i, s in enumerate(self.stages) for e in s}
        summed = [e.inputs[0] for e in kernel.sums]
        summed += [a for d in kernel.deposits for term in d.terms for a in term]
        self.shifted = [m.var for m in kernel.moves]
        crossing = {
            a for i, s in enumerate(self.stages) for e in s for a in e.inputs
            if isinstance(a, Var) and made.get(a, i) != i
        }  # fmt: skip
        stored = {*kernel.outputs, *kernel.arrays, *self.shifted}
        self.scratch = [v for v in made if v in {*crossing, *summed} and v not in stored]
        self.places = [*kernel.arrays, *kernel.outputs, *self.shifted, *self.scratch]
        self.source = {
            v: f"%z{j}" for j, v in enumerate(dict.fromkeys(e.inputs[0] for e in kernel.gathers))
        }
        self.place = {v: f"%q{j}" for j, v in enumerate(self.places)}
        self.size = max(LANES, min(BLOCK, ROOM // max(1, len(self.places)) // LANES * LANES))
        """Elements of a block."""
        self.summed = [self.place[e.inputs[0]] for e in kernel.sums if isinstance(e.inputs[0], Var)]

    # ---- the block ---------------------------------------------------------------------------

    def parameters(self) -> str:
        """Of the block: where arrays lie, numbers, and how many elements there are."""
        words = [f"ptr %q{j}" for j in range(len(self.places) - len(self.scratch))]
        words += [f"{kind_of(v)} %s{j}" for j, v in enumerate(self.kernel.numbers)]
        words += [f"ptr {name}" for name in self.source.values()]
        return ", ".join([*words, "ptr %kept", "i64 %m"])

    def kept(self) -> list[str]:
        """Where scratch lies, whose arrays are one behind the other."""
        first = len(self.places) - len(self.scratch)
        return [
            f"  %q{first + j} = getelementptr i64, ptr %kept, i64 {j * self.size}"
            for j in range(len(self.scratch))
        ]

    def block(self, exact: bool) -> tuple[str, bool]:
        """The function of one block, and whether it has doubts about arguments."""
        lines = [f"define internal i64 @{'exact' if exact else 'fast'}({self.parameters()}) "
                 "noinline nounwind {", "entry:", "  %any = icmp sgt i64 %m, 0",
                 "  br i1 %any, label %stages, label %end", "stages:", *self.kept()]  # fmt: skip
        flag, doubtful = "0", False
        for k, equations in enumerate(self.stages):
            name, arguments, doubts, faults = self.stage(equations, exact)
            lines.append(f"  %c{k} = call i64 @{name}({arguments}, i64 %m)")
            doubtful |= doubts
            if doubts or faults:
                lines.append(f"  %d{k} = or i64 {flag}, %c{k}")
                flag = f"%d{k}"
        lines += ["  br label %end", "end:", f"  %flag = phi i64 [0, %entry], [{flag}, %stages]",
                  "  ret i64 %flag", "}"]  # fmt: skip
        return "\n".join(lines), doubtful

    def stage(self, equations: Sequence[Equation], exact: bool) -> tuple[str, str, bool, bool]:
        """The name of the function of a loop, what it is called with, and its doubts and faults.

        Loops that compute the same, as those of an unrolled loop do, are one function.
        """
        code = Code(exact=exact)
        given: dict[str, str] = {}  # operands of this function, and the block's names for them
        values: dict[Var, Value] = {}
        numbers = {v: f"%s{j}" for j, v in enumerate(self.kernel.numbers)}
        faults: list[Value] = []

        def parameter(kind: str, outer: str) -> str:
            return given.setdefault(f"{kind} {outer}", f"%x{len(given)}")

        def read(a: Atom) -> Value:
            if isinstance(a, Literal):
                return code.number(a.value, kind_of(a))
            if a in numbers:
                return Value(code, parameter(kind_of(a), numbers[a]), kind_of(a))
            if a not in values:
                values[a] = loaded(code, parameter("ptr", self.place[a]), "%i", kind_of(a))
            return values[a]

        for eqn in equations:
            out = eqn.outputs[0]
            if eqn in self.kernel.gathers:
                x, *places = eqn.inputs
                at = gathered([read(a) for a in places], x.aval.shape, faults)
                values[out] = loaded(code, parameter("ptr", self.source[x]), at.name, kind_of(x))
            else:
                values[out] = computed(code, eqn, [read(a) for a in eqn.inputs])
        for eqn in equations:
            out = eqn.outputs[0]
            if out in self.place:
                store(code, parameter("ptr", self.place[out]), "%i", values[out])
        self.declared |= code.declared
        doubts = code.all_doubts()
        flags = [*[(x, DOUBT) for x in doubts], *[(x, FAULT) for x in faults]]
        lines = ["entry:", "  br label %l", "l:", "  %i = phi i64 [0, %entry], [%j, %l]"]
        if flags:
            lines.append("  %c = phi i64 [0, %entry], [%d, %l]")
        lines += [f"  {line}" for line in code.lines]
        if flags:
            lines += collected(flags)
        lines += ["  %j = add nuw nsw i64 %i, 1", "  %e = icmp eq i64 %j, %m",
                  "  br i1 %e, label %end, label %l", "end:",
                  f"  ret i64 {'%d' if flags else '0'}", "}"]  # fmt: skip
        words = [f"{'ptr noalias' if o.startswith('ptr') else o.split()[0]} {p}"
                 for o, p in given.items()]  # fmt: skip
        body = "\n".join([
            f'({", ".join(words)}, i64 %m) noinline nounwind '
            f'"prefer-vector-width"="{host().vector_bits}" {{', *lines,
        ])  # fmt: skip
        name = self.functions.setdefault(body, f"stage{len(self.functions)}")
        return name, ", ".join(given), bool(doubts), bool(faults)

    # ---- the loop over blocks ----------------------------------------------------------------

    def module(self) -> str:
        fast, doubtful = self.block(exact=False)
        functions = [fast]
        if doubtful:
            functions.append(self.block(exact=True)[0])
        functions += [f"define internal i64 @{name}{body}" for body, name in self.functions.items()]
        functions.append(self.outer(doubtful))
        for kind in sorted({memory_type(kind_of(v)) for v in self.shifted}):
            functions.append(moving(kind, {"double": 8, "float": 4, "i64": 8, "i8": 1}[kind]))
            self.declared |= set(MOVING_NEEDS)
        for (kind, shape), name in self.adders.items():
            text, declared = placed_sum(name, kind, shape)
            functions.append(text)
            self.declared |= declared | set(MOVING_NEEDS)
        functions += [copies(kind, inward) for kind, inward in sorted(self.copies)]
        self.declared.add("declare i32 @feclearexcept(i32)")
        return "\n".join([*sorted(self.declared), *functions, ""])

    def outer(self, doubtful: bool) -> str:
        """The loop that NumPy calls."""
        kernel = self.kernel
        core = bool(kernel.sums)
        ins, outs = len(kernel.arrays), len(kernel.outputs)
        base = len(kernel.operands) + bool(kernel.moves)
        count = base + len(kernel.results) + kernel.checked
        out = ["define void @loop(ptr %args, ptr %dims, ptr %steps, ptr %data) nounwind {",
               "entry:"]  # fmt: skip
        out.append(f"  %kept = alloca [{len(self.scratch) * self.size} x i64], align 64")
        out += self.kept() if kernel.sums or kernel.deposits else []
        moved = [*kernel.arrays, *kernel.outputs]
        for j, v in enumerate(moved):
            kind = memory_type(kind_of(v))
            out.append(f"  %w{j} = alloca [{self.size} x {kind}], align 64")
        for j in range(count):
            out += [f"  %a{j} = getelementptr ptr, ptr %args, i64 {j}",
                    f"  %p{j} = load ptr, ptr %a{j}"]  # fmt: skip
        if kernel.placed:
            out.append(f"  %n = add i64 0, {prod(kernel.shape)}")
        else:
            out += [f"  %dn = getelementptr i64, ptr %dims, i64 {int(core)}",
                    "  %n = load i64, ptr %dn"]  # fmt: skip
        places = [*range(ins), *[base + j for j in range(outs)]]
        for j, place in enumerate(places):
            if kernel.placed:  # flat arrays, as NumPy's `ravel` gives them
                out += [f"  %h{j} = add i64 0, {size_of(moved[j])}", f"  %near{j} = or i1 0, 1"]
                continue
            at = count + j if core else place
            out += [f"  %g{j} = getelementptr i64, ptr %steps, i64 {at}",
                    f"  %h{j} = load i64, ptr %g{j}",
                    f"  %near{j} = icmp eq i64 %h{j}, {size_of(moved[j])}"]  # fmt: skip
        for j, v in enumerate(kernel.numbers):
            code = Code(prefix=f"n{j}_")
            value = loaded(code, f"%p{ins + j}", "0", kind_of(v))
            out += [f"  {line}" for line in code.lines]
            out.append(f"  %s{j} = {same_value(value)}")
        out += self.starting()
        out += ["  %some = icmp sgt i64 %n, 0", "  br i1 %some, label %blocks, label %done",
                "blocks:", "  %b = phi i64 [0, %entry], [%b1, %last]",
                *self.carried("phi"),
                "  %left = sub i64 %n, %b", f"  %full = icmp slt i64 %left, {self.size}",
                f"  %m = select i1 %full, i64 %left, i64 {self.size}",
                "  br label %r0"]  # fmt: skip
        for j in range(ins):
            out += self.moving(f"r{j}", j, places[j], moved[j], inward=True)
            out.append(f"  br label %r{j + 1}")
        out.append(f"r{ins}:")
        out += self.shifting(ins + outs)
        for j in range(ins, ins + outs):
            out += [f"  %y{j} = mul i64 %b, {size_of(moved[j])}",
                    f"  %x{j} = getelementptr i8, ptr %p{places[j]}, i64 %y{j}",
                    f"  %q{j} = select i1 %near{j}, ptr %x{j}, ptr %w{j}"]  # fmt: skip
        given = [f"ptr {self.place[v]}" for v in (*moved, *self.shifted)]
        given += [f"{kind_of(v)} %s{j}" for j, v in enumerate(kernel.numbers)]
        given += [f"ptr {self.address(v)}" for v in self.source if isinstance(v, Var)]
        arguments = ", ".join([*given, "ptr %kept", "i64 %m"])
        out.append(f"  %flag = call i64 @fast({arguments})")
        if doubtful:
            out += [f"  %doubt = and i64 %flag, {DOUBT}", "  %sure = icmp eq i64 %doubt, 0",
                    "  br i1 %sure, label %good, label %again", "again:",
                    f"  %second = call i64 @exact({arguments})", "  br label %good", "good:",
                    f"  %found = phi i64 [%flag, %r{ins}], [%second, %again]"]  # fmt: skip
        else:
            out.append("  %found = or i64 0, %flag")
        out.append(f"  br label %r{ins + 1}")
        for j in range(ins, ins + outs):
            out += self.moving(f"r{j + 1}", j, places[j], moved[j], inward=False)
            out.append(f"  br label %r{j + 2}")
        out += [f"r{ins + outs + 1}:", *self.added(), *self.deposited(), "  br label %last",
                "last:",
                "  %b1 = add i64 %b, %m", "  %more = icmp slt i64 %b1, %n",
                "  br i1 %more, label %blocks, label %done", "done:", *self.totals(),
                f"  %quiet = call i32 @feclearexcept(i32 {host().every_exception})",
                "  ret void", "}"]  # fmt: skip
        return "\n".join(out)

    def moving(self, label: str, j: int, place: int, v: Var, inward: bool) -> list[str]:
        """A block of an operand that does not lie element after element, to or from scratch."""
        kind, size = memory_type(kind_of(v)), size_of(v)
        far = f"m{label}"
        lines = [f"{label}:"]
        if inward:
            lines += [f"  %y{j} = mul i64 %b, {size}",
                      f"  %x{j} = getelementptr i8, ptr %p{place}, i64 %y{j}",
                      f"  %q{j} = select i1 %near{j}, ptr %x{j}, ptr %w{j}"]  # fmt: skip
        here, there = (f"%f{far}", f"%w{j}") if inward else (f"%w{j}", f"%f{far}")
        name = copying(kind, inward)
        self.copies.add((kind, inward))
        return [*lines, f"  br i1 %near{j}, label %e{far}, label %{far}", f"{far}:",
                f"  %u{far} = mul i64 %b, %h{j}",
                f"  %f{far} = getelementptr i8, ptr %p{place}, i64 %u{far}",
                f"  call void @{name}(ptr {here}, ptr {there}, i64 %h{j}, i64 %m)",
                f"  br label %e{far}", f"e{far}:"]  # fmt: skip

    # ---- places ------------------------------------------------------------------------------

    def address(self, v: Var) -> str:
        """Where an array lies that elements are taken from."""
        kernel = self.kernel
        return f"%p{len(kernel.arrays) + len(kernel.numbers) + kernel.sources.index(v)}"

    def starting(self) -> list[str]:
        """What moves need before the first block; zeros, to which is added."""
        kernel = self.kernel
        lines, first, table = list[str](), 0, len(kernel.operands)
        for j, move in enumerate(kernel.moves):
            kind, count = memory_type(kind_of(move.var)), len(move.sources)
            lines += [f"  %mw{j} = alloca [{self.size} x {kind}], align 64",
                      f"  %mc{j} = alloca i64", f"  store i64 0, ptr %mc{j}",
                      f"  %ms{j} = alloca [{count} x ptr]",
                      f"  %mt{j} = getelementptr i64, ptr %p{table}, i64 {first}"]  # fmt: skip
            first += move.table.size
            for k, v in enumerate(move.sources):
                lines += [f"  %ms{j}_{k} = getelementptr ptr, ptr %ms{j}, i64 {k}",
                          f"  store ptr {self.address(v)}, ptr %ms{j}_{k}"]  # fmt: skip
        for j, deposit in enumerate(kernel.deposits):
            size, base = deposit.out.aval.nbytes, deposit.base
            name, start = ("memset.p0", "i8 0")
            if base is not None:
                name, start = ("memcpy.p0.p0", f"ptr {self.address(base)}")
            given = f"ptr {self.deposit(j)}, {start}, i64 {size}, i1 false"
            lines.append(f"  call void @llvm.{name}.i64({given})")
        return lines

    def shifting(self, first: int) -> list[str]:
        """The blocks of moved values."""
        return [
            f"  %q{first + j} = call ptr @moved_{memory_type(kind_of(m.var))}(ptr %ms{j}, "
            f"ptr %mt{j}, ptr %mc{j}, ptr %mw{j}, i64 %b, i64 %m)"
            for j, m in enumerate(self.kernel.moves)
        ]

    def deposit(self, j: int) -> str:
        """Where a result lies to which is added."""
        kernel = self.kernel
        before = len(kernel.operands) + bool(kernel.moves) + len(kernel.outputs) + len(kernel.sums)
        return f"%p{before + j}"

    def deposited(self) -> list[str]:
        """A block added to each of such results, and the faults so far."""
        if not self.kernel.checked:
            return []
        lines, sofar = ["  %bad0 = or i64 %bad, %found"], 0
        for j, deposit in enumerate(self.kernel.deposits):
            key = kind_of(deposit.out), deposit.out.aval.shape
            name = self.adders.setdefault(key, f"add{len(self.adders)}")
            for term in deposit.terms:
                words = [f"ptr {self.place[a]}" for a in term]
                lines += [f"  %out{sofar} = call i64 @{name}(ptr {self.deposit(j)}, "
                          f"{', '.join(words)}, i64 %m)",
                          f"  %bad{sofar + 1} = or i64 %bad{sofar}, %out{sofar}"]  # fmt: skip
                sofar += 1
        return [*lines, f"  %badn = or i64 %bad{sofar}, 0"]

    # ---- sums --------------------------------------------------------------------------------

    def carried(self, _: str) -> list[str]:
        """The totals and their rounding errors so far."""
        lines = []
        for j, eqn in enumerate(self.kernel.sums):
            kind = sum_kind(eqn)
            zero = literal(0, kind)
            lines += [f"  %S{j} = phi {kind} [{zero}, %entry], [%S{j}n, %last]",
                      f"  %E{j} = phi {kind} [{zero}, %entry], [%E{j}n, %last]"]  # fmt: skip
        if self.kernel.checked:
            lines.append("  %bad = phi i64 [0, %entry], [%badn, %last]")
        return lines

    def added(self) -> list[str]:
        """The sums of one block, and the totals after it."""
        lines: list[str] = []
        before = f"r{len(self.kernel.arrays) + len(self.kernel.outputs) + 1}"
        for j, eqn in enumerate(self.kernel.sums):
            lines += self.block_sum(j, eqn, before)
            before = f"t{j}d"
        return lines

    def block_sum(self, j: int, eqn: Equation, before: str) -> list[str]:
        kind, memory = sum_kind(eqn), memory_type(kind_of(eqn.inputs[0]))
        vector = f"<{LANES} x {kind}>"
        source = self.summed[j]
        code = Code(prefix=f"T{j}_")
        # whole groups of lanes as vectors, then what is left one by one
        lines = [
            f"  %g{j}n = and i64 %m, {-LANES}", f"  %g{j}a = icmp sgt i64 %g{j}n, 0",
            f"  br i1 %g{j}a, label %t{j}v, label %t{j}s", f"t{j}v:",
            f"  %g{j}i = phi i64 [0, %{before}], [%g{j}j, %t{j}v]",
            f"  %g{j}s = phi {vector} [zeroinitializer, %{before}], [%g{j}t, %t{j}v]",
            f"  %g{j}p = getelementptr {memory}, ptr {source}, i64 %g{j}i",
            f"  %g{j}x = load {vector}, ptr %g{j}p, align 1",
            f"  %g{j}t = fadd {vector} %g{j}s, %g{j}x",
            f"  %g{j}j = add i64 %g{j}i, {LANES}", f"  %g{j}e = icmp eq i64 %g{j}j, %g{j}n",
            f"  br i1 %g{j}e, label %t{j}s, label %t{j}v", f"t{j}s:",
            f"  %l{j} = phi {vector} [zeroinitializer, %{before}], [%g{j}t, %t{j}v]",
        ]  # fmt: skip
        lanes = [code.make(f"extractelement {vector} %l{j}, i64 {i}", kind) for i in range(LANES)]
        while len(lanes) > 1:
            lanes = [x + y for x, y in zip(lanes[::2], lanes[1::2], strict=True)]
        lines += [f"  {line}" for line in code.lines]
        lines += [
            f"  %u{j}a = icmp slt i64 %g{j}n, %m", f"  br i1 %u{j}a, label %t{j}r, label %t{j}d",
            f"t{j}r:", f"  %u{j}i = phi i64 [%g{j}n, %t{j}s], [%u{j}j, %t{j}r]",
            f"  %u{j}s = phi {kind} [{lanes[0].name}, %t{j}s], [%u{j}t, %t{j}r]",
            f"  %u{j}p = getelementptr {memory}, ptr {source}, i64 %u{j}i",
            f"  %u{j}x = load {kind}, ptr %u{j}p", f"  %u{j}t = fadd {kind} %u{j}s, %u{j}x",
            f"  %u{j}j = add i64 %u{j}i, 1", f"  %u{j}e = icmp eq i64 %u{j}j, %m",
            f"  br i1 %u{j}e, label %t{j}d, label %t{j}r", f"t{j}d:",
            f"  %B{j} = phi {kind} [{lanes[0].name}, %t{j}s], [%u{j}t, %t{j}r]",
        ]  # fmt: skip
        rest = Code(prefix=f"N{j}_")
        total, error, block = (Value(rest, f"%{c}{j}", kind) for c in "SEB")
        new = total + block
        larger = rest.intrinsic("fabs", total) >= rest.intrinsic("fabs", block)
        lost = larger.choose((total - new) + block, (block - new) + total)
        added = error + lost
        self.declared |= rest.declared
        lines += [f"  {line}" for line in rest.lines]
        return [*lines, f"  %S{j}n = {same_value(new)}", f"  %E{j}n = {same_value(added)}"]

    def totals(self) -> list[str]:
        """Store the sums; an infinite or undefined total has no error to add."""
        lines = []
        kernel = self.kernel
        base = len(kernel.operands) + bool(kernel.moves) + len(kernel.outputs)
        if kernel.checked:
            lines.append("  %badly = phi i64 [0, %entry], [%badn, %last]")
        for j, eqn in enumerate(self.kernel.sums):
            kind = sum_kind(eqn)
            zero = literal(0, kind)
            code = Code(prefix=f"F{j}_")
            lines += [f"  %FS{j} = phi {kind} [{zero}, %entry], [%S{j}n, %last]",
                      f"  %FE{j} = phi {kind} [{zero}, %entry], [%E{j}n, %last]"]  # fmt: skip
        for j, eqn in enumerate(self.kernel.sums):
            kind = sum_kind(eqn)
            code = Code(prefix=f"F{j}_")
            total, error = Value(code, f"%FS{j}", kind), Value(code, f"%FE{j}", kind)
            known = (error - error).equals(0.0)
            result = known.choose(total + error, total)
            lines += [f"  {line}" for line in code.lines]
            lines.append(f"  store {kind} {result.name}, ptr %p{base + j}")
        if kernel.checked:
            lines += [f"  %faults = and i64 %badly, {FAULT}",
                      f"  store i64 %faults, ptr {self.deposit(len(kernel.deposits))}"]  # fmt: skip
        return lines


def collected(flags: Sequence[tuple[Value, int]]) -> list[str]:
    """Doubts and faults of one element, and their bits, added to those before."""
    lines, sofar = [], "%c"
    for n, (flag, bit) in enumerate(flags):
        name = "%d" if n == len(flags) - 1 else f"%o{n}"
        lines += [f"  %z{n} = select i1 {flag.name}, i64 {bit}, i64 0",
                  f"  {name} = or i64 {sofar}, %z{n}"]  # fmt: skip
        sofar = name
    return lines


def sum_kind(eqn: Equation) -> str:
    return kind_of(eqn.outputs[0])


def size_of(v: Var) -> int:
    return int(v.aval.dtype.itemsize)


def same_value(x: Value) -> str:
    """An instruction that gives a value another name."""
    return f"select i1 true, {x.kind} {x.name}, {x.kind} {x.name}"


def alignment(memory: str) -> str:
    """What is known of an address: numbers are aligned, vectors of them no better."""
    size = {"double": 8, "float": 4, "i64": 8, "i8": 1}[element(memory)]
    return f"align {size}"


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
