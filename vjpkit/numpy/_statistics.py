"""Averages, covariances and correlation: NumPy's signatures."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.numpy._arguments import (
    as_array,
    flag,
    known,
)
from vjpkit.numpy._dispatch import implements, normalize_axes, refuse
from vjpkit.ops import structural

__all__ = ["weights_like"]

Axes = tuple[int, ...] | None
_FLOAT = np.dtype(float)


def weights_like(weights: Value, a: Value, axes: Axes) -> Value:
    """Weights that broadcast against ``a``; those of some axes alone stand along these."""
    if weights.shape == a.shape:
        return weights
    if axes is None:
        raise TypeError("Axis must be specified when shapes of a and weights differ.")
    if weights.shape != tuple(a.shape[i] for i in axes):
        raise ValueError(
            "Shape of weights must be consistent with shape of a along specified axis."
        )
    turned = np.transpose(weights, tuple(int(i) for i in np.argsort(axes)))
    return np.reshape(turned, tuple(n if i in axes else 1 for i, n in enumerate(a.shape)))


@implements(np.average)
def average(
    a: Value, axis: Any = None, weights: Any = None, returned: bool = False, *,
    keepdims: Any = False,
) -> Value:  # fmt: skip
    array = as_array(a)
    axes = normalize_axes(axis, array.ndim)
    keep = flag(keepdims)
    if weights is None:
        mean = np.mean(array, axis=axes, keepdims=keep)
        total = mean.dtype.type(array.size / mean.size)
    else:
        weight = weights_like(as_array(weights), array, axes)
        extra = (_FLOAT,) if array.dtype.kind in "biu" else ()
        dtype = np.result_type(array.dtype, weight.dtype, *extra)
        total = np.sum(weight, axis=axes, dtype=dtype, keepdims=keep)
        if (value := known(total)) is not None and np.any(value == 0):
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
        product = structural.to_dtype(array, dtype) * structural.to_dtype(weight, dtype)
        mean = np.sum(product, axis=axes, keepdims=keep) / total
    if not returned:
        return mean
    return mean, np.broadcast_to(total, mean.shape) if total.shape != mean.shape else total


_ONE_ROW_TOO = np.lib.NumpyVersion(np.__version__) >= "2.2.0"
"""Whether ``rowvar=False`` transposes a first matrix of one row; the second one it never does."""


def _rows(m: Value, rowvar: bool, dtype: Any, is_first: bool) -> Value:
    """Observations as a matrix with a row per variable."""
    rows = structural.to_dtype(m, dtype)
    if rows.ndim < 2:
        return np.reshape(rows, (1, -1))
    one = rows.shape[0] == 1 and not (is_first and _ONE_ROW_TOO)
    return rows if rowvar or one else np.transpose(rows)


def _observation_weights(fweights: Any, aweights: Any, n: int) -> tuple[Value | None, Value | None]:
    """The weight of each observation, and the part of it that is not a number of repetitions."""
    weights: list[Value | None] = []
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is None:
            weights.append(None)
            continue
        w = structural.to_dtype(as_array(given), _FLOAT)
        value = known(w)
        if name == "fweights" and value is not None and not np.all(value == np.around(value)):
            raise TypeError("fweights must be integer")
        if w.ndim > 1:
            raise RuntimeError(f"cannot handle multidimensional {name}")
        if w.shape[0] != n:
            raise RuntimeError(f"incompatible numbers of samples and {name}")
        if value is not None and np.any(value < 0):
            raise ValueError(f"{name} cannot be negative")
        weights.append(w)
    repeats, other = weights
    return (other if repeats is None else repeats if other is None else repeats * other), other


@implements(np.cov)
def cov(
    m: Value,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: Any = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Value:
    if ddof is not None and ddof != int(ddof):
        raise ValueError("ddof must be integer")
    given = [as_array(v) for v in (m, y) if v is not None]
    for name, v in zip("my", given, strict=False):
        if v.ndim > 2:
            raise ValueError(f"{name} has more than 2 dimensions")
    if dtype is None:
        dtype = np.result_type(*[v.dtype for v in given], _FLOAT)
    elif np.dtype(dtype).kind not in "fc":
        refuse("cov", dtype=dtype)
    parts = [
        _rows(v, rowvar or (i == 0 and v.ndim == 1), np.dtype(dtype), i == 0)
        for i, v in enumerate(given)
    ]
    if parts[0].shape[0] == 0:
        return np.array([]).reshape(0, 0)
    rows = np.concatenate(parts, axis=0) if len(parts) > 1 else parts[0]
    if ddof is None:
        ddof = 1 if bias == 0 else 0
    weight, other = _observation_weights(fweights, aweights, rows.shape[1])
    mean, total = np.average(rows, axis=1, weights=weight, returned=True)
    total = total[0]
    if weight is None:
        factor = rows.shape[1] - ddof
    elif ddof == 0:
        factor = total
    elif other is None:
        factor = total - ddof
    else:
        factor = total - ddof * np.sum(weight * other) / total
    if (value := known(factor)) is not None and value <= 0:
        warnings.warn("Degrees of freedom <= 0 for slice", RuntimeWarning, stacklevel=2)
        factor = np.float64(0.0)
    rows = rows - mean[:, None]
    weighted = rows if weight is None else rows * weight
    products = np.matmul(rows, np.conj(np.transpose(weighted)))
    return np.squeeze(structural.to_dtype(products * np.true_divide(1, factor), products.dtype))


@implements(np.corrcoef)
def corrcoef(x: Value, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Value:
    c = cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    deviation = np.sqrt(np.real(np.diagonal(c)))
    c = c / deviation[:, None] / deviation[None, :]
    if c.dtype.kind == "c":
        return _within_one(np.real(c)) + 1j * _within_one(np.imag(c))
    return _within_one(c)


def _within_one(c: Value) -> Value:
    """What rounding put outside of -1 ... 1, put back; the ends themselves stay smooth."""
    return np.where(c > 1, 1.0, np.where(c < -1, -1.0, c))
