"""Elementary functions of doubles, without branches, so that a loop over them becomes vector code.

Each docstring states a bound of the error in units in the last place; `tests/backends/native`
checks it against mpmath over the whole range, and special values against NumPy. Arguments are
reduced in two or three parts (Cody and Waite, *Software Manual for the Elementary Functions*, 1980)
with fused multiply-adds, polynomials are minimax ones. Where the kernel's text is the same the bits
are, on every machine.
"""

from __future__ import annotations

import math

from vjpkit.backends.native.code import INT, Value

__all__ = [
    "arctan",
    "cos",
    "cosh",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "sin",
    "sinh",
    "tan",
    "tanh",
]  # fmt: skip

ROUND = 1.5 * 2.0**52
"""Added to a double of moderate size it leaves the nearest whole number in the lowest bits."""
LOG2_E = 1.4426950408889634
LN2 = (0.6931471805599453, 2.3190468138462996e-17)
HALF_PI = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
LARGEST_ANGLE = 1e9
"""Up to here three doubles for pi / 2 reduce an angle; beyond, the C library does it."""
INFINITY, NAN = math.inf, math.nan


def fma(x: Value, y: Value | float, z: Value | float) -> Value:
    """``x * y + z``, rounded once."""
    code = x.code
    operands = [v if isinstance(v, Value) else code.number(v, x.kind) for v in (x, y, z)]
    return code.intrinsic("fma", *operands)


def fabs(x: Value) -> Value:
    return x.code.intrinsic("fabs", x)


def copysign(x: Value, y: Value) -> Value:
    return x.code.intrinsic("copysign", x, y)


def polynomial(x: Value, *coefficients: float) -> Value:
    """By Horner's rule, the highest power first."""
    first, second, *rest = coefficients
    total = fma(x, first, second)
    for c in rest:
        total = fma(total, x, c)
    return total


def whole(x: Value, scale: float) -> tuple[Value, Value]:
    """The whole number nearest to ``scale * x``, as an integer and as a double."""
    shifted = fma(x, scale, ROUND)
    return shifted.bits() - x.code.number(ROUND, x.kind).bits(), shifted - ROUND


def power_of_two(n: Value) -> Value:
    """``2 ** n`` for an exponent of a normal double."""
    return ((n + 1023) << 52).double()


def clamped(x: Value, low: float, high: float) -> Value:
    """``x`` within bounds; nan stays."""
    y = (x > high).choose(high, x)
    return (y < low).choose(low, y)


# ------------------------------------------------------------------------------------- exponentials


def _exp_reduced(x: Value) -> tuple[Value, Value, Value]:
    """``n``, ``r`` and ``c`` with ``x = n ln 2 + r + c`` and a small rest ``c``."""
    n, k = whole(x, LOG2_E)
    first = fma(-k, LN2[0], x)
    r = fma(-k, LN2[1], first)
    return n, r, fma(-k, LN2[1], first - r)


def _exp_tail(r: Value) -> Value:
    """``(exp(r) - 1 - r) / r**2`` for abs(r) up to ln(2) / 2."""
    return polynomial(
        r, 2.0915442297780116e-09, 2.5106274733573296e-08, 2.75572718102198e-07,
        2.755725283351691e-06, 2.4801587327007187e-05, 0.00019841269876864356,
        0.0013888888888883327, 0.008333333333325544, 0.04166666666666667, 0.1666666666666667, 0.5,
    )  # fmt: skip


def exp(x: Value) -> Value:
    """Within 1 ulp; 2 where the result is subnormal."""
    n, r, _ = _exp_reduced(clamped(x, -746.0, 710.5))
    p = fma(r * r, _exp_tail(r), r) + 1.0
    half = n >> 1
    return p * power_of_two(half) * power_of_two(n - half)


def exp2(x: Value) -> Value:
    """Within 1.5 ulp."""
    y = clamped(x, -1080.0, 1030.0)
    n, k = whole(y, 1.0)
    f = y - k
    r = f * LN2[0]
    c = fma(f, LN2[1], fma(f, LN2[0], -r))
    p = fma(r * r, _exp_tail(r), c) + r + 1.0
    half = n >> 1
    return p * power_of_two(half) * power_of_two(n - half)


