"""Elementwise primitives: derivatives against independent values, dtypes, complex numbers."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.primitive import PRIMITIVES
from vjpkit.core.tracer import UFUNCS
from vjpkit.kinds import ConstantUfunc, Elementwise

NUMPYS = [
    p
    for p in PRIMITIVES.values()
    if isinstance(p, Elementwise) and getattr(np, p.ufunc.__name__, None) is p.ufunc
]
"""NumPy's ufuncs; others may be loaded already."""

# f'(x), f''(x), computed with 60 digits by a computer algebra system and rounded to double.
UNARY = [
    ("negative", 0.3, -1.0, 0.0),
    ("positive", 0.3, 1.0, 0.0),
    ("reciprocal", 0.3, -11.111111111111112, 74.07407407407408),
    ("reciprocal", -1.2, -0.6944444444444445, -1.1574074074074074),
    ("reciprocal", 0.001, -1000000.0, 1999999999.9999998),
    ("square", 0.3, 0.6, 2.0),
    ("square", -1.2, -2.4, 2.0),
    ("sqrt", 0.3, 0.9128709291752769, -1.5214515486254616),
    ("sqrt", 2.5, 0.31622776601683794, -0.06324555320336758),
    ("sqrt", 1e-08, 5000.0, -250000000000.0),
    ("cbrt", 0.3, 0.7438143889801884, -1.6529208644004187),
    ("cbrt", -2.5, 0.18096117443966045, 0.04825631318390945),
    ("cbrt", 1e-06, 3333.3333333333335, -2222222222.2222223),
    ("exp", 0.3, 1.3498588075760032, 1.3498588075760032),
    ("exp", 20.0, 485165195.4097903, 485165195.4097903),
    ("exp2", 0.3, 0.8533642789721566, 0.591507043960121),
    ("exp2", -1.2, 0.3017098342417903, 0.20912932095190542),
    ("expm1", 0.3, 1.3498588075760032, 1.3498588075760032),
    ("expm1", -40.0, 4.248354255291589e-18, 4.248354255291589e-18),
    ("log", 0.3, 3.3333333333333335, -11.111111111111112),
    ("log", 1e-08, 100000000.0, -1e16),
    ("log2", 0.3, 4.8089834696298785, -16.02994489876626),
    ("log2", 2.5, 0.5770780163555853, -0.23083120654223416),
    ("log10", 0.3, 1.4476482730108395, -4.825494243369465),
    ("log10", 2.5, 0.17371779276130073, -0.0694871171045203),
    ("log1p", 0.3, 0.7692307692307693, -0.591715976331361),
    ("log1p", -0.9, 10.000000000000002, -100.00000000000004),
    ("log1p", 1e-09, 0.999999999, -0.9999999980000001),
    ("sin", 0.3, 0.955336489125606, -0.29552020666133955),
    ("sin", 100.0, 0.8623188722876839, 0.5063656411097588),
    ("cos", 0.3, -0.29552020666133955, -0.955336489125606),
    ("cos", -1.2, 0.9320390859672263, -0.3623577544766736),
    ("tan", 0.3, 1.095688915322547, 0.6778725996094255),
    ("tan", -1.2, 7.615963967207052, -39.17882814461442),
    ("arcsin", 0.3, 1.0482848367219182, 0.3455884077105225),
    ("arcsin", -0.8, 1.6666666666666667, -3.703703703703705),
    ("arcsin", 0.999, 22.36627204212921, 11177.541655871468),
    ("arccos", 0.3, -1.0482848367219182, -0.3455884077105225),
    ("arccos", 0.999, -22.36627204212921, -11177.541655871468),
    ("arctan", 0.3, 0.9174311926605505, -0.5050079959599361),
    ("arctan", 1e5, 9.999999999e-11, -1.9999999996e-15),
    ("sinh", 0.3, 1.0453385141288605, 0.3045202934471426),
    ("sinh", -1.2, 1.8106555673243747, -1.5094613554121725),
    ("cosh", 0.3, 0.3045202934471426, 1.0453385141288605),
    ("cosh", -1.2, -1.5094613554121725, 1.8106555673243747),
    ("tanh", 0.3, 0.9151369618266292, -0.5331818782014544),
    ("tanh", -1.2, 0.305019996207409, 0.5085626501382733),
    ("arcsinh", 0.3, 0.9578262852211514, -0.2636219133636196),
    ("arcsinh", 1e8, 1e-08, -9.999999999999999e-17),
    ("arccosh", 1.2, 1.5075567228888183, -4.111518335151324),
    ("arccosh", 1e8, 1e-08, -1.0000000000000001e-16),
    ("arctanh", 0.3, 1.098901098901099, 0.7245501750996256),
    ("arctanh", 0.999, 500.2501250625308, 499999.8748749053),
    ("degrees", 0.3, 57.29577951308232, 0.0),
    ("rad2deg", 0.3, 57.29577951308232, 0.0),
    ("radians", 0.3, 0.017453292519943295, 0.0),
    ("deg2rad", 0.3, 0.017453292519943295, 0.0),
    ("absolute", 0.3, 1.0, 0.0),
    ("absolute", -1.2, -1.0, 0.0),
    ("fabs", -1.2, -1.0, 0.0),
    ("sinc", 0.3, -0.9020281301388888, -2.4584852862661744),
    ("sinc", -1.2, 0.5442517614529231, 2.4459044611635856),
    ("sinc", 1e-09, -3.289868133696453e-09, -3.289868133696453),
    ("sinc", 5.0, -0.2, 0.08),
    ("i0", 0.3, 0.15169384000359276, 0.5169807460062877),
    ("i0", -1.2, -0.7146779415526431, 0.7981606328401951),
    ("i0", 30.0, 768532038938.957, 756054563192.679),
    ("i0", 1e-09, 5e-10, 0.5),
]

