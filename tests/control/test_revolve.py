"""`checkpoint_loop`: the steps it takes are counted, its memory is measured."""

import itertools
import tracemalloc
from collections.abc import Callable, Iterator
from math import comb
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.control.revolve import forward_steps, repetitions
from vjpkit.core.errors import ClosedTraceError
from vjpkit.core.tracer import Tracer


class Counter:
    """A step that counts how often it advances and how often it is linearized."""

    def __init__(self) -> None:
        self.advanced: list[int] = []
        self.linearized: list[int] = []

    def __call__(self, x: Any, i: int) -> Any:
        (self.linearized if isinstance(x, Tracer) else self.advanced).append(i)
        return np.sin(x) + 0.1 * i


def counted(length: int, slots: int, online: bool = False) -> tuple[Counter, Any]:
    step = Counter()
    items = iter(range(length)) if online else range(length)
    g = vk.grad(lambda x: vk.checkpoint_loop(step, x, items, slots))(0.3)
    return step, g


def unrolled(length: int) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        for i in range(length):
            x = np.sin(x) + 0.1 * i
        return x

    return f


def optimum(length: int, slots: int) -> int:
    """r l - C(s + r, r - 1), with r the least such that l <= C(s + r, s)."""
    r = next(r for r in itertools.count() if length <= comb(slots + r, slots))
    return r * length - (comb(slots + r, r - 1) if r else 0)


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 8, 20])
def test_forward_steps_are_the_proven_optimum(slots: int) -> None:
    for length in [1, 2, 3, 4, 5, 7, 10, 16, 25, 41, 60]:
        step, g = counted(length, slots)
        assert len(step.advanced) == optimum(length, slots) == forward_steps(length, slots)
        assert step.linearized == list(reversed(range(length)))
        assert g == pytest.approx(vk.grad(unrolled(length))(0.3), rel=1e-13)


def test_the_formula_is_the_best_of_all_schedules() -> None:
    best: dict[tuple[int, int], int] = {}
    for slots in range(1, 5):
        for length in range(1, 30):
            if length == 1:
                best[length, slots] = 0
            elif slots == 1:
                best[length, slots] = length * (length - 1) // 2
            else:
                best[length, slots] = min(
                    m + best[m, slots] + best[length - m, slots - 1] for m in range(1, length)
                )
            assert best[length, slots] == forward_steps(length, slots)


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 8, 20])
def test_unknown_lengths_repeat_no_step_more_often(slots: int) -> None:
    for length in [1, 2, 3, 5, 10, 16, 25, 41, 60]:
        step, g = counted(length, slots, online=True)
        assert g == pytest.approx(vk.grad(unrolled(length))(0.3), rel=1e-13)
        assert step.linearized == list(reversed(range(length)))
        again = max(map(step.advanced.count, range(length)))
        assert again <= max(1, repetitions(length, slots)) + 1
        assert len(step.advanced) <= forward_steps(length, slots) * 1.5 + length


def test_every_pullback_is_the_same() -> None:
    step = Counter()
    _, pullback = vk.vjp(lambda x: vk.checkpoint_loop(step, x, range(30), 4), 0.3)
    results = {float(pullback(1.0)[0]) for _ in range(3)}
    assert len(results) == 1
    assert len(step.advanced) == 3 * optimum(30, 4)


