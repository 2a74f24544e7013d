"""Elementwise work with reductions within rows and sums of rows, row by row.

A row stays in the first cache. It is passed over once for each reduction that the next pass needs:
softmax is three passes, each of `WIDTH` elements at a time. What one pass leaves to a later one
lies in scratch of one row; numbers that belong to a row are computed between passes. Sums over
other axes than the last are added up as the rows go by. Operands may be broadcast along any axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, prod
from typing import Any, ClassVar

import numpy as np

from vjpkit.backends.groups import Together, beginning, is_elementwise
from vjpkit.backends.native.code import TYPES, Code, Value, vector
from vjpkit.backends.native.engine import host, ufunc
from vjpkit.backends.native.equations import CASTS, computed, is_native
from vjpkit.backends.native.kernels import loaded, memory_type, store
from vjpkit.backends.native.machine import Machine, module_of
from vjpkit.backends.native.steps import FOLDS, WIDTH, Step
from vjpkit.core.aval import Aval, Shape
from vjpkit.core.ir import Atom, Equation, Literal, Var, used
from vjpkit.core.primitive import lookup

__all__ = ["LongRows", "Sweep", "swept"]

SHORTEST, LONGEST = 2, 4096
"""Elements of a row."""
SHORT = 64
"""Elements of a row for which a call of a loop is dear."""
MANY = 2048
"""Elements for which many such calls are dearer than one of a kernel."""
MUCH = 8
"""How many times as many elements are much more."""
FULL, ROW, SHARED, NUMBER = "elements", "number of a row", "elements shared", "number shared"
"""What a variable has for a row: elements or one number, of its own or shared with other rows."""
IDENTITY = {"max": -inf, "min": inf}
"""What a reduction begins with, where that is not in `FOLDS`."""


@dataclass(eq=False, repr=False)
class LongRows(Together):
    """Equations over arrays of one shape, whose last axis is a row; ``sums`` go down the rows."""

    patience: ClassVar[float] = inf

    shape: Shape = ()
    roles: dict[Var, str] = field(default_factory=dict)
    made: list[Machine] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return prod(self.shape[:-1])

    # ---- which equations ---------------------------------------------------------------------

    def takes(self, eqn: Equation) -> bool:
        """Whether the equation computes rows, or numbers of rows, from such."""
        return self.roles_of(eqn) is not None

    def add(self, eqn: Equation) -> None:
        found = self.roles_of(eqn)
        assert found is not None
        super().add(eqn)
        self.roles.update(found)

    def roles_of(self, eqn: Equation) -> dict[Var, str] | None:
        """What the variables of an equation would be; None where it does not belong here."""
        if len(eqn.outputs) != 1 or any(
            a.aval.dtype not in TYPES for a in (*eqn.inputs, *eqn.outputs)
        ):
            return None
        (out,), name = eqn.outputs, eqn.primitive.name
        role = FULL if out.aval.shape == self.shape else ROW
        if role == ROW and not self.is_row(out.aval):
            return None
        if is_elementwise(eqn) or name in CASTS:
            found = self.elementwise(eqn, role) if is_native(eqn) else None
        elif name in FOLDS:
            found = self.reduced(eqn, role)
        elif name in ("reshape", "broadcast_to"):
            found = self.repeated(eqn, role)
        else:
            found = None
        if found is None or any(self.roles.get(v, r) != r for v, r in found.items()):
            return None
        members = [v for v in used(eqn.inputs) if v in self.members]
        if role == ROW and not members and name not in FOLDS:
            return None  # numbers that have nothing to do with these rows
        return {**found, out: role}

    def is_row(self, aval: Aval) -> bool:
        return aval.shape in (self.shape[:-1], (*self.shape[:-1], 1)) and bool(aval.shape)

    def elementwise(self, eqn: Equation, role: str) -> dict[Var, str] | None:
        found: dict[Var, str] = {}
        out = eqn.outputs[0].aval
        for a in used(eqn.inputs):
            shape = a.aval.shape
            if shape == out.shape:
                found[a] = role
            elif not shape:
                found[a] = NUMBER
            elif role == ROW:
                return None
            elif shape == (*self.shape[:-1], 1):
                found[a] = ROW
            else:  # NumPy broadcasts it
                found[a] = SHARED if shape[-1] == self.shape[-1] else NUMBER
        return found

    def reduced(self, eqn: Equation, role: str) -> dict[Var, str] | None:
        (x,) = eqn.inputs
        ndim = len(self.shape)
        if not isinstance(x, Var) or role != ROW or x.aval.shape != self.shape:
            return None
        if eqn.params["axes"] != (ndim - 1,):
            return None
        floats = x.aval.dtype.kind == "f" and eqn.outputs[0].aval.dtype == x.aval.dtype
        return {x: FULL} if floats or eqn.primitive.name in ("any", "all") else None

    def repeated(self, eqn: Equation, role: str) -> dict[Var, str] | None:
        """A number of a row with or without its axis, or for all elements of the row."""
        (x,) = eqn.inputs
        if not isinstance(x, Var) or x not in self.members or self.roles[x] != ROW:
            return None
        if role == FULL and x.aval.shape != (*self.shape[:-1], 1):
            return None
        return {x: ROW}

    def sums_up(self, eqn: Equation) -> bool:
        """Whether the equation adds rows of a member up, over any axes but the last."""
        x = eqn.inputs[0] if eqn.inputs else None
        return (
            eqn.primitive.name == "sum"
            and isinstance(x, Var)
            and x in self.members
            and self.roles[x] == FULL
            and x.aval.dtype.kind == "f"
            and eqn.outputs[0].aval.dtype == x.aval.dtype
            and bool(eqn.params["axes"])
            and max(eqn.params["axes"]) < len(self.shape) - 1
        )

    def taken(self, eqn: Equation) -> Equation | None:
        """A sum over everything is left as the sum of the rows' sums."""
        left = super().taken(eqn)
        if left is None or not self.sums_everything(left) or not self.pays():
            return left
        (x,), total = left.inputs, lookup("sum")
        params = {"axes": (len(self.shape) - 1,), "keepdims": False}
        part = Var(total.abstract(x.aval, **params))
        first = Equation(total, (x,), params, (part,), left.position)
        if not self.takes(first):
            return left
        self.add(first)
        params = {"axes": None, "keepdims": False}
        return Equation(total, (part,), params, left.outputs, left.position)

    def sums_everything(self, eqn: Equation) -> bool:
        """Whether the equation adds all elements of a member up."""
        if eqn.primitive.name != "sum" or eqn.params["keepdims"]:
            return False
        (x,) = eqn.inputs
        everything = eqn.params["axes"] in (None, tuple(range(x.aval.ndim)))
        return isinstance(x, Var) and x in self.members and self.roles[x] == FULL and everything

    def ousts(self, other: Together) -> bool:
        """What is small beside another group does not end it."""
        rows = other.shape if isinstance(other, LongRows) else ()
        return prod(self.shape) * MUCH >= prod(rows)

    def pays(self) -> bool:
        """Whether there is more than a pass over arrays of one shape would do.

        A large array that is only reduced need not be made.
        NumPy goes row by row itself where one number, or one row, serves for several.
        """
        computed = [e for e in self.equations if self.roles[e.outputs[0]] == FULL]
        reduced = [e for e in self.equations if e.primitive.name in FOLDS]
        read = {a for e in computed for a in used(e.inputs)}
        repeats = any(self.roles[a] != FULL and a.aval.shape for a in read)
        if repeats and self.shape[-1] <= SHORT and prod(self.shape) >= MANY:
            return True
        several = len(computed) > 1 or (bool(computed) and prod(self.shape) >= MANY)
        return several and bool(reduced or self.sums)

    def kernel(self, outputs: Sequence[Var]) -> Sweep:
        """The kernel that makes ``outputs`` and the sums."""
        read = [a for e in self.equations for a in used(e.inputs) if a not in self.members]
        operands = tuple(dict.fromkeys(read))
        return Sweep(
            self.shape, operands, tuple(self.equations), tuple(outputs), tuple(self.sums),
            self.roles,
        )  # fmt: skip


