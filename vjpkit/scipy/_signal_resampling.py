"""Signals at other places."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.scipy._calls import Call, value_of
from vjpkit.scipy._filters import convolved, padded
from vjpkit.scipy._namespace import scipy_module
from vjpkit.scipy._signal_calls import axis_back, axis_last, ours, refuse
from vjpkit.scipy._signal_filters import sosfilt, sosfiltfilt

__all__ = [
    "decimate", "resample", "resample_poly", "upfirdn",
]  # fmt: skip


def _spread(h: Value, x: Value, up: int, down: int) -> Value:
    """Zeros between samples of the last axis, convolved, and every ``down``-th sample of that."""
    n = x.shape[-1]
    whole = np.reshape(padded(x[..., None], 0, up - 1), (*x.shape[:-1], n * up))
    return convolved(h, whole[..., : (n - 1) * up + 1])[..., ::down]


@ours()
def upfirdn(
    call: Call, h: Value, x: Value, up: int, down: int, axis: int, mode: Any, cval: Any
) -> Value:
    """Upsampled, filtered and downsampled; ``mode`` must be "constant", with ``cval`` zero.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda h: upfirdn(h, np.array([1.0, 2.0]), 2)[2])(np.ones(2))
    array([2., 0.])
    """
    if mode != "constant" or cval != 0:
        refuse(call, f"mode={mode!r} with cval={cval!r} is", "Pad the signal with np.pad.")
    return axis_back(_spread(value_of(h), axis_last(value_of(x), axis), int(up), int(down)), axis)


_MIDDLES: dict[str, Callable[..., Value]] = {
    "mean": np.mean, "median": np.median, "minimum": np.min, "maximum": np.max,
}  # fmt: skip


@ours()
def resample_poly(
    call: Call, x: Value, up: Any, down: Any, axis: int, window: Any, padtype: Any, cval: Any
) -> Value:
    """Resampled by a ratio, by a filter between upsampling and downsampling.

    ``padtype`` is "constant" (with ``cval`` zero), "mean", "median", "minimum" or "maximum".

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: resample_poly(x, 2, 1)[2])(np.zeros(3)).round(2)
    array([0., 1., 0.])
    """
    if padtype not in ("constant", *_MIDDLES) or cval not in (None, 0):
        refuse(call, f"padtype={padtype!r} with cval={cval!r} is", "Use padtype='constant'.")
    x = axis_last(value_of(x), axis)
    common = math.gcd(int(up), int(down))
    up, down = int(up) // common, int(down) // common
    if up == down == 1:
        return axis_back(x, axis) * 1
    largest = max(up, down)
    if isinstance(window, str | tuple):
        half = 10 * largest
        h: Value = scipy_module("signal").firwin(2 * half + 1, 1.0 / largest, window=window)
    else:
        h = value_of(window)
        half = (h.shape[0] - 1) // 2
    before = down - half % down
    start, count = (half + before) // down, -(-x.shape[-1] * up // down)
    level = _MIDDLES[padtype](x, axis=-1, keepdims=True) if padtype in _MIDDLES else 0.0
    y = _spread(padded(h * up, before, 0), x - level, up, down)
    short = max(0, start + count - y.shape[-1])
    return axis_back(padded(y, 0, short)[..., start : start + count] + level, axis)


@ours()
def decimate(
    call: Call, x: Value, q: int, n: Any, ftype: Any, axis: int, zero_phase: bool
) -> Value:
    """Every ``q``-th sample of a filtered signal; ``ftype`` is "iir" or "fir".

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: decimate(x, 2, 2, "fir", zero_phase=False)[1])(np.zeros(4)).round(3)
    array([0.046, 0.908, 0.046, 0.   ])
    """
    signal = scipy_module("signal")
    if ftype == "iir":
        sos = signal.cheby1(8 if n is None else n, 0.05, 0.8 / q, output="sos")
        y = axis_last((sosfiltfilt if zero_phase else sosfilt)(sos, x, axis=axis), axis)
        return axis_back(y[..., ::q], axis)
    if ftype != "fir":
        refuse(call, "a system as ftype= is", "Filter with lfilter or sosfilt, and take a slice.")
    taps = signal.firwin((20 * q if n is None else n) + 1, 1.0 / q, window="hamming")
    if zero_phase:
        return resample_poly(x, 1, q, axis=axis, window=taps)
    y = axis_last(upfirdn(taps, x, 1, q, axis), axis)
    return axis_back(y[..., : -(-axis_last(value_of(x), axis).shape[-1] // q)], axis)


@ours()
def resample(call: Call, x: Value, num: int, t: Any, axis: int, window: Any, domain: Any) -> Any:
    """Resampled to ``num`` samples by Fourier transforms; ``domain`` must be "time".

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: resample(x, 2)[0])(np.zeros(4)).round(9)
    array([ 0.75,  0.25, -0.25,  0.25])
    """
    if domain != "time":
        refuse(call, f"domain={domain!r} is", "Pass np.fft.ifft of the signal.")
    x = axis_last(value_of(x), axis)
    n = x.shape[-1]
    weights = _weights_of(window, n)
    real = not np.iscomplexobj(x)
    spectrum = np.fft.rfft(x) if real else np.fft.fft(x)
    if weights is not None:
        if real:  # the real part of the window is even
            turned = (weights + np.roll(weights[::-1], 1)) / 2
            weights = turned[: spectrum.shape[-1]]
        spectrum = spectrum * weights
    least = min(num, n)
    half = least // 2 + 1
    if real:
        kept = spectrum[..., :half]
        if least % 2 == 0 and num != n:
            edge = np.ones(half)
            edge[-1] = 2.0 if num < n else 0.5
            kept = kept * edge
        y = np.fft.irfft(kept, num) * (num / n)
    else:
        kept = _complex_kept(spectrum, least, num, n)
        y = np.fft.ifft(kept) * (num / n)
    out = axis_back(y, axis)
    if t is None:
        return out
    t = value_of(t)
    return out, t[0] + (t[1] - t[0]) * (n / num) * np.arange(num)


def _complex_kept(spectrum: Value, least: int, num: int, n: int) -> Value:
    """The frequencies that a resampled complex signal has."""
    half = (least + 1) // 2
    low, high = spectrum[..., :half], spectrum[..., n - (least - half) :]
    middle: list[Value] = []
    if least % 2 == 0:
        half_way = spectrum[..., least // 2 : least // 2 + 1]
        high = high[..., 1:]
        if num < n:
            middle = [half_way + spectrum[..., n - least // 2 : n - least // 2 + 1]]
        elif num == n:
            middle = [half_way]
        else:
            gap = np.zeros((*spectrum.shape[:-1], num - least - 1))
            return np.concatenate([low, half_way / 2, gap, half_way / 2, high], axis=-1)
    elif num > n:
        middle = [np.zeros((*spectrum.shape[:-1], num - least))]
    return np.concatenate([low, *middle, high], axis=-1)


def _weights_of(window: Any, n: int) -> Any:
    """What a spectrum is multiplied by, in the order of `numpy.fft.fftfreq`."""
    if window is None:
        return None
    if callable(window):
        return window(np.fft.fftfreq(n))
    if isinstance(window, str | tuple):
        return np.fft.fftshift(scipy_module("signal").get_window(window, n))
    return value_of(window)
