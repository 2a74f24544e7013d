"""`while_loop` and `fori_loop`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vjpkit.backends import Executable, executable
from vjpkit.control.bodies import (
    array_leaves,
    body,
    decides,
    form_of,
    own_results,
    python_numbers,
    runs_on_values,
)
from vjpkit.control.call import call
from vjpkit.control.dynamic import DYNAMIC, DynamicMap, alone
from vjpkit.control.higher import Higher, RunProgram, live_and_order
from vjpkit.control.layout import Layout, reached_outputs
from vjpkit.control.programs import (
    Mask,
    apart,
    apart_from_terms,
    built,
    combines,
    dependent,
    eager_form,
    jvp_program,
    linearized_program,
    mapped_program,
    numbered,
    of_examples,
    plain_program,
    rearranged,
    run_staged,
    series_program,
    standing_in,
    with_terms,
)
from vjpkit.control.scan import require_unroll, same_carry, scan, widened
from vjpkit.control.slots import slots_for
from vjpkit.control.steps import Machine, Steps
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import at, calling_position
from vjpkit.core.ir import Program
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.staging import Builder, stage
from vjpkit.core.tracer import bind
from vjpkit.kinds.linear import zeros
from vjpkit.pytree import PyTree
from vjpkit.transforms.arguments import name_of, require_function
from vjpkit.transforms.backings import RowMap
from vjpkit.transforms.batch import batched_along_front
from vjpkit.transforms.series import Terms
from vjpkit.transforms.staged import ShapeDtypeStruct, is_abstract

__all__ = ["fori_loop", "while_body", "while_loop"]


@dataclass(frozen=True)
class Loop:
    """Condition and body; operands are the constants of either, and the carries."""

    cond: Program
    body: Program
    cond_consts: int
    body_consts: int
    slots: int | None = None

    @property
    def params(self) -> dict[str, Any]:
        slots = {} if self.slots is None else {"slots": self.slots}
        return {
            "cond": self.cond, "body": self.body,
            "cond_consts": self.cond_consts, "body_consts": self.body_consts, **slots,
        }  # fmt: skip

    def split(self, xs: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        """Constants of the condition, constants of the body, carries."""
        end = self.cond_consts + self.body_consts
        return xs[: self.cond_consts], xs[self.cond_consts : end], xs[end:]

    def moving(self, live: Sequence[bool], reached: Callable[[Program, Mask], Mask]) -> Mask:
        """Which of the body's inputs are marked in the course of the loop."""
        _, consts, carry = self.split(live)
        while True:
            mask = (*consts, *carry)
            wider = [a or b for a, b in zip(carry, reached(self.body, mask), strict=True)]
            if wider == list(carry):
                return mask
            carry = wider

    def machine(self, values: Sequence[Value], live: Sequence[bool]) -> Machine:
        """Its steps."""
        fixed = values[: self.cond_consts]
        return Machine(
            Layout(self.body_consts, len(self.body.outputs)),
            self.body,
            self.moving(live, lambda p, m: linearized_program(p, m).reached),
            list(values[self.cond_consts :]),
            more=lambda _, state: bool(call(*fixed, *state, program=self.cond)[0]),
            place=lambda k: k,
        )

    def reached(self, live: Sequence[bool]) -> list[bool]:
        """Which real outputs depend on the live operands."""
        moving = self.moving(live, lambda p, m: linearized_program(p, m).reached)
        layout = Layout(self.body_consts, len(self.body.outputs))
        return reached_outputs(layout, self.body, moving)

    def decides(self, live: Sequence[bool]) -> bool:
        """Whether the values of live operands matter for the derivative in them."""
        moving = self.moving(live, lambda p, m: linearized_program(p, m).reached)
        opened = self.moving((*live[: self.cond_consts], *moving), dependent)
        ends = (*live[: self.cond_consts], *opened[self.body_consts :])
        primal = linearized_program(self.body, moving).primal
        residuals = range(len(self.body.outputs), len(primal.outputs))
        return dependent(self.cond, ends)[0] or apart(primal, opened, residuals) is None


