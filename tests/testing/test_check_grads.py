"""check_grads passes what is right, and says precisely what is wrong."""

from collections import namedtuple

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.test_util import check_grads

X = np.array([0.3, -1.2, 2.5])
Pair = namedtuple("Pair", "first second")


def doubled_pullback(x):
    """x ** 2, with a forward derivative twice too large at its second element."""
    weight = np.array([1.0, 2.0, 1.0])
    stopped = vk.lax.stop_gradient(x)
    return x * stopped * weight * 2 - stopped * stopped * (2 * weight - 1)


def constant_in_derivative(x):
    """Right in value and first derivative, wrong in the second: its slope is a constant."""
    stopped = vk.lax.stop_gradient(x)
    return np.sin(stopped) + np.cos(stopped) * (x - stopped)


@pytest.mark.parametrize("modes", ["fwd", "rev", ("fwd", "rev"), ["rev"]])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_passes_what_is_right(order, modes):
    check_grads(lambda x, y: np.sum(np.sin(x) * y) / (2 + y), (X, 1.5), order, modes)


def test_passes_trees_numbers_integers_and_empty_leaves():
    def f(p, n):
        return {"out": [p["w"] @ p["x"] ** n, Pair(np.exp(p["b"]), 3)], "none": None}

    tree = {"w": np.ones((2, 3)), "x": X, "b": 0.5, "unused": (np.zeros((0, 2)), None)}
    check_grads(f, (tree, 2), order=2)


def test_passes_complex_functions_holomorphic_and_not():
    z = np.array([0.3 + 1j, -1.2 - 0.4j])
    check_grads(lambda z: np.exp(z) * z, (z,), order=2)
    check_grads(lambda z: np.sum((z * np.conj(z)).real), (z,), order=2)


def test_passes_single_precision_at_its_own_tolerance():
    check_grads(lambda x: np.tanh(x) / (1 + x * x), (X.astype(np.float32),), order=2)


def test_steps_follow_the_size_of_the_argument():
    check_grads(lambda x: np.sin(1e6 * x), (X * 1e-6,), order=1)
    check_grads(lambda x: np.sin(1e-6 * x), (X * 1e6,), order=1)


def test_passes_a_kink_whose_derivative_is_the_mean_of_its_slopes():
    check_grads(lambda x: np.maximum(x, -x), (0.0,), order=1)


def test_eps_asks_for_one_step():
    check_grads(np.sin, (X,), 1, eps=1e-4)
    with pytest.raises(AssertionError, match="wrong"):
        check_grads(lambda x: x**3, (X,), 1, eps=1.0)


def test_tolerances_are_the_users():
    off = lambda x: np.sin(x) + 1e-4 * vk.lax.stop_gradient(x)
    with pytest.raises(AssertionError, match="wrong"):
        check_grads(off, (X,), 1)
    check_grads(off, (X,), 1, atol=1e-2, rtol=1e-2)


def test_forward_error_names_output_element_and_argument():
    f = lambda p, y: {"good": y, "bad": doubled_pullback(p["x"]) + y}
    with pytest.raises(AssertionError) as raised:
        check_grads(f, ({"x": np.ones(3)}, X), 1, "fwd")
    text = str(raised.value)
    assert text.startswith(
        "check_grads (fwd): the tangent of output['bad'] is wrong at [1]: jvp gives"
    )
    assert "(1 of 3 elements are wrong)" in text
    assert text.endswith("it is wrong along args[0]['x']")


def test_reverse_error_names_argument_and_element():
    f = lambda p, y: {"good": y, "bad": doubled_pullback(p["x"]) + y}
    with pytest.raises(AssertionError) as raised:
        check_grads(f, ({"x": np.ones(3)}, X), 1, "rev")
    text = str(raised.value)
    assert text.startswith(
        "check_grads (rev): the cotangent of args[0]['x'] is wrong at [1]: vjp gives"
    )
    assert text.endswith("(1 of 3 elements are wrong)")


def test_reverse_error_in_a_complex_argument():
    f = lambda z: np.sum((z * vk.lax.stop_gradient(z)).real)
    with pytest.raises(AssertionError, match=r"cotangent of args\[0\] is wrong at \[0\]"):
        check_grads(f, (np.array([2.0 + 1j, 0.0]),), 1, "rev")


def test_reverse_error_in_a_large_argument_is_found_by_looking_at_some_elements():
    weight = np.ones(5000)
    weight[::2] = 2.0
    f = lambda x: np.sum(weight * x * vk.lax.stop_gradient(x))
    with pytest.raises(AssertionError, match=r"args\[0\] is wrong at \[\d+\].* of 200 elements"):
        check_grads(f, (np.ones(5000),), 1, "rev")


@pytest.mark.parametrize(
    ("modes", "order"),
    [("fwd", "fwd of fwd"), ("rev", "rev of rev"), (("fwd", "rev"), "fwd of fwd")],
)
def test_second_order_error_names_the_mixture(modes, order):
    check_grads(constant_in_derivative, (X,), 1, modes)
    with pytest.raises(AssertionError, match=rf"check_grads \({order}\)"):
        check_grads(constant_in_derivative, (X,), 2, modes)


NEAR = np.array([1.0, 0.9985, -0.2])
"""The two largest almost tie: the greatest of them has a kink close by, but none here."""


def test_passes_smooth_points_close_to_a_kink():
    check_grads(np.max, (NEAR,), order=2)


@pytest.mark.parametrize("modes", ["fwd", "rev"])
def test_wrong_derivatives_close_to_a_kink_are_found(modes):
    def of_second(x):
        stopped = vk.lax.stop_gradient(x)
        return np.max(stopped) + x[1] - stopped[1]

    with pytest.raises(
        AssertionError, match=rf"check_grads \({modes}\): the .* is wrong"
    ) as caught:
        check_grads(of_second, (NEAR,), order=1, modes=modes)
    assert "kink" not in str(caught.value)


@pytest.mark.parametrize("modes", ["fwd", "rev"])
def test_kink_is_named_with_both_slopes(modes):
    kinked = lambda x: np.where(x > 0, 3 * x, x)
    with pytest.raises(AssertionError, match=r"(?s)wrong.*kink at this point.*slope is"):
        check_grads(kinked, (0.0,), 1, modes)


def test_jump_does_not_settle():
    with pytest.raises(AssertionError, match="do not settle"):
        check_grads(lambda x: np.where(x >= 0, x + 1, x), (0.0,), 1)


def test_outside_of_the_domain():
    with (
        np.errstate(all="ignore"),
        pytest.raises(AssertionError, match="no differences at this point"),
    ):
        check_grads(np.log, (-1.0,), 1)


def test_nan_is_wrong():
    f = lambda x: np.where(x > 0, x, x) + 0 * (vk.lax.stop_gradient(x) - 1) * np.nan
    with pytest.raises(AssertionError):
        check_grads(f, (1.0,), 1)


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(TypeError, match="args is the tuple of arguments, got ndarray"):
        check_grads(np.sin, np.ones(3), 1)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="modes are 'fwd' and 'rev', got 'forward'"):
        check_grads(np.sin, (X,), 1, "forward")
    with pytest.raises(ValueError, match="order counts from 1, got 0"):
        check_grads(np.sin, (X,), 0)