def expm1(x: Value) -> Value:
    """Within 2 ulp."""
    y = clamped(x, -60.0, 710.5)
    n, r, c = _exp_reduced(y)
    p = r + fma(r * r, _exp_tail(r), c)
    half = n >> 1
    s, t = power_of_two(half), power_of_two(n - half)
    large = (p + 1.0) * s * t
    scale = s * t
    return x.equals(0.0).choose(x, (y > 700.0).choose(large, fma(scale, p, scale - 1.0)))


def tanh(x: Value) -> Value:
    """Within 3 ulp."""
    n, r, c = _exp_reduced(clamped(-2.0 * fabs(x), -60.0, 0.0))
    scale = power_of_two(n)
    t = fma(scale, r + fma(r * r, _exp_tail(r), c), scale - 1.0)
    return copysign(-t / (t + 2.0), x)


def sinh(x: Value) -> Value:
    """Within 3 ulp."""
    a = fabs(x)
    t = expm1(a)
    small = 0.5 * (t + t / (t + 1.0))
    half = exp(0.5 * a)
    return copysign((a > 40.0).choose((0.5 * half) * half, small), x)


def cosh(x: Value) -> Value:
    """Within 3 ulp."""
    a = fabs(x)
    e = exp((a > 40.0).choose(0.0, a))
    half = exp(0.5 * a)
    return (a > 40.0).choose((0.5 * half) * half, 0.5 * e + 0.5 / e)


# --------------------------------------------------------------------------------------- logarithms


def _log_normal(x: Value) -> tuple[Value, Value, Value]:
    """``k`` and parts of ``log(m)`` for a positive normal ``x = 2**k m``, m near 1."""
    i = x.bits()
    n = (i - 0x3FE6A09E667F3BCD) >> 52
    f = (i - (n << 52)).double() - 1.0
    s = f / (2.0 + f)
    z = s * s
    tail = z * polynomial(
        z, 1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
        2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01,
        6.666666666666735130e-01,
    )  # fmt: skip
    half = 0.5 * f * f
    return n.to("double"), f, half - s * (half + tail)


def _log_sum(x: Value, c: Value | float) -> Value:
    """``log(x) + c`` for a positive normal ``x`` and a small ``c``."""
    k, f, rest = _log_normal(x)
    return fma(k, 6.93147180369123816490e-01, -((rest - fma(k, 1.90821492927058770002e-10, c)) - f))


def _log_edges(x: Value, result: Value, lowest: float) -> Value:
    """nan below ``lowest``, -inf at it, inf and nan as they are."""
    inner = (x < INFINITY).choose(result, x)
    edge = x.equals(lowest).choose(-INFINITY, (x < lowest).choose(NAN, x))
    return (x > lowest).choose(inner, edge)


def _normal(x: Value) -> tuple[Value, Value]:
    """``x``, or ``2**54 x`` where it is subnormal, and whether it is."""
    tiny = x < 2.2250738585072014e-308
    return tiny.choose(x * 2.0**54, x), tiny


def log(x: Value) -> Value:
    """Within 1 ulp."""
    y, tiny = _normal(x)
    result = _log_sum(y, 0.0)
    return _log_edges(x, tiny.choose(result - 54 * 0.6931471805599453, result), 0.0)


def log2(x: Value) -> Value:
    """Within 2 ulp; whole powers of two are exact."""
    y, tiny = _normal(x)
    k, f, rest = _log_normal(y)
    high = f - rest
    low = (f - high) - rest
    product = high * LOG2_E
    error = fma(high, LOG2_E, -product) + fma(high, 2.0355273740931033e-17, low * LOG2_E)
    result = k + tiny.choose(-54.0, 0.0 * k) + (product + error)
    return _log_edges(x, result, 0.0)


def log10(x: Value) -> Value:
    """Within 2 ulp."""
    y, tiny = _normal(x)
    k, f, rest = _log_normal(y)
    shift = k + tiny.choose(-54.0, 0.0 * k)
    high = f - rest
    low = (f - high) - rest
    product = high * 0.4342944819032518
    error = fma(high, 0.4342944819032518, -product) + fma(
        high, 1.098319650216765e-17, low * 0.4342944819032518
    )
    whole_part = shift * 0.30102999566398120
    whole_error = fma(shift, 0.30102999566398120, -whole_part) - shift * 2.8037281277851704e-18
    return _log_edges(x, whole_part + (product + (error + whole_error)), 0.0)


