"""Scaled dot-product attention, with the signature of `jax.nn`."""

from __future__ import annotations

from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import at, calling_position
from vjpkit.nn._normalization import logsumexp, softmax
from vjpkit.numpy._arguments import named_array

__all__ = ["dot_product_attention"]

_LABEL = "dot_product_attention"


def dot_product_attention(
    query: Value,
    key: Value,
    value: Value,
    bias: Value = None,
    mask: Value = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    query_seq_lengths: Value = None,
    key_value_seq_lengths: Value = None,
    local_window_size: int | tuple[int, int] | None = None,
    implementation: str | None = None,
    return_residual: bool = False,
) -> Value:
    """``softmax(scale * Q Kᵀ + bias) V`` for each head, the softmax over what the masks allow.

    ``query`` has the shape (B, T, N, H) or (T, N, H): examples, places, heads, features; ``key``
    and ``value`` (B, S, K, H), where N is a multiple of K, and each head of theirs serves N/K of
    the query's. ``bias`` and ``mask`` broadcast to (B, N, T, S), ``scale`` is 1/√H by default.
    Beyond the boolean ``mask`` there are ``is_causal`` (no place looks ahead), lengths per example,
    beyond which keys do not count and results are zero, and ``local_window_size`` (places to the
    left and right). Where nothing is allowed the weights are equal, as in JAX. With
    ``return_residual`` the log-sum-exp (B, T, N) comes second. ``implementation`` means nothing
    here. Errors: `ValueError` for shapes that do not go together, `TypeError` for a mask that is
    not boolean.

    >>> import numpy as np, vjpkit as vk
    >>> q = np.ones((3, 1, 2))
    >>> v = np.arange(6.0).reshape(3, 1, 2)
    >>> vk.nn.dot_product_attention(q, q, v, is_causal=True)[:, 0]
    array([[0., 1.],
           [1., 2.],
           [2., 3.]])
    """
    q, k, v = [
        named_array(_LABEL, x, name)
        for x, name in ((query, "query"), (key, "key"), (value, "value"))
    ]
    single = q.ndim == 3
    if single:
        q, k, v = [x[None] if x.ndim == 3 else x for x in (q, k, v)]
    _require_shapes(q, k, v)
    (examples, targets, heads, features), (_, sources, groups, _) = q.shape, k.shape
    grouped = np.reshape(q, (examples, targets, groups, heads // groups, features))
    logits = np.einsum("btkgh,bskh->bkgts", grouped, k)
    logits = np.reshape(logits, (examples, heads, targets, sources))
    logits = logits * (1 / features**0.5 if scale is None else scale)
    if bias is not None:
        logits = logits + _of_four_axes(bias, "bias")
    allowed = _allowed(
        (targets, sources), mask, is_causal, query_seq_lengths, key_value_seq_lengths,
        local_window_size,
    )  # fmt: skip
    if allowed is not None:
        lowest = logits.dtype.type(-0.7 * np.finfo(logits.dtype).max)
        logits = np.where(allowed, logits, lowest)
    weights = np.reshape(softmax(logits), (examples, groups, heads // groups, targets, sources))
    out = np.reshape(np.einsum("bkgts,bskh->btkgh", weights, v), q.shape)
    residual = np.moveaxis(logsumexp(logits, axis=-1), 1, 2)
    if query_seq_lengths is not None:
        there = np.arange(targets) < np.asarray(query_seq_lengths)[:, None]
        out = np.where(there[:, :, None, None], out, 0)
    if single:
        out, residual = out[0], residual[0]
    return (out, residual) if return_residual else out


def _require_shapes(q: Value, k: Value, v: Value) -> None:
    fits = q.ndim == k.ndim == 4 and k.shape == v.shape
    fits = fits and q.shape[0] == k.shape[0] and q.shape[3] == k.shape[3]
    if not fits or not k.shape[2] or q.shape[2] % k.shape[2]:
        raise ValueError(
            f"{_LABEL}: query, key and value have the shapes {q.shape}, {k.shape} and {v.shape}"
            f"{at(calling_position())}\nThey must be (B, T, N, H), (B, S, K, H) and (B, S, K, H), "
            "N a multiple of K."
        )


def _of_four_axes(x: Value, name: str) -> Value:
    x = named_array(_LABEL, x, name)
    if x.ndim > 4:
        raise ValueError(
            f"{_LABEL}: {name} has the shape {x.shape}, which does not broadcast to (B, N, T, S)"
            f"{at(calling_position())}"
        )
    return x


def _allowed(
    shape: tuple[int, int],
    mask: Value,
    is_causal: bool,
    query_lengths: Value,
    key_lengths: Value,
    window: Any,
) -> Value:
    """Which keys each query looks at; None for all."""
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])
    masks: list[Value] = []
    if mask is not None:
        mask = _of_four_axes(mask, "mask")
        if mask.dtype != bool:
            raise TypeError(
                f"{_LABEL}: mask has dtype {mask.dtype}; it must be boolean"
                f"{at(calling_position())}\nWhat is added to the products is bias."
            )
        masks.append(mask)
    if is_causal:
        masks.append(columns <= rows)
    if window is not None:
        left, right = (window, window) if isinstance(window, int) else window
        masks.append((columns >= rows - left) & (columns <= rows + right))
    if query_lengths is not None:
        masks.append(rows < np.asarray(query_lengths)[:, None, None, None])
    if key_lengths is not None:
        masks.append(columns < np.asarray(key_lengths)[:, None, None, None])
    allowed = None
    for one in masks:
        allowed = one if allowed is None else allowed & one
    return allowed
