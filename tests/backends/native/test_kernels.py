"""Kernels give what NumPy gives: every primitive, dtype, layout; sums; programs of all kinds."""

import gc
import os
import subprocess
import sys
import threading
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import vjpkit as vk
from tests.laws.test_metamorphic import POINT, close, programs
from vjpkit.backends import executable
from vjpkit.core.aval import aval_of
from vjpkit.core.ir import Equation, Var
from vjpkit.core.primitive import PRIMITIVES
from vjpkit.core.staging import stage

pytest.importorskip("llvmlite", reason="the native tier is an extra")

from vjpkit.backends.native import engine
from vjpkit.backends.native.equations import ELEMENTARY, is_native, why_not
from vjpkit.backends.native.kernels import BLOCK, Kernel, most_at_once

DTYPES = ("f8", "f4", "i8", "?")
VALUES = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, np.inf, -np.inf, np.nan, 1e308, -1e-310, 7.0]


def compiled(f: Any, *values: Any) -> Any:
    closed = stage(f, [aval_of(v) for v in values])
    run = executable(closed.program, "native")
    return lambda *xs: run(*closed.consts, *xs)


def operands(dtype: str, count: int) -> list[np.ndarray]:
    """Arrays in which all pairs of `VALUES` meet."""
    with np.errstate(all="ignore"):
        x = np.array(VALUES)
        x = np.where(np.isfinite(x) & (np.abs(x) < 1e9), x, 9.0) if dtype in "i8?" else x
        grid = np.meshgrid(*[x.astype(dtype)] * count)
    return [g.ravel() for g in grid]


def cases() -> list[tuple[str, str]]:
    """Elementwise primitives and dtypes that kernels compute."""
    found = []
    for name, primitive in PRIMITIVES.items():
        twins = {"scale": 2, "same": 2}
        count: int = getattr(getattr(primitive, "ufunc", None), "nin", twins.get(name, 0))
        for dtype in DTYPES if count else ():
            avals = [aval_of(x) for x in operands(dtype, count)]
            try:
                out = primitive.abstract(*avals)
            except TypeError:
                continue
            eqn = Equation(primitive, tuple(map(Var, avals)), {}, (Var(out),))
            if is_native(eqn):
                found.append((name, dtype))
    return found


CASES = cases()


def test_there_are_many_cases():
    assert len({name for name, _ in CASES}) >= 50


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_every_primitive(name: str, dtype: str):
    primitive = PRIMITIVES[name]
    count = getattr(getattr(primitive, "ufunc", None), "nin", 2)
    xs = operands(dtype, count)
    inputs = tuple([Var(aval_of(x)) for x in xs])
    out = Var(primitive.abstract(*[v.aval for v in inputs]))
    kernel = Kernel(inputs, (), (Equation(primitive, inputs, {}, (out,)),), (out,)).compile()
    with np.errstate(all="ignore"):
        got, want = kernel(*xs), primitive.impl(*xs)
    assert got.dtype == want.dtype
    if name in ELEMENTARY:
        np.testing.assert_allclose(got, want, rtol=2e-15 if dtype != "f4" else 2e-7, atol=0)
    elif name == "scale":
        np.testing.assert_array_equal(got, want)
    else:
        np.testing.assert_array_equal(got, want)
        zero = got == 0 if got.dtype.kind == "f" and name[-3:] not in ("mum", "max", "min") else []
        assert np.array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


@settings(max_examples=8, derandomize=True, deadline=None)
@given(programs)
def test_random_programs(f):
    closed = vk.make_ir(vk.value_and_grad(f.scalar))(POINT)
    outs = executable(closed.program, "native")(*closed.consts, POINT)
    for got, want in zip(outs, closed(POINT), strict=True):
        assert aval_of(got).strong() == aval_of(want).strong()
        close(got, want)


def model(x, y):
    mask = x > 0.2
    z = np.where(mask, np.exp(-x) * y, np.sin(x) + np.cos(x)) / (1.0 + x * x)
    return np.sum(z * z) + np.sum(z), z, mask, np.sqrt(np.abs(z)) * y


