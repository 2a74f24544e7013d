"""Random in-place programs: NumPy's values to the bit, and derivatives that differences confirm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import vjpkit as vk
from tests.numpy.in_place_programs import SHAPE, STATEMENTS, Statement, run
from vjpkit.core.errors import TracerConversionError, UnsupportedError
from vjpkit.numpy import _writable

NUMBER = st.integers(0, 60)
PROGRAMS = st.lists(
    st.tuples(st.integers(0, len(STATEMENTS) - 1), NUMBER, NUMBER, NUMBER), min_size=1, max_size=9
)
X = np.random.default_rng(0).normal(size=SHAPE)
V = np.random.default_rng(1).normal(size=SHAPE)


def plain(program: list[Statement], x: Any) -> tuple[Any, list[Any]]:
    """What NumPy does; programs that it refuses, or whose values run away, are not of interest."""
    try:
        with np.errstate(all="ignore"):
            total, arrays = run(program, x)
    except (ValueError, IndexError, TypeError):
        assume(False)
    assume(all(np.all(np.abs(a) < 1e3) for a in (total, *arrays)))
    return total, arrays


def same_bits(got: Any, wanted: Any) -> None:
    assert np.shape(got) == np.shape(wanted)
    assert np.asarray(got).dtype == np.asarray(wanted).dtype
    assert np.asarray(got).tobytes() == np.asarray(wanted).tobytes(), (got, wanted)


def stacked(outs: list[Any]) -> Any:
    """Outputs of several calls, stacked leaf by leaf."""
    return vk.tree.map(lambda *xs: np.stack(xs), *outs)


def close(got: Any, wanted: Any) -> None:
    np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-11)


def difference(f: Callable[[Any], Any], x: Any, v: Any) -> tuple[float, float]:
    """The derivative along v by Richardson's rule, and how far two step sizes are apart."""

    def central(h: float) -> float:
        return float((f(x + h * v) - f(x - h * v)) / (2 * h))

    coarse, fine = central(2e-4), central(1e-4)
    return (4 * fine - coarse) / 3, abs(fine - coarse)


@settings(max_examples=100)
@given(PROGRAMS)
def test_values_are_numpys_and_derivatives_are_right(program):
    wanted, arrays = plain(program, X)
    x = X.copy()
    value, pullback, traced = vk.vjp(lambda x: run(program, x), x, has_aux=True)
    same_bits(value, wanted)
    assert len(traced) == len(arrays)
    for got, array in zip(traced, arrays, strict=True):
        same_bits(got, array)
    same_bits(x, X)
    (g,) = pullback(np.float64(1.0))
    same_bits(pullback(np.float64(1.0))[0], g)
    slope, error = difference(lambda x: run(program, x)[0], X, V)
    assert np.sum(g * V) == pytest.approx(slope, rel=1e-6, abs=1e-6 + 10 * error)
    with _writable.without_reuse():
        again, pullback = vk.vjp(lambda x: run(program, x)[0], x)
        same_bits(again, wanted)
        np.testing.assert_allclose(pullback(np.float64(1.0))[0], g, rtol=1e-12, atol=1e-12)


@settings(max_examples=40)
@given(PROGRAMS)
def test_forward_mode_and_second_order_agree(program):
    wanted, _ = plain(program, X)
    f = lambda x: run(program, x)[0]
    (value, arrays), (tangent, _) = vk.jvp(lambda x: run(program, x), (X,), (V,))
    same_bits(value, wanted)
    for got, array in zip(arrays, run(program, X)[1], strict=True):
        same_bits(got, array)
    g = vk.grad(f)(X)
    assert tangent == pytest.approx(np.sum(g * V), rel=1e-9, abs=1e-9)
    curved = vk.hvp(f, (X,), (V,))
    slope, error = difference(lambda x: np.sum(vk.grad(f)(x) * V), X, V)
    assert np.sum(curved * V) == pytest.approx(slope, rel=1e-5, abs=1e-5 + 10 * error)


@settings(max_examples=25)
@given(PROGRAMS)
def test_mapped_and_staged_programs_agree_or_say_why_not(program):
    xs = np.stack([X, V, X + V])
    wanted = [plain(program, x) for x in xs]
    f = lambda x: run(program, x)
    g = vk.grad(lambda x: run(program, x)[0])
    gradients = [g(x) for x in xs]
    for transform in (
        lambda: (vk.vmap(f)(xs), vk.vmap(g)(xs)),
        lambda: (stacked([vk.jit(f)(x) for x in xs]), [vk.jit(g)(x) for x in xs]),
        lambda: (
            stacked([vk.jit(f)(x) for x in xs]),
            [vk.grad(vk.jit(lambda x: f(x)[0]))(x) for x in xs],
        ),
    ):
        try:
            values, slopes = transform()
        except (UnsupportedError, TracerConversionError) as error:
            if "\n" not in str(error):  # an error says what to do instead
                raise
            continue
        vk.tree.map(close, values, stacked(wanted))
        np.testing.assert_allclose(slopes, gradients, rtol=1e-9, atol=1e-9)


def scalars_view(view):
    """A program that writes through a view of what NumPy gives as a scalar, which has none."""

    def program(x):
        a = np.sin(x)
        v = view(a)
        v[...] = 2.0
        return a * 1

    return program


@pytest.mark.parametrize(
    "view",
    [lambda a: a[...], lambda a: a[None], lambda a: a.reshape(1), lambda a: np.expand_dims(a, 0)],
    ids=["ellipsis", "new axis", "reshape", "expand_dims"],
)
def test_a_scalar_is_not_written_through_what_would_be_views_of_an_array(view):
    program, x = scalars_view(view), np.array(1.0)
    assert vk.vjp(program, x)[0] == program(x) == np.sin(1.0)
    assert vk.jvp(program, (x,), (x,))[0] == program(x)
    assert vk.grad(program)(x) == np.cos(1.0)
    assert vk.vmap(program)(x[None]) == [program(x)]
    assert vk.jit(program)(x) == program(x)


@pytest.mark.parametrize(
    "x",
    [
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(24.0).reshape(4, 6)[::2, ::2],
        np.arange(6.0).reshape(2, 3)[::-1],
    ],
    ids=["Fortran", "gaps", "backwards"],
)
def test_an_argument_that_is_copied_keeps_its_layout(x):
    """It decides which reshape is a view, and so what a write changes."""

    def program(x):
        y = np.negative(x)
        v = y.reshape(-1)
        v[0] = 7.0
        w = x.reshape(-1, order="A")
        return [y, v, w]

    for got, wanted in zip(vk.vjp(program, x)[0], program(x), strict=True):
        np.testing.assert_array_equal(got, wanted)
    *_, strides = vk.vjp(lambda x: (np.sum(x), np.array(x.strides)), x, has_aux=True)
    assert tuple(strides) == x.strides
