"""Sums, products, extrema, means and variances, also without nans: NumPy's signatures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.rows import Eager
from vjpkit.numpy._arguments import (
    as_array,
    flag,
    given,
    known,
    normalize_axis,
    plain,
    reduced_axes,
    scalar,
    warn_where,
)
from vjpkit.numpy._dispatch import implements, method
from vjpkit.numpy._writing import delivered, delivers
from vjpkit.ops import reductions, selection, structural
from vjpkit.transforms.stopping import stop_gradient

__all__: list[str] = []

_NO = np._NoValue


# ---- what all of them share --------------------------------------------------------------------


def _mask_for(a: Value, where: Any) -> Value | None:
    """The mask of a reduction in the shape of its operand; None where nothing is left out."""
    if where is True or where is _NO:
        return None
    mask = structural.to_dtype(as_array(where), np.dtype(bool))
    return np.broadcast_to(mask, a.shape) if mask.shape != a.shape else mask


def _operand(a: Value, dtype: Any, where: Any, neutral: Any) -> Value:
    """What is to be reduced: in the dtype asked for, neutral where it does not count."""
    a = as_array(a)
    if dtype is not None:
        a = structural.to_dtype(a, np.dtype(dtype))
    mask = _mask_for(a, where)
    return a if mask is None else selection.where(mask, a, neutral)


def _initial(initial: Any, dtype: np.dtype[Any]) -> Value:
    """A reduction's starting value, in the dtype of its result."""
    start = as_array(initial)
    if start.ndim:
        raise ValueError("setting an array element with a sequence.")
    return structural.to_dtype(start, dtype)


def _count(a: Value, axes: tuple[int, ...] | None, mask: Value | None, keepdims: bool) -> Value:
    """How many elements are reduced to one: an int, or, under a mask, an array of ints."""
    if mask is None:
        return math.prod(a.shape if axes is None else [a.shape[i] for i in axes])
    return structural.sum_(mask, axes=axes, keepdims=keepdims)


def _divided(total: Value, count: Value) -> Value:
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
            return delivered("sum", sum(a, axis, dtype, None, keepdims, initial, where), out)
        a = _operand(a, dtype, where, 0)
    axes = None if axis is None else reduced_axes(axis, a.ndim)
    if initial is None:
        _require_identity(np.add, a, axes, where)
    keepdims = False if keepdims is False else flag(keepdims)
    total = structural.sum_(a, axes=axes, keepdims=keepdims)
    return total if initial is None or initial is _NO else total + _initial(initial, total.dtype)


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
    return total if initial is None or initial is _NO else total * _initial(initial, total.dtype)


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


def _limit(dtype: np.dtype[Any], sign: int) -> Any:
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
    array = _operand(array, None, where, _limit(array.dtype, sign))
    axes = reduced_axes(axis, array.ndim)
    start = _initial(initial, array.dtype)
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
@delivers
def ptp(a: Value, axis: Any = None, out: Any = None, keepdims: Any = False) -> Value:
    return np.max(a, axis=axis, keepdims=flag(keepdims)) - np.min(
        a, axis=axis, keepdims=flag(keepdims)
    )


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
        return delivered("mean", mean(a, axis, dtype, None, keepdims, where=where), out)
    a = as_array(a)
    mask = _mask_for(a, where)
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
    total = _divided(structural.sum_(a, axes=axes, keepdims=flag(keepdims)), count)
    return total if result is None else structural.to_dtype(total, result)


def _freedom(ddof: Any, correction: Any) -> Any:
    """``ddof``, under its old or new name."""
    if not given(correction):
        return ddof
    if ddof != 0:
        raise ValueError("ddof and correction can't be provided simultaneously.")
    return correction


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
    ddof = _freedom(ddof, correction)
    a = as_array(a)
    if dtype is not None:
        a = structural.to_dtype(a, np.dtype(dtype))
    mask = _mask_for(a, where)
    axes = reduced_axes(axis, a.ndim, numbers=mask is not None)
    if mask is None and not given(mean) and a.dtype.kind in "fc":
        result = primitive(a, axes=axes, keepdims=flag(keepdims), ddof=ddof)
    else:
        if given(mean):
            center = as_array(mean)
        else:
            center = np.mean(a, axis=axes, keepdims=True, where=_NO if mask is None else mask)
        result = _mean_square(a, center, axes, ddof, keepdims, mask)
        if primitive is reductions.std:
            result = _root(result, a, axes, flag(keepdims), mask)
    return result if dtype is None else structural.to_dtype(result, np.dtype(dtype))


