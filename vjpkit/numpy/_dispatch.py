"""How NumPy's functions and ndarray's methods are attached to traced values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from operator import index
from typing import Any, TypeVar

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.core.tracer import FUNCTIONS, Tracer, dispatch_rest, unsupported_function

__all__ = ["LATER", "functions", "implements", "method", "normalize_axes", "refuse"]

F = TypeVar("F")


def implements(*numpy_functions: Any) -> Callable[[F], F]:
    """Register the function that NumPy calls for these functions when an argument is traced."""

    def register(function: F) -> F:
        for f in numpy_functions:
            FUNCTIONS[f] = function  # type: ignore[assignment]  # any callable, of any signature
        return function

    return register


LATER = (
    "_fft", "_histograms", "_linalg", "_polynomials", "_quantiles", "_scimath", "_statistics",
)  # fmt: skip
"""Modules that do nothing but implement functions: loaded when NumPy dispatches one not known."""


def functions() -> Mapping[Callable[..., Any], Callable[..., Value]]:
    """What NumPy calls for each function that is implemented."""
    for name in LATER:
        import_module(f"vjpkit.numpy.{name}")
    return FUNCTIONS


def _function_of_later(func: Any, types: Any, args: Any, kwargs: Any) -> Value:
    found = functions().get(func)
    if found is None:
        return unsupported_function(func, types, args, kwargs)
    return found(*args, **kwargs)


dispatch_rest("function", _function_of_later)


def method(name: str) -> Callable[[F], F]:
    """Attach a function to every tracer as the method, property or operator ``name``."""

    def attach(function: F) -> F:
        setattr(Tracer, name, function)
        return function

    return attach


def refuse(function: str, **keywords: Any) -> None:
    """Raise for keywords that have a value other than their default (None or False)."""
    for name, value in keywords.items():
        if value is not None and value is not False and value is not np._NoValue:
            raise UnsupportedError(
                f"np.{function}: the keyword {name}={value!r} is not supported on traced values"
                f"{at(calling_position())}"
            )


def normalize_axes(axis: Any, ndim: int) -> tuple[int, ...] | None:
    """NumPy's ``axis`` as non-negative integers, None for all."""
    if axis is None:
        return None
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    numbers = tuple(map(index, axes))
    out = tuple(a + ndim if a < 0 else a for a in numbers)
    for a, given in zip(out, numbers, strict=True):
        if not 0 <= a < ndim:
            raise np.exceptions.AxisError(given, ndim)
    if len(set(out)) != len(out):
        raise ValueError("duplicate value in 'axis'")
    return out
