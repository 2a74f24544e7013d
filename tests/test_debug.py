"""`debug.print` prints when the value is there, under every transform, once."""

from typing import Any

import numpy as np
import pytest

import vjpkit

vk: Any = vjpkit
X = np.array([1.0, 2.0])


def noisy(x):
    vk.debug.print("x = {} and {y:.1f}", x, y=np.sum(x))
    return np.sum(np.sin(x) * x)


LINE = "x = [1. 2.] and 3.0\n"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: f, vk.jit, vk.grad, lambda f: vk.jit(vk.grad(f)), lambda f: vk.grad(vk.jit(f)),
        lambda f: lambda x: vk.jvp(f, (x,), (x,)), lambda f: vk.jit(vk.jit(f)),
        lambda f: lambda x: vk.jit(lambda x: vk.jvp(f, (x,), (x,)))(x),
        lambda f: lambda x: vk.jet(f, (x,), ([x, x],)), lambda f: vk.checkpoint(f),
        lambda f: lambda x: vk.vjp(f, x)[1](1.0),
        lambda f: lambda x: vk.lax.cond(x[0] > 0, f, np.sum, x),
        lambda f: vk.jit(lambda x: vk.lax.cond(x[0] > 0, f, np.sum, x)),
        lambda f: vk.jit(vk.grad(lambda x: vk.lax.cond(x[0] > 0, f, np.sum, x))),
        lambda f: vk.debug_nans(vk.jit(f)),
    ],
    ids=range(15),
)  # fmt: skip
def test_prints_once(wrap, capsys):
    wrapped = wrap(noisy)
    wrapped(X)
    assert capsys.readouterr().out == LINE
    wrapped(X)
    assert capsys.readouterr().out == LINE


def test_mapped(capsys):
    for f in (vk.vmap(noisy), vk.jit(vk.vmap(noisy)), vk.vmap(vk.jit(vk.grad(noisy)))):
        f(np.stack([X, 2 * X]))
        assert capsys.readouterr().out == LINE + "x = [2. 4.] and 6.0\n"
    vk.vmap(vk.vmap(lambda x: vk.debug.print("{}", x) or x))(np.arange(4.0).reshape(2, 2))
    assert capsys.readouterr().out == "0.0\n1.0\n2.0\n3.0\n"


def test_in_loops(capsys):
    def step(c, x):
        vk.debug.print("{} {}", c, x)
        return c * x, None

    f = lambda xs: vk.lax.scan(step, 1.0, xs)[0]
    want = "1.0 1.0\n1.0 2.0\n"
    for g in (f, vk.jit(f), vk.jit(vk.grad(f)), vk.grad(vk.jit(f))):
        g(X)
        assert capsys.readouterr().out == want

    def body(x):
        vk.debug.print("{}", x)
        return 2 * x

    vk.jit(lambda x: vk.lax.while_loop(lambda x: x < 4, body, x))(1.0)
    assert capsys.readouterr().out == "1.0\n2.0\n"


def test_what_is_printed_twice_is_printed_twice(capsys):
    def f(x):
        vk.debug.print("{}", x)
        vk.debug.print("{}", x)
        return x

    vk.jit(f)(1.0)
    assert capsys.readouterr().out == "1.0\n1.0\n"
    program = vk.make_ir(f)(1.0).program
    assert vk.parse_ir(str(program)) == program
    vk.debug.print("text")
    assert capsys.readouterr().out == "text\n"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: vk.debug.print(X),
            TypeError,
            "must be a format string, got ndarray",
        ),
        (
            lambda: vk.debug.print("{} {}", X),
            ValueError,
            "does not fit 1 arguments",
        ),
        (lambda: vk.debug.print("{y}", x=X), ValueError, "the names ['x']: 'y'"),
        (lambda: vk.debug.print("{", X), ValueError, "debug.print: the format '{' does not fit"),
        (lambda: vk.debug.print("{}", "text"), TypeError, "argument 0: str is not an array"),
        (lambda: vk.debug.print("{x}", x=None), TypeError, "x: NoneType is not an array"),
    ],
    ids=range(6),
)
def test_bad_input(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
    assert "test_debug.py:" in str(caught.value)
