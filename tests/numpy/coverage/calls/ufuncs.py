"""Ufuncs, enumerated: plain calls, keywords, methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.testing.overrides import get_overridable_numpy_ufuncs

from tests.numpy.coverage.call import Call, Fixed, call
from tests.numpy.coverage.calls.data import INTS, MASK, A, B, M, N, V, W, X, Z

__all__ = ["METHODS", "NONE", "calls", "refusals", "ufuncs"]

untyped: Any = np  # for what NumPy does not name publicly

METHODS = ("reduce", "accumulate", "reduceat", "outer", "at")

NONE = {f"ldexp.{method}" for method in ("reduce", "accumulate", "reduceat")}
"""Methods that a ufunc has, but that NumPy refuses to run: its operands differ in kind."""

_SHIFT = {"arccosh": 1.5}
_SECOND = {"ldexp": np.array([2, -1, 3, 1]), "heaviside": N}
_INTEGERS = {"gcd", "lcm", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_count", "invert",
             "left_shift", "right_shift"}  # fmt: skip
_COMPARISONS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}
_NO_FOLD = {
    "power": "on some machines NumPy's own loop combines only the first and the last element",
    "arctan2": "on some machines NumPy's own loop combines only the first and the last element",
}


def ufuncs() -> list[Any]:
    """NumPy's ufuncs of numbers with public names."""
    public = (f for f in get_overridable_numpy_ufuncs() if getattr(np, f.__name__, None) is f)
    return sorted(public, key=lambda f: f.__name__)


def calls() -> Iterator[Call]:
    for ufunc in ufuncs():
        if ufunc.__name__ == "isnat":
            continue
        if ufunc.signature is not None:
            yield from _generalized(ufunc)
        elif ufunc.__name__ in _INTEGERS:
            yield call(ufunc, *[INTS, INTS[::-1].copy()][: ufunc.nin])
            if ufunc.nin == 2:
                yield from _methods(ufunc, np.stack([INTS, INTS[::-1] + 1]))
        else:
            yield from _plain(ufunc)
            if ufunc.nin == 2 and ufunc.nout == 1 and ufunc is not np.ldexp:
                yield from _methods(ufunc, MASK if ufunc.__name__ in _COMPARISONS else M)
    yield from _keywords()
    yield call(np.ldexp, V, INTS[:2], ufunc_method="outer")
    yield call(np.ldexp, V, Fixed([1, 0, 1]), INTS[:3], ufunc_method="at", mutates=True)
    yield call(untyped._core.umath.clip, M, np.float64(0.3), N)


def _keywords() -> Iterator[Call]:
    """Keywords that all ufuncs share, each with one of them."""
    yield call(np.add, M, N, dtype=np.float64, casting="same_kind", subok=True)
    yield call(np.multiply, M, N, signature=(np.float64, np.float64, np.float64))
    yield call(np.sin, M, signature="d->d", casting="safe")
    for ufunc in (np.add, np.hypot):
        options: Any = {"dtype": np.float64, "axis": 1}
        yield call(ufunc, M, ufunc_method="reduce", out=np.zeros(3), **options)
        yield call(ufunc, M, ufunc_method="accumulate", out=np.zeros((3, 4)), **options)
        yield call(
            ufunc, M, Fixed([1, 3]), ufunc_method="reduceat", out=np.zeros((3, 2)), **options
        )
        yield call(ufunc, V, W, ufunc_method="outer", out=np.zeros((5, 5)), dtype=np.float64)


def _operands(ufunc: Any) -> list[Any]:
    name = ufunc.__name__
    return [M + _SHIFT.get(name, 0.0), _SECOND.get(name, N * 1.37)][: ufunc.nin]


def _plain(ufunc: Any) -> Iterator[Call]:
    xs = _operands(ufunc)
    yield call(ufunc, *xs)
    if ufunc.nin == 2:
        yield call(ufunc, xs[0][:, None], xs[1])
    if "D" in "".join(t.split("->")[0] for t in ufunc.types) and ufunc.__name__ != "sign":
        yield call(ufunc, *[x * (1 + 0.3j) - 0.2j * N for x in xs])
    targets = tuple(
        None if y.dtype.kind == "i" else np.zeros((3, 4), y.dtype) for y in _results(ufunc, xs)
    )
    if any(target is None for target in targets):
        yield call(ufunc, *xs, out=targets)
    else:
        yield call(ufunc, *xs, out=targets if ufunc.nout > 1 else targets[0], where=MASK)
    if "f->f" in ufunc.types:
        yield call(ufunc, xs[0], dtype=np.float64, casting="same_kind")


def _results(ufunc: Any, xs: list[Any]) -> tuple[Any, ...]:
    out = ufunc(*xs)
    return out if isinstance(out, tuple) else (out,)


def _methods(ufunc: Any, x: Any) -> Iterator[Call]:
    y = x[:2, ::-1] * 1.37 if x.dtype.kind == "f" else x[:2, ::-1].copy()
    if ufunc.__name__ not in _NO_FOLD:
        yield call(ufunc, x, ufunc_method="reduce", axis=1)
        yield call(ufunc, x[:, :2].copy(), ufunc_method="reduce", axis=0, keepdims=True)
        yield call(ufunc, x, Fixed(np.array([0, 2, 1])), ufunc_method="reduceat", axis=1)
        if ufunc.identity is not None and x.dtype.kind == "f":
            yield call(ufunc, x, ufunc_method="reduce", axis=0, where=MASK, initial=X)
    yield call(ufunc, x, ufunc_method="accumulate", axis=1)
    yield call(ufunc, x[:2], y, ufunc_method="outer")
    if ufunc(x, x).dtype in (x.dtype, bool):
        places = Fixed(np.array([1, 0, 1]))
        yield call(ufunc, x[:, 0].copy(), places, x[0, :3], ufunc_method="at", mutates=True)


def _generalized(ufunc: Any) -> Iterator[Call]:
    if ufunc is np.matmul:
        yield call(ufunc, M, N.T.copy())
        yield call(ufunc, Z, N.T * 1j)
        yield call(ufunc, np.stack([M, N]), V[:4])
        yield call(ufunc, M, N, axes=[(0, 1), (-1, -2), (1, 0)])
        return
    operands = {"matvec": (A, B.T), "vecmat": (B.T, A), "vecdot": (M, N)}[ufunc.__name__]
    yield call(ufunc, *operands)
    yield call(ufunc, *[x * (1 + 0.3j) - 0.2j for x in operands])
    if ufunc.__name__ == "vecdot":
        yield call(ufunc, M, N, axis=0)
        yield call(ufunc, M, N, axis=0, keepdims=True)


def refusals() -> Iterator[tuple[str, Call]]:
    yield "order", call(np.add, M, N, order="F")
    for name in _NO_FOLD:
        ufunc = getattr(np, name)
        yield name, call(ufunc, M, ufunc_method="reduce")
        yield name, call(ufunc, M, Fixed(np.array([0, 2])), ufunc_method="reduceat")
