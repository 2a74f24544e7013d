"""Primitives that users add, through the same door as ours: one class, every transform."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import scipy.special

import vjpkit as vk
from vjpkit.core import PRIMITIVES, Aval, Primitive, Sample, Tracer, primitive
from vjpkit.kinds import Elementwise, General, Linear
from vjpkit.testing.rules import check_rule


class OmegaOfUser(Elementwise):
    """A ufunc of SciPy's that vjpkit does not know, with its partial derivative."""

    ufunc = scipy.special.wrightomega
    partials = ((lambda out: out / (1 + out)),)

    def samples(self) -> Iterable[Sample]:
        return (Sample(np.array([0.2, 0.5, 0.9])),)


class ReverseOfUser(Linear):
    """The last axis in reverse order: its own transpose."""

    impl = staticmethod(lambda x: x[..., ::-1])

    def transpose(self, ct: Any, shape: Any, dtype: Any, /, *fixed: Any, **params: Any) -> Any:
        return self(ct)

    def abstract(self, x: Aval) -> Aval:
        return Aval(x.shape, x.dtype)

    def batch(self, n: int, values: Any, batched: Any) -> Any:
        return self(*values)

    def samples(self) -> Iterable[Sample]:
        return (Sample(np.arange(6.0).reshape(2, 3)),)


class CubeOfUser(General):
    """Any primitive with a jvp; the pullback is derived from it."""

    impl = staticmethod(lambda x: x * x * x)

    def jvp(self, values: Any, ts: Any, out: Any, **params: Any) -> Any:
        return 3 * values[0] * values[0] * ts[0]

    def abstract(self, x: Aval) -> Aval:
        return Aval(x.shape, x.dtype)

    def batch(self, n: int, values: Any, batched: Any) -> Any:
        return self(*values)

    def samples(self) -> Iterable[Sample]:
        return Sample(np.array([0.5, -2.0])), Sample(np.float64(1.5))


X = np.array([0.2, 0.5, 0.9])
omega = scipy.special.wrightomega
CASES = {
    OmegaOfUser: (omega, lambda x: np.diag(omega(x) / (1 + omega(x)))),
    ReverseOfUser: (lambda x: x[::-1], lambda x: np.eye(3)[::-1]),
    CubeOfUser: (lambda x: x**3, lambda x: np.diag(3 * x * x)),
}


@pytest.fixture(params=CASES, ids=lambda c: c.__name__)
def made(request: pytest.FixtureRequest) -> Iterator[Primitive]:
    instance: Primitive = primitive(request.param)
    yield instance
    del PRIMITIVES[instance.name]


def test_every_transform(made: Primitive) -> None:
    plain, jacobian = CASES[type(made)]
    np.testing.assert_allclose(made(X), plain(X))
    for transform in (vk.jacrev, vk.jacfwd):
        np.testing.assert_allclose(transform(made)(X), jacobian(X), rtol=1e-14)
    np.testing.assert_allclose(vk.vmap(made)(np.stack([X, X])), np.stack([plain(X)] * 2))
    closed = vk.make_ir(made)(X)
    assert [e.primitive for e in closed.program.equations] == [made]
    assert vk.parse_ir(str(closed.program)) == closed.program
    second = vk.hessian(lambda x: np.sum(made(x) ** 2))(X)
    step = 1e-6 * np.eye(3)
    slope = lambda x: 2 * jacobian(x).T @ plain(x)
    numeric = np.stack([(slope(X + e) - slope(X - e)) / 2e-6 for e in step], axis=1)
    np.testing.assert_allclose(second, numeric, rtol=1e-6, atol=1e-7)


def test_the_laws_are_checked(made: Primitive) -> None:
    check_rule(made)


def test_a_name_is_taken_once(made: Primitive) -> None:
    with pytest.raises(ValueError, match="is registered already"):
        primitive(type(made))


def test_every_tracer_is_a_tracer() -> None:
    seen: list[Any] = []

    def f(x: Any) -> Any:
        seen.append(x)
        return x * x

    vk.grad(f)(1.0)
    vk.jvp(f, (1.0,), (1.0,))
    vk.vmap(f)(X)
    vk.make_ir(f)(X)
    assert all(isinstance(x, Tracer) for x in seen)
    assert len({type(x) for x in seen}) == 4


class BareOfUser(General):
    """Only its value: other methods are missing, and errors name them."""

    impl = staticmethod(lambda x: x * x)


def test_a_method_that_is_missing_is_named() -> None:
    bare = BareOfUser()
    with pytest.raises(NotImplementedError, match=r"has no method abstract\(\*avals"):
        vk.jit(bare)(X)
    with pytest.raises(TypeError, match=r"(?s)no batching rule.*a method batch\(self, n"):
        vk.vmap(bare)(X)
    with pytest.raises(TypeError, match="bare_of_user has no derivative"):
        vk.grad(lambda x: np.sum(bare(x)))(X)


class CountedOfUser(CubeOfUser):
    """Counts how often its rule is staged."""

    count = 0

    def jvp(self, values: Any, ts: Any, out: Any, **params: Any) -> Any:
        self.count += 1
        return super().jvp(values, ts, out, **params)


def test_derived_pullbacks_are_kept_and_the_oldest_are_dropped() -> None:
    cube = CountedOfUser()
    pulled = lambda n: vk.vjp(cube, np.ones(n))[1](np.ones(n))
    for _ in range(2):
        np.testing.assert_array_equal(pulled(1)[0], [3.0])
    assert cube.count == 1
    ((closed, reached),) = cube.transposed.values()
    assert (closed.program.linear, reached) == (1, (0,))
    for n in range(2, 514):
        pulled(n)
    assert (cube.count, len(cube.transposed)) == (513, 512)
    pulled(513)
    assert cube.count == 513
    pulled(1)
    assert cube.count == 514
