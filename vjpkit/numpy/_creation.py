"""Making arrays: from nested lists that may hold traced values, constants, and ranges.

What holds no traced value is a plain NumPy array; only arrays of constants that are made to be
written to (`zeros`, `empty`, `full`, `eye`, ...) accept traced values while a transform runs.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from vjpkit.core.aval import Shape, Value, aval_of
from vjpkit.core.errors import UnsupportedError
from vjpkit.core.rows import roles
from vjpkit.core.staging import Staged
from vjpkit.core.tracer import FUNCTIONS, RUNNING, Tracer
from vjpkit.numpy._arguments import as_array, concrete, known
from vjpkit.numpy._dispatch import implements, refuse
from vjpkit.numpy._handles import writable
from vjpkit.numpy._no_axis import array_of_no_axis, is_array
from vjpkit.numpy._reading import copied
from vjpkit.numpy._views import is_abstract, marked
from vjpkit.ops import structural
from vjpkit.ops.index import stand_in
from vjpkit.transforms.batch import Batched

__all__ = [
    "arange", "array", "asanyarray", "asarray", "ascontiguousarray", "asfortranarray", "empty",
    "eye", "full", "identity", "ones", "require", "tri", "zeros",
]  # fmt: skip

# ---- memory layout -----------------------------------------------------------------------------


def strides_of(x: Value) -> tuple[int, ...] | None:
    """Strides of the memory that ``x`` (one example of a batch) lies in; None while unknown."""
    ndim = aval_of(x).ndim
    while isinstance(x, Tracer):
        if isinstance(x, Staged):
            return None
        x = x.value
    if isinstance(x, np.ndarray):
        return x.strides[x.ndim - ndim :]
    return () if ndim == 0 else None


def is_contiguous(x: Value, order: str) -> bool | None:
    """Whether ``x`` lies in memory in C or Fortran order; None while unknown."""
    strides = strides_of(x)
    if strides is None:
        return None
    aval = aval_of(x)
    step = aval.dtype.itemsize
    axes = range(aval.ndim)
    for a in axes if order == "F" else reversed(axes):
        if aval.shape[a] != 1 and strides[a] != step:
            return aval.size == 0
        step *= aval.shape[a]
    return True


def laid_out(x: Value, order: str, copy: bool | None) -> Value:
    """``x`` in this memory order: a copy of its own, or ``x`` itself where that will do (None)."""
    if order not in ("C", "F", "A", "K"):
        np.empty_like(0, order=order)  # type: ignore[call-overload]  # NumPy's error
        order = "K"
    fits = order in "KA" or is_contiguous(x, order) is not False
    if fits and not copy:
        return x
    if copy is False:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    dense = is_contiguous(x, "C") is not False or is_contiguous(x, "F") is not False
    if fits and dense and isinstance(x, Tracer) and is_array(x):
        out: Value = copied(x)  # shares the memory until one of the two is written to
    else:
        out = structural.copy(x, order=order)
    out = array_of_no_axis(out)
    if is_abstract(out) and (order == "C" or out.ndim == 1):
        marked(out).packed = True
    return out


# ---- from nested sequences ---------------------------------------------------------------------


def has_traced(x: Any) -> bool:
    """Whether a traced value is in a nested sequence, or in an object array."""
    if isinstance(x, Tracer):
        return True
    if isinstance(x, list | tuple):
        return any(map(has_traced, x))
    return isinstance(x, np.ndarray) and x.dtype == object and any(map(has_traced, x.flat))


def example(x: Any) -> Any:
    """``x`` with arrays without storage in the place of its tracers, to ask NumPy about it."""
    if isinstance(x, Tracer):
        aval = x.aval
        return aval.dtype.type(0).item() if aval.weak else stand_in(aval)[()]
    if isinstance(x, list | tuple):
        return [example(e) for e in x]
    return example(x.tolist()) if isinstance(x, np.ndarray) and x.dtype == object else x


def joined(x: Any, dtype: np.dtype[Any]) -> Value:
    """A nested sequence as one value: one `stack` for every list that has a tracer in it."""
    if isinstance(x, np.ndarray) and x.dtype == object:
        x = x.tolist()
    if isinstance(x, Tracer):
        return structural.to_dtype(x, dtype)
    if has_traced(x):
        return structural.stack(*[joined(e, dtype) for e in x], axis=0)
    return np.asarray(x, dtype)[()]


@implements(np.array)
def array(
    object: Any,
    dtype: Any = None,
    *,
    copy: bool | None = True,
    order: Any = "K",
    subok: bool = False,
    ndmin: int = 0,
    ndmax: int = 0,
    like: Any = None,
) -> Value:
    """`numpy.array` of anything, nested sequences with traced values in them included.

    Shape, dtype and errors are NumPy's; the result is differentiable in every traced value.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: np.sum(vk.numpy.array([[x, 2.0], [3.0, x * x]])))(2.0)
    np.float64(5.0)
    """
    if not has_traced(object):
        rest: Any = {"ndmax": ndmax} if ndmax else {}  # NumPy 2.4 has it
        made = np.array(object, dtype, copy=copy, order=order, subok=subok, ndmin=ndmin, **rest)
        return accepting(made) if copy and type(made) is np.ndarray else made
    refuse("array", ndmax=ndmax or None)
    form = np.array(example(object), dtype, ndmin=ndmin)
    if form.dtype.kind not in "biufc":
        raise UnsupportedError(f"array: arrays of dtype {form.dtype} do not hold traced values")
    out = joined(object, form.dtype)
    if aval_of(out).shape != form.shape:
        out = structural.reshape(out, shape=form.shape)
    out = array_of_no_axis(out)
    if isinstance(object, Tracer) and object.dtype == form.dtype:
        return laid_out(out, order or "K", copy)
    if copy is False:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    return laid_out(out, order if order in ("C", "F") else "C", None)


@implements(np.asarray)
def asarray(
    a: Any,
    dtype: Any = None,
    order: Any = None,
    *,
    device: Any = None,
    copy: bool | None = None,
    like: Any = None,
) -> Value:
    """`numpy.asarray`, of traced values too.

    >>> import vjpkit as vk
    >>> vk.grad(lambda x: vk.numpy.asarray([x, 1.0])[0])(3.0)
    np.float64(1.0)
    """
    if not has_traced(a):
        return np.asarray(a, dtype, order, device=device, copy=copy)
    return array(a, dtype, copy=copy, order=order)


@implements(np.asanyarray)
def asanyarray(
    a: Any,
    dtype: Any = None,
    order: Any = None,
    *,
    device: Any = None,
    copy: bool | None = None,
    like: Any = None,
) -> Value:
    """`numpy.asanyarray`, of traced values too."""
    if not has_traced(a):
        return np.asanyarray(a, dtype, order, device=device, copy=copy)
    return array(a, dtype, copy=copy, order=order)


@implements(np.ascontiguousarray)
def ascontiguousarray(a: Any, dtype: Any = None, *, like: Any = None) -> Value:
    """`numpy.ascontiguousarray`, of traced values too."""
    if not has_traced(a):
        return np.ascontiguousarray(a, dtype)
    return array(a, dtype, copy=None, order="C", ndmin=1)


@implements(np.asfortranarray)
def asfortranarray(a: Any, dtype: Any = None, *, like: Any = None) -> Value:
    """`numpy.asfortranarray`, of traced values too."""
    if not has_traced(a):
        return np.asfortranarray(a, dtype)
    return array(a, dtype, copy=None, order="F", ndmin=1)


@implements(np.require)
def require(a: Any, dtype: Any = None, requirements: Any = None, *, like: Any = None) -> Value:
    """`numpy.require`, of traced values too; these can always be written to."""
    if not has_traced(a):
        return np.require(a, dtype, requirements)
    wanted = {str(r).upper()[:1] for r in requirements or ()}
    if wanted >= {"C", "F"}:
        raise ValueError('Cannot specify both "C" and "F" order')
    order = "F" if "F" in wanted else "C" if "C" in wanted else "A"
    return array(a, dtype, copy=True if "O" in wanted else None, order=order)


# ---- constants ---------------------------------------------------------------------------------


def accepting(fresh: np.ndarray[Any, Any]) -> Value:
    """A fresh array of numbers as one that accepts traced values, while a transform runs."""
    return writable(fresh) if RUNNING.get().on and fresh.dtype.kind in "biufc" else fresh


def _creator(function: Callable[..., Any]) -> Callable[..., Value]:
    """``function`` of NumPy's; its arrays accept traced values while a transform runs."""

    @functools.wraps(function)
    def create(*args: Any, **kwargs: Any) -> Value:
        return accepting(function(*args, **kwargs))

    @functools.wraps(function)
    def create_like(*args: Any, **kwargs: Any) -> Value:
        return writable(function(*args, **kwargs))

    FUNCTIONS[function] = create_like
    return create


