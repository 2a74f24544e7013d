"""Convolutions and correlations of signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.scipy._calls import Call, value_of
from vjpkit.scipy._filters import convolved, filtered, windows_of
from vjpkit.scipy._namespace import scipy_module
from vjpkit.scipy._signal_calls import ours

__all__ = [
    "convolve", "convolve2d", "correlate", "correlate2d", "deconvolve", "fftconvolve",
    "oaconvolve",
]  # fmt: skip


def _whole(x: Value, y: Value) -> Value:
    """The whole convolution of arrays of as many axes, by windows of the larger one."""
    if y.size > x.size:
        x, y = y, x
    before = [(n - 1, n - 1) for n in y.shape]
    turned = y[(slice(None, None, -1),) * y.ndim]
    axes = tuple(range(y.ndim))
    places = tuple(range(y.ndim, 2 * y.ndim))
    return np.tensordot(windows_of(np.pad(x, before), y.shape), turned, axes=(places, axes))


def _by_transforms(x: Value, y: Value, axes: Sequence[int]) -> Value:
    """The whole convolution along ``axes``, by Fourier transforms."""
    axes = [a for a in axes if x.shape[a] != 1 and y.shape[a] != 1]
    if not axes:
        return x * y
    is_complex = np.iscomplexobj(x) or np.iscomplexobj(y)
    sizes = [x.shape[a] + y.shape[a] - 1 for a in axes]
    fast = scipy_module("fft").next_fast_len
    lengths = [fast(n, not is_complex) for n in sizes]
    forth, back = (np.fft.fftn, np.fft.ifftn) if is_complex else (np.fft.rfftn, np.fft.irfftn)
    out: Value = back(forth(x, lengths, axes) * forth(y, lengths, axes), lengths, axes)
    for a, n in zip(axes, sizes, strict=True):
        out = np.take(out, np.arange(n), axis=a)
    return out


def _cut(out: Value, call: Call, late: bool = False) -> Value:
    """The middle of a whole convolution, of the shape that SciPy's result has.

    Where there are two places in the middle it begins with the first, or, ``late``, the second.
    """
    shape = call.found.shape
    starts = [(n - m + late) // 2 for n, m in zip(out.shape, shape, strict=True)]
    return out[tuple(slice(s, s + m) for s, m in zip(starts, shape, strict=True))]


def _convolution(x: Value, y: Value, method: str) -> Value:
    """The whole convolution along all axes."""
    if not x.ndim:
        return x * y
    if method == "auto":
        stands = [np.ones(v.shape, v.dtype) for v in (x, y)]
        method = scipy_module("signal").choose_conv_method(*stands)
    if method != "fft":
        return _whole(x, y)
    whole = _by_transforms(x, y, range(x.ndim))
    exact = np.result_type(x.dtype, y.dtype).kind not in "fc"
    return np.round(whole) if exact else whole


@ours()
def convolve(call: Call, in1: Value, in2: Value, mode: Any, method: Any) -> Value:
    """The convolution of two arrays of as many axes: bilinear.

    >>> import numpy as np, vjpkit as vk
    >>> vk.jacobian(convolve)(np.ones(2), np.array([1.0, 2.0]))
    array([[1., 0.],
           [2., 1.],
           [0., 2.]])
    """
    return _cut(_convolution(value_of(in1), value_of(in2), method), call)


@ours()
def fftconvolve(call: Call, in1: Value, in2: Value, mode: Any, axes: Any) -> Value:
    """As `convolve`, by Fourier transforms, along some ``axes``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: fftconvolve(x, np.array([1.0, 2.0]))[1])(np.ones(2)).round(9)
    array([2., 1.])
    """
    x, y = value_of(in1), value_of(in2)
    if not x.ndim:
        return x * y
    chosen = range(x.ndim) if axes is None else np.atleast_1d(axes) % x.ndim
    return _cut(_by_transforms(x, y, [int(a) for a in chosen]), call)


@ours()
def oaconvolve(call: Call, in1: Value, in2: Value, mode: Any, axes: Any) -> Value:
    """As `fftconvolve`; nothing is cut into blocks.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: oaconvolve(x, np.array([1.0, 2.0]))[1])(np.ones(2)).round(9)
    array([2., 1.])
    """
    return fftconvolve(in1, in2, mode, axes)


def _turned(y: Value) -> Value:
    """Turned round along all axes, and conjugate."""
    return np.conj(y)[(slice(None, None, -1),) * y.ndim]


@ours()
def correlate(call: Call, in1: Value, in2: Value, mode: Any, method: Any) -> Value:
    """The correlation of two arrays of as many axes: with ``in2`` conjugate.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: correlate(x, np.array([1.0, 2.0]))[1])(np.ones(2))
    array([1., 2.])
    """
    return _cut(_convolution(value_of(in1), _turned(value_of(in2)), method), call)


_MARGINS: dict[str, Any] = {
    "fill": "constant", "pad": "constant", "wrap": "wrap", "circular": "wrap",
    "symm": "symmetric", "symmetric": "symmetric",
}  # fmt: skip


def _plane(
    call: Call, x: Value, y: Value, mode: str, boundary: str, fillvalue: Value, late: bool
) -> Value:
    """A convolution in the plane; beyond its margins x goes on as ``boundary`` says."""
    if mode == "valid":
        return _cut(_whole(x, y), call)
    more: Any = {"constant_values": fillvalue} if _MARGINS[boundary] == "constant" else {}
    sides = [(n - 1, n - 1) for n in y.shape]
    wide = np.pad(x, sides, _MARGINS[boundary], **more)
    turned = y[::-1, ::-1]
    out = np.tensordot(windows_of(wide, y.shape), turned, axes=((2, 3), (0, 1)))
    return _cut(out, call, late)


@ours()
def convolve2d(
    call: Call, in1: Value, in2: Value, mode: Any, boundary: Any, fillvalue: Any
) -> Value:
    """The convolution of two matrices, with a choice of what is beyond the margins of the first.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda k: convolve2d(np.eye(2), k, mode="valid").sum())(np.ones((2, 2)))
    array([[1., 0.],
           [0., 1.]])
    """
    x, y = value_of(in1), value_of(in2)
    if mode == "valid" and x.shape[0] < y.shape[0]:
        x, y = y, x
    return _plane(call, x, y, mode, boundary, fillvalue, False)


@ours()
def correlate2d(
    call: Call, in1: Value, in2: Value, mode: Any, boundary: Any, fillvalue: Any
) -> Value:
    """The correlation of two matrices, with a choice of what is beyond the margins of the first.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda k: correlate2d(np.eye(2), k, mode="valid").sum())(np.ones((2, 2)))
    array([[1., 0.],
           [0., 1.]])
    """
    x, y = value_of(in1), value_of(in2)
    return _plane(call, x, _turned(y), mode, boundary, fillvalue, True)


@ours()
def deconvolve(call: Call, signal: Value, divisor: Value) -> tuple[Value, Value]:
    """Quotient and remainder of a division of polynomials.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: deconvolve(x, [1.0, 0.5])[0][1])(np.array([1.0, 2.0, 1.0]))
    array([-0.5,  1. ,  0. ])
    """
    num, den = np.atleast_1d(value_of(signal)), np.atleast_1d(value_of(divisor))
    if den.shape[0] > num.shape[0]:
        return np.zeros(0), num
    impulse = np.zeros(num.shape[0] - den.shape[0] + 1)
    impulse[0] = 1.0
    quotient, _ = filtered(num, den, impulse, None)
    return quotient, num - convolved(den, quotient)
