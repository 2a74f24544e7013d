"""LAPACK's form of a QR factorization: `numpy.linalg.qr` with ``mode="raw"``."""

from __future__ import annotations

import numpy as np

from vjpkit.core.aval import Value, aval_of
from vjpkit.ops import linalg
from vjpkit.ops.structural import to_dtype
from vjpkit.transforms.stopping import stop_gradient

__all__ = ["reflections"]


def reflections(a: Value) -> tuple[Value, Value]:
    """``(h, tau)``: column i of the factor R above the i-th Householder vector, a row each.

    The i-th reflection is I - tau v vᴴ, where v has the leading element 1, which is left out
    (LAPACK's ``geqrf`` and ``larfg``).
    """
    rest = to_dtype(a, linalg.common_dtype(aval_of(a)))
    m, n = a.shape[-2:]
    rows, scales = [], []
    for k in range(min(m, n)):
        top, column, rest = rest[..., :k, 0], rest[..., k:, 0], rest[..., 1:]
        end, scale, tail = _reflection(column)
        v = np.concatenate([np.ones_like(tail, shape=(*end.shape, 1)), tail], axis=-1)
        below = rest[..., k:, :]
        along = np.matmul(np.conj(v)[..., None, :], below)
        below = below - np.conj(scale)[..., None, None] * v[..., :, None] * along
        rest = np.concatenate([rest[..., :k, :], below], axis=-2)
        rows.append(np.concatenate([top, end[..., None], tail], axis=-1))
        scales.append(scale)
    rows += [rest[..., j] for j in range(rest.shape[-1])]
    shape = (*a.shape[:-2], 0)
    taus = np.stack(scales, axis=-1) if scales else np.zeros(shape, rest.dtype)
    return (np.stack(rows, axis=-2) if rows else np.swapaxes(rest, -1, -2)), taus


def _reflection(x: Value) -> tuple[Value, Value, Value]:
    """What a vector becomes, the scale of the reflection, its vector without the leading 1.

    The vector is scaled by a power of two, so that no square is beyond the range of numbers.
    """
    axis = (x.ndim - 1,)
    size = stop_gradient(np.max(np.maximum(abs(np.real(x)), abs(np.imag(x))), axis=-1))
    unit = np.ldexp(np.ones_like(size), np.clip(np.frexp(size)[1], -1000, 1000))
    x = x / unit[..., None]
    first, tail = x[..., 0], x[..., 1:]
    done = (linalg.norm2(tail, axes=axis, keepdims=False) == 0) & (np.imag(first) == 0)
    end = -np.copysign(linalg.norm2(x, axes=axis, keepdims=False), np.real(first))
    end = to_dtype(np.where(done, np.real(first), end), x.dtype)
    scale = np.where(done, 0, (end - first) / np.where(done, 1, end))
    return end * unit, scale, tail / np.where(done, 1, first - end)[..., None]
