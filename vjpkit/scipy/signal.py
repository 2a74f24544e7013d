"""`scipy.signal` on traced values: convolutions, digital filters, spectra, resampling.

Values are computed by NumPy's operations and one recursion, so that all of it is differentiable in
signals, kernels, coefficients and windows, to any order, and is staged and mapped as NumPy's
functions are. They agree with SciPy's to rounding; dtypes and errors are SciPy's. Designs of
filters and windows are SciPy's own, and refuse traced values.

>>> import numpy as np, vjpkit as vk
>>> from vjpkit.scipy import signal
>>> vk.grad(lambda x: signal.lfilter([1.0], [1.0, -0.5], x)[-1])(np.zeros(3))
array([0.25, 0.5 , 1.  ])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.core.rows import innermost
from vjpkit.core.tracer import Tracer
from vjpkit.scipy._calls import Call, known_only_in, like, value_of
from vjpkit.scipy._filters import convolved, extended, filtered, padded, steady, windows_of
from vjpkit.scipy._namespace import passing, scipy_module
from vjpkit.scipy._spectra import Segments, averaged, overlapped
from vjpkit.transforms.staged import is_abstract

__all__ = [
    "coherence",
    "convolve",
    "convolve2d",
    "correlate",
    "correlate2d",
    "csd",
    "decimate",
    "deconvolve",
    "detrend",
    "fftconvolve",
    "filtfilt",
    "find_peaks",
    "freqz",
    "hilbert",
    "hilbert2",
    "istft",
    "lfilter",
    "lfilter_zi",
    "lfiltic",
    "medfilt",
    "medfilt2d",
    "oaconvolve",
    "order_filter",
    "periodogram",
    "resample",
    "resample_poly",
    "savgol_filter",
    "sosfilt",
    "sosfilt_zi",
    "sosfiltfilt",
    "spectrogram",
    "stft",
    "upfirdn",
    "welch",
    "wiener",
]

_ours = partial(like, "signal", rehearse=True)


def _last(x: Value, axis: int) -> Value:
    """The axis put last."""
    return np.moveaxis(x, axis, -1)


def _back(x: Value, axis: int) -> Value:
    """The last axis put back."""
    return np.moveaxis(x, -1, axis)


def _refuse(call: Call, words: str, instead: str) -> None:
    raise UnsupportedError(
        f"{call.label}: {words} not supported with traced values{at(calling_position())}.\n"
        f"{instead}"
    )


# ------------------------------------------------------------------------------------- convolutions


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


@_ours()
def convolve(call: Call, in1: Value, in2: Value, mode: Any, method: Any) -> Value:
    """The convolution of two arrays of as many axes: bilinear.

    >>> import numpy as np, vjpkit as vk
    >>> vk.jacobian(convolve)(np.ones(2), np.array([1.0, 2.0]))
    array([[1., 0.],
           [2., 1.],
           [0., 2.]])
    """
    return _cut(_convolution(value_of(in1), value_of(in2), method), call)


@_ours()
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


@_ours()
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


@_ours()
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


@_ours()
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


@_ours()
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


@_ours()
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


# ------------------------------------------------------------------------------------------ filters


@_ours()
def lfilter(call: Call, b: Value, a: Value, x: Value, axis: int, zi: Any) -> Any:
    """``x`` through the filter of coefficients ``b`` and ``a``; with ``zi`` its final state too.

    The transpose in ``x`` is the filter run from the other end.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda a: lfilter([1.0], [1.0, a], np.ones(2))[-1])(0.5)
    np.float64(-1.0)
    """
    b, a, x = np.atleast_1d(value_of(b)), np.atleast_1d(value_of(a)), value_of(x)
    last = _last(x, axis)
    if zi is None:
        return _back(filtered(b, a, last, None)[0], axis)
    order = max(b.shape[0], a.shape[0]) - 1
    state = np.broadcast_to(_last(value_of(zi), axis), (*last.shape[:-1], order))
    y, zf = filtered(b, a, last, state)
    return _back(y, axis), _back(zf, axis)


@_ours()
def lfilter_zi(call: Call, b: Value, a: Value) -> Value:
    """The state in which a filter answers ones with a constant.

    >>> import numpy as np, vjpkit as vk
    >>> vk.jacobian(lambda a: lfilter_zi([1.0], [1.0, a]))(-0.5)
    array([-4.])
    """
    return steady(np.atleast_1d(value_of(b)), np.atleast_1d(value_of(a)))


@_ours()
def lfiltic(call: Call, b: Value, a: Value, y: Value, x: Any) -> Value:
    """The state of a filter after outputs ``y`` and inputs ``x``, the latest first.

    >>> import numpy as np, vjpkit as vk
    >>> vk.jacobian(lambda y: lfiltic([1.0], [1.0, -0.5], y))(np.ones(1))
    array([[0.5]])
    """
    b, a = np.atleast_1d(value_of(b)), np.atleast_1d(value_of(a))
    b, a = b / a[0], a / a[0]
    order = max(b.shape[0], a.shape[0]) - 1
    state = np.zeros(order)
    for sign, c, given in ((1, b, x), (-1, a, y)):
        n = c.shape[0] - 1
        if given is None or not n:
            continue
        past = np.atleast_1d(value_of(given))[:n]
        past = padded(past, 0, n - past.shape[0])
        parts = np.stack([np.sum(c[m + 1 :] * past[: n - m]) for m in range(n)])
        state = state + sign * padded(parts, 0, order - n)
    return state


@_ours()
def filtfilt(
    call: Call, b: Value, a: Value, x: Value, axis: int, padtype: Any, padlen: Any, method: Any
) -> Value:
    """``x`` through the filter forward and backward; ``method="gust"`` is refused.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: filtfilt([0.5, 0.5], [1.0], x, padlen=0)[1])(np.zeros(4))
    array([0.25, 0.5 , 0.25, 0.  ])
    """
    if method != "pad":
        _refuse(call, f"method={method!r} is", "Use method='pad'.")
    b, a, x = np.atleast_1d(value_of(b)), np.atleast_1d(value_of(a)), value_of(x)
    order = max(b.shape[0], a.shape[0])
    edge = 0 if padtype is None else 3 * order if padlen is None else padlen
    both = _forth_and_back(lambda y: filtered(b, a, y, steady(b, a) * y[..., :1])[0])
    return _back(both(_last(x, axis), edge, padtype), axis)


def _forth_and_back(run: Callable[[Value], Value]) -> Callable[[Value, int, Any], Value]:
    """A filter of the last axis run from both ends, over a signal that goes on at its ends."""

    def both(x: Value, edge: int, padtype: Any) -> Value:
        y = run(run(extended(x, edge, padtype))[..., ::-1])[..., ::-1]
        return y[..., edge : y.shape[-1] - edge]

    return both


def _sections(sos: Value, x: Value, states: Sequence[Any]) -> tuple[Value, list[Value]]:
    """The last axis through sections of second order, one after the other."""
    after = []
    for section, state in zip(sos, states, strict=True):
        x, last = filtered(section[:3], section[3:], x, state)
        after.append(last)
    return x, after


@_ours()
def sosfilt(call: Call, sos: Value, x: Value, axis: int, zi: Any) -> Any:
    """``x`` through sections of second order; with ``zi`` their final states too.

    >>> import numpy as np, vjpkit as vk
    >>> one = [[1.0, 0.0, 0.0, 1.0, -0.5, 0.0]]
    >>> vk.grad(lambda x: sosfilt(one, x)[-1])(np.zeros(3))
    array([0.25, 0.5 , 1.  ])
    """
    sos, x = np.atleast_2d(value_of(sos)), value_of(x)
    if zi is None:
        return _back(_sections(sos, _last(x, axis), [None] * sos.shape[0])[0], axis)
    states = [_last(state, axis) for state in value_of(zi)]
    y, after = _sections(sos, _last(x, axis), states)
    return _back(y, axis), np.stack([_back(state, axis) for state in after])


def _steady_sections(sos: Value) -> list[Value]:
    """The states in which sections answer ones with constants."""
    scale, out = 1.0, []
    for section in sos:
        b, a = section[:3], section[3:]
        out.append(scale * steady(b, a))
        scale = scale * (np.sum(b) / np.sum(a))
    return out


@_ours()
def sosfilt_zi(call: Call, sos: Value) -> Value:
    """The states in which sections of second order answer ones with constants.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda s: sosfilt_zi(s)[0, 0])(np.array([[1.0, 0.0, 0.0, 1.0, -0.5, 0.0]]))[0, :3]
    array([1., 2., 2.])
    """
    return np.stack(_steady_sections(value_of(sos)))


@_ours()
def sosfiltfilt(call: Call, sos: Value, x: Value, axis: int, padtype: Any, padlen: Any) -> Value:
    """``x`` through sections of second order forward and backward.

    How far the signal goes on at its ends by default is read off coefficients that are zero, where
    these are known.

    >>> import numpy as np, vjpkit as vk
    >>> one = [[0.5, 0.5, 0.0, 1.0, 0.0, 0.0]]
    >>> vk.grad(lambda x: sosfiltfilt(one, x, padlen=0)[1])(np.zeros(4))
    array([0.25, 0.5 , 0.25, 0.  ])
    """
    sos, x = np.atleast_2d(value_of(sos)), value_of(x)
    taps = 2 * sos.shape[0] + 1
    if padlen is None and padtype is not None:
        taps -= min(int((known_of(call, sos)[:, k] == 0).sum()) for k in (2, 5))
    edge = 0 if padtype is None else 3 * taps if padlen is None else padlen

    def run(y: Value) -> Value:
        states = [state * y[..., :1] for state in _steady_sections(sos)]
        return _sections(sos, y, states)[0]

    return _back(_forth_and_back(run)(_last(x, axis), edge, padtype), axis)


def known_of(call: Call, x: Value) -> Any:
    """The numbers of a value on which the length of something depends."""
    if is_abstract(x):
        _refuse(call, "padlen=None of coefficients that are not known is", "Say how long it is.")
    return innermost(x)


# -------------------------------------------------------------------------------------- preparation


@_ours()
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
    x = _last(x, axis)
    n = x.shape[-1]
    breaks = np.sort(np.unique(np.concatenate([[0], np.atleast_1d(bp), [n]]))).astype(int)
    parts = []
    for start, stop in pairwise(breaks.tolist()):
        n = stop - start
        lines = np.linalg.qr(np.stack([np.arange(1, n + 1) / n, np.ones(n)], axis=1))[0]
        part = x[..., start:stop]
        parts.append(part - part @ lines @ lines.T)
    return _back(np.concatenate(parts, axis=-1), axis)


@_ours()
def hilbert(call: Call, x: Value, N: Any, axis: int) -> Value:
    """The analytic signal of a real one: complex.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: np.imag(hilbert(x))[1])(np.zeros(4)).round(9) + 0.0
    array([ 0.5,  0. , -0.5,  0. ])
    """
    x = _last(value_of(x), axis)
    return _back(np.fft.ifft(np.fft.fft(x, N) * _one_sided(x.shape[-1] if N is None else N)), axis)


def _one_sided(n: int) -> Any:
    """What keeps positive frequencies alone, twice."""
    weights = np.zeros(n)
    weights[0] = 1.0
    weights[1 : (n + 1) // 2] = 2.0
    if n % 2 == 0:
        weights[n // 2] = 1.0
    return weights


@_ours()
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


@_ours()
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


@_ours()
def medfilt2d(call: Call, input: Value, kernel_size: Any) -> Value:
    """Medians of windows of an image.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: medfilt2d(x)[1, 1])(np.arange(9.0).reshape(3, 3))[1]
    array([0., 1., 0.])
    """
    return medfilt(input, kernel_size)


@_ours()
def order_filter(call: Call, a: Value, domain: Any, rank: int) -> Value:
    """In windows where ``domain`` is not zero, the element of a rank.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: order_filter(x, np.ones(3), 2)[1])(np.array([2.0, 3.0, 1.0]))
    array([0., 1., 0.])
    """
    return _ranked(value_of(a), np.asarray(domain) != 0, rank)


@_ours()
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


@_ours()
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
    size, x = window_length, _last(value_of(x), axis)
    half = size // 2
    rule = weights(size, polyorder, deriv, delta, use="dot")
    if mode != "interp":
        more: Any = {"constant_values": cval} if mode == "constant" else {}
        margins = [(0, 0)] * (x.ndim - 1) + [(size - 1 - half, half)]
        wide = np.pad(x, margins, _NP_MODES[mode], **more)
        return _back(windows_of(wide, (size,)) @ rule, axis)
    inside = windows_of(x, (size,)) @ rule
    places = [weights(size, polyorder, deriv, delta, pos=i, use="dot") for i in range(size)]
    first = x[..., :size] @ np.stack(places[:half], axis=1)
    last = x[..., -size:] @ np.stack(places[size - half :], axis=1)
    start = 1 - size % 2
    middle = inside[..., start : start + x.shape[-1] - 2 * half]
    return _back(np.concatenate([first, middle, last], axis=-1), axis)


# --------------------------------------------------------------------------------------- resampling


def _spread(h: Value, x: Value, up: int, down: int) -> Value:
    """Zeros between samples of the last axis, convolved, and every ``down``-th sample of that."""
    n = x.shape[-1]
    whole = np.reshape(padded(x[..., None], 0, up - 1), (*x.shape[:-1], n * up))
    return convolved(h, whole[..., : (n - 1) * up + 1])[..., ::down]


@_ours()
def upfirdn(
    call: Call, h: Value, x: Value, up: int, down: int, axis: int, mode: Any, cval: Any
) -> Value:
    """Upsampled, filtered and downsampled; ``mode`` must be "constant", with ``cval`` zero.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda h: upfirdn(h, np.array([1.0, 2.0]), 2)[2])(np.ones(2))
    array([2., 0.])
    """
    if mode != "constant" or cval != 0:
        _refuse(call, f"mode={mode!r} with cval={cval!r} is", "Pad the signal with np.pad.")
    return _back(_spread(value_of(h), _last(value_of(x), axis), int(up), int(down)), axis)


_MIDDLES: dict[str, Callable[..., Value]] = {
    "mean": np.mean, "median": np.median, "minimum": np.min, "maximum": np.max,
}  # fmt: skip


@_ours()
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
        _refuse(call, f"padtype={padtype!r} with cval={cval!r} is", "Use padtype='constant'.")
    x = _last(value_of(x), axis)
    common = math.gcd(int(up), int(down))
    up, down = int(up) // common, int(down) // common
    if up == down == 1:
        return _back(x, axis) * 1
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
    return _back(padded(y, 0, short)[..., start : start + count] + level, axis)


@_ours()
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
        y = _last((sosfiltfilt if zero_phase else sosfilt)(sos, x, axis=axis), axis)
        return _back(y[..., ::q], axis)
    if ftype != "fir":
        _refuse(call, "a system as ftype= is", "Filter with lfilter or sosfilt, and take a slice.")
    taps = signal.firwin((20 * q if n is None else n) + 1, 1.0 / q, window="hamming")
    if zero_phase:
        return resample_poly(x, 1, q, axis=axis, window=taps)
    y = _last(upfirdn(taps, x, 1, q, axis), axis)
    return _back(y[..., : -(-_last(value_of(x), axis).shape[-1] // q)], axis)


@_ours()
def resample(call: Call, x: Value, num: int, t: Any, axis: int, window: Any, domain: Any) -> Any:
    """Resampled to ``num`` samples by Fourier transforms; ``domain`` must be "time".

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: resample(x, 2)[0])(np.zeros(4)).round(9)
    array([ 0.75,  0.25, -0.25,  0.25])
    """
    if domain != "time":
        _refuse(call, f"domain={domain!r} is", "Pass np.fft.ifft of the signal.")
    x = _last(value_of(x), axis)
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
    out = _back(y, axis)
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


# ------------------------------------------------------------------------------------------ spectra


def _scaled(found: Value, fs: Value, power: int) -> Value:
    """Frequencies (power 1) or times (-1) that SciPy found, which go with the sampling rate."""
    if not isinstance(fs, Tracer):
        return found
    rate: Value = fs if is_abstract(fs) else fs / innermost(fs)
    return found * rate if power > 0 else found / rate


def _places(call: Call, fs: Value) -> tuple[Value, Value]:
    """The frequencies and times that SciPy found."""
    return _scaled(call.found[0], fs, 1), _scaled(call.found[1], fs, -1)


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
    x, y = _last(x, axis), _last(y, axis)
    n = max(x.shape[-1], y.shape[-1])
    s = Segments.of(window, nperseg, noverlap, nfft, n)
    onesided = onesided and not (np.iscomplexobj(x) or np.iscomplexobj(y))
    first = s.spectra(padded(x, 0, n - x.shape[-1]), _trend(trend), onesided)
    second = first if same else s.spectra(padded(y, 0, n - y.shape[-1]), _trend(trend), onesided)
    powers = np.conj(first) * second * s.scale(scaling, fs)
    if same:
        powers = np.real(powers)
    return np.moveaxis(s.doubled(powers) if onesided else powers, -1, -2)


@_ours()
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
    return _scaled(call.found[0], fs, 1), _back(averaged(powers, average), axis)


@_ours()
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


@_ours()
def periodogram(
    call: Call, x: Value, fs: Any, window: Any, nfft: Any, detrend: Any, return_onesided: bool,
    scaling: str, axis: int,
) -> tuple[Value, Value]:  # fmt: skip
    """Frequencies, and the power spectral density of a whole signal.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: periodogram(x, detrend=False)[1].sum())(np.ones(4)).round(9)
    array([2., 2., 2., 2.])
    """
    x = _last(value_of(x), axis)
    if nfft is not None and nfft < x.shape[-1]:
        x, nfft = x[..., :nfft], None
    window = "boxcar" if window is None else window
    found = welch(x, fs, window, x.shape[-1], 0, nfft, detrend, return_onesided, scaling)
    return _scaled(call.found[0], fs, 1), _back(found[1], axis)


@_ours()
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
    return _scaled(call.found[0], fs, 1), cross / welch(x, *how)[1] / welch(y, *how)[1]


@_ours()
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
    z = s.spectra(_last(x, axis), _trend(detrend), onesided) * np.sqrt(s.scale(scaling, fs))
    z = np.moveaxis(z, -1, -2)
    if mode == "magnitude":
        z = np.abs(z)
    elif mode != "complex":
        z = np.unwrap(np.angle(z)) if mode == "phase" else np.angle(z)
    return *_places(call, fs), _frequencies_at(z, axis)


def _frequencies_at(z: Value, axis: int) -> Value:
    """The last axis but one put where the axis of the signal was; the last stays."""
    return np.moveaxis(z, -2, axis - 1 if axis < 0 else axis)


@_ours()
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
    x = _last(value_of(x), axis)
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


@_ours()
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
    return _scaled(call.found[0], fs, -1), np.moveaxis(x, -1, place) if found.ndim > 1 else x


@_ours()
def freqz(
    call: Call, b: Value, a: Value, worN: Any, whole: Any, fs: Any, include_nyquist: Any
) -> tuple[Value, Value]:
    """Frequencies, and a digital filter's response at them: complex. ``b`` and ``a`` are vectors.

    >>> import numpy as np, vjpkit as vk
    >>> gain = lambda b: np.abs(freqz(b, worN=[0.0])[1])[0]
    >>> vk.grad(gain)(np.array([1.0, 2.0]))
    array([1., 1.])
    """
    b, a = np.atleast_1d(value_of(b)), np.atleast_1d(value_of(a))
    if b.ndim > 1 or a.ndim > 1:
        _refuse(call, "coefficients of more than one filter are", "Use vk.vmap.")
    given = worN is not None and np.ndim(worN) > 0
    w = value_of(worN) if given else _scaled(call.found[0], fs, 1)
    z = np.exp(-2j * np.pi * w / fs)
    above, below = (np.sum(c * z[:, None] ** np.arange(c.shape[0]), axis=-1) for c in (b, a))
    return w, above / below


# -------------------------------------------------------------------------------------------- peaks


@_ours()
def find_peaks(
    call: Call, x: Value, height: Any, threshold: Any, distance: Any, prominence: Any, width: Any,
    wlen: Any, rel_height: Any, plateau_size: Any,
) -> tuple[Any, dict[str, Any]]:  # fmt: skip
    """Where peaks are, and of their properties the integers: constants.

    Their values are ``x[peaks]``. Values that are not known have no peaks yet: it raises.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: x[find_peaks(x)[0]].sum())(np.array([0.0, 2.0, 1.0, 3.0, 0.0]))
    array([0., 1., 0., 1., 0.])
    """
    if is_abstract(x):
        _refuse(call, "peaks of values that are not known are", "Call it outside jit and vmap.")
    peaks, properties = call.found
    return peaks, {k: v for k, v in properties.items() if np.asarray(v).dtype.kind in "iub"}


_DESIGN = "Design the filter outside, or give it vk.lax.stop_gradient of what is traced."
_BY_FILTERS = "Use lfilter, sosfilt, filtfilt or sosfiltfilt, which are differentiable."
_INSTEAD = {
    **dict.fromkeys(
        ("CZT", "ShortTimeFFT", "ZoomFFT", "czt", "zoom_fft", "closest_STFT_dual_window"),
        "Use np.fft, stft or spectrogram, which are differentiable.",
    ),
    **dict.fromkeys(
        ("StateSpace", "TransferFunction", "ZerosPolesGain", "abcd_normalize", "band_stop_obj",
         "bessel", "bilinear", "bilinear_zpk", "bode", "butter", "cheby1", "cheby2",
         "cont2discrete", "dbode", "dfreqresp", "dimpulse", "dlsim", "dlti", "dstep", "ellip",
         "findfreqs", "firls", "firwin", "firwin2", "firwin_2d", "freqresp", "freqs", "freqs_zpk",
         "freqz_sos", "freqz_zpk", "gammatone", "group_delay", "iircomb", "iirdesign", "iirfilter",
         "iirnotch", "iirpeak", "impulse", "invres", "invresz", "kaiser_atten", "kaiser_beta",
         "kaiserord", "lp2bp", "lp2bp_zpk", "lp2bs", "lp2bs_zpk", "lp2hp", "lp2hp_zpk", "lp2lp",
         "lp2lp_zpk", "lsim", "lti", "minimum_phase", "normalize", "place_poles", "remez",
         "residue", "residuez", "savgol_coeffs", "sos2tf", "sos2zpk", "sosfreqz", "ss2tf",
         "ss2zpk", "step", "tf2sos", "tf2ss", "tf2zpk", "unique_roots", "zpk2sos", "zpk2ss",
         "zpk2tf", "get_window", "buttord", "cheb1ord", "cheb2ord", "ellipord"),
        _DESIGN,
    ),
    **dict.fromkeys(
        ("cspline1d", "cspline1d_eval", "cspline2d", "qspline1d", "qspline1d_eval", "qspline2d",
         "gauss_spline", "sepfir2d", "spline_filter", "symiirorder1", "symiirorder2"),
        _BY_FILTERS,
    ),
    **dict.fromkeys(
        ("chirp", "gausspulse", "sawtooth", "square", "sweep_poly", "envelope", "lombscargle",
         "vectorstrength"),
        "Write it with NumPy's functions, which are differentiable.",
    ),
    **dict.fromkeys(
        ("argrelextrema", "argrelmax", "argrelmin", "find_peaks_cwt",
         "peak_prominences", "peak_widths", "check_COLA", "check_NOLA", "choose_conv_method",
         "czt_points"),
        "What it returns is constant: give it vk.lax.stop_gradient of what is traced.",
    ),
}  # fmt: skip
"""What refuses traced values, and what to do there."""

_get, __dir__ = passing("signal", __all__)
__getattr__ = known_only_in("signal", _INSTEAD, _get)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
