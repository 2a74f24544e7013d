"""Rules at points that no generated test can go to: poles, overflow, Python's zeros, no freedom."""

import math
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.ops.linalg import cholesky_pull
from vjpkit.test_util import check_grads


def test_reciprocal_of_pythons_zeros_keeps_the_sign():
    """log y has the slope 1/y, infinite at Python's zeros of both signs."""
    with np.errstate(all="ignore"):
        assert vk.grad(np.log)(0.0) == math.inf
        assert vk.grad(np.log)(-0.0) == -math.inf
        assert vk.grad(lambda x: 3.0 * np.log(x))(0.0) == math.inf


def test_quotients_by_pythons_complex_zero_are_not_finite():
    """As by NumPy's: nothing is raised where t / y has to give zero for zero."""
    x = np.array([1.0 + 2.0j, 0.5])
    with np.errstate(all="ignore"):
        for zero in (0j, np.complex128(0)):
            _, t = vk.jvp(lambda x, zero=zero: x / zero, (x,), (np.array([1.0 + 0j, 0.0]),))
            assert not np.isfinite(t[0])
            assert t[1] == 0


NESTED: dict[str, Any] = {
    "grad of grad": lambda f: vk.grad(vk.grad(f)),
    "jvp of jvp": lambda f: lambda x: vk.jvp(lambda y: vk.jvp(f, (y,), (1.0,))[1], (x,), (1.0,))[1],
    "jvp of grad": lambda f: lambda x: vk.jvp(vk.grad(f), (x,), (1.0,))[1],
    "grad of jvp": lambda f: vk.grad(lambda y: vk.jvp(f, (y,), (1.0,))[1]),
    "jit of grad": lambda f: vk.jit(vk.grad(f)),
    "third": lambda f: vk.grad(vk.grad(vk.grad(f))),
}


@pytest.mark.parametrize("nested", NESTED)
@pytest.mark.parametrize(
    ("f", "x"),
    [
        (np.log, 0.0), (np.log2, -0.0), (np.log10, 0.0), (np.log1p, -1.0), (np.arctanh, 1.0),
        (np.sqrt, 0.0), (np.cbrt, 0.0), (np.reciprocal, 0.0),
        (lambda x: np.divide(1.0, x), 0.0), (lambda x: np.power(x, -1.0), 0.0),
        (lambda x: np.power(x, -2.0), 1e-154),
        (lambda x: np.power(x, x), 710.0), (lambda x: np.hypot(x, x), 0.0),
        (lambda x: np.arctan2(x, x), 0.0), (lambda x: np.logaddexp(x, x), 1e300),
    ],
    ids=str.split(
        "log log2 log10 log1p arctanh sqrt cbrt reciprocal divide power slope overflow hypot "
        "arctan2 logaddexp"
    ),
)  # fmt: skip
def test_functions_of_numpy_take_pythons_numbers_as_their_own(f, x, nested):
    """However often a Python number is traced, nothing is raised where NumPy gives inf or nan."""
    with np.errstate(all="ignore"):
        for number in (x, np.float64(x)):
            assert isinstance(NESTED[nested](f)(number), np.float64)


def test_functions_of_numpy_warn_where_operators_of_python_raise():
    for f in (np.divide, np.floor_divide, np.remainder):
        with pytest.warns(RuntimeWarning):
            value, _ = vk.vjp(lambda x, f=f: f(1.0, x), 0.0)
        with np.errstate(all="ignore"):
            np.testing.assert_equal(value, f(1.0, 0.0))
    with pytest.raises(ZeroDivisionError):  # as without vjpkit
        vk.vjp(lambda x: 1.0 / x, 0.0)


def test_arcsinh_far_out_does_not_overflow():
    assert vk.grad(np.arcsinh)(1e200) == pytest.approx(1e-200, rel=1e-12)
    assert vk.grad(np.arcsinh)(np.float64(-1e200)) == pytest.approx(1e-200, rel=1e-12)


@pytest.mark.parametrize("number", [float, np.float64])
def test_power_of_zero_does_not_depend_on_the_exponent(number):
    for exponent in (0.0, 1.0, 2.5):
        assert vk.grad(lambda y: number(0.0) ** y)(exponent) == 0.0
        assert vk.grad(lambda x, y: x**y, argnums=1)(number(0.0), exponent) == 0.0


def test_power_of_a_negative_number_has_no_slope_in_its_exponent():
    with np.errstate(all="ignore"):
        assert np.isnan(vk.grad(lambda y: (-2.0) ** y)(3.0))
        assert np.isnan(vk.grad(lambda x, y: x**y, argnums=1)(-2.0, 3.0))


