"""map, associative_scan and select against vmap, Python's loops and np.where."""

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.test_util import check_grads

XS = np.linspace(0.5, 1.5, 14).reshape(7, 2)


@pytest.mark.parametrize("batch_size", [None, 1, 2, 3, 7, 10])
def test_map(batch_size):
    f = lambda x: {"a": np.sin(x) * x, "b": np.sum(x)}
    mapped = lambda xs: vk.lax.map(f, xs, batch_size=batch_size)
    want = vk.vmap(f)(XS)
    for g in (mapped, vk.jit(mapped)):
        got = g(XS)
        np.testing.assert_allclose(got["a"], want["a"], rtol=1e-15)
        np.testing.assert_allclose(got["b"], want["b"], rtol=1e-15)
    loss = lambda xs: np.sum(mapped(xs)["a"] ** 2) + np.sum(mapped(xs)["b"])
    check_grads(vk.jit(loss), (XS,), order=2)
    assert mapped(XS[:0])["a"].shape == (0, 2)


@pytest.mark.parametrize("wrap", [lambda f: f, vk.jit])
def test_traced_numbers_in_an_object_array_are_stacked(wrap):
    f = lambda x: np.sum(vk.lax.map(np.sin, np.array([x, 2.0 * x])))
    got = wrap(vk.grad(f))(0.3)
    np.testing.assert_allclose(got, np.cos(0.3) + 2 * np.cos(0.6), rtol=1e-15)


@pytest.mark.parametrize("n", range(9))
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan(n, reverse):
    """Affine maps compose associatively, and not commutatively."""
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(2, n, 3))

    def compose(f, g):
        (a, b), (c, d) = f, g
        return a * c, c * b + d

    def looped(a, b):
        order = range(n - 1, -1, -1) if reverse else range(n)
        out, total = {}, None
        for i in order:
            total = (a[i], b[i]) if total is None else compose(total, (a[i], b[i]))
            out[i] = total
        return [np.stack([out[i][k] for i in range(n)]) for k in (0, 1)] if n else [a, b]

    scanned = lambda a, b: vk.lax.associative_scan(compose, (a, b), reverse=reverse)
    for g in (scanned, vk.jit(scanned)):
        for got, want in zip(g(a, b), looped(a, b)):
            np.testing.assert_allclose(got, want, rtol=1e-12)
    loss = lambda f: lambda a, b: sum(np.sum(np.sin(y)) for y in f(a, b))
    for got, want in zip(vk.grad(loss(scanned), (0, 1))(a, b), vk.grad(loss(looped), (0, 1))(a, b)):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def test_associative_scan_along_another_axis():
    got = vk.lax.associative_scan(np.add, XS, axis=1)
    np.testing.assert_allclose(got, np.cumsum(XS, axis=1))
    assert vk.lax.associative_scan(np.add, XS, axis=-1).flags.writeable


def test_select():
    f = lambda x: np.sum(vk.lax.select(x > 1.0, np.sqrt(x), x))
    np.testing.assert_allclose(vk.grad(f)(XS), np.where(XS > 1.0, 0.5 / np.sqrt(XS), 1.0))


def test_bad_input():
    with pytest.raises(ValueError, match=r"batch_size must be a positive int, got 0.*test_mapped"):
        vk.lax.map(np.sin, XS, batch_size=0)
    with pytest.raises(ValueError, match=r"no axis 2.*test_mapped"):
        vk.lax.associative_scan(np.add, XS, axis=2)
    with pytest.raises(ValueError, match=r"\[0\] has 7, \[1\] has 3"):
        vk.lax.associative_scan(lambda a, b: a, (XS, XS[:3]))
    with pytest.raises(TypeError, match=r"(?s)returned the tree.*like its arguments"):
        vk.lax.associative_scan(lambda a, b: (a, b), XS)
    with pytest.raises(TypeError, match=r"(?s)shapes \(7, 2\), \(7, 2\), \(2,\).*np.where"):
        vk.lax.select(XS > 1, XS, XS[0])
