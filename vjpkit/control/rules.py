"""Functions with rules of their own, on flat leaves: what derives which rule from which.

A `RuledCall` has any of four rules (``jvp``; ``fwd`` and ``bwd``; ``transpose``; ``vmap``) and gets
the others from those it has: forward mode from the transpose of ``bwd``, reverse mode from the
transpose of ``jvp``, both from ``transpose`` where the function is linear, and from the function
itself where it has no rule for derivatives at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from threading import get_ident
from typing import Any, ClassVar, NoReturn

import numpy as np

from vjpkit.control.call import is_linear_in
from vjpkit.control.calls import (
    CallPrimitive,
    Outputs,
    apply,
    closed_over,
    guarded,
    zeros_of,
)
from vjpkit.control.higher import RunProgram
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import NotDifferentiableError, at, calling_position
from vjpkit.core.evaluate import evaluate
from vjpkit.core.ir import Program, Var
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import cast
from vjpkit.core.staging import Captured, stage
from vjpkit.core.tracer import Tracer
from vjpkit.pytree import PyTree, flatten
from vjpkit.transforms.batch import Batched, Batches, batched_along_front, over_axis
from vjpkit.transforms.derivatives import jvp, linearize
from vjpkit.transforms.linear import Backing, Residual

__all__ = ["CustomCall", "RuledCall", "custom_call", "example_calls"]

Maybe = Value | None
Flat = Callable[..., Outputs]
Jvp = Callable[[Sequence[Value], Sequence[Maybe]], tuple[Outputs, Sequence[Maybe]]]
Fwd = Callable[[Sequence[Value], Sequence[bool]], tuple[Outputs, PyTree]]
Bwd = Callable[[PyTree, Sequence[Maybe]], Sequence[Maybe]]
Transpose = Callable[[Sequence[Value], Sequence[Maybe]], Sequence[Maybe]]
VmapRule = Callable[[int, Sequence[bool], Sequence[Value]], Outputs]


@dataclass(frozen=True, eq=False)
class RuledCall:
    """A flat function and its rules.

    ``jvp(values, ts)`` gives outputs and their tangents; ``fwd(values, live)`` outputs and
    residuals, ``bwd(residuals, cts)`` cotangents of all operands; ``transpose(values, cts)``
    cotangents of the operands ``linear``, in which the function is jointly linear;
    ``vmap(n, batched, values)`` outputs with a leading axis. Tangents and cotangents are None for
    zero, one per operand and output. The first ``closed`` operands are values that the rules close
    over. ``owner`` holds the threads that are staging a rule of the same function just now: rules
    that call the function they belong to are staged one level deep, and ``deferred`` below it.
    """

    name: str
    run: Flat
    jvp: Jvp | None = None
    fwd: Fwd | None = None
    bwd: Bwd | None = None
    transpose: Transpose | None = None
    linear: tuple[int, ...] = ()
    vmap: VmapRule | None = None
    closed: int = 0
    owner: set[int] | None = None
    deferred: bool = False

    def compute(self, *leaves: Value) -> Outputs:
        return self.run(*leaves)

    def is_linear_in(self, live: Sequence[bool]) -> bool:
        """Whether the transpose rule covers the operands that ``live`` marks."""
        return self.transpose is not None and all(
            i in self.linear for i, wanted in enumerate(live) if wanted
        )

    def _require_rules_for(self, live: Sequence[bool]) -> None:
        has_rule = self.jvp or self.bwd or self.transpose
        if has_rule and any(live[: self.closed]):
            raise closed_over(self.name)
        if self.transpose and not (self.jvp or self.bwd or self.is_linear_in(live)):
            self._no_rule(next(i for i, w in enumerate(live) if w and i not in self.linear))

    def _no_rule(self, i: int) -> NoReturn:
        raise NotDifferentiableError(
            f"{self.name}: it has a transpose rule alone, and leaf {i - self.closed} of its "
            f"arguments is not among those it is linear in{at(calling_position())}.\n"
            "Give it a jvp or a vjp rule too, or pass vk.lax.stop_gradient of that argument."
        )

    def linearized(self, values: Sequence[Value], live: Sequence[bool]) -> tuple[Outputs, Backing]:
        self._require_rules_for(live)
        if self.is_linear_in(live):
            outs = apply(*values, call=self)
            return outs, LinearRule(self, values, live, outs)
        if self.fwd is not None and self.bwd is not None:
            outs, residuals = self.fwd(values, live)
            return outs, ReverseRule(self, residuals, values, live, outs)
        if self.jvp is not None:
            return self._recorded(values, live)
        return linearized_at(self.run, values, live)

    def _recorded(self, values: Sequence[Value], live: Sequence[bool]) -> tuple[Outputs, Backing]:
        """The forward rule, recorded over the tangents: its pullback is its transpose."""
        rule = self.jvp
        assert rule is not None
        chosen = [i for i, wanted in enumerate(live) if wanted]
        outs: list[Value] = []

        def tangents(*ts: Value) -> list[Value]:
            full: list[Maybe] = [None] * len(values)
            for i, t in zip(chosen, ts, strict=True):
                full[i] = t
            outs[:], out_ts = rule(values, full)
            pairs = zip(out_ts, outs, strict=True)
            return [
                zeros_of(aval_of(o).strong(), values) if t is None else t
                for t, o in pairs
                if aval_of(o).inexact
            ]

        zeros = [zeros_of(aval_of(values[i]).strong(), [values[i]]) for i in chosen]
        _, linear = linearize(tangents, *zeros)
        return tuple(outs), linear.backing

    def pushed(
        self, values: Sequence[Value], ts: Sequence[Maybe]
    ) -> tuple[Outputs, Sequence[Maybe]]:
        live = [t is not None for t in ts]
        self._require_rules_for(live)
        if self.jvp is not None and not self.is_linear_in(live):
            return self.jvp(values, ts)
        outs, backing = self.linearized(values, live)
        out_ts = iter(backing.push([t for t in ts if t is not None]))
        return outs, [next(out_ts) if aval_of(o).inexact else None for o in outs]

    def mapped(self, n: int, batched: Sequence[bool]) -> RuledCall:
        return Mapped(self, n, tuple(batched)).call()

    def staged(self, leaves: Sequence[Value]) -> Outputs:
        avals = [aval_of(x) for x in leaves]
        if self.deferred or (self.owner is not None and get_ident() in self.owner):
            captured, params = deferred_rules(self, avals)
        else:
            captured, params = staged_rules(self, avals)
        return custom_call(*captured, *leaves, **params)  # type: ignore[no-any-return]  # as above


def linearized_at(
    run: Flat, values: Sequence[Value], live: Sequence[bool]
) -> tuple[Outputs, Backing]:
    """A flat function's own linearization in the live operands."""
    chosen = [i for i, wanted in enumerate(live) if wanted]

    def outs_at(*xs: Value) -> Outputs:
        full = list(values)
        for i, x in zip(chosen, xs, strict=True):
            full[i] = x
        return run(*full)

    outs, linear = linearize(outs_at, *[values[i] for i in chosen])
    return outs, linear.backing


