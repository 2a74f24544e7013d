"""Shapes, parts, reductions, sorting under JAX's names: against NumPy, and under transforms."""

from typing import Any

import numpy as np
import pytest

import vjpkit
from vjpkit.test_util import check_grads

vk: Any = vjpkit
lax: Any = vk.lax
X = np.arange(24.0).reshape(2, 3, 4) / 7
V = np.array([0.3, -1.2, 2.5, 0.7, -0.4])


SHAPES = {
    "reshape": (lambda x: lax.reshape(x, (4, 6)), lambda x: x.reshape(4, 6)),
    "reshape, axes in another order": (
        lambda x: lax.reshape(x, (24,), (2, 0, 1)), lambda x: x.transpose(2, 0, 1).reshape(24),
    ),
    "transpose": (lambda x: lax.transpose(x, (2, 0, 1)), lambda x: x.transpose(2, 0, 1)),
    "expand_dims": (lambda x: lax.expand_dims(x, (0, -1)), lambda x: x[None, ..., None]),
    "squeeze": (lambda x: lax.squeeze(x[:1], (0,)), lambda x: x[0]),
    "collapse": (lambda x: lax.collapse(x, 0, 2), lambda x: x.reshape(6, 4)),
    "broadcast": (lambda x: lax.broadcast(x, (2, 1)), lambda x: np.stack([x, x])[:, None]),
    "broadcast_in_dim": (
        lambda x: lax.broadcast_in_dim(x[0], (3, 2, 4), (0, 2)),
        lambda x: np.stack([x[0], x[0]], 1),
    ),
    "broadcast_to_rank": (lambda x: lax.broadcast_to_rank(x, 4), lambda x: x[None]),
    "rev": (lambda x: lax.rev(x, (0, 2)), lambda x: x[::-1, :, ::-1]),
    "concatenate": (
        lambda x: lax.concatenate([x, x * x], 1), lambda x: np.concatenate([x, x * x], 1),
    ),
    "stack": (lambda x: lax.stack([x, x * x], -1), lambda x: np.stack([x, x * x], -1)),
    "unstack": (lambda x: lax.unstack(x, 1)[2], lambda x: x[:, 2]),
    "tile": (lambda x: lax.tile(x, (1, 2, 3)), lambda x: np.tile(x, (1, 2, 3))),
    "fft": (
        lambda x: np.real(lax.fft(x, "fft", (3, 4)) * 1j), lambda x: -np.fft.fft2(x).imag,
    ),
    "rfft": (
        lambda x: np.imag(lax.fft(x, lax.FftType.RFFT, (4,))), lambda x: np.fft.rfft(x).imag,
    ),
    "irfft": (lambda x: lax.fft(x + 0j, "IRFFT", (3, 6)), lambda x: np.fft.irfft2(x, (3, 6))),
    "ifft": (lambda x: np.real(lax.fft(x, "IFFT", ())), lambda x: x),
    "split": (lambda x: lax.split(x, (1, 2), 1)[1], lambda x: x[:, 1:]),
    "slice": (
        lambda x: lax.slice(x, (0, 1, 0), (1, 3, 4), (1, 1, 2)), lambda x: x[:1, 1:3, ::2],
    ),
    "slice_in_dim": (lambda x: lax.slice_in_dim(x, -3, None, 2, axis=2), lambda x: x[..., -3::2]),
    "index_in_dim": (lambda x: lax.index_in_dim(x, -1, 1, keepdims=False), lambda x: x[:, -1]),
    "dynamic_slice": (
        lambda x: lax.dynamic_slice(x, (1, 2, -2), (1, 2, 2)), lambda x: x[1:, 1:3, 2:],
    ),
    "dynamic_slice_in_dim": (
        lambda x: lax.dynamic_slice_in_dim(x, 1, 2, -1), lambda x: x[..., 1:3],
    ),
    "dynamic_index_in_dim": (lambda x: lax.dynamic_index_in_dim(x, 9, 1), lambda x: x[:, 2:]),
    "dynamic_update_slice": (
        lambda x: lax.dynamic_update_slice(x, x[:1, :2] ** 2, (1, 2, 0)),
        lambda x: np.stack([x[0], np.concatenate([x[1, :1], x[0, :2] ** 2])]),
    ),
    "dynamic_update_index_in_dim": (
        lambda x: lax.dynamic_update_index_in_dim(x, x[0] * x[1], 1, 0),
        lambda x: np.stack([x[0], x[0] * x[1]]),
    ),
    "dynamic_update_slice_in_dim": (
        lambda x: lax.dynamic_update_slice_in_dim(x, x[:, :1] * 2, -1, 1),
        lambda x: np.concatenate([x[:, :2], x[:, :1] * 2], 1),
    ),
    "index_take": (
        lambda x: lax.index_take(x, (np.array([1, 0]), np.array([3, 1])), (0, 2)),
        lambda x: np.stack([x[1, :, 3], x[0, :, 1]]),
    ),
    "reduce_sum": (lambda x: lax.reduce_sum(x, (0, 2)), lambda x: x.sum((0, 2))),
    "reduce_prod": (lambda x: lax.reduce_prod(x, (-1,)), lambda x: x.prod(-1)),
    "reduce_max": (lambda x: lax.reduce_max(x, (1,)), lambda x: x.max(1)),
    "reduce_min": (lambda x: lax.reduce_min(x, (0, 1, 2)), lambda x: x.min()),
    "reduce": (
        lambda x: lax.reduce(x, 1.0, lambda a, b: a * b, (0, 1)), lambda x: x.prod((0, 1)),
    ),
    "cumsum": (lambda x: lax.cumsum(x, 1, True), lambda x: x[:, ::-1].cumsum(1)[:, ::-1]),
    "cumprod": (lambda x: lax.cumprod(x, 2), lambda x: x.cumprod(2)),
    "cummax": (lambda x: lax.cummax(x, 0), lambda x: np.maximum.accumulate(x, 0)),
    "cummin": (
        lambda x: lax.cummin(x, 0, reverse=True), lambda x: np.minimum.accumulate(x[::-1], 0)[::-1],
    ),
    "cumlogsumexp": (lambda x: lax.cumlogsumexp(x, 2), lambda x: np.log(np.exp(x).cumsum(2))),
    "sort": (lambda x: lax.sort(-x, 1), lambda x: np.sort(-x, 1)),
    "full_like": (lambda x: lax.full_like(x, x[0, 0, 1]), lambda x: x * 0 + x[0, 0, 1]),
    "pad": (
        lambda x: lax.pad(x, x[0, 0, 1], [(0, 1, 0), (-1, 0, 0), (1, 2, 1)]),
        lambda x: padded(x[:, 1:], x[0, 0, 1]),
    ),
}  # fmt: skip


