"""``checkpoint="revolve"`` in scan, fori_loop and while_loop: as without it, in less memory.

Steps are counted by external code inside of the body, which sees plain values alone.
"""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.control.revolve import forward_steps, repetitions
from vjpkit.control.steps import Schedule

lax: Any = vk.lax
W, X = np.array([1.5, 0.8]), np.array([0.3, 0.5])
XS = np.linspace(-1.0, 1.0, 14).reshape(7, 2)
SLOTS = {"slots": 3, "checkpoint": "revolve"}


def scanned(w, x, xs, **options):
    """Constants, carries (an integer among them), slices read and written."""

    def step(c, s):
        n, c = c
        c = np.sin(c) * w + s * n
        return (n + 1, c), {"y": c * s, "n": n, "none": None}

    (n, c), ys = lax.scan(step, (1, x), xs, **options)
    return np.sum(c * c) + np.sum(np.cos(ys["y"])) * n


def backwards(w, x, xs, **options):
    return scanned(w, x, xs, reverse=True, **options)


def without_slices(w, x, xs, **options):
    step = lambda c, _: (np.tanh(c @ c * w) + xs[0] * c, None)
    return np.sum(lax.scan(step, x, None, length=9, **options)[0])


def only_slices(w, x, xs, **options):
    return np.sum(lax.scan(lambda _, s: (None, np.sin(s * w) * x), None, xs, **options)[1])


def not_all_read(w, x, xs, **options):
    """Slices that no step reads, and some of which only the value is read."""

    def step(c, s):
        a, _, b = s
        return (np.sin(c[0]) * (b > 0) + a * w, c[1]), c[0] * a

    (c, same), ys = lax.scan(step, (x, w), (xs, xs**2, xs * w), **options)
    return np.sum(c**2) + np.sum(same * c) + np.sum(ys)


def counted(w, x, xs, **options):
    return np.sum(lax.fori_loop(2, 11, lambda i, c: np.sin(c * w) + i * x, x, **options) * xs[1])


def counted_to(w, x, xs, **options):
    """With a bound that is not known before where this is staged."""
    n = vk.lax.stop_gradient(np.sum(xs > 0) + 1)
    return np.sum(lax.fori_loop(0, n, lambda i, c: np.sin(c * w) + i * x, x, **options))


def until(w, x, xs, **options):
    step = lambda c: (c[0] + 1, np.sin(c[1]) * w + c[1] * 0.9 + 0.1 * xs[0])
    goes_on = lambda c: (np.sum(c[1]) < 1.5 * np.sum(w)) & (c[0] < 12)
    n, c = lax.while_loop(goes_on, step, (0, x), **options)
    return np.sum(c * c) * n


def no_steps(w, x, xs, **options):
    (c, _), ys = lax.scan(lambda c, s: ((c[0] * s, w), s * w), (x, w), xs[:0], **options)
    same = lax.while_loop(lambda c: np.sum(c) > 1e9, lambda c: c * w, x, **options)
    return np.sum(c**2) + np.sum(ys) + np.sum(same**3)


def nested(w, x, xs, **options):
    inner = lambda c, s: (lax.fori_loop(0, 3, lambda i, c: np.sin(c) * w + s, c, **options), None)
    return np.sum(lax.scan(inner, x, xs, **options)[0] ** 2)


PROGRAMS = {
    f.__name__: f
    for f in (
        scanned, backwards, without_slices, only_slices, not_all_read, counted, counted_to,
        until, no_steps, nested,
    )
}  # fmt: skip
TS = (np.array([0.4, -1.0]), np.array([1.0, 0.3]), np.cos(XS))
DERIVATIVES: dict[str, Any] = {
    "value": lambda f: f,
    "grad": lambda f: vk.grad(f, (0, 1, 2)),
    "grad in one": lambda f: vk.grad(f, 0),
    "jvp": lambda f: lambda *xs: vk.jvp(f, xs, TS)[1],
    "linearize": lambda f: lambda *xs: vk.linearize(f, *xs)[1](*TS),
    "forward over reverse": lambda f: lambda *xs: vk.jvp(vk.grad(f, (0, 1, 2)), xs, TS)[1],
    "jet": lambda f: lambda *xs: vk.jet(f, xs, [[t, 0 * t] for t in TS])[1],
    "reverse over reverse": lambda f: vk.grad(
        lambda *xs: sum(np.sum(g * t) for g, t in zip(vk.grad(f, (0, 1, 2))(*xs), TS)), (0, 1, 2)
    ),
}
KEEPERS: dict[str, Any] = {
    "eager": lambda f: f,
    "jit": vk.jit,
    "vmap": lambda f: (
        lambda w, x, xs: vk.tree.map(
            lambda y: y[1], vk.vmap(f)(np.stack([x, w]), np.stack([w, x]), np.stack([0.5 * xs, xs]))
        )
    ),
}


