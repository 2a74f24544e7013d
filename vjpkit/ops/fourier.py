"""Discrete Fourier transforms along one axis, between complex, real and half-complex arrays.

Each is linear, and the transpose of each is another one: the matrix exp(∓2πi jk / n) is symmetric.
The pairing is Re(sum(ct * t)), so transposes take no conjugates of cotangents but those that undo
a direction; the half-complex transforms count every frequency once that stands for two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, ClassVar

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import cast
from vjpkit.kinds import Linear
from vjpkit.ops.complex_numbers import conjugate
from vjpkit.ops.index import Index
from vjpkit.ops.indexing import read, scatter_sum

__all__ = ["fft", "ifft", "irfft", "rfft", "swapped"]

_X = np.array([[0.3, -1.2, 2.5, 0.8, -0.4], [1.7, 0.4, -0.6, 1.1, 0.9]])
_Z = _X * (1 + 2j) + 0.3j * _X[::-1]


def swapped(norm: str) -> str:
    """The normalization of the other direction."""
    return {"backward": "forward", "forward": "backward"}.get(norm, norm)


def fit(x: Value, axis: int, length: int) -> Value:
    """``x`` cut, or continued with zeros, to a length along an axis."""
    shape = aval_of(x).shape
    if shape[axis] == length:
        return x
    lead = (slice(None),) * axis
    if shape[axis] > length:
        return read(x, (*lead, slice(length)))
    whole = (*shape[:axis], length, *shape[axis + 1 :])
    place = Index((*lead, slice(shape[axis])))
    return scatter_sum(x, shape=whole, dtype=aval_of(x).dtype, indices=(place,))


def half(length: int) -> int:
    """How many frequencies of a real array of this length are not conjugates of others."""
    return length // 2 + 1


def counted(x: Value, axis: int, length: int, twice: float) -> Value:
    """``x`` times ``twice`` at every frequency that stands for its conjugate too."""
    aval = aval_of(x)
    weights = np.full(half(length), twice, aval.dtype)
    weights[0] = 1
    if length % 2 == 0:
        weights[-1] = 1
    return x * weights.reshape(-1, *[1] * (aval.ndim - axis - 1))


class Fourier(Linear):
    """A transform of ``x``, cut or continued with zeros to what ``length`` needs, along ``axis``.

    ``length`` is that of the signal, ``norm`` NumPy's "backward", "ortho" or "forward".
    """

    function: ClassVar[Callable[..., Any]]
    example: ClassVar[Any] = _Z

    def __init__(self) -> None:
        super().__init__()
        function = type(self).function
        self.impl = lambda x, length, axis, norm: function(x, length, axis, norm)
        self.dtype_of = cache(lambda dtype: function(np.ones(2, dtype), 2).dtype)

    def out_length(self, length: int) -> int:
        """How long the result is."""
        return length

    def abstract(self, *avals: Aval, length: int, axis: int, **params: Any) -> Aval:
        (x,) = avals
        shape = (*x.shape[:axis], self.out_length(length), *x.shape[axis + 1 :])
        return Aval(shape, self.dtype_of(x.dtype))

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Value:
        return self(*values, **{**params, "axis": params["axis"] + 1})

    def samples(self) -> Iterable[Sample]:
        operand = self.example
        for length, norm in ((5, "backward"), (4, "ortho"), (7, "forward"), (1, "backward")):
            yield Sample(operand, length=length, axis=1, norm=norm)
        yield Sample(operand, length=2, axis=0, norm="forward")
        yield Sample(operand[:0], length=5, axis=1, norm="backward")
        yield Sample(operand[0, ::-2], length=6, axis=0, norm="ortho")


class Fft(Fourier):
    """``out[j] = sum of x[k] exp(-2πi jk / n)``."""

    function = np.fft.fft

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return cast(fit(self(ct, **params), params["axis"], shape[params["axis"]]), dtype)


class Ifft(Fft):
    """``out[j] = sum of x[k] exp(2πi jk / n) / n``."""

    function = np.fft.ifft


class Rfft(Fourier):
    """The first ``n // 2 + 1`` frequencies of real numbers; the others are their conjugates."""

    function = np.fft.rfft
    example = _X

    def out_length(self, length: int) -> int:
        return half(length)

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        axis, length = params["axis"], params["length"]
        once = conjugate(counted(ct, axis, length, 0.5))
        x = irfft(once, length=length, axis=axis, norm=swapped(params["norm"]))
        return cast(fit(x, axis, shape[axis]), dtype)


class Irfft(Fourier):
    """Real numbers from the first ``n // 2 + 1`` of their frequencies."""

    function = np.fft.irfft

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        axis, length = params["axis"], params["length"]
        found = rfft(ct, length=length, axis=axis, norm=swapped(params["norm"]))
        x = conjugate(counted(found, axis, length, 2.0))
        return cast(fit(x, axis, shape[axis]), dtype)


fft, ifft, rfft, irfft = primitive(Fft), primitive(Ifft), primitive(Rfft), primitive(Irfft)
