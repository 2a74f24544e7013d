"""The loop that computes a group block by block.

Blocks live in scratch arrays that the call allocates, small enough for the cache; a block is
written over at its last use. What is used outside the group is written into whole arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vjpkit.backends.groups import Group, is_elementwise
from vjpkit.backends.numpy_calls import (
    constant,
    into,
    is_product_with_ones,
    spelled,
    ufunc_call,
)
from vjpkit.core.ir import Atom, Equation, Literal, Var, used

if TYPE_CHECKING:
    from vjpkit.backends.numpy_source import Source

__all__ = ["Blocks"]


class Blocks:
    """Writes the loop of one group."""

    def __init__(self, source: Source, group: Group, outputs: list[Var]) -> None:
        self.source = source
        self.group = group
        self.outputs = outputs
        self.before: list[str] = []
        self.lines: list[str] = []
        self.after: list[str] = []
        self.rows = group.block
        self.names: dict[Var, str] = {}
        self.buffer: dict[Var, str] = {}
        self.spare: dict[Any, list[str]] = {}
        everything = [*group.equations, *group.sums]
        self.last = {a: i for i, e in enumerate(everything) for a in used((*e.inputs, *e.outputs))}
        self.pinned = {
            a for e in group.equations if not is_elementwise(e) for a in used(e.inputs)
        } | set(outputs)

    def write(self) -> None:
        source = self.source
        for v in self.outputs:
            name = source.name(v)
            dtype = source.constant(v.aval.dtype)
            self.before.append(f"{name} = empty({v.aval.shape}, {dtype})")
            self.names[v] = self.slice_of(v, name)
        for i, eqn in enumerate([*self.group.equations, *self.group.sums]):
            if i < len(self.group.equations):
                self.equation(i, eqn)
            else:
                self.sum(eqn)
        for v in self.outputs:
            if v in source.doubtful and v in source.program.outputs:
                source.doubtful.discard(v)
                self.lines.append(source.examination((v, self.names[v])))
        step = self.rows
        head = f"for i in range(0, {self.group.length}, {step}):"
        source.lines += [*self.before, head, f"    j = i + {step}"]
        source.lines += [f"    {line}" for line in self.lines]
        source.lines += self.after

    # ---- operands ----------------------------------------------------------------------------

    def slice_of(self, v: Var, name: str) -> str:
        """The block of a whole array, sliced at the head of the loop."""
        whole = name
        if self.group.flat and v.aval.ndim != 1:
            whole = f"{name}f"
            self.before.append(f"{whole} = {name}.reshape(-1)")
        block = f"{name}b"
        self.lines.insert(0, f"{block} = {whole}[i:j]")
        return block

    def operand(self, a: Atom, eqn: Equation) -> str:
        """What an equation reads in the loop."""
        if isinstance(a, Literal):
            return self.source.constant(constant(a, eqn))
        if a not in self.names:
            aligned = not is_elementwise(eqn) or self.group.has_rows(a, eqn.outputs[0].aval)
            rows = self.group.flat or aligned
            name = self.source.name(a)
            self.names[a] = self.slice_of(a, name) if rows and a.aval.ndim else name
        return self.names[a]

    # ---- equations ---------------------------------------------------------------------------

    def equation(self, i: int, eqn: Equation) -> None:
        source = self.source
        (out,) = eqn.outputs
        quick = source.quick(eqn)
        for a in source.doubts(eqn, quick):
            source.doubtful.discard(a)
            self.lines.append(source.examination((a, self.operand(a, eqn))))
        words = [self.operand(a, eqn) for a in eqn.inputs]
        call = ufunc_call(eqn) if eqn.primitive.quick is None or quick else None
        if call is None:
            self.plain(eqn, words, quick)
            self.release(i, eqn)
            return
        ufunc, inputs = call
        words = [self.operand(a, eqn) for a in inputs]
        self.release(i, eqn)
        if out not in self.outputs:
            self.names[out] = self.scratch(out)
        words.append(into(ufunc, self.names[out]))
        function = source.function(ufunc, ufunc.__name__)
        self.lines.append(f"{function}({', '.join(words)})")

    def plain(self, eqn: Equation, words: list[str], quick: bool) -> None:
        """An equation that makes its own array: a choice, a reduction within rows, a view."""
        source, (out,) = self.source, eqn.outputs
        name, params = eqn.primitive.name, dict(eqn.params)
        if "shape" in params:
            call = f"{words[0]}.reshape(-1, {', '.join(map(str, out.aval.shape[1:]))})"
            if name == "broadcast_to":
                function = source.function(np.broadcast_to, "broadcast_to")
                shape = ", ".join([f"len({words[0]})", *map(str, out.aval.shape[1:])])
                call = f"{function}({words[0]}, ({shape}))"
            elif out.aval.ndim == 1:
                call = f"{words[0]}.reshape(-1)"
        else:
            call = spelled(eqn, words, source.ones, source.quiet) or self.call(eqn, words, quick)
        if out in self.outputs:
            self.lines.append(f"{self.names[out]}[...] = {call}")
        else:
            self.names[out] = f"{source.name(out)}b"
            self.lines.append(f"{self.names[out]} = {call}")

    def call(self, eqn: Equation, words: list[str], quick: bool) -> str:
        """The primitive's function of the blocks."""
        source = self.source
        function = source.constant(eqn.primitive.quick if quick else eqn.primitive.impl)
        named = [f"{key}={source.parameter(v, f'c{len(source.scope)}')}"
                 for key, v in eqn.params.items()]  # fmt: skip
        return f"{function}({', '.join([*words, *named])})"

    def release(self, i: int, eqn: Equation) -> None:
        """Scratch of operands that nobody reads any more is free, for this very result too."""
        for a in dict.fromkeys(used(eqn.inputs)):
            if self.last[a] == i and a in self.buffer and a not in self.pinned:
                self.spare[self.key(a)].append(self.buffer.pop(a))

    def key(self, v: Var) -> tuple[Any, ...]:
        return (() if self.group.flat else v.aval.shape[1:], v.aval.dtype)

    def scratch(self, v: Var) -> str:
        """A block of scratch memory for ``v``."""
        spare = self.spare.setdefault(self.key(v), [])
        if not spare:
            name = f"w{sum(line.startswith('w') for line in self.before)}"
            name = f"{name}_{self.source.name(v)}"
            row, dtype = self.key(v)
            shape = (self.rows, *row)
            self.before.append(f"{name} = empty({shape}, {self.source.constant(dtype)})")
            self.lines.insert(0, f"{name}b = {name}[:{self.group.length} - i]")
            spare.append(f"{name}b")
        self.buffer[v] = spare.pop()
        return self.buffer[v]

    def sum(self, eqn: Equation) -> None:
        """A sum down the rows, added up over the blocks."""
        source, (out,), x = self.source, eqn.outputs, self.operand(eqn.inputs[0], eqn)
        if any(a in source.doubtful for a in used(eqn.inputs)):
            source.doubtful.add(out)
        name = source.name(out)
        axes = source.constant(eqn.params["axes"] if not self.group.flat else None)
        partial = f"add_reduce({x}, {axes}, None, None, {eqn.params['keepdims']})"
        aval = eqn.inputs[0].aval
        if not self.group.flat and aval.ndim == 2 and is_product_with_ones(eqn):
            ones = source.ones(self.rows, aval.dtype)
            rows = f"{ones}[None, :len({x})]" if eqn.params["keepdims"] else f"{ones}[:len({x})]"
            partial = f"matmul({rows}, {x})"
        if out.aval.shape:
            self.lines.append(f"{name}s = {partial}")
            self.lines.append(f"{name} = {name}s if i == 0 else {name} + {name}s")
        else:
            self.before.append(f"{name} = []")
            self.lines.append(f"{name}.append({partial})")
            self.after.append(f"{name} = add_reduce(array({name}))")
