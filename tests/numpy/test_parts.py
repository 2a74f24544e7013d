"""Writes to the real and the imaginary part of a traced array, which are views of it."""

from __future__ import annotations

import numpy as np
import pytest

import vjpkit as vk
from tests.numpy.in_place_programs import WEIGHTS
from vjpkit.core.errors import UnsupportedError

X = np.random.default_rng(0).normal(size=6)

PROGRAMS = [
    "z.real[1:] = np.sin(x[1:])",
    "z.real = x**2",
    "z.real *= x",
    "w = z.imag; w -= x[0]",
    "w = z.imag[::2]; w[1] = x[0]; z[0] = 2.0; z *= np.sum(w)",
    "w = z.reshape(2, 3).T.real; w[1] *= w[0]",
    "z.imag[x > 0] = 0.0",
    "np.sin(x, out=z.real)",
    "np.add.at(z.real, [0, 0, 1], x[3])",
    "np.copyto(z.imag, x, where=x > 0)",
    "z.real[1:] = z.imag[:-1]",
    "z.real[2] += z.imag[1]",
    "a, b = z.real, z.imag; a += b; b *= a",
    "r = z.real; z *= 2; z += r",
    "r = z.real; z[0] = 9.0; r[1] = 7; z *= r",
    "z.imag[1:] = 0; z = np.fft.ifft(z)",
    "z = np.zeros_like(x, dtype=complex); z.real = x; z.imag[...] = x[::-1]",
    "z = np.zeros_like(x, dtype=complex); z.real[0] = 1.0; z = z * x",
    "w = z[:1].reshape(()); w.real = x[1]",
    "z.real.flat[::2] = x[:3]",
    "z = np.fft.ifft(z).real; z *= x",
    "z = x.copy(); z.real[1:] = 2.0",
    "z.real[0] = np.inf; z.real[0] = x[1]",
]


def program(code: str):
    def f(x):
        names = {"np": np, "x": x, "z": x * (1 + 2j)}
        for line in code.split("; "):
            exec(line, names)
        return names["z"]

    return f


@pytest.mark.parametrize("code", PROGRAMS)
def test_a_part_is_a_view(code):
    f = program(code)
    total = lambda x: np.sum(np.abs(f(x)) ** 2 * WEIGHTS[:6])
    wanted = f(X.copy())
    for got in (
        vk.vjp(f, X)[0],
        vk.jvp(f, (X,), (X,))[0],
        vk.jit(f)(X),
        vk.vmap(f)(X[None])[0],
    ):
        np.testing.assert_array_equal(got, wanted)
        assert got.dtype == wanted.dtype
    vk.test_util.check_grads(total, (X,), order=2)
    vk.test_util.check_grads(vk.jit(total), (X,), order=2)
    g = vk.grad(total)
    both = np.stack([X, X[::-1]])
    np.testing.assert_allclose(vk.vmap(g)(both), [g(X), g(X[::-1])], rtol=1e-13)


def test_what_reads_what_it_writes_is_refused():
    f = program("z.real[...] = z.real[::-1]")
    with pytest.raises(UnsupportedError, match=r"may read what it has written(.|\n)*np\.copy"):
        vk.vjp(f, X)


def test_a_complex_number_does_not_fit_into_a_part():
    with pytest.raises(TypeError, match="a real array would drop its imaginary part"):
        vk.vjp(program("z.real[0] = z[1]"), X)


def test_parts_are_joined_to_the_bit():
    """``x + 1j * y`` is nan where y is infinite, and loses the sign of zero."""
    z = vk.lax.complex(np.array([1.0, -0.0]), np.array([np.inf, 1.0]))
    assert z.real.tolist() == [1.0, 0.0]
    assert np.signbit(z.real).tolist() == [False, True]
    assert z.imag.tolist() == [np.inf, 1.0]
    assert vk.lax.complex(np.float32(1), np.ones(2, np.float32)).dtype == np.complex64
    assert np.nan_to_num(z).tolist() == [1 + 1j * np.finfo(float).max, 1j]
    nan_to_num = lambda x: np.nan_to_num(vk.lax.complex(x, 1 / (x - 1)))
    with np.errstate(divide="ignore"):
        got = vk.vjp(nan_to_num, np.array([1.0, 2.0]))[0]
    assert got.tolist() == [1 + 1j * np.finfo(float).max, 2 + 1j]
