"""Loops, and what little lies between them, as one function.

Each loop, and each run of equations over small arrays, is a function of pointers (see `loops`); the
function that NumPy calls calls them one after the other. What only they exchange never gets to
Python: it lies on the stack, or, where it is large, in results that nobody reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, groupby, pairwise
from math import inf
from typing import Any, ClassVar

import numpy as np

from vjpkit.backends.groups import Together, beginning
from vjpkit.backends.native.code import TYPES, element, literal
from vjpkit.backends.native.engine import Effort, ufunc
from vjpkit.backends.native.kernels import ROOM, memory_type
from vjpkit.backends.native.loops import LOOPS, Call, is_loop, loop_call
from vjpkit.backends.native.machine import Machine, quietly
from vjpkit.backends.native.steps import Called
from vjpkit.backends.native.straight import Straight, straight_call
from vjpkit.core.ir import Atom, Equation, Literal, Var, used

__all__ = ["MOST_OPERANDS", "Chain", "Chained", "Packed", "chained", "joined"]

MOST_OPERANDS = 64
"""Operands and results of a ufunc."""
LARGEST_COPIED = 1024
"""Elements of what is packed first: what is larger takes long to be copied."""


@dataclass(frozen=True)
class Packed:
    """Operands or results of a chain, of one dtype, as one array: each after the one before."""

    members: tuple[Var, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.members[0].aval.dtype

    @property
    def is_array(self) -> bool:
        return len(self.members) > 1 or bool(self.members[0].aval.shape)

    def places(self) -> Iterator[tuple[Var, int, int]]:
        """Each member, and where its elements begin and end."""
        ends = accumulate([v.aval.size for v in self.members], initial=0)
        for v, (start, end) in zip(self.members, pairwise(ends), strict=True):
            yield v, start, end

    @property
    def size(self) -> int:
        return sum([v.aval.size for v in self.members])


@dataclass(frozen=True)
class Chain(Machine):
    """Calls one after the other, and which of their results are read elsewhere."""

    prefix: ClassVar[str] = "loop"

    calls: tuple[Call, ...]
    outputs: tuple[Var, ...]

    def write(self) -> str:
        return _Writer(self).module()

    @cached_property
    def operands(self) -> tuple[Var, ...]:
        made = {v for call in self.calls for v in call.results}
        read = [a for call in self.calls for a in used(call.operands) if a not in made]
        return tuple(dict.fromkeys(read))

    @cached_property
    def kept(self) -> tuple[Var, ...]:
        """What lies on the stack: what is not read elsewhere, as far as there is room."""
        found, room = [], ROOM
        for v in (v for call in self.calls for v in call.results):
            if v not in self.outputs and v.aval.size <= room:
                found.append(v)
                room -= v.aval.size
        return tuple(found)

    @cached_property
    def results(self) -> tuple[Var, ...]:
        """The outputs, and what has no room on the stack."""
        inner = [v for call in self.calls for v in call.results]
        known = {*self.kept, *self.outputs}
        return (*self.outputs, *[v for v in inner if v not in known])

    @cached_property
    def arrays(self) -> tuple[tuple[Packed, ...], tuple[Packed, ...]]:
        """Operands and results of the ufunc: one for each of the chain's, or several in one.

        Where a ufunc has no room for all, those of a dtype are packed together: the small ones, or
        all of them.
        """
        everything = self.operands, self.results
        for largest in (0, LARGEST_COPIED, max(v.aval.size for side in everything for v in side)):
            ins, outs = (packed(side, largest) for side in everything)
            if len(ins) + len(outs) + self.checked <= MOST_OPERANDS:
                break
        return ins, outs

    @cached_property
    def checked(self) -> bool:
        """Whether places are computed, which may not be there: then the last result is not 0."""
        return any(call.loop.checked for call in self.calls)

    def compile(self) -> np.ufunc:
        """The chain as a generalised ufunc of flat arrays."""
        ins, outs = self.arrays
        words = [[f"({a.size})" if a.is_array else "()" for a in side] for side in (ins, outs)]
        dtypes = [a.dtype for a in (*ins, *outs)]
        if self.checked:
            words[1].append("()")
            dtypes.append(np.dtype(np.int64))
        signature = "->".join(map(",".join, words))
        # what is written for a loop leaves nothing to improve, and that takes as long as the rest
        loops = any(not call.loop.once for call in self.calls)
        effort = Effort.NONE if loops else Effort.TIDY
        return ufunc(self.text, self.name, tuple(dtypes), len(ins), signature, effort)


def packed(vs: Sequence[Var], largest: int) -> tuple[Packed, ...]:
    """Those of so many elements at most together by dtype, the others alone."""
    groups: dict[Any, list[Var]] = {}
    for v in vs:
        groups.setdefault(v.aval.dtype if v.aval.size <= largest else v, []).append(v)
    return tuple([Packed(tuple(members)) for members in groups.values()])


def joined(values: Sequence[Any], dtype: np.dtype[Any]) -> Any:
    """Several operands as one array."""
    return np.concatenate([np.ravel(np.asarray(v, dtype)) for v in values])


class _Writer:
    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.called = Called(set())
        self.functions: dict[str, str] = {}
        """The functions that are called, and their names."""
        self.constants: dict[Literal, str] = {}
        self.pointers: dict[Var, str] = {}
        """Where the values lie."""
        self.lines: list[str] = []

    def module(self) -> str:
        chain, lines = self.chain, self.lines
        ins, outs = chain.arrays
        for j, array in enumerate((*ins, *outs)):
            self.argument(j, array)
        for j, v in enumerate(chain.kept):
            kind = memory_type(TYPES[v.aval.dtype])
            lines.append(f"  %s{j} = alloca [{v.aval.size} x {kind}], align 64")
            self.pointers[v] = f"%s{j}"
        if chain.checked:
            lines += [f"  %af = getelementptr ptr, ptr %args, i64 {len(ins) + len(outs)}",
                      "  %fault = load ptr, ptr %af", "  store i64 0, ptr %fault"]  # fmt: skip
        for j, call in enumerate(chain.calls):
            self.call(j, call)
        needs, quiet = quietly()
        body = ["define void @loop(ptr %args, ptr %dims, ptr %steps, ptr %data) nounwind {",
                *lines, *["  br label %done", "done:"] * chain.checked, *quiet,
                "  ret void", "}"]  # fmt: skip
        constants = [f"@{name} = internal constant {kind_of(a)} {literal(a.value, kind_of(a))}"
                     for a, name in self.constants.items()]  # fmt: skip
        functions = [f"define internal i1 @{name}{text}" for text, name in self.functions.items()]
        declared = sorted({*self.called.declared, *needs})
        texts = self.called.texts.values()
        return "\n".join([*declared, *constants, *texts, *functions, *body, ""])

    def argument(self, j: int, array: Packed) -> None:
        """The lines that find operands or results."""
        kind = memory_type(TYPES[array.dtype])
        self.lines += [f"  %a{j} = getelementptr ptr, ptr %args, i64 {j}",
                       f"  %p{j} = load ptr, ptr %a{j}"]  # fmt: skip
        for k, (v, start, _) in enumerate(array.places()):
            self.pointers[v] = f"%p{j}_{k}"
            self.lines.append(f"  %p{j}_{k} = getelementptr {kind}, ptr %p{j}, i64 {start}")

    def pointer(self, a: Atom) -> str:
        if isinstance(a, Var):
            return self.pointers[a]
        return f"@{self.constants.setdefault(a, f'number{len(self.constants)}')}"

    def call(self, j: int, call: Call) -> None:
        """The lines that call the fast form of a loop, and the exact one where that has doubts."""
        texts = call.loop.write(self.called)
        names = [self.functions.setdefault(t, f"part{len(self.functions)}") for t in texts]
        given = [f"ptr {self.pointer(a)}" for a in (*call.operands, *call.results)]
        given += ["ptr %fault"] * call.loop.checked
        words = ", ".join(given)
        self.lines.append(f"  %doubt{j} = call i1 @{names[0]}({words})")
        if len(names) > 1:
            self.lines += [f"  br i1 %doubt{j}, label %again{j}, label %next{j}", f"again{j}:",
                           f"  %ignored{j} = call i1 @{names[1]}({words})",
                           f"  br label %next{j}", f"next{j}:"]  # fmt: skip
        if call.loop.checked:  # what follows may not end
            self.lines += [f"  %bad{j} = load i64, ptr %fault",
                           f"  %wrong{j} = icmp ne i64 %bad{j}, 0",
                           f"  br i1 %wrong{j}, label %done, label %good{j}",
                           f"good{j}:"]  # fmt: skip


def kind_of(a: Literal) -> str:
    """The type of a number in memory."""
    return element(memory_type(TYPES[a.aval.dtype]))


# ---- which equations -----------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Chained(Together):
    """Loops, and equations over small arrays."""

    patience: ClassVar[float] = inf

    small: Straight = field(default_factory=Straight)
    """The equations over small arrays among them."""
    made: list[Machine] = field(default_factory=list)

    def takes(self, eqn: Equation) -> bool:
        return is_loop(eqn) or self.small.takes(eqn)

    def add(self, eqn: Equation) -> None:
        super().add(eqn)
        if eqn.primitive.name not in LOOPS:
            self.small.add(eqn)

    def ousts(self, other: Together) -> bool:
        """A loop begins another chain where it cannot go on the one before."""
        return self.equations[0].primitive.name in LOOPS

    def pays(self) -> bool:
        """Whether there is a loop."""
        return any(e.primitive.name in LOOPS for e in self.equations)

    def calls(self, outputs: Sequence[Var]) -> Iterator[Call]:
        """The loops, and between two of them the equations that are one step."""
        runs = [list(run) for _, run in groupby(self.equations, _which_loop)]
        readers: dict[Var, set[int]] = {v: {-1} for v in outputs}
        for i, run in enumerate(runs):
            for a in (a for e in run for a in used(e.inputs)):
                readers.setdefault(a, set()).add(i)
        for i, run in enumerate(runs):
            if run[0].primitive.name in LOOPS:
                yield loop_call(run[0])
                continue
            made = [v for e in run for v in e.outputs]
            yield straight_call(run, [v for v in made if readers.get(v, set()) - {i}])


def _which_loop(eqn: Equation) -> int | None:
    return id(eqn) if eqn.primitive.name in LOOPS else None


def chained(eqn: Equation) -> Chained | None:
    """A group that begins with an equation, if one can."""
    return beginning(Chained(), eqn)