# ----------------------------------------------------------------------------- linear maps of rules


class OneRule:
    """What the linear maps of rules share: which operands, which outputs, what they keep."""

    def __init__(
        self,
        call: RuledCall,
        kept: PyTree,
        values: Sequence[Value],
        live: Sequence[bool],
        outs: Sequence[Value],
    ) -> None:
        self.call = call
        self.kept, self.guards = guarded(kept)
        self.live = [i for i, wanted in enumerate(live) if wanted]
        self.in_avals = [aval_of(v).strong() for v in values]
        self.out_avals = [aval_of(o).strong() for o in outs]

    def check(self) -> None:
        for guard in self.guards:
            guard.check()

    def all_cotangents(self, cts: Sequence[Maybe]) -> list[Maybe]:
        """Cotangents of all outputs, from those of the outputs that have any."""
        given = iter(cts)
        return [next(given) if aval.inexact else None for aval in self.out_avals]

    def live_cotangents(self, cts: Sequence[Maybe]) -> list[Maybe]:
        """Cotangents of the live operands, in their dtypes, from those of all operands."""
        triples = [(cts[i], self.in_avals[i].dtype) for i in self.live]
        return [None if ct is None else cast(ct, dtype) for ct, dtype in triples]

    def residuals(self) -> list[Residual]:
        leaves = [x for x in flatten(self.kept)[0] if hasattr(x, "dtype")]
        return [Residual(self.call.name, x, None) for x in leaves]

    def size(self) -> tuple[int, str]:
        return 1, "rows"


