"""Laws of whole programs: random compositions of every primitive in the registry.

A program is a list of steps. A step takes a primitive at one of its samples and moves the operands
around the sample by something computed from earlier values; so every primitive, whatever its domain
and shapes, can follow every other.
"""

from dataclasses import dataclass
from functools import cached_property

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import vjpkit as vk
from vjpkit.core.aval import aval_of
from vjpkit.core.evaluate import interpret
from vjpkit.core.ir import check
from vjpkit.core.primitive import registered
from vjpkit.core.staging import stage
from vjpkit.parsing import parse
from vjpkit.testing.case import Case, cases_of
from vjpkit.testing.compare import assert_close, assert_identical
from vjpkit.testing.numeric import central

POINT = np.array([0.4, -0.9, 1.3])
DIRECTIONS = np.random.default_rng(7).standard_normal((4, 3))
LAW_NAMES = ("jvp", "second", "batch", "staged", "text")


def is_usable(case: Case) -> bool:
    """A smooth function of real, non-empty operands."""
    avals = [*case.avals, *map(aval_of, case.outs)]
    return (
        case.label.isdigit()
        and bool(case.live)
        and all(a.size for a in avals)
        and all(case.avals[i].dtype == np.float64 for i in case.live)
        and all(aval_of(y).dtype in ("float64", "complex128") for y in case.outs)
        and not any(case.exemption(law) for law in LAW_NAMES)
        and type(case.primitive).__module__.startswith(vk.__name__)
    )


OURS = [p for p in registered().values() if type(p).__module__.startswith(vk.__name__)]
STEPS = [case for p in OURS for case in cases_of(p) if is_usable(case)]


def fitted(value, shape):
    """The elements of ``value``, repeated or cut off to fill ``shape``."""
    flat = np.reshape(value, (-1,))
    size = int(np.prod(shape))
    return np.reshape(flat[np.arange(size) % flat.shape[0]], shape)


@dataclass(frozen=True)
class Step:
    """A primitive at a sample; ``sources`` says which earlier values move its operands."""

    case: Case
    sources: tuple[int, ...]

    def __call__(self, values):
        case = self.case
        operands = list(case.operands)
        for i, source in zip(case.live, self.sources, strict=False):
            x = np.asarray(operands[i])
            moved = np.tanh(fitted(values[source % len(values)], x.shape))
            operands[i] = x + 0.01 * min(1.0, float(np.max(abs(x)))) * moved
        out = next(y for y in case.call(*operands) if aval_of(y).inexact)
        if aval_of(out).dtype.kind == "c":
            out = np.real(out) + np.imag(out)
        return out / self.size

    @cached_property
    def size(self):
        """The size of the output, by which it is divided."""
        return 1.0 + max(float(np.max(abs(y))) for y in self.case.outs if aval_of(y).inexact)


@dataclass(frozen=True)
class Composition:
    """Steps in a row; the value is a vector of sums over the steps' results."""

    steps: tuple[Step, ...]

    def __call__(self, x):
        values = [x]
        for step in self.steps:
            values.append(step(values))
        return np.stack([np.sum(v * v) for v in values[-2:]])

    def scalar(self, x):
        return np.sum(self(x) * np.array([1.0, -0.5]))

    def __repr__(self):
        return " ; ".join(f"{step.case!r}{step.sources}" for step in self.steps)


steps = st.builds(Step, st.sampled_from(STEPS), st.tuples(*[st.integers(0, 4) for _ in range(4)]))
programs = st.builds(Composition, st.lists(steps, min_size=1, max_size=4).map(tuple))
some = settings(max_examples=60, derandomize=True)
few = settings(max_examples=25, derandomize=True)


def close(got, want, tolerance=1e-10, allowed=0.0):
    assert_close(got, want, tolerance, "the two sides", allowed)


def test_the_programs_are_about_most_primitives():
    smooth = [p for p in OURS if any(c.live for c in cases_of(p))]
    assert len({step.primitive.name for step in STEPS}) >= 0.7 * len(smooth)


@some
@given(programs)
def test_reverse_is_forward_is_differences(f):
    v, u = DIRECTIONS[0], DIRECTIONS[1, :2]
    _, tangent = vk.jvp(f, (POINT,), (v,))
    _, pullback = vk.vjp(f, POINT)
    (estimate,) = central(lambda h: [f(POINT + h * v)])
    close(tangent, estimate.value, 1e-8, 10 * estimate.error)
    close(pullback(u)[0] @ v, u @ tangent)
    close(vk.grad(f.scalar)(POINT) @ v, np.array([1.0, -0.5]) @ tangent)


@some
@given(programs)
def test_staged_is_eager_bit_for_bit(f):
    closed = stage(lambda x: (f(x),), [aval_of(POINT)])
    check(closed.program)
    eager = f(POINT)
    assert_identical(closed(POINT)[0], eager, "lowered")
    assert_identical(interpret(closed.program, [*closed.consts, POINT])[0], eager, "interpreted")


