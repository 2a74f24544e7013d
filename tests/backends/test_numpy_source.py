"""The NumPy tier: fresh results, no state, the exact form where the quick one makes a nan."""

import threading
import tracemalloc

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.backends import executable
from vjpkit.core.aval import aval_of
from vjpkit.core.staging import stage

X = np.array([0.3, -1.2, 2.5])


def compiled(f, *values):
    closed = stage(f, [aval_of(v) for v in values])
    run = executable(closed.program)
    return lambda *xs: run(*closed.consts, *xs)


def test_results_share_memory_with_nothing():
    f = compiled(lambda x: (x, x, x[1:], x.T, x.reshape(3, 1), np.broadcast_to(x, (2, 3))), X)
    outs = f(X)
    for i, y in enumerate(outs):
        assert y.flags.writeable
        assert not any(np.may_share_memory(y, other) for other in (X, *outs[:i]))


def test_an_unknown_backend_is_an_error_that_names_the_known_ones():
    program = stage(lambda x: (x + 1,), [aval_of(X)]).program
    with pytest.raises(ValueError, match=r"'fortran'; there are 'auto', 'numpy', 'native'"):
        executable(program, "fortran")


def test_a_nan_that_a_comparison_would_read_is_decided_exactly():
    """The partial of sqrt is infinite at 0, where the cotangent is 0."""

    def f(x):
        g = vk.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0)))(x)
        return (np.where(g == 0, 1.0, 2.0), np.fmax(g, -1.0))

    x = np.array([0.0, 4.0])
    with np.errstate(all="ignore"):
        outs = compiled(f, x)(x)
    np.testing.assert_array_equal(outs[0], [1.0, 2.0])
    np.testing.assert_array_equal(outs[1], [0.0, 0.25])


def test_many_threads_share_one_executable():
    f = compiled(vk.value_and_grad(lambda x: np.sum(np.sin(x) * np.exp(-x * x))), np.ones(20000))
    inputs = [np.random.default_rng(i).standard_normal(20000) for i in range(8)]
    wanted = [f(x) for x in inputs]
    wrong = []

    def work(i):
        for _ in range(10):
            for got, want in zip(f(inputs[i]), wanted[i], strict=True):
                if not np.array_equal(got, want):
                    wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", "complex64"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3)])
def test_dtypes_and_shapes(dtype, shape):
    x = np.full(shape, 0.5, dtype)[()]
    f = lambda x: (np.sum(2.0 * x * x), np.sin(x) - 1, -x / 1, x * np.float32(2))
    closed = stage(f, [aval_of(x)])
    for got, want in zip(executable(closed.program)(x), closed(x), strict=True):
        assert type(got) is type(want)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def softmax(x, y):
    m = vk.lax.stop_gradient(np.max(x, axis=1, keepdims=True))  # of it there is rounding alone
    z = x - m
    return -np.sum(y * (z - np.log(np.sum(np.exp(z), axis=1, keepdims=True)))) / len(x)


def chain(x, y):
    z = np.sin(x) * np.exp(-x * y) + np.where(x > 0, x, 0.1 * x) ** 2
    return np.sum(z / (1 + y * y))


def columns(x, y):
    mean = np.mean(x, axis=0)
    return np.sum(np.tanh((x - mean) * y[0]) ** 2) + np.sum(np.maximum(np.abs(x), 0.5) ** 1.5)


