"""`numpy.fft` on traced values: NumPy's signatures and errors over transforms along one axis."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import UnsupportedError, at, calling_position
from vjpkit.numpy._arguments import as_array, axis_number, normalize_axis
from vjpkit.numpy._dispatch import implements
from vjpkit.numpy._writing import delivered, delivers
from vjpkit.ops import fourier

__all__: list[str] = []


def _normalization(norm: Any) -> str:
    """``norm`` as one of three words, or NumPy's error."""
    if norm is None:
        return "backward"
    if norm not in ("backward", "ortho", "forward"):
        raise ValueError(f'Invalid norm value {norm}; should be "backward", "ortho" or "forward".')
    return str(norm)


def _along(primitive: Any, a: Value, n: Any, axis: Any, norm: Any) -> Value:
    """A transform of ``a``, by default as long as the operand tells."""
    x = as_array(a)
    axis = index(axis)
    if n is None:
        n = x.shape[axis] if primitive is not fourier.irfft else (x.shape[axis] - 1) * 2
    n = index(n) if primitive is fourier.rfft else axis_number(n)  # as NumPy takes them
    if n < 1:
        raise ValueError(f"Invalid number of FFT data points ({n}) specified.")
    norm = _normalization(norm)
    return primitive(x, length=n, axis=normalize_axis(axis, x.ndim), norm=norm)


# ---- along one axis ----------------------------------------------------------------------------


@implements(np.fft.fft)
@delivers
def fft(a: Value, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Value:
    return _along(fourier.fft, a, n, axis, norm)


@implements(np.fft.ifft)
@delivers
def ifft(a: Value, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Value:
    return _along(fourier.ifft, a, n, axis, norm)


@implements(np.fft.rfft)
@delivers
def rfft(a: Value, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Value:
    return _along(fourier.rfft, a, n, axis, norm)


@implements(np.fft.irfft)
@delivers
def irfft(a: Value, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Value:
    return _along(fourier.irfft, a, n, axis, norm)


def _require_out(numpys: Any, out: Any, dtype: type) -> None:
    """Raise where NumPy takes an ``out`` and does not write to it, as 2.4 does in three places."""
    if out is None:
        return
    probe: Value = np.full((2, 2), np.nan, dtype)
    numpys(np.ones((2, 2)), out=probe)
    if np.isnan(probe).all():
        name = f"np.fft.{numpys.__name__}"
        raise UnsupportedError(
            f"{name}: NumPy {np.__version__} does not write to out={at(calling_position())}\n"
            f"Write out[...] = {name}(...), or use the result."
        )


@implements(np.fft.hfft)
@delivers
def hfft(a: Value, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Value:
    """The real spectrum of a signal that is its own conjugate backwards: `irfft`, unscaled."""
    _require_out(np.fft.hfft, out, float)
    other = fourier.swapped(_normalization(norm))
    return _along(fourier.irfft, np.conjugate(as_array(a)), n, axis, other)


@implements(np.fft.ihfft)
@delivers
def ihfft(a: Value, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Value:
    return np.conjugate(_along(fourier.rfft, a, n, axis, fourier.swapped(_normalization(norm))))


# ---- along several -----------------------------------------------------------------------------


def _sizes(a: Value, s: Any, axes: Any, half: bool = False) -> tuple[Value, list[tuple[Any, Any]]]:
    """The operand, and the length along each axis; as NumPy reads ``s=`` and ``axes=``."""
    x = as_array(a)
    lengths = list(x.shape) if s is None else list(s)
    if axes is None:
        if s is not None:
            warnings.warn(
                "`axes` should not be `None` if `s` is not `None` (Deprecated in NumPy 2.0).",
                DeprecationWarning,
                stacklevel=4,
            )
        axes = range(-len(lengths), 0)
    elif s is None:
        lengths = [x.shape[axis] for axis in axes]
    axes = list(axes)
    if len(lengths) != len(axes):
        raise ValueError("Shape and axes have different lengths.")
    if half and s is None:
        lengths[-1] = (x.shape[axes[-1]] - 1) * 2
    if None in lengths:
        warnings.warn(
            "Passing an array containing `None` values to `s` is deprecated in NumPy 2.0.",
            DeprecationWarning,
            stacklevel=4,
        )
    return x, [(x.shape[k] if n == -1 else n, k) for n, k in zip(lengths, axes, strict=True)]


def _one_by_one(
    name: str, primitive: Any, x: Value, sizes: Sequence[tuple[Any, Any]], norm: Any, out: Any
) -> Value:
    """The transform along each of the axes; NumPy writes what each gives to ``out``."""
    for n, axis in sizes:
        x = _along(primitive, x, n, axis, norm)
        x = x if out is None else delivered(name, x, out)
    return x


def _complex(primitive: Any, numpys: Any, by_default: Any) -> None:
    """Define a transform over several axes, between complex arrays."""
    name = f"fft.{numpys.__name__}"

    @implements(numpys)
    def several(
        a: Value, s: Any = None, axes: Any = by_default, norm: Any = None, out: Any = None
    ) -> Value:
        _require_out(numpys, out, complex)
        x, sizes = _sizes(a, s, axes)
        return _one_by_one(name, primitive, x, sizes[::-1], norm, out)


_PLANE = (-2, -1)
_complex(fourier.fft, np.fft.fftn, None)
_complex(fourier.fft, np.fft.fft2, _PLANE)
_complex(fourier.ifft, np.fft.ifftn, None)
_complex(fourier.ifft, np.fft.ifft2, _PLANE)


@implements(np.fft.rfftn)
def rfftn(a: Value, s: Any = None, axes: Any = None, norm: Any = None, out: Any = None) -> Value:
    x, sizes = _sizes(a, s, axes)
    x = _one_by_one("fft.rfftn", fourier.rfft, x, sizes[-1:], norm, out)
    return _one_by_one("fft.rfftn", fourier.fft, x, sizes[-2::-1], norm, out)


@implements(np.fft.rfft2)
def rfft2(a: Value, s: Any = None, axes: Any = _PLANE, norm: Any = None, out: Any = None) -> Value:
    return rfftn(a, s, axes, norm, out)


@implements(np.fft.irfftn)
def irfftn(a: Value, s: Any = None, axes: Any = None, norm: Any = None, out: Any = None) -> Value:
    x, sizes = _sizes(a, s, axes, half=True)
    x = _one_by_one("fft.irfftn", fourier.ifft, x, sizes[:-1], norm, None)
    return _one_by_one("fft.irfftn", fourier.irfft, x, sizes[-1:], norm, out)


@implements(np.fft.irfft2)
def irfft2(a: Value, s: Any = None, axes: Any = _PLANE, norm: Any = None, out: Any = None) -> Value:
    _require_out(np.fft.irfft2, out, float)
    return irfftn(a, s, axes, norm, out)


# ---- shifts ------------------------------------------------------------------------------------


def _shifted(x: Value, axes: Any, sign: int) -> Value:
    """``x`` rolled by half its length along the axes."""
    x = as_array(x)
    if axes is None:
        axes = tuple(range(x.ndim))
    if isinstance(axes, int | np.integer):
        return np.roll(x, sign * (x.shape[axes] // 2), axes)
    return np.roll(x, [sign * (x.shape[axis] // 2) for axis in axes], axes)


@implements(np.fft.fftshift)
def fftshift(x: Value, axes: Any = None) -> Value:
    return _shifted(x, axes, 1)


@implements(np.fft.ifftshift)
def ifftshift(x: Value, axes: Any = None) -> Value:
    # The shift is minus half the length rounded down: it undoes fftshift for odd lengths too.
    return _shifted(x, axes, -1)
