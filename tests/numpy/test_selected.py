"""Masks whose values are not known: writes and reads as NumPy has them, staged and mapped."""

import operator
import warnings
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
import vjpkit.numpy as vnp
from vjpkit.core.errors import TracerConversionError, UnsupportedError
from vjpkit.test_util import check_grads


def assigned(x):
    y = np.copy(x)
    y[y > 0] = 5.0
    return y


def scaled(x):
    y = np.copy(x)
    y[y > 0] *= 2.0
    y[(y < 0) & (x > -2)] += 1
    return y


def logarithms(x):
    y = np.copy(x)
    y[y > 0] = np.log(y[y > 0]) * x[y > 0]
    return y


def through_views(x):
    y = np.copy(x)
    mask, tail = y > 0, y[1:]
    tail[mask[1:]] = -1.0
    y[mask] = np.sqrt(x[mask]) + np.exp(-x[mask])
    return tail * y[:-1]


def rows(x):
    y = np.outer(x, x)
    mask = y[:, 0] > 0
    y[mask] *= np.arange(1.0, 1.0 + len(x))
    y[mask] = y[mask] / (1 + y[mask] ** 2)
    y[mask] = np.ones((1, len(x))) * x[0]
    return y


def into_zeros(x):
    y = vnp.zeros(len(x))
    y[x > 0] = x[x > 0] ** 2
    y[x[0] > 0] = y + 1
    return y


def put(x):
    y = np.copy(x)
    np.putmask(y, y > 0, [1.0, 2.0])
    np.place(y, x < 0, x[:2] * 3)
    return y


def totals(x):
    kept = x[x > 0]
    return (
        np.std(kept) * kept.var(ddof=1)
        + np.sum(kept**2)
        + x[x < 0].mean()
        + np.prod(x[x > 1]) * kept.any()
        + np.all(kept > 0)
    )


def compressed(x):
    y = np.outer(x, x)
    kept = np.compress(x, y, axis=1)
    return np.sum(np.extract(y > 1, y)) + kept.mean() + np.sum(np.compress(x > 0, x) ** 2)


def sums_of_rows(x):
    y = np.outer(x, x)
    return np.sum(y[x > 0], axis=0) + y[x > 0].mean(0) + y[x > 0].mean()