@pytest.mark.parametrize("f", [softmax, chain, columns])
@pytest.mark.parametrize(
    "shape", [(1, 1), (7, 3), (1000, 140), (433, 331), (5, 40000), (140000, 1)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_give_what_whole_arrays_give(f, shape, dtype):
    rng = np.random.default_rng(0)
    x, y = (rng.uniform(0.1, 1.0, shape).astype(dtype) for _ in range(2))
    closed = vk.make_ir(vk.value_and_grad(f, argnums=(0, 1)))(x, y)
    run = executable(closed.program)
    eps = np.finfo(dtype).eps
    for xs in ((x, y), (np.asfortranarray(x), y[::-1])):
        for v in xs:
            v.flags.writeable = False
        before = [v.copy() for v in xs]
        outs = run(*closed.consts, *xs)
        for got, want in zip(outs, closed(*xs), strict=True):
            assert got.dtype == want.dtype
            scale = np.max(np.abs(want)) if f is not softmax else 1.0
            np.testing.assert_allclose(got, want, 1e4 * eps, 100 * eps * scale)
        for v, old in zip(xs, before, strict=True):
            np.testing.assert_array_equal(v, old)
        assert not np.may_share_memory(outs[1], outs[2])


def test_large_elementwise_work_makes_no_whole_temporaries():
    x = np.ones(400_000)
    f = compiled(vk.value_and_grad(lambda x: np.sum(np.sin(x))), x)
    f(x)
    tracemalloc.start()
    f(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 1.1 * x.nbytes  # the gradient itself


def test_an_error_midway_leaves_nothing_behind():
    x = np.linspace(0.1, 1.0, 140_000)
    f = compiled(lambda x: (np.sum(np.log(x) * x), np.linalg.inv(np.outer(x[:2], x[:2]))), x)
    for _ in range(2):
        with pytest.raises(np.linalg.LinAlgError):
            f(np.ones(140_000))


def test_complex_blocks():
    z = np.exp(1j * np.linspace(0.0, 3.0, 140_000))
    closed = stage(lambda z: (np.sin(z) * z + np.conj(z), np.sum(z * z)), [aval_of(z)])
    for got, want in zip(executable(closed.program)(z), closed(z), strict=True):
        np.testing.assert_allclose(got, want, 1e-12, 1e-12)


def test_an_executable_runs_within_itself():
    """A call in the middle of a call, here from NumPy's handler of errors, has its own blocks."""
    x = np.linspace(0.0, 1.0, 140_000)
    other = np.linspace(0.1, 2.0, 140_000)
    f = compiled(lambda x: (np.cos(x) * np.log(x) + np.sin(x), x * x), x)
    seen = []

    def handler(kind, flag):
        seen.append(f(other)[0])

    with np.errstate(divide="ignore"):
        wanted = f(x)
    with np.errstate(divide="call", call=handler):
        got = f(x)
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], f(other)[0])
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_explain_says_which_equations_run_where():
    closed = vk.make_ir(lambda x: np.sum(np.sin(x) * x) / 2)(np.ones(150_000))
    first, last = executable(closed.program).explain()
    assert str(first).startswith("blocks of 30720 elements: sin multiply sum ")
    assert str(last) == "one call: divide   (a number)"


def lines_of(f, *values):
    return executable(stage(f, [aval_of(v) for v in values]).program).source.splitlines()


@pytest.mark.parametrize("shift", [0, 1, -1, 2, 7, -9])
@pytest.mark.parametrize("axis", [0, 1])
def test_rolls_are_parts_the_other_way_round(shift, axis):
    x = np.arange(20.0).reshape(4, 5)
    np.testing.assert_array_equal(
        compiled(lambda x: (np.roll(x, shift, axis),), x)(x)[0], np.roll(x, shift, axis)
    )
    np.testing.assert_array_equal(
        compiled(lambda x: (np.roll(x[:0], shift, axis),), x)(x)[0], x[:0]
    )
    assert any("concatenate" in line for line in lines_of(lambda x: (np.roll(x, 1, axis),), x))


@pytest.mark.parametrize("dtype", ["f4", "f8", "c16", "i8", "f2"])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (0, 3), (3, 0), (2, 600), (1, 1)])
def test_sums_along_one_axis(shape, keepdims, dtype):
    x = (np.arange(np.prod(shape)) % 7).reshape(shape).astype(dtype)
    for axis in range(len(shape)):

        def f(x, axis=axis):
            return (np.sum(x, axis, keepdims=keepdims),)

        got, want = compiled(f, x)(x)[0], np.sum(x, axis, keepdims=keepdims)
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want)


def test_sums_of_infinities_and_nans():
    x = np.zeros((6, 4))
    x[0, 0], x[1, 1], x[2, :2], x[3, 3] = np.inf, np.nan, (np.inf, -np.inf), -np.inf
    with np.errstate(invalid="ignore"):
        for axis in (0, 1):
            run = compiled(lambda x, axis=axis: (np.sum(x, axis),), x)
            np.testing.assert_array_equal(run(x)[0], np.sum(x, axis))


def test_a_long_row_is_added_up_pairwise():
    x = np.full((2, 10**6), 0.1)
    (total,) = compiled(lambda x: (np.sum(x, 1),), x)(x)
    np.testing.assert_array_equal(total, np.sum(x, 1))


@pytest.mark.parametrize("dtype", ["i8", "u1", "i2"])
def test_elements_taken_by_integers(dtype):
    x, places = np.arange(7.0), np.array([[3, 0], [6, 3]], dtype)
    run = compiled(lambda x, places: (x[places],), x, places)
    np.testing.assert_array_equal(run(x, places)[0], x[places])
    if dtype != "u1":
        np.testing.assert_array_equal(run(x, places - 7)[0], x[places - 7])
    for bad in (places + 5, places * 0 + 100):
        with pytest.raises(IndexError, match="out of bounds"):
            run(x, bad)


