"""Large cotangents are computed in the memory of those that nobody needs any more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.primitive import Primitive, registered
from vjpkit.kinds import Elementwise
from vjpkit.kinds.elementwise import LARGE

PERIOD = 3
REPEATS = LARGE // PERIOD + 2


def large_samples() -> list[Any]:
    """Samples of three elements per operand, of every elementwise primitive."""
    found = []
    for primitive in registered().values():
        if isinstance(primitive, Elementwise):
            for sample in primitive.samples():
                shapes = {np.shape(x) for x in sample.operands}
                inexact = all(np.asarray(x).dtype.kind in "fc" for x in sample.operands)
                everywhere = len(sample.wrt) == len(sample.operands)
                if shapes == {(PERIOD,)} and inexact and everywhere:
                    found.append((primitive, sample.operands))
    return found


SAMPLES = large_samples()


def repeated(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.tile(x, REPEATS)


def uses(primitive: Primitive) -> dict[str, Any]:
    """Ways to use its result and its operands: once, twice, shared, in parts."""
    p = primitive
    return {
        "once": lambda *xs: p(*xs),
        "chain": lambda *xs: -(p(*xs) * 3.0) / 2.0,
        "square": lambda *xs: p(*xs) * p(*xs),
        "same": lambda *xs: (lambda y: y * y)(p(*xs)),
        "shared": lambda *xs: (lambda y: (y + y * y) - (y - 1.0) * y)(p(*xs)),
        "operand": lambda *xs: p(*xs) * xs[0] - xs[0] + xs[-1] * xs[-1],
        "negated": lambda *xs: (1.0 - p(*xs)) + (2.0 - xs[0]) * (p(*xs) - xs[-1]),
    }


@pytest.mark.parametrize(
    ("primitive", "operands"), SAMPLES, ids=[f"{p.name}-{i}" for i, (p, _) in enumerate(SAMPLES)]
)
def test_large_and_small_arrays_have_the_same_pullbacks(
    primitive: Primitive, operands: tuple[Any, ...]
):
    for name, f in uses(primitive).items():
        y, pullback = vk.vjp(f, *operands)
        ct = np.linspace(0.5, 1.5, PERIOD).astype(y.dtype)
        wanted = pullback(ct)
        large = [repeated(x) for x in operands]
        _, large_pullback = vk.vjp(f, *large)
        seed = repeated(ct)
        for _ in range(2):  # the pullback has kept what it needs
            got = large_pullback(seed)
            for g, w, x in zip(got, wanted, operands, strict=True):
                assert g.dtype == x.dtype, name
                np.testing.assert_allclose(g[:PERIOD], w, rtol=1e-5, err_msg=name)
                np.testing.assert_array_equal(g, repeated(g[:PERIOD]), err_msg=name)
                assert not np.may_share_memory(g, seed), name
        np.testing.assert_array_equal(seed, repeated(ct))
        for x, before in zip(large, operands, strict=True):
            np.testing.assert_array_equal(x, repeated(before))


def test_slices_of_one_array_are_added_up_in_one_buffer():
    x = np.linspace(0.5, 1.5, 4 * LARGE).reshape(2, -1)

    def f(x: Any) -> Any:
        d = x[:, 1:] - x[:, :-1] * x[:, :-1]
        return np.sum(100.0 * d * d + (1.0 - x[:, :-1]) ** 2) + x[0, 3] * x[1, 0] + np.sum(x[1])

    g = vk.grad(f)(x)
    d = x[:, 1:] - x[:, :-1] ** 2
    wanted = np.zeros_like(x)
    wanted[:, :-1] = 2.0 * (x[:, :-1] - 1.0) - 400.0 * d * x[:, :-1]
    wanted[:, 1:] += 200.0 * d
    wanted[1] += 1.0
    wanted[0, 3] += x[1, 0]
    wanted[1, 0] += x[0, 3]
    np.testing.assert_allclose(g, wanted, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_a_cotangent_of_another_dtype_is_not_overwritten(dtype: Any):
    """Where dtypes differ the product has memory of its own, and its own dtype."""
    x, w = np.full(LARGE + 1, 0.5, np.float32), np.full(LARGE + 1, 3.0, dtype)
    f = lambda x: np.sum((-(x * w)).real * 2.0)
    g = vk.grad(f)(x)
    assert g.dtype == np.float32
    np.testing.assert_array_equal(g, np.full(LARGE + 1, -6.0, np.float32))


def test_a_sums_cotangent_is_not_to_be_written():
    """It is one number that stands for all elements."""
    seen = []

    @vk.custom_vjp
    def watched(x: Any) -> Any:
        return x

    def back(_: Any, ct: Any) -> Any:
        seen.append(ct)
        return (ct,)

    watched.defvjp(lambda x: (x, None), back)
    x = np.ones(LARGE + 1)
    g = vk.grad(lambda x: np.sum(watched(x)))(x)
    assert g.flags.writeable
    assert seen[0].shape == x.shape
    g[0] = 5.0
    assert g[1] == 1.0
