"""``x.at[index].set(values)`` and its kin against NumPy's in-place ways."""

import functools
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from tests.numpy.against_numpy import assert_linearized, mapped, staged
from vjpkit.core.errors import TracerConversionError
from vjpkit.numpy._at import At
from vjpkit.testing import check_grads

X = np.array([[0.3, -1.2, 2.5, 0.9], [1.7, 0.4, -0.6, 1.1], [0.2, 2.2, -1.4, 0.8]])
REPEATED = np.array([0, 2, 0, 1, 0])
INDICES: dict[str, Any] = {
    "integer": 1,
    "slice": np.s_[:, ::2],
    "negative": np.s_[::-1, -1],
    "new axis": np.s_[None, 1, ...],
    "mask": X > 0.5,
    "unique": np.array([2, 0]),
    "repeated": REPEATED,
    "pairs": (REPEATED, np.array([1, 1, 1, 3, 0])),
    "grid": np.ix_([0, 2], [1, 3]),
    "mixed": np.s_[:, [1, 1, 0]],
    "all": ...,
    "true": True,
}
WAYS: dict[str, Any] = {
    "set": None,
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "mul": np.multiply,
    "divide": np.divide,
    "power": np.power,
    "min": np.minimum,
    "max": np.maximum,
}


def numpys(way, x, index, values):
    """The same, written into a copy."""
    out = np.array(x)
    if way == "set":
        out[index] = values
    else:
        WAYS[way].at(out, index, values)
    return out


def values_for(index):
    shape = X[index].shape
    return 1.3 + np.linspace(0.1, 0.9, int(np.prod(shape))).reshape(shape)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", INDICES)
def test_values_and_derivatives(name: str, way: str):
    index = INDICES[name]
    x = np.abs(X) + 0.25 if way == "power" else X  # a real power needs a positive base
    index = INDICES["mask"] if name == "mask" else index
    values = values_for(index)
    f = lambda x, v: getattr(At(x)[index], way)(v)
    out, pullback = vk.vjp(f, x, values)
    np.testing.assert_allclose(out, numpys(way, x, index, values), rtol=1e-14)
    check_grads(f, (x, values), 2)
    np.testing.assert_allclose(vk.vjp(f, x, 2.0)[0], numpys(way, x, index, 2.0), rtol=1e-14)
    staged(lambda x: f(x, values), x)
    mapped(lambda x: vk.vjp(f, x, values)[0], [x, x + 0.1])


@pytest.mark.parametrize("name", INDICES)
def test_get_and_apply(name: str):
    index = INDICES[name]
    x = np.abs(X)
    np.testing.assert_array_equal(vk.vjp(lambda x: At(x)[index].get(), x)[0], x[index])
    wanted = x.copy()
    np.sqrt.at(wanted, index)
    f = lambda x: At(x)[index].apply(np.sqrt)
    np.testing.assert_allclose(vk.vjp(f, x)[0], wanted, rtol=1e-15)
    assert_linearized(f, x)


def test_the_spelling_and_that_the_array_itself_stays():
    assert vk.vjp(lambda x: x.at[0].set(7.0), np.ones(2))[0].tolist() == [7.0, 1.0]

    def f(x):
        y = At(x)[0].set(7.0)
        return x[0] + y[1]

    np.testing.assert_array_equal(vk.vjp(f, X)[0], X[0] + X[1])
    assert_linearized(f, X)


def test_of_several_values_the_last_stays():
    v = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    f = lambda x, v: At(x)[REPEATED, 0].set(v)
    ct = vk.vjp(f, X, v)[1](np.ones_like(X))
    np.testing.assert_array_equal(ct[1], [0, 1, 0, 1, 1])
    np.testing.assert_array_equal(ct[0][:, 0], [0, 0, 0])


def _read_with(index, mode, v):
    return At(v)[index].get(mode=mode, fill_value=0.0)


