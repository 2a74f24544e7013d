"""Nothing outlives its transformation: no tracer, no trace, no row, with the cycle collector off.

And nothing is shared between transformations that run at the same time.
"""

import gc
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.errors import ClosedTraceError
from vjpkit.core.rows import Guard, Rows
from vjpkit.core.staging import Builder
from vjpkit.core.tracer import Tracer
from vjpkit.transforms.batch import Batches
from vjpkit.transforms.forward import Duals

X = np.array([0.4, -0.9, 1.3])
OURS = (Tracer, Rows, Builder, Duals, Batches, Guard)


def f(x):
    """Every kind of row: ufuncs, products, reductions, reads by index, joins, large constants."""
    y = np.sin(x) * np.arange(3.0) + x @ np.ones((3, 3))
    z = np.concatenate([y[1:], y[[0, 0]]]) / (2.0 + np.exp(x[0]))
    return np.sum(z * z) + np.sum(x[0] * np.ones(20_000))


def raising(x):
    y = np.sin(x) * x[0]
    if np.ndim(y) == 1:
        raise KeyError("midway")
    return y


def swallowed(run):
    """Run, and let an expected error pass."""
    try:
        run()
    except KeyError:
        return
    raise AssertionError("nothing was raised")


def ruled(f):
    """``f`` with its own gradient as a rule."""
    g = vk.custom_vjp(f)
    g.defvjp(lambda x: (f(x), x), lambda x, ct: (ct * vk.grad(f)(x),))
    return g


RUNS = {
    "grad": lambda: vk.grad(f)(X),
    "value_and_grad": lambda: vk.value_and_grad(f)(X),
    "grad of grad": lambda: vk.grad(lambda x: np.sum(vk.grad(f)(x) ** 2))(X),
    "jvp": lambda: vk.jvp(f, (X,), (X,)),
    "jvp of grad": lambda: vk.jvp(vk.grad(f), (X,), (X,)),
    "grad of jvp": lambda: vk.grad(lambda x: vk.jvp(f, (x,), (X,))[1])(X),
    "vjp and pullback": lambda: vk.vjp(f, X)[1](1.0),
    "pullback twice": lambda: [pull(1.0) for pull in [vk.vjp(f, X)[1]] * 2],
    "program of a pullback": lambda: str(vk.vjp(f, X)[1].program),
    "linearize and transpose": lambda: vk.linearize(f, X)[1].T(1.0),
    "jacobian": lambda: vk.jacrev(lambda x: np.tanh(x) * x[0])(X),
    "hessian": lambda: vk.hessian(f)(X),
    "map of grad": lambda: vk.vmap(vk.grad(f))(np.stack([X, X])),
    "grad of map": lambda: vk.grad(lambda x: np.sum(vk.vmap(f)(x)))(np.stack([X, X])),
    "staging": lambda: vk.make_ir(vk.grad(f))(X),
    "grad of a custom rule": lambda: vk.grad(ruled(f))(X),
    "grad of map of a custom rule": lambda: vk.grad(lambda x: np.sum(vk.vmap(ruled(f))(x)))(
        np.stack([X, X])
    ),
    "grad of a checkpoint": lambda: vk.grad(vk.checkpoint(f))(X),
    "checkpoint loop": lambda: vk.grad(
        lambda x: np.sum(vk.checkpoint_loop(lambda x, i: np.sin(x), x, range(9), 3))
    )(X),
    "error in a custom rule": lambda: swallowed(lambda: vk.grad(ruled(raising))(X)),
    "error in a checkpoint loop": lambda: swallowed(
        lambda: vk.grad(lambda x: vk.checkpoint_loop(lambda x, i: raising(x), x, range(9), 3))(X)
    ),
    "error in grad": lambda: swallowed(lambda: vk.grad(raising)(X)),
    "error in grad of grad": lambda: swallowed(
        lambda: vk.grad(lambda x: np.sum(vk.grad(raising)(x)))(X)
    ),
    "error in jvp": lambda: swallowed(lambda: vk.jvp(raising, (X,), (X,))),
    "error in vjp": lambda: swallowed(lambda: vk.vjp(raising, X)),
    "error in map": lambda: swallowed(lambda: vk.vmap(raising)(np.stack([X, X]))),
    "error in staging": lambda: swallowed(lambda: vk.make_ir(raising)(X)),
    "error in jvp of grad": lambda: swallowed(lambda: vk.jvp(vk.grad(raising), (X,), (X,))),
}


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def living():
    return [x for x in gc.get_objects() if isinstance(x, OURS)]


@pytest.mark.parametrize("name", RUNS)
def test_nothing_is_left_behind(name, no_collector):
    RUNS[name]()
    before = set(map(id, living()))
    RUNS[name]()
    left = [x for x in living() if id(x) not in before]
    assert not left, f"{len(left)} left, such as {type(left[0]).__name__}"


@pytest.mark.parametrize("name", RUNS)
def test_memory_does_not_grow(name, no_collector):
    """No cycle of any kind is left for a collector that is not there."""
    for _ in range(3):
        RUNS[name]()
    before = len(gc.get_objects())
    for _ in range(10):
        RUNS[name]()
    assert len(gc.get_objects()) - before < 10


def test_residuals_die_with_the_pullback(no_collector):
    kept = []

    def g(x):
        factor = np.arange(100_000.0)
        kept.append(weakref.ref(factor))
        return np.sum(x[0] * factor)

    _, pullback = vk.vjp(g, X)
    pullback(1.0)
    assert kept[0]() is not None
    del pullback
    assert kept[0]() is None