class ReverseRule(OneRule):
    """The linear map that ``bwd`` pulls back; pushing is its transpose, for ``bwd`` is linear."""

    def pull(self, cts: Sequence[Maybe]) -> list[Maybe]:
        self.check()
        assert self.call.bwd is not None
        out = self.call.bwd(self.kept, self.all_cotangents(cts))
        return self.live_cotangents(out)

    def push(self, ts: Sequence[Maybe]) -> list[Maybe]:
        beside = [*ts, *flatten(self.kept)[0]]
        cts = [zeros_of(a, beside) for a in self.out_avals if a.inexact]
        avals = [self.in_avals[i] for i in self.live]

        def pull(*cts: Value) -> list[Value]:
            pairs = zip(self.pull(cts), avals, strict=True)
            return [zeros_of(a, beside) if c is None else c for c, a in pairs]

        _, linear = linearize(pull, *cts)
        dense = [zeros_of(a, ts) if t is None else t for t, a in zip(ts, avals, strict=True)]
        return list(linear.backing.pull(dense))


class LinearRule(OneRule):
    """A function that is linear in its live operands, and its transpose rule."""

    def __init__(
        self, call: RuledCall, values: Sequence[Value], live: Sequence[bool], outs: Sequence[Value]
    ) -> None:
        fixed = [None if i in call.linear else v for i, v in enumerate(values)]
        super().__init__(call, fixed, values, live, outs)

    def push(self, ts: Sequence[Maybe]) -> list[Maybe]:
        self.check()
        full = list(self.kept)
        for i in self.call.linear:
            full[i] = None
        for i, t in zip(self.live, ts, strict=True):
            full[i] = t
        for i in self.call.linear:
            if full[i] is None:
                full[i] = zeros_of(self.in_avals[i], ts)
        outs = apply(*full, call=self.call)
        return [o for o, aval in zip(outs, self.out_avals, strict=True) if aval.inexact]

    def pull(self, cts: Sequence[Maybe]) -> list[Maybe]:
        self.check()
        assert self.call.transpose is not None
        out = self.call.transpose(self.kept, self.all_cotangents(cts))
        return self.live_cotangents(out)


# ------------------------------------------------------------------------------------ mapped rules


class Held:
    """Something that a tree carries as a leaf without looking into it."""

    def __init__(self, value: Any) -> None:
        self.value = value


def over_examples(
    f: Callable[..., Any], n: int, args: Sequence[Value], batched: Sequence[bool]
) -> tuple[list[Maybe], list[bool]]:
    """What ``f`` (to a list of values or None) gives, and which of it differs between examples."""
    trace = Batches(n)
    try:
        with over_axis(trace):
            ys = f(*[Batched(x, trace) if b else x for x, b in zip(args, batched, strict=True)])
    finally:
        trace.close("vmap")
    mine = [isinstance(y, Batched) and y.owner is trace for y in ys]
    return [y if y is None or not m else trace.dense(y) for y, m in zip(ys, mine)], mine


