"""The program around the kernels: NumPy source in which groups of equations are native."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from vjpkit.backends.groups import FEW_WAITING, Together, beginning, is_elementwise, schedule
from vjpkit.backends.native.again import Fusing, with_values_computed_again
from vjpkit.backends.native.chains import (
    MOST_OPERANDS,
    Chain,
    Chained,
    Packed,
    chained,
    joined,
)
from vjpkit.backends.native.engine import host
from vjpkit.backends.native.equations import CASTS, is_native, why_not
from vjpkit.backends.native.kernels import Kernel
from vjpkit.backends.native.loops import LOOPS, is_loop, running, why_no_loop
from vjpkit.backends.native.machine import Machine
from vjpkit.backends.native.places import (
    DEPOSITING,
    Move,
    bound_of,
    deposit_of,
    is_gather,
    is_numbering,
    is_view,
    laid_of,
    moves_of,
)
from vjpkit.backends.native.rows import Rows, row_by_row
from vjpkit.backends.native.straight import Straight, moves_enough, straight
from vjpkit.backends.native.wide import LongRows, Sweep, swept
from vjpkit.backends.numpy_source import (
    Lowered,
    Part,
    Source,
    compiled_by_itself,
    explained,
    lower,
    moves_only,
    quick_form,
)
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, used
from vjpkit.core.primitive import lookup
from vjpkit.passes import optimize
from vjpkit.passes.recompute import with_residuals_recomputed
from vjpkit.passes.splitting import with_loops_split

__all__ = ["NativeLowered", "lower_native"]

KERNEL, LOOP, STEPS = "native kernel", "native loop", "native steps"
PROGRAMS = "native programs"
"""Where machine code runs."""
LONGEST = 5000
"""Equations of a group: what they keep has room on the stack, a few elements at a time."""
JOINING = frozenset({"concatenate", "stack", "scatter_sum", "tril", "triu"})
"""Moves that NumPy does in little time."""
SMALLEST_OF_NUMBERS = 4
"""Equations of numbers from which a call of a kernel is cheaper than theirs."""


@dataclass(eq=False, repr=False)
class Fused(Fusing):
    """Elementwise equations with results of one shape: a kernel."""

    patience: ClassVar[float] = FEW_WAITING

    made: list[Machine] = field(default_factory=list)
    even: bool = True
    """Whether what is read element by element has the group's shape."""

    def takes(self, eqn: Equation) -> bool:
        """Whether the equation's result has the group's shape, and a kernel can compute it."""
        if len(self.equations) == LONGEST or len(eqn.outputs) != 1:
            return False
        if eqn.outputs[0].aval.shape != self.shape:
            return False
        if is_kernel_work(eqn):
            return not (self.flat or self.sums) or self.is_even(eqn)
        found = bool(self.shape) and self.even and self.places(eqn)
        if found:
            self.placed.add(eqn)
        return found

    def places(self, eqn: Equation) -> bool:
        """Whether the equation takes elements of arrays that the group does not make, or numbers
        them.
        """
        if is_numbering(eqn, self.shape):
            return True
        if is_gather(eqn, self.shape):
            return eqn.inputs[0] not in self.members
        return moves_of(eqn) is not None and self.members.isdisjoint(eqn.inputs)

    def is_even(self, eqn: Equation) -> bool:
        return {a.aval.shape for a in used(eqn.inputs)} <= {self.shape, ()}

    def add(self, eqn: Equation) -> None:
        super().add(eqn)
        placed = eqn in self.placed
        self.flat |= placed
        self.even &= placed or self.is_even(eqn)

    def sums_up(self, eqn: Equation) -> bool:
        """Whether the equation adds up a member over everything, or at places.

        All operands must be as large.
        """
        deposit = deposit_of(eqn, self.shape)
        if deposit is not None:
            fits = self.even and deposit.base not in self.members
            self.flat |= fits
            return fits
        laid = laid_of(eqn, self.shape) if self.shape else None
        if laid is not None:
            fits = self.even and any(v in self.members for v, _ in laid.terms)
            self.flat |= fits
            return fits
        if eqn.primitive.name != "sum" or eqn.inputs[0] not in self.members:
            return False
        axes, aval = eqn.params["axes"], eqn.inputs[0].aval
        everything = axes is None or len(set(axes)) == aval.ndim
        if not everything or aval.dtype.kind != "f" or eqn.outputs[0].aval.dtype != aval.dtype:
            return False
        return bool(self.shape) and self.even

    def ousts(self, other: Together) -> bool:
        """A group of numbers, or of what is joined, begins only where no other one is open."""
        joins = any(e.primitive.name in JOINING for e in self.equations)
        return bool(self.shape) and not joins

    def reads(self) -> list[Var]:
        """The arrays of its shape of which it reads the element at its place."""
        others = self.members | self.sources()
        found = [a for e in (*self.equations, *self.sums) for a in used(e.inputs)]
        return [a for a in dict.fromkeys(found) if a.aval.shape == self.shape and a not in others]

    def sources(self) -> set[Var]:
        """The arrays of which it reads other elements."""
        found = [
            a for e in self.equations if e in self.placed and not is_numbering(e, self.shape)
            for a in used(e.inputs[:1] if is_gather(e, self.shape) else e.inputs)
        ]  # fmt: skip
        deposits = filter(None, [deposit_of(e, self.shape) for e in self.sums])
        return {*found, *[d.base for d in deposits if d.base is not None]}

    def pays(self) -> bool:
        """Whether one call is cheaper than those of the equations; kernels of nothing are none."""
        if 0 in self.shape:
            return False
        if self.flat and self.shape:
            moved = list(filter(None, map(moves_of, self.equations)))
            return len(self.sums) + len(self.equations) > len(moved) or any(
                len(moves) > 1 for moves in moved
            )
        count = len(self.equations) + len(self.sums)
        return count >= (2 if self.shape else SMALLEST_OF_NUMBERS)

    def kernel(self, outputs: Sequence[Var]) -> Kernel:
        """The kernel that makes ``outputs`` and the sums."""
        moves: list[Move] = []
        equations: list[Equation] = []
        for eqn in self.equations:
            found = moves_of(eqn) if eqn in self.placed else None
            if found is None:
                equations.append(eqn)
            elif len(found) == 1 and found[0].var not in outputs:
                moves += found
            else:
                found = tuple([replace(m, var=Var(m.var.aval)) for m in found])
                moves += found
                equations += total_of([m.var for m in found], eqn)
        sums = [e for e in self.sums if e.primitive.name == "sum"]
        deposits = list(filter(None, [deposit_of(e, self.shape) for e in self.sums]))
        laid = list(filter(None, [laid_of(e, self.shape) for e in self.sums]))
        inside = {*self.members, *[m.var for m in moves], *[e.outputs[0] for e in equations]}
        read: dict[Var, None] = {}
        for eqn in equations:
            read.update(dict.fromkeys(used(eqn.inputs[is_gather(eqn, self.shape) :])))
        read.update(dict.fromkeys(a for d in deposits for term in d.terms for a in term))
        read.update(dict.fromkeys(v for d in laid for v, _ in d.terms))
        outside = [a for a in read if a not in inside]
        arrays = tuple([a for a in outside if a.aval.shape])
        numbers = tuple([a for a in outside if not a.aval.shape])
        return Kernel(
            arrays, numbers, tuple(equations), tuple(outputs), tuple(sums), tuple(moves),
            tuple(deposits), tuple(laid),
        )  # fmt: skip


