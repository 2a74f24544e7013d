"""Sums of large products: made from the sums of their large factors, equal up to rounding."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given

import vjpkit as vk
from tests.laws.test_metamorphic import close, programs, some
from tests.passes.compiled import same_compiled
from vjpkit.core.ir import check
from vjpkit.passes import optimize
from vjpkit.passes.sums import with_products_of_sums

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(6, 200, 8))
W, V = GENERATOR.normal(size=(6, 8, 5)), GENERATOR.normal(size=(6, 1, 8))

SUMS: dict[str, Any] = {
    "rows of a product": lambda x, w, v: np.sum(np.sin(x) @ w, axis=1),
    "scaled": lambda x, w, v: np.sum(np.sin(x) * v, axis=1, keepdims=True),
    "over": lambda x, w, v: np.sum(np.sin(x) / v, axis=1),
    "of both": lambda x, w, v: np.sum(np.sin(x) @ w @ np.swapaxes(w, 1, 2) - x * v, axis=1),
    "minus": lambda x, w, v: np.sum((-np.sin(x)) @ w, axis=1),
    "a vector": lambda x, w, v: np.sum(np.sin(x) * v[0, 0], axis=(0, 1)),
}
OTHERS: dict[str, Any] = {
    "what varies": lambda x, w, v: np.sum(np.sin(x) * v, axis=2),
    "columns of a product": lambda x, w, v: np.sum(np.sin(x) @ w, axis=2),
    "everything": lambda x, w, v: np.sum(np.sin(x) * v),
    "read twice": lambda x, w, v: [(y := np.sin(x) * v), np.sum(y, axis=1)],
    "small": lambda x, w, v: np.sum(np.sin(x[0, :9]) * v[0], axis=0),
}


def programs_of(f: Any) -> Any:
    program = optimize(vk.make_ir(f)(X, W, V).program)
    made = with_products_of_sums(program)
    check(made)
    return program, made


@pytest.mark.parametrize("name", SUMS)
def test_products_of_sums(name):
    f = SUMS[name]
    program, made = programs_of(f)
    assert len(made.outputs) > len(program.outputs)
    largest = max(v.aval.size for e in made.equations for v in e.outputs if e.primitive.name in (
        "matmul", "multiply", "divide"
    ))  # fmt: skip
    assert largest < X.size / 10
    close(vk.jit(f, backend="numpy")(X, W, V), f(X, W, V))


@pytest.mark.parametrize("name", OTHERS)
def test_others_stay_as_they_are(name):
    program, made = programs_of(OTHERS[name])
    assert made is program


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 0.0, 1e100])
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("name", ["rows of a product", "scaled", "of both"])
def test_values_that_are_not_finite(name, which, value):
    values = [X.copy(), W.copy(), V.copy()]
    values[which][2, 0, 3] = value
    f = SUMS[name]
    with np.errstate(all="ignore"):
        got, want = vk.jit(f, backend="numpy")(*values), f(*values)
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
    if which:
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    rest = np.isfinite(want)
    np.testing.assert_allclose(got[rest], want[rest], 1e-9, 1e-9 * np.max(np.abs(want[rest])))


@some
@given(programs)
def test_random_programs(f):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vjpkit.passes.sums.LARGE", 2)
        same_compiled(vk.value_and_grad(f.scalar), with_products_of_sums)