@dataclass(frozen=True)
class Mapped:
    """A call and its rules over a leading axis."""

    inner: RuledCall
    n: int
    batched: tuple[bool, ...]

    def call(self) -> RuledCall:
        inner = self.inner
        return replace(
            inner,
            run=self.run,
            jvp=self.jvp if inner.jvp else None,
            fwd=self.fwd if inner.fwd else None,
            bwd=self.bwd if inner.bwd else None,
            transpose=self.transpose if inner.transpose else None,
            vmap=None,
        )

    def _front(self, ys: Sequence[Maybe], mine: Sequence[bool]) -> list[Maybe]:
        pairs = zip(ys, mine, strict=True)
        return [None if y is None else batched_along_front(y, m, self.n) for y, m in pairs]

    def run(self, *leaves: Value) -> Outputs:
        if self.inner.vmap is not None:
            return self.inner.vmap(self.n, self.batched, leaves)
        return tuple(self._front(*over_examples(self.inner.run, self.n, leaves, self.batched)))

    def jvp(self, values: Sequence[Value], ts: Sequence[Maybe]) -> tuple[Outputs, Sequence[Maybe]]:
        count = len(values)
        live = [i for i, t in enumerate(ts) if t is not None]
        rule = self.inner.jvp
        assert rule is not None

        def both(*xs: Value) -> list[Maybe]:
            full: list[Maybe] = [None] * count
            for i, t in zip(live, xs[count:], strict=True):
                full[i] = t
            outs, out_ts = rule(xs[:count], full)
            return [*outs, *out_ts]

        args = [*values, *[ts[i] for i in live]]
        marks = [*self.batched, *[self.batched[i] for i in live]]
        pairs = self._front(*over_examples(both, self.n, args, marks))
        half = len(pairs) // 2
        return tuple(pairs[:half]), pairs[half:]

    def fwd(self, values: Sequence[Value], live: Sequence[bool]) -> tuple[Outputs, PyTree]:
        shape: list[Any] = []
        rule = self.inner.fwd
        assert rule is not None

        def both(*xs: Value) -> list[Maybe]:
            outs, residuals = rule(xs, live)
            leaves, tree = flatten(residuals)
            shape[:] = [len(outs), tree]
            return [*outs, *leaves]

        ys, mine = over_examples(both, self.n, values, self.batched)
        count, tree = shape
        outs = self._front(ys[:count], mine[:count])
        return tuple(outs), [ys[count:], Held((tree, mine[count:]))]

    def bwd(self, residuals: PyTree, cts: Sequence[Maybe]) -> list[Maybe]:
        kept, held = residuals
        tree, mine = held.value
        live = [j for j, c in enumerate(cts) if c is not None]
        rule = self.inner.bwd
        assert rule is not None

        def pull(*xs: Value) -> Sequence[Maybe]:
            full: list[Maybe] = [None] * len(cts)
            for j, c in zip(live, xs[len(kept) :], strict=True):
                full[j] = c
            return rule(tree.unflatten(xs[: len(kept)]), full)

        args = [*kept, *[cts[j] for j in live]]
        return self._summed(*over_examples(pull, self.n, args, [*mine, *[True] * len(live)]))

    def transpose(self, values: Sequence[Value], cts: Sequence[Maybe]) -> list[Maybe]:
        fixed = [i for i, v in enumerate(values) if v is not None]
        live = [j for j, c in enumerate(cts) if c is not None]
        rule = self.inner.transpose
        assert rule is not None

        def pull(*xs: Value) -> Sequence[Maybe]:
            full_values: list[Maybe] = [None] * len(values)
            full: list[Maybe] = [None] * len(cts)
            for i, x in zip(fixed, xs, strict=False):
                full_values[i] = x
            for j, c in zip(live, xs[len(fixed) :], strict=True):
                full[j] = c
            return rule(full_values, full)

        args = [*[values[i] for i in fixed], *[cts[j] for j in live]]
        marks = [*[self.batched[i] for i in fixed], *[True] * len(live)]
        return self._summed(*over_examples(pull, self.n, args, marks))

    def _summed(self, cts: Sequence[Maybe], mine: Sequence[bool]) -> list[Maybe]:
        """Cotangents of the operands; one that all examples share gets the sum."""
        out: list[Maybe] = []
        for ct, m, own in zip(cts, mine, self.batched, strict=True):
            if ct is None or own:
                out.append(None if ct is None else batched_along_front(ct, m, self.n))
            else:
                out.append(np.sum(ct, axis=0) if m else ct * int(self.n))
        return out


