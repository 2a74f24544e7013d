"""while_loop and fori_loop: both modes, every order, trip counts that nobody knows in advance."""

import itertools
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.ir import check
from vjpkit.test_util import check_grads

W, X = np.array([1.5, 1.2]), np.array([0.3, 0.5])


def until_large(w, x):
    n, x = vk.lax.while_loop(
        lambda c: np.sum(c[1]) < 1.5 * np.sum(w),
        lambda c: (c[0] + 1, np.sin(c[1]) * w + c[1]),
        (0, x),
    )
    return np.sum(x * x) * n


def newton(w, x):
    """A fixed point: x -> a with a^2 = w."""
    a = vk.lax.while_loop(
        lambda a: np.max(abs(a * a - w)) > 1e-12, lambda a: 0.5 * (a + w / a), x + 1.0
    )
    return np.sum(np.sin(a) * x)


def nested(w, x):
    def outer(c):
        i, x = c
        total = vk.lax.fori_loop(0, i + 1, lambda j, y: y * w + j, x)
        return i + 1, np.tanh(total)

    return np.sum(vk.lax.while_loop(lambda c: c[0] < 3, outer, (0, x))[1] * w)


def counted(w, x):
    return np.sum(vk.lax.fori_loop(1, 4, lambda i, y: np.sin(y) * w + i * x, x))


def not_at_all(w, x):
    return np.sum(vk.lax.while_loop(lambda x: np.sum(x) < -9.0, lambda x: x * w, x) * w)


PROGRAMS = (until_large, newton, nested, counted, not_at_all)
TRANSFORMS: dict[str, Any] = {
    "itself": lambda f: f,
    "grad": lambda f: vk.grad(f, (0, 1)),
    "jvp": lambda f: lambda *a: vk.jvp(f, a, tuple(np.cos(x) for x in a)),
    "hessian": lambda f: vk.hessian(f, (0, 1)),
    "forward over forward": lambda f: vk.jacfwd(vk.jacfwd(f, 1), 0),
    "reverse over reverse": lambda f: vk.jacrev(vk.jacrev(f, 1), 0),
    "reverse over forward": lambda f: vk.jacrev(vk.jacfwd(f, 1), 1),
    "third": lambda f: vk.grad(
        lambda w, x: np.sum(vk.grad(lambda w, x: np.sum(vk.grad(f)(w, x) * x), 1)(w, x) * w)
    ),
}