LAYOUTS: dict[str, Any] = {
    "contiguous": lambda x: x,
    "columns": lambda x: np.asfortranarray(x),
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x: x[::-1, ::-1],
    "transposed": lambda x: x.T,
    "read-only": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "empty": lambda x: x[:0],
    "one": lambda x: x[:1, :1],
}


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, dtype):
    generator = np.random.default_rng(0)
    x, y = (LAYOUTS[layout](generator.normal(size=(37, 41)).astype(dtype)) for _ in range(2))
    got, want = compiled(model, x, y)(x, y), model(x, y)
    for a, b in zip(got, want, strict=True):
        assert (a.shape, a.dtype, type(a)) == (b.shape, b.dtype, type(b))
        np.testing.assert_allclose(a, b, rtol=1e-13 if dtype == "f8" else 2e-5, atol=1e-6)
        assert not np.may_share_memory(a, x)


NONE = np.array([], dtype=int)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sin(x[NONE]) * 2.0,
        lambda x: (np.cos(np.sin(x[NONE])), np.sum(np.sin(x[NONE]) * 3.0)),
        lambda x: np.exp(x[:0]) / np.sum(np.exp(x[:0])),
        vk.grad(lambda x: np.sum(np.sin(x[NONE]) * 2.0) + np.sum(x)),
    ],
    ids=["read", "added up", "sliced", "pulled back"],
)
def test_elements_at_no_places(f):
    x = np.arange(4.0)
    for got, want in zip(compiled(f, x)(x), f(x), strict=True):
        np.testing.assert_array_equal(got, want)


def test_operands_are_broadcast():
    x, y, z = np.arange(6.0).reshape(2, 3), np.array([[0.5], [2.0]]), np.arange(3.0)
    f = lambda x, y, z: (x * y + np.exp(-z) * x, x - y * z)
    for got, want in zip(compiled(f, x, y, z)(x, y, z), f(x, y, z), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-15)


@pytest.mark.parametrize("n", [1, 7, 8, 9, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5, 10**6])
def test_sums_are_as_exact_as_compensated_ones(n):
    x = np.random.default_rng(0).normal(size=n) * 10.0 ** np.linspace(0, 6, n)
    f = compiled(lambda x: (np.sum(x * x), np.sum(x * 1.0)), x)
    got = f(x)
    exact = [np.sum((x * x).astype("g")), np.sum(x.astype("g"))]
    scale = [float(np.sum(x * x)), float(np.sum(np.abs(x)))]
    for a, b, s in zip(got, exact, scale, strict=True):
        assert abs(float(a - b)) <= 2e-15 * s


def test_sums_that_are_not_finite():
    f = compiled(lambda x: (np.sum(x * 2.0), np.sum(x + 1.0)), np.ones(9))
    for bad in (np.inf, -np.inf, np.nan):
        x = np.ones(9)
        x[4] = bad
        np.testing.assert_array_equal(f(x), [2 * bad, bad])


def test_shapes_of_sums():
    x = np.arange(6.0).reshape(2, 3)
    f = lambda x: (np.sum(x * x + 1.0, keepdims=True), np.sum(x * x + 1.0, axis=(0, 1)), x * x + 1)
    for got, want in zip(compiled(f, x)(x), f(x), strict=True):
        assert type(got) is type(want)
        np.testing.assert_array_equal(got, want)


def test_groups_of_more_operands_than_a_ufunc_takes():
    xs = [np.linspace(-1.0, 1.0, 7) + i for i in range(45)]

    def f(*xs):
        moved = [np.sin(x) * y for x, y in pairwise(xs)]
        return (*moved, sum(moved), np.sum(moved[0] * moved[-1]))

    for got, want in zip(compiled(f, *xs)(*xs), f(*xs), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-14)


def test_results_are_fresh_and_private():
    f = compiled(lambda x: (x * x + 1.0, x * x + 1.0, np.sin(x) * x), POINT)
    first = f(POINT)
    for i, y in enumerate(first):
        assert y.flags.writeable
        assert not any(np.may_share_memory(y, z) for z in (POINT, *first[:i]))
    first[0][:] = 0.0
    np.testing.assert_array_equal(f(POINT)[0], POINT * POINT + 1.0)


