"""Joining, repeating, padding, inserting."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.numpy.coverage.call import Call, call
from tests.numpy.coverage.calls.data import UNSET, B, M, N, V, W, X, Y, Z

__all__ = ["calls", "refusals"]


def calls() -> Iterator[Call]:
    yield call(np.concatenate, [M, N[:2]])
    yield call(np.concatenate, (M, N), axis=None, out=np.zeros(24))
    yield call(np.concatenate, [M, Z], axis=1, dtype=np.complex128, casting="same_kind")
    yield call(np.stack, [V, W], axis=-1, dtype=np.float64, casting="safe")
    yield call(np.stack, [V, W, V], out=np.zeros((3, 5)))
    yield call(np.vstack, [M, V[:4]], dtype=np.float64, casting="same_kind")
    yield call(np.hstack, [M, N[:, :1]], dtype=np.float64, casting="same_kind")
    yield call(np.hstack, [V, W])
    yield call(np.dstack, [M, N])
    yield call(np.column_stack, [V, W])
    yield call(
        np.block,
        [
            [M, N[:, :1]],
            [
                V[None],
            ],
        ],
    )
    yield call(np.block, [V, W])
    yield call(np.append, M, N)
    yield call(np.append, M, values=N[:1], axis=0)
    yield call(np.tile, M, reps=(2, 1, 2))
    yield call(np.repeat, M, repeats=2)
    yield call(np.repeat, M, repeats=[1, 0, 3], axis=0)
    yield call(np.insert, V, 2, X)
    yield call(np.insert, M, obj=[1, 3, 1], values=B.T[:1, [0, 1, 2]].T[:3], axis=1)
    yield call(np.insert, M, slice(0, 2), V[:4], axis=0)
    yield call(np.delete, V, [1, -1])
    yield call(np.delete, M, obj=slice(None, None, 2), axis=1)
    yield from _padded()
    yield call(np.meshgrid, V[:2], W[:3], indexing="ij", sparse=True)
    yield call(np.meshgrid, V[:2], W[:3], copy=False)
    yield call(np.meshgrid, V[:2], W[:3], V[2:4], copy=True, indexing="xy")


def _padded() -> Iterator[Call]:
    width = ((1, 2), (0, 3))
    yield call(np.pad, M, width)
    yield call(np.pad, M, pad_width=width, mode="constant", constant_values=((X, 2.0), (0.5, Y)))
    for mode in ("edge", "wrap"):
        yield call(np.pad, M, width, mode=mode)
    for mode in ("reflect", "symmetric"):
        for kind in ("even", "odd"):
            yield call(np.pad, M, ((1, 4), (2, 5)), mode=mode, reflect_type=kind)
    for mode in ("maximum", "minimum", "mean", "median"):
        yield call(np.pad, M, width, mode=mode)
        yield call(np.pad, M, width, mode=mode, stat_length=((2, 1), (3, 2)))
    yield call(np.pad, M, width, mode="linear_ramp", end_values=((X, 0.0), (0.0, Y)))
    yield call(np.pad, V, 2, _filled)
    yield call(np.pad, V, 2, mode="empty", exempt=UNSET)


def _filled(vector, widths, axis, options):
    vector[: widths[0]] = vector[widths[0]] ** 2
    vector[-widths[1] :] = 0.5


def refusals() -> Iterator[tuple[str, Call]]:
    return iter(())
