"""Reading along axes, diagonals and triangles, grids, windows of traced arrays."""

import inspect

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
)
from vjpkit.core.errors import TracerConversionError

MOVES = [
    "np.take(X, 0)",
    "np.take(X, [0, 1])",
    "np.take(X, [[0, 1], [1, 0]], axis=0)",
    "np.take(X, -1, axis=-1)",
    'np.take(X, [0, 99], mode="wrap")',
    'np.take(X, [-5, 99], mode="clip")',
    "np.take(X, [])",
    "X.take([0])",
    "np.take(X, np.int8(0))",
    "np.take_along_axis(X, np.zeros((1,) * X.ndim, int), 0)",
    "np.take_along_axis(X, np.array([0]), None)",
    "np.diag(X)",
    "np.diag(X, 1)",
    "np.diag(X, -2)",
    "np.diagflat(X)",
    "np.diagflat(X, 1)",
    "np.diagonal(X)",
    "np.diagonal(X, 1)",
    "np.diagonal(X, 0, 1, 2)",
    "np.diagonal(X, -1, 2, 0)",
    "X.diagonal()",
    "np.trace(X)",
    "np.trace(X, 1, 2, 0)",
    "X.trace()",
    "np.tril(X)",
    "np.tril(X, 1)",
    "np.triu(X, -1)",
    "np.meshgrid(X, X)",
    'np.meshgrid(X, [1.0, 2.0], indexing="ij")',
    "np.meshgrid(X, X, X, sparse=True)",
    "np.meshgrid(X, X, copy=False)",
    "np.meshgrid(X)",
    "np.apply_along_axis(np.sum, 0, X)",
    "np.apply_along_axis(lambda r: r[::-1] * 2, -1, X)",
    "np.apply_along_axis(lambda r: r[:, None] * r, 1, X)",
    "np.apply_over_axes(np.sum, X, [0, -1])",
]
PLAIN = [
    "np.trim_zeros(np.ravel(X))",
    "np.trim_zeros(X * (X > 0), axis=-1)",
    'np.trim_zeros(X * (X > 0), "f", axis=0)',
    "np.ix_(X)",
    "np.tril_indices_from(X)",
    "np.triu_indices_from(X, 1)",
    "np.diag_indices_from(X)",
    "np.take(X, [True, False])",
]
REFUSED = [
    "np.take(X, 99)",
    "np.take(X, [0, 99], axis=0)",
    "np.take(X, 0, axis=9)",
    'np.take(X, 0, mode="foo")',
    "np.take(X, np.array([1.5]))",
    "np.take_along_axis(X, np.array([0.0]), None)",
    "np.take_along_axis(X, np.zeros((1, 1, 1, 1), int), axis=0)",
    "np.diag(np.ones((2, 2, 2)) * np.sum(X))",
    "np.diagonal(X, 0, 0, 0)",
    "np.diagonal(X, 0, 0, 5)",
    'np.meshgrid(X, X, indexing="zz")',
    "np.apply_along_axis(np.sum, 5, X)",
]
if "axis" in inspect.signature(np.trim_zeros).parameters:  # before NumPy 2.2, vectors only
    PLAIN += ["np.trim_zeros(X)"]
    REFUSED += ['np.trim_zeros(X, "z")']


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("code", [*MOVES, *PLAIN, *REFUSED])
def test_same_as_numpy(code: str, name: str):
    assert_same_as_numpy(program(code), ARRAYS[name])


@pytest.mark.parametrize("name", ["cube", "vector", "matrix"])
@pytest.mark.parametrize("code", MOVES)
def test_derivatives_staging_mapping(code: str, name: str):
    f, x = program(code), ARRAYS[name]
    if outcome(f, x)[1] is not None:
        return
    assert_linearized(f, x)
    staged(f, x)
    mapped(f, [x, 2 * x, x - 1])


def test_windows():
    """NumPy's windows share memory; ours have the same elements, each read once per window."""
    view = np.lib.stride_tricks.sliding_window_view
    x = ARRAYS["cube"]
    for f in (
        lambda x: view(x, 2, axis=1),
        lambda x: view(x, (2, 3), axis=(1, 2)),
        lambda x: view(x, (1, 2, 2)),
    ):
        np.testing.assert_array_equal(vk.vjp(f, x)[0], f(x))
        assert_linearized(f, x)
        mapped(f, [x, 2 * x])


def test_traced_places():
    """Integer arrays that are arguments of a program, and batched ones."""
    x, places = ARRAYS["matrix"], np.array([[2, 0, 1, -1], [0, 0, 2, 1]])
    for f in (
        lambda x, i: np.take(x, i, 0),
        lambda x, i: np.take(x, i, 1, mode="wrap"),
        lambda x, i: np.take_along_axis(x, i, 0),
    ):
        np.testing.assert_array_equal(vk.make_ir(f)(x, places)(x, places)[0], f(x, places))
        gradient = lambda x, i, f=f: vk.grad(lambda x: np.sum(np.sin(f(x, i))))(x)
        batched = vk.vmap(gradient, in_axes=(None, 0))(x, np.stack([places, places[::-1]]))
        np.testing.assert_allclose(batched[0], gradient(x, places), rtol=1e-15)
        np.testing.assert_allclose(batched[1], gradient(x, places[::-1]), rtol=1e-15)


def test_places_out_of_bounds_are_numpys_error_at_run_time():
    program = vk.make_ir(lambda x, i: np.take(x, i, 1))(np.ones((3, 4)), 0)
    with pytest.raises(IndexError, match="index 9 is out of bounds for axis 1 with size 4"):
        program(np.ones((3, 4)), 9)


def test_unknown_values_are_named():
    with pytest.raises(TracerConversionError, match=r"np.trim_zeros: what it returns depends on"):
        vk.make_ir(np.trim_zeros)(np.ones(3))
