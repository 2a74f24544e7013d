"""One primitive for every function that brings its own linearization.

A `Call` runs a function of flat leaves and gives its linear map at a point; the primitive `apply`
records that map as one row. Custom derivatives, checkpointing and whatever else says how it is
differentiated are kinds of calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from vjpkit.control.higher import Higher
from vjpkit.core.aval import Aval, Value
from vjpkit.core.errors import ClosedTraceError, at, calling_position
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import Rows
from vjpkit.core.staging import stage
from vjpkit.core.tracer import Tracer, bind
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


class Apply(Higher):
    """A `Call` as one equation."""

    exempt = {"text": "a Python function has no text that could be read back"}

    @staticmethod
    def impl(*leaves: Value, call: Call) -> tuple[Value, ...]:
        return call.run(*leaves)

    def abstract(self, *avals: Aval, call: Call) -> tuple[Aval, ...]:
        return stage(call.run, avals).program.out_avals

    def linear_map(
        self, values: Sequence[Value], live: tuple[bool, ...], **params: Any
    ) -> tuple[tuple[Value, ...], Backing]:
        call: Call = params["call"]
        return call.linearized(values, live)

    def require_closed(self, outs: Sequence[Value], trace: Rows, params: Any) -> None:
        require_closed(params["call"].name, outs, trace.level)

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], *, call: Call
    ) -> tuple[Value, ...]:
        return self(*values, call=call.mapped(n, batched))  # type: ignore[no-any-return]

    def samples(self) -> Iterable[Sample]:
        from vjpkit.control.checkpointing import CheckpointCall

        x, y = np.array([0.3, -1.2, 2.5]), np.array([1.7, 0.4, -0.6])
        yield Sample(x, y, call=CheckpointCall("checkpoint(_sample)", _sample, (x, y), ()))


apply = primitive(Apply)


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
