"""Functions with rules of their own in a program: one equation, with a program for each rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import get_ident
from typing import Any, ClassVar

import numpy as np

from vjpkit.backends import executable
from vjpkit.control.call import is_linear_in
from vjpkit.control.calls import CallPrimitive, Outputs, zeros_of
from vjpkit.control.higher import RunProgram
from vjpkit.control.mapped_rules import over_examples
from vjpkit.control.rules import Maybe, RuledCall, VmapRule, example_calls
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import NotDifferentiableError, at, calling_position
from vjpkit.core.evaluate import evaluate
from vjpkit.core.ir import Program, Var
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.staging import stage
from vjpkit.pytree import PyTree, flatten
from vjpkit.transforms.batch import batched_along_front

__all__ = ["CustomCall", "custom_call", "deferred_rules", "staged_rules"]


@dataclass(frozen=True)
class Unstaged:
    """A rule that could not be staged: an error where a derivative asks for it, not before."""

    reason: str


class Stager:
    """Stages several functions over one list of captured values."""

    def __init__(self) -> None:
        self.captured: dict[int, Value] = {}
        self.parts: dict[str, tuple[Program, list[int]]] = {}
        self.failed: dict[str, Unstaged] = {}

    def stage(self, part: str, f: Callable[..., Any], avals: Sequence[Aval]) -> None:
        """The program of ``f`` under the name ``part``."""
        closed = stage(f, avals)
        keys = [id(value) for value in closed.consts]
        self.captured.update(zip(keys, closed.consts, strict=True))
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
        leading = [mine.get(key) or Var(aval_of(x)) for key, x in self.captured.items()]
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
    captured = list(closed.consts)
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
                zeros_of(aval_of(y), xs) if t is None else t for t, y in pairs if aval_of(y).inexact
            ]
            return [*ys, *dense]

        stager.stage_rule("jvp", tangents, [*avals, *tangent_avals(avals)])
    if call.fwd is not None and call.bwd is not None:
        reached = _stage_reverse(stager, call, avals, outs)
    if call.transpose is not None:
        reached = _stage_transpose(stager, call, avals, outs)
    names = ("program", "jvp", "fwd", "bwd", "transpose")
    params = {name: stager.program(name) for name in names}
    captured = list(stager.captured.values())
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
        return [zeros_of(a, beside) if v is None else v for v, a in pairs if a.inexact]

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

    def compiled(self, backend: str, params: Mapping[str, Any]) -> Callable[..., tuple[Value, ...]]:
        """Its function, the program run by a backend."""
        return executable(params["program"], backend)

    def abstract(self, *avals: Aval, program: Program, **rules: Any) -> tuple[Aval, ...]:
        return program.out_avals

    def walked(
        self, values: Sequence[Value], run: RunProgram, *, program: Program, **rules: Any
    ) -> Outputs:
        return tuple(run("", program, values))

    def linear_with(self, mask: tuple[bool, ...], zeros: tuple[bool, ...], params: Any) -> bool:
        call, program = self.call_of(params), params["program"]
        return any(mask) and (call.is_linear_in(mask) or is_linear_in(program, mask, zeros))

    def samples(self) -> Iterable[Sample]:
        x, y = np.array([0.3, -1.2, 2.5]), np.array([1.7, 0.4, -0.6])
        for call in example_calls():
            captured, params = staged_rules(call, [aval_of(x), aval_of(y)])
            yield Sample(*captured, x, y, **params)


custom_call = primitive(CustomCall)