def test_memory_of_300_steps_over_100_000_doubles() -> None:
    x = np.linspace(0.1, 1.0, 100_000)

    def step(x: Any, i: int) -> Any:
        return np.sin(x) * 1.01

    def run(x: Any) -> None:
        vk.grad(lambda x: np.sum(vk.checkpoint_loop(step, x, range(300), 20)))(x)

    run(x[:10])
    tracemalloc.start()
    run(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - x.nbytes <= 25e6, f"{peak / 1e6:.1f} MB"


def tree_step(state: Any, item: Any, rate: Any) -> Any:
    return {
        "x": np.sin(state["x"]) * rate + item,
        "n": state["n"] + 1,
        "y": (state["y"] + state["x"] * item,),
    }


def by_loop(x: Any, items: Any, rate: Any, **options: Any) -> Any:
    state = {"x": x, "n": 0, "y": (x * 0.0,)}
    out = vk.checkpoint_loop(tree_step, state, items, args=(rate,), **(options or {"slots": 2}))
    assert np.shape(out["n"]) == ()
    return np.sum(out["x"] ** 2 + out["y"][0])


def by_hand(x: Any, items: Any, rate: Any) -> Any:
    state: Any = {"x": x, "n": 0, "y": (x * 0.0,)}
    for item in items:
        state = tree_step(state, item, rate)
    return np.sum(state["x"] ** 2 + state["y"][0])


X = np.array([0.3, -0.7])
ITEMS = np.array([0.1, 0.4, -0.2, 0.3, 0.9])
TRANSFORMS: dict[str, Any] = {
    "grad": lambda f: vk.grad(f, (0, 1, 2)),
    "jvp": lambda f: lambda x, i, r: vk.jvp(f, (x, i, r), (x, i, r)),
    "hessian": lambda f: vk.hessian(f, (0, 1, 2)),
    "grad of jvp": lambda f: vk.grad(lambda x, i, r: vk.jvp(f, (x, i, r), (x, i, r))[1], (0, 1, 2)),
    "vmap": lambda f: lambda x, i, r: vk.vmap(f, (0, None, None))(np.stack([x, 2 * x]), i, r),
    "grad of vmap": lambda f: vk.grad(
        lambda x, i, r: np.sum(vk.vmap(f, (None, None, 0))(x, i, np.stack([r, 2 * r]))), (0, 1, 2)
    ),
    "vmap of grad": lambda f: (
        lambda x, i, r: vk.vmap(vk.grad(f, (0, 1, 2)), (None, 0, None))(x, np.stack([i, 2 * i]), r)
    ),
    "jit": lambda f: vk.jit(f),
    "jit of grad": lambda f: vk.jit(vk.grad(f, (0, 1, 2))),
    "grad of jit": lambda f: vk.grad(vk.jit(f), (0, 1, 2)),
    "checkpoint": lambda f: vk.grad(vk.checkpoint(f), (0, 1, 2)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name: str) -> None:
    got = TRANSFORMS[name](by_loop)(X, ITEMS, 0.9)
    wanted = TRANSFORMS[name](by_hand)(X, ITEMS, 0.9)
    for a, b in zip(vk.tree.leaves(got), vk.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_memory_sets_the_number_of_slots() -> None:
    step = Counter()
    vk.grad(lambda x: vk.checkpoint_loop(step, x, range(25), memory=5 * 8))(0.3)
    assert len(step.advanced) == optimum(25, 5)


def test_items_may_depend_on_the_state() -> None:
    """A loop that ends when the state says so."""
    last: list[float] = []

    def until_small() -> Iterator[int]:
        for i in itertools.count():
            if last and last[-1] < 0.1:
                return
            yield i

    def halve(x: Any, i: int) -> Any:
        y = x * 0.5
        if len(last) <= i:
            last.append(float(vk.lax.stop_gradient(y)))
        return y

    g = vk.grad(lambda x: vk.checkpoint_loop(halve, x, until_small(), 2))(1.0)
    assert g == 0.5**4


def test_steps_may_write_into_their_state() -> None:
    def step(x: Any, i: int) -> Any:
        x *= 2.0
        x[0] += i
        return x

    def f(x: Any) -> Any:
        return np.sum(vk.checkpoint_loop(step, x, range(9), 3) ** 2)

    start = np.array([1.0, 2.0])
    g = vk.grad(f)(start)
    np.testing.assert_array_equal(start, [1.0, 2.0])

    def plain(x: Any) -> Any:
        x = np.copy(x)
        for i in range(9):
            x *= 2.0
            x[0] += i
        return np.sum(x**2)

    np.testing.assert_allclose(g, vk.grad(plain)(start), rtol=1e-14)


def test_closed_over_values_of_outer_transforms() -> None:
    def outer(c: Any) -> Any:
        return vk.grad(lambda x: vk.checkpoint_loop(lambda x, i: np.sin(x * c), x, range(6), 2))(
            0.4
        )

    def plain(c: Any) -> Any:
        def f(x: Any) -> Any:
            for _ in range(6):
                x = np.sin(x * c)
            return x

        return vk.grad(f)(0.4)

    assert vk.grad(outer)(1.2) == pytest.approx(vk.grad(plain)(1.2), rel=1e-12)


def test_closing_over_what_is_differentiated_says_what_to_do() -> None:
    def f(c: Any) -> Any:
        return vk.checkpoint_loop(lambda x, i: x * c, 1.0, range(5), 2)

    for g in (f, lambda c: vk.checkpoint_loop(lambda x, i: x * c, c, range(5), 2)):
        with pytest.raises(ClosedTraceError, match=r"through args=\(value,\)"):
            vk.grad(g)(2.0)


def test_random_steps_are_an_error() -> None:
    rng = np.random.default_rng(0)
    x = np.ones(10)

    def f(x: Any) -> Any:
        return np.sum(
            vk.checkpoint_loop(lambda x, i: np.sin(x) + rng.normal(size=10), x, range(9), 2)
        )

    with pytest.raises(ClosedTraceError, match="gave another state"):
        vk.grad(f)(x)


def test_no_steps_and_plain_values() -> None:
    assert vk.grad(lambda x: vk.checkpoint_loop(lambda x, i: x * 2, x, [], 2) * 3)(1.0) == 3.0
    assert vk.checkpoint_loop(lambda x, i: x + i, 0, range(5), 1) == 10
    assert vk.checkpoint_loop(lambda x, i: x + i, 0, (i for i in range(5)), 1) == 10


WRONG: Any = 3


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: vk.checkpoint_loop(WRONG, 1.0, range(3), 1), TypeError, "must be a function"),
        (lambda: vk.checkpoint_loop(np.add, 1.0, range(3)), TypeError, "give slots="),
        (
            lambda: vk.checkpoint_loop(np.add, 1.0, range(3), 1, memory=1),
            TypeError,
            "slots= .how many",
        ),
        (lambda: vk.checkpoint_loop(np.add, 1.0, range(3), 0), ValueError, "a positive int, got 0"),
        (lambda: vk.checkpoint_loop(np.add, 1.0, range(3), memory="x"), ValueError, "'100MB'"),
        (lambda: vk.checkpoint_loop(np.add, 1.0, WRONG, 1), TypeError, "must be iterable, got int"),
        (lambda: vk.checkpoint_loop(np.add, "a", range(3), 1), TypeError, "returned a str"),
    ],
)
def test_bad_calls(call: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        call()
    assert "test_revolve.py" in str(caught.value)