# ------------------------------------------------------------------------------------ staged rules


@dataclass(frozen=True)
class Unstaged:
    """A rule that could not be staged: an error where a derivative asks for it, not before."""

    reason: str


class Stager:
    """Stages several functions over one list of captured values."""

    def __init__(self) -> None:
        self.captured: dict[int, Captured] = {}
        self.parts: dict[str, tuple[Program, list[int]]] = {}
        self.failed: dict[str, Unstaged] = {}

    def stage(self, part: str, f: Callable[..., Any], avals: Sequence[Aval]) -> None:
        """The program of ``f`` under the name ``part``."""
        closed = stage(f, avals)
        keys = []
        for c in closed.captured:
            key = id(c.value) if isinstance(c.value, Tracer) else id(c)
            keys.append(key)
            self.captured[key] = c
        self.parts[part] = closed.program, keys

    def stage_rule(self, part: str, f: Callable[..., Any], avals: Sequence[Aval]) -> bool:
        """As `stage`; a rule that cannot be staged is missed only where it is needed."""
        try:
            self.stage(part, f, avals)
        except Exception as error:
            self.failed[part] = Unstaged(f"{type(error).__name__}: {error}")
            return False
        return True

    def program(self, part: str) -> Program | Unstaged | None:
        """A staged part, with all captured values as its leading inputs."""
        if part in self.failed:
            return self.failed[part]
        if part not in self.parts:
            return None
        program, keys = self.parts[part]
        mine = dict(zip(keys, program.inputs, strict=False))
        leading = [
            mine.get(key) or Var(aval_of(c.value).strong()) for key, c in self.captured.items()
        ]
        inputs = [*leading, *program.inputs[len(keys) :]]
        return Program(inputs, program.equations, program.outputs)


def tangent_avals(avals: Sequence[Aval]) -> list[Aval]:
    return [a.strong() for a in avals if a.inexact]


def spread(vectors: Sequence[Value], avals: Sequence[Aval]) -> list[Maybe]:
    """One entry per aval, from those of inexact ones."""
    given = iter(vectors)
    return [next(given) if a.inexact else None for a in avals]


def staged_rules(call: RuledCall, avals: Sequence[Aval]) -> tuple[list[Value], dict[str, Any]]:
    """Captured values and parameters of the equation that stands for a call."""
    owner = set() if call.owner is None else call.owner
    owner.add(get_ident())
    try:
        return _staged_rules(call, avals)
    finally:
        owner.discard(get_ident())


def deferred_rules(call: RuledCall, avals: Sequence[Aval]) -> tuple[list[Value], dict[str, Any]]:
    """As `staged_rules`, with the rules as they are: they run when a derivative asks for them."""
    closed = stage(call.run, avals)
    captured = [c.value for c in closed.captured]
    nothing = dict.fromkeys(("jvp", "fwd", "bwd", "transpose", "vmap"))
    count = len(captured)
    rest = {"name": call.name, "linear": (), "reached": (), "captured": count, "closed": count}
    rules = Deferred(call, count)
    return captured, {**nothing, **rest, "program": closed.program, "deferred": rules}


