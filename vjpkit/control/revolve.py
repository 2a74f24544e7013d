"""`checkpoint_loop`: reverse mode through long loops in little memory, by binomial schedules.

The states at a few places are kept; all others are computed again from the nearest one before.
Where the number of steps is known, the places are those of Griewank and Walther, "Algorithm 799:
revolve" (2000): with s states kept, the initial one among them, l steps are reversed by

    r l - C(s+r, r-1)   further forward steps,   r the least with   l <= C(s+r, s),

which no schedule can do better; the l steps that are linearized are not counted, and the first
sweep is. Where it is not known, they are chosen on the way as by Wang, Moin and Iaccarino, "Minimal
repetition dynamic checkpointing algorithm for unsteady adjoint calculation" (2009), which bounds
how often a step is repeated by the r of the schedule that knows the length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import accumulate
from math import comb
from typing import Any

import numpy as np

from vjpkit.control.calls import (
    ClosesOverTraced,
    Outputs,
    apply,
    closed_over,
    flat_outputs,
    guarded,
    is_staging,
)
from vjpkit.control.mapped_rules import Mapped
from vjpkit.control.rules import RuledCall, linearized_at
from vjpkit.control.slots import slots_of
from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import ClosedTraceError, at, calling_position
from vjpkit.core.tracer import Tracer, bind
from vjpkit.pytree import PyTree, PyTreeDef, flatten
from vjpkit.transforms.arguments import name_of, require_function
from vjpkit.transforms.backings import Residual, RowMap
from vjpkit.transforms.derivatives import jvp

__all__ = ["Online", "checkpoint_loop", "forward_steps", "split"]

Maybe = Value | None


# ---------------------------------------------------------------------------------- the schedule


def repetitions(length: int, slots: int) -> int:
    """The least r with ``length <= C(slots + r, slots)``: how often a step is run again at most."""
    r = 0
    while comb(slots + r, slots) < length:
        r += 1
    return r


def forward_steps(length: int, slots: int) -> int:
    """The least number of forward steps that reversing a loop takes beside the linearized ones.

    >>> forward_steps(10, 3), forward_steps(300, 20)
    (15, 647)
    """
    r = repetitions(length, slots)
    return r * length - (comb(slots + r, r - 1) if r else 0)


def split(length: int, slots: int) -> int:
    """How many steps an optimal schedule goes on from one kept state to the next one."""
    if slots <= 1:
        return length - 1
    r = repetitions(length, slots)
    return min(comb(slots + r - 1, slots), length - comb(slots + r - 2, slots - 1))


class Online:
    """Places of kept states for a loop of unknown length."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.levels: dict[int, float] = {0: float("inf")}

    def drop_for(self, i: int) -> int | None:
        """The place to give up (None: none) so that state ``i`` can be kept; itself if it is not.

        The state that has just been kept is given up for the next one, which takes a higher level,
        unless there is one before which a state of a higher level follows.
        """
        if self.slots == 1:  # the initial state stays
            return i
        if len(self.levels) < self.slots:
            self.levels[i] = 0
            return None
        dropped = self._dispensable()
        level: float = 0
        if dropped is None:
            dropped = max(self.levels)
            level = self.levels[dropped] + 1
        del self.levels[dropped]
        self.levels[i] = level
        return dropped

    def _dispensable(self) -> int | None:
        """The last place after which there is one of a higher level."""
        highest = -1.0
        for place in sorted(self.levels, reverse=True):
            if self.levels[place] < highest:
                return place
            highest = max(highest, self.levels[place])
        return None


# ------------------------------------------------------------------------------------- the sweeps


@dataclass(frozen=True)
class State:
    """The state before step ``i``, flat."""

    i: int
    leaves: list[Value]
    tree: PyTreeDef


@dataclass(frozen=True)
class Pending:
    """Steps that are still to be reversed: ``length`` of them from a kept state on."""

    state: State
    length: int
    slots: int