# The derivatives by x, y, xx, xy, yy; from the same source.
BINARY = [
    ("add", 0.3, 1.7, 1.0, 1.0, 0.0, 0.0, 0.0),
    ("subtract", 0.3, 1.7, 1.0, -1.0, 0.0, 0.0, 0.0),
    ("multiply", 0.3, 1.7, 1.7, 0.3, 0.0, 1.0, 0.0),
    ("divide", 0.3, 1.7, 0.5882352941176471, -0.10380622837370243, 0.0, -0.34602076124567477,
     0.12212497455729697),
    ("divide", 2.5, -0.4, -2.5, -15.624999999999998, 0.0, -6.249999999999999, -78.12499999999999),
    ("power", 0.3, 1.7, 0.7318697544248882, -0.15549728481816472, 1.7076960936580723,
     -0.4506396603863325, 0.18721450206759457),
    ("power", 2.5, -0.4, -0.11090317490482343, 0.6351221956294255, 0.06210577794670112,
     0.17563838596135048, 0.5819565814628066),
    ("power", 1.3, 0.0, 0.0, 0.26236426446749106, 0.0, 0.7692307692307692, 0.06883500726956761),
    ("float_power", 0.3, 1.7, 0.7318697544248882, -0.15549728481816472, 1.7076960936580723,
     -0.4506396603863325, 0.18721450206759457),
    ("hypot", 0.3, 1.7, 0.17378533390904766, 0.9847835588179368, 0.5617892785202996,
     -0.09913928444475874, 0.01749516784319272),
    ("hypot", 1.0, -1.0, 0.7071067811865476, -0.7071067811865476, 0.3535533905932738,
     0.3535533905932738, 0.3535533905932738),
    ("arctan2", 0.3, 1.7, 0.5704697986577182, -0.10067114093959732, -0.1148596910049097,
     -0.3153011125624972, 0.1148596910049097),
    ("arctan2", 0.3, -1.7, -0.5704697986577182, -0.10067114093959732, 0.1148596910049097,
     -0.3153011125624972, -0.1148596910049097),
    ("logaddexp", 0.3, 1.7, 0.19781611144141825, 0.8021838885585817, 0.15868489749561465,
     -0.15868489749561465, 0.15868489749561465),
    ("logaddexp", 2.0, 2.0, 0.5, 0.5, 0.25, -0.25, 0.25),
    ("logaddexp", -30.0, 20.0, 1.9287498479639178e-22, 1.0, 1.9287498479639178e-22,
     -1.9287498479639178e-22, 1.9287498479639178e-22),
    ("logaddexp2", 0.3, 1.7, 0.2747995746759952, 0.7252004253240047, 0.1381336753684906,
     -0.1381336753684906, 0.1381336753684906),
    ("logaddexp2", 2.0, 2.0, 0.5, 0.5, 0.17328679513998632, -0.17328679513998632,
     0.17328679513998632),
    ("remainder", 2.5, 0.4, 1.0, -6.0, 0.0, 0.0, 0.0),
    ("remainder", -2.5, 0.4, 1.0, 7.0, 0.0, 0.0, 0.0),
    ("remainder", 2.5, -0.4, 1.0, 7.0, 0.0, 0.0, 0.0),
    ("fmod", 2.5, 0.4, 1.0, -6.0, 0.0, 0.0, 0.0),
    ("fmod", -2.5, 0.4, 1.0, 6.0, 0.0, 0.0, 0.0),
    ("maximum", 0.3, 1.7, 0.0, 1.0, 0.0, 0.0, 0.0),
    ("minimum", 0.3, 1.7, 1.0, 0.0, 0.0, 0.0, 0.0),
    ("fmax", 0.3, 1.7, 0.0, 1.0, 0.0, 0.0, 0.0),
    ("fmin", 0.3, 1.7, 1.0, 0.0, 0.0, 0.0, 0.0),
    ("copysign", 0.3, -1.7, -1.0, 0.0, 0.0, 0.0, 0.0),
    ("copysign", -0.3, -1.7, 1.0, 0.0, 0.0, 0.0, 0.0),
    ("nextafter", 0.3, 1.7, 1.0, 0.0, 0.0, 0.0, 0.0),
    ("heaviside", 0.3, 1.7, 0.0, 0.0, 0.0, 0.0, 0.0),
    ("heaviside", 0.0, 1.7, 0.0, 1.0, 0.0, 0.0, 0.0),
]  # fmt: skip

