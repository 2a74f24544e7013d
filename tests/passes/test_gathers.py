"""Elements at index arrays that occur twice are read and added by their flat positions."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.ir import check
from vjpkit.passes import optimize

X = np.random.default_rng(0).normal(size=(4, 5))
ROWS, COLUMNS = np.array([[0, 3, -1], [3, 0, 3]]), np.array([1, -5, 4])


def read(x, rows, columns):
    y = x[rows, columns]
    return np.sum(np.sin(y) * y * y)


READS: dict[str, Any] = {
    "read and read": lambda x, r, c: np.sum(x[r, c] * np.sin(x)[r, c]),
    "read and added": vk.value_and_grad(read),
    "added twice": vk.grad(lambda x, r, c: read(x, r, c) + read(x, r[0][:, None], c)),
    "three axes": vk.grad(lambda x, r, c: np.sum(x.reshape(4, 5, 1)[r, c, 0 * r] ** 3)),
}
OTHERS: dict[str, Any] = {
    "once": lambda x, r, c: np.sum(x[r, c]),
    "a slice": vk.value_and_grad(lambda x, r, c: np.sum(x[r] ** 2)),
    "one axis": vk.value_and_grad(lambda x, r, c: np.sum(x[0][c] ** 2)),
    "second derivatives": vk.hessian(read),
    "batched": vk.vmap(vk.grad(read), in_axes=(None, 0, None)),
    "truth values": vk.value_and_grad(lambda x, r, c: np.sum(x[X > 0.0] ** 2)),
}


def names(f: Any, *values: Any) -> list[str]:
    program = optimize(vk.make_ir(f)(*values).program)
    check(program)
    return [eqn.primitive.name for eqn in program.equations]


def same(f: Any, *values: Any) -> None:
    got, want = vk.jit(f, backend="numpy")(*values), f(*values)
    vk.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-12, 1e-12), got, want)


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("dtype", ["i8", "i2"])
def test_positions_are_shared(name, dtype):
    values = X, ROWS.astype(dtype), COLUMNS.astype(dtype)
    assert "positions" in names(READS[name], *values)
    same(READS[name], *values)


@pytest.mark.parametrize("name", OTHERS)
def test_others_stay_as_they_are(name):
    assert "positions" not in names(OTHERS[name], X, ROWS, COLUMNS)
    same(OTHERS[name], X, ROWS, COLUMNS)


def test_one_pair_of_arrays_has_one_array_of_positions():
    found = names(READS["read and added"], X, ROWS, COLUMNS)
    assert found.count("positions") == 1
    assert found.count("scatter_sum") == 1


@pytest.mark.parametrize(("rows", "columns"), [(ROWS + 4, COLUMNS), (ROWS, COLUMNS - 5)])
def test_an_index_out_of_bounds_is_numpys_error(rows, columns):
    run = vk.jit(READS["read and added"], backend="numpy")
    with pytest.raises(IndexError) as found:
        run(X, rows, columns)
    with pytest.raises(IndexError) as wanted:
        X[rows, columns]
    assert str(found.value).splitlines()[0] == str(wanted.value)


def test_no_elements():
    none = np.zeros((0, 3), int)
    same(READS["read and added"], X, none, COLUMNS)
    same(vk.value_and_grad(read), X[:0], none, none)
