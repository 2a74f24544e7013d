"""Elementwise primitives: a ufunc and its partial derivatives, one class each.

The parameter names of a partial (``x``, ``y`` operands, ``out`` the result) say what a row keeps.
Constants are Python numbers, which do not decide the dtype. At a kink the partial is the one in the
middle (0 for ``abs`` at 0, a half each for a tie in ``maximum``), to every order.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.rows import annihilate, has_nan, innermost, plain_product, roles
from vjpkit.core.tracer import is_tracer
from vjpkit.kinds import Elementwise, General, solved_terms
from vjpkit.ops.structural import to_dtype

_X = np.array([0.3, -1.2, 2.5])
_Y = np.array([1.7, 0.4, -0.6])
_DIVISORS = np.array([1.7, 0.45, -0.8])
_POSITIVE = np.array([0.2, 1.3, 4.0])
_FRACTION = np.array([0.3, -0.8, 0.05])
_COMPLEX = np.array([0.3 + 0.4j, -1.2 - 0.7j, 2.5 + 0.1j])
_OTHER_COMPLEX = np.array([0.9 - 0.3j, -1.4 + 0.2j, 1.1 + 0.6j])
_NUMBERS = (int, float, complex, bool)

_LN2 = math.log(2)
_LN10 = math.log(10)
_DEGREE = math.pi / 180


def _unary(x: Value, *more: Value) -> list[Sample]:
    """A vector, a matrix without elements, a scalar, and whatever else is given."""
    return [Sample(x), Sample(x.reshape(1, 3)[:0]), Sample(x[0]), *map(Sample, more)]


def _binary(x: Value, y: Value, *more: Sequence[Value]) -> list[Sample]:
    """Vectors, both ways of broadcasting, numbers on either side, and whatever else is given."""
    return [
        Sample(x, y),
        Sample(x.reshape(3, 1), y),
        Sample(x, y.reshape(3, 1)),
        Sample(x, float(y[0])),
        Sample(float(x[0]), y),
        Sample(x[0], y[:0]),
        *[Sample(*pair) for pair in more],
    ]


def _inverse(x: Value) -> Value:
    """``1 / x``, also where ``x`` is Python's zero, which would raise."""
    if type(x) in _NUMBERS and x == 0:
        return math.copysign(math.inf, x.real)
    return 1 / x


def _slope(x: Value) -> Value:
    """``1 / x`` in the derivative of a function of NumPy's, to which Python's numbers are NumPy's.

    So nothing is raised at zero, however many transforms trace the number.
    """
    return _inverse(_strong(x) if is_tracer(x) else x)


def _widened(x: Value, y: Value) -> tuple[Value, Value]:
    """Both in the dtype that they have together, so that no partial is coarser than the result."""
    if aval_of(x).weak or aval_of(y).weak:
        return x, y
    dtype = np.result_type(x.dtype, y.dtype)
    if dtype.kind not in "fc":
        return x, y
    return to_dtype(x, dtype), to_dtype(y, dtype)


def _strong(x: Value) -> Value:
    """A Python number as NumPy's scalar, which decides promotion."""
    return to_dtype(x, x.dtype)


roles["strong"] = _strong

# ------------------------------------------------------------------------------------- arithmetic


class Add(Elementwise):
    ufunc, operator = np.add, "+"
    partials = 1, 1
    linear = ((1, 1),)

    def samples(self) -> Iterable[Sample]:
        return _binary(_X, _Y, (_COMPLEX, _X))


add = primitive(Add)


class Subtract(Elementwise):
    ufunc, operator = np.subtract, "-"
    partials = 1, -1
    linear = ((1, 1),)

    def samples(self) -> Iterable[Sample]:
        return _binary(_X, _Y, (_X, _COMPLEX))


subtract = primitive(Subtract)


class Multiply(Elementwise):
    ufunc, operator = np.multiply, "*"
    partials = "y", "x"
    linear = (1, 0), (0, 1)

    def samples(self) -> Iterable[Sample]:
        return _binary(_X, _Y, (_COMPLEX, _X), (_COMPLEX, _OTHER_COMPLEX))


