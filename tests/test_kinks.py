"""The table of kinks: what a derivative is where there are several candidates, to every order."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk


def derivatives(f, x, orders=3):
    """f'(x), f''(x), ... by reverse mode throughout, and by forward mode over it; they agree."""
    out = []
    for _ in range(orders):
        derivative = vk.grad(f)
        forward = vk.jvp(f, (x,), (np.ones(np.shape(x)),))[1]
        out.append(float(derivative(x)))
        assert float(forward) == out[-1]
        f = derivative
    return out


KINKS: dict[str, Any] = {
    "abs": (np.abs, 0.0, [0, 0, 0]),
    "abs of -0.0": (np.abs, -0.0, [0, 0, 0]),
    "fabs": (np.fabs, 0.0, [0, 0, 0]),
    "sign": (lambda x: np.sign(x) * x, 0.0, [0, 0, 0]),
    "copysign": (lambda x: np.copysign(x, 2.0), 0.0, [0, 0, 0]),
    "x**0.0": (lambda x: x**0.0, 0.0, [0, 0, 0]),
    "x**0": (lambda x: x**0, 0.0, [0, 0, 0]),
    "x**1": (lambda x: x**1, 0.0, [1, 0, 0]),
    "x**2": (lambda x: x**2, 0.0, [0, 2, 0]),
    "x**3.0": (lambda x: x**3.0, 0.0, [0, 0, 6]),
    "x**array(0)": (lambda x: x ** np.float64(0), 0.0, [0, 0, 0]),
    "x**array(1)": (lambda x: x ** np.float64(1), 0.0, [1, 0, 0]),
    "x**array(2)": (lambda x: x ** np.float64(2), 0.0, [0, 2, 0]),
    "x**int(3)": (lambda x: x ** np.int64(3), 0.0, [0, 0, 6]),
    "power(x, 2)": (lambda x: np.power(x, 2), 0.0, [0, 2, 0]),
    "x**2 of negative x": (lambda x: x**2, -1.5, [-3, 2, 0]),
    "x**int(3) of negative x": (lambda x: x ** np.int64(3), -2.0, [12, -12, 6]),
    "x**-1 of negative x": (lambda x: x**-1, -2.0, [-0.25, -0.25, -0.375]),
    "0**y": (lambda y: np.float64(0) ** y, 2.0, [0, 0, 0]),
    "0**0 by the exponent": (lambda y: np.float64(0) ** y, 0.0, [0, 0, 0]),
    "hypot at the origin": (lambda x: np.hypot(x, x), 0.0, [0, 0, 0]),
    "hypot with 0": (lambda x: np.hypot(x, 0.0), 0.0, [0, 0, 0]),
    "hypot of equals": (lambda x: np.hypot(x, 1.0), 1.0, [0.5**0.5, 0.5**1.5, -3 * 0.5**2.5]),
    "maximum of x and x": (lambda x: np.maximum(x, x), 1.0, [1, 0, 0]),
    "maximum of x and 2x": (lambda x: np.maximum(x, 2 * x), 0.0, [1.5, 0, 0]),
    "maximum(x, 0)": (lambda x: np.maximum(x, 0.0), 0.0, [0.5, 0, 0]),
    "minimum(x, 0)": (lambda x: np.minimum(x, 0.0), 0.0, [0.5, 0, 0]),
    "fmax(x, 0)": (lambda x: np.fmax(x, 0.0), 0.0, [0.5, 0, 0]),
    "fmin(x, 0)": (lambda x: np.fmin(x, 0.0), 0.0, [0.5, 0, 0]),
    "square of maximum": (lambda x: np.maximum(x, 0.0) ** 2, 0.0, [0, 0.5, 0]),
    "remainder": (lambda x: x % 1.0, 2.0, [1, 0, 0]),
    "floor": (lambda x: x * np.floor(x), 2.0, [2, 0, 0]),
    "logaddexp of equals": (lambda x: np.logaddexp(x, 2.0), 2.0, [0.5, 0.25, 0]),
}  # fmt: skip


@pytest.mark.parametrize("name", KINKS)
@pytest.mark.parametrize("kind", [float, np.float64, np.array])
def test_kink(name, kind):
    f, x, wanted = KINKS[name]
    got = derivatives(f, kind(x))
    assert got == pytest.approx(wanted, rel=1e-15, abs=1e-15)


