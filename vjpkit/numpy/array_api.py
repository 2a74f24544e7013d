"""The namespace that traced values name to libraries written against the array API standard.

Its functions are `vjpkit.numpy`'s. Such libraries refuse arrays of two kinds in one call, also
where one of them is a constant that they made themselves, so that here every result is traced or
holds a plain array the way ``vjpkit.numpy.zeros`` does in a transform: it computes as the array
does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import vjpkit.numpy as vnp
from vjpkit.core.aval import Value
from vjpkit.numpy import _namespace
from vjpkit.numpy._handles import STANDARD, Plain, hold_all

__all__ = [*vnp.__all__, *_namespace.extensions]

__array_api_version__ = vnp.__array_api_version__
__array_namespace_info__ = vnp.__array_namespace_info__

_ABOUT_DTYPES = {"can_cast", "finfo", "iinfo", "isdtype", "promote_types", "result_type"}


def held(x: Any) -> Any:
    """Plain arrays in a result, as values of one kind with traced ones."""
    if type(x) is Plain:
        x.owner = STANDARD
    if type(x) in (list, tuple):
        return type(x)(map(held, x))
    if isinstance(x, tuple):
        return type(x)(*map(held, x))
    return hold_all(x)


def holding(function: Callable[..., Value]) -> Callable[..., Value]:
    """``function`` with results of one kind."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Value:
        return held(function(*args, **kwargs))

    return call


def _names(module: Any, names: list[str]) -> dict[str, Any]:
    found = {name: getattr(module, name) for name in names}
    return {
        name: holding(x) if callable(x) and not isinstance(x, type) else x
        for name, x in found.items()
        if not name.startswith("__")
    }


globals().update(_names(vnp, [n for n in vnp.__all__ if n not in _namespace.submodules]))
globals().update({name: getattr(vnp, name) for name in _ABOUT_DTYPES})


def __getattr__(name: str) -> Any:
    if name in _namespace.submodules + _namespace.extensions:
        module = import_module(f"vjpkit.numpy.{name}")
        found = SimpleNamespace(**_names(module, list(module.__all__)))
        globals()[name] = found
        return found
    return getattr(vnp, name)  # its error for what is not there
