"""Elementwise functions under JAX's names, with JAX's demands: one dtype, one shape.

Each is NumPy's function; what NumPy would promote or broadcast is an error that says how to do it
explicitly. Python's numbers fit any operand.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from operator import index
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import at, calling_position
from vjpkit.lax._arguments import array, floating, operands
from vjpkit.numpy._arguments import scalar
from vjpkit.ops import scipy_errors, scipy_gamma, structural
from vjpkit.ops.complex_numbers import of_parts

__all__ = [
    "RoundingMethod", "abs", "acos", "acosh", "add", "asin", "asinh", "atan", "atan2", "atanh",
    "bessel_i0e", "bessel_i1e", "betainc", "bitwise_and", "bitwise_not", "bitwise_or",
    "bitwise_xor", "cbrt", "ceil", "clamp", "complex", "conj", "convert_element_type", "cos",
    "cosh", "digamma", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge",
    "gt", "igamma", "igammac", "imag", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p",
    "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "polygamma",
    "population_count", "pow", "real", "reciprocal", "rem", "round", "rsqrt", "select_n",
    "shift_left", "shift_right_arithmetic", "shift_right_logical", "sign", "sin", "sinh", "sqrt",
    "square", "sub", "tan", "tanh", "zeta",
]  # fmt: skip

Function = Callable[..., Value]


def _named(function: Function, name: str, text: str) -> Function:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{text}, element by element."
    return function


def _unary(name: str, numpy: Function, text: str, whole: bool = True) -> Function:
    """A function of one array; of floating-point numbers alone unless ``whole``."""
    read = array if whole else floating
    return _named(lambda x: numpy(read(name, x, "x")), name, text)


def _binary(name: str, numpy: Function, text: str) -> Function:
    """A function of two arrays of one dtype and shape."""
    return _named(lambda x, y: numpy(*operands(name, x, y)), name, text)


# One name a line: JAX's, NumPy's function, what it says.
abs = _unary("abs", np.absolute, "The absolute value; its derivative at 0 is 0")
neg = _unary("neg", np.negative, "-x")
sign = _unary("sign", np.sign, "-1, 0 or 1; x/|x| of complex numbers")
ceil = _unary("ceil", np.ceil, "The least whole number that is not less", whole=False)
floor = _unary("floor", np.floor, "The greatest whole number that is not greater", whole=False)
is_finite = _unary("is_finite", np.isfinite, "Whether it is neither inf nor nan", whole=False)
square = _unary("square", np.square, "x²")
sqrt = _unary("sqrt", np.sqrt, "The square root", whole=False)
rsqrt = _unary("rsqrt", lambda x: 1 / np.sqrt(x), "1 / sqrt(x)", whole=False)
cbrt = _unary("cbrt", np.cbrt, "The cube root", whole=False)
reciprocal = _unary("reciprocal", np.reciprocal, "1 / x", whole=False)
exp = _unary("exp", np.exp, "e to the power of x", whole=False)
exp2 = _unary("exp2", np.exp2, "2 to the power of x", whole=False)
expm1 = _unary("expm1", np.expm1, "exp(x) - 1 without cancellation", whole=False)
log = _unary("log", np.log, "The natural logarithm", whole=False)
log1p = _unary("log1p", np.log1p, "log(1 + x) without cancellation", whole=False)
sin = _unary("sin", np.sin, "The sine", whole=False)
cos = _unary("cos", np.cos, "The cosine", whole=False)
tan = _unary("tan", np.tan, "The tangent", whole=False)
asin = _unary("asin", np.arcsin, "The inverse of the sine", whole=False)
acos = _unary("acos", np.arccos, "The inverse of the cosine", whole=False)
atan = _unary("atan", np.arctan, "The inverse of the tangent", whole=False)
sinh = _unary("sinh", np.sinh, "The hyperbolic sine", whole=False)
cosh = _unary("cosh", np.cosh, "The hyperbolic cosine", whole=False)
tanh = _unary("tanh", np.tanh, "The hyperbolic tangent", whole=False)
asinh = _unary("asinh", np.arcsinh, "The inverse of the hyperbolic sine", whole=False)
acosh = _unary("acosh", np.arccosh, "The inverse of the hyperbolic cosine", whole=False)
atanh = _unary("atanh", np.arctanh, "The inverse of the hyperbolic tangent", whole=False)
erf = _unary("erf", scipy_errors.erf, "The error function, by SciPy", whole=False)
erfc = _unary("erfc", scipy_errors.erfc, "1 - erf(x) without cancellation, by SciPy", whole=False)
erf_inv = _unary("erf_inv", scipy_errors.erf_inv, "The inverse of erf, by SciPy", whole=False)
lgamma = _unary("lgamma", scipy_gamma.lgamma, "log |gamma(x)|, by SciPy", whole=False)
real = _unary("real", np.real, "The real part")
imag = _unary("imag", np.imag, "The imaginary part")
conj = _unary("conj", np.conjugate, "The complex conjugate")
bitwise_not = _unary("bitwise_not", np.invert, "All bits inverted; not, of booleans")
population_count = _unary("population_count", np.bitwise_count, "How many bits are set")

add = _binary("add", np.add, "x + y")
sub = _binary("sub", np.subtract, "x - y")
mul = _binary("mul", np.multiply, "x * y")
max = _binary("max", np.maximum, "The greater of two; where they are equal each has half the slope")
min = _binary("min", np.minimum, "The smaller of two; where they are equal each has half the slope")
rem = _binary("rem", np.fmod, "The remainder of division, with the sign of x")
atan2 = _binary("atan2", np.arctan2, "The angle of the point (y, x), first argument upwards")
nextafter = _binary("nextafter", np.nextafter, "The number next to x in the direction of y")
eq = _binary("eq", np.equal, "x == y")
ne = _binary("ne", np.not_equal, "x != y")
lt = _binary("lt", np.less, "x < y")
le = _binary("le", np.less_equal, "x <= y")
gt = _binary("gt", np.greater, "x > y")
ge = _binary("ge", np.greater_equal, "x >= y")
bitwise_and = _binary("bitwise_and", np.bitwise_and, "The bits set in both; and, of booleans")
bitwise_or = _binary("bitwise_or", np.bitwise_or, "The bits set in either; or, of booleans")
bitwise_xor = _binary("bitwise_xor", np.bitwise_xor, "The bits set in one of two")
shift_left = _binary("shift_left", np.left_shift, "x * 2**y of integers")
shift_right_arithmetic = _binary(
    "shift_right_arithmetic", np.right_shift, "x // 2**y of integers, which keeps the sign"
)


def div(x: Value, y: Value) -> Value:
    """x / y; of integers the quotient without its fraction.

    >>> import vjpkit as vk
    >>> vk.lax.div(1.0, 4.0), int(vk.lax.div(-7, 2))
    (0.25, -3)
    """
    x, y = operands("div", x, y)
    if np.result_type(x, y).kind not in "biu":
        return x / y
    whole = np.floor_divide(x, y)
    return np.where((whole < 0) & (whole * y != x), whole + 1, whole)


def shift_right_logical(x: Value, y: Value) -> Value:
    """The bits of integers moved to the right, zeros in their place.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.shift_right_logical(np.array([-1], np.int8), np.int8(4))
    array([15], dtype=int8)
    """
    x, y = (array("shift_right_logical", v) for v in operands("shift_right_logical", x, y))
    dtype = x.dtype
    if dtype.kind != "i":
        return np.right_shift(x, y)
    unsigned = np.dtype(f"u{dtype.name}")
    return np.astype(np.right_shift(np.astype(x, unsigned), np.astype(y, unsigned)), dtype)


def pow(x: Value, y: Value) -> Value:
    """x to the power of y; y may be an integer where x is not.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.pow(np.array([2.0, 3.0]), 3)
    array([ 8., 27.])
    """
    if type(y) in (int, float):
        return array("pow", x, "x") ** y
    y = array("pow", y, "y")
    if y.dtype.kind in "iu":
        x = array("pow", x, "x")
        if y.shape not in ((), x.shape):
            operands("pow", np.zeros(x.shape), np.zeros(y.shape))
        return np.power(x, y)
    return np.power(*operands("pow", x, y))


def integer_pow(x: Value, y: int) -> Value:
    """x to the power of a Python int.

    >>> import vjpkit as vk
    >>> vk.grad(lambda x: vk.lax.integer_pow(x, 3))(2.0)
    np.float64(12.0)
    """
    if not isinstance(y, int):
        raise TypeError(
            f"integer_pow: y must be a Python int, got {type(y).__name__}{at(calling_position())}\n"
            "Use pow for other exponents."
        )
    return array("integer_pow", x, "x") ** y


def logistic(x: Value) -> Value:
    """``1 / (1 + exp(-x))``, exact to rounding on both sides of 0.

    Written with ``exp(-|x|)``, which cannot overflow, to any order of derivatives.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.logistic(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    x = floating("logistic", x)
    positive = np.real(x) >= 0 if x.dtype.kind == "c" else x >= 0
    e = np.exp(np.where(positive, -x, x))
    return np.where(positive, 1, e) / (1 + e)


def polygamma(m: int, x: Value) -> Value:
    """The m-th derivative of `digamma`, by SciPy; m is a Python int.

    >>> import vjpkit as vk
    >>> vk.lax.polygamma(1, 1.0).round(6)
    np.float64(1.644934)
    """
    try:
        order = index(m)
    except TypeError:
        order = -1
    if order < 0:
        raise TypeError(
            f"polygamma: m must be a non-negative int, got {m!r}{at(calling_position())}"
        )
    return scipy_gamma.polygamma(floating("polygamma", x), order=order)


def digamma(x: Value) -> Value:
    """The derivative of `lgamma`, by SciPy.

    >>> import vjpkit as vk
    >>> vk.lax.digamma(1.0).round(6)
    np.float64(-0.577216)
    """
    return scipy_gamma.polygamma(floating("digamma", x), order=0)


def _by_scipy(name: str, *xs: Value) -> Value:
    """A ufunc of SciPy's, which must be installed, of operands of one dtype and shape."""
    from scipy import special

    return getattr(special, name)(*xs)


def igamma(a: Value, x: Value) -> Value:
    """The regularized lower incomplete gamma function P(a, x), by SciPy; differentiable in both.

    >>> import vjpkit as vk
    >>> vk.lax.igamma(2.0, 1.0).round(6)
    np.float64(0.264241)
    """
    a, x = [floating("igamma", v, "ax"[i]) for i, v in enumerate(operands("igamma", a, x))]
    return _by_scipy("gammainc", a, x)


def igammac(a: Value, x: Value) -> Value:
    """The regularized upper incomplete gamma function Q(a, x) = 1 - P(a, x), by SciPy.

    >>> import vjpkit as vk
    >>> vk.lax.igammac(2.0, 1.0).round(6)
    np.float64(0.735759)
    """
    a, x = [floating("igammac", v, "ax"[i]) for i, v in enumerate(operands("igammac", a, x))]
    return _by_scipy("gammaincc", a, x)


def betainc(a: Value, b: Value, x: Value) -> Value:
    """The regularized incomplete beta function, by SciPy; differentiable in all three.

    >>> import vjpkit as vk
    >>> vk.lax.betainc(2.0, 3.0, 0.5).round(6)
    np.float64(0.6875)
    """
    given = operands("betainc", a, b, x)
    return _by_scipy("betainc", *[floating("betainc", v, "abx"[i]) for i, v in enumerate(given)])


def zeta(x: Value, q: Value) -> Value:
    """The Hurwitz zeta function, the sum of (q + k)⁻ˣ, by SciPy; differentiable in q.

    >>> import vjpkit as vk
    >>> vk.lax.zeta(2.0, 1.0).round(6)
    np.float64(1.644934)
    """
    x, q = [floating("zeta", v, "xq"[i]) for i, v in enumerate(operands("zeta", x, q))]
    return scipy_gamma.hurwitz_zeta(x, q)


def bessel_i0e(x: Value) -> Value:
    """The modified Bessel function of order 0 times exp(-|x|), by SciPy.

    >>> import vjpkit as vk
    >>> vk.lax.bessel_i0e(1.0).round(6)
    np.float64(0.46576)
    """
    return _by_scipy("i0e", floating("bessel_i0e", x))


def bessel_i1e(x: Value) -> Value:
    """The modified Bessel function of order 1 times exp(-|x|), by SciPy.

    >>> import vjpkit as vk
    >>> vk.lax.bessel_i1e(1.0).round(6)
    np.float64(0.20791)
    """
    return _by_scipy("i1e", floating("bessel_i1e", x))


class RoundingMethod(enum.IntEnum):
    """What `round` does with halves."""

    AWAY_FROM_ZERO = 0
    TO_NEAREST_EVEN = 1


def round(x: Value, rounding_method: RoundingMethod = RoundingMethod.AWAY_FROM_ZERO) -> Value:
    """The nearest whole number; halves go away from zero, or to the even one.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.round(np.array([0.5, 1.5, -2.5]))
    array([ 1.,  2., -3.])
    >>> vk.lax.round(np.array([0.5, 1.5, -2.5]), vk.lax.RoundingMethod.TO_NEAREST_EVEN)
    array([ 0.,  2., -2.])
    """
    x = floating("round", x)
    if RoundingMethod(rounding_method) is RoundingMethod.TO_NEAREST_EVEN:
        return np.rint(x)
    whole = np.trunc(x)
    return whole + np.where(np.absolute(x - whole) >= 0.5, np.sign(x), 0)


def complex(real: Value, imag: Value) -> Value:
    """A complex number from its real and imaginary parts.

    >>> import vjpkit as vk
    >>> vk.lax.complex(1.0, 2.0)
    np.complex128(1+2j)
    """
    x, y = operands("complex", real, imag)
    x, y = floating("complex", x, "real"), floating("complex", y, "imag")
    return of_parts(*np.broadcast_arrays(x, y))


def convert_element_type(operand: Value, new_dtype: Any = None) -> Value:
    """``operand`` in another dtype (float64 for None); complex to real takes the real part.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.convert_element_type(np.array([1.7, -1.7]), np.int32)
    array([ 1, -1], dtype=int32)
    """
    x = array("convert_element_type", operand)
    return structural.to_dtype(x, np.dtype(np.float64 if new_dtype is None else new_dtype))


def clamp(min: Value, x: Value, max: Value) -> Value:
    """``x`` between ``min`` and ``max``, which are scalars or of its shape.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.clamp(0.0, np.array([-1.0, 0.5, 2.0]), 1.0)
    array([0. , 0.5, 1. ])
    """
    low, y, high = operands("clamp", min, x, max)
    return np.clip(y, low, high)


def select_n(which: Value, *cases: Value) -> Value:
    """``cases[which]``, element by element: of two cases by booleans, of more by numbers.

    >>> import numpy as np, vjpkit as vk
    >>> vk.lax.select_n(np.array([2, 0]), np.zeros(2), np.ones(2), np.full(2, 5.0))
    array([5., 0.])
    """
    which = array("select_n", which, "which")
    if not cases:
        raise ValueError(f"select_n: there are no cases to select from{at(calling_position())}")
    xs = [array("select_n", case, f"case {i}") for i, case in enumerate(cases)]
    shapes, dtypes = {x.shape for x in xs}, {x.dtype for x in xs}
    if len(shapes) > 1 or len(dtypes) > 1 or which.shape not in ((), xs[0].shape):
        avals = ", ".join(f"{x.dtype}{list(x.shape)}" for x in xs)
        raise TypeError(
            f"select_n: which has the shape {which.shape}, the cases are {avals}"
            f"{at(calling_position())}\n"
            "The cases must have one shape and dtype, and which that shape or ()."
        )
    if which.dtype.kind not in "biu" or (which.dtype == bool and len(xs) > 2):
        raise TypeError(
            f"select_n: which has dtype {which.dtype} for {len(xs)} cases{at(calling_position())}\n"
            "Two cases are selected by booleans, more by integers."
        )
    out = xs[0]
    for number, x in enumerate(xs[1:], start=1):
        chosen = which if which.dtype == bool else which >= number
        out = np.where(chosen, x, out)
    return scalar(out)