@dataclass(frozen=True, eq=False)
class LoopCall:
    """A loop over items, as a function of flat leaves: the state, then arguments, then items.

    ``step(i, tree, values)`` takes state and arguments and the leaves of item i, and gives the
    leaves and the tree of the next state. The leaves of item i are those between ``ends[i]`` and
    ``ends[i + 1]`` of the operands after the arguments; where ``ends`` is None, the number of items
    is not known before.
    """

    name: str
    step: Callable[[int, PyTreeDef, Sequence[Value]], tuple[list[Value], PyTreeDef]]
    tree: PyTreeDef
    count: int
    arguments: int
    slots: int
    ends: tuple[int, ...] | None
    more: Callable[[int], bool]
    trees: list[PyTreeDef]

    def extra(self, i: int) -> list[int]:
        """The operands, beyond the state, that step i reads."""
        start = self.count + self.arguments
        fixed = range(self.count, start)
        if self.ends is None:
            return list(fixed)
        return [*fixed, *range(start + self.ends[i], start + self.ends[i + 1])]

    def after(self, state: State, values: Sequence[Value], steps: int = 1) -> State:
        """The state some steps later."""
        leaves, tree = state.leaves, state.tree
        for step_number in range(state.i, state.i + steps):
            read = [*leaves, *[values[j] for j in self.extra(step_number)]]
            leaves, tree = self.step(step_number, tree, read)
        return State(state.i + steps, leaves, tree)

    def start(self, values: Sequence[Value]) -> State:
        return State(0, list(values[: self.count]), self.tree)

    def compute(self, *values: Value) -> Outputs:
        state = self.start(values)
        while self.more(state.i):
            state = self.after(state, values)
        return self.outputs(state)

    def outputs(self, state: State) -> Outputs:
        """The final state; its tree is remembered."""
        self.trees[:] = [state.tree]
        return tuple(state.leaves)

    def linearized(self, values: Sequence[Value], live: Sequence[bool]) -> tuple[Outputs, RowMap]:
        reversal = Reversal(self, values, live)
        return self.outputs(reversal.forward()), reversal

    def pushed(
        self, values: Sequence[Value], ts: Sequence[Maybe], strict: bool
    ) -> tuple[Outputs, Sequence[Maybe]]:
        live = [i for i, t in enumerate(ts) if t is not None]

        def run(*xs: Value) -> Outputs:
            full = list(values)
            for i, x in zip(live, xs, strict=True):
                full[i] = x
            return self.compute(*full)

        given = tuple([t for t in ts if t is not None])
        outs, out_ts = jvp(run, tuple([values[i] for i in live]), given, strict=strict)
        pairs = zip(out_ts, outs, strict=True)
        return outs, [t if aval_of(o).inexact else None for t, o in pairs]

    def mapped(self, n: int, batched: Sequence[bool]) -> LoopCall:
        def step(i: int, tree: PyTreeDef, values: Sequence[Value]) -> tuple[list[Value], PyTreeDef]:
            trees: list[PyTreeDef] = []

            def flat(*xs: Value) -> Outputs:
                leaves, after = self.step(i, tree, xs)
                trees[:] = [after]
                return tuple(leaves)

            count = tree.num_leaves  # after the first step every leaf of the state has the axis
            own = [True] * count if i else list(batched[:count])
            marks = (*own, *[batched[j] for j in self.extra(i)])
            outs = Mapped(RuledCall(self.name, flat), n, marks).run(*values)
            return list(outs), trees[0]

        return replace(self, step=step)

    def staged(self, leaves: Sequence[Value]) -> Outputs:
        return self.compute(*leaves)


Plan = tuple[list[Pending], tuple[State, RowMap] | None]