@some
@given(programs)
def test_text_reads_back(f):
    for program in (
        stage(lambda x: (f(x),), [aval_of(POINT)]).program,
        stage(lambda x: (vk.grad(f.scalar)(x),), [aval_of(POINT)]).program,
    ):
        assert parse(str(program)) == program


@some
@given(programs)
def test_gradient_of_staged_is_staged_gradient(f):
    closed = stage(lambda x: (f.scalar(x),), [aval_of(POINT)])
    outside = vk.grad(lambda x: closed(x)[0])(POINT)
    inside = stage(lambda x: (vk.grad(f.scalar)(x),), [aval_of(POINT)])
    check(inside.program)
    close(outside, vk.grad(f.scalar)(POINT))
    close(inside(POINT)[0], outside)


@some
@given(programs)
def test_pullbacks_and_pushforwards_are_linear(f):
    u, w = DIRECTIONS[1, :2], DIRECTIONS[2, :2]
    _, pullback = vk.vjp(f, POINT)
    close(pullback(2 * u - 3 * w)[0], 2 * pullback(u)[0] - 3 * pullback(w)[0])
    _, push = vk.linearize(f, POINT)
    x, y = DIRECTIONS[:2]
    close(push(2 * x - 3 * y), 2 * push(x) - 3 * push(y))
    check(push.program)
    check(pullback.program)


@some
@given(programs, programs)
def test_pullback_of_a_composition_is_the_composition_of_pullbacks_reversed(g, h):
    between = lambda y: fitted(y, (3,)) * 0.5
    whole = lambda x: h(between(g(x)))
    u = DIRECTIONS[1, :2]
    y, pull_g = vk.vjp(lambda x: between(g(x)), POINT)
    _, pull_h = vk.vjp(h, y)
    _, pull = vk.vjp(whole, POINT)
    close(pull(u)[0], pull_g(pull_h(u)[0])[0])


@some
@given(programs)
def test_map_is_a_loop(f):
    xs = POINT + 0.1 * DIRECTIONS
    for g in (f, vk.grad(f.scalar), lambda x: vk.jvp(f, (x,), (DIRECTIONS[0],))[1]):
        close(vk.vmap(g)(xs), np.stack([g(x) for x in xs]), 1e-9)
    looped = sum(f.scalar(x) for x in xs)
    close(np.sum(vk.vmap(f.scalar)(xs)), looped, 1e-9)
    gradient = vk.grad(lambda xs: np.sum(vk.vmap(f.scalar)(xs)))(xs)
    close(gradient, np.stack([vk.grad(f.scalar)(x) for x in xs]), 1e-9)


@few
@given(programs)
def test_second_derivatives_agree_in_every_mixture(f):
    v, w = DIRECTIONS[:2]
    gradient = vk.grad(f.scalar)
    found = {
        "forward over reverse": vk.jvp(gradient, (POINT,), (v,))[1],
        "reverse over reverse": vk.grad(lambda x: np.sum(gradient(x) * v))(POINT),
        "reverse over forward": vk.grad(lambda x: vk.jvp(f.scalar, (x,), (v,))[1])(POINT),
    }
    (estimate,) = central(lambda h: [gradient(POINT + h * v)])
    for product in found.values():
        close(product, estimate.value, 1e-8, 10 * estimate.error)
    forward = vk.jvp(lambda x: vk.jvp(f.scalar, (x,), (v,))[1], (POINT,), (w,))[1]
    close(found["forward over reverse"] @ w, forward, 1e-9)
    close(vk.jvp(gradient, (POINT,), (w,))[1] @ v, forward, 1e-9)


@few
@given(programs)
def test_third_derivatives_agree_in_mixtures(f):
    v, w, _, u = DIRECTIONS

    def second(x):
        return np.sum(vk.jvp(vk.grad(f.scalar), (x,), (v,))[1] * w)

    def reverse(x):
        return np.sum(vk.grad(lambda y: np.sum(vk.grad(f.scalar)(y) * v))(x) * w)

    got = vk.grad(second)(POINT) @ u
    close(vk.jvp(second, (POINT,), (u,))[1], got, 1e-8)
    close(vk.grad(reverse)(POINT) @ u, got, 1e-8)
    (estimate,) = central(lambda h: [second(POINT + h * u)])
    close(got, estimate.value, 1e-7, 10 * estimate.error)


@pytest.mark.parametrize("case", STEPS, ids=repr)
def test_every_step_alone(case):
    """Each primitive at each sample as a program of its own, so that none is left out by chance."""
    f = Composition((Step(case, (0,) * 4),))
    v = DIRECTIONS[0]
    gradient = vk.grad(f.scalar)(POINT)
    (estimate,) = central(lambda h: [f.scalar(POINT + h * v)])
    close(gradient @ v, estimate.value, 1e-8, 10 * estimate.error)
