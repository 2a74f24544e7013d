"""Tracers: values on their way through the user's function.

There is no stack of traces. Every trace draws its level from one process-wide counter; among the
operands of a primitive the highest level decides. A trace made later is an inner one, so nesting
is right without bookkeeping, an exception leaves nothing behind, and threads need no locals.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.errors import (
    ClosedTraceError,
    TracerConversionError,
    UnsupportedError,
    at,
    calling_position,
)

if TYPE_CHECKING:
    from vjpkit.core.primitive import Primitive

__all__ = ["FUNCTIONS", "LEVELS", "UFUNCS", "Trace", "Tracer", "bind", "is_tracer"]

LEVELS = itertools.count(1)
"""Levels of traces, and births of writable handles: later is inner."""


class Running(NamedTuple):
    """How a transform runs the user's function here: on "values", on "abstract" ones (staged,
    batched) or on such to be "exact", and mapped over which named axes, the innermost last."""

    on: str = ""
    axes: tuple[Any, ...] = ()


RUNNING: ContextVar[Running] = ContextVar("vjpkit_running", default=Running())  # noqa: B039  # a tuple
"""Read by array creation, control flow and collectives alone."""

UFUNCS: dict[np.ufunc, Callable[..., Value]] = {}
"""What ``np.f(tracer)`` calls for each ufunc."""

FUNCTIONS: dict[Callable[..., Any], Callable[..., Value]] = {}
"""What ``np.f(tracer)`` calls for each function that NumPy dispatches."""

_NUMBERS = frozenset({bool, int, float, complex, *np.sctypeDict.values()})
_PLAIN = _NUMBERS - {np.object_} | {np.ndarray}
_OBJECT = np.dtype(object)


class Trace(Protocol):
    """What a tracer's trace does with a primitive that one of its tracers meets.

    A ``dirty`` one may have handles that are to be refreshed: arrays were written to, or an inner
    function is staged that takes what it reads ``inside``.
    """

    level: int
    closed: bool

    def process(
        self, primitive: Primitive, operands: list[Value], params: dict[str, Any]
    ) -> Value: ...


class Tracer:
    """Base of every tracer: NumPy's protocols, and what all kinds share.

    ``np.f(tracer)`` arrives through ``__array_ufunc__`` and ``__array_function__``; operators,
    methods and indexing are attached by `vjpkit.numpy`.

    All kinds have one layout: ``value`` below the trace, ``owner``, the trace, ``info`` (a slot, a
    tangent, a variable: each kind names it), and ``origin``, how a writable handle came to be. A
    handle that is written to takes over the kind and the contents of the written value.
    """

    __slots__ = ("info", "origin", "owner", "value")
    __array_priority__ = 1000.0
    __hash__ = None  # type: ignore[assignment]  # as for ndarray: == is elementwise

    value: Any
    owner: Any
    info: Any
    origin: Any

    @property
    def aval(self) -> Aval:
        """Shape and dtype, as the traced function sees them."""
        raise NotImplementedError

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Value:
        if method == "__call__" and not kwargs:
            found = UFUNCS.get(ufunc)
            if found is not None:
                return found(*args)
        return _hooks["ufunc"](ufunc, method, args, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Value:
        found = FUNCTIONS.get(func)
        if found is None:
            return _hooks["function"](func, types, args, kwargs)
        return found(*args, **kwargs)

    @property
    def shape(self) -> Shape:
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return self.aval.size

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        shape = self.shape
        if not shape:
            raise TypeError("len() of unsized object")
        return shape[0]

    def __iter__(self) -> Iterator[Value]:
        shape = self.shape
        if not shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(shape[0]))  # type: ignore[index]  # attached by vjpkit.numpy

    def concrete(self) -> Value:
        """The value as NumPy would have it, without derivative; abstract tracers raise."""
        raise NotImplementedError

    def __format__(self, spec: str) -> str:
        return format(self.concrete(), spec) if spec else str(self)

    def __bool__(self) -> bool:
        return bool(self.concrete())

    def __int__(self) -> int:
        return int(self.concrete())

    def __index__(self) -> int:
        raise TypeError("only integer scalar arrays can be converted to a scalar index")

    def __float__(self) -> float:
        raise self._conversion("float")

    def __complex__(self) -> complex:
        raise self._conversion("complex")

    def _conversion(self, kind: str) -> TracerConversionError:
        return TracerConversionError(
            f"{kind}() of a traced value of shape {self.shape} would lose its derivative."
            f"{at(calling_position())}\n"
            "Inside a differentiated function use NumPy's functions instead of Python's or math's; "
            "to write traced values into an array, start it with np.zeros_like(x), vnp.zeros(...), "
            "or build it with np.stack or vnp.array; where the plain number is really meant, use "
            f"{kind}(vk.lax.stop_gradient(x))."
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return _hooks["array"](self, dtype, copy)

    def __reduce__(self) -> Any:
        raise TypeError(f"a traced value cannot be pickled{at(calling_position())}")


class ConcreteTracer(Tracer):
    """A tracer that only carries a derivative: its value is known, prints, and decides choices."""

    __slots__ = ()

    @property
    def aval(self) -> Aval:
        return aval_of(self.value)

    def concrete(self) -> Value:
        value = below(self)
        return value.concrete() if isinstance(value, Tracer) else value

    def __repr__(self) -> str:
        return f"Traced({below(self)!r})"

    def __str__(self) -> str:
        return str(below(self))


def named_info() -> Any:
    """`Tracer.info` under the name that a kind of tracer gives it: the same place, no
    indirection."""
    return Tracer.__dict__["info"]


def is_tracer(x: Value) -> bool:
    return isinstance(x, Tracer)


def _unsupported_ufunc(ufunc: np.ufunc, method: str, args: Any, kwargs: Any) -> Value:
    name = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    raise UnsupportedError(f"{name} is not supported on traced values{at(calling_position())}")


def unsupported_function(func: Any, types: Any, args: Any, kwargs: Any) -> Value:
    module = getattr(func, "__module__", "numpy").replace("numpy", "np", 1)
    raise UnsupportedError(
        f"{module}.{func.__name__} is not supported on traced values.{at(calling_position())}\n"
        "Write it with supported functions, or give it a rule of its own with vk.custom_vjp; where "
        "no derivative is wanted, pass vk.lax.stop_gradient(x)."
    )


_hooks: dict[str, Callable[..., Value]] = {
    "ufunc": _unsupported_ufunc,
    "function": unsupported_function,
}


def require_open(x: Value) -> Value:
    """``x``; raises for what a transformation left behind that has ended: its derivative is
    gone."""
    if isinstance(x, Tracer) and x.owner.closed:
        raise ClosedTraceError(
            f"{x!r} is a traced value of a transformation that has finished; its derivative would "
            f"be lost{at(calling_position())}\nReturn values from the function (has_aux=True for "
            "extra ones) instead of storing them in variables outside it."
        )
    return x


def refresh(x: Tracer) -> Tracer:
    """A handle whose value is current, in a trace in which arrays were written to."""
    return _hooks["refresh"](x)  # type: ignore[no-any-return]  # hooks are untyped


def below(x: Tracer) -> Value:
    """The value that a tracer carries, current too in a trace in which arrays were written to."""
    return _hooks["below"](x) if x.owner.dirty else x.value


def dispatch_rest(kind: str, handler: Callable[..., Value]) -> None:
    """Let ``handler`` answer NumPy calls that `UFUNCS` and `FUNCTIONS` do not (ufunc keywords,
    ...)."""
    _hooks[kind] = handler


def is_foreign(x: Value) -> bool:
    """Whether ``x`` is a container of somebody else's that knows how to compute with us."""
    kind = type(x)
    return (
        hasattr(kind, "__array_ufunc__")
        and not isinstance(x, np.ndarray | Tracer | np.generic)
        and getattr(kind, "__array_priority__", 0) != 0
    )


