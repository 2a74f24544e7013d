"""Arrays of no axis are written to, scalars are not: which of the two a value is, as in NumPy."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vjpkit as vk
from tests.numpy.against_numpy import ARRAYS, assert_same_as_numpy, program

ONE_VALUE = [
    "np.sin(X)[()]", "X[...]", "X[()]", "X + 0", "-X", "+X", "abs(X)", "X ** 2", "X < 1",
    "np.copy(X)", "X.copy()", "np.copy(X)[...]", "X.astype('f4')", "np.astype(X, float)",
    "X.astype(complex)", "X.reshape(())", "np.reshape(X, ())", "X.reshape(1)[0]", "X.T",
    "np.transpose(X)", "np.squeeze(X)", "X.squeeze()", "np.expand_dims(X, 0)[0]", "X[None][0, ...]",
    "np.ravel(X)[0]", "X.flatten()[0]", "X.view()", "X.real", "np.real(X)", "np.imag(X + 0j)",
    "(X + 0j).imag", "(X + 1j).real", "np.copy(X + 1j).real", "np.copy(X + 1j).imag",
    "np.conj(X)", "X.conj()", "np.real_if_close(X)", "np.angle(X + 1j)",
    "vnp.array(X)", "vnp.asarray(X)", "np.broadcast_to(X, ())",
    "np.broadcast_arrays(X, X)[0]", "np.broadcast_arrays(X, np.ones(2))[0][0]",
    "np.zeros_like(X)", "np.ones_like(X)", "np.full_like(X, X)", "np.empty_like(X) * 0",
    "vnp.full((), X)", "np.where(X > 0, X, 2.0)", "np.where(True, X, 2.0)",
    "np.select([X > 0], [X])", "np.choose(0, [X, X])", "np.piecewise(X, [X > 0], [np.sin])",
    "np.clip(X, 0, 1)", "np.maximum(X, 1)", "np.nan_to_num(X)", "np.round(X)", "np.fix(X)",
    "np.sinc(X)", "np.i0(X)", "np.heaviside(X, 1.0)", "np.resize(X, ())", "np.pad(X, 1)",
    "np.roll(X, 1)", "np.flip(X)", "np.take(X, 0)", "np.sum(X)", "np.mean(X)", "np.max(X)",
    "np.var(X)", "np.median(X)", "np.quantile(X, 0.5)", "np.percentile(X, 50)", "np.nansum(X)",
    "np.average(X)", "np.linalg.norm(np.ravel(X))", "np.dot(X, X)", "np.inner(X, X)",
    "np.multiply.outer(X, X)", "np.einsum('->', X)", "np.tensordot(X, X, 0)", "np.kron(X, X)",
    "np.vdot(X, X)", "np.polyval([1.0, 2.0], X)", "np.interp(X, [0.0, 1.0], [1.0, 3.0])",
    "np.prod(X)", "np.cumsum(X)[0]", "np.trim_zeros(X[None])[0]", "vnp.vectorize(np.sin)(X)",
    "np.block(X)", "np.lib.scimath.sqrt(X)", "np.isnan(X)", "np.float64(2) * X", "2.0 * X",
    "np.array(2.0) * X", "np.stack([X, X])[0]", "np.stack([X, X])[0, ...]",
    "np.unstack(X[None])[0]",
    "next(iter(X[None]))", "np.moveaxis(X, (), ())", "np.sort(X[None])[0]",
    "np.atleast_1d(X)[0]", "np.add(X, 1.0)", "np.divmod(X, 0.4)[0]", "np.modf(X)[0]",
    "np.frexp(X)[0]", "np.ldexp(X, 2)",
]  # fmt: skip
MANY_VALUES = [
    "X[0]", "X[-1]", "X[0, ...]", "X[...][1]", "np.take(X, 0)", "np.take(X, np.array(1))",
    "X.take(1)", "X.flat[1]", "X.sum()", "X.mean(0)", "np.add.reduce(X)", "np.dot(X, X)", "X @ X",
    "np.inner(X, X)", "np.vdot(X, X)", "np.vecdot(X, X)", "np.einsum('i,i->', X, X)",
    "np.einsum('i->', X)", "np.tensordot(X, X, 1)", "np.linalg.vecdot(X, X)", "np.linalg.norm(X)",
    "np.linalg.vector_norm(X)", "np.linalg.det(np.diag(X))", "np.linalg.slogdet(np.diag(X))[1]",
    "np.linalg.trace(np.diag(X))", "np.trace(np.diag(X))", "np.linalg.cond(np.diag(X + 3))",
    "np.linalg.multi_dot([X, np.diag(X), X])", "np.linalg.solve(np.diag(X), X)[0]",
    "np.cross(X[:2], X[1:3])", "np.cov(X)", "np.corrcoef(X)", "np.trapezoid(X)", "np.ptp(X)",
    "np.median(X)", "np.quantile(X, 0.3)", "np.percentile(X, 30)", "np.average(X, weights=X**2)",
    "np.std(X)", "np.prod(X)", "np.max(X)", "np.nanmax(X)", "np.logaddexp.reduce(X)",
    "np.apply_along_axis(np.sum, 0, X)", "np.polyval(X, 2.0)", "np.argmax(X)", "np.all(X > 0)",
    "np.count_nonzero(X)", "np.searchsorted(np.sort(X), 0.1)", "np.interp(0.3, np.sort(X), X)",
    "np.resize(X, ())", "np.select([X[0] > 0], [X[1]])", "np.where(X[0] > 0, X[0], X[1])",
    "np.linalg.lstsq(np.diag(X), X)[0][0]", "np.gradient(X)[0]", "np.convolve(X, X)[0]",
    "np.correlate(X, X)[0]", "np.fft.fft(X)[0]", "np.sum(X, keepdims=True)[0]", "X.max()",
    "np.unstack(X)[0]", "[*X][0]", "np.split(X, [1])[0].reshape(())", "X[:1].reshape(())",
    "np.squeeze(X[:1])", "np.copy(X[0])", "X[0].copy()", "X[0][...]", "X[0].T", "X[0].reshape(())",
    "np.histogram(X, weights=X)[0][0]", "np.bincount([0, 0, 1, 1, 0], X)[0]",
    "np.insert(X, 0, 1.)[0]",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["scalar", "0d"])
@pytest.mark.parametrize("code", ONE_VALUE)
def test_results_of_one_value_are_arrays_where_numpys_are(code: str, name: str):
    assert_same_as_numpy(program(code), ARRAYS[name], tolerance=1e-15)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("code", MANY_VALUES)
def test_results_of_many_values_are_arrays_where_numpys_are(code: str):
    assert_same_as_numpy(program(code), ARRAYS["vector"], tolerance=1e-13)


# ---- writing -----------------------------------------------------------------------------------


def attempt(write: Callable[[], Any]) -> bool:
    """Whether NumPy lets it be written: a `TypeError` says that it is a scalar."""
    try:
        write()
    except TypeError:
        return False
    return True


MAKERS: list[Callable[[Any], Any]] = [
    np.sin,
    np.copy,
    lambda v: v[...],
    lambda v: v.reshape(()),
    lambda v: v.T,
    lambda v: np.squeeze(v),
    lambda v: np.where(v > 0, v, 2.0),
    lambda v: v,
    lambda v: np.copy(v)[...],
    lambda v: v * 1.5,
    lambda v: np.expand_dims(v, 0)[0, ...],
    lambda v: np.expand_dims(v, 0)[0],
    lambda v: v.copy(),
    lambda v: np.zeros_like(v),
    lambda v: np.sum(v),
]


class Names:
    """Names of values of shape ``()``, some of them views of others, and what became of writes."""

    def __init__(self, x: Any, vector: Any) -> None:
        self.values = [x, x, vector[0, ...], vector[1], np.copy(x)]
        self.written: list[bool] = []

    def step(self, kind: int, i: int, j: int, k: int) -> None:
        n = len(self.values)
        x, y = self.values[i % n], self.values[j % n]
        match kind % 6:
            case 0:
                self.values.append(MAKERS[k % len(MAKERS)](x))
            case 1:
                x += y
                self.values[i % n] = x
            case 2:
                x *= 0.5 + k % 3
                self.values[i % n] = x
            case 3:
                self.written.append(attempt(lambda: operator.setitem(x, ..., y * 1.25)))
            case 4:
                self.written.append(attempt(lambda: np.multiply(y, 0.75, out=x)))
            case _:
                self.written.append(attempt(lambda: np.copyto(x, np.cos(y))))


Outcome = tuple[list[Any], list[bool]]


def run(steps: list[tuple[int, int, int, int]], x: Any, vector: Any) -> Outcome:
    """Every value, and which writes were made."""
    names = Names(x, np.copy(vector))
    for numbers in steps:
        names.step(*numbers)
    return names.values, names.written


NUMBER = st.integers(0, 30)
STEPS = st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER), max_size=14)
PAIR = np.array([0.4, -1.1])


def outcomes(f: Callable[..., Outcome]) -> tuple[Callable[..., list[Any]], list[bool]]:
    """A function of the values alone, to be transformed, and a list of the writes that it made."""
    written: list[bool] = []

    def values(*xs: Any) -> list[Any]:
        out, written[:] = f(*xs)
        return out

    return values, written


def assert_same(got: list[Any], wanted: list[Any]) -> None:
    np.testing.assert_allclose(np.array(got), np.array(wanted), rtol=1e-11, atol=1e-12)
    assert [isinstance(a, np.ndarray) for a in got] == [isinstance(b, np.ndarray) for b in wanted]


@pytest.mark.parametrize("kind", [np.array, np.float64])
@given(STEPS)
def test_names_are_rebound_and_arrays_written_as_in_numpy(kind, steps):
    f = lambda x, v: run(steps, x, v)
    x = kind(0.3)
    wanted, which = f(kind(0.3), PAIR)
    for transform in (
        lambda g: vk.vjp(g, x, PAIR)[0],
        lambda g: vk.jvp(g, (x, PAIR), (x, PAIR))[0],
        lambda g: vk.jit(g)(x, PAIR),
        lambda g: vk.vjp(vk.jit(g), x, PAIR)[0],
        lambda g: vk.jit(lambda x, v: vk.vjp(g, x, v)[0])(x, PAIR),
        lambda g: vk.vjp(lambda x, v: vk.jvp(g, (x, v), (x, v))[0], x, PAIR)[0],
    ):
        values, written = outcomes(f)
        assert_same(transform(values), wanted)
        assert written == which


@given(STEPS)
def test_examples_are_scalars(steps):
    f = lambda x, v: run(steps, x, v)
    xs, pairs = np.array([0.3, -0.8]), np.stack([PAIR, 2 * PAIR])
    for transform in (
        lambda g: vk.vmap(g)(xs, pairs),
        lambda g: vk.jit(vk.vmap(g))(xs, pairs),
        lambda g: vk.vmap(lambda *args: vk.vjp(g, *args)[0])(xs, pairs),
        lambda g: vk.vjp(vk.vmap(g), xs, pairs)[0],
    ):
        values, written = outcomes(f)
        got = transform(values)
        for i, (x, v) in enumerate(zip(xs, pairs, strict=True)):
            wanted, which = f(x, v)
            np.testing.assert_allclose(
                [a[i] for a in got], np.array(wanted), rtol=1e-11, atol=1e-12
            )
            assert written == which


TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "eager": lambda f: lambda x: vk.vjp(f, x)[0],
    "jvp": lambda f: lambda x: vk.jvp(f, (x,), (x,))[0],
    "jit": vk.jit,
    "vmap": lambda f: lambda x: vk.vmap(f)(x[None])[0],
}
WRITERS: list[Callable[[Any], Any]] = [
    lambda a: operator.setitem(a, ..., 2.0),
    lambda a: np.copyto(a, 2.0),
    lambda a: np.add(a, 1.0, out=a),
    lambda a: np.add.at(a, (), 1.0),
    lambda a: np.putmask(a, True, 2.0),
    lambda a: np.place(a, True, [2.0]),
]
OF_ARRAYS: list[Callable[[Any], Any]] = [
    *WRITERS,
    lambda a: np.put(a, 0, 2.0),  # of a scalar NumPy writes to an array that nobody sees
    lambda a: operator.setitem(a.flat, 0, 2.0),
    lambda a: operator.setitem(a.flat, slice(None), 2.0),
    lambda a: operator.iadd(a[...], 1.0),
    lambda a: a.fill(2.0),
]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("write", WRITERS, ids=range(len(WRITERS)))
def test_what_a_ufunc_gives_is_not_written_to(write, transform):
    def f(x):
        a = np.sin(x)
        write(a)
        return a

    x = np.array(0.3)
    with pytest.raises(TypeError):
        f(x)
    with pytest.raises(TypeError, match=r"item assignment   \(test_no_axis(.|\n)*np\.copy\(x\)"):
        TRANSFORMS[transform](f)(x)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("write", OF_ARRAYS, ids=range(len(OF_ARRAYS)))
def test_a_copy_of_it_is(write, transform):
    def f(x):
        a = np.copy(np.sin(x))
        write(a)
        return a

    x = np.array(0.3)
    assert TRANSFORMS[transform](f)(x) == f(x)


def test_jit_knows_which_arguments_are_arrays():
    @vk.jit
    def f(x):
        y = x
        x += 1.0
        return y

    assert [f(np.array(1.0)), f(np.float64(1.0)), f(1.0)] == [2.0, 1.0, 1.0]
    assert [f(np.array(1.0)), f(np.float64(1.0)), f(1.0)] == [2.0, 1.0, 1.0]
    assert f.cache_info()[:2] == (3, 3)
    assert f.misses[1].reason == "argument 0 is a scalar, and was an array of no axis"
    x = np.array(1.0)
    assert f(x) == 2.0
    assert x == 1.0  # the caller's own is not written to


def test_results_of_jit_are_arrays_where_numpys_are():
    f = vk.jit(lambda x: (np.sin(x), np.copy(x), {"where": np.where(x > 0, x, 2.0)}))
    for _ in range(3):
        a, b, c = f(np.float64(0.3))
        assert (type(a), type(b), type(c["where"])) == (np.float64, np.ndarray, np.ndarray)
    grad = vk.grad(vk.jit(lambda x: (x * np.copy(x))[()]))
    assert [grad(3.0), grad(np.array(3.0))] == [6.0, 6.0]


def test_views_of_an_array_of_constants_see_what_an_example_writes():
    """Under jit the array is not the examples' until then."""

    def f(x):
        z = np.zeros_like(x)
        v = z[:2]
        v[...] = np.sin(x[:2])
        return z, v, v * 2

    xs = np.arange(6.0).reshape(2, 3)
    for got, *wanted in zip(vk.jit(vk.vmap(f))(xs), *map(f, xs), strict=True):
        np.testing.assert_allclose(got, wanted)
