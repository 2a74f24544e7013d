"""Structural primitives: views where NumPy has views, promotion, weak numbers."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.aval import Aval, aval_of
from vjpkit.core.rows import EagerScalar, Rows
from vjpkit.ops import structural
from vjpkit.ops.structural import inverse, move_axis, to_dtype

X = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("primitive", "params"),
    [
        (structural.reshape, {"shape": (6, 4)}),
        (structural.transpose, {"axes": (2, 0, 1)}),
        (structural.broadcast_to, {"shape": (5, 2, 3, 4)}),
    ],
)
def test_views_stay_views(primitive, params):
    out = primitive(Rows().argument(X), **params)
    assert np.shares_memory(out.value, X)


@pytest.mark.parametrize(
    ("primitive", "params"),
    [
        (structural.copy, {"order": "K"}),
        (structural.roll, {"shifts": (0,), "axes": (0,)}),
        (structural.tril, {"k": 9}),
        (structural.convert, {"dtype": np.dtype(float)}),
    ],
)
def test_copies_are_copies(primitive, params):
    out = primitive(Rows().argument(X), **params)
    assert not np.shares_memory(out.value, X)
    np.testing.assert_array_equal(out.value, X)


def test_to_dtype_does_nothing_where_nothing_is_to_do():
    x = Rows().argument(np.ones(3))
    assert to_dtype(x, np.dtype(float)) is x
    assert type(to_dtype(x, np.dtype(int))) is np.ndarray
    assert type(to_dtype(Rows().argument(2.0), np.dtype(float))) is not EagerScalar


def test_dtypes_are_promoted_as_numpy_does():
    """Python numbers among arrays that are joined count as arrays of their own dtype."""
    half, number = aval_of(np.float16(1)), aval_of(1.0)
    assert structural.stack.abstract(half, number, axis=0) == Aval((2,), np.float64)
    assert np.stack([np.float16(1), 1.0]).dtype == np.float64


def test_abstract_values_refuse_what_numpy_refuses():
    x = aval_of(X)
    for primitive, params in (
        (structural.reshape, {"shape": (5, 5)}),
        (structural.broadcast_to, {"shape": (2, 3, 5)}),
        (structural.broadcast_to, {"shape": (3, 4)}),
        (structural.item, {}),
    ):
        with pytest.raises(ValueError, match=r"cannot|can only"):
            primitive.abstract(x, **params)
    with pytest.raises(ValueError, match="same shape"):
        structural.stack.abstract(x, aval_of(1.0), axis=0)
    with pytest.raises(ValueError, match="must match exactly"):
        structural.concatenate.abstract(x, aval_of(X[:, 1:]), axis=0)


def test_item_is_weak_everywhere():
    """Eagerly, staged, and as the operand of what promotes; batched it is an array."""
    x = np.array([0.5])
    eager = structural.item(Rows().argument(x))
    assert type(eager) is EagerScalar
    assert type(eager.value) is float
    assert (eager * np.ones(2, np.float32)).dtype == np.float32
    program = vk.make_ir(lambda x: x.item() * np.ones(2, np.float32))(x).program
    assert program.out_avals == (Aval((2,), np.float32),)
    batched = vk.vmap(lambda x: x.item())(np.ones((3, 1), np.float32))
    assert batched.dtype == np.float64


def test_longdouble_is_nobodys_number():
    x = np.array([0.5], np.longdouble)
    assert vk.vjp(lambda x: structural.item(x), x)[0].dtype == np.longdouble


def test_permutations():
    for axes in ((0, 1, 2), (2, 0, 1), (1, 2, 0), (1, 0, 2)):
        np.testing.assert_array_equal(X.transpose(axes).transpose(inverse(axes)), X)
    for i in range(3):
        for j in range(3):
            np.testing.assert_array_equal(move_axis(X, i, j), np.moveaxis(X, i, j))


def test_a_roll_is_undone_by_its_transpose():
    _, pullback = vk.vjp(lambda x: np.roll(x, (1, -5), (0, 2)), X)
    np.testing.assert_array_equal(pullback(np.roll(X, (1, -5), (0, 2)))[0], X)


def test_sums_of_small_integers_are_wide():
    staged = vk.make_ir(lambda x: np.sum(x))(np.ones(3, np.int8)).program
    assert staged.out_avals[0].dtype == np.sum(np.ones(3, np.int8)).dtype


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", "c16", "i4", "?"])
@pytest.mark.parametrize("length", range(1, 11))
def test_sums_of_rows_are_numpys_to_the_bit(length, dtype):
    """Whatever adds them: columns where rows are short and many, NumPy's reduction elsewhere."""
    generator = np.random.default_rng(length)
    dense = generator.normal(size=(90, 5, length)) * 10.0 ** generator.integers(-4, 4, (90, 5, 1))
    dense[3] = -0.0
    dense[4, :, 0] = np.inf, -np.inf, np.nan, 0.0, -0.0
    with np.errstate(all="ignore"):
        dense = dense.astype(dtype)
    for x in (dense, dense[::-2], dense[..., ::-1], np.asfortranarray(dense), dense[:2], dense[0]):
        for axis in (-1, 0, (0, 1)):
            for keepdims in (False, True):
                with np.errstate(all="ignore"):
                    want = np.sum(x, axis, keepdims=keepdims)
                    axes = np.lib.array_utils.normalize_axis_tuple(axis, x.ndim)
                    got = structural.sum_(x, axes=axes, keepdims=keepdims)
                np.testing.assert_array_equal(got, want, strict=True)
                np.testing.assert_array_equal(np.signbit(np.real(got)), np.signbit(np.real(want)))


@pytest.mark.parametrize("axis", [None, 0, (0, 1), -1])
@pytest.mark.parametrize("keepdims", [False, True])
def test_cotangents_of_large_sums_are_repeated_without_memory(axis, keepdims):
    """Above 8192 elements the cotangent of a sum is a broadcast; its users must not notice."""
    x = np.random.default_rng(0).normal(size=(96, 100))
    w = np.random.default_rng(1).normal(size=(100, 7))

    def f(x):
        total = np.sum(x, axis=axis, keepdims=keepdims)
        return np.sum(np.sin(total)) + np.sum(x @ w)

    cosines = np.cos(np.sum(x, axis=axis, keepdims=True))
    gradient = vk.grad(f)(x)
    wanted = np.broadcast_to(cosines + w.sum(axis=1), x.shape)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-12, atol=1e-12)
    assert gradient.flags.writeable
    assert gradient.base is None
    tangent = np.ones_like(x)
    value = vk.jvp(f, (x,), (tangent,))[1]
    np.testing.assert_allclose(value, np.sum(gradient * tangent), rtol=1e-12)


OUTSIDE: dict[str, Any] = {
    "nothing": lambda f: f,
    "jit": vk.jit,
    "vmap": vk.vmap,
    "jit of vmap": lambda f: vk.jit(vk.vmap(f)),
}


@pytest.mark.parametrize("outside", OUTSIDE)
def test_what_is_stopped_is_constant_to_every_derivative(outside):
    x = np.array([3.0, -0.5])
    stopped = OUTSIDE[outside](lambda x: x * vk.lax.stop_gradient(x))
    np.testing.assert_array_equal(vk.grad(lambda x: np.sum(stopped(x)))(x), x)
    np.testing.assert_array_equal(vk.jvp(stopped, (x,), (np.ones(2),))[1], x)