class Reversal:
    """The linear map of a loop: kept states, and the sweeps that compute the others again."""

    def __init__(self, loop: LoopCall, values: Sequence[Value], live: Sequence[bool]) -> None:
        self.loop = loop
        self.values, self.guards = guarded(list(values))
        self.live = [i for i, wanted in enumerate(live) if wanted]
        self.length = 0
        self.plan: Plan | None = None  # what the first pullback uses up

    # -- forwards ----------------------------------------------------------------------------------

    def forward(self) -> State:
        """The final state, with what the first pullback needs kept."""
        start = self.loop.start(self.values)
        if self.loop.ends is None:
            out, self.plan = self._forward_online(start)
        else:
            self.length = len(self.loop.ends) - 1
            out, self.plan = self._descend(start)
        return out

    def _descend(self, state: State) -> tuple[State, Plan]:
        """From a state to the end, keeping states on the way; the last step is linearized."""
        pending: list[Pending] = []
        length, slots = self.length, self.loop.slots
        while length > 1:
            m = split(length, slots)
            pending.append(Pending(state, m, slots))
            state = self.loop.after(copied(state), self.values, m)
            length, slots = length - m, slots - 1
        out, backing = self._linear_step(state)
        return out, (pending, (state, backing))

    def _forward_online(self, state: State) -> tuple[State, Plan]:
        loop, online = self.loop, Online(self.loop.slots)
        kept = {0: state}
        state = copied(state)
        while loop.more(state.i):
            state = loop.after(state, self.values)
            dropped = online.drop_for(state.i)
            kept[state.i] = copied(state)
            if dropped is not None:
                del kept[dropped]
        self.length = state.i
        places = sorted(i for i in kept if i < self.length)
        ends = [*places[1:], self.length]
        triples = enumerate(zip(places, ends, strict=True))
        return state, ([Pending(kept[a], b - a, loop.slots - j) for j, (a, b) in triples], None)

    # -- one step ----------------------------------------------------------------------------------

    def _linear_step(self, state: State) -> tuple[State, RowMap]:
        """The next state, and the linear map to it from state, arguments and item."""
        trees: list[PyTreeDef] = []

        def flat(*xs: Value) -> Outputs:
            leaves, tree = self.loop.step(step_number, state.tree, xs)
            trees[:] = [tree]
            return tuple(leaves)

        step_number = state.i
        values = [*state.leaves, *[self.values[j] for j in self.loop.extra(step_number)]]
        outs, backing = linearized_at(flat, values, self._live_in(state))
        return State(state.i + 1, list(outs), trees[0]), backing

    def _live_in(self, state: State) -> list[bool]:
        """Which operands of a step have cotangents: the state's, and what the loop's map has."""
        wanted = set(self.live)
        own = [aval_of(x).inexact for x in state.leaves]
        return [*own, *[j in wanted for j in self.loop.extra(state.i)]]

    def _pull_step(
        self,
        state: State,
        backing: RowMap,
        cts: list[Maybe],
        totals: list[Maybe],
        strict: bool,
    ) -> list[Maybe]:
        """Cotangents of the state before a step from those after it; others add to ``totals``."""
        marks = self._live_in(state)
        step_number = state.i
        pulled = iter(backing.pull(cts, strict))
        full = [next(pulled) if m else None for m in marks]
        count = len(state.leaves)
        for j, ct in zip(self.loop.extra(step_number), full[count:], strict=True):
            if ct is not None:
                totals[j] = ct if totals[j] is None else totals[j] + ct
        return [c for c, m in zip(full[:count], marks, strict=False) if m]

    def _compare(self, known: Any, out: State) -> None:
        if known is not None and not all(map(same, known, sample(out))):
            raise ClosedTraceError(
                f"{self.loop.name}: computed again for the pullback, a step gave another state "
                "than at first: it draws random numbers, or an array that it closes over was "
                "changed in place.\nPass such arrays through args, and draw random numbers before."
            )

    # -- backwards ---------------------------------------------------------------------------------

    def pull(self, cts: Sequence[Maybe], strict: bool = False) -> list[Maybe]:
        for guard in self.guards:
            guard.check()
        start = self.loop.start(self.values)
        plan, self.plan = self.plan, None
        pending, last = self._descend(start)[1] if plan is None else plan
        totals: list[Maybe] = [None] * len(self.values)
        own, known = list(cts), None
        if last is not None:
            own, known = self._pull_step(*last, own, totals, strict), sample(last[0])
            plan = last = None
        while pending:
            own, known = self._sweep(pending.pop(), own, totals, strict, known)
        inexact = [j for j, x in enumerate(start.leaves) if aval_of(x).inexact]
        for j, ct in zip(inexact, own, strict=True):
            totals[j] = ct
        return [totals[j] for j in self.live]

    def _sweep(
        self, segment: Pending, cts: list[Maybe], totals: list[Maybe], strict: bool, known: Any
    ) -> tuple[list[Maybe], Any]:
        """Reverse the steps of a segment; also a print of its first state."""
        state, length, slots = segment.state, segment.length, segment.slots
        while length > 1:
            m = split(length, slots)
            middle = self.loop.after(copied(state), self.values, m)
            rest = Pending(middle, length - m, slots - 1)
            cts, known = self._sweep(rest, cts, totals, strict, known)
            del rest
            del middle
            length = m
        out, backing = self._linear_step(state)
        self._compare(known, out)
        del out
        return self._pull_step(state, backing, cts, totals, strict), sample(state)

    def push(self, ts: Sequence[Maybe], strict: bool = False) -> list[Maybe]:
        full: list[Maybe] = [None] * len(self.values)
        for i, t in zip(self.live, ts, strict=True):
            full[i] = t
        outs, out_ts = self.loop.pushed(self.values, full, strict)
        return [t for t, o in zip(out_ts, outs, strict=True) if aval_of(o).inexact]

    def residuals(self) -> list[Residual]:
        pending, last = self.plan or ([], None)
        kept = {id(x): x for x in self.values}
        kept |= {id(x): x for p in pending for x in p.state.leaves}
        own = [Residual(self.loop.name, x, None) for x in kept.values() if hasattr(x, "dtype")]
        return own if last is None else [*own, *last[1].residuals()]


