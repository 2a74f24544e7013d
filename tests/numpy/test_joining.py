"""Joining, splitting, repeating, inserting, deleting and padding traced arrays."""

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
from tests.numpy.agreement import agrees
from vjpkit.testing import check_grads

_MODES = ["edge", "linear_ramp", "maximum", "mean", "median", "minimum"]
_MODES += ["reflect", "symmetric", "wrap"]

MOVES = [
    "np.concatenate([X, X])",
    "np.concatenate([X, 2 * X], axis=-1)",
    "np.concatenate([X, X], axis=None)",
    "np.concatenate(X)",
    "np.concat([X, X])",
    "np.concatenate([X, [1.0]])",
    "np.concatenate([X, np.ones((3, 4))])",
    "np.stack([X, X])",
    "np.stack([X, X], -1)",
    "np.stack([X, 1.0])",
    "np.stack(X)",
    "np.vstack([X, X])",
    "np.hstack([X, X])",
    "np.hstack(X)",
    "np.dstack([X, X])",
    "np.column_stack([X, X])",
    "np.vstack([X, np.ones((1, 4))])",
    "np.block([X, X])",
    "np.block([[X, X], [X, 2 * X]])",
    "np.block(X)",
    "np.block([[X, 1.0]])",
    "np.append(X, X)",
    "np.append(X, 2.0)",
    "np.append(X, [1.0, 2.0])",
    "np.append(np.arange(3), X)",
    "np.append(X, X, 1)",
    "np.insert(X, 1, 9.0)",
    "np.insert(X, [1, 1], [7.0, 8.0])",
    "np.insert(X, 0, 5.0, axis=0)",
    "np.insert(X, 1, X[..., 0], axis=-1)",
    "np.insert(X, slice(0, 2), 5.0)",
    "np.insert(X, [0, 2], 9.0, axis=1)",
    "np.insert(X, np.arange(X.size) == 2, 5.0)",
    "np.insert(X, [], [])",
    "np.insert(X, -1, [1.0, 2.0])",
    "np.delete(X, 1)",
    "np.delete(X, [0, 2])",
    "np.delete(X, 0, axis=0)",
    "np.delete(X, slice(None, None, 2))",
    "np.delete(X, slice(0, 1), -1)",
    "np.delete(X, np.arange(X.size) > 2)",
    "np.split(X, 1)",
    "np.split(X, [1, 2], -1)",
    "np.array_split(X, 2)",
    "np.array_split(X, np.array(2))",
    "np.split(X, np.array(2), axis=0)",
    "np.array_split(X, 3, axis=-1)",
    "np.array_split(X, [0, 1, 5])",
    "np.hsplit(X, 3)",
    "np.vsplit(X, [1])",
    "np.dsplit(X, 2)",
    "np.unstack(X)",
    "np.unstack(X, axis=-1)",
    "np.tile(X, 2)",
    "np.tile(X, (2, 1))",
    "np.tile(X, (2, 1, 1, 3))",
    "np.tile(X, 0)",
    "np.repeat(X, 2)",
    "np.repeat(X, 2, 0)",
    "np.repeat(X, 3, -1)",
    "np.repeat(X, np.arange(4), -1)",
    "np.repeat(X, [2])",
    "np.pad(X, 1)",
    "np.pad(X, ((1, 2),))",
    "np.pad(X, 1, constant_values=3.0)",
    "np.pad(X, 1, constant_values=-0.0)",
    "np.pad(X, (1, 0), constant_values=(3.0, 4.0))",
    "np.pad(X, 0)",
    "np.pad(X, {0: 1})",
    "np.pad(X, {-1: (1, 2)})",
    'np.pad(X, 2, mode="linear_ramp", end_values=(1.0, -1.0))',
    'np.pad(X, 2, mode="mean", stat_length=1)',
    'np.pad(X, 2, mode="maximum", stat_length=((1, 2),))',
    'np.pad(X, 3, mode="reflect", reflect_type="odd")',
    'np.pad(X, 3, mode="symmetric", reflect_type="odd")',
    'np.pad(X, 11, mode="reflect", reflect_type="odd")',
    'np.pad(X, (11, 2), mode="symmetric", reflect_type="odd")',
    *[f'np.pad(X, {width}, mode="{mode}")' for mode in _MODES for width in ("1", "(2, 0)", "7")],
]
DTYPES = [
    'np.concatenate([X, X], dtype="f4")',
    'np.concatenate([X, X], dtype="i4")',
    'np.concatenate([X, X], dtype="i4", casting="unsafe")',
    'np.stack([X, X], dtype="c16")',
    'np.vstack([X, X], dtype="c8")',
    "np.concatenate([X, 1j * X])",
]
REFUSED = [
    "np.concatenate([])",
    "np.concatenate([X, X], 7)",
    "np.concatenate([X, np.ones((7, 7))])",
    "np.concatenate([X, np.ones((7, 7, 7))], 1)",
    "np.stack([X, X], 9)",
    "np.stack([X, np.ones(7)])",
    "np.block([[X, 1.0], [X]])",
    "np.block([[], [X]])",
    "np.block((X, X))",
    "np.block([[X], X])",
    "np.append(X, 2.0, 0)",
    "np.insert(X, 99, 5.0)",
    "np.insert(X, [0, 99], 5.0)",
    "np.delete(X, 99)",
    "np.delete(X, 99, axis=0)",
    "np.delete(X, 0, axis=9)",
    "np.split(X, 7)",
    "np.array_split(X, 0)",
    "np.hsplit(np.sum(X), 1)",
    "np.vsplit(np.ravel(X), 1)",
    "np.dsplit(np.ravel(X), 1)",
    "np.unstack(np.sum(X))",
    "np.repeat(X, -1)",
    "np.repeat(X, [1, 2, 3, 4, 5, 6, 7])",
    "np.pad(X, -1)",
    "np.pad(X, 1.5)",
    'np.pad(X, 1, mode="foo")',
    'np.pad(X, 1, mode="edge", constant_values=1)',
    'np.pad(X, 2, mode="maximum", stat_length=0)',
    'np.pad(X, 2, mode="mean", stat_length=-1)',
]


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("code", [*MOVES, *DTYPES, *REFUSED])
def test_same_as_numpy(code: str, name: str):
    """To the bit, but for padding that computes means and ramps: that is to rounding."""
    assert_same_as_numpy(program(code), ARRAYS[name], 1e-15 if "pad" in code else 0.0)


