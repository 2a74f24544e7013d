"""Sums, products, extrema, means and variances without nans: NumPy's signatures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.numpy._arguments import (
    as_array,
    flag,
    given,
    known,
    plain,
    reduced_axes,
    scalar,
    warn_where,
    yes,
)
from vjpkit.numpy._dispatch import implements
from vjpkit.numpy._reductions import (
    centred,
    divided,
    limit_of,
    lost_freedom,
    mask_for,
    root_of_variance,
    squared,
    starting,
)
from vjpkit.numpy._writing import delivers
from vjpkit.ops import selection, structural

__all__ = ["without_nan"]

_NO = np._NoValue


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
    limit = limit_of(a.dtype, sign)
    filled, mask = without_nan(a, limit)
    begun = given(initial) and initial is not None
    absent = False
    if begun:
        initial, absent = without_nan(starting(initial, a.dtype), limit)
    best = function(filled, axis, None, flag(keepdims), initial, where)
    if plain(mask) and not mask.any() and mask.size and not begun:
        return best
    chosen = mask_for(a, where)
    mask = mask if chosen is None else np.logical_or(mask, np.logical_not(chosen))
    nothing = np.all(mask, axis=axis, keepdims=flag(keepdims))
    if begun:
        nothing = np.logical_and(nothing, absent)
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
    filled, mask = without_nan(a, limit_of(a.dtype, sign))
    nothing = known(np.all(mask, axis=axis)) if mask.size else None
    if nothing is not None and np.any(nothing):
        raise ValueError("All-NaN slice encountered")
    return function(filled, axis=axis, keepdims=yes(keepdims))


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
    chosen = mask_for(a, where)
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
    return divided(total, count)


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
    a, about = centred(a, dtype)
    ddof = lost_freedom(ddof, correction)
    axes = reduced_axes(axis, a.ndim)
    mask = _counted(a, where)
    filled = selection.where(mask, a, 0)
    count = np.sum(mask, axis=axes, keepdims=True)
    if given(mean):
        center = as_array(mean)
    else:
        center = divided(np.sum(selection.where(mask, about, 0), axis=axes, keepdims=True), count)
    away = filled - center
    away = structural.to_dtype(away, a.dtype)  # NumPy computes it where it has the array
    square = selection.where(mask, squared(away), 0)
    total = np.sum(square, axis=axes, keepdims=flag(keepdims))
    freedom = np.reshape(count, total.shape) - ddof
    warn_where(freedom <= 0, "Degrees of freedom <= 0 for slice.")
    variance = divided(total, freedom)
    variance = scalar(selection.where(freedom <= 0, math.nan, variance))
    if name == "nanstd":
        variance = root_of_variance(variance, a, axes, flag(keepdims), mask)
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
