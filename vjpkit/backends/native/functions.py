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
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "cbrt",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expit",
    "expm1",
    "hypot",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_expit",
    "logaddexp",
    "logaddexp2",
    "logit",
    "power",
    "sin",
    "sinh",
    "tan",
    "tanh",
    "xlog1py",
    "xlogy",
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


def constant(value: float, like: Value) -> Value:
    """A number as a value."""
    return like.code.number(value, like.kind)


def parts_of_product(x: Value, y: Value | float) -> tuple[Value, Value]:
    """``x * y`` and its rounding error."""
    high = x * y
    return high, fma(x, y, -high)


def sqrt(x: Value) -> Value:
    return x.code.intrinsic("sqrt", x)


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


def _exp_of_sum(x: Value, rest: Value) -> Value:
    """``exp(x + rest)`` for a small ``rest``."""
    n, r, c = _exp_reduced(clamped(x, -746.0, 710.5))
    more = c + rest
    q = fma(r * r, _exp_tail(r), r)
    p = q + fma(more, q, more) + 1.0
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


def expit(x: Value) -> Value:
    """Within 2.5 ulp."""
    e = exp(-fabs(x))
    return (x < 0.0).choose(e, 1.0) / (1.0 + e)


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
    result = k + tiny.choose(-54.0, constant(0.0, k)) + (product + error)
    return _log_edges(x, result, 0.0)


def log10(x: Value) -> Value:
    """Within 2 ulp."""
    y, tiny = _normal(x)
    k, f, rest = _log_normal(y)
    shift = k + tiny.choose(-54.0, constant(0.0, k))
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


def log_expit(x: Value) -> Value:
    """Within 2.5 ulp."""
    return (x > 0.0).choose(-0.0, x) - log1p(exp(-fabs(x)))


def logit(x: Value) -> Value:
    """Within 3 ulp."""
    rest = 1.0 - x
    middle = log1p(2.0 * (x - 0.5) / rest)
    return (fabs(x - 0.5) < 0.25).choose(middle, log(x / rest))


def logaddexp(x: Value, y: Value) -> Value:
    """Within 2.5 ulp of the larger operand, or of the result; equal operands may be infinite."""
    larger = (x > y).choose(x, y)
    total = larger + log1p(exp(-fabs(x - y)))
    return x.equals(y).choose(x + LN2[0], total)


def logaddexp2(x: Value, y: Value) -> Value:
    """Within 3 ulp of the larger operand, or of the result; equal operands may be infinite."""
    larger = (x > y).choose(x, y)
    total = larger + LOG2_E * log1p(exp2(-fabs(x - y)))
    return x.equals(y).choose(x + 1.0, total)


def xlogy(x: Value, y: Value) -> Value:
    """Within 1.5 ulp."""
    return (x.equals(0.0) & ~y.unordered(y)).choose(0.0, x * log(y))


def xlog1py(x: Value, y: Value) -> Value:
    """Within 1.5 ulp."""
    return (x.equals(0.0) & ~y.unordered(y)).choose(0.0, x * log1p(y))


def arcsinh(x: Value) -> Value:
    """Within 3 ulp."""
    a = fabs(x)
    large = a > 1e100
    b = large.choose(1.0, a)
    inner = log1p(b + b * b / (1.0 + sqrt(fma(b, b, 1.0))))
    return copysign(large.choose(log(a) + LN2[0], inner), x)


def arccosh(x: Value) -> Value:
    """Within 3 ulp."""
    large = x > 1e100
    t = large.choose(1.0, x - 1.0)
    inner = log1p(t + sqrt(fma(t, t, 2.0 * t)))
    return (x < 1.0).choose(NAN, large.choose(log(x) + LN2[0], inner))


def arctanh(x: Value) -> Value:
    """Within 3 ulp."""
    a = fabs(x)
    t = a + a
    small = t + t * a / (1.0 - a)
    return copysign(0.5 * log1p((a < 0.5).choose(small, t / (1.0 - a))), x)


# ------------------------------------------------------------------------------- roots and powers