# sinc and i0 are no better than the argument reduction of pi x and NumPy's coefficients; 1 - tanh^2
# and 1 + x cancel a few bits.
ROUNDING = 2e-14


@pytest.mark.parametrize(("name", "x", "first", "second"), UNARY)
@pytest.mark.parametrize("kind", [float, np.float64, np.array])
def test_first_and_second_derivative(name, x, first, second, kind):
    f = getattr(np, name)
    x = kind(x)
    assert vk.grad(f)(x) == pytest.approx(first, rel=ROUNDING, abs=1e-300)
    one = np.ones(())
    assert vk.jvp(f, (x,), (one,))[1] == pytest.approx(first, rel=ROUNDING, abs=1e-300)
    assert vk.grad(vk.grad(f))(x) == pytest.approx(second, rel=ROUNDING, abs=1e-300)
    assert vk.jvp(vk.grad(f), (x,), (one,))[1] == pytest.approx(second, rel=ROUNDING, abs=1e-300)


@pytest.mark.parametrize(("name", "x", "y", "fx", "fy", "fxx", "fxy", "fyy"), BINARY)
@pytest.mark.parametrize("kind", [float, np.float64, np.array])
def test_partial_derivatives(name, x, y, fx, fy, fxx, fxy, fyy, kind):
    f = getattr(np, name)
    x, y = kind(x), kind(y)

    def close(want):
        return pytest.approx(want, rel=ROUNDING, abs=1e-300)

    gx, gy = vk.grad(f, argnums=0), vk.grad(f, argnums=1)
    assert vk.grad(f, argnums=(0, 1))(x, y) == (close(fx), close(fy))
    assert (gx(x, y), gy(x, y)) == (close(fx), close(fy))
    assert vk.grad(gx, argnums=(0, 1))(x, y) == (close(fxx), close(fxy))
    assert vk.grad(gy, argnums=(0, 1))(x, y) == (close(fxy), close(fyy))


def test_every_derivative_is_compared_with_an_independent_value():
    named = {name for name, *_ in (*UNARY, *BINARY)} | {"ldexp"}
    assert {p.ufunc.__name__ for p in NUMPYS} <= named


