"""Numerical derivatives are as good as they say."""

from typing import Any

import numpy as np
import pytest

from vjpkit.testing.numeric import central, complex_step, one_sided, wide

SMOOTH: dict[str, tuple[Any, Any]] = {
    "exp": (np.exp, np.exp),
    "sin": (np.sin, np.cos),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "cube": (lambda x: x**3, lambda x: 3 * x**2),
    "log": (np.log, lambda x: 1 / x),
}
X = np.array([0.3, 1.2, 2.5])


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("side", [-1, 0, 1])
def test_estimates_are_within_their_error(name, side):
    f, derivative = SMOOTH[name]
    line = lambda h: [f(X + h)]
    (estimate,) = one_sided(line, side) if side else central(line)
    off = abs(estimate.value - derivative(X))
    assert (off <= 10 * estimate.error).all()
    assert (off <= 1e-9 * abs(derivative(X))).all()


def test_central_differences_to_eleven_digits():
    (estimate,) = central(lambda h: [np.exp(X + h)])
    np.testing.assert_allclose(estimate.value, np.exp(X), rtol=1e-11)


@pytest.mark.parametrize("name", SMOOTH)
def test_complex_step_is_exact(name):
    f, derivative = SMOOTH[name]
    (got,) = complex_step(lambda h: [f(X + h)])
    np.testing.assert_allclose(got, derivative(X), rtol=4e-16)


def test_several_outputs_of_several_shapes():
    estimates = central(lambda h: [np.float64(2 * h), np.full((2, 0), h), h * np.eye(2)])
    assert [e.value.shape for e in estimates] == [(), (2, 0), (2, 2)]
    np.testing.assert_allclose(estimates[2].value, np.eye(2), atol=1e-12)


def test_complex_outputs():
    (estimate,) = central(lambda h: [np.exp(1j * h)])
    np.testing.assert_allclose(estimate.value, 1j, atol=1e-11)


def test_kink_seen_from_both_sides_and_in_the_middle():
    line = lambda h: [max(h, 3 * h)]
    slopes = [one_sided(line, -1)[0].value, central(line)[0].value, one_sided(line, 1)[0].value]
    np.testing.assert_allclose(slopes, [1, 2, 3], atol=1e-12)


def test_a_jump_has_a_large_error():
    (estimate,) = central(lambda h: [float(h > 0)])
    assert estimate.error > 1


def test_steps_out_of_the_domain_are_left_out():
    with np.errstate(all="ignore"):
        (estimate,) = central(lambda h: [np.log(0.01 + h)])
    np.testing.assert_allclose(estimate.value, 100, rtol=1e-3)

    def factor(h):
        return [np.linalg.cholesky(np.array([[0.01 + h]]))]

    (estimate,) = central(factor)
    np.testing.assert_allclose(estimate.value, [[5.0]], rtol=1e-3)


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(ArithmeticError, match="not finite"):
        central(lambda h: [np.nan])

    def never(h):
        raise np.linalg.LinAlgError

    with pytest.raises(ArithmeticError, match="cannot be evaluated"):
        central(never)


def test_one_step_has_no_error_estimate():
    (estimate,) = central(lambda h: [h**3], steps=(0.5,))
    assert estimate.value == 0.25
    assert estimate.error == 0


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [
        ("float16", "float64"),
        ("float32", "float64"),
        ("complex64", "complex128"),
        ("int32", "int32"),
    ],
)
def test_wide(dtype, wanted):
    assert wide(np.ones(2, dtype)).dtype == wanted