zeros = _creator(np.zeros)
ones = _creator(np.ones)
empty = _creator(np.empty)
eye = _creator(np.eye)
identity = _creator(np.identity)
tri = _creator(np.tri)
_full = _creator(np.full)


@implements(np.full)
@functools.wraps(np.full)
def full(
    shape: Any,
    fill_value: Value,
    dtype: Any = None,
    order: str = "C",
    *,
    device: Any = None,
    like: Any = None,
) -> Value:
    if not has_traced(fill_value):
        return _full(shape, fill_value, dtype, order, device=device)
    np.empty((), order=order)  # type: ignore[call-overload]  # NumPy's error for other orders
    fill_value = array(fill_value, dtype, copy=None)
    shape = tuple(shape) if isinstance(shape, tuple | list) else (operator.index(shape),)
    return filled(fill_value, aval_of(fill_value).dtype, shape, order)


def filled(value: Value, dtype: Any, shape: Shape, order: str) -> Value:
    """An array of this shape and dtype, in memory of its own, that is ``value`` everywhere."""
    spread = np.broadcast_to(structural.to_dtype(as_array(value), dtype), shape)
    return array_of_no_axis(structural.copy(spread, order=order))


def like(
    prototype: Value, value: Value, dtype: Any, order: Any, subok: bool, shape: Any, device: Any
) -> Value:
    """``value`` everywhere, in shape, dtype and layout like ``prototype`` unless said otherwise."""
    aval = aval_of(prototype)
    np.empty_like(0, order=order)  # NumPy's error for other orders
    order = order or "K"
    dtype = np.dtype(dtype or aval.dtype)
    shape = aval.shape if shape is None else shape
    shape = tuple(shape) if isinstance(shape, tuple | list) else (operator.index(shape),)
    if has_traced(value):
        is_fortran = not is_contiguous(prototype, "C") and is_contiguous(prototype, "F")
        given = order in "CF" or len(shape) != aval.ndim
        order = order if given and order in "CF" else "F" if is_fortran and not given else "C"
        return filled(array(value, copy=None), dtype, shape, order)
    inner, batches = prototype, 0
    while isinstance(inner, Tracer):
        if isinstance(inner, Staged):
            number = np.asarray(value).astype(dtype)[()]
            return array_of_no_axis(roles["fill"](inner.owner, shape, number, dtype))
        batches += isinstance(inner, Batched)
        inner = inner.value
    if batches:
        inner = np.empty(aval.shape, aval.dtype)
    out = np.full_like(inner, value, dtype, order, subok, shape, device=device)
    return writable(out) if isinstance(prototype, Tracer) else out