class NativeLowered(Lowered):
    """A program as a function of arrays, groups of it as machine code."""

    def native_ir(self) -> str:
        """The LLVM text of the kernels, in the order in which they are called."""
        texts = []
        for part in self.parts:
            if isinstance(part, Fused | Rows | LongRows | Straight | Chained):
                texts += [kernel.text for kernel in part.made]
            elif isinstance(part, Equation) and (sums := running(part)) is not None:
                texts.append(Chain((sums,), part.outputs).text)
        return "\n".join(texts)

    @property
    def is_native(self) -> bool:
        return any(part.where in (KERNEL, LOOP, STEPS, PROGRAMS) for part in self.explain())

    @property
    def direct(self) -> Callable[..., Any] | None:
        kernels = [k for part in self.parts for k in getattr(part, "made", ())]
        lines = self.source.splitlines()
        if len(kernels) != 1 or len(lines) != 3:  # def, the call, return
            return None
        (kernel,), given = kernels, lines[0].removeprefix("def run(").removesuffix("):")
        as_they_are = isinstance(kernel, Kernel) and lines[1].endswith(f" = kernel0({given})")
        return kernel.compile() if as_they_are and kernel.results == self.program.outputs else None

    @property
    def silent(self) -> bool:
        """Whether all of it moves values or is machine code, which does not warn."""
        others = [part for part in self.parts if not moves_only(part)]
        return all(explained_native(part).where in (KERNEL, LOOP) for part in others)

    def explain(self) -> tuple[Part, ...]:
        return tuple(map(explained_native, self.parts))


