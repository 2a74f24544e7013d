"""What tests of `vjpkit.scipy` ask of a call, whichever function it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.tree_util import tree_leaves

Array = Any


@dataclass(frozen=True, repr=False)
class Call:
    """``name(*args, **keywords)``; ``made`` makes SciPy's arguments from what is differentiated.

    ``of`` chooses what of the result is differentiated (what does not depend on the choice of a
    basis); ``order`` is that of derivatives; ``staged`` says whether it can be staged, ``batched``
    whether SciPy takes leading axes.
    """

    name: str
    args: tuple[Array, ...]
    keywords: dict[str, Any] = field(default_factory=dict)
    made: Callable[..., tuple[Any, ...]] = lambda *xs: xs
    of: Callable[[Any], Any] = lambda out: out
    order: int = 2
    staged: bool = True
    mapped: bool = True

    def __repr__(self) -> str:
        words = [f"{k}={v}" for k, v in self.keywords.items()]
        kinds = ",".join(f"{np.asarray(a).dtype.char}{list(np.shape(a))}" for a in self.args)
        return f"{self.name}-{kinds}-{'-'.join(words)}"

    def run(self, module: Any, *xs: Array) -> Any:
        return getattr(module, self.name)(*self.made(*xs), **self.keywords)


def leaves(out: Any) -> list[Any]:
    """The arrays of a result."""
    return [x for x in tree_leaves(out) if x is not None]


def same(ours: Any, theirs: Any, tolerance: float = 1e-9) -> None:
    """Values, shapes and dtypes agree."""
    ours, theirs = leaves(ours), leaves(theirs)
    assert len(ours) == len(theirs)
    for x, y in zip(ours, theirs, strict=True):
        assert np.shape(x) == np.shape(y)
        assert np.asarray(x).dtype.kind == np.asarray(y).dtype.kind
        if np.asarray(y).dtype.kind in "fc":
            assert np.asarray(x).dtype == np.asarray(y).dtype
        assert np.asarray(x) == pytest.approx(np.asarray(y), rel=tolerance, abs=tolerance)


def check_value(call: Call, module: Any, theirs: Any, tolerance: float = 1e-9) -> None:
    """Traced values give what SciPy gives; so do plain ones, which are SciPy's own."""
    wanted = call.run(theirs, *call.args)
    seen: list[Any] = []

    def traced(*xs: Any) -> Any:
        seen.append(call.run(module, *xs))
        return sum([np.sum(np.real(x)) for x in leaves(seen[-1])], start=0.0 * np.real(xs[0]).sum())

    vk.grad(lambda xs: traced(*xs))(call.args)
    values = [x.concrete() if isinstance(x, vk.core.Tracer) else x for x in leaves(seen[-1])]
    same(values, wanted, tolerance)


def differentiable(call: Call, module: Any) -> Callable[..., Any]:
    return lambda *xs: [
        x for x in leaves(call.of(call.run(module, *xs))) if np.result_type(x).kind in "fc"
    ]


def check_derivatives(call: Call, module: Any) -> None:
    vk.test_util.check_grads(differentiable(call, module), call.args, order=call.order)


def check_transforms(call: Call, module: Any, tolerance: float = 1e-9) -> None:
    """Staged and mapped calls agree with plain ones, their gradients too."""

    def loss(*xs: Any) -> Any:
        parts = differentiable(call, module)(*xs)
        return sum([np.sum(np.real(p) * np.cos(np.arange(p.size)).reshape(p.shape)) for p in parts])

    where = tuple(range(len(call.args)))
    gradient = vk.grad(loss, where)
    if call.staged:
        same(vk.jit(gradient)(*call.args), gradient(*call.args), tolerance)
    if call.mapped:
        many = [np.stack([x, (1 + 1e-3) * x]).astype(np.asarray(x).dtype) for x in call.args]
        looped = [gradient(*[m[i] for m in many]) for i in range(2)]
        same(
            vk.vmap(gradient)(*many),
            [np.stack([one[k] for one in looped]) for k in where],
            tolerance,
        )


def each(calls: list[Call]) -> Any:
    """Calls as a parameter of a test, numbered: some differ in nothing that can be read."""
    return pytest.mark.parametrize(
        "call", [pytest.param(call, id=f"{i}-{call}") for i, call in enumerate(calls)]
    )
