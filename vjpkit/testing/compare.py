"""What the checks compare with: bit for bit, to rounding, and by the pairing of vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.testing.numeric import Array

__all__ = [
    "assert_aval", "assert_close", "assert_identical",
    "magnitude", "pairing", "random_like", "rounding", "size_of",
]  # fmt: skip

_ROUNDINGS = 1e4
"""How many roundings of the result's size a correct rule may be off by (factorizations: many)."""


def rounding(*xs: Value) -> float:
    """The relative error that the coarsest dtype among ``xs`` allows."""
    dtypes = [aval_of(x).dtype for x in xs if aval_of(x).inexact]
    return max((float(np.finfo(d).eps) for d in dtypes), default=0.0) * _ROUNDINGS


def pairing(ct: Value, t: Value) -> float:
    """``<ct, t>``: Re(sum(ct * t)), without conjugation."""
    return float(np.sum(np.asarray(ct) * np.asarray(t)).real)


def magnitude(ct: Value, t: Value) -> float:
    """The size of the terms of ``<ct, t>``, against which its rounding is measured."""
    return float(np.sum(abs(np.asarray(ct)) * abs(np.asarray(t))))


def size_of(x: Value) -> Any:
    """The size of a leaf, by which its steps are scaled; of its real dtype."""
    kind = np.empty(0, aval_of(x).dtype).real.dtype.type
    largest = float(np.max(abs(np.asarray(x)), initial=0.0))
    return kind(largest if 0 < largest < np.inf else 1)


def random_like(x: Value | Aval, rng: np.random.Generator) -> Any:
    """A random tangent (or cotangent) of ``x``: same shape, same dtype, numbers of size 1."""
    aval = x if isinstance(x, Aval) else aval_of(x)
    out = rng.standard_normal(aval.shape)
    if aval.dtype.kind == "c":
        out = out + 1j * rng.standard_normal(aval.shape)
    return np.asarray(out).astype(aval.dtype)[()]


def assert_aval(x: Value, aval: Aval, what: str) -> None:
    """``x`` has this shape and dtype."""
    got = aval_of(x).strong()
    assert got == aval.strong(), f"{what}: got {got}, wanted {aval.strong()}"


def assert_identical(got: Value, want: Value, what: str) -> None:
    """Same type, shape, dtype and bits (the payload of a nan aside)."""
    assert type(got) is type(want), f"{what}: got {type(got).__name__}, not {type(want).__name__}"
    assert aval_of(got) == aval_of(want), f"{what}: got {aval_of(got)}, wanted {aval_of(want)}"
    a, b = np.asarray(got), np.asarray(want)
    same = (a == b) | ((a != a) & (b != b))
    if a.dtype.kind in "fc":
        same = same & ((np.signbit(a.real) == np.signbit(b.real)) | (a != a))
    assert same.all(), f"{what}: {_worst(a, b, np.where(same, 0.0, 1.0))}; these must be identical"


def assert_close(
    got: Value, want: Value, tolerance: float, what: str, allowed: Array | float = 0.0
) -> None:
    """``got`` is ``want`` to ``tolerance`` times its size, plus ``allowed`` per element."""
    a, b = _numbers(got), _numbers(want)
    assert a.shape == b.shape, f"{what}: got shape {a.shape}, wanted {b.shape}"
    if not a.size:
        return
    finite = np.isfinite(b)
    scale = max(1.0, float(np.max(abs(b), initial=0.0, where=finite)))
    with np.errstate(invalid="ignore"):
        excess = abs(a - b) - tolerance * scale - allowed
    same = (a == b) | ((a != a) & (b != b))
    excess = np.where(same, -np.inf, np.where(np.isnan(excess), np.inf, excess))
    assert (excess <= 0).all(), f"{what}: {_worst(a, b, excess)}"


def _worst(a: Array, b: Array, badness: Array) -> str:
    """The worst element, in words."""
    index = tuple(int(i) for i in np.unravel_index(np.argmax(badness), a.shape))
    place = f" at {list(index)}" if index else ""
    count = int((badness > 0).sum())
    others = f" (worst of {count} elements)" if count > 1 else ""
    with np.errstate(invalid="ignore"):
        off = abs(np.subtract(a[index], b[index], dtype=np.result_type(a, b, np.float64)))
    got, wanted = _number(a[index]), _number(b[index])
    return f"got {got}{place}, wanted {wanted}, off by {off:.3g}{others}"


def _numbers(x: Value) -> Array:
    """``x`` as an array that can be subtracted."""
    a = np.asarray(x)
    return a.astype(np.int8) if a.dtype == bool else a


def _number(x: Any) -> str:
    return f"{x:.10g}" if x.dtype.kind in "fc" else str(x)