def _mean_square(
    a: Value, center: Value, axes: Any, ddof: Any, keepdims: Any, mask: Value | None
) -> Value:
    """Squared distances from a center, added up and divided by their number less ``ddof``."""
    square = _squared(a - center)
    if mask is not None:
        square = selection.where(mask, square, 0)
    total = structural.sum_(square, axes=axes, keepdims=flag(keepdims))
    freedom = _count(a, axes, mask, flag(keepdims)) - ddof
    warn_where(freedom <= 0, "Degrees of freedom <= 0 for slice")
    return _divided(total, np.maximum(freedom, 0))


def _squared(x: Value) -> Value:
    """``|x|**2``, smooth at 0."""
    return np.square(np.real(x)) + np.square(np.imag(x)) if x.dtype.kind == "c" else x * x


def _root(variance: Value, a: Value, axes: Any, keepdims: bool, mask: Value | None) -> Value:
    """The standard deviation of a variance; where all values are equal, the derivative is 0."""
    if not a.size:
        return np.sqrt(variance)
    values = stop_gradient(a)
    top, bottom = [
        values if mask is None else selection.where(mask, values, _limit(values.dtype, sign))
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


def _place(primitive: Any, a: Value, axis: Any, keepdims: Any) -> Value:
    a = as_array(a)
    if a.ndim == 0:
        a, keepdims = np.reshape(a, 1), False
    axis = None if axis is None else normalize_axis(axis, a.ndim)
    return primitive(a, axis=axis, keepdims=flag(keepdims))


@method("argmax")
@implements(np.argmax)
@delivers
def argmax(a: Value, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Value:
    return _place(reductions.argmax, a, axis, keepdims)


@method("argmin")
@implements(np.argmin)
@delivers
def argmin(a: Value, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Value:
    return _place(reductions.argmin, a, axis, keepdims)


# ---- without nans ------------------------------------------------------------------------------


def without_nan(a: Value, value: Any) -> tuple[Value, Value]:
    """``a`` with a number instead of nan, and where nan was."""
    a = as_array(a)
    mask = np.isnan(a) if a.dtype.kind in "fc" else np.zeros(a.shape, bool)
    nowhere = plain(mask) and not mask.any()
    return (a if nowhere else selection.where(mask, value, a)), mask


@implements(np.nansum)
@delivers
def nansum(
    a: Value, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False,
    initial: Any = _NO, where: Any = True,
) -> Value:  # fmt: skip
    return np.sum(without_nan(a, 0)[0], axis, dtype, None, flag(keepdims), initial, where)


@implements(np.nanprod)
@delivers
def nanprod(
    a: Value, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False,
    initial: Any = _NO, where: Any = True,
) -> Value:  # fmt: skip
    return np.prod(without_nan(a, 1)[0], axis, dtype, None, flag(keepdims), initial, where)


def _nan_extremum(
    function: Callable[..., Value], sign: int, a: Value, axis: Any, keepdims: Any,
    initial: Any, where: Any,
) -> Value:  # fmt: skip
    a = as_array(a)
    filled, mask = without_nan(a, _limit(a.dtype, sign))
    best = function(filled, axis, None, flag(keepdims), initial, where)
    if given(initial) or (plain(mask) and not mask.any()):
        return best
    nothing = np.all(mask, axis=axis, keepdims=flag(keepdims))
    warn_where(nothing, "All-NaN slice encountered")
    return scalar(selection.where(nothing, math.nan, best))


@implements(np.nanmax)
@delivers
def nanmax(
    a: Value, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = _NO,
    where: Any = True,
) -> Value:  # fmt: skip
    return _nan_extremum(np.max, -1, a, axis, keepdims, initial, where)


@implements(np.nanmin)
@delivers
def nanmin(
    a: Value, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = _NO,
    where: Any = True,
) -> Value:  # fmt: skip
    return _nan_extremum(np.min, 1, a, axis, keepdims, initial, where)


def _nan_place(
    function: Any, sign: int, a: Value, axis: Any, keepdims: Any,
) -> Value:  # fmt: skip
    a = as_array(a)
    filled, mask = without_nan(a, _limit(a.dtype, sign))
    nothing = known(np.all(mask, axis=axis)) if mask.size else None
    if nothing is not None and np.any(nothing):
        raise ValueError("All-NaN slice encountered")
    return function(filled, axis=axis, keepdims=flag(keepdims))


@implements(np.nanargmax)
@delivers
def nanargmax(a: Value, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Value:
    return _nan_place(np.argmax, -1, a, axis, keepdims)


@implements(np.nanargmin)
@delivers
def nanargmin(a: Value, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Value:
    return _nan_place(np.argmin, 1, a, axis, keepdims)


def _counted(a: Value, where: Any) -> Value:
    """The mask of what is neither nan nor left out."""
    mask = ~np.isnan(a)
    chosen = _mask_for(a, where)
    return mask if chosen is None else np.logical_and(mask, chosen)


def _inexact_dtype(a: Value, dtype: Any) -> None:
    if dtype is not None and a.dtype.kind in "fc" and np.dtype(dtype).kind not in "fc":
        raise TypeError("If a is inexact, then dtype must be inexact")


@implements(np.nanmean)
@delivers
def nanmean(
    a: Value, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *,
    where: Any = True,
) -> Value:  # fmt: skip
    a = as_array(a)
    if a.dtype.kind not in "fc":
        return np.mean(a, axis, dtype, None, flag(keepdims), where=where)
    _inexact_dtype(a, dtype)
    mask = _counted(a, where)
    total = np.sum(selection.where(mask, a, 0), axis, dtype, None, flag(keepdims))
    count = np.sum(mask, axis=axis, keepdims=flag(keepdims))
    warn_where(count == 0, "Mean of empty slice")
    return _divided(total, count)


def _nan_dispersion(
    name: str, a: Value, axis: Any, dtype: Any, ddof: Any, keepdims: Any, where: Any,
    mean: Any, correction: Any,
) -> Value:  # fmt: skip
    """The variance (``nanvar``) or deviation (``nanstd``) of what is not nan."""
    a = as_array(a)
    if a.dtype.kind not in "fc":
        function = np.var if name == "nanvar" else np.std
        return function(
            a,
            axis,
            dtype,
            None,
            ddof,
            flag(keepdims),
            where=where,
            mean=mean,
            correction=correction,
        )
    _inexact_dtype(a, dtype)
    if dtype is not None:
        a = structural.to_dtype(a, np.dtype(dtype))
    ddof = _freedom(ddof, correction)
    axes = reduced_axes(axis, a.ndim)
    mask = _counted(a, where)
    filled = selection.where(mask, a, 0)
    count = np.sum(mask, axis=axes, keepdims=True)
    if given(mean):
        center = as_array(mean)
    else:
        center = _divided(np.sum(filled, axis=axes, keepdims=True), count)
    square = selection.where(mask, _squared(filled - center), 0)
    total = np.sum(square, axis=axes, keepdims=flag(keepdims))
    freedom = np.reshape(count, total.shape) - ddof
    warn_where(freedom <= 0, "Degrees of freedom <= 0 for slice.")
    variance = _divided(total, freedom)
    variance = scalar(selection.where(freedom <= 0, math.nan, variance))
    if name == "nanstd":
        variance = _root(variance, a, axes, flag(keepdims), mask)
    return variance if dtype is None else structural.to_dtype(variance, np.dtype(dtype))


@implements(np.nanvar)
@delivers
def nanvar(
    a: Value, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0,
    keepdims: Any = False, *, where: Any = True, mean: Any = _NO, correction: Any = _NO,
) -> Value:  # fmt: skip
    return _nan_dispersion("nanvar", a, axis, dtype, ddof, keepdims, where, mean, correction)


@implements(np.nanstd)
@delivers
def nanstd(
    a: Value, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0,
    keepdims: Any = False, *, where: Any = True, mean: Any = _NO, correction: Any = _NO,
) -> Value:  # fmt: skip
    return _nan_dispersion("nanstd", a, axis, dtype, ddof, keepdims, where, mean, correction)
