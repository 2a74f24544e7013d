"""Spectra of windowed segments, and signals made of such."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.scipy._calls import value_of
from vjpkit.scipy._filters import windows_of
from vjpkit.scipy._namespace import scipy_module

__all__ = ["Segments", "averaged", "overlapped"]


@dataclass(frozen=True)
class Segments:
    """How a signal of a length is cut into segments, and what they are multiplied by."""

    window: Value
    step: int
    nfft: int

    @classmethod
    def of(cls, window: Any, nperseg: Any, noverlap: Any, nfft: Any, length: int) -> Segments:
        """As SciPy reads these arguments, which it has checked."""
        if isinstance(window, str | tuple):
            nperseg = min(256 if nperseg is None else int(nperseg), length)
            win: Value = scipy_module("signal").get_window(window, nperseg)
        else:
            win = value_of(window)
            nperseg = win.shape[0]
        noverlap = nperseg // 2 if noverlap is None else int(noverlap)
        return cls(win, nperseg - noverlap, nperseg if nfft is None else int(nfft))

    @property
    def length(self) -> int:
        return int(self.window.shape[0])

    def spectra(self, x: Value, detrended: Callable[[Value], Value], onesided: bool) -> Value:
        """Fourier transforms of segments of the last axis: (..., segment, frequency)."""
        parts = windows_of(x, (self.length,))[..., :: self.step, :]
        parts = detrended(parts) * self.window
        return (np.fft.rfft if onesided else np.fft.fft)(parts, self.nfft)

    def doubled(self, p: Value) -> Value:
        """Powers with those of negative frequencies, which are not computed, added to them."""
        n = p.shape[-1]
        weights = np.full(n, 2.0)
        weights[0] = 1.0
        if self.nfft % 2 == 0:
            weights[-1] = 1.0
        return p * weights

    def scale(self, scaling: str, fs: Any) -> Value:
        """What makes densities or squares of amplitudes of squares of transforms."""
        if scaling == "density":
            return 1.0 / (fs * np.sum(self.window * self.window))
        return 1.0 / np.sum(self.window) ** 2


def averaged(p: Value, how: str) -> Value:
    """The mean or the median of segments (the last axis), free of bias for noise."""
    n = p.shape[-1]
    if how == "mean":
        return np.mean(p, axis=-1)
    pairs = 2.0 * np.arange(1, (n - 1) // 2 + 1)
    bias = 1.0 + np.sum(1.0 / (pairs + 1.0) - 1.0 / pairs)
    if np.iscomplexobj(p):
        return (np.median(np.real(p), axis=-1) + 1j * np.median(np.imag(p), axis=-1)) / bias
    return np.median(p, axis=-1) / bias


def overlapped(parts: Value, step: int) -> Value:
    """The sum of segments (..., segment, sample), each ``step`` samples after the one before."""
    count, length = parts.shape[-2:]
    total = (count - 1) * step + length
    margins = [(0, 0)] * (parts.ndim - 2)
    out = None
    for i in range(count):
        start = i * step
        piece = np.pad(parts[..., i, :], [*margins, (start, total - start - length)])
        out = piece if out is None else out + piece
    return out