@pytest.mark.parametrize("order", [3, 4])
def test_sinc_and_i0_are_closed_under_differentiation(order):
    x = 0.7
    f, g = np.sinc, np.i0
    for _ in range(order):
        f, g = vk.grad(f), vk.grad(g)
    wanted = {
        3: (7.131038417133915, 0.28075160173466346),
        4: (-4.913641288402105, 0.454338550553978),
    }
    assert f(x) == pytest.approx(wanted[order][0], rel=1e-12)
    assert g(x) == pytest.approx(wanted[order][1], rel=1e-12)


# ---- dtypes -------------------------------------------------------------------------------------

UFUNC_CASES = [p.ufunc for p in NUMPYS if p.ufunc.nin == 1]


@pytest.mark.parametrize("ufunc", UFUNC_CASES, ids=lambda u: u.__name__)
@pytest.mark.parametrize("dtype", ["float16", "float32", "longdouble"])
def test_gradient_has_the_dtype_of_the_operand(ufunc, dtype):
    x = np.array([1.25, 1.5], dtype) if ufunc is np.arccosh else np.array([0.25, 0.5], dtype)
    value, gradient = vk.value_and_grad(lambda x: np.sum(ufunc(x)))(x)
    assert value.dtype == gradient.dtype == x.dtype
    double = vk.grad(lambda x: np.sum(ufunc(x)))(x.astype(float))
    np.testing.assert_allclose(gradient, double, rtol=20 * float(np.finfo(dtype).eps) + 1e-15)


@pytest.mark.parametrize("name", ["multiply", "divide", "power", "hypot", "arctan2", "logaddexp"])
@pytest.mark.parametrize(
    "other",
    [2.0, 2, np.int8(2), np.array([2, 3], "int16"), np.float32(2)],
    ids=["float", "int", "int8", "int16 array", "float32"],
)
def test_single_precision_stays_single(name, other):
    f = getattr(np, name)
    x = np.array([0.5, 0.25], "float32")
    for call in (lambda x: f(x, other), lambda x: f(other, x)):
        gradient = vk.grad(lambda x, call=call: np.sum(call(x)))(x)
        tangent = vk.jvp(call, (x,), (np.ones_like(x),))[1]
        assert gradient.dtype == np.float32
        assert tangent.dtype == np.float32


