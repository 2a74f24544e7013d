"""How functions of SciPy are given a version for traced values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._arguments import as_array, known
from vjpkit.ops.structural import to_dtype
from vjpkit.scipy._namespace import scipy_module

__all__ = [
    "any_traced",
    "finite",
    "holds_traced",
    "in_lapack",
    "refusing",
    "unsupported",
    "version_of",
]

F = TypeVar("F", bound=Callable[..., Any])


def holds_traced(x: Any) -> bool:
    """Whether an argument is traced, or a sequence or array of objects that holds such values."""
    if isinstance(x, list | tuple):
        return any(map(holds_traced, x))
    return isinstance(x, Tracer) or (isinstance(x, np.ndarray) and x.dtype == object)


def any_traced(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether arguments of a call hold traced values."""
    return any(map(holds_traced, (*args, *kwargs.values())))


def _values(x: Any) -> Any:
    """An argument without tracers; `LookupError` where a value is not known."""
    if isinstance(x, list | tuple):
        return type(x)(map(_values, x))
    value = known(x)
    if value is None and x is not None:
        raise LookupError
    return value


def version_of(module: str, always: bool = False) -> Callable[[F], F]:
    """The version for traced values of SciPy's function of the same name, which has all others,
    unless ours is used ``always``.

    Where it refuses values that are known, the error is SciPy's, if SciPy refuses them too.
    """

    def of_scipy(function: F) -> F:
        name = function.__name__

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            theirs = getattr(scipy_module(module), name)
            if not (always or any_traced(args, kwargs)):
                return theirs(*args, **kwargs)
            try:
                return function(*args, **kwargs)
            except (ValueError, TypeError, IndexError) as error:
                if isinstance(error, UnsupportedError):
                    raise
                _raise_theirs(theirs, args, kwargs)
                raise

        return call  # type: ignore[return-value]  # of the same signature

    return of_scipy


def _raise_theirs(theirs: Any, args: Any, kwargs: Any) -> None:
    try:
        values = [_values(x) for x in args]
        keywords = {k: _values(x) for k, x in kwargs.items()}
    except LookupError:
        return
    with np.errstate(all="ignore"):
        theirs(*values, **keywords)


def unsupported(function: str, what: str, way: str) -> UnsupportedError:
    """What is raised for a function or a keyword that traced values cannot have."""
    return UnsupportedError(
        f"scipy.{function}: {what} is not supported on traced values{at(calling_position())}\n{way}"
    )


def refusing(module: str, name: str) -> Callable[..., Any]:
    """SciPy's function, which has no version for traced values: it refuses them by name."""
    theirs = getattr(scipy_module(module), name)

    @wraps(theirs)
    def call(*args: Any, **kwargs: Any) -> Any:
        if any_traced(args, kwargs):
            raise unsupported(
                f"{module}.{name}",
                "this function",
                f"vk.numeric_vjp(scipy.{module}.{name}) takes its derivative by differences; pass "
                "vk.lax.stop_gradient(x) where none is wanted.",
            )
        return theirs(*args, **kwargs)

    return call


def in_lapack(x: Value) -> Value:
    """``x`` as an array of a dtype that LAPACK has, as SciPy chooses it."""
    x = as_array(x)
    char = x.dtype.char
    if char in "fdFD":
        return x
    wide = np.complex128 if char == "G" else np.float32 if char in "?bBhHe" else np.float64
    return to_dtype(x, np.dtype(wide))


def finite(x: Value, check: bool = True) -> Value:
    """`in_lapack`, or SciPy's error where a known value is not finite."""
    x = in_lapack(x)
    value = known(x) if check else None
    if value is not None and not np.isfinite(value).all():
        raise ValueError("array must not contain infs or NaNs")
    return x