def _staged_rules(call: RuledCall, avals: Sequence[Aval]) -> tuple[list[Value], dict[str, Any]]:
    stager = Stager()
    stager.stage("program", call.run, avals)
    outs = stager.parts["program"][0].out_avals
    count = len(avals)
    reached: tuple[int, ...] = ()
    if call.jvp is not None:
        rule = call.jvp

        def tangents(*xs: Value) -> list[Value]:
            ys, ts = rule(xs[:count], spread(xs[count:], avals))
            pairs = zip(ts, ys, strict=True)
            dense = [
                zeros_of(aval_of(y).strong(), xs) if t is None else t
                for t, y in pairs
                if aval_of(y).inexact
            ]
            return [*ys, *dense]

        stager.stage_rule("jvp", tangents, [*avals, *tangent_avals(avals)])
    if call.fwd is not None and call.bwd is not None:
        reached = _stage_reverse(stager, call, avals, outs)
    if call.transpose is not None:
        reached = _stage_transpose(stager, call, avals, outs)
    names = ("program", "jvp", "fwd", "bwd", "transpose")
    params = {name: stager.program(name) for name in names}
    captured = [c.value for c in stager.captured.values()]
    count = len(captured)
    linear = tuple([i + count for i in call.linear])
    rest = {"name": call.name, "linear": linear, "reached": reached, "vmap": call.vmap}
    ours = {"captured": count, "closed": count + call.closed, "deferred": None}
    return captured, {**params, **rest, **ours}


def _stage_reverse(
    stager: Stager, call: RuledCall, avals: Sequence[Aval], outs: Sequence[Aval]
) -> tuple[int, ...]:
    """Stage ``fwd`` and ``bwd``; which operands get a cotangent."""
    fwd, bwd = call.fwd, call.bwd
    assert fwd is not None
    assert bwd is not None
    found: list[Any] = []

    def forward(*xs: Value) -> list[Value]:
        ys, residuals = fwd(xs, [a.inexact for a in avals])
        leaves, tree = flatten(residuals)
        arrays = [hasattr(x, "dtype") for x in leaves]
        found[:] = [tree, leaves, arrays]
        return [*ys, *[x for x, a in zip(leaves, arrays, strict=True) if a]]

    if not stager.stage_rule("fwd", forward, avals):
        stager.failed["bwd"] = stager.failed["fwd"]
        return ()
    tree, leaves, arrays = found
    kept = stager.parts["fwd"][0].out_avals[len(outs) :]
    reached: list[int] = []

    def backward(*xs: Value) -> list[Value]:
        values = iter(xs[: len(kept)])
        mixed = [next(values) if a else x for x, a in zip(leaves, arrays, strict=True)]
        cts = bwd(tree.unflatten(mixed), spread(xs[len(kept) :], outs))
        reached[:] = [i for i, c in enumerate(cts) if c is not None]
        return [cts[i] for i in reached]

    stager.stage_rule("bwd", backward, [*kept, *tangent_avals(outs)])
    return tuple(reached)


def _stage_transpose(
    stager: Stager, call: RuledCall, avals: Sequence[Aval], outs: Sequence[Aval]
) -> tuple[int, ...]:
    rule = call.transpose
    assert rule is not None
    fixed = [i for i in range(len(avals)) if i not in call.linear]
    reached: list[int] = []

    def transposed(*xs: Value) -> list[Value]:
        values: list[Maybe] = [None] * len(avals)
        for i, x in zip(fixed, xs, strict=False):
            values[i] = x
        cts = rule(values, spread(xs[len(fixed) :], outs))
        reached[:] = [i for i, c in enumerate(cts) if c is not None]
        return [cts[i] for i in reached]

    stager.stage_rule("transpose", transposed, [*[avals[i] for i in fixed], *tangent_avals(outs)])
    return tuple(reached)


