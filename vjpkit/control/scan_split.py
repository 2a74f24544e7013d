"""The derivative of a loop of known length: loops again, forwards and backwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vjpkit.control.call import call
from vjpkit.control.higher import Form, Linearization, Operand, Zeros
from vjpkit.control.layout import Layout, carried, linear_reached
from vjpkit.control.programs import (
    Mask,
    apart,
    built,
    dependent,
    linearized_program,
    numbered,
    rearranged,
    run_staged,
    split_program,
    transposed_program,
)
from vjpkit.core.aval import Aval, Value
from vjpkit.core.ir import Atom, Program
from vjpkit.core.primitive import Primitive
from vjpkit.core.staging import Builder

__all__ = ["Split"]


class Split:
    """A loop split at a point: the parts from which both of its linear forms are made.

    ``loop`` is the primitive that all of them are equations of.
    """

    def __init__(
        self, loop: Primitive, live: Mask, avals: Sequence[Aval], *, body: Program, length: int,
        reverse: bool, consts: int, carry: int,
    ) -> None:  # fmt: skip
        self.loop = loop
        self.live = live
        self.body = body
        self.layout = Layout(consts, carry)
        self.length = length
        self.reverse = reverse
        self.moving = carried(body, self.layout, live, linear_reached)
        at = linearized_program(body, self.moving)
        self.tangent, self.reached = at.tangent, at.reached
        count = len(body.outputs)
        residuals = range(count, len(at.primal.outputs))
        # What the residuals need of the loop: all of it, or what does not depend on live operands.
        self.open = carried(body, self.layout, self.moving, dependent)
        fixed, carries, _ = self.layout.split(self.open)
        outer = [i for i, moving in enumerate(carries) if not moving]
        early = apart(at.primal, self.open, [*outer, *residuals])
        self.apart = early is not None
        if early is None:
            self._divide(at.primal, self.layout, count)
        else:
            self._divide(early, Layout(len(fixed) - sum(fixed), len(outer)), len(outer))

    def _divide(self, primal: Program, layout: Layout, count: int) -> None:
        """Take what does not depend on the step out of a loop; tell residuals apart.

        Its program gives ``count`` outputs and then the residuals.
        """
        n = len(primal.inputs)
        self.early, late, handed = split_program(
            primal, tuple([i < layout.consts for i in range(n)])
        )
        # The constants are the loop's own, and then what was made of them.
        inputs = [*late.inputs[: layout.consts], *late.inputs[n:]]
        once: dict[Atom, int] = {v: i for i, v in enumerate(inputs)}
        residuals = late.outputs[count:]
        steps = [a for a in residuals if a not in once]
        numbers = iter(range(len(steps)))
        self.places = [
            ("once", once[a]) if a in once else ("step", next(numbers)) for a in residuals
        ]
        rest = late.inputs[layout.consts : n]
        self.step = Program([*inputs, *rest], late.equations, [*late.outputs[:count], *steps])
        self.handed = len(handed)
        self.inner, self.given = layout, count

    # -- the primal loop ---------------------------------------------------------------------------

    def primal(self, *values: Value) -> tuple[Sequence[Value], Sequence[Value]]:
        """Outputs; residuals: those that do not depend on the step, then those of each step."""
        if not self.apart:
            return self._residuals(values)
        layout = self.layout
        outs = self.loop(
            *values, body=self.body, length=self.length, reverse=self.reverse,
            consts=layout.consts, carry=layout.carry,
        )  # fmt: skip
        fixed = [v for v, moving in zip(values, self.open, strict=True) if not moving]
        return outs, self._residuals(fixed)[1]

    def _residuals(self, values: Sequence[Value]) -> tuple[Sequence[Value], Sequence[Value]]:
        """Outputs and residuals of the loop that makes them."""
        c, k, x = self.inner.split(values)
        made = call(*c, program=self.early) if self.handed else ()
        consts = [*c, *made]
        outs = self.loop(
            *consts, *k, *x, body=self.step, length=self.length, reverse=self.reverse,
            consts=len(consts), carry=self.inner.carry,
        )  # fmt: skip
        once = [consts[i] for kind, i in self.places if kind == "once"]
        return outs[: self.given], [*once, *outs[self.given :]]

    def residual_order(self) -> tuple[list[int], list[int]]:
        """Numbers of the tangent program's residuals: those of the loop, those of the steps."""
        kinds = [kind for kind, _ in self.places]
        once = [i for i, kind in enumerate(kinds) if kind == "once"]
        return once, [i for i, kind in enumerate(kinds) if kind == "step"]

    def linearization(self) -> Linearization:
        once, steps = self.residual_order()
        count = len(once) + len(steps)
        lc, lk, lx = self.layout.split(self.moving)
        sizes = sum(lc), sum(lk), sum(lx)
        avals = self.tangent.in_avals
        c_avals, k_avals, x_avals = cut(avals[count:], sizes)
        number = numbered(self.live)
        nc, nk, nx = self.layout.split(number)
        t_c = [~i for i in nc if i is not None]
        t_k: list[Operand] = [
            Zeros(a) if i is None else ~i
            for i, a in zip([i for i, w in zip(nk, lk, strict=True) if w], k_avals, strict=True)
        ]
        t_x = [~i for i in nx if i is not None]
        loop, each = list(range(len(once))), list(range(len(once), count))
        places = numbered(self.reached)
        carry_outs: list[int | Aval] = [
            aval if place is None else place
            for place, aval in zip(
                [p for p, w in zip(places, lk, strict=False) if w], k_avals, strict=True
            )
        ]
        ys = [p for p in places[self.layout.carry :] if p is not None]
        # Inputs of the step: constants (residuals, tangents), carries, slices (the same).
        inputs = [
            *[avals[i] for i in once], *c_avals, *k_avals, *[avals[i] for i in steps], *x_avals,
        ]  # fmt: skip
        start = len(once) + sum(sizes[:2])
        at_: dict[int, int] = {i: j for j, i in enumerate(once)}
        at_ |= {i: start + j for j, i in enumerate(steps)}
        reading = [at_[i] for i in range(count)]
        reading += range(len(once), len(once) + sizes[0] + sizes[1])
        reading += range(start + len(steps), start + len(steps) + sizes[2])
        step = rearranged(self.tangent, inputs, reading, [*carry_outs, *ys])
        params = {
            "body": step, "length": self.length, "reverse": self.reverse,
            "consts": len(once) + sizes[0], "carry": sizes[1],
        }  # fmt: skip
        outputs = self._outputs(lk)
        form = Form(self.loop, params, (*loop, *t_c, *t_k, *each, *t_x), tuple(outputs))
        whole = rearranged(
            self.tangent, avals, range(len(avals)), [*carry_outs, *ys], self.tangent.linear
        )

        def transpose(given: tuple[bool, ...]) -> Form:
            return self._transposed(whole, given, outputs, (loop, each), (once, steps), sizes)

        return Linearization(self.primal, form, transpose)

    def _outputs(self, lk: Sequence[bool]) -> list[int | None]:
        """For each inexact output of the loop its place among the form's results."""
        carries = numbered(lk)
        start = sum(lk)
        ys = numbered(self.reached[self.layout.carry :])
        every = [*carries, *[None if i is None else start + i for i in ys]]
        outs = self.body.out_avals
        return [place for place, aval in zip(every, outs, strict=True) if aval.inexact]

    def _transposed(
        self, whole: Program, given: Mask, outputs: Sequence[int | None],
        slots: tuple[list[int], list[int]], order: tuple[list[int], list[int]],
        sizes: tuple[int, int, int],
    ) -> Form:  # fmt: skip
        """The loop backwards: cotangents of carries are carried, those of constants added up."""
        (loop, each), (once, steps) = slots, order
        count = len(loop) + len(each)
        n_c, n_k, _ = sizes
        mine = dict(zip([i for i, g in enumerate(given) if g], range(sum(given)), strict=True))
        by_place = {p: mine[i] for i, p in enumerate(outputs) if p is not None and i in mine}
        n_y = len(whole.outputs) - n_k
        y_given = [n_k + i in by_place for i in range(n_y)]
        mask = (*[True] * n_k, *y_given)
        back, found = transposed_program(whole, mask)
        avals = back.in_avals
        res, ct_k, ct_y = cut(avals, (count, n_k, sum(y_given)))
        linear = whole.in_avals[count:]
        c_avals, k_avals, _ = cut(linear, sizes)
        places = numbered(found)
        p_c, p_k, p_x = cut(places, sizes)
        # The step: constants are residuals; carries the cotangents of carries and the sums.
        inputs = [*[res[i] for i in once], *ct_k, *c_avals, *[res[i] for i in steps], *ct_y]
        ends = np.cumsum([0, len(once), n_k, n_c, len(steps), len(ct_y)]).tolist()
        read = {i: j for j, i in enumerate(once)} | {i: ends[3] + j for j, i in enumerate(steps)}
        reading = [read[i] for i in range(count)]
        reading += [*range(ends[1], ends[2]), *range(ends[4], ends[5])]
        step = summing(back, inputs, reading, (ends[2], ends[3]), (p_k, p_c, p_x), k_avals)
        params = {
            "body": step, "length": self.length, "reverse": not self.reverse,
            "consts": len(once), "carry": n_k + n_c,
        }  # fmt: skip
        cts: list[Operand] = [
            ~by_place[i] if i in by_place else Zeros(a) for i, a in enumerate(ct_k)
        ]
        sums: list[Operand] = [Zeros(a) for a in c_avals]
        y_cts = [~by_place[n_k + i] for i in range(n_y) if y_given[i]]
        operands = (*loop, *cts, *sums, *each, *y_cts)
        return Form(self.loop, params, operands, tuple(self._cotangents(p_c, p_x, n_k, n_c)))

    def _cotangents(
        self, p_c: Sequence[Any], p_x: Sequence[Any], n_k: int, n_c: int
    ) -> list[int | None]:
        """For each live operand the place of its cotangent among the backward loop's results."""
        lc, lk, lx = self.layout.split(self.live)
        _, moving, _ = self.layout.split(self.moving)
        places = numbered(moving)
        out: list[int | None] = [None if p_c[i] is None else n_k + i for i in range(sum(lc))]
        out += [p for p, wanted in zip(places, lk, strict=True) if wanted]
        marks = numbered([p is not None for p in p_x])
        out += [
            None if m is None else n_k + n_c + m for m, _ in zip(marks, range(sum(lx)), strict=True)
        ]
        return out


