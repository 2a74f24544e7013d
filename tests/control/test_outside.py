"""Writes of staged functions to arrays from outside of them: an error, never a write lost or once
too often; arrays made inside are free."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
import vjpkit.numpy as vnp
from vjpkit.core.errors import UnsupportedError

X = np.array([0.5, 1.5, 2.5])
AROUND: dict[str, Any] = {
    "grad": vk.grad,
    "jit": vk.jit,
    "jit of grad": lambda f: vk.jit(vk.grad(f)),
    "grad of jit": lambda f: vk.grad(vk.jit(f)),
}


def by_cond(body, x):
    return vk.lax.cond(x[0] < 0.0, body, lambda c: c, x * 2.0)


def by_scan(body, x):
    return vk.lax.scan(lambda c, _: (body(c), None), x, None, length=2)[0]


def by_while(body, x):
    return vk.lax.while_loop(lambda c: c[0] < 3.0, lambda c: body(c) * 2.0, x)


def by_fori(body, x):
    return vk.lax.fori_loop(0, 3, lambda i, c: body(c), x)


def by_jit(body, x):
    return vk.jit(body)(x * 2.0)


DOORS = {"cond": by_cond, "scan": by_scan, "while": by_while, "fori": by_fori, "jit": by_jit}


def element(acc, c):
    acc[0] = c[1]


def view(acc, c):
    acc[1:][0] = c[1]


def constant(acc, c):
    acc[0] = 5.0


def whole(acc, c):
    acc += c


WRITES = {"element": element, "view": view, "constant": constant, "whole": whole}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("door", DOORS)
def test_a_write_to_an_array_from_outside_is_refused(door, write):
    def f(x):
        acc = np.zeros_like(x)

        def body(c):
            write(acc, c)
            return c * 1.0

        return np.sum(DOORS[door](body, x) * acc)

    for around in [vk.jit, AROUND["jit of grad"], AROUND["grad of jit"]]:
        with pytest.raises(UnsupportedError, match=r"outside of it.*test_outside") as caught:
            around(f)(X)
        message = str(caught.value)
        assert "f64[3]" in message
        assert "as an argument" in message
        if door == "jit":
            assert "jit(body)" in message
    assert np.isfinite(vk.grad(lambda x: np.sum(x * x))(X)).all()


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("door", DOORS)
def test_arrays_made_inside_are_free(door, around):
    def program(x, loop):
        def body(c):
            copy, fresh, local = x * 1.0, np.zeros_like(x), vnp.zeros(3)
            copy[0] = c[1]
            fresh[1] = x[0]
            local[2] = c[0]
            return (copy * c + fresh + local) * 0.5

        return np.sum(loop(body, x) * x)

    want = vk.grad(lambda x: program(x, PLAIN[door]))(X)
    got = AROUND[around](lambda x: program(x, DOORS[door]))(X)
    if around == "jit":
        want = program(X, PLAIN[door])
    np.testing.assert_allclose(got, want, rtol=1e-13)


def plain_while(body, x):
    while x[0] < 3.0:
        x = body(x) * 2.0
    return x


PLAIN = {
    "cond": lambda body, x: x * 2.0,
    "scan": lambda body, x: body(body(x)),
    "while": plain_while,
    "fori": lambda body, x: body(body(body(x))),
    "jit": lambda body, x: body(x * 2.0),
}


def test_locked_arrays_are_free_again():
    def f(x):
        acc = np.zeros_like(x)
        c = vk.jit(lambda c: c * acc + c)(x)
        acc[0] = c[1]
        return np.sum(acc * x)

    want = np.array([X[1], X[0], 0.0])
    np.testing.assert_allclose(vk.grad(f)(X), want)
    np.testing.assert_allclose(vk.jit(vk.grad(f))(X), want)