def test_elements_taken_by_truth_values():
    x, mask = np.arange(4.0), np.array([True, False, True, True])
    closed = vk.make_ir(lambda x: x[mask])(x)
    np.testing.assert_array_equal(executable(closed.program)(*closed.consts, x)[0], x[mask])


def test_slices_less_others():
    """What is added as a minus is subtracted, and views are not copied to be made flat."""

    def f(x):
        y = 3.0 * x[1:-1, 1:-1] - x[2:, 1:-1] - x[1:-1, :-2]
        return np.sum(y * y * y)

    x = np.random.default_rng(0).normal(size=(400, 400))
    lines = lines_of(lambda x: (vk.grad(f)(x),), x)
    assert any("-= " in line for line in lines)
    assert not any("reshape" in line for line in lines)
    np.testing.assert_allclose(vk.jit(vk.grad(f), backend="numpy")(x), vk.grad(f)(x), 1e-12, 1e-12)


def test_one_minus_slice():
    def f(x):
        return -np.sum(np.sin(x[1:]) * x[1:] + x[:-1])

    np.testing.assert_allclose(vk.jit(vk.grad(f), backend="numpy")(X), vk.grad(f)(X), 1e-14)


def test_values_added_at_places():
    def f(x, places):
        sums = np.zeros(4, like=x)
        np.add.at(sums, places, x)
        return (sums, vk.grad(lambda x: np.sum(x[places] ** 2 * x[places[:2, None]]))(x))

    x, places = np.array([0.5, -1.0, 2.0]), np.array([2, 0, 2])
    lines = lines_of(f, x, places)
    assert sum("add_at" in line for line in lines) == 3
    for got, want in zip(compiled(f, x, places)(x, places), f(x, places), strict=True):
        np.testing.assert_allclose(got, want, 1e-14)
    np.testing.assert_array_equal(compiled(f, x, places)(x, places)[0], [-1.0, 0.0, 2.5, 0.0])


@pytest.mark.parametrize("n", [3, 300])
def test_a_basis_is_kept_and_not_written_to(n):
    x = np.linspace(0.0, 1.0, n)
    run = vk.jit(vk.hessian(lambda x: np.sum(x * x) ** 2), backend="numpy")
    first = run(x)
    first += 1.0
    np.testing.assert_allclose(run(x), first - 1.0)
    basis = vk.jit(vk.jacfwd(lambda x: 1.0 * x), backend="numpy")(x)
    basis += 1.0
    np.testing.assert_array_equal(vk.jit(vk.jacfwd(lambda x: 1.0 * x))(x), np.eye(n))


def test_of_what_is_repeated_the_small_one_is_looked_at_for_nan():
    def f(x):
        g = vk.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0)))(x)
        return (np.add(g[:, None], np.ones((1, 50))),)

    x = np.array([0.0, *[4.0] * 49])
    lines = lines_of(f, x)
    (asked,) = [line for line in lines if "!= greatest" in line]
    assert lines.index(asked) < len(lines) - 2
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(compiled(f, x)(x)[0][:, 0], [1.0, *[1.25] * 49])


@pytest.mark.parametrize("value", [0.5, np.inf, np.nan, 1e200])
@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_large_products_are_asked_by_their_factors(value, backend):
    """A row that is masked adds nothing, whatever is in it: zero wins in the product."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(4, 300))
    x[2, 5] = value
    kept = np.array([[True], [True], [False], [True]])

    def f(w, x):
        return np.sum(np.where(kept, np.tanh(x @ w), 0.0))

    w = generator.normal(size=(300, 200)) / 300
    gradient = vk.jit(vk.grad(f), backend=backend)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(gradient(w, x), vk.grad(f)(w, x), 1e-12, 1e-12)
        assert np.all(np.isfinite(gradient(w, x)))
    source = executable(vk.make_ir(vk.grad(f))(w, x).program, backend).source
    assert source.count(".dot(flat) < inf") == 2
    assert source.count("if not tame") == 1


@pytest.mark.parametrize("value", [0.5, np.inf, np.nan, 1e200])
def test_products_of_columns_and_rows_are_asked_by_their_factors(value):
    """The gradient of each example, where the one that is masked has zero."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 20))
    x[2, 5] = value
    kept = np.arange(64) != 2

    def f(w, x, k):
        return np.sum(np.where(k, np.tanh(x @ w), 0.0))

    w = generator.normal(size=(20, 30)) / 20
    each = vk.vmap(vk.grad(f), in_axes=(None, 0, 0))
    with np.errstate(all="ignore"):
        got = vk.jit(each, backend="numpy")(w, x, kept)
        np.testing.assert_allclose(got, each(w, x, kept), 1e-12, 1e-12)
        assert np.all(np.isfinite(got))
    source = executable(vk.make_ir(each)(w, x, kept).program, "numpy").source
    assert source.count(".dot(flat) < inf") == 2
    assert source.count("not tame") == 1


