"""Functions with rules of their own, on flat leaves: what derives which rule from which.

A `RuledCall` has any of four rules (``jvp``; ``fwd`` and ``bwd``; ``transpose``; ``vmap``) and gets
the others from those it has: forward mode from the transpose of ``bwd``, reverse mode from the
transpose of ``jvp``, both from ``transpose`` where the function is linear, and from the function
itself where it has no rule for derivatives at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Any, NoReturn, TypeVar

import numpy as np

from vjpkit.control.calls import (
    ClosesOverTraced,
    Outputs,
    apply,
    closed_over,
    guarded,
    zeros_of,
)
from vjpkit.control.mapped_rules import Mapped
from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import (
    ClosedTraceError,
    NotDifferentiableError,
    NotLinearError,
    at,
    calling_position,
)
from vjpkit.core.ir import Equation, Literal, nonlinear_equation
from vjpkit.core.rows import cast
from vjpkit.core.staging import ClosedProgram, stage
from vjpkit.kinds.elementwise import Ufunc
from vjpkit.pytree import PyTree, flatten
from vjpkit.transforms.backings import Residual, RowMap
from vjpkit.transforms.derivatives import jvp, linearize

__all__ = ["RuledCall", "example_calls", "linearized_at"]

T = TypeVar("T")
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
    ``jvp`` is looked at for linearity in the tangents unless it is ``proven``, by construction.
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
    proven: bool = False

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

    def linearized(self, values: Sequence[Value], live: Sequence[bool]) -> tuple[Outputs, RowMap]:
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

    def _recorded(self, values: Sequence[Value], live: Sequence[bool]) -> tuple[Outputs, RowMap]:
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
                zeros_of(aval_of(o), values) if t is None else t
                for t, o in pairs
                if aval_of(o).inexact
            ]

        zeros = [zeros_of(aval_of(values[i]), [values[i]]) for i in chosen]
        _, linear = linearize(tangents, *zeros)
        found = tuple(outs)
        if not self.proven:
            self._require_linear(stage(tangents, [aval_of(z) for z in zeros], len(zeros)))
        return found, ForwardRule(self.name, linear.backing)

    def _require_linear(self, tangents: ClosedProgram) -> None:
        """Raise where a rule is not linear in the tangents: its derivative at zero is another map.

        Of elementwise equations it is certain; what is added may be zeros that nobody sees here.
        """
        offender = nonlinear_equation(tangents.program)
        if isinstance(offender, Equation) and isinstance(offender.primitive, Ufunc):
            added = offender.primitive.name in ("add", "subtract")
            if not added or any(isinstance(a, Literal) for a in offender.inputs):
                where = "" if offender.source is None else f"   ({offender.source})"
                raise NotLinearError(
                    f"{self.name}: its jvp rule is not linear in the tangents: "
                    f"{offender.primitive.name}{where}.\nA tangent may be multiplied by values, "
                    "added to tangents, and moved: J t, not a function of t."
                )

    def pushed(
        self, values: Sequence[Value], ts: Sequence[Maybe], strict: bool
    ) -> tuple[Outputs, Sequence[Maybe]]:
        live = [t is not None for t in ts]
        self._require_rules_for(live)
        if self.jvp is not None and not self.is_linear_in(live):
            return self.jvp(values, ts)
        outs, backing = self.linearized(values, live)
        out_ts = iter(backing.push([t for t in ts if t is not None], strict))
        return outs, [next(out_ts) if aval_of(o).inexact else None for o in outs]

    def mapped(self, n: int, batched: Sequence[bool]) -> RuledCall:
        return Mapped(self, n, tuple(batched)).call()

    def staged(self, leaves: Sequence[Value]) -> Outputs:
        from vjpkit.control.staged_rules import custom_call, deferred_rules, staged_rules

        avals = [aval_of(x) for x in leaves]
        if self.deferred or (self.owner is not None and get_ident() in self.owner):
            captured, params = deferred_rules(self, avals)
        else:
            captured, params = staged_rules(self, avals)
        return custom_call(*captured, *leaves, **params)  # type: ignore[no-any-return]  # as above


def linearized_at(
    run: Flat, values: Sequence[Value], live: Sequence[bool]
) -> tuple[Outputs, RowMap]:
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


def applied(name: str, rule: Callable[..., T], *args: Any) -> T:
    """What a rule gives, once the transform that it belongs to has ended.

    What it closes over of that transform has no derivative any more: the error says whose fault
    that is.
    """
    try:
        return rule(*args)
    except ClosesOverTraced:
        raise
    except ClosedTraceError as error:
        first = str(error).partition("\n")[0].rstrip(".")
        mine = closed_over(name, f": in one of its rules {first}")
        for text in getattr(error, "__notes__", ()):
            mine.add_note(text)
        raise mine from error


@dataclass(frozen=True)
class ForwardRule:
    """The linear map of a forward rule that was recorded over its tangents."""

    name: str
    backing: RowMap

    def push(self, ts: Sequence[Maybe], strict: bool = False) -> Sequence[Maybe]:
        return applied(self.name, self.backing.push, ts, strict)

    def pull(self, cts: Sequence[Maybe], strict: bool = False) -> Sequence[Maybe]:
        return applied(self.name, self.backing.pull, cts, strict)

    def residuals(self) -> list[Residual]:
        return self.backing.residuals()


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
        self.kept = kept
        self.live = [i for i, wanted in enumerate(live) if wanted]
        self.in_avals = [aval_of(v) for v in values]
        self.out_avals = [aval_of(o) for o in outs]

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


class ReverseRule(OneRule):
    """The linear map that ``bwd`` pulls back; pushing is its transpose, for ``bwd`` is linear."""

    def __init__(
        self,
        call: RuledCall,
        residuals: PyTree,
        values: Sequence[Value],
        live: Sequence[bool],
        outs: Sequence[Value],
    ) -> None:
        kept, self.guards = guarded(residuals)
        super().__init__(call, kept, values, live, outs)

    def pull(self, cts: Sequence[Maybe], strict: bool = False) -> list[Maybe]:
        for guard in self.guards:
            guard.check()
        assert self.call.bwd is not None
        out = applied(self.call.name, self.call.bwd, self.kept, self.all_cotangents(cts))
        return self.live_cotangents(out)

    def push(self, ts: Sequence[Maybe], strict: bool = False) -> list[Maybe]:
        beside = [*ts, *flatten(self.kept)[0]]
        cts = [zeros_of(a, beside) for a in self.out_avals if a.inexact]
        avals = [self.in_avals[i] for i in self.live]

        def pull(*cts: Value) -> list[Value]:
            pairs = zip(self.pull(cts), avals, strict=True)
            return [zeros_of(a, beside) if c is None else c for c, a in pairs]

        _, linear = linearize(pull, *cts)
        return list(linear.backing.pull(ts, strict))


class LinearRule(OneRule):
    """A function that is linear in its live operands, and its transpose rule.

    It keeps operands alone, which the row that holds it guards.
    """

    def __init__(
        self, call: RuledCall, values: Sequence[Value], live: Sequence[bool], outs: Sequence[Value]
    ) -> None:
        fixed = [None if i in call.linear else v for i, v in enumerate(values)]
        super().__init__(call, fixed, values, live, outs)

    def push(self, ts: Sequence[Maybe], strict: bool = False) -> list[Maybe]:
        full = list(self.kept)
        for i, t in zip(self.live, ts, strict=True):
            full[i] = t
        for i in self.call.linear:
            if full[i] is None:
                full[i] = zeros_of(self.in_avals[i], ts)
        outs = applied(self.call.name, partial(apply, call=self.call), *full)
        return [o for o, aval in zip(outs, self.out_avals, strict=True) if aval.inexact]

    def pull(self, cts: Sequence[Maybe], strict: bool = False) -> list[Maybe]:
        assert self.call.transpose is not None
        out = applied(self.call.name, self.call.transpose, self.kept, self.all_cotangents(cts))
        return self.live_cotangents(out)


# ---------------------------------------------------------------------------------------- examples


def example_calls() -> Iterable[RuledCall]:
    """Calls at which the generated laws check the machinery: one for each way to give rules."""

    def run(x: Value, y: Value) -> Outputs:
        return np.sin(x) * y, np.sum(x * x)

    def forward(values: Sequence[Value], ts: Sequence[Maybe]) -> tuple[Outputs, Sequence[Maybe]]:
        pairs = zip(values, ts, strict=True)
        dense = tuple([zeros_of(aval_of(v), values) if t is None else t for v, t in pairs])
        outs, (first, second) = jvp(run, tuple(values), dense)
        return outs, (first, None if ts[0] is None else second)

    def fwd(values: Sequence[Value], live: Sequence[bool]) -> tuple[Outputs, PyTree]:
        return run(*values), list(values)

    def bwd(kept: PyTree, cts: Sequence[Maybe]) -> Sequence[Maybe]:
        x, y = kept
        a, b = cts
        parts = [] if a is None else [a * np.cos(x) * y]
        parts += [] if b is None else [2 * b * x]
        return sum(parts[1:], parts[0]) if parts else None, None if a is None else a * np.sin(x)

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
