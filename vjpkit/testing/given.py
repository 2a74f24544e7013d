"""Rules that a function brings along, against each other and against the function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vjpkit.control.custom import CustomRule
from vjpkit.control.custom_arguments import Bound
from vjpkit.control.rules import Maybe, RuledCall
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.pytree import PyTree
from vjpkit.testing.compare import assert_close, magnitude, pairing, random_like, rounding

__all__ = ["disagreements"]

_EXAMPLES = 3


def disagreements(rule: CustomRule, args: tuple[PyTree, ...]) -> Iterator[str]:
    """What does not hold at these arguments, in words."""
    bound = Bound(rule, rule.bound(args, {}))
    values = [x if hasattr(x, "dtype") else np.asarray(x)[()] for x in bound.leaves]
    for check in (_values, _duality, _linearity, _transposition, _mapping):
        try:
            check(Given(bound.call(), values))
        except AssertionError as error:
            yield str(error)


class Given:
    """A call, the point at which its rules are checked, and random vectors there."""

    def __init__(self, call: RuledCall, values: Sequence[Value]) -> None:
        self.call = call
        self.values = list(values)
        self.live = [aval_of(x).inexact for x in values]
        self.outs = call.run(*values)
        self.rng = np.random.default_rng(0)
        self.tolerance = rounding(*values, *self.outs)

    def tangents(self) -> list[Maybe]:
        return [random_like(x, self.rng) if w else None for x, w in zip(self.values, self.live)]

    def cotangents(self) -> list[Maybe]:
        return [random_like(y, self.rng) if aval_of(y).inexact else None for y in self.outs]

    def push(self, ts: Sequence[Maybe]) -> list[Value]:
        """The given forward rule."""
        assert self.call.jvp is not None
        return dense(self.call.jvp(self.values, ts)[1], self.outs)

    def pull(self, cts: Sequence[Maybe]) -> list[Value]:
        """The given reverse rule."""
        assert self.call.fwd is not None
        assert self.call.bwd is not None
        residuals = self.call.fwd(self.values, self.live)[1]
        return dense(self.call.bwd(residuals, cts), self.values)

    def assert_dual(
        self, cts: Sequence[Maybe], pushed: Sequence[Value], pulled: Sequence[Maybe],
        ts: Sequence[Maybe], what: str,
    ) -> None:  # fmt: skip
        """<ct, pushed> = <pulled, t>."""
        left = [(c, t) for c, t in zip(cts, pushed, strict=True) if c is not None]
        right = [(c, t) for c, t in zip(pulled, ts, strict=True) if c is not None and t is not None]
        size = max(1.0, sum(magnitude(*pair) for pair in (*left, *right)))
        a, b = sum(pairing(*pair) for pair in left), sum(pairing(*pair) for pair in right)
        assert abs(a - b) <= self.tolerance * size, f"{what}: {a:.12g} against {b:.12g}"


def dense(vectors: Sequence[Maybe], like: Sequence[Value]) -> list[Value]:
    """Zeros where there is None; integers have float zeros too, which pair to nothing."""
    return [_zeros(aval_of(x)) if v is None else v for v, x in zip(vectors, like, strict=True)]


def _zeros(aval: Aval) -> Any:
    return np.zeros(aval.shape, aval.dtype if aval.inexact else float)[()]


def _values(given: Given) -> None:
    """Every rule gives the function's own outputs."""
    call, ts = given.call, given.tangents()
    found = {}
    if call.jvp is not None:
        found["jvp"] = call.jvp(given.values, ts)[0]
    if call.fwd is not None:
        found["fwd"] = call.fwd(given.values, given.live)[0]
    for name, outs in found.items():
        assert len(outs) == len(given.outs), f"{name} gives {len(outs)} outputs"
        for i, (got, want) in enumerate(zip(outs, given.outs, strict=True)):
            what = f"output {i} of {name} against the function's"
            assert_close(got, want, given.tolerance, what)


def _duality(given: Given) -> None:
    """The reverse rule is the transpose of the forward rule."""
    if given.call.jvp is not None and given.call.fwd is not None:
        ts, cts = given.tangents(), given.cotangents()
        given.assert_dual(
            cts, given.push(ts), given.pull(cts), ts,
            "vjp is not the transpose of jvp: <ct, jvp(t)> against <vjp(ct), t>",
        )  # fmt: skip


def _linearity(given: Given) -> None:
    """Rules are linear in the vectors that they map."""
    call = given.call
    if call.jvp is not None:
        _assert_linear(given, given.push, given.tangents(), given.tangents(), "jvp", "tangent")
    if call.fwd is not None:
        a, b = given.cotangents(), given.cotangents()
        _assert_linear(given, given.pull, a, b, "vjp", "cotangent")


def _assert_linear(
    given: Given, apply: Any, a: Sequence[Maybe], b: Sequence[Maybe], name: str, vector: str
) -> None:
    both = [None if x is None or y is None else 2 * x - y for x, y in zip(a, b, strict=True)]
    triples = zip(apply(both), apply(a), apply(b), strict=True)
    for i, (got, first, second) in enumerate(triples):
        what = f"{name} is not linear in the {vector}: result {i} at 2 u - v"
        assert_close(got, 2 * first - second, given.tolerance, what)


def _transposition(given: Given) -> None:
    """The transpose rule transposes the function in what it is linear in."""
    call = given.call
    if call.transpose is None:
        return
    ts = [random_like(x, given.rng) for x in given.values]
    moved = [t if i in call.linear else x for i, (x, t) in enumerate(zip(given.values, ts))]
    cts = given.cotangents()
    fixed = [None if i in call.linear else x for i, x in enumerate(given.values)]
    pulled = call.transpose(fixed, cts)
    given.assert_dual(
        cts, call.run(*moved), pulled, [t if i in call.linear else None for i, t in enumerate(ts)],
        "transpose does not transpose the function: <ct, f(t)> against <transpose(ct), t>",
    )  # fmt: skip
    call.run(*given.values)  # what remembers the output's tree is as it was


def _mapping(given: Given) -> None:
    """The vmap rule is the loop over examples, whichever operands are batched."""
    call, n = given.call, _EXAMPLES
    if call.vmap is None:
        return
    count = len(given.values)
    patterns = [[i == j for i in range(count)] for j in range(count)] if count > 1 else []
    for batched in ([True] * count, *patterns):
        columns = [
            np.stack([x * (1 + 0.01 * k) if w else x for k in range(n)]) if b else x
            for x, w, b in zip(given.values, given.live, batched, strict=True)
        ]
        got = call.vmap(n, batched, columns)
        rows = [
            call.run(*[x[k] if b else x for x, b in zip(columns, batched, strict=True)])
            for k in range(n)
        ]
        for i, (out, each) in enumerate(zip(got, zip(*rows, strict=True), strict=True)):
            what = f"output {i} of vmap against a loop, operands {batched} batched"
            assert_close(out, np.stack(each), given.tolerance, what)
