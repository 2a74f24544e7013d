"""Products and convolutions under JAX's names: against loops, and under transforms."""

import itertools
from typing import Any

import numpy as np
import pytest

import vjpkit
from vjpkit.test_util import check_grads

vk: Any = vjpkit
lax: Any = vk.lax
RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(5, 2, 3, 4)), RNG.normal(size=(4, 5, 6, 2))


def test_dot_general_is_einsum():
    got = lax.dot_general(A, B, (((3, 1), (0, 3)), ((0,), (1,))))
    np.testing.assert_allclose(got, np.einsum("nabc,cnda->nbd", A, B), rtol=1e-12)
    outer = lax.dot_general(A[0, 0], B[0, 0], (((), ()), ((), ())))
    np.testing.assert_allclose(outer, np.multiply.outer(A[0, 0], B[0, 0]))
    assert lax.dot_general(A[0, 0, 0], B[:, 0, 0, 0], (((0,), (0,)), ((), ()))).shape == ()
    f = lambda a, b: lax.dot_general(a, b, (((3, 1), (0, 3)), ((0,), (1,))))
    check_grads(f, (A[:2], B[:, :2]), 2)
    np.testing.assert_allclose(vk.jit(f)(A, B), f(A, B), rtol=1e-12)


def test_dot_and_batches():
    m, v = A[0, 0], A[0, 0, 0]
    np.testing.assert_allclose(lax.dot(m, v), m @ v)
    assert lax.dot(v, v, preferred_element_type=np.float32).dtype == np.float32
    np.testing.assert_allclose(lax.batch_matmul(A, np.swapaxes(A, 2, 3)), A @ np.swapaxes(A, 2, 3))


