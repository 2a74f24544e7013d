"""Kernels that read and add by place give what NumPy gives, or NumPy's error."""

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vjpkit as vk
from vjpkit.backends import executable
from vjpkit.core.aval import aval_of
from vjpkit.core.staging import stage

pytest.importorskip("llvmlite", reason="the native tier is an extra")

from vjpkit.backends.native.places import table_of
from vjpkit.core.primitive import PRIMITIVES


def compiled(f: Any, *values: Any) -> Any:
    closed = stage(f, [aval_of(v) for v in values])
    lowered = executable(closed.program, "native")
    run = lambda *xs: lowered(*closed.consts, *xs)
    return run, [part.where for part in lowered.explain()]


def numbers(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    x = np.random.default_rng(seed).normal(size=shape) * 3
    return x > 0 if dtype == "?" else x.astype(dtype)


def wave(u):
    """Rolled along each axis, and along both."""
    around = np.roll(u, 1, 0) + np.roll(u, -1, 0) + np.roll(u, 2, 1) - np.roll(u, -3, 1)
    return (around - u * u, np.roll(u, (5, -1), (0, 1)) * 2, np.roll(u, 1, 0))


def padded(u):
    """Concatenated with zeros and itself, stacked."""
    edge = np.zeros_like(u[:1])
    return (
        np.concatenate([edge, u * u, edge, u]) * 2,
        np.stack([u, u * u, u + u]) - 1,
        np.concatenate([u, u * u], 1) + np.concatenate([u + u, u], 1),
    )


def triangles(u):
    return (np.tril(u) * 2 + np.triu(u, 1) * 3,)


MOVING = {"wave": wave, "padded": padded, "triangles": triangles}
SHAPES = [(64, 64), (37, 41), (5, 300), (1, 16), (2, 700)]
LAYOUTS: dict[str, Any] = {
    "contiguous": lambda x: x,
    "columns": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x: x[::-1, ::-1],
}


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", MOVING)
def test_elements_that_change_places(name, shape, dtype):
    x = numbers(shape, dtype)
    run, where = compiled(MOVING[name], x)
    if shape[1] > 30:
        assert "native kernel" in where
    for layout in LAYOUTS.values():
        for got, want in zip(run(layout(x)), MOVING[name](layout(x)), strict=True):
            assert (got.shape, got.dtype) == (want.shape, want.dtype)
            np.testing.assert_array_equal(got, want)
            assert got.flags.writeable
            assert not np.may_share_memory(got, x)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (1, 1)], ids=str)
def test_few_elements_or_none(shape):
    x = numbers(shape, "f8")
    for f in MOVING.values():
        for got, want in zip(compiled(f, x)[0](x), f(x), strict=True):
            np.testing.assert_array_equal(got, want)
            assert got.shape == want.shape


def test_truth_values_are_moved():
    x = numbers((40, 50), "?")
    f = lambda x: (np.roll(x, 1, 0) & np.roll(x, 1, 1), np.concatenate([x, ~x]) ^ True)
    run, where = compiled(f, x)
    assert set(where) <= {"native kernel", "one call"}
    for got, want in zip(run(x), f(x), strict=True):
        np.testing.assert_array_equal(got, want)


def test_nothing_but_zeros_and_one_source_keep_the_sign_of_zero():
    x = np.full(100, -0.0)
    f = lambda x: (np.roll(x, 3) * 1.0, np.concatenate([x, x]) * 1.0)
    for got, want in zip(compiled(f, x)[0](x), f(x), strict=True):
        np.testing.assert_array_equal(np.signbit(got), np.signbit(want))
    slices = lambda x: np.sum(x[1:] * x[:-1]) + np.sum(x[2:])
    got, want = vk.jit(vk.grad(slices), backend="native")(x), vk.grad(slices)(x)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("n", [4, 100, 511, 512, 513, 5000])
def test_gradients_of_slices(n):
    def f(x):
        d = x[1:] - x[:-1] * x[:-1]
        return np.sum(100.0 * d * d + (1.0 - x[:-1]) ** 2) + np.sum(np.sin(x[2:] * x[:-2]))

    x = numbers((n,), "f8")
    np.testing.assert_allclose(
        vk.jit(vk.grad(f), backend="native")(x), vk.grad(f)(x), rtol=1e-12, atol=1e-10
    )