def hypot(x: Value, y: Value) -> Value:
    """Within 1 ulp: the square root's error is taken off (Borges 2019, arXiv:1904.09481)."""
    p, q = fabs(x), fabs(y)
    swapped = q > p
    a, b = swapped.choose(q, p), swapped.choose(p, q)
    large, tiny = a > 1e150, a < 1e-150
    scale = large.choose(2.0**-600, tiny.choose(2.0**600, constant(1.0, a)))
    a, b = a * scale, b * scale
    a2, b2 = a * a, b * b
    h = sqrt(a2 + b2)
    h2 = h * h
    over = ((h2 - a2) - b2) + fma(h, h, -h2) - fma(a, a, -a2) - fma(b, b, -b2)
    root = h.equals(0.0).choose(h, h - over / (2.0 * h)) / scale
    infinite = p.equals(INFINITY) | q.equals(INFINITY)
    return infinite.choose(INFINITY, root)


def cbrt(x: Value) -> Value:
    """Within 1 ulp: Newton's method, the last residual without rounding."""
    a, tiny = _normal(fabs(x))
    i = a.bits()
    n = (i - 0x3FE6A09E667F3BCD) >> 52
    k = n.to("double")
    q, _ = whole(k, 1.0 / 3.0)
    m = (i - (n << 52)).double() * power_of_two(n - q - q - q)
    y = fma(m, fma(m, -0.09, 0.66), 0.42)
    for _ in range(4):
        y = y - (y * y * y - m) / (3.0 * (y * y))
    y2, error = parts_of_product(y, y)
    y = y - (fma(y2, y, -m) + error * y) / (3.0 * y2)
    root = y * power_of_two(q) * tiny.choose(2.0**-18, constant(1.0, y))
    special = x.equals(0.0) | ~(fabs(x) < INFINITY)
    return special.choose(x, copysign(root, x))


def _log_parts(x: Value) -> tuple[Value, Value]:
    """``log(x)`` of a positive finite ``x`` as a sum, to some 2**-65 of it.

    ``log((1 + s) / (1 - s)) = 2 s + 2/3 s**3 + ...``: the first two terms with their errors.
    """
    y, tiny = _normal(x)
    i = y.bits()
    n = (i - 0x3FE6A09E667F3BCD) >> 52
    f = (i - (n << 52)).double() - 1.0
    d = 2.0 + f
    s = f / d
    s_rest = (fma(-s, d, f) - s * (f - (d - 2.0))) / d
    z, z_rest = parts_of_product(s, s)
    z_rest = fma(2.0 * s, s_rest, z_rest)
    tail = z * polynomial(z, *[2.0 / n for n in range(25, 3, -2)])
    u = tail + 2.0 / 3.0
    u_rest = (tail - (u - 2.0 / 3.0)) + 3.700743415417188e-17
    w, w_rest = parts_of_product(z, u)
    w_rest = w_rest + fma(z, u_rest, z_rest * u)
    v, v_rest = parts_of_product(s, w)
    v_rest = v_rest + fma(s, w_rest, s_rest * w)
    twice = s + s
    log_m = twice + v
    rest = (v - (log_m - twice)) + (v_rest + 2.0 * s_rest)
    k = n.to("double") + tiny.choose(-54.0, constant(0.0, f))
    k_ln2 = k * 6.93147180369123816490e-01
    total = k_ln2 + log_m
    rest = (log_m - (total - k_ln2)) + fma(k, 1.90821492927058770002e-10, rest)
    high = total + rest
    return high, rest - (high - total)


def power(x: Value, y: Value) -> Value:
    """Within 1.5 ulp; 2 where the result is subnormal."""
    code = x.code
    a = fabs(x)
    inner = (a > 0.0) & (a < INFINITY)
    high, low = _log_parts(inner.choose(a, 1.0))
    high = inner.choose(high, a.equals(0.0).choose(-INFINITY, a))
    p = y * high
    rest = fma(y, low, fma(y, high, -p))
    size = _exp_of_sum(p, (fabs(p) < 750.0).choose(rest, 0.0))
    size = a.equals(1.0).choose(y.unordered(y).choose(y, 1.0), size)
    is_whole = code.intrinsic("floor", y).equals(y)
    half = 0.5 * y
    is_odd = is_whole & code.intrinsic("floor", half).differs(half)
    signed = (is_negative(x) & is_odd).choose(-size, size)
    root_of_negative = (x < 0.0) & inner & ~is_whole
    result = root_of_negative.choose(NAN, x.unordered(y).choose(x + y, signed))
    return (y.equals(0.0) | x.equals(1.0)).choose(1.0, result)


