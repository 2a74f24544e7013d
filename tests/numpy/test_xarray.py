"""xarray's labelled arrays hold traced values through everything that xarray computes itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.errors import TracerConversionError
from vjpkit.core.tracer import Tracer

xr = pytest.importorskip("xarray")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

X = np.random.default_rng(0).normal(size=(4, 6))
WITH_NAN = np.where(np.arange(24).reshape(4, 6) % 5 == 2, np.nan, X)
COORDS = {"time": np.arange(4), "place": list("abcdef"), "group": ("place", list("uvuvuw"))}
OTHER = np.random.default_rng(1).normal(size=(4, 6))


def labelled(x: Any) -> Any:
    return xr.DataArray(x, dims=("time", "place"), coords=COORDS)


OPERATIONS = {
    "arithmetic": "2.0 * d + d**2 / (1.0 + d * d) - 1.0",
    "with plain": "d * other - other / 2.0",
    "reflected": "1.0 / (2.0 + d * d) - (3.0 - d)",
    "broadcasting": "d * d.isel(time=0) + d.mean('place')",
    "in place": "augmented(d)",
    "ufunc": "np.sin(d) + np.exp(d).clip(0.5, 2.0)",
    "abs": "abs(d) - (-d)",
    "comparison": "d.where(d > 0, 2.0 * d)",
    "where": "xr.where(d > 0.5, d, d * d)",
    "isel": "d.isel(time=slice(None, None, 2), place=[3, 0])",
    "sel": "d.sel(place=['a', 'e'], time=slice(1, 3))",
    "indexing": "d[1:, ::-1] * 2.0",
    "mask": "d.where(other > 0, drop=True).fillna(0.5)",
    "loc": "d.loc[dict(place='c')]",
    "sum": "d.sum('time')",
    "mean": "d.mean()",
    "std": "d.std('place')",
    "var": "d.var(ddof=1)",
    "max": "d.max('place') + d.min('time').sum()",
    "prod": "d.prod('time')",
    "median": "d.median('place')",
    "quantile": "d.quantile(0.3, dim='place')",
    "cumsum": "d.cumsum('place')",
    "cumprod": "d.cumprod('time')",
    "diff": "d.diff('place')",
    "shift": "d.shift(time=1).fillna(0.0)",
    "roll": "d.roll(place=2)",
    "weighted": "d.weighted(xr.DataArray(np.arange(6.0), dims='place')).mean('place')",
    "skipna": "n.sum('time') + n.mean('time')",
    "nan statistics": "n.std() + n.max('place').sum()",
    "fillna": "n.fillna(d)",
    "groupby": "d.groupby('group').mean()",
    "groupby sum": "d.groupby('group').sum('place')",
    "groupby map": "d.groupby('group').map(lambda g: g - g.mean())",
    "groupby arithmetic": "d.groupby('group') - d.groupby('group').mean()",
    "groupby bins": "d.groupby_bins('time', [-1, 1, 4]).sum()",
    "coarsen": "d.drop_vars(['place', 'group']).coarsen(place=2).mean()",
    "rolling mean": "d.rolling(place=3).mean().fillna(0.0)",
    "rolling sum": "d.rolling(time=2, min_periods=1).sum()",
    "rolling max": "d.rolling(place=2, center=True).max().fillna(0.0)",
    "rolling construct": "d.rolling(place=2).construct('w', fill_value=0.0).sum('w')",
    "concat": "xr.concat([d, 2.0 * d], 'time')",
    "concat new": "xr.concat([d, d * d], 'new')",
    "stack": "d.stack(z=('time', 'place'))",
    "unstack": "d.stack(z=('time', 'place')).unstack('z')",
    "transpose": "d.transpose('place', 'time') + d.T",
    "expand": "d.expand_dims('new').squeeze('new') * 2.0",
    "sort": "d.sortby('place', ascending=False)",
    "dot": "xr.dot(d, d, dim='time')",
    "matmul": "d @ other.isel(time=0)",
    "apply_ufunc": "xr.apply_ufunc(np.hypot, d, other)",
    "astype": "d.astype('float32').astype('float64')",
    "pad": "d.pad(place=1, constant_values=0.0)",
    "argmax": "d.isel(place=int(d.isel(time=0).argmax()))",
    "differentiate": "d.differentiate('time')",
    "integrate": "d.integrate('time')",
    "polyval": "xr.polyval(other, xr.DataArray(d.isel(time=0).data[:3], dims='degree', "
    "coords={'degree': [0, 1, 2]}))",
    "cov": "xr.cov(d, other, dim='time') + xr.corr(d, other, dim='place').sum()",
    "dataset": "xr.Dataset({'a': d, 'b': d * d}).mean('time').to_array().sum('variable')",
    "dataset arithmetic": "(xr.Dataset({'a': d}) * 2.0 + xr.Dataset({'a': d * d}))['a']",
    "merge": "xr.merge([d.rename('a'), (d * d).rename('b')])['b']",
    "assign": "d.assign_coords(time=d.time * 2.0).rename('y') * 3.0",
    "reindex": "d.reindex(time=[0, 2, 9], fill_value=0.0)",
    "align": "xr.align(d, other.isel(time=[1, 2]), join='inner')[0]",
    "item": "d.isel(time=1, place=2)",
}


def augmented(d: Any) -> Any:
    d = d.copy()
    d += 1.0
    d[0, 1] = d[1, 1] * 2.0
    d.loc[{"place": "c"}] *= d.isel(place=0)
    return d


def operation(code: str) -> Any:
    names = {"np": np, "xr": xr, "other": labelled(OTHER), "augmented": augmented}
    f = eval(f"lambda d, n: {code}", names)

    def call(x: Any) -> Any:
        n = labelled(np.where(np.isnan(WITH_NAN), np.nan, x))
        out = f(labelled(x), n)
        assert isinstance(out, xr.DataArray)
        return out.data

    return call


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name):
    """Values are those of plain arrays, and stay traced; derivatives agree with differences."""
    f = operation(OPERATIONS[name])
    wanted = f(X)
    kinds = []

    def seen(x: Any) -> Any:
        out = f(x)
        kinds.append(isinstance(out, Tracer))
        return out

    got, _ = vk.vjp(seen, X)
    assert kinds == [True]
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
    if name != "astype":
        vk.test_util.check_grads(f, (X,), order=2)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_staged_and_mapped(name):
    f = operation(OPERATIONS[name])
    gradient = vk.grad(lambda x: np.sum(np.sin(f(x))))
    if name == "argmax":  # it becomes a Python integer
        for run in (lambda: vk.jit(f)(X), lambda: vk.vmap(f)(X[None])):
            with pytest.raises(TracerConversionError, match="cannot decide Python control flow"):
                run()
        return
    both = np.stack([X, 1.01 * X])
    coarse = 1e-6 if name == "astype" else 1e-10
    for g, tolerance in ((f, 1e-12), (gradient, coarse)):
        wanted = [g(x) for x in both]
        np.testing.assert_allclose(vk.jit(g)(X), wanted[0], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(vk.vmap(g)(both), wanted, rtol=tolerance, atol=tolerance)


def test_gradient_through_a_labelled_model():
    """A program as it would be written: labels in, labels out, a number at the end."""
    weights = xr.DataArray(np.array([1.0, 2.0, 0.5]), dims="group", coords={"group": list("uvw")})

    def loss(x):
        d = labelled(x)
        means = (d - d.mean("time")).groupby("group").std()
        return ((means * weights) ** 2).sum().data

    g = vk.grad(loss)(X)
    assert g.shape == X.shape
    vk.test_util.check_grads(loss, (X,), order=2)


def test_labels_are_kept_and_shown():
    shown = []

    def f(x):
        d = labelled(x) * 2.0
        shown.append((d.dims, list(d.coords), repr(d)))
        return d.sum().data

    vk.grad(f)(X)
    dims, coords, text = shown[0]
    assert dims == ("time", "place")
    assert coords == ["time", "place", "group"]
    assert "<xarray.DataArray (time: 4, place: 6)>" in text


def test_a_tracer_leaves_the_operation_to_xarray():
    """``tracer * DataArray`` keeps the labels."""
    d = labelled(OTHER)

    def f(x):
        for y in (x * d, x + d, d - x, d / (1.0 + x * x)):
            assert isinstance(y, xr.DataArray)
            assert y.dims == ("time", "place")
        return (x * d).sum().data

    np.testing.assert_allclose(vk.grad(f)(X), OTHER)


def test_what_needs_plain_values_says_so():
    with pytest.raises(TypeError, match="derivative"):
        vk.grad(lambda x: np.sum(np.asarray(labelled(x).values, float)))(X)


@pytest.mark.parametrize("code", ["x * s", "s * x", "x + s", "np.add(x, s)", "np.sum(x * s)"])
def test_pandas_series_say_what_to_pass_instead(code):
    pd = pytest.importorskip("pandas")
    s = pd.Series([1.0, 2.0, 4.0])
    f = eval(f"lambda x: np.sum({code})", {"np": np, "s": s})
    with pytest.raises(TypeError, match="derivative") as caught:
        vk.grad(f)(np.ones(3))
    assert any("s.to_numpy()" in note for note in caught.value.__notes__)
    plain = eval(f"lambda x: np.sum({code})", {"np": np, "s": s.to_numpy()})
    assert vk.grad(plain)(np.ones(3)).tolist() in ([1.0, 2.0, 4.0], [1.0, 1.0, 1.0])


def test_pandas_series_as_an_index():
    pd = pytest.importorskip("pandas")
    x = np.array([1.0, 2.0, 4.0])
    assert vk.grad(lambda x: np.sum(x[pd.Series([0, 2])] ** 2))(x).tolist() == [2.0, 0.0, 8.0]
    mask = pd.Series([True, False, True])
    assert vk.grad(lambda x: np.sum(x[mask] ** 2))(x).tolist() == [2.0, 0.0, 8.0]
