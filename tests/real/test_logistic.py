"""Logistic and softmax regression, fitted by L-BFGS and checked against scikit-learn."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

import vjpkit as vk
from tests.real.differences import assert_gradient


def fit(loss: Any, start: Any, *data: Any) -> Any:
    """The minimum by L-BFGS, stopped by the gradient alone."""
    value_and_grad = vk.value_and_grad(loss)

    def flat(theta: Any) -> Any:
        value, gradient = value_and_grad(theta.reshape(start.shape), *data)
        return value, gradient.ravel()

    options = {"gtol": 1e-5, "ftol": 0.0, "maxiter": 2000, "maxfun": 5000, "maxcor": 30}
    found = minimize(flat, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    return found.x.reshape(start.shape)


@pytest.fixture(scope="module")
def theta() -> Any:
    return np.random.default_rng(1).normal(scale=0.3, size=31)


def test_gradient_is_the_closed_form(real: ModuleType, theta: Any) -> None:
    x, y = real.features, real.benign
    pull = -y / (1.0 + np.exp(y * (x @ theta[:-1] + theta[-1])))
    by_hand = np.append(x.T @ pull + theta[:-1], pull.sum())
    # The sum over 569 tumours rounds by some 1e-14 of its terms, which nearly cancel.
    np.testing.assert_allclose(vk.grad(real.logistic_loss)(theta, x, y), by_hand, rtol=1e-11)


def test_gradient_agrees_with_finite_differences(real: ModuleType, theta: Any) -> None:
    assert_gradient(lambda t: real.logistic_loss(t, real.features, real.benign), theta, rtol=1e-9)


def test_hessian_is_the_closed_form(real: ModuleType, theta: Any) -> None:
    x, y = np.column_stack([real.features, np.ones(569)]), real.benign
    p = 1.0 / (1.0 + np.exp(-(x @ theta)))
    by_hand = (x.T * (p * (1.0 - p))) @ x + np.diag([*[1.0] * 30, 0.0])
    hessian = vk.hessian(real.logistic_loss)(theta, real.features, y)
    np.testing.assert_allclose(hessian, by_hand, rtol=1e-11, atol=1e-12 * abs(by_hand).max())


def test_optimum_is_scikit_learns(real: ModuleType) -> None:
    ours = fit(real.logistic_loss, np.zeros(31), real.features, real.benign)
    model = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(real.features, real.benign)
    theirs = np.append(model.coef_[0], model.intercept_)
    # Where the curvature is at least mu, a gradient g is left at most |g| / mu from the minimum.
    gradient = vk.grad(real.logistic_loss)
    left = [np.linalg.norm(gradient(t, real.features, real.benign)) for t in (ours, theirs)]
    mu = np.linalg.eigvalsh(vk.hessian(real.logistic_loss)(ours, real.features, real.benign))[0]
    assert np.linalg.norm(ours - theirs) <= 1.01 * sum(left) / mu < 1e-3


@pytest.mark.parametrize("count", [1, 200])
def test_softmax_gradient_is_the_closed_form(real: ModuleType, count: int) -> None:
    images, labels = real.images[:count], real.names[:count]
    theta = np.random.default_rng(2).normal(scale=0.1, size=(65, 10))
    scores = np.exp(images @ theta[:-1] + theta[-1])
    excess = scores / scores.sum(axis=1, keepdims=True) - np.eye(10)[labels]
    by_hand = np.vstack([images.T @ excess + theta[:-1], excess.sum(axis=0)])
    gradient = vk.grad(real.softmax_loss)(theta, images, labels)
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-11, atol=1e-13 * count)
    assert_gradient(lambda t: real.softmax_loss(t, images, labels), theta, rtol=1e-9)


def test_softmax_optimum_is_scikit_learns(real: ModuleType) -> None:
    images, labels = real.images[:400], real.names[:400]
    ours = fit(real.softmax_loss, np.zeros((65, 10)), images, labels)
    model = LogisticRegression(C=1.0, tol=1e-7, max_iter=5000).fit(images, labels)
    theirs = np.vstack([model.coef_.T, model.intercept_])
    for theta in (ours, theirs):
        theta[-1] -= theta[-1].mean()  # the loss does not see a common shift
    step = ours - theirs
    losses = [real.softmax_loss(theta, images, labels) for theta in (ours, theirs)]
    slopes = [np.sum(vk.grad(real.softmax_loss)(t, images, labels) * step) for t in (ours, theirs)]
    # A convex function lies above its tangent planes; each loss sums 400 rounded terms.
    rounding = 400 * np.finfo(float).eps * losses[0]
    assert slopes[1] - rounding <= losses[0] - losses[1] <= slopes[0] + rounding
    # The penalty makes it strongly convex in the weights.
    assert np.sum(step[:-1] ** 2) <= slopes[0] - slopes[1] + rounding < 1e-4
    scores, _ = vk.vjp(lambda t: images @ t[:-1] + t[-1], ours)
    assert np.mean(np.argmax(scores, axis=1) == labels) == model.score(images, labels)


def test_rows_of_a_batch_pull_back_alike(real: ModuleType) -> None:
    """Per-example gradients, batched, add up to the gradient of the sum."""
    theta = np.random.default_rng(3).normal(scale=0.1, size=(65, 10))
    images, labels = real.images[:16], real.names[:16]

    def each(theta: Any) -> Any:
        scores = images @ theta[:-1] + theta[-1]
        return np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(16), labels]

    _, pullback = vk.vjp(each, theta)
    (apart,) = pullback.batched(np.eye(16))
    whole = vk.grad(real.softmax_loss)(theta, images, labels, 0.0)
    np.testing.assert_allclose(apart.sum(axis=0), whole, rtol=1e-11, atol=1e-13)