def looped(x, w, strides, pads, spread, dilation, groups, of_examples):
    """Convolution element by element, from its definition."""
    (n, c, *_), (o, i, *kernel) = x.shape, w.shape
    d = len(kernel)
    grown = np.zeros((n, c, *[(k - 1) * s + 1 for k, s in zip(x.shape[2:], spread, strict=True)]))
    places: Any = (slice(None), slice(None), *[slice(None, None, s) for s in spread])
    grown[places] = x
    grown = np.pad(grown, [(0, 0), (0, 0), *pads])
    spans = [(k - 1) * r + 1 for k, r in zip(kernel, dilation, strict=True)]
    sizes = [(m - s) // t + 1 for m, s, t in zip(grown.shape[2:], spans, strides, strict=True)]
    out: Any = np.zeros((n // (groups if of_examples else 1), o, *sizes))
    place: Any
    for place in itertools.product(*map(range, sizes)):
        window = grown[(slice(None), slice(None), *[
            slice(p * t, p * t + s, r)
            for p, t, s, r in zip(place, strides, spans, dilation, strict=True)
        ])]  # fmt: skip
        for k in range(o):
            g = k // (o // groups)
            if of_examples:
                part = window[g * (n // groups) : (g + 1) * (n // groups)]
            else:
                part = window[:, g * i : (g + 1) * i]
            out[(slice(None), k, *place)] = np.sum(part * w[k], axis=tuple(range(1, d + 2)))
    return out


CASES = [
    ((2, 3, 7), (4, 3, 3), (1,), "VALID", (1,), (1,), 1, 1),
    ((2, 3, 7), (4, 3, 2), (2,), "SAME", (1,), (2,), 1, 1),
    ((1, 2, 5, 6), (3, 2, 2, 3), (2, 1), [(1, 0), (2, 1)], (2, 1), (1, 2), 1, 1),
    ((2, 4, 5, 5), (6, 2, 2, 2), (1, 1), "SAME", (1, 1), (1, 1), 2, 1),
    ((4, 3, 6), (6, 3, 2), (1,), "VALID", (1,), (1,), 1, 2),
    ((1, 1, 3, 4, 3), (2, 1, 2, 2, 2), (1, 2, 1), "SAME_LOWER", (1, 1, 1), (1, 1, 1), 1, 1),
    ((2, 3, 2), (4, 3, 3), (1,), "VALID", (1,), (1,), 1, 1),
    ((2, 3, 5), (4, 3, 2), (1,), [(-1, -2)], (1,), (1,), 1, 1),
]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_convolutions_are_loops(case):
    x_shape, w_shape, strides, padding, spread, dilation, features, examples = case
    x, w = RNG.normal(size=x_shape), RNG.normal(size=w_shape)
    f = lambda x, w: lax.conv_general_dilated(
        x, w, strides, padding, spread, dilation,
        feature_group_count=features, batch_group_count=examples,
    )  # fmt: skip
    lengths = [(n - 1) * s + 1 for n, s in zip(x_shape[2:], spread, strict=True)]
    spans = [(k - 1) * r + 1 for k, r in zip(w_shape[2:], dilation, strict=True)]
    pads = lax.padtype_to_pads(lengths, spans, strides, padding)
    if min(p for pair in pads for p in pair) < 0:
        low, high = -pads[0][0], -pads[0][1]
        want = looped(
            x[..., low : x.shape[-1] - high], w, strides, [(0, 0)], spread, dilation, 1, False
        )
    elif any(n < s for n, s in zip(lengths, spans, strict=True)) and padding == "VALID":
        want = np.zeros((2, 4, 0))
    else:
        groups = max(features, examples)
        want = looped(x, w, strides, pads, spread, dilation, groups, examples > 1)
    np.testing.assert_allclose(f(x, w), want, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(vk.jit(f)(x, w), want, rtol=1e-11, atol=1e-12)
    both = vk.vmap(f, (0, None))(np.stack([x, 2 * x]), w)
    np.testing.assert_allclose(both, [want, 2 * want], rtol=1e-11, atol=1e-12)
    check_grads(f, (x, w), 2)


def test_layouts():
    x, w = RNG.normal(size=(2, 5, 6, 3)), RNG.normal(size=(2, 2, 3, 4))
    names = ("NHWC", "HWIO", "NHWC")
    got = lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=names)
    want = lax.conv(x.transpose(0, 3, 1, 2), w.transpose(3, 2, 0, 1), (1, 1), "SAME")
    np.testing.assert_allclose(got, want.transpose(0, 2, 3, 1), rtol=1e-12)
    numbers = lax.conv_dimension_numbers(x.shape, w.shape, names)
    again = lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers)
    np.testing.assert_array_equal(got, again)
    single = lax.conv_general_dilated(
        x.astype(np.float32), w.astype(np.float32), (1, 1), "SAME", dimension_numbers=names
    )
    assert single.dtype == np.float32


@pytest.mark.parametrize("padding", ["SAME", "VALID", [(2, 1)]])
@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (2, 3), (1, 1)])
def test_conv_transpose_is_the_gradient_of_conv(size, stride, padding):
    """With ``transpose_kernel`` it is the transpose of the convolution with that kernel."""
    x, w = RNG.normal(size=(1, 4, 2)), RNG.normal(size=(size, 3, 2))
    got = lax.conv_transpose(x, w, (stride,), padding, transpose_kernel=True)
    if not isinstance(padding, str):
        assert got.shape == (1, (4 - 1) * stride + 1 + 3 - size + 1, 3)
        return
    n = got.shape[1]
    forward = lambda y: lax.conv_general_dilated(
        y, w, (stride,), padding, dimension_numbers=("NHC", "HIO", "NHC")
    )
    out, pullback = vk.vjp(forward, np.zeros((1, n, 3)))
    assert out.shape == x.shape
    np.testing.assert_allclose(got, pullback(x)[0], rtol=1e-11, atol=1e-12)


def test_conv_with_general_padding():
    x, w = RNG.normal(size=(1, 2, 6)), RNG.normal(size=(3, 2, 2))
    got = lax.conv_with_general_padding(x, w, (1,), [(1, 1)], (2,), (3,))
    want = lax.conv_general_dilated(x, w, (1,), [(1, 1)], (2,), (3,))
    np.testing.assert_array_equal(got, want)


X1, W1 = np.ones((1, 2, 5)), np.ones((3, 2, 2))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: lax.dot(A, A), TypeError, "dot: the shapes (5, 2, 3, 4) and (5, 2, 3, 4)"),
        (lambda: lax.dot(X1[0], X1[0].astype(np.float32)), TypeError, "dot: lhs has dtype float64"),
        (lambda: lax.batch_matmul(A, A[0]), TypeError, "batch_matmul: the shapes"),
        (lambda: lax.dot_general(A, B, ((3,), (0,))), TypeError, "dimension_numbers must be (("),
        (
            lambda: lax.dot_general(A, B, (((3,), (1,)), ((), ()))), TypeError,
            "the contracting axes have the sizes (4,) in lhs and (5,) in rhs",
        ),
        (lambda: lax.conv(X1, W1[0], (1,), "SAME"), TypeError, "lhs has 3 axes, rhs 2"),
        (lambda: lax.conv(X1, W1, (1, 1), "SAME"), TypeError, "window_strides must have one entry"),
        (lambda: lax.conv(X1, W1, (1,), "FULL"), ValueError, "padding must be 'VALID'"),
        (lambda: lax.conv(X1, W1, (1,), [(1, 1), (1, 1)]), TypeError, "padding must have an entry"),
        (lambda: lax.conv(X1, W1[:, :1], (1,), "SAME"), ValueError, "these do not fit"),
        (
            lambda: lax.conv_general_dilated(X1, W1, (1,), "VALID", dimension_numbers="NHC"),
            ValueError, "must be three strings of 3 different letters",
        ),
        (
            lambda: lax.conv_general_dilated(
                X1, W1, (1,), "SAME", feature_group_count=2, batch_group_count=2
            ),
            ValueError, "cannot both be greater than 1",
        ),
        (lambda: lax.conv_transpose(X1, W1, (1,), "FULL"), ValueError, "padding must be 'SAME'"),
    ],
    ids=lambda p: p if isinstance(p, str) else None,
)  # fmt: skip
def test_bad_input(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
    assert "test_products.py:" in str(caught.value)