@pytest.mark.parametrize("f", PROGRAMS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_staged_as_on_values(f, name):
    transform = TRANSFORMS[name]
    want = vk.tree.leaves(transform(f)(W, X))
    for g in (vk.jit(transform(f)), transform(vk.jit(f))):
        for a, b in zip(vk.tree.leaves(g(W, X)), want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("f", PROGRAMS)
@pytest.mark.parametrize("batched", list(itertools.product([0, None], repeat=2))[:-1])
def test_mapped(f, batched):
    """The examples end at different times."""
    args = [np.stack([a, 1.3 * a, 2.0 * a]) if b == 0 else a for a, b in zip((W, X), batched)]
    each = [[a[i] if b == 0 else a for a, b in zip(args, batched)] for i in range(3)]
    want = [f(*a) for a in each]
    np.testing.assert_allclose(vk.vmap(f, in_axes=batched)(*args), want, rtol=1e-12)
    want = [vk.grad(f, 1)(*a) for a in each]
    for g in (vk.vmap(vk.grad(vk.jit(f), 1), batched), vk.jit(vk.vmap(vk.grad(f, 1), batched))):
        np.testing.assert_allclose(g(*args), want, rtol=1e-9, atol=1e-14)


def test_gradients_are_right():
    for f in PROGRAMS:
        check_grads(vk.jit(f), (W, X), order=2)


def test_values_decide_in_python():
    seen: list[float] = []

    def step(x):
        seen.append(x)
        return x + 1.0

    vk.lax.while_loop(lambda x: x < 3.0, step, 0.5)
    assert seen == [0.5, 1.5, 2.5]
    text = str(vk.make_ir(until_large)(W, X).program)
    assert text.count("while[") == 1
    assert vk.parse_ir(text) == vk.make_ir(until_large)(W, X).program


def test_bounds_that_are_staged():
    f = vk.jit(lambda n, x: vk.lax.fori_loop(0, n, lambda i, y: y * x + i, 1.0))
    g = vk.jit(vk.grad(lambda x, n: vk.lax.fori_loop(0, n, lambda i, y: y * x, 1.0)))
    assert [f(n, 2.0) for n in range(4)] == [1.0, 2.0, 5.0, 12.0]
    assert [g(3.0, n) for n in range(4)] == [0.0, 1.0, 6.0, 27.0]


@pytest.mark.parametrize("staged", [(), (0,), (1,), (0, 1)])
@pytest.mark.parametrize("kind", [int, np.int8, np.uint64])
def test_the_number_of_a_step_is_the_same_for_all_bounds(kind, staged):
    seen: set[Any] = set()

    def f(x, *given):
        lower, upper = [given[staged.index(i)] if i in staged else pair[i] for i in range(2)]

        def step(i, y):
            seen.add(i.dtype)
            return y * x + i

        return vk.lax.fori_loop(lower, upper, step, 1.0)

    for first, last in [(0, 3), (2, 5), (3, 3), (4, 1)]:
        pair = kind(first), kind(last)
        y, t = 1.0, 0.0
        for i in range(first, last):
            y, t = y * 1.5 + i, t * 1.5 + y
        found = vk.jit(vk.value_and_grad(f))(1.5, *[pair[i] for i in staged])
        np.testing.assert_allclose(found, (y, t), rtol=1e-14)
    assert seen == {np.dtype(np.int64)}


def test_transposed_in_what_is_linear():
    def tangent(t):
        return vk.jvp(vk.jit(until_large), (W, X), (0 * W, t))[1]

    _, back = vk.vjp(tangent, X)
    np.testing.assert_allclose(back(1.0)[0], vk.grad(until_large, 1)(W, X), rtol=1e-10)


def test_loops_in_the_linearized_equations_of_a_root_are_transposed():
    """There the operands of a loop are tangents, of which nothing may be read."""
    step = lambda c, y: (c[0] + 1, 0.5 * c[1] + y * y)
    f = lambda y: vk.lax.while_loop(lambda c: c[0] < 3, lambda c: step(c, y), (0, y))[1]
    newton = lambda g, y: vk.lax.fori_loop(0, 9, lambda _, y: y - g(y) / vk.grad(g)(y), y)
    root = lambda a: vk.lax.custom_root(lambda y: f(y) - a, 1.0, newton, lambda g, y: y / g(1.0))
    y = root(2.0)
    assert vk.grad(root)(2.0) == pytest.approx(1 / vk.grad(f)(y), rel=1e-12)
    assert vk.jit(vk.grad(root))(2.0) == pytest.approx(1 / vk.grad(f)(y), rel=1e-12)


def test_bad_input():
    with pytest.raises(
        TypeError, match=r"(?s)carry f64\[3\] at \['b'\].*started with f64\[\].*test_loop"
    ):
        vk.jit(
            lambda x: vk.lax.while_loop(
                lambda c: c["b"] < 1, lambda c: {"b": c["b"] * np.ones(3)}, {"b": x}
            )
        )(0.0)
    with pytest.raises(TypeError, match=r"(?s)cond_fun.*scalar boolean, got f64\[2\].*np.any"):
        vk.jit(lambda x: vk.lax.while_loop(lambda x: x * 1.0, lambda x: x, x))(X)
    with pytest.raises(TypeError, match=r"(?s)what cond_fun returns must be a scalar.*np.any"):
        vk.lax.while_loop(lambda x: x < 1, lambda x: x, X)
    with pytest.raises(TypeError, match="body_fun"):
        vk.lax.fori_loop(0, 3, None, X)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(TypeError, match="upper must be an integer, got f64"):
        vk.lax.fori_loop(0, 3.0, lambda i, x: x, X)
    with pytest.raises(TypeError, match="fori_loop: init_val is a str"):
        vk.lax.fori_loop(0, 3, lambda i, x: x, "text")


def test_an_example_that_is_done_takes_no_step():
    """The body would warn, or fail, for what it has left."""
    logs = lambda x: vk.lax.while_loop(lambda x: x > 0, np.log, x)

    def divided(x):
        step = lambda c: (c[0] + 1, c[1], c[2] * np.linalg.inv(np.eye(2) * (c[1] - c[0]))[0, 0])
        return vk.lax.while_loop(lambda c: c[0] < c[1], step, (0.0, x, 1.0))[2]

    for f, xs in ((logs, np.array([5.0, -1.0, 100.0, 1.5])), (divided, np.array([0.0, 1.0, 3.0]))):
        for d in (lambda f: f, vk.grad, lambda f: vk.grad(vk.grad(f))):
            want = [d(f)(x) for x in xs]
            np.testing.assert_allclose(vk.vmap(d(f))(xs), want, rtol=1e-12)
            np.testing.assert_allclose(vk.jit(vk.vmap(d(f)))(xs), want, rtol=1e-12)
        assert vk.vmap(f)(xs[:0]).shape == (0,)


def test_unroll_is_a_hint():
    f = lambda x: vk.lax.fori_loop(0, 3, lambda i, y: y * x + i, 1.0, unroll=2)
    assert vk.jit(vk.grad(f))(2.0) == vk.grad(f)(2.0) == 13.0
    assert vk.lax.fori_loop(1, 3, lambda i, y: y + i, 0, unroll=2) == 3
    with pytest.raises(ValueError, match=r"fori_loop: unroll=2 with bounds.*not known"):
        vk.jit(lambda n: vk.lax.fori_loop(0, n, lambda i, y: y + i, 0, unroll=2))(3)
    with pytest.raises(ValueError, match=r"fori_loop: unroll must be"):
        vk.lax.fori_loop(0, 3, lambda i, y: y, 0, unroll=-1)


# ---- Python's numbers as initial values ----------------------------------------------------------

WIDENED = {
    "fori_loop": lambda n, x: vk.lax.fori_loop(0, n, lambda i, c: c * x, 1),
    "scan": lambda n, x: vk.lax.scan(lambda c, _: (c * x, c), 1, None, length=3),
    "scan, reverse": lambda n, x: vk.lax.scan(
        lambda c, y: (c + y, c), 0, np.array([x, 2 * x]), reverse=True
    ),
    "while_loop": lambda n, x: vk.lax.while_loop(lambda c: c < 3 * n, lambda c: c * x + 1.0, 1),
    "in a tree": lambda n, x: vk.lax.fori_loop(
        0, n, lambda i, c: {"n": c["n"] + 1, "y": c["y"] + x}, {"n": 0, "y": 0}
    ),
    "to complex": lambda n, x: vk.lax.fori_loop(0, n, lambda i, c: c * 1j + x, 1),
    "to a smaller float": lambda n, x: vk.lax.fori_loop(0, n, lambda i, c: np.float32(0.5) + c, 1),
    "a constant": lambda n, x: vk.lax.fori_loop(0, n, lambda i, c: 0.5, 1),
    "no step": lambda n, x: vk.lax.scan(lambda c, y: (c * x, c), 1, np.zeros(0)),
}  # fmt: skip


@pytest.mark.parametrize("name", WIDENED)
def test_pythons_numbers_take_the_dtype_that_they_become(name):
    f = WIDENED[name]
    want = vk.tree.leaves(f(3, 1.5))
    staged = (vk.jit(f)(3, 1.5), vk.jit(f, static_argnums=0)(3, 1.5))
    for got in map(vk.tree.leaves, staged):
        for a, b in zip(got, want, strict=True):
            assert np.asarray(a).dtype == np.asarray(b).dtype
            np.testing.assert_allclose(a, b, 1e-6)
    if name in ("fori_loop", "scan", "while_loop"):
        value = lambda x: vk.tree.leaves(f(3, x))[0]
        np.testing.assert_allclose(vk.jit(vk.grad(value))(1.5), vk.grad(value)(1.5), 1e-14)
        np.testing.assert_allclose(vk.vmap(value)(np.array([1.5, 2.0]))[0], value(1.5), 1e-14)


@pytest.mark.parametrize("transform", [lambda f: f, vk.jit])
def test_arrays_keep_their_dtype(transform):
    for step in (lambda i, c: c * 0.5, lambda i, c: 0.5, lambda i, c: c * 1j):
        loop = transform(lambda c, step=step: vk.lax.fori_loop(0, 3, step, c))
        with pytest.raises(TypeError, match=r"started with i64\[\]"):
            loop(np.int64(1))


@pytest.mark.parametrize("start", [0, 0.0, np.zeros(2)], ids=["integer", "number", "array"])
def test_the_pullback_of_a_loop_with_outputs_that_are_not_reached_is_linear(start):
    """Their cotangents are zeros beside a value that may be zero too: of these one is a vector."""

    def loop(x):
        def step(c):
            i, x, w = c
            return i + 1, np.sin(x) * 1.1, 0.5 * w

        return vk.lax.while_loop(lambda c: np.sum(c[0]) < 3, step, (start, x, W))[1:]

    _, linear = vk.jit(lambda x: vk.linearize(loop, x))(X)
    for program in (linear.program, linear.T.program, linear.T.T.program):
        check(program)
    (back,) = vk.linear_transpose(linear, X)((W, X))
    assert np.array_equal(back, vk.vjp(loop, X)[1]((W, X))[0])
    assert np.array_equal(back, vk.vjp(loop, X)[1]((W, 0 * X))[0])


def test_an_example_that_does_not_begin_or_has_ended_computes_nothing():
    """It would warn, which is an error here."""
    body = lambda x: x + np.log(x) - 3.0
    f = lambda x: vk.lax.while_loop(lambda x: x > 0.0, body, x)
    xs = np.array([-1.0, 0.5, 20.0])
    wanted = [-1.0, body(0.5), f(20.0)]
    np.testing.assert_allclose(vk.vmap(f)(xs), wanted, rtol=1e-15)
    gradients = [vk.grad(f)(x) for x in xs]
    np.testing.assert_allclose(vk.vmap(vk.grad(f))(xs), gradients, rtol=1e-14)


def test_what_a_staged_loop_keeps_is_named():
    names = []

    def noted(linear):
        names.extend([r.name for r in linear.residuals])
        return linear

    def f(x):
        power = lambda x: vk.lax.while_loop(lambda y: y < 10.0, lambda y: y * x, x)
        push = noted(vk.linearize(power, x)[1])
        pull = vk.vjp(power, x)[1]
        return noted(vk.linearize(push, 1.0)[1])(1.0) + noted(vk.linearize(pull, 1.0)[1])(1.0)[0]

    assert vk.make_ir(f)(2.0)(2.0)[0] == 64.0  # twice that of x to the fourth
    assert [name for name, _ in itertools.groupby(names)] == ["while", "push", "pull"]


def test_a_staged_loop_takes_some_of_its_tangents():
    def f(a, b):
        return vk.lax.while_loop(lambda s: s[0] < 100.0, lambda s: (s[0] * a, s[1] + b), (a, a))

    def pushed(a, b):
        linear = vk.linearize(f, a, b)[1]
        return linear.only(0)(1.0), linear.only(1)(1.0)

    want = [vk.jvp(f, (3.0, 0.5), ts)[1] for ts in ((1.0, 0.0), (0.0, 1.0))]
    assert want == [(405.0, 1.0), (0.0, 4.0)]
    assert vk.tree.leaves(vk.make_ir(pushed)(3.0, 0.5)(3.0, 0.5)) == vk.tree.leaves(want)


def test_how_often_a_linear_step_is_taken_depends_on_what_moves():
    """Its residuals do not, so that the values are wanted for the condition alone."""

    def slope(limit, x):
        double = lambda x: vk.lax.while_loop(lambda y: y < limit, lambda y: 2.0 * y, x)
        return vk.linearize(double, x)[1](1.0)

    for limit, x, want in ((10.0, 3.0, 4.0), (1.0, 3.0, 1.0), (10.0, 0.25, 64.0)):
        assert slope(limit, x) == vk.make_ir(slope)(limit, x)(limit, x)[0] == want
