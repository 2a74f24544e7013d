"""Running sums, differences, integrals, interpolation and convolution."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from tests.numpy.against_numpy import assert_same_as_numpy
from tests.numpy.agreement import agrees, source

untyped: Any = np  # for calls that are wrong, or that NumPy takes but its types do not
NUMBERS = [-2.1, -1.65, -1.25, -0.85, -0.7, -0.45, 0.55, 0.8, 0.98, 1.3, 1.55, 1.9]
X = np.random.default_rng(1).permutation(NUMBERS).reshape(3, 4)
V = np.array([0.75, -1.5, 0.5, 1.8, -0.4, 1.2, -0.9])
W = np.array([0.4, -1.1, 0.7])
INF = np.inf
PLACES = np.array([0, 1.0, 1.5, 3])
KNOTS, VALUES = np.array([-1.02, 0.1, 0.7, 1.4]), np.array([1.0, -2, 0.5, 3])

RUNNING = [np.cumsum, np.cumprod, np.nancumsum, np.nancumprod]


# ---- running sums and products -----------------------------------------------------------------


@pytest.mark.parametrize("function", RUNNING, ids=lambda f: f.__name__)
def test_running_sums_and_products(function):
    for axis in (None, 0, -1):
        agrees(lambda x, a=axis: function(x, axis=a), X)
    agrees(function, np.float64(0.3))
    agrees(lambda x: function(x, axis=0, dtype=np.float64), X.astype(np.float32), order=0)
    agrees(lambda x: function(x, 0), X + 1j * X[::-1], order=1)


def test_running_sums_pass_over_nan():
    agrees(lambda x: np.nancumsum(np.where(X > 0, x, np.nan), axis=0), X)
    agrees(lambda x: np.nancumprod(np.where(X > 0, x, np.nan), axis=1), X)


def test_running_methods_and_initial_values():
    agrees(lambda x: x.cumsum(0) + x.cumprod(axis=1), X)
    agrees(
        lambda x: (
            np.cumulative_sum(x, axis=1, include_initial=True),
            np.cumulative_prod(x, axis=0),
            np.cumulative_prod(x[0], include_initial=True),
        ),
        X,
    )


def test_long_running_products():
    x = 1 + 0.1 * np.random.default_rng(0).normal(size=2000)
    x[700] = 0.0
    g = vk.grad(lambda x: np.cumprod(x)[-1])(x)
    assert g[700] == pytest.approx(np.prod(np.delete(x, 700)), rel=1e-9)
    assert not np.delete(g, 700).any()


# ---- differences -------------------------------------------------------------------------------


def test_differences():
    agrees(
        lambda x, p: (
            np.diff(x),
            np.diff(x, n=2, axis=0),
            np.diff(x, prepend=p),
            np.diff(x, axis=0, append=p, prepend=0),
            np.diff(x, append=x),
            np.diff(x, n=0),
        ),
        X,
        np.float64(0.3),
    )
    agrees(lambda x, e: np.ediff1d(x, to_end=e, to_begin=[1, 2.0]), X, V)
    agrees(np.ediff1d, X)


def test_gradients_of_samples():
    agrees(np.gradient, X)
    agrees(lambda x, h: np.gradient(x, h, 0.5, edge_order=2), X, np.float64(0.3))
    agrees(lambda x, h: np.gradient(x, h, axis=[0, 1]), X, np.float64(0.3))
    agrees(lambda x: np.gradient(x, [0, 1, 2, 3], axis=1, edge_order=2), X)
    agrees(lambda x: np.gradient(x, PLACES, axis=-1), X.astype(np.float32), order=1)


@pytest.mark.parametrize("edge_order", [1, 2])
def test_places_of_samples_have_derivatives_even_where_they_are_equidistant(edge_order):
    f = lambda x, places: np.gradient(x, places, axis=1, edge_order=edge_order)
    agrees(f, X, PLACES)
    agrees(f, X, np.array([0.0, 1.0, 2.0, 3.0]), order=1)


def test_trapezoids():
    agrees(
        lambda y, x: (
            np.trapezoid(y),
            np.trapezoid(y, dx=0.5, axis=0),
            np.trapezoid(y, x),
            np.trapezoid(y, y * 2, axis=0),
        ),
        X,
        PLACES,
    )


# ---- interpolation -----------------------------------------------------------------------------


def test_interpolation():
    agrees(np.interp, X, KNOTS, VALUES)
    agrees(lambda x, p, f, left: np.interp(x, p, f, left, 0.0), X, KNOTS, VALUES, np.float64(0.3))
    agrees(lambda x, p, f: np.interp(x, p, f, period=3.17), X, KNOTS, VALUES)
    agrees(lambda x, f: np.interp(x, KNOTS, f), X, VALUES * 1j + 1)
    agrees(lambda x: np.interp(x, KNOTS, VALUES), np.float64(0.2))
    agrees(lambda x, f: np.interp(x, [0.5], f), X, VALUES[:1])
    agrees(lambda x: np.interp(x, KNOTS, VALUES), X.astype(np.float32), order=1)


def test_interpolation_at_its_knots():
    at = np.array([-1.02, 0.1, 0.7, 1.4, 7])
    agrees(lambda f: np.interp(at, KNOTS, f), VALUES)
    agrees(lambda f: np.interp([0.0, 1.0, 2], [0, 1.0, 1.0], f), VALUES[:3])
    slopes = vk.grad(lambda x: np.sum(np.interp(x, KNOTS, VALUES)))(at)
    runs = np.diff(VALUES) / np.diff(KNOTS)
    assert slopes == pytest.approx([*runs, runs[-1], 0.0])
    assert np.isnan(vk.value_and_grad(lambda x: np.interp(x, KNOTS, VALUES))(np.nan)[0])


@pytest.mark.parametrize(
    ("knots", "values"),
    [
        ([0, 1, 2, 3], [INF, INF, 1, 2]),
        ([0, 1, 2, 3], [-INF, INF, np.nan, 2]),
        ([0, 1, 2, 3], [0, 1, -INF, -INF]),
        ([-INF, 1, 2, INF], [0, 1, 2, 3]),
        ([0, 1, 1, 3], [0, INF, 2, 3]),
    ],
)
def test_interpolation_of_infinite_data_is_numpys(knots, values):
    xp, fp = np.array(knots, float), np.array(values, float)
    x = np.array([-1.0, 0.5, 1.5, 2.5, 1.0, 2.0, 3.0, 4.0, np.nan])
    with np.errstate(all="ignore"):
        wanted = np.interp(x, xp, fp)
        f = lambda x, xp, fp: np.interp(x, xp, fp)
        for got in (vk.vjp(f, x, xp, fp)[0], vk.jit(f)(x, xp, fp),
                    vk.vmap(f)(x[None], xp[None], fp[None])[0]):  # fmt: skip
            np.testing.assert_array_equal(got, wanted)


# ---- convolution -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["full", "same", "valid", 0, 1, 2])
@pytest.mark.parametrize("n", [1, 2, 3, 6, 7])
def test_convolutions(mode, n):
    agrees(lambda a, v: (np.convolve(a, v, mode), np.convolve(v, a, mode)), V[:6], X.ravel()[:n])
    whole = np.arange(n * 2, dtype=np.int32).reshape(2, n)
    got = vk.vmap(lambda a, v: np.convolve(a, v, mode))(whole, whole)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got[1], np.convolve(whole[1], whole[1], mode))
    infinite = np.array([1.0, np.inf, 2.0])  # does not meet what is beyond the other's ends
    for a, v in ((V[:6], infinite), (infinite, V[:6]), (infinite, infinite[::-1])):
        got = vk.vmap(lambda a, v: np.convolve(a, v, mode))(np.stack([a, a]), np.stack([v, v]))
        np.testing.assert_array_equal(np.isnan(got[0]), np.isnan(np.convolve(a, v, mode)))
    agrees(lambda a, v: (np.correlate(a, v, mode), np.correlate(v, a, mode)), V[:6], X.ravel()[:n])


def test_correlations_conjugate():
    agrees(lambda a, v: (np.correlate(a, v), np.correlate(v, a, "full")), V, W + 1j * V[:3])
    agrees(np.convolve, V, np.float64(2.0))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.cumsum(x, axis=2),
        lambda x: np.cumsum(x[0, 0], axis=0),
        lambda x: np.cumsum(x[0, 0], axis=1),
        lambda x: np.cumprod(x, dtype=int),
        lambda x: np.cumulative_sum(x),
        lambda x: np.cumulative_prod(x[0, 0]),
        lambda x: np.diff(x, n=-1),
        lambda x: np.diff(x[0, 0]),
        lambda x: np.diff(x, n=9),
        lambda x: np.diff(x, prepend=x[0]),
        lambda x: np.ediff1d(x, to_end=[1j]),
        lambda x: np.gradient(x, 1.0, 2.0, 3.0),
        lambda x: np.gradient(x, [1, 2]),
        lambda x: np.gradient(x, [1, 2], axis=1),
        lambda x: np.gradient(x, [[1, 2]], axis=1),
        lambda x: untyped.gradient(x, edge_order=3),
        lambda x: np.gradient(x[:2], edge_order=2),
        lambda x: np.gradient(x, axis=2),
        lambda x: np.trapezoid(x, [1, 2]),
        lambda x: np.interp(x, [1, 2], x[0]),
        lambda x: np.interp(x, [], []),
        lambda x: np.interp(x, [1, 2], [1, 2], period=0),
        lambda x: np.convolve(x[0], []),
        lambda x: np.convolve(x, [1.0]),
        lambda x: untyped.convolve(x[0], [1.0], mode="half"),
        lambda x: np.correlate(x[:0, 0], [1.0]),
    ],
    ids=source,
)
def test_borderline_cases_end_as_in_numpy(f):
    assert_same_as_numpy(f, X)