@pytest.mark.parametrize("name", KINKS)
def test_kinks_are_the_same_in_an_array_and_staged(name):
    f, x, wanted = KINKS[name]
    xs = np.array([x, x])
    gradient = vk.grad(lambda x: np.sum(f(x)))
    np.testing.assert_allclose(gradient(xs), [wanted[0]] * 2, rtol=1e-15)
    (staged,) = vk.make_ir(gradient)(xs)(xs)
    np.testing.assert_allclose(staged, [wanted[0]] * 2, rtol=1e-15)
    second = vk.make_ir(lambda x: vk.jvp(gradient, (x,), (np.ones(2),))[1])(xs)(xs)[0]
    np.testing.assert_allclose(second, [wanted[1]] * 2, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("name", ["maximum", "minimum", "fmax", "fmin"])
def test_ties_share_the_cotangent_equally(name):
    f = getattr(np, name)
    x, y = np.array([1.0, 2.0, 3.0]), np.array([1.0, 5.0, 0.0])
    gx, gy = vk.grad(lambda x, y: np.sum(f(x, y) * [1, 2, 4]), argnums=(0, 1))(x, y)
    first = {"maximum": [0.5, 0, 4], "minimum": [0.5, 2, 0]}
    want = np.array(first["maximum" if name in ("maximum", "fmax") else "minimum"])
    np.testing.assert_array_equal(gx, want)
    np.testing.assert_array_equal(gy, [1, 2, 4] - want)


@pytest.mark.parametrize("name", ["fmax", "fmin"])
def test_the_number_wins_over_nan(name):
    f = getattr(np, name)
    x, y = np.array([np.nan, 2.0]), np.array([1.0, np.nan])
    gx, gy = vk.grad(lambda x, y: np.sum(f(x, y)), argnums=(0, 1))(x, y)
    np.testing.assert_array_equal(gx, [0, 1])
    np.testing.assert_array_equal(gy, [1, 0])


@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
def test_logaddexp_of_the_same_infinity(infinity):
    assert vk.grad(np.logaddexp, argnums=(0, 1))(infinity, infinity) == (0.5, 0.5)


@pytest.mark.parametrize("f", [np.logaddexp, np.logaddexp2])
def test_logaddexp_of_nan(f):
    with np.errstate(invalid="ignore"):
        for operands in ((np.nan, 1.0), (1.0, np.nan), (np.nan, np.inf)):
            assert np.isnan(vk.grad(f, argnums=(0, 1))(*operands)).all()


@pytest.mark.parametrize("strict", [False, True])
def test_std_of_equal_values_has_zero_derivatives(strict):
    x, t = np.full(3, 1.5), np.arange(3.0)
    gradient = vk.grad(np.std, strict=strict)
    np.testing.assert_array_equal(vk.jvp(gradient, (x,), (t,), strict=strict)[1], 0)
    np.testing.assert_array_equal(vk.grad(lambda x: gradient(x)[0], strict=strict)(x), 0)


@pytest.mark.parametrize("f", [np.fmax, np.fmin])
def test_of_two_nan_none_wins(f):
    assert vk.grad(f, argnums=(0, 1))(np.nan, np.nan) == (0, 0)
    assert vk.grad(f, argnums=(0, 1))(np.nan, 1.0) == (0, 1)


def test_logaddexp_with_one_infinity():
    assert vk.grad(np.logaddexp, argnums=(0, 1))(-np.inf, 1.0) == (0, 1)
    assert vk.grad(np.logaddexp, argnums=(0, 1))(np.inf, 1.0) == (1, 0)


@pytest.mark.parametrize("f", [np.abs, lambda z: np.real(np.sign(z))], ids=["abs", "sign"])
@pytest.mark.parametrize("strict", [False, True])
def test_complex_magnitude_and_sign_at_zero(f, strict):
    z = np.array([0j, 0.6 + 0.8j])
    gradient = vk.grad(lambda z: np.sum(f(z)), strict=strict)
    assert gradient(z)[0] == 0
    assert vk.jvp(gradient, (z,), (np.ones(2, complex),), strict=strict)[1][0] == 0
    assert vk.grad(lambda z: np.real(gradient(z)[0]), strict=strict)(z)[0] == 0


def test_infinite_slopes_stay_infinite():
    assert vk.grad(np.sqrt)(np.float64(0)) == np.inf
    assert vk.grad(lambda x: x**0.5)(0.0) == np.inf
    assert vk.grad(lambda x: x**0.25)(np.float64(0)) == np.inf
    assert vk.grad(np.cbrt)(0.0) == np.inf
    with np.errstate(divide="ignore"):
        assert vk.grad(np.log)(0.0) == np.inf
        assert vk.grad(lambda x: 1 / x)(np.float64(0)) == -np.inf
