"""NumPy's elementwise functions that are no ufuncs, and the complex face of tracers."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import index
from typing import Any, TypeVar

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._arguments import as_array, concrete, scalar
from vjpkit.numpy._dispatch import implements, method
from vjpkit.numpy._face import unwrapped
from vjpkit.numpy._no_axis import array_of_no_axis
from vjpkit.numpy._reading import view
from vjpkit.numpy._writable import write
from vjpkit.numpy._writing import delivers, destination
from vjpkit.ops import complex_numbers, special
from vjpkit.ops.structural import to_dtype

__all__: list[str] = []

Composition = TypeVar("Composition", bound=Callable[..., Value])


# ---- complex numbers ----------------------------------------------------------------------------


def is_complex(x: Value) -> bool:
    """Whether ``x`` has a complex dtype."""
    return bool(as_array(x).dtype.kind == "c")


@implements(np.real)
def real(val: Value) -> Value:
    return view(complex_numbers.real, as_array(val)) if is_complex(val) else val


@implements(np.imag)
def imag(val: Value) -> Value:
    if is_complex(val):
        return view(complex_numbers.imag, as_array(val))
    zeros = np.zeros(val.shape, val.dtype)
    zeros.flags.writeable = False  # as those that NumPy gives
    return zeros[()]


def _set_real(self: Tracer, value: Value) -> None:
    write(real(self) if is_complex(self) else self, Ellipsis, value)


def _set_imag(self: Tracer, value: Value) -> None:
    if not is_complex(self):
        raise TypeError("array does not have imaginary part to set")
    write(imag(self), Ellipsis, value)


method("real")(property(real, _set_real))
method("imag")(property(imag, _set_imag))


@method("conj")
@method("conjugate")
def conj(self: Value) -> Value:
    """The complex conjugate; real numbers themselves, as for ndarray's method."""
    return complex_numbers.conjugate(self) if is_complex(self) else self


@implements(np.angle)
def angle(z: Value, deg: bool = False) -> Value:
    z = as_array(z)
    y, x = (np.imag(z), np.real(z)) if is_complex(z) else (0, z)
    radians = np.arctan2(y, x)
    return radians * (180 / math.pi) if deg else radians


@implements(np.real_if_close)
def real_if_close(a: Value, tol: float = 100) -> Value:
    a = as_array(a)
    if not is_complex(a):
        return array_of_no_axis(a)
    is_close = np.real_if_close(concrete(a, "real_if_close"), tol).dtype.kind == "f"
    return array_of_no_axis(np.real(a) if is_close else a)


# ------------------------------------------------------------------------------ without derivative


def constant(function: Any) -> Callable[[Composition], Composition]:
    """Register what NumPy's ``function``, locally constant, is where values are abstract.

    Values below traces that only carry derivatives go to NumPy; a traced ``out`` is written to,
    which ends what it carried.
    """

    def register(composition: Composition) -> Composition:
        code = getattr(composition, "__wrapped__", composition).__code__
        names = code.co_varnames[: code.co_argcount]
        place = names.index("out") if "out" in names else None

        def call(*args: Any, **kwargs: Any) -> Value:
            args = tuple([x if i == place else unwrapped(x) for i, x in enumerate(args)])
            kwargs = {name: x if name == "out" else unwrapped(x) for name, x in kwargs.items()}
            if any(isinstance(x, Tracer) for x in (*args, *kwargs.values())):
                return composition(*args, **kwargs)
            return function(*args, **kwargs)

        implements(function)(call)
        return composition

    return register


@constant(np.isclose)
def isclose(
    a: Value, b: Value, rtol: Value = 1e-5, atol: Value = 1e-8, equal_nan: bool = False
) -> Value:
    near = (np.abs(a - b) <= atol + rtol * np.abs(b)) & np.isfinite(b) | (a == b)
    return near | (np.isnan(a) & np.isnan(b)) if equal_nan else near


@constant(np.allclose)
def allclose(
    a: Value, b: Value, rtol: Value = 1e-5, atol: Value = 1e-8, equal_nan: bool = False
) -> Value:
    return np.all(isclose(a, b, rtol, atol, equal_nan))


