"""Making arrays, with traced values in them and without."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
import vjpkit.numpy as vnp
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
from vjpkit.core.errors import TracerConversionError, UnsupportedError
from vjpkit.core.tracer import Tracer

NESTED = [
    "vnp.array(X)",
    "vnp.array([X, X])",
    "vnp.array([X, 2 * X], ndmin=4)",
    "vnp.array((X, (X * 2)))",
    "vnp.array(X, ndmin=5)",
    'vnp.array(X, order="F")',
    "vnp.asarray(X)",
    "vnp.asarray([X, X])",
    "vnp.asanyarray([X])",
    "vnp.ascontiguousarray(X)",
    "vnp.asfortranarray(X)",
    'vnp.require(X, requirements=["F"])',
    'vnp.require(X, requirements=["C", "O"])',
    "vnp.array([[X[0], 1.0], [2.0, X[-1]]])",
    "vnp.array([X[0], X])",
    "vnp.array([X, 2, True])",
    "vnp.array([X, np.float32(2)])",
    "vnp.array([[[X]]])",
    "vnp.full((2,) + X.shape, X)",
    "vnp.full(3, X)",
    "vnp.r_[X, 1.0]",
    "vnp.c_[X, X]",
    "vnp.asarray_chkfinite(X)",
]
RANGES = [
    "np.linspace(X, 2.0, 5)",
    "np.linspace(X, X + 1, 4, axis=-1)",
    "np.linspace(0, X, 3, endpoint=False)",
    "np.linspace(X, 3, num=1)",
    "np.linspace(X, 3, num=0)",
    "np.linspace(X, X, 5, retstep=True)",
    "np.linspace([0.0], X, 3)",
    "np.logspace(X, 2.0, 4)",
    "np.logspace(0, X, 4, base=2)",
    "np.geomspace(X * X + 1, 2.0, 4)",
    "np.geomspace(1.0, X * X + 1, 4, endpoint=False)",
    "np.geomspace(-1.0, -X * X - 1, 4, axis=-1)",
    "np.geomspace(2, X * X + 1, 1)",
    "np.geomspace(2, X * X + 1, 0)",
]
DTYPES = [
    'vnp.array([X, X], dtype="f4")',
    "vnp.array([X, X], dtype=complex)",
    'vnp.asarray(X, dtype="c8")',
    "np.linspace(X, 3, 5, dtype=int)",
    'np.linspace(X, 1.0, 5, dtype="f4")',
    'np.geomspace(X * X + 1, 9, 4, dtype="c16")',
]
LIKE = [
    "np.zeros_like(X)",
    'np.ones_like(X, dtype="f4")',
    "np.full_like(X, 2.0)",
    "np.full_like(X, 2, shape=(2, 2))",
    "np.empty_like(X).shape",
    'np.zeros_like(X, order="F")',
    "np.full_like(X, X * 2)",
]
REFUSED = [
    "vnp.array([X, [1.0]])",
    "vnp.array((X, (X,)))",
    "vnp.array([X], copy=False)",
    'vnp.asarray(X, dtype="f2", copy=False)',
    'vnp.asarray(X, order="F", copy=False) if X.ndim > 1 else vnp.array([[X]], copy=False)',
    "np.linspace(X, 1, -1)",
    "np.geomspace(0 * X, 3, 5)",
    "np.linspace(X, np.ones(7), 3)",
]


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("code", [*NESTED, *RANGES, *DTYPES, *REFUSED])
def test_same_as_numpy(code: str, name: str):
    """To the bit, but for ranges, which are computed in another order."""
    x = ARRAYS[name]
    if name == "complex" and "geomspace" in code:
        return  # NumPy rotates; its own docstring calls the result a spiral
    f = program(code)
    if "space" not in code and name not in ("fortran", "backwards", "narrow"):
        assert_same_as_numpy(f, x)
    elif name != "fortran":
        assert_same_as_numpy(f, x, 1e-14 if x.dtype.itemsize > 4 else 1e-5)


@pytest.mark.parametrize("name", [n for n in ARRAYS if n != "scalar"])
@pytest.mark.parametrize("code", LIKE)
def test_like_a_traced_array(code: str, name: str):
    assert_same_as_numpy(program(code), ARRAYS[name])


@pytest.mark.parametrize("name", ["cube", "vector", "scalar"])
@pytest.mark.parametrize("code", [*NESTED, *RANGES])
def test_derivatives_staging_mapping(code: str, name: str):
    f, x = program(code), ARRAYS[name]
    if outcome(f, x)[1] is not None or "chkfinite" in code:
        return
    assert_linearized(f, x)
    staged(f, x)
    mapped(f, [x, 2 * x, x - 1])


def test_without_traced_values_all_is_plain():
    for made in (
        vnp.array([[1, 2], [3, 4]]), vnp.asarray(2.0), vnp.zeros(3), vnp.ones((2, 2), "f4"),
        vnp.full(3, 2), vnp.empty(2), vnp.eye(3, k=1), vnp.identity(2), vnp.arange(1, 9, 2),
        vnp.linspace(0, 1, 3), vnp.tri(3), vnp.r_[1:4, 0], vnp.zeros_like(np.ones(2)),
        vnp.fromfunction(lambda i, j: i + j, (2, 2)),
    ):  # fmt: skip
        assert type(made) is np.ndarray
    np.testing.assert_array_equal(vnp.arange(1, 9, 2), np.arange(1, 9, 2))
    np.testing.assert_array_equal(vnp.full((2, 2), [1, 2]), np.full((2, 2), [1, 2]))
    np.testing.assert_array_equal(vnp.eye(3, k=1), np.eye(3, k=1))


@pytest.mark.parametrize("name", ["zeros", "ones", "empty"])
def test_arrays_of_constants_accept_traced_values(name: str):
    """A program that fills an array runs unchanged, and outside a transform it is plain NumPy."""

    def f(x):
        y = getattr(vnp, name)(3)
        for i in range(3):
            y[i] = x * i
        return y

    np.testing.assert_array_equal(f(2.0), [0.0, 2.0, 4.0])
    np.testing.assert_array_equal(vk.jacfwd(f)(2.0), [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(vk.jacrev(f)(2.0), [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(vk.make_ir(f)(2.0)(2.0)[0], [0.0, 2.0, 4.0])
    np.testing.assert_array_equal(vk.vmap(f)(np.array([1.0, 2.0])), [[0, 1, 2], [0, 2, 4]])


@pytest.mark.parametrize(
    "start",
    [
        "np.zeros_like(X)",
        "np.zeros(3, like=X)",
        "np.full_like(X, 5.0)",
        "np.full(3, 5.0, like=X)",
        "np.empty(3, like=X)",
        "vnp.full(3, X[0])",
        "np.copy(X)",
        "vnp.array([X[0], X[1], X[2]])",
    ],
)
def test_arrays_made_of_or_like_traced_ones_can_be_written(start: str):
    make = program(start)

    def f(x):
        y = make(x)
        y[1:] = np.sin(x[1:])
        y[0] = x[2] ** 2
        return y

    x = np.array([0.3, 0.5, 0.7])
    np.testing.assert_array_equal(vk.vjp(f, x)[0], f(x))
    assert_linearized(f, x)


def test_like_gives_numpys_arrays():
    x = traced(np.ones(3))
    for f in (np.array, np.asarray, np.asanyarray, np.ascontiguousarray, np.require):
        made = f([1.0, 2.0], like=x)
        np.testing.assert_array_equal(made.concrete() if isinstance(made, Tracer) else made, [1, 2])
    eye: Any = np.eye(2, like=x)
    assert eye.concrete().tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert np.frombuffer(b"\x01\x02", np.uint8, like=x).tolist() == [1, 2]
    assert np.fromfunction(lambda i: 2 * i, (3,), like=x).tolist() == [0.0, 2.0, 4.0]
    np.testing.assert_array_equal(np.arange(3, like=x), [0, 1, 2])


def test_constants_are_not_captured_while_staging():
    """``zeros_like`` of an abstract array is one equation, not a captured array of its size."""
    closed = vk.make_ir(lambda x: np.zeros_like(x) + x * np.full_like(x, 2.0))(np.ones(1000))
    assert closed.consts == ()
    np.testing.assert_array_equal(closed(np.ones(1000))[0], np.full(1000, 2.0))


def test_ranges_with_traced_ends():
    f = lambda a, b, h: np.sum(np.sin(vnp.arange(a, b, h)))
    ends = 0.25, 2.0, 0.5
    assert vk.vjp(f, *ends)[0] == f(*ends)
    da, db, dh = vk.grad(f, argnums=(0, 1, 2))(*ends)
    k = np.arange(4)
    cosines = np.cos(0.25 + 0.5 * k)
    np.testing.assert_allclose([da, db, dh], [cosines.sum(), 0.0, (k * cosines).sum()], rtol=1e-14)
    with pytest.raises(
        TracerConversionError, match=r"np.arange: what it returns depends on values"
    ):
        vk.make_ir(lambda a: vnp.arange(0.0, a))(2.0)


def test_a_mixture_of_dtypes_is_promoted_as_numpy_has_it():
    x = traced(np.ones(2, np.float32))
    for other in (1.0, 1, 1j, np.float32(1), np.int8(1), np.float16(1), True):
        wanted = np.array([np.float32(1), other]).dtype
        assert vnp.array([x[0], other]).dtype == wanted
        assert vnp.array([[x[1]], [other]]).dtype == wanted


def test_numpys_own_array_of_tracers_is_stacked_where_it_is_used():
    f = lambda x: np.sum(np.sin(np.array([x[0] * x[1], x[2]])) * np.array([[1.0], [x[0]]]))
    x = np.array([0.3, 0.5, 0.7])
    g = lambda x: np.sum(np.sin(vnp.array([x[0] * x[1], x[2]])) * vnp.array([[1.0], [x[0]]]))
    np.testing.assert_allclose(vk.grad(f)(x), vk.grad(g)(x), rtol=1e-14)


STANDING = [np.asarray, np.asanyarray, np.ascontiguousarray, np.require]
RUNS: list[Callable[[Any, Any], Any]] = [
    lambda f, x: vk.vjp(f, x)[0],
    lambda f, x: vk.jvp(f, (x,), (x,))[0],
    lambda f, x: vk.jit(f)(x),
    lambda f, x: vk.vmap(f)(x[None])[0],
]


@pytest.mark.parametrize("make", STANDING)
@pytest.mark.parametrize(
    "start", [np.sin, lambda x: (x * 2)[::-1], np.zeros_like], ids=["result", "view", "zeros"]
)
def test_what_stands_for_an_array_and_would_not_see_a_write_forbids_it(make, start):
    """NumPy gives the array itself, so that each sees what is written to the other."""
    x = np.array([0.3, 0.5, 0.7])

    def written(x):
        y = start(x)
        made = make(y)
        y[1:][0] = x[0]
        return np.sum(y * made)

    def through(x):
        y = start(x)
        made = make(y)
        made[0] = 1.0
        return np.sum(y * x)

    def view_before(x):
        y = start(x)
        part = y[:2]
        made = make(part)
        assert np.shares_memory(made, y)
        assert np.may_share_memory(y, made[1:])
        assert not np.shares_memory(made, x * 3)
        np.sin(y, out=y)
        return made

    for run in RUNS:
        with pytest.raises(UnsupportedError, match=r"would not see it(.|\n)*vnp\.asarray"):
            run(written, x)
        with pytest.raises(UnsupportedError, match="would not see it"):
            run(view_before, x)
        with pytest.raises(ValueError, match="is read-only") as caught:
            run(through, x)
        assert any("vnp.asarray(x)" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("make", STANDING)
def test_what_stood_for_an_array_does_not_forbid_a_write_later(make):
    def f(x):
        y = np.sin(x)
        total = np.sum(make(y) ** 2)
        y[0] = x[1] * x[2]
        made = make(y)
        copy = np.array(y)
        copy[1] = 3.0 * y[0]
        del made
        y *= 2.0
        both = np.array([y, y])
        y[2] = 0.0
        return total + np.sum(y * vnp.array(copy)) + np.sum(vnp.array(both) ** 2)

    x = np.array([0.3, 0.5, 0.7])
    for run in RUNS:
        np.testing.assert_allclose(run(f, x), f(x), rtol=1e-14)
    assert_linearized(lambda x: vnp.array([f(x)]), x)


def test_memory_of_views_after_a_write():
    def f(x):
        y = np.sin(x)
        whole, tail, head = y[...], y[1:], y[:1]
        y[0] = 2.0
        pairs = [(tail, y), (whole, head), (head, tail), (x, y), (y[::2], y[1::2])]
        return [bool(np.shares_memory(a, b)) for a, b in pairs]

    x = np.array([0.3, 0.5, 0.7])
    assert vk.vjp(lambda x: (0.0, f(x)), x, has_aux=True)[2] == f(x)
    assert f(x) == [True, True, False, False, False]


def test_an_array_with_text_in_it_is_refused():
    with pytest.raises(TypeError, match="do not hold traced values"):
        vk.grad(lambda x: vnp.array([x, "a"]))(1.0)


def test_unknown_keywords_are_numpys_errors():
    with pytest.raises(TypeError):
        vnp.zeros(3, wrong=1)


@pytest.mark.parametrize(
    "code",
    [
        "np.imag([x[0], x[1]])",
        "np.array([x[0], 1j]).real",
        "np.angle([x[0]])",
        "np.asarray(x).imag",
    ],
)
def test_complex_numbers_are_no_objects(code):
    """NumPy takes the imaginary part of an object for 0, and its real part for itself."""
    x = np.array([1.0 + 2.0j, 3.0 - 1.0j])
    f = eval(f"lambda x: {code}", {"np": np})
    for run in RUNS:
        with pytest.raises(TracerConversionError, match="takes objects for real numbers"):
            run(f, x)
    g = lambda x: np.imag(vnp.array([x[0], 1j]))
    assert vk.vjp(g, x)[0].tolist() == [2.0, 1.0]


def test_joined_by_brackets_with_complex_entries():
    f = lambda z: vnp.r_[z, 1.0, 0:3, 2j]
    z = np.array([1.0 + 2.0j, 3.0 - 1.0j])
    vk.test_util.check_grads(lambda x: np.abs(f(x * z)), (np.array([0.5, -0.7]),), order=2)
    np.testing.assert_array_equal(vk.vjp(f, z)[0], np.r_[z, 1.0, 0:3, 2j])
    g = lambda z: vnp.c_[z, [z[0], 1.0]]
    np.testing.assert_array_equal(vk.vjp(g, z)[0], np.c_[z, [z[0], 1.0]])
    np.testing.assert_array_equal(vk.jit(g)(z), g(z))