def swept(eqn: Equation) -> LongRows | None:
    """A group that begins with an equation, if one can."""
    if len(eqn.outputs) != 1 or not eqn.inputs:
        return None
    shape = eqn.inputs[0].aval.shape if eqn.primitive.name in FOLDS else eqn.outputs[0].aval.shape
    if len(shape) < 2 or not SHORTEST <= shape[-1] <= LONGEST or prod(shape[:-1]) < 2:
        return None
    return beginning(LongRows(shape=shape), eqn)


# ---- the kernel ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sweep(Machine):
    """What a group of long rows reads and makes."""

    prefix: ClassVar[str] = "rows"

    shape: Shape
    operands: tuple[Var, ...]
    equations: tuple[Equation, ...]
    outputs: tuple[Var, ...]
    sums: tuple[Equation, ...]
    roles: dict[Var, str] = field(compare=False)

    @property
    def results(self) -> tuple[Var, ...]:
        return (*self.outputs, *[e.outputs[0] for e in self.sums])

    @property
    def arity(self) -> int:
        return len(self.operands) + len(self.results)

    def write(self) -> str:
        return _Writer(self).module()

    def compile(self) -> np.ufunc:
        """The kernel as a generalised ufunc of flat arrays."""
        words = [
            [f"({v.aval.size})" if v.aval.shape else "()" for v in side]
            for side in (self.operands, self.results)
        ]
        signature = "->".join(map(",".join, words))
        dtypes = tuple([v.aval.dtype for v in (*self.operands, *self.results)])
        return ufunc(self.text, self.name, dtypes, len(self.operands), signature)


