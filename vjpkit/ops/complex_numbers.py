"""Real part, imaginary part, conjugate: linear over the reals.

The pairing is Re(sum(ct * t)), without conjugation: the cotangent of the imaginary part comes back
times -i, since Im(t) = Re(-i t), and a conjugate comes back as the conjugate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import cast
from vjpkit.core.tracer import UFUNCS, is_tracer
from vjpkit.kinds import General, Linear, LinearMany
from vjpkit.ops import elementwise
from vjpkit.ops.structural import to_dtype

_Z = np.array([0.3 + 0.4j, -1.2 - 0.7j, 2.5 + 0.1j])


class Part(Linear):
    """A linear map of complex numbers, element by element."""

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool]) -> Value:
        return self(*values)

    def samples(self) -> Iterable[Sample]:
        return (
            Sample(_Z),
            Sample(_Z.astype("complex64").reshape(1, 3)),
            Sample(_Z[0]),
            Sample(_Z[:0]),
        )


def real_aval(x: Aval) -> Aval:
    """What the real part of ``x`` is."""
    return Aval(x.shape, np.absolute.resolve_dtypes((x.dtype, None))[1])


class Real(Part):
    impl = staticmethod(lambda z: z.real if hasattr(z, "dtype") else np.float64(z.real))

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return cast(ct, dtype)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return real_aval(avals[0])


real = primitive(Real)


class Imag(Part):
    impl = staticmethod(lambda z: z.imag if hasattr(z, "dtype") else np.float64(z.imag))

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return cast(ct * -1j, dtype)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return real_aval(avals[0])


imag = primitive(Imag)


class OfParts(LinearMany):
    """Complex numbers of their real and imaginary parts, two real arrays of one shape.

    To the bit: ``x + 1j * y`` is nan where y is infinite.
    """

    exempt = {"analytic": "its operands are real"}

    @staticmethod
    def impl(x: Value, y: Value) -> Value:
        out = np.empty(np.shape(x), complex_dtype(aval_of(x), aval_of(y)))
        out.real, out.imag = x, y
        return out[()]

    def transpose(
        self, ct: Value, avals: Sequence[Aval], live: Sequence[bool], *fixed: Value, **params: Any
    ) -> Sequence[Value | None]:
        x, y = avals
        return (
            cast(real(ct), x.dtype) if live[0] else None,
            cast(-imag(ct), y.dtype) if live[1] else None,
        )

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        x, y = avals
        if x.shape != y.shape:
            raise ValueError(f"parts of a complex number have the shapes {x.shape} and {y.shape}")
        return Aval(x.shape, complex_dtype(x, y))

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool]) -> Value:
        return self(
            *[
                v if b else np.broadcast_to(v, (n, *aval_of(v).shape))
                for v, b in zip(values, batched, strict=True)
            ]
        )

    def samples(self) -> Iterable[Sample]:
        x = np.array([[0.3, -1.2, 2.5]])
        yield Sample(x, x + 1)
        yield Sample(x.astype("f4"), x.astype("f4") ** 2)
        yield Sample(np.float64(0.3), np.float64(-0.7))
        yield Sample(x[:, :0], x[:, :0])


def complex_dtype(x: Aval, y: Aval) -> np.dtype[Any]:
    """Of numbers that have these parts."""
    return np.result_type(x.dtype, y.dtype, np.complex64)


of_parts: OfParts = primitive(OfParts)


class Conjugate(Part):
    impl = staticmethod(np.conjugate)

    def transpose(
        self, ct: Value, shape: Shape, dtype: Any, /, *fixed: Value, **params: Any
    ) -> Value:
        return conjugate(ct)

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return Aval(avals[0].shape, np.conjugate.resolve_dtypes((avals[0].dtype, None))[1])


conjugate = primitive(Conjugate)


class ComplexSign(General):
    """``z / |z|``, and 0 at 0, with the derivatives 0 there: the part of t across z, over |z|."""

    impl = staticmethod(np.sign)

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        (z,), (t,) = values, ts
        length = np.abs(z)
        across = t - out * np.real(np.conjugate(out) * t)
        return np.where(length == 0, 0, across / np.where(length == 0, 1, length))

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return avals[0].strong()

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool]) -> Value:
        return self(*values)

    def samples(self) -> Iterable[Sample]:
        return (
            Sample(_Z),
            Sample(_Z.astype("complex64").reshape(1, 3)),
            Sample(_Z[0]),
            Sample(_Z[:0]),
        )


complex_sign = primitive(ComplexSign)


def conj(z: Value) -> Value:
    """`numpy.conjugate`: a copy of real numbers; NumPy makes int8 of truth values."""
    if is_tracer(z) and z.dtype.kind != "c":
        return to_dtype(z, np.dtype(np.int8)) if z.dtype == bool else elementwise.positive(z)
    return conjugate(z)


UFUNCS[np.conjugate] = conj