class While(Higher):
    """Steps of ``body`` as long as ``cond`` holds."""

    exempt = DYNAMIC

    @staticmethod
    def impl(*operands: Value, **params: Any) -> tuple[Value, ...]:
        loop = Loop(**params)
        return looped(loop, eager_form(loop.cond), eager_form(loop.body))(*operands)

    def compiled(self, backend: str, params: Mapping[str, Any]) -> Callable[..., tuple[Value, ...]]:
        """Its function, the steps run by a backend."""
        loop = Loop(**params)
        return looped(loop, executable(loop.cond, backend), executable(loop.body, backend))

    def pullback(
        self, backend: str, live: Mask, params: Mapping[str, Any]
    ) -> Callable[..., tuple[Value, ...]] | None:
        """Of operands and cotangents of real results: those of live operands, by a backend."""
        from vjpkit.control.unwound import unwound

        return unwound(Loop(**params), live, backend)

    def abstract(self, *avals: Aval, **params: Any) -> tuple[Aval, ...]:
        return params["body"].out_avals  # type: ignore[no-any-return]  # a Program

    def linear_map(
        self, values: Sequence[Value], live: tuple[bool, ...], **params: Any
    ) -> tuple[tuple[Value, ...], RowMap]:
        if any(map(is_abstract, values)):
            outs = self(*values, **params)
            avals = [aval_of(v) for v in values]
            if not Loop(**params).decides(live):  # then live operands may be open
                values = [
                    zeros(a, v) if wanted else v
                    for v, a, wanted in zip(values, avals, live, strict=True)
                ]
            whole = alone(self, avals, params)
            return outs, DynamicMap(whole, values, live, Loop(**params).reached(live))
        loop = Loop(**params)
        count = loop.cond_consts
        steps = Steps(
            "while", loop.machine(values, live), live[count:], loop.slots, sum(live[:count])
        )
        return steps.outs, steps

    def together(
        self, values: Sequence[Value], ts: Sequence[Value | None], params: Any, strict: bool
    ) -> tuple[tuple[Value, ...], Sequence[Value | None]]:
        loop = Loop(**params)
        moving = loop.moving([t is not None for t in ts], lambda p, m: jvp_program(p, m)[1])
        both, reached = jvp_program(loop.body, moving)
        both = plain_program(both) if strict else both
        n_b, n_k = loop.body_consts, len(loop.body.outputs)
        fixed, consts, carry = loop.split(values)
        _, dc, dk = loop.split(ts)
        some = next(t for t in ts if t is not None)
        t_c = [t for t in dc if t is not None]
        avals = loop.body.out_avals
        carried = [i for i in range(n_k) if moving[n_b + i]]
        t_k = [zeros(avals[i], some) if dk[i] is None else dk[i] for i in carried]
        # The program takes constants, carries, and then the tangents of either.
        a, b, c = n_b, n_b + n_k, n_b + n_k + len(t_c)
        order = [*range(a), *range(b, c), *range(a, b), *range(c, len(both.inputs))]
        marks = numbered(reached)
        tangents: list[int | Aval] = []
        for i in carried:
            place = marks[i]
            tangents.append(avals[i] if place is None else n_k + place)
        inputs = [both.in_avals[i] for i in order]
        places = [order.index(i) for i in range(len(order))]
        wide = rearranged(both, inputs, places, [*range(n_k), *tangents])
        cond_avals = [*loop.cond.in_avals, *both.in_avals[c:]]
        cond = rearranged(loop.cond, cond_avals, range(len(loop.cond.inputs)), [0])
        moved = Loop(cond, wide, loop.cond_consts, n_b + len(t_c), loop.slots)
        outs = self(*fixed, *consts, *t_c, *carry, *t_k, **moved.params)
        found = numbered(moving[n_b:])
        return outs[:n_k], [None if i is None else outs[n_k + i] for i in found]

    def with_series(
        self, values: Sequence[Value], series: Sequence[Terms | None], params: Any
    ) -> tuple[tuple[Value, ...], Sequence[Terms | None]]:
        loop = Loop(**params)
        live, order = live_and_order(series)
        moving = loop.moving(live, lambda p, m: series_program(p, m, order)[1])
        n_b = loop.body_consts
        step, reached = series_program(loop.body, moving, order, moving[n_b:])
        fixed, consts, carry = loop.split(values)
        terms = series[loop.cond_consts :]
        operands = with_terms([*consts, *carry], terms, moving, order)
        # The condition looks at values: constants, and each carry before its terms.
        state = step.in_avals[n_b + order * sum(moving[:n_b]) :]
        starts = [i + order * sum(moving[n_b : n_b + i]) for i in range(len(carry))]
        count = loop.cond_consts
        places = [*range(count), *[count + i for i in starts]]
        cond = rearranged(loop.cond, [*loop.cond.in_avals[:count], *state], places, [0])
        wide = Loop(cond, step, count, len(step.in_avals) - len(state), loop.slots)
        outs = self(*fixed, *operands, **wide.params)
        return apart_from_terms(outs, reached, order)

    def walked(self, values: Sequence[Value], run: RunProgram, **params: Any) -> tuple[Value, ...]:
        loop = Loop(**params)
        fixed, consts, state = loop.split(values)
        for i in itertools.count():
            if not call(*fixed, *state, program=loop.cond)[0]:
                break
            state = run(f"step {i}", loop.body, [*consts, *state])
        return tuple(state)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> tuple[Value, ...]:
        loop = Loop(**params)
        fixed, consts, carry = loop.split(batched)
        while True:
            mapped = mapped_program(loop.body, n, (*consts, *carry))[1]
            grown = tuple([a or b for a, b in zip(mapped, carry, strict=True)])
            differs = mapped_program(loop.cond, n, (*fixed, *grown))[1][0]
            if differs:  # the examples do not end together
                grown = (True,) * len(grown)
            if grown == tuple(carry):
                break
            carry = grown
        cond, _ = mapped_program(loop.cond, n, (*fixed, *carry))
        step, _ = mapped_program(loop.body, n, (*consts, *carry), tuple(carry))
        x_f, x_c, state = loop.split(values)
        _, _, given = loop.split(batched)
        full = [
            batched_along_front(v, b, n) if wanted else v
            for v, b, wanted in zip(state, given, carry, strict=True)
        ]
        if differs:
            together = combines(loop.body, n)
            able = [*full, *x_c]
            if not together:
                (starts,) = call(*x_f, *full, program=cond)
                able = standing_in(starts, able, [*[True] * len(full), *consts])
            mapped_loop = masked(replace(loop, cond=cond, body=step), together)
            outs = self(*x_f, *x_f, *able, *full, **mapped_loop.params)
        else:
            params = replace(loop, cond=cond, body=step).params
            outs = self(*x_f, *x_c, *full, **params)
        return tuple([batched_along_front(y, b, n) for y, b in zip(outs, carry, strict=True)])

    def samples(self) -> Iterable[Sample]:
        x, w = np.array([0.3, 0.5]), np.array([1.5, 1.2])
        limit, n = np.array(4.0)[()], np.array(0)[()]
        avals = [aval_of(v) for v in (w, n, x)]
        cond = stage(lambda limit, n, x: [np.sum(x) < limit], [aval_of(limit), *avals[1:]]).program
        inner = stage(lambda w, n, x: [n + 1, np.sin(x) * w + x], avals).program
        params: Any = {"cond": cond, "body": inner, "cond_consts": 1, "body_consts": 1}
        yield Sample(limit, w, n, x, wrt=(1, 3), **params)
        yield Sample(limit, w, n, x, wrt=(1, 3), **params, slots=2)
        yield Sample(np.array(0.0)[()], w, n, x, wrt=(1, 3), **params)
        avals = [aval_of(v) for v in (x, n)]
        counted = stage(lambda x, n: [n < 3], avals).program  # after a carry that moves
        twice = stage(lambda x, n: [np.sin(x) * x, n + 1], avals).program
        alone: Any = {"cond": counted, "body": twice, "cond_consts": 0, "body_consts": 0}
        yield Sample(x, n, wrt=(0,), **alone)
        avals = [aval_of(v) for v in (n, x, x)]
        few = stage(lambda n, x, y: [n < 3], avals).program
        forgetful = stage(
            lambda w, n, x, y: [n + 1, np.cos(w), x * y], [aval_of(w), *avals]
        ).program
        params = {"cond": few, "body": forgetful, "cond_consts": 0, "body_consts": 1}
        yield Sample(w, n, x, x, wrt=(2,), **params)


