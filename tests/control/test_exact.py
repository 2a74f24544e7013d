"""Without passes, `jit` keeps eager mode's bits, through loops and branches, in every mode."""

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.pytree import flatten

GENERATOR = np.random.default_rng(5)
X, W, XS = (GENERATOR.standard_normal(s) for s in ((4,), (4, 4), (5, 4)))


def step(x, w, c, s):
    """A constant in several places, carries that change places, a division, parts of arrays."""
    a, b = c
    turned = np.concatenate([a[1:], a[:1] * x[2]])
    a = np.tanh(a @ w + x * s) * x + turned * a * a / (1.5 + np.cos(x * b))
    return b * 0.5 + np.sin(x), np.tanh(a)


def scan(x, w):
    def body(c, s):
        c = step(x, w, c, s)
        return c, c[0] * c[1] + x

    (a, b), ys = vk.lax.scan(body, (x, x), XS)
    return np.sum(a * b) + np.sum(np.sum(np.sin(ys) * x, axis=0))


def fori_loop(x, w):
    a, b = vk.lax.fori_loop(0, 4, lambda i, c: step(x, w, c, XS[0] * i), (x, 0.5 * x))
    return np.sum(a * b * x)


def while_loop(x, w):
    goes_on = lambda c: c["n"] < 4
    body = lambda c: {"n": c["n"] + 1, "c": step(x, w, c["c"], XS[1])}
    a, b = vk.lax.while_loop(goes_on, body, {"n": 0, "c": (x, np.cos(x))})["c"]
    return np.sum(a * b * x)


def cond(x, w):
    first = lambda c: step(x, w, c, XS[0])
    a, b = vk.lax.cond(np.sum(x) > 0, first, lambda c: (c[1], c[1]), (x, x))
    c, d = vk.lax.switch(np.argmax(x), [first, lambda c: c, lambda c: c[::-1], first], (a, b))
    return np.sum(a * b * x + c * d * x)


def nested(x, w):
    def body(c, s):
        inner = lambda i, c: vk.lax.cond(c[0][i] > 0, lambda: step(x, w, c, s), lambda: c)
        return vk.lax.fori_loop(0, 3, inner, c), None

    (a, b), _ = vk.lax.scan(body, (x, x), XS, reverse=True)
    return np.sum(a * b * x)


PROGRAMS = {f.__name__: f for f in (scan, fori_loop, while_loop, cond, nested)}
TRANSFORMS = {
    "value": lambda f: f,
    "grad": lambda f: vk.grad(f, (0, 1)),
    "value_and_grad": lambda f: vk.value_and_grad(f, (0, 1)),
    "jvp": lambda f: lambda x, w: vk.jvp(f, (x, w), (w[0], w)),
    "jvp of jvp": lambda f: (
        lambda x, w: vk.jvp(lambda x: vk.jvp(lambda x: f(x, w), (x,), (w[0],))[1], (x,), (w[1],))
    ),
    "jvp of grad": lambda f: lambda x, w: vk.jvp(vk.grad(f, (0, 1)), (x, w), (w[0], w)),
    "grad of jvp": lambda f: vk.grad(lambda x, w: vk.jvp(lambda x: f(x, w), (x,), (w[0],))[1]),
    "hessian": vk.hessian,
    "a pullback, twice": lambda f: (
        lambda x, w: [pull(c) for pull in [vk.vjp(f, x, w)[1]] for c in (1.0, 0.3)]
    ),
    "a pullback of many": lambda f: lambda x, w: vk.vjp(f, x, w)[1].batched(x),
    "a map and its transpose": lambda f: (
        lambda x, w: [m(w[0]) * m.T(2.0)[0] for m in [vk.linearize(lambda x: f(x, w), x)[1]]]
    ),
    "vmap": lambda f: vk.vmap(f, (0, None)),
    "vmap of grad": lambda f: lambda x, w: vk.vmap(vk.grad(f, (0, 1)), (0, None))(w, w),
    "jet": lambda f: lambda x, w: vk.jet(lambda x: f(x, w), (x,), ([w[0], w[1]],)),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_without_passes_the_bits_are_those_of_eager_mode(program, transform):
    f = TRANSFORMS[transform](PROGRAMS[program])
    x = W if transform == "vmap" else X
    wanted, got = (flatten(y)[0] for y in (f(x, W), vk.jit(f, passes=False)(x, W)))
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("program", PROGRAMS)
def test_reverse_mode_over_reverse_mode_is_within_rounding(program):
    """The steps are recorded once for the values and once for the pullback."""
    f = vk.grad(lambda x: np.sum(vk.grad(PROGRAMS[program])(x, W) ** 2))
    np.testing.assert_allclose(vk.jit(f, passes=False)(X), f(X), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("transform", ["grad", "jvp", "hessian", "vmap of grad", "jet"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_transforms_around_it_are_right(program, transform):
    f, way = PROGRAMS[program], TRANSFORMS[transform]
    wanted, got = (flatten(way(g)(X, W))[0] for g in (f, vk.jit(f, passes=False)))
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_prints_and_parses():
    for transform in ("grad", "a pullback of many"):
        program = vk.jit(TRANSFORMS[transform](nested), passes=False).ir(X, W).program
        assert "pull_onto" in str(program)
        assert str(vk.parse_ir(str(program))) == str(program)