def test_out_of_bounds():
    """An error, as in NumPy; JAX's other ways are there by their names."""
    v = np.array([0.5, 1.0, 2.0, 3.0])
    with pytest.raises(IndexError, match="index 9 is out of bounds for axis 0 with size 4"):
        vk.grad(lambda v: At(v)[9].get())(v)
    at = lambda f: vk.vjp(f, v)[0]
    i = np.array([-1, 9, 1, -7])
    np.testing.assert_array_equal(at(lambda v: At(v)[i].get(mode="clip")), [3.0, 3.0, 1.0, 0.5])
    np.testing.assert_array_equal(at(lambda v: At(v)[i].get(mode="wrap")), v[i % 4])
    np.testing.assert_array_equal(
        at(lambda v: At(v)[i].get(mode="fill")), [3.0, np.nan, 1.0, np.nan]
    )
    np.testing.assert_array_equal(at(lambda v: At(v)[9].get(mode="fill", fill_value=-1.0)), -1.0)
    np.testing.assert_array_equal(at(lambda v: At(v)[i].set(9.0, mode="drop")), [0.5, 9, 2, 9])
    np.testing.assert_array_equal(at(lambda v: At(v)[i].add(1.0, mode="drop")), [0.5, 2, 2, 4])
    np.testing.assert_array_equal(at(lambda v: At(v)[i].mul(2.0, mode="clip")), [1, 2, 2, 12])
    np.testing.assert_array_equal(
        at(lambda v: At(np.stack([v, v]))[:, i].set(9.0, mode="drop")), [[0.5, 9, 2, 9]] * 2
    )
    for mode in ("clip", "wrap", "fill"):
        read = functools.partial(_read_with, i, mode)
        assert_linearized(read, v)
    with pytest.raises(TypeError, match="unknown keyword 'foo'"):
        vk.grad(lambda v: At(v)[0].get(mode="foo"))(v)
    with pytest.raises(TypeError, match="unknown keyword 'unsorted'"):
        vk.grad(lambda v: At(v)[0].get(unsorted=True))(v)


@pytest.mark.parametrize(
    "code",
    [
        "At(X)[i].set(X[:2])",
        "At(X)[i].add(np.sin(X[:2]))",
        "At(X)[i].mul(X[:2], unique_indices=True)",
        "At(X)[i].get()",
        'At(X)[i + 2].set(X[:2], mode="drop")',
    ],
)
def test_traced_indices(code: str):
    f = eval(f"lambda X, i: {code}", {"np": np, "At": At})
    x, i = np.array([0.5, 1.0, 2.0]), np.array([2, 0])
    at = lambda i: vk.vjp(lambda x: f(x, i), x)[0]
    gradient = lambda x, i: vk.grad(lambda x: np.sum(np.sin(f(x, i))))(x)
    np.testing.assert_array_equal(vk.make_ir(f)(x, i)(x, i)[0], at(i))
    staged_gradient = vk.make_ir(gradient)(x, i)
    np.testing.assert_allclose(staged_gradient(x, i)[0], gradient(x, i), rtol=1e-15)
    batched = vk.vmap(at)(np.stack([i, i[::-1]]))
    np.testing.assert_array_equal(batched[1], at(i[::-1]))


def test_an_index_that_is_not_known_needs_a_promise():
    """All but `set` and `add` must not address an element twice, or know that they do."""
    with pytest.raises(TracerConversionError, match="Pass unique_indices=True"):
        vk.make_ir(lambda x, i: At(x)[i].mul(2.0))(np.ones(3), np.array([2, 0]))


def test_dtypes_stay():
    x = np.ones(2, np.float32)
    assert vk.vjp(lambda x: At(x)[0].set(np.float64(2.0)), x)[0].dtype == np.float32
    assert vk.vjp(lambda x: At(x)[0].add(1), x)[0].dtype == np.float32
    with pytest.raises(TypeError, match="would drop its imaginary part"):
        vk.grad(lambda x: At(x)[0].set(x[0] * 1j).real)(x)
