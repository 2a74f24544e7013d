"""`vnp.vectorize` is `np.vectorize`, of functions that take or return traced values too."""

import numpy as np
import pytest

import vjpkit as vk
import vjpkit.numpy as vnp
from tests.numpy.against_numpy import ARRAYS, assert_linearized, assert_same_as_numpy

X = np.array([[0.3, -1.2], [2.5, 0.9]])


def clipped(x, low=0.0, high=1.0):
    return low if x < low else high if x > high else x * x


PROGRAMS = {
    "one": lambda x: vnp.vectorize(lambda t: t * t)(x),
    "two results": lambda x: vnp.vectorize(lambda t, u: (t + u, t * u))(x, [0.5, 2.0]),
    "default": lambda x: vnp.vectorize(clipped)(x, 0.25),
    "excluded name": lambda x: vnp.vectorize(clipped, excluded={"high"})(x, 0.25, high=2.0),
    "excluded place": lambda x: vnp.vectorize(clipped, excluded=[1])(x, 0.25),
    "dtype": lambda x: vnp.vectorize(clipped, otypes=["f4"])(x, high=x),
    "reduction": lambda x: vnp.vectorize(np.sum, signature="(n)->()")(x),
    "outer": lambda x: vnp.vectorize(np.outer, signature="(n),(m)->(n,m)")(x, [1.0, 2.0, 3.0]),
    "matrices": lambda x: vnp.vectorize(lambda a, s: (a @ a) * s, signature="(n,n),()->(n,n)")(
        x, [2, 3]
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_same_as_numpy(name: str):
    assert_same_as_numpy(PROGRAMS[name], X, 1e-15)


@pytest.mark.parametrize("name", [n for n in PROGRAMS if n != "dtype"])
def test_derivatives(name: str):
    assert_linearized(PROGRAMS[name], X)


def test_as_a_decorator():
    @vnp.vectorize(otypes=[float])
    def square(t):
        return t * t

    np.testing.assert_array_equal(square([1, 2]), [1.0, 4.0])
    np.testing.assert_array_equal(vk.grad(lambda x: np.sum(square(x)))(X), 2 * X)


def test_bad_arguments():
    f = vnp.vectorize(np.sum, signature="(n)->()")
    with pytest.raises(ValueError, match="not have enough dimensions"):
        vk.grad(f)(1.0)
    with pytest.raises(ValueError, match="size 0 inputs"):
        vk.grad(lambda x: np.sum(vnp.vectorize(clipped)(x)))(ARRAYS["empty"])