class _Writer:
    """Writes the module of one kernel: passes over a row, inside a loop over the rows."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.width = sweep.shape[-1]
        self.rows = prod(sweep.shape[:-1])
        places = [*sweep.operands, *sweep.results]
        self.pointer = {v: f"%p{j}" for j, v in enumerate(places)}
        self.count = len(places)
        self.declared = {"declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)"}
        self.roles = sweep.roles
        self.made: dict[Var, int] = {}
        """The pass that makes elements, or after which the number of a row is known."""
        for eqn in sweep.equations:
            (out,) = eqn.outputs
            at = max([self.made.get(a, 0) for a in used(eqn.inputs)], default=0)
            self.made[out] = at + (eqn.primitive.name in FOLDS)
        readers = [
            (e, self.made[e.outputs[0]] - (e.primitive.name in FOLDS)) for e in sweep.equations
        ]
        readers += [(e, self.made[e.inputs[0]]) for e in sweep.sums if isinstance(e.inputs[0], Var)]
        self.scratch = [
            v for v in self.made
            if self.roles[v] == FULL and v not in sweep.outputs
            and any(v in e.inputs and at > self.made[v] for e, at in readers)
        ]  # fmt: skip

    def module(self) -> str:
        return module_of(self.function, self.count, self.declared)

    def function(self, exact: bool) -> tuple[str, bool]:
        """The loop over the rows, and whether it has doubts about arguments."""
        sweep = self.sweep
        parameters = ", ".join(f"ptr noalias %p{j}" for j in range(self.count))
        effort = "noinline optnone cold" if exact else "noinline"
        lines = [f"define internal i1 @{'exact' if exact else 'fast'}({parameters}) nounwind "
                 f'{effort} "prefer-vector-width"="{host().vector_bits}" {{', "entry:",
                 "%flag = alloca i1", "store i1 false, ptr %flag"]  # fmt: skip
        for j, v in enumerate(self.scratch):
            self.pointer[v] = f"%q{j}"
            kind = memory_type(TYPES[v.aval.dtype])
            lines.append(f"%q{j} = alloca [{self.width} x {kind}], align 64")
        reductions = [e for e in sweep.equations if e.primitive.name in FOLDS]
        for j, eqn in enumerate(reductions):
            lines.append(f"%r{j} = alloca {vector(self.kind_of(eqn), WIDTH)}, align 64")
        for eqn in sweep.sums:
            v = eqn.outputs[0]
            lines.append(f"call void @llvm.memset.p0.i64(ptr {self.pointer[v]}, i8 0, "
                         f"i64 {v.aval.nbytes}, i1 false)")  # fmt: skip
        lines += ["br label %row", "row:", "%i = phi i64 [0, %entry], [%next, %last]",
                  f"%base = mul i64 %i, {self.width}"]  # fmt: skip
        numbers: dict[Var, Value] = {}
        doubtful = False
        for s in range(max(self.made.values()) + 1):
            between = Code(prefix=f"n{s}_", exact=exact)
            self.between(between, s, numbers)
            doubtful |= self.finish(between)
            lines += between.lines
            if not self.works(s):
                continue
            mine = {e: f"%r{j}" for j, e in enumerate(reductions)
                    if self.made[e.outputs[0]] == s + 1}  # fmt: skip
            for eqn, place in mine.items():
                start = Code().number(self.identity(eqn), vector(self.kind_of(eqn), WIDTH))
                lines.append(f"store {start.kind} {start.name}, ptr {place}, align 64")
            body = Code(prefix=f"t{s}_", exact=exact)
            self.elements(body, s, f"%c{s}", WIDTH, numbers, mine)
            doubtful |= self.finish(body)
            if self.width >= WIDTH:
                lines += [f"br label %b{s}", f"b{s}:", f"br label %l{s}", f"l{s}:",
                          f"%c{s} = phi i64 [0, %b{s}], [%k{s}, %l{s}]", *body.lines,
                          f"%k{s} = add i64 %c{s}, {WIDTH}",
                          f"%e{s} = icmp eq i64 %k{s}, {self.width // WIDTH * WIDTH}",
                          f"br i1 %e{s}, label %x{s}, label %l{s}", f"x{s}:"]  # fmt: skip
            after = Code(prefix=f"r{s}_", exact=exact)
            rest = self.width % WIDTH
            left = (
                self.elements(after, s, str(self.width - rest), rest, numbers, {}) if rest else {}
            )
            step = Step(after)
            for eqn, place in mine.items():
                kind = self.kind_of(eqn)
                wide = vector(kind, WIDTH)
                total = after.make(f"load {wide}, ptr {place}, align 64", wide)
                x = eqn.inputs[0]
                assert isinstance(x, Var)
                registers = [total, *([left[x].to(kind)] if rest else [])]
                (one,) = step.folded(
                    FOLDS[eqn.primitive.name][0], None, [step.elements_of(registers)], kind
                )
                numbers[eqn.outputs[0]] = step.register([one])
            doubtful |= self.finish(after)
            lines += after.lines
        lines += ["br label %last", "last:", "%next = add i64 %i, 1",
                  f"%end = icmp eq i64 %next, {self.rows}",
                  "br i1 %end, label %out, label %row", "out:", "%doubt = load i1, ptr %flag",
                  "ret i1 %doubt", "}"]  # fmt: skip
        return "\n".join(lines), doubtful

    def finish(self, code: Code) -> bool:
        """Note the doubts of a run of instructions; whether there are any."""
        doubts = code.all_doubts()
        self.declared |= code.declared
        if not doubts:
            return False
        found = code.anything(doubts)
        self.declared |= code.declared
        code.lines.append(f"%{code.prefix}f = load i1, ptr %flag")
        code.lines += [f"%{code.prefix}g = or i1 %{code.prefix}f, {found.name}",
                       f"store i1 %{code.prefix}g, ptr %flag"]  # fmt: skip
        return True

    def row_of(self, code: Code, shape: Shape) -> Value:
        """Which row of an array of these leading axes, some of length 1, this row is or belongs to.

        ``shape`` lacks leading axes that it does not have.
        """
        lead = self.sweep.shape[:-1]
        i = Value(code, "%i", "i64")
        if shape == lead:
            return i
        found = code.number(0, "i64")
        for axis, length in enumerate(shape, start=len(lead) - len(shape)):
            if length > 1:
                turn = i.whole_quotient(prod(lead[axis + 1 :])).remainder(length)
                place = axis - len(lead) + len(shape)
                found = found + turn * prod(shape[place + 1 :])
        return found

    def kind_of(self, eqn: Equation) -> str:
        return TYPES[eqn.outputs[0].aval.dtype]

    def identity(self, eqn: Equation) -> Any:
        name = eqn.primitive.name
        return IDENTITY.get(name, FOLDS[name][1])

    # ---- numbers of rows ---------------------------------------------------------------------

    def between(self, code: Code, s: int, numbers: dict[Var, Value]) -> None:
        """What is known of a row before pass ``s`` and was not known before the last."""
        for eqn in self.sweep.equations:
            (out,) = eqn.outputs
            if self.made[out] != s or self.roles[out] != ROW:
                continue
            if eqn.primitive.name not in FOLDS:
                xs = [self.number(code, a, numbers) for a in eqn.inputs]
                numbers[out] = self.applied(code, eqn, xs)
            if out in self.sweep.outputs:
                y = numbers[out]
                store(code, self.pointer[out], "%i", Value(code, y.name, y.kind))

    def number(self, code: Code, a: Atom, numbers: dict[Var, Value]) -> Value:
        """A number, or what belongs to the row."""
        kind = TYPES[a.aval.dtype]
        if isinstance(a, Literal):
            return code.number(a.value, kind)
        if a in numbers:
            return Value(code, numbers[a].name, numbers[a].kind)
        lead = self.sweep.shape[:-1] if self.roles[a] == ROW else a.aval.shape[:-1]
        return loaded(code, self.pointer[a], self.row_of(code, lead).name, kind)

    def applied(self, code: Code, eqn: Equation, xs: list[Value]) -> Value:
        moved = eqn.primitive.name in ("reshape", "broadcast_to")
        return xs[0] if moved else computed(code, eqn, xs)

    # ---- elements of a row -------------------------------------------------------------------

    def works(self, s: int) -> bool:
        """Whether there is a pass of this number: something is made in it, reduced or summed."""
        return any(
            self.made[e.outputs[0]] - (e.primitive.name in FOLDS) == s
            for e in self.sweep.equations
            if self.roles[e.outputs[0]] == FULL or e.primitive.name in FOLDS
        )

    def elements(
        self,
        code: Code,
        s: int,
        at: str,
        lanes: int,
        numbers: dict[Var, Value],
        reductions: dict[Equation, str],
    ) -> dict[Var, Value]:
        """Elements from number ``at`` on, as many as there are lanes."""
        values: dict[Var, Value] = {}
        here = code.make(f"add i64 %base, {at}", "i64").name

        def read(a: Atom) -> Value:
            if isinstance(a, Literal):
                return code.number(a.value, vector(TYPES[a.aval.dtype], lanes))
            if a not in values:
                values[a] = self.read(code, a, here, at, lanes, numbers)
            return values[a]

        for eqn in self.sweep.equations:
            (out,), name = eqn.outputs, eqn.primitive.name
            if self.roles[out] == FULL and self.made[out] == s:
                values[out] = self.applied(code, eqn, list(map(read, eqn.inputs)))
                if out in self.sweep.outputs:
                    store(code, self.pointer[out], here, values[out])
                elif out in self.scratch:
                    store(code, self.pointer[out], at, values[out])
            elif name in FOLDS and self.made[out] == s + 1:
                x = read(eqn.inputs[0])
                place = reductions.get(eqn)
                if place is not None:
                    wide = vector(self.kind_of(eqn), lanes)
                    sofar = code.make(f"load {wide}, ptr {place}, align 64", wide)
                    total = FOLDS[name][0](sofar, x.to(self.kind_of(eqn)))
                    code.lines.append(f"store {wide} {total.name}, ptr {place}, align 64")
        for eqn in self.sweep.sums:
            if self.made[eqn.inputs[0]] == s:  # type: ignore[index]  # a member
                pointer = self.pointer[eqn.outputs[0]]
                x = read(eqn.inputs[0])
                place = self.element(code, self.added_to(eqn), at)
                store(code, pointer, place, loaded(code, pointer, place, x.kind) + x)
        return values

    def read(
        self, code: Code, v: Var, here: str, at: str, lanes: int, numbers: dict[Var, Value]
    ) -> Value:
        """Elements of an operand, or of what an earlier pass left; a number for each of them."""
        role, kind = self.roles[v], TYPES[v.aval.dtype]
        if role in (ROW, NUMBER):
            return code.repeated(self.number(code, v, numbers), lanes)
        if role == SHARED:
            place = self.element(code, v.aval.shape[:-1], at)
        else:
            place = at if v in self.scratch else here
        return loaded(code, self.pointer[v], place, vector(kind, lanes))

    def element(self, code: Code, lead: Shape, at: str) -> str:
        """The number of an element of an array of fewer rows."""
        return (self.row_of(code, lead) * self.width + Value(code, at, "i64")).name

    def added_to(self, eqn: Equation) -> Shape:
        """The leading axes of a sum of rows, those that are added up being 1."""
        axes = eqn.params["axes"]
        return tuple([1 if i in axes else n for i, n in enumerate(self.sweep.shape[:-1])])
