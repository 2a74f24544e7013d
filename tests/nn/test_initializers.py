"""Initial weights: their distributions, shapes and dtypes, and bad input."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk

init: Any = vk.nn.initializers


def drawn(initializer, shape=(300, 200), seed=0):
    return initializer(np.random.default_rng(seed), shape)


@pytest.mark.parametrize(
    ("initializer", "deviation"),
    [
        (init.normal(0.3), 0.3), (init.uniform(0.6), 0.6 / 12**0.5),
        (init.glorot_normal(), 250**-0.5), (init.glorot_uniform(), 250**-0.5),
        (init.lecun_normal(), 300**-0.5), (init.lecun_uniform(), 300**-0.5),
        (init.he_normal(), 150**-0.5), (init.he_uniform(), 150**-0.5),
        (init.variance_scaling(3.0, "fan_out", "normal"), (3 / 200) ** 0.5),
        (init.truncated_normal(1.0), 0.8796), (init.orthogonal(), 300**-0.5),
    ],
)  # fmt: skip
def test_deviations(initializer, deviation):
    w = drawn(initializer)
    assert w.shape == (300, 200)
    assert w.dtype == np.float64
    assert abs(w.std() / deviation - 1) < 0.02
    np.testing.assert_array_equal(w, drawn(initializer))
    assert not np.array_equal(w, drawn(initializer, seed=1))


def test_fans_count_the_receptive_field():
    w = drawn(init.variance_scaling(1.0, "fan_in", "normal"), (5, 5, 40, 50))
    assert abs(w.std() * (5 * 5 * 40) ** 0.5 - 1) < 0.02
    w = drawn(init.variance_scaling(1.0, "fan_in", "normal", in_axis=0, out_axis=1), (400, 100))
    assert abs(w.std() * 20 - 1) < 0.02


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (2, 3, 4)])
def test_orthogonal(shape):
    w = drawn(init.orthogonal(2.0), shape).reshape(-1, shape[-1])
    small = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    np.testing.assert_allclose(small, 4 * np.eye(min(w.shape)), atol=1e-12)


def test_bounds_and_constants():
    w = drawn(init.truncated_normal(0.5, lower=-1.0, upper=3.0))
    assert -0.5 <= w.min() < w.max() <= 1.5
    assert init.constant(3, np.int32)(None, (2,)).dtype == np.int32
    assert init.zeros(None, (2, 3)).sum() == 0
    assert init.ones(None, (2, 3), np.float32).dtype == np.float32
    assert init.normal(1.0, np.float32)(np.random.default_rng(0), (3,)).dtype == np.float32


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: init.normal()(0, (2,)), TypeError, "normal: the first argument must be a numpy"),
        (lambda: init.he_normal()(None, (2, 2)), TypeError, "variance_scaling: the first argument"),
        (lambda: drawn(init.normal(), 3.5), TypeError, "normal: shape must be a tuple of ints"),
        (lambda: drawn(init.he_normal(), (3,)), ValueError, "variance_scaling: shape (3,) has few"),
        (lambda: drawn(init.orthogonal(), (3,)), ValueError, "orthogonal: shape (3,) has fewer"),
        (
            lambda: init.variance_scaling(1, "fan", "normal"),
            ValueError,
            "mode must be one of fan_in",
        ),
        (
            lambda: init.variance_scaling(1, "fan_in", "n"),
            ValueError,
            "distribution must be one of",
        ),
        (lambda: init.truncated_normal(lower=2.0), ValueError, "lower must be less than upper"),
    ],
    ids=lambda p: p if isinstance(p, str) else None,
)
def test_bad_input(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
    assert "test_initializers.py:" in str(caught.value)