def test_no_warnings_come_from_kernels():
    f = compiled(lambda x: (np.log(x) / x + 1.0,), np.ones(3))
    with np.errstate(all="raise"):
        out = f(np.array([0.0, -1.0, 1e-310]))[0]
    assert np.isnan(out[1])


@pytest.mark.parametrize("n", [1, 16, 17, 700])
@pytest.mark.parametrize("bad", range(4))
def test_an_exact_zero_wins_in_each_of_several_products(n, bad):
    """Whichever product is of zero and an infinity, and wherever they come together in a sum."""

    def f(x, *where):
        parts = [
            np.where(w, np.sqrt(y), 0.0) for w, y in zip(where, (x, 2.0 * x, x * x), strict=True)
        ]
        return np.sum(parts[0] - 3.0 * parts[1] * parts[2] + x * parts[1]) + np.sum(parts[2] * x)

    rng = np.random.default_rng(n + bad)
    x, where = np.abs(rng.normal(size=n)), rng.random((3, n)) > 0.3
    x[rng.integers(0, n)] = 0.0
    where[:, x == 0.0] = np.arange(3)[:, None] == bad - 1  # one of them, or none, is chosen there
    with np.errstate(all="ignore"):
        want = vk.grad(f)(x, *where)
        got = vk.jit(vk.grad(f), backend="native")(x, *where)
        np.testing.assert_allclose(got, want, rtol=1e-12)
        assert np.isfinite(got).all() == (bad != 1)
    twice = lambda x: vk.grad(lambda x: np.sum(vk.grad(f)(x, *where) * x))(x)
    with np.errstate(all="ignore"):
        got = vk.jit(twice, backend="native")(x)
        np.testing.assert_allclose(got, twice(x), rtol=1e-10)


def test_kernels_of_views_are_silent():
    """So a call of theirs need not tell NumPy that warnings are no news."""
    slices = lambda x: np.sum(np.sin(x[1:] * x[:-1]) / x[1:])
    for f, silent in (
        (vk.grad(slices), True),
        (lambda x: np.sin(x[::-1] * 2.0) + x, True),
        (lambda x: np.cumsum(np.sin(x) * x), False),
        (lambda x: np.exp(x)[1:] + np.sort(x)[1:], False),
    ):
        assert executable(vk.make_ir(f)(POINT).program, "native").silent == silent
    with np.errstate(all="raise"):
        fast = vk.jit(vk.grad(slices), backend="native")
        for _ in range(3):  # the last call is the door's
            out = fast(np.array([1.0, 0.0, 2.0, 3.0]))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(out, vk.grad(slices)(np.array([1.0, 0.0, 2.0, 3.0])))


