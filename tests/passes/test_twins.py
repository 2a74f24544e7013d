"""Of states that are always equal a loop carries one."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.evaluate import evaluate
from vjpkit.core.ir import check
from vjpkit.passes.twins import without_twin_states

X = np.array([0.5, -0.3, 1.2])
XS = np.linspace(-1.0, 1.0, 12).reshape(4, 3)


def alike(c, t):
    a, b, d = c
    new = np.sin(a) * t + d
    return (new, new, a + b), a * b


CASES: dict[str, tuple[Any, int]] = {
    "twins": (lambda x: vk.lax.scan(alike, (x, x, x + 1.0), XS), 2),
    "another beginning": (lambda x: vk.lax.scan(alike, (x, x * 2.0, x), XS), 3),
    "another end": (
        lambda x: vk.lax.scan(lambda c, t: ((c[0] * t, c[1] + t), None), (x, x), XS),
        2,
    ),
    "all three": (
        lambda x: vk.lax.scan(lambda c, t: ((sum(c) * t,) * 3, c[2]), (x, x, x), XS, reverse=True),
        1,
    ),
    "that stay": (lambda x: vk.lax.scan(lambda c, t: (c, c[0] * c[1] + t), (x, x), XS), 2),
}


@pytest.mark.parametrize("name", CASES)
def test_states_that_are_left(name):
    f, count = CASES[name]
    closed = vk.make_ir(f)(X)
    made = without_twin_states(closed.program)
    check(made)
    (loop,) = [e for e in made.equations if e.primitive.name == "scan"]
    assert loop.params["carry"] == count
    for got, want in zip(
        evaluate(made, [*closed.consts, X]), evaluate(closed.program, [*closed.consts, X]),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(got, want)


def test_the_gradient_of_a_leapfrog_has_one_cotangent_for_both_halves():
    def f(s):
        def step(c, _):
            r, v, half = c
            v = v + half
            r = r + 0.1 * v
            half = -0.05 * r * np.abs(r)
            return (r, v + half, half), None

        r, _, _ = vk.lax.scan(step, (s[0], s[1], -0.05 * s[0]), None, length=20)[0]
        return np.sum(r * r)

    s = np.array([[0.5, 1.0, -0.2], [0.3, 0.1, 0.4]])
    want = vk.grad(f)(s)
    for tier in ("numpy", "native"):
        np.testing.assert_allclose(vk.jit(vk.grad(f), backend=tier)(s), want, 1e-12)
