"""Hyperparameters of a Gaussian process by marginal likelihood, checked against scikit-learn."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, ExpSineSquared, WhiteKernel

import vjpkit as vk
from tests.real.differences import assert_gradient


@pytest.fixture(scope="module")
def data(real: ModuleType) -> tuple[Any, Any]:
    """Twenty years of every second month."""
    return real.when[-120:], real.ppm[-120:] - real.ppm[-120:].mean()


def reference(theta: Any, data: tuple[Any, Any], optimizer: str | None) -> Any:
    """scikit-learn's process with the same kernel, its hyperparameters at theta."""
    wide = (1e-8, 1e8)
    trend, decades, wobble, months, season, drift, shape, noise = np.exp(theta)
    kernel = (
        ConstantKernel(trend, wide) * RBF(decades, wide)
        + ConstantKernel(wobble, wide) * RBF(months, wide)
        + ConstantKernel(season, wide)
        * RBF(drift, wide)
        * ExpSineSquared(shape, 1.0, length_scale_bounds=wide, periodicity_bounds="fixed")
        + WhiteKernel(noise, wide)
    )
    times, ppm = data
    return GaussianProcessRegressor(kernel, alpha=0.0, optimizer=optimizer).fit(times[:, None], ppm)


def test_value_and_gradient_are_scikit_learns(real: ModuleType, data: tuple[Any, Any]) -> None:
    generator = np.random.default_rng(0)
    for theta in (real.guess, real.guess + 0.5 * generator.normal(size=8)):
        value, gradient = vk.value_and_grad(real.negative_log_likelihood)(theta, *data)
        model = reference(theta, data, None)
        theirs, slopes = model.log_marginal_likelihood(theta, eval_gradient=True)
        # The condition number of the covariance, about 1e6, costs either side six digits.
        np.testing.assert_allclose(value, -theirs, rtol=1e-9)
        np.testing.assert_allclose(gradient, -slopes, rtol=1e-7, atol=1e-8 * abs(slopes).max())


def test_gradient_agrees_with_finite_differences(real: ModuleType, data: tuple[Any, Any]) -> None:
    assert_gradient(lambda t: real.negative_log_likelihood(t, *data), real.guess, rtol=1e-7)


def test_hessian_agrees_with_differences_of_the_gradient(
    real: ModuleType, data: tuple[Any, Any]
) -> None:
    hessian = vk.hessian(real.negative_log_likelihood)(real.guess, *data)
    gradient = vk.grad(real.negative_log_likelihood)
    scale = abs(hessian).max()
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-8 * scale)
    for axis, row in zip(np.eye(8), hessian):
        step = 1e-4 * axis
        slope = (gradient(real.guess + step, *data) - gradient(real.guess - step, *data)) / 2e-4
        np.testing.assert_allclose(row, slope, atol=1e-6 * scale)


def test_optimum_is_scikit_learns(real: ModuleType, data: tuple[Any, Any]) -> None:
    value_and_grad = vk.value_and_grad(real.negative_log_likelihood)
    options = {"gtol": 1e-4, "ftol": 0.0, "maxiter": 500}
    found = minimize(value_and_grad, real.guess, data, jac=True, method="L-BFGS-B", options=options)
    theirs = reference(real.guess, data, "fmin_l_bfgs_b").kernel_.theta
    hessian = vk.hessian(real.negative_log_likelihood)(found.x, *data)
    mu = np.linalg.eigvalsh(hessian)[0]
    left = [np.linalg.norm(value_and_grad(theta, *data)[1]) for theta in (found.x, theirs)]
    # Both are at most |g| / mu from the same minimum, up to the change of the Hessian on the way.
    assert mu > 0.1
    assert np.linalg.norm(found.x - theirs) <= 1.05 * sum(left) / mu < 0.1