# ------------------------------------------------------------------------------------------- errors


def _erfc_factors(a: Value) -> tuple[Value, Value]:
    """``erfc(a)`` for ``a >= 1`` as ``exp(-a**2)`` times a rational function of ``a``."""
    b = clamped(a, 0.0, 30.0)
    square, rest = parts_of_product(b, b)
    e = _exp_of_sum(-square, -rest)
    near = polynomial(
        b, 2.46196981473530512524e-10, 5.64189564831068821977e-1, 7.46321056442269912687e0,
        4.86371970985681366614e1, 1.96520832956077098242e2, 5.26445194995477358631e2,
        9.34528527171957607540e2, 1.02755188689515710272e3, 5.57535335369399327526e2,
    ) / polynomial(
        b, 1.0, 1.32281951154744992508e1, 8.67072140885989742329e1, 3.54937778887819891062e2,
        9.75708501743205489753e2, 1.82390916687909736289e3, 2.24633760818710981792e3,
        1.65666309194161350182e3, 5.57535340817727675546e2,
    )  # fmt: skip
    far = polynomial(
        b, 5.64189583547755073984e-1, 1.27536670759978104416e0, 5.01905042251180477414e0,
        6.16021097993053585195e0, 7.40974269950448939160e0, 2.97886665372100240670e0,
    ) / polynomial(
        b, 1.0, 2.26052863220117276590e0, 9.39603524938001434673e0, 1.20489539808096656605e1,
        1.70814450747565897222e1, 9.60896809063285878198e0, 3.36907645100081516050e0,
    )  # fmt: skip
    return e, (b < 8.0).choose(near, far)


def _erf_factor(a: Value) -> Value:
    """``erf(a) / a`` for ``a < 1``."""
    z = a * a
    return polynomial(
        z, 9.60497373987051638749e0, 9.00260197203842689217e1, 2.23200534594684319226e3,
        7.00332514112805075473e3, 5.55923013010394962768e4,
    ) / polynomial(
        z, 1.0, 3.35617141647503099647e1, 5.21357949780152679795e2, 4.59432382970980127987e3,
        2.26290000613890934246e4, 4.92673942608635921086e4,
    )  # fmt: skip


def erf(x: Value) -> Value:
    """Within 3 ulp: rational approximations of Cody (1969) in the form of Moshier's Cephes."""
    a = fabs(x)
    small = a < 1.0
    e, factor = _erfc_factors(a)
    inner = small.choose(a, 0.0)
    return copysign(small.choose(inner * _erf_factor(inner), fma(-e, factor, 1.0)), x)


def erfc(x: Value) -> Value:
    """Within 10 ulp."""
    a = fabs(x)
    small = a < 1.0
    e, factor = _erfc_factors(a)
    inner = small.choose(x, 0.0)
    tail = e * factor
    outer = (x < 0.0).choose(2.0 - tail, tail)
    return small.choose(fma(-inner, _erf_factor(inner), 1.0), outer)


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
    base = large.choose(HALF_PI[0], middle.choose(0.5 * HALF_PI[0], constant(0.0, a)))
    rest = large.choose(HALF_PI[1], middle.choose(0.5 * HALF_PI[1], constant(0.0, a)))
    inner = t + (_arctan_tail(t) + rest)
    return copysign((a > 1e300).choose(HALF_PI[0], base + inner), x)


