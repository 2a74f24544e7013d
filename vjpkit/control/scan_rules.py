"""The primitive of `scan`: a loop of known length as one equation, and its rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from vjpkit.backends import executable
from vjpkit.control.call import is_linear_in
from vjpkit.control.higher import Linearization, Programmatic, RunProgram, live_and_order
from vjpkit.control.layout import Layout, carried, linear_reached, reached_outputs, stacked
from vjpkit.control.programs import (
    Mask,
    apart_from_terms,
    eager_form,
    jvp_program,
    mapped_program,
    numbered,
    plain_program,
    rearranged,
    series_program,
    with_terms,
)
from vjpkit.control.scan_split import Split
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.ir import Program
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.staging import stage
from vjpkit.kinds.linear import zeros
from vjpkit.transforms.backings import RowMap
from vjpkit.transforms.batch import batched_along_front
from vjpkit.transforms.series import Terms
from vjpkit.transforms.staged import is_abstract

__all__ = ["Scan", "scan_loop"]


class Scan(Programmatic):
    """``length`` steps of a program ``(consts, carry, x) -> (carry, y)``, or backwards."""

    exempt = {"dtypes": "a program is made for operands of its own avals"}

    @staticmethod
    def impl(
        *operands: Value, body: Program, length: int, reverse: bool, consts: int, carry: int,
        slots: int | None = None,
    ) -> tuple[Value, ...]:  # fmt: skip
        run = eager_form(body)
        return stepped(run, *operands, body=body, length=length, reverse=reverse, consts=consts,
                       carry=carry)  # fmt: skip

    def compiled(self, backend: str, params: Mapping[str, Any]) -> Callable[..., tuple[Value, ...]]:
        """Its function, the steps run by a backend."""
        run = executable(params["body"], backend)
        given = {name: value for name, value in params.items() if name != "slots"}
        return partial(stepped, run, **given)

    def abstract(
        self, *avals: Aval, body: Program, length: int, reverse: bool, consts: int, carry: int,
        slots: int | None = None,
    ) -> tuple[Aval, ...]:  # fmt: skip
        outs = body.out_avals
        return (*outs[:carry], *[stacked(a, length) for a in outs[carry:]])

    def linearization(
        self, live: tuple[bool, ...], avals: tuple[Aval, ...], **params: Any
    ) -> Linearization:
        whole = {name: value for name, value in params.items() if name != "slots"}
        return Split(self, live, avals, **whole).linearization()

    def linear_map(
        self, values: Sequence[Value], live: tuple[bool, ...], **params: Any
    ) -> tuple[tuple[Value, ...], RowMap]:
        slots: int | None = params.get("slots")
        if slots is None or self.linear_in(live, params):
            return super().linear_map(values, live, **params)
        from vjpkit.control.dynamic import DynamicMap, alone
        from vjpkit.control.steps import Steps, scan_machine

        if any(map(is_abstract, values)):
            avals = [aval_of(v) for v in values]
            inner, layout = params["body"], Layout(params["consts"], params["carry"])
            reached = reached_outputs(layout, inner, carried(inner, layout, live, linear_reached))
            whole = alone(self, avals, params)
            return self(*values, **params), DynamicMap(whole, values, live, reached)
        steps = Steps("scan", scan_machine(values, live, **params), live, slots)
        return steps.outs, steps

    def together(
        self, values: Sequence[Value], ts: Sequence[Value | None], params: Any, strict: bool
    ) -> tuple[tuple[Value, ...], Sequence[Value | None]]:
        inner, layout = params["body"], Layout(params["consts"], params["carry"])
        moving = carried(inner, layout, tuple([t is not None for t in ts]), jvp_reached)
        both, reached = jvp_program(inner, moving)
        both = plain_program(both) if strict else both
        c, k, x = layout.split(values)
        dc, dk, dx = layout.split(ts)
        lc, lk, lx = layout.split(moving)
        count = len(inner.outputs)
        marks = numbered(reached)
        tangents = [count + i for i in range(sum(reached))]
        place = dict(zip([i for i, r in enumerate(reached) if r], tangents, strict=True))
        carried_on = [i for i, wanted in enumerate(lk) if wanted]
        outputs: list[int | Aval] = [*range(layout.carry)]
        outputs += [place.get(i, inner.out_avals[i]) for i in carried_on]
        outputs += range(layout.carry, count)
        outputs += [place[i] for i in range(layout.carry, count) if marks[i] is not None]
        # The program takes constants, carries, slices, and then the tangents of each.
        sizes = [len(c), len(k), len(x), sum(lc), sum(lk), sum(lx)]
        ends = np.cumsum([0, *sizes]).tolist()
        primal_c, primal_k, primal_x, tangent_c, tangent_k, tangent_x = (
            list(range(a, b)) for a, b in pairwise(ends)
        )
        order = [*primal_c, *tangent_c, *primal_k, *tangent_k, *primal_x, *tangent_x]
        inputs = [both.in_avals[i] for i in order]
        places = [order.index(i) for i in range(len(order))]
        step = rearranged(both, inputs, places, outputs)
        like = next(t for t in ts if t is not None)
        zeros = iter_zeros(dk, lk, k, like)
        outs = self(
            *c, *[t for t in dc if t is not None], *k, *zeros, *x,
            *[t for t in dx if t is not None],
            **{**params, "body": step, "consts": len(c) + sum(lc), "carry": len(k) + sum(lk)},
        )  # fmt: skip
        first, rest = outs[: len(k)], outs[len(k) :]
        carry_ts, rest = rest[: sum(lk)], rest[sum(lk) :]
        ys, y_ts = rest[: count - len(k)], iter(rest[count - len(k) :])
        pairs = zip(numbered(lk), strict=True)
        found = [None if i is None else carry_ts[i] for (i,) in pairs]
        found += [next(y_ts) if reached[len(k) + i] else None for i in range(len(ys))]
        return (*first, *ys), found

    def with_series(
        self, values: Sequence[Value], series: Sequence[Terms | None], params: Any
    ) -> tuple[tuple[Value, ...], Sequence[Terms | None]]:
        inner, layout = params["body"], Layout(params["consts"], params["carry"])
        live, order = live_and_order(series)
        moving = carried(inner, layout, live, lambda p, m: series_program(p, m, order)[1])
        consts, carry, _ = layout.split(moving)
        none = (False,) * (len(inner.outputs) - layout.carry)
        step, reached = series_program(inner, moving, order, (*carry, *none))
        counts = {
            "consts": layout.consts + order * sum(consts),
            "carry": layout.carry + order * sum(carry),
        }
        operands = with_terms(values, series, moving, order)
        outs = self(*operands, **{**params, "body": step, **counts})
        return apart_from_terms(outs, reached, order)

    def walked(self, values: Sequence[Value], run: RunProgram, **params: Any) -> tuple[Value, ...]:
        inner, layout = params["body"], Layout(params["consts"], params["carry"])
        fixed, state, xs = layout.split(values)
        steps = range(params["length"])
        columns = {}
        for i in reversed(steps) if params["reverse"] else steps:
            outs = run(f"step {i}", inner, [*fixed, *state, *[x[i] for x in xs]])
            state, columns[i] = layout.outs(outs)
        rows = [columns[i] for i in sorted(columns)]
        return (*state, *[np.stack(column) for column in zip(*rows, strict=True)])

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> tuple[Value, ...]:
        inner, layout = params["body"], Layout(params["consts"], params["carry"])
        mask = carried(inner, layout, tuple(batched), lambda p, m: mapped_program(p, n, m)[1])
        _, carries, _ = layout.split(mask)
        every = (True,) * (len(inner.outputs) - layout.carry)
        step, _ = mapped_program(inner, n, mask, (*carries, *every))
        c, k, x = layout.split(values)
        _, bk, bx = layout.split(batched)
        state = [
            batched_along_front(v, b, n) if wanted else v
            for v, b, wanted in zip(k, bk, carries, strict=True)
        ]
        slices = [np.moveaxis(v, 0, 1) if b else v for v, b in zip(x, bx, strict=True)]
        outs = self(*c, *state, *slices, **{**params, "body": step})
        last, ys = layout.outs(outs)
        dense = [batched_along_front(v, b, n) for v, b in zip(last, carries, strict=True)]
        return (*dense, *[np.moveaxis(y, 1, 0) for y in ys])

    def linear_with(self, mask: tuple[bool, ...], zeros: tuple[bool, ...], params: Any) -> bool:
        layout = Layout(params["consts"], params["carry"])
        (c, k, x), (zero_c, zero_k, zero_x) = layout.split(mask), layout.split(zeros)
        starts = all(m or z for m, z in zip(k, zero_k, strict=True))
        moving = [True] * layout.carry, [False] * layout.carry
        inner, still = [*c, *moving[0], *x], [*zero_c, *moving[1], *zero_x]
        return starts and any(mask) and is_linear_in(params["body"], inner, still)

    def samples(self) -> Iterable[Sample]:
        def step(w: Value, n: Value, x: Value, y: Value) -> tuple[Value, ...]:
            return n + 1, np.sin(x) * w + y * n, x * y

        w, x, ys = np.array([0.3, -1.2]), np.array([1.7, 0.4]), np.array([[0.5, 1.0], [2.0, -0.3]])
        n = np.array(2)[()]
        inner = stage(step, [aval_of(w), aval_of(n), aval_of(x), aval_of(x)]).program
        for reverse in (False, True):
            yield Sample(w, n, x, ys, body=inner, length=2, reverse=reverse, consts=1, carry=2)
        rows = np.linspace(-1.0, 1.0, 14).reshape(7, 2)
        kept: Any = {"consts": 1, "carry": 2, "slots": 3}
        for reverse in (False, True):
            yield Sample(w, n, x, rows, body=inner, length=7, reverse=reverse, **kept)
        yield Sample(w, n, x, ys[:0], body=inner, length=0, reverse=False, consts=1, carry=2)
        forgetful = stage(lambda x, y: (np.cos(y), x * y), [aval_of(x)] * 2).program
        params: Any = {"body": forgetful, "length": 7, "consts": 0, "carry": 1}
        yield Sample(x, rows, wrt=(0,), **params, reverse=False)
        square = stage(lambda x: (x * x, np.sum(x)), [aval_of(x)]).program
        yield Sample(x, body=square, length=3, reverse=False, consts=0, carry=1)
        yield Sample(x, body=square, length=3, reverse=False, consts=0, carry=1, slots=1)


def stepped(
    run: Callable[..., tuple[Value, ...]], *operands: Value, body: Program, length: int,
    reverse: bool, consts: int, carry: int,
) -> tuple[Value, ...]:  # fmt: skip
    """One step after the other."""
    fixed, state, xs = Layout(consts, carry).split(operands)
    avals = body.out_avals[carry:]
    ys = [np.empty((length, *a.shape), a.dtype) for a in avals]
    steps = range(length - 1, -1, -1) if reverse else range(length)
    for i in steps:
        outs = run(*fixed, *state, *[x[i] for x in xs])
        state = outs[:carry]
        for y, out in zip(ys, outs[carry:], strict=True):
            y[i] = out
    return (*state, *ys)


scan_loop = primitive(Scan)


def iter_zeros(
    ts: Sequence[Value | None], wanted: Sequence[bool], values: Sequence[Value], like: Value
) -> list[Value]:
    """Tangents of the carries that have one in the course of the loop."""
    return [
        zeros(aval_of(v), like) if t is None else t
        for t, v, w in zip(ts, values, wanted, strict=True)
        if w
    ]


def jvp_reached(program: Program, live: Mask) -> Mask:
    return jvp_program(program, live)[1]