@pytest.mark.parametrize("f", [np.var, np.std])
@pytest.mark.parametrize("ddof", [2, 3])
@pytest.mark.filterwarnings("ignore:Degrees of freedom:RuntimeWarning")
def test_dispersion_without_freedom_has_no_derivative(f, ddof):
    with np.errstate(all="ignore"):
        assert np.isnan(vk.grad(lambda x: f(x, ddof=ddof))(np.array([1.0, 2.0]))).all()


def test_direction_of_a_complex_number_of_length_one():
    z = np.array([0.6 + 0.8j, 0j])
    t = np.array([0.3 - 0.2j, 1.0])
    tangent = vk.jvp(np.sign, (z,), (t,))[1]
    across = t[0] - z[0] * (z[0].conjugate() * t[0]).real
    np.testing.assert_allclose(tangent, [across, 0], rtol=1e-15)


def test_products_with_a_logarithm_are_constant_where_both_vanish():
    """x log y is 0 at 0 log 0, and so are its derivatives there; x log(1 + y) likewise."""
    special = pytest.importorskip("scipy.special")
    for f, edge in ((special.xlogy, 0.0), (special.xlog1py, -1.0)):
        assert vk.grad(f, argnums=(0, 1))(0.0, edge) == (0.0, 0.0)
        assert vk.grad(f, argnums=(0, 1))(1.0, edge + 2) == pytest.approx((math.log(2), 0.5))
        assert vk.grad(f, argnums=(0, 1))(0.0, edge + 2) == pytest.approx((math.log(2), 0.0))
        assert vk.grad(vk.grad(f, 1), 0)(0.0, edge + 2) == pytest.approx(0.5)
        assert vk.grad(f, argnums=(0, 1))(1.0, edge) == (-math.inf, math.inf)


def test_entropy_is_constant_below_zero():
    special = pytest.importorskip("scipy.special")
    x = np.array([-2.0, 0.5])
    gradient = vk.grad(lambda x: np.sum(special.entr(x)))(x)
    np.testing.assert_allclose(gradient, [0, -1 - np.log(0.5)], rtol=1e-15)


@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 2)])
def test_complete_orthogonal_factors(shape):
    """Q of the complete form is known up to a turn of its last columns: Q Q' of these is not."""
    a = np.random.default_rng(2).standard_normal(shape)
    weight = np.random.default_rng(3).standard_normal((3, 3))
    rest = lambda q: np.sum((q[..., 2:] @ np.swapaxes(q[..., 2:], -1, -2)) * weight)
    check_grads(lambda a: rest(np.linalg.qr(a, mode="complete")[0]), (a,), 1)
    check_grads(lambda a: rest(np.linalg.svd(a)[0]), (a,), 1)


def test_pullback_of_cholesky_is_linear_in_cotangent_and_products():
    """In the cotangent and all first factors together, one per product U V'."""
    assert cholesky_pull.linear_in((False, True, True, False, True, False), {})
    assert not cholesky_pull.linear_in((False, True, False, True, False, True), {})
    assert not cholesky_pull.linear_in((False, True, True, True), {})
    assert not cholesky_pull.linear_in((True, False), {})


CUTS = {
    np.arcsin: [1.3 + 0j, 1.3 - 0j, -1.3 + 0j, complex(-1.3, -0.0)],
    np.arccos: [1.3 + 0j, complex(1.3, -0.0), -1.3 + 0j, complex(-1.3, -0.0)],
    np.arcsinh: [2j, -2j, complex(-0.0, 2), complex(-0.0, -2)],
    np.arccosh: [0.3 + 0j, complex(0.3, -0.0), -2 + 0j, complex(-2, -0.0)],
    np.arctanh: [2 + 0j, complex(2, -0.0), -2 + 0j, complex(-2, -0.0)],
    np.sqrt: [-2 + 0j, complex(-2, -0.0)],
    np.log: [-2 + 0j, complex(-2, -0.0)],
}


@pytest.mark.parametrize("function", CUTS, ids=lambda f: f.__name__)
def test_on_a_branch_cut_the_derivative_is_that_along_the_cut(function):
    """The value is continuous along the cut, on the side that the sign of zero says."""
    along = 1j if function is np.arcsinh else 1.0
    for z in CUTS[function]:

        def line(h, z=z):
            moved = complex(z.real + h, z.imag) if along == 1 else complex(z.real, z.imag + h)
            return function(np.complex128(moved))

        wanted = (line(1e-6) - line(-1e-6)) / 2e-6
        got = vk.jvp(function, (np.complex128(z),), (np.complex128(along),))[1]
        np.testing.assert_allclose(got, wanted, rtol=1e-8, err_msg=f"{function.__name__} at {z}")