multiply = primitive(Multiply)


def quotient(t: Value, y: Value, product: Any) -> Value:
    """``t / y`` in one division, in the finer dtype of the two; 0 / 0 as ``product`` has it."""
    if product is plain_product or (type(y) in _NUMBERS and y != 0):
        return t / y
    given, below = innermost(t), innermost(y)
    if not is_tracer(given) and not is_tracer(below):
        out = t / y
        if not has_nan(innermost(out)):
            return out
    elif type(y) not in _NUMBERS:
        tame = not is_tracer(below) and bool(np.isfinite(below).all() and np.all(below))
        return t / y if tame else roles["divide"](t, y)
    if type(y) not in _NUMBERS:
        seen = y.dtype.type(0).item() if aval_of(y).weak else y.dtype
        y = to_dtype(y, np.result_type(aval_of(t).dtype, seen))
    return annihilate(t, _inverse(y))


class Divide(Elementwise):
    ufunc, operator = np.divide, "/"
    partials = quotient, (lambda y, out: -out / y)
    linear = ((1, 0),)

    def taylor(self, values: Sequence[Value], series: Sequence[Any], out: Value) -> Any:
        """From u = v y."""
        divided = lambda rest: quotient(rest, values[1], annihilate)  # noqa: E731
        return solved_terms(series, out, annihilate, divided)

    def samples(self) -> Iterable[Sample]:
        return _binary(_X, _Y, (_COMPLEX, _X), (_X, _COMPLEX))


divide = primitive(Divide)


class Negative(Elementwise):
    ufunc, operator = np.negative, "u-"
    partials = (-1,)
    linear = ((1,),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X, _COMPLEX)


negative = primitive(Negative)


class Positive(Elementwise):
    ufunc, operator = np.positive, "u+"
    partials = (1,)
    linear = ((1,),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X, _COMPLEX)


positive = primitive(Positive)


class Reciprocal(Elementwise):
    ufunc = np.reciprocal
    partials = ((lambda out: -out * out),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X, _COMPLEX)


reciprocal = primitive(Reciprocal)