def looped(loop: Loop, goes_on: Executable, step: Executable) -> Callable[..., tuple[Value, ...]]:
    """The function of a loop whose condition and body are run by these."""

    def run(*operands: Value) -> tuple[Value, ...]:
        fixed, consts, state = loop.split(operands)
        while goes_on(*fixed, *state)[0]:
            state = step(*consts, *state)
        return tuple(state)

    return run


while_body = primitive(While)


def masked(loop: Loop, together: bool) -> Loop:
    """A mapped loop whose condition differs between examples: those that are done stay as they are.

    The body needs the condition's constants too, and takes them before its own, and then carries
    that a first step can start from. Examples that are done take these, so that the body cannot
    fail or warn where no step is taken; not where examples are combined, ``together``.
    """
    count, width = loop.cond_consts, len(loop.body.outputs)

    def goes_on(builder: Builder, xs: Sequence[Value]) -> list[Value]:
        return [np.any(run_staged(builder, loop.cond, xs)[0])]

    def step(builder: Builder, xs: Sequence[Value]) -> list[Value]:
        fixed, able, rest = xs[:count], xs[count : count + width], xs[count + width :]
        consts, state = rest[: loop.body_consts], rest[loop.body_consts :]
        active = run_staged(builder, loop.cond, [*fixed, *state])[0]
        taken = [of_examples(active, x, a) for x, a in zip(state, able, strict=True)]
        outs = run_staged(builder, loop.body, [*consts, *(state if together else taken)])
        return [of_examples(active, new, old) for new, old in zip(outs, state, strict=True)]

    cond = built(loop.cond.in_avals, goes_on)
    body = built([*loop.cond.in_avals, *loop.body.in_avals], step)
    return Loop(cond, body, count, count + width + loop.body_consts, loop.slots)


