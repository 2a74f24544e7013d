"""Fourier transforms under JAX's name."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import at, calling_position, counted
from vjpkit.lax._arguments import floating, integers

__all__ = ["FftType", "fft"]


class FftType(enum.IntEnum):
    """Which transform `fft` makes."""

    FFT = 0
    IFFT = 1
    RFFT = 2
    IRFFT = 3


_TRANSFORMS: dict[FftType, Callable[..., Value]] = {
    FftType.FFT: np.fft.fftn,
    FftType.IFFT: np.fft.ifftn,
    FftType.RFFT: np.fft.rfftn,
    FftType.IRFFT: np.fft.irfftn,
}


def fft(x: Value, fft_type: FftType | str, fft_lengths: Sequence[int]) -> Value:
    """The Fourier transform of ``fft_type`` along the last ``len(fft_lengths)`` axes.

    ``fft_lengths`` are the lengths of what is transformed (of the result, for ``"IRFFT"``).
    `ValueError` for lengths that are not the operand's.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.fft(np.array([1.0, 0.0, 0.0]), "RFFT", (3,))
    array([1.+0.j, 1.+0.j])
    """
    try:
        kind = FftType[fft_type.upper()] if isinstance(fft_type, str) else FftType(fft_type)
    except (KeyError, ValueError):
        raise ValueError(
            f"fft: fft_type must be FFT, IFFT, RFFT or IRFFT, got {fft_type!r}"
            f"{at(calling_position())}"
        ) from None
    x = floating("fft", x)
    lengths = integers("fft", "fft_lengths", fft_lengths)
    count = len(lengths)
    if count > x.ndim:
        raise ValueError(
            f"fft: {counted(count, 'length')} for an array of "
            f"{counted(x.ndim, 'axis', 'axes')}{at(calling_position())}"
        )
    if kind is FftType.RFFT and x.dtype.kind == "c":
        raise TypeError(
            f"fft: RFFT takes real numbers, got {x.dtype}{at(calling_position())}\nUse FFT."
        )
    if not count:
        return x
    wanted = lengths if kind is not FftType.IRFFT else (*lengths[:-1], lengths[-1] // 2 + 1)
    if x.shape[x.ndim - count :] != wanted:
        raise ValueError(
            f"fft: lengths {lengths} want the last axes to be {wanted}, got the shape {x.shape}"
            f"{at(calling_position())}\nPad or cut first."
        )
    return _TRANSFORMS[kind](x, lengths, tuple(range(x.ndim - count, x.ndim)))
