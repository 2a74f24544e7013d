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


class Greater(ConstantUfunc):
    ufunc = np.greater


greater = primitive(Greater)


class GreaterEqual(ConstantUfunc):
    ufunc = np.greater_equal


greater_equal = primitive(GreaterEqual)


class Less(ConstantUfunc):
    ufunc = np.less


less = primitive(Less)


class LessEqual(ConstantUfunc):
    ufunc = np.less_equal


less_equal = primitive(LessEqual)


class Equal(ConstantUfunc):
    ufunc = np.equal


equal = primitive(Equal)


class NotEqual(ConstantUfunc):
    ufunc = np.not_equal


not_equal = primitive(NotEqual)


# ------------------------------------------------------------------------------------------ logic


class LogicalAnd(ConstantUfunc):
    ufunc = np.logical_and


logical_and = primitive(LogicalAnd)


class LogicalOr(ConstantUfunc):
    ufunc = np.logical_or


logical_or = primitive(LogicalOr)


class LogicalXor(ConstantUfunc):
    ufunc = np.logical_xor


logical_xor = primitive(LogicalXor)


class LogicalNot(ConstantUfunc):
    ufunc = np.logical_not


logical_not = primitive(LogicalNot)


# --------------------------------------------------------------------------------- floating point


class Isnan(ConstantUfunc):
    ufunc = np.isnan


isnan = primitive(Isnan)


class Isinf(ConstantUfunc):
    ufunc = np.isinf


isinf = primitive(Isinf)


class Isfinite(ConstantUfunc):
    ufunc = np.isfinite


isfinite = primitive(Isfinite)


class Signbit(ConstantUfunc):
    ufunc = np.signbit


signbit = primitive(Signbit)


class Spacing(ConstantUfunc):
    ufunc = np.spacing


spacing = primitive(Spacing)


class Exponent(PiecewiseConstant):
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


exponent = primitive(Exponent)


# --------------------------------------------------------------------------------------- rounding


class Floor(ConstantUfunc):
    ufunc = np.floor


floor = primitive(Floor)


class Ceil(ConstantUfunc):
    ufunc = np.ceil


ceil = primitive(Ceil)


class Trunc(ConstantUfunc):
    ufunc = np.trunc


trunc = primitive(Trunc)


class Rint(ConstantUfunc):
    ufunc = np.rint


rint = primitive(Rint)


class FloorDivide(ConstantUfunc):
    ufunc, operator = np.floor_divide, "//"

    def samples(self) -> Iterable[Sample]:
        x, y = np.array([0.3, -1.2, 2.5]), np.array([1.7, 0.45, -0.8])
        return Sample(x, y), Sample(x.reshape(3, 1), y), Sample(x, 0.45), Sample(2.5, y[:0])


floor_divide = primitive(FloorDivide)


class Sign(ConstantUfunc):
    """-1, 0 or 1; for complex numbers ``z / |z|``, which is not constant, and 0 at 0."""

    ufunc = np.sign

    def __call__(self, *xs: Value, **params: Any) -> Value:
        (z,) = xs
        if is_tracer(z) and z.dtype.kind == "c":
            return complex_sign(z)
        return super().__call__(z)


sign = primitive(Sign)


# ------------------------------------------------------------------------------------------- bits


class BitwiseAnd(ConstantUfunc):
    ufunc, operator = np.bitwise_and, "&"


bitwise_and = primitive(BitwiseAnd)


class BitwiseOr(ConstantUfunc):
    ufunc, operator = np.bitwise_or, "|"


bitwise_or = primitive(BitwiseOr)


class BitwiseXor(ConstantUfunc):
    ufunc, operator = np.bitwise_xor, "^"


bitwise_xor = primitive(BitwiseXor)


class Invert(ConstantUfunc):
    ufunc, operator = np.invert, "~"


invert = primitive(Invert)


class LeftShift(ConstantUfunc):
    ufunc, operator = np.left_shift, "<<"


left_shift = primitive(LeftShift)


class RightShift(ConstantUfunc):
    ufunc, operator = np.right_shift, ">>"


right_shift = primitive(RightShift)


class BitwiseCount(ConstantUfunc):
    ufunc = np.bitwise_count


bitwise_count = primitive(BitwiseCount)


class Gcd(ConstantUfunc):
    ufunc = np.gcd


gcd = primitive(Gcd)


class Lcm(ConstantUfunc):
    ufunc = np.lcm


lcm = primitive(Lcm)
