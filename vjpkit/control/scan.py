"""`scan`: a loop of known length as one equation, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from vjpkit.backends import executable
from vjpkit.control.bodies import Body, array_leaves, body, is_abstract, runs_on_values
from vjpkit.control.call import call, is_linear_in
from vjpkit.control.dynamic import DynamicMap, alone
from vjpkit.control.higher import (
    Form,
    Linearization,
    Operand,
    Programmatic,
    Zeros,
    live_and_order,
)
from vjpkit.control.programs import (
    Mask,
    apart,
    apart_from_terms,
    built,
    dependent,
    jvp_program,
    linearized_program,
    mapped_program,
    numbered,
    plain_program,
    rearranged,
    run_staged,
    series_program,
    split_program,
    transposed_program,
    with_terms,
)
from vjpkit.control.steps import Layout, Machine, Steps, slots_for, stacked
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import at, calling_position
from vjpkit.core.ir import Atom, Program, Var
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.staging import Builder, stage
from vjpkit.core.tracer import bind
from vjpkit.kinds.linear import zeros
from vjpkit.pytree import PyTree, PyTreeDef, flatten, flatten_with_path, keystr
from vjpkit.transforms.arguments import name_of, require_function
from vjpkit.transforms.batch import batched_along_front
from vjpkit.transforms.linear import Backing
from vjpkit.transforms.series import Terms
from vjpkit.transforms.staged import ShapeDtypeStruct

__all__ = ["Scan", "scan", "scan_loop"]


class Scan(Programmatic):
    """``length`` steps of a program ``(consts, carry, x) -> (carry, y)``, or backwards."""

    exempt = {"dtypes": "a program is made for operands of its own avals"}

    @staticmethod
    def impl(
        *operands: Value, body: Program, length: int, reverse: bool, consts: int, carry: int,
        slots: int | None = None,
    ) -> tuple[Value, ...]:  # fmt: skip
        run = executable(body)
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
        return Split(live, avals, **whole).linearization()

    def linear_map(
        self, values: Sequence[Value], live: tuple[bool, ...], **params: Any
    ) -> tuple[tuple[Value, ...], Backing]:
        slots: int | None = params.get("slots")
        if slots is None or self.linear_in(live, params):
            return super().linear_map(values, live, **params)
        if any(map(is_abstract, values)):
            avals = [aval_of(v) for v in values]
            return self(*values, **params), DynamicMap(alone(self, avals, params), values, live)
        steps = Steps("scan", machine(values, live, **params), live, slots)
        return steps.outs, steps

    def with_tangents(
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
        outputs += [place.get(i, inner.out_avals[i].strong()) for i in carried_on]
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

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        _, carries, _ = Layout(params["consts"], params["carry"]).split(mask)
        return all(carries) and any(mask) and is_linear_in(params["body"], mask)

    def samples(self) -> Iterable[Sample]:
        def step(w: Value, n: Value, x: Value, y: Value) -> tuple[Value, ...]:
            return n + 1, np.sin(x) * w + y * n, x * y

        w, x, ys = np.array([0.3, -1.2]), np.array([1.7, 0.4]), np.array([[0.5, 1.0], [2.0, -0.3]])
        n = np.array(2)[()]
        inner = stage(step, [aval_of(w), aval_of(n), aval_of(x), aval_of(x)]).program
        for reverse in (False, True):
            yield Sample(w, n, x, ys, body=inner, length=2, reverse=reverse, consts=1, carry=2)
        yield Sample(w, n, x, ys, body=inner, length=2, reverse=True, consts=1, carry=2, slots=1)
        yield Sample(w, n, x, ys[:0], body=inner, length=0, reverse=False, consts=1, carry=2)
        square = stage(lambda x: (x * x, np.sum(x)), [aval_of(x)]).program
        yield Sample(x, body=square, length=3, reverse=False, consts=0, carry=1)
        yield Sample(x, body=square, length=3, reverse=False, consts=0, carry=1, slots=2)


scan_loop = primitive(Scan)


def machine(
    values: Sequence[Value], live: Mask, *, body: Program, length: int, reverse: bool,
    consts: int, carry: int, slots: int,
) -> Machine:  # fmt: skip
    """The steps of a scan."""
    layout = Layout(consts, carry)
    return Machine(
        layout,
        body,
        carried(body, layout, live, linear_reached),
        list(values),
        more=lambda k, _: k < length,
        place=(lambda k: length - 1 - k) if reverse else (lambda k: k),
        length=length,
    )


def iter_zeros(
    ts: Sequence[Value | None], wanted: Sequence[bool], values: Sequence[Value], like: Value
) -> list[Value]:
    """Tangents of the carries that have one in the course of the loop."""
    return [
        zeros(aval_of(v).strong(), like) if t is None else t
        for t, v, w in zip(ts, values, wanted, strict=True)
        if w
    ]


def linear_reached(program: Program, live: Mask) -> Mask:
    return linearized_program(program, live).reached


def jvp_reached(program: Program, live: Mask) -> Mask:
    return jvp_program(program, live)[1]


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


class Split:
    """A loop split at a point: the parts from which both of its linear forms are made."""

    def __init__(
        self, live: Mask, avals: Sequence[Aval], *, body: Program, length: int, reverse: bool,
        consts: int, carry: int,
    ) -> None:  # fmt: skip
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
        outs = scan_loop(
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
        outs = scan_loop(
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
        form = Form(scan_loop, params, (*loop, *t_c, *t_k, *each, *t_x), tuple(outputs))
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
        return Form(scan_loop, params, operands, tuple(self._cotangents(p_c, p_x, n_k, n_c)))

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


# --------------------------------------------------------------------------------------- the edge


def scan(
    f: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    init: PyTree,
    xs: PyTree = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    checkpoint: str | None = None,
    slots: int | None = None,
    memory: int | str | None = None,
) -> tuple[PyTree, PyTree]:
    """``carry, y = f(carry, x)`` for each slice x of ``xs``; the last carry and all y, stacked.

    ``init`` and ``xs`` are trees; ``xs`` may be None with ``length``. ``f`` must return a carry of
    the tree, shapes and dtypes of ``init`` (`TypeError`), and may close over traced values. On
    values it is a Python loop; staged or mapped it is one equation, whose derivative in either mode
    is a loop again. ``unroll`` is a hint to compilers.

    With ``checkpoint="revolve"`` the pullback keeps at most ``slots`` carries (or as many as fit
    into ``memory``, "100MB"), the initial one among them, instead of what every step leaves, and
    computes the others again, in as few steps as any schedule can, `vk.checkpoint_loop`'s; in a
    program it runs the loop once more before. Then ``f`` is staged on values too.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.scan(lambda c, x: (c + x, c * x), 0.0, np.arange(4.0))
    (np.float64(6.0), array([0., 0., 2., 9.]))
    >>> power = lambda x: vk.lax.scan(lambda c, _: (c * x, None), 1.0, length=3)[0]
    >>> vk.jit(vk.grad(power))(2.0)
    np.float64(12.0)
    """
    require_function("scan", f)
    state, tree = array_leaves("scan", "init", init)
    slices, x_tree = array_leaves("scan", "xs", xs)
    n = common_length(xs, slices, length)
    if not isinstance(unroll, int) or unroll < 0:
        raise ValueError(f"scan: unroll must be a positive int or a bool, got {unroll!r}")
    kept = slots_for("scan", state, checkpoint, slots, memory)
    if kept is None and runs_on_values([*state, *slices]):
        return in_python(f, (state, tree), (slices, x_tree), n, reverse)
    steps = [ShapeDtypeStruct(x.shape[1:], x.dtype) for x in slices]
    label = f"scan: {name_of(f)}"
    made, state = stable_body(label, f, state, tree, x_tree.unflatten(steps))
    count = len(state)
    _, y_tree = made.tree.children()
    outs = bind(
        scan_loop,
        [*made.consts, *state, *slices],
        {
            "body": made.program, "length": n, "reverse": bool(reverse),
            "consts": len(made.consts), "carry": count,
            **({} if kept is None else {"slots": kept}),
        },
    )  # fmt: skip
    return tree.unflatten(outs[:count]), y_tree.unflatten(outs[count:])


def common_length(xs: PyTree, leaves: Sequence[Value], length: int | None) -> int:
    """The number of steps; a `ValueError` where slices and ``length`` disagree."""
    if length is not None:
        length = int(length)
    elif not leaves:
        raise ValueError(
            f"scan: xs has no arrays and length is not given{at(calling_position())}.\n"
            "Pass length= for a loop without xs."
        )
    paths = flatten_with_path(xs)[0]
    for (path, _), x in zip(paths, leaves, strict=True):
        where = keystr(path) or "xs"
        if not aval_of(x).shape:
            raise ValueError(
                f"scan: {where} is a scalar, which has no slices{at(calling_position())}.\n"
                "Close over it, or put it into the carry."
            )
        if length is None:
            length = aval_of(x).shape[0]
        if aval_of(x).shape[0] != length:
            raise ValueError(
                f"scan: {where} has {aval_of(x).shape[0]} slices, but {length} are wanted"
                f"{at(calling_position())}"
            )
    assert length is not None
    if length < 0:
        raise ValueError(
            f"scan: length is {length}{at(calling_position())}; it must not be negative"
        )
    return length


def in_python(
    f: Callable[..., Any], init: tuple[list[Value], PyTreeDef], xs: tuple[list[Value], PyTreeDef],
    n: int, reverse: bool,
) -> tuple[PyTree, PyTree]:  # fmt: skip
    """The loop on values."""
    (state, tree), (slices, x_tree) = init, xs
    if n == 0:
        steps = [ShapeDtypeStruct(x.shape[1:], x.dtype) for x in slices]
        made, _ = stable_body(f"scan: {name_of(f)}", f, state, tree, x_tree.unflatten(steps))
        empty = [np.zeros((0, *a.shape), a.dtype) for a in made.outs[len(state) :]]
        return tree.unflatten(state), made.tree.children()[1].unflatten(empty)
    columns: list[list[Value]] = []
    y_tree = None
    carry = tree.unflatten(state)
    for i in range(n - 1, -1, -1) if reverse else range(n):
        pair = f(carry, x_tree.unflatten([x[i] for x in slices]))
        carry, y = checked_pair(f"scan: {name_of(f)}", pair)
        same_carry(f"scan: {name_of(f)}", state, tree, carry)
        leaves, y_tree = flatten(y)
        columns.append(leaves)
    if reverse:
        columns.reverse()
    assert y_tree is not None
    stacks = [np.stack(column) for column in zip(*columns, strict=True)]
    return carry, y_tree.unflatten(stacks)


def checked_pair(label: str, pair: Any) -> tuple[PyTree, PyTree]:
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise TypeError(
            f"{label} must return a pair (carry, y), got {type(pair).__name__}"
            f"{at(calling_position())}.\nReturn (carry, None) where nothing is to be stacked."
        )
    return pair


def same_carry(label: str, state: Sequence[Value], tree: PyTreeDef, carry: PyTree) -> list[Aval]:
    """Avals of a step's carry, which must fit the initial one."""
    leaves, found = flatten(carry)
    if found != tree:
        raise TypeError(
            f"{label} returned a carry of tree {found}, but started with {tree}"
            f"{at(calling_position())}.\nReturn the carry with the tree of init."
        )
    avals = []
    for i, (x, start) in enumerate(zip(leaves, state, strict=True)):
        came, wanted = aval_of(x), aval_of(start).strong()
        if came.shape != wanted.shape or not (came.weak or came.dtype == wanted.dtype):
            path = keystr(flatten_with_path(carry)[0][i][0])
            raise TypeError(
                f"{label} returned carry {came}{f' at {path}' if path else ''}, but started with "
                f"{wanted}{at(calling_position())}.\n"
                "Cast the initial carry, or the body's result, so that they agree."
            )
        avals.append(wanted)
    return avals


def stable_body(
    label: str, f: Callable[..., Any], state: list[Value], tree: PyTreeDef, x: PyTree
) -> tuple[Body, list[Value]]:
    """The body staged, its carry in the avals of the initial one."""
    structs = [ShapeDtypeStruct(aval_of(s).shape, aval_of(s).dtype) for s in state]
    made = body(
        label, lambda carry, x: checked_pair(label, f(carry, x)), (tree.unflatten(structs), x)
    )
    carry_tree, _ = made.tree.children()
    count = carry_tree.num_leaves
    placeholders = [Var(a) for a in made.outs[:count]]
    wanted = same_carry(label, state, tree, carry_tree.unflatten(placeholders))
    return made.cast([*wanted, *[a.strong() for a in made.outs[count:]]]), state
