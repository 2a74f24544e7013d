"""The product of transforms, tested as a product: each over each, over every kind of program.

References are built without staging, mapping, checkpoints or custom rules: Python's loops over
examples and eager derivatives of the function itself.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vjpkit as vk
import vjpkit.numpy as vnp
from vjpkit.core.ir import Program, nonlinear_equation

X, V = np.array([0.4, -0.7, 1.1]), np.array([0.3, 1.0, -0.5])


def plain(x):
    return np.sin(x) * x[::-1] + np.exp(-x * x)


def cond(x):
    return vk.lax.cond(np.sum(x) > 0.5, lambda: np.tanh(x) * x[0], lambda: x**2 - x[1])


def scan(x):
    return vk.lax.scan(lambda c, y: (np.sin(c) * y + x, np.sum(c)), x, x)[0]


def loop(x):
    return vk.lax.while_loop(
        lambda c: c[0] < 3.0, lambda c: (c[0] + 1.0, np.cos(c[1]) * x), (0.0, x)
    )[1]


def written(x):
    y = np.zeros_like(x)
    y[0] = x[1] * x[2]
    y[1:] += x[:-1] ** 2
    y *= x
    return y


def linalg(x):
    a = np.outer(x, x) + 2.0 * np.eye(3)
    return np.linalg.solve(a, np.sin(x)) + np.linalg.slogdet(a)[1]


def root(x):
    newton = lambda f, y: vk.lax.fori_loop(0, 12, lambda _, y: y - f(y) / (3 * y * y + 1), y)
    divide = lambda g, y: y / g(np.ones(3))  # elementwise equations: the Jacobian is diagonal
    return vk.lax.custom_root(lambda y: y**3 + y - np.sin(x), np.zeros(3), newton, divide)


def revolved(x):
    step = lambda c, y: (np.sin(c) * y + x, np.sum(c))
    c, ys = vk.lax.scan(step, x, x, checkpoint="revolve", slots=2)
    return c + ys


def combined(x):
    return vk.vmap(lambda y: np.cos(y) * vk.lax.pmean(y * y, "i") - y, axis_name="i")(x)


PROGRAMS = {
    f.__name__: f
    for f in (plain, cond, scan, loop, written, linalg, root, revolved, combined)
}  # fmt: skip
REFERENCE_PROGRAMS = PROGRAMS | {
    "root": lambda x: _solved(np.sin(x)),
    "revolved": lambda x: _unrolled(x),
    "combined": lambda x: np.cos(x) * np.mean(x * x) - x,
}


def _solved(b):
    """The real root of y^3 + y = b, by Cardano's formula."""
    d = np.sqrt(b * b / 4 + 1 / 27)
    return np.cbrt(d + b / 2) - np.cbrt(d - b / 2)


def _unrolled(x):
    c, ys = x, []
    for i in range(3):
        ys.append(np.sum(c))
        c = np.sin(c) * x[i] + x
    return c + np.stack(ys)


def mapped(f):
    return lambda x: np.sum(vk.vmap(f)(np.stack([x, 0.5 * x])), axis=0)


def looped(f):
    return lambda x: f(x) + f(0.5 * x)


def with_own_rule(f):
    g = vk.custom_vjp(lambda x: f(x))
    g.defvjp(lambda x: vk.vjp(f, x), lambda pullback, ct: pullback(ct))
    return g


TRANSFORMS: dict[str, Any] = {
    "grad": lambda f: vk.grad(lambda x: np.sum(f(x) * V)),
    "jvp": lambda f: lambda x: vk.jvp(f, (x,), (V * x,))[1],
    "vmap": mapped,
    "jit": vk.jit,
    "checkpoint": vk.checkpoint,
    "custom rule": with_own_rule,
}
REFERENCES = TRANSFORMS | {
    "vmap": looped, "jit": lambda f: f, "checkpoint": lambda f: f, "custom rule": lambda f: f,
}  # fmt: skip


def assert_composed(names, program):
    got, want = PROGRAMS[program], REFERENCE_PROGRAMS[program]
    for name in names:
        got, want = TRANSFORMS[name](got), REFERENCES[name](want)
    np.testing.assert_allclose(got(X), want(X), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("f", PROGRAMS)
@pytest.mark.parametrize("outer", TRANSFORMS)
@pytest.mark.parametrize("inner", TRANSFORMS)
def test_each_over_each(inner, outer, f):
    assert_composed((inner, outer), f)


@pytest.mark.parametrize("f", PROGRAMS)
@pytest.mark.parametrize("wrap", [lambda f: f, vk.jit, vk.checkpoint])
def test_the_transposed_pushforward_is_the_pullback(wrap, f):
    """A program of the tangents alone is linear: what does not depend on them stays outside."""
    g = wrap(PROGRAMS[f])

    def transposed(x):
        return vk.linear_transpose(lambda t: vk.jvp(g, (x,), (t,))[1], x)(V)[0]

    def of_an_example(x):
        push = lambda t: vk.vmap(lambda x, t: vk.jvp(g, (x,), (t,))[1])(x[None], t[None])[0]
        return vk.linear_transpose(push, x)(V)[0]

    want = vk.vjp(REFERENCE_PROGRAMS[f], X)[1](V)[0]
    mapped = lambda x: vk.vmap(transposed)(x[None])[0]
    for h in (transposed, of_an_example, vk.jit(transposed), mapped):
        np.testing.assert_allclose(h(X), want, rtol=1e-9, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(TRANSFORMS)), min_size=3, max_size=4),
    st.sampled_from(sorted(PROGRAMS)),
)
def test_compositions_to_depth_four(names, f):
    assert_composed(names, f)


