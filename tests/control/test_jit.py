"""jit: one program per signature, the same results, every transform inside and outside."""

import itertools
import threading
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
import vjpkit.numpy as vnp
from vjpkit.core.errors import ClosedTraceError, TracerConversionError
from vjpkit.pytree import flatten

X, Y = np.linspace(0.1, 1.0, 4), np.array([1.0, -2.0, 0.5, 3.0])


def program(x, y):
    return np.sum(np.sin(x) * y) + np.mean(x) ** 2


def written(x, y):
    z = np.zeros_like(x)
    z[1:] = x[:-1] * y[1:]
    z *= x
    return np.sum(z * z)


def matrices(x, y):
    a = np.outer(x, x) + np.diag(y * y + 1.0)
    return np.linalg.slogdet(a)[1] + np.sum(np.linalg.solve(a, y))


PROGRAMS = (program, written, matrices)
TRANSFORMS: dict[str, Any] = {
    "grad": vk.grad,
    "value_and_grad": vk.value_and_grad,
    "hessian": vk.hessian,
    "jvp": lambda f: lambda x, y: vk.jvp(f, (x, y), (y, x)),
    "vjp": lambda f: lambda x, y: vk.vjp(f, x, y)[1](2.0),
    "vmap": lambda f: lambda x, y: vk.vmap(f, in_axes=(0, None))(np.stack([x, 2 * x]), y),
    "checkpoint": vk.checkpoint,
    "grad of grad": lambda f: vk.grad(lambda x, y: np.sum(vk.grad(f)(x, y) * y)),
    "grad of vmap": lambda f: vk.grad(
        lambda x, y: np.sum(vk.vmap(f, in_axes=(None, 0))(x, np.stack([y, y * 2])))
    ),
}