PROGRAMS = {
    f.__name__: f
    for f in (
        assigned,
        scaled,
        logarithms,
        through_views,
        rows,
        into_zeros,
        put,
        totals,
        compressed,
        sums_of_rows,
    )
}
X = np.array([1.5, -2.5, 3.0, -0.5])


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    f = PROGRAMS[name]
    total = lambda x: np.sum(f(x) ** 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is computed of what is not selected
        for transform in (lambda g: g, vk.grad, vk.hessian):
            want = transform(total)(X)
            np.testing.assert_allclose(vk.jit(transform(total))(X), want, 1e-13, 1e-13)
            np.testing.assert_allclose(transform(vk.jit(total))(X), want, 1e-13, 1e-13)
            each = vk.vmap(transform(total))(np.stack([X, X[::-1]]))
            np.testing.assert_allclose(each, [want, transform(total)(X[::-1])], 1e-13, 1e-13)
        assert vk.jit(f)(X).dtype == f(X).dtype
        np.testing.assert_allclose(vk.vmap(f)(X[None])[0], f(X), 1e-14)
    check_grads(vk.jit(total), (X,), 2)


def test_what_is_assigned_takes_the_dtype():
    def f(x):
        y = np.array([1, 2, 3]) + 0 * x.astype(int)
        y[y > 1] = 7.9
        return y

    x = np.zeros(3)
    np.testing.assert_array_equal(vk.jit(f)(x), [1, 7, 7])
    assert vk.jit(f)(x).dtype == np.int64


def test_what_is_selected_is_written_back_by_the_same_mask_alone():
    def moved(x):
        y = np.copy(x)
        mask = y > 0
        y[:2] = 0.0
        y[y > 0] = x[mask]  # another mask, as y has changed
        return y

    for f in (moved, lambda x: x[x > 0] + x[x < 0]):
        with pytest.raises(UnsupportedError, match="how many elements a mask"):
            vk.jit(f)(X)


BAD: dict[str, Any] = {
    "shape": (lambda x: x[x > 0].shape, TracerConversionError, "depends on its values"),
    "len": (lambda x: len(x[x > 0]), TracerConversionError, "Use np.where"),
    "list": (lambda x: list(x[x > 0]), TracerConversionError, "Use np.where"),
    "diff": (lambda x: np.diff(x[x > 0]), UnsupportedError, "np.diff is not supported"),
    "argmax": (lambda x: np.argmax(x[x > 0]), UnsupportedError, "np.argmax is not supported"),
    "index": (lambda x: x[x > 0][0], UnsupportedError, "an index of .*how many elements a mask"),
    "loop": (lambda x: sum(x[x > 0]), TracerConversionError, "Use np.where"),
    "part": (lambda x: x[x > 0].__setitem__(0, 1.0), UnsupportedError, "an assignment to"),
    "nonzero": (lambda x: np.nonzero(x > 0), TracerConversionError, r"mask itself, y\[x != 0\]"),
    "where": (lambda x: np.where(x > 0)[0], TracerConversionError, "index with the mask itself"),
    "argwhere": (lambda x: np.argwhere(x), TracerConversionError, "np.argwhere: how many"),
    "short": (lambda x: np.compress(x[1:] > 0, x), TracerConversionError, "np.compress: how many"),
    "accumulate": (lambda x: np.add.accumulate(x[x > 0]), UnsupportedError, "np.add.accumulate"),
    "initial": (lambda x: np.sum(x[x > 0], initial=1.0), UnsupportedError, r"\['initial'\]"),
    "order": (lambda x: np.linalg.norm(x[x > 0], 3), UnsupportedError, "norm of 1 axis with ord=3"),
    "matmul": (lambda x: x[x > 0] @ np.ones((3, 2)), UnsupportedError, "other than two vectors"),
    "attribute": (lambda x: x[x > 0].T, AttributeError, "has no attribute 'T'"),
    "matrix": (lambda x: x[x > 0] * x[None], UnsupportedError, r"with an array of shape \(1, 4\)"),
    "axis": (lambda x: np.sum(x[x > 0], axis=1), ValueError, "axis 1 is out of bounds"),
    "returned": (lambda x: x[x > 0], TracerConversionError, "Use np.where"),
    "too short": (
        lambda x: x[x[1:] > 0],
        IndexError,
        "size of axis is 4 but size of corresponding",
    ),
    "too deep": (lambda x: x[np.outer(x, x) > 0], IndexError, "too many indices for array"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_needs_to_know_how_many_there_are(name):
    f, error, words = BAD[name]
    with pytest.raises(error, match=words):
        vk.jit(f)(X)


V = np.array([0.5, -0.7])
M = np.linspace(-0.8, 0.7, 12).reshape(4, 3)
VALUES: dict[str, Any] = {
    "vector": (lambda x: x, lambda x: x > 0, lambda x: V * x[0]),
    "one": (lambda x: x, lambda x: x > 0, lambda x: x[:1] * 2),
    "none": (lambda x: x, lambda x: x > 9, lambda x: x[:0]),
    "in a tuple": (lambda x: x, lambda x: (x > 0,), lambda x: V),
    "ellipsis": (lambda x: x, lambda x: (x > 0, ...), lambda x: V),
    "rows": (
        lambda x: x[:, None] * M,
        lambda x: x > 0,
        lambda x: np.outer(V, np.arange(3.0)) * x[1],
    ),
    "a column for rows": (
        lambda x: x[:, None] * M,
        lambda x: x > 0,
        lambda x: V[:, None] * x[1],
    ),
    "a row for rows": (lambda x: x[:, None] * M, lambda x: x > 0, lambda x: M[0] * x[1]),
    "of a column, one": (lambda x: x[:, None] * M, lambda x: (x > 0, 0), lambda x: x[1]),
    "of a column": (lambda x: x[:, None] * M, lambda x: (x > 0, 0), lambda x: x[2] * V),
    "of columns": (
        lambda x: x[:, None] * M,
        lambda x: (x > 0, slice(1, None)),
        lambda x: x[2] * V[:, None],
    ),
    "of a row": (lambda x: x * M.T, lambda x: (0, x > 0), lambda x: x[2] * V),
    "along the last axis": (
        lambda x: x * M.T,
        lambda x: (slice(None), x > 0),
        lambda x: x[2] * V,
    ),
    "along the last axis, a column": (
        lambda x: x * M.T,
        lambda x: (..., x > 0),
        lambda x: x[:3, None],
    ),
    "along the last axis, all": (
        lambda x: x * M.T,
        lambda x: (..., x > 0),
        lambda x: x[:3, None] * V,
    ),
    "behind a new axis": (lambda x: x, lambda x: (None, x > 0), lambda x: V * x[0]),
    "apart from an integer": (
        lambda x: x * np.ones((2, 3, 4)),
        lambda x: (0, slice(None), x > 0),
        lambda x: V[:, None] * x[:3],
    ),
    "before an integer": (
        lambda x: x[:, None, None] * np.ones((4, 3, 2)),
        lambda x: (x > 0, slice(None), -1),
        lambda x: x[:3] * V[:, None],
    ),
    "of two axes": (
        lambda x: np.outer(x, x),
        lambda x: np.outer(x, x) > 0,
        lambda x: x[0] * np.arange(8.0),
    ),
    "of two axes in the middle": (
        lambda x: x[:, None, None] * np.ones((4, 3, 2)),
        lambda x: (slice(None), np.outer(x[:3], x[:2]) > 0),
        lambda x: x[3] * np.arange(3.0),
    ),
}


def written(name, operation):
    array, index, value = VALUES[name]

    def f(x):
        y = np.copy(array(x))
        operation(y, index(x), value(x))
        return y

    return f


def multiplied(y, index, value):
    y[index] *= value


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("operation", [operator.setitem, multiplied])
def test_values_for_each_selected_element(name, operation):
    f = written(name, operation)
    total = lambda x: np.sum(np.sin(f(x)))
    xs = np.stack([X, X + 0.25])
    np.testing.assert_array_equal(vk.jit(f)(X), f(X))
    for i, got in enumerate(vk.vmap(f)(xs)):
        np.testing.assert_allclose(got, f(xs[i]), 1e-14)
    for transform in (vk.grad, vk.hessian):
        want = [transform(total)(x) for x in xs]
        np.testing.assert_allclose(vk.jit(transform(total))(X), want[0], 1e-13, 1e-13)
        np.testing.assert_allclose(transform(vk.jit(total))(X), want[0], 1e-13, 1e-13)
        np.testing.assert_allclose(vk.vmap(transform(total))(xs), want, 1e-13, 1e-13)
    check_grads(vk.jit(total), (X,), 2)


READ = [
    "np.max(x[x>0])",
    "x[x>0].min()",
    "np.ptp(x[x>0])",
    "np.sum(np.sort(x[x>0])*x[:2])",
    "np.max(x[x>0]**2)",
    "np.sum(np.cumsum(x[x>0])**2)",
    "x[x>0].cumprod().sum()",
    "np.median(x[x>0])",
    "np.median(x[x>-1])",
    "np.dot(x[x>0],x[x>0]**2)",
    "x[x>0]@x[x>0]",
    "np.linalg.norm(x[x>0])",
    "np.count_nonzero(x[x>0])*x[0]",
    "np.clip(x[x>0],0,2).sum()",
    "np.where(x[x>0]>1,x[x>0],0.0).mean()",
    "np.nanstd(x[x>0])",
    "np.sum((M.T*x)[:,x>0])",
    "np.sum((M.T*x)[:,x>0],axis=1)",
    "np.sum((M.T*x)[:,x>0],axis=0).sum()",
    "np.max((M.T*x)[:,x>0],axis=-1)",
    "np.sum((M.T*x)[:,x>0]*np.arange(3.0)[:,None])",
    "((M.T*x)[:,x>0]*x[:2]).sum(axis=1)",
    "(M.T*x)[...,x>0].mean(axis=1,keepdims=True)",
    "(M.T*x)[...,x>0].max(axis=(0,1),keepdims=True)",
    "np.sort((M.T*x)[:,x>0],axis=1).sum(axis=0).max()",
    "np.sort((M.T*x)[:,x>0],axis=0).sum(axis=1)",
    "np.cumsum((M.T*x)[:,x>0],axis=1).max(axis=1)",
    "np.cumsum((M.T*x)[:,x>0],axis=0).max(axis=1)",
    "np.std((M.T*x)[:,x>0],axis=1)",
    "np.prod((M.T*x)[:,x>0],axis=1)",
    "np.outer(x,x)[np.outer(x,x)>0].max()",
    "np.sum(np.sort(np.outer(x,x)[np.outer(x,x)>0])*np.arange(8.0))",
    "(x[:,None]*M)[x>0].max(axis=0)",
    "np.sort((x[:,None]*M)[x>0],axis=0).max(axis=0)",
]
WRITTEN = [
    "y[y > 0] = np.sort(y[y > 0])",
    "y[y > 0] = np.cumsum(y[y > 0])",
    "y[y > 0] = y[y > 0] / np.linalg.norm(y[y > 0])",
    "y[y > 0] /= y[y > 0].max()",
    "y[y > 0] = np.clip(y[y > 0], 1, 2)",
    "np.add.at(y, y > 0, y[0])",
    "np.multiply.at(z, (slice(None), y > 0), y[:2])",
    "np.negative.at(z, (0, y < 0))",
    "z[:, y > 0] = z[:, y > 0] ** 2 * y[:2]",
    "z[:, y > 0] -= z[:, y > 0].max(axis=1)[:, None]",
    "z[:, y > 0] = np.sort(z[:, y > 0], axis=1)",
    "z[None][0, :, y > 0] *= 2.0",
]


def reading(code):
    return eval(f"lambda x: {code}", {"np": np, "M": M})


def writing(code):
    def f(x):
        y, z = np.copy(x), M.T * x
        exec(code, {"np": np, "y": y, "z": z})
        return np.sum(y * z, axis=0)

    return f


@pytest.mark.parametrize("f", [*map(reading, READ), *map(writing, WRITTEN)], ids=[*READ, *WRITTEN])
def test_reductions_order_and_other_axes(f):
    total = lambda x: np.sum(np.sin(f(x)))
    xs = np.stack([X, X[::-1], X + 0.25])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is computed of what is not selected
        np.testing.assert_allclose(vk.jit(f)(X), f(X), 1e-14)
        assert vk.jit(f)(X).shape == f(X).shape
        for i, got in enumerate(vk.vmap(f)(xs)):
            np.testing.assert_allclose(got, f(xs[i]), 1e-14)
        for transform in (vk.grad, vk.hessian):
            want = [transform(total)(x) for x in xs]
            np.testing.assert_allclose(vk.jit(transform(total))(X), want[0], 1e-12, 1e-12)
            np.testing.assert_allclose(transform(vk.jit(total))(X), want[0], 1e-12, 1e-12)
            np.testing.assert_allclose(vk.vmap(transform(total))(xs), want, 1e-12, 1e-12)
    check_grads(vk.jit(total), (X,), 2)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_the_largest_of_none_is_an_error_when_the_program_runs(name):
    reduce = np.max if name == "maximum" else np.min
    f = lambda x: reduce(x[x > 9])
    for call in (
        lambda: f(X),
        lambda: vk.jit(f)(X),
        lambda: vk.jit(vk.grad(f))(X),
        lambda: vk.vmap(f)(np.stack([X, 9 * X])),
        lambda: vk.vmap(vk.jit(f))(np.stack([9 * X, X])),
    ):
        with pytest.raises(ValueError, match=f"{name} which has no identity"):
            call()
    assert vk.vmap(f)(np.stack([9 * X, 8 * X])).tolist() == [f(9 * X), f(8 * X)]


@pytest.mark.parametrize("reduce", [np.max, np.min, np.median, np.sort, np.cumsum])
def test_infinite_and_missing_numbers_are_numpys(reduce):
    def f(x):
        y = np.zeros_like(x)
        y[x != 7] = reduce(x[x != 7])
        return y

    for odd in (np.inf, -np.inf, np.nan):
        x = np.array([3.0, 7.0, odd, -1.0, odd, 7.0])
        np.testing.assert_array_equal(vk.jit(f)(x), f(x))
    for dtype in (np.int8, np.float32, np.uint16, bool):
        g = lambda x, kept: np.max(x[kept]) + np.min(x[kept])
        x, kept = np.array([1, 0, 1, 1]).astype(dtype), np.array([True, False, True, False])
        assert vk.jit(g)(x, kept) == g(x, kept)
        assert vk.jit(g)(x, kept).dtype == g(x, kept).dtype


def test_equal_largest_elements_share_the_cotangent():
    x = np.array([3.0, -1.0, 3.0, 4.0])
    f = lambda x: np.max(x[x < 4]) * 1.0
    np.testing.assert_array_equal(vk.grad(f)(x), [0.5, 0.0, 0.5, 0.0])
    np.testing.assert_array_equal(vk.jit(vk.grad(f))(x), [0.5, 0.0, 0.5, 0.0])


@pytest.mark.parametrize("values", [X[:3], X[:3, None], np.ones((2, 2)), V[None], np.ones((1, 1))])
def test_values_that_are_not_as_many_raise_as_in_numpy(values):
    def f(x):
        y = np.copy(x)
        y[x > 0] = values
        return y

    with pytest.raises((ValueError, TypeError)) as wanted:
        f(X)
    for call in (lambda: vk.jit(f)(X), lambda: vk.vmap(f)(np.stack([X, -X]))):
        with pytest.raises(wanted.type):
            call()


def test_each_example_has_its_own_number_of_values():
    def f(x):
        y = np.copy(x)
        y[x > 0] = x[:2]
        return y

    np.testing.assert_array_equal(vk.vmap(f)(np.stack([X, -X])), [f(X), f(-X)])
    with pytest.raises(ValueError, match="with 2 values, but the mask is true at 4 places"):
        vk.vmap(f)(np.stack([X, X**2]))


def test_functional_updates_take_masks():
    f = lambda x: x.at[x > 0].set(V * x[0]).at[x < 0].add(x[1]).at[x < -1].multiply(3.0)

    def plain(x):
        y = np.copy(x)
        y[x > 0] = V * x[0]
        y[x < 0] += x[1]
        y[x < -1] *= 3.0
        return y

    np.testing.assert_array_equal(vk.jit(f)(X), plain(X))
    np.testing.assert_array_equal(vk.vmap(f)(X[None])[0], plain(X))


@pytest.mark.parametrize(
    "index",
    [lambda m: (m, m), lambda m: (m, [0, 1]), lambda m: (m, m.any())],
    ids=["mask", "indices", "bool"],
)
def test_a_mask_beside_other_arrays_is_refused(index):
    def f(x):
        y = np.outer(x, x)
        y[index(x > 0)] = 0.0
        return y

    with pytest.raises(UnsupportedError, match=r"beside another(.|\n)*np\.where"):
        vk.jit(f)(X)


def test_a_plain_array_is_made_to_take_a_mask():
    plain = np.arange(4.0)
    for index in (lambda x: x > 0, np.argsort):
        with pytest.raises(
            TracerConversionError, match=r"whose values are not(.|\n)*vnp\.array\(a\)"
        ):
            vk.jit(lambda x, index=index: np.sum(plain[index(x)]))(X)
    f = lambda x: np.sum(vnp.array(plain)[x > 0] * x[x > 0])
    assert vk.jit(f)(X) == f(X)
    g = lambda x: np.sum(vnp.array(plain)[np.argmax(x)] * x)
    assert vk.jit(g)(X) == vk.vmap(g)(X[None])[0] == g(X)


def test_a_mask_that_is_written_to_selects_what_it_did():
    def f(x):
        mask = x > 0
        y = np.copy(x)
        taken = y[mask]
        mask[1] = True
        y[x > 0] = taken * 2
        y[mask] += 1.0
        return y

    for g in (vk.jit(f), lambda x: vk.vmap(f)(x[None])[0]):
        np.testing.assert_array_equal(g(X), f(X))

    def mixed(x):
        mask = x > 0
        taken = x[mask]
        mask[1] = True
        y = np.copy(x)
        y[mask] = taken  # NumPy's error is that there are fewer
        return y

    for call in (lambda: vk.jit(mixed)(X), lambda: vk.vmap(mixed)(X[None])):
        with pytest.raises(UnsupportedError, match="writing it with another index"):
            call()
