"""A call of one of NumPy's functions: its arguments, and which of them are differentiated."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from vjpkit.core.tracer import Tracer
from vjpkit.pytree import flatten

__all__ = ["Call", "Fixed", "call", "is_array", "name_of", "parameters_of", "signature_of"]


class Fixed:
    """An array among the arguments that is not differentiated."""

    def __init__(self, value: Any) -> None:
        self.value = value


@dataclass(frozen=True)
class Call:
    """``function(*args, **kwargs)``: the floating arrays among the arguments are differentiated.

    With ``mutates`` the call writes to its first argument, which is then its result. ``exempt``
    names checks that cannot hold, and why.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    mutates: bool = False
    exempt: dict[str, str] = field(default_factory=dict)
    method: str = ""
    """The ufunc's method that is called, if any."""

    @property
    def name(self) -> str:
        return name_of(self.function) + (f".{self.method}" if self.method else "")

    def __repr__(self) -> str:
        words = [*map(_word, self.args), *(f"{k}={_word(x)}" for k, x in self.kwargs.items())]
        return f"np.{self.name}({', '.join(words)})"

    @cached_property
    def flat(self) -> tuple[list[Any], Any]:
        """Leaves of the arguments, and their tree."""
        leaves, tree = flatten((self.args, self.kwargs))
        return leaves, tree

    @cached_property
    def live(self) -> list[int]:
        """The leaves that are differentiated."""
        return [i for i, x in enumerate(self.flat[0]) if is_array(x) and x.dtype.kind in "fc"]

    @cached_property
    def integers(self) -> list[int]:
        """The integer and boolean arrays among the leaves."""
        return [i for i, x in enumerate(self.flat[0]) if is_array(x) and x.dtype.kind in "biu"]

    @cached_property
    def traced(self) -> list[int]:
        """The leaves that are abstract when the call is staged, or examples when it is mapped.

        The differentiated ones and integer arrays that are written to; or else all integers.
        """
        written = [i for i in self.integers if self._names[i] == "out"]
        return [*self.live, *written] if self.live else self.integers

    @property
    def primals(self) -> list[Any]:
        return [self.flat[0][i] for i in self.live]

    def run(self, *xs: Any, live: Sequence[int] | None = None) -> Any:
        """The call with other values at the leaves ``live`` (those that are differentiated)."""
        leaves, tree = self.flat
        values = [x.value if isinstance(x, Fixed) else x for x in leaves]
        values = [x.copy() if isinstance(x, np.ndarray) else x for x in values]
        for i, x in zip(self.live if live is None else live, xs, strict=True):
            values[i] = x.copy() if np.ndim(x) else x
        args, kwargs = tree.unflatten(values)
        function = getattr(self.function, self.method) if self.method else self.function
        out = function(*args, **kwargs)
        return args[0] if self.mutates else out

    def outputs(self, *xs: Any) -> list[Any]:
        """The leaves of what is returned, at other primals if given."""
        return list(flatten(self.run(*(xs or self.primals)))[0])

    def smooth(self, *xs: Any) -> list[Any]:
        """The outputs that have derivatives."""
        return [y for y in self.outputs(*xs) if is_array(y) and y.dtype.kind in "fc"]

    @cached_property
    def arguments(self) -> list[str]:
        """The name of the argument that each differentiated leaf belongs to."""
        return [self._names[i] for i in self.live]

    @cached_property
    def _names(self) -> dict[int, str]:
        leaves, tree = self.flat
        names: dict[int, str] = {}
        args, kwargs = tree.unflatten(range(len(leaves)))
        for name, value in self._named(args, kwargs):
            for i in flatten(value)[0]:
                names[i] = name
        return names

    def _named(self, args: Any, kwargs: Any) -> list[tuple[str, Any]]:
        """Arguments with NumPy's names for them."""
        function = self.function
        if isinstance(function, np.ufunc):
            count = 1 if self.method in ("reduce", "accumulate", "reduceat") else function.nin
            words = ["array"] if count == 1 and self.method else [f"x{i + 1}" for i in range(count)]
            if self.method == "at":
                words = ["a", "indices", "b"]
            if function.nin == 1 and not self.method:
                words = ["x"]
            return [*zip([*words, *["out"] * 9], args), *kwargs.items()]
        try:
            bound = signature_of(function).bind(*args, **kwargs).arguments
        except ValueError:  # written in C, and before NumPy 2.4 without a signature
            return [*zip(map(str, range(len(args))), args), *kwargs.items()]
        pairs: list[tuple[str, Any]] = []
        for name, value in bound.items():
            kind = signature_of(function).parameters[name].kind
            pairs += value.items() if kind is inspect.Parameter.VAR_KEYWORD else [(name, value)]
        return pairs

    @property
    def given(self) -> set[str]:
        """The names of the arguments given."""
        if isinstance(self.function, np.ufunc) or not parameters_of(self.function):
            return set(self.kwargs)
        bound = signature_of(self.function).bind(*self.args, **self.kwargs).arguments
        return set(bound) | set(self.kwargs)

    def is_accepted(self) -> bool:
        """Whether this NumPy has these arguments: older ones lack some."""
        if isinstance(self.function, np.ufunc):
            return True
        try:
            signature_of(self.function).bind(*self.args, **self.kwargs)
        except TypeError:
            return False
        except ValueError:  # written in C, and before NumPy 2.4 without a signature
            return True
        return True

    def cast(self, dtype: str) -> Call:
        """The same call in another precision."""
        leaves, tree = self.flat
        moved = [_cast(x, dtype) for x in leaves]
        args, kwargs = tree.unflatten(moved)
        return Call(self.function, args, kwargs, self.mutates, self.exempt, self.method)


def call(
    function: Any,
    *args: Any,
    mutates: bool = False,
    exempt: dict[str, str] | None = None,
    ufunc_method: str = "",
    **kwargs: Any,
) -> Call:
    """The call ``function(*args, **kwargs)``."""
    return Call(function, args, kwargs, mutates, exempt or {}, ufunc_method)


def _cast(x: Any, dtype: str) -> Any:
    """A floating array or number of double precision in another one."""
    if isinstance(x, Fixed):
        return Fixed(_cast(x.value, dtype))
    if is_array(x) and x.dtype in (np.float64, np.complex128):
        kind = np.dtype(dtype)
        if x.dtype.kind == "c":
            kind = np.result_type(kind, np.complex64)
        return x.astype(kind)
    return x


def is_array(x: Any) -> bool:
    """Whether ``x`` is an array, a number of NumPy's, or a traced one."""
    return isinstance(x, np.ndarray | np.generic | Tracer)


def _word(x: Any) -> str:
    if isinstance(x, Fixed):
        return _word(x.value)
    if isinstance(x, np.ndarray):
        return f"{x.dtype}{list(x.shape)}"
    if isinstance(x, list | tuple):
        return f"[{', '.join(map(_word, x))}]"
    if isinstance(x, types.FunctionType | types.BuiltinFunctionType):
        return x.__name__
    return repr(x)


def name_of(function: Any) -> str:
    """The name below ``numpy.``: ``linalg.norm``."""
    module = "" if isinstance(function, np.ufunc) else function.__module__.partition("numpy")[2]
    return f"{module}.{function.__name__}".lstrip(".")


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """What `inspect.signature` tells; it raises `ValueError` where NumPy does not tell it."""
    return inspect.signature(function)


def parameters_of(function: Any) -> set[str]:
    """The names of a function's arguments, without ``*args`` and ``**kwargs``."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    try:
        parameters = signature_of(function).parameters.values()
    except ValueError:
        return set()
    return {p.name for p in parameters if p.kind not in variable}