def copied(state: State) -> State:
    """A state that a step may write to."""
    leaves = [x.copy() if type(x) is np.ndarray else x for x in state.leaves]
    return State(state.i, leaves, state.tree)


def sample(state: State) -> list[Any]:
    """A few elements of each leaf, to notice a state that is not what it was."""
    return [
        x.reshape(-1)[:: max(1, x.size // 64)].copy() if type(x) is np.ndarray else None
        for x in state.leaves
    ]


def same(a: Any, b: Any) -> bool:
    """Whether two samples are of the same state, but for rounding."""
    if a is None or b is None or a.dtype.kind not in "fc":
        return True
    if a.shape != b.shape:
        return False
    if (a == b).all():
        return True
    tolerance = np.finfo(a.dtype).eps ** 0.75
    with np.errstate(all="ignore"):
        near = abs(a - b) <= tolerance * (abs(a) + np.max(abs(a), initial=0.0))
        return bool(np.all(near | (a == b) | (np.isnan(a) & np.isnan(b))))


# ------------------------------------------------------------------------------------ the function


def checkpoint_loop(
    body: Callable[..., PyTree],
    state: PyTree,
    iterator: Iterable[Any],
    slots: int | None = None,
    *,
    memory: int | str | None = None,
    args: Sequence[PyTree] = (),
) -> PyTree:
    """``for x in iterator: state = body(state, x, *args)``, and its gradient in little memory.

    At most ``slots`` states are kept for the pullback (the initial one among them), or as many as
    fit into ``memory`` ("100MB", or bytes); the others are computed again. Where the number of
    items is known (a list, a range, an array), that takes the least number of steps that any
    schedule takes (Revolve); where it is not (a generator), they are chosen on the way, and no
    step is run more than r + 1 times, r as in the schedule that knows it. Items are kept.

    ``state`` and ``args`` are any trees, and so are items of a list, and derivatives are taken in
    all of them; a value that ``body`` closes over has none, and where it is traced by the transform
    at work that is an error. Steps must be reproducible: a state that differs when it is computed
    again is an error too. Inside `jit` the loop is unrolled; use `vk.lax.scan` there.

    A second pullback begins again from the initial state.

    >>> import numpy as np, vjpkit as vk
    >>> def euler(x, dt, rate):
    ...     return x - dt * rate * x
    >>> def final(x0, rate):
    ...     return vk.checkpoint_loop(euler, x0, [0.5] * 4, slots=2, args=(rate,))
    >>> vk.grad(final, argnums=(0, 1))(1.0, 1.0)
    (np.float64(0.0625), np.float64(-0.25))
    """
    label = f"checkpoint_loop({name_of(body)})"
    require_function(label, body)
    leaves, tree = flatten(state)
    kept = slots_of(label, leaves, slots, memory)
    arg_leaves, arg_tree = flatten(tuple(args))
    loop, item_leaves = _loop(label, body, tree, leaves, arg_tree, arg_leaves, iterator, kept)
    if not loop.more(0):
        return state
    operands = [*leaves, *arg_leaves, *item_leaves]
    try:
        if any(isinstance(x, Tracer) for x in operands):
            staging = is_staging(operands)  # never because of what body closes over: see below
            outs = loop.staged(operands) if staging else bind(apply, operands, {"call": loop})
            return loop.trees[0].unflatten(outs)
        outs = loop.compute(*operands)
        if any(isinstance(x, Tracer) for x in outs):
            raise closed_over(label)
    except ClosesOverTraced as error:
        if not str(error).startswith(label):
            raise
        raise ClosesOverTraced(
            f"{label}: body closes over a traced value, and its derivative would be lost where the "
            f"steps are computed again{at(calling_position())}.\n"
            "Pass the value through args=(value,): body is called as body(state, x, *args)."
        ) from None
    return loop.trees[0].unflatten(outs)


def _loop(
    label: str,
    body: Callable[..., PyTree],
    tree: PyTreeDef,
    leaves: Sequence[Value],
    arg_tree: PyTreeDef,
    arg_leaves: Sequence[Value],
    iterator: Any,
    slots: int,
) -> tuple[LoopCall, list[Value]]:
    """The loop as a call, and the leaves of its items where these are operands."""
    flat_outputs(label, [*leaves, *arg_leaves])
    if not isinstance(iterator, Iterable | Tracer):
        raise TypeError(
            f"{label}: iterator must be iterable, got {type(iterator).__name__}"
            f"{at(calling_position())}.\nrange(n) makes n steps."
        )
    known = list(iterator) if isinstance(iterator, Sized) else None
    source = iter(()) if known is not None else iter(iterator)
    items: list[Any] = [] if known is None else known
    traced = known is not None and any(isinstance(x, Tracer) for x in flatten(known)[0])
    parts = [flatten(item) for item in items] if traced else []
    counts = [len(part) for part, _ in parts] if traced else [0] * len(items)
    ends = None if known is None else tuple(accumulate(counts, initial=0))

    def more(i: int) -> bool:
        if known is not None or i < len(items):
            return i < len(items)
        for item in source:
            items.append(item)
            return True
        return False

    def step(i: int, tree: PyTreeDef, values: Sequence[Value]) -> tuple[list[Value], PyTreeDef]:
        n, m = tree.num_leaves, len(arg_leaves)
        item = parts[i][1].unflatten(values[n + m :]) if traced else items[i]
        arguments = arg_tree.unflatten(values[n : n + m])
        return flat_outputs(label, body(tree.unflatten(values[:n]), item, *arguments))

    loop = LoopCall(label, step, tree, len(leaves), len(arg_leaves), slots, ends, more, trees=[])
    return loop, [x for part, _ in parts for x in part]
