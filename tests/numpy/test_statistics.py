"""Medians, quantiles, averages, correlation and histograms, with derivatives."""

import warnings
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from tests.numpy.against_numpy import assert_same_as_numpy
from tests.numpy.agreement import agrees, source
from vjpkit.core.errors import TracerConversionError

untyped: Any = np  # for calls that are wrong, or that NumPy takes but its types do not
NUMBERS = [-2.1, -1.65, -1.25, -0.85, -0.7, -0.45, 0.55, 0.8, 0.98, 1.3, 1.55, 1.9]
X = np.random.default_rng(1).permutation(NUMBERS).reshape(3, 4)
Z = X + 1j * X[::-1] ** 2
V = np.array([0.75, -1.5, 0.5, 1.8, -0.4, 1.2, -0.9])
WEIGHTS = abs(X) + 0.1
MASK = X > -0.8

METHODS = [
    "inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf",
    "hazen", "weibull", "linear", "median_unbiased", "normal_unbiased", "lower", "higher",
    "midpoint", "nearest",
]  # fmt: skip
QUANTILES = [(np.quantile, 1), (np.nanquantile, 1), (np.percentile, 100), (np.nanpercentile, 100)]


def holes(x):
    return np.where(MASK, x, np.nan)


# ---- medians -----------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [np.median, np.nanmedian])
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1), [1]], ids=str)
def test_medians(function, axis):
    agrees(lambda x: function(x, axis=axis), X)
    agrees(lambda x: function(x, axis=axis, keepdims=True), X, order=1)


@pytest.mark.parametrize("function", [np.median, np.nanmedian])
def test_medians_of_an_odd_number_of_one_and_of_none(function):
    agrees(function, V)
    agrees(function, np.float64(0.4))
    with pytest.warns(RuntimeWarning, match="Mean of empty slice"), np.errstate(all="ignore"):
        assert np.isnan(vk.value_and_grad(function)(V[:0])[0])


def test_medians_of_complex_numbers_and_of_few_bits():
    agrees(lambda x: np.median(x, axis=0), Z)
    agrees(lambda x: np.median(x, axis=1), X.astype(np.float32), order=1)
    agrees(lambda x: np.median(x, axis=1), X.astype(np.float16), order=0)


def test_nan_makes_the_median_nan_or_is_passed_over():
    agrees(lambda x: np.median(holes(x), axis=0), X, order=0)
    agrees(lambda x: np.nanmedian(holes(x), axis=0), X)
    agrees(lambda x: np.nanmedian(holes(x)), X)
    with pytest.warns(RuntimeWarning, match="All-NaN slice"):
        out = vk.vjp(lambda x: np.nanmedian(x, axis=1), np.array([[np.nan], [2.0]]))[0]
    assert np.array_equal(out, [np.nan, 2.0], equal_nan=True)


def test_the_median_reads_the_middle():
    assert vk.grad(np.median)(V).tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert vk.grad(np.median)(V[:4]).tolist() == [0.5, 0, 0.5, 0]


