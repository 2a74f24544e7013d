"""``out=``: the result is written to a traced array, and to no other."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from tests.numpy.agreement import agrees, source
from vjpkit.core.errors import TracerConversionError, UnsupportedError

untyped: Any = np  # for calls that are wrong
X = np.array([[0.3, -1.2, 2.5], [1.7, 0.4, -0.6]])


def total(function, **keywords):
    """A program that writes into a row of an array it has made, and uses both results."""

    def program(x):
        y = np.zeros_like(x)
        result = function(x, axis=0, out=y[0], **keywords)
        y[1] = 2 * result
        return np.sum(y * np.array([[1.0], [3.0]]))

    return program


@pytest.mark.parametrize("function", [np.sum, np.mean, np.max, np.median, np.nanvar, np.prod])
def test_out_may_be_a_view(function):
    wanted = vk.grad(lambda x: np.sum(7 * function(x, axis=0)))(X)
    np.testing.assert_allclose(vk.grad(total(function))(X), wanted, rtol=1e-14)
    np.testing.assert_allclose(vk.make_ir(vk.grad(total(function)))(X)(X)[0], wanted, rtol=1e-14)
    np.testing.assert_allclose(vk.vmap(vk.grad(total(function)))(X[None])[0], wanted, rtol=1e-14)


def test_out_is_what_is_returned():
    def program(x):
        y = np.zeros_like(x)
        assert np.cumsum(x, axis=1, out=y) is y
        assert np.cumsum(x, 1, None, y) is y
        return y

    np.testing.assert_array_equal(vk.vjp(program, X)[0], np.cumsum(X, axis=1))


def test_a_constant_result_is_written_to_a_plain_array():
    places = np.zeros(2, int)
    vk.grad(lambda x: np.sum(x[0, np.argmax(x, axis=1, out=places)]))(X)
    np.testing.assert_array_equal(places, [2, 0])


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: np.round(x, 1, out=y),
        lambda x, y: np.around(x, 1, y),
        lambda x, y: np.trunc(x, out=y),
        lambda x, y: x.round(1, out=y),
        lambda x, y: np.rint(x, out=y),
        lambda x, y: np.sign(x, y),
        lambda x, y: np.isposinf(x, out=y),
        lambda x, y: np.isneginf(x, y),
        lambda x, y: np.greater(x, 0, out=y),
        lambda x, y: np.logical_or.accumulate(x, axis=1, out=y),
        lambda x, y: np.round(np.full((2, 3), 1.26), 1, out=y),
        lambda x, y: np.add(1.0, 2.0, out=y),
        lambda x, y: np.einsum("ij->ij", np.ones((2, 3)), out=y),
    ],
    ids=source,
)
def test_a_constant_result_ends_what_a_traced_array_carried(f):
    """And it is not written to what a pullback keeps: exp keeps its result."""

    def program(x):
        y = np.exp(x)
        z = 3 * y
        f(x, y)
        f(x, z)
        return np.sum(x * y) + np.sum(z)

    y = np.exp(X)
    f(X, y)
    assert vk.vjp(program, X)[0] == program(X)
    for got in (vk.grad(program)(X), vk.jit(vk.grad(program))(X), vk.jacfwd(program)(X),
                vk.vmap(vk.grad(program))(X[None])[0]):  # fmt: skip
        np.testing.assert_array_equal(got, y)


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: np.sum(x, axis=0, out=y[0]),
        lambda x, y: np.dot(x, np.eye(3), out=y),
        lambda x, y: np.fft.irfft(x, 3, out=y),
        lambda x, y: np.concatenate([x[:1], x[1:]], out=y),
        lambda x, y: np.clip(x, 0, 1, out=y),
        lambda x, y: np.einsum("ij->ij", x, out=y),
    ],
    ids=source,
)
def test_a_traced_result_is_not_written_to_a_plain_array(f):
    with pytest.raises(TracerConversionError, match="can't be written into a plain ndarray"):
        vk.vjp(lambda x: f(x, np.zeros((2, 3))), X)


def test_shape_dtype_and_kind_of_out():
    with pytest.raises(ValueError, match=r"sum: out has the shape \(2, 3\), .* \(3,\)"):
        vk.vjp(lambda x: np.sum(x, axis=0, out=np.zeros_like(x)), X)
    with pytest.raises(TypeError, match=r"Cannot cast np\.cumsum output"):
        vk.vjp(lambda x: np.cumsum(x * 1j, axis=0, out=np.zeros_like(x)), X)
    with pytest.raises(TypeError, match="mean: out must be an array, got list"):
        vk.vjp(lambda x: untyped.mean(x, axis=0, out=[0.0]), X)


FFT_OUT: dict[str, Any] = {
    "fft of itself": lambda x, y, z: np.fft.fft(z, out=z),
    "ifft into a view": lambda x, y, z: np.fft.ifft(x[:, ::-1], norm="ortho", out=z[::-1]),
    "rfft": lambda x, y, z: np.fft.rfft(x, 4, out=z),
    "irfft": lambda x, y, z: np.fft.irfft(z, 3, out=y),
    "ihfft": lambda x, y, z: np.fft.ihfft(x, 5, out=z),
    "fft2 of itself": lambda x, y, z: np.fft.fft2(z, out=z),
    "fftn of a view": lambda x, y, z: np.fft.fftn(z[::-1], axes=(1, 0), out=z),
    "ifftn": lambda x, y, z: np.fft.ifftn(x, out=z),
    "rfft2": lambda x, y, z: np.fft.rfft2(x, (2, 4), out=z),
    "irfftn": lambda x, y, z: np.fft.irfftn(z, (2, 3), (0, 1), out=y),
}


@pytest.mark.parametrize("name", FFT_OUT)
def test_transforms_write_every_step_to_out(name):
    def f(x):
        y = 2 * x
        z = x * (1 + 0.5j)
        out = FFT_OUT[name](x, y, z)
        assert out is y or out.shape == z.shape
        return y, np.real(z), np.imag(z)

    for got, wanted in zip(vk.vjp(f, X)[0], f(X), strict=True):
        np.testing.assert_allclose(got, wanted, 1e-13, 1e-13)
    agrees(f, X, order=1)


@pytest.mark.parametrize("name", FFT_OUT)
def test_steps_that_do_not_fit_raise_as_in_numpy(name):
    def f(x):
        return FFT_OUT[name](x, np.zeros_like(x, shape=(3, 3)), np.zeros_like(x, shape=(4, 3)))

    with pytest.raises((ValueError, TypeError)) as wanted:
        f(X)
    with pytest.raises((ValueError, TypeError)):
        vk.vjp(f, X)
    assert wanted


IGNORING: dict[str, Any] = {
    "hfft": lambda x, out: np.fft.hfft(x, 3, out=out),
    "irfft2": lambda x, out: np.fft.irfft2(x, (2, 3), out=out),
    "ifft2": lambda x, out: np.fft.ifft2(x, out=out),
}


@pytest.mark.parametrize("name", IGNORING)
def test_where_numpy_takes_an_out_and_does_not_write_to_it_is_an_error(name):
    """As NumPy 2.1 to 2.4 do; whoever reads it there reads what was in it before."""
    kind = complex if name == "ifft2" else float
    out = np.full((2, 3), np.nan, kind)
    IGNORING[name](X, out)
    f = lambda x: IGNORING[name](x, x.astype(kind))
    if not np.isnan(out).all():
        vk.vjp(f, X)
        return
    with pytest.raises(UnsupportedError, match=r"does not write to out(.|\n)*out\[\.\.\.\]"):
        vk.vjp(f, X)


@pytest.mark.parametrize("dtype", [float, complex, np.uint64])
def test_places_are_written_to_integers_alone(dtype):
    def f(x):
        return np.argmax(x, axis=1, out=np.zeros_like(x, shape=2, dtype=dtype))

    with pytest.raises(TypeError):
        f(X)
    with pytest.raises(TypeError, match="argmax: Cannot cast out"):
        vk.vjp(f, X)


def test_a_reduction_is_not_spread_over_out():
    def f(x):
        return np.add.reduce(x, 0, out=np.zeros_like(x))

    with pytest.raises(ValueError, match="number of dimensions"):
        f(X)
    with pytest.raises(ValueError, match=r"add\.reduce: out has the shape \(2, 3\)"):
        vk.vjp(f, X)