# --------------------------------------------------------------------------------------- the edge


def while_loop(
    cond_fun: Callable[[PyTree], Value],
    body_fun: Callable[[PyTree], PyTree],
    init_val: PyTree,
    *,
    checkpoint: str | None = None,
    slots: int | None = None,
    memory: int | str | None = None,
) -> PyTree:
    """``while cond_fun(val): val = body_fun(val)``, also where the condition is staged.

    On values it is Python's loop. Staged it is one equation, whose carry keeps its tree, shapes and
    dtypes (`TypeError`), where Python's numbers take the dtype that they become; mapped, examples
    that are done wait for the others. Differentiable in both modes to any order: the pullback keeps
    what each step leaves; staged, it runs the loop once more for that. With
    ``checkpoint="revolve"`` it keeps at most ``slots`` states (or as many as fit into ``memory``,
    "100MB"), and computes the others again: bounded memory however long the loop turns out to be.
    Then the functions are staged on values too.

    >>> import numpy as np, vjpkit as vk
    >>> root = vk.jit(lambda a: vk.lax.while_loop(
    ...     lambda x: abs(x * x - a) > 1e-12, lambda x: 0.5 * (x + a / x), a))
    >>> root(2.0), round(float(vk.grad(root)(2.0)), 8)
    (np.float64(1.414213562373095), 0.35355339)
    """
    require_function("while_loop", cond_fun, "cond_fun")
    require_function("while_loop", body_fun, "body_fun")
    state, tree = array_leaves("while_loop", "init_val", init_val)
    label = f"while_loop: {name_of(body_fun)}"
    loose = python_numbers(init_val)
    kept = slots_for("while_loop", state, checkpoint, slots, memory)
    if kept is None and runs_on_values(state):
        val, start = tree.unflatten(state), state
        for step_number in itertools.count():  # noqa: B007  # debug_nans looks for it
            goes_on = cond_fun(val)
            decides("while_loop", "what cond_fun returns", goes_on)
            if is_abstract(goes_on):
                break
            if not goes_on:
                return own_results(val, start)
            val = body_fun(val)
            wider = widened(state, same_carry(label, state, tree, val, loose))
            if wider is not None:
                state, val = wider, tree.unflatten(wider)
    structs = tree.unflatten([ShapeDtypeStruct(aval_of(s).shape, aval_of(s).dtype) for s in state])
    cond = body(f"while_loop: {name_of(cond_fun)}", cond_fun, (structs,))
    if len(cond.outs) != 1 or cond.outs[0].shape or cond.outs[0].dtype.kind not in "biuf":
        came = ", ".join(map(repr, cond.outs))
        raise TypeError(
            f"while_loop: cond_fun must return a scalar boolean, got {came or 'nothing'}"
            f"{at(calling_position())}.\nReduce it with np.any or np.all."
        )
    step = body(label, body_fun, (structs,))
    made = step.tree.unflatten(list(step.program.outputs))
    wanted = same_carry(label, state, tree, made, loose)
    wider = widened(state, wanted)
    if wider is not None:
        options: Any = {"checkpoint": checkpoint, "slots": slots, "memory": memory}
        return while_loop(cond_fun, body_fun, tree.unflatten(wider), **options)
    step = step.cast(wanted)
    params = Loop(cond.program, step.program, len(cond.consts), len(step.consts), kept).params
    outs = bind(
        form_of(while_body) if kept is None else while_body,
        [*cond.consts, *step.consts, *state],
        params,
    )
    return tree.unflatten(outs)


