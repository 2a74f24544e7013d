"""Shape, axes, layout and dtype of traced arrays are what they are of plain ones."""

import numpy as np
import pytest

import vjpkit as vk
from tests.numpy.against_numpy import (
    ARRAYS,
    assert_linearized,
    assert_same_as_numpy,
    mapped,
    outcome,
    program,
    staged,
    traced,
)
from vjpkit.core.errors import UnsupportedError

MOVES = [
    "np.ravel(X)",
    'np.ravel(X, "F")',
    "X.flatten()",
    'X.flatten("F")',
    "X.T",
    "np.squeeze(X)",
    "np.atleast_1d(X)",
    "np.atleast_2d(X)",
    "np.atleast_3d(X)",
    "np.atleast_2d(X, 2 * X)",
    "np.reshape(X, -1)",
    "X.reshape((-1, 1))",
    "X.reshape(1, -1)",
    'np.reshape(X, (-1, 1), order="F")',
    "np.reshape(X, -1, copy=True)",
    "np.expand_dims(X, 0)",
    "np.expand_dims(X, (0, -1))",
    "np.flip(X)",
    "np.flip(X, 0)",
    "np.fliplr(X)",
    "np.flipud(X)",
    "np.rot90(X)",
    "np.rot90(X, 2)",
    "np.rot90(X, 3, (1, 0))",
    "np.rot90(X, 4)",
    "np.roll(X, 1)",
    "np.roll(X, -2, 0)",
    "np.roll(X, (1, 2), (0, 1))",
    "np.roll(X, (1, 2), 0)",
    "np.moveaxis(X, 0, -1)",
    "np.moveaxis(X, [0, 1], [-1, 0])",
    "np.rollaxis(X, 1)",
    "np.rollaxis(X, 0, 2)",
    "np.swapaxes(X, 0, 1)",
    "X.swapaxes(0, -1)",
    "np.matrix_transpose(X)",
    "X.mT",
    "np.permute_dims(X)",
    "np.transpose(X, (1, 0))",
    "X.transpose(1, 0)",
    "X.transpose((1, 0, 2))",
    "X.transpose()",
    "np.broadcast_to(X, (2,) + X.shape)",
    "np.broadcast_to(X, X.shape)",
    "np.broadcast_arrays(X, np.ones((2, 1, 1)))",
    "np.resize(X, (2, 2))",
    "np.resize(X, 30)",
    "np.resize(X, ())",
    "np.copy(X)",
    'np.copy(X, "F")',
    "X.copy()",
    'X.copy("K")',
    "X.astype(X.dtype)",
    "X.astype(X.dtype, copy=False)",
]
REFUSED = [
    "np.reshape(X, (7, -1))",
    "np.reshape(X, (-1, -1))",
    "np.reshape(X, (2, -2))",
    'np.reshape(X, -1, order="K")',
    "np.expand_dims(X, 7)",
    "np.expand_dims(X, (0, 0))",
    "np.squeeze(X, 0)",
    "np.transpose(X, (0, 0))",
    "np.transpose(X, (0,))",
    "np.swapaxes(X, 0, 5)",
    "np.moveaxis(X, [0, 1], [0])",
    "np.rollaxis(X, 0, 9)",
    "np.broadcast_to(X, (7, 7))",
    "np.broadcast_arrays(X, np.ones(11))",
    "np.flip(X, 4)",
    "np.rot90(X, 1, (0, 0))",
    "np.rot90(X, 1, (0, 7))",
    "np.rot90(X, 1, (0, 1, 2))",
    "np.roll(X, [[1]], [[0]])",
    "np.resize(X, (-1,))",
    "np.matrix_transpose(np.ravel(X))",
    'X.astype("f2", casting="safe")',
    'np.astype(X, "f4", device="gpu")',
]
LAYOUT = ['np.ravel(X, "K")', 'np.ravel(X, "A")', 'np.reshape(X, -1, order="A")', "X.strides"]
DTYPES = ['X.astype("f4")', 'np.astype(X, "c16")', "X.astype(int)", "X.astype(bool)"]


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("code", [*MOVES, *REFUSED, *LAYOUT, *DTYPES])
def test_same_as_numpy(code: str, name: str):
    if (code, name) != ("X.mT", "scalar"):  # NumPy's scalars have no such attribute
        assert_same_as_numpy(program(code), ARRAYS[name])


@pytest.mark.parametrize("code", REFUSED)
def test_errors_are_numpys(code: str):
    """Not only the type: the text says the same."""
    _, wanted = outcome(program(code), ARRAYS["cube"])
    _, error = outcome(program(code), traced(ARRAYS["cube"]))
    assert str(error).split("   (")[0] == str(wanted)


@pytest.mark.parametrize("name", ["cube", "vector", "scalar"])
@pytest.mark.parametrize("code", MOVES)
def test_derivatives_staging_mapping(code: str, name: str):
    f, x = program(code), ARRAYS[name]
    if outcome(f, x)[1] is not None:
        return
    assert_linearized(f, x)
    staged(f, x)
    mapped(f, [x, 2 * x, x - 1])


def test_a_shift_that_is_traced():
    f = lambda x, n: np.roll(x, n, (0, 1))
    x, n = ARRAYS["matrix"], np.array([1, -2])
    np.testing.assert_array_equal(vk.make_ir(f)(x, n)(x, n)[0], f(x, n))


@pytest.mark.parametrize("code", ['np.ravel(X, "K")', 'np.reshape(X, -1, order="A")'])
def test_memory_order_is_not_known_while_staging(code: str):
    with pytest.raises(UnsupportedError, match=r"memory layout.*\n.*order='C'"):
        vk.make_ir(program(code))(ARRAYS["matrix"])


def test_complex_to_real_warns_as_numpy_does():
    f = lambda z: np.sum(z.astype(float))
    with pytest.warns(np.exceptions.ComplexWarning, match="discards the imaginary part"):
        ct = vk.grad(f)(ARRAYS["complex"])
    np.testing.assert_array_equal(ct, np.ones((3, 4), complex))


def test_casting_to_text_and_objects():
    x = traced(np.array([0.5, 1.5]))
    assert x.astype(str).tolist() == ["0.5", "1.5"]
    assert [e.concrete() for e in x.astype(object)] == [0.5, 1.5]


def test_views_reach_the_array():
    """Writing to what NumPy makes a view writes to the array, and to what it copies does not."""

    def f(x):
        y = np.copy(x)
        np.reshape(y, -1)[0] = 7.0
        y.T[1, 0] *= 3.0
        np.swapaxes(y, 0, 1)[0, 2] = x[0, 0]
        np.ravel(y[:, ::2])[:] = 0.0
        y.flatten()[:] = 0.0
        np.tile(y, 1)[:] = 0.0
        np.repeat(y, 1, 0)[:] = 0.0
        return y

    assert_same_as_numpy(f, ARRAYS["matrix"])
    assert_linearized(f, ARRAYS["matrix"])


def test_shapes_and_axes_may_be_arrays():
    x = np.arange(6.0).reshape(2, 3)

    def f(x):
        y = np.transpose(np.reshape(x, np.array([3, 2])), np.array([1, 0]))
        return np.broadcast_to(y, np.array([4, 2, 3]))

    np.testing.assert_array_equal(vk.vjp(f, x)[0], f(x))
    np.testing.assert_array_equal(vk.jit(f)(x), f(x))