def arctan2(y: Value, x: Value) -> Value:
    """Within 3 ulp: a multiple of pi / 4 and the arc tangent of at most tan(pi / 8)."""
    p, q = fabs(x), fabs(y)
    scale = ((p > 1e300) | (q > 1e300)).choose(0.25, constant(1.0, x))
    p, q = p * scale, q * scale
    steep, backward = q > p, is_negative(x)
    a, b = steep.choose(p, q), steep.choose(q, p)
    wide = a > 0.41421356237309503 * b
    ratio = wide.choose(a - b, a) / wide.choose(a + b, b)
    t = a.equals(0.0).choose(0.0, a.equals(b).choose(0.0, ratio))
    wide = wide | (a.equals(b) & (a > 0.0))
    inner = t + _arctan_tail(t)
    k = wide.choose(1.0, constant(0.0, p))
    k = steep.choose(2.0 - k, k)
    inner = steep.choose(-inner, inner)
    k = backward.choose(4.0 - k, k)
    inner = backward.choose(-inner, inner)
    base, error = parts_of_product(k, 0.5 * HALF_PI[0])
    angle = base + (inner + fma(k, 0.5 * HALF_PI[1], error))
    return x.unordered(y).choose(x + y, copysign(angle, y))


def _arctan_tail(t: Value) -> Value:
    """``arctan(t) - t`` for abs(t) up to tan(pi / 8)."""
    z = t * t
    p = polynomial(
        z, -8.750608600031904122785e-01, -1.615753718733365076637e01, -7.500855792314704667340e01,
        -1.228866684490136173410e02, -6.485021904942025371773e01,
    )  # fmt: skip
    q = polynomial(
        z, 1.0, 2.485846490142306297962e01, 1.650270098316988542046e02,
        4.328810604912902668951e02, 4.853903996359136964868e02, 1.945506571482613964425e02,
    )  # fmt: skip
    return t * z * (p / q)


def _arcsin_parts(x: Value) -> tuple[Value, Value, Value, Value]:
    """For ``a = abs(x)``: whether it is at most a half; and ``s``, its rest ``c`` and ``s r`` with
    ``arcsin = s + c + s r`` of ``a``, or else of the root of ``(1 - a) / 2``."""
    a = fabs(x)
    small = a <= 0.5
    z = small.choose(a * a, 0.5 * (1.0 - a))
    root = sqrt(z)
    s = small.choose(a, root)
    c = (small | z.equals(0.0)).choose(0.0, fma(-root, root, z) / (root + root))
    r = z * polynomial(
        z, 3.47933107596021167570e-05, 7.91534994289814532176e-04, -4.00555345006794114027e-02,
        2.01212532134862925881e-01, -3.25565818622400915405e-01, 1.66666666666666657415e-01,
    ) / polynomial(
        z, 7.70381505559019352791e-02, -6.88283971605453293030e-01, 2.02094576023350569471e00,
        -2.40339491173441421878e00, 1.0,
    )  # fmt: skip
    return small, s, c, s * r


def arcsin(x: Value) -> Value:
    """Within 1 ulp."""
    small, s, c, rest = _arcsin_parts(x)
    twice = s + s
    angle = HALF_PI[0] - twice
    error = (HALF_PI[0] - angle) - twice
    outer = angle + (error + (HALF_PI[1] - 2.0 * (c + rest)))
    return copysign(small.choose(s + rest, outer), x)


def arccos(x: Value) -> Value:
    """Within 1 ulp."""
    small, s, c, rest = _arcsin_parts(x)
    signed = copysign(s, x)
    near = HALF_PI[0] - signed
    error = (HALF_PI[0] - near) - signed
    middle = near + (error + (HALF_PI[1] - copysign(rest, x)))
    half = s + (c + rest)
    pi = 2.0 * HALF_PI[0]
    far = pi - (s + s)
    error = (pi - far) - (s + s)
    back = far + (error + (2.0 * HALF_PI[1] - 2.0 * (c + rest)))
    return small.choose(middle, (x < 0.0).choose(back, half + half))


def is_negative(x: Value) -> Value:
    """Whether the sign bit of a double is set."""
    return x.bits() < 0


def sign_bit(n: Value) -> Value:
    """An integer's lowest bit as the sign of a double."""
    return n << 63


assert INT == "i64"
