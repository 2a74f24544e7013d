"""scan: a Python loop on values, one equation staged, a loop again in every derivative."""

import itertools
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
import vjpkit.numpy as vnp
from vjpkit.test_util import check_grads

W, X0, XS = (
    np.array([0.3, -1.2]),
    np.array([1.7, 0.4]),
    np.array([[0.5, 1.0], [2.0, -0.3], [1.0, 0.2]]),
)


def recurrence(w, x, xs):
    def step(carry, x):
        h, n = carry
        h = np.sin(h) * w + x * n
        return (h, n + 1), {"y": h * x, "n": n}

    (h, n), out = vk.lax.scan(step, (x, 2), xs)
    return np.sum(h * h) + np.sum(out["y"]) * n


def backwards(w, x, xs):
    h, ys = vk.lax.scan(lambda h, x: (np.tanh(h * w) + x, h[::-1]), x, xs, reverse=True)
    return np.sum(h * ys[0]) + np.sum(ys**2)


def invariant(w, x, xs):
    """A matrix function of what does not change is computed once."""

    def step(h, _):
        a = np.exp(np.outer(w, w))
        return np.cos(a @ h), None

    return np.sum(vk.lax.scan(step, x, None, length=3)[0])


def nested(w, x, xs):
    def outer(c, x):
        inner = lambda d, y: (d * w + y, np.sum(d))
        d, sums = vk.lax.scan(inner, c, np.stack([x, 2 * x]))
        return np.sin(d), np.sum(sums)

    c, sums = vk.lax.scan(outer, x, xs)
    return np.sum(c) * np.sum(sums)


def gradient_inside(w, x, xs):
    loss = lambda h, x: np.sum(np.sin(h * w) * x)
    return np.sum(vk.lax.scan(lambda h, x: (h - 0.1 * vk.grad(loss)(h, x), None), x, xs)[0] ** 2)


def written_inside(w, x, xs):
    def step(h, x):
        z = vnp.zeros(2)
        z[0] = h[1] * w[0]
        z[1] += x[0] * h[0]
        return z, z[0]

    h, ys = vk.lax.scan(step, x, xs)
    return np.sum(h) + np.sum(ys**2)


PROGRAMS = (recurrence, backwards, invariant, nested, gradient_inside, written_inside)
TRANSFORMS: dict[str, Any] = {
    "itself": lambda f: f,
    "grad": lambda f: vk.grad(f, (0, 1, 2)),
    "jvp": lambda f: lambda *a: vk.jvp(f, a, tuple(np.cos(x) for x in a)),
    "hessian": lambda f: vk.hessian(f, (0, 1)),
    "forward over forward": lambda f: vk.jacfwd(vk.jacfwd(f, 1), 1),
    "checkpoint": lambda f: vk.grad(vk.checkpoint(f), (0, 2)),
}


@pytest.mark.parametrize("f", PROGRAMS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_staged_as_on_values(f, name):
    transform = TRANSFORMS[name]
    want = vk.tree.leaves(transform(f)(W, X0, XS))
    for g in (vk.jit(transform(f)), transform(vk.jit(f))):
        for a, b in zip(vk.tree.leaves(g(W, X0, XS)), want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("f", PROGRAMS)
@pytest.mark.parametrize("batched", list(itertools.product([0, None], repeat=3))[:-1])
def test_mapped(f, batched):
    args = [np.stack([a, 1.3 * a]) if b == 0 else a for a, b in zip((W, X0, XS), batched)]
    each = [[a[i] if b == 0 else a for a, b in zip(args, batched)] for i in range(2)]
    want = [f(*a) for a in each]
    np.testing.assert_allclose(vk.vmap(f, in_axes=batched)(*args), want, rtol=1e-12)
    want = [vk.grad(f)(*a) for a in each]
    got = vk.vmap(vk.grad(vk.jit(f)), in_axes=batched)(*args)
    np.testing.assert_allclose(got, want, rtol=1e-11)


def test_gradients_are_right():
    for f in PROGRAMS:
        check_grads(vk.jit(f), (W, X0, XS), order=2)


def test_one_loop_forward_and_one_back():
    f = lambda x: vk.lax.scan(lambda c, x: (np.sin(c) * x, None), 1.0, x)[0]
    names = [e.primitive.name for e in vk.make_ir(vk.grad(f))(np.ones(50)).program.equations]
    assert names.count("scan") == 2
    program = vk.make_ir(vk.grad(f))(np.ones(50)).program
    assert vk.parse_ir(str(program)) == program


def test_residuals_that_do_not_change_are_not_stacked():
    w, x = np.eye(20), np.ones(20)

    def f(w, x):
        return np.sum(vk.lax.scan(lambda h, _: (np.tanh(w @ h), None), x, None, length=100)[0])

    _, pullback = vk.vjp(vk.jit(f), w, x)
    assert pullback.nbytes < 100 * 20 * 8 * 3 + 2 * w.nbytes


def test_edges_of_length():
    f = vk.jit(lambda x, xs: vk.lax.scan(lambda c, x: (c * x, c), x, xs))
    last, ys = f(2.0, np.zeros(0))
    assert last == 2.0
    assert ys.shape == (0,)
    assert vk.grad(lambda x: f(x, np.zeros(0))[0])(2.0) == 1.0
    assert vk.lax.scan(lambda c, x: (c, x), 1.0, np.zeros(0))[1].shape == (0,)
    carry, none = vk.jit(lambda x: vk.lax.scan(lambda c, _: (c + 1, None), x, length=3))(1.0)
    assert (carry, none) == (4.0, None)


def test_closing_over_every_level():
    def f(a):
        def g(b):
            step = lambda c, _: (c * a + b, c)
            return vk.jit(lambda c: vk.lax.scan(step, c, None, length=3)[0])(1.0)

        return vk.grad(g)(2.0) * a

    # g(b) = a^3 + b (a^2 + a + 1), so f(a) = a^3 + a^2 + a.
    assert vk.grad(f)(3.0) == pytest.approx(27 + 6 + 1)
    assert vk.jit(vk.grad(f))(3.0) == pytest.approx(27 + 6 + 1)


def test_bad_input():
    with pytest.raises(TypeError, match=r"(?s)carry f32\[2\] at \['h'\].*f64\[2\].*Cast"):
        vk.jit(
            lambda x: vk.lax.scan(
                lambda c, _: ({"h": c["h"].astype("f4")}, None), {"h": x}, length=2
            )
        )(X0)
    with pytest.raises(TypeError, match=r"(?s)tree.*started with.*test_scan"):
        vk.lax.scan(lambda c, _: ((c, c), None), 1.0, length=2)
    with pytest.raises(TypeError, match=r"(?s)pair \(carry, y\).*\(carry, None\)"):
        vk.lax.scan(lambda c, x: c, 1.0, XS)
    with pytest.raises(ValueError, match=r"(?s)no arrays and length is not given"):
        vk.lax.scan(lambda c, _: (c, None), 1.0)
    with pytest.raises(ValueError, match=r"\['b'\] has 2 slices, but 3 are wanted"):
        vk.lax.scan(lambda c, _: (c, None), 1.0, {"a": XS, "b": XS[:2]})
    with pytest.raises(ValueError, match="is a scalar, which has no slices"):
        vk.lax.scan(lambda c, _: (c, None), 1.0, 2.0)
    with pytest.raises(TypeError, match=r"init at .* is a str"):
        vk.lax.scan(lambda c, _: (c, None), {"a": "x"}, length=1)
