"""What NumPy says about traced arrays: shapes, dtypes, memory, text."""

import numpy as np
import pytest

import vjpkit as vk
from tests.numpy.against_numpy import ARRAYS, assert_same_as_numpy, program

QUERIES = [
    "np.shape(X)",
    "np.ndim(X)",
    "np.size(X)",
    "np.size(X, 0)",
    'np.result_type(X, "f4")',
    "np.result_type(X, 1.0)",
    "np.result_type(X, 1j)",
    'np.can_cast(X, "f4")',
    "np.min_scalar_type(X)",
    "np.common_type(X)",
    "np.array_repr(X)",
    "np.array_str(X)",
    "np.array2string(X, precision=2)",
    'np.array2string(X, separator=", ", formatter={"float_kind": lambda v: "%.1f" % v})',
    "np.shares_memory(X, X[...])",
    "np.may_share_memory(X.T, X)",
    "np.shares_memory(X, np.ones(3))",
    "len(X)",
    "X.shape, X.ndim, X.size, X.dtype, X.itemsize, X.nbytes",
]


@pytest.mark.parametrize("name", [n for n in ARRAYS if n != "scalar"])
@pytest.mark.parametrize("code", QUERIES)
def test_same_as_numpy(code: str, name: str):
    assert_same_as_numpy(program(code), ARRAYS[name])


def test_a_python_number_stays_weak():
    seen = []

    def f(x):
        seen.append(np.result_type(x, np.float32))
        return x * 1.0

    vk.grad(f)(2.0)
    vk.make_ir(f)(2.0)
    assert seen == [np.float32, np.float32]


def staged_answer(question):
    """What a function is told about an argument whose value is not known."""
    answers = []

    def f(x):
        answers.append(question(x))
        return x

    vk.make_ir(f)(np.ones(3))
    return answers[0]


def test_abstract_values_print_what_is_known():
    assert staged_answer(np.array_str) == "Traced<f64[3]>"


def test_unknown_memory_is_shared_with_nothing():
    assert staged_answer(lambda x: np.shares_memory(x, np.ones(3))) is False