class Remainder(Elementwise):
    """``x - floor(x / y) * y``; the floor is locally constant."""

    ufunc, operator = np.remainder, "%"
    partials = 1, (lambda x, y: -(x // y))

    def samples(self) -> Iterable[Sample]:
        return _binary(_X, _DIVISORS)


remainder = primitive(Remainder)


class Fraction(General):
    """``x - trunc(x)`` with the sign of x: what `numpy.modf` gives first."""

    impl = staticmethod(lambda x: np.modf(x)[0])

    def jvp(
        self, values: Sequence[Value], ts: Sequence[Value | None], out: Value, **params: Any
    ) -> Any:
        return ts[0]

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return Aval(avals[0].shape, np.modf.resolve_dtypes((avals[0].dtype, None, None))[1])

    def batch(self, n: int, values: Sequence[Value], batched: Sequence[bool]) -> Value:
        return self(*values)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X)


fraction = primitive(Fraction)


class Fmod(Elementwise):
    """``x - trunc(x / y) * y``; the quotient is the whole number nearest to ``(x - out) / y``."""

    ufunc = np.fmod
    partials = 1, (lambda x, y, out: -np.rint((x - out) / y))

    def samples(self) -> Iterable[Sample]:
        return _binary(_X, _DIVISORS)


fmod = primitive(Fmod)


# ------------------------------------------------------------------------------------------ powers


def _power_x(x: Value, y: Value) -> Value:
    """``y x^(y-1)``, and 0 where both are 0."""
    if type(y) in _NUMBERS:
        return _number_power_x(x, y)
    x, y = _widened(x, y)
    return y * np.where((x == 0) & (y == 0), 1, x) ** (y - 1)


def _number_power_x(x: Value, y: complex) -> Value:
    """The same for Python's numbers as exponents; the usual ones without a call of pow."""
    if y == 0 or y == 1:
        return y
    if y == 2:
        return 2 * x
    if type(x) in _NUMBERS:
        return y * _power_of_numbers(x, y - 1)
    if y == 3:
        return 3 * (x * x)
    if y == 0.5:
        return 0.5 / np.sqrt(x)
    if y == -1:
        return -1 / (x * x)
    return y * x ** (y - 1)


def _power_of_numbers(x: complex, y: complex) -> Any:
    """``x ** y`` of Python's numbers, with infinity where Python raises."""
    try:
        return x**y
    except (ZeroDivisionError, OverflowError):
        return math.inf


def _power_y(x: Value, out: Value) -> Value:
    """``x^y log x``, and 0 where x is 0."""
    dtype = aval_of(out).dtype
    if type(x) in _NUMBERS:
        return out * (_log_of_number(x, dtype.kind == "c") if x != 0 else 0)
    x = to_dtype(x, dtype)
    return out * np.log(np.where(x == 0, 1, x))


def _log_of_number(x: Any, is_complex: bool) -> Any:
    if is_complex:
        return cmath.log(x)
    return math.log(x) if x > 0 else math.nan


# Before NumPy 2.2 the dtype of ``x ** y`` depends on the value of a NumPy number y (2, 0.5, ...).
_UNSOUND: tuple[type, ...] = ()
if (np.ones(1, np.float32) ** np.array(2)).dtype == np.float32:
    _UNSOUND = (np.generic, np.ndarray)


def _raised(x: Value, y: Value) -> Value:
    """``x ** y``; as the ufunc for masks, whose square has a dtype of its own."""
    as_ufunc = aval_of(x).dtype == bool or isinstance(y, _UNSOUND)
    return np.power(x, y) if as_ufunc else x**y


class Power(Elementwise):
    """``x ** y``; ``x ** 0`` has the derivative 0, ``x ** 1`` the derivative 1, at 0 too."""

    ufunc, operator = np.power, "**"
    partials = _power_x, _power_y

    def __init__(self) -> None:
        super().__init__()
        self.impl = _raised

    def samples(self) -> Iterable[Sample]:
        numbers: list[Any] = [(_X, n) for n in (0, 1, 2, 3, 4, -1, -2)]
        numbers += [(_POSITIVE, y) for y in (0.5, -0.5, 1.5, 2.0)]
        integers = np.array([2, 0, 3])
        more = (_X, integers), (_COMPLEX, 2), (_COMPLEX, _X), (_X, _COMPLEX), (_COMPLEX, _COMPLEX)
        return _binary(_POSITIVE, _Y, *numbers, *more)

    def composed(self, x: Value, y: Value) -> Value:
        """``exp(y log x)`` where the exponent moves and x is known to be positive."""
        if not is_tracer(y) or not _is_positive(innermost(x)):
            return NotImplemented
        return np.exp(y * np.log(x))


power = primitive(Power)


def _is_positive(x: Value) -> bool:
    """Whether every element is known to be a positive real number."""
    return not is_tracer(x) and aval_of(x).dtype.kind == "f" and bool(np.all(x > 0))


class Square(Elementwise):
    ufunc = np.square
    partials = ((lambda x: 2 * x),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X, _COMPLEX)


square = primitive(Square)


class Sqrt(Elementwise):
    ufunc = np.sqrt
    partials = ((lambda out: 0.5 / out),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_POSITIVE, _COMPLEX)


sqrt = primitive(Sqrt)


class Cbrt(Elementwise):
    ufunc = np.cbrt
    partials = ((lambda out: 1 / (3 * (out * out))),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X)


cbrt = primitive(Cbrt)


class Hypot(Elementwise):
    """``sqrt(x^2 + y^2)``; at the origin the derivatives are 0, to every order."""

    ufunc = np.hypot
    partials = (lambda x, out: _direction(x, out)), (lambda y, out: _direction(y, out))

    def samples(self) -> Iterable[Sample]:
        return _binary(_X, _Y)


hypot = primitive(Hypot)


def _direction(x: Value, length: Value) -> Value:
    """``x / length``, and 0 where the length is 0."""
    origin = length == 0
    if not is_tracer(origin) and not origin.any():
        return x / length
    return np.where(origin, 0, x / np.where(origin, 1, length))


# --------------------------------------------------------------------- exponentials and logarithms


class Exp(Elementwise):
    ufunc = np.exp
    partials = ("out",)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X, _COMPLEX)


