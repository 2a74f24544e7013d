"""`debug_nans` finds the operation that made the first nan or inf, forward or backward."""

import re
from typing import Any

import numpy as np
import pytest

import vjpkit

vk: Any = vjpkit
X = np.array([1.0, 0.0, 4.0])


def line_of(mark):
    """The number of the line of this file that ends with a mark."""
    with open(__file__, encoding="utf-8") as file:
        (number,) = [i for i, text in enumerate(file, 1) if text.rstrip().endswith(f"# {mark}")]
    return f"test_finding.py:{number}"


def found(f, *args, **options):
    with pytest.raises(FloatingPointError) as caught:
        vk.debug_nans(f, **options)(*args)
    return str(caught.value)


def forward(x):
    y = np.sin(x)
    z = np.log(y)  # forward
    return np.sum(z * x) + 1.0


def backward(x):
    y = np.sqrt(x)  # backward
    return np.sum(y + y[::-1])


def test_forward():
    text = found(forward, -X)
    assert "log, forward, gave nan for f64[3]" in text
    assert line_of("forward") in text
    assert text.startswith("debug_nans(forward): the result is not finite")


def test_infinities():
    assert "divide, forward, gave inf for 1, f64[3] from 0 to 4" in found(
        lambda x: np.sum(1 / x), X
    )
    f = vk.debug_nans(lambda x: np.sum(1 / x), inf=False)
    assert f(X) == np.inf
    assert "subtract, forward, gave nan" in found(lambda x: np.sum(1 / x - 1 / x), X, inf=False)


def test_backward():
    assert vk.debug_nans(backward)(X) == backward(X)
    text = found(vk.grad(backward), X)
    assert "in the backward pass, gave inf" in text
    assert line_of("backward") in text


@pytest.mark.parametrize(
    "wrap",
    [vk.jit, vk.checkpoint, lambda f: vk.jit(vk.jit(f))],
    ids=["jit", "checkpoint", "jit of jit"],
)
def test_through_other_transforms(wrap):
    text = found(wrap(forward), -X)
    assert "log" in text
    assert line_of("forward") in text
    assert "inf" in found(vk.grad(wrap(backward)), X)
    assert "inf" in found(wrap(vk.grad(backward)), X)
    assert "nan" in found(vk.vmap(forward), -np.stack([X, X]))
    assert "nan" in found(lambda x: vk.jvp(forward, (x,), (x,))[1], -X)


def test_what_is_discarded_is_no_error():
    f = lambda x: np.sum(np.where(x > 0, np.log(np.maximum(x, 0)), 0.0))
    assert vk.debug_nans(f)(X) == np.log(4.0)
    np.testing.assert_array_equal(vk.debug_nans(vk.grad(f))(X), [1, 0, 0.25])


def test_results_are_those_of_the_function():
    f = lambda p, n: {"a": np.exp(p["x"]) * n, "n": n + 1, "s": "text"}
    got = vk.debug_nans(f)({"x": X}, 3)
    np.testing.assert_array_equal(got["a"], np.exp(X) * 3)
    assert type(got["a"]) is np.ndarray
    assert got["n"] == 4
    assert got["s"] == "text"
    np.testing.assert_array_equal(vk.grad(vk.debug_nans(lambda x: np.sum(x * x)))(X), 2 * X)
    assert vk.debug_nans(inf=False)(np.sum)(X) == 5.0


def test_places_and_arguments():
    text = found(lambda x: (x, {"a": np.sqrt(x)}), np.array([-1.0]))
    assert re.search(r"the result at \[1\]\['a'\] is not finite", text)
    text = found(np.sum, np.array([np.nan]))
    assert "an argument, as it was given" in text


def test_loops():
    f = vk.jit(lambda x: vk.lax.scan(lambda c, v: (np.log(c - v), None), x, np.ones(3))[0])
    assert "scan" in found(f, np.array([2.0]))


def test_bad_input():
    with pytest.raises(TypeError, match=r"debug_nans: the first argument must be a function.*py:"):
        vk.debug_nans(3)
    kept: list[Any] = []

    def leaking(x):
        kept.append(x)
        return x

    vk.debug_nans(leaking)(X)
    with pytest.raises(RuntimeError, match=r"used after debug_nans\(leaking\) had finished"):
        kept[0] * 2