class Deferred:
    """Rules as functions, of a call inside a rule of its own function.

    The first ``closed`` operands are what its program captured, of which the rules do not know.
    """

    def __init__(self, inner: RuledCall, closed: int) -> None:
        self.inner = inner
        self.closed = closed

    def call(self, program: Program) -> RuledCall:
        """The call with the captured values as leading operands."""
        inner, lead = self.inner, self.closed

        def run(*values: Value) -> Outputs:
            return evaluate(program, values)

        def jvp_rule(values: Sequence[Value], ts: Sequence[Maybe]) -> Any:
            assert inner.jvp is not None
            return inner.jvp(values[lead:], ts[lead:])

        def fwd(values: Sequence[Value], live: Sequence[bool]) -> tuple[Outputs, PyTree]:
            assert inner.fwd is not None
            return inner.fwd(values[lead:], live[lead:])

        def bwd(residuals: PyTree, cts: Sequence[Maybe]) -> list[Maybe]:
            assert inner.bwd is not None
            return [*[None] * lead, *inner.bwd(residuals, cts)]

        def transpose(values: Sequence[Value], cts: Sequence[Maybe]) -> list[Maybe]:
            assert inner.transpose is not None
            return [*[None] * lead, *inner.transpose(values[lead:], cts)]

        return replace(
            inner,
            run=run,
            jvp=jvp_rule if inner.jvp else None,
            fwd=fwd if inner.fwd else None,
            bwd=bwd if inner.bwd else None,
            transpose=transpose if inner.transpose else None,
            linear=tuple([i + lead for i in inner.linear]),
            vmap=None,
            closed=inner.closed + lead,
            deferred=True,
        )