def padded(x, value):
    out = [[[value] * 10 for _ in range(2)] for _ in range(3)]
    for i in range(2):
        for j in range(2):
            for k in range(4):
                out[i][j][1 + 2 * k] = x[i, j, k]
    return np.stack([np.stack([np.stack(row) for row in plane]) for plane in out])


@pytest.mark.parametrize("name", SHAPES)
def test_values_and_derivatives_are_numpys(name):
    f, reference = SHAPES[name]
    want = reference(X)
    np.testing.assert_allclose(f(X), want, rtol=1e-14)
    assert f(X).dtype == want.dtype
    np.testing.assert_allclose(vk.jit(f)(X), want, rtol=1e-14)
    np.testing.assert_allclose(vk.vmap(f)(np.stack([X, 2 * X]))[1], reference(2 * X), rtol=1e-12)
    weights = np.cos(np.arange(want.size)).reshape(want.shape)
    slope = vk.grad(lambda x: np.sum(f(x) * weights))
    expected = vk.grad(lambda x: np.sum(reference(x) * weights))(X)
    np.testing.assert_allclose(slope(X), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(vk.jit(slope)(X), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        vk.jvp(f, (X,), (weights_like(X),))[1], vk.jvp(reference, (X,), (weights_like(X),))[1],
        rtol=1e-10, atol=1e-12,
    )  # fmt: skip


def weights_like(x):
    return np.sin(np.arange(x.size)).reshape(x.shape)


@pytest.mark.parametrize(
    "config", [(0, 0, 0), (2, 1, 0), (1, 1, 2), (-1, -1, 0), (-2, 3, 1), (3, -4, 2), (-4, -4, 1)]
)
def test_pad_in_every_way(config):
    low, high, interior = config
    spread = np.full(5 + 4 * interior, -1.0)
    spread[:: interior + 1] = V
    full = np.concatenate([np.full(max(low, 0), -1.0), spread, np.full(max(high, 0), -1.0)])
    want = full[max(-low, 0) : len(full) - max(-high, 0)]
    np.testing.assert_array_equal(lax.pad(V, -1.0, [config]), want)
    check_grads(lambda x, v: lax.pad(x, v, [config]), (V, np.float64(-1.0)), 2)


def test_dynamic_indices_are_traced_and_moved_inside():
    f = lambda x, i: lax.dynamic_slice(x, (i,), (2,))
    for i, want in ((0, V[:2]), (2, V[2:4]), (9, V[3:]), (-1, V[3:]), (-9, V[:2])):
        np.testing.assert_array_equal(f(V, i), want)
        np.testing.assert_array_equal(vk.jit(f)(V, i), want)
    places = np.array([0, 3, -2])
    np.testing.assert_array_equal(vk.vmap(f, (None, 0))(V, places), [V[:2], V[3:], V[3:]])
    update = lambda x, u, i: lax.dynamic_update_slice(x, u, (i,))
    got = vk.vmap(update, (None, None, 0))(V, V[:2] * 10, places)
    for row, i in zip(got, (0, 3, 3), strict=True):
        want = V.copy()
        want[i : i + 2] = V[:2] * 10
        np.testing.assert_array_equal(row, want)
    gradient = vk.jit(vk.grad(lambda x, i: np.sum(update(x, x[:2] ** 2, i))))(V, 3)
    np.testing.assert_allclose(gradient, [1 + 2 * V[0], 1 + 2 * V[1], 1, 0, 0])
    assert V[3] == 0.7


def test_a_loop_over_dynamic_slices():
    def f(x):
        def step(i, total):
            part = lax.dynamic_index_in_dim(x, i, keepdims=False)
            return lax.add(total, lax.mul(part, part))

        return lax.fori_loop(0, 5, step, 0.0)

    np.testing.assert_allclose(vk.jit(vk.grad(f))(V), 2 * V)
    np.testing.assert_allclose(vk.grad(f)(V), 2 * V)


def test_making():
    assert lax.full((2, 3), 1, np.float32).dtype == np.float32
    np.testing.assert_array_equal(lax.broadcasted_iota(np.int8, (2, 3), 0), [[0] * 3, [1] * 3])
    assert lax.iota(np.float32, 3).dtype == np.float32
    assert lax.broadcast_shapes((2, 1), (1, 3)) == (2, 3)
    assert vk.grad(lambda v: np.sum(lax.full((3,), v)))(2.0) == 3.0


def test_reductions_keep_dtypes():
    small = np.array([[100, 100], [100, 3]], np.int8)
    for f in (lax.reduce_sum, lax.reduce_prod, lax.reduce_max):
        assert f(small, (1,)).dtype == np.int8
    assert lax.cumsum(small).dtype == lax.cumprod(small).dtype == np.int8
    bits = np.array([[6, 3], [5, 1]])
    np.testing.assert_array_equal(lax.reduce_and(bits, (1,)), [2, 1])
    np.testing.assert_array_equal(lax.reduce_or(bits, (0,)), [7, 3])
    assert lax.reduce_xor(bits, (0, 1)) == 6 ^ 3 ^ 5 ^ 1
    assert vk.jit(lambda b: lax.reduce_xor(b, (0, 1)))(bits) == 6 ^ 3 ^ 5 ^ 1
    np.testing.assert_array_equal(lax.argmax(V, 0), 2)
    assert lax.argmin(V, 0, np.int64).dtype == np.int64


def test_reduce_of_trees():
    def both(a, b):
        return a[0] + b[0], np.maximum(a[1], b[1])

    total, top = lax.reduce((V, V), (1.0, -np.inf), both, (0,))
    np.testing.assert_allclose((total, top), (1 + V.sum(), V.max()))
    assert lax.reduce(np.zeros((0,)), 3.0, lax.add, (0,)) == 3.0


@pytest.mark.parametrize("padding", ["VALID", "SAME", "SAME_LOWER", [(1, 2)]])
@pytest.mark.parametrize("options", [{}, {"window_dilation": (2,)}, {"base_dilation": (2,)}])
def test_windows(padding, options):
    for computation, start in (
        (lax.add, 0.0),
        (lax.max, -np.inf),
        (np.minimum, np.inf),
        (lax.mul, 2.0),
        (np.logaddexp, -np.inf),
    ):
        got = lax.reduce_window(V, start, computation, (2,), (2,), padding, **options)
        base = lax.pad(V, start, [(0, 0, options.get("base_dilation", (1,))[0] - 1)])
        d = options.get("window_dilation", (1,))[0]
        pads = lax.padtype_to_pads(base.shape, (1 + d,), (2,), padding)
        full = np.pad(base, pads, constant_values=start)
        want = []
        for i in range(0, len(full) - d, 2):
            want.append(computation(computation(start, full[i]), full[i + d]))
        np.testing.assert_allclose(got, want, rtol=1e-13)
    f = lambda x: lax.reduce_window(x, 0.0, lax.add, (2,), (1,), padding, **options)
    check_grads(f, (V,), 2)


def test_pooling_of_images():
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6))
    pooled = lax.reduce_window(x, -np.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    np.testing.assert_array_equal(pooled, x.reshape(2, 3, 3, 2, 3, 2).max((3, 5)))
    check_grads(
        lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 1, 2, 2), (1,) * 4, "SAME"), (x,), 1
    )