@pytest.mark.parametrize("wrap", [lambda f: f, vk.jit, vk.checkpoint])
def test_perturbations_are_not_confused(wrap):
    """d/dx of x * d/dy (x + y) is 1, whatever transforms are inside."""
    f = lambda x: x * vk.grad(wrap(lambda y: x + y))(1.0)
    assert vk.grad(f)(2.0) == 1.0
    assert vk.jit(vk.grad(f))(2.0) == 1.0
    assert vk.jvp(f, (2.0,), (1.0,))[1] == 1.0


def test_an_exception_inside_leaves_nothing_behind():
    def broken(x):
        raise RuntimeError("midway")

    for name, transform in TRANSFORMS.items():
        with pytest.raises(RuntimeError, match="midway"):
            vk.grad(lambda x, t=transform: np.sum(t(broken)(x)))(X)
        np.testing.assert_allclose(TRANSFORMS[name](plain)(X), REFERENCES[name](plain)(X))
    assert isinstance(vnp.zeros(2), np.ndarray)


@pytest.mark.parametrize("inner", TRANSFORMS)
@pytest.mark.parametrize("outer", ["grad", "jvp"])
def test_a_stopped_gradient_stops_through_every_transform(inner, outer):
    def stopped(x):
        return x[::-1] * vk.lax.stop_gradient(np.sin(x))

    fixed = np.sin(X)  # what stopped(x) does not differentiate, at the examples of vmap too
    reference = {"vmap": lambda x: x[::-1] * fixed + 0.5 * x[::-1] * np.sin(0.5 * X)}
    if inner in ("grad", "jvp"):
        want = TRANSFORMS[outer](REFERENCES[inner](stopped))(X)
    else:
        want = TRANSFORMS[outer](reference.get(inner, lambda x: x[::-1] * fixed))(X)
    np.testing.assert_allclose(TRANSFORMS[outer](TRANSFORMS[inner](stopped))(X), want, rtol=1e-12)


def shifted(y):
    z = np.zeros_like(y)
    z[1:] += y[:-1]
    return z


MADE = {
    "zeros": lambda y: vnp.zeros(3),
    "zeros_like": lambda y: np.zeros_like(y),
    "written": shifted,
    "computed": lambda y: vnp.ones(3) * 2.0,
}


def with_jvp(f):
    g = vk.custom_jvp(f)
    g.defjvp(lambda primals, tangents: (f(*primals), f(*tangents)))
    return g


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("wrap", [lambda f: f, vk.checkpoint, with_own_rule, with_jvp])
def test_results_are_arrays(made, wrap):
    """What accepts traced values inside of a transform is a plain array outside."""
    f = wrap(MADE[made])
    xs = np.stack([X, V])
    results = [
        vk.vmap(f)(xs),
        vk.vmap(f, out_axes=-1)(xs),
        vk.vmap(lambda _: f(X), out_axes=None, axis_size=2, in_axes=None)(X),
        vk.vmap(lambda x: vk.lax.psum(f(x), "i") * f(x), axis_name="i")(xs),
        vk.vjp(f, X)[0],
        vk.jacfwd(f)(X),
        vk.jacrev(f)(X),
        *vk.jvp(f, (X,), (V,)),
        vk.lax.map(f, xs),
        vk.jit(vk.vmap(f))(xs),
    ]
    assert {type(y) for y in results} == {np.ndarray}


def residual_and_vectors(name):
    """r (a + b), linear in a and b together and in neither alone, held by each primitive."""
    f = lambda r, a, b: r * (a + b)
    return {
        "call": vk.jit(f),
        "checkpoint": vk.checkpoint(f),
        "cond": lambda r, a, b: vk.lax.cond(np.sum(r * r) < 3.0, f, f, r, a, b),
        "scan over a": lambda r, a, b: vk.lax.scan(
            lambda c, s: (r * (c + s), c), a, np.stack([b, b])
        ),
        "scan over b": lambda r, a, b: vk.lax.scan(
            lambda c, s: (r * (c + s), c), b, np.stack([a, a])
        ),
        "custom rule": vk.custom_rule(
            f, jvp=lambda p, t: (f(*p), f(p[0], t[1], t[2]) + f(t[0], p[1], p[2]))
        ),
    }[name]


@pytest.mark.parametrize("zero", [True, False], ids=["residual 0", "residual"])
@pytest.mark.parametrize(
    "name", ["call", "checkpoint", "cond", "scan over a", "scan over b", "custom rule"]
)
def test_zeros_are_residuals_or_vectors(name, zero):
    """A program is linear if one choice of the operands that are zero makes its equations so."""
    f, x = residual_and_vectors(name), np.array([0.3, 0.5])
    still = lambda t: f(np.zeros_like(t) if zero else x, t, np.zeros_like(t))
    moving = lambda t: f(np.zeros_like(t) if zero else x, t, np.ones_like(t))
    twice = lambda t: f(t, t, np.zeros_like(t))
    offenders = []
    for g in (still, moving, twice):
        made = vk.make_ir(g)(x).program
        linear = Program(made.inputs, made.equations, made.outputs, linear=1)
        offenders.append(nonlinear_equation(linear))
    assert offenders[0] is None
    assert None not in offenders[1:]
