"""One primitive for every function that brings its own rules.

A `Call` runs a function of flat leaves and gives its linear map at a point; the primitive `apply`
records that map as one row. Where a program is being written, a call becomes equations of its own
instead, so that programs hold programs and nobody's closures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np

from vjpkit.control.higher import Higher, RunProgram, live_and_order
from vjpkit.core.aval import Aval, Value
from vjpkit.core.errors import ClosedTraceError, TracerConversionError, at, calling_position
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import COPY_LIMIT, Guard, roles
from vjpkit.core.staging import Builder, builder_of, stage
from vjpkit.core.tracer import Trace, Tracer, bind, refresh
from vjpkit.pytree import PyTree, PyTreeDef, flatten
from vjpkit.transforms.arguments import require_arrays, stacked_leaf
from vjpkit.transforms.backings import RowMap
from vjpkit.transforms.series import Terms, integrated_together
from vjpkit.transforms.traces import current

__all__ = [
    "Call",
    "CallPrimitive",
    "ClosesOverTraced",
    "apply",
    "call_or_bind",
    "guarded",
    "is_staging",
    "zeros_of",
]

Outputs = tuple[Value, ...]


class Call(Protocol):
    """A function of flat leaves that knows its linearization."""

    @property
    def name(self) -> str:
        """What errors call it."""

    def compute(self, *leaves: Value) -> Outputs:
        """The outputs, flat."""

    def linearized(self, values: Sequence[Value], live: Sequence[bool]) -> tuple[Outputs, RowMap]:
        """The outputs, and the linear map from live operands to the outputs that have tangents."""

    def pushed(
        self, values: Sequence[Value], ts: Sequence[Value | None], strict: bool
    ) -> tuple[Outputs, Sequence[Value | None]]:
        """The outputs and their tangents, None where there is none."""

    def mapped(self, n: int, batched: Sequence[bool]) -> Call:
        """The same over a leading axis of length n; all outputs have it."""

    def staged(self, leaves: Sequence[Value]) -> Outputs:
        """The outputs, as equations of the program that is being written."""


class CallPrimitive(Higher):
    """A primitive whose parameters stand for a `Call`."""

    loud = True

    def call_of(self, params: Any) -> Call:
        """The call that an equation with these parameters stands for."""
        raise NotImplementedError(f"{self.name} declares no call")

    def linear_map(
        self, values: Sequence[Value], live: tuple[bool, ...], **params: Any
    ) -> tuple[Outputs, RowMap]:
        return self.call_of(params).linearized(values, live)

    def together(
        self, values: Sequence[Value], ts: Sequence[Value | None], params: Any, strict: bool
    ) -> tuple[Outputs, Sequence[Value | None]]:
        return self.call_of(params).pushed(values, ts, strict)

    def with_series(
        self, values: Sequence[Value], series: Sequence[Terms | None], params: Any
    ) -> tuple[tuple[Value, ...], Sequence[Terms | None]]:
        call = self.call_of(params)
        own = getattr(call, "expanded", None)
        if own is not None:
            return own(values, series, live_and_order(series)[1])  # type: ignore[no-any-return]
        with np.errstate(all="ignore"):
            return integrated_together(self, values, series, params)

    def require_closed(self, outs: Iterable[Value | None], trace: Trace, params: Any) -> None:
        for out in outs:
            if isinstance(out, Tracer) and out.owner.level >= trace.level:
                raise closed_over(self.call_of(params).name)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Outputs:
        mapped = self.call_of(params).mapped(n, batched)
        return apply(*values, call=mapped)  # type: ignore[no-any-return]  # primitives are untyped


class Apply(CallPrimitive):
    """A `Call` on values; in a program it is written as the call's own equations."""

    def call_of(self, params: Any) -> Call:
        return params["call"]  # type: ignore[no-any-return]  # parameters are untyped

    def __call__(self, *xs: Value, **params: Any) -> Value:
        if is_staging(xs):
            return params["call"].staged(xs)
        try:
            return bind(self, xs, params)
        except ClosesOverTraced:
            with suppress(TracerConversionError):  # then what it closes over are operands
                return params["call"].staged(xs)
            raise

    @staticmethod
    def impl(*leaves: Value, call: Call) -> Outputs:
        return call.compute(*leaves)

    def walked(self, values: Sequence[Value], run: RunProgram, *, call: Call) -> Outputs:
        return call.compute(*values)

    def abstract(self, *avals: Aval, call: Call) -> tuple[Aval, ...]:
        return stage(call.compute, avals).program.out_avals

    def samples(self) -> Iterable[Sample]:
        from vjpkit.control.checkpointing import CheckpointCall
        from vjpkit.control.rules import example_calls

        x, y = np.array([0.3, -1.2, 2.5]), np.array([1.7, 0.4, -0.6])
        for call in example_calls():
            yield Sample(x, y, call=call)
            yield Sample(x, y, call=CheckpointCall(call.name, call.run))


apply = primitive(Apply)


def is_staging(xs: Sequence[Value]) -> bool:
    """Whether an operation on ``xs`` is written into a program: the innermost trace stages."""
    top: Any = None
    for x in xs:
        if isinstance(x, Tracer):
            trace = refresh(x).owner if x.owner.dirty else x.owner
            if top is None or trace.level > top.level:
                top = trace
    return isinstance(top, Builder)


def call_or_bind(
    leaves: Sequence[Value], direct: Callable[[], PyTree], call: Call, tree: Callable[[], PyTreeDef]
) -> PyTree:
    """The function itself on plain values; one equation where a leaf is traced."""
    if not any(isinstance(x, Tracer) for x in leaves):
        return direct()
    outs = apply(*leaves, call=call)
    return tree().unflatten(outs)


class ClosesOverTraced(ClosedTraceError):
    """A function with rules closes over a traced value of the transform that differentiates it."""


def closed_over(name: str, where: str | None = None) -> ClosesOverTraced:
    """The error for a derivative in a value that a function with rules closes over."""
    return ClosesOverTraced(
        f"{name} closes over a traced value of the transformation it is differentiated by"
        f"{at(calling_position()) if where is None else where}.\nIts rules say nothing about the "
        "derivative in that value: pass the value as an argument, or hoist it with "
        "vk.closure_convert."
    )


def zeros_of(aval: Aval, beside: Sequence[Value | None] = ()) -> Value:
    """Dense zeros of an aval; written into the program where the values ``beside`` are staged."""
    builder = builder_of([x for x in beside if x is not None])
    if builder is not None:
        return roles["fill"](builder, aval.shape, 0, aval.dtype)
    return np.zeros(aval.shape, aval.dtype)[()]


def flat_outputs(name: str, y: PyTree) -> tuple[list[Value], PyTreeDef]:
    """Leaves and tree of what a function returned, numbers as NumPy scalars."""
    leaves, tree = flatten(y)
    leaves = list(map(stacked_leaf, leaves))
    require_arrays(name, y, leaves)
    return [current(x) if hasattr(x, "dtype") else np.asarray(x)[()] for x in leaves], tree


def guarded(residuals: PyTree) -> tuple[PyTree, list[Guard]]:
    """Residuals whose small arrays are copied, and guards of the large ones.

    So that changing one in place later changes nothing, or is noticed.
    """
    leaves, tree = flatten(residuals)
    guards = []
    for i, x in enumerate(leaves):
        if isinstance(x, np.ndarray) and x.nbytes <= COPY_LIMIT:
            leaves[i] = x.copy()
        elif isinstance(x, np.ndarray):
            guards.append(Guard(x, calling_position()))
    return tree.unflatten(leaves), guards
