"""In-place assignment on traced arrays does what NumPy does, to second order, under every trace."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
import vjpkit.numpy as vnp
from vjpkit.core.errors import TracerConversionError
from vjpkit.core.ir import check
from vjpkit.core.tracer import Tracer
from vjpkit.numpy import _writable
from vjpkit.ops import indexing, updates

Program = Callable[[Any], Any]
PROGRAMS: dict[str, Program] = {}
X = np.random.default_rng(0).normal(size=(3, 3)) * 0.5
T = np.random.default_rng(1).normal(size=(3, 3))


def program(f: Program) -> Program:
    PROGRAMS[f.__name__] = f
    return f


@program
def row_view(x):
    y = np.copy(x)
    row = y[0]
    row[1] = 5 * x[1, 1]
    return np.sum(y * y)


@program
def transpose_read_after_the_base_is_written(x):
    y = np.copy(x)
    t = y.T
    y[0, 1] = x[2, 2] * 3
    return np.sum(t[1] * t[0])


@program
def reshape_that_is_a_view_and_one_that_copies(x):
    y = np.copy(x)
    v = y.reshape(9)
    c = y.T.reshape(9)
    v[3] = x[0, 0] * 2
    c[5] = 7.0
    return np.sum(y * y) + np.sum(c * v)


@program
def slice_of_slice(x):
    y = np.copy(x).ravel()
    z = y[::2][1:]
    z *= x[0, :1]
    z[0] = np.sin(x[1, 1])
    return np.sum(y * y * y)


@program
def aliasing_swap_and_overlap(x):
    y = np.copy(x)
    y[0], y[1] = y[1], y[0]
    y[1:] = y[:-1]
    return np.sum(np.sin(y) * x)


@program
def residual_overwritten(x):
    y = np.copy(x)
    s = np.sin(y) * y
    y[1] = 0.0
    s2 = y * s
    y *= 2.0
    return np.sum(s2 * y)


@program
def add_at_and_out(x):
    y = np.zeros_like(x)
    np.add.at(y, [0, 0, 2], x)
    v = y[2]
    np.multiply(v, x[1], out=v)
    return np.sum(y * y * x)


@program
def scalars_have_no_identity(x):
    y = np.copy(x)
    s = y[1, 1]
    s += 10.0
    e = y[1, 1, ...]
    e += x[0, 0]
    a = y[[0, 1]]
    a[0] = 99.0
    return np.sum(y * s) + np.sum(a)


@program
def rows_by_iteration_and_a_mask(x):
    y = np.copy(x)
    for k, row in enumerate(y):
        row += k * x[k]
        row[row > 0.5] = x[0, 0] * 0.5
    return np.sum(np.exp(y))


@program
def gauss_seidel(x):
    u = np.copy(x).ravel()
    for _ in range(3):
        for i in range(1, 8):
            u[i] = np.sin(u[i - 1]) * u[i + 1]
    return np.sum(u * u)


@program
def overlap_and_copyto(x):
    y = np.copy(x).ravel()
    y[1:] += y[:-1] * y[:-1]
    b = np.zeros_like(x)
    np.copyto(b, x * y.reshape(3, 3))
    w = b[:, 1]
    b *= 2
    w -= 1.0
    return np.sum(b * b) + np.sum(w)


@program
def chain_of_views(x):
    y = np.copy(x)
    q = y.T[1:].reshape(2, 3)[:, ::-1]
    q[0] = x[2] * y[0]
    d = np.diagonal(y)
    y[1] = 1.5 * x[1]
    return np.sum(d * d) + np.sum(q * q) + np.sum(y)


@program
def index_arrays_that_repeat(x):
    y = np.copy(x)
    y[[0, 0, 1]] = x * x
    y[[0, 1], [1, 2]] *= x[0, 0]
    m = y > 0.3
    y[m] = y[m] * x[1, 1]
    return np.sum(y * y * x)


@program
def arrays_of_constants_become_traced(x):
    y = np.zeros_like(x)
    y[0] = 1.0
    z = y + 2.0
    z[1] = x[1]
    y[2] = z[1] * x[0]
    return np.sum(y * z)


@program
def ravel_of_a_strided_view_copies(x):
    y = np.copy(x).ravel()
    y[0] = x[1, 1]
    np.ravel(y[::2])[:] = 0.0
    y[::2].reshape(5, 1)[:] *= x[0, 0]
    return np.sum(y * x.ravel())


@program
def a_reshape_of_an_array_whose_cotangent_is_transposed(x):
    y = np.copy(x)
    v = y.reshape(-1)
    v[:4] = 2 * x[0, 0]
    v[5] *= x[1, 1]
    return np.sum((X @ y.T) * T)


@program
def ravel_of_a_transpose_copies(x):
    v = (x * x).T.ravel()
    v *= 1.5
    return np.sum(v * v * v)


@program
def other_writers(x):
    y = np.copy(x)
    np.fill_diagonal(y, x[0])
    np.put(y, [1, 5], x[2, :2])
    np.putmask(y, y > 0.4, x.ravel() * 0.1)
    np.place(y, y < -0.4, x[1])
    np.put_along_axis(y, np.array([[0], [2], [1]]), x[:, :1], axis=1)
    np.multiply.at(y, ([0, 0, 1], [1, 1, 2]), x[0])
    return np.sum(y * y)


def finite_difference(f: Program, x: Any, h: float = 1e-6) -> Any:
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        e = np.zeros_like(x)
        e[i] = h
        g[i] = (f(x + e) - f(x - e)) / (2 * h)
    return g


@pytest.fixture(params=["reuse", "no reuse"])
def buffers(request: pytest.FixtureRequest) -> Any:
    """Everything holds with buffer reuse switched off too."""
    off = _writable.without_reuse() if request.param == "no reuse" else contextlib.nullcontext()
    with off:
        yield


@pytest.mark.parametrize("f", PROGRAMS.values(), ids=list(PROGRAMS))
@pytest.mark.usefixtures("buffers")
class TestPrograms:
    def test_value_and_gradient(self, f: Program) -> None:
        x = X.copy()
        value, pullback = vk.vjp(f, x)
        assert value == f(X.copy())
        (gradient,) = pullback(1.0)
        np.testing.assert_allclose(gradient, finite_difference(f, X), atol=1e-7)
        np.testing.assert_array_equal(pullback(1.0)[0], gradient)
        np.testing.assert_array_equal(vk.grad(f)(x), gradient)
        np.testing.assert_array_equal(x, X)

    def test_forward_mode(self, f: Program) -> None:
        value, tangent = vk.jvp(f, (X,), (T,))
        assert value == f(X.copy())
        assert tangent == pytest.approx(np.sum(vk.grad(f)(X) * T), rel=1e-12)

    def test_second_order(self, f: Program) -> None:
        wanted = finite_difference(lambda z: np.sum(vk.grad(f)(z) * T), X)
        reverse = vk.grad(lambda z: np.sum(vk.grad(f)(z) * T))(X)
        forward = vk.jvp(vk.grad(f), (X,), (T,))[1]
        np.testing.assert_allclose(reverse, wanted, atol=1e-6)
        np.testing.assert_allclose(forward, reverse, rtol=1e-10, atol=1e-12)

    def test_the_linear_program(self, f: Program) -> None:
        _, pullback = vk.vjp(f, X)
        check(pullback.program)
        np.testing.assert_allclose(pullback.compile()(1.0)[0], pullback(1.0)[0], rtol=1e-13)


VALUE_DEPENDENT = {"rows_by_iteration_and_a_mask", "index_arrays_that_repeat", "other_writers"}
"""Their masks depend on traced values, which nobody knows while staging or batching."""
RESHAPED = {
    "a_reshape_of_an_array_whose_cotangent_is_transposed",
    "ravel_of_a_transpose_copies",
    "reshape_that_is_a_view_and_one_that_copies",
    "slice_of_slice",
    "ravel_of_a_strided_view_copies",
    "gauss_seidel",
    "overlap_and_copyto",
    "chain_of_views",
}
"""They write to or through a reshape, which staged code refuses."""


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - VALUE_DEPENDENT - RESHAPED))
def test_staged(name: str) -> None:
    f = PROGRAMS[name]
    closed = vk.make_ir(f)(X)
    check(closed.program)
    assert closed(X)[0] == pytest.approx(f(X.copy()), rel=1e-14)


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - VALUE_DEPENDENT))
def test_batched(name: str) -> None:
    f = PROGRAMS[name]
    xs = np.stack([X, X[::-1] * 0.7, X.T])
    np.testing.assert_allclose(vk.vmap(f)(xs), [f(x.copy()) for x in xs], rtol=1e-13)
    gradients = np.stack([vk.grad(f)(x) for x in xs])
    np.testing.assert_allclose(vk.vmap(vk.grad(f))(xs), gradients, rtol=1e-11, atol=1e-13)


def test_staged_writes_through_a_reshape_are_refused() -> None:
    def f(x: Any) -> Any:
        y = np.copy(x)
        v = y.reshape(9)
        v[0] = 1.0
        return y

    with pytest.raises(TypeError, match="reshaped while staging") as e:
        vk.make_ir(f)(X)
    assert ".copy()" in str(e.value)


def of_a_line(x: Any) -> Any:
    y = np.copy(x.ravel())
    rows = y.reshape(3, 3)
    rows[0] = 5.0
    rows[:, 1] *= 2
    y[3] = x[0, 0]
    return rows * y[:3]


def of_what_is_made(x: Any) -> Any:
    y = x[0] * 2.0
    column = y.reshape(3, 1)[1:].reshape(1, 2)
    column[0, 0] = x[1, 1]
    return y


def of_a_copy(x: Any) -> Any:
    y = x.T.copy()
    line = y.reshape(-1)
    line[2:5] = x[0]
    part = y[1:].reshape(2, 3, 1)[1, :2]
    part *= 3.0
    return y + line.reshape(3, 3).T


@pytest.mark.parametrize("f", [of_a_line, of_what_is_made, of_a_copy])
def test_staged_writes_through_a_reshape_of_what_is_in_one_piece(f: Any) -> None:
    for x in (X, np.asfortranarray(X), X[:, ::-1]):
        np.testing.assert_allclose(vk.jit(f)(x), f(x.copy()), 1e-14)
        total = lambda x: np.sum(f(x) ** 2)
        np.testing.assert_allclose(vk.jit(vk.grad(total))(x), vk.grad(total)(x), 1e-13)
        np.testing.assert_allclose(vk.vmap(vk.jit(f))(x[None])[0], f(x.copy()), 1e-14)


GAPS: dict[str, Any] = {
    "an argument": lambda x: x.reshape(9),
    "every second": lambda x: x.copy().reshape(9)[::2].reshape(5, 1),
    "columns": lambda x: x.copy()[:, 1:].reshape(6),
    "a transpose": lambda x: x.copy().T.reshape(9),
    "of several operands": lambda x: (x + x.T).reshape(9),
}


@pytest.mark.parametrize("name", GAPS)
def test_staged_reshapes_that_may_be_copies_are_refused(name: str) -> None:
    def f(x: Any) -> Any:
        y = GAPS[name](x)
        y[0] = 1.0
        return y

    with pytest.raises(TypeError, match="reshaped while staging"):
        vk.jit(f)(X)


def test_an_inner_transform_writes_to_an_outer_array() -> None:
    def f(x: Any) -> Any:
        log = np.zeros_like(x)

        def inner(z: Any) -> Any:
            log[0] = z[0] * x[0]
            log[1] = 2 * z[1]
            return np.sum(z * z * x)

        if isinstance(x, Tracer):
            g = vk.grad(inner)(x)
        else:
            inner(x)
            g = 2 * x * x
        return np.sum(g * log)

    np.testing.assert_allclose(vk.grad(f)(X), finite_difference(f, X), atol=1e-7)


def test_an_exception_in_an_inner_transform_leaves_outer_arrays_usable() -> None:
    def f(x: Any) -> Any:
        log = np.zeros_like(x)

        def inner(z: Any) -> Any:
            log[0] = z[0]
            raise ValueError("the user's own")

        with contextlib.suppress(ValueError):
            vk.grad(inner)(x)
        return np.sum(log * x)

    np.testing.assert_array_equal(vk.grad(f)(X)[0], 2 * X[0])


WRITING: dict[str, Callable[[Program], Program]] = {
    "grad": vk.grad,
    "jvp": lambda f: lambda x: vk.jvp(f, (x,), (np.ones_like(x),)),
    "vmap": lambda f: lambda x: vk.vmap(f)(np.stack([x, x * x])),
    "jvp of vmap": lambda f: lambda x: vk.jvp(vk.vmap(f), (x[None],), (np.ones((1, len(x))),)),
    "grad of jvp": lambda f: vk.grad(lambda x: vk.jvp(f, (x,), (x,))[1]),
    "vmap of grad": lambda f: lambda x: vk.vmap(vk.grad(f))(np.stack([x, 2 * x])),
}


@pytest.mark.parametrize("step", [1, 2], ids=["dense", "with gaps"])
@pytest.mark.parametrize("transform", WRITING.values(), ids=list(WRITING))
def test_a_thousand_writes_copy_the_array_at_most_once(
    transform: Callable[[Program], Program], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The array of values, and that of tangents."""
    copies = []

    def counted(a: Any) -> Any:
        copies.append(a.shape)
        return updates.copy_with_layout(a)

    def f(y: Any) -> Any:
        x = np.copy(y)
        for i in range(1, 1000):
            y[i] = np.sin(y[i - 1]) * x[i]
        return np.sum(y)

    x = np.random.default_rng(0).random(200_000)[::step]
    with _writable.without_reuse():
        wanted = transform(f)(x)
    monkeypatch.setattr(_writable, "copy_with_layout", counted)
    monkeypatch.setattr(updates.Update, "impl", None)  # which would copy
    got = transform(f)(x)
    np.testing.assert_equal(got, wanted)
    assert len(copies) <= 2


