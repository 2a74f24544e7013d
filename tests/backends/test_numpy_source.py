"""The NumPy tier: fresh results, no state, the exact form where the quick one makes a nan."""

import threading

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
    with pytest.raises(ValueError, match=r"'fortran'; there are 'numpy'"):
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