def operand(x: Value) -> Value:
    """``x`` as something a primitive can compute with, or an error that says why not."""
    if isinstance(x, np.ndarray):
        if type(x) not in (np.ndarray, np.memmap):  # others may compute in ways of their own
            plain = "its .data, and the mask by itself" if hasattr(x, "mask") else "np.asarray(x)"
            raise UnsupportedError(
                f"{type(x).__name__} operands are not supported together with traced values."
                f"{at(calling_position())}\nPass {plain}."
            )
        if x.dtype == _OBJECT:
            return _stacked(x)
        if x.dtype.kind not in "biufc":
            raise UnsupportedError(
                f"arrays of dtype {x.dtype} are not supported together with traced values"
                f"{at(calling_position())}"
            )
        return x.view(np.ndarray)
    if isinstance(x, bool | int | float | complex | np.generic):
        return x
    if hasattr(type(x), "__array_namespace__") or hasattr(type(x), "__array_ufunc__"):
        return x  # a duck array: values stay what they are
    array = np.asarray(x)
    if array.dtype.kind in "OSU" and not array.ndim:
        raise TypeError(f"{type(x).__name__} is not an array or a number{at(calling_position())}")
    return operand(array)


def _stacked(x: np.ndarray[Any, Any]) -> Value:
    """An object array of tracers and numbers as one traced array."""
    items = [operand(item) if not isinstance(item, Tracer) else item for item in x.ravel().tolist()]
    if not any(map(is_tracer, items)):
        raise UnsupportedError(
            "arrays of dtype object are not supported together with traced values"
            f"{at(calling_position())}\nCast to a dtype of numbers; copy a traced x by x.copy()."
        )
    return np.reshape(np.stack(items), x.shape)


def bind(
    primitive: Primitive, operands: tuple[Value, ...] | list[Value], params: dict[str, Any]
) -> Value:
    """The general door: the operand of the highest level decides what happens."""
    top: Any = None
    checked = list(operands)
    for i, x in enumerate(checked):
        kind = type(x)
        if kind in _PLAIN and not (kind is np.ndarray and x.dtype == _OBJECT):
            continue
        if not isinstance(x, Tracer):
            x = checked[i] = operand(x)
        if isinstance(x, Tracer):
            trace = refresh(x).owner if x.owner.dirty else x.owner
            if top is None or trace.level > top.level:
                top = trace
    if top is None:
        return primitive.impl(*checked, **params)
    return top.process(primitive, checked, params)
