"""`numpy.emath`: functions whose results are complex where real arguments leave their domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib import scimath

from vjpkit.core.aval import Value
from vjpkit.numpy._arguments import as_array, concrete
from vjpkit.numpy._dispatch import implements
from vjpkit.ops.structural import to_dtype

__all__: list[str] = []


def _extended(x: Value, name: str, is_outside: Callable[[Any], Any]) -> Value:
    """``x``, complex where some of its real numbers are outside of the domain."""
    x = as_array(x)
    if x.dtype.kind == "c" or not np.any(is_outside(concrete(x, f"emath.{name}"))):
        return x
    return to_dtype(x, np.asarray(scimath.sqrt(-np.ones(1, x.dtype))).dtype)


def _is_negative(x: Any) -> Any:
    return x < 0


def _is_beyond_one(x: Any) -> Any:
    return abs(x) > 1


def _define(name: str, is_outside: Callable[[Any], Any]) -> None:
    ufunc = getattr(np, name)

    def extended(x: Value) -> Value:
        return ufunc(_extended(x, name, is_outside))

    implements(getattr(scimath, name))(extended)


for _name in ("sqrt", "log", "log2", "log10"):
    _define(_name, _is_negative)
for _name in ("arccos", "arcsin", "arctanh"):
    _define(_name, _is_beyond_one)


@implements(scimath.logn)
def logn(n: Value, x: Value) -> Value:
    """The logarithm of ``x`` to base ``n``."""
    x, n = (_extended(v, "logn", _is_negative) for v in (x, n))
    return np.log(x) / np.log(n)


@implements(scimath.power)
def power(x: Value, p: Value) -> Value:
    p = as_array(p)
    if p.dtype.kind in "iu" and np.any(concrete(p, "emath.power") < 0):
        p = p * 1.0
    return np.power(_extended(x, "power", _is_negative), p)