def assert_same(got, want):
    got, want = vk.tree.leaves(got), vk.tree.leaves(want)
    assert len(got) == len(want)
    for a, b in zip(got, want):
        assert (a.shape, a.dtype, type(a)) == (b.shape, b.dtype, type(b))
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("f", PROGRAMS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_inside_and_outside_of_every_transform(name, f):
    transform = TRANSFORMS[name]
    want = transform(f)(X, Y)
    assert_same(vk.jit(transform(f))(X, Y), want)
    assert_same(transform(vk.jit(f))(X, Y), want)
    assert_same(vk.jit(transform(vk.jit(f)))(X, Y), want)


def test_one_program_per_signature():
    f = vk.jit(lambda x, n: x * n, static_argnums=1)
    f(X, 2), f(X, 2), f(X[:2], 2), f(X[:2].astype("f4"), 2), f(X, 3)
    assert f.cache_info() == (1, 4, 4)
    reasons = [miss.reason for miss in f.misses]
    assert reasons == [
        "the first call",
        "argument 0 is f64[2], and was f64[4]",
        "argument 0 is f32[2], and was f64[2]",
        "static argument 1 is 3, and was 2",
    ]
    assert "test_jit.py" in f.misses[1].where
    f.cache_clear()
    assert f.cache_info() == (0, 0, 0)


def test_a_miss_is_compared_with_what_is_nearest():
    f = vk.jit(lambda x, k=2: tree_total(x) * k, static_argnames="k")
    f(2.0), f(2.0, k=3), f(X), f(2.0, k=4), f({"a": X, "b": [X, X, X]})
    f({"a": Y[:2], "b": [Y[:2], Y[:2], Y[:2]]}), f({"a": Y, "b": [Y, Y, np.array(1.0)]})
    f({"a": Y, "b": [Y, Y, 1.0]}, k=5)
    assert [miss.reason for miss in f.misses] == [
        "the first call",
        "static argument 'k' is 3, and was not given",
        "argument 0 is f64[4], and was f64[]*",
        "static argument 'k' is 4, and was 3",
        "the tree of the arguments is PyTreeDef(({0: {'a': *, 'b': [*, *, *]}}, {})), and was "
        "PyTreeDef(({0: *}, {}))",
        "argument 0 at ['a'] is f64[2], and was f64[4]; argument 0 at ['b'][0] is f64[2], and was "
        "f64[4]; argument 0 at ['b'][1] is f64[2], and was f64[4]; and 1 more",
        "argument 0 at ['b'][2] is f64[], and was f64[4]",
        "static argument 'k' is 5, and was not given; argument 0 at ['b'][2] is f64[]*, and was "
        "f64[]",
    ]


def tree_total(tree):
    return sum(np.sum(x) for x in flatten(tree)[0])


def test_weak_numbers_promote_as_eagerly():
    f = vk.jit(lambda x, c: x * c)
    assert f(np.ones(2, "f4"), 2.0).dtype == np.float32
    assert f(np.ones(2, "f4"), np.float64(2.0)).dtype == np.float64
    assert f(2, 3) == 6
    assert type(f(2, 3)) is int


def test_a_static_argument_by_name_or_place():
    f = vk.jit(lambda x, n, flag=True: x**n if flag else x, static_argnames=("n", "flag"))
    assert_same(f(X, 3), X**3)
    assert_same(f(X, n=3), X**3)
    assert_same(f(X, 3, flag=False), X)
    with pytest.raises(ValueError, match=r"static argument 1 is a list.*\n.*tuple"):
        f(X, [3])
    with pytest.raises(ValueError, match="static_argnames names 'm'"):
        vk.jit(lambda x: x, static_argnames="m")


def test_closures_are_read_anew():
    w = np.ones(4)
    f = vk.jit(lambda x: np.sum(x * w))
    assert f(X) == np.sum(X)
    w *= 2.0
    assert f(X) == np.sum(X) * 2
    assert f.cache_info().misses == 1
    big = np.ones(100_000)
    g = vk.jit(lambda x: x * np.sum(x * big[:4]) + np.sum(big * x[0]))
    before = g(X)
    big *= 3.0
    assert_same(g(X), 3 * before)


def test_traced_closures_get_their_derivative():
    def outer(z):
        f = vk.jit(lambda x: np.sum(np.sin(x * z)))
        return f(X) + f(2 * X)

    want = np.sum(X * np.cos(X * 2.0)) + np.sum(2 * X * np.cos(2 * X * 2.0))
    assert vk.grad(outer)(2.0) == pytest.approx(want, rel=1e-14)
    assert vk.jit(vk.grad(outer))(2.0) == pytest.approx(want, rel=1e-14)
    kept: list[Any] = []

    def shared(x):
        return x * kept[-1]

    shared = vk.jit(shared)

    def f(z):
        kept.append(z)
        return shared(3.0)

    assert [vk.grad(f)(1.0), vk.grad(f)(2.0)] == [3.0, 3.0]
    with pytest.raises(ClosedTraceError):
        shared(3.0)


def test_results_are_fresh():
    f = vk.jit(lambda x: (x, x, x[1:], x.T, {"y": x + 1}))
    out = vk.tree.leaves(f(X))
    for a, b in itertools.combinations([X, *out], 2):
        assert not np.shares_memory(a, b)
    assert all(y.flags.writeable for y in out)


def test_values_cannot_decide_while_staging():
    def f(x):
        if x[0] > 0:
            return x
        return -x

    with pytest.raises(TracerConversionError) as caught:
        vk.jit(f)(X)
    message = str(caught.value)
    assert "test_jit.py" in message
    assert "greater" in message


def test_exceptions_are_those_of_the_function():
    with pytest.raises(ValueError, match=r"shape|broadcast|mismatch"):
        vk.jit(lambda x: x + np.ones(3))(X)
    f = vk.jit(lambda a: np.linalg.cholesky(a))
    with pytest.raises(np.linalg.LinAlgError):
        f(-np.eye(2))
    assert_same(f(np.eye(2)), np.eye(2))
    with pytest.raises(TypeError, match=r"argument 0 at \['name'\] is a str"):
        vk.jit(lambda p: p)({"name": "x"})


def test_programs_print_and_pull_back():
    f = vk.jit(lambda x: np.exp(x) * x)
    text = str(f.ir(X))
    assert "exp" in text
    assert vk.parse_ir(str(vk.make_ir(vk.grad(lambda x: f(x).sum()))(X).program))
    _, pullback = vk.vjp(f, X)
    assert_same(pullback(np.ones(4)), (np.exp(X) * (1 + X),))
    assert "call" in str(pullback.program)


def test_a_pullback_may_be_returned():
    @vk.jit
    def linearized(x):
        return vk.vjp(lambda x: np.sin(x) * x, x)

    y, pullback = linearized(X)
    assert_same(y, np.sin(X) * X)
    assert_same(pullback(np.ones(4)), (np.cos(X) * X + np.sin(X),))
    assert_same(pullback.T(np.ones(4)), np.cos(X) * X + np.sin(X))
    assert_same(vk.jit(lambda L: L(np.ones(4)))(pullback), (np.cos(X) * X + np.sin(X),))


def test_threads_share_a_function():
    f = vk.jit(vk.grad(program))
    want, wrong = vk.grad(program)(X, Y), []

    def work():
        for _ in range(50):
            if not np.allclose(f(X, Y), want, rtol=1e-12):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_as_a_method_and_a_decorator():
    class Model:
        def __init__(self, w):
            self.w = w

        @vk.jit
        def loss(self, x):
            return np.sum(x)

    @vk.jit
    def f(x):
        return vnp.zeros(3).at[1].set(x)

    assert_same(f(2.0), np.array([0.0, 2.0, 0.0]))
    with pytest.raises(TypeError, match="argument 0 is a Model"):
        Model(1.0).loss(X)


def test_backends_and_passes():
    f = lambda x: np.sin(x) * 2.0 + np.sin(x)
    for options in ({"backend": "numpy"}, {"backend": "auto"}, {"passes": False}):
        assert_same(vk.jit(f, **options)(X), f(X))
    assert np.array_equal(vk.jit(f, passes=False)(X), f(X))
    with pytest.raises(ValueError, match=r"no backend is called 'gpu'; there are 'auto'.*test_jit"):
        vk.jit(f, backend="gpu")


def rounded(a, b):
    """What passes and quick forms compute otherwise than it stands, to the last bits."""
    sums = a * b / 3.0 + a * 0.1 * b / 7.0 - (a + b) * a * (a - b) + (a * b + a * Y)
    return np.tanh(sums - np.exp(a * 0.1) * np.exp(b * 0.1) + a**2 * a * 2.0 * 3.0)


def with_rules(kind):
    g: Any
    f = lambda x: rounded(x, x[::-1])
    if kind == "custom_jvp":
        g = vk.custom_jvp(f)
        g.defjvp(lambda primals, tangents: (g(*primals), tangents[0] * 0.7))
        return g
    if kind == "custom_vjp":
        g = vk.custom_vjp(f)
        g.defvjp(lambda x: (g(x), x), lambda x, ct: (ct * x,))
        return g
    return vk.custom_rule(f, jvp=lambda primals, tangents: (f(*primals), tangents[0] * 0.7))


def solved(x):
    matrix = lambda s: np.outer(s, x) / 3.0 + np.diag(np.sum(s * x) + Y * 7.0)
    step = lambda c, s: (np.linalg.solve(matrix(s), c) + np.linalg.inv(matrix(c)) @ s * 0.3, c)
    return vk.lax.scan(step, x, np.stack([x, x[::-1]]))


def deep(x):
    inner = vk.checkpoint(lambda c: vk.lax.cond(np.sum(c) > 0, INSIDE["fori"], INSIDE["while"], c))
    step = lambda c, s: (inner(c) + with_rules("custom_vjp")(s), INSIDE["switch"](s))
    return vk.lax.scan(step, x, np.stack([x, -x, x[::-1]]), reverse=True)


INSIDE: dict[str, Any] = {
    "scan": lambda x: vk.lax.scan(
        lambda c, s: (rounded(c, s), rounded(s, c)), x, np.stack([x, x * 1.3, x * 0.7])
    ),
    "while": lambda x: vk.lax.while_loop(
        lambda c: c[0] < 4, lambda c: (c[0] + 1, rounded(c[1], x)), (0, x)
    )[1],
    "fori": lambda x: vk.lax.fori_loop(0, 5, lambda i, c: rounded(c, x) * i, x),
    "cond": lambda x: vk.lax.cond(np.sum(x) > 0, lambda x: rounded(x, x[::-1]), np.sin, x),
    "switch": lambda x: vk.lax.switch(
        (np.sum(x) > 0) * 1, [np.sin, lambda x: rounded(x, x[::-1])], x
    ),
    "map": lambda x: vk.lax.map(lambda s: rounded(s, x), np.stack([x, x * 2.0])),
    "associative_scan": lambda x: vk.lax.associative_scan(rounded_pair, np.stack([x, x, x])),
    "checkpoint": vk.checkpoint(lambda x: rounded(x, x[::-1])),
    "custom_jvp": with_rules("custom_jvp"),
    "custom_vjp": with_rules("custom_vjp"),
    "custom_rule": with_rules("custom_rule"),
    "linalg": solved,
    "deep": deep,
}


def rounded_pair(a, b):
    return a * 0.1 * b / 3.0 + b


EXACTLY: dict[str, Any] = {
    "itself": (lambda f: f, X),
    "vmap": (vk.vmap, np.stack([X, X[::-1], X - 0.5])),
    "jvp": (lambda f: lambda x: vk.jvp(f, (x,), (Y,)), X),
    "vmap of vmap": (lambda f: vk.vmap(vk.vmap(f)), np.stack([[X, -X], [X[::-1], X - 0.5]])),
}


@pytest.mark.parametrize("transform", EXACTLY)
@pytest.mark.parametrize("name", INSIDE)
def test_without_passes_the_bits_are_those_of_eager_values(name, transform):
    """In the programs of equations too; derivatives that loops are staged for add differently."""
    made, x = EXACTLY[transform]
    f = made(INSIDE[name])
    wanted, got = (flatten(y)[0] for y in (f(x), vk.jit(f, passes=False)(x)))
    for y, want in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(y, want, strict=True)


def test_passes_change_last_bits_inside_of_a_loop():
    """Else the test above could not fail."""
    got, want = vk.jit(INSIDE["scan"], backend="numpy")(X), INSIDE["scan"](X)
    assert any(np.any(y != z) for y, z in zip(got, want, strict=True))


@pytest.mark.parametrize("backend", ["numpy", "auto", "native"])
def test_lowered_and_compiled_ahead_of_calls(backend):
    if backend == "native":
        pytest.importorskip("llvmlite", reason="the native tier is an extra")
    f = vk.jit(
        lambda w, n, x: {"y": np.sin(x) ** n * w["a"], "n": np.sum(x)},
        static_argnums=1,
        backend=backend,
    )
    struct = vk.ShapeDtypeStruct(X.shape, X.dtype)
    lowered = f.lower({"a": 2.0}, 3, x=struct)
    assert lowered.as_text() == str(lowered) == str(f.ir({"a": 2.0}, 3, x=X))
    assert lowered.in_tree == vk.tree.structure((({"a": 1},), {"x": 1}))
    assert lowered.out_tree == vk.tree.structure({"y": 1, "n": 1})
    assert lowered.out_info == {"y": struct, "n": vk.ShapeDtypeStruct((), float)}
    compiled = lowered.compile()
    assert (compiled.in_tree, compiled.out_info) == (lowered.in_tree, lowered.out_info)
    assert repr(compiled) == "<jit(<lambda>) compiled for f64[]*, f64[4]>"
    assert ("define" if backend != "numpy" else "def run") in compiled.as_text()
    wanted = f.fun({"a": 2.0}, 3, x=X)
    for a in (2.0, np.float64(2.0), np.array(2.0)):
        got = compiled({"a": a}, x=X)
        assert_same(got["y"], wanted["y"])
        assert_same(got["n"], wanted["n"])
    assert f.cache_info().misses == 1


@pytest.mark.parametrize("other", [2.0, np.float64(2.0), np.array(2.0)], ids=repr)
@pytest.mark.parametrize("one", [2.0, np.float64(2.0), np.array(2.0)], ids=repr)
def test_scalars_become_the_kind_that_was_compiled(one, other):
    """A Python number decides no dtype, an array of no axis stays one."""
    f, x = vk.jit(lambda x, a: (x * a, a)), X.astype("f4")
    got, want = f.lower(x, one).compile()(x, other), f(x, one)
    assert [type(y) for y in got] == [type(y) for y in want]
    assert got[0].dtype == want[0].dtype
    assert_same(got[0], want[0])


def test_compiled_functions_read_arrays_anew_and_refuse_other_changes():
    weights, options = np.ones(4), {"scale": 2.0}
    compiled = vk.jit(lambda x: x * weights * options["scale"]).lower(X).compile()
    assert_same(compiled(X), 2.0 * X)
    weights[:] = 3.0
    assert_same(compiled(X), 6.0 * X)
    options["scale"] = 5.0
    with pytest.raises(
        ValueError, match=r"options.*is 5\.0, and was 2\.0.*test_jit[\s\S]*Lower it"
    ):
        compiled(X)
    inner = lambda t: vk.jit(lambda x: np.sum(x * t)).lower(X).compile()(X)
    assert_same(vk.grad(inner)(3.0), np.sum(X))


def test_sums_at_staged_indices():
    def f(x, places):
        sums = vnp.zeros(3)
        np.add.at(sums, places, x)
        return np.sum(sums**3)

    places = np.array([0, 1, 2, 0])
    assert_same(vk.jit(f)(X, places), f(X, places))
    assert_same(vk.jit(vk.grad(f))(X, places), vk.grad(f)(X, places))
    both = np.stack([places, places[::-1]])
    want = np.stack([vk.grad(f)(X, p) for p in both])
    assert_same(vk.vmap(vk.grad(f), in_axes=(None, 0))(X, both), want)
    mask = np.array([True, False, True])  # not known while staging; its count is checked
    assert_same(vk.jit(f)(X[:2], mask), f(X[:2], mask))
    assert_same(vk.jit(vk.grad(f))(X[:2], mask), vk.grad(f)(X[:2], mask))
    with pytest.raises(ValueError, match="broadcast"):
        f(X, mask)
    line = f.__code__.co_firstlineno + 2
    with pytest.raises(ValueError, match=rf"4 values.*true at 2 places(?s:.*)test_jit.py:{line}"):
        vk.jit(f)(X, mask)


WRONG: dict[str, Any] = {
    "broadcast": lambda x: x + np.ones(7),
    "matmul": lambda x: x @ np.ones((7, 7)),
    "axis": lambda x: np.sum(x, axis=3),
    "reshape": lambda x: np.reshape(x, (5, 5)),
    "write": lambda x: vnp.zeros_like(x).__setitem__(slice(0, 2), x),
    "index while it runs": lambda x: np.take(x, [9]),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_error_of_numpy_names_the_line_that_asked_for_it(name):
    f = WRONG[name]
    line = f"test_jit.py:{f.__code__.co_firstlineno}"
    errors = []
    for run in (vk.jit(f), vk.jit(lambda x: vk.vjp(f, x)[0]), lambda x: vk.vjp(f, x)):
        with pytest.raises((ValueError, IndexError)) as caught:
            run(X)
        said = [str(caught.value), *getattr(caught.value, "__notes__", ())]
        assert sum(line in text for text in said) == 1, said
        errors.append(type(caught.value))
    assert len(set(errors)) == 1


def test_an_error_of_the_users_own_is_left_alone():
    def f(x):
        raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$") as caught:
        vk.jit(f)(X)
    assert not hasattr(caught.value, "__notes__")


def test_derivatives_are_as_quiet_as_in_eager_mode():
    x = np.array([0.0, 1.0])
    for f in (np.sqrt, lambda x: np.where(x > 0, x**0.5, 0.0), lambda x: np.abs(x) ** -0.0):
        loss = lambda x, f=f: np.sum(f(x))
        assert_same(vk.jit(vk.grad(loss))(x), vk.grad(loss)(x))
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        vk.jit(np.log)(x)


def test_integers_beyond_64_bits_are_numbers_as_in_numpy():
    def f(x):
        return np.sum(x * 2**70 / 2**69)

    np.testing.assert_array_equal(vk.jit(vk.grad(f))(np.ones(3)), vk.grad(f)(np.ones(3)))
    pulled = vk.vjp(lambda x: x * 2**70, np.ones(2))[1]
    assert "multiply" in str(pulled.program)


def test_static_arguments_are_counted_in_the_signature():
    f = vk.jit(lambda x, n=2: x**n if n > 1 else x, static_argnums=-1)
    assert f(3.0) == 9.0
    assert f(4.0) == 16.0
    assert f.cache_info().misses == 1  # x is not static
    assert f(3.0, n=1) == f(3.0, 1) == 3.0
    for wrong in (2, -3, (0, 7)):
        with pytest.raises(ValueError, match=r"static_argnums names argument .*has 2 positional"):
            vk.jit(lambda x, n: x * n, static_argnums=wrong)
    assert vk.jit(lambda *xs: xs[0] * xs[2], static_argnums=2)(1.0, 2.0, 3) == 3.0
