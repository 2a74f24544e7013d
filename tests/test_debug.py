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


def said(text, x):
    vk.debug.print(text + " {}", x)


UNREAD: dict[str, Any] = {
    "scan": lambda x: vk.lax.scan(lambda c, s: (c + s, said("s", s))[:1] * 2, 0.0, np.arange(2.0)),
    "scan of nothing": lambda x: vk.lax.scan(lambda c, s: (said("s", s), None), None, X),
    "fori_loop": lambda x: vk.lax.fori_loop(0, 2, lambda i, c: (said("i", i), c)[1], 0),
    "while_loop": lambda x: vk.lax.while_loop(
        lambda i: i < x, lambda i: (said("i", i), i + 1)[1], 0.0
    ),
    "cond": lambda x: vk.lax.cond(x > 0, lambda: said("yes", x), lambda: said("no", x)),
    "cond, one branch": lambda x: vk.lax.cond(x > 0, lambda: said("yes", x), lambda: None),
    "switch": lambda x: vk.lax.switch(1, [lambda: None, lambda: said("one", x)]),
    "equal conds": lambda x: [
        vk.lax.cond(x > 0, lambda: said("again", x), lambda: None) for _ in range(2)
    ],
    "checkpoint": vk.checkpoint(lambda x: (said("c", x), x * x)[1]),
    "jit": vk.jit(lambda x: (said("j", x), x * x)[1]),
    "map": lambda x: vk.lax.map(lambda s: (said("m", s), s)[1], x * np.arange(2.0)),
    "nested": lambda x: vk.lax.scan(
        lambda c, s: (
            vk.lax.scan(lambda _, r: (said("r", r), None), None, s * np.arange(2.0))[0],
            None,
        ),
        None,
        np.arange(2.0),
    ),
}
AROUND: dict[str, Any] = {
    "jit": vk.jit,
    "without passes": lambda f: vk.jit(f, passes=False),
    "grad": vk.grad,
    "grad of jit": lambda f: vk.grad(vk.jit(f)),
    "jit of grad": lambda f: vk.jit(vk.grad(f)),
    "jvp of jit": lambda f: lambda x: vk.jvp(vk.jit(f), (x,), (1.0,)),
    "second order": lambda f: vk.grad(vk.grad(vk.jit(f))),
    "jet of jit": lambda f: lambda x: vk.jet(vk.jit(f), (x,), ([1.0],)),
    "vmap of jit": lambda f: lambda x: vk.vmap(vk.jit(f))(np.array([x])),
    "jit of vmap of grad": lambda f: lambda x: vk.jit(vk.vmap(vk.grad(f)))(np.array([x])),
    "made": lambda f: lambda x: vk.make_ir(f)(x)(x),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", UNREAD)
def test_what_prints_runs_though_nobody_reads_its_result(name, around, capsys):
    f = lambda x: (UNREAD[name](x), x)[1]
    f(1.5)
    want = capsys.readouterr().out
    assert want
    AROUND[around](f)(1.5)
    assert capsys.readouterr().out == want


def test_a_loop_that_runs_again_for_its_pullback_prints_once(capsys):
    def f(x):
        step = lambda c: (said("c", c[1]), (c[0] + 1, np.sin(c[1]) * x))[1]
        return vk.lax.while_loop(lambda c: c[0] < 2, step, (0, x))[1]

    want = f"c 1.5\nc {1.5 * np.sin(1.5)}\n"
    for run in (f, *[AROUND[name](f) for name in AROUND if name != "second order"]):
        run(1.5)
        assert capsys.readouterr().out == want
    value = vk.jit(lambda x: (vk.vjp(lambda x: 2.0 * f(x), x)[1](1.0), x)[1])
    assert value(1.5) == 1.5
    assert capsys.readouterr().out == want


def test_a_checkpoint_that_is_staged_prints_in_its_first_run(capsys):
    f = vk.jit(vk.checkpoint(lambda x: (said("x", x), np.sin(x) * x)[1]))
    for run in (f, vk.grad(f), lambda x: vk.vjp(f, x), vk.grad(vk.grad(f))):
        run(0.5)
        assert capsys.readouterr().out == "x 0.5\n"


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
            "does not fit 1 argument",
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
