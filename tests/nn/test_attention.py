"""Attention against a loop over examples and heads."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.test_util import check_grads

nn: Any = vk.nn
rng = np.random.default_rng(2)
B, T, S, N, K, H = 2, 3, 4, 4, 2, 3
Q, KEYS, V = (
    rng.normal(size=(B, T, N, H)),
    rng.normal(size=(B, S, K, H)),
    rng.normal(size=(B, S, K, H)),
)
MASK = rng.random((B, 1, T, S)) > 0.4
MASK[..., 0] = True
BIAS = rng.normal(size=(N, T, S))
LENGTHS = np.array([2, 3]), np.array([4, 2])


def looped(q, k, v, scale=None, bias=None, allowed=None):
    scale = H**-0.5 if scale is None else scale
    bias = np.zeros((B, N, T, S)) if bias is None else np.broadcast_to(bias, (B, N, T, S))
    allowed = np.broadcast_to(True if allowed is None else allowed, (B, N, T, S))
    out, residual = np.zeros((B, T, N, H)), np.zeros((B, T, N))
    for b, t, n in np.ndindex(B, T, N):
        logits = scale * k[b, :, n // (N // K)] @ q[b, t, n] + bias[b, n, t]
        weights = np.exp(logits) * allowed[b, n, t]
        residual[b, t, n] = np.log(weights.sum())
        out[b, t, n] = (weights / weights.sum()) @ v[b, :, n // (N // K)]
    return out, residual


ROWS, COLUMNS = np.arange(T)[:, None], np.arange(S)
CASES: dict[str, Any] = {
    "plain": ({}, {}),
    "scale": ({"scale": 0.3}, {"scale": 0.3}),
    "bias": ({"bias": BIAS}, {"bias": BIAS}),
    "mask": ({"mask": MASK}, {"allowed": MASK}),
    "causal": ({"is_causal": True}, {"allowed": COLUMNS <= ROWS}),
    "window": ({"local_window_size": 1}, {"allowed": abs(COLUMNS - ROWS) <= 1}),
    "window to the left": (
        {"local_window_size": (1, 0), "mask": MASK | True},
        {"allowed": (COLUMNS <= ROWS) & (COLUMNS >= ROWS - 1)},
    ),
    "lengths": (
        {"key_value_seq_lengths": LENGTHS[1]},
        {"allowed": LENGTHS[1][:, None, None, None] > COLUMNS},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_attention(name):
    options, mine = CASES[name]
    out, residual = nn.dot_product_attention(Q, KEYS, V, **options, return_residual=True)
    want = looped(Q, KEYS, V, **mine)
    np.testing.assert_allclose(out, want[0], 1e-12)
    np.testing.assert_allclose(residual, want[1], 1e-12)
    f = lambda q, k, v: nn.dot_product_attention(q, k, v, **options)
    np.testing.assert_allclose(vk.jit(f)(Q, KEYS, V), out, 1e-12)
    check_grads(f, (Q, KEYS, V), 1)
    if "key_value_seq_lengths" not in options and "mask" not in options:
        each = vk.vmap(lambda q, k, v: nn.dot_product_attention(q, k, v, **options))
        np.testing.assert_allclose(each(Q, KEYS, V), out, 1e-12)


def test_results_beyond_the_length_are_zero():
    options = {"query_seq_lengths": LENGTHS[0], "key_value_seq_lengths": LENGTHS[1]}
    out = nn.dot_product_attention(Q, KEYS, V, **options)
    want = looped(Q, KEYS, V, allowed=LENGTHS[1][:, None, None, None] > COLUMNS)[0]
    np.testing.assert_allclose(out[0, :2], want[0, :2], 1e-12)
    np.testing.assert_allclose(out[1], want[1], 1e-12)
    np.testing.assert_array_equal(out[0, 2], 0.0)


def test_where_nothing_is_allowed_all_count_alike():
    out = nn.dot_product_attention(Q, KEYS, V, mask=np.zeros((1, 1, T, S), bool))
    np.testing.assert_allclose(out[:, 0, 0], V[:, :, 0].mean(1), 1e-12)
    gradient = vk.grad(
        lambda q: np.sum(nn.dot_product_attention(q, KEYS, V, mask=np.zeros((1, 1, T, S), bool)))
    )
    np.testing.assert_array_equal(gradient(Q), 0.0)


def test_precision_stays():
    single = [x.astype(np.float32) for x in (Q, KEYS, V)]
    assert nn.dot_product_attention(*single, is_causal=True).dtype == np.float32


def test_bad_calls():
    for call, error, words in (
        (lambda: nn.dot_product_attention(Q, KEYS, V[:1]), ValueError, "query, key and value have"),
        (lambda: nn.dot_product_attention(Q[:, :, :3], KEYS, V), ValueError, "a multiple of K"),
        (lambda: nn.dot_product_attention(Q, KEYS, V, mask=BIAS), TypeError, "must be boolean"),
        (lambda: nn.dot_product_attention(Q, None, V), TypeError, "key: NoneType is not an array"),
    ):
        with pytest.raises(error, match=words):
            call()