def test_cotangents_of_mapped_writes_are_zeroed_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is read of an array is added to its cotangent where it is."""
    made = []

    def counted(*args: Any) -> Any:
        made.append(args)
        return own_examples(*args)

    own_examples = indexing.own_examples

    def f(x: Any) -> Any:
        y, total = np.copy(x), 0.0
        for i in range(1, 50):
            total = total + y[i]
            y[i] = np.sin(y[i - 1]) * y[i]
        return total + np.sum(y * y)

    xs = np.random.default_rng(0).random((3, 60))
    wanted = [vk.grad(f)(x) for x in xs]
    monkeypatch.setattr(indexing, "own_examples", counted)
    monkeypatch.setattr(updates.Update, "transpose", None)  # which would copy
    np.testing.assert_allclose(vk.vmap(vk.grad(f))(xs), wanted, rtol=1e-13)
    assert len(made) == 49 * 2


def test_zeros_inside_a_transform_accept_traced_values_and_are_plain_outside() -> None:
    def f(x: Any) -> Any:
        y = vnp.zeros(3)
        for i in range(3):
            y[i] = x[i] ** 2
        return np.sum(y)

    np.testing.assert_array_equal(vk.grad(f)(np.arange(3.0)), 2 * np.arange(3.0))
    assert type(vnp.zeros(3)) is np.ndarray


def test_results_are_plain() -> None:
    out, _ = vk.vjp(lambda x: (np.zeros_like(x), np.zeros_like(x) + 1.0), X)
    assert all(type(y) is np.ndarray for y in out)


def test_read_only_views_refuse_writes() -> None:
    def f(x: Any) -> Any:
        y = np.copy(x)
        np.diagonal(y)[0] = 1.0
        return np.sum(y)

    with pytest.raises(ValueError, match="assignment destination is read-only"):
        vk.grad(f)(X)


def test_parts_of_complex_arrays_are_views() -> None:
    def read(x: Any) -> Any:
        z = x + 2j * x
        parts = z.real, np.imag(z)[1:]
        z[1] = 5 + 1j
        return parts[0] * 1, parts[1] * 1

    for f in (lambda x: vk.vjp(read, x)[0], lambda x: vk.jvp(read, (x,), (x,))[0], vk.jit(read)):
        for got, wanted in zip(f(X), read(X), strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_parts_of_real_arrays() -> None:
    def f(x: Any) -> Any:
        y = np.copy(x)
        y.real[0] = x[1]
        y.real *= 2
        y.real = y + 1
        return y

    np.testing.assert_array_equal(vk.vjp(f, X)[0], f(X))
    with pytest.raises(ValueError, match="read-only"):
        vk.vjp(lambda x: x.imag.fill(1.0), X)
    with pytest.raises(TypeError, match="array does not have imaginary part to set"):
        vk.vjp(lambda x: setattr(x, "imag", 1.0), X)


SAME = {
    "einsum": lambda y: np.einsum("ij", y),
    "einsum of lists": lambda y: np.einsum(y, [0, 1], [0, 1], optimize=True),
    "einsum, transposed": lambda y: np.einsum("ij->ji", y),
    "windows": lambda y: np.lib.stride_tricks.sliding_window_view(y, 2, axis=0),
    "joined": lambda y: np.concatenate([y]),
    "stacked": lambda y: np.stack([y])[0],
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("writes", ["the array", "the result"])
def test_what_is_a_view_and_what_a_copy(name: str, writes: str) -> None:
    """Writes to one are seen in the other where NumPy has it so, or refused."""

    def f(x: Any) -> Any:
        y = np.copy(x)
        seen = SAME[name](y)
        if writes == "the array":
            y[1] = 9.0
            y[:, 0] *= x[:, 1]
        else:
            seen[...] = 7.5
        return y, seen * 1.0

    try:
        wanted = f(X)
    except ValueError as error:
        with pytest.raises(ValueError, match="read-only"):
            vk.vjp(f, X)
        assert "read-only" in str(error)  # noqa: PT017  # NumPy's own
        return
    for got in (vk.vjp(f, X)[0], vk.jvp(f, (X,), (X,))[0], vk.jit(f)(X), vk.make_ir(f)(X)(X)):
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
    mapped = vk.vmap(f)(np.stack([2 * X, X]))
    for a, b in zip(mapped, wanted, strict=True):
        np.testing.assert_array_equal(a[1], b)


def test_a_traced_index_of_a_write_in_programs() -> None:
    def f(x: Any) -> Any:
        y = np.copy(x)
        y[np.argmax(x) // 3] = x[0] * x[1]
        return y

    pulled = lambda x: vk.vjp(f, x)[1](X)[0]
    np.testing.assert_array_equal(vk.jit(pulled)(X), pulled(X))
    np.testing.assert_array_equal(vk.vmap(pulled)(np.stack([X, -X]))[1], pulled(-X))


def test_a_traced_value_does_not_fit_an_array_of_ints() -> None:
    def f(x: Any) -> Any:
        y = np.zeros_like(x, dtype=int)
        y[0] = x[0]
        return np.sum(x)

    with pytest.raises(TypeError, match="an array of whole numbers would drop its derivative"):
        vk.grad(f)(X)


def test_numpys_errors_of_shapes_and_casts() -> None:
    def wrong_shape(x: Any) -> Any:
        y = np.copy(x)
        y[0] = x
        return np.sum(y)

    with pytest.raises(ValueError, match="could not broadcast"):
        vk.grad(wrong_shape)(X)

    def wrong_cast(x: Any) -> Any:
        x += 1j
        return np.sum(np.real(x))

    with pytest.raises(TypeError, match="same_kind"):
        vk.grad(wrong_cast)(X)


# ---- what a program captured ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, 300_000])
def test_a_program_holds_what_an_array_was_when_it_was_used(size):
    """An array that a staged function makes, uses, and then writes to: small and large."""

    def program(x):
        y = vnp.zeros(size)
        before = x[0, 0] + y
        y[0] = 5.0
        return before[:2], y[:2], x[0, 0] * y[:2]

    v = X[0, 0]
    staged = vk.make_ir(program)(X)(X)
    for got, want in zip(staged, ([v, v], [5.0, 0.0], [5 * v, 0.0]), strict=True):
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(got, want)


def test_a_program_holds_what_an_outer_array_was_when_it_was_used():
    def outer(x):
        y = 2 * x

        program = vk.make_ir(lambda z: (z + y, 1.0 * y))(X)
        y[0] = 7 * y[0]
        return sum(np.sum(a) for a in (*program(X), y))

    want = np.full(X.shape, 2.0 + 2.0 + 2.0)
    want[0] = 2.0 + 2.0 + 14.0
    np.testing.assert_array_equal(vk.grad(outer)(X), want)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_a_mapped_array_keeps_the_layout_of_its_examples(axes):
    """It decides whether a reshape is a view, which is written through."""

    def flat_view(x):
        y = np.transpose(np.zeros((2, 3, 4)), axes) + x[0]
        y[1] *= x[1]
        v = np.ravel(np.transpose(y, np.argsort(axes)))
        y[0] = 0.5
        v[-1] = x[1]
        return y, v

    def loss(outs):
        return sum(np.sum(np.arange(24.0).reshape(y.shape) * y) for y in outs)

    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    wanted = zip(*[flat_view(row) for row in x], strict=True)
    for got, parts in zip(vk.vmap(flat_view)(x), wanted, strict=True):
        np.testing.assert_array_equal(got, np.stack(parts))
    got = vk.grad(lambda x: np.sum(vk.vmap(lambda row: loss(flat_view(row)))(x)))(x)
    gradients = [vk.grad(lambda row: loss(flat_view(row)))(row) for row in x]
    np.testing.assert_array_equal(got, np.stack(gradients))


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_shared_array_keeps_its_layout_when_examples_are_written_to_it(order):
    def flat_view(x):
        y = vnp.zeros((3, 4), order=order)
        y += x[0]
        v = np.ravel(y if order == "C" else y.T)
        y[0] = 0.5
        v[-1] = x[1]
        return y, v

    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    wanted = zip(*[flat_view(row) for row in x], strict=True)
    for got, parts in zip(vk.vmap(flat_view)(x), wanted, strict=True):
        np.testing.assert_array_equal(got, np.stack(parts))


def test_views_that_a_mapped_function_returns_are_current():
    def f(x):
        y = np.copy(x)
        v = y[1:]
        y[2] = 5.0 * x[0]
        return v

    assert vk.vmap(f)(np.array([[1.0, 2.0, 3.0]])).tolist() == [[2.0, 5.0]]


def doubled_behind_a_view(x):
    y = x * x
    view = y[1:]
    y *= 2
    return view


def written_behind_views(x):
    y = x * x
    turned = y[::-1]
    y[:] = np.sin(y)
    return {"part": turned[:2], "others": [turned, y.reshape(3, 1), y]}


STALE: dict[str, Callable[[Program], Program]] = {
    "jacrev": vk.jacrev,
    "jacfwd": vk.jacfwd,
    "jit of jacrev": lambda f: vk.jit(vk.jacrev(f)),
    "vmap of jacrev": lambda f: (
        lambda x: vk.tree.map(lambda a: a[0], vk.vmap(vk.jacrev(f))(x[None]))
    ),
    "jacrev of vmap": lambda f: (
        lambda x: vk.tree.map(lambda a: a[0], vk.jacrev(lambda x: vk.vmap(f)(x[None]))(x))
    ),
    "jacrev of jvp": lambda f: vk.jacrev(lambda x: vk.jvp(f, (x,), (np.zeros(3),))[0]),
    "jvp": lambda f: (
        lambda x: vk.tree.map(
            lambda a: np.moveaxis(a, 0, -1), vk.vmap(lambda t: vk.jvp(f, (x,), (t,))[1])(np.eye(3))
        )
    ),
    "jet": lambda f: (
        lambda x: vk.tree.map(
            lambda *columns: np.stack(columns, -1),
            *[vk.jet(lambda x: vk.tree.leaves(f(x)), (x,), ([t],))[1] for t in np.eye(3)],
        )
    ),
    "jacrev of checkpoint": lambda f: vk.jacrev(vk.checkpoint(f)),
    "jacrev of debug_nans": lambda f: vk.jacrev(vk.debug_nans(f)),
    "jacrev of aux": lambda f: vk.jacrev(
        lambda x: vk.grad(lambda z: (np.sum(z), f(x)), has_aux=True)(x)[1]
    ),
    "aux": lambda f: vk.jacrev(lambda x: vk.grad(lambda z: (np.sum(z), f(z)), has_aux=True)(x)[1]),
}


@pytest.mark.parametrize("transform", STALE)
@pytest.mark.parametrize("f", [doubled_behind_a_view, written_behind_views])
def test_a_view_that_is_returned_after_its_array_was_written_to(f, transform):
    x = np.array([0.3, -0.7, 1.1])
    basis = 1e-6 * np.eye(3)
    wanted = vk.tree.map(
        lambda *pairs: np.stack(pairs, -1) / 2e-6,
        *[vk.tree.map(np.subtract, f(x + e), f(x - e)) for e in basis],
    )
    got = STALE[transform](f)(x)
    for a, b in zip(vk.tree.leaves(got), vk.tree.leaves(wanted), strict=True):
        assert a.shape == b.shape
        assert np.allclose(a, b, rtol=1e-7, atol=1e-8)


def single_element_halved(x):
    y = np.copy(x)
    view = y[...]
    y /= 2
    return view * 3 + y


def single_element_doubled_through_a_view(x):
    y = np.copy(x)
    view = y[...]
    view *= 2
    return y * y


def single_element_and_its_transpose(x):
    y = np.copy(np.copy(x))
    view = y.T
    view += 1
    return y * view


def single_element_by_another_name(x):
    y = np.copy(x)
    same = y
    y += 1
    return same * y


def sum_that_goes_on(x):
    total = np.sum(x * np.ones(2))
    before = total
    total += 1
    return before * total


SINGLE = [
    single_element_halved,
    single_element_doubled_through_a_view,
    single_element_and_its_transpose,
    single_element_by_another_name,
    sum_that_goes_on,
]
VALUE_AND_SLOPE: dict[str, Callable[[Program], Program]] = {
    "eager": vk.value_and_grad,
    "jit": lambda f: vk.jit(vk.value_and_grad(f)),
    "of jit": lambda f: vk.value_and_grad(vk.jit(f)),
    "jvp": lambda f: lambda x: vk.jvp(f, (x,), (1.0,)),
    "vmap": lambda f: (
        lambda x: vk.tree.map(lambda a: a[0], vk.vmap(vk.value_and_grad(f))(np.array([x, 2 * x])))
    ),
    "of vmap": lambda f: vk.value_and_grad(lambda x: vk.vmap(f)(np.ones(2) * x)[0]),
}


@pytest.mark.parametrize("transform", VALUE_AND_SLOPE)
@pytest.mark.parametrize("f", SINGLE)
def test_arrays_of_no_axis_are_written_and_scalars_rebound(f, transform):
    x = np.float64(1.3)
    value, slope = VALUE_AND_SLOPE[transform](f)(x)
    assert np.allclose(value, f(x), rtol=1e-14)
    assert np.allclose(slope, (f(x + 1e-6) - f(x - 1e-6)) / 2e-6, rtol=1e-7)


READS: dict[str, Callable[[Any], Any]] = {
    "str": str,
    "format": lambda v: f"{v:}",
    "nonzero": lambda v: np.nonzero(v)[0],
    "argwhere": np.argwhere,
    "unique": lambda v: vk.lax.stop_gradient(np.unique(v)),
    "isin": lambda v: np.isin(v, [0.0, 5.0]),
    "array2string": np.array2string,
    "trim_zeros": lambda v: vk.lax.stop_gradient(np.trim_zeros(v)),
    "where": lambda v: np.where(v)[0],
    "bool": lambda v: bool(v[0, ...]),
    "truth of a view": lambda v: [bool(e) for e in (v[:1].reshape(()), v[1:2].reshape(()))],
    "greater": lambda v: v > 4.0,
    "count_nonzero": np.count_nonzero,
    "sort": lambda v: vk.lax.stop_gradient(np.sort(v)),
}


@pytest.mark.parametrize("start", [np.copy, np.zeros_like])
@pytest.mark.parametrize("name", READS)
def test_what_reads_the_values_of_a_view_reads_them_as_they_are_now(name, start):
    """Printing, conditions, and functions whose results depend on values."""
    read: list[Any] = []

    def f(x):
        y = start(x)
        view = y[:3][::1]
        zero = view[2, ...]
        y[0], y[1], y[2] = 5.0 * x[0], 0.0 * x[1], x[2]
        read.append((READS[name](view), bool(zero)))
        return y

    x = np.array([0.0, 2.0, -1.0, 4.0]) + 1.0
    f(x)
    for run in (
        lambda: vk.vjp(f, x),
        lambda: vk.jvp(f, (x,), (x,)),
        lambda: vk.grad(lambda x: np.sum(vk.vjp(f, x)[0]))(x),
        lambda: vk.jacfwd(lambda x: vk.grad(lambda x: np.sum(f(x)))(x))(x),
    ):
        run()
        (wanted, truth), (got, its) = read[0], read.pop()
        assert truth == its
        np.testing.assert_array_equal(got, wanted)


def test_a_view_of_constants_that_an_example_writes_to_is_compared_as_the_examples():
    def f(x):
        z = np.zeros_like(x)
        view = z[1:]
        z[...] = x
        return view < 0.5, np.where(view > 1, view, 0.0)

    xs = np.arange(6.0).reshape(2, 3) / 2
    for got, *wanted in zip(vk.vmap(f)(xs), *map(f, xs), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_view_of_constants_that_was_written_to_does_not_lose_a_derivative():
    def f(x):
        z = np.zeros_like(x)
        view = z[1, ...]
        z[...] = x
        return float(view)

    with pytest.raises(TracerConversionError, match="would lose its derivative"):
        vk.grad(f)(np.ones(3))


def pullback_of_an_argument_written_later(a):
    x = np.copy(a)
    _, pullback = vk.vjp(lambda t: np.sum(t**3), x)
    x[0] = 7.0
    return np.sum(pullback(1.0)[0])


def pullback_of_a_view_written_later(a):
    x = np.copy(a)
    _, pullback = vk.vjp(lambda t: t**3, x[::-1])
    x *= 2.0
    return np.sum(vk.vmap(lambda ct: pullback(ct)[0])(np.eye(3)))


def linearization_of_an_argument_written_later(a):
    x = np.copy(a)
    y, push = vk.linearize(np.exp, x)
    x[1] *= 5.0
    y[0] = 0.0  # which exp keeps
    return np.sum(push(np.ones(3)))


def residual_of_a_custom_rule(a):
    @vk.custom_vjp
    def square(t):
        return t**2

    square.defvjp(lambda t: (t**2, t), lambda t, ct: (2 * t * ct,))
    x = np.copy(a)
    _, pullback = vk.vjp(square, x)
    x[0] = 9.0
    return np.sum(pullback(np.ones(3))[0] * a)


def cotangent_written_after(a):
    x = np.copy(a)
    _, pullback = vk.vjp(lambda t, u: t + u, a, a)
    g, h = pullback(x)
    x[0] = 9.0
    g[1] = 5.0
    return np.sum(g * a) + np.sum(h**2) + np.sum(x)


def tangent_written_after(a):
    x = np.copy(a)
    _, push = vk.linearize(lambda t: t + 0.0, a)
    _, s = vk.jvp(lambda t: t + 0.0, (a,), (x,))
    t = push(x)
    x[0] = 9.0
    s[1] *= 3.0
    return np.sum(t**2) + np.sum(s * a) + np.sum(x)


def result_written_after(a):
    y, pullback, aux = vk.vjp(lambda t: (np.exp(t), np.sin(t) * t), np.copy(a), has_aux=True)
    y[0] = a[1]
    aux[1] = a[2]
    return np.sum(pullback(y)[0]) + np.sum(aux)


AROUND: dict[str, Callable[[Program], Program]] = {
    "grad": vk.value_and_grad,
    "jit of grad": lambda f: vk.jit(vk.value_and_grad(f)),
    "grad of jit": lambda f: vk.value_and_grad(vk.jit(f)),
    "vmap": lambda f: lambda a: [y[0] for y in vk.vmap(vk.value_and_grad(f))(a[None])],
    "jacfwd": lambda f: lambda a: (vk.jvp(f, (a,), (a,))[0], vk.jacfwd(f)(a)),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize(
    "f",
    [
        pullback_of_an_argument_written_later,
        pullback_of_a_view_written_later,
        linearization_of_an_argument_written_later,
        residual_of_a_custom_rule,
        cotangent_written_after,
        tangent_written_after,
        result_written_after,
    ],
)
def test_writes_around_an_inner_derivative_do_not_change_it(f, around):
    """What the inner transformation was given, keeps and gives are values of their own."""
    a, h = np.array([1.0, 2.0, 3.0]), 1e-6
    value, slope = AROUND[around](f)(a)
    np.testing.assert_allclose(value, f(a), 1e-13)
    differences = [(f(a + h * e) - f(a - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(slope, differences, 1e-7, 1e-7)


NO_MODE: Any = "top"


def _too_few_values_begin_again() -> bool:
    """Whether NumPy, as some versions do, writes the first values again instead of refusing."""
    try:
        np.put_along_axis(np.zeros(3), np.arange(3), np.ones(2), None)
    except ValueError:
        return False
    return True


def along(y: Any, places: Any, values: Any, axis: Any) -> None:
    np.put_along_axis(y, np.array(places), values, axis)


@pytest.mark.parametrize(
    ("write", "error", "words"),
    [
        (lambda y: np.put(y, [0], 1.0, mode=NO_MODE), ValueError, "'clip', 'raise', or 'wrap'"),
        (lambda y: np.putmask(y, True, 1.0), ValueError, "mask and data must be the same size"),
        (lambda y: np.place(y, [True, False], 1.0), ValueError, "must be the same size"),
        (lambda y: np.put(y, np.array([0.5]), 1.0), TypeError, "Cannot cast array data"),
        (lambda y: along(y, [0, 1], 1.0, 1), ValueError, "the same number of dimensions"),
        (lambda y: along(y, [[0, 1]], 1.0, None), ValueError, "must have a single dimension"),
        (lambda y: along(y, [0, 1, 2], [1.0, 2.0], None), ValueError, "shape mismatch"),
        (lambda y: along(y, [[True]], 1.0, 1), IndexError, "must be an integer array"),
        (lambda y: along(y, [[0]], 1.0, 7), ValueError, "axis 7 is out of bounds"),
    ],
    ids=["put", "putmask", "place", "cast", "axes", "flat", "values", "mask", "axis"],
)
def test_arguments_that_numpy_refuses(write, error, words) -> None:
    def f(x: Any) -> Any:
        y = np.copy(x)
        write(y)
        return y

    lenient = words == "shape mismatch" and _too_few_values_begin_again()
    for run in (f, lambda x: vk.vjp(f, x)[0], vk.jit(f))[lenient:]:
        with pytest.raises(error, match=words):
            run(X)


def test_a_mask_that_does_not_fit_is_numpys_error() -> None:
    """Of another shape though all that it selects is inside."""
    x = np.arange(12.0).reshape(4, 3)
    masks: list[Any] = [
        np.eye(3, 4, dtype=bool),
        np.array([True, False]),
        [True, False],
        (slice(None), np.array([True, False])),
        (0, np.array([True, False, False, False])),
        (np.array([True, False]), 1),
    ]

    def assigned(x: Any, mask: Any) -> Any:
        y = np.copy(x)
        y[mask] = 7.0
        return y

    def added(x: Any, mask: Any) -> Any:
        y = np.copy(x)
        y[mask] += x[0, 0]
        return y

    def updated(x: Any, mask: Any) -> Any:
        return x.at[mask].set(7.0) + x.at[mask].add(7.0)

    for mask in masks:
        with pytest.raises(IndexError, match="boolean index did not match"):
            assigned(x, mask)
        for write in (assigned, added, updated):
            f = functools.partial(write, mask=mask)
            for run in (vk.jit(f), lambda x, f=f: vk.vjp(f, x), lambda x, f=f: vk.vmap(f)(x[None])):
                with pytest.raises(IndexError, match="boolean index did not match"):
                    run(x)


def test_putmask_and_place_go_by_flat_position() -> None:
    """The mask's shape may be another one."""

    def f(x: Any) -> Any:
        y, z = np.copy(x), np.copy(x)
        np.putmask(y.T, x > 0, x * 2)
        np.place(z.T, x < 0, x[0] * 3)
        return y - z

    x = np.arange(12.0).reshape(3, 4) - 5.5
    for got in (vk.vjp(f, x)[0], vk.jit(f)(x), vk.vmap(f)(x[None])[0]):
        np.testing.assert_array_equal(got, f(x))
    vk.test_util.check_grads(f, (x,), order=1)


