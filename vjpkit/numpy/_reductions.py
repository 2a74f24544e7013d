"""Sums, products, extrema, means and variances: NumPy's signatures."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.core.rows import Eager
from vjpkit.numpy._arguments import (
    as_array,
    flag,
    given,
    one_axis,
    plain,
    reduced_axes,
    scalar,
    truths,
    warn_where,
    yes,
)
from vjpkit.numpy._dispatch import implements, method, refuse
from vjpkit.numpy._writing import delivered, delivers, dtype_for
from vjpkit.ops import reductions, selection, structural
from vjpkit.transforms.stopping import stop_gradient

__all__ = [
    "divided",
    "limit_of",
    "lost_freedom",
    "mask_for",
    "of_truths",
    "root_of_variance",
    "squared",
    "starting",
]

_NO = np._NoValue


# ---- what all of them share --------------------------------------------------------------------


def mask_for(a: Value, where: Any) -> Value | None:
    """The mask of a reduction in the shape of its operand; None where nothing is left out."""
    if where is True or where is _NO:
        return None
    mask = truths(where)
    return np.broadcast_to(mask, a.shape) if mask.shape != a.shape else mask


def _operand(a: Value, dtype: Any, where: Any, neutral: Any) -> Value:
    """What is to be reduced: in the dtype asked for, neutral where it does not count."""
    a = as_array(a)
    if dtype is not None:
        a = structural.to_dtype(a, np.dtype(dtype))
    mask = mask_for(a, where)
    return a if mask is None else selection.where(mask, a, neutral)


def starting(initial: Any, dtype: np.dtype[Any]) -> Value:
    """A reduction's starting value, in the dtype of its result."""
    start = as_array(initial)
    if start.ndim:
        raise ValueError("setting an array element with a sequence.")
    if start.dtype.kind == "c" and dtype.kind != "c":
        raise UnsupportedError(
            f"a reduction of {dtype} begins with a complex number, whose imaginary part NumPy drops"
            f"{at(calling_position())}\nMake the array complex, or pass np.real(initial)."
        )
    return structural.to_dtype(start, dtype)


def of_truths(total: Value, dtype: Any) -> Value:
    """A sum or product as ``dtype=`` asks for it: of truth values it is one."""
    return structural.to_dtype(total, np.dtype(bool)) if np.dtype(dtype) == bool else total


def _count(a: Value, axes: tuple[int, ...] | None, mask: Value | None, keepdims: bool) -> Value:
    """How many elements are reduced to one: an int, or, under a mask, an array of ints."""
    if mask is None:
        return math.prod(a.shape if axes is None else [a.shape[i] for i in axes])
    return structural.sum_(mask, axes=axes, keepdims=keepdims)


def divided(total: Value, count: Value) -> Value:
    """``total / count`` in the dtype of ``total``; no warning where nothing was counted."""
    if type(count) is int and not count:
        count = np.intp(0)  # Python's own 0 may not be divided by
    with np.errstate(divide="ignore", invalid="ignore"):
        return structural.to_dtype(total / count, total.dtype)


# ---- sums and products -------------------------------------------------------------------------


@method("sum")
@implements(np.sum)
def sum(  # NumPy's name
    a: Value,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = _NO,
    where: Any = True,
) -> Value:
    strong = type(a) is Eager or type(getattr(a, "value", None)) is np.ndarray
    if not (strong and dtype is None and out is None and where is True):
        if out is not None:
            dtype = dtype_for(a, dtype, out)
            return delivered("sum", sum(a, axis, dtype, None, keepdims, initial, where), out)
        a = _operand(a, dtype, where, 0)
    axes = None if axis is None else reduced_axes(axis, a.ndim)
    if initial is None:
        _require_identity(np.add, a, axes, where)
    keepdims = False if keepdims is False else flag(keepdims)
    total = structural.sum_(a, axes=axes, keepdims=keepdims)
    if not (initial is None or initial is _NO):
        total = total + starting(initial, total.dtype)
    return total if dtype is None else of_truths(total, dtype)


@method("prod")
@implements(np.prod)
@delivers
def prod(
    a: Value,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = _NO,
    where: Any = True,
) -> Value:
    a = _operand(a, dtype, where, 1)
    axes = reduced_axes(axis, a.ndim)
    if initial is None:
        _require_identity(np.multiply, a, axes, where)
    total = reductions.prod(a, axes=axes, keepdims=flag(keepdims))
    if not (initial is None or initial is _NO):
        total = total * starting(initial, total.dtype)
    return total if dtype is None else of_truths(total, dtype)


def _require_identity(ufunc: np.ufunc, a: Value, axes: Any, where: Any) -> None:
    """Raise NumPy's error where a reduction would need an identity and ``initial`` says: none."""
    if where is not True and where is not _NO:
        raise ValueError(
            f"reduction operation '{ufunc.__name__}' does not have an identity, so to use a where "
            "mask one has to specify 'initial'"
        )
    if not _count(a, axes, None, False):
        raise ValueError(
            f"zero-size array to reduction operation {ufunc.__name__} which has no identity"
        )


