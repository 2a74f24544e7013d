"""`numpy.random` knows no traced arrays: what it does with them is right, an error or warned of."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from tests.numpy.agreement import source
from vjpkit.core.errors import TracerConversionError

X = np.arange(1.0, 7.0)
WEIGHTS = 10.0 ** np.arange(6)
untyped: Any = np.random  # for calls that its types do not allow


def rng() -> Any:
    return np.random.default_rng(0)


def shuffled(x: Any) -> Any:
    y = np.copy(x)
    rng().shuffle(y)
    return y


def shuffled_view(x: Any) -> Any:
    y = np.copy(x)
    rng().shuffle(y[::-1])
    return y


MODES: list[Callable[..., Any]] = [
    lambda f: vk.vjp(f, X)[0],
    lambda f: vk.jvp(f, (X,), (X,))[0],
    lambda f: vk.jit(f)(X),
    lambda f: vk.vmap(f)(X[None])[0],
]


@pytest.mark.parametrize(
    "f",
    [
        shuffled,
        shuffled_view,
        lambda x: rng().permutation(x),
        lambda x: rng().permuted(x),
        lambda x: rng().choice(x, 6),
        lambda x: rng().choice(x.reshape(3, 2), 6).ravel()[:6],
        lambda x: rng().permutation(x.reshape(3, 2)).ravel(),
    ],
    ids=range(7),
)
@pytest.mark.filterwarnings("ignore:you are shuffling")
def test_what_only_moves_elements(f: Callable[[Any], Any]) -> None:
    for run in MODES:
        np.testing.assert_array_equal(run(f), f(X))
    gradient = vk.grad(lambda x: np.sum(f(x) * WEIGHTS))(X)
    basis = [f(row) @ WEIGHTS for row in np.eye(6)]
    np.testing.assert_array_equal(gradient, basis)


def test_numpy_warns_before_it_shuffles_rows_as_python_would() -> None:
    """``x[i], x[j] = x[j], x[i]`` on rows that are views repeats some of them, as in NumPy."""

    def f(x: Any) -> Any:
        return shuffled(x.reshape(3, 2))

    for run in MODES:
        with pytest.warns(UserWarning, match="you are shuffling .* may contain duplicates"):
            run(f)
    rows = lambda x: x.reshape(3, 2)[rng().permutation(3)]
    np.testing.assert_array_equal(vk.vjp(rows, X)[0], f(X))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: rng().normal(x),
        lambda x: rng().normal(x[0]),
        lambda x: rng().normal(0.0, x),
        lambda x: rng().uniform(x, x + 1),
        lambda x: rng().exponential(x),
        lambda x: rng().gamma(x[0], 2.0, size=3),
        lambda x: rng().dirichlet(x),
        lambda x: rng().choice(6, 6, p=x / np.sum(x)) * x,
        lambda x: rng().poisson(x) * x,
        lambda x: rng().multinomial(5, x / np.sum(x)) * x,
        lambda x: untyped.exponential(x),
    ],
    ids=source,
)
def test_a_traced_parameter_is_an_error(f: Callable[[Any], Any]) -> None:
    for run in MODES:
        with pytest.raises(TracerConversionError):
            run(f)


def test_a_traced_mean_of_normal_numbers_is_added_to_them() -> None:
    f = lambda x: np.stack(rng().multivariate_normal(x, np.eye(6)))
    np.testing.assert_array_equal(vk.vjp(f, X)[0], f(X))
    np.testing.assert_array_equal(vk.jacrev(f)(X), np.eye(6))


def test_random_numbers_are_not_written_to_a_traced_array() -> None:
    def filled(x: Any) -> Any:
        y = np.copy(x)
        rng().standard_normal(out=y)
        return y

    def permuted(x: Any) -> Any:
        y = np.copy(x)
        rng().permuted(x, out=y)
        return y

    for f in (filled, permuted):
        with pytest.raises((TypeError, ValueError)):
            vk.vjp(f, X)