def test_residuals_of_grad_die_as_they_are_used(no_collector):
    """When the walk reaches the first operations, the residuals of the last ones are gone."""
    kept = []

    def g(x):
        y = x * 1.0
        for _ in range(5):
            factor = np.full(100_000, 1.01)
            kept.append(weakref.ref(factor))
            y = y * factor
        return np.sum(y)

    vk.grad(g)(np.ones(100_000))
    alive = [ref for ref in kept if ref() is not None]
    assert not alive


@pytest.mark.parametrize("run", [
    lambda leak: vk.grad(lambda x: leak(x))(X[0]),
    lambda leak: vk.jvp(leak, (X[0],), (1.0,)),
    lambda leak: vk.vjp(leak, X[0]),
    lambda leak: vk.make_ir(leak)(X[0]),
    lambda leak: vk.vmap(leak)(X),
], ids=["grad", "jvp", "vjp", "make_ir", "vmap"])  # fmt: skip
def test_a_leaked_tracer_raises_and_names_the_line(run):
    leaked = []

    def leak(x):
        leaked.append(np.sin(x))
        return x * x

    run(leak)
    line = sys._getframe().f_lineno + 2
    with pytest.raises(ClosedTraceError, match=rf"test_liveness.py:{line}\b"):
        leaked[0] * 2.0


@pytest.mark.parametrize("run", [
    lambda g: vk.grad(g)(X), lambda g: vk.jvp(g, (X,), (X,)), lambda g: vk.vjp(g, X),
], ids=["grad", "jvp", "vjp"])  # fmt: skip
def test_a_tracer_of_an_inner_transformation_cannot_be_returned(run):
    def g(x):
        leaked = []

        def inner(y):
            leaked.append(y)
            return np.sum(x * y)

        vk.grad(inner)(X)
        return leaked[0]

    with pytest.raises(ClosedTraceError, match="inner transformation"):
        run(g)


def test_an_error_midway_leaves_the_next_run_right():
    wanted = vk.grad(f)(X)
    for name, run in RUNS.items():
        if name.startswith("error"):
            run()
            np.testing.assert_array_equal(vk.grad(f)(X), wanted)


# ------------------------------------------------------------------------------------------ threads


@pytest.fixture
def hasty_switching():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_threads_run_different_transformations_at_once(hasty_switching):
    """8 threads, each with its own transform and point, 25 times: as if each were alone."""
    tasks = [
        lambda x: vk.grad(f)(x),
        lambda x: vk.jvp(f, (x,), (X,))[1],
        lambda x: vk.vjp(f, x)[1](1.0)[0],
        lambda x: vk.jvp(vk.grad(f), (x,), (X,))[1],
        lambda x: vk.grad(lambda y: np.sum(vk.grad(f)(y) * X))(x),
        lambda x: vk.vmap(vk.grad(f))(np.stack([x, 2 * x])),
        lambda x: vk.jacrev(lambda y: np.tanh(y) * y[0])(x),
        lambda x: vk.make_ir(vk.grad(f))(x)(x)[0],
    ]
    points = [X * (1 + 0.01 * k) for k in range(25)]
    wanted = [[np.asarray(task(x)) for x in points] for task in tasks]
    start = threading.Barrier(len(tasks))

    def work(task):
        start.wait()
        return [np.asarray(task(x)) for x in points]

    with ThreadPoolExecutor(len(tasks)) as pool:
        for got, want in zip(pool.map(work, tasks), wanted, strict=True):
            for a, b in zip(got, want, strict=True):
                np.testing.assert_array_equal(a, b)


def test_one_pullback_is_called_from_many_threads(hasty_switching):
    y, pullback = vk.vjp(lambda x: np.tanh(x) * x[0], X)
    cts = np.random.default_rng(3).standard_normal((64, *y.shape))
    wanted = [pullback(ct)[0] for ct in cts]
    with ThreadPoolExecutor(8) as pool:
        for got, want in zip(pool.map(lambda ct: pullback(ct)[0], cts), wanted, strict=True):
            np.testing.assert_array_equal(got, want)


def test_many_threads_record_into_one_trace(hasty_switching):
    """A differentiated function may compute its parts in threads of its own."""
    parts = 16

    def part(x, k):
        y = x
        for _ in range(20):
            y = np.sin(y) * (1.0 + 0.01 * k) + x
        return np.sum(y)

    def threaded(x):
        with ThreadPoolExecutor(8) as pool:
            return sum(pool.map(lambda k: part(x, k), range(parts)))

    wanted = vk.grad(lambda x: sum(part(x, k) for k in range(parts)))(X)
    for _ in range(5):
        np.testing.assert_allclose(vk.grad(threaded)(X), wanted, rtol=1e-12)
    np.testing.assert_allclose(vk.jvp(threaded, (X,), (X,))[1], wanted @ X, rtol=1e-12)
    np.testing.assert_allclose(vk.make_ir(vk.grad(threaded))(X)(X)[0], wanted, rtol=1e-12)


def test_a_trace_is_built_in_one_thread_while_another_runs(hasty_switching):
    """Nothing is tied to the main thread: a tracer may cross over, and come back."""

    def crossing(x):
        out = []
        thread = threading.Thread(target=lambda: out.append(np.sum(np.exp(x) * vk.grad(f)(X))))
        thread.start()
        vk.grad(f)(X + 1)
        thread.join()
        return out[0]

    np.testing.assert_allclose(vk.grad(crossing)(X), np.exp(X) * vk.grad(f)(X), rtol=1e-14)
