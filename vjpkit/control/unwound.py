"""The pullback of a loop of unknown length, compiled: blocks of steps, each a loop of known length.

Such a loop leaves its residuals behind one by one, as it is run. Compiled code wants to know how
many there are: so the steps are counted first, then done again in blocks of a few fixed lengths,
of which the states before them are kept, and these are pulled back one after the other, the last
one first. Each block computes its steps once more, with their residuals: in all three times the
steps, of machine code, and the memory of the states of blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vjpkit.backends import Executable, executable
from vjpkit.control.loop import Loop, while_body
from vjpkit.control.programs import (
    Mask,
    built,
    linearized_program,
    rearranged,
    run_staged,
    transposed_program,
)
from vjpkit.control.scan_rules import scan_loop
from vjpkit.control.steps import recomputing
from vjpkit.core.aval import Aval, Value
from vjpkit.core.ir import Program, subprograms
from vjpkit.core.staging import Builder
from vjpkit.passes.inlining import with_calls_inlined
from vjpkit.passes.invariant import is_ours

__all__ = ["unwound"]

LENGTHS = 32, 1
"""Steps of a block; programs of more lengths take longer to compile, of fewer more calls."""
MOST_EQUATIONS = 100
"""Of steps that are worth machine code: several programs of them are compiled."""

INTEGER = Aval((), np.dtype(np.intp))


@dataclass(frozen=True)
class Block:
    """So many steps as one.

    ``advance`` takes constants and a state, and gives the next one. ``back`` takes the cotangents
    of ``carried`` inputs of the body besides, and gives those of ``names``; None where no cotangent
    gets through.
    """

    length: int
    advance: Executable
    back: Executable | None
    carried: tuple[int, ...]
    names: tuple[int, ...]


def unwound(loop: Loop, live: Mask, backend: str) -> Callable[..., tuple[Value, ...]] | None:
    """Cotangents of live operands, from operands and the cotangents of real results.

    None where the steps are not ours alone: somebody may see that they are done again.
    """
    if loop.slots is not None or not all(map(_may_be_repeated, (loop.cond, loop.body))):
        return None
    small = len(with_calls_inlined(loop.body).equations) <= MOST_EQUATIONS
    return Unwound(loop, live, backend if small else "numpy")


class Unwound:
    def __init__(self, loop: Loop, live: Mask, backend: str) -> None:
        self.loop, self.live = loop, live
        self.moving = loop.moving(live, lambda p, m: linearized_program(p, m).reached)
        self.count = executable(_counting(loop), backend)
        self.blocks = [self._block(n, backend if n > 1 else "numpy") for n in LENGTHS]

    def _block(self, length: int, backend: str) -> Block:
        loop, consts = self.loop, self.loop.body_consts
        steps = _repeated(loop, length)
        at = linearized_program(steps, self.moving)
        carried = [consts + j for j, there in enumerate(at.reached) if there]
        back, names = None, list[int]()
        if carried:
            transposed, found = transposed_program(at.tangent, (True,) * len(carried))
            back = executable(recomputing(at, transposed), backend)
            marked = [i for i, moves in enumerate(self.moving) if moves]
            names = [i for i, there in zip(marked, found, strict=True) if there]
        return Block(length, executable(steps, backend), back, tuple(carried), tuple(names))

    def __call__(self, *operands: Value) -> tuple[Value, ...]:
        count = len(self.live)
        with np.errstate(all="ignore"):
            return self._pulled(operands[:count], operands[count:])

    def _pulled(self, values: Sequence[Value], cts: Sequence[Value]) -> tuple[Value, ...]:
        loop = self.loop
        _, consts, state = loop.split(values)
        first = loop.body_consts
        inexact = [j for j, a in enumerate(loop.body.out_avals) if a.inexact]
        arrived = {first + j: ct for j, ct in zip(inexact, cts, strict=True)}
        zero = {
            i: np.zeros(a.shape, a.dtype)[()]
            for i, a in enumerate(loop.body.in_avals) if self.moving[i]
        }  # fmt: skip
        ct = {i: arrived[i] for i in zero if i >= first}
        sums: dict[int, Value] = {i: z for i, z in zero.items() if i < first}
        for block, start in reversed(self._tape(values, consts, state)):
            found: dict[int, Value] = {}
            if block.back is not None:
                given = [ct[i] for i in block.carried]
                outs = block.back(*consts, *start, *given)
                found = dict(zip(block.names, outs, strict=True))
            ct = {i: found.get(i, zero[i]) for i in ct}
            sums = {i: total + found[i] if i in found else total for i, total in sums.items()}
        totals = sums | ct
        skipped = loop.cond_consts
        return tuple([
            totals[i - skipped] if i >= skipped else np.zeros(a.shape, a.dtype)[()]
            for i, a in enumerate(self._avals) if self.live[i]
        ])  # fmt: skip

    def _tape(
        self, values: Sequence[Value], consts: Sequence[Value], state: Sequence[Value]
    ) -> list[tuple[Block, Sequence[Value]]]:
        """The blocks, first to last, and the states before them."""
        (left,) = self.count(*values, 0)
        order: list[Block] = []
        for block in self.blocks:
            order += [block] * (int(left) // block.length)
            left = int(left) % block.length
        tape = []
        for k, block in enumerate(order):
            tape.append((block, state))
            if k + 1 < len(order):
                state = block.advance(*consts, *state)
        return tape

    @property
    def _avals(self) -> tuple[Aval, ...]:
        loop = self.loop
        return (*loop.cond.in_avals[: loop.cond_consts], *loop.body.in_avals)


def _counting(loop: Loop) -> Program:
    """How many steps there are, from the loop's operands and a zero."""
    count = len(loop.cond.inputs)
    cond = rearranged(loop.cond, [*loop.cond.in_avals, INTEGER], range(count), [0])

    def step(builder: Builder, xs: Sequence[Value]) -> list[Value]:
        return [*run_staged(builder, loop.body, xs[:-1]), xs[-1] + 1]

    body = built([*loop.body.in_avals, INTEGER], step)
    wide = Loop(cond, body, loop.cond_consts, loop.body_consts)
    avals = [*loop.cond.in_avals[: loop.cond_consts], *body.in_avals]
    return built(avals, lambda builder, xs: [while_body(*xs, **wide.params)[-1]])


def _repeated(loop: Loop, length: int) -> Program:
    """So many steps of the loop."""
    if length == 1:
        return loop.body
    params: dict[str, Any] = {
        "body": loop.body, "length": length, "reverse": False,
        "consts": loop.body_consts, "carry": len(loop.body.outputs),
    }  # fmt: skip

    def steps(builder: Builder, xs: Sequence[Value]) -> list[Value]:
        return list(scan_loop(*xs, **params))

    made: Program = loop.body.cached(("repeated", length), lambda: built(loop.body.in_avals, steps))
    return made


_LOOPS = frozenset({"call", "branch", "scan", "while"})


def _may_be_repeated(program: Program) -> bool:
    """Whether nobody sees how often it runs."""
    own = all(is_ours(e) or e.primitive.name in _LOOPS for e in program.equations)
    return own and all(map(_may_be_repeated, subprograms(program)))
