"""Does a NumPy program agree with itself under every transform?"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import aval_of
from vjpkit.core.evaluate import interpret
from vjpkit.pytree import flatten
from vjpkit.testing import check_grads
from vjpkit.testing.compare import assert_aval, assert_close, rounding
from vjpkit.transforms.derivatives import jvp, vjp
from vjpkit.transforms.mapping import vmap
from vjpkit.transforms.staged import make_ir

Program = Callable[..., Any]


def agrees(
    f: Program,
    *args: Any,
    order: int = 2,
    staged: bool = True,
    mapped: bool = True,
    tolerance: float = 1e-13,
) -> None:
    """``f`` on traced arguments computes what NumPy computes, and its derivatives are right.

    Eagerly, forward, staged (and the staged gradient) and mapped over examples; derivatives against
    finite differences up to ``order``. All arguments are differentiated.
    """
    wanted = flatten(f(*args))[0]
    _same_values(flatten(vjp(f, *args)[0])[0], wanted, tolerance, "vjp")
    _same_values(flatten(jvp(f, args, args)[0])[0], wanted, tolerance, "jvp")
    if order:
        check_grads(f, args, order)
    if staged:
        _staged(f, args, wanted, tolerance)
    if mapped:
        _mapped(f, args, tolerance)


def _same_values(got: Sequence[Any], wanted: Sequence[Any], tolerance: float, what: str) -> None:
    assert len(got) == len(wanted), what
    for a, b in zip(got, wanted, strict=True):
        assert isinstance(a, np.ndarray) == isinstance(b, np.ndarray), f"{what}: {a!r} for {b!r}"
        assert_aval(a, aval_of(b), what)
        assert_close(a, b, max(tolerance, 8 * rounding(b) / 1e4), what)


def _pulled(f: Program) -> Program:
    """The pullback of fixed numbers, as a function of the arguments."""

    def pulled(*args: Any) -> Any:
        out, pullback = vjp(f, *args)
        cts = [
            np.cos(1 + np.arange(y.size)).reshape(y.shape).astype(y.dtype) for y in flatten(out)[0]
        ]
        return pullback(flatten(out)[1].unflatten([c[()] for c in cts]))

    return pulled


def _staged(f: Program, args: Sequence[Any], wanted: Sequence[Any], tolerance: float) -> None:
    closed = make_ir(f)(*args)
    _same_values(closed(*flatten(args)[0]), wanted, tolerance, "staged")
    _same_values(
        interpret(closed.program, [*closed.consts, *flatten(args)[0]]),
        wanted,
        tolerance,
        "interpreted",
    )
    pulled = _pulled(f)
    gradient = flatten(pulled(*args))[0]
    size = max(float(np.max(abs(np.asarray(g)), initial=1.0)) for g in gradient)
    again = make_ir(pulled)(*args)(*flatten(args)[0])
    for a, b in zip(again, gradient, strict=True):
        assert_aval(a, aval_of(b), "staged gradient")
        assert_close(a, b, rounding(b) * size, "staged gradient")


def _mapped(f: Program, args: Sequence[Any], tolerance: float) -> None:
    """``vmap(f)`` and ``vmap`` of its gradient against a loop."""
    examples = [
        tuple(x if np.asarray(x).dtype.kind not in "fc" else _near(x, k) for x in args)
        for k in range(3)
    ]
    stacked = [np.stack([np.asarray(e[i]) for e in examples]) for i in range(len(args))]
    for g, what in ((f, "vmap"), (_pulled(f), "vmap of the gradient")):
        got = flatten(vmap(g)(*stacked))[0]
        loop = [flatten(g(*example))[0] for example in examples]
        for i, a in enumerate(got):
            b = np.stack([np.asarray(one[i]) for one in loop])
            assert_aval(a, aval_of(b), what)
            assert_close(a, b, rounding(b), what)


def _near(x: Any, k: int) -> Any:
    x = np.asarray(x)
    return (x * (1 + 0.125 * k)).astype(x.dtype)[()]


def warned(f: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What ``f`` returns, and the texts of the warnings it gave."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        out = f()
    return out, [str(w.message) for w in found]


def source(program: Any) -> str:
    """The text of a one-line program, as the name of a test."""
    return program if isinstance(program, str) else inspect.getsource(program).strip(" ,\n")
