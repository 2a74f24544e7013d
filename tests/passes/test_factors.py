"""Common factors: sums of products written with less work, equal up to rounding of their terms."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given

import vjpkit as vk
from benchmarks.cases.arrays import arithmetic, arithmetic_by_hand
from benchmarks.cases.small import tiny, tiny_by_hand
from tests.laws.test_metamorphic import programs, some
from tests.passes.compiled import same_compiled
from vjpkit.core.ir import check
from vjpkit.passes import optimize
from vjpkit.passes.cancelling import LARGE
from vjpkit.passes.common import with_products_shared
from vjpkit.passes.factors import FEW, with_common_factors, with_quotients

GENERATOR = np.random.default_rng(0)
A, B, C = GENERATOR.normal(size=(3, LARGE))
TIERS = ["numpy", "native"]


def staged(f: Any, *values: Any) -> Any:
    """The program before and after."""
    program = with_products_shared(optimize(vk.make_ir(f)(*values).program))
    made = with_quotients(with_common_factors(program))
    check(made)
    return program, made


def names(program: Any) -> list[str]:
    return [e.primitive.name for e in program.equations]


def test_a_gradient_as_one_writes_it_by_hand():
    gradient = vk.grad(lambda x: arithmetic(np, x))
    program, made = staged(gradient, A)
    assert len(program.equations) == 13
    assert names(made) == [
        "multiply", "add", "divide", "multiply", "subtract", "scale", "add"
    ]  # fmt: skip
    np.testing.assert_allclose(made.eval(A)[0], arithmetic_by_hand(A), 1e-13, 1e-13)


SHORTER: dict[str, tuple[Any, int, int]] = {
    "a factor of two terms": (lambda a, b, c: (a * b) * c + (a * b) * a + b * a * b, 7, 4),
    "a multiple": (lambda a, b, c: 2.0 * (a * b) * c + 2.0 * (a * b) * a, 6, 4),
    "the same term again": (lambda a, b, c: a * b * c + (a * b * 3.0) * c, 6, 3),
    "all of them negative": (lambda a, b, c: -(a * b) * c - a * b * a, 5, 4),
    "powers": (lambda a, b, c: (a * b) * (a * b) * c + (a * b) * 2.0, 5, 4),
    "a number of all terms": (lambda a, b, c: 2.0 * (a * b) + (c * c + c * c), 5, 4),
    "a number of all, with a multiple": (
        lambda a, b, c: ((-200.0 * (a - b)) * c - (c - 1.0) * 2.0) + (-200.0 * (a - b)) * c,
        8,
        6,
    ),
    "over a sum": (lambda a, b, c: (a / (1.0 + c * c)) * b + (a / (1.0 + c * c)) * a, 6, 5),
}


@pytest.mark.parametrize("name", SHORTER)
def test_shorter(name):
    f, most, least = SHORTER[name]
    program, made = staged(f, A, B, C)
    assert len(made.equations) <= least < len(program.equations) <= most
    want = f(A, B, C)
    np.testing.assert_allclose(made.eval(A, B, C)[0], want, 1e-12, 1e-12)
    for tier in TIERS:
        np.testing.assert_allclose(vk.jit(f, backend=tier)(A, B, C), want, 1e-12, 1e-12)


STAY: dict[str, Any] = {
    "the square of a sum": lambda a, b, c: (a * b + a) * (a * b + a) + a * b * c,
    "terms that cancel": lambda a, b, c: (a * b) * c + (a * b) * a - (a * b) * c,
    "factors that cancel": lambda a, b, c: (a * b) / b + a,
    "read elsewhere": lambda a, b, c: [(p := a * b * c), (q := a * b * a), p + q],
    "nothing in common": lambda a, b, c: a * b + c * c + a / b,
    "of integers": lambda a, b, c: (i := a.astype(int)) * i * 3 + (i * i) * 5 * i,
    "of float32": lambda a, b, c: (i := a.astype("f4")) * i * i * i + (i * i) * i,
}


def long_and_small(a: Any, b: Any, c: Any) -> Any:
    """A long program of small arrays."""
    a, b, c = a[:9], b[:9], c[:9]
    for _ in range(FEW // 2):
        c = np.sin(a * b * c + (a * b) * a) * 0.5
    return c


STAY["long and small"] = long_and_small


@pytest.mark.parametrize("name", STAY)
def test_what_would_not_be_as_accurate_or_shorter_stays(name):
    program, made = staged(STAY[name], A, B, C)
    assert made == program


EXACT: dict[str, Any] = {
    "times a variable": lambda a, b, c: (a - b) * a * c + (a - b) * b * c,
    "and a product": lambda a, b, c: (c * c + c * c * c) * (1e-9 * c) + (a - b),
    "and a number": lambda a, b, c: (a - 1.0) * c + (a - 1.0) * (c * c) + (a - 1.0),
    "with a number": lambda a, b, c: ((a - b) + (c * c) * 1e-9) + (c * c * c) * 1e-9,
    "squared": lambda a, b, c: ((a - b) * (a - b)) * c + ((a - b) * (a - b)) * a,
    "of a sum": lambda a, b, c: (a * b - a) * (a * b - a) * c + (a * b - a) * (1e-9 * c),
}
"""With sums that are small beside their terms, and exact."""


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", EXACT)
def test_small_differences_keep_their_digits(name, tier):
    a, f = 1.0 + 2.0**-30 * np.round(8 * A), EXACT[name]
    got, want = vk.jit(f, backend=tier)(a, a[::-1], C), f(a, a[::-1], C)
    np.testing.assert_allclose(got, want, 1e-13, 1e-23)


@pytest.mark.parametrize("tier", TIERS)
def test_tenths_are_no_multiples_of_a_rounded_tenth(tier):
    f = lambda a, b, c: np.round(a, 1) + b * c
    got = vk.jit(f, backend=tier)(A, B, np.zeros_like(C))
    np.testing.assert_array_equal(got, np.round(A, 1))


@pytest.mark.parametrize("size", [1, 3, 10, 100])
def test_few_elements(size):
    """The gradient of a quotient of squares: 17 equations, as by hand."""
    gradient = vk.grad(lambda x: tiny(np, x))
    x = A[:size]
    program, made = staged(gradient, x)
    assert len(program.equations) == 22
    assert len(made.equations) == 17
    np.testing.assert_allclose(made.eval(x)[0], tiny_by_hand(x), 1e-13, 1e-13)
    for tier in TIERS:
        np.testing.assert_allclose(vk.jit(gradient, backend=tier)(x), gradient(x), 1e-13, 1e-13)


def test_rows_repeat():
    rows = GENERATOR.normal(size=(LARGE // 8, 8))
    f = lambda x, v: (x * v) * x + (x * v) * v + v * x * x
    program, made = staged(f, rows, A[:8])
    assert len(made.equations) < len(program.equations)
    np.testing.assert_allclose(made.eval(rows, A[:8])[0], f(rows, A[:8]), 1e-12, 1e-12)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 0.0, -0.0, 1e200, 1e-200])
@pytest.mark.parametrize("name", [*SHORTER, "a gradient"])
def test_values_that_are_not_finite(name, value, tier):
    a, b, c = A.copy(), B.copy(), C.copy()
    a[3], b[5], c[7], a[9], b[9], c[9] = [value] * 6
    f = (
        SHORTER[name][0]
        if name in SHORTER
        else vk.grad(lambda *v: np.sum(np.where(c > 0, v[0] * v[1] / (1.0 + v[2] ** 2), 0.0)))
    )
    with np.errstate(all="ignore"):
        got, want = vk.jit(f, backend=tier)(a, b, c), f(a, b, c)
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
    rest = np.isfinite(want)
    np.testing.assert_allclose(got[rest], want[rest], 1e-11, 1e-11)


@pytest.mark.parametrize("tier", TIERS)
def test_zero_wins_over_what_a_quotient_makes(tier):
    """A cotangent of zero where the divisor is: ``0 * (1 / 0)`` is nan, and so is ``0 / 0``."""
    x = A.copy()
    x[5] = 0.0

    def f(x):
        quotient = np.where(x == 0.0, 1.0, x**3 / x**2)
        return np.sum(np.where(x == 0.0, 0.0, quotient * x / x))

    with np.errstate(all="ignore"):
        got, want = vk.jit(vk.grad(f), backend=tier)(x), vk.grad(f)(x)
    assert want[5] == 0.0
    np.testing.assert_allclose(got, want, 1e-12, 1e-12)


@some
@given(programs)
def test_random_programs(f):
    product = lambda x: vk.jvp(vk.grad(f.scalar), (x,), (x,))[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vjpkit.passes.factors.FEW", 10_000)
        for function in (vk.value_and_grad(f.scalar), product):
            same_compiled(function, lambda p: with_quotients(with_common_factors(p)))