@pytest.mark.parametrize("name", ["multiply", "divide", "power", "hypot", "maximum", "remainder"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_traced_python_number_does_not_decide_the_dtype(name, swapped):
    """Neither below another trace nor staged."""
    x = np.array([0.5, 0.25, 1.5], "float32")
    f = getattr(np, name)
    call = (lambda x, p: f(p, x)) if swapped else f
    gradient = vk.grad(lambda x, p: np.sum(call(x, p)))
    want = gradient(x, 1.75)
    assert want.dtype == np.float32
    seen = []

    def outer(p):
        seen.append(gradient(x, p).dtype)
        return np.sum(gradient(x, p) ** 2)

    assert vk.grad(outer)(1.75).dtype == np.float64
    assert vk.jvp(outer, (1.75,), (1.0,))[1].dtype == np.float32
    assert set(seen) == {np.dtype("float32")}
    (staged,) = vk.make_ir(gradient)(x, 1.75)(x, 1.75)
    assert staged.dtype == np.float32
    np.testing.assert_allclose(staged, want, rtol=1e-6)
    by_number = lambda x, p: vk.grad(lambda p: np.sum(call(x, p)))(p)
    (staged,) = vk.make_ir(by_number)(x, 1.75)(x, 1.75)
    assert staged.dtype == np.float64
    np.testing.assert_allclose(staged, by_number(x, 1.75), rtol=1e-6)


@pytest.mark.parametrize("name", ["divide", "power", "hypot", "arctan2", "logaddexp"])
def test_a_mixture_of_precisions_is_as_precise_as_the_result(name):
    f = getattr(np, name)
    x, y = np.array([0.7, 1.3]), np.array([0.5, 1.25], "float32")
    for a, b in ((x, y), (y, x)):
        mixed = vk.grad(lambda a, b: np.sum(f(a, b)), argnums=(0, 1))(a, b)
        double = vk.grad(lambda a, b: np.sum(f(a, b)), argnums=(0, 1))(
            a.astype(float), b.astype(float)
        )
        for got, want in zip(mixed, double, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-15 if got.dtype == float else 1e-7)


# ---- complex numbers ----------------------------------------------------------------------------

HOLOMORPHIC = [
    "negative", "reciprocal", "square", "sqrt", "exp", "exp2", "expm1", "log", "log2", "log10",
    "log1p", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh",
    "arccosh", "arctanh",
]  # fmt: skip


@pytest.mark.parametrize("name", HOLOMORPHIC)
def test_holomorphic_functions_have_one_derivative(name):
    f = getattr(np, name)
    z = np.array([0.3 + 0.4j, -1.2 - 0.7j, 2.5 + 0.1j, -0.4 + 1.3j])
    derivative = vk.grad(lambda z: np.sum(f(z)), holomorphic=True)(z)
    h = 1e-5
    along = (f(z + h) - f(z - h)) / (2 * h)
    across = (f(z + 1j * h) - f(z - 1j * h)) / (2j * h)
    np.testing.assert_allclose(derivative, along, rtol=1e-8)
    np.testing.assert_allclose(derivative, across, rtol=1e-8)


REAL_OF_COMPLEX: dict[str, Any] = {
    "abs": np.abs,
    "angle": np.angle,
    "real of sign": lambda z: np.real(np.sign(z)),
    "imag of sign": lambda z: np.imag(np.sign(z)),
    "real": lambda z: np.real(z * z),
    "imag": lambda z: np.imag(z**3),
    "conj": lambda z: np.real(np.conj(z) * z**2),
    "real_if_close": lambda z: np.abs(np.real_if_close(z)) ** 2,
}


@pytest.mark.parametrize("name", REAL_OF_COMPLEX)
def test_real_functions_of_complex_numbers(name):
    """The gradient is du/dx - i du/dy."""
    f = REAL_OF_COMPLEX[name]
    z = np.array([0.3 + 0.4j, -1.2 - 0.7j, 2.5 + 0.1j])
    gradient = vk.grad(lambda z: np.sum(f(z)))(z)
    h = 1e-6
    du_dx = (f(z + h) - f(z - h)) / (2 * h)
    du_dy = (f(z + 1j * h) - f(z - 1j * h)) / (2 * h)
    np.testing.assert_allclose(gradient, du_dx - 1j * du_dy, atol=1e-9)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "power"])
def test_real_with_complex_operands(name):
    """A real operand has a real gradient: the real part of what a complex one would have."""
    f = getattr(np, name)
    x, z = np.array([0.7, 1.3]), np.array([0.5 - 0.2j, 1.2 + 0.4j])
    for a, b in ((x, z), (z, x)):
        mixed = vk.grad(lambda a, b: np.real(np.sum(f(a, b))), argnums=(0, 1))(a, b)
        full = vk.grad(lambda a, b: np.real(np.sum(f(a, b))), argnums=(0, 1))(a + 0j, b + 0j)
        for operand, got, want in zip((a, b), mixed, full, strict=True):
            assert got.dtype == operand.dtype
            np.testing.assert_allclose(got, want if np.iscomplexobj(got) else want.real, rtol=1e-14)


# ---- what there is ------------------------------------------------------------------------------


def test_every_ufunc_is_differentiable_constant_or_refused_by_name():
    ufuncs = {u for u in vars(np).values() if isinstance(u, np.ufunc)}
    differentiable = {p.ufunc for p in NUMPYS}
    constant = {p.ufunc for p in PRIMITIVES.values() if isinstance(p, ConstantUfunc)}
    composed = {np.divmod, np.modf, np.frexp, np.float_power, np.conjugate}
    generalized = {u for u in ufuncs if u.signature}
    assert composed | generalized <= set(UFUNCS)
    assert ufuncs - differentiable - constant - composed - generalized == {np.isnat}
    with pytest.raises(TypeError, match=r"np\.isnat"):
        vk.grad(lambda x: np.sum(x * np.isnat(x)))(np.ones(2))