def test_threads_share_kernels():
    f = compiled(vk.value_and_grad(lambda x: np.sum(np.sin(x) * np.exp(-x * x))), np.ones(20000))
    inputs = [np.random.default_rng(i).standard_normal(20000) for i in range(8)]
    wanted = [f(x) for x in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            pairs = zip(f(inputs[i]), wanted[i], strict=True)
            if not all(np.array_equal(got, want) for got, want in pairs):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_explain_says_what_runs_where_and_why():
    f = lambda x: np.sum(np.cumsum(np.sin(x) * x) * x + np.spacing(x))
    program = stage(lambda x: (f(x),), [aval_of(POINT)]).program
    words = "\n".join(map(str, executable(program, "native").explain()))
    assert "native kernel: sin multiply   (one pass over" in words
    assert "one call: cumsum   (NumPy has the loop)" in words
    assert "one call: spacing   (spacing is not in the kernels' table)" in words


def test_programs_of_branches_checkpoints_and_rules_are_compiled_by_themselves():
    h = lambda x: np.sin(x) * np.cos(x) + x
    rule = vk.custom_rule(h, jvp=lambda p, t: (h(*p), t[0] * np.cos(2.0 * p[0]) + t[0]))
    branch = lambda x: vk.lax.cond(np.sum(x) > 0, h, lambda x: x, x)
    for name, f in (("branch", branch), ("checkpoint", vk.checkpoint(h)), ("custom", rule)):
        fast = vk.jit(f, backend="native")
        np.testing.assert_allclose(fast(POINT), f(POINT), rtol=1e-14)
        words = "\n".join(map(str, fast.explain(POINT)))
        assert f"native programs: {name}" in words, words
    turned = vk.jit(vk.checkpoint(lambda x: x[::-1] @ x), backend="native")
    assert "one call: checkpoint" in str(turned.explain(POINT)[0])


@pytest.mark.parametrize("a", [2.0, 3, np.float32(2), np.float64(2), np.array(2.0)], ids=repr)
def test_pythons_numbers_stay_what_they_are(a):
    x = np.ones(3, "f4")
    for f in (lambda a: a * 2 + a * a - 3 * a + a * a * a - 1, lambda a: (a * 2 - a * a) * x + a):
        got, want = vk.jit(f, backend="native")(a), f(a)
        assert (type(got), getattr(got, "dtype", None)) == (
            type(want),
            getattr(want, "dtype", None),
        )
        np.testing.assert_array_equal(got, want)


def test_reasons():
    x, c = Var(aval_of(np.ones(3))), Var(aval_of(np.ones(3, complex)))
    add, power = PRIMITIVES["add"], PRIMITIVES["power"]
    assert why_not(Equation(add, (c, c), {}, (c,))) == "kernels have no complex128"
    assert why_not(Equation(power, (x, x), {}, (x,))) is None
    n = Var(aval_of(np.arange(3)))
    assert why_not(Equation(power, (n, n), {}, (n,))) == "power of i64"


SCRIPT = """
import sys, numpy as np, vjpkit as vk
f = vk.jit(lambda x: np.sin(x) * x + 1.0, backend="native")
x = np.linspace(0.0, 1.0, 1000)
assert np.allclose(f(x), np.sin(x) * x + 1.0)
"""


def test_object_code_is_kept_in_a_private_folder(tmp_path, monkeypatch):
    place = tmp_path / "cache"
    monkeypatch.setenv("VJPKIT_CACHE", str(place))
    run = lambda: subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=120)
    both = [threading.Thread(target=run) for _ in range(2)]
    for t in both:
        t.start()
    for t in both:
        t.join()
    files = list(place.iterdir())
    assert files
    assert {p.suffix for p in files} == {".o"}
    assert place.stat().st_mode & 0o777 == 0o700
    for path in files:
        good = path.read_bytes()
        path.write_bytes(good[:100] + b"?" + good[101:])  # what is damaged is made anew
        run()
        assert path.read_bytes() == good
    place.chmod(0o777)  # a folder that others may write to is not used
    for path in files:
        path.unlink()
    run()
    assert list(place.iterdir()) == []


def test_the_folder_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "folder", lambda: tmp_path)
    monkeypatch.setattr(engine, "LARGEST_CACHE", 5 * 132)
    now = time.time()
    for age, name in [(7200, "broken.part"), (10, "going_on.part")]:
        (tmp_path / name).write_bytes(b"?")
        os.utime(tmp_path / name, (now - age, now - age))
    for k in range(8):
        key = f"1{k:03}"
        engine.write_cached(key, bytes(100))
        os.utime(tmp_path / f"{key}.o", (now - 100 + k, now - 100 + k))
    assert len(list(tmp_path.iterdir())) == 10
    assert engine.read_cached("1000") == bytes(100)  # now the last one used
    engine.write_cached("0", bytes(100))
    kept = {"0.o", "1000.o", "1007.o", "1006.o", "going_on.part"}
    assert {p.name for p in tmp_path.iterdir()} == kept


