"""check_rule finds what is wrong with a primitive, and says so."""

import re
from typing import Any

import numpy as np
import pytest

from vjpkit.core.aval import Aval
from vjpkit.core.primitive import PRIMITIVES, Sample
from vjpkit.kinds import Bilinear, Linear
from vjpkit.test_util import check_rule
from vjpkit.testing.case import cases_of, samples_of
from vjpkit.testing.laws import LAWS

X = np.array([0.3, -1.2, 2.5])


class flip3(Linear):
    """The first axis reversed: its own transpose."""

    impl = staticmethod(lambda x: x[::-1])

    def transpose(self, ct, shape, dtype, *fixed, **params):
        return self(ct)

    def abstract(self, *avals, **params):
        return avals[0]

    def batch(self, n, values, batched):
        (x,) = values
        return x[:, ::-1]

    def samples(self):
        return Sample(X), Sample(np.ones((2, 3)))


class outer3(Bilinear):
    """The outer product of two vectors."""

    impl = staticmethod(np.multiply.outer)

    def transpose_x(self, ct, y, shape, dtype, **params):
        return np.matmul(ct, y).astype(dtype)

    def transpose_y(self, ct, x, shape, dtype, **params):
        return np.matmul(x, ct).astype(dtype)

    def abstract(self, *avals, **params):
        x, y = avals
        return Aval(x.shape + y.shape, np.result_type(x.dtype, y.dtype))

    def batch(self, n, values, batched):
        x, y = values
        x = x[:, :, None] if batched[0] else x[:, None]
        return x * (y[:, None, :] if batched[1] else y)

    def samples(self):
        return (Sample(X, X[:2] + 1),)


@pytest.fixture
def registered(monkeypatch):
    """Enter a primitive of a test's own for the time of the test."""

    def register(cls):
        primitive = cls()
        monkeypatch.setitem(PRIMITIVES, primitive.name, primitive)
        return primitive

    return register


def broken(cls, **methods):
    """The class with some rules replaced."""
    return type(cls.__name__, (cls,), methods)


@pytest.mark.parametrize("cls", [flip3, outer3])
def test_right_rules_pass(cls, registered):
    check_rule(registered(cls))


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "sign of a transpose": (flip3, {"transpose": lambda self, ct, *_: -self(ct)}, "duality"),
    "identity for a transpose": (flip3, {"transpose": lambda self, ct, *_: ct}, "duality"),
    "shape of a cotangent": (flip3, {"transpose": lambda self, ct, *_: ct.sum()}, "duality"),
    "inferred shape": (flip3, {"abstract": lambda self, x: Aval(x.shape[:1], x.dtype)}, "dtypes"),
    "inferred dtype": (
        outer3,
        {"abstract": lambda self, x, y: Aval(x.shape + y.shape, x.dtype)},
        "dtypes",
    ),
    "dtype of a cotangent": (
        outer3,
        {"transpose_x": lambda self, ct, y, *_: np.matmul(ct, y)},
        "dtypes",
    ),
    "batched axis": (flip3, {"batch": lambda self, n, values, batched: values[0][::-1]}, "batch"),
    "declared linearity": (outer3, {"linear_in": lambda self, mask, params: True}, "linear"),
    "undeclared linearity": (flip3, {"linear_in": lambda self, mask, params: False}, "linear in"),
    "values": (flip3, {"__call__": lambda self, x: x}, "value"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rules_are_found(name, registered):
    cls, methods, law = WRONG[name]
    primitive = registered(broken(cls, **methods))
    with pytest.raises(AssertionError) as raised:
        check_rule(primitive)
    text = str(raised.value)
    assert re.match(rf"{cls.__name__} breaks \d+ laws?:\n", text)
    assert law in text


def test_a_rule_that_writes_to_an_operand_is_found(registered):
    def impl(x):
        x[...] = x[::-1].copy()
        return x

    with pytest.raises(AssertionError, match=r"flip3\[0\], .*: ValueError: .*read-only"):
        check_rule(registered(broken(flip3, impl=staticmethod(impl))))


def test_a_message_names_sample_and_element(registered):
    primitive = registered(broken(flip3, transpose=lambda self, ct, *_: 2 * self(ct)))
    wanted = r"flip3\[0\], duality: flip3: f64\[3\]: operands \(0,\) traced: <J' ct, t>.* off by "
    with pytest.raises(AssertionError, match=wanted):
        check_rule(primitive)


def test_no_samples_is_a_failure(registered):
    with pytest.raises(AssertionError, match="flip3: no samples"):
        check_rule(registered(broken(flip3, samples=lambda self: ())))


def test_exemptions(registered):
    wrong = broken(flip3, transpose=lambda self, ct, *_: -self(ct))
    held = {"value", "pure", "text", "dtypes", "jvp", "analytic", "zeros", "annihilation", "linear"}
    check_rule(
        registered(broken(wrong, exempt=dict.fromkeys(set(LAWS) - held, "wrong on purpose")))
    )
    with pytest.raises(AssertionError, match="duality"):
        check_rule(registered(broken(wrong, exempt={"duality:complex": "one variant is not all"})))


def test_cases_are_varied():
    add = PRIMITIVES["add"]
    labels = {case.label for case in cases_of(add)}
    assert {"0", "0-complex", "0-empty", "0-scalar", "0-0d", "0-number0", "0-number1"} <= labels
    assert all(not x.flags.writeable for c in cases_of(add) for x in c.operands if np.ndim(x))


def test_locally_constant_ufuncs_get_samples():
    assert samples_of(PRIMITIVES["less"])
    kinds = {str(x.dtype) for s in samples_of(PRIMITIVES["bitwise_or"]) for x in s.operands}
    assert kinds == {"bool"}