class ProgramRules:
    """The rules of an equation, read from its parameters."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.captured: int = params["captured"]
        self.outs: tuple[Aval, ...] = params["program"].out_avals

    def call(self) -> RuledCall:
        p = self.params
        return RuledCall(
            p["name"],
            self.run,
            jvp=self.jvp if p["jvp"] else None,
            fwd=self.fwd if p["fwd"] else None,
            bwd=self.bwd if p["bwd"] else None,
            transpose=self.transpose if p["transpose"] else None,
            linear=p["linear"],
            vmap=self.vmap if p["vmap"] else None,
            closed=p["closed"],
        )

    def evaluated(self, part: str, values: Sequence[Value]) -> Outputs:
        program = self.params[part]
        if isinstance(program, Unstaged):
            raise NotDifferentiableError(
                f"{self.params['name']}: its rule could not be staged, and a derivative of the "
                f"staged function needs it{at(calling_position())}.\n{program.reason}"
            )
        return evaluate(program, values)

    def run(self, *values: Value) -> Outputs:
        return self.evaluated("program", values)

    def _dense(self, vectors: Sequence[Maybe], avals: Sequence[Aval], like: Any) -> list[Value]:
        pairs = zip(vectors, avals, strict=True)
        beside = [*vectors, *like]
        return [zeros_of(a.strong(), beside) if v is None else v for v, a in pairs if a.inexact]

    def jvp(self, values: Sequence[Value], ts: Sequence[Maybe]) -> tuple[Outputs, Sequence[Maybe]]:
        own = [aval_of(v) for v in values[self.captured :]]
        dense = self._dense(ts[self.captured :], own, values)
        both = self.evaluated("jvp", [*values, *dense])
        count = len(self.outs)
        return both[:count], spread(both[count:], self.outs)

    def fwd(self, values: Sequence[Value], live: Sequence[bool]) -> tuple[Outputs, PyTree]:
        both = self.evaluated("fwd", values)
        count = len(self.outs)
        return both[:count], [list(values[: self.captured]), list(both[count:]), len(values)]

    def bwd(self, residuals: PyTree, cts: Sequence[Maybe]) -> list[Maybe]:
        captured, kept, count = residuals
        dense = self._dense(cts, self.outs, kept)
        return self._reached(self.evaluated("bwd", [*captured, *kept, *dense]), count)

    def transpose(self, values: Sequence[Value], cts: Sequence[Maybe]) -> list[Maybe]:
        fixed = [v for v in values if v is not None]
        dense = self._dense(cts, self.outs, fixed)
        return self._reached(self.evaluated("transpose", [*fixed, *dense]), len(values))

    def _reached(self, cts: Sequence[Value], count: int) -> list[Maybe]:
        out: list[Maybe] = [None] * count
        for i, c in zip(self.params["reached"], cts, strict=True):
            out[i + self.captured] = c
        return out

    def vmap(self, n: int, batched: Sequence[bool], values: Sequence[Value]) -> Outputs:
        if any(batched[: self.captured]):  # the rule does not know of these: it closes over them
            ys = over_examples(self.run, n, values, batched)
            return tuple([batched_along_front(y, m, n) for y, m in zip(*ys, strict=True)])
        rule: VmapRule = self.params["vmap"]
        return rule(n, batched[self.captured :], values[self.captured :])


class CustomCall(CallPrimitive):
    """A function with rules of its own, staged: programs for what it computes and for each rule.

    The first ``captured`` operands are what the programs captured, the first ``closed`` those of
    which the rules do not know a derivative. ``jvp`` takes operands and their
    tangents, ``bwd`` residuals and cotangents of the outputs; ``reached`` says to which operands
    the results of ``bwd`` and ``transpose`` belong.
    """

    exempt: ClassVar[dict[str, str]] = {
        "dtypes": "a program is made for operands of its own avals",
    }

    def call_of(self, params: Any) -> RuledCall:
        deferred: Deferred | None = params["deferred"]
        if deferred is not None:
            return deferred.call(params["program"])
        return ProgramRules(params).call()

    @staticmethod
    def impl(*values: Value, program: Program, **rules: Any) -> Outputs:
        return evaluate(program, values)

    def abstract(self, *avals: Aval, program: Program, **rules: Any) -> tuple[Aval, ...]:
        return program.out_avals

    def walked(
        self, values: Sequence[Value], run: RunProgram, *, program: Program, **rules: Any
    ) -> Outputs:
        return tuple(run("", program, values))

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        if not any(mask):
            return False
        by_rule = params["transpose"] is not None
        by_rule = by_rule and all(i in params["linear"] for i, m in enumerate(mask) if m)
        return by_rule or is_linear_in(params["program"], mask)

    def samples(self) -> Iterable[Sample]:
        x, y = np.array([0.3, -1.2, 2.5]), np.array([1.7, 0.4, -0.6])
        for call in example_calls():
            captured, params = staged_rules(call, [aval_of(x), aval_of(y)])
            yield Sample(*captured, x, y, **params)


custom_call = primitive(CustomCall)


# ---------------------------------------------------------------------------------------- examples


def example_calls() -> Iterable[RuledCall]:
    """Calls at which the generated laws check the machinery: one for each way to give rules."""

    def run(x: Value, y: Value) -> Outputs:
        return np.sin(x) * y, np.sum(x * x)

    def forward(values: Sequence[Value], ts: Sequence[Maybe]) -> tuple[Outputs, Sequence[Maybe]]:
        pairs = zip(values, ts, strict=True)
        dense = tuple([zeros_of(aval_of(v), values) if t is None else t for v, t in pairs])
        return jvp(run, tuple(values), dense)  # type: ignore[no-any-return]  # a pair

    def fwd(values: Sequence[Value], live: Sequence[bool]) -> tuple[Outputs, PyTree]:
        return run(*values), list(values)

    def bwd(kept: PyTree, cts: Sequence[Maybe]) -> Sequence[Maybe]:
        x, y = kept
        a, b = cts
        by_a = (0.0, 0.0) if a is None else (a * np.cos(x) * y, a * np.sin(x))
        by_b = 0.0 * x if b is None else 2 * b * x
        return by_a[0] + by_b, by_a[1] + 0.0 * y

    def scaled(x: Value, y: Value) -> Outputs:
        return (np.sin(y) * x,)

    def scaled_jvp(values: Sequence[Value], ts: Sequence[Maybe]) -> Any:
        (x, y), (tx, ty) = values, ts
        first = 0.0 if tx is None else np.sin(y) * tx
        return scaled(x, y), (first + (0.0 * x if ty is None else np.cos(y) * x * ty),)

    def scaled_transpose(values: Sequence[Value], cts: Sequence[Maybe]) -> Sequence[Maybe]:
        return None if cts[0] is None else np.sin(values[1]) * cts[0], None

    yield RuledCall("run", run, jvp=forward)
    yield RuledCall("run", run, fwd=fwd, bwd=bwd)
    yield RuledCall("run", run)
    yield RuledCall("scaled", scaled, jvp=scaled_jvp, transpose=scaled_transpose, linear=(0,))
