"""Fourier transforms and polynomials."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.numpy.coverage.call import Call, call
from tests.numpy.coverage.calls.data import (
    CUBE,
    KNOWN,
    LEADING,
    ROOTS,
    SIGNED,
    ZV,
    A,
    M,
    N,
    V,
    W,
    X,
    Y,
    Z,
)

__all__ = ["IGNORING", "calls", "refusals"]


import itertools


def calls() -> Iterator[Call]:
    yield from _fft()
    yield from _polynomials()
    yield from _complex_domain()


IGNORING = np.fft.hfft, np.fft.ifft2, np.fft.irfft2
"""Functions that take an ``out`` and do not write to it in some of NumPy's versions, 2.4 say."""


def _writes(function: Any, dtype: type) -> bool:
    """Whether this NumPy writes the result where ``out`` says."""
    out: Any = np.full((2, 2), np.nan, dtype)
    try:
        function(np.ones((2, 2)), out=out)
    except ValueError:
        return True
    return not np.isnan(out).all()


def _fft() -> Iterator[Call]:
    function: Any
    out: dict[str, Any]
    f = np.fft
    for function in (f.fft, f.ifft, f.rfft, f.irfft, f.hfft, f.ihfft):
        takes_real = function in (f.rfft, f.ihfft)
        x, y = (M, CUBE) if takes_real else (Z, CUBE * (1 + 0.3j))
        yield call(function, x)
        gives_real = function in (f.irfft, f.hfft)
        for n, norm in itertools.product((2, 3, 4, 7), ("backward", "ortho", "forward")):
            yield call(function, y, n=n, axis=1, norm=norm)
        length = 5 if gives_real else 3 if takes_real else 5
        kind = float if gives_real else complex
        out = {"out": np.zeros((3, length), kind)} if _writes(function, kind) else {}
        yield call(function, x, n=5, axis=-1, norm=None, **out)
        if not takes_real:
            yield call(function, V, n=7)
    for function in (f.fft2, f.ifft2, f.fftn, f.ifftn, f.rfft2, f.rfftn, f.irfft2, f.irfftn):
        takes_real, gives_real = function.__name__[0] == "r", "irfft" in function.__name__
        y = CUBE if takes_real else CUBE * (1 + 0.3j)
        yield call(function, y)
        yield call(function, y, axes=(2, 0))
        yield call(function, y, s=(3, 5), axes=(0, 1), norm="ortho")
        yield call(function, y, s=(2, 4), axes=(1, 2), norm="forward")
        last = 2 if takes_real else 3
        kind = float if gives_real else complex
        out = {"out": np.zeros((2, last, 4), kind)} if _writes(function, kind) else {}
        yield call(function, y, s=(2, 3), axes=(0, 1), **out)
    yield call(f.fftshift, M)
    yield call(f.fftshift, CUBE, axes=(0, 2))
    yield call(f.ifftshift, V)
    yield call(f.ifftshift, CUBE, axes=1)


def _polynomials() -> Iterator[Call]:
    p, q = V[:4], W[:3]
    yield call(np.poly, V[:3])
    yield call(np.poly, A, exempt=KNOWN)
    yield call(np.roots, np.array([1.0, -4.2, 3.1, 0.4]), exempt=ROOTS)
    yield call(np.roots, np.array([1.0, 0.3, 1.2, 0.4]), exempt=ROOTS)
    yield call(np.polyval, p, M)
    yield call(np.polyval, p, X)
    yield call(np.polyval, ZV, V)
    yield call(np.polyadd, p, q)
    yield call(np.polysub, p, a2=q)
    yield call(np.polymul, p, a2=q, exempt=KNOWN)
    yield call(np.polydiv, V, q, exempt=KNOWN | LEADING)
    yield call(np.polydiv, u=q, v=V, exempt=KNOWN)
    yield call(np.polyder, p, m=2)
    yield call(np.polyder, p)
    yield call(np.polyint, p, m=2, k=W[:2])
    yield call(np.polyint, p, k=X)
    yield call(np.polyint, p)
    t = np.array([0.1, 0.5, 0.9, 1.4, 2.2])
    yield call(np.polyfit, t, V, deg=2)
    yield call(np.polyfit, t, np.stack([V, W], axis=1), 1, rcond=1e-10, w=W)
    yield call(np.polyfit, t, V, 2, full=True)
    yield call(np.polyfit, t, V, 1, cov=True)
    yield call(np.polyfit, t, V, 1, cov="unscaled", w=W)


def _complex_domain() -> Iterator[Call]:
    function: Any
    from numpy.lib import scimath

    for function in (scimath.sqrt, scimath.log, scimath.log2, scimath.log10, scimath.arccos,
                     scimath.arcsin, scimath.arctanh):  # fmt: skip
        yield call(function, M, exempt=KNOWN)
        yield call(function, SIGNED * 1.6 - 0.03, exempt=KNOWN)
        yield call(function, Z)
    yield call(scimath.logn, Y, SIGNED, exempt=KNOWN)
    yield call(scimath.power, SIGNED, N, exempt=KNOWN)
    yield call(scimath.power, M, 2.5, exempt=KNOWN)


def refusals() -> Iterator[tuple[str, Call]]:
    for function, kind, refused in zip(IGNORING, (float, complex, float), (
        call(np.fft.hfft, Z, n=5, out=np.zeros((3, 5))),
        call(np.fft.ifft2, Z, out=Z),
        call(np.fft.irfft2, Z, s=(3, 5), out=np.zeros((3, 5))),
    )):  # fmt: skip
        if not _writes(function, kind):
            yield "out", refused