exp = primitive(Exp)


class Exp2(Elementwise):
    ufunc = np.exp2
    partials = ((lambda out: out * _LN2),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X, _COMPLEX)


exp2 = primitive(Exp2)


class Expm1(Elementwise):
    """``exp(x) - 1``; the derivative is not ``out + 1``, which cancels for negative x."""

    ufunc = np.expm1
    partials = ((lambda x: np.exp(x)),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X, _COMPLEX)


expm1 = primitive(Expm1)


class Log(Elementwise):
    ufunc = np.log
    partials = ((lambda x: _slope(x)),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_POSITIVE, _COMPLEX)


log = primitive(Log)


class Log2(Elementwise):
    ufunc = np.log2
    partials = ((lambda x: _slope(x * _LN2)),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_POSITIVE, _COMPLEX)


log2 = primitive(Log2)


class Log10(Elementwise):
    ufunc = np.log10
    partials = ((lambda x: _slope(x * _LN10)),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_POSITIVE, _COMPLEX)


log10 = primitive(Log10)


class Log1p(Elementwise):
    ufunc = np.log1p
    partials = ((lambda x: _slope(1 + x)),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_POSITIVE, _COMPLEX)


log1p = primitive(Log1p)


def _share(x: Value, y: Value, grow: Any) -> Value:
    """``grow(x) / (grow(x) + grow(y))``: a half each where both are the same infinity."""
    difference = y - x
    below = innermost(difference)
    if is_tracer(below) or has_nan(below):
        difference = np.where((difference != difference) & (x == y), 0, difference)
    return 1 / (1 + grow(difference))


class Logaddexp(Elementwise):
    ufunc = np.logaddexp
    partials = (lambda x, y: _share(x, y, np.exp)), (lambda x, y: _share(y, x, np.exp))

    def samples(self) -> Iterable[Sample]:
        return _binary(_X, _Y)


logaddexp = primitive(Logaddexp)


class Logaddexp2(Elementwise):
    ufunc = np.logaddexp2
    partials = (lambda x, y: _share(x, y, np.exp2)), (lambda x, y: _share(y, x, np.exp2))

    def samples(self) -> Iterable[Sample]:
        return _binary(_X, _Y)


logaddexp2 = primitive(Logaddexp2)


# --------------------------------------------------------------------------------- trigonometric


class Sin(Elementwise):
    ufunc = np.sin
    partials = ((lambda x: np.cos(x)),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X, _COMPLEX)


sin = primitive(Sin)


class Cos(Elementwise):
    ufunc = np.cos
    partials = ((lambda x: -np.sin(x)),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X, _COMPLEX)


cos = primitive(Cos)


class Tan(Elementwise):
    ufunc = np.tan
    partials = ((lambda out: 1 + out * out),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X, _COMPLEX)


tan = primitive(Tan)


class Arcsin(Elementwise):
    ufunc = np.arcsin
    partials = ((lambda x: 1 / _width_in_circle(x)),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_FRACTION, _COMPLEX)


arcsin = primitive(Arcsin)


class Arccos(Elementwise):
    ufunc = np.arccos
    partials = ((lambda x: -1 / _width_in_circle(x)),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_FRACTION, _COMPLEX)


arccos = primitive(Arccos)


def _width_in_circle(x: Value) -> Value:
    """``sqrt(1 - x^2)``, on its branch cut on the side that a zero imaginary part's sign says.

    Adding a number to a complex one loses that sign, subtracting one does not.
    """
    if aval_of(x).dtype.kind == "c":
        return np.sqrt(-(x - 1) * (x - -1))
    return np.sqrt((1 - x) * (1 + x))


class Arctan(Elementwise):
    ufunc = np.arctan
    partials = ((lambda x: 1 / (1 + x * x)),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X, _COMPLEX)


