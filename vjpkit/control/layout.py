"""How the operands and outputs of a loop are laid out, and what moves in its course."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vjpkit.control.programs import Mask, linearized_program
from vjpkit.core.aval import Aval
from vjpkit.core.ir import Program

__all__ = ["Layout", "carried", "linear_reached", "reached_outputs", "stacked"]


@dataclass(frozen=True)
class Layout:
    """How operands and outputs of a loop fall into constants, carries and slices."""

    consts: int
    carry: int

    def split(self, xs: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        """Constants, carries, arrays that are read slice by slice."""
        end = self.consts + self.carry
        return xs[: self.consts], xs[self.consts : end], xs[end:]

    def outs(self, ys: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """Carries, and what is written slice by slice."""
        return ys[: self.carry], ys[self.carry :]


def stacked(aval: Aval, length: int) -> Aval:
    """All slices."""
    return Aval((length, *aval.shape), aval.dtype)


def linear_reached(program: Program, live: Mask) -> Mask:
    return linearized_program(program, live).reached


def reached_outputs(layout: Layout, body: Program, moving: Mask) -> list[bool]:
    """Which real outputs of a loop depend on what moves in its course."""
    carries = layout.split(moving)[1]
    ys = layout.outs(linear_reached(body, moving))[1]
    marks = zip(body.out_avals, [*carries, *ys], strict=True)
    return [mark for aval, mark in marks if aval.inexact]


def carried(
    program: Program, layout: Layout, mask: Mask, reached: Callable[[Program, Mask], Mask]
) -> Mask:
    """``mask`` and the carries that a marked value gets into in the course of the loop."""
    while True:
        consts, carry, xs = layout.split(mask)
        grown = [a or b for a, b in zip(carry, layout.outs(reached(program, mask))[0], strict=True)]
        wider = (*consts, *grown, *xs)
        if wider == mask:
            return mask
        mask = wider