def test_without_llvmlite_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['llvmlite'] = None\n"
        "import numpy as np, vjpkit as vk\n"
        "try: vk.jit(lambda x: x + 1, backend='native')(np.ones(2))\n"
        "except ImportError as error: print(error)\n"
        "print(vk.jit(lambda x: x + 1)(np.ones(2)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install vjpkit[native]" in done.stdout
    assert "[2. 2.]" in done.stdout


@pytest.mark.parametrize("count", [20, 70, 130])
def test_groups_with_more_operands_than_a_kernel_has_are_several(count):
    generator = np.random.default_rng(count)
    xs = [generator.normal(size=5) for _ in range(count)]

    def f(xs, y):
        total = 0.0
        for x in xs:
            total = total + np.sin(x) * y * x
        return np.sum(total)

    gradient = vk.grad(f, argnums=(0, 1))
    compiled = vk.jit(gradient, backend="native")
    want, got = gradient(xs, xs[0]), compiled(xs, xs[0])
    for a, b in zip(*map(vk.tree_util.tree_leaves, (want, got)), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-13, atol=1e-13)
    assert {part.where for part in compiled.explain(xs, xs[0])} == {"native kernel"}


@pytest.mark.parametrize("n", [1, 4, 3 * BLOCK + 5])
def test_the_gradient_of_a_long_chain_is_one_kernel(n):
    """Half of its values are kept for the way back, on the stack: blocks are short."""

    def chain(x):
        for i in range(300):
            x = np.tanh(x * 1.5) - 0.1 * (i % 3)
        return np.sum(x)

    x = np.linspace(-2.0, 2.0, n)
    gradient = vk.jit(vk.value_and_grad(chain), backend="native")
    want, got = vk.value_and_grad(chain)(x), gradient(x)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-12)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-10)
    assert len(gradient.explain(x)) == 1


def test_the_loops_of_an_unrolled_loop_are_one_function():
    """LLVM takes some ten milliseconds for a loop with a function such as tanh."""

    def chain(x, steps):
        for _ in range(steps):
            x = np.tanh(x) * 1.01 + 0.1
        return x

    texts = []
    for steps in (10, 20):
        program = stage(lambda x, n=steps: (chain(x, n),), [aval_of(POINT)]).program
        texts.append(executable(program, "native").native_ir())
    assert [text.count("define internal i64 @stage") for text in texts] == [1, 1]


@pytest.mark.parametrize("count", [3, 6, 15])
def test_many_values_at_once(count):
    """As many as are read stay until the last sum; a loop takes fewer elements at a time then."""

    def f(*xs):
        products = [x * y for x, y in pairwise(xs)]
        total = products[0]
        for a, b in zip(reversed(products), xs, strict=False):
            total = total * 0.5 + a * b
        return total

    xs = [np.random.default_rng(i).normal(size=1030) for i in range(count)]
    program = stage(lambda *xs: (f(*xs),), [aval_of(x) for x in xs]).program
    most = most_at_once(program.equations)
    assert count <= most <= 2 * count
    text = executable(program, "native").native_ir()
    bits = engine.host().vector_bits
    assert (f"<{bits // 32} x double>" in text) == (most <= bits // 32)
    got = compiled(lambda *xs: (f(*xs),), *xs)(*xs)[0]
    np.testing.assert_allclose(got, f(*xs), rtol=1e-11, atol=1e-13)


@pytest.mark.skipif(not hasattr(np.sin, "__dict__"), reason="what its ufuncs do not hold, is kept")
def test_machine_code_dies_with_its_function():
    def run(k):
        f = vk.jit(lambda x: np.sin(x) * x + k, backend="native")
        x = np.linspace(0.0, 1.0, 100)
        np.testing.assert_allclose(f(x), np.sin(x) * x + k, rtol=1e-14)
        return f

    gc.collect()
    before = set(engine.LOADED)
    kept = [run(float(k)) for k in range(20)]
    alive = set(engine.LOADED) - before
    assert len(alive) >= 20
    kept.clear()
    gc.collect()
    assert alive.isdisjoint(engine.LOADED)
    assert engine.DEAD
    run(100.0)  # disposes of them
    run(101.0)
    assert len(engine.DEAD) <= 2
