"""Spectra of segments of signals, and signals from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.scipy._calls import Call, value_of
from vjpkit.scipy._filters import extended, padded
from vjpkit.scipy._signal_calls import axis_back, axis_last, ours, scaled
from vjpkit.scipy._signal_preparation import detrend
from vjpkit.scipy._spectra import Segments, averaged, overlapped

__all__ = [
    "coherence", "csd", "istft", "periodogram", "spectrogram", "stft", "welch",
]  # fmt: skip


def _places(call: Call, fs: Value) -> tuple[Value, Value]:
    """The frequencies and times that SciPy found."""
    return scaled(call.found[0], fs, 1), scaled(call.found[1], fs, -1)


def _trend(how: Any) -> Callable[[Value], Value]:
    """What is done to segments (the last axis) before they are transformed."""
    if how is False or how is None:
        return lambda x: x
    return how if callable(how) else lambda x: detrend(x, type=how)


def _powers(
    x: Value, y: Value, fs: Any, window: Any, nperseg: Any, noverlap: Any, nfft: Any, trend: Any,
    onesided: bool, scaling: str, axis: int,
) -> Value:  # fmt: skip
    """Powers across segments, of conj(X) Y: (..., frequency, segment)."""
    same = x is y
    x, y = axis_last(x, axis), axis_last(y, axis)
    n = max(x.shape[-1], y.shape[-1])
    s = Segments.of(window, nperseg, noverlap, nfft, n)
    onesided = onesided and not (np.iscomplexobj(x) or np.iscomplexobj(y))
    first = s.spectra(padded(x, 0, n - x.shape[-1]), _trend(trend), onesided)
    second = first if same else s.spectra(padded(y, 0, n - y.shape[-1]), _trend(trend), onesided)
    powers = np.conj(first) * second * s.scale(scaling, fs)
    if same:
        powers = np.real(powers)
    return np.moveaxis(s.doubled(powers) if onesided else powers, -1, -2)


@ours()
def csd(
    call: Call, x: Value, y: Value, fs: Any, window: Any, nperseg: Any, noverlap: Any, nfft: Any,
    detrend: Any, return_onesided: bool, scaling: str, axis: int, average: str,
) -> tuple[Value, Value]:  # fmt: skip
    """Frequencies, and the cross spectral density of two signals by Welch's method.

    >>> import numpy as np, vjpkit as vk
    >>> total = lambda x: np.real(csd(x, np.ones(4), nperseg=4, detrend=False)[1]).sum()
    >>> vk.grad(total)(np.ones(4)).shape
    (4,)
    """
    same = x is y
    x = value_of(x)
    y = x if same else value_of(y)
    powers = _powers(
        x, y, fs, window, nperseg, noverlap, nfft, detrend, return_onesided, scaling, axis
    )
    return scaled(call.found[0], fs, 1), axis_back(averaged(powers, average), axis)


@ours()
def welch(
    call: Call, x: Value, fs: Any, window: Any, nperseg: Any, noverlap: Any, nfft: Any,
    detrend: Any, return_onesided: bool, scaling: str, axis: int, average: str,
) -> tuple[Value, Value]:  # fmt: skip
    """Frequencies, and the power spectral density of a signal by Welch's method.

    >>> import numpy as np, vjpkit as vk
    >>> power = lambda x: welch(x, nperseg=4, detrend=False)[1].sum()
    >>> vk.grad(power)(np.ones(4)).round(6)
    array([0.      , 1.333333, 5.333333, 1.333333])
    """
    found: tuple[Value, Value] = csd(
        x, x, fs, window, nperseg, noverlap, nfft, detrend, return_onesided, scaling, axis, average
    )
    return found


@ours()
def periodogram(
    call: Call, x: Value, fs: Any, window: Any, nfft: Any, detrend: Any, return_onesided: bool,
    scaling: str, axis: int,
) -> tuple[Value, Value]:  # fmt: skip
    """Frequencies, and the power spectral density of a whole signal.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: periodogram(x, detrend=False)[1].sum())(np.ones(4)).round(9)
    array([2., 2., 2., 2.])
    """
    x = axis_last(value_of(x), axis)
    if nfft is not None and nfft < x.shape[-1]:
        x, nfft = x[..., :nfft], None
    window = "boxcar" if window is None else window
    found = welch(x, fs, window, x.shape[-1], 0, nfft, detrend, return_onesided, scaling)
    return scaled(call.found[0], fs, 1), axis_back(found[1], axis)


@ours()
def coherence(
    call: Call, x: Value, y: Value, fs: Any, window: Any, nperseg: Any, noverlap: Any, nfft: Any,
    detrend: Any, axis: int,
) -> tuple[Value, Value]:  # fmt: skip
    """Frequencies, and the squared coherence of two signals.

    >>> import numpy as np, vjpkit as vk
    >>> x, y = np.array([1.0, 2.0, 0.0, 1.0, 3.0, 1.0]), np.arange(6.0)
    >>> vk.grad(lambda a: coherence(a * x, y, nperseg=4)[1].sum())(2.0).round(9) + 0.0
    np.float64(0.0)
    """
    how = (fs, window, nperseg, noverlap, nfft, detrend, True, "density", axis)
    cross = np.abs(csd(x, y, *how)[1]) ** 2
    return scaled(call.found[0], fs, 1), cross / welch(x, *how)[1] / welch(y, *how)[1]


@ours()
def spectrogram(
    call: Call, x: Value, fs: Any, window: Any, nperseg: Any, noverlap: Any, nfft: Any,
    detrend: Any, return_onesided: bool, scaling: str, axis: int, mode: str,
) -> tuple[Value, Value, Value]:  # fmt: skip
    """Frequencies, times, and the power of consecutive segments, or another ``mode`` of it.

    >>> import numpy as np, vjpkit as vk
    >>> power = lambda x: spectrogram(x, nperseg=2, window=np.ones(2), detrend=False)[2].sum()
    >>> vk.grad(power)(np.ones(4))
    array([2., 2., 2., 2.])
    """
    x = value_of(x)
    n = x.shape[axis]
    s = Segments.of(window, nperseg, 0, nfft, n)
    noverlap = s.length // 8 if noverlap is None else noverlap
    if mode == "psd":
        powers = _powers(
            x, x, fs, window, nperseg, noverlap, nfft, detrend, return_onesided, scaling, axis
        )
        return *_places(call, fs), _frequencies_at(powers, axis)
    s = Segments.of(window, nperseg, noverlap, nfft, n)
    onesided = return_onesided and not np.iscomplexobj(x)
    z = s.spectra(axis_last(x, axis), _trend(detrend), onesided) * np.sqrt(s.scale(scaling, fs))
    z = np.moveaxis(z, -1, -2)
    if mode == "magnitude":
        z = np.abs(z)
    elif mode != "complex":
        z = np.unwrap(np.angle(z)) if mode == "phase" else np.angle(z)
    return *_places(call, fs), _frequencies_at(z, axis)


def _frequencies_at(z: Value, axis: int) -> Value:
    """The last axis but one put where the axis of the signal was; the last stays."""
    return np.moveaxis(z, -2, axis - 1 if axis < 0 else axis)


@ours()
def stft(
    call: Call, x: Value, fs: Any, window: Any, nperseg: Any, noverlap: Any, nfft: Any,
    detrend: Any, return_onesided: bool, boundary: Any, padded: bool, axis: int, scaling: str,
) -> tuple[Value, Value, Value]:  # fmt: skip
    """Frequencies, times, and the transforms of consecutive segments: complex.

    ``boundary`` is None or "zeros", "even", "odd", "constant".

    >>> import numpy as np, vjpkit as vk
    >>> first = lambda x: np.real(stft(x, nperseg=4, window=np.ones(4), boundary=None)[2])[0, 0]
    >>> vk.grad(first)(np.ones(4))
    array([0.25, 0.25, 0.25, 0.25])
    """
    x = axis_last(value_of(x), axis)
    s = Segments.of(window, nperseg, noverlap, nfft, x.shape[-1])
    half = s.length // 2
    margins = [(0, 0)] * (x.ndim - 1)
    if boundary == "zeros":
        x = np.pad(x, [*margins, (half, half)])
    elif boundary is not None:
        x = extended(x, half, boundary)
    if padded:
        short = (-(x.shape[-1] - s.length) % s.step) % s.length
        x = np.pad(x, [*margins, (0, short)])
    onesided = return_onesided and not np.iscomplexobj(x)
    scale = np.sqrt(s.scale("density" if scaling == "psd" else scaling, fs))
    z = s.spectra(x, _trend(detrend), onesided) * scale
    return *_places(call, fs), _frequencies_at(np.moveaxis(z, -1, -2), axis)


@ours()
def istft(
    call: Call, Zxx: Value, fs: Any, window: Any, nperseg: Any, noverlap: Any, nfft: Any,
    input_onesided: bool, boundary: Any, time_axis: int, freq_axis: int, scaling: str,
) -> tuple[Value, Value]:  # fmt: skip
    """Times, and the signal of which ``Zxx`` is the transform of segments.

    >>> import numpy as np, vjpkit as vk
    >>> back = lambda x: istft(stft(x, nperseg=4)[2], nperseg=4)[1]
    >>> vk.jacobian(back)(np.ones(4)).round(9)[1] + 0.0
    array([0., 1., 0., 0.])
    """
    z = np.moveaxis(value_of(Zxx), (time_axis, freq_axis), (-2, -1))
    bins = z.shape[-1]
    default = 2 * (bins - 1) if input_onesided else bins
    length = default if nperseg is None else int(nperseg)
    if nfft is None:
        nfft = length if input_onesided and length == default + 1 else default
    overlap = length // 2 if noverlap is None else int(noverlap)
    s = Segments.of(window, length, overlap, nfft, length)
    parts = (np.fft.irfft if input_onesided else np.fft.ifft)(z, s.nfft)[..., :length]
    parts = parts / np.sqrt(s.scale("density" if scaling == "psd" else scaling, fs))
    x = overlapped(parts * s.window, s.step)
    squares = np.broadcast_to(s.window**2, (z.shape[-2], length))
    norm = overlapped(squares, s.step)
    x = x / np.where(norm > 1e-10, norm, 1.0)
    if boundary:
        x = x[..., length // 2 : x.shape[-1] - length // 2]
    found = call.found[1]
    place = time_axis % value_of(Zxx).ndim
    place -= int(freq_axis % value_of(Zxx).ndim < place)
    return scaled(call.found[0], fs, -1), np.moveaxis(x, -1, place) if found.ndim > 1 else x
