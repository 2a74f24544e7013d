"""ndarray's methods and attributes on traced arrays."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
import vjpkit.numpy as vnp
from tests.numpy.against_numpy import (
    ARRAYS,
    assert_linearized,
    assert_same_as_numpy,
    program,
    traced,
)
from vjpkit.core.errors import TracerConversionError, UnsupportedError
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._memory import Flags

CALLS = [
    "X.T",
    "X.flat[1:3]",
    "X.flat[0]",
    "X.flat[::-1]",
    "X.flat.copy()",
    "list(X.flat)",
    "len(X.flat)",
    "list(X)",
    "[v for v in X]",
    "X.view()",
    "X.device",
    'X.to_device("cpu")',
    'X.to_device("gpu")',
    'X.to_device("cpu", stream=1)',
    "copy.copy(X)",
    "copy.deepcopy([X])",
    "X.repeat(2)",
    "X.take([0, 1])",
    "X.dot(X.T)",
    "X.trace()",
    "X.diagonal(1)",
    "X.squeeze()",
    "X.tolist()",
    "X.item()",
    "X.item(0)",
    "X.item(1, 2)",
    "X.item((0, 0, 0))",
    "X.item(99)",
    "X.swapaxes(0)",
    "len(X)",
    "1.0 in X",
    "X[0, 0] in X",
    'X.reshape(2, -1, order="F")',
    'X.transpose("a")',
]


@pytest.mark.parametrize("name", [n for n in ARRAYS if n != "scalar"])
@pytest.mark.parametrize("code", CALLS)
def test_same_as_numpy(code: str, name: str):
    f = program(code)
    f.__globals__["copy"] = copy
    if "dot" in code:
        assert_same_as_numpy(f, ARRAYS[name], 1e-6)  # BLAS may sum in another order
    else:
        assert_same_as_numpy(f, ARRAYS[name])


def test_unpacking_and_iterating():
    def f(x):
        a, (b, *rest) = x
        return a[0] * b + sum(v * v for v in rest) + np.sum(np.stack(list(x)))

    x = np.array([[0.3, 0.5, 0.7], [1.1, 1.3, 1.7]])
    assert_linearized(f, x)
    with pytest.raises(TypeError, match="iteration over a 0-d array"):
        vk.grad(lambda x: sum(x))(np.array(1.0))


def test_item_is_a_number_that_keeps_its_derivative():
    """A Python number does not decide dtypes; neither does what ``item`` gives."""
    x = np.array([0.5, 2.0])

    def f(x):
        return x[1].item() * np.ones(2, np.float32) * x.tolist()[0]

    assert f(x).dtype == np.float32
    out, pullback = vk.vjp(f, x)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(pullback(np.array([1.0, 1.0], np.float32))[0], [4.0, 1.0])
    np.testing.assert_array_equal(vk.jacfwd(f)(x), [[2.0, 0.5], [2.0, 0.5]])
    staged = vk.make_ir(f)(x)(x)[0]
    assert staged.dtype == np.float32
    np.testing.assert_array_equal(staged, f(x))


def test_writing_methods():
    def f(x):
        y = np.copy(x)
        y.put([0, 5], x[1, :2])
        z = y.copy()
        z.fill(x[0, 1])
        z.flat[::2] = np.sin(x).ravel()[:3]
        z.flat[1] = 2.0
        return y * z

    x = np.array([[0.3, 0.5, 0.7], [1.1, 1.3, 1.7]])
    assert_same_as_numpy(f, x)
    assert_linearized(f, x)
    with pytest.raises(ValueError, match="setting an array element with a sequence"):
        vk.grad(lambda x: np.copy(x).fill(x))(x)


@pytest.mark.parametrize(
    "values",
    [lambda x: 2 * x, lambda x: x[0, :2], lambda x: x[1, 1], lambda x: 1.5,
     lambda x: np.append(x, x)],
    ids=["all", "short", "one", "constant", "long"],
)  # fmt: skip
def test_flat_is_assigned_again_and_again(values):
    """What is too short is repeated, what is too long is cut."""

    def f(x):
        y = np.exp(x)
        y.flat = values(x)
        return x * y

    x = np.array([[0.3, 0.5, 0.7], [1.1, 1.3, 1.7]])
    assert_same_as_numpy(f, x)
    assert_linearized(f, x)


@pytest.mark.parametrize(
    "code",
    [
        "X.tobytes()",
        'X.tofile("f")',
        "X.dumps()",
        "X.__dlpack__()",
        "float(X[0])",
        "complex(X[0])",
    ],
)
def test_plain_bytes_and_numbers_would_lose_the_derivative(code: str):
    with pytest.raises(
        TracerConversionError, match=r"would lose its derivative.*\n.*stop_gradient"
    ):
        vk.grad(program(code))(np.ones(2))


@pytest.mark.parametrize(
    "code",
    ['X.view("i8")', "X.view(type=np.ndarray)", "X.byteswap()", "X.resize(4)", "X.setflags()"],
)
def test_memory_cannot_be_reinterpreted(code: str):
    with pytest.raises(UnsupportedError, match=r"traced value of f64\[2\].*\nUse "):
        vk.grad(program(code))(np.ones(2))


def test_a_view_is_written_through():
    def f(x):
        y = np.copy(x)
        y.view()[0] = x[1] * 2
        return y

    assert_same_as_numpy(f, np.array([1.0, 2.0]))


def test_the_array_api_standard():
    x = traced(np.ones(2))
    xp = x.__array_namespace__()
    assert xp is vnp.array_api
    assert x.__array_namespace__(api_version="2023.12") is vnp.array_api
    with pytest.raises(ValueError, match="not supported"):
        x.__array_namespace__(api_version="1999.12")
    assert xp.__array_namespace_info__().default_device() == "cpu"

    def softmax(x):
        """Written against the standard: of whatever array it is given."""
        xp = x.__array_namespace__()
        e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
        return e / xp.sum(e, axis=-1, keepdims=True)

    assert_linearized(softmax, np.array([[0.1, 0.7], [0.3, -0.2]]))


def test_a_traced_array_has_no_hash_and_cannot_be_pickled():
    x = traced(np.ones(2))
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(x)


def test_every_method_of_an_array_is_there():
    """What ndarray has and a tracer has not, named here one by one."""
    # Some names that NumPy has removed stay in `dir` and raise; `tostring` is deprecated.
    x = np.empty((1, 1))
    public = {name for name in dir(x) if not name.startswith("_") and hasattr(x, name)}
    missing = {name for name in public if not hasattr(Tracer, name)} - {"tostring"}
    # Addresses, which a traced array does not have; in their place: np.copy, stop_gradient.
    assert missing == {"ctypes", "data"}


VIEWS = {
    "itself": lambda x: x,
    "transposed": lambda x: x.T,
    "rows": lambda x: x[1:],
    "columns": lambda x: x[:, ::2],
    "one element": lambda x: x[:1, :1],
    "view of a view": lambda x: x[1:].T[::-1],
    "reshaped": lambda x: x.reshape(3, 2),
    "diagonal": lambda x: np.diagonal(x),
    "broadcast": lambda x: np.broadcast_to(x, (2, 2, 3)),
    "chosen": lambda x: x[[0, 1]],
    "scalar": lambda x: x[0, 0],
    "computed": lambda x: x.T + 1,
}


@pytest.mark.parametrize("f", VIEWS.values(), ids=list(VIEWS))
def test_flags_and_bases_are_numpys(f):
    def facts(x):
        x = x * 2
        y = f(x)
        known = [
            getattr(y.flags, name) for name in vars(Flags) if name.islower() and name[0] != "_"
        ]
        letters = [
            y.flags[k] for k in ("C", "F", "OWNDATA", "W", "ALIGNED", "FORC", "CA", "FA", "B")
        ]
        return repr(y.flags), known, letters, y.base is None, y.base is x

    x, seen = np.ones((2, 3)), list[Any]()

    def program(x):
        seen.append(facts(x))
        return x

    vk.vjp(program, x)
    vk.vmap(program)(x[None])
    assert seen == [facts(x), facts(x)]


def test_what_an_array_says_of_itself_is_not_set():
    def assigned(x, name, value):
        target = x.flags if name == "writeable" else x
        setattr(target, name, value)
        return x

    for name, value in {"shape": 6, "dtype": np.float32, "strides": (8, 8), "writeable": 0}.items():
        for run in (vk.vjp, vk.eval_shape, lambda f, x: vk.vmap(f)(x[None])):
            with pytest.raises(UnsupportedError, match=r"cannot be set.*\n[A-Z]"):
                run(lambda x, n=name, v=value: assigned(x, n, v), np.ones((2, 3)))
    with pytest.raises(KeyError, match="Unknown flag"):
        traced(np.ones(2)).flags["no flag"]


def test_the_layout_of_a_staged_array_is_not_known():
    for f in (lambda x: x.flags.c_contiguous, lambda x: x.strides):
        with pytest.raises(AttributeError, match="not known while it is staged"):
            vk.eval_shape(f, np.ones(2))
