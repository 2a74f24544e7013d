"""Functions with rules of their own over a leading axis: each rule is mapped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vjpkit.control.calls import Outputs
from vjpkit.core.aval import Value
from vjpkit.pytree import PyTree, flatten
from vjpkit.transforms.batch import Batched, Batches, batched_along_front, over_axis

if TYPE_CHECKING:
    from vjpkit.control.rules import RuledCall

__all__ = ["Mapped", "over_examples"]

Maybe = Value | None


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