def fused(eqn: Equation) -> Fused | None:
    """A group that begins with an equation that a kernel can compute."""
    if not eqn.outputs:
        return None
    shape = eqn.inputs[-1].aval.shape if eqn.inputs else ()
    if shape and deposit_of(eqn, shape) is not None:
        return Fused(shape=shape, sums=[eqn], beyond=set(eqn.outputs), flat=True)
    return beginning(Fused(shape=eqn.outputs[0].aval.shape), eqn)


def with_sums_early(equations: Sequence[Equation]) -> list[Equation]:
    """The equations, what adds values at computed places as soon as these are there.

    The kernel that makes the values can add them then, along with others at the same places; and
    one array lives on for several.
    """
    shapes = {e: e.inputs[-1].aval.shape for e in equations if e.primitive.name in DEPOSITING}
    early = {e for e, shape in shapes.items() if shape and deposit_of(e, shape) is not None}
    if not early:
        return list(equations)
    made: dict[Atom, int] = {}
    turn: dict[Equation, int] = {}
    for i, eqn in enumerate(equations):
        turn[eqn] = max([made.get(a, -1) for a in eqn.inputs]) if eqn in early else i
        made.update(dict.fromkeys(eqn.outputs, turn[eqn]))
    return sorted(equations, key=turn.__getitem__)


def total_of(parts: Sequence[Var], eqn: Equation) -> list[Equation]:
    """Equations that add up parts of the result of another one, or take the one there is."""
    aval = eqn.outputs[0].aval
    if len(parts) == 1:
        params = {"dtype": aval.dtype}
        return [Equation(lookup("convert"), tuple(parts), params, eqn.outputs, eqn.position)]
    add, zero = lookup("add"), Literal(aval.dtype.type(0))  # NumPy adds to zeros
    total: Atom = zero
    found = []
    for i, part in enumerate(parts):
        out = eqn.outputs[0] if i == len(parts) - 1 else Var(aval)
        found.append(Equation(add, (total, part), {}, (out,), eqn.position))
        total = out
    return found


def explained_native(part: Equation | Together) -> Part:
    """Where a part runs, and why."""
    if isinstance(part, Fused):
        words = (
            f"one pass over {'x'.join(map(str, part.shape))} elements" if part.shape else "numbers"
        )
        where = KERNEL if part.made else "one call each"
        return Part((*part.equations, *part.sums), where, words)
    if isinstance(part, LongRows):
        words = f"{part.rows} rows of {part.shape[-1]} elements, one after the other"
        return Part((*part.equations, *part.sums), KERNEL, words)
    if isinstance(part, Straight):
        return Part(tuple(part.equations), LOOP, "small arrays, element by element in registers")
    if isinstance(part, Rows):
        return Part(tuple(part.equations), LOOP, f"{part.length} rows, each in registers")
    if isinstance(part, Chained):
        lengths = [
            str(e.params.get("length", "unknown many"))
            for e in part.equations if e.primitive.name in LOOPS
        ]  # fmt: skip
        between = " and small arrays" if len(lengths) < len(part.equations) else ""
        words = f"{', then '.join(lengths)} steps{between} in registers"
        return Part(tuple(part.equations), LOOP, words)
    if isinstance(part, Equation) and part.primitive.name in LOOPS:
        where = STEPS if runs_machine_code(part) else "one call"
        return Part((part,), where, why_no_loop(part) or "")
    if isinstance(part, Equation) and compiled_by_itself(part, NativeSource.backend) is not None:
        if part.primitive.name == "pull":
            return Part((part,), STEPS, "blocks of steps, each a program")
        where = PROGRAMS if runs_machine_code(part) else "one call"
        return Part((part,), where, "each of its programs is compiled by itself")
    if isinstance(part, Equation) and running(part) is not None:
        return Part((part,), LOOP, f"{part.outputs[0].aval.size} sums, each of the last one")
    if isinstance(part, Equation) and is_elementwise(part):
        reason = why_not(part)
        return Part((part,), "one call", reason or "alone among others: NumPy is as quick")
    return explained(part)