def places(shape: tuple[int, ...], n: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(-n, n, shape)


def windows(shape: tuple[int, ...], inner: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Slices of one shape, in an order in which some begin before those laid so far."""
    starts = [0, 2, 1, 2, 0]
    turns = [[starts[(k + axis) % 5] for axis in range(len(shape))] for k in range(5)]
    return [tuple([slice(i, i + n) for i, n in zip(at, inner, strict=True)]) for at in turns]


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize(
    "shape", [(150,), (513,), (5000,), (20, 16), (3, 700), (60, 70), (4, 5, 300)], ids=str
)
def test_what_is_read_by_slices_is_laid_there_on_the_way_back(shape, dtype):
    """Small whole numbers, so that whatever the order of additions the sums are exact."""
    x = np.round(numbers(shape, dtype))
    parts = windows(shape, tuple([n - 2 for n in shape]))

    def f(x):
        total = 0.0
        for k, s in enumerate(parts):
            total = total + (k + 1.0) * np.sum(x[s] * x[parts[k - 1]])
        return total

    fast = vk.jit(vk.grad(f), backend="native")
    np.testing.assert_array_equal(fast(x), vk.grad(f)(x))
    assert fast(x).dtype == dtype
    (last,) = [p for p in fast.explain(x) if "scatter_sum" in str(p)]
    assert last.where == "native kernel"
    assert {"multiply", "scatter_sum"} <= {e.primitive.name for e in last.equations}
    flipped = x[::-1] if x.ndim == 1 else np.asfortranarray(x)
    np.testing.assert_array_equal(fast(flipped), vk.grad(f)(flipped))


def test_the_sign_of_zeros_that_are_laid():
    """What is assigned keeps it, what is added to zeros does not."""
    x = np.linspace(-1.0, 1.0, 900)
    part = lambda x, s: np.sum(np.abs(x[s]) * 0.0 * -1.0)
    one = vk.grad(lambda x: part(x, slice(5, 800)))
    two = vk.grad(lambda x: part(x, slice(5, 800)) + part(x, slice(105, 900)))
    signs = np.signbit(vk.jit(one, backend="native")(x))
    np.testing.assert_array_equal(signs, np.signbit(one(x)))
    assert signs.any()
    assert not np.signbit(vk.jit(two, backend="native")(x)).any()


def test_views_are_read_where_they_lie():
    """A flat kernel would have to copy them first."""
    u = numbers((60, 70), "f8")

    def f(u):
        near = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2]
        return np.sum((near - 4.0 * u[1:-1, 1:-1]) ** 2)

    for g in (f, vk.grad(f), vk.jit(lambda u: vk.hvp(f, (u,), (u,)))):
        fast = vk.jit(g, backend="native")
        np.testing.assert_allclose(fast(u), g(u), rtol=1e-12)
        np.testing.assert_allclose(fast(u.T.copy().T), g(u), rtol=1e-12)
    program = stage(lambda u: (f(u),), [aval_of(u)]).program
    (line,) = [s for s in executable(program, "native").source.splitlines() if "kernel" in s]
    assert line.count(".ravel()") == 1


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "?"])
@pytest.mark.parametrize("shape", [(600,), (20, 31), (4, 5, 6)], ids=str)
def test_elements_at_computed_places(shape, dtype):
    x, y = numbers((9, 7), dtype), numbers((11,), dtype, 1)
    i, j, k = places(shape, 9, 1), places(shape, 7, 2), places(shape, 11, 3)
    pick = lambda a, b: (a & b, a) if dtype == "?" else (a * b, a)
    f = lambda x, y, i, j, k: (
        *pick(x[i, j], y[k]), x[(i + 1) % 9, (j - 3) % 7], np.take(y, k // 2), (i + 1) % 9
    )  # fmt: skip
    run, where = compiled(f, x, y, i, j, k)
    assert set(where) == {"native kernel"}
    for got, want in zip(run(x, y, i, j, k), f(x, y, i, j, k), strict=True):
        np.testing.assert_array_equal(got, want)
        assert got.dtype == want.dtype
    flipped = x[::-1, ::-1]
    np.testing.assert_array_equal(run(flipped, y, i, j, k)[2], f(flipped, y, i, j, k)[2])


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("n", [1, 700, 3000])
def test_what_is_read_at_places_is_added_there_on_the_way_back(n, dtype):
    x = numbers((12, 5), dtype)
    i, j = places((n,), 12, 1), places((n,), 5, 2)

    def f(x, i, j):
        read = x[i, j] * x[(i + 1) % 12, j]
        return np.sum(np.sin(read) * x[i, (j + 2) % 5])

    native = vk.jit(vk.grad(f), backend="native")
    np.testing.assert_allclose(
        native(x, i, j), vk.grad(f)(x, i, j), rtol=1e-11 if dtype == "f8" else 1e-3, atol=1e-4
    )
    assert native(x, i, j).dtype == dtype
    assert "scatter_sum" not in str([p for p in native.explain(x, i, j) if p.where == "one call"])


@pytest.mark.parametrize("bad", [-13, 12, 2**62, -(2**63)])
@pytest.mark.parametrize("at", [0, 700, 1500])
def test_a_place_that_is_not_there_is_numpys_error(at, bad):
    x, i = numbers((12,), "f8"), places((1501,), 12, 1)
    read = vk.jit(lambda x, i: x[i] * 2.0, backend="native")
    add = vk.jit(vk.grad(lambda x, i: np.sum(x[i] ** 2)), backend="native")
    for f in (read, add):
        f(x, i)
        wrong = i.copy()
        wrong[at] = bad
        with pytest.raises(IndexError, match=f"index {bad} is out of bounds for axis 0"):
            f(x, wrong)
        np.testing.assert_array_equal(f(x, i), f(x, i))


@pytest.mark.parametrize("shape", [(1,), (700,), (30, 40)], ids=str)
def test_numbers_of_elements_that_several_arrays_are_read_at(shape):
    """They are found where they are used; a place that is not there is NumPy's error."""
    x, y = numbers((9, 7), "f8"), numbers((9, 7), "f8", 1)
    i, j = places(shape, 9, 1), places(shape, 7, 2)
    f = lambda x, y, i, j: np.sum((x[i, j] * y[i, j] + x[(i + 1) % 9, j] * y[(i + 1) % 9, j]) ** 2)
    for g in (f, vk.grad(f, (0, 1))):
        fast = vk.jit(g, backend="native")
        got, want = (vk.tree.leaves(h(x, y, i, j)) for h in (fast, g))
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
        parts = [p for p in fast.explain(x, y, i, j) if "positions" in str(p)]
        assert parts
        assert {p.where for p in parts} == {"native kernel"}
        for array, bad, n in ((i, 9, 0), (j, -8, 1), (i, -(2**63), 0), (j, 2**62, 1)):
            kept = array.reshape(-1)[-1]
            array.reshape(-1)[-1] = bad
            with pytest.raises(IndexError, match=f"index {bad} is out of bounds for axis {n}"):
                fast(x, y, i, j)
            array.reshape(-1)[-1] = kept


def test_places_that_are_certainly_there_are_not_looked_at():
    """Remainders are, and numbers of elements; remainders by more, or one less, are not."""
    x, i = numbers((9, 7), "f8"), np.arange(-350, 350)

    def f(x, i, rows):
        j, k = i % rows, i % 7
        return np.sum(np.sin(x[j, k]) * x[j, (k + 1) % 7] * x[j, k])

    def faults(f: Any, *values: Any) -> int:
        run = vk.jit(f, backend="native")
        found = run.staged_for(values, {}).execute.source
        return found.count("_fault: return")

    sure = lambda x, i: f(x, i, 9)
    unsure = lambda x, i: f(x, i, 10)
    below = lambda x, i: np.sum(x[i % 9 - 1, i % 7] ** 2)
    for g in (sure, vk.grad(sure)):
        assert faults(g, x, i) == 0
        np.testing.assert_allclose(vk.jit(g, backend="native")(x, i), g(x, i), rtol=1e-12)
    for g in (unsure, vk.grad(unsure)):
        assert faults(g, x, i) > 0
        with pytest.raises(IndexError, match="index 9 is out of bounds for axis 0"):
            vk.jit(g, backend="native")(x, i)
    for g in (below, vk.grad(below)):
        assert faults(g, x, i) > 0
        np.testing.assert_allclose(vk.jit(g, backend="native")(x, i), g(x, i), rtol=1e-12)


@pytest.mark.parametrize("shape", [(12,), (12, 5), (1, 1)], ids=str)
def test_places_at_the_ends(shape):
    x = numbers(shape, "f8")
    read = lambda x, *i: x[i] * 2.0
    for axis, n in enumerate(shape):
        at = [np.zeros(3, int) for _ in shape]
        for good in (-n, n - 1, 0, -1):
            at[axis][1] = good
            run = vk.jit(read, backend="native")
            np.testing.assert_array_equal(run(x, *at), read(x, *at))
        for bad in (-n - 1, n, 2**63 - 1, 2**63 - n, -(2**63), -(2**63) + n):
            at[axis][1] = bad
            with pytest.raises(IndexError, match=f"index {bad} is out of bounds for axis {axis}"):
                vk.jit(read, backend="native")(x, *at)


def test_places_in_doubt_are_computed_exactly():
    """The fast sine takes no such angles: the exact one decides which element is read."""
    x = np.arange(10.0)
    angle = np.append(np.linspace(0, 5, 600), [1e300, 3e10])
    f = lambda x, a: (x[np.floor(9.9 * np.abs(np.sin(a))).astype(int)] + 1.0,)
    np.testing.assert_array_equal(compiled(f, x, angle)[0](x, angle)[0], f(x, angle)[0])


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_whole_numbers_of_floating_ones():
    x = np.array([0.0, -0.0, 0.5, -0.5, 1.9, -1.9, 2.0**52, -(2.0**62), 1e300, -1e300, np.inf,
                  -np.inf, np.nan, 2.0**63, -(2.0**63), 2.0**63 - 1024])  # fmt: skip
    for dtype in ("f8", "f4"):
        f = lambda x: ((x + 0).astype(int) + 1, ~(x * 1).astype(bool))
        with np.errstate(over="ignore"):
            y = x.astype(dtype)
        run, where = compiled(f, y)
        assert set(where) == {"native kernel"}
        for got, want in zip(run(y), f(y), strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("n", [1, 2, 7, -3, -8, 64, 2**62, -(2**63)])
def test_remainders_of_whole_numbers(n):
    ends = [2**63 - 1, -(2**63), 0, 1, -1]
    x = np.concatenate([np.arange(-200, 200), np.array(ends)])
    f = lambda x: ((x + 0) % n, (x + 0) // n)
    run, where = compiled(f, x)
    assert set(where) == {"native kernel"}
    for got, want in zip(run(x), f(x), strict=True):
        np.testing.assert_array_equal(got, want)


def test_sums_of_what_was_moved_and_read():
    x, i = numbers((50, 40), "f8"), places((50, 40), 2000, 3)
    flat = lambda x: x.reshape(-1)
    f = lambda x, i: (
        np.sum(np.roll(x, 1, 0) * x), np.sum(np.roll(x, 1, 1)), np.sum(flat(x)[i] * x)
    )  # fmt: skip
    for got, want in zip(compiled(f, x, i)[0](x, i), f(x, i), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_more_operands_than_a_kernel_has():
    xs = [numbers((30, 30), "f8", seed) for seed in range(70)]
    f = lambda *xs: (sum(np.roll(x, k, k % 2) * x for k, x in enumerate(xs)),)
    program = stage(f, [aval_of(x) for x in xs]).program
    run = executable(program, "native")
    assert {part.where for part in run.explain()} == {"native kernel"}
    assert run.native_ir().count("define void @kernel_") > 2
    np.testing.assert_allclose(run(*xs)[0], f(*xs)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [9, 100, 300])
def test_elements_read_one_by_one(count):
    """The cotangent is a sum of as many parts as there are elements: no pass over all for each."""

    def f(x):
        total = 0.0
        for i in range(count):
            total = total + x[i] * x[i]
        return total * np.sum(np.stack([x[i] for i in range(count)]) ** 2)

    x = numbers((count,), "f8")
    native = vk.jit(vk.grad(f), backend="native")
    np.testing.assert_allclose(native(x), vk.grad(f)(x), rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_fields_read_at_the_same_places_are_added_to_in_one_kernel(count):
    """Whatever comes between them: the sums come as soon as their values are there."""
    i, j = places((700,), 9, 1), places((700,), 9, 2)
    xs = [numbers((9,), "f8", k) for k in range(count)]

    def f(*xs):
        total = 0.0
        for k, x in enumerate(xs):
            total = total + np.sum(np.sin(x[i] * x[j]) * x[i])
            total = total + np.sum(np.cumsum(x) ** 2) * k
        return total

    def twice(*xs):
        """The same array is added to at the same places more than once."""
        return np.sum(np.sin(xs[0][i]) * np.cos(xs[0][i])) + np.sum(xs[0][i] ** 2) + f(*xs)

    for g in (f, twice):
        whole = vk.grad(g, tuple(range(count)))
        fast = vk.jit(whole, backend="native")
        for got, want in zip(fast(*xs), whole(*xs), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)
        parts = [p for p in fast.explain(*xs) if "scatter_sum" in str(p)]
        assert {p.where for p in parts} == {"native kernel"}
        assert len(parts) == 1


def test_numbers_are_added_to_an_array():
    x, y, i = numbers((11, 4), "f8"), numbers((900,), "f8", 1), places((900,), 11, 2)
    j = places((900,), 4, 3)

    def f(x, y, i, j):
        z = x.copy()
        np.add.at(z, (i, j), np.sin(y))
        np.add.at(z, (j, i // 3), y * y)
        return z

    native = vk.jit(f, backend="native")
    np.testing.assert_allclose(native(x, y, i, j), f(x, y, i, j), rtol=1e-13, atol=1e-13)
    assert "add_at" not in str([p for p in native.explain(x, y, i, j) if p.where == "one call"])
    with pytest.raises(IndexError, match="index 11 is out of bounds for axis 0 with size 11"):
        native(x, y, np.where(np.arange(900) == 899, 11, i), j)


@pytest.mark.parametrize("count", [3, 30])
def test_many_sums_at_places_of_one_group(count):
    xs = [numbers((50,), "f8", k) for k in range(count)]
    i = [places((700,), 50, k) for k in range(count)]

    def f(xs, y):
        return np.sum(sum(x[j] * y for x, j in zip(xs, i, strict=True)) ** 2)

    y = numbers((700,), "f8", 99)
    got, want = vk.jit(vk.grad(f), backend="native")(xs, y), vk.grad(f)(xs, y)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-9)


def test_many_threads_read_and_add():
    n = 4000

    def f(x, i):
        return np.sum(np.tanh(x[i] + np.roll(x, 1)) ** 2)

    gradient = vk.jit(vk.grad(f), backend="native")
    x = [numbers((n,), "f8", seed) for seed in range(6)]
    i = [places((n,), n, seed) for seed in range(6)]
    wanted = [gradient(*pair) for pair in zip(x, i, strict=True)]
    wrong: list[int] = []

    def work(k: int) -> None:
        wrong.extend(k for _ in range(20) if not np.array_equal(gradient(x[k], i[k]), wanted[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_short_runs_are_numpys():
    x = numbers((400, 3), "f8")
    run, where = compiled(lambda x: (np.roll(x, 1, 1) * 2 + 1,), x)
    assert where == ["one call", "native kernel"]
    np.testing.assert_array_equal(run(x)[0], np.roll(x, 1, 1) * 2 + 1)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.data())
def test_a_table_says_where_elements_come_from(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=3)))
    axis = data.draw(st.integers(0, len(shape) - 1))
    name = data.draw(st.sampled_from(["roll", "concatenate", "stack"]))
    shift = data.draw(st.integers(-50, 50))
    xs = [np.random.default_rng(k).normal(size=shape) for k in range(1 if name == "roll" else 3)]
    params = (("axes", (axis,)), ("shifts", (shift,))) if name == "roll" else (("axis", axis),)
    table = table_of(PRIMITIVES[name], params, tuple(map(aval_of, xs)))
    want = PRIMITIVES[name].impl(*xs, **dict(params)).ravel()
    if table is None:
        return
    got, start = np.full(want.shape, np.nan), 0
    for end, which, base, step in table.tolist():
        got[start:end] = xs[which].ravel()[base + step * np.arange(start, end)]
        start = end
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("turn", [np.s_[::-1], np.s_[:, ::-1], np.s_[:, 0, None]])
def test_an_array_lives_until_a_kernel_has_read_it_through_a_view(turn):
    def f(x):
        y = np.sin(x)
        y[turn] = y[turn] * 0.4 + 0.5
        return np.sum(y[[4, -6]][..., ::-1] ** 2) + np.sum(y[turn] ** 2)

    x = numbers((90, 7, 2, 5), "f8")
    gradient = vk.vmap(vk.grad(f))
    got = vk.jit(gradient, backend="native")(x)
    np.testing.assert_allclose(got, gradient(x), rtol=1e-13, atol=1e-14)


def test_views_that_nobody_wants_are_not_taken():
    """A kernel reads what they are views of; NumPy, and whoever is given them, the views."""
    u = numbers((60, 70), "f8")

    def f(u):
        v = u * 2.0
        a, b, c = v[1:], v[:-1], v[1:][::2]
        return np.sum(a * b - b), np.sort(c, axis=0), a, c[1:, ::-1]

    run, _ = compiled(f, u)
    for got, want in zip(run(u), f(u), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)
    program = stage(lambda u: (np.sum(u[1:] * u[:-1] - u[1:]),), [aval_of(u)]).program
    lines = executable(program, "native").source.splitlines()
    assert not any("[" in line for line in lines)


def test_gradients_of_views_of_views():
    x = numbers((900,), "f8")

    def f(x):
        y = np.tanh(x)[10:-10]
        z = y[5:] * y[:-5] + y[2:-3]
        return np.sum(z[1:] * z[:-1]) + np.sum(np.sort(y[::3]) * y[::-3])

    for g in (f, vk.grad(f), lambda x: vk.hvp(f, (x,), (np.cos(x),))):
        np.testing.assert_allclose(vk.jit(g, backend="native")(x), g(x), rtol=1e-10, atol=1e-10)