def assert_equal(got, want):
    for a, b in zip(vk.tree.leaves(got), vk.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("derivative", DERIVATIVES)
@pytest.mark.parametrize("keeper", KEEPERS)
def test_as_without(keeper, derivative, name):
    f, d = PROGRAMS[name], DERIVATIVES[derivative]
    want = d(f)(W, X, XS)
    revolved = lambda w, x, xs: f(w, x, xs, **SLOTS)
    assert_equal(KEEPERS[keeper](d(revolved))(W, X, XS), want)
    if keeper != "eager":
        assert_equal(d(KEEPERS[keeper](revolved))(W, X, XS), want)


class Counter:
    """External code that counts how often a step runs, and how often it is linearized.

    Its derivative calls it with complex numbers. Linearizing computes the value too only where it
    is needed: at the last step, on the way there.
    """

    def __init__(self):
        self.count = self.linearized = 0
        shape = vk.ShapeDtypeStruct((), float)
        self.step = vk.numeric_vjp(self.run, method="complex", result=shape)

    def run(self, x):
        self.count += not np.iscomplexobj(x)
        self.linearized += np.iscomplexobj(x)
        return np.sin(x) * 1.1

    def scan(self, length, **options):
        return lambda x: lax.scan(lambda c, _: (self.step(c), None), x, None, length, **options)[0]

    def until(self, length, **options):
        body = lambda c: (c[0] + 1, self.step(c[1]))
        return lambda x: lax.while_loop(lambda c: c[0] < length, body, (0, x), **options)[1]


def derivative_of(length):
    x, d = 0.3, 1.0
    for _ in range(length):
        x, d = np.sin(x) * 1.1, d * np.cos(x) * 1.1
    return d


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 8, 20])
@pytest.mark.parametrize("length", [1, 2, 5, 16, 41])
def test_steps_of_known_length_are_the_proven_optimum(length, slots):
    counter = Counter()
    f = counter.scan(length, checkpoint="revolve", slots=slots)
    assert vk.grad(f)(0.3) == pytest.approx(derivative_of(length), rel=1e-12)
    assert counter.count == forward_steps(length, slots) + 1
    assert counter.linearized == length
    staged = vk.jit(vk.grad(f))
    staged(0.3)
    counter.count = counter.linearized = 0
    assert staged(0.3) == pytest.approx(derivative_of(length), rel=1e-12)
    value = length  # where the program needs it, the loop runs for the value alone
    assert counter.count in (
        forward_steps(length, slots) + 1,
        forward_steps(length, slots) + 1 + value,
    )
    assert counter.linearized == length


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 8, 20])
@pytest.mark.parametrize("length", [1, 2, 5, 16, 41])
def test_steps_of_unknown_length_repeat_no_step_more_often(length, slots):
    counter = Counter()
    f = counter.until(length, checkpoint="revolve", slots=slots)
    assert vk.grad(f)(0.3) == pytest.approx(derivative_of(length), rel=1e-12)
    again = max(1, repetitions(length, slots)) + 1
    assert counter.count <= min(forward_steps(length, slots) * 1.5, again * length) + length
    if length < slots:  # every state is kept
        assert counter.count == length
    assert counter.linearized == length


def test_a_loop_of_unknown_length_keeps_no_more_states_than_it_may():
    """With more of them it would take fewer steps than are possible with so many."""
    counter = Counter()
    vk.grad(counter.until(200, checkpoint="revolve", slots=5))(0.3)
    assert counter.count > forward_steps(200, 5)


def test_every_pullback_is_the_same():
    counter = Counter()
    _, pullback = vk.vjp(counter.scan(30, checkpoint="revolve", slots=4), 0.3)
    results = {float(pullback(1.0)[0]) for _ in range(3)}
    assert len(results) == 1
    assert counter.count == 3 * (forward_steps(30, 4) + 1)
    assert counter.linearized == 3 * 30


def peak(f, x):
    f(x[:10])
    tracemalloc.start()
    f(x)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return used - x.nbytes


@pytest.mark.parametrize("kind", ["scan", "while"])
@pytest.mark.parametrize(
    ("keeper", "options", "size"),
    [
        ("eager", {"slots": 20}, 100_000),
        ("eager", {"memory": "1.6 MB"}, 10_000),
        ("jit", {"slots": 20}, 10_000),
        ("jit", {"memory": "1.6 MB"}, 10_000),
    ],
)
def test_memory_of_300_steps(keeper, kind, options, size):
    """At most 25 states beyond the state's own: 25 MB for 100,000 doubles."""
    step = lambda c: np.sin(c) * 1.01
    options = {"checkpoint": "revolve", **options}

    def final(x):
        if kind == "scan":
            return lax.scan(lambda c, _: (step(c), None), x, None, length=300, **options)[0]
        body = lambda c: (c[0] + 1, step(c[1]))
        return lax.while_loop(lambda c: c[0] < 300, body, (0, x), **options)[1]

    gradient: Callable[..., Any] = vk.grad(lambda x: np.sum(final(x)))
    x = np.linspace(0.1, 1.0, size)
    if keeper == "jit":  # not "auto", whose thread would import the compiler meanwhile
        gradient = vk.jit(gradient, backend="numpy")
        gradient(x)  # staged once; what is measured is a call
    used = peak(gradient, x)
    assert used <= 250 * size, f"{used / 1e6:.1f} MB"