def cut(xs: Sequence[Any], sizes: Sequence[int]) -> list[Sequence[Any]]:
    """Consecutive parts of given sizes."""
    parts, start = [], 0
    for size in sizes:
        parts.append(xs[start : start + size])
        start += size
    return parts


def summing(
    back: Program, inputs: Sequence[Aval], reading: Sequence[int], sums: tuple[int, int],
    places: tuple[Sequence[Any], Sequence[Any], Sequence[Any]], k_avals: Sequence[Aval],
) -> Program:  # fmt: skip
    """The step of a backward loop, which adds cotangents of constants to the sums it carries."""
    p_k, p_c, p_x = places
    key = ("summing", tuple(inputs), tuple(reading), sums)

    def run(builder: Builder, xs: Sequence[Value]) -> list[Value]:
        outs = run_staged(builder, whole, [xs[i] for i in reading])
        carried_on = [outs[i] for i in range(len(p_k))]
        added = outs[len(p_k) : len(p_k) + len(p_c)]
        totals = [
            total if p is None else total + ct
            for total, ct, p in zip(xs[sums[0] : sums[1]], added, p_c, strict=True)
        ]
        return [*carried_on, *totals, *outs[len(p_k) + len(p_c) :]]

    c_avals = inputs[sums[0] : sums[1]]
    outputs: list[int | Aval] = [a if p is None else p for p, a in zip(p_k, k_avals, strict=True)]
    outputs += [a if p is None else p for p, a in zip(p_c, c_avals, strict=True)]
    outputs += [p for p in p_x if p is not None]
    whole = rearranged(back, back.in_avals, range(len(back.inputs)), outputs)

    made: Program = back.cached(key, lambda: built(inputs, run))
    return made
