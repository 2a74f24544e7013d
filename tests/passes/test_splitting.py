"""Loops split: steps do what they must wait for, and all else is done for all steps at once."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vjpkit as vk
from vjpkit.core.ir import check
from vjpkit.passes import optimize
from vjpkit.passes.splitting import FEWEST, with_loops_split

STEPS = 20
GENERATOR = np.random.default_rng(0)
XS, YS = GENERATOR.normal(size=(2, STEPS, 40))
W = GENERATOR.normal(size=(40, 40)) / 6
B = GENERATOR.normal(size=40)
TIERS = ["numpy", "native"]


def loops(program: Any) -> list[tuple[int, int, int, int]]:
    """Of each loop: equations of a step, states, slices read and slices made."""
    return [
        (
            len(e.params["body"].equations),
            e.params["carry"],
            len(e.inputs) - e.params["consts"] - e.params["carry"],
            len(e.outputs) - e.params["carry"],
        )
        for e in program.equations
        if e.primitive.name == "scan"
    ]


def split(f: Any, *values: Any) -> tuple[Any, Any]:
    """The program before and after."""
    program = optimize(vk.make_ir(f)(*values).program)
    made = with_loops_split(program)
    check(made)
    return program, optimize(made)


def same(f: Any, *values: Any, tolerance: float = 1e-11) -> None:
    """Both tiers give what plain Python gives."""
    want = f(*values)
    for tier in TIERS:
        got = vk.jit(f, backend=tier)(*values)
        for a, b in zip(vk.tree.leaves(got), vk.tree.leaves(want), strict=True):
            assert (np.shape(a), np.asarray(a).dtype) == (np.shape(b), np.asarray(b).dtype)
            within = 2e-6 if np.asarray(b).dtype == np.float32 else tolerance
            np.testing.assert_allclose(a, b, within, within)


def network(w, b, xs, ys):
    """A recurrent network: what reads the slices alone, the states, the errors."""

    def step(h, xy):
        x, y = xy
        h = np.tanh(np.exp(-x * x) * b + h @ w)
        error = np.sin(h) - y
        return h, np.sum(error * error)

    return np.sum(vk.lax.scan(step, np.zeros(40), (xs, ys))[1])


def test_a_network_waits_for_its_states_only():
    _, made = split(network, W, B, XS, YS)
    assert loops(made) == [(3, 1, 1, 1)]  # the product, the sum, tanh
    same(network, W, B, XS, YS)


def test_its_gradient_adds_up_nothing_in_the_steps():
    gradient = vk.grad(network, argnums=(0, 1, 2))
    program, made = split(gradient, W, B, XS, YS)
    assert [carry for _, carry, _, _ in loops(program)] == [1, 3]
    forward, backward = loops(made)
    assert forward[:2] == (3, 1)
    assert backward[:2] == (3, 1)
    products = [e for e in made.equations if e.primitive.name == "scale_matmul"]
    assert [e.outputs[0].aval.shape for e in products] == [(40, 40)]
    same(gradient, W, B, XS, YS)


def test_what_is_cheap_is_computed_again_rather_than_stacked():
    def f(p, x):
        def step(c, t):
            a, b = p[0] * c, p[1] * c * c
            d = 0.1 * (a - b) + t
            return c + d, a * a + b * d + np.sin(a) * d + np.cos(b) * a

        return np.sum(vk.lax.scan(step, x, np.linspace(0.0, 0.1, 400))[1])

    p, x = np.array([0.3, 0.2]), np.float64(0.5)
    _, made = split(f, p, x)
    assert [made for *_, made in loops(made)] == [1]  # the states, of which all else is made
    same(f, p, x)
    same(vk.grad(f, argnums=(0, 1)), p, x)


@pytest.mark.parametrize("reverse", [False, True])
def test_directions(reverse):
    def f(w, xs):
        def step(h, x):
            h = np.sin(h @ w + np.exp(x) * x)
            return h, (np.cos(h) * x, h, x)

        return vk.lax.scan(step, np.ones(40), xs, reverse=reverse)

    _, made = split(f, W, XS)
    assert loops(made)[0][:2] == (3, 1)
    same(f, W, XS)
    same(vk.grad(lambda w, xs: sum(np.sum(y**2) for y in vk.tree.leaves(f(w, xs)))), W, XS)


def test_a_loop_whose_steps_wait_for_nothing_is_none():
    def f(b, xs):
        def step(total, x):
            y = np.exp(np.sin(x * b)) - x
            return total - y * y + x, y

        return vk.lax.scan(step, b, xs)

    _, made = split(f, B, XS)
    assert not loops(made)
    same(f, B, XS)
    same(vk.grad(lambda b, xs: np.sum(f(b, xs)[0] ** 2)), B, XS)


SUMS: dict[str, Any] = {
    "added": lambda total, y: total + y,
    "added to": lambda total, y: y + total,
    "subtracted": lambda total, y: total - y,
    "several": lambda total, y: (total - y) + np.sin(y),
    "a constant": lambda total, y: total + B,
}
OTHERS: dict[str, Any] = {
    "subtracted from": lambda total, y: y - total,
    "read twice": lambda total, y: total + y * total,
    "a number": lambda total, y: (total + 1.0) + np.cos(total),
    "doubled": lambda total, y: total + total,
    "smaller": lambda total, y: total + np.sum(y),
}


@pytest.mark.parametrize("name", [*SUMS, *OTHERS])
def test_states_that_add_up(name):
    add = {**SUMS, **OTHERS}[name]

    def f(w, xs):
        def step(state, x):
            h, total = state
            h = np.tanh(h @ w + np.exp(-x * x))
            return (h, add(total, np.sin(h) * x)), np.exp(np.cos(h) + x)

        return vk.lax.scan(step, (np.ones(40), np.ones(40) * 0.1), xs)

    _, made = split(f, W, XS)
    assert loops(made)[0][1] == (1 if name in SUMS else 2)
    same(f, W, XS)
    same(
        vk.grad(lambda w, xs: sum(np.sum(y**2) for y in vk.tree.leaves(f(w, xs)))),
        W,
        XS,
        tolerance=1e-9,
    )


def test_states_of_other_kinds():
    """A counter, one that stays, one that nobody reads, single precision and complex numbers."""

    def f(w, xs):
        def step(state, x):
            i, kept, lost, single, z, h = state
            h = np.tanh(h @ w + np.exp(-x * x))
            new = (i + 1, kept, lost + x, single + h.astype("f4"), z + h * 1j, h)
            return new, (np.sin(h) * kept, i, 2.5, kept)

        first = (0, np.arange(40.0), np.zeros(40), np.zeros(40, "f4"), np.zeros(40, complex), B)
        (i, kept, _, single, z, h), ys = vk.lax.scan(step, first, xs)
        return i, kept, single, z, h, ys

    _, made = split(f, W, XS)
    assert loops(made)[0][1] == 2
    same(f, W, XS)


def test_nobody_reads_a_stack():
    def f(w, xs):
        def step(h, x):
            h = np.tanh(h @ w + np.exp(-x * x))
            return h, (np.log(np.exp(h)), np.linalg.det(np.outer(h, h)))

        return vk.lax.scan(step, np.ones(40), xs)[0]

    _, made = split(f, W, XS)
    assert loops(made) == [(3, 1, 1, 0)]
    same(f, W, XS)


def test_what_prints_or_may_raise_stays_in_the_steps(capsys):
    def f(w, xs):
        def step(h, x):
            y = np.exp(-x * x) + np.sin(x) * np.cos(x)
            vk.debug.print("{}", x[0])
            h = np.tanh(h @ w + y)
            return h, np.linalg.solve(np.eye(40) + np.outer(h, h), y) * np.exp(h) * np.sin(y)

        return vk.lax.scan(step, np.ones(40), xs)

    _, made = split(f, W, XS)
    ((_, states, _, _),) = loops(made)
    assert states == 1
    inside = next(e for e in made.equations if e.primitive.name == "scan").params["body"].equations
    kinds = [e.primitive.name for e in inside]
    assert "solve" in kinds
    assert "sin" not in kinds
    assert [e.primitive.effect for e in inside].count(True) == 1
    vk.jit(f, backend="numpy")(W, XS)
    assert capsys.readouterr().out.split() == [str(x) for x in XS[:, 0]]
    same(f, W, XS, tolerance=1e-9)
    with pytest.raises(np.linalg.LinAlgError):
        vk.jit(lambda xs: vk.lax.scan(lambda h, x: (h, np.linalg.inv(x.reshape(5, 8)[:, :5] * 0.0)
               @ np.exp(np.sin(x[:5]))), 0.0, xs))(XS)  # fmt: skip


def test_large_steps_and_few_stay():
    few = XS[: FEWEST - 1]
    program, made = split(network, W, B, few, few)
    assert loops(made) == loops(program)
    wide = np.ones((STEPS, 5000))

    def f(xs):
        step = lambda h, x: (np.tanh(h + np.exp(-x * x) * np.sin(x)), np.sin(h) * x)
        return vk.lax.scan(step, np.ones(5000), xs)

    program, made = split(f, wide)
    assert loops(made) == loops(program)


def test_a_schedule_stays():
    def f(w, xs):
        step = lambda h, x: (np.tanh(h @ w + np.exp(-x * x) * np.sin(x)), None)
        return np.sum(vk.lax.scan(step, np.ones(40), xs, checkpoint="revolve", slots=3)[0])

    same(vk.grad(f), W, XS)


def test_within_other_loops_and_maps():
    def f(w, xs):
        def outer(c, x):
            inner = lambda h, s: (np.tanh(h @ w * c + np.exp(-x * s)), np.sin(h) * s)
            h, ys = vk.lax.scan(inner, np.ones(40), np.linspace(0.0, 1.0, STEPS))
            return c * np.cos(np.sum(h)), np.sum(ys) + np.exp(np.sum(x))

        return vk.lax.scan(outer, 0.7, xs * 0.1)

    same(f, W, XS)
    same(vk.grad(lambda w, xs: np.sum(f(w, xs)[1])), W, XS, tolerance=1e-9)
    many = np.stack([XS, YS])
    same(vk.vmap(lambda xs: network(W, B, xs, YS)), many)
    same(vk.vmap(vk.grad(network), in_axes=(None, None, 0, None)), *[W, B, many, YS])


def test_second_order():
    product = lambda b, v: vk.hvp(lambda b: network(W, b, XS, YS), (b,), (v,))
    same(product, B, XS[0], tolerance=1e-9)
    reverse = lambda b, v: vk.grad(lambda b: vk.grad(lambda b: network(W, b, XS, YS))(b) @ v)(b)
    same(reverse, B, XS[0], tolerance=1e-9)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_values_that_are_not_finite(value):
    """A branch not taken, a logarithm of what is not positive, and a value from outside."""
    xs = XS.copy()
    xs[3, 5] = value

    def f(w, xs):
        def step(h, x):
            good = np.where(np.isfinite(x), x, 0.0)
            root = np.where(good > 0.0, np.sqrt(good) * np.log(good), 0.0)
            h = np.tanh(h @ w + root)
            return h, np.where(h > 0.5, np.log(h - 0.5), 0.0) + np.exp(good)

        h, ys = vk.lax.scan(step, np.ones(40), xs)
        return np.sum(h) + np.sum(ys)

    with np.errstate(all="ignore"):
        same(vk.grad(f, argnums=(0, 1)), W, xs)
        assert np.all(np.isfinite(vk.jit(vk.grad(f))(W, xs)))
        for tier in TIERS:
            got = vk.jit(vk.grad(network, argnums=(0, 1)), backend=tier)(W, B, xs, YS)
            want = vk.grad(network, argnums=(0, 1))(W, B, xs, YS)
            for a, b in zip(got, want, strict=True):
                np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))


STEP = st.lists(
    st.tuples(st.sampled_from("sctelmadwp"), st.integers(0, 99), st.integers(0, 99)),
    min_size=4, max_size=14,
)  # fmt: skip
UNARY: dict[str, Any] = {"s": np.sin, "c": np.cos, "t": np.tanh, "e": lambda x: np.exp(-x * x),
         "l": lambda x: np.log(1.5 + np.sin(x))}  # fmt: skip
BINARY: dict[str, Any] = {"m": lambda x, y: x * y, "a": lambda x, y: x + y, "d": lambda x, y: x - y,
          "w": lambda x, y: np.where(x > y, x, 0.5 * y),
          "p": lambda x, y: x / (1.0 + y * y)}  # fmt: skip


@given(STEP, st.lists(st.integers(0, 99), min_size=6, max_size=6), st.booleans(), st.booleans(),
       st.sampled_from([(), (3,), (40,)]))  # fmt: skip
def test_random_steps(words, chosen, reverse, adds, shape):
    """Whatever states, slices and stacks are made of."""
    generator = np.random.default_rng(1)
    xs, ys = generator.normal(size=(2, STEPS, *shape))
    a, b = generator.normal(size=(2, *shape))

    def f(a, b, xs, ys):
        def step(state, xy):
            h, g, total = state
            values = [h, g, *xy, a]
            for word, i, j in words:
                x, y = values[i % len(values)], values[j % len(values)]
                values.append(UNARY[word](x) if word in UNARY else BINARY[word](x, y))
            pick = [values[i % len(values)] for i in chosen]
            total = total + pick[4] if adds else np.tanh(total - pick[4])
            return (np.sin(pick[0]), np.cos(pick[1]), total), (pick[2], np.sum(pick[3]), pick[5])

        return vk.lax.scan(step, (a, b, b), (xs, ys), reverse=reverse)

    def loss(a, b, xs, ys):
        return sum(np.sum(np.sin(y)) for y in vk.tree.leaves(f(a, b, xs, ys)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vjpkit.passes.splitting.WORTH", -100.0)
        functions: tuple[Any, ...] = (f, vk.grad(loss, argnums=(0, 1, 2, 3)))
        for g in functions:
            program, made = split(g, a, b, xs, ys)
            for x, y in zip(made.eval(a, b, xs, ys), program.eval(a, b, xs, ys), strict=True):
                np.testing.assert_allclose(x, y, 1e-9, 1e-9)


def test_a_long_loop_is_split_where_it_reads_much_already(monkeypatch):
    def f(x, xs):
        step = lambda c, t: (c * np.sin(t) + np.cos(t), np.sum(c * t * t))
        return vk.lax.scan(step, x, xs)

    xs = np.linspace(0.0, 1.0, 20 * 40).reshape(20, 40)
    counts = []
    for spare, times in ((1 << 20, 0), (0, 8), (0, 0)):
        monkeypatch.setattr("vjpkit.passes.splitting.SPARE", spare)
        monkeypatch.setattr("vjpkit.passes.splitting.TIMES", times)
        _, made = split(f, np.ones(40), xs)
        counts.append(loops(made)[0][0])
        same(f, np.ones(40), xs)
    assert counts[0] == counts[1] < counts[2]