arctan = primitive(Arctan)


class Arctan2(Elementwise):
    """The angle of (y, x), here called ``x`` and ``y`` in NumPy's order of arguments."""

    ufunc = np.arctan2
    partials = (lambda x, y: _turn(y, x)), (lambda x, y: -_turn(x, y))

    def samples(self) -> Iterable[Sample]:
        return _binary(_X, _Y)


arctan2 = primitive(Arctan2)


def _turn(x: Value, y: Value) -> Value:
    """``x / (x^2 + y^2)``, without overflow."""
    length = np.hypot(x, y)
    return (x / length) / length


class Degrees(Elementwise):
    ufunc = np.degrees
    partials = (1 / _DEGREE,)
    linear = ((1,),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X)


degrees = primitive(Degrees)


class Radians(Elementwise):
    ufunc = np.radians
    partials = (_DEGREE,)
    linear = ((1,),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X)


radians = primitive(Radians)


class Rad2deg(Elementwise):
    ufunc = np.rad2deg
    partials = (1 / _DEGREE,)
    linear = ((1,),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X)


rad2deg = primitive(Rad2deg)


class Deg2rad(Elementwise):
    ufunc = np.deg2rad
    partials = (_DEGREE,)
    linear = ((1,),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X)


deg2rad = primitive(Deg2rad)


# ------------------------------------------------------------------------------------- hyperbolic


class Sinh(Elementwise):
    ufunc = np.sinh
    partials = ((lambda x: np.cosh(x)),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X, _COMPLEX)


sinh = primitive(Sinh)


class Cosh(Elementwise):
    ufunc = np.cosh
    partials = ((lambda x: np.sinh(x)),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X, _COMPLEX)


cosh = primitive(Cosh)


class Tanh(Elementwise):
    ufunc = np.tanh
    partials = ((lambda out: 1 - out * out),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X, _COMPLEX)


tanh = primitive(Tanh)


class Arcsinh(Elementwise):
    ufunc = np.arcsinh
    partials = ((lambda x: 1 / _length_with_one(x)),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X, _COMPLEX)


arcsinh = primitive(Arcsinh)


def _length_with_one(x: Value) -> Value:
    """``sqrt(1 + x^2)``, for real x without overflow, for complex x on its side of the cut."""
    return np.sqrt(x * x - -1) if aval_of(x).dtype.kind == "c" else np.hypot(x, 1.0)


class Arccosh(Elementwise):
    """Two square roots: the branch cut of their product is that of arccosh."""

    ufunc = np.arccosh
    partials = ((lambda x: 1 / (np.sqrt(x - 1) * np.sqrt(x - -1))),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_POSITIVE + 1, _COMPLEX)


arccosh = primitive(Arccosh)


class Arctanh(Elementwise):
    ufunc = np.arctanh
    partials = ((lambda x: _slope((1 - x) * (1 + x))),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_FRACTION, _COMPLEX)


arctanh = primitive(Arctanh)


# ------------------------------------------------------------------------------- magnitude and sign


class Absolute(Elementwise):
    """``|x|``; the derivative is the sign (conjugated, for complex x), 0 at 0."""

    ufunc, operator = np.absolute, "abs"
    partials = ((lambda x: _conjugate_sign(x)),)
    real_valued = True

    def samples(self) -> Iterable[Sample]:
        return _unary(_X, _COMPLEX, _COMPLEX.astype("complex64"))


absolute = primitive(Absolute)


def _conjugate_sign(x: Value) -> Value:
    return np.conjugate(np.sign(x)) if aval_of(x).dtype.kind == "c" else np.sign(x)


class Fabs(Elementwise):
    ufunc = np.fabs
    partials = ((lambda x: np.sign(x)),)

    def samples(self) -> Iterable[Sample]:
        return _unary(_X)


fabs = primitive(Fabs)


class Copysign(Elementwise):
    """``|x|`` with the sign of ``y``; as for ``abs``, the derivative at x = 0 is 0."""

    ufunc = np.copysign
    partials = (lambda t, x, y: _same_sign(t, x, y)), None

    def samples(self) -> Iterable[Sample]:
        return _binary(_X, _Y)