@constant(np.array_equal)
def array_equal(a1: Value, a2: Value, equal_nan: bool = False) -> Value:
    a1, a2 = as_array(a1), as_array(a2)
    if a1.shape != a2.shape:
        return False
    same = a1 == a2
    return np.all(same | (np.isnan(a1) & np.isnan(a2)) if equal_nan else same)


@constant(np.array_equiv)
def array_equiv(a1: Value, a2: Value) -> Value:
    a1, a2 = as_array(a1), as_array(a2)
    try:
        np.broadcast_shapes(a1.shape, a2.shape)
    except ValueError:
        return False
    return np.all(a1 == a2)


@constant(np.isreal)
def isreal(x: Value) -> Value:
    return np.imag(x) == 0


@constant(np.iscomplex)
def iscomplex(x: Value) -> Value:
    return np.imag(x) != 0


@implements(np.isrealobj)
def isrealobj(x: Value) -> bool:
    return not is_complex(x)


@implements(np.iscomplexobj)
def iscomplexobj(x: Value) -> bool:
    return is_complex(x)


@constant(np.isposinf)
@delivers
def isposinf(x: Value, out: Any = None) -> Value:
    return np.isinf(x) & ~np.signbit(x)


@constant(np.isneginf)
@delivers
def isneginf(x: Value, out: Any = None) -> Value:
    return np.isinf(x) & np.signbit(x)


@constant(np.fix)
@delivers
def fix(x: Value, out: Any = None) -> Value:
    return np.trunc(x)


@constant(np.around)
@constant(np.round)
@delivers
def round_(a: Value, decimals: int = 0, out: Any = None) -> Value:
    a, decimals = as_array(a), index(decimals)
    whole = a.dtype.kind in "iu"
    if whole and decimals >= 0:
        return np.positive(a)
    if decimals == 0:
        return np.rint(a)
    scale = 10.0 ** abs(decimals)
    out = np.rint(a * scale) / scale if decimals > 0 else np.rint(a / scale) * scale
    return to_dtype(out, a.dtype) if whole else out


@method("round")
def _round(self: Value, decimals: int = 0, out: Any = None) -> Value:
    return np.round(self, decimals, out)


# --------------------------------------------------------------------------------- with derivative


@implements(np.sinc)
def sinc(x: Value) -> Value:
    return special.sinc(as_array(x), order=0)


@implements(np.i0)
def i0(x: Value) -> Value:
    x = as_array(x)
    if is_complex(x):
        raise TypeError("i0 not supported for complex values")
    return array_of_no_axis(special.bessel_i(x, order=0))


@implements(np.nan_to_num)
def nan_to_num(
    x: Value,
    copy: bool = True,
    nan: Value = 0.0,
    posinf: Value | None = None,
    neginf: Value | None = None,
) -> Value:
    if not copy:
        target = destination("np.nan_to_num", x)
        write(target, Ellipsis, nan_to_num(x, True, nan, posinf, neginf))
        return target
    x = as_array(x)
    if is_complex(x):
        parts = (
            nan_to_num(np.real(x), True, nan, posinf, neginf),
            nan_to_num(np.imag(x), True, nan, posinf, neginf),
        )
        return complex_numbers.of_parts(*parts)
    if x.dtype.kind != "f":
        return x
    limits = np.finfo(x.dtype)
    with np.errstate(invalid="ignore"):
        x = np.where(np.isnan(x), _as(nan, x), x)
        x = np.where(np.isposinf(x), _as(limits.max if posinf is None else posinf, x), x)
        x = np.where(np.isneginf(x), _as(limits.min if neginf is None else neginf, x), x)
    return scalar(x)


def _as(value: Value, x: Value) -> Value:
    """A replacement in the dtype of ``x``."""
    return to_dtype(as_array(value), x.dtype)


@implements(np.unwrap)
def unwrap(
    p: Value, discont: Value | None = None, axis: int = -1, *, period: Value = 2 * math.pi
) -> Value:
    p = as_array(p)
    steps = np.diff(p, axis=axis)
    half = period / 2
    short = np.mod(steps + half, period) - half
    short = np.where((short == -half) & (steps > 0), half, short)
    jumps = np.where(np.abs(steps) < (half if discont is None else discont), 0, short - steps)
    head = (slice(None),) * (axis % p.ndim)
    rest = p[(*head, slice(1, None))] + np.cumsum(jumps, axis=axis)
    return np.concatenate([p[(*head, slice(None, 1))], rest], axis=axis)