# ---- quantiles ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("function", "unit"), QUANTILES, ids=lambda f: getattr(f, "__name__", ""))
def test_quantiles(method, function, unit):
    agrees(
        lambda x: (
            function(x, 0.3 * unit, method=method),
            function(x, np.array([0.1, 0.5, 0.99]) * unit, axis=1, method=method),
            function(x, [0, 1.0 * unit], axis=0, keepdims=True, method=method),
        ),
        X,
        order=1,
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", range(1, 9))
def test_every_position_is_numpys(method, n):
    x, q = X.ravel()[:n], np.linspace(0, 1, 25)
    got = vk.vjp(lambda x: np.quantile(x, q, method=method), x)[0]
    assert got == pytest.approx(np.quantile(x, q, method=method), rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_quantiles_of_what_is_not_nan(method):
    agrees(lambda x: np.nanquantile(holes(x), [0.2, 0.7], axis=0, method=method), X, order=1)
    agrees(lambda x: np.nanquantile(holes(x), 0.4, method=method), X, order=1)
    agrees(lambda x: np.quantile(holes(x), [0.2, 0.7], axis=0, method=method), X, order=0)


def test_the_probability_may_be_traced():
    agrees(lambda x, q: np.quantile(x, q, axis=0), X, np.array([0.23, 0.61]))
    agrees(lambda x, q: np.percentile(x, q, method="weibull"), X, np.float64(31.0))
    agrees(lambda q: np.quantile(X, q), np.float64(0.31))
    slope = vk.grad(lambda q: np.quantile(np.array([1.0, 5.0, 6.0]), q))
    assert [slope(0.2), slope(0.8)] == [8.0, 2.0]


def test_shapes_of_quantiles():
    agrees(lambda x: np.quantile(x, [[0.2, 0.3], [0.4, 0.5]], axis=1, keepdims=True), X)
    agrees(lambda x: np.quantile(x, 0.3, axis=(0, 1), keepdims=True), X)
    agrees(lambda x: np.quantile(np.stack([x, x**2]), [0.3, 0.5], axis=(2, 0)), X, order=1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    "q",
    [0.3, 1, np.float64(0.3), np.float32(0.3), [0.3], [0, 1], np.array(1), np.array(0.3)],
    ids=repr,
)
@pytest.mark.parametrize("method", ["linear", "hazen", "lower", "midpoint"])
def test_dtypes_of_quantiles(dtype, q, method):
    agrees(lambda x: np.quantile(x, q, method=method), X.astype(dtype), order=0, tolerance=2e-3)


def test_weighted_quantiles_select_by_the_weights():
    weighted = {"weights": WEIGHTS, "method": "inverted_cdf"}
    for function in (np.quantile, np.nanquantile):
        agrees(
            lambda x, f=function: (
                f(x, [0.2, 0.5, 1.0], **weighted),
                f(x, 0.4, axis=1, keepdims=True, **weighted),
            ),
            X,
        )
    along_axis = {"axis": 0, "weights": [1, 2, 0.0], "method": "inverted_cdf"}
    agrees(lambda x: untyped.quantile(x, 0.4, **along_axis), X)
    agrees(lambda x: untyped.nanquantile(holes(x), [0.2, 0.7, 1], axis=0, **weighted), X)


# ---- averages and correlation ------------------------------------------------------------------


def test_averages():
    w = np.array([0.2, 0.3, 1.0])
    agrees(
        lambda x, w: (
            np.average(x),
            np.average(x, axis=0, weights=w, returned=True),
            np.average(x, axis=1, returned=True, keepdims=True),
            np.average(x, weights=x * x),
        ),
        X,
        w,
    )
    agrees(
        lambda x, w: np.average(np.stack([x, x * 2]), axis=(2, 0), weights=w),
        X,
        np.arange(8.0).reshape(4, 2) + 0.3,
    )
    agrees(lambda w: np.average(np.array([1, 2, 4]), weights=w), w)


def test_covariances():
    agrees(lambda x: (np.cov(x), np.cov(x, rowvar=False, bias=True), np.cov(x[0])), X)
    agrees(lambda x, y: (np.cov(x, y, ddof=0), np.cov(x[0], y[0])), X, X[:2] ** 2)
    agrees(lambda x: np.cov(x), Z)
    agrees(lambda x: (np.cov(x), np.cov(x, dtype=np.float32)), X.astype(np.float32), order=0)


def test_weighted_covariances():
    agrees(
        lambda x, w: (
            np.cov(x, aweights=w),
            np.cov(x, fweights=[1, 2, 3, 1]),
            np.cov(x, fweights=[1, 2, 3, 1], aweights=w),
            np.cov(x, aweights=w, ddof=0),
        ),
        X,
        np.array([0.2, 0.3, 1.0, 0.5]),
    )


def test_correlations():
    agrees(np.corrcoef, X)
    agrees(np.corrcoef, X[0], X[1])
    agrees(np.corrcoef, Z, order=1)
    agrees(lambda x: np.corrcoef(x, rowvar=False), np.vstack([X, X**2]))
    agrees(lambda x: np.corrcoef(x) * np.sum(x), V)


# ---- histograms --------------------------------------------------------------------------------


def test_bincount_is_linear_in_the_weights():
    places = np.array([0, 2, 1, 1, 5, 2, 0])
    agrees(lambda w: (np.bincount(places, w), np.bincount(places, weights=w, minlength=9)), V)
    g = vk.grad(lambda w: np.bincount(places, w) @ np.arange(6.0))(V)
    assert g.tolist() == places.tolist()


def test_histograms_of_whole_numbers_that_are_not_known():
    """Their edges are none."""
    x = np.array([1, 2, 5, 7, 7], np.int32)
    for f in (
        lambda x: np.histogram(x, bins=4),
        lambda x: np.histogram(x, bins=4, range=(0, 9), density=True),
        lambda x: (np.histogram_bin_edges(x, 3),),
    ):
        for got in (vk.jit(f)(x), [y[1] for y in vk.vmap(f)(np.stack([x, x]))]):
            for a, b in zip(got, f(x), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-15)
                assert np.asarray(a).dtype == np.asarray(b).dtype


def test_histograms():
    w = np.arange(7.0) + 0.5
    agrees(
        lambda a, w: (
            np.histogram(a, 5, weights=w),
            np.histogram(a, [-1.0, 0, 0.3, 1.1], density=True, weights=w),
            np.histogram(a, 4, range=(-1.1, 1.13), weights=w),
        ),
        V,
        w,
        staged=False,
        mapped=False,
    )
    agrees(lambda w: np.histogram(V, 4, weights=w, density=True), w)
    agrees(lambda w: np.histogram(V, 4, weights=w * 1j), w)


def test_edges_of_bins_move_with_the_data():
    agrees(
        lambda a: (
            np.histogram(a, 5),
            np.histogram(a, 4, density=True),
            np.histogram(a, "auto"),
            np.histogram_bin_edges(a, 3),
            np.histogram(a, 7, weights=np.arange(7) * 0.25),
        ),
        V,
        staged=False,
        mapped=False,
    )
    agrees(
        lambda a, e: np.histogram(a, e, density=True),
        V,
        np.array([-1.1, 0.0, 0.3, 1.4]),
        staged=False,
        mapped=False,
    )
    agrees(lambda a: np.histogram_bin_edges(a * 0 + 2, 3) * a[0], V, staged=False, mapped=False)


def test_histograms_of_more_dimensions():
    eager = {"staged": False, "mapped": False}
    w = np.arange(7.0) + 0.5
    agrees(lambda a, w: np.histogram2d(a, a**2, [4, 4], weights=w, density=True), V, w, **eager)
    agrees(lambda s: np.histogramdd(s.T, bins=(2, 3, [-2, 0, 2.0]), density=True), X, **eager)
    agrees(lambda s: np.histogramdd(s.T, bins=2), X, **eager)


# ---- what is refused, and what NumPy refuses ---------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.quantile(x, 1.5),
        lambda x: np.percentile(x, -1),
        lambda x: np.quantile(x, [[[0.5]]]),
        lambda x: untyped.quantile(x, 0.5, method="median"),
        lambda x: np.quantile(x + 1j, 0.5),
        lambda x: np.quantile(x[:0], 0.5),
        lambda x: np.nanquantile(x[:0], 0.5),
        lambda x: np.nanquantile(x[:0], [0.5, 0.7, 0.9], axis=0, keepdims=True),
        lambda x: np.nanpercentile(x[:, :0], [50, 70], axis=0),
        lambda x: np.nanvar(x.astype(np.float32), axis=1, mean=np.full((3, 1), 0.3)),
        lambda x: np.nanstd(np.where(x > 1, np.nan, x).astype("f4"), 0, mean=np.zeros((1, 4))),
        lambda x: np.quantile(x, 0.5, weights=WEIGHTS),
        lambda x: np.quantile(x, 0.5, weights=-WEIGHTS, method="inverted_cdf"),
        lambda x: np.quantile(x, 0.5, weights=[1, 2], method="inverted_cdf"),
        lambda x: np.median(x, axis=2),
        lambda x: untyped.median(x, axis=1.0),
        lambda x: np.average(x, weights=0 * x),
        lambda x: np.average(x, weights=[1, 2]),
        lambda x: np.average(x, axis=0, weights=[1, 2]),
        lambda x: np.cov(x[None]),
        lambda x: np.cov(x, ddof=0.5),
        lambda x: untyped.cov(x, fweights=[0.5, 1, 1, 1]),
        lambda x: np.cov(x, aweights=[-1, 1, 1, 1]),
        lambda x: np.cov(x, aweights=[1, 1]),
        lambda x: np.cov(x, fweights=[[1, 1, 1, 1]]),
        lambda x: np.cov(x[:0]),
        lambda x: np.bincount(x),
        lambda x: np.bincount([0, 1], x),
        lambda x: np.bincount([0, -1], x[0, :2]),
        lambda x: np.bincount([0, 1], x[0]),
        lambda x: np.bincount([0, 1], x[0, :2] * 1j),
        lambda x: np.histogram(x, [2, 1]),
        lambda x: np.histogram(x, 0),
        lambda x: np.histogram(x, weights=x[0]),
        lambda x: np.histogram(x, "auto", weights=x),
        lambda x: np.histogram(x, range=(2, 1)),
        lambda x: np.histogram2d(x[0], x[0, :2]),
        lambda x: np.histogramdd(x, bins=(2, 3)),
        lambda x: untyped.histogramdd(x, range=[None]),
    ],
    ids=source,
)
def test_borderline_cases_end_as_in_numpy(f):
    assert_same_as_numpy(f, X)