copysign = primitive(Copysign)


def _same_sign(t: Value, x: Value, y: Value) -> Value:
    """``t`` where x and y have one sign, else ``-t``; 0 where x is 0."""
    return np.where(x == 0, 0, np.where(np.signbit(x) == np.signbit(y), t, -t))


class Heaviside(Elementwise):
    """A step in ``x``, which has no derivative; its value at 0 is ``y``."""

    ufunc = np.heaviside
    partials = None, (lambda t, x: np.where(x == 0, t, 0))

    def samples(self) -> Iterable[Sample]:
        return [*_binary(_X, _Y), Sample(_X * [1, 0, 0], _Y, wrt=(1,))]


heaviside = primitive(Heaviside)


class Nextafter(Elementwise):
    """``x`` but for its last bit."""

    ufunc = np.nextafter
    exempt = {"undeclared": "linear but for the last bit"}
    partials = 1, None

    def samples(self) -> Iterable[Sample]:
        return _binary(_X, _Y)


nextafter = primitive(Nextafter)


class Ldexp(Elementwise):
    """``x * 2**y`` for whole numbers ``y``, exactly."""

    ufunc = np.ldexp
    exempt = {"annihilation": "the second operand is a whole number"}
    partials = (lambda t, y: np.ldexp(t, y)), None
    linear = ((1, 0),)

    def samples(self) -> Iterable[Sample]:
        exponents = np.array([2, -1, 0])
        return (
            Sample(_X, exponents),
            Sample(_X.reshape(3, 1), exponents),
            Sample(_X, 3),
            Sample(_X[0], exponents[:0]),
        )


ldexp = primitive(Ldexp)


# ----------------------------------------------------------------------------------------- extrema


def _winner(t: Value, wins: Value, ties: Value) -> Value:
    """``t`` where it wins, half of it where it ties, and exactly 0 elsewhere."""
    if ties if type(ties) is bool else is_tracer(ties) or ties.any():
        t = np.where(ties, 0.5 * t, t)
        wins = wins | ties
    return np.where(wins, t, 0)


def _only_number(x: Value, y: Value) -> Value:
    """Where x is a number and y is not."""
    return (y != y) & (x == x)


class Maximum(Elementwise):
    ufunc = np.maximum
    partials = (
        (lambda t, x, y: _winner(t, np.greater(x, y), x == y)),
        (lambda t, x, y: _winner(t, np.greater(y, x), x == y)),
    )

    def samples(self) -> Iterable[Sample]:
        return _binary(_X, _Y, (_COMPLEX, _OTHER_COMPLEX))


maximum = primitive(Maximum)


class Minimum(Elementwise):
    ufunc = np.minimum
    partials = (
        (lambda t, x, y: _winner(t, np.less(x, y), x == y)),
        (lambda t, x, y: _winner(t, np.less(y, x), x == y)),
    )

    def samples(self) -> Iterable[Sample]:
        return _binary(_X, _Y, (_COMPLEX, _OTHER_COMPLEX))


minimum = primitive(Minimum)


class Fmax(Elementwise):
    """The greater of two, and the number where the other is nan."""

    ufunc = np.fmax
    partials = (
        (lambda t, x, y: _winner(t, np.greater(x, y) | _only_number(x, y), x == y)),
        (lambda t, x, y: _winner(t, np.greater(y, x) | _only_number(y, x), x == y)),
    )

    def samples(self) -> Iterable[Sample]:
        return _binary(_X, _Y)


fmax = primitive(Fmax)


class Fmin(Elementwise):
    """The smaller of two, and the number where the other is nan."""

    ufunc = np.fmin
    partials = (
        (lambda t, x, y: _winner(t, np.less(x, y) | _only_number(x, y), x == y)),
        (lambda t, x, y: _winner(t, np.less(y, x) | _only_number(y, x), x == y)),
    )

    def samples(self) -> Iterable[Sample]:
        return _binary(_X, _Y)


fmin = primitive(Fmin)