class NativeSource(Source):
    """Writes the function; a fused group is one call of its kernel."""

    lowered: ClassVar[type[Lowered]] = NativeLowered
    backend: ClassVar[str] = "native"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.flat: set[Var] = set()
        """Results that are flat arrays so far: those who read them may want no others."""
        self.unseen: dict[Var, int] = {}
        """Views that nobody has wanted so far: kernels read what they are views of."""
        self.kernels = 0

    def name(self, a: Atom) -> str:
        """The variable of the source that holds ``a``, in its shape."""
        if a in self.unseen and isinstance(a, Var):
            super().equation(self.unseen.pop(a), self.views[a], ())
        if a in self.flat and isinstance(a, Var):
            self.flat.remove(a)
            name = self.names[a]
            self.lines.append(f"{name} = {name}.reshape({a.aval.shape})")
        return super().name(a)

    def word_of(self, a: Atom, flat: bool) -> str:
        """An operand of a kernel, as a flat array or as it is."""
        if not flat or not a.aval.shape or isinstance(a, Literal):
            return self.name(a)
        return self.names[a] if a in self.flat else f"{self.name(a)}.ravel()"

    @staticmethod
    def in_short(program: Program) -> Program:
        """What is computed first; kernels take out common factors, which they can put back."""
        return quick_form(program)

    def schedule(self) -> Sequence[Equation | Together]:
        equations = self.program.equations
        parts: Sequence[Equation | Together] = with_sums_early(equations)
        loops = any(e.primitive.name in LOOPS for e in equations)
        small = moves_enough(equations)
        for begun in (*[chained] * loops, row_by_row, swept, *[straight] * small, fused):
            parts = schedule(parts, begun)
        return with_values_computed_again(self.program, parts)

    @cached_property
    def views(self) -> dict[Var, Equation]:
        """Which values, that are no results, are views, and the equations that make them."""
        found = {e.outputs[0]: e for e in self.program.equations if is_view(e)}
        return {v: e for v, e in found.items() if v not in self.keep}

    def atoms_of(self, part: Equation | Together) -> list[Var]:
        """The variables that a part reads and defines; and what views are views of."""
        atoms = super().atoms_of(part)
        bases = [a for a in atoms if a in self.views]
        for a in bases:
            bases += [x for x in used(self.views[a].inputs) if x in self.views]
        sources = [x for a in bases for x in used(self.views[a].inputs)]
        return [*dict.fromkeys([*atoms, *sources])] if sources else atoms

    def equation(self, i: int, eqn: Equation, dying: Sequence[Var]) -> None:
        """Long running sums are one call of a loop; views wait until one wants them.

        Anything else is NumPy's.
        """
        sums = running(eqn)
        if sums is not None:
            self.chain(i, Chain((sums,), eqn.outputs))
        elif eqn.outputs and eqn.outputs[0] in self.views:
            self.unseen[eqn.outputs[0]] = i
        else:
            super().equation(i, eqn, dying)

    def chain(self, i: int, chain: Chain) -> None:
        """The lines that call a chain of loops."""
        self.examine(chain.operands)
        ins, outs = chain.arrays
        name = f"loop{i}"
        self.scope[name] = chain.compile()
        names = [
            self.name(a.members[0]) if len(a.members) == 1 else f"{name}_{j}"
            for j, a in enumerate(outs)
        ]
        faults = [f"{name}_fault"] if chain.checked else []
        words = ", ".join(map(self.joined, ins))
        self.lines.append(f"{', '.join([*names, *faults])} = {name}({words})")
        if faults:
            self.look_at(faults[0])
        for y, array in zip(names, outs, strict=True):
            alone = len(array.members) == 1
            for v, start, end in array.places():
                if not alone:
                    part = f"{start}:{end}" if v.aval.shape else f"{start}"
                    self.lines.append(f"{self.name(v)} = {y}[{part}]")
                if v.aval.ndim > 1:
                    self.flat.add(v)
            if alone:
                self.ours.update(array.members)

    def joined(self, array: Packed) -> str:
        """An operand of a chain."""
        if len(array.members) == 1:
            return self.word_of(array.members[0], flat=array.is_array)
        words = ", ".join([self.names[v] for v in array.members])
        return f"{self.function(joined, 'joined')}(({words}), {self.constant(array.dtype)})"

    def group(self, i: int, group: Together, last: dict[Var, int]) -> None:
        outputs = self.needed(i, group, last)
        if isinstance(group, Rows | Straight | Chained):
            chain = Chain(tuple(group.calls(outputs)), tuple(outputs))
            group.made.append(chain)
            self.chain(i, chain)
            return
        assert isinstance(group, Fused | LongRows)
        for part, made in fitting(group, outputs):
            kernel = self.informed(part.kernel(made))
            flat = isinstance(kernel, Sweep) or (
                kernel.placed or (bool(kernel.sums) and len(group.shape) != 1)
            )
            if flat and isinstance(kernel, Kernel):
                reading = kernel.reading(self.views)
                kernel = reading if reading.arity <= MOST_OPERANDS else kernel
            group.made.append(kernel)
            self.call(kernel, flat)

    def informed(self, kernel: Kernel | Sweep) -> Kernel | Sweep:
        """The kernel, with what is known of its operands."""
        if not isinstance(kernel, Kernel):
            return kernel
        found = [(v, n) for v in kernel.arrays if (n := self.bounds.get(v)) is not None]
        return replace(kernel, bounds=tuple(found)) if found else kernel

    @cached_property
    def bounds(self) -> dict[Var, int | None]:
        """What the whole numbers in arrays are less than, if they are not negative."""
        return {e.outputs[0]: bound_of(e) for e in self.program.equations if e.outputs}

    def call(self, kernel: Kernel | Sweep, flat: bool) -> None:
        """The lines that call a kernel, of flat arrays or of arrays as they are."""
        self.examine(kernel.operands)
        name = f"kernel{self.kernels}"
        self.kernels += 1
        self.scope[name] = kernel.compile()
        words = []
        for a in kernel.operands:
            word = self.word_of(a, flat)
            if not a.aval.shape and a.aval.dtype == bool:  # True * True is 1
                word = f"{self.function(np.bool_, 'bool_')}({word})"
            words.append(word)
        targets = list(map(self.name, kernel.results))
        if isinstance(kernel, Kernel) and kernel.table is not None:
            words.append(self.constant(kernel.table))
        checked = isinstance(kernel, Kernel) and kernel.checked
        if checked:
            targets.append(f"{name}_fault")
        self.lines.append(f"{', '.join(targets)} = {name}({', '.join(words)})")
        if checked:
            self.look_at(f"{name}_fault")
        shaped = kernel.results if flat else [e.outputs[0] for e in kernel.sums]
        sums = {e.outputs[0] for e in kernel.sums}
        for v in shaped:
            if v.aval.ndim > 1 or (v.aval.shape and v in sums):
                self.flat.add(v)
        self.ours.update(kernel.results)

    def look_at(self, fault: str) -> None:
        """Where a place was not there, NumPy computes everything again."""
        self.scope.setdefault("in_numpy", self.exact or self.in_numpy())
        inputs = ", ".join(map(self.name, self.program.inputs))
        self.lines.append(f"if {fault}: return in_numpy({inputs})")

    def in_numpy(self) -> Callable[..., Any]:
        """The program by NumPy, which raises what has to be raised."""
        program = Program(self.program.inputs, self.program.equations, self.outputs)
        return lambda *values: executable_by_numpy(program)(*values)