def test_sorting():
    keys, other = np.array([2, 1, 2, 0]), np.array([5.0, 6.0, 4.0, 7.0])
    got = lax.sort((keys, other, -other), num_keys=2)
    np.testing.assert_array_equal(got[0], [0, 1, 2, 2])
    np.testing.assert_array_equal(got[1], [7, 6, 4, 5])
    np.testing.assert_array_equal(lax.sort_key_val(keys, other)[1], [7, 6, 5, 4])
    values, places = lax.top_k(np.array([[1, 9, 9, 5], [4, 4, 0, 4]]), 3)
    np.testing.assert_array_equal(values, [[9, 9, 5], [4, 4, 4]])
    np.testing.assert_array_equal(places, [[1, 2, 3], [0, 1, 3]])
    gradient = vk.grad(lambda x: np.sum(lax.top_k(x, 2)[0] * np.array([2.0, 1.0])))(V)
    np.testing.assert_array_equal(gradient, [0, 0, 2, 1, 0])
    np.testing.assert_array_equal(vk.jit(lambda x: lax.top_k(x, 2)[1])(V), [2, 3])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: lax.reshape(X, 5.5), TypeError, "reshape: new_sizes must be a sequence of ints"),
        (lambda: lax.transpose(X, (0, 1)), TypeError, "permutation must have one entry"),
        (lambda: lax.transpose(X, (0, 1, 1)), ValueError, "names an axis twice"),
        (lambda: lax.expand_dims(X, (7,)), ValueError, "dimensions=7 is out of range"),
        (lambda: lax.squeeze(X, (1,)), ValueError, "axis 1 of the shape (2, 3, 4) has 3 elements"),
        (lambda: lax.collapse(X, 2, 1), ValueError, "collapse: axes 2 to 1 of the shape"),
        (lambda: lax.broadcast(X, 2), TypeError, "broadcast: sizes must be a sequence of ints"),
        (lambda: lax.broadcast_in_dim(V, (5, 2), (1,)), ValueError, "cannot be axis 1 of"),
        (lambda: lax.broadcast_in_dim(X[0], (4, 3), (1, 0)), ValueError, "must increase"),
        (lambda: lax.broadcast_to_rank(X, 2), ValueError, "x has 3 axes, more than rank=2"),
        (lambda: lax.rev(X, (5,)), ValueError, "rev: dimensions=5 is out of range"),
        (lambda: lax.concatenate([], 0), ValueError, "concatenate: there are no operands"),
        (lambda: lax.concatenate([V, V > 0], 0), TypeError, "have the dtypes float64, bool"),
        (lambda: lax.concatenate([X, X[:, :2]], 0), TypeError, "differ in other axes than 0"),
        (lambda: lax.split(V, (1, 2)), ValueError, "split: sizes=(1, 2) do not make up the 5"),
        (lambda: lax.pad(V, V, [(1, 1, 0)]), TypeError, "padding_value must be a scalar"),
        (lambda: lax.pad(V, 0.0, [(1, 1)]), TypeError, "must have one entry for each of 3"),
        (lambda: lax.pad(V, 0.0, []), TypeError, "padding_config must have an entry"),
        (lambda: lax.pad(V, 0.0, [(0, 0, -1)]), ValueError, "is negative"),
        (lambda: lax.pad(V, 0.0, [(-9, 0, 0)]), ValueError, "leaves nothing of an axis of 5"),
        (lambda: lax.slice(V, (2,), (7,)), ValueError, "start 2, limit 7 and stride 1 do not fit"),
        (lambda: lax.index_in_dim(V, 5), ValueError, "index=5 is out of range"),
        (lambda: lax.dynamic_slice(V, (0,), (6,)), TypeError, "a slice of 6 does not fit axis 0"),
        (lambda: lax.dynamic_slice(V, (0.5,), (2,)), TypeError, "must be an integer"),
        (lambda: lax.dynamic_slice(X, (0,), (1, 1, 1)), TypeError, "for each of 3 axes, got 1"),
        (lambda: lax.dynamic_update_slice(V, 1.0, (0,)), TypeError, "update has 0 axes"),
        (lambda: lax.index_take(X, (V,), (0, 1)), TypeError, "1 array of indices for 2 axes"),
        (lambda: lax.full((2,), V), TypeError, "full: fill_value must be a scalar"),
        (lambda: lax.iota(int, 2.5), TypeError, "shape must be a sequence of ints"),
        (lambda: lax.reduce_sum(V > 0, (0,)), TypeError, "reduce_sum: the operand is boolean"),
        (lambda: lax.reduce_and(V, (0,)), TypeError, "booleans or integers are wanted"),
        (lambda: lax.reduce_max(V, 0), TypeError, "axes must be a sequence of ints"),
        (lambda: lax.argmax(V, 1), ValueError, "argmax: axis=1 is out of range"),
        (lambda: lax.cumsum(V, 3), ValueError, "cumsum: axis=3 is out of range"),
        (lambda: lax.reduce((V, V), 0.0, lax.add, (0,)), TypeError, "operands have the tree"),
        (
            lambda: lax.reduce_window(V, 0.0, lax.add, (2,), (1,), "FULL"), ValueError,
            "padding must be 'VALID', 'SAME'",
        ),
        (lambda: lax.sort((V, X)), TypeError, "sort: the operands have the shapes"),
        (lambda: lax.sort((V, V), num_keys=3), ValueError, "sort: num_keys=3 for 2 operands"),
        (lambda: lax.top_k(V, 6), ValueError, "top_k: k=6 for the shape (5,)"),
    ],
    ids=lambda p: p if isinstance(p, str) else None,
)  # fmt: skip
def test_bad_input(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
    assert "test_arrays.py:" in str(caught.value)


def test_bad_transforms_and_stacks():
    for call, error, words in (
        (lambda: lax.fft(X, "DCT", (4,)), ValueError, "fft_type must be FFT"),
        (lambda: lax.fft(X, "FFT", (3,)), ValueError, r"want the last axes to be \(3,\)"),
        (lambda: lax.fft(X, "IRFFT", (4,)), ValueError, r"want the last axes to be \(3,\)"),
        (lambda: lax.fft(X + 0j, "RFFT", (4,)), TypeError, "RFFT takes real numbers"),
        (lambda: lax.fft(X, "FFT", (1, 2, 3, 4)), ValueError, "4 lengths for an array of 3 axes"),
        (lambda: lax.stack([X, X[0]]), TypeError, "must have one shape and dtype"),
        (lambda: lax.stack([]), TypeError, "the operands are none"),
        (lambda: lax.unstack(X, 3), ValueError, "axis=3 is out of range"),
        (lambda: lax.tile(X, (2,)), TypeError, "reps must have one entry for each of 3 axes"),
    ):
        with pytest.raises(error, match=words):
            call()
    assert lax.empty((2, 3), np.int32).dtype == np.int32