@pytest.mark.parametrize("f", [np.var, np.std, np.nanvar, np.nanstd], ids=lambda f: f.__name__)
@pytest.mark.filterwarnings("ignore:Casting complex")
def test_variances_of_complex_numbers_in_a_real_dtype(f):
    """NumPy drops the imaginary part of their mean and keeps theirs."""
    agrees(lambda x: f(x + 1j * x**2, dtype=float, axis=0), X)
    agrees(lambda x: f(x + 1j * x**2, dtype=float, ddof=1, where=[True, False, True, True]), X)
    single = (X + 1j * X).astype(np.complex64)
    got = vk.vjp(lambda z: f(z, dtype=np.float32), single)[0]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, f(single, dtype=np.float32), 1e-6)


def test_weights_that_are_all_zero_are_refused():
    """As by NumPy; its first versions with weights gave an element by chance."""
    for function in (untyped.quantile, untyped.nanquantile):
        with pytest.raises(ValueError, match="all zero"):
            vk.vjp(lambda x, f=function: f(x, 0.5, weights=0 * WEIGHTS, method="inverted_cdf"), X)


@pytest.mark.parametrize("bins", [3, [-2.5, -1.0, 0.5, 1.9]], ids=str)
def test_histograms_of_abstract_data(bins):
    for density in (False, True):
        agrees(lambda x, d=density: np.histogram(V, bins, density=d, weights=x), V[::-1].copy())
        closed = vk.make_ir(lambda x, d=density: np.histogram(x, bins, density=d))(V)
        for got, want in zip(closed(V), np.histogram(V, bins, density=density), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-14)
    many = vk.vmap(lambda x: np.histogram(x, bins)[0])(X)
    np.testing.assert_array_equal(many, [np.histogram(x, bins)[0] for x in X])
    same = np.full(4, 0.7)
    np.testing.assert_allclose(vk.make_ir(np.histogram)(same)(same)[1], np.histogram(same)[1])


