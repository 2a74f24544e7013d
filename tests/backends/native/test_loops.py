"""Staged loops as kernels: forward and reverse, every structural primitive, results of NumPy's."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk

pytest.importorskip("llvmlite", reason="the native tier is an extra")

X = np.array([[0.5, -0.3, 1.2], [0.1, 0.8, -0.6]])
W = np.array([[0.3, -0.2, 0.4], [0.1, 0.5, -0.3], [0.7, -0.1, 0.2]])


def scanned(step, length=5, reverse=False, xs=None):
    def f(x, w):
        last, ys = vk.lax.scan(
            lambda c, t: step(c, w, t), x, xs, length=None if xs is not None else length,
            reverse=reverse,
        )  # fmt: skip
        return np.sum(last * last) + np.sum(np.sin(ys))

    return f


def written(c, w, t):
    z = np.zeros_like(c)
    z[0, 1:] = c[1, :2] * 2.0
    z[:, 0] += c[:, 2]
    return z * 0.5 + c * 0.1, z


def nested(c, w, t):
    inner = lambda a, b: (a * 0.8 + b @ a * 0.1, (np.sum(a), a[0]))
    last, (sums, rows) = vk.lax.scan(inner, c, np.stack([w[:2, :2], w[1:, 1:]]), reverse=True)
    return last, rows * sums[:, None]


STEPS: dict[str, Any] = {
    "elementwise": lambda c, w, t: (np.tanh(c) * 0.9 + np.where(c > 0, c, 0.1 * c), np.exp(-c * c)),
    "matrix": lambda c, w, t: (np.tanh(c @ w), c @ w @ w.T),
    "vector": lambda c, w, t: (c * (w @ c[0])[0] * 0.5 + c[1] @ w @ c[0] * 0.1, c[0] @ w),
    "shapes": lambda c, w, t: (
        np.concatenate([c[:, 1:], c[:, :1]], axis=1) * 0.9,
        np.stack([c.T.reshape(2, 3), np.roll(c, 1)]),
    ),
    "reductions": lambda c, w, t: (
        c / np.max(np.abs(c)) - np.mean(c, axis=0), np.sum(c, axis=1) + np.min(c),
    ),
    "written": written,
    "pairs": lambda c, w, t: (
        c + 0.1 * np.sum((c[:, None] - c[None]) ** 2, axis=1), np.diagonal(c[:, :2]),
    ),
    "reduced": lambda c, w, t: (
        c / (1.0 + np.std(c, axis=0)) - np.var(c, ddof=1), np.prod(c, axis=1) + np.min(c * c),
    ),
    "running": lambda c, w, t: (
        np.cumsum(c, axis=1) * 0.3 - np.cumsum(c[::-1], axis=0), np.cumsum(np.cos(c)),
    ),
    "triangles": lambda c, w, t: (c @ np.tril(w) @ np.triu(w, 1), np.tril(c, -1) + c),
    "named indices": lambda c, w, t: (
        np.einsum("ij,kj,k->ik", c, w, w[0]) * 0.5, np.einsum("ij,ij->i", c, c @ w),
    ),
    "branches": lambda c, w, t: (
        vk.lax.cond(np.sum(c) > 0.6, lambda c: c * np.cos(c), lambda c: 0.7 - c @ w, c),
        vk.lax.switch(np.where(np.all(c < 0.9), 1, np.where(np.any(c > 1.1), 2, 0)),
                      [np.sin, np.exp, lambda c: c * c], c[0]),
    ),
    "loops within": nested,
    "functions": lambda c, w, t: (
        np.sin(c) + np.log1p(c * c) + np.sqrt(1 + c * c) * 0.1, np.arctan(c) + np.abs(c),
    ),
}  # fmt: skip
WHAT: dict[str, Any] = {
    "value": lambda f: f,
    "gradient": lambda f: vk.grad(f, argnums=(0, 1)),
    "tangent": lambda f: lambda x, w: vk.jvp(f, (x, w), (w[:2], x[[0, 1, 0]])),
    "curvature": lambda f: vk.grad(lambda x, w: np.sum(vk.grad(f)(x, w) ** 2)),
}


def assert_same(got: Any, want: Any) -> None:
    for a, b in zip(vk.tree.leaves(got), vk.tree.leaves(want), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_loops(name, reverse, what):
    f = WHAT[what](scanned(STEPS[name], reverse=reverse))
    fast = vk.jit(f, backend="native")
    assert_same(fast(X, W), f(X, W))
    where = [part.where for part in fast.explain(X, W) if "scan" in str(part)]
    assert where, "there is a loop"
    assert set(where) == {"native loop"}, fast.explain(X, W)


def test_slices_of_any_layout_and_type():
    xs = np.arange(24.0).reshape(3, 2, 4).transpose(2, 1, 0)[::-1]
    f = scanned(lambda c, w, t: (c * 0.9 + t, (t > 3.0) & (c > 0)), xs=xs)
    g = lambda x, w: vk.lax.scan(
        lambda c, t: (np.where(t[0] > 5.0, c + 1, c), t[1] * 2), np.arange(3), (xs[:, 0], xs)
    )
    assert_same(vk.jit(f, backend="native")(X, W), f(X, W))
    assert_same(vk.jit(g, backend="native")(X, W), g(X, W))


JOINED: dict[str, Any] = {
    "integers": lambda c: np.concatenate([c, np.arange(3)]),
    "truth values": lambda c: np.concatenate([c > 0, c]),
    "single precision": lambda c: np.concatenate([c.astype("f4"), c]),
    "stacked": lambda c: np.stack([np.arange(3), c, c.astype("f4")]),
}


@pytest.mark.parametrize("what", JOINED)
def test_arrays_of_several_dtypes_are_joined(what):
    join = JOINED[what]
    step = lambda c, _: (c * 0.9, (np.sum(join(c)), np.max(join(c)), join(c) * 2.0))
    f = lambda x: vk.lax.scan(step, x, None, length=4)
    fast = vk.jit(f, backend="native")
    assert_same(fast(X[0]), f(X[0]))
    assert {part.where for part in fast.explain(X[0])} == {"native loop"}
    g = vk.grad(lambda x: np.sum(f(x)[1][2] ** 2))
    assert_same(vk.jit(g, backend="native")(X[0]), g(X[0]))


def test_stacks_of_a_loop_with_many_operands_are_no_copies():
    """A kernel has 64 operands and results: what is small is joined first, then stacks too."""

    def f(x, t, states, stacks):
        parts = [t * k for k in range(stacks)]

        def step(cs, rows):
            return [c * 0.9 + rows[i % stacks] for i, c in enumerate(cs)], cs[0]

        return vk.lax.scan(step, [x + k for k in range(states)], parts)

    t = np.linspace(0.0, 1.0, 12).reshape(4, 3)
    for states, stacks in ((31, 4), (5, 70)):
        g = lambda x, states=states, stacks=stacks: f(x, t, states, stacks)
        fast = vk.jit(g, backend="native")
        vk.tree.map(assert_same, fast(X[0]), g(X[0]))
        assert "native loop" in {part.where for part in fast.explain(X[0])}


def test_truth_values_are_multiplied_by_numpy():
    mask = np.array([True, True, False])
    f = lambda m: vk.lax.scan(lambda c, _: (c, c @ np.ones((3, 3), bool)), m, None, length=2)
    fast = vk.jit(f, backend="native")
    assert_same(fast(mask), f(mask))
    assert "matmul of truth values" in str(fast.explain(mask)[0])


def test_sums_of_negative_zeros_are_positive():
    step = lambda c, w: (
        c * 1.0, (np.sum(c), np.sum(c, axis=0), np.sum(c, axis=1), c @ w, c[:1] @ w[:, :1]),
    )  # fmt: skip
    f = lambda x, w: vk.lax.scan(lambda c, _: step(c, w), x, None, length=2)[1]
    zeros, fast = -np.zeros((2, 3)), vk.jit(f, backend="native")
    assert "native loop" in {part.where for part in fast.explain(zeros, W)}
    for got, want in zip(fast(zeros, abs(W)), f(zeros, abs(W)), strict=True):
        assert np.array_equal(np.signbit(got), np.signbit(want))


def test_single_precision_and_numbers():
    f = lambda x: vk.lax.scan(lambda c, t: (np.sin(c) * t, c), x, np.ones(3, "f4"))
    got, want = vk.jit(f, backend="native")(np.float32(0.5)), f(np.float32(0.5))
    for a, b in zip(vk.tree.leaves(got), vk.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_angles_too_large_for_the_fast_form():
    f = lambda x: vk.lax.scan(lambda c, _: (np.sin(c) + c * 1e5, c), x, None, length=4)
    assert_same(vk.jit(f, backend="native")(1.5), f(1.5))


def test_what_no_kernel_takes_runs_on_numpy_and_says_why():
    step = {
        "argsort": lambda c, _: (np.sort(c) * 0.5, None),
        "more than 8000 elements": lambda c, _: (c @ np.ones((3, 1000)) @ np.ones((1000, 3)), None),
    }
    for reason, body in step.items():
        f = lambda x, body=body: vk.lax.scan(body, x, np.array([[0, 1, 2], [2, 1, 0]]))[0]
        fast = vk.jit(f, backend="native")
        assert_same(fast(X[0]), f(X[0]))
        assert reason in "\n".join(map(str, fast.explain(X[0])))


def test_steps_too_large_for_registers_are_machine_code_one_by_one():
    grid = np.sin(np.arange(10_000.0)).reshape(100, 100)

    def spread(c, _):
        around = np.roll(c, 1, 0) + np.roll(c, -1, 0) + np.roll(c, 1, 1) + np.roll(c, -1, 1)
        return c + 0.1 * (np.tanh(around) - c), np.sum(c)

    def counted(c):
        step = lambda s: (spread(s[0], None)[0], s[1] + 1)
        return np.sum(vk.lax.while_loop(lambda s: s[1] < 3, step, (c, 0))[0] ** 2)

    f = lambda c: np.sum(vk.lax.scan(spread, c, None, length=3)[0] ** 2)
    for g in (f, counted, vk.grad(f), vk.grad(counted)):
        fast = vk.jit(g, backend="native")
        assert_same(fast(grid), g(grid))
        parts = [
            p for p in fast.explain(grid) if any(w in str(p) for w in ("scan", "while", "pull"))
        ]
        assert {part.where for part in parts} == {"native steps"}, parts


def test_the_text_of_a_loop_can_be_read():
    fast = vk.jit(scanned(STEPS["elementwise"]), backend="native").compile(X, W)
    assert "define void @loop_" in fast.native_ir(X, W)
    assert fast.cache_info().misses == 1
    assert vk.jit(np.sin).native_ir(X) == ""


def rates(p, steps):
    """Runge-Kutta steps of two populations, whose rates are numbers."""
    a, b, c, d = p[0], p[1], p[2], p[3]
    slope = lambda u, v: (a * u - b * u * v, c * u * v - d * v)

    def step(state, _):
        (u, v), h = state, 0.01
        du, dv = slope(u, v)
        eu, ev = slope(u + h * du, v + h * dv)
        return (u + 0.5 * h * (du + eu), v + 0.5 * h * (dv + ev)), None

    u, v = vk.lax.scan(step, (p[4], p[5]), length=steps)[0]
    return u * u + v


def test_the_states_are_stored_rather_than_what_follows_from_them():
    p = np.array([1.1, 0.4, 0.1, 0.4, 10.0, 5.0])
    fast = vk.jit(vk.grad(rates), static_argnums=1, backend="native")
    assert_same(fast(p, 20), vk.grad(rates)(p, 20))
    loops = [part for part in fast.explain(p, 20) if "scan" in str(part)]
    assert [part.where for part in loops] == ["native loop"]
    forward, _ = [e for e in loops[0].equations if e.primitive.name == "scan"]
    assert [v.aval.shape for v in forward.outputs] == [(), (), (20,), (20,)]


@pytest.mark.parametrize("dtypes", [("f8",), ("f8", "f4", "i8", "?")])
def test_loops_of_more_operands_than_a_ufunc_takes(dtypes):
    kinds = [dtypes[i % len(dtypes)] for i in range(40)]
    inits = [np.arange(i % 3 + 1).astype(kind) for i, kind in enumerate(kinds)]
    numbers = [np.asarray(i % 5 - 2).astype(kind)[()] for i, kind in enumerate(kinds)]
    xs = [np.arange(6.0).reshape(3, 2) * i for i in range(5)]

    def f(inits, numbers, xs):
        larger = lambda a, b: (np.logical_or if a.dtype == bool else np.maximum)(a, b)
        step = lambda c, x: (
            [larger(a, b) for a, b in zip(c, numbers, strict=True)],
            [*[a[0] for a in c], *[y + numbers[0] for y in x]],
        )
        return vk.lax.scan(step, inits, xs)

    fast = vk.jit(f, backend="native")
    assert_same(fast(inits, numbers, xs), f(inits, numbers, xs))
    assert {part.where for part in fast.explain(inits, numbers, xs)} == {"native loop"}


@pytest.mark.parametrize("x", [[0.0, 1.0], [4.0, np.nan], [np.inf, 0.0]])
def test_an_exact_zero_wins_in_the_backward_loop(x):
    """A derivative that is infinite where nothing depends on it."""
    step = lambda c, _: (np.where(c > 0.0, np.sqrt(c), 0.0) * 0.5 + c * 0.5, None)
    f = lambda x: np.sum(vk.lax.scan(step, x, length=3)[0])
    fast, x = vk.jit(vk.grad(f), backend="native"), np.array(x)
    with np.errstate(all="ignore"):
        assert_same(fast(x), vk.grad(f)(x))
    assert np.isfinite(fast(np.array([0.0, 1.0]))).all()


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 17])
def test_bits_do_not_depend_on_the_place_in_a_register(n):
    """Each element as in a loop over it alone."""
    names = ["exp", "log1p", "sin", "tan", "arctan", "tanh", "sqrt", "floor", "isfinite", "sign"]
    step = lambda c, _: (c, [getattr(np, name)(c) for name in names])
    f = vk.jit(lambda x: vk.lax.scan(step, x, length=1)[1], backend="native")
    x = np.linspace(0.1, 3e9, n)
    whole, alone = f(x), [f(x[i : i + 1]) for i in range(n)]
    for j in range(len(names)):
        assert whole[j][0].tobytes() == b"".join(ys[j].tobytes() for ys in alone)


@pytest.mark.parametrize("n", [1, 5, 8, 13])
def test_whatever_the_number_of_elements(n):
    x = np.linspace(-1.0, 1.0, 2 * n).reshape(2, n)

    def step(c, t):
        a = np.concatenate([c[1, ::-1], c[0, : n // 2], t[:1]])
        m = np.max(c, axis=0) + np.sum(a) + np.min(a[None] * np.ones((2, 1)), axis=1)[0]
        c = np.stack([c[0] * t + m, np.where(c[0] > c[1], c[1], 0.5 * t)]) * 0.3
        return c, (c.T @ c, np.sum(c[:, :0], axis=1) + 1.0, a, c > 0.0)

    f = lambda x: vk.lax.scan(step, x, x)
    fast = vk.jit(f, backend="native")
    assert_same(fast(x), f(x))
    g = vk.grad(lambda x: np.sum(f(x)[0]) + np.sum(f(x)[1][0] ** 2) + np.sum(f(x)[1][2]))
    assert_same(vk.jit(g, backend="native")(x), g(x))
    assert {part.where for part in fast.explain(x)} == {"native loop"}


def test_an_element_that_is_read_twice_is_added_twice():
    step = lambda c, _: (c * 0.5 + c[(0, 0, 1), (2, 2, 0)], None)
    f = lambda x: np.sum(vk.lax.scan(step, x, length=3)[0] ** 2)
    x = np.arange(9.0).reshape(3, 3)
    assert_same(vk.jit(vk.grad(f), backend="native")(x), vk.grad(f)(x))


WHILE: dict[str, Any] = {
    "root": lambda x, w: vk.lax.while_loop(
        lambda y: np.abs(y * y - x[0, 0]) > 1e-12, lambda y: 0.5 * (y + x[0, 0] / y), x[0, 0]
    ),
    "limit": lambda x, w: vk.lax.while_loop(
        lambda s: (np.sum(s[0] ** 2) < w[0, 0] * 100) & (s[1] < 20),
        lambda s: (s[0] * 1.2 + np.sin(s[0] @ w), s[1] + 1), (x, 0),
    ),
    "no step": lambda x, w: vk.lax.while_loop(lambda c: np.sum(c) > 1e9, lambda c: c * w[:2], x),
    "a whole number as condition": lambda x, w: vk.lax.while_loop(
        lambda s: 3 - s[0], lambda s: (s[0] + 1, s[1] * 0.5), (0, w)
    )[1],
    "bounds that are computed": lambda x, w: vk.lax.fori_loop(
        0, np.where(x[0, 0] > 0, 4, 2), lambda i, c: c * 0.5 + i, w
    ),
    "examples": lambda x, w: vk.vmap(
        lambda a: vk.lax.while_loop(lambda c: c < 5.0, lambda c: c * 1.5 + 0.1, a)
    )(np.abs(x[0])),
    "angles too large": lambda x, w: vk.lax.while_loop(
        lambda s: np.sin(s[0]) + 2.0 > s[1] * 0.2,
        lambda s: (s[0] * 3e4 + 1.0, s[1] + 1), (x[0, 0], 0),
    ),
    "nan": lambda x, w: vk.lax.while_loop(
        lambda c: np.all(c < 100.0), lambda c: c * 2.0 + np.log(c), x - 0.4
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WHILE)
def test_loops_whose_number_of_steps_is_not_known(name):
    f = WHILE[name]
    fast = vk.jit(f, backend="native")
    with np.errstate(all="ignore"):
        assert_same(fast(X, W), vk.jit(f, backend="numpy")(X, W))
    loops = [part for part in fast.explain(X, W) if "while" in str(part)]
    assert [part.where for part in loops] == ["native loop"], fast.explain(X, W)
    assert "define void @loop_" in fast.native_ir(X, W)


def test_what_is_doubtful_does_not_go_on():
    """Fast forms give nonsense for huge angles; a loop that waits for it would never end."""
    step = lambda s: (np.where(s[0] < 1e10, 1e300, s[0] * 0.5), s[1] + 1)
    f = lambda x: vk.lax.while_loop(lambda s: (np.abs(np.sin(s[0])) < 2.0) & (s[1] < 9), step, x)
    start = (np.float64(1.0), np.int64(0))
    assert_same(vk.jit(f, backend="native")(start), vk.jit(f, backend="numpy")(start))


def test_the_gradient_of_a_loop_of_unknown_length():
    f = lambda a: vk.lax.while_loop(
        lambda y: np.abs(y * y - a) > 1e-12, lambda y: 0.5 * (y + a / y), a
    )
    assert_same(vk.jit(vk.grad(f), backend="native")(2.0), vk.grad(f)(2.0))


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("n", [1000, 5001])
def test_running_sums_have_numpys_bits(n, dtype):
    x = np.random.default_rng(n).normal(size=n).astype(dtype)
    x[:3], x[-2:] = -0.0, -0.0
    x[700:702] = np.inf, -np.inf
    for f in (np.cumsum, lambda x: np.cumsum(x[::-1])[::-1], lambda x: np.cumsum(x[:900:-1])):
        fast = vk.jit(f, backend="native")
        with np.errstate(invalid="ignore"):
            got, want = fast(x), f(x)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(want[want == 0]))
        assert got.dtype == want.dtype
    weighted = vk.grad(lambda x: np.sum(np.cumsum(x) ** 2 * np.linspace(0, 1, n)))
    fast = vk.jit(weighted, backend="native")
    assert sum(part.where == "native loop" for part in fast.explain(x)) == 2
    assert fast.native_ir(x).count("define void @loop_") == 2
    y = np.where(np.isfinite(x), x, 1).astype(dtype)
    np.testing.assert_allclose(fast(y), weighted(y), rtol=1e-11 if dtype == "f8" else 1e-3)