@implements(np.zeros_like)
def zeros_like(
    a: Value,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Value:
    return like(a, 0, dtype, order, subok, shape, device)


@implements(np.ones_like)
def ones_like(
    a: Value,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Value:
    return like(a, 1, dtype, order, subok, shape, device)


@implements(np.empty_like)
def empty_like(
    prototype: Value,
    /,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Value:
    return like(prototype, 0, dtype, order, subok, shape, device)


@implements(np.full_like)
def full_like(
    a: Value,
    fill_value: Value,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Value:
    return like(a, fill_value, dtype, order, subok, shape, device)


@implements(np.fromfunction)
def _fromfunction(function: Any, shape: Any, *, dtype: Any = float, **kwargs: Any) -> Value:
    return np.fromfunction(function, shape, dtype=dtype, **kwargs)


def _without_like(function: Callable[..., Any]) -> None:
    """Readers of data: what they read does not depend on ``like``."""
    FUNCTIONS[function] = function


for _reader in (np.frombuffer, np.fromfile, np.fromiter, np.fromstring, np.loadtxt, np.genfromtxt):
    _without_like(_reader)


# ---- ranges ------------------------------------------------------------------------------------


@implements(np.arange)
@functools.wraps(np.arange)
def arange(
    start_or_stop: Value,
    /,
    stop: Value | None = None,
    step: Value = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    like: Any = None,
) -> Value:
    start, stop = (0, start_or_stop) if stop is None else (start_or_stop, stop)
    if not has_traced([start, stop, step]):
        return np.arange(start, stop, step, dtype=dtype, device=device)
    first, last, by = (concrete(v, "arange") for v in (start, stop, step))
    form = np.arange(first, last, by, dtype=dtype, device=device)
    if form.dtype.kind not in "fc":
        return form
    dtype = np.result_type(form.dtype, np.float32)  # halves are filled in from single precision
    begin = structural.to_dtype(as_array(start), dtype)
    step = structural.to_dtype(as_array(start + step), dtype) - begin
    return structural.to_dtype(begin + np.arange(form.size, dtype=dtype) * step, form.dtype)


@implements(np.linspace)
def linspace(
    start: Value,
    stop: Value,
    num: Any = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    device: Any = None,
) -> Value:
    num = operator.index(num)
    if num < 0:
        raise ValueError(f"Number of samples, {num}, must be non-negative.")
    refuse("linspace", device=None if device == "cpu" else device)
    inexact = np.result_type(*map(promoting, (start, stop)), 0.0)
    start, stop = (structural.to_dtype(as_array(v), inexact) for v in (start, stop))
    delta = stop - start
    divisor = num - 1 if endpoint else num
    y = np.arange(num, dtype=inexact).reshape(-1, *[1] * delta.ndim)
    step: Value = math.nan
    if divisor > 0:
        step = delta / divisor
        known_step = known(step)
        tiny = known_step is not None and np.any(known_step == 0)
        y = y / divisor * delta if tiny else y * step
    else:
        y = y * delta
    y = y + start
    if endpoint and num > 1:
        last = np.broadcast_to(stop, y.shape[1:])
        y = np.concatenate([y[:-1], last[None]])
    y = np.moveaxis(y, 0, axis)
    if dtype is not None and np.issubdtype(dtype, np.integer):
        y = np.floor(y)
    y = np.astype(y, inexact if dtype is None else dtype, copy=False)
    return (y, step) if retstep else y


def promoting(x: Value) -> Any:
    """What NumPy's promotion sees of a value: its dtype, or a Python number."""
    aval = aval_of(x if isinstance(x, Tracer) else as_array(x) if isinstance(x, list) else x)
    return aval.dtype.type(0).item() if aval.weak else aval.dtype


@implements(np.logspace)
def logspace(
    start: Value,
    stop: Value,
    num: Any = 50,
    endpoint: bool = True,
    base: Value = 10.0,
    dtype: Any = None,
    axis: int = 0,
) -> Value:
    if np.ndim(base):
        ndim = max(map(np.ndim, (start, stop, base)))
        start, stop, base = (array(v, copy=None, ndmin=ndim) for v in (start, stop, base))
        base = np.expand_dims(base, axis)
    y = np.power(base, np.linspace(start, stop, num, endpoint, axis=axis))
    return y if dtype is None else np.astype(y, np.dtype(dtype), copy=False)


@implements(np.geomspace)
def geomspace(
    start: Value,
    stop: Value,
    num: Any = 50,
    endpoint: bool = True,
    dtype: Any = None,
    axis: int = 0,
) -> Value:
    """As NumPy: rotated to a positive real start, with both ends exact."""
    for end in (start, stop):
        value = known(end)
        if value is not None and np.any(value == 0):
            raise ValueError("Geometric sequence cannot include zero")
    num = operator.index(num)
    given = map(promoting, map(as_array, (start, stop)))
    inexact = np.result_type(*given, float(num), np.dtype(dtype))
    start, stop = (structural.to_dtype(as_array(v), inexact) for v in (start, stop))
    sign = np.sign(start)
    first, last = start / sign, stop / sign
    y = np.logspace(np.log10(first), np.log10(last), num, endpoint, dtype=inexact)
    ends = np.broadcast_arrays(first, last, y[0] if num else first)
    inner = y[1:-1] if endpoint and num > 1 else y[1:]
    parts = (
        [ends[0][None], inner, ends[1][None]] if endpoint and num > 1 else [ends[0][None], inner]
    )
    y = np.concatenate(parts) if num else y
    y = np.moveaxis(y * sign, 0, axis)
    return np.astype(y, inexact if dtype is None else np.dtype(dtype), copy=False)
