"""SciPy's distributions as objects: plain arguments go to SciPy, traced ones to our formulas."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.core.errors import at, calling_position
from vjpkit.numpy._arguments import as_array
from vjpkit.ops.structural import to_dtype
from vjpkit.scipy._namespace import scipy_module
from vjpkit.scipy._traced import any_traced, unsupported

__all__ = ["Frozen", "Wrapped", "double", "traced"]

_DOUBLE = np.dtype(np.float64)


def double(x: Any) -> Value:
    """An array of double precision, traced or not; distributions are of real numbers."""
    x = as_array(x)
    if x.dtype.kind == "c":
        raise TypeError(
            f"scipy.stats: distributions are of real numbers, got {aval_of(x)}"
            f"{at(calling_position())}; pass x.real where that is what is meant"
        )
    return to_dtype(x, _DOUBLE)


def traced(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a `Wrapped` distribution for traced arguments; others go to SciPy's own."""
    name = method.__name__

    def either(self: Wrapped, *args: Any, **kwds: Any) -> Any:
        if any_traced(args, kwds):
            return method(self, *args, **kwds)
        return getattr(self.scipys, name)(*args, **kwds)

    either.__name__ = name
    either.__doc__ = method.__doc__
    return either


def _found(name: str) -> Any:
    """The distribution of that name: what `pickle` asks for."""
    return getattr(import_module("vjpkit.scipy.stats"), name)


class Wrapped:
    """One of the distributions of `scipy.stats`, called as SciPy's is."""

    takes: ClassVar[str]
    """The methods that take traced arguments, in words."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.scipys = getattr(scipy_module("stats"), name)

    def __repr__(self) -> str:
        return f"<vjpkit.scipy.stats.{self.name}>"

    def __reduce__(self) -> Any:
        return _found, (self.name,)

    def __call__(self, *args: Any, **kwds: Any) -> Frozen:
        """The distribution with these parameters."""
        return Frozen(self, args, kwds)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "scipys":
            raise AttributeError(name)
        found = getattr(self.scipys, name)
        if not callable(found):
            return found

        def plain(*args: Any, **kwds: Any) -> Any:
            if any_traced(args, kwds):
                way = f"What takes them: {self.takes}."
                raise unsupported(f"stats.{self.name}.{name}", "this method", way)
            return found(*args, **kwds)

        return plain


class Frozen:
    """A distribution with its parameters.

    >>> import vjpkit as vk
    >>> vk.grad(lambda loc: vk.scipy.stats.norm(loc, 2.0).logpdf(1.0))(0.0)
    np.float64(0.25)
    """

    def __init__(self, dist: Wrapped, args: tuple[Any, ...], kwds: dict[str, Any]) -> None:
        self.dist, self.args, self.kwds = dist, args, kwds
        self.traced = any_traced(args, kwds)

    def __repr__(self) -> str:
        words = [*map(repr, self.args), *(f"{k}={v!r}" for k, v in self.kwds.items())]
        return f"{self.dist!r}({', '.join(words)})"

    @cached_property
    def scipys(self) -> Any:
        """SciPy's own, where the parameters are plain."""
        return self.dist.scipys(*self.args, **self.kwds)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("dist", "args", "kwds", "traced"):
            raise AttributeError(name)
        theirs = None if self.traced else getattr(self.scipys, name)
        if theirs is not None and not callable(theirs):
            return theirs

        def method(*xs: Any, **kwds: Any) -> Any:
            if theirs is not None and not any_traced(xs, kwds):
                return theirs(*xs, **kwds)
            return getattr(self.dist, name)(*xs, *self.args, **self.kwds, **kwds)

        return method
