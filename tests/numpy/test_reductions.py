"""Sums, products, extrema, means and variances as NumPy has them, with derivatives."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from tests.numpy.against_numpy import assert_same_as_numpy
from tests.numpy.agreement import agrees, source, warned
from vjpkit.core.errors import TracerConversionError, UnsupportedError

untyped: Any = np  # for calls that are wrong, or that NumPy takes but its types do not
# Distinct numbers, far enough from each other and from 0 for finite differences.
NUMBERS = [-2.1, -1.65, -1.25, -0.85, -0.7, -0.45, 0.55, 0.8, 0.98, 1.3, 1.55, 1.9]
X = np.random.default_rng(1).permutation(NUMBERS).reshape(3, 4)
Z = X + 1j * X[::-1]
MASK = X > -0.8
SPOILT = np.where(X > 1.4, np.nan, X)
ROW = np.array([True, False, True, True])

SMOOTH: list[Any] = [np.sum, np.prod, np.max, np.min, np.mean, np.var, np.std, np.ptp]
CONSTANT = [np.any, np.all, np.argmax, np.argmin, np.count_nonzero, np.nanargmax, np.nanargmin]
WITHOUT_NAN = [np.nansum, np.nanprod, np.nanmax, np.nanmin, np.nanmean, np.nanvar, np.nanstd]


@pytest.mark.parametrize("function", [*SMOOTH, *WITHOUT_NAN], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "keywords",
    [{}, {"axis": -1}, {"axis": 0, "keepdims": True}, {"axis": (1, 0)}, {"keepdims": True}],
    ids=str,
)
def test_reductions(function, keywords):
    agrees(lambda x: function(x, **keywords), X)


@pytest.mark.parametrize("function", [*SMOOTH, *WITHOUT_NAN], ids=lambda f: f.__name__)
def test_reductions_of_complex_numbers_and_of_scalars(function):
    agrees(lambda x: function(x, axis=0), Z)
    agrees(function, np.float64(0.7))
    assert_same_as_numpy(lambda x: function(x, axis=-1), np.float64(0.7), 1e-15)


@pytest.mark.parametrize("function", SMOOTH, ids=lambda f: f.__name__)
def test_reductions_of_python_numbers_and_single_precision(function):
    assert isinstance(vk.grad(function)(0.5), np.float64)
    agrees(lambda x: function(x, axis=1), X.astype(np.float32), order=1)
    agrees(lambda x: function(x, axis=1), X.astype(np.float16), order=0)


@pytest.mark.parametrize("function", CONSTANT, ids=lambda f: f.__name__)
def test_what_is_locally_constant(function):
    agrees(lambda x: function(x, axis=1) * np.sum(x), X)
    agrees(lambda x: function(x) * np.sum(x), X)
    agrees(lambda x: function(x, axis=0, keepdims=True) * x, X)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(x, axis=0, where=MASK, initial=3),
        lambda x: untyped.sum(x, axis=0, initial=None) + untyped.prod(x, axis=0, initial=None),
        lambda x: np.prod(x, axis=0, where=MASK, initial=0.5),
        lambda x: np.max(x, axis=0, where=MASK, initial=-0.1),
        lambda x: np.min(x, axis=1, where=MASK, initial=0.2, keepdims=True),
        lambda x: np.max(x[:, :0], axis=1, initial=3) + np.sum(x),
        lambda x: np.mean(x, axis=1, where=MASK),
        lambda x: np.mean(x, where=ROW),
        lambda x: np.var(x, axis=1, where=MASK, ddof=0.5),
        lambda x: np.std(x, axis=1, where=MASK),
        lambda x: np.var(x, axis=0, ddof=1),
        lambda x: np.std(x, correction=1.5),
        lambda x: np.var(x, axis=0, mean=np.mean(x, axis=0, keepdims=True)),
        lambda x: np.std(x, axis=0, mean=2.0),
        lambda x: np.any(x, axis=1, where=MASK) * np.sum(x),
        lambda x: np.all(x, axis=1, where=[True, False, True, True]) * np.sum(x),
        lambda x: np.nansum(x, axis=1, where=MASK, initial=0.5),
        lambda x: np.nanmax(x, axis=1, where=MASK, initial=0.3),
        lambda x: np.nanmean(x, axis=1, where=MASK),
        lambda x: np.nanvar(x, axis=1, where=MASK, ddof=1),
        lambda x: np.nanstd(x, axis=1, where=MASK, mean=0.5),
        lambda x: np.nanvar(x, correction=1),
    ],
    ids=source,
)
def test_keywords(f):
    agrees(f, X)


@pytest.mark.parametrize("function", WITHOUT_NAN, ids=lambda f: f.__name__)
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
def test_without_nan(function, axis):
    agrees(lambda x: function(np.where(np.isnan(SPOILT), np.nan, x), axis=axis), X)
    # The numbers that were nan have no influence.
    g = vk.grad(lambda x: np.sum(function(np.where(np.isnan(SPOILT), np.nan, x), axis=axis)))(X)
    assert not g[np.isnan(SPOILT)].any()


def test_nan_itself_goes_through_the_plain_reductions():
    for function in SMOOTH:
        assert np.isnan(vk.vjp(function, SPOILT)[0])


def test_methods_are_the_functions():
    agrees(
        lambda x: (
            x.sum(0) + x.mean(axis=0) + x.var(0) + x.std(0, ddof=1) + x.max(0) + x.min(0),
            x.prod(0, keepdims=True) + x.argmax(0) + x.argmin(axis=0) + x.any() + x.all(axis=0),
        ),
        X,
    )


def test_dtypes_are_followed():
    x = X.astype(np.float32)
    for function in (np.sum, np.prod, np.mean, np.var, np.std):
        agrees(lambda x, f=function: f(x, axis=0, dtype=np.float64), x, order=0)
        agrees(lambda x, f=function: f(x, axis=0, dtype=complex), x, order=0)
    # In whole numbers a sum does not change where its operand changes little.
    assert not vk.grad(lambda x: np.sum(x, dtype=int) * 1.0)(X).any()
    assert vk.value_and_grad(lambda x: x[0, 0] * np.mean(x, dtype=int))(X * 3)[0].dtype == float
    half = np.full(3000, 30.0, np.float16)  # its sum is out of the range of half precision
    assert vk.value_and_grad(np.mean)(half)[0] == 30


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(x, axis=2),
        lambda x: np.sum(x, axis=[0]),
        lambda x: untyped.sum(x, axis=1.0),
        lambda x: np.sum(x, axis=(0, 0)),
        lambda x: untyped.sum(x, initial=[1, 2]),
        lambda x: np.sum(x, where=np.ones((2, 3, 4), bool)),
        lambda x: untyped.sum(x[:0], initial=None),
        lambda x: np.max(x[:0]),
        lambda x: np.max(x[:0], axis=0),
        lambda x: np.max(x[:0], axis=1),
        lambda x: np.min(x[:, :0], axis=1),
        lambda x: np.max(x, where=MASK),
        lambda x: untyped.sum(x, where=MASK, initial=None),
        lambda x: np.argmax(x[:0]),
        lambda x: np.argmin(x, axis=7),
        lambda x: np.var(x, ddof=1, correction=1),
        lambda x: np.nanargmax(x * np.nan),
        lambda x: np.nanmean(x, dtype=int),
        lambda x: np.prod(x[:, :0], axis=1),
        lambda x: np.sum(x, axis=()),
        lambda x: np.max(x, axis=()),
        lambda x: np.argmax(x[0, 0], keepdims=True),
        lambda x: np.sum(x[0, 0], axis=(0,)),
        lambda x: untyped.max(x, initial=None),
        lambda x: np.count_nonzero(x, keepdims=True),
    ],
    ids=source,
)
def test_borderline_cases_end_as_in_numpy(f):
    assert_same_as_numpy(f, X, 1e-14)


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
def test_staged_reductions_of_nothing_raise_too(name):
    with pytest.raises(ValueError, match=r"zero-size|empty sequence"):
        vk.make_ir(lambda x: getattr(np, name)(x))(np.zeros(0))


@pytest.mark.parametrize(
    ("f", "text"),
    [
        (lambda x: np.mean(x[:0]), "Mean of empty slice"),
        (lambda x: np.mean(x, axis=1, where=X > 5), "Mean of empty slice"),
        (lambda x: np.nanmean(x[:0], axis=0), "Mean of empty slice"),
        (lambda x: np.var(x[:1], axis=0, ddof=1), "Degrees of freedom <= 0 for slice"),
        (lambda x: np.var(x, axis=0, where=X > 5), "Degrees of freedom <= 0 for slice"),
        (lambda x: np.nanvar(x[:1], axis=0, ddof=1), "Degrees of freedom <= 0 for slice."),
        (lambda x: np.nanmax(np.where(X > 5, x, np.nan)), "All-NaN slice encountered"),
    ],
    ids=source,
)
def test_numpys_warnings_are_given(f, text):
    with np.errstate(all="ignore"):
        wanted, plain = warned(lambda: f(X))
        got, traced = warned(lambda: vk.vjp(f, X)[0])
    # From version to version NumPy ends a warning with a full stop or without.
    assert any(text in given for given in plain)
    assert any(text in given for given in traced)
    assert np.array_equal(got, wanted, equal_nan=True)


def test_abstract_values_do_not_become_numbers():
    with pytest.raises(TracerConversionError):
        vk.make_ir(lambda x: x if np.any(x) else -x)(X)


def test_the_dtype_of_a_sum_of_exponentials():
    x = np.linspace(-1.0, 2.0, 6).reshape(2, 3)
    for ufunc in (np.logaddexp, np.logaddexp2):
        for f in (
            lambda x, u=ufunc: u.reduce(x, axis=1, dtype=np.float32),
            lambda x, u=ufunc: u.reduceat(x, [0, 1], axis=1, dtype=np.float32),
        ):
            assert vk.vjp(f, x)[0].dtype == f(x).dtype == np.float32
            np.testing.assert_allclose(vk.vjp(f, x)[0], f(x), rtol=1e-6)


@pytest.mark.parametrize("f", [np.var, np.std])
def test_squares_of_whole_parts_are_refused(f):
    with pytest.raises(UnsupportedError, match=rf"np\.{f.__name__}: the keyword dtype="):
        vk.grad(lambda x: 1.0 * f(x, dtype=int))(np.array([1.5, 2.5]))


def test_a_complex_start_of_a_real_reduction_is_refused():
    """NumPy drops its imaginary part, or computes with complex numbers where ``out`` has them."""
    programs = [
        lambda z: np.prod(np.abs(z), initial=z[0]),
        lambda z: np.max(np.abs(z), initial=z[0]),
        lambda z: np.hypot.reduce(np.abs(z), initial=z[0]),
        lambda z: np.sum(np.array([1.0]) * np.abs(z), initial=z[0], out=np.copy(z[:1].reshape(()))),
    ]
    for f in programs:
        with pytest.raises(UnsupportedError, match=r"begins with a complex number(.|\n)*np\.real"):
            vk.vjp(f, np.array([1.0 + 2.0j, 3.0]))