@pytest.mark.parametrize("layout", ["C", "F", "strided"])
def test_small_products_are_quick_where_warnings_are_no_news(layout):
    """A derivative, of which warnings are no news, asks `ndarray.dot`; a function `matmul`."""
    generator = np.random.default_rng(0)
    x, a, v = (generator.normal(size=shape) for shape in ((7, 5), (5, 6), (6,)))
    x = {"C": x, "F": np.asfortranarray(x), "strided": np.repeat(x, 2, axis=1)[:, ::2]}[layout]

    def f(x, a, v):
        return np.sum(np.sin(x @ a @ v))

    gradient = vk.grad(f, argnums=(0, 1, 2))
    run = vk.jit(gradient, backend="numpy")
    for _ in range(2):
        for got, want in zip(run(x, a, v), gradient(x, a, v), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-13)
    assert "dot" in run.staged_for((x, a, v), {}).execute.source
    product = vk.jit(lambda x, a: x @ a, backend="numpy")
    np.testing.assert_array_equal(product(x, a), x @ a)
    large = np.full((2, 2), 1e200)
    for _ in range(3):
        with pytest.warns(RuntimeWarning, match="overflow encountered in matmul"):
            product(large, large)
        assert np.isinf(vk.jit(vk.grad(f), backend="numpy")(large, large, large[0])).sum() == 0


def test_writes_go_into_an_array_that_is_not_needed_any_more():
    def written(x):
        y = x * 2.0
        for i in range(1, 20):
            y[i] = y[i - 1] * x[i]
        y[3:9:2] += 1.0
        y[np.argsort(x[:4])] = x[4]
        return np.sum(y**2)

    def kept(x):
        y = x * 2.0
        before, row = y.copy(), y[2:4]
        y[2] = x[0]
        part = row * before[2]
        y[3] = part[0]
        return part + before[3:5] * y[1:3]

    x = np.random.default_rng(0).random(300)
    for f, copies in ((written, 1), (kept, 2)):  # one where a slice is read
        for g in (f, lambda x, f=f: vk.jvp(f, (x,), (x,))[1], lambda x, f=f: vk.vjp(f, x)[1](f(x))):
            given = x.copy()
            np.testing.assert_allclose(vk.jit(g, backend="numpy")(given), g(x), 1e-13)
            np.testing.assert_array_equal(given, x)
        source = vk.jit(f, backend="numpy").lower(x).compile().as_text()
        assert source.count("update_") == copies


def test_cotangents_of_single_elements_are_added_where_they_belong():
    def f(x):
        y = np.copy(x)
        for i in range(1, 30):
            y[i] = y[i - 1] * 0.5 + np.sin(x[i])
        return np.sum(y**2)

    x = np.random.default_rng(0).random(3000)
    for g in (vk.grad(f), lambda x: vk.hvp(f, (x,), (x,)), lambda x: vk.grad(f)(x) + x[0]):
        np.testing.assert_allclose(vk.jit(g, backend="numpy")(x), g(x), 1e-13, 1e-13)
    source = vk.jit(vk.grad(f), backend="numpy").lower(x).compile().as_text()
    assert source.count("update_") == 1
    assert source.count("zeros(") <= 1


def test_what_is_not_needed_any_more_becomes_the_result():
    """But for one element, which NumPy writes to new memory sooner than over an operand."""
    f = lambda x: np.tanh((np.sin(x) * 2.0 + x) / 3.0) - 1.0
    for size, over in ((1, 0), (2, 4)):
        x = np.full(size, 0.3 + 0.1j)
        lowered = executable(vk.make_ir(f)(x).program)
        np.testing.assert_array_equal(lowered(x)[0], f(x))
        np.testing.assert_array_equal(x, np.full(size, 0.3 + 0.1j))
        lines = lowered.source.splitlines()
        assert sum(" *= " in s or " += " in s or " /= " in s or " -= " in s for s in lines) == over