def executable_by_numpy(program: Program) -> Lowered:
    return program.cached("by NumPy", lambda: lower(program, private=True))  # type: ignore[no-any-return]  # the cache is untyped


def fitting(
    group: Fused | LongRows, outputs: Sequence[Var]
) -> list[tuple[Fused | LongRows, Sequence[Var]]]:
    """The group, or halves of it that a ufunc has room for, and what each gives."""
    kernel = group.kernel(outputs)
    if kernel.arity <= MOST_OPERANDS:
        return [(group, outputs)]
    if len(group.equations) < 2:  # many sums: what they need is computed for each half
        middle = len(group.sums) // 2
        halves = (
            replace(group, sums=group.sums[:middle]),
            replace(group, sums=group.sums[middle:]),
        )
        return [*fitting(halves[0], outputs), *fitting(halves[1], ())]
    middle = len(group.equations) // 2
    first, second = (
        replace(
            group, equations=equations, members={v for e in equations for v in e.outputs}, sums=[]
        )
        for equations in (group.equations[:middle], group.equations[middle:])
    )
    for eqn in group.sums:
        early_one = first.members.issuperset(used(eqn.inputs))
        (first if early_one else second).sums.append(eqn)
    later = (*second.equations, *second.sums)
    wanted = {*outputs, *[a for e in later for a in used(e.inputs)]}
    early = [v for e in first.equations for v in e.outputs if v in wanted]
    late = [v for v in outputs if v in second.members]
    return [*fitting(first, early), *fitting(second, late)]


def runs_machine_code(eqn: Equation) -> bool:
    """Whether a program that an equation runs is machine code: steps, branches, what is called."""
    from vjpkit.backends import executable

    params = eqn.params
    own = [params[name] for name in ("body", "program") if name in params]
    made = [executable(p, NativeSource.backend) for p in (*own, *params.get("branches", ()))]
    return any(isinstance(run, Lowered) and run.is_native for run in made)


def is_kernel_work(eqn: Equation) -> bool:
    """Whether a kernel can compute the equation element by element."""
    elementwise = is_elementwise(eqn) or eqn.primitive.name in CASTS
    return elementwise and is_native(eqn)


def lower_native(program: Program) -> Lowered:
    """``program``, its elementwise groups as machine code; `Unavailable` without llvmlite."""
    host()
    split = optimize(with_loops_split(program, is_loop))
    return lower(with_residuals_recomputed(split, is_loop), private=True, kind=NativeSource)