def test_the_pullback_says_what_it_keeps():
    step = lambda c, _: (np.sin(c) * 1.01, None)
    x = np.ones(1000)
    kept = {}
    for slots in (1, 5, 20):
        f = lambda x, s=slots: lax.scan(step, x, None, 300, checkpoint="revolve", slots=s)[0]
        _, pullback = vk.vjp(f, x)
        kept[slots] = pullback.nbytes
        pullback(x)
        assert pullback.nbytes == x.nbytes  # the states are gone, the initial one is an operand
    for slots, size in kept.items():
        assert size <= (slots + 2) * x.nbytes


def test_an_array_that_changes_before_the_pullback_does_not_change_it():
    x = np.array([0.3, 0.5])
    for loop in (
        lambda x: lax.scan(lambda c, _: (np.sin(c), None), x, None, 5, **SLOTS)[0],
        lambda x: vk.jit(lambda x: until(W, x, XS))(x),
        lambda x: vk.jit(lambda x: until(W, x, XS, **SLOTS))(x),
    ):
        y = x.copy()
        out, pullback = vk.vjp(loop, y)
        want = pullback(np.ones_like(out))[0]
        _, pullback = vk.vjp(loop, y)
        y[:] = 7.0
        np.testing.assert_array_equal(pullback(np.ones_like(out))[0], want)


def test_the_option_is_printed_in_the_program():
    text = str(vk.make_ir(lambda x: without_slices(W, x, XS, **SLOTS))(X))
    assert "slots=3" in text
    assert str(vk.parse_ir(text)) == text
    for f in (without_slices, until):
        assert "slots" not in str(vk.make_ir(vk.jit(lambda x, f=f: f(W, x, XS)))(X))


class Counting:
    """A machine whose state is the number of steps it made."""

    start, operands = (0,), ()

    def __init__(self, length):
        self.length = length
        self.steps = 0

    def advance(self, state, k, m, ys=None):
        assert state == (k,)
        self.steps += m
        return (k + m,)

    def linear(self, state, k, ys=None):
        assert state == (k,)
        return (k + 1,), [k]

    def place(self, k):
        return k

    def reading(self, state, place):
        assert state == (place,)
        return [place]


@pytest.mark.parametrize("slots", [1, 2, 3, 7])
@pytest.mark.parametrize("length", [0, 1, 2, 5, 10, 37, 300])
def test_a_schedule_makes_as_few_steps_as_its_states_allow(length, slots):
    machine: Any = Counting(length)
    schedule = Schedule(machine, slots, [])
    for _ in range(2):  # a second walk begins again
        assert [k for _, (k,) in schedule.backward()] == list(range(length))[::-1]
        assert machine.steps == (forward_steps(length, slots) if length else 0)
        machine.steps = 0


@pytest.mark.parametrize("options", [{}, SLOTS])
def test_no_steps(options):
    f = lambda c, xs: lax.scan(lambda c, s: (np.sin(c) * s, {"y": c * s}), c, xs, **options)
    xs = np.ones((0, 2))
    y, linear = vk.linearize(f, X, xs)
    for c, ys in (y, linear(X, xs)):
        np.testing.assert_array_equal(c, X)
        assert (ys["y"].shape, ys["y"].dtype) == ((0, 2), float)
    ct_c, ct_xs = linear.T((X, {"y": xs}))
    np.testing.assert_array_equal(ct_c, X)
    assert ct_xs.shape == (0, 2)


def test_residuals_of_a_schedule_are_operands_and_kept_states():
    f = lambda w, c: lax.scan(lambda c, s: (np.sin(c) * w, c * s), c, XS, **SLOTS)
    shapes = sorted(r.shape for r in vk.linearize(f, W, X)[1].residuals)
    assert shapes == [(2,)] * 5 + [(7, 2)]  # w, x and three states; xs


def test_a_carry_that_forgets_the_one_before():
    step = lambda c, s: ((np.sin(c[0]) * W, c[0] * s), None)
    f = lambda a, b, **options: lax.scan(step, (a, b), XS, **options)[0]
    cts = (np.ones(2), np.array([0.5, -2.0]))
    for b in (X, 2.0 * X):
        got, wanted = (vk.vjp(lambda *c: f(*c, **o), X, b)[1](cts) for o in (SLOTS, {}))  # noqa: B023
        np.testing.assert_allclose(got[0], wanted[0], rtol=1e-14)
        np.testing.assert_array_equal(got[1], np.zeros(2))
