"""grad, vjp, jvp, linearize and what is built on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.rows import Rows, filled_like, new_slots, pull_rows, settled
from vjpkit.transforms.forward import Dual, Duals


def value_and_grad(f: Callable[..., Value]) -> Callable[..., Any]:
    def run(x: Value, *rest: Value) -> Any:
        trace = Rows("grad")
        try:
            y = f(trace.argument(x), *rest)
        finally:
            rows = trace.close()
        k = trace.slot_of(y)
        value = trace.lower(y)
        if k is None:
            return value, filled_like(x, 0)
        cts = new_slots(trace.new())
        cts[k] = filled_like(value, 1)
        y = None
        for guard in trace.guards.values():
            guard.check()
        pull_rows(rows, cts, free=True)
        return value, filled_like(x, 0) if cts[0] is None else settled(cts[0])

    return run


def grad(f: Callable[..., Value]) -> Callable[..., Any]:
    vg = value_and_grad(f)
    return lambda *args: vg(*args)[1]


def jvp(f: Callable[..., Value], primals: Any, tangents: Any) -> Any:
    trace = Duals()
    try:
        y = f(*[Dual(x, trace, t) for x, t in zip(primals, tangents, strict=True)])
    finally:
        trace.closed = True
    value, t = trace.split(y)
    return value, filled_like(value, 0) if t is None else t