def log1p(x: Value) -> Value:
    """Within 1 ulp."""
    u = 1.0 + x
    c = (x > 1.0).choose(1.0 - (u - x), x - (u - 1.0))
    result = _log_sum(u, c / u)
    return _log_edges(x, (fabs(x) < 1e-300).choose(x, result), -1.0)


# ------------------------------------------------------------------------------------------- angles


def _quadrant(x: Value) -> tuple[Value, Value, Value]:
    """The number of quarter turns in ``x``, and sine and cosine of the rest."""
    shifted = fma(x, 0.6366197723675814, ROUND)
    k = shifted - ROUND
    first = fma(-k, HALF_PI[0], x)
    high = k * HALF_PI[1]
    low = fma(k, HALF_PI[1], -high)
    r = first - high
    back = r - first
    w = (first - (r - back)) - (high + back) - low
    w = fma(-k, HALF_PI[2], w)
    z = r * r
    odd = polynomial(
        z, 1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06,
        -1.98412698298579493134e-04, 8.33333333332248946124e-03, -1.66666666666666324348e-01,
    )  # fmt: skip
    even = polynomial(
        z, -1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07,
        2.48015872894767294178e-05, -1.38888888888741095749e-03, 4.16666666666666019037e-02,
    )  # fmt: skip
    half = 0.5 * z
    a = 1.0 - half
    sine = r + fma(z * r, odd, w)
    cosine = a + (((1.0 - a) - half) + fma(z * z, even, -(r * w)))
    return shifted.bits(), sine, cosine


def _of_large(x: Value, name: str, result: Value) -> Value:
    """``result``, or the C library's where the angle is too large for the reduction."""
    code = x.code
    large = fabs(x) > LARGEST_ANGLE
    if code.exact:
        return large.choose(code.library(name, x), result)
    code.doubts.append(large)
    return result


def sin(x: Value) -> Value:
    """Within 1 ulp."""
    q, sine, cosine = _quadrant(x)
    y = (q & 1).differs(0).choose(cosine, sine)
    return _of_large(x, "sin", x.equals(0.0).choose(x, (y.bits() ^ ((q & 2) << 62)).double()))


def cos(x: Value) -> Value:
    """Within 1 ulp."""
    q, sine, cosine = _quadrant(x)
    y = (q & 1).differs(0).choose(sine, cosine)
    return _of_large(x, "cos", (y.bits() ^ (((q + 1) & 2) << 62)).double())


def tan(x: Value) -> Value:
    """Within 3 ulp."""
    q, sine, cosine = _quadrant(x)
    odd = (q & 1).differs(0)
    y = odd.choose(-cosine, sine) / odd.choose(sine, cosine)
    return _of_large(x, "tan", x.equals(0.0).choose(x, y))


def arctan(x: Value) -> Value:
    """Within 2 ulp."""
    a = fabs(x)
    large, middle = a > 2.414213562373095, a > 0.41421356237309503
    t = large.choose(-1.0 / a, middle.choose((a - 1.0) / (a + 1.0), a))
    base = large.choose(HALF_PI[0], middle.choose(0.5 * HALF_PI[0], 0.0 * a))
    rest = large.choose(HALF_PI[1], middle.choose(0.5 * HALF_PI[1], 0.0 * a))
    z = t * t
    p = polynomial(
        z, -8.750608600031904122785e-01, -1.615753718733365076637e01, -7.500855792314704667340e01,
        -1.228866684490136173410e02, -6.485021904942025371773e01,
    )  # fmt: skip
    q = polynomial(
        z, 1.0, 2.485846490142306297962e01, 1.650270098316988542046e02,
        4.328810604912902668951e02, 4.853903996359136964868e02, 1.945506571482613964425e02,
    )  # fmt: skip
    inner = fma(t * z, p / q, rest) + t
    return copysign((a > 1e300).choose(HALF_PI[0], base + inner), x)


def is_negative(x: Value) -> Value:
    """Whether the sign bit of a double is set."""
    return x.bits() < 0


def sign_bit(n: Value) -> Value:
    """An integer's lowest bit as the sign of a double."""
    return n << 63


assert INT == "i64"
