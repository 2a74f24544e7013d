"""Trends, envelopes, and filters that rank or smooth."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.scipy._calls import Call, value_of
from vjpkit.scipy._filters import windows_of
from vjpkit.scipy._namespace import scipy_module
from vjpkit.scipy._signal_calls import axis_back, axis_last, ours
from vjpkit.scipy._signal_convolutions import correlate

__all__ = [
    "detrend", "hilbert", "hilbert2", "medfilt", "medfilt2d", "order_filter", "savgol_filter",
    "wiener",
]  # fmt: skip


@ours()
def detrend(call: Call, data: Value, axis: int, type: Any, bp: Any, overwrite_data: Any) -> Value:
    """``data`` less its mean, or less straight lines between the breakpoints ``bp``.

    ``overwrite_data`` is ignored: traced values are not written to.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: detrend(x, type="constant")[0])(np.zeros(4))
    array([ 0.75, -0.25, -0.25, -0.25])
    """
    x = value_of(data)
    if type in ("constant", "c"):
        return x - np.mean(x, axis, keepdims=True)
    x = axis_last(x, axis)
    n = x.shape[-1]
    breaks = np.sort(np.unique(np.concatenate([[0], np.atleast_1d(bp), [n]]))).astype(int)
    parts = []
    for start, stop in pairwise(breaks.tolist()):
        n = stop - start
        lines = np.linalg.qr(np.stack([np.arange(1, n + 1) / n, np.ones(n)], axis=1))[0]
        part = x[..., start:stop]
        parts.append(part - part @ lines @ lines.T)
    return axis_back(np.concatenate(parts, axis=-1), axis)


@ours()
def hilbert(call: Call, x: Value, N: Any, axis: int) -> Value:
    """The analytic signal of a real one: complex.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: np.imag(hilbert(x))[1])(np.zeros(4)).round(9) + 0.0
    array([ 0.5,  0. , -0.5,  0. ])
    """
    x = axis_last(value_of(x), axis)
    return axis_back(
        np.fft.ifft(np.fft.fft(x, N) * _one_sided(x.shape[-1] if N is None else N)), axis
    )


def _one_sided(n: int) -> Any:
    """What keeps positive frequencies alone, twice."""
    weights = np.zeros(n)
    weights[0] = 1.0
    weights[1 : (n + 1) // 2] = 2.0
    if n % 2 == 0:
        weights[n // 2] = 1.0
    return weights


@ours()
def hilbert2(call: Call, x: Value, N: Any, axes: Any = (-2, -1)) -> Value:
    """The analytic signal of a real image: complex.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: np.real(hilbert2(x))[0, 0])(np.zeros((2, 2)))
    array([[0.25, 0.25],
           [0.25, 0.25]])
    """
    x = np.moveaxis(np.atleast_2d(value_of(x)), axes, (-2, -1))
    sizes = x.shape[-2:] if N is None else (N, N) if isinstance(N, int) else tuple(N)
    columns, rows = (_half(n) for n in sizes)
    whole = np.fft.fft2(x, sizes) * columns[:, None] * rows
    return np.moveaxis(np.fft.ifft2(whole), (-2, -1), axes)


def _half(n: int) -> Any:
    """What keeps the first half of frequencies, all but the first twice."""
    weights = np.zeros(n)
    weights[: (n + 1) // 2] = 2.0
    weights[0] = 1.0
    return weights


def _ranked(x: Value, domain: Any, rank: int) -> Value:
    """In windows where ``domain`` is true, the element of a rank; zeros beyond the margins."""
    margins = [(n // 2, n // 2) for n in domain.shape]
    parts = windows_of(np.pad(x, margins), domain.shape)
    chosen = np.reshape(parts, (*x.shape, domain.size))[..., np.flatnonzero(domain)]
    return np.sort(chosen, axis=-1)[..., rank]


@ours()
def medfilt(call: Call, volume: Value, kernel_size: Any) -> Value:
    """Medians of windows: the derivative is that of the element that is chosen.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: medfilt(x)[1])(np.array([2.0, 3.0, 1.0]))
    array([1., 0., 0.])
    """
    x = np.atleast_1d(value_of(volume))
    size = np.broadcast_to(3 if kernel_size is None else np.asarray(kernel_size), x.ndim)
    domain = np.ones(tuple(map(int, size)), bool)
    return _ranked(x, domain, domain.size // 2)


@ours()
def medfilt2d(call: Call, input: Value, kernel_size: Any) -> Value:
    """Medians of windows of an image.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: medfilt2d(x)[1, 1])(np.arange(9.0).reshape(3, 3))[1]
    array([0., 1., 0.])
    """
    return medfilt(input, kernel_size)


@ours()
def order_filter(call: Call, a: Value, domain: Any, rank: int) -> Value:
    """In windows where ``domain`` is not zero, the element of a rank.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: order_filter(x, np.ones(3), 2)[1])(np.array([2.0, 3.0, 1.0]))
    array([0., 1., 0.])
    """
    return _ranked(value_of(a), np.asarray(domain) != 0, rank)


@ours()
def wiener(call: Call, im: Value, mysize: Any, noise: Any) -> Value:
    """Wiener's filter of an array.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: wiener(x, 3, 9.0)[1])(np.array([1.0, 2.0, 4.0])).round(6)
    array([0.333333, 0.333333, 0.333333])
    """
    x = value_of(im)
    sizes = np.broadcast_to(3 if mysize is None else np.asarray(mysize), x.ndim)
    kernel = np.ones(tuple(map(int, sizes)))
    mean = correlate(x, kernel, "same") / kernel.size
    variance = correlate(x * x, kernel, "same") / kernel.size - mean * mean
    noise = np.mean(variance) if noise is None else value_of(noise)
    sharp = (x - mean) * (1 - noise / variance) + mean
    return np.where(variance < noise, mean, sharp)


_NP_MODES: dict[str, Any] = {
    "mirror": "reflect",
    "nearest": "edge",
    "wrap": "wrap",
    "constant": "constant",
}


@ours()
def savgol_filter(
    call: Call, x: Value, window_length: int, polyorder: int, deriv: int, delta: Any, axis: int,
    mode: str, cval: Any,
) -> Value:  # fmt: skip
    """Values, or derivatives, of polynomials fitted to windows.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: savgol_filter(x, 3, 1)[1])(np.zeros(4)).round(9) * 3
    array([1., 1., 1., 0.])
    """
    weights = scipy_module("signal").savgol_coeffs
    size, x = window_length, axis_last(value_of(x), axis)
    half = size // 2
    rule = weights(size, polyorder, deriv, delta, use="dot")
    if mode != "interp":
        more: Any = {"constant_values": cval} if mode == "constant" else {}
        margins = [(0, 0)] * (x.ndim - 1) + [(size - 1 - half, half)]
        wide = np.pad(x, margins, _NP_MODES[mode], **more)
        return axis_back(windows_of(wide, (size,)) @ rule, axis)
    inside = windows_of(x, (size,)) @ rule
    places = [weights(size, polyorder, deriv, delta, pos=i, use="dot") for i in range(size)]
    first = x[..., :size] @ np.stack(places[:half], axis=1)
    last = x[..., -size:] @ np.stack(places[size - half :], axis=1)
    start = 1 - size % 2
    middle = inside[..., start : start + x.shape[-1] - 2 * half]
    return axis_back(np.concatenate([first, middle, last], axis=-1), axis)
