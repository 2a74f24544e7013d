"""check_rule of functions that bring rules of their own: it finds which one is wrong."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.errors import NotDifferentiableError
from vjpkit.core.primitive import PRIMITIVES
from vjpkit.test_util import check_rule

X, Y = np.array([0.3, -1.2, 2.5]), np.array([1.7, 0.4, -0.6])


def f(x, y):
    return {"a": np.sin(x) * y, "b": np.sum(y)}


def forward(xs, ts):
    (x, y), (s, t) = xs, ts
    return f(x, y), {"a": np.cos(x) * s * y + np.sin(x) * t, "b": np.sum(t)}


def fwd(x, y):
    return f(x, y), (x, y)


def bwd(kept, ct):
    x, y = kept
    return ct["a"] * np.cos(x) * y, ct["a"] * np.sin(x) + ct["b"]


def over_axis(n, batched, x, y):
    x, y = (v if b else np.broadcast_to(v, (n, 3)) for v, b in zip((x, y), batched, strict=True))
    return {"a": np.sin(x) * y, "b": np.sum(y, axis=1)}, True


RIGHT: dict[str, Any] = {"jvp": forward, "vjp": (fwd, bwd), "vmap": over_axis}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "jvp": (
        {"jvp": lambda xs, ts: (f(*xs), {"a": xs[1] * ts[0], "b": np.sum(ts[1])})},
        "vjp is not the transpose of jvp",
    ),
    "bwd": ({"vjp": (fwd, lambda kept, ct: (bwd(kept, ct)[0], ct["a"]))}, "not the transpose"),
    "value of fwd": ({"vjp": (lambda x, y: (f(x, 2 * y), (x, y)), bwd)}, "output 0 of fwd"),
    "value of jvp": (
        {"jvp": lambda xs, ts: (f(2 * xs[0], xs[1]), forward(xs, ts)[1])},
        "output 0 of jvp",
    ),
    "linearity of jvp": (
        {"jvp": lambda xs, ts: (f(*xs), {"a": ts[0] ** 2, "b": ts[1][0]}), "vjp": None},
        "jvp is not linear in the tangent: result 0",
    ),
    "linearity of bwd": (
        {"vjp": (fwd, lambda kept, ct: (abs(ct["a"]), None)), "jvp": None},
        "vjp is not linear in the cotangent: result 0",
    ),
    "vmap": (
        {"vmap": lambda *args: (over_axis(*args)[0] | {"b": np.full(args[0], 2.0)}, True)},
        "output 1 of vmap against a loop",
    ),
}


def test_rules_that_agree():
    for names in (["jvp"], ["vjp"], ["jvp", "vjp"], list(RIGHT)):
        check_rule(vk.custom_rule(f, **{n: RIGHT[n] for n in names}), X, Y)
    single = X.astype(np.float32), Y.astype(np.float32)
    check_rule(vk.custom_rule(f, **RIGHT), *single)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_found(name):
    changed, words = WRONG[name]
    rules = {n: r for n, r in (RIGHT | changed).items() if r is not None}
    with pytest.raises(AssertionError, match=r"custom_rule\(f\): its rules disagree:\n") as caught:
        check_rule(vk.custom_rule(f, **rules), X, Y)
    assert words in str(caught.value)


def test_a_transpose_rule():
    times = lambda a, x: a * np.cumsum(x)
    right = lambda a, ct: (np.cumsum((a * ct)[::-1])[::-1],)
    check_rule(vk.custom_rule(times, transpose=right, linear_argnums=1), X, Y)
    wrong = vk.custom_rule(times, transpose=lambda a, ct: (a * ct,), linear_argnums=1)
    with pytest.raises(AssertionError, match="transpose does not transpose the function"):
        check_rule(wrong, X, Y)


def test_custom_vjp_and_custom_jvp_with_other_arguments():
    g = vk.custom_vjp(lambda n, x: x**n, nondiff_argnums=0)
    g.defvjp(lambda n, x: (x**n, x), lambda n, x, ct: (n * x ** (n - 1) * ct,))
    check_rule(g, 3, X)
    h = vk.custom_jvp(lambda x, n: (x * x, n))
    h.defjvp(lambda xs, ts: (h(*xs), (2 * xs[0] * ts[0], ts[1])))
    check_rule(h, X, 3)
    check_rule(h, 1 + 2j, 3)


def test_a_rule_that_is_no_derivative_is_none_of_its_business():
    clipped = vk.custom_vjp(lambda x: x)
    clipped.defvjp(lambda x: (x, None), lambda _, ct: (0.5 * ct,))
    check_rule(clipped, X)


def test_what_cannot_be_checked():
    with pytest.raises(TypeError, match=r"check_rule: a primitive, or a function with rules .*got"):
        check_rule(np.sin, X)
    with pytest.raises(TypeError, match="sin is a primitive, and checked at its own samples"):
        check_rule(PRIMITIVES["sin"], X)
    with pytest.raises(NotDifferentiableError, match="defvjp"):
        check_rule(vk.custom_vjp(f), X, Y)
