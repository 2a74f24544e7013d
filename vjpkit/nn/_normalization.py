"""Functions along axes: softmax and its relatives, standardization, one-hot codes."""

from __future__ import annotations

import math
from operator import index
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import at, calling_position, counted
from vjpkit.nn._arguments import axes_of, floating, parameter
from vjpkit.numpy._arguments import named_array
from vjpkit.transforms.stopping import stop_gradient

__all__ = [
    "log_softmax", "logmeanexp", "logsumexp", "one_hot", "softmax", "standardize",
]  # fmt: skip

Axis = int | tuple[int, ...] | None


def softmax(x: Value, axis: Axis = -1, where: Value | None = None) -> Value:
    """``exp(x) / sum(exp(x))`` along ``axis`` (None: all), without overflow.

    Elements that ``where`` leaves out are 0 and do not count; so do elements of -inf.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.softmax(np.array([1000.0, 1000.0, -np.inf]))
    array([0.5, 0.5, 0. ])
    >>> vk.nn.softmax(np.array([1.0, 1.0, 9.0]), where=np.array([True, True, False]))
    array([0.5, 0.5, 0. ])
    """
    x = floating("softmax", x)
    axes = axes_of("softmax", x, axis)
    mask = _mask("softmax", where)
    e = np.exp(_kept(x, mask) - _offset(x, axes, mask))
    if mask is not None:
        e = np.where(mask, e, 0)
    return e / np.sum(e, axis=axes, keepdims=True)


def log_softmax(x: Value, axis: Axis = -1, where: Value | None = None) -> Value:
    """``x - logsumexp(x)`` along ``axis`` (None: all): the logarithm of `softmax`.

    Elements that ``where`` leaves out are -inf and do not count.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.log_softmax(np.array([1000.0, 0.0]))
    array([    0., -1000.])
    """
    x = floating("log_softmax", x)
    axes = axes_of("log_softmax", x, axis)
    mask = _mask("log_softmax", where)
    shifted = _kept(x, mask) - _offset(x, axes, mask)
    e = np.exp(shifted)
    if mask is not None:
        e = np.where(mask, e, 0)
    out = shifted - np.log(np.sum(e, axis=axes, keepdims=True))
    return out if mask is None else np.where(mask, out, -math.inf)


def logsumexp(
    a: Value,
    axis: Axis = None,
    b: Value | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: Value | None = None,
) -> Any:
    """``log(sum(b * exp(a)))`` along ``axis`` (None: all), without overflow.

    With ``return_sign`` the logarithm of the sum's absolute value, and its sign; without it a
    negative sum gives nan.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.logsumexp(np.array([1000.0, 1000.0])).round(4)
    np.float64(1000.6931)
    >>> vk.grad(vk.nn.logsumexp)(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    >>> vk.nn.logsumexp(np.array([0.0, 0.0]), b=np.array([1.0, -3.0]), return_sign=True)
    (np.float64(0.6931471805599453), np.float64(-1.0))
    """
    a = floating("logsumexp", a, "a")
    weights = None if b is None else floating("logsumexp", b, "b")
    mask = _mask("logsumexp", where)
    if weights is not None:  # exp(a) may be infinite where its weight is 0
        counted = weights != 0
        mask = counted if mask is None else mask & counted
        a, weights = np.broadcast_arrays(a, weights)
    axes = axes_of("logsumexp", a, axis)
    offset = _offset(a, axes, mask)
    terms = np.exp(_kept(a, mask) - offset)
    if weights is not None:
        terms = terms * weights
    if mask is not None:
        terms = np.where(mask, terms, 0)
    total = np.sum(terms, axis=axes, keepdims=keepdims)
    offset = offset if keepdims else np.squeeze(offset, axis=axes)
    if not return_sign:
        return _log(total) + offset
    sign = np.sign(total)
    return _log(np.where(total >= 0, total, -total)) + offset, sign