POSITIONS: dict[str, Callable[[Any, Any], Any]] = {
    "few": lambda y, i: np.put(y, i[:2], [7.0, 8.0]),
    "one": lambda y, i: np.put(y, i[0], y[0, 0] ** 2),
    "again": lambda y, i: np.put(y, i % 3, y * 3),
    "from behind": lambda y, i: np.put(y, i - 6, np.sin(y)),
    "clip": lambda y, i: np.put(y, i * 2 - 3, y[0], mode="clip"),
    "wrap": lambda y, i: y.put(i[::-1] * 5 - 7, np.cos(y[0]), mode="wrap"),
    "one axis": lambda y, i: np.put(y[1], i % 3, y[0]),
    "transposed": lambda y, i: np.put(y.T, i, y[1] * y[0]),
    "no values": lambda y, i: np.put(y, i, []),
    "flags": lambda y, i: np.put(y, i > 2, y[0]),
    "one element": lambda y, i: np.put(y[0, 0, ...], i * 0, y[1]),
}


@pytest.mark.parametrize("write", POSITIONS.values(), ids=list(POSITIONS))
def test_put_at_positions_that_are_computed(write) -> None:
    def f(x: Any) -> Any:
        y = x * 2
        write(y, np.argsort(x, axis=None))
        return y * x

    x = np.array([[0.3, -1.2, 2.0], [0.7, -0.1, 1.5]])
    for got in (vk.vjp(f, x)[0], vk.jit(f)(x), vk.vmap(f)(x[None])[0]):
        np.testing.assert_array_equal(got, f(x))
    vk.test_util.check_grads(f, (x,), order=2)
    np.testing.assert_allclose(vk.jit(vk.jacobian(f))(x), vk.jacobian(f)(x), 1e-14)


def test_put_into_a_scalar_is_an_error() -> None:
    def f(x: Any) -> Any:
        y = x * 2
        np.put(y, [0], 1.0)
        return y

    for run in (vk.grad(f), vk.jit(f), lambda x: vk.vmap(f)(x[None])):
        with pytest.raises(TypeError, match="does not support item assignment"):
            run(np.float64(1.0))


def test_put_at_positions_that_are_outside() -> None:
    def f(x: Any, n: int) -> Any:
        y = x * 2
        np.put(y, np.argsort(x, axis=None) + n, 1.0)
        return y

    x = np.ones((2, 3))
    for n in (1, -7):
        for run in (f, vk.jit(f, static_argnums=1), lambda x, n: vk.vjp(lambda x: f(x, n), x)):
            with pytest.raises(IndexError, match="out of bounds"):
                run(x, n)