@pytest.mark.filterwarnings("ignore:in the future insert:FutureWarning")  # before NumPy 2.2
@pytest.mark.parametrize("name", ["cube", "vector", "scalar"])
@pytest.mark.parametrize("code", MOVES)
def test_derivatives_staging_mapping(code: str, name: str):
    f, x = program(code), ARRAYS[name]
    if outcome(f, x)[1] is not None:
        return
    assert_linearized(f, x)
    staged(f, x)
    mapped(f, [x, 2 * x, x - 1])


def test_every_operand_is_differentiated():
    """What is inserted, appended, padded with."""
    x, y = ARRAYS["matrix"], np.array([0.3, -0.8])

    def f(x, y):
        padded = np.pad(x, 1, constant_values=y)
        ramped = np.pad(x, 2, mode="linear_ramp", end_values=y)
        inserted = np.insert(x, [1, 3], y, axis=1)
        appended = np.append(x, y)
        parts = (padded, ramped, inserted, appended, np.block([[x], [y[0] * np.ones((1, 4))]]))
        return sum(np.sum(np.sin(part) * part.size) for part in parts)

    check_grads(f, (x, y), 2)


def test_what_is_repeated_is_no_view():
    """NumPy's copies can be written to without changing what they were made of."""

    def f(x):
        for make in (np.tile, np.repeat):
            y = make(x, 3)
            y[0] = 100.0
        z = np.delete(x, 0)
        z[0] = 100.0
        return x

    assert_same_as_numpy(f, np.array([1.0, 2.0]))


def test_one_equation_each():
    """A pad with zeros and a roll are one equation, and so are their transposes."""
    for f in (lambda x: np.pad(x, 1), lambda x: np.roll(x, 1, 0), lambda x: np.stack([x, x])):
        assert len(vk.make_ir(f)(ARRAYS["matrix"]).program.equations) == 1
        _, pullback = vk.vjp(f, ARRAYS["matrix"])
        assert len(pullback.program.equations) <= 3


def test_padding_by_a_function_writes_to_each_line():
    def fill(line, widths, axis, options):
        line[: widths[0]] = options["scale"] * line[widths[0]]
        line[-widths[1] :] = line[-widths[1] - 1] * (axis + 1)

    x = ARRAYS["matrix"]
    agrees(lambda x: np.pad(x, 1, fill, scale=3.0), x)


def test_joining_many_scalars_is_one_row():
    """``np.stack`` of n traced scalars costs n rows for the scalars and one for the stack."""
    x = np.linspace(0.1, 1.0, 100)
    f = lambda x: np.stack([v * v for v in x])
    assert len(vk.make_ir(f)(x).program.equations) == 201
    np.testing.assert_allclose(vk.jacrev(f)(x), np.diag(2 * x), rtol=1e-15)


def test_what_is_inserted_follows_the_order_of_its_places():
    """Sorted, and among equal places in the order that they are given in."""
    x, v = np.arange(12.0).reshape(3, 4), np.array([0.1, 0.2, 0.3])
    for places in ([1, 3, 1], [3, 0, 0], [2, 1, 0], [-1, 0, -1]):
        for f in (
            lambda x, v, p=places: np.insert(x, p, v),
            lambda x, v, p=places: np.insert(x, p, v, axis=1),
            lambda x, v, p=places: np.insert(x, p, v[:, None], axis=0),
        ):
            for got in (vk.vjp(f, x, v)[0], vk.jit(f)(x, v), vk.vmap(f)(x[None], v[None])[0]):
                np.testing.assert_array_equal(got, f(x, v))
            vk.test_util.check_grads(f, (x, v), order=1)
