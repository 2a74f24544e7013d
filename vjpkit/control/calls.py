"""One primitive for every function that brings its own linearization.

A `Call` runs a function of flat leaves and gives its linear map at a point; the primitive `apply`
records that map as one row. Custom derivatives, checkpointing and whatever else says how it is
differentiated are kinds of calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import ClosedTraceError, at, calling_position
from vjpkit.core.primitive import Primitive, Sample, primitive
from vjpkit.core.rows import Cotangents, Eager, Row, Rows
from vjpkit.core.staging import stage
from vjpkit.core.tracer import Tracer, bind
from vjpkit.kinds import contribute, rule
from vjpkit.kinds.general import Many, part_row
from vjpkit.pytree import PyTree, PyTreeDef, flatten
from vjpkit.transforms.arguments import require_arrays, stacked
from vjpkit.transforms.linear import Backing
from vjpkit.transforms.mapping import vmap

__all__ = ["Call", "apply", "call_or_bind"]


class Call(Protocol):
    """A function of flat leaves that knows its linearization."""

    name: str

    def run(self, *leaves: Value) -> tuple[Value, ...]:
        """The outputs, flat."""

    def linearized(
        self, values: Sequence[Value], live: Sequence[bool]
    ) -> tuple[tuple[Value, ...], Backing]:
        """The outputs, and the linear map from live operands to the outputs that have tangents."""

    def mapped(self, n: int, batched: Sequence[bool]) -> Call:
        """The same over a leading axis of length n; all outputs have it."""


def _sample(x: Value, y: Value) -> tuple[Value, Value]:
    return np.sin(x) * y, np.sum(x * x)


class Apply(Primitive):
    """A `Call` as one equation."""

    multi = True
    exempt = {"text": "a Python function has no text that could be read back"}

    def __init__(self) -> None:
        super().__init__()

        def pull(row: Row, ct: Value, cts: Cotangents) -> None:
            _, _, _, _, slots, avals, _, backing = row
            given = [ct[j] for j, aval in enumerate(avals) if aval.inexact]
            live = [s for s in slots if s is not None]
            for i, c in zip(live, backing.pull(given), strict=True):
                contribute(cts, i, c)

        def push(row: Row, ts: Cotangents) -> None:
            _, k, _, _, slots, avals, _, backing = row
            ts[k] = spread(backing, [ts[s] for s in slots if s is not None], avals)

        self.pull = rule(self, pull, push)

    @staticmethod
    def impl(*leaves: Value, call: Call) -> tuple[Value, ...]:
        return call.run(*leaves)

    def abstract(self, *avals: Aval, call: Call) -> tuple[Aval, ...]:
        return stage(call.run, avals).program.out_avals

    def record(
        self, trace: Rows, values: list[Value], slots: list[int | None], params: Any
    ) -> tuple[Value, ...]:
        outs, backing = params["call"].linearized(values, [s is not None for s in slots])
        require_closed(params["call"].name, outs, trace.level)
        code, offset = calling_position()
        whole = trace.new()
        avals = [aval_of(o) for o in outs]
        trace.append((self.pull, whole, code, offset, tuple(slots), avals, params, backing))
        results: list[Value] = []
        for j, (out, aval) in enumerate(zip(outs, avals, strict=True)):
            if not aval.inexact:
                results.append(out)
                continue
            k = trace.new()
            trace.append(part_row(k, (code, offset), whole, j, len(outs)))
            results.append(Eager(out, trace, k))
        return tuple(results)

    def forward(
        self,
        values: Sequence[Value],
        ts: Sequence[Value | None],
        out: Value,
        params: Any,
        strict: bool,
    ) -> Any:
        live = [t is not None for t in ts]
        outs, backing = params["call"].linearized(values, live)
        return tuple(spread(backing, [t for t in ts if t is not None], [aval_of(o) for o in outs]))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, call: Call
    ) -> tuple[Value, ...]:
        return self(*values, call=call.mapped(n, batched))  # type: ignore[no-any-return]

    def samples(self) -> Iterable[Sample]:
        from vjpkit.control.checkpointing import CheckpointCall

        x, y = np.array([0.3, -1.2, 2.5]), np.array([1.7, 0.4, -0.6])
        yield Sample(x, y, call=CheckpointCall("checkpoint(_sample)", _sample, (x, y), ()))


apply = primitive(Apply)


def spread(backing: Backing, ts: Sequence[Value | None], avals: Sequence[Aval]) -> Many:
    """Tangents of all outputs, None where there is none."""
    if all(t is None for t in ts):
        return Many([None] * len(avals))
    pushed = iter(backing.push(ts))
    return Many([next(pushed) if aval.inexact else None for aval in avals])


def call_or_bind(
    leaves: Sequence[Value], direct: Callable[[], PyTree], call: Call, tree: Callable[[], PyTreeDef]
) -> PyTree:
    """The function itself on plain values; one equation where a leaf is traced."""
    if not any(isinstance(x, Tracer) for x in leaves):
        return direct()
    outs = bind(apply, list(leaves), {"call": call})
    return tree().unflatten(outs)


def require_closed(name: str, outs: Sequence[Value], level: int) -> None:
    """Raise where a function closed over a traced value: its derivative in that would be lost."""
    for out in outs:
        if isinstance(out, Tracer) and out.owner.level >= level:
            raise ClosedTraceError(
                f"{name} closes over a traced value of the transformation it is differentiated by"
                f"{at(calling_position())}.\nPass the value as an argument, or hoist it with "
                "vk.closure_convert."
            )


def mapped_function(
    f: Callable[..., Sequence[Value]], n: int, axes: Sequence[int | None]
) -> Callable[..., tuple[Value, ...]]:
    """A flat function over a leading axis of its operands."""
    return lambda *xs: tuple(vmap(f, in_axes=tuple(axes), axis_size=n)(*xs))


def zeros_of(aval: Aval) -> Value:
    """Dense zeros of an aval."""
    return np.zeros(aval.shape, aval.dtype) if aval.shape else aval.dtype.type(0)


def flat_outputs(name: str, y: PyTree) -> tuple[list[Value], PyTreeDef]:
    """Leaves and tree of what a function returned, numbers as NumPy scalars."""
    leaves, tree = flatten(stacked(y))
    require_arrays(name, y, leaves)
    return [x if hasattr(x, "dtype") else np.asarray(x)[()] for x in leaves], tree
