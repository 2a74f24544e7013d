"""Arrays that are changed between a call and its pullback: the right derivative, or an error."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import vjpkit as vk

SIZES = {"small": 12, "large": 40_000}  # 320 kB: above what is copied

# How a function uses x and an array a that it closes over.
USES: dict[str, Callable[[Any, Any], Any]] = {
    "product": lambda x, a: x * a,
    "quotient": lambda x, a: x / (2.0 + a * a),
    "dot": lambda x, a: (x @ a) * x[:2],
    "power": lambda x, a: a ** (x / 4.0),
    "slice": lambda x, a: x[1:] * a[:-1],
    "view": lambda x, a: np.reshape(x, (2, -1)) * np.reshape(a, (2, -1))[::-1],
    "mask": lambda x, a: x[a > 1.5],
    "index": lambda x, a: x[(a * 3).astype(int)],
    "where": lambda x, a: np.where(a > 1.5, x, np.sin(x)),
    "exponential": lambda x, a: np.exp(x) + a,
    "written": lambda x, a: written(x, a),
    "matrix": lambda x, a: np.reshape(x, (-1, 2)) @ np.reshape(a[:4], (2, 2)),
    "least squares": lambda x, a: np.linalg.lstsq(np.reshape(x[:6], (3, 2)), a[:3])[0],
    "program": vk.jit(lambda x, a: np.exp(-x * a)),
    "loop": lambda x, a: vk.lax.fori_loop(0, 2, lambda _, y: vk.jit(np.multiply)(y, a), x),
    "revolved": lambda x, a: vk.lax.scan(
        lambda y, b: (np.sin(y) * b, None),
        x[: x.size // 2],
        np.reshape(a, (2, -1)),
        checkpoint="revolve",
        slots=2,
    )[0],
}
WAYS: dict[str, Callable[[Any], None]] = {
    "one element": lambda a: a.__setitem__(a.size // 2, 1.25),
    "all": lambda a: a.__imul__(1.5),
    "reversed": lambda a: a.__setitem__(slice(None), a[::-1].copy()),
    "view": lambda a: a[::2].__iadd__(0.125),
    "fill": lambda a: a.fill(1.0),
    "out": lambda a: (np.sqrt(a, out=a), None)[1],
}


def written(x: Any, a: Any) -> Any:
    y = np.copy(x)
    y[1:] *= a[1:]
    y += a
    return y * y


@settings(max_examples=150)
@example(use="revolved", way="all", size="small", changed="captured", transform="vjp")
@example(use="least squares", way="all", size="small", changed="captured", transform="vjp")
@example(use="least squares", way="all", size="large", changed="captured", transform="vjp")
@given(
    use=st.sampled_from(sorted(USES)),
    way=st.sampled_from(sorted(WAYS)),
    size=st.sampled_from(sorted(SIZES)),
    changed=st.sampled_from(["captured", "received", "returned"]),
    transform=st.sampled_from(["vjp", "linearize", "jit"]),
)
def test_the_derivative_is_right_or_an_error(use, way, size, changed, transform):
    n = SIZES[size]
    a = 1.0 + np.arange(float(n)) % 7 / 7
    x = 1.5 + np.cos(np.arange(float(n)))
    f = lambda x: USES[use](x, a)
    wanted = vk.vjp(f, x.copy())[1]
    if transform == "linearize":
        out, push = vk.linearize(f, x)
        apply, argument = push, np.sin(np.arange(float(n)))
        right = wanted.T(argument)
    else:
        out, pull = vk.vjp(vk.jit(f) if transform == "jit" else f, x)
        apply, argument = pull, np.cos(np.arange(float(out.size))).reshape(out.shape)
        right = wanted(argument)
    WAYS[way]({"captured": a, "received": x, "returned": out}[changed].reshape(-1))
    try:
        got = apply(argument)
    except (RuntimeError, ValueError) as error:
        if size == "small" or not re.search(r"\(test_changed_arrays\.py:\d+\)", str(error)):
            raise
        return
    for g, r in zip(vk.tree.leaves(got), vk.tree.leaves(right), strict=True):
        np.testing.assert_allclose(g, r, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("changed", ["captured", "received"])
def test_a_large_array_that_was_changed_is_named(changed):
    a, x = np.ones(40_000), np.full(40_000, 2.0)
    _, pullback = vk.vjp(lambda x: x * x * a, x)
    {"captured": a, "received": x}[changed][7] = 3.0
    with pytest.raises(RuntimeError, match=r"changed.*\(test_changed_arrays\.py:\d+\)"):
        pullback(np.ones(40_000))
