"""Ufuncs that are locally constant: comparisons, rounding, tests of floating-point numbers, bits.

On traces that only carry derivatives they give plain arrays. `sign` is among them for real numbers
only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.tracer import is_tracer
from vjpkit.kinds import ConstantUfunc, PiecewiseConstant
from vjpkit.ops.complex_numbers import complex_sign

# ------------------------------------------------------------------------------------ comparisons


@primitive
class greater(ConstantUfunc):
    ufunc = np.greater


@primitive
class greater_equal(ConstantUfunc):
    ufunc = np.greater_equal


@primitive
class less(ConstantUfunc):
    ufunc = np.less


@primitive
class less_equal(ConstantUfunc):
    ufunc = np.less_equal


@primitive
class equal(ConstantUfunc):
    ufunc = np.equal


@primitive
class not_equal(ConstantUfunc):
    ufunc = np.not_equal


# ------------------------------------------------------------------------------------------ logic


@primitive
class logical_and(ConstantUfunc):
    ufunc = np.logical_and


@primitive
class logical_or(ConstantUfunc):
    ufunc = np.logical_or


@primitive
class logical_xor(ConstantUfunc):
    ufunc = np.logical_xor


@primitive
class logical_not(ConstantUfunc):
    ufunc = np.logical_not


# --------------------------------------------------------------------------------- floating point


@primitive
class isnan(ConstantUfunc):
    ufunc = np.isnan


@primitive
class isinf(ConstantUfunc):
    ufunc = np.isinf


@primitive
class isfinite(ConstantUfunc):
    ufunc = np.isfinite


@primitive
class signbit(ConstantUfunc):
    ufunc = np.signbit


@primitive
class spacing(ConstantUfunc):
    ufunc = np.spacing


@primitive
class exponent(PiecewiseConstant):
    """The ``e`` of ``x = m 2^e`` with m between a half and 1: what `numpy.frexp` gives second."""

    impl = staticmethod(lambda x: np.frexp(x)[1])

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return Aval(avals[0].shape, np.frexp.resolve_dtypes((avals[0].dtype, None, None))[2])

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool]) -> Value:
        return self(*values)

    def samples(self) -> Iterable[Sample]:
        return [
            Sample(np.array([0.3, -1.2, 40.0])),
            Sample(np.float32(0.7)),
            Sample(np.ones((0, 2))),
        ]


# --------------------------------------------------------------------------------------- rounding


@primitive
class floor(ConstantUfunc):
    ufunc = np.floor


@primitive
class ceil(ConstantUfunc):
    ufunc = np.ceil


@primitive
class trunc(ConstantUfunc):
    ufunc = np.trunc


@primitive
class rint(ConstantUfunc):
    ufunc = np.rint


@primitive
class floor_divide(ConstantUfunc):
    ufunc, operator = np.floor_divide, "//"

    def samples(self) -> Iterable[Sample]:
        x, y = np.array([0.3, -1.2, 2.5]), np.array([1.7, 0.45, -0.8])
        return Sample(x, y), Sample(x.reshape(3, 1), y), Sample(x, 0.45), Sample(2.5, y[:0])


@primitive
class sign(ConstantUfunc):
    """-1, 0 or 1; for complex numbers ``z / |z|``, which is not constant, and 0 at 0."""

    ufunc = np.sign

    def __call__(self, *xs: Value, **params: Any) -> Value:
        (z,) = xs
        if is_tracer(z) and z.dtype.kind == "c":
            return complex_sign(z)
        return super().__call__(z)


# ------------------------------------------------------------------------------------------- bits


@primitive
class bitwise_and(ConstantUfunc):
    ufunc, operator = np.bitwise_and, "&"


@primitive
class bitwise_or(ConstantUfunc):
    ufunc, operator = np.bitwise_or, "|"


@primitive
class bitwise_xor(ConstantUfunc):
    ufunc, operator = np.bitwise_xor, "^"


@primitive
class invert(ConstantUfunc):
    ufunc, operator = np.invert, "~"


@primitive
class left_shift(ConstantUfunc):
    ufunc, operator = np.left_shift, "<<"


@primitive
class right_shift(ConstantUfunc):
    ufunc, operator = np.right_shift, ">>"


@primitive
class bitwise_count(ConstantUfunc):
    ufunc = np.bitwise_count


@primitive
class gcd(ConstantUfunc):
    ufunc = np.gcd


@primitive
class lcm(ConstantUfunc):
    ufunc = np.lcm