def fori_loop(
    lower: Value,
    upper: Value,
    body_fun: Callable[[Value, PyTree], PyTree],
    init_val: PyTree,
    *,
    unroll: int | bool | None = None,
    checkpoint: str | None = None,
    slots: int | None = None,
    memory: int | str | None = None,
) -> PyTree:
    """``for i in range(lower, upper): val = body_fun(i, val)``, also where bounds are staged.

    With bounds that are numbers it is a `scan`, otherwise a `while_loop`; both are differentiable
    in both modes, and ``checkpoint``, ``slots`` and ``memory`` are theirs. ``unroll`` is a hint to
    compilers, as in `scan`; with a bound that is staged it is a `ValueError`.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.fori_loop(0, 4, lambda i, x: x + i, 0)
    np.int64(6)
    >>> vk.jit(vk.grad(lambda x: vk.lax.fori_loop(0, 3, lambda i, y: y * x, 1.0)))(2.0)
    np.float64(12.0)
    """
    require_function("fori_loop", body_fun, "body_fun")
    for name, bound in (("lower", lower), ("upper", upper)):
        decides("fori_loop", name, bound)
        if aval_of(bound).dtype.kind not in "iu":
            raise TypeError(
                f"fori_loop: {name} must be an integer, got {aval_of(bound)}"
                f"{at(calling_position())}"
            )
    slots_for("fori_loop", array_leaves("fori_loop", "init_val", init_val)[0], checkpoint, slots,
              memory)  # fmt: skip
    options: Any = {"checkpoint": checkpoint, "slots": slots, "memory": memory}
    if is_abstract(lower) or is_abstract(upper):
        if unroll is not None:
            raise ValueError(
                f"fori_loop: unroll={unroll!r} with bounds whose values are not known"
                f"{at(calling_position())}.\nLeave unroll out, or make lower and upper numbers."
            )
        start = np.add(lower, 0, dtype=np.int64)  # as arange's

        def counted(pair: PyTree) -> PyTree:
            return pair[0] + 1, body_fun(pair[0], pair[1])

        goes_on = lambda pair: pair[0] < upper  # noqa: E731  # a condition
        return while_loop(goes_on, counted, (start, init_val), **options)[1]
    if unroll is not None:
        require_unroll("fori_loop", unroll)

    def step(val: PyTree, i: Value) -> tuple[PyTree, None]:
        return body_fun(i, val), None

    return scan(step, init_val, np.arange(int(lower), int(upper)), **options)[0]
