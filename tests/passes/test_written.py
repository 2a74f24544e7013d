"""What a program reads where it has just written."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.evaluate import evaluate
from vjpkit.core.ir import check
from vjpkit.passes.written import with_writes_read

X = np.array([0.5, -0.3, 1.2, 2.0])


def one_after_the_other(x: Any) -> Any:
    y = np.zeros_like(x)
    y[0] = x[0]
    for i in range(1, len(x)):
        y[i] = 0.5 * np.sin(y[i - 1]) + x[i]
    return y


def over_again(x: Any) -> Any:
    """The last write to a place is the one that counts, however the place is called."""
    y = x * 2.0
    y[-1] = x[0]
    y[3] = x[1]
    y[1] = x[2]
    return y[3] + y[-3], y[2]


def rows(x: Any) -> Any:
    y = np.outer(x, x)
    y[1] = np.sin(x)
    y[2, :] = np.cos(x)
    return y[1] * y[2], y[1, 0] + y[0, 1]


def in_part(x: Any) -> Any:
    """The slice that was written holds what is read, and other elements."""
    y = x * 2.0
    y[1:3] = np.sin(x[:2])
    return y[1] + y[0], y[1:3], y[:2]


def broadcast(x: Any) -> Any:
    """Values of another shape or dtype became what the array takes."""
    y = x * 2.0
    y[1:3] = x[0]
    y[0] = np.float32(0.1)
    y[3] = 2
    return y[1:3] * y[0] + y[3]


def at_computed_places(x: Any) -> Any:
    y = x * 2.0
    i = np.argsort(x)
    y[i] = x
    y[True, 1] = 3.0
    return y[i] + y[1], y[None, 1]


FUNCTIONS: dict[str, tuple[Any, int]] = {
    "one after the other": (one_after_the_other, 4),
    "over again": (over_again, 4),
    "rows": (rows, 3),
    "in part": (in_part, 4),
    "broadcast": (broadcast, 2),
    "at computed places": (at_computed_places, 3),
}
"""Functions, and how many reads are left."""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_read(name: str) -> None:
    f, count = FUNCTIONS[name]
    closed = vk.make_ir(f)(X)
    made = with_writes_read(closed.program)
    check(made)
    reads = [e for e in made.equations if e.primitive.name == "getitem"]
    assert len(reads) == count
    values = [*closed.consts, X]
    for got, want in zip(evaluate(made, values), evaluate(closed.program, values), strict=True):
        np.testing.assert_array_equal(got, want)
        assert np.asarray(got).dtype == np.asarray(want).dtype
    total = lambda x: sum(np.sum(np.sin(y)) for y in vk.tree.leaves(f(x)))
    for tier in ("numpy", "native"):
        for transform in (vk.value_and_grad, vk.hessian):
            got, want = vk.jit(transform(total), backend=tier)(X), transform(total)(X)
            vk.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-12, 1e-12), got, want)