# ---- extrema -----------------------------------------------------------------------------------


def limit_of(dtype: np.dtype[Any], sign: int) -> Any:
    """What no element lies below (for ``sign`` -1) or above."""
    if dtype.kind == "c":
        return complex(sign * math.inf, sign * math.inf)
    if dtype.kind == "f":
        return sign * math.inf
    if dtype.kind == "b":
        return sign > 0
    limits = np.iinfo(dtype)
    return int(limits.max if sign > 0 else limits.min)


def _extremum(sign: int, a: Value, axis: Any, keepdims: Any, initial: Any, where: Any) -> Value:
    """``max`` (sign -1) or ``min`` (sign 1)."""
    primitive = reductions.max_ if sign < 0 else reductions.min_
    if initial is _NO and (where is True or where is _NO):
        a = as_array(a)
        return primitive(a, axes=reduced_axes(axis, a.ndim), keepdims=flag(keepdims))
    better = primitive.larger
    if initial is _NO or initial is None:
        array = _operand(a, None, True, 0)
        _require_identity(better, array, reduced_axes(axis, array.ndim), where)
        return primitive(array, axes=reduced_axes(axis, array.ndim), keepdims=flag(keepdims))
    array = as_array(a)
    array = _operand(array, None, where, limit_of(array.dtype, sign))
    axes = reduced_axes(axis, array.ndim)
    start = starting(initial, array.dtype)
    if not _count(array, axes, None, False):
        shape = structural.sum_.abstract(array, axes=axes, keepdims=flag(keepdims)).shape
        return scalar(np.broadcast_to(start, shape))
    return better(primitive(array, axes=axes, keepdims=flag(keepdims)), start)


@method("max")
@implements(np.max, np.amax)
@delivers
def max(  # NumPy's name
    a: Value,
    axis: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = _NO,
    where: Any = True,
) -> Value:
    return _extremum(-1, a, axis, keepdims, initial, where)


@method("min")
@implements(np.min, np.amin)
@delivers
def min(  # NumPy's name
    a: Value,
    axis: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = _NO,
    where: Any = True,
) -> Value:
    return _extremum(1, a, axis, keepdims, initial, where)


@implements(np.ptp)
def ptp(a: Value, axis: Any = None, out: Any = None, keepdims: Any = False) -> Value:
    # As NumPy does it, which finds the minimum after the maximum is written.
    top = np.max(a, axis=axis, out=out, keepdims=flag(keepdims))
    return np.subtract(top, np.min(a, axis=axis, keepdims=flag(keepdims)), out=out)


# ---- means and variances -----------------------------------------------------------------------


@method("mean")
@implements(np.mean)
def mean(
    a: Value,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    *,
    where: Any = True,
) -> Value:
    """The sum over the number; halves are added in single precision, as NumPy does."""
    if out is not None:
        dtype = dtype_for(a, dtype, out)
        return delivered("mean", mean(a, axis, dtype, None, keepdims, where=where), out)
    a = as_array(a)
    mask = mask_for(a, where)
    axes = reduced_axes(axis, a.ndim, numbers=mask is not None)
    count = _count(a, axes, mask, flag(keepdims))
    if mask is not None:
        a = selection.where(mask, a, 0)
        warn_where(count == 0, "Mean of empty slice")
    elif count == 0:
        warnings.warn("Mean of empty slice", RuntimeWarning, stacklevel=2)
    result = None
    if dtype is not None:
        a = structural.to_dtype(a, np.dtype(dtype))
    elif a.dtype.kind in "biu":
        a = structural.to_dtype(a, np.dtype(float))
    elif a.dtype == np.float16:
        a, result = structural.to_dtype(a, np.dtype(np.float32)), a.dtype
    summed = structural.sum_(a, axes=axes, keepdims=flag(keepdims))
    total = divided(summed if dtype is None else of_truths(summed, dtype), count)
    return total if result is None else structural.to_dtype(total, result)


def lost_freedom(ddof: Any, correction: Any) -> Any:
    """``ddof``, under its old or new name."""
    if not given(correction):
        return ddof
    if ddof != 0:
        raise ValueError("ddof and correction can't be provided simultaneously.")
    return correction


def centred(a: Value, dtype: Any) -> tuple[Value, Value]:
    """What a variance in another dtype is of, and what the mean that it is about.

    Of complex numbers in a real dtype NumPy drops the imaginary part of the mean, and not theirs.
    """
    if dtype is None:
        return a, a
    if a.dtype.kind == "c" and np.dtype(dtype).kind != "c":
        return a, structural.to_dtype(np.real(a), np.dtype(dtype))
    a = structural.to_dtype(a, np.dtype(dtype))
    return a, a


