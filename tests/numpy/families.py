"""Arrays of every shape, layout and dtype for Hypothesis, and what holds of a call with them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import vjpkit as vk
from vjpkit.core.aval import aval_of
from vjpkit.pytree import flatten
from vjpkit.testing.compare import (
    assert_aval,
    assert_close,
    magnitude,
    pairing,
    random_like,
    rounding,
)

FLOATS = ("float16", "float32", "float64", "longdouble", "complex64", "complex128")
INTEGERS = ("int8", "int64", "uint16", "bool")
LAPACK = ("float32", "float64", "complex64", "complex128")
LAYOUTS = ("C", "F", "backwards", "every second", "repeated")

dtypes = st.sampled_from((*FLOATS, *INTEGERS))
floats = st.sampled_from(FLOATS)
lapack = st.sampled_from(LAPACK)
layouts = st.sampled_from(LAYOUTS)
sizes = st.integers(0, 4)
shapes = st.lists(sizes, max_size=3).map(tuple)


def filled(shape: Sequence[int], dtype: str, layout: str, seed: int, low: float = -2.0) -> Any:
    """Numbers without pattern, which nobody may write to; a scalar where there are no axes."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    real = rng.uniform(low, 2.0, tuple(shape))
    if kind.kind == "c":
        x = (real + 1j * rng.uniform(-1, 1, tuple(shape))).astype(kind)
    elif kind.kind == "f":
        x = real.astype(kind)
    else:
        x = rng.integers(0, 2 if kind.kind == "b" else 5, tuple(shape)).astype(kind)
    return laid_out(x, layout)


def laid_out(x: Any, layout: str) -> Any:
    """The same numbers in another memory layout."""
    if not x.ndim:
        return x if layout == "F" else x[()]
    if layout == "F":
        x = np.asfortranarray(x)
    elif layout == "backwards":
        x = x[..., ::-1].copy()[..., ::-1]
    elif layout == "every second":
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        x = wide[..., ::2]
    elif layout == "repeated" and x.shape[0]:
        x = np.broadcast_to(x[:1], x.shape)
    x = x.view()
    x.flags.writeable = False
    return x


@st.composite
def arrays(draw: Any, shape: Any = shapes, dtype: Any = dtypes, low: float = -2.0) -> Any:
    """An array of a drawn shape, dtype and layout."""
    return filled(draw(shape), draw(dtype), draw(layouts), draw(st.integers(0, 99)), low)


@st.composite
def broadcastable(draw: Any, count: int, dtype: Any = dtypes, low: float = -2.0) -> list[Any]:
    """Arrays whose shapes broadcast."""
    whole = draw(shapes)
    found = []
    for _ in range(count):
        cut = draw(st.integers(0, len(whole)))
        shape = [1 if draw(st.booleans()) and n != 0 else n for n in whole[cut:]]
        found.append(draw(arrays(st.just(tuple(shape)), dtype, low)))
    return found


def leaves(out: Any) -> list[Any]:
    """Arrays and numbers; older NumPys count in Python's integers, which are `numpy.intp` here."""
    counted = [np.intp(y) if type(y) is int else y for y in flatten(out)[0]]
    return [y for y in counted if hasattr(y, "dtype")]


def holds(f: Callable[..., Any], *xs: Any, tolerance: float = 0.0, is_staged: bool = True) -> None:
    """``f`` at traced arguments is what it is at plain ones: values, types, dtypes, errors.

    Cotangents have their primal's shape and dtype and pair as tangents do; the program of ``f``
    gives what ``f`` gives, unless the shapes of the results depend on values.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        _holds(f, xs, tolerance, is_staged)


def _holds(f: Callable[..., Any], xs: Sequence[Any], tolerance: float, is_staged: bool) -> None:
    live = [i for i, x in enumerate(xs) if aval_of(x).inexact]

    def run(*ys: Any) -> list[Any]:
        values = list(xs)
        for i, y in zip(live, ys, strict=True):
            values[i] = y
        return leaves(f(*values))

    primals = [xs[i] for i in live]
    try:
        wanted = leaves(f(*xs))
    except Exception as error:  # whatever NumPy raises
        _assert_raises(run, primals, error)
        return
    if not live:
        return
    smooth = [i for i, y in enumerate(wanted) if aval_of(y).inexact]
    out, pullback, aux = vk.vjp(
        lambda *ys: ([run(*ys)[i] for i in smooth], run(*ys)), *primals, has_aux=True
    )
    _assert_same(aux, wanted, tolerance)
    rng = np.random.default_rng(0)
    cts = [random_like(y, rng) for y in out]
    pulled = pullback(cts)
    for x, ct in zip(primals, pulled, strict=True):
        assert_aval(ct, aval_of(x), "cotangent")
    ts = [random_like(x, rng) for x in primals]
    pushed = vk.jvp(lambda *ys: [run(*ys)[i] for i in smooth], primals, ts)[1]
    for y, t in zip(out, pushed, strict=True):
        assert_aval(t, aval_of(y), "tangent")
    _assert_dual(cts, pushed, pulled, ts)
    if is_staged:
        _assert_same(vk.make_ir(run)(*primals)(*primals), wanted, tolerance)


def _assert_raises(run: Any, primals: Sequence[Any], wanted: Exception) -> None:
    """Traced values raise an error of the same kind, a broader or a narrower one."""
    if primals:
        with pytest.raises(Exception) as caught:  # noqa: PT011  # compared below
            vk.vjp(lambda *ys: (0.0, run(*ys)), *primals, has_aux=True)
        error = caught.value
        same = isinstance(error, type(wanted)) or isinstance(wanted, type(error))
        assert same, f"NumPy raises {wanted!r}, traced {error!r}"


def _assert_same(got: Sequence[Any], wanted: Sequence[Any], tolerance: float) -> None:
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert isinstance(a, np.ndarray) == isinstance(b, np.ndarray), f"{a!r} for {b!r}"
        assert_aval(a, aval_of(b), "value")
        assert_close(a, b, max(tolerance, 1e-15, rounding(b) / 500), "value")


def _assert_dual(cts: Any, pushed: Any, pulled: Any, ts: Any) -> None:
    left, right = list(zip(cts, pushed, strict=True)), list(zip(pulled, ts, strict=True))
    allowed = max([rounding(x) for pair in (*left, *right) for x in pair], default=0.0)
    wide = [[(_wide(a), _wide(b)) for a, b in pairs] for pairs in (left, right)]
    size = sum(magnitude(a, b) for pairs in wide for a, b in pairs)
    got, want = (sum(pairing(a, b) for a, b in pairs) for pairs in wide)
    if np.isfinite(size):
        assert abs(got - want) <= allowed * max(1.0, size), f"dot test: {got} for {want}"


def _wide(x: Any) -> Any:
    """``x`` in extended precision: sums of halves overflow."""
    return np.asarray(x, np.clongdouble)