def logmeanexp(
    x: Value, axis: Axis = None, where: Value | None = None, keepdims: bool = False
) -> Value:
    """``log(mean(exp(x)))`` along ``axis`` (None: all), without overflow.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.logmeanexp(np.array([1000.0, 1000.0]))
    np.float64(1000.0)
    """
    x = floating("logmeanexp", x)
    axes = axes_of("logmeanexp", x, axis)
    mask = _mask("logmeanexp", where)
    counted = np.broadcast_to(True if mask is None else mask, x.shape)
    count = np.sum(counted, axis=axes, keepdims=keepdims, dtype=x.dtype)
    return logsumexp(x, axes, where=mask, keepdims=keepdims) - np.log(count)


def standardize(
    x: Value,
    axis: Axis = -1,
    mean: Value | None = None,
    variance: Value | None = None,
    epsilon: Value = 1e-5,
    where: Value | None = None,
) -> Value:
    """``(x - mean) / sqrt(variance + epsilon)``, by default with those of ``x`` along ``axis``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.standardize(np.array([1.0, 3.0]), epsilon=0.0)
    array([-1.,  1.])
    """
    x = floating("standardize", x)
    axes = axes_of("standardize", x, axis)
    chosen: dict[str, Any] = {} if where is None else {"where": _mask("standardize", where)}
    if mean is None:
        middle: Value = np.mean(x, axis=axes, keepdims=True, **chosen)
    else:
        middle = parameter("standardize", "mean", mean)
    centred = x - middle
    if variance is None:
        spread: Value = np.mean(centred * centred, axis=axes, keepdims=True, **chosen)
    else:
        spread = parameter("standardize", "variance", variance)
    return centred / np.sqrt(spread + parameter("standardize", "epsilon", epsilon))


def one_hot(x: Value, num_classes: int, *, dtype: Any = np.float64, axis: int = -1) -> Value:
    """A new ``axis`` of length ``num_classes``: 1 at the index that ``x`` says, else 0.

    Indices outside of ``0 ... num_classes - 1`` give zeros only.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.one_hot(np.array([0, 2, 3]), 3)
    array([[1., 0., 0.],
           [0., 0., 1.],
           [0., 0., 0.]])
    """
    x = named_array("one_hot", x)
    try:
        count = index(num_classes)
    except TypeError:
        raise TypeError(
            f"one_hot: num_classes must be an int, got {num_classes!r}{at(calling_position())}"
        ) from None
    if not isinstance(axis, int) or not -x.ndim - 1 <= axis <= x.ndim:
        raise ValueError(
            f"one_hot: axis={axis!r} is no place for a new axis in a result of "
            f"{counted(x.ndim + 1, 'axis', 'axes')}"
            f"{at(calling_position())}"
        )
    place = axis % (x.ndim + 1)
    shape = (*[1] * place, count, *[1] * (x.ndim - place))
    return np.astype(np.expand_dims(x, place) == np.arange(count).reshape(shape), np.dtype(dtype))


def _mask(function: str, where: Value | None) -> Value | None:
    """The elements that count, as a mask."""
    if where is None:
        return None
    where = named_array(function, where, "where")
    if where.dtype != bool:
        raise TypeError(
            f"{function}: where must be a mask of booleans, got dtype {where.dtype}"
            f"{at(calling_position())}\nPass a comparison such as x > 0, or where.astype(bool)."
        )
    return where


def _kept(x: Value, mask: Value | None) -> Value:
    """``x`` with 0 in the place of what does not count."""
    return x if mask is None else np.where(mask, x, 0)


def _offset(x: Value, axes: tuple[int, ...] | None, mask: Value | None) -> Value:
    """The maximum of what counts, where it is finite: subtracted, so that nothing overflows."""
    x = stop_gradient(x)
    if mask is not None:
        x = np.where(mask, x, -math.inf)
    top = np.max(x, axis=axes, keepdims=True, initial=-math.inf)
    return np.where(np.isfinite(top), top, 0)


def _log(total: Value) -> Value:
    """The logarithm, -inf of 0 without a warning: a sum of nothing is an answer, not a mistake."""
    empty = total == 0
    return np.where(empty, -math.inf, np.log(np.where(empty, 1, total)))
