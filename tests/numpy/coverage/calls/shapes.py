"""Shapes, layouts, copies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.numpy.coverage.call import Call, Fixed, call
from tests.numpy.coverage.calls.data import (
    COARSE,
    CUBE,
    HOLES,
    KNOWN,
    LAYOUT,
    MASK,
    MOVED,
    SIGNED,
    ZV,
    M,
    N,
    V,
    W,
    X,
    Z,
)

__all__ = ["calls", "refusals"]


def calls() -> Iterator[Call]:
    yield from _axes()
    yield from _parts()
    yield from _whole()
    yield from _written()


def _axes() -> Iterator[Call]:
    yield call(np.reshape, M, (2, 6))
    yield call(np.reshape, M, shape=(-1, 3), order="F", copy=True)
    yield call(np.ravel, CUBE)
    yield call(np.ravel, M, order="F")
    yield call(np.ravel, M, order="K", exempt=LAYOUT)
    yield call(np.transpose, CUBE)
    yield call(np.transpose, CUBE, axes=(1, -1, 0))
    yield call(np.matrix_transpose, CUBE)
    yield call(np.linalg.matrix_transpose, CUBE)
    yield call(np.swapaxes, CUBE, 0, axis2=-1)
    yield call(np.swapaxes, a=CUBE, axis1=1, axis2=0)
    yield call(np.moveaxis, CUBE, source=[0, 1], destination=[-1, 0])
    yield call(np.rollaxis, CUBE, axis=2, start=1)
    yield call(np.squeeze, M[:, None], axis=1)
    yield call(np.squeeze, M[None])
    yield call(np.expand_dims, M, axis=(0, 2))
    yield call(np.flip, CUBE, axis=(0, 2))
    yield call(np.flip, M)
    yield call(np.fliplr, M)
    yield call(np.flipud, M)
    yield call(np.rot90, CUBE, k=3, axes=(1, 2))
    yield call(np.rot90, M)
    yield call(np.roll, M, shift=2)
    yield call(np.roll, M, shift=(1, -2), axis=(0, 1))
    yield call(np.broadcast_to, V, shape=(2, 5), subok=True)
    yield call(np.broadcast_arrays, V[:3, None], M, subok=False)
    yield call(np.atleast_1d, X, M)
    yield call(np.atleast_2d, X, V)
    yield call(np.atleast_3d, V, M)
    yield call(np.ix_, V, W)


def _parts() -> Iterator[Call]:
    yield call(np.diagonal, CUBE, offset=1, axis1=0, axis2=-1)
    yield call(np.linalg.diagonal, CUBE, offset=-1)
    yield call(np.diag, M, k=1)
    yield call(np.diag, V, k=-2)
    yield call(np.diagflat, M, k=1)
    yield call(np.tril, CUBE, k=1)
    yield call(np.triu, M, k=-1)
    yield call(np.vander, V, N=3, increasing=True)
    yield call(np.vander, V)
    yield call(np.vander, ZV, N=4)
    yield call(np.lib.stride_tricks.sliding_window_view, CUBE, window_shape=(2, 2), axis=(0, 2))
    yield call(np.lib.stride_tricks.sliding_window_view, V, 3, subok=False)
    yield call(np.trim_zeros, np.array([0.0, 0.3, 0.0, 0.7, 0.0]), trim="f", exempt=KNOWN | MOVED)
    yield call(np.trim_zeros, np.pad(M, 1), trim="fb", axis=0, exempt=KNOWN | MOVED)
    yield call(np.trim_zeros, M, axis=1, exempt=KNOWN)
    yield call(np.unstack, CUBE, axis=1)
    yield call(np.split, M, indices_or_sections=2, axis=1)
    yield call(np.split, V, [1, 4])
    yield call(np.array_split, V, indices_or_sections=3, axis=0)
    yield call(np.hsplit, M, indices_or_sections=[1, 3])
    yield call(np.vsplit, M, indices_or_sections=3)
    yield call(np.dsplit, CUBE, indices_or_sections=2)


def _whole() -> Iterator[Call]:
    function: Any
    yield call(np.copy, M, order="F")
    yield call(np.copy, M, subok=False)
    yield call(np.astype, M, np.float32, copy=True, exempt=COARSE)
    yield call(np.astype, Z, np.complex64, exempt=COARSE)
    yield call(np.astype, M, np.float64, copy=False, device="cpu")
    yield call(np.real, Z)
    yield call(np.real, M)
    yield call(np.imag, Z)
    yield call(np.imag, M)
    yield call(np.angle, Z)
    yield call(np.angle, Z, deg=True)
    yield call(np.angle, SIGNED)
    yield call(np.real_if_close, M, tol=50)
    yield call(np.real_if_close, Z, exempt=KNOWN)
    yield call(np.nan_to_num, HOLES, copy=True, nan=0.4)
    yield call(np.nan_to_num, np.array([np.inf, 0.3, -np.inf, 0.7]), posinf=2.0, neginf=-1.0)
    yield call(np.nan_to_num, HOLES, copy=False, mutates=True)
    yield call(np.sort_complex, Z)
    yield call(np.require, M, dtype=np.float64, requirements="C", like=M)
    yield call(np.resize, M, new_shape=(5, 4))
    yield call(np.resize, V, 3)
    fill: Any
    for function, fill in (
        (np.zeros_like, {}),
        (np.ones_like, {}),
        (np.full_like, {"fill_value": X}),
    ):
        yield call(function, M, **fill)
        yield call(function, M, dtype=np.float64, order="C", shape=(2, 3), device="cpu", **fill)
        yield call(function, M, subok=False, **fill)


def _written() -> Iterator[Call]:
    yield call(np.copyto, M, N, mutates=True)
    yield call(np.copyto, M, V[:4], where=MASK, casting="same_kind", mutates=True)
    yield call(np.put, M, Fixed(np.array([0, 5, -1])), V[:3], mutates=True)
    yield call(np.put, V, ind=[7, 1], v=X, mode="wrap", mutates=True)
    yield call(np.putmask, M, mask=MASK, values=V, mutates=True)
    yield call(np.place, M, mask=Fixed(MASK), vals=V[:3], mutates=True)
    yield call(np.put_along_axis, M, Fixed(np.array([[1, 0], [3, 2], [0, 1]])), N[:, :2].copy(),
               axis=1, mutates=True)  # fmt: skip
    yield call(np.fill_diagonal, M, V[:3], mutates=True)
    yield call(np.fill_diagonal, np.linspace(0.2, 2.0, 14).reshape(7, 2), val=X, wrap=True,
               mutates=True)  # fmt: skip


def refusals() -> Iterator[tuple[str, Call]]:
    yield "writeable", call(np.lib.stride_tricks.sliding_window_view, V, 3, writeable=True)