def test_what_decides_the_number_of_bins_must_be_known():
    for function in (lambda x: np.histogram(x, "auto"), np.unique):
        with pytest.raises(TracerConversionError, match="what it returns depends on values"):
            vk.make_ir(function)(X)


def test_keywords_that_numpy_reads_in_its_own_way():
    """A step size with more axes than the values, a bias of None, a rank with a limit above 1."""
    y, m = np.array([0.3, -0.2, 0.9, 0.4]), np.array([[0.3, 0.1, 0.7], [0.2, 0.8, -0.3]])
    none: Any = None
    widths: Any = np.array([[1.0], [0.5]])
    programs: list[Any] = [
        (lambda y: np.trapezoid(y, dx=widths), y),
        (lambda m: np.cov(m, bias=none), m),
        (lambda m: np.linalg.lstsq(m.T, m[0, :3] + 1, rcond=2.0)[0], m),
        (lambda m: np.linalg.lstsq(m.T, m[0, :3] + 1, rcond=0.0)[1], m),
    ]
    for f, x in programs:
        np.testing.assert_allclose(vk.vjp(f, x)[0], f(x), rtol=1e-13)
        vk.test_util.check_grads(f, (x,), order=1)
    ranks = [vk.vjp(lambda m, r=r: (np.sum(m), np.linalg.lstsq(m.T, m[0], rcond=r)[2]), m,
                    has_aux=True)[2] for r in (0.0, 1.0, -1, None)]  # fmt: skip
    assert ranks == [2, 2, 2, 2]
    yes: Any = 2
    counted = lambda x: np.unique(x, return_counts=yes)
    assert len(vk.vjp(lambda x: (np.sum(x), counted(x)), y, has_aux=True)[2]) == 2


@pytest.mark.parametrize("rowvar", [True, False])
def test_the_covariance_of_one_row(rowvar):
    """Of one row, or of none, the rows are the variables or the observations as NumPy says."""
    for shape in ((1, 3), (3, 1), (0, 3), (3, 0), (3,)):
        x = np.linspace(0.1, 0.7, int(np.prod(shape))).reshape(shape)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            f = lambda x: np.cov(x, rowvar=rowvar)
            np.testing.assert_array_equal(vk.vjp(f, x)[0], f(x))
            assert vk.vjp(f, x)[0].shape == f(x).shape
            g = lambda x: np.cov(x, np.ones(3) + x[:1].ravel()[:1].sum(), rowvar=rowvar, ddof=0)
            if shape == (1, 3) and rowvar:
                np.testing.assert_allclose(vk.vjp(g, x)[0], g(x), atol=1e-15)