def _dispersion(
    primitive: Any,
    a: Value,
    axis: Any,
    dtype: Any,
    ddof: Any,
    keepdims: Any,
    where: Any,
    mean: Any,
    correction: Any,
) -> Value:
    """``var`` or ``std``: one primitive, or, with a mean or a mask, composed."""
    ddof = lost_freedom(ddof, correction)
    a = as_array(a)
    if dtype is not None and np.dtype(dtype).kind not in "fc" and a.dtype.kind in "fc":
        refuse(primitive.name, dtype=dtype)
    a, about = centred(a, dtype)
    mask = mask_for(a, where)
    axes = reduced_axes(axis, a.ndim, numbers=mask is not None)
    if mask is None and not given(mean) and a.dtype.kind in "fc" and about is a:
        result = primitive(a, axes=axes, keepdims=flag(keepdims), ddof=ddof)
    else:
        if given(mean):
            center = as_array(mean)
        else:
            center = np.mean(about, axis=axes, keepdims=True, where=_NO if mask is None else mask)
        result = _mean_square(a, center, axes, ddof, keepdims, mask)
        if primitive is reductions.std:
            result = root_of_variance(result, a, axes, flag(keepdims), mask)
    return result if dtype is None else structural.to_dtype(result, np.dtype(dtype))


def _mean_square(
    a: Value, center: Value, axes: Any, ddof: Any, keepdims: Any, mask: Value | None
) -> Value:
    """Squared distances from a center, added up and divided by their number less ``ddof``."""
    away = a - center
    square = squared(away) if a.dtype.kind == "c" else away * away  # also if the center is complex
    if mask is not None:
        square = selection.where(mask, square, 0)
    total = structural.sum_(square, axes=axes, keepdims=flag(keepdims))
    freedom = _count(a, axes, mask, flag(keepdims)) - ddof
    warn_where(freedom <= 0, "Degrees of freedom <= 0 for slice")
    return divided(total, np.maximum(freedom, 0))


def squared(x: Value) -> Value:
    """``|x|**2``, smooth at 0."""
    return np.square(np.real(x)) + np.square(np.imag(x)) if x.dtype.kind == "c" else x * x


def root_of_variance(
    variance: Value, a: Value, axes: Any, keepdims: bool, mask: Value | None
) -> Value:
    """The standard deviation of a variance; where all values are equal, the derivative is 0."""
    if not a.size:
        return np.sqrt(variance)
    values = stop_gradient(a)
    top, bottom = [
        values if mask is None else selection.where(mask, values, limit_of(values.dtype, sign))
        for sign in (-1, 1)
    ]
    same = np.max(top, axis=axes, keepdims=keepdims) <= np.min(bottom, axis=axes, keepdims=keepdims)
    nothing = np.logical_or(variance == 0, same)
    safe = selection.where(nothing, 1, variance)
    return scalar(selection.where(nothing, np.sqrt(stop_gradient(variance)), np.sqrt(safe)))


@method("var")
@implements(np.var)
@delivers
def var(
    a: Value,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = _NO,
    correction: Any = _NO,
) -> Value:
    return _dispersion(reductions.var, a, axis, dtype, ddof, keepdims, where, mean, correction)


@method("std")
@implements(np.std)
@delivers
def std(
    a: Value,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = _NO,
    correction: Any = _NO,
) -> Value:
    return _dispersion(reductions.std, a, axis, dtype, ddof, keepdims, where, mean, correction)


# ---- locally constant --------------------------------------------------------------------------


@method("any")
@implements(np.any)
@delivers
def any(
    a: Value, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True,
) -> Value:  # fmt: skip
    a = _operand(a, None, where, False)
    return reductions.any_(a, axes=reduced_axes(axis, a.ndim), keepdims=flag(keepdims))


@method("all")
@implements(np.all)
@delivers
def all(
    a: Value, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True,
) -> Value:  # fmt: skip
    a = _operand(a, None, where, True)
    return reductions.all_(a, axes=reduced_axes(axis, a.ndim), keepdims=flag(keepdims))


@implements(np.count_nonzero)
def count_nonzero(a: Value, axis: Any = None, *, keepdims: Any = False) -> Value:
    mask = as_array(a) != 0
    if plain(mask):
        return np.count_nonzero(mask, axis=axis, keepdims=keepdims)
    return np.sum(mask, axis=axis, keepdims=keepdims)


def _place(name: str, primitive: Any, a: Value, axis: Any, keepdims: Any, out: Any) -> Value:
    a = as_array(a)
    if out is not None and not np.can_cast(out.dtype, np.intp):
        raise TypeError(
            f"{name}: Cannot cast out from {out.dtype!r} to {np.dtype(np.intp)!r} according to the "
            f"rule 'safe'{at(calling_position())}"
        )
    if a.ndim == 0:
        a, keepdims = np.reshape(a, 1), False
    axis = None if axis is None else one_axis(axis, a.ndim)
    return primitive(a, axis=axis, keepdims=yes(keepdims))


@method("argmax")
@implements(np.argmax)
@delivers
def argmax(a: Value, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Value:
    return _place("argmax", reductions.argmax, a, axis, keepdims, out)


@method("argmin")
@implements(np.argmin)
@delivers
def argmin(a: Value, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Value:
    return _place("argmin", reductions.argmin, a, axis, keepdims, out)
