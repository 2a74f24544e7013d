"""An ODE integrated by a Python loop, fitted, and checked against SciPy's fit of its solution."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.optimize import curve_fit, least_squares

import vjpkit as vk
from tests.real.differences import assert_gradient

P = np.array([315.0, 0.02, 280.0, 10.0, 5.0, -3.0, -6.0])
UNITS = np.array([1.0, 1e-3, 1.0, 1.0, 1.0, 1.0, 1.0])  # the rate is a small number


@pytest.fixture(scope="module")
def record(real: ModuleType) -> tuple[Any, Any, Any]:
    """Times, concentrations and which are measured, of the first twelve years."""
    return real.time_line[:144], real.co2[:144], real.measured[:144]


def closed_form(p: Any, t: Any) -> Any:
    """The solution of the linear equation; the seasons are solved by undetermined coefficients."""
    c0, r, level = p[:3]

    def particular(t: Any) -> Any:
        total = 0.0
        for k, (a, b) in enumerate((p[3:5], p[5:7]), start=1):
            w = 2.0 * np.pi * k
            cosine, sine = -(r * a + w * b) / (r * r + w * w), (w * a - r * b) / (r * r + w * w)
            total = total + cosine * np.cos(w * t) + sine * np.sin(w * t)
        return total

    start = c0 - level - particular(t[0])
    return level + start * np.exp(r * (t - t[0])) + particular(t)


def test_the_loop_approaches_the_closed_form(real: ModuleType, record: Any) -> None:
    times = record[0]
    errors = []
    for steps in (1, 2, 4):
        fine = np.linspace(times[0], times[-1], steps * (len(times) - 1) + 1)
        errors.append(abs(real.trajectory(P, fine)[::steps] - closed_form(P, times)).max())
    rates = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(rates, 4.0, atol=0.2)  # Runge-Kutta's order


def test_gradient_agrees_with_finite_differences(real: ModuleType, record: Any) -> None:
    """In units in which all parameters are of order one."""
    assert_gradient(lambda q: real.misfit(P + UNITS * q, *record), np.zeros(7), rtol=1e-8)


def test_reverse_over_a_long_loop_is_forward_over_it(real: ModuleType, record: Any) -> None:
    times = record[0]
    out, pullback = vk.vjp(lambda p: real.trajectory(p, times), P)
    np.testing.assert_array_equal(out, real.trajectory(P, times))
    forward = vk.jacfwd(lambda p: real.trajectory(p, times))(P)
    generator = np.random.default_rng(0)
    for u in generator.normal(size=(3, len(times))):
        np.testing.assert_allclose(pullback(u)[0], u @ forward, rtol=1e-10)


def test_jacobian_is_that_of_the_closed_form(real: ModuleType, record: Any) -> None:
    """Up to the scheme's error; the closed form is differentiated by its own, other program."""
    times = record[0]
    ours = vk.jacfwd(lambda p: real.trajectory(p, times))(P) * UNITS
    exact = vk.jacfwd(lambda p: closed_form(p, times))(P) * UNITS
    assert np.all(abs(ours - exact) < 2e-3 * abs(exact).max(axis=0))


def test_optimum_is_curve_fits(real: ModuleType, record: Any) -> None:
    times, co2, measured = record

    def residuals(p: Any) -> Any:
        return real.trajectory(p, times)[measured] - co2[measured]

    def solved(_: Any, *p: Any) -> Any:
        return closed_form(p, times)[measured]

    tight = {"xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12}
    jacobian = vk.jacfwd(residuals)
    ours = least_squares(residuals, real.first_guess, jac=jacobian, x_scale="jac", **tight).x
    theirs, _ = curve_fit(
        solved, times[measured], co2[measured], real.first_guess,
        method="trf", x_scale="jac", **tight,
    )  # fmt: skip

    # Trajectories that differ by d at equal parameters have fits that differ by J^+ d.
    j = jacobian(ours)
    discretization = real.trajectory(ours, times)[measured] - solved(None, *ours)
    predicted = -np.linalg.pinv(j / abs(j).max(axis=0)) @ discretization / abs(j).max(axis=0)
    variance = np.mean(residuals(ours) ** 2)
    uncertain = np.sqrt(variance * np.diag(np.linalg.inv(j.T @ j)))
    assert np.all(abs(ours - theirs - predicted) < 0.01 * uncertain)
    assert np.all(abs(predicted) < 0.2 * uncertain)

    # At the optimum the gradient of the misfit vanishes, against its size at the start.
    gradient = vk.grad(real.misfit)
    left = np.linalg.norm(gradient(ours, *record) * UNITS)
    assert left < 1e-6 * np.linalg.norm(gradient(real.first_guess, *record) * UNITS)
